// SPDX-License-Identifier: GPL-2.0
/* A customized TCP socket receives: recvmsg, poll and what counts bytes (tcp.h). */
#include <asm/ioctls.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <net/busy_poll.h>
#include <net/tcp.h>

#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"

/* The stream came plain and stays so: the kernel's own code does it. Without the lock, for nothing
 * makes it customized again. */
static bool is_plain(const struct l45_tcp *t)
{
	return smp_load_acquire(&t->plain);
}

/*
 * SO_RCVLOWAT. The transport wakes who waits when it has as many bytes; those that are decoded it
 * has no more.
 */

/* `read`: bytes that a call has which is not over. */
static void adjust_lowat(struct l45_tcp *t, u32 read)
{
	int left = t->lowat - (int)min_t(u32, l45_tcp_decoded(t) + read, INT_MAX);

	if (t->lowat > 1)
		WRITE_ONCE(l45_sk(t)->sk_rcvlowat, max(left, 1));
}

int l45_tcp_set_rcvlowat(struct sock *sk, int value)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sk, &call);
	int error = l45_native_of(sk)->set_rcvlowat(sk, value);

	if (tap && !error) {
		l45_tcp_of(tap)->lowat = READ_ONCE(sk->sk_rcvlowat); /* it has a limit */
		adjust_lowat(l45_tcp_of(tap), 0);
	}
	return l45_tap_leave(tap, &call, error);
}

/*
 * recvmsg
 */

/* Why a read that has nothing ends now; 1: it may wait. As in tcp_recvmsg_locked(). */
static int nothing_to_read(const struct l45_tcp *t, long timeo)
{
	struct sock *sk = l45_sk(t);

	if (sock_flag(sk, SOCK_DONE))
		return 0;
	if (sk->sk_err)
		return sock_error(sk);
	if (sk->sk_shutdown & RCV_SHUTDOWN)
		return 0;
	if (sk->sk_state == TCP_CLOSE)
		return -ENOTCONN;
	if (!timeo)
		return -EAGAIN;
	return signal_pending(current) ? sock_intr_errno(timeo) : 1;
}

/* ... and one that has less than it wants. */
static bool must_do(const struct l45_tcp *t, long timeo)
{
	const struct sock *sk = l45_sk(t);

	return sk->sk_err || sk->sk_state == TCP_CLOSE || sk->sk_shutdown & RCV_SHUTDOWN ||
	       !timeo || signal_pending(current);
}

static void wait_for_news(struct l45_tcp *t, long *timeo)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	struct sock *sk = l45_sk(t);
	struct sk_buff *tail = skb_peek_tail(&sk->sk_receive_queue);
	u32 news = t->news;

	add_wait_queue(sk_sleep(sk), &wait);
	sk_set_bit(SOCKWQ_ASYNC_WAITDATA, sk);
	sk_wait_event(sk, timeo, skb_peek_tail(&sk->sk_receive_queue) != tail || t->news != news,
		      &wait);
	sk_clear_bit(SOCKWQ_ASYNC_WAITDATA, sk);
	remove_wait_queue(sk_sleep(sk), &wait);
}

/* A call for no bytes waits for some, as the kernel's own does. */
static int read_some(struct l45_tcp *t, struct iov_iter *to, u32 room, bool *found)
{
	int done;

	if (!room) {
		*found = l45_tcp_look(t);
		return 0;
	}
	done = l45_tcp_read(t, to, room);
	*found = done > 0;
	return done;
}

/* Nobody else reads between the bytes that one call gets without waiting. */
static int receive(struct l45_tcp *t, struct iov_iter *to, u32 size, u32 target, long timeo)
{
	struct sock *sk = l45_sk(t);
	u32 done = 0;
	bool found;

	do {
		int more;

		if (t->tap.closed)
			return done ? done : L45_NOT_OURS;
		more = read_some(t, to, size - done, &found);
		if (found) {
			done += more;
			continue;
		}
		if (t->reset && !t->told)
			return done ? done : -ECONNRESET;
		if (more < 0)
			return done ? done : more;
		if (done >= target && !READ_ONCE(sk->sk_backlog.tail))
			break;
		if (done && must_do(t, timeo))
			break;
		if (!done) {
			int reason = nothing_to_read(t, timeo);

			if (reason <= 0)
				return reason;
		}
		adjust_lowat(t, done);
		if (done >= target)
			sk_flush_backlog(sk);
		else
			wait_for_news(t, &timeo);
	} while (done < size || !(size || found));
	return done;
}

/* From SO_PEEK_OFF on, where TCP has it (Linux 6.9). */
static int peek(struct l45_tcp *t, struct iov_iter *to, u32 size, u32 target, long timeo)
{
	struct sock *sk = l45_sk(t);
	u32 skip = max(sk_peek_offset(sk, MSG_PEEK), 0);
	u32 most = l45_tcp_ready_at_most(t);
	int done;

	skip = min(skip, most);
	size = min(size, most - skip);
	target = min(target, size);
	for (;;) {
		if (t->tap.closed)
			return L45_NOT_OURS;
		l45_tcp_make_ready(t, skip + size);
		if (t->ready_size >= skip + target || (t->reset && !t->told))
			break;
		if (t->ready_size > skip && must_do(t, timeo))
			break;
		if (t->ready_size <= skip) {
			int reason = nothing_to_read(t, timeo);

			if (reason <= 0)
				return reason;
		}
		adjust_lowat(t, 0);
		wait_for_news(t, &timeo);
	}
	if (t->ready_size <= skip && t->reset && !t->told)
		return -ECONNRESET;
	done = l45_tcp_peek(t, to, skip, size);
	if (done > 0)
		sk_peek_offset_fwd(sk, done);
	return done;
}

