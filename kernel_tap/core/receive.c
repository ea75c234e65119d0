// SPDX-License-Identifier: GPL-2.0
/* The receive side of a framed stream: what the peer's application wrote (states.h). */
#include "receiver.h"

/* What of the wire is not looked at yet. */
struct wire {
	__u8 *at;
	__u32 size;
};

static __u8 *take(struct wire *wire, __u32 size)
{
	__u8 *taken = wire->at;

	wire->at += size;
	wire->size -= size;
	return taken;
}

static __u8 *collect_in(struct l45_receiver *rx, struct wire *wire, __u32 need, __u8 *store)
{
	__u32 more = l45_min(need - rx->got, wire->size);

	memcpy(store + rx->got, take(wire, more), more);
	rx->got += more;
	if (rx->got < need)
		return NULL;
	rx->got = 0;
	return store;
}

/* The next `need` bytes: on the wire where all are there, else collected in `store`; NULL: not yet
 * complete. */
static inline __u8 *collect(struct l45_receiver *rx, struct wire *wire, __u32 need, __u8 *store)
{
	if (!rx->got && wire->size >= need && !rx->shared)
		return take(wire, need);
	return collect_in(rx, wire, need, store);
}

static void expect_rest(struct l45_receiver *rx, __u32 size)
{
	rx->rest = size;
	rx->part = size ? L45_PART_REST : L45_PART_HEADER;
}

static void count_received(struct l45_attached_stream *attached, __u32 size)
{
	attached->counts.received++;
	attached->counts.received_bytes += size;
}

static int begin_data(struct l45_flow *flow, struct l45_header header)
{
	struct l45_receiver *rx = &flow->rx;

	if (rx->in_use->module->kind == L45_STREAM_HEAD) {
		expect_rest(rx, header.length - header.head);
		if (header.head)
			rx->part = L45_PART_HEAD;
		else
			count_received(l45_flow_find(flow, rx->in_use), header.length);
		return 0;
	}
	if (header.head)
		return l45_receive_broken(flow, L45_FAULT_FRAME);
	if (header.length > L45_WHOLE_MAX)
		return l45_receive_broken(flow, L45_FAULT_TOO_LONG);
	if (header.length)
		rx->part = L45_PART_WHOLE;
	return 0;
}

static void end_stream(struct l45_flow *flow)
{
	struct l45_receiver *rx = &flow->rx;

	l45_receive_step(flow, L45_RECEIVED_END);
	rx->in_use = NULL;
	rx->known_size = 0;
	rx->end_until = 0;
	if (rx->armed)
		l45_receive_step(flow, L45_RECEIVE_ARMED);
}

static int parse_header(struct l45_flow *flow, struct wire *wire)
{
	struct l45_receiver *rx = &flow->rx;
	__u8 *bytes = collect(rx, wire, L45_HEADER_SIZE, rx->unit);

	if (!bytes)
		return 0;
	rx->header = l45_get_header(bytes);
	if (!l45_is_frame(rx->header))
		return l45_receive_broken(flow, L45_FAULT_FRAME);
	switch (rx->header.type) {
	case L45_FRAME_DATA:
		return begin_data(flow, rx->header);
	case L45_FRAME_PLAIN:
		expect_rest(rx, rx->header.length);
		break;
	case L45_FRAME_SWITCH:
		rx->part = L45_PART_NAME;
		break;
	case L45_FRAME_END:
		rx->changes++;
		end_stream(flow);
		break;
	}
	return 0;
}

/* As it came, for its module may change it: that it is known is said afterwards. */
static void remember_head(struct l45_receiver *rx, const __u8 *bytes, __u32 size)
{
	rx->known_size = 0;
	if (rx->in_use->module->kind != L45_STREAM_HEAD ||
	    size > sizeof(rx->known) - L45_HEADER_SIZE || size < L45_HEADER_SIZE)
		return;
	l45_put_header(rx->known, rx->header);
	memcpy(rx->known + L45_HEADER_SIZE, bytes, size);
	rx->known_size = L45_HEADER_SIZE + size;
	rx->known_body = rx->header.length - size;
}

