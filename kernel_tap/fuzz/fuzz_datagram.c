// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target of a datagram module: `send` and `recv` of any bytes, any parameters, process name
 * and limit. MODULE, GROWTH and LOSSY are the module's and its manifest's.
 */
#include <l45_user.h>

#include "fuzz.h"

extern const struct l45_module MODULE;

/* A message behind a verdict. */
struct result {
	int verdict;
	__u32 size;
	__u8 bytes[L45_MESSAGE_MAX];
};

static enum l45_verdict checked(struct l45_msg *msg, l45_callback callback)
{
	enum l45_verdict verdict = callback(msg);

	CHECK(verdict <= L45_ERROR);
	CHECK(verdict == L45_DONE || verdict == L45_DROP || !msg->changed);
	return verdict;
}

static enum l45_verdict checked_send(struct l45_msg *msg)
{
	return checked(msg, MODULE.send);
}

static enum l45_verdict checked_recv(struct l45_msg *msg)
{
	return checked(msg, MODULE.recv);
}

static const struct l45_module module = {
	.kind = L45_DATAGRAM,
	.send = checked_send,
	.recv = checked_recv,
};

static void run(const struct l45_user_context *context, enum l45_direction direction,
		const __u8 *in, __u32 in_size, struct result *result)
{
	result->size = sizeof(result->bytes);
	result->verdict = l45_user_run(&module, context, direction, in, in_size, result->bytes,
				       &result->size);
	if (context->limit && in_size > context->limit) {
		CHECK(result->verdict == -EMSGSIZE);
		return;
	}
	CHECK(result->verdict >= 0);
	if (result->verdict == L45_DROP)
		CHECK(!result->size);
	else if (result->verdict != L45_DONE)
		CHECK(result->size == in_size && !memcmp(result->bytes, in, in_size));
	CHECK(!context->limit || result->size <= context->limit);
}

static void check_sent(struct l45_user_context *context, const __u8 *in, __u32 in_size)
{
	static struct result sent, received, again;

	run(context, L45_SEND, in, in_size, &sent);
	if (sent.verdict != L45_DONE)
		return;
	CHECK(sent.size <= in_size + GROWTH);
	context->limit = 0; /* of the path, which ends here */
	run(context, L45_RECV, sent.bytes, sent.size, &received);
	CHECK(received.verdict == L45_DONE);
	if (LOSSY) {
		/* What it did keep, it keeps. */
		run(context, L45_SEND, received.bytes, received.size, &again);
		CHECK(again.verdict == L45_DONE && again.size == sent.size &&
		      !memcmp(again.bytes, sent.bytes, sent.size));
	} else {
		CHECK(received.size == in_size && !memcmp(received.bytes, in, in_size));
	}
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size)
{
	static struct result received;
	struct input input = { .bytes = bytes, .size = size };
	__u8 receives = choose(&input), parameters[L45_PARAMETERS_MAX];
	char process[L45_NAME_SIZE];
	struct l45_user_context context = { .process = process, .parameters = parameters };

	choose_text(&input, process, sizeof(process));
	context.parameters_size = choose(&input) % (sizeof(parameters) + 1);
	choose_bytes(&input, parameters, context.parameters_size);
	context.limit = choose16(&input);
	if (input.size > L45_MESSAGE_MAX)
		return 0;
	if (receives & 1)
		run(&context, L45_RECV, input.bytes, input.size, &received);
	else
		check_sent(&context, input.bytes, input.size);
	return 0;
}
