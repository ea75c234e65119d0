// SPDX-License-Identifier: GPL-2.0
/* The bytes of the adversary's connection: what is written, delivered and read (adversary.c). */
#include <stdio.h>

#include "adversary.h"

#define WRITE_MAX  3000
#define GROWTH_MAX 64 /* wire bytes for one of a write, at most: heads of 255 bytes for eight */

struct side sides[2];
struct l45_instance slots[SLOTS];
__u8 token[L45_TOKEN];
__u64 seed, step, random_state, marks;

void fail(const char *what)
{
	printf("seed=%llu step=%llu: %s\n", seed, step, what);
	exit(1);
}

/* splitmix64 */
__u32 below(__u32 limit)
{
	__u64 z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (__u32)(z ^ z >> 31) % limit;
}

struct side *other(struct side *side)
{
	return side == sides ? sides + 1 : sides;
}

void make_token(__u8 to[L45_TOKEN])
{
	for (__u32 i = 0; i < L45_TOKEN; i++)
		to[i] = below(256);
}

static void put_on_wire(struct side *side, const void *from, __u32 size)
{
	if (size > WIRE_MAX - side->sent)
		fail("a frame is longer than it may be");
	if (size)
		memcpy(side->wire + side->sent, from, size);
	side->sent += size;
}

static void put_frame(struct side *side, const struct l45_frame *frame, int framed)
{
	__u32 at = side->sent;

	put_on_wire(side, frame->head, frame->head_size);
	put_on_wire(side, frame->body, frame->body_size);
	if (!framed && side->flow->tx.state == L45_SEND_FRAMED) {
		side->mark = at;
		side->mark_end = at + L45_MARK_SIZE;
		side->live = side->wire[at + L45_MARK_KIND] == L45_MARK_LIVE;
		marks++;
	}
}

void send_control(struct side *side)
{
	int framed = side->flow->tx.state == L45_SEND_FRAMED, more;
	struct l45_frame frame;

	more = l45_send_control(side->flow, &frame);
	if (more < 0)
		fail("control is broken");
	if (more)
		put_frame(side, &frame, framed);
}

/* Bytes that look like the format: marks but for their token, begins of them, frames. */
static void compose(__u8 *app, __u32 size)
{
	static const __u8 odd[] = { L45_MARK_BEGIN, 'D', 'P', 'S', 'E', 0, 1, 'n' };
	const struct l45_instance *of = &slots[below(SLOTS)];
	__u8 mark[L45_MARK_SIZE], old[L45_TOKEN];
	__u32 at = below(size), kind = below(4);

	for (__u32 i = 0; i < size; i++)
		app[i] = kind ? below(256) : odd[below(sizeof(odd))];
	make_token(old);
	l45_put_mark(mark, below(2) ? L45_MARK_LIVE : L45_MARK_NEW, old, of);
	if (below(2))
		memcpy(app + at, mark, l45_min(size - at, L45_MARK_SIZE));
	l45_put_mark(mark, below(2) ? L45_MARK_LIVE : L45_MARK_NEW, below(2) ? token : of->token,
		     of);
	kind = l45_min(size, 1 + below(13)); /* so much of its token is no secret */
	if (below(2))
		memcpy(app + size - kind, mark, kind);
}

void write_some(struct side *side)
{
	__u32 size = 1 + below(below(4) ? 60 : WRITE_MAX);
	const __u8 *app = side->written + side->written_size;
	struct l45_frame frame;

	if (side->shy && side->shy--)
		return;
	if (size > WRITTEN_MAX - side->written_size ||
	    WIRE_MAX - side->sent < GROWTH_MAX * (__u64)size + 1024)
		return;
	compose(side->written + side->written_size, size);
	side->written_size += size;
	while (size) {
		int framed = side->flow->tx.state == L45_SEND_FRAMED;

		if (l45_endpoint_send(side->endpoint, app, size, &frame))
			fail("sending is broken");
		if (!frame.taken || frame.taken > size)
			fail("a frame takes no byte, or too many");
		put_frame(side, &frame, framed);
		app += frame.taken;
		size -= frame.taken;
	}
}

static void deliver(struct side *side, __u32 size)
{
	__u32 room;
	__u8 *to = l45_endpoint_space(other(side)->endpoint, &room);

	size = l45_min(l45_min(size, room), side->sent - side->delivered);
	memcpy(to, side->wire + side->delivered, size);
	l45_endpoint_filled(other(side)->endpoint, size);
	side->delivered += size;
}

int read_some(struct side *side, __u32 room)
{
	static __u8 app[L45_ENDPOINT_WIRE];
	struct side *from = other(side);
	int size = l45_endpoint_read(side->endpoint, app, room);

	if (size < 0)
		return size;
	if ((__u32)size > from->written_size - from->read ||
	    memcmp(app, from->written + from->read, size))
		fail("an application reads what the other has not written");
	from->read += size;
	if ((__u32)size < room)
		from->consumed = from->delivered;
	return size;
}

void read_all(struct side *side)
{
	int size;

	while ((size = read_some(side, L45_ENDPOINT_WIRE)) > 0)
		;
	if (size < 0 && size != -ENODATA)
		fail("receiving is broken");
}

void drain_wire(struct side *side)
{
	while (side->delivered < side->sent) {
		deliver(side, L45_ENDPOINT_WIRE);
		read_all(other(side));
	}
	read_all(other(side));
}

void complete_mark(struct side *side)
{
	if (side->mark < side->delivered && side->consumed < side->mark_end) {
		if (side->delivered < side->mark_end)
			deliver(side, side->mark_end - side->delivered);
		read_all(other(side));
	}
}

void deliver_some(struct side *side)
{
	const struct l45_flow *to = other(side)->flow;
	__u32 size = 1 + below(below(2) ? 30 : 5000), reach = side->delivered + size;

	if (side->live && to->rx.late && side->delivered <= side->mark && side->mark < reach) {
		read_all(other(side));
		size = reach < side->mark_end ? side->mark_end - side->delivered : size;
	}
	deliver(side, size);
}
