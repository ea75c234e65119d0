// SPDX-License-Identifier: GPL-2.0
/*
 * stream_probe: everything that a module of heads can answer, for tests of the stream core.
 *
 * The verdict depends on the length n of what is offered. n % 64 is 63: drop, 62: next after a
 * change (both where the parameter `fatal` is set, else next), 61: leave. Otherwise n % 8 is 1:
 * next, 2: pass, 3: error, else done: with n / 8 % 256 bytes of head, before at most 1000 bytes
 * where n % 8 is 4. A head counts the heads of this stream, so that one that is lost or comes twice
 * is found.
 */
#include <l45/module.h>

#define SPLIT 1000

struct head {
	__u8 count;
	__u8 size;
};

static enum l45_verdict put_head(struct l45_msg *msg, __u8 size)
{
	struct head head = { .count = l45_state(msg), .size = size };

	if (size < sizeof(head))
		return L45_DONE;
	if (l45_insert(msg, 0, size) || l45_store(msg, 0, &head, sizeof(head)))
		return L45_ERROR;
	l45_set_state(msg, l45_state(msg) + 1);
	return L45_DONE;
}

static enum l45_verdict rare(struct l45_msg *msg)
{
	int fatal = l45_param_u8(msg, 0);

	switch (l45_len(msg) % 64) {
	case 63:
		return fatal ? L45_DROP : L45_NEXT;
	case 62:
		if (fatal)
			l45_insert(msg, 0, 1);
		return L45_NEXT;
	default:
		return L45_LEAVE;
	}
}

static enum l45_verdict send(struct l45_msg *msg)
{
	__u32 size = l45_len(msg);

	if (size % 64 > 60)
		return rare(msg);
	switch (size % 8) {
	case 1:
		return L45_NEXT;
	case 2:
		return L45_PASS;
	case 3:
		return L45_ERROR;
	case 4:
		if (size > SPLIT && l45_split(msg, SPLIT))
			return L45_ERROR;
	}
	return put_head(msg, size / 8);
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	struct head head;

	if (l45_load(msg, 0, &head, sizeof(head)) || head.count != (l45_state(msg) & 0xff))
		return L45_ERROR;
	l45_set_state(msg, l45_state(msg) + 1);
	return l45_remove(msg, 0, head.size) ? L45_ERROR : L45_DONE;
}

L45_STREAM_MODULE(stream_probe, L45_STREAM_HEAD, 0x50524248 /* "PRBH" */, send, recv)
