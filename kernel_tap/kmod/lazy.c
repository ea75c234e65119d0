// SPDX-License-Identifier: GPL-2.0
/* What serves a socket that is not used yet: the first call decides who serves it from then on. */
#include <asm/ioctls.h>
#include <net/tcp.h>

#include "calls.h"
#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

/* Decide, if it is time; the operations that serve the socket from now on. */
static const struct proto_ops *decided(struct socket *sock)
{
	int error = l45_first_use(sock);

	return error ? ERR_PTR(error) : READ_ONCE(sock->ops);
}

/* The socket was left lazy where nothing can be decided: its first call is the kernel's own. */
static const struct proto_ops *serving(struct socket *sock)
{
	const struct proto_ops *ops = decided(sock);

	if (!IS_ERR(ops) && ops == l45_lazy_of(sock->sk))
		return l45_native_of(sock->sk);
	return ops;
}

static int lazy_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)
{
	const struct proto_ops *ops;
	struct l45_call call;

	l45_enter(&call);
	if (msg->msg_flags & MSG_FASTOPEN && l45_is_tcp(sock->sk))
		l45_leave_to_kernel(sock);
	ops = serving(sock);
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops) : ops->sendmsg(sock, msg, size));
}

static int lazy_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
{
	const struct proto_ops *ops;
	struct l45_call call;

	l45_enter(&call);
	ops = serving(sock);
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops) : ops->recvmsg(sock, msg, size, flags));
}

static __poll_t lazy_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait)
{
	const struct proto_ops *ops;
	struct l45_call call;
	__poll_t events;

	l45_enter(&call);
	ops = serving(sock);
	events = IS_ERR(ops) ? EPOLLERR : ops->poll(file, sock, wait);
	l45_leave(&call, 0);
	return events;
}

static ssize_t lazy_splice_read(struct socket *sock, loff_t *position, struct pipe_inode_info *pipe,
				size_t size, unsigned int flags)
{
	const struct proto_ops *ops;
	struct l45_call call;

	l45_enter(&call);
	ops = serving(sock);
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops)
					    : ops->splice_read(sock, position, pipe, size, flags));
}

static int lazy_ioctl(struct socket *sock, unsigned int command, unsigned long argument)
{
	const struct proto_ops *ops;
	struct l45_call call;

	l45_enter(&call);
	ops = command == SIOCINQ ? serving(sock) : l45_native_of(sock->sk);
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops) : ops->ioctl(sock, command, argument));
}

static int lazy_getsockopt(struct socket *sock, int level, int option, char __user *value,
			   int __user *size)
{
	const struct proto_ops *ops;
	struct l45_call call;

	l45_enter(&call);
	ops = level == SOL_TCP && option == TCP_ZEROCOPY_RECEIVE ? serving(sock)
								 : l45_native_of(sock->sk);
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops)
					    : ops->getsockopt(sock, level, option, value, size));
}

bool l45_takes_protocol_away(int level, int option)
{
	return (level == SOL_TCP && (option == TCP_ULP || option == TCP_REPAIR)) ||
	       (level == SOL_IPV6 && option == IPV6_ADDRFORM);
}

/* What takes the socket's protocol away from under us is a use as well: a customized socket refuses
 * it, any other is the kernel's from then on. */
static int lazy_setsockopt(struct socket *sock, int level, int option, sockptr_t value,
			   unsigned int size)
{
	const struct proto_ops *ops = l45_native_of(sock->sk);
	struct l45_call call;

	l45_enter(&call);
	if (l45_takes_protocol_away(level, option)) {
		ops = serving(sock);
		if (!IS_ERR(ops))
			l45_leave_to_kernel(sock);
	}
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops)
					    : ops->setsockopt(sock, level, option, value, size));
}

static int lazy_connect(struct socket *sock, struct sockaddr *address, int size, int flags)
{
	struct l45_call call;

	l45_enter(&call);
	return l45_leave(&call, l45_tcp_connect(sock, address, size, flags));
}

#if L45_HAS_SENDPAGE
static ssize_t lazy_sendpage(struct socket *sock, struct page *page, int offset, size_t size,
			     int flags)
{
	const struct proto_ops *ops;
	struct l45_call call;

	l45_enter(&call);
	ops = serving(sock);
	return l45_leave(&call, IS_ERR(ops) ? PTR_ERR(ops)
					    : ops->sendpage(sock, page, offset, size, flags));
}
#endif

void l45_lazy_operations(struct proto_ops *lazy, bool tcp)
{
	lazy->sendmsg = lazy_sendmsg;
	lazy->recvmsg = lazy_recvmsg;
	lazy->poll = lazy_poll;
	lazy->ioctl = lazy_ioctl;
	lazy->setsockopt = lazy_setsockopt;
	lazy->getsockopt = lazy_getsockopt;
#if L45_HAS_SENDPAGE
	lazy->sendpage = lazy_sendpage;
#endif
	if (tcp) {
		lazy->splice_read = lazy_splice_read;
		lazy->connect = lazy_connect;
	}
}
