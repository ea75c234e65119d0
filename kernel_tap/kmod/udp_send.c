// SPDX-License-Identifier: GPL-2.0
/*
 * sendmsg of a customized UDP socket.
 *
 * What no customization may want goes to the kernel's sendmsg as it came. All else is copied, the
 * customizations are asked under udp->lock, and the kernel's sendmsg, where it may wait for room,
 * gets the result with no lock of ours held.
 */
#include <net/inet_common.h>

#include "hooks.h"
#include "udp.h"

/* A call of sendmsg. */
struct sending {
	struct l45_udp *udp;
	struct socket *sock;
	struct msghdr *msg; /* the application's */
	struct l45_datagram datagram;
	u32 segment;   /* bytes of each datagram but the last; 0: there is one (UDP_SEGMENT) */
	u32 fits;      /* payload that needs no fragments */
	u32 most;      /* payload of the longest datagram */
	void *control; /* instead of the application's; NULL: that */
	size_t control_size;
};

bool l45_udp_destination(const struct sock *sk, const struct msghdr *msg, struct l45_ends *ends)
{
	const struct sockaddr *name = msg->msg_name;
	struct sockaddr_in any;

	l45_ends_of(sk, ends);
	if (name && msg->msg_namelen < offsetofend(struct sockaddr, sa_family))
		return false;
	/* To an IPv6 socket AF_UNSPEC means its peer, to an IPv4 socket AF_INET. */
	if (!name || (name->sa_family == AF_UNSPEC && sk->sk_family == AF_INET6))
		return READ_ONCE(sk->sk_state) == TCP_ESTABLISHED;
	if (name->sa_family != AF_UNSPEC)
		return l45_ends_set_remote(ends, name, msg->msg_namelen);
	if (msg->msg_namelen < sizeof(any))
		return false;
	any = *(const struct sockaddr_in *)name;
	any.sin_family = AF_INET;
	return l45_ends_set_remote(ends, (const struct sockaddr *)&any, sizeof(any));
}

struct ubuf_info *l45_udp_completion(struct sock *sk, const struct msghdr *msg, size_t size)
{
	struct ubuf_info *completion;

	/* Who brings his own completes it himself. */
	if (!(msg->msg_flags & MSG_ZEROCOPY) || !size || msg->msg_ubuf ||
	    !sock_flag(sk, SOCK_ZEROCOPY))
		return NULL;
	completion = msg_zerocopy_realloc(sk, size, NULL);
	if (!completion)
		return ERR_PTR(-ENOBUFS);
	uarg_to_msgzc(completion)->zerocopy = 0;
	return completion;
}

/*
 * Segments: one call for many datagrams of one size. Each is customized and sent by itself.
 */

static bool is_segment_size(const struct cmsghdr *cmsg)
{
	return cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_SEGMENT &&
	       cmsg->cmsg_len == CMSG_LEN(sizeof(u16));
}

/* What is malformed the kernel will refuse. */
static u32 segment_of(const struct sock *sk, struct msghdr *msg)
{
	u32 segment = READ_ONCE(udp_sk(sk)->gso_size);
	struct cmsghdr *cmsg;

	if (!msg->msg_controllen)
		return segment;
	for_each_cmsghdr(cmsg, msg)
	{
		if (!CMSG_OK(msg, cmsg))
			break;
		if (is_segment_size(cmsg))
			segment = *(u16 *)CMSG_DATA(cmsg);
	}
	return segment;
}

static void clear_segment_sizes(void *control, size_t size)
{
	struct msghdr msg = { .msg_control = control, .msg_controllen = size };
	struct cmsghdr *cmsg;

	for_each_cmsghdr(cmsg, &msg)
	{
		if (!CMSG_OK(&msg, cmsg))
			break;
		if (is_segment_size(cmsg))
			*(u16 *)CMSG_DATA(cmsg) = 0;
	}
}

/* The application's control messages, and before them one that says: no segments. */
static int make_control(struct sending *sending)
{
	const struct msghdr *msg = sending->msg;
	struct cmsghdr *first;

	sending->control_size = CMSG_SPACE(sizeof(u16)) + msg->msg_controllen;
	sending->control = kzalloc(sending->control_size, GFP_KERNEL);
	if (!sending->control)
		return -ENOBUFS;
	first = sending->control;
	first->cmsg_level = SOL_UDP;
	first->cmsg_type = UDP_SEGMENT;
	first->cmsg_len = CMSG_LEN(sizeof(u16));
	if (!msg->msg_controllen)
		return 0;
	memcpy(sending->control + CMSG_SPACE(sizeof(u16)), msg->msg_control, msg->msg_controllen);
	clear_segment_sizes(sending->control + CMSG_SPACE(sizeof(u16)), msg->msg_controllen);
	return 0;
}

/* What the kernel says of segments that do not fit, and of too many. */
static int prepare_segments(struct sending *sending, size_t size)
{
	sending->segment = segment_of(sending->sock->sk, sending->msg);
	if (!sending->segment)
		return 0;
	if (min_t(size_t, size, sending->segment) > sending->fits)
		return -EMSGSIZE;
	if (size > (size_t)sending->segment * UDP_MAX_SEGMENTS)
		return -EINVAL;
	return make_control(sending);
}

