/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Customized UDP sockets: what their files share.
 *
 *	udp.c		attaching and detaching, the table of operations
 *	datagram.c	asking the customizations about one datagram
 *	udp_send.c	sendmsg
 *	udp_cork.c	datagrams that come in pieces
 *	udp_route.c	how long a datagram may become
 *	udp_receive.c	recvmsg, and the length of what comes next
 *	udp_options.c	socket options
 */
#ifndef L45_KMOD_UDP_H
#define L45_KMOD_UDP_H

#include <linux/udp.h>

#include "calls.h"
#include "l45.h"

/* Payload of the longest datagram; jumbograms are not customized. */
#define L45_UDP_MAX4 65507
#define L45_UDP_MAX6 65527

/* ---- udp.c ---- */

/* A call begins: what the socket has, or NULL, where it has just lost its customizations, and the
 * call is the kernel's. Either way this module stays loaded until l45_udp_leave(). */
struct l45_udp *l45_udp_enter(const struct sock *sk, struct l45_call *call);

/* Returns `result`, or what the call has to return instead. */
long l45_udp_leave(struct l45_udp *udp, struct l45_call *call, long result);

/* Bring it to the set that is in force, if that is another. */
void l45_udp_refresh(struct l45_udp *udp);

/* ---- datagram.c ---- */

/* What becomes of a datagram. */
enum l45_fate {
	L45_UNDECIDED,
	L45_UNCHANGED,
	L45_CUSTOMIZED,
	L45_GONE,
};

/* What a customization did. */
enum l45_deed {
	L45_NOTHING,
	L45_PASSED,
	L45_ACTED, /* it customized or restored the datagram */
	L45_DROPPED,
	L45_FAILED,
	L45_TOO_BIG,
};

/* A datagram in memory, one after the other in the same buffer. */
struct l45_datagram {
	u8 way; /* enum l45_switches */
	struct l45_ends ends;
	struct l45_msg msg;
	u64 state;	     /* modules keep none on datagrams */
	u32 bytes;	     /* of the application, in what was customized */
	struct l45_set *set; /* referenced: who was asked; NULL: nobody, or it was counted */
	u8 deeds[L45_SET_SIZE_MAX];
};

/* Whether a customization may want datagrams of these ends; NULL: of any. Ends that are not known
 * may be those that it wants. */
bool l45_datagram_wanted(struct l45_udp *udp, u8 way, const struct l45_ends *ends);

/* Room for datagrams of `size` bytes, and for what modules add; 0 or -ENOBUFS. */
int l45_datagram_open(struct l45_datagram *datagram, u8 way, const struct l45_ends *ends, u32 size);
void l45_datagram_close(struct l45_datagram *datagram);

/* Where a datagram's bytes are put before anybody is asked. */
u8 *l45_datagram_payload(struct l45_datagram *datagram);

/* Ask the customizations about one of `size` bytes, that may grow to `limit`. */
enum l45_fate l45_datagram_ask(struct l45_udp *udp, struct l45_datagram *datagram, u32 size,
			       u32 limit);

/* What was done came to something: count it. It is forgotten otherwise. */
void l45_datagram_count(struct l45_udp *udp, struct l45_datagram *datagram);

/* ---- udp_send.c ---- */

int l45_udp_sendmsg(struct socket *sock, struct msghdr *msg, size_t size);

/* Send one whole datagram, or the segments that a large one stands for; what is in `msg` about
 * pieces is not looked at. */
int l45_udp_send(struct l45_udp *udp, struct socket *sock, struct msghdr *msg, size_t size);

/* Where the message goes to; false: nowhere, or where the kernel has to say. */
bool l45_udp_destination(const struct sock *sk, const struct msghdr *msg, struct l45_ends *ends);

/* MSG_ZEROCOPY, and yet a copy was made: what tells the application; NULL: it did not ask. */
struct ubuf_info *l45_udp_completion(struct sock *sk, const struct msghdr *msg, size_t size);

/* ---- udp_cork.c ---- */

/* Does the socket ask for pieces to be put together (UDP_CORK)? */
bool l45_udp_corks(const struct sock *sk);

/* Is the message a piece of a datagram that we have to put together? */
bool l45_udp_is_piece(struct l45_udp *udp, const struct sock *sk, const struct msghdr *msg);

/* Take a piece; the last one sends the datagram. */
int l45_udp_take_piece(struct l45_udp *udp, struct socket *sock, struct msghdr *msg, size_t size);

/* No pieces will follow. */
void l45_udp_uncork(struct l45_udp *udp, struct socket *sock);

void l45_corked_free(struct l45_corked *corked);

/* ---- udp_route.c ---- */

/* Payload of the longest datagram that needs no fragments on its way, L45_UDP_MAX4 at most; that
 * where the way is not known. Fills in the local address that the way implies. `connected`: to the
 * socket's peer; `link`: the device that a link-local address is for, or 0. */
u32 l45_udp_fits(struct sock *sk, struct l45_ends *ends, bool connected, int link);

/* Whether they are ends of an IPv4 datagram. */
bool l45_udp_is_v4(const struct sock *sk, const struct l45_ends *ends);

/* ---- udp_receive.c ---- */

int l45_udp_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags);
int l45_udp_ioctl(struct socket *sock, unsigned int command, unsigned long argument);
__poll_t l45_udp_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait);

/* ---- udp_options.c ---- */

int l45_udp_setsockopt(struct socket *sock, int level, int option, sockptr_t value,
		       unsigned int size);
int l45_udp_getsockopt(struct socket *sock, int level, int option, char __user *value,
		       int __user *size);
int l45_udp_set_peek_off(struct sock *sk, int value);

/* Whether the kernel may hand over several datagrams as one (UDP_GRO). */
bool l45_udp_joins(const struct sock *sk);
void l45_udp_set_joins(struct sock *sk, bool joins);

#endif
