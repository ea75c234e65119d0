// SPDX-License-Identifier: GPL-2.0
/* The send side of a stream: frames of what the application writes (states.h). */
#include "stream.h"

/* What the application offers in one call. */
struct offer {
	l45_copy copy;
	void *source;
	__u32 size;
};

/* What became of it. */
struct outcome {
	struct l45_attached_stream *by; /* who acts on it; NULL: it passes unchanged */
	int repeats;			/* and would on what follows, without being asked */
	struct l45_msg msg;
	__u32 taken; /* of the offer */
};

static int may_send(const struct l45_attached_stream *attached)
{
	return attached->switches & L45_MAY_SEND && !attached->left;
}

/* Receiving may say so just when our mark has gone: it counts only while armed, for a second mark
 * would be payload to the peer. */
static int is_our_turn(const struct l45_flow *flow)
{
	return flow->tx.armed && READ_ONCE(flow->tx.go);
}

/* Whether the stream can begin with this customization now. */
static int can_open(const struct l45_flow *flow, const struct l45_attached_stream *attached)
{
	if (is_our_turn(flow))
		return 1;
	if (flow->tx.state != L45_SEND_NEW)
		return 0;
	return flow->role == L45_CONNECT ? attached->opens : READ_ONCE(flow->rx.opened);
}

static int can_frame(const struct l45_flow *flow, const struct l45_attached_stream *attached)
{
	return may_send(attached) && l45_is_framed(attached) &&
	       (flow->tx.state == L45_SEND_FRAMED || can_open(flow, attached));
}

/* What the stream should be framed with while nobody new acts; NULL: plain. */
static const struct l45_instance *settled(struct l45_flow *flow)
{
	struct l45_attached_stream *now = l45_flow_find(flow, flow->tx.in_use);

	if (now && may_send(now))
		return flow->tx.in_use;
	for (__u32 i = 0; i < flow->count; i++)
		if (can_frame(flow, &flow->attached[i]))
			return flow->attached[i].instance;
	return NULL;
}

static int broken(struct l45_flow *flow, enum l45_fault fault)
{
	flow->tx.state = l45_send_next[flow->tx.state][L45_SEND_FAULT];
	flow->tx.fault = fault;
	flow->tx.in_use = NULL;
	return -EPIPE;
}

static void step(struct l45_flow *flow, enum l45_send_event event)
{
	flow->tx.state = l45_send_next[flow->tx.state][event];
}

/*
 * Frames are written from back to front: a module's head ends where the frame's room ends, in front
 * of it stands the header, in front of that what changes the customization.
 */

static void start_frame(struct l45_frame *frame)
{
	frame->head = frame->room + sizeof(frame->room);
	frame->head_size = 0;
	frame->body = NULL;
	frame->body_size = 0;
	frame->taken = 0;
	frame->delay_ms = 0;
	frame->again_head = 0;
}

static __u8 *prepend(struct l45_frame *frame, __u32 size)
{
	frame->head -= size;
	frame->head_size += size;
	return frame->room + (frame->head - frame->room);
}

static void prepend_header(struct l45_frame *frame, enum l45_frame_type type, __u8 head,
			   __u16 length)
{
	struct l45_header header = { .type = type, .head = head, .length = length };

	l45_put_header(prepend(frame, L45_HEADER_SIZE), header);
}

static void prepend_mark(struct l45_flow *flow, const struct l45_instance *to,
			 struct l45_frame *frame)
{
	__u8 *mark = prepend(frame, L45_MARK_SIZE);

	if (is_our_turn(flow)) {
		l45_put_mark(mark, L45_MARK_LIVE, flow->token, to);
		flow->tx.go = 0;
		flow->tx.armed = 0;
	} else {
		l45_put_mark(mark, L45_MARK_NEW, to->token, to);
	}
	step(flow, L45_SENT_MARK);
}

/* What modules keep begins with 0 on each stream, as it does at the receiver with each mark. */
static void forget_states(struct l45_flow *flow)
{
	for (__u32 i = 0; i < flow->count; i++)
		if (l45_is_framed(&flow->attached[i]))
			flow->attached[i].state[0] = 0;
}

/* From the customization that the receiver decodes with to another; NULL is none. */
static void change_to(struct l45_flow *flow, const struct l45_instance *to, struct l45_frame *frame)
{
	const struct l45_instance *from = flow->tx.in_use;

	if (!from) {
		prepend_mark(flow, to, frame);
	} else if (to) {
		l45_put_name(prepend(frame, L45_NAMED_SIZE), to);
		prepend_header(frame, L45_FRAME_SWITCH, 0, L45_NAMED_SIZE);
		step(flow, L45_SENT_FRAME);
	} else {
		prepend_header(frame, L45_FRAME_END, 0, 0);
		step(flow, L45_SENT_END);
		forget_states(flow);
	}
	flow->tx.in_use = to;
	flow->tx.changes++;
}

