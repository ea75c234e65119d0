// SPDX-License-Identifier: GPL-2.0
/*
 * recvmsg of a customized UDP socket.
 *
 * The kernel's recvmsg is asked for the next datagram's length and sender without taking it. One
 * that no customization wants is left to it; another is taken into memory, restored, and copied to
 * the application. `receiving` is held while the kernel is asked and asked again, so that both
 * answers are about the same datagram; it is not held while the application waits.
 */
#include <asm/ioctls.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/sched/signal.h>
#include <net/ipv6.h>

#include "hooks.h"
#include "udp.h"

/* A call of recvmsg. */
struct receiving {
	struct l45_udp *udp;
	struct socket *sock;
	struct msghdr *msg; /* the application's */
	size_t size;	    /* of its buffer */
	int flags;
	/* The next datagram: */
	struct sockaddr_storage name;
	struct l45_ends ends;
	u32 length;
	u16 joined; /* of how long datagrams it consists; 0: it is one */
	bool gone;  /* it was taken, and there is nothing to hand over */
	struct l45_datagram datagram;
};

/* Where it was sent to, and whether it is many (from before the socket was customized): its place
 * is at the head of the queue, where the kernel has just looked at it. */
static void look_at_head(struct receiving *receiving)
{
	struct sk_buff_head *queue = &udp_sk(receiving->sock->sk)->reader_queue;
	const struct sk_buff *skb;
	struct in6_addr to = {};

	receiving->joined = 0;
	spin_lock_bh(&queue->lock);
	skb = skb_peek(queue);
	if (skb && skb->protocol == htons(ETH_P_IP))
		ipv6_addr_set_v4mapped(ip_hdr(skb)->daddr, &to);
	else if (skb)
		to = ipv6_hdr(skb)->daddr;
	if (skb && skb_shinfo(skb)->gso_type & SKB_GSO_UDP_L4)
		receiving->joined = skb_shinfo(skb)->gso_size;
	spin_unlock_bh(&queue->lock);
	if (ipv6_addr_any(&receiving->ends.local))
		receiving->ends.local = to;
}

