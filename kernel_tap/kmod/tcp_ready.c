// SPDX-License-Identifier: GPL-2.0
/* Decoding what a customized TCP socket has received (tcp.h). */
#include <linux/mm.h>
#include <linux/uio.h>
#include <net/tcp.h>

#include "compat.h"
#include "flow.h"
#include "tcp.h"

struct l45_chunk {
	struct list_head node;
	u32 start, end;
	u8 bytes[L45_CHUNK_SIZE];
};

/* A stretch of a packet that lies in memory as it is. */
struct window {
	u32 start, end; /* offsets in the packet */
	const u8 *bytes;
};

/* Where decoded bytes go. */
struct sink {
	struct l45_tcp *t;
	struct window window;
	enum {
		TO_APPLICATION,
		TO_NOWHERE,
		TO_READY,
		ONLY_LOOK
	} way;
	struct iov_iter *to;
	u32 room;
	u32 done;
	int error;
};

static void found_one(struct sink *sink)
{
	sink->done = 1;
	sink->room = 0;
}

/*
 * What is ready.
 */

static struct l45_chunk *last_chunk(struct l45_tcp *t)
{
	struct l45_chunk *chunk =
		list_empty(&t->ready) ? NULL : list_last_entry(&t->ready, struct l45_chunk, node);

	if (chunk && chunk->end < L45_CHUNK_SIZE)
		return chunk;
	chunk = kmalloc(sizeof(*chunk), GFP_KERNEL_ACCOUNT);
	if (!chunk)
		return NULL;
	chunk->start = chunk->end = 0;
	list_add_tail(&chunk->node, &t->ready);
	return chunk;
}

static void drop_chunk(struct l45_chunk *chunk)
{
	list_del(&chunk->node);
	kfree(chunk);
}

void l45_tcp_drop_ready(struct l45_tcp *t)
{
	struct l45_chunk *chunk, *next;

	list_for_each_entry_safe(chunk, next, &t->ready, node)
		drop_chunk(chunk);
	t->ready_size = 0;
	t->span.size = 0;
}

/* How much of `size` was put; what could not be for want of memory stays where it is. */
static u32 make_bytes_ready(struct l45_tcp *t, const u8 *bytes, u32 size)
{
	u32 done = 0;

	while (done < size) {
		struct l45_chunk *chunk = last_chunk(t);
		u32 part;

		if (!chunk)
			break;
		part = min_t(u32, size - done, L45_CHUNK_SIZE - chunk->end);
		memcpy(chunk->bytes + chunk->end, bytes + done, part);
		chunk->end += part;
		done += part;
	}
	WRITE_ONCE(t->ready_size, t->ready_size + done);
	return done;
}

/* Some of what is ready to the application; returns how much. */
static int read_chunk(struct l45_tcp *t, struct sink *sink)
{
	struct l45_chunk *chunk = list_first_entry(&t->ready, struct l45_chunk, node);
	u32 size = min(sink->room, chunk->end - chunk->start);

	if (sink->way == TO_APPLICATION)
		size = _copy_to_iter(chunk->bytes + chunk->start, size, sink->to);
	chunk->start += size;
	WRITE_ONCE(t->ready_size, t->ready_size - size);
	if (chunk->start == chunk->end)
		drop_chunk(chunk);
	return size;
}

static u32 take_span(struct l45_tcp *t, struct sink *sink)
{
	u32 size = min(sink->room, t->span.size);

	if (sink->way == TO_APPLICATION)
		size = _copy_to_iter(t->span.data, size, sink->to);
	else if (sink->way == TO_READY)
		size = make_bytes_ready(t, t->span.data, size);
	t->span.data += size;
	t->span.size -= size;
	return size;
}

/* What was decoded before. */
static void drain_decoded(struct sink *sink)
{
	struct l45_tcp *t = sink->t;

	bool behind = sink->way == TO_READY; /* what is ready is where it should be */

	while (sink->room && !sink->error && (t->span.size || (t->ready_size && !behind))) {
		u32 done = t->ready_size && !behind ? read_chunk(t, sink) : take_span(t, sink);

		if (!done)
			sink->error = sink->way == TO_READY ? -ENOMEM : -EFAULT;
		sink->room -= done;
		sink->done += done;
	}
}

/*
 * What the transport has. A frame is short, a packet long: its parts are found once. Copies are not
 * checked as copy_to_iter() does it, for the bounds are those of the packet.
 */

static void open_window(struct window *window, u32 start, u32 size, const void *bytes)
{
	window->start = start;
	window->end = start + size;
	window->bytes = bytes;
}

