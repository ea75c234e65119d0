// SPDX-License-Identifier: GPL-2.0
/* Runs a module's callbacks on messages: what build/user/NAME.so exports. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

/* The module's answer, as far as it kept to the SDK's rules. */
static enum l45_verdict ask(struct l45_msg *msg, enum l45_direction direction)
{
	l45_callback callback = direction == L45_SEND ? l45_module.send : l45_module.recv;
	enum l45_verdict verdict = callback(msg);

	if (verdict > L45_ERROR)
		verdict = L45_ERROR;
	return msg->changed && verdict != L45_DONE ? L45_DROP : verdict;
}

static int give(const struct l45_msg *msg, __u8 *out, __u32 *out_size, enum l45_verdict verdict)
{
	__u32 length = verdict == L45_DROP ? 0 : msg->length;

	if (length > *out_size)
		return -ENOBUFS;
	if (length)
		memcpy(out, msg->buffer + msg->start, length);
	*out_size = length;
	return verdict;
}

int l45_user_run(const struct l45_user_context *context, enum l45_direction direction,
		 const __u8 *in, __u32 in_size, __u8 *out, __u32 *out_size)
{
	struct l45_msg msg = { .context = context, .start = L45_ROOM, .length = in_size };
	int result;

	msg.limit = context->limit ? context->limit : L45_MESSAGE_MAX;
	if (direction != L45_SEND && direction != L45_RECV)
		return -EINVAL;
	if (in_size > msg.limit || in_size > L45_MESSAGE_MAX)
		return -EMSGSIZE;
	msg.size = L45_ROOM + in_size + L45_ROOM;
	msg.buffer = malloc(msg.size);
	if (!msg.buffer)
		return -ENOMEM;
	if (in_size)
		memcpy(msg.buffer + msg.start, in, in_size);
	result = give(&msg, out, out_size, ask(&msg, direction));
	free(msg.buffer);
	return result;
}
