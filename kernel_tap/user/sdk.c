// SPDX-License-Identifier: GPL-2.0
/* The calls of the module SDK (l45/module.h) on a message in user space. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "message.h"

#define PIECE_MAX 64 /* of l45_load and l45_store, as in eBPF */

static int within(__u32 length, __u32 offset, __u32 size)
{
	return offset <= length && size <= length - offset;
}

static int is_piece(const struct l45_msg *msg, __u32 offset, __u32 size)
{
	return size && size <= PIECE_MAX && within(msg->length, offset, size);
}

static __u8 *at(const struct l45_msg *msg, __u32 offset)
{
	return msg->buffer + msg->start + offset;
}

__u32 l45_len(const struct l45_msg *msg)
{
	return msg->length;
}

int l45_load(const struct l45_msg *msg, __u32 offset, void *to, __u32 size)
{
	if (!is_piece(msg, offset, size))
		return -EINVAL;
	memcpy(to, at(msg, offset), size);
	return 0;
}

int l45_store(struct l45_msg *msg, __u32 offset, const void *from, __u32 size)
{
	if (!is_piece(msg, offset, size))
		return -EINVAL;
	memcpy(at(msg, offset), from, size);
	msg->changed = 1;
	return 0;
}

/* Moves what is before the gap where there is room: a gap at the front moves nothing. */
int l45_insert(struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u32 before = msg->start, behind = msg->size - msg->start - msg->length;

	if (!size || offset > msg->length)
		return -EINVAL;
	if (size > msg->limit - msg->length || (size > before && size > behind))
		return -EMSGSIZE;
	if (size <= before && (offset <= msg->length / 2 || size > behind)) {
		msg->start -= size;
		memmove(at(msg, 0), at(msg, size), offset);
	} else {
		memmove(at(msg, offset + size), at(msg, offset), msg->length - offset);
	}
	memset(at(msg, offset), 0, size);
	msg->length += size;
	msg->changed = 1;
	return 0;
}

int l45_remove(struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u32 rest;

	if (!size || !within(msg->length, offset, size))
		return -EINVAL;
	rest = msg->length - offset - size;
	if (offset <= rest) {
		memmove(at(msg, size), at(msg, 0), offset);
		msg->start += size;
	} else {
		memmove(at(msg, offset), at(msg, offset + size), rest);
	}
	msg->length -= size;
	msg->changed = 1;
	return 0;
}

int l45_process_name(const struct l45_msg *msg, char name[L45_NAME_SIZE])
{
	const char *process = msg->context->process;

	if (!process || !*process)
		return -ENOENT;
	memset(name, 0, L45_NAME_SIZE);
	memcpy(name, process, strnlen(process, L45_NAME_SIZE - 1));
	return 0;
}

static __u64 parameter(const struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u64 value = 0;

	if (!within(msg->context->parameters_size, offset, size))
		return 0;
	for (__u32 i = 0; i < size; i++)
		value |= (__u64)msg->context->parameters[offset + i] << (8 * i);
	return value;
}

__u8 l45_param_u8(const struct l45_msg *msg, __u32 offset)
{
	return parameter(msg, offset, sizeof(__u8));
}

__u16 l45_param_u16(const struct l45_msg *msg, __u32 offset)
{
	return parameter(msg, offset, sizeof(__u16));
}

__u32 l45_param_u32(const struct l45_msg *msg, __u32 offset)
{
	return parameter(msg, offset, sizeof(__u32));
}

__u64 l45_param_u64(const struct l45_msg *msg, __u32 offset)
{
	return parameter(msg, offset, sizeof(__u64));
}

__u64 l45_time_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000 + now.tv_nsec;
}