/* Its length, sender and place; 0, or the error that the kernel has for the application. */
static int look(struct receiving *receiving)
{
	struct msghdr msg = { .msg_name = &receiving->name };
	struct kvec nothing = {};
	int length;

	iov_iter_kvec(&msg.msg_iter, ITER_DEST, &nothing, 1, 0);
	length = receiving->udp->tap.native->recvmsg(receiving->sock, &msg, 0,
						     MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
	if (length < 0)
		return length;
	receiving->length = length;
	l45_ends_of(receiving->sock->sk, &receiving->ends);
	l45_ends_set_remote(&receiving->ends, (const struct sockaddr *)&receiving->name,
			    msg.msg_namelen);
	look_at_head(receiving);
	return 0;
}

static int receive_native(struct receiving *receiving)
{
	return receiving->udp->tap.native->recvmsg(receiving->sock, receiving->msg, receiving->size,
						   receiving->flags);
}

/* Modules cannot see these one by one. The kernel does not say any more that they are many. */
static int receive_joined(struct receiving *receiving)
{
	int length = receiving->joined, result = receive_native(receiving);

	if (result >= 0 && READ_ONCE(receiving->udp->joins))
		put_cmsg(receiving->msg, SOL_UDP, UDP_GRO, sizeof(length), &length);
	return result;
}

/* Nobody is to see the next datagram. */
static void take_away(struct receiving *receiving)
{
	struct msghdr msg = {};
	struct kvec nothing = {};

	iov_iter_kvec(&msg.msg_iter, ITER_DEST, &nothing, 1, 0);
	receiving->udp->tap.native->recvmsg(receiving->sock, &msg, 0, MSG_DONTWAIT);
}

/* Read it into memory, with all that belongs to it where the application wants that. */
static int read_datagram(struct receiving *receiving, u32 room)
{
	struct msghdr *msg = receiving->msg;
	const struct msghdr asked = *msg;
	struct kvec bytes = {
		.iov_base = l45_datagram_payload(&receiving->datagram),
		.iov_len = room,
	};
	int result;

	if (!msg->msg_name)
		msg->msg_name = &receiving->name;
	msg->msg_flags &= ~MSG_TRUNC;
	iov_iter_kvec(&msg->msg_iter, ITER_DEST, &bytes, 1, room);
	result = receiving->udp->tap.native->recvmsg(receiving->sock, msg, room,
						     receiving->flags & ~MSG_TRUNC);
	msg->msg_iter = asked.msg_iter;
	if (result >= 0)
		l45_ends_set_remote(&receiving->datagram.ends, msg->msg_name, msg->msg_namelen);
	if (asked.msg_name)
		return result;
	msg->msg_name = NULL;
	msg->msg_namelen = asked.msg_namelen;
	return result;
}

/* Who waited in the kernel's recvmsg since before the socket was customized may have taken the
 * datagram that we looked at; the one that we got instead did not fit, and is lost. */
static bool is_another(const struct receiving *receiving)
{
	return receiving->msg->msg_flags & MSG_TRUNC;
}

static int restore(struct receiving *receiving, u32 length)
{
	bool peek = receiving->flags & MSG_PEEK;

	receiving->gone = l45_datagram_ask(receiving->udp, &receiving->datagram, length,
					   max_t(u32, length, L45_UDP_MAX6)) == L45_GONE;
	if (peek && receiving->gone)
		take_away(receiving);
	if (!peek || receiving->gone)
		l45_datagram_count(receiving->udp, &receiving->datagram);
	return receiving->gone ? -EAGAIN : 0;
}

/* A notice of IPV6_RECVPATHMTU may come before the next datagram: room for any then. */
static bool expects_notices(const struct sock *sk)
{
	return IS_ENABLED(CONFIG_IPV6) && sk->sk_family == AF_INET6 &&
	       inet6_sk(sk)->rxopt.bits.rxpmtu;
}

static int receive_wanted(struct receiving *receiving)
{
	u32 room = expects_notices(receiving->sock->sk) ? L45_UDP_MAX6 : receiving->length;
	int result =
		l45_datagram_open(&receiving->datagram, L45_MAY_RECEIVE, &receiving->ends, room);

	if (result)
		return result;
	result = read_datagram(receiving, room);
	if (result < 0)
		return result;
	if (!is_another(receiving))
		return restore(receiving, result);
	receiving->gone = true;
	return -EAGAIN;
}

/* Under udp->receiving. Leaves what is to be copied to the application in `datagram`, or without a
 * buffer there, has done all. */
static int receive_next(struct receiving *receiving)
{
	struct sock *sk = receiving->sock->sk;
	int error;

	if ((expects_notices(sk) && READ_ONCE(inet6_sk(sk)->rxpmtu)) ||
	    (!l45_datagram_wanted(receiving->udp, L45_MAY_RECEIVE, NULL) &&
	     !READ_ONCE(receiving->udp->joins)))
		return receive_native(receiving);
	error = look(receiving);
	if (error)
		return error;
	if (receiving->joined)
		return receive_joined(receiving);
	if (!l45_datagram_wanted(receiving->udp, L45_MAY_RECEIVE, &receiving->ends))
		return receive_native(receiving);
	return receive_wanted(receiving);
}

static int hand_over(struct receiving *receiving)
{
	struct l45_msg *made = &receiving->datagram.msg;
	struct msghdr *msg = receiving->msg;
	size_t size = min_t(size_t, receiving->size, made->visible);

	if (copy_to_iter(l45_at(made, 0), size, &msg->msg_iter) != size)
		return -EFAULT;
	if (size < made->visible)
		msg->msg_flags |= MSG_TRUNC;
	return receiving->flags & MSG_TRUNC ? made->visible : size;
}

/* What is there, without waiting; -EAGAIN: nothing. */
static int receive(struct receiving *receiving)
{
	const struct msghdr asked = *receiving->msg;
	int result;

	do {
		*receiving->msg = asked;
		receiving->gone = false;
		if (mutex_lock_killable(&receiving->udp->receiving))
			return -EINTR;
		result = receive_next(receiving);
		mutex_unlock(&receiving->udp->receiving);
		if (result >= 0 && receiving->datagram.msg.buffer)
			result = hand_over(receiving);
		l45_datagram_close(&receiving->datagram);
		cond_resched();
	} while (receiving->gone && !fatal_signal_pending(current));
	return result;
}

/* As the kernel's recvmsg waits, for what it waits for. False: `*result` is what came instead. */
static bool wait(struct sock *sk, long *timeout, int *result)
{
	const struct sk_buff *last = (const struct sk_buff *)&sk->sk_receive_queue;
	int error = 0;

	if (!*timeout)
		return false;
	if (!__skb_wait_for_more_packets(sk, &sk->sk_receive_queue, &error, timeout, last))
		return true;
	*result = error;
	return false;
}

/* Modules see datagrams one by one (udp_options.c). */
static void separate(struct l45_udp *udp, struct sock *sk)
{
	if (likely(!l45_udp_joins(sk)) || !l45_datagram_wanted(udp, L45_MAY_RECEIVE, NULL))
		return;
	mutex_lock(&udp->lock);
	if (udp->set) {
		WRITE_ONCE(udp->joins, true);
		l45_udp_set_joins(sk, false);
	}
	mutex_unlock(&udp->lock);
}

/* Restores datagrams until there is one to hand over, or something else ends the call. */
static int receive_waiting(struct receiving *receiving, long timeout)
{
	struct sock *sk = receiving->sock->sk;
	int result;

	do {
		l45_udp_refresh(receiving->udp);
		separate(receiving->udp, sk);
		result = receive(receiving);
	} while (result == -EAGAIN && wait(sk, &timeout, &result));
	return result;
}

int l45_udp_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
{
	struct l45_call call;
	struct receiving receiving = {
		.udp = l45_udp_enter(sock->sk, &call),
		.sock = sock,
		.msg = msg,
		.size = size,
		.flags = flags | MSG_DONTWAIT,
	};
	int result;

	if (!receiving.udp || flags & MSG_ERRQUEUE)
		result = l45_native_of(sock->sk)->recvmsg(sock, msg, size, flags);
	else
		result = receive_waiting(&receiving, sock_rcvtimeo(sock->sk, flags & MSG_DONTWAIT));
	return l45_udp_leave(receiving.udp, &call, result);
}

/* The length of the next datagram as the application will read it. */
static int next_length(struct l45_udp *udp, struct socket *sock)
{
	struct msghdr msg = {};
	struct kvec nothing = {};
	struct receiving receiving = {
		.udp = udp,
		.sock = sock,
		.msg = &msg,
		.flags = MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT,
	};

	iov_iter_kvec(&msg.msg_iter, ITER_DEST, &nothing, 1, 0);
	l45_udp_refresh(udp);
	return receive(&receiving);
}

static int put_next_length(struct l45_udp *udp, struct socket *sock, int __user *to)
{
	int length = next_length(udp, sock);

	return length == -EINTR ? length : put_user(max(length, 0), to);
}

int l45_udp_ioctl(struct socket *sock, unsigned int command, unsigned long argument)
{
	struct l45_call call;
	struct l45_udp *udp = l45_udp_enter(sock->sk, &call);
	int result;

	/* An error that waits for the application would be lost by looking. */
	if (udp && command == SIOCINQ && !READ_ONCE(sock->sk->sk_err))
		result = put_next_length(udp, sock, (int __user *)argument);
	else
		result = l45_native_of(sock->sk)->ioctl(sock, command, argument);
	return l45_udp_leave(udp, &call, result);
}

/* The kernel's own; but from now on it does not join datagrams. */
__poll_t l45_udp_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait)
{
	struct l45_call call;
	struct l45_udp *udp = l45_udp_enter(sock->sk, &call);
	__poll_t events;

	if (udp)
		separate(udp, sock->sk);
	events = l45_native_of(sock->sk)->poll(file, sock, wait);
	l45_udp_leave(udp, &call, 0);
	return events;
}