/* The module works on `size` bytes in place; `hidden` bytes of the message are not there. */
static int restore(struct l45_flow *flow, __u8 *bytes, __u32 size, __u32 hidden,
		   struct l45_span *app)
{
	struct l45_attached_stream *attached = l45_flow_find(flow, flow->rx.in_use);
	struct l45_msg msg = {
		.instance = flow->rx.in_use,
		.process = flow->process,
		.state = &attached->state[1],
		.buffer = bytes,
		.size = size,
		.visible = size,
		.hidden = hidden,
		.limit = size + hidden,
	};
	__u64 state = attached->state[1];
	enum l45_verdict verdict;

	remember_head(&flow->rx, bytes, size);
	verdict = flow->rx.in_use->module->recv(&msg);
	if (l45_after(verdict, msg.changed) != L45_FINISH) {
		attached->counts.errors++;
		return l45_receive_broken(flow, L45_FAULT_MODULE);
	}
	if (!msg.repeats || msg.visible || state != attached->state[1])
		flow->rx.known_size = 0;
	count_received(attached, l45_len(&msg));
	l45_give(app, l45_at(&msg, 0), msg.visible);
	return 0;
}

static int parse_head(struct l45_flow *flow, struct wire *wire, struct l45_span *app)
{
	struct l45_receiver *rx = &flow->rx;
	__u8 *bytes = collect(rx, wire, rx->header.head, rx->unit);

	if (!bytes)
		return 0;
	rx->part = rx->rest ? L45_PART_REST : L45_PART_HEADER;
	return restore(flow, bytes, rx->header.head, rx->rest, app);
}

static void parse_rest(struct l45_receiver *rx, struct wire *wire, struct l45_span *app)
{
	__u32 size = l45_min(rx->rest, wire->size);

	l45_give(app, take(wire, size), size);
	l45_prefetch(wire->at, wire->size);
	expect_rest(rx, rx->rest - size);
}

static int parse_whole(struct l45_flow *flow, struct wire *wire, struct l45_span *app)
{
	struct l45_receiver *rx = &flow->rx;
	__u8 *bytes;

	if (!rx->whole && (wire->size < rx->header.length || rx->shared)) {
		rx->whole = l45_allocate(L45_WHOLE_MAX);
		if (!rx->whole)
			return l45_receive_broken(flow, L45_FAULT_MEMORY);
	}
	bytes = collect(rx, wire, rx->header.length, rx->whole);
	if (!bytes)
		return 0;
	rx->part = L45_PART_HEADER;
	return restore(flow, bytes, rx->header.length, 0, app);
}

static int parse_name(struct l45_flow *flow, struct wire *wire)
{
	struct l45_receiver *rx = &flow->rx;
	__u8 *bytes = collect(rx, wire, L45_NAMED_SIZE, rx->unit);

	if (!bytes)
		return 0;
	for (__u32 i = 0; i < flow->count; i++) {
		const struct l45_attached_stream *attached = &flow->attached[i];

		if (!(attached->switches & L45_MAY_RECEIVE) || !l45_is_framed(attached) ||
		    !l45_is_named(bytes, attached->instance))
			continue;
		l45_receive_step(flow, L45_RECEIVED_FRAME);
		rx->changes++;
		rx->in_use = attached->instance;
		rx->known_size = 0;
		rx->part = L45_PART_HEADER;
		return 0;
	}
	return l45_receive_broken(flow, L45_FAULT_UNKNOWN);
}

static int parse_part(struct l45_flow *flow, struct wire *wire, struct l45_span *app)
{
	switch (flow->rx.part) {
	case L45_PART_HEADER:
		return parse_header(flow, wire);
	case L45_PART_HEAD:
		return parse_head(flow, wire, app);
	case L45_PART_REST:
		parse_rest(&flow->rx, wire, app);
		return 0;
	case L45_PART_WHOLE:
		return parse_whole(flow, wire, app);
	default:
		return parse_name(flow, wire);
	}
}

