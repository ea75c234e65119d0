// SPDX-License-Identifier: GPL-2.0
/*
 * The receive side before a stream is framed: looking for the start mark (states.h).
 *
 * What could be the begin of a mark is held in `rx->mark`; `rx->shown` bytes of it the application
 * has already, because they were held too long.
 */
#include "receiver.h"

enum likeness {
	NO_MARK,
	BEGIN_OF_MARK,
	MARK,
};

static int begins_like(const __u8 *bytes, __u32 size, enum l45_mark_kind kind, const __u8 *token,
		       const struct l45_instance *instance)
{
	__u8 mark[L45_MARK_SIZE];

	l45_put_mark(mark, kind, token, instance);
	return !memcmp(bytes, mark, size);
}

/* Are these bytes, at most L45_MARK_SIZE, a mark that the flow is ready for, or the begin of one?
 */
static enum likeness compare(struct l45_flow *flow, const __u8 *bytes, __u32 size,
			     struct l45_attached_stream **found)
{
	const struct l45_receiver *rx = &flow->rx;

	for (__u32 i = 0; i < flow->count; i++) {
		struct l45_attached_stream *attached = &flow->attached[i];
		const struct l45_instance *instance = attached->instance;

		if (!(attached->switches & L45_MAY_RECEIVE) || !l45_is_framed(attached))
			continue;
		if ((rx->first &&
		     begins_like(bytes, size, L45_MARK_NEW, instance->token, instance)) ||
		    (rx->armed && begins_like(bytes, size, L45_MARK_LIVE, flow->token, instance))) {
			*found = attached;
			return size == L45_MARK_SIZE ? MARK : BEGIN_OF_MARK;
		}
	}
	return NO_MARK;
}

static void forget_held(struct l45_receiver *rx, __u32 size)
{
	rx->held -= size;
	rx->shown = rx->shown > size ? rx->shown - size : 0;
	memmove(rx->mark, rx->mark + size, rx->held);
}

/* The first `size` of the held bytes. */
static void hand_over_held(struct l45_receiver *rx, __u32 size)
{
	if (size <= rx->shown)
		return;
	memcpy(rx->given + rx->given_size, rx->mark + rx->shown, size - rx->shown);
	rx->given_size += size - rx->shown;
	rx->shown = size;
}

static void stop_looking_in_vain(struct l45_flow *flow)
{
	if (flow->rx.state == L45_RECEIVE_LOOK && !flow->rx.first && !flow->rx.armed)
		l45_receive_step(flow, L45_RECEIVED_OTHER);
}

void l45_receive_reconsider(struct l45_flow *flow)
{
	struct l45_receiver *rx = &flow->rx;
	struct l45_attached_stream *found;

	while (rx->held && compare(flow, rx->mark, rx->held, &found) == NO_MARK) {
		hand_over_held(rx, 1);
		forget_held(rx, 1);
		rx->first = 0;
	}
	stop_looking_in_vain(flow);
}

void l45_stop_looking(struct l45_flow *flow)
{
	flow->rx.first = 0;
	flow->rx.armed = 0;
	l45_receive_reconsider(flow);
}

static void open_stream(struct l45_flow *flow, const struct l45_attached_stream *found, int live)
{
	struct l45_receiver *rx = &flow->rx;

	l45_receive_step(flow, L45_RECEIVED_MARK);
	rx->in_use = found->instance;
	rx->known_size = 0;
	rx->part = L45_PART_HEADER;
	rx->changes++;
	rx->first = 0;
	rx->held = 0;
	rx->shown = 0;
	for (__u32 i = 0; i < flow->count; i++)
		flow->attached[i].state[1] = 0;
	if (live) {
		/* The peer would not have sent it before it looked for ours. */
		if (READ_ONCE(flow->tx.armed))
			WRITE_ONCE(flow->tx.go, 1);
		rx->armed = 0;
	} else {
		WRITE_ONCE(rx->opened, 1);
	}
}

static int is_live(const __u8 mark[L45_MARK_SIZE])
{
	return mark[L45_MARK_KIND] == L45_MARK_LIVE;
}

