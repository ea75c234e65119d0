/* SPDX-License-Identifier: GPL-2.0 */
/* What differs between Linux 6.1 and 6.12. */
#ifndef L45_KMOD_COMPAT_H
#define L45_KMOD_COMPAT_H

#include <linux/bvec.h>
#include <linux/kasan-checks.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/version.h>
#include <net/inet_sock.h>
#include <net/tcp.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
#include <net/rps.h>
#endif

#ifdef CONFIG_HIGHMEM
#error "l45 reads packets where they lie: it is for kernels that reach all memory (64 bit)"
#endif

/* Linux 6.5 replaced sendpage by sendmsg with MSG_SPLICE_PAGES. */
#define L45_HAS_SENDPAGE (LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0))

/* Flags of a call that others follow. */
#if L45_HAS_SENDPAGE
#define L45_MORE (MSG_MORE | MSG_SENDPAGE_NOTLAST)
#else
#define L45_MORE MSG_MORE
#endif

#if L45_HAS_SENDPAGE
/* Hand pages to a TCP socket whose lock is held; the transport takes references of its own. Returns
 * how many bytes it took, or a negative errno where none. */
static inline int l45_send_pages(struct sock *sk, const struct bio_vec *pieces, u32 count, u32 size,
				 int flags)
{
	int done = 0, sent = 0;

	for (u32 i = 0; i < count; i++) {
		int last = i + 1 < count ? MSG_SENDPAGE_NOTLAST | MSG_MORE : 0;

		sent = do_tcp_sendpages(sk, pieces[i].bv_page, pieces[i].bv_offset,
					pieces[i].bv_len, flags | last);
		if (sent > 0)
			done += sent;
		if (sent != pieces[i].bv_len)
			break;
	}
	return done ? done : sent;
}
#else
static inline int l45_send_pages(struct sock *sk, const struct bio_vec *pieces, u32 count, u32 size,
				 int flags)
{
	struct msghdr msg = { .msg_flags = flags | MSG_SPLICE_PAGES };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, pieces, count, size);
	return tcp_sendmsg_locked(sk, &msg, size);
}
#endif

/* The application's memory that comes next: returns how much is in one place, at `*at`; 0: look for
 * it by the iterator. For copies without it, a frame each. */
static inline size_t l45_user_memory(const struct iov_iter *iter, void __user **at)
{
	size_t size;

	if (iter_is_ubuf(iter)) {
		*at = iter->ubuf + iter->iov_offset;
		size = iter->count;
	} else if (iter_is_iovec(iter) && iter->count) {
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
		*at = iter->iov->iov_base + iter->iov_offset;
		size = min(iter->iov->iov_len - iter->iov_offset, iter->count);
#else
		*at = iter_iov_addr(iter);
		size = min(iter_iov_len(iter), iter->count);
#endif
	} else {
		return 0;
	}
	return access_ok(*at, size) ? size : 0;
}

/* Copies there, as copy_to_iter() makes them without HARDENED_USERCOPY: bounds are those of a
 * packet or page, and a look at what they lie in costs more than a frame. Return what was not
 * copied. */
static inline unsigned long l45_copy_out(void __user *to, const void *from, size_t size)
{
	kasan_check_read(from, size);
	return raw_copy_to_user(to, from, size);
}

static inline unsigned long l45_copy_in(void *to, const void __user *from, size_t size)
{
	kasan_check_write(to, size);
	return raw_copy_from_user(to, from, size);
}

/* Whether the processor can read the packet: what a device keeps for others it cannot. */
static inline bool l45_is_readable(const struct sk_buff *skb)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return true;
#else
	return skb_frags_readable(skb);
#endif
}

/* Whether connect() has made no connection yet: the first data will (TCP_FASTOPEN_CONNECT). */
static inline bool l45_defers_connect(const struct sock *sk)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	return inet_sk(sk)->defer_connect;
#else
	return inet_test_bit(DEFER_CONNECT, sk);
#endif
}

#endif
