// SPDX-License-Identifier: GPL-2.0
/* Written from docs/wire-format.md; shares nothing with the core but names and modules. */
#include "fuzz.h"
#include "model.h"

static void give(struct model *model, const __u8 *bytes, __u32 size)
{
	if (size)
		memcpy(model->app + model->app_size, bytes, size);
	model->app_size += size;
}

static int is_name(const __u8 *bytes, const struct l45_instance *instance)
{
	__u32 signature = instance->module->signature;

	return bytes[0] * 256 + bytes[1] == instance->epoch && bytes[2] == signature >> 24 &&
	       bytes[3] == (signature >> 16) % 256 && bytes[4] == (signature >> 8) % 256 &&
	       bytes[5] == signature % 256;
}

/* Do the bytes from `at` on, 20 or up to the last one, agree with this mark? */
static int agree(const struct model *model, __u32 at, char kind, const __u8 *token,
		 const struct l45_instance *instance)
{
	__u32 signature = instance->module->signature;
	__u8 mark[20] = { 0xf5, 'L', '4', '5', 1, kind };

	memcpy(mark + 6, token, 8);
	mark[14] = instance->epoch / 256;
	mark[15] = instance->epoch % 256;
	for (int i = 0; i < 4; i++)
		mark[16 + i] = signature >> (24 - 8 * i);
	for (__u32 i = 0; i < sizeof(mark) && at + i < model->size; i++)
		if (model->wire[at + i] != mark[i])
			return 0;
	return 1;
}

/* Whose mark stands, or could stand, at `at`. */
static const struct l45_instance *marked(const struct model *model, __u32 at, int *live)
{
	for (__u32 i = 0; i < model->count; i++) {
		const struct l45_instance *instance = model->ready[i];

		*live = model->armed && agree(model, at, 'L', model->armed, instance);
		if (*live ||
		    (model->is_new && !at && agree(model, 0, 'N', instance->token, instance)))
			return instance;
	}
	return NULL;
}

/* Hand over up to a mark; returns where the frames begin, and whose. */
static __u32 find_mark(struct model *model, __u32 from, const struct l45_instance **found)
{
	int live = 0;

	for (__u32 at = from; at < model->size; at++) {
		*found = marked(model, at, &live);
		if (*found && model->size - at >= 20) {
			if (live)
				model->armed = NULL;
			memset(model->states, 0, sizeof(model->states));
			return at + 20;
		}
		if (*found && !model->ended)
			return model->size;
		give(model, model->wire + at, 1);
	}
	*found = NULL;
	return model->size;
}

static const struct l45_instance *named(const struct model *model, const __u8 *name)
{
	for (__u32 i = 0; i < model->count; i++)
		if (is_name(name, model->ready[i]))
			return model->ready[i];
	return NULL;
}

static __u64 *state_of(struct model *model, const struct l45_instance *instance)
{
	__u32 i = 0;

	while (model->ready[i] != instance)
		i++;
	return &model->states[i];
}

/* What the module makes of `shown` bytes, with `hidden` bytes behind them. */
static enum l45_fault restore(struct model *model, const struct l45_instance *by, const __u8 *bytes,
			      __u32 shown, __u32 hidden)
{
	__u8 *copy = malloc(shown);
	struct l45_msg msg = {
		.instance = by,
		.process = "",
		.state = state_of(model, by),
		.buffer = copy,
		.size = shown,
		.visible = shown,
		.hidden = hidden,
		.limit = shown + hidden,
	};
	enum l45_verdict verdict;

	memcpy(copy, bytes, shown);
	verdict = by->module->recv(&msg);
	if (verdict == L45_DONE)
		give(model, copy + msg.start, msg.visible);
	free(copy);
	return verdict == L45_DONE ? L45_FAULT_NONE : L45_FAULT_MODULE;
}

static enum l45_fault check(const struct l45_instance *current, const __u8 *header)
{
	__u32 head = header[1], length = header[2] * 256 + header[3];
	int holds = current->module->kind == L45_STREAM_WHOLE;

	switch (header[0]) {
	case 'D':
		if (head > length || (head && holds))
			return L45_FAULT_FRAME;
		return length > 17920 && holds ? L45_FAULT_TOO_LONG : L45_FAULT_NONE;
	case 'P':
		return head || !length ? L45_FAULT_FRAME : L45_FAULT_NONE;
	case 'S':
		return head || length != 6 ? L45_FAULT_FRAME : L45_FAULT_NONE;
	case 'E':
		return head || length ? L45_FAULT_FRAME : L45_FAULT_NONE;
	default:
		return L45_FAULT_FRAME;
	}
}

/* The data of one frame; what is missing of it makes no difference to what comes first. */
static enum l45_fault data(struct model *model, const struct l45_instance *current,
			   const __u8 *header, const __u8 *content, __u32 there)
{
	__u32 length = header[2] * 256 + header[3];
	__u32 shown = current->module->kind == L45_STREAM_WHOLE ? length : header[1];
	enum l45_fault fault;

	if (there < shown)
		return L45_FAULT_NONE;
	if (shown) {
		fault = restore(model, current, content, shown, length - shown);
		if (fault)
			return fault;
	}
	give(model, content + shown, there - shown);
	return L45_FAULT_NONE;
}

/* The frames from `at` on, up to an end frame; returns where it ends. */
static __u32 frames(struct model *model, __u32 at, const struct l45_instance *current,
		    enum l45_fault *fault)
{
	while (at < model->size) {
		const __u8 *header = model->wire + at, *content = header + 4;
		__u32 left = model->size - at, length, there;

		if (left >= 4)
			*fault = check(current, header);
		if (left < 4 || *fault)
			break;
		length = header[2] * 256 + header[3];
		there = left - 4 < length ? left - 4 : length;
		if (header[0] == 'E')
			return at + 4;
		if (header[0] == 'P')
			give(model, content, there);
		if (header[0] == 'D')
			*fault = data(model, current, header, content, there);
		if (header[0] == 'S' && there == length) {
			current = named(model, content);
			*fault = current ? L45_FAULT_NONE : L45_FAULT_UNKNOWN;
		}
		if (*fault || there < length)
			break;
		at += 4 + length;
	}
	if (!*fault && at < model->size && model->ended)
		*fault = L45_FAULT_CUT;
	return model->size;
}

enum l45_fault model_receive(struct model *model)
{
	enum l45_fault fault = L45_FAULT_NONE;
	const struct l45_instance *found;
	__u32 at = 0;

	model->app_size = 0;
	while (at < model->size && !fault) {
		at = find_mark(model, at, &found);
		if (found)
			at = frames(model, at, found, &fault);
	}
	return fault;
}