/* How many bytes stand before what can be a mark. */
static __u32 find_mark(struct l45_flow *flow, const __u8 *wire, __u32 size)
{
	struct l45_attached_stream *found;
	const __u8 *at = wire, *end = wire + size;

	while ((at = memchr(at, L45_MARK_BEGIN, end - at))) {
		if (at > wire)
			flow->rx.first = 0;
		if (compare(flow, at, l45_min(end - at, L45_MARK_SIZE), &found) != NO_MARK)
			return at - wire;
		flow->rx.first = 0;
		if (!flow->rx.armed || ++at == end)
			break;
	}
	return size;
}

/* Some of the mark's begin was there before. */
static int go_on_looking(struct l45_flow *flow, const __u8 *wire, __u32 size)
{
	struct l45_receiver *rx = &flow->rx;
	struct l45_attached_stream *found;
	__u32 used = 0;

	while (used < size) {
		rx->mark[rx->held++] = wire[used++];
		switch (compare(flow, rx->mark, rx->held, &found)) {
		case BEGIN_OF_MARK:
			break;
		case MARK:
			if (rx->shown)
				return l45_receive_broken(flow, L45_FAULT_LATE);
			open_stream(flow, found, is_live(rx->mark));
			return used;
		case NO_MARK:
			l45_receive_reconsider(flow);
			return used;
		}
	}
	return used;
}

static int start_looking(struct l45_flow *flow, const __u8 *wire, __u32 size, struct l45_span *app)
{
	struct l45_receiver *rx = &flow->rx;
	struct l45_attached_stream *found;
	__u32 before = find_mark(flow, wire, size);

	if (before) {
		rx->first = 0;
		l45_give(app, wire, before);
		stop_looking_in_vain(flow);
		return before;
	}
	size = l45_min(size, L45_MARK_SIZE);
	if (compare(flow, wire, size, &found) == MARK) {
		open_stream(flow, found, is_live(wire));
		return size;
	}
	memcpy(rx->mark, wire, size);
	rx->held = size;
	return size;
}

void l45_take_given(struct l45_receiver *rx, struct l45_span *app)
{
	l45_give(app, rx->given + rx->given_taken, rx->given_size - rx->given_taken);
	rx->given_taken = rx->given_size;
}

void l45_forget_given(struct l45_receiver *rx)
{
	rx->given_size -= rx->given_taken;
	memmove(rx->given, rx->given + rx->given_taken, rx->given_size);
	rx->given_taken = 0;
}

int l45_look(struct l45_flow *flow, const __u8 *wire, __u32 size, struct l45_span *app)
{
	struct l45_receiver *rx = &flow->rx;
	int used =
		rx->held ? go_on_looking(flow, wire, size) : start_looking(flow, wire, size, app);

	if (used < 0)
		return used;
	/* What follows may complete it: it has not waited before that is looked at. */
	if (rx->late && (__u32)used == size)
		hand_over_held(rx, rx->held);
	if (l45_has_given(rx))
		l45_take_given(rx, app);
	return used;
}

/* The peer was told to end, and had its time. */
static void lose_patience(struct l45_flow *flow)
{
	flow->rx.end_until = 0;
	/* Else go on: its mark, and its end behind it, may still be on their way. */
	if (flow->rx.state == L45_RECEIVE_FRAMED)
		l45_receive_broken(flow, L45_FAULT_SILENT);
}

/* When what is held has been held too long; 0: nothing is. A new stream's mark has a time of its
 * own, even if a window was over before its first byte came. */
static __u64 patience_ends(struct l45_flow *flow, __u64 now)
{
	struct l45_receiver *rx = &flow->rx;
	__u64 window_until = rx->armed ? flow->window_until : 0;

	if (!rx->first)
		return window_until;
	if (!rx->held)
		return 0;
	if (!rx->hold_until)
		rx->hold_until = now + L45_HOLD_NS;
	return rx->hold_until > window_until ? rx->hold_until : window_until;
}

__u64 l45_receive_tick(struct l45_flow *flow, __u64 now)
{
	struct l45_receiver *rx = &flow->rx;
	__u64 next = 0;

	if (rx->end_until && now >= rx->end_until)
		lose_patience(flow);
	if (rx->state == L45_RECEIVE_LOOK && !rx->late)
		next = patience_ends(flow, now);
	if (next && now >= next) {
		rx->late = 1;
		hand_over_held(rx, rx->held);
		next = 0;
	}
	return l45_earlier(next, rx->end_until);
}
