/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A customized TCP socket: what tcp*.c share. All under lock_sock() unless it says otherwise.
 *
 * Sending. What the application writes goes through the core into frames, which are copied into
 * pages once, in front of them their headers, and the pages are handed to the transport. What it
 * does not take then stays in `train`, and nothing overtakes it.
 *
 * Receiving. The core is shown what the transport has; what is the application's as it is goes from
 * the transport's buffers straight to the application. `ready` holds what had to be decoded before
 * anybody read: to peek, to count, or to say whether there is something.
 */
#ifndef L45_KMOD_TCP_H
#define L45_KMOD_TCP_H

#include "l45.h"

/* What a function says that has waited, and meanwhile the socket was given back to the kernel. */
#define L45_NOT_OURS (-ESTALE)

#define L45_CHUNK_SIZE (16 * 1024 - 64)

static inline struct l45_tcp *l45_tcp_of(struct l45_tap *tap)
{
	return container_of(tap, struct l45_tcp, tap);
}

static inline struct sock *l45_sk(const struct l45_tcp *t)
{
	return t->tap.sk;
}

/* ---- tcp.c ---- */

/* A tap with what matches of `set`, or NULL: out of memory. `owner` is taken over. No lock. */
struct l45_tap *l45_tcp_new(struct sock *sk, struct l45_net *net, struct l45_set *set,
			    struct l45_owner *owner, const struct l45_ends *ends,
			    enum l45_role role);

/* Let go of customizations and memory. The socket has gone, or has never been ours. */
void l45_tcp_close(struct l45_tcp *t);

/* connect() of a lazy socket. Takes the lock. */
int l45_tcp_connect(struct socket *sock, struct sockaddr *address, int size, int flags);

/* Where there is no connection any more, or nothing for it: the tap goes. Under the lock; the
 * caller calls l45_tap_quit() then, without it. */
bool l45_tcp_detach_if_over(struct l45_tap *tap, struct socket *sock);

void l45_tcp_operations(struct proto_ops *act);

u32 l45_tcp_attachments(struct l45_tcp *t, struct l45_attachment *to);

/* Release the lock; then the connection is reset, if a direction is broken. */
void l45_tcp_unlock(struct l45_tcp *t);

/* A direction is broken: no byte may follow. */
void l45_tcp_break(struct l45_tcp *t);

/* ---- tcp_send.c ---- */

int l45_tcp_sendmsg(struct socket *sock, struct msghdr *msg, size_t size);
int l45_tcp_shutdown(struct socket *sock, int how);

/* What must go out before the application's next byte: what is left from before, and what the core
 * sends without being asked. 0: it is out; -EAGAIN: not yet, and `*timeo` is over; -EPIPE etc. */
int l45_tcp_settle(struct l45_tcp *t, long *timeo);

/* Whether the application must wait before it can send. */
bool l45_tcp_is_held(const struct l45_tcp *t);

/* The socket is closing: hand over all that is left. */
void l45_tcp_flush(struct l45_tcp *t);

/* ---- tcp_receive.c ---- */

int l45_tcp_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags);
__poll_t l45_tcp_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait);
int l45_tcp_ioctl(struct socket *sock, unsigned int command, unsigned long argument);
int l45_tcp_set_rcvlowat(struct sock *sk, int value);

/* What is decoded, and nobody has read. */
static inline u32 l45_tcp_decoded(const struct l45_tcp *t)
{
	const struct l45_receiver *rx = &t->flow.rx;

	return t->ready_size + t->span.size + rx->given_size - rx->given_taken;
}

/* ---- tcp_ready.c ---- */

/* Decode what the transport has, until `enough` bytes are ready, or there is no more. */
void l45_tcp_make_ready(struct l45_tcp *t, u32 enough);

/* ... and at most as many: what the transport would hold, we hold. */
u32 l45_tcp_ready_at_most(const struct l45_tcp *t);

/* Decode up to where a byte for the application comes next; returns whether there is one. */
bool l45_tcp_look(struct l45_tcp *t);

/* Decode into `to` (NULL: throw it away) up to `room` bytes. What was ready comes first. Returns
 * how many, or a negative errno where there are none. */
int l45_tcp_read(struct l45_tcp *t, struct iov_iter *to, u32 room);

/* Copy up to `room` bytes of what is ready behind `skip`, and leave them there. */
int l45_tcp_peek(struct l45_tcp *t, struct iov_iter *to, u32 skip, u32 room);

void l45_tcp_drop_ready(struct l45_tcp *t);

/* ---- buffer.c ---- */

/* The module is unloaded, and nobody has a buffer. */
void l45_buffers_exit(void);

/* ---- tcp_work.c ---- */

/* Bring the flow to the set that is in force, if it has another. */
void l45_tcp_sync(struct l45_tcp *t);

/* What a new connection may do with a customization: with one that is deprecated it looks whether
 * the peer has begun with it. */
u8 l45_tcp_switches(enum l45_role role, const struct l45_entry *entry);

/* The peer has begun, with one of those or with none: the others go. */
void l45_tcp_keep_begun(struct l45_tcp *t);

/* Take one customization off the flow, if it is not in use. */
void l45_tcp_let_go(struct l45_tcp *t, struct l45_attached_stream *attached);

/* The core's clock: to be called when all that the transport has was decoded. */
void l45_tcp_tick(struct l45_tcp *t);

/* What time or a new set demands. Waits for nothing. Returns whether it has detached the tap. */
bool l45_tcp_work(struct l45_tcp *t);

/* The socket is closing. */
void l45_tcp_finish(struct l45_tcp *t);

#endif