/*
 * One datagram after the other.
 */

static int send_native(struct sending *sending)
{
	const struct l45_msg *made = &sending->datagram.msg;
	struct kvec bytes = { .iov_base = l45_at(made, 0), .iov_len = made->visible };
	struct msghdr msg = *sending->msg;

	msg.msg_flags &= ~(MSG_ZEROCOPY | MSG_SPLICE_PAGES);
	msg.msg_ubuf = NULL;
	if (sending->control) {
		msg.msg_control = sending->control;
		msg.msg_controllen = sending->control_size;
	}
	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &bytes, 1, bytes.iov_len);
	return sending->udp->tap.native->sendmsg(sending->sock, &msg, bytes.iov_len);
}

/* A datagram that needs no fragments will need none; others may grow. */
static int send_one(struct sending *sending, u32 size)
{
	struct l45_datagram *datagram = &sending->datagram;
	u32 limit = size <= sending->fits ? sending->fits : sending->most;
	int result = 0;

	if (!copy_from_iter_full(l45_datagram_payload(datagram), size, &sending->msg->msg_iter))
		return -EFAULT;
	if (l45_datagram_ask(sending->udp, datagram, size, limit) != L45_GONE)
		result = send_native(sending);
	if (result < 0)
		return result;
	l45_datagram_count(sending->udp, datagram);
	return 0;
}

/* Returns what was taken of the application's: a part, where a later segment meets an error. */
static int send_all(struct sending *sending, size_t size)
{
	size_t done = 0;
	int error;

	do {
		size_t next = size - done;

		if (sending->segment)
			next = min_t(size_t, next, sending->segment);
		error = send_one(sending, next);
		if (error)
			return done ? done : error;
		done += next;
	} while (done < size);
	return done;
}

static int send_wanted(struct sending *sending, const struct l45_ends *ends, size_t size)
{
	struct iov_iter start = sending->msg->msg_iter;
	u32 room;
	int result = prepare_segments(sending, size);

	if (result)
		return result;
	room = sending->segment ? min_t(size_t, size, sending->segment) : size;
	result = l45_datagram_open(&sending->datagram, L45_MAY_SEND, ends, room);
	if (!result)
		result = send_all(sending, size);
	if (result < 0)
		sending->msg->msg_iter = start;
	l45_datagram_close(&sending->datagram);
	kfree(sending->control);
	return result;
}

static int link_of(const struct msghdr *msg)
{
	const struct sockaddr_in6 *name = msg->msg_name;

	if (!name || msg->msg_namelen < sizeof(*name) || name->sin6_family != AF_INET6)
		return 0;
	return name->sin6_scope_id;
}

int l45_udp_send(struct l45_udp *udp, struct socket *sock, struct msghdr *msg, size_t size)
{
	struct sending sending = { .udp = udp, .sock = sock, .msg = msg };
	struct ubuf_info *completion;
	struct l45_ends ends;
	int result;

	if (!l45_udp_destination(sock->sk, msg, &ends) ||
	    !l45_datagram_wanted(udp, L45_MAY_SEND, &ends))
		return udp->tap.native->sendmsg(sock, msg, size);
	sending.most = l45_udp_is_v4(sock->sk, &ends) ? L45_UDP_MAX4 : L45_UDP_MAX6;
	if (size > sending.most)
		return udp->tap.native->sendmsg(sock, msg, size);
	sending.fits = l45_udp_fits(sock->sk, &ends, !msg->msg_name, link_of(msg));
	completion = l45_udp_completion(sock->sk, msg, size);
	if (IS_ERR(completion))
		return PTR_ERR(completion);
	result = send_wanted(&sending, &ends, size);
	if (result < 0)
		net_zcopy_put_abort(completion, true);
	else
		net_zcopy_put(completion);
	return result;
}

static int send(struct l45_udp *udp, struct socket *sock, struct msghdr *msg, size_t size)
{
	/* As the kernel's own does first: from here on the local port is known. */
	int error = inet_send_prepare(sock->sk);

	if (error)
		return error;
	l45_udp_refresh(udp);
	/* Refused, or a question about the way without a datagram. */
	if (msg->msg_flags & (MSG_OOB | MSG_PROBE) || size > L45_UDP_MAX6)
		return udp->tap.native->sendmsg(sock, msg, size);
	if (l45_udp_is_piece(udp, sock->sk, msg))
		return l45_udp_take_piece(udp, sock, msg, size);
	/* A piece of the kernel's, if it has some from before, or nobody wants this one. */
	if (READ_ONCE(udp_sk(sock->sk)->pending) || l45_udp_corks(sock->sk) ||
	    msg->msg_flags & MSG_MORE)
		return udp->tap.native->sendmsg(sock, msg, size);
	return l45_udp_send(udp, sock, msg, size);
}

int l45_udp_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)
{
	struct l45_call call;
	struct l45_udp *udp = l45_udp_enter(sock->sk, &call);
	int result;

	if (udp)
		result = send(udp, sock, msg, size);
	else
		result = l45_native_of(sock->sk)->sendmsg(sock, msg, size);
	return l45_udp_leave(udp, &call, result);
}