/* The stretch with the byte at `offset`; the packet's own begins at `base`. */
static bool find(struct window *window, struct sk_buff *skb, u32 base, u32 offset)
{
	const struct skb_shared_info *shared = skb_shinfo(skb);
	u32 end = base + skb_headlen(skb);
	struct sk_buff *next;

	open_window(window, base, skb_headlen(skb), skb->data);
	for (int i = 0; offset >= end && i < shared->nr_frags; i++) {
		const skb_frag_t *frag = &shared->frags[i];

		open_window(window, end, skb_frag_size(frag), skb_frag_address(frag));
		end = window->end;
	}
	if (offset < end)
		return true;
	skb_walk_frags(skb, next)
	{
		if (offset < end + next->len)
			return find(window, next, end, offset);
		end += next->len;
	}
	return false;
}

/* The byte at `offset`, and how many lie behind it, of `size`; NULL: memory that cannot be read. */
static const u8 *look_at(struct sink *sink, struct sk_buff *skb, u32 offset, u32 *size)
{
	struct window *window = &sink->window;

	if ((offset < window->start || offset >= window->end) &&
	    (!l45_is_readable(skb) || !find(window, skb, 0, offset)))
		return NULL;
	*size = min(*size, window->end - offset);
	return window->bytes + (offset - window->start);
}

/* Bytes that are the application's as they are. */
static int pass(struct sink *sink, const u8 *bytes, u32 size)
{
	u32 done = size;

	if (sink->way == TO_READY)
		done = make_bytes_ready(sink->t, bytes, size);
	else if (sink->way == TO_APPLICATION)
		done = _copy_to_iter(bytes, size, sink->to);
	if (done < size)
		sink->error = sink->way == TO_READY ? -ENOMEM : -EFAULT;
	l45_receive_passed(&sink->t->flow, done);
	sink->room -= done;
	sink->done += done;
	return done;
}

/* How many bytes the core can be shown without getting any of the application's in there: those
 * would have to be kept. */
static u32 needs(const struct l45_receiver *rx, const struct l45_flow *flow, const u8 *bytes,
		 u32 size)
{
	struct l45_header header;

	if (rx->part != L45_PART_HEADER || rx->got || size < L45_HEADER_SIZE)
		return l45_receive_needs(flow);
	header = l45_get_header(bytes);
	return L45_HEADER_SIZE + header.head;
}

/* Bytes that the core must see; what they give is in the span. While it looks for a mark it gives
 * some back as they are: of those it is shown a copy, which stays. */
static int decode(struct sink *sink, const u8 *bytes, u32 size)
{
	struct l45_tcp *t = sink->t;
	struct l45_receiver *rx = &t->flow.rx;
	int used;

	if (rx->state == L45_RECEIVE_FRAMED) {
		size = min(size, needs(rx, &t->flow, bytes, size));
		used = l45_receive(&t->flow, (u8 *)bytes, size, &t->span);
	} else {
		size = min_t(u32, size, sizeof(t->bounce));
		memcpy(t->bounce, bytes, size);
		used = l45_receive(&t->flow, t->bounce, size, &t->span);
	}
	if (used < 0) {
		t->span.size = 0;
		l45_tcp_break(t);
	}
	return used;
}

/* Frames whose heads are known: straight to the application's memory. Returns how many of the
 * transport's bytes they took. */
static u32 take_run(struct sink *sink, const u8 *bytes, u32 size)
{
	struct l45_flow *flow = &sink->t->flow;
	u32 used = 0, frames = 0, total = 0, done = 0, head, body;
	void __user *to;
	u32 room = min_t(size_t, sink->room, l45_user_memory(sink->to, &to));

	while (done == total && done < room &&
	       (head = l45_receive_known(&flow->rx, bytes + used, size - used, &body))) {
		u32 part = min3(body, size - used - head, room - done);
		u32 copied = part - l45_copy_out(to + done, bytes + used + head, part);

		used += head + copied;
		done += copied;
		total += body;
		frames++;
	}
	l45_receive_ran(flow, frames, total, total - done);
	iov_iter_advance(sink->to, done);
	sink->room -= done;
	sink->done += done;
	return used;
}

/* One step; returns how many of the transport's bytes it took. */
static int take_some(struct sink *sink, struct sk_buff *skb, u32 offset, u32 size)
{
	struct l45_tcp *t = sink->t;
	const u8 *bytes = look_at(sink, skb, offset, &size);
	u32 verbatim = l45_receive_verbatim(&t->flow);
	int used;

	if (!bytes) {
		sink->error = -EFAULT;
		return 0;
	}
	if (verbatim) {
		if (sink->way != ONLY_LOOK)
			return pass(sink, bytes, min3(verbatim, size, sink->room));
		found_one(sink);
		return 0;
	}
	if (sink->way == TO_APPLICATION && l45_receive_runs(&t->flow)) {
		used = take_run(sink, bytes, size);
		if (used)
			return used;
	}
	used = decode(sink, bytes, size);
	if (used < 0) {
		sink->error = used;
		return 0;
	}
	if (t->span.size) {
		if (sink->way == ONLY_LOOK)
			found_one(sink);
		else
			drain_decoded(sink);
	}
	return used;
}

