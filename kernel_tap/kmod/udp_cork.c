// SPDX-License-Identifier: GPL-2.0
/*
 * A datagram that comes in pieces (MSG_MORE, UDP_CORK): they are put together, and customized when
 * the last one is there. The first piece says where it goes, and with which options.
 */
#include <linux/mm.h>

#include "udp.h"

struct l45_corked {
	struct sockaddr_storage name;
	int name_size; /* 0: to the peer */
	void *control;
	size_t control_size;
	u32 size;
	u8 bytes[L45_UDP_MAX6];
};

void l45_corked_free(struct l45_corked *corked)
{
	if (!corked)
		return;
	kfree(corked->control);
	kvfree(corked);
}

static struct l45_corked *begin(const struct msghdr *msg)
{
	struct l45_corked *corked = kvmalloc(sizeof(*corked), GFP_KERNEL_ACCOUNT);

	if (!corked)
		return NULL;
	memset(corked, 0, offsetof(struct l45_corked, bytes));
	if (msg->msg_name) {
		corked->name_size = min_t(int, msg->msg_namelen, sizeof(corked->name));
		memcpy(&corked->name, msg->msg_name, corked->name_size);
	}
	if (!msg->msg_controllen)
		return corked;
	corked->control = kmemdup(msg->msg_control, msg->msg_controllen, GFP_KERNEL_ACCOUNT);
	corked->control_size = msg->msg_controllen;
	if (!corked->control) {
		l45_corked_free(corked);
		return NULL;
	}
	return corked;
}

bool l45_udp_is_piece(struct l45_udp *udp, const struct sock *sk, const struct msghdr *msg)
{
	struct l45_ends ends;

	if (READ_ONCE(udp->corked))
		return true;
	/* Pieces that nobody wants, or that came before anybody did, are the kernel's. */
	return (msg->msg_flags & MSG_MORE || l45_udp_corks(sk)) &&
	       !READ_ONCE(udp_sk(sk)->pending) && l45_udp_destination(sk, msg, &ends) &&
	       l45_datagram_wanted(udp, L45_MAY_SEND, &ends);
}

static int put(struct l45_corked *corked, const u8 *piece, size_t size)
{
	if (size > sizeof(corked->bytes) - corked->size)
		return -EMSGSIZE;
	memcpy(corked->bytes + corked->size, piece, size);
	corked->size += size;
	return 0;
}

static struct l45_corked *take(struct l45_udp *udp)
{
	struct l45_corked *corked;

	mutex_lock(&udp->lock);
	corked = udp->corked;
	WRITE_ONCE(udp->corked, NULL);
	mutex_unlock(&udp->lock);
	return corked;
}

/* Give the socket something to put pieces into, and leave it locked. */
static int lock_with_corked(struct l45_udp *udp, const struct msghdr *msg)
{
	struct l45_corked *fresh;

	mutex_lock(&udp->lock);
	if (udp->corked)
		return 0;
	mutex_unlock(&udp->lock);
	fresh = begin(msg);
	if (!fresh)
		return -ENOBUFS;
	mutex_lock(&udp->lock);
	if (!udp->corked && udp->set) {
		WRITE_ONCE(udp->corked, fresh);
		return 0;
	}
	if (udp->corked) {
		l45_corked_free(fresh);
		return 0;
	}
	/* It has lost its customizations, with what was corked before. */
	mutex_unlock(&udp->lock);
	l45_corked_free(fresh);
	return -ENOBUFS;
}

/* As in the kernel, a datagram with a piece too much is gone. */
static int append(struct l45_udp *udp, const struct msghdr *msg, const u8 *piece, size_t size)
{
	struct l45_corked *failed = NULL;
	int error = lock_with_corked(udp, msg);

	if (error)
		return error;
	error = put(udp->corked, piece, size);
	if (error) {
		failed = udp->corked;
		WRITE_ONCE(udp->corked, NULL);
	}
	mutex_unlock(&udp->lock);
	l45_corked_free(failed);
	return error;
}

static int send_corked(struct l45_udp *udp, struct socket *sock, int flags)
{
	struct l45_corked *corked = take(udp);
	struct msghdr msg = { .msg_flags = flags };
	struct kvec bytes;
	int result;

	if (!corked)
		return 0;
	if (corked->name_size)
		msg.msg_name = &corked->name;
	msg.msg_namelen = corked->name_size;
	msg.msg_control = corked->control;
	msg.msg_controllen = corked->control_size;
	bytes.iov_base = corked->bytes;
	bytes.iov_len = corked->size;
	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &bytes, 1, corked->size);
	result = l45_udp_send(udp, sock, &msg, corked->size);
	l45_corked_free(corked);
	return min(result, 0);
}

static int copy_piece(struct l45_udp *udp, struct msghdr *msg, size_t size)
{
	struct iov_iter start = msg->msg_iter;
	u8 *piece = kvmalloc(size, GFP_KERNEL);
	int error = -EFAULT;

	if (!piece)
		return -ENOBUFS;
	if (copy_from_iter_full(piece, size, &msg->msg_iter))
		error = append(udp, msg, piece, size);
	if (error)
		msg->msg_iter = start;
	kvfree(piece);
	return error;
}

int l45_udp_take_piece(struct l45_udp *udp, struct socket *sock, struct msghdr *msg, size_t size)
{
	/* MSG_MORE is not the whole datagram's, and nothing of it is in the application's pages. */
	int flags = msg->msg_flags & ~(MSG_MORE | MSG_ZEROCOPY | MSG_SPLICE_PAGES);
	bool last = !(msg->msg_flags & MSG_MORE) && !l45_udp_corks(sock->sk);
	struct ubuf_info *completion = l45_udp_completion(sock->sk, msg, size);
	int error;

	if (IS_ERR(completion))
		return PTR_ERR(completion);
	error = copy_piece(udp, msg, size);
	if (error)
		net_zcopy_put_abort(completion, true);
	else
		net_zcopy_put(completion);
	if (!error && last)
		error = send_corked(udp, sock, flags);
	return error ? error : size;
}

void l45_udp_uncork(struct l45_udp *udp, struct socket *sock)
{
	send_corked(udp, sock, MSG_DONTWAIT | MSG_NOSIGNAL);
}