static int parse(struct l45_flow *flow, __u8 *bytes, __u32 size, struct l45_span *app)
{
	struct wire wire = { .at = bytes, .size = size };
	int error = 0;

	while (wire.size && !app->size && flow->rx.state == L45_RECEIVE_FRAMED && !error)
		error = parse_part(flow, &wire, app);
	return error ? error : (int)(size - wire.size);
}

static void release_whole(struct l45_receiver *rx)
{
	if (rx->part == L45_PART_WHOLE)
		return;
	l45_release(rx->whole);
	rx->whole = NULL;
}

int l45_receive(struct l45_flow *flow, __u8 *wire, __u32 size, struct l45_span *app)
{
	struct l45_receiver *rx = &flow->rx;

	l45_give(app, NULL, 0);
	if (rx->whole)
		release_whole(rx);
	if (rx->given_size) {
		l45_forget_given(rx);
		if (l45_has_given(rx)) {
			l45_take_given(rx, app);
			return 0;
		}
	}
	switch (rx->state) {
	case L45_RECEIVE_LOOK:
		return size ? l45_look(flow, wire, size, app) : 0;
	case L45_RECEIVE_PLAIN:
		l45_give(app, wire, size);
		return size;
	case L45_RECEIVE_FRAMED:
		return parse(flow, wire, size, app);
	default:
		return rx->fault == L45_FAULT_MEMORY ? -ENOMEM : -EPROTO;
	}
}

__u32 l45_receive_verbatim(const struct l45_flow *flow)
{
	const struct l45_receiver *rx = &flow->rx;

	if (l45_has_given(rx))
		return 0;
	if (rx->state == L45_RECEIVE_PLAIN)
		return ~0u;
	return rx->state == L45_RECEIVE_FRAMED && rx->part == L45_PART_REST ? rx->rest : 0;
}

void l45_receive_passed(struct l45_flow *flow, __u32 size)
{
	if (flow->rx.state == L45_RECEIVE_FRAMED)
		expect_rest(&flow->rx, flow->rx.rest - size);
}

int l45_receive_runs(const struct l45_flow *flow)
{
	const struct l45_receiver *rx = &flow->rx;

	return rx->state == L45_RECEIVE_FRAMED && rx->part == L45_PART_HEADER && !rx->got &&
	       rx->in_use->module->kind == L45_STREAM_HEAD && !l45_has_given(rx);
}

void l45_receive_ran(struct l45_flow *flow, __u32 frames, __u32 bytes, __u32 rest)
{
	struct l45_attached_stream *attached = l45_flow_find(flow, flow->rx.in_use);

	attached->counts.received += frames;
	attached->counts.received_bytes += bytes;
	expect_rest(&flow->rx, rest);
}

__u32 l45_receive_needs(const struct l45_flow *flow)
{
	const struct l45_receiver *rx = &flow->rx;

	if (rx->state == L45_RECEIVE_LOOK)
		return rx->held ? L45_MARK_SIZE - rx->held : 0;
	if (rx->state != L45_RECEIVE_FRAMED)
		return 0;
	switch (rx->part) {
	case L45_PART_HEADER:
		return L45_HEADER_SIZE - rx->got;
	case L45_PART_HEAD:
		return rx->header.head - rx->got;
	case L45_PART_WHOLE:
		return rx->header.length - rx->got;
	case L45_PART_NAME:
		return L45_NAMED_SIZE - rx->got;
	default:
		return 0;
	}
}

int l45_receive_end(struct l45_flow *flow, struct l45_span *app)
{
	struct l45_receiver *rx = &flow->rx;

	l45_give(app, NULL, 0);
	l45_forget_given(rx);
	if (rx->state == L45_RECEIVE_FRAMED) {
		if (rx->part != L45_PART_HEADER || rx->got)
			return l45_receive_broken(flow, L45_FAULT_CUT);
		end_stream(flow); /* a silent peer is one that could still speak */
	}
	l45_stop_looking(flow);
	if (l45_has_given(rx))
		l45_take_given(rx, app);
	return 0;
}
