/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module SDK: what a customization module is written against, whatever it is compiled for.
 *
 * A module has two callbacks. `send` gets a message on its way from the application to the
 * transport and gives it its wire form; `recv` gets a message from the transport and gives back
 * what the application sent. Both see the message only through the calls below, never through a
 * pointer, so that the same source runs in eBPF, in a kernel module and in user space.
 *
 * For UDP a message is the payload of one datagram. For TCP it is what one send hands over, or a
 * part of it, and becomes the content of one frame (docs/wire-format.md): `recv` gets messages as
 * `send` left them, whatever TCP did to the segments.
 *
 * All calls check their bounds. Calls that give an int return 0 or a negative errno; after an
 * error the message is as before the call.
 */
#ifndef L45_MODULE_H
#define L45_MODULE_H

#include <linux/types.h>

#define L45_NAME_SIZE 16 /* TASK_COMM_LEN: 15 characters and a NUL */

/* Integers in network order (BE) or in that of parameters (LE), for structures that are stored into
 * or loaded from a message. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define L45_BE16(x) ((__u16)__builtin_bswap16(x))
#define L45_BE32(x) ((__u32)__builtin_bswap32(x))
#define L45_BE64(x) ((__u64)__builtin_bswap64(x))
#define L45_LE64(x) ((__u64)(x))
#else
#define L45_BE16(x) ((__u16)(x))
#define L45_BE32(x) ((__u32)(x))
#define L45_BE64(x) ((__u64)(x))
#define L45_LE64(x) ((__u64)__builtin_bswap64(x))
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

/* The calls are compiled into each module: eBPF has no linker for what objects share, and elsewhere
 * a call for each of a few instructions would cost more than they do. */
#ifdef __bpf__
#define L45_CALL static inline __attribute__((always_inline))
#else
#define L45_CALL static inline
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

#ifdef __bpf__
/* A module file ends with L45_MODULE(name, send, recv), no semicolon. `name` is the folder's. */
#include "module_bpf.h"
#else
/*
 * Streams only.
 */

/* On send: end this message after `size` bytes; what is behind comes as the next message. -EINVAL
 * where there are not so many, after the first change, and on datagrams. */
L45_CALL int l45_split(struct l45_msg *msg, __u32 size);

/* XOR the `size` bytes at `offset` with the 8 bytes of `key`, as they lie in memory, again and
 * again. -EINVAL where the message does not have all of them. */
L45_CALL int l45_xor(struct l45_msg *msg, __u32 offset, __u32 size, __u64 key);

/* A number that the customization keeps for this direction of the stream; 0 at its mark. */
L45_CALL __u64 l45_state(const struct l45_msg *msg);
L45_CALL void l45_set_state(struct l45_msg *msg, __u64 value);

/* The same again need not be asked. On send: as long as the state is what it is, a next message
 * that can be as long as this one is, whatever more is offered, gets the same head. On recv: as
 * long as the state is what it is, a message of the same head and length is restored the same. It
 * means nothing where the callback has changed the state, nor but for L45_STREAM_HEAD. */
L45_CALL void l45_repeat(struct l45_msg *msg);

/* On send: the transport gets this message no earlier than in `delay` milliseconds. The module
 * does not wait; the tap does, when the module has returned. */
L45_CALL void l45_delay_ms(struct l45_msg *msg, __u32 delay);

/* What a module sees of a message. */
enum l45_kind {
	L45_DATAGRAM,
	/* A stream's message, but of the application's bytes only their number; on send it can put
	 * up to 255 bytes in front of them, and on recv sees those, in messages that have some.
	 * Nobody copies the rest. */
	L45_STREAM_HEAD,
	/* A stream's message whole, up to 16 KiB; on recv it cannot grow. */
	L45_STREAM_WHOLE,
	/* Their number on send, and it changes nothing: the stream stays as it is on the wire. */
	L45_STREAM_WATCH,
};

struct l45_module {
	const char *name;
	__u32 signature; /* of its streams' wire form; manifest.toml has it as text */
	enum l45_kind kind;
	l45_callback send;
	l45_callback recv; /* none for L45_STREAM_WATCH */
};

/* A module file ends with one of these, no semicolon. `name` is the folder's. */
#define L45_MODULE(module_name, send_callback, recv_callback) \
	const struct l45_module l45_module = {                \
		.name = #module_name,                         \
		.kind = L45_DATAGRAM,                         \
		.send = (send_callback),                      \
		.recv = (recv_callback),                      \
	};

#define L45_STREAM_MODULE(module_name, module_kind, module_signature, send_callback, \
			  recv_callback)                                             \
	const struct l45_module l45_module = {                                       \
		.name = #module_name,                                                \
		.signature = (module_signature),                                     \
		.kind = (module_kind),                                               \
		.send = (send_callback),                                             \
		.recv = (recv_callback),                                             \
	};

#include "message.h"
#endif

#endif
