/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The calls of the module SDK (l45/module.h) where a message is memory: in user space and in the
 * kernel. A stretch of a buffer that can grow at either end, and behind it, in streams, bytes that
 * are the application's and that nobody has copied.
 */
#ifndef L45_CORE_MESSAGE_H
#define L45_CORE_MESSAGE_H

#include "shim.h"

#define L45_PIECE_MAX	   64 /* of l45_load and l45_store, as in eBPF */
#define L45_PARAMETERS_MAX 64 /* wire.messages.MAX_PARAMETERS */
#define L45_TOKEN	   8

struct l45_module;

/* A module with parameters: what a customization is to the core. Never changed while in use. */
struct l45_instance {
	const struct l45_module *module;
	__u16 epoch;	       /* name on the wire, beside the module's signature */
	__u8 token[L45_TOKEN]; /* of the mark of new streams */
	__u32 parameters_size;
	__u8 parameters[L45_PARAMETERS_MAX];
};

struct l45_msg {
	const struct l45_instance *instance;
	const char
		*process; /* L45_NAME_SIZE bytes padded with NUL; begins with NUL where unknown */
	__u64 *state;
	__u8 *buffer;
	__u32 size;    /* of the buffer */
	__u32 start;   /* of the message in it */
	__u32 visible; /* bytes of the message in it */
	__u32 hidden;  /* bytes behind those, as the application has them */
	__u32 limit;   /* longest that the message may become */
	__u32 taken;   /* of the application's bytes that were offered */
	__u32 delay_ms;
	__u8 divisible; /* l45_split may be called */
	__u8 changed;
	__u8 repeats; /* the same again need not be asked */
	__u8 too_big; /* l45_insert found no room */
};

static inline int l45_within(__u32 length, __u32 offset, __u32 size)
{
	return offset <= length && size <= length - offset;
}

static inline int l45_is_piece(const struct l45_msg *msg, __u32 offset, __u32 size)
{
	return size && size <= L45_PIECE_MAX && l45_within(msg->visible, offset, size);
}

static inline __u8 *l45_at(const struct l45_msg *msg, __u32 offset)
{
	return msg->buffer + msg->start + offset;
}

L45_CALL __u32 l45_len(const struct l45_msg *msg)
{
	return msg->visible + msg->hidden;
}

L45_CALL int l45_load(const struct l45_msg *msg, __u32 offset, void *to, __u32 size)
{
	if (!l45_is_piece(msg, offset, size))
		return -EINVAL;
	memcpy(to, l45_at(msg, offset), size);
	return 0;
}

L45_CALL int l45_store(struct l45_msg *msg, __u32 offset, const void *from, __u32 size)
{
	if (!l45_is_piece(msg, offset, size))
		return -EINVAL;
	memcpy(l45_at(msg, offset), from, size);
	msg->changed = 1;
	return 0;
}

/* Moves what is before the gap where there is room: a gap at the front moves nothing. */
L45_CALL int l45_insert(struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u32 before = msg->start, behind = msg->size - msg->start - msg->visible;

	if (!size || offset > msg->visible)
		return -EINVAL;
	if (size > msg->limit - l45_len(msg) || (size > before && size > behind)) {
		msg->too_big = 1;
		return -EMSGSIZE;
	}
	if (size <= before && (offset <= msg->visible / 2 || size > behind)) {
		msg->start -= size;
		if (offset)
			memmove(l45_at(msg, 0), l45_at(msg, size), offset);
	} else {
		memmove(l45_at(msg, offset + size), l45_at(msg, offset), msg->visible - offset);
	}
	memset(l45_at(msg, offset), 0, size);
	msg->visible += size;
	msg->changed = 1;
	return 0;
}

/* What is hidden follows the visible part's end in memory: with it, only the front moves. */
L45_CALL int l45_remove(struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u32 rest;

	if (!size || !l45_within(msg->visible, offset, size))
		return -EINVAL;
	rest = msg->visible - offset - size;
	if (offset <= rest || msg->hidden) {
		if (offset)
			memmove(l45_at(msg, size), l45_at(msg, 0), offset);
		msg->start += size;
	} else {
		memmove(l45_at(msg, offset), l45_at(msg, offset + size), rest);
	}
	msg->visible -= size;
	msg->changed = 1;
	return 0;
}

L45_CALL int l45_process_name(const struct l45_msg *msg, char name[L45_NAME_SIZE])
{
	if (!msg->process[0])
		return -ENOENT;
	memcpy(name, msg->process, L45_NAME_SIZE);
	return 0;
}

static inline __u64 l45_param(const struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u64 value = 0;

	if (l45_within(msg->instance->parameters_size, offset, size))
		memcpy(&value, msg->instance->parameters + offset, size);
	return L45_LE64(value);
}

L45_CALL __u8 l45_param_u8(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, sizeof(__u8));
}

L45_CALL __u16 l45_param_u16(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, sizeof(__u16));
}

L45_CALL __u32 l45_param_u32(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, sizeof(__u32));
}

L45_CALL __u64 l45_param_u64(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, sizeof(__u64));
}

L45_CALL __u64 l45_time_ns(void)
{
	return l45_clock_ns();
}

L45_CALL int l45_split(struct l45_msg *msg, __u32 size)
{
	if (!msg->divisible || msg->changed || !size || size > l45_len(msg))
		return -EINVAL;
	msg->visible = l45_min(msg->visible, size);
	msg->hidden = size - msg->visible;
	msg->taken = size;
	return 0;
}

static inline void l45_xor_word(__u8 *at, __u64 key)
{
	__u64 word;

	memcpy(&word, at, sizeof(word));
	word ^= key;
	memcpy(at, &word, sizeof(word));
}

/* By hand, for compilers do not: a loop's own instructions would be as many as its words. */
static inline void l45_xor_line(__u8 *at, __u64 key)
{
	l45_xor_word(at, key);
	l45_xor_word(at + 8, key);
	l45_xor_word(at + 16, key);
	l45_xor_word(at + 24, key);
	l45_xor_word(at + 32, key);
	l45_xor_word(at + 40, key);
	l45_xor_word(at + 48, key);
	l45_xor_word(at + 56, key);
}

L45_CALL int l45_xor(struct l45_msg *msg, __u32 offset, __u32 size, __u64 key)
{
	__u8 keys[sizeof(key)], *at;
	__u32 i;

	if (!l45_within(msg->visible, offset, size))
		return -EINVAL;
	at = l45_at(msg, offset);
	for (; size >= 64; size -= 64, at += 64)
		l45_xor_line(at, key);
	for (; size >= sizeof(key); size -= sizeof(key), at += sizeof(key))
		l45_xor_word(at, key);
	memcpy(keys, &key, sizeof(key));
	for (i = 0; i < size; i++)
		at[i] ^= keys[i];
	msg->changed = 1;
	return 0;
}

L45_CALL __u64 l45_state(const struct l45_msg *msg)
{
	return *msg->state;
}

L45_CALL void l45_set_state(struct l45_msg *msg, __u64 value)
{
	*msg->state = value;
}

L45_CALL void l45_repeat(struct l45_msg *msg)
{
	msg->repeats = 1;
}

L45_CALL void l45_delay_ms(struct l45_msg *msg, __u32 delay)
{
	msg->delay_ms = delay;
}

#endif
