// SPDX-License-Identifier: GPL-2.0
/*
 * stream_tag: a classification tag stands in front of every `interval` bytes of the application.
 *
 * A tag is due by the application's bytes, not by its writes, so that bulk pays 32 bytes (28 here
 * and a frame's header) for each interval, and a key stroke nearly always a header alone.
 */
#include <l45/module.h>

#define SIGNATURE 0x53544147 /* "STAG" */

/* Parameters, as they are packed. */
#define TAG_OFFSET	0
#define INTERVAL_OFFSET 8

struct tag {
	__u32 signature;
	__u64 tag;
	char app_id[L45_NAME_SIZE];
} __attribute__((packed));

_Static_assert(sizeof(struct tag) == 28, "32 bytes with a frame's header");

static int put_tag(struct l45_msg *msg)
{
	struct tag tag = {
		.signature = L45_BE32(SIGNATURE),
		.tag = L45_BE64(l45_param_u64(msg, TAG_OFFSET)),
	};

	l45_process_name(msg, tag.app_id); /* zero where it is not known */
	return l45_insert(msg, 0, sizeof(tag)) || l45_store(msg, 0, &tag, sizeof(tag));
}

/* The state is the number of bytes up to where the next tag is due. */
static enum l45_verdict send(struct l45_msg *msg)
{
	__u64 left = l45_state(msg), due = left ? left : l45_param_u32(msg, INTERVAL_OFFSET);
	__u32 size = l45_len(msg) < due ? l45_len(msg) : due;

	if (l45_split(msg, size) || (!left && put_tag(msg)))
		return L45_ERROR;
	l45_set_state(msg, due - size);
	l45_repeat(msg);
	return L45_DONE;
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	__u32 signature;

	if (l45_load(msg, 0, &signature, sizeof(signature)) || signature != L45_BE32(SIGNATURE))
		return L45_ERROR;
	l45_repeat(msg);
	return l45_remove(msg, 0, sizeof(struct tag)) ? L45_ERROR : L45_DONE;
}

L45_STREAM_MODULE(stream_tag, L45_STREAM_HEAD, SIGNATURE, send, recv)
