// SPDX-License-Identifier: GPL-2.0
/*
 * adversary SEED STEPS: two endpoints joined by a network that delivers as it likes, and controlled
 * by somebody who does anything that is legal (tests/stream_adversary.py, at a thousand times its
 * speed, without its independent decoder). What one application writes the other must read.
 *
 * Exits with 1 and says at which step of which seed where it does not.
 */
#include <stdio.h>

#include "adversary.h"

#define WINDOW 2000000000ull
#define BOTH   (L45_MAY_SEND | L45_MAY_RECEIVE)

extern const struct l45_module stream_tag_module, stream_xor_module, rate_limit_module;
extern const struct l45_module stream_probe_module, stream_probe_whole_module;

static int fresh; /* one end is armed with the token, the other was not yet */
static __u64 now;
static __u64 connections, bytes, resets;

/*
 * Control.
 */

static void set(struct side *side, __u32 slot, __u8 switches)
{
	if (switches & ~side->switches[slot] & L45_MAY_SEND)
		l45_flow_drain(other(side)->flow, 0);
	side->switches[slot] = switches;
	l45_flow_set(side->flow, side->attached[slot], below(4), switches);
}

static void attach(struct side *side, __u32 slot, __u8 switches)
{
	if (!sides[0].attached[slot] && !sides[1].attached[slot])
		slots[slot].epoch += SLOTS;
	side->attached[slot] =
		l45_endpoint_attach(side->endpoint, &slots[slot], below(4), switches);
	if (!side->attached[slot])
		fail("cannot attach");
	side->switches[slot] = 0;
}

/* On both ends; one can send as soon as the other can receive. */
static void deploy(__u32 slot)
{
	struct side *sender = &sides[below(2)], *receiver = other(sender);

	if (!receiver->attached[slot])
		attach(receiver, slot, 0);
	set(receiver, slot, receiver->switches[slot] | L45_MAY_RECEIVE);
	if (!sender->attached[slot])
		attach(sender, slot, BOTH);
	set(sender, slot, BOTH);
}

/* Change who is asked first, or stop or start to send. */
static void change(struct side *side, __u32 slot)
{
	if (side->attached[slot] && other(side)->switches[slot] & L45_MAY_RECEIVE)
		set(side, slot, side->switches[slot] ^ (below(2) ? L45_MAY_SEND : 0));
}

/* In both directions: no longer sent, all that was sent is read, not received, detached. */
static void revoke(__u32 slot)
{
	for (struct side *side = sides; side < sides + 2; side++) {
		if (!side->attached[slot])
			return;
		set(side, slot, side->switches[slot] & L45_MAY_RECEIVE);
		send_control(side);
	}
	for (struct side *side = sides; side < sides + 2; side++)
		drain_wire(side);
	for (struct side *side = sides; side < sides + 2; side++) {
		set(side, slot, 0);
		if (l45_endpoint_detach(side->endpoint, side->attached[slot]))
			fail("cannot detach");
		side->attached[slot] = NULL;
	}
}

static int can_go(const struct side *side, const struct side *peer)
{
	return side->flow->tx.armed && (side->flow->tx.go || peer->mark_end > peer->consumed);
}

/* No live mark is on its way, nor can one be sent any more. */
static int is_quiet(void)
{
	for (struct side *side = sides; side < sides + 2; side++)
		if (side->mark_end > side->consumed || can_go(side, other(side)))
			return 0;
	return 1;
}

static void arm(struct side *side)
{
	if (side->armed || !other(side)->armed || !fresh) {
		if (!is_quiet())
			return;
		l45_flow_disarm(other(side)->flow);
		other(side)->armed = 0;
		make_token(token);
	}
	fresh = !other(side)->armed;
	l45_flow_arm(side->flow, token, now, WINDOW);
	side->armed = 1;
}

static void go(struct side *side)
{
	if (sides[0].armed && sides[1].armed)
		l45_flow_go(side->flow, now);
	if (below(2))
		send_control(side);
}

static void disarm(struct side *side)
{
	if (!is_quiet())
		return;
	l45_flow_disarm(side->flow);
	side->armed = 0;
}

static void tick(struct side *side)
{
	__u64 then;

	complete_mark(other(side));
	then = l45_flow_tick(side->flow, now);
	if (then && then <= now)
		fail("a time that is over");
}

