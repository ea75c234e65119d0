// SPDX-License-Identifier: GPL-2.0
/* Runs a module's callbacks on datagrams (l45_user.h). */
#include <attach.h>

#include "l45_user.h"

/* Room at each end. wire/manifest.py allows a module a growth of 1400 bytes. */
#define ROOM 1536

static int give(const struct l45_msg *msg, __u8 *out, __u32 *out_size, enum l45_verdict verdict)
{
	__u32 length = verdict == L45_DROP ? 0 : msg->visible;

	if (length > *out_size)
		return -ENOBUFS;
	if (length)
		memcpy(out, l45_at(msg, 0), length);
	*out_size = length;
	return verdict;
}

/* The module's answer, as far as it kept to the SDK's rules. */
static enum l45_verdict ask(struct l45_msg *msg, enum l45_direction direction)
{
	const struct l45_module *module = msg->instance->module;
	enum l45_verdict verdict = direction == L45_SEND ? module->send(msg) : module->recv(msg);

	switch (l45_after(verdict, msg->changed)) {
	case L45_DISCARD:
	case L45_SPOILT:
		return L45_DROP;
	case L45_FAIL:
		return L45_ERROR;
	default:
		return verdict;
	}
}

static int run(struct l45_msg *msg, enum l45_direction direction, const __u8 *in, __u8 *out,
	       __u32 *out_size)
{
	int result;

	msg->buffer = malloc(msg->size);
	if (!msg->buffer)
		return -ENOMEM;
	if (msg->visible)
		memcpy(l45_at(msg, 0), in, msg->visible);
	result = give(msg, out, out_size, ask(msg, direction));
	free(msg->buffer);
	return result;
}

int l45_user_run(const struct l45_module *module, const struct l45_user_context *context,
		 enum l45_direction direction, const __u8 *in, __u32 in_size, __u8 *out,
		 __u32 *out_size)
{
	struct l45_instance instance = { .module = module };
	char process[L45_NAME_SIZE] = { 0 };
	__u64 state = 0;
	struct l45_msg msg = {
		.instance = &instance,
		.process = process,
		.state = &state,
		.size = ROOM + in_size + ROOM,
		.start = ROOM,
		.visible = in_size,
		.limit = context->limit ? context->limit : L45_MESSAGE_MAX,
	};

	if (module->kind != L45_DATAGRAM || (direction != L45_SEND && direction != L45_RECV) ||
	    context->parameters_size > sizeof(instance.parameters))
		return -EINVAL;
	if (in_size > msg.limit || in_size > L45_MESSAGE_MAX)
		return -EMSGSIZE;
	if (context->process)
		memcpy(process, context->process, strnlen(context->process, L45_NAME_SIZE - 1));
	if (context->parameters_size)
		memcpy(instance.parameters, context->parameters, context->parameters_size);
	instance.parameters_size = context->parameters_size;
	return run(&msg, direction, in, out, out_size);
}