static inline void change(struct l45_flow *flow, const struct l45_instance *to,
			  struct l45_frame *frame)
{
	if (flow->tx.in_use != to)
		change_to(flow, to, frame);
}

/* A message of `size` bytes of which nothing can be seen, nor can it grow. Filled in place: a copy
 * of a structure that was just written waits for the writes. */
static void start_message(struct l45_msg *msg, struct l45_flow *flow,
			  struct l45_attached_stream *attached, __u32 size)
{
	memset(msg, 0, sizeof(*msg));
	msg->instance = attached->instance;
	msg->process = flow->process;
	msg->state = &attached->state[0];
	msg->hidden = size;
	msg->limit = size;
	msg->taken = size;
}

/* Of the application's bytes that are offered, what a frame may have. */
static __u32 framed_at_most(const struct l45_flow *flow, __u32 size, __u32 most)
{
	if (flow->tx.limit)
		most = l45_min(most, flow->tx.limit);
	return l45_min(size, most);
}

static void show_head(struct l45_msg *msg, struct l45_frame *frame)
{
	msg->limit = L45_CONTENT_MAX;
	msg->buffer = frame->room + sizeof(frame->room) - L45_HEAD_MAX;
	msg->size = L45_HEAD_MAX;
	msg->start = L45_HEAD_MAX;
	msg->divisible = 1;
}

static int show_whole(struct l45_msg *msg, struct l45_frame *frame, const struct offer *offer)
{
	msg->limit = L45_WHOLE_MAX;
	msg->buffer = frame->buffer;
	msg->size = L45_WHOLE_MAX;
	msg->start = L45_ROOM;
	msg->visible = msg->hidden;
	msg->hidden = 0;
	msg->divisible = 1;
	return offer->copy(offer->source, l45_at(msg, 0), msg->visible);
}

/* The message as the module is shown it; negative where the application's bytes cannot be read. */
static int show(struct l45_flow *flow, struct l45_attached_stream *attached,
		const struct offer *offer, struct l45_frame *frame, struct l45_msg *msg)
{
	switch (attached->instance->module->kind) {
	case L45_STREAM_HEAD:
		start_message(msg, flow, attached,
			      framed_at_most(flow, offer->size, L45_HEAD_OFFER));
		show_head(msg, frame);
		return 0;
	case L45_STREAM_WHOLE:
		start_message(msg, flow, attached,
			      framed_at_most(flow, offer->size, L45_WHOLE_OFFER));
		return show_whole(msg, frame, offer);
	default:
		start_message(msg, flow, attached, offer->size);
		return 0;
	}
}

/* Who only watches answers for a whole write, and is not asked again for its later frames. */
static int has_watched(const struct l45_flow *flow, const struct l45_attached_stream *attached)
{
	return flow->tx.watched && !l45_is_framed(attached);
}

/* Ask in order; negative where nothing can be said. */
static int ask(struct l45_flow *flow, const struct offer *offer, struct l45_frame *frame,
	       struct outcome *outcome)
{
	int others = 0; /* who may take the next message */

	outcome->by = NULL;
	outcome->repeats = 0;
	outcome->taken = offer->size;
	for (__u32 i = 0; i < flow->count; i++) {
		struct l45_attached_stream *attached = &flow->attached[i];
		__u64 state = attached->state[0];
		enum l45_verdict verdict;
		int error;

		if (!may_send(attached))
			continue;
		if (l45_is_framed(attached) && !can_frame(flow, attached)) {
			others = 1;
			continue;
		}
		if (has_watched(flow, attached)) {
			outcome->by = attached;
			outcome->msg.delay_ms = 0;
			return 0;
		}
		error = show(flow, attached, offer, frame, &outcome->msg);
		if (error)
			return error;
		verdict = attached->instance->module->send(&outcome->msg);
		/* What it was not shown, it has not refused. */
		outcome->taken = l45_min(outcome->taken, outcome->msg.taken);
		switch (l45_after(verdict, outcome->msg.changed)) {
		case L45_FINISH:
			outcome->by = attached;
			outcome->repeats =
				outcome->msg.repeats && !others && state == attached->state[0];
			return 0;
		case L45_ASK:
			others = 1;
			attached->left = verdict == L45_LEAVE;
			attached->counts.passed++;
			break;
		case L45_FAIL:
			flow->tx.errors++;
			attached->counts.errors++;
			return 0;
		case L45_FORWARD:
			attached->counts.passed++;
			return 0;
		default:
			attached->counts.errors++;
			return broken(flow, L45_FAULT_MODULE);
		}
	}
	return 0;
}