static void wait_some(void)
{
	static const __u64 times[] = { 1, 1000000, WINDOW / 2, WINDOW, L45_HOLD_NS };

	now += times[below(5)];
	tick(&sides[below(2)]);
}

/*
 * Connections.
 */

static void connect_sides(void)
{
	static const enum l45_role roles[][2] = {
		{ L45_CONNECT, L45_ACCEPT },
		{ L45_JOIN, L45_JOIN },
		{ L45_JOIN, L45_ACCEPT },
	};
	__u32 kind = below(3);

	memset(sides, 0, sizeof(sides));
	for (__u32 i = 0; i < 2; i++) {
		sides[i].endpoint = l45_endpoint_new(roles[kind][i], "adversary");
		if (!sides[i].endpoint)
			fail("no memory");
		sides[i].flow = l45_endpoint_flow(sides[i].endpoint);
		sides[i].shy = below(2) * below(40);
	}
	if (below(4))
		deploy(below(SLOTS));
	connections++;
}

/* Both applications close: everything was read. */
static void finish(void)
{
	for (struct side *side = sides; side < sides + 2; side++) {
		drain_wire(side);
		l45_endpoint_ended(other(side)->endpoint);
		read_all(other(side));
		if (side->read != side->written_size)
			fail("not everything that was written is read");
		bytes += side->read;
	}
	l45_endpoint_free(sides[0].endpoint);
	l45_endpoint_free(sides[1].endpoint);
	connect_sides();
}

static int may_send(const struct side *side)
{
	for (__u32 i = 0; i < SLOTS; i++)
		if (side->switches[i] & L45_MAY_SEND)
			return 1;
	return 0;
}

/* The peer was told to end, and this end's patience is over at once. */
static void lose_patience(struct side *side)
{
	int silent;

	if (may_send(other(side)))
		return;
	complete_mark(other(side));
	silent = side->flow->rx.state == L45_RECEIVE_FRAMED;
	l45_flow_drain(side->flow, now);
	tick(side);
	if (silent != (side->flow->rx.fault == L45_FAULT_SILENT))
		fail("silence is not told from speech");
	if (!silent)
		return;
	resets++;
	while (read_some(side, L45_ENDPOINT_WIRE) >= 0)
		;
	l45_endpoint_free(sides[0].endpoint);
	l45_endpoint_free(sides[1].endpoint);
	connect_sides();
}

static void act(struct side *side)
{
	switch (below(32)) {
	case 0:
		return deploy(below(SLOTS));
	case 1:
		return below(4) ? change(side, below(SLOTS)) : revoke(below(SLOTS));
	case 2:
	case 3:
		return change(side, below(SLOTS));
	case 4:
		return arm(side);
	case 5:
	case 6:
		return go(side);
	case 7:
		return below(4) ? wait_some() : disarm(side);
	case 8:
		return below(16) ? send_control(side) : lose_patience(side);
	case 9:
		return below(16) ? tick(side) : finish();
	case 10 ... 15:
		return write_some(side);
	case 16 ... 23:
		return deliver_some(side);
	default:
		if (read_some(side, 1 + below(below(2) ? 20 : 5000)) < 0)
			fail("receiving is broken");
	}
}

static void prepare(void)
{
	static const struct l45_module *const modules[SLOTS] = {
		&stream_tag_module,	    &stream_xor_module, &stream_probe_module,
		&stream_probe_whole_module, &rate_limit_module,
	};

	for (__u32 i = 0; i < SLOTS; i++) {
		slots[i] = (struct l45_instance){
			.module = modules[i],
			.epoch = i,
			.parameters_size = i < 2 ? 12 : 0,
			.parameters = { 1, 2, 3, 4, 5, 6, 7, 8, 50 },
		};
		make_token(slots[i].token);
	}
}

int main(int argc, char **argv)
{
	__u64 steps;

	if (argc != 3) {
		fprintf(stderr, "usage: adversary SEED STEPS\n");
		return 2;
	}
	seed = random_state = strtoull(argv[1], NULL, 0);
	steps = strtoull(argv[2], NULL, 0);
	prepare();
	connect_sides();
	for (step = 0; step < steps; step++) {
		act(&sides[below(2)]);
		if (sides[0].written_size + sides[1].written_size > WRITTEN_MAX)
			finish();
	}
	finish();
	printf("connections=%llu marks=%llu resets=%llu bytes=%llu\n", connections, marks, resets,
	       bytes);
	return 0;
}
