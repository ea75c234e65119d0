/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module SDK: what a customization module is written against, whatever it is compiled for.
 *
 * A module has two callbacks. `send` gets a message on its way from the application to the
 * transport and gives it its wire form; `recv` gets a message from the transport and gives back
 * what the application sent. Both see the message (for UDP the payload of one datagram) only
 * through the calls below, never through a pointer, so that the same source runs in eBPF, in a
 * kernel module and in user space.
 *
 * All calls check their bounds. Calls that give an int return 0 or a negative errno; after an
 * error the message is as before the call.
 */
#ifndef L45_MODULE_H
#define L45_MODULE_H

#include <linux/types.h>

#define L45_NAME_SIZE 16 /* TASK_COMM_LEN: 15 characters and a NUL */

/* Integers in network order, for structures that are stored into or loaded from a message. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define L45_BE16(x) ((__u16)__builtin_bswap16(x))
#define L45_BE32(x) ((__u32)__builtin_bswap32(x))
#define L45_BE64(x) ((__u64)__builtin_bswap64(x))
#else
#define L45_BE16(x) ((__u16)(x))
#define L45_BE32(x) ((__u32)(x))
#define L45_BE64(x) ((__u64)(x))
#endif

/* What a callback answers. With all but DONE it must have left the message as it was: a message
 * that was changed half-way is dropped and counted as an error. */
enum l45_verdict {
	L45_DONE,  /* the message is customized (send) or restored (recv) */
	L45_NEXT,  /* not mine: ask the next customization attached to this socket */
	L45_PASS,  /* unchanged to its destination, no other customization is asked */
	L45_DROP,  /* discard the message */
	L45_LEAVE, /* as NEXT, and never ask this customization again for this socket */
	L45_ERROR, /* cannot do it: the message passes unchanged and an error is counted */
};

struct l45_msg;

#ifdef __bpf__
/* eBPF has no linker for what several objects share: the calls are compiled into each module. */
#define L45_CALL static inline __attribute__((always_inline))
#else
#define L45_CALL
#endif

/* Bytes in the message. */
L45_CALL __u32 l45_len(const struct l45_msg *msg);

/* Copy `size` bytes at `offset` into `to`. `size` is a constant, 1 to 64. -EINVAL where the
 * message does not have all of them. */
L45_CALL int l45_load(const struct l45_msg *msg, __u32 offset, void *to, __u32 size);

/* Overwrite `size` bytes at `offset`. `size` is a constant, 1 to 64. -EINVAL where the message
 * does not have all of them. */
L45_CALL int l45_store(struct l45_msg *msg, __u32 offset, const void *from, __u32 size);

/* Open a gap of `size` zero bytes before `offset`; `offset` may be the message's length.
 * -EMSGSIZE where the message would not fit the path any more: answer L45_ERROR, and the message
 * passes unchanged and is counted as too big. */
L45_CALL int l45_insert(struct l45_msg *msg, __u32 offset, __u32 size);

/* Take `size` bytes at `offset` out. -EINVAL where the message does not have all of them. */
L45_CALL int l45_remove(struct l45_msg *msg, __u32 offset, __u32 size);

/* Name of the process that owns the socket (comm of its thread-group leader), padded with NUL.
 * -ENOENT where it is not known. */
L45_CALL int l45_process_name(const struct l45_msg *msg, char name[L45_NAME_SIZE]);

/* The parameter at byte `offset` of the packed parameters (wire/manifest.py: in the order of the
 * manifest, without padding, little-endian); 0 where the customization was given none there. */
L45_CALL __u8 l45_param_u8(const struct l45_msg *msg, __u32 offset);
L45_CALL __u16 l45_param_u16(const struct l45_msg *msg, __u32 offset);
L45_CALL __u32 l45_param_u32(const struct l45_msg *msg, __u32 offset);
L45_CALL __u64 l45_param_u64(const struct l45_msg *msg, __u32 offset);

/* Nanoseconds of a monotonic clock. */
L45_CALL __u64 l45_time_ns(void);

typedef enum l45_verdict (*l45_callback)(struct l45_msg *msg);

/* A module file ends with L45_MODULE(name, send, recv), no semicolon. `name` is the folder's. */
#ifdef __bpf__
#include "module_bpf.h"
#else
struct l45_module {
	const char *name;
	l45_callback send;
	l45_callback recv;
};

#define L45_MODULE(module_name, send_callback, recv_callback) \
	const struct l45_module l45_module = {                \
		.name = #module_name,                         \
		.send = (send_callback),                      \
		.recv = (recv_callback),                      \
	};
#endif

#endif
