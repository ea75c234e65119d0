// SPDX-License-Identifier: GPL-2.0
/*
 * sdk_probe: does to a message what the message says, for tests of the module SDK.
 *
 * `send`: the first ten bytes are a call (letter), how often to make it, offset and size (both
 * 32-bit, network order); they are a part of the message that the call is made on. DONE where the
 * first call succeeded, else NEXT for -EINVAL, PASS for -EMSGSIZE, LEAVE for -ENOENT.
 *
 * `recv`: the first byte is the verdict; the second, where not zero, has the message changed
 * before.
 */
#include <errno.h>
#include <l45/module.h>

#define PIECE_MAX 64

struct command {
	__u8 call;
	__u8 times;
	__u32 offset;
	__u32 size;
} __attribute__((packed));

static int load(struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u8 piece[PIECE_MAX];
	int error = l45_load(msg, offset, piece, size);

	return error ? error : l45_store(msg, 0, piece, size);
}

static int store(struct l45_msg *msg, __u32 offset, __u32 size)
{
	__u8 piece[PIECE_MAX];

	for (int i = 0; i < PIECE_MAX; i++)
		piece[i] = 0xa5;
	return l45_store(msg, offset, piece, size);
}

static int parameters(struct l45_msg *msg, __u32 offset)
{
	struct {
		__u8 one;
		__u16 two;
		__u32 four;
		__u64 eight;
	} __attribute__((packed)) values = {
		.one = l45_param_u8(msg, offset),
		.two = L45_BE16(l45_param_u16(msg, offset)),
		.four = L45_BE32(l45_param_u32(msg, offset)),
		.eight = L45_BE64(l45_param_u64(msg, offset)),
	};

	return l45_store(msg, 0, &values, sizeof(values));
}

static int name(struct l45_msg *msg)
{
	char process[L45_NAME_SIZE];
	int error = l45_process_name(msg, process);

	return error ? error : l45_store(msg, 0, process, sizeof(process));
}

static int call(struct l45_msg *msg, __u8 which, __u32 offset, __u32 size)
{
	switch (which) {
	case 'l':
		return load(msg, offset, size);
	case 's':
		return store(msg, offset, size);
	case 'i':
		return l45_insert(msg, offset, size);
	case 'r':
		return l45_remove(msg, offset, size);
	case 'p':
		return parameters(msg, offset);
	case 'n':
		return name(msg);
	default:
		return -ENOSYS;
	}
}

static enum l45_verdict verdict_of(int error)
{
	switch (error) {
	case 0:
		return L45_DONE;
	case -EINVAL:
		return L45_NEXT;
	case -EMSGSIZE:
		return L45_PASS;
	case -ENOENT:
		return L45_LEAVE;
	default:
		return L45_ERROR;
	}
}

static enum l45_verdict send(struct l45_msg *msg)
{
	struct command command;
	__u32 offset, size;
	int error;

	if (l45_load(msg, 0, &command, sizeof(command)))
		return L45_ERROR;
	offset = L45_BE32(command.offset);
	size = L45_BE32(command.size);
	error = call(msg, command.call, offset, size);
	for (int i = 1; i < command.times && !error; i++)
		if (call(msg, command.call, offset, size))
			break;
	return verdict_of(error);
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	__u8 order[2];

	if (l45_load(msg, 0, order, sizeof(order)))
		return L45_ERROR;
	if (order[1])
		l45_insert(msg, 0, 1);
	return order[0];
}

L45_MODULE(sdk_probe, send, recv)