static int recvmsg_locked(struct l45_tcp *t, struct msghdr *msg, size_t size, int flags)
{
	struct sock *sk = l45_sk(t);
	struct iov_iter *to = flags & MSG_TRUNC ? NULL : &msg->msg_iter;
	long timeo = sock_rcvtimeo(sk, flags & MSG_DONTWAIT);
	u32 most = min_t(size_t, size, INT_MAX);
	u32 target = flags & MSG_WAITALL ? most : min_t(u32, t->lowat, most) ?: 1;
	int result;

	if (t->tap.closed)
		return L45_NOT_OURS;
	if (READ_ONCE(sk->sk_state) == TCP_LISTEN)
		return -ENOTCONN;
	result = flags & MSG_PEEK ? peek(t, to, most, target, timeo)
				  : receive(t, to, most, target, timeo);
	if (result > 0 && !(flags & MSG_PEEK))
		sk_peek_offset_bwd(sk, result);
	adjust_lowat(t, 0);
	return result;
}

static int recvmsg_customized(struct socket *sock, struct l45_tcp *t, struct msghdr *msg,
			      size_t size, int flags)
{
	int result;

	if (flags & MSG_ERRQUEUE || is_plain(t))
		return L45_NOT_OURS;
	if (flags & MSG_OOB)
		return -EINVAL;
	sock_rps_record_flow(sock->sk);
	lock_sock(sock->sk);
	result = recvmsg_locked(t, msg, size, flags);
	t->told |= result == -ECONNRESET;
	l45_tcp_unlock(t);
	if (result == -ECONNRESET)
		sock_error(sock->sk); /* it is told once */
	return result;
}

int l45_tcp_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sock->sk, &call);
	int result = L45_NOT_OURS;

	if (tap)
		result = recvmsg_customized(sock, l45_tcp_of(tap), msg, size, flags);
	if (result == L45_NOT_OURS) {
		if (tap && tap->closed)
			l45_tap_let_go(&tap, &call);
		result = l45_native_of(sock->sk)->recvmsg(sock, msg, size, flags);
	}
	return l45_tap_leave(tap, &call, result);
}

/*
 * poll and ioctl
 */

static bool is_readable(struct l45_tcp *t)
{
	bool readable;

	if (t->lowat <= 1) {
		readable = l45_tcp_look(t);
	} else {
		l45_tcp_make_ready(t, t->lowat);
		readable = t->ready_size >= t->lowat;
	}
	adjust_lowat(t, 0);
	return readable;
}

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)

/* Only the peer's frame headers may have come. */
static __poll_t poll_readable(struct l45_tcp *t, struct file *file, struct socket *sock)
{
	bool readable;

	lock_sock(sock->sk);
	readable = !t->tap.closed && is_readable(t);
	l45_tcp_unlock(t);
	if (t->reset || t->tap.closed)
		return t->tap.native->poll(file, sock, NULL);
	return readable ? READABLE : 0;
}

__poll_t l45_tcp_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sock->sk, &call);
	__poll_t events = l45_native_of(sock->sk)->poll(file, sock, wait);
	struct l45_tcp *t;

	if (!tap) {
		l45_leave(&call, 0);
		return events;
	}
	t = l45_tcp_of(tap);
	if (!is_plain(t) && !(events & EPOLLRDHUP) && sock->sk->sk_state != TCP_LISTEN &&
	    (events & READABLE || l45_tcp_decoded(t))) {
		events &= ~READABLE;
		events |= poll_readable(t, file, sock);
	}
	if (events & WRITABLE && !(events & (EPOLLERR | EPOLLHUP)) && l45_tcp_is_held(t)) {
		set_bit(SOCK_NOSPACE, &sock->flags);
		smp_mb__after_atomic(); /* with the one in wake_application() */
		if (l45_tcp_is_held(t))
			events &= ~WRITABLE;
	}
	l45_tap_leave(tap, &call, 0);
	return events;
}

/* Bytes that can be read now, of the application's. */
static int count(struct l45_tcp *t)
{
	struct sock *sk = l45_sk(t);
	int result;

	lock_sock(sk);
	if (sk->sk_state == TCP_LISTEN) {
		result = -EINVAL;
	} else if (t->tap.closed) {
		result = L45_NOT_OURS;
	} else {
		l45_tcp_make_ready(t, l45_tcp_ready_at_most(t));
		adjust_lowat(t, 0);
		result = l45_tcp_decoded(t);
	}
	l45_tcp_unlock(t);
	return result;
}

int l45_tcp_ioctl(struct socket *sock, unsigned int command, unsigned long argument)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sock->sk, &call);
	int result = L45_NOT_OURS;

	if (tap && command == SIOCINQ && !is_plain(l45_tcp_of(tap)))
		result = count(l45_tcp_of(tap));
	if (result == L45_NOT_OURS)
		result = l45_native_of(sock->sk)->ioctl(sock, command, argument);
	else if (result >= 0)
		result = put_user(result, (int __user *)argument);
	return l45_tap_leave(tap, &call, result);
}