/* The application's bytes as they are: in a frame where the stream is framed, or opens. */
static void pass(struct l45_flow *flow, __u32 size, struct l45_frame *frame)
{
	const struct l45_instance *to = settled(flow);

	/* Behind an end, too, for a tap copies what has a head. */
	if (to || flow->tx.in_use)
		size = framed_at_most(flow, size, L45_CONTENT_MAX);
	if (to)
		prepend_header(frame, L45_FRAME_PLAIN, 0, size);
	change(flow, to, frame);
	step(flow, to ? L45_SENT_FRAME : L45_SENT_PLAIN);
	frame->body_size = size;
	frame->taken = size;
}

/* What a module has made of them. */
static void carry(struct l45_flow *flow, const struct outcome *outcome, struct l45_frame *frame)
{
	const struct l45_msg *msg = &outcome->msg;

	if (outcome->by->instance->module->kind == L45_STREAM_HEAD) {
		prepend(frame, msg->visible);
		prepend_header(frame, L45_FRAME_DATA, msg->visible, l45_len(msg));
		frame->body_size = msg->hidden;
		if (outcome->repeats && !msg->delay_ms)
			frame->again_head = frame->head_size;
	} else {
		prepend_header(frame, L45_FRAME_DATA, 0, msg->visible);
		frame->body = l45_at(msg, 0);
		frame->body_size = msg->visible;
	}
	change(flow, outcome->by->instance, frame);
	step(flow, L45_SENT_FRAME);
	frame->taken = msg->taken;
}

static void count_sent(struct l45_attached_stream *by, __u32 messages, __u32 bytes)
{
	by->counts.sent += messages;
	by->counts.sent_bytes += bytes;
}

static void count_taken(struct l45_flow *flow, __u32 bytes)
{
	flow->tx.watched -= l45_min(flow->tx.watched, bytes);
	flow->tx.taken += bytes;
}

int l45_send(struct l45_flow *flow, l45_copy copy, void *source, __u32 size,
	     struct l45_frame *frame)
{
	struct offer offer = { .copy = copy, .source = source, .size = size };
	struct outcome outcome;
	int error;

	start_frame(frame);
	if (flow->tx.state == L45_SEND_BROKEN)
		return -EPIPE;
	if (!size)
		return -EINVAL;
	error = ask(flow, &offer, frame, &outcome);
	if (error)
		return error;
	if (outcome.by && l45_is_framed(outcome.by))
		carry(flow, &outcome, frame);
	else
		pass(flow, outcome.taken, frame);
	if (outcome.by) {
		count_sent(outcome.by, 1, frame->taken);
		frame->delay_ms = outcome.msg.delay_ms;
		if (!l45_is_framed(outcome.by) && !flow->tx.watched)
			flow->tx.watched = size;
	}
	count_taken(flow, frame->taken);
	return 0;
}

__u32 l45_send_again(struct l45_flow *flow, struct l45_frame *frame, __u32 size, __u32 space)
{
	__u32 count, most;

	if (!frame->again_head)
		return 0;
	count = size / frame->body_size;
	most = space / (frame->again_head + frame->body_size);
	count = l45_min(count, most);
	if (!count)
		return 0;
	frame->head += frame->head_size - frame->again_head;
	frame->head_size = frame->again_head;
	count_sent(l45_flow_find(flow, flow->tx.in_use), count, count * frame->body_size);
	count_taken(flow, count * frame->body_size);
	return count;
}

int l45_send_control(struct l45_flow *flow, struct l45_frame *frame)
{
	start_frame(frame);
	if (flow->tx.state == L45_SEND_BROKEN)
		return -EPIPE;
	/* The first bytes of a new stream bring its mark, and nothing before them. */
	if (flow->tx.state == L45_SEND_FRAMED || is_our_turn(flow))
		change(flow, settled(flow), frame);
	return frame->head_size > 0;
}

int l45_send_needs_buffer(const struct l45_flow *flow)
{
	for (__u32 i = 0; i < flow->count; i++)
		if (may_send(&flow->attached[i]) &&
		    flow->attached[i].instance->module->kind == L45_STREAM_WHOLE)
			return 1;
	return 0;
}