/* Called by tcp_read_sock() for what is in the receive queue. */
static int take(read_descriptor_t *descriptor, struct sk_buff *skb, unsigned int offset,
		size_t size)
{
	struct sink *sink = descriptor->arg.data;
	u32 done = 0;

	sink->window.end = 0; /* another packet */
	while (done < size && sink->room && !sink->error)
		done += take_some(sink, skb, offset + done, size - done);
	descriptor->count = sink->room && !sink->error;
	return done;
}

/* The peer has ended its stream, and all of it was taken: what was held back is the application's.
 */
static void end(struct sink *sink)
{
	struct l45_tcp *t = sink->t;

	t->ended = true;
	if (l45_receive_end(&t->flow, &t->span)) {
		t->span.size = 0;
		l45_tcp_break(t);
		sink->error = -EPROTO;
		return;
	}
	if (sink->way == ONLY_LOOK)
		sink->done = t->span.size > 0;
	else
		drain_decoded(sink);
}

static bool is_all_taken(const struct sock *sk)
{
	return skb_queue_empty(&sk->sk_receive_queue);
}

/* What the core gives without being shown anything new: held bytes whose time is over. */
static void take_given(struct sink *sink)
{
	struct l45_tcp *t = sink->t;

	if (t->span.size || t->flow.rx.given_size <= t->flow.rx.given_taken)
		return;
	if (l45_receive(&t->flow, t->bounce, 0, &t->span) < 0)
		t->span.size = 0;
	if (sink->way == ONLY_LOOK)
		found_one(sink);
	else
		drain_decoded(sink);
}

/* At a peer's urgent byte, which no frame can have. */
static bool is_stuck(const struct sink *sink)
{
	struct sock *sk = l45_sk(sink->t);

	return sink->room && !sink->error && !is_all_taken(sk) && tcp_sk(sk)->urg_data;
}

/* From now on what comes is the application's as it is, and nothing before it is left here. */
static void note_plain(struct l45_tcp *t)
{
	if (t->flow.rx.state == L45_RECEIVE_PLAIN && !t->flow.rx.armed && !l45_tcp_decoded(t))
		smp_store_release(&t->plain, true);
}

static void run(struct sink *sink)
{
	struct l45_tcp *t = sink->t;
	struct sock *sk = l45_sk(t);
	read_descriptor_t descriptor = { .arg.data = sink, .count = 1 };

	drain_decoded(sink); /* also what came before a fault */
	if (t->reset)
		return;
	l45_tcp_sync(t); /* what comes may be of a set that is new */
	if (sink->room && !sink->error)
		take_given(sink);
	if (sink->room && !sink->error && !tcp_read_sock(sk, &descriptor, take) && is_stuck(sink))
		l45_tcp_break(t);
	if (sink->room && !sink->error && !t->ended && sock_flag(sk, SOCK_DONE) && is_all_taken(sk))
		end(sink);
	if (!t->reset && is_all_taken(sk))
		l45_tcp_tick(t);
	note_plain(t);
	if (t->provisional && t->flow.rx.state != L45_RECEIVE_LOOK)
		l45_tcp_keep_begun(t);
	if (t->draining && !t->flow.rx.in_use)
		l45_tap_kick(&t->tap, 0);
}

int l45_tcp_read(struct l45_tcp *t, struct iov_iter *to, u32 room)
{
	struct sink sink = {
		.t = t, .way = to ? TO_APPLICATION : TO_NOWHERE, .to = to, .room = room
	};

	run(&sink);
	if (sink.done)
		t->tap.received = ktime_get_coarse_real_ns();
	return sink.done ? sink.done : sink.error;
}

u32 l45_tcp_ready_at_most(const struct l45_tcp *t)
{
	return max_t(u32, READ_ONCE(l45_sk(t)->sk_rcvbuf), L45_CHUNK_SIZE);
}

void l45_tcp_make_ready(struct l45_tcp *t, u32 enough)
{
	struct sink sink = { .t = t, .way = TO_READY };

	enough = min(enough, l45_tcp_ready_at_most(t));
	if (t->ready_size >= enough)
		return;
	sink.room = enough - t->ready_size;
	run(&sink);
}

bool l45_tcp_look(struct l45_tcp *t)
{
	struct sink sink = { .t = t, .way = ONLY_LOOK, .room = 1 };

	if (t->ready_size || t->span.size)
		return true;
	run(&sink);
	return sink.done || l45_tcp_decoded(t);
}

int l45_tcp_peek(struct l45_tcp *t, struct iov_iter *to, u32 skip, u32 room)
{
	struct l45_chunk *chunk;
	u32 done = 0;

	list_for_each_entry(chunk, &t->ready, node) {
		u32 size = chunk->end - chunk->start, from = min(skip, size), copied;

		skip -= from;
		size = min(size - from, room - done);
		copied = to ? _copy_to_iter(chunk->bytes + chunk->start + from, size, to) : size;
		done += copied;
		if (copied < size)
			return done ? done : -EFAULT;
		if (done == room)
			break;
	}
	return done;
}
