// SPDX-License-Identifier: GPL-2.0
/*
 * Sets at random, in the order that peers need: a customization that has a wire form is received
 * before it is sent, and sent no more before it goes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pattern.h"
#include "stress.h"
#include "tap.h"

#define MEMBERS_MAX 6
#define PATIENCE_MS 60000 /* more than the longest drain */
#define DRAIN_LONG  30000

static struct tap tap;
static struct random random_state;
static struct tap_customization members[MEMBERS_MAX];
static unsigned int count;
static unsigned long applied;
static uint64_t restored;
static uint16_t next_epoch = 1;

static const char *const codes[] = { "l45_stream_tag", "l45_stream_tag", "l45_stream_xor",
				     "l45_stream_xor", "l45_rate_limit", "l45_dns_app_tag" };

#define SEND	   L45_CUSTOMIZATION_SEND
#define RECEIVE	   L45_CUSTOMIZATION_RECEIVE
#define DEPRECATED L45_CUSTOMIZATION_DEPRECATED

static bool has_wire_form(const struct tap_customization *member)
{
	return strcmp(member->code, "l45_rate_limit") != 0;
}

static void set_parameters(struct tap_customization *to)
{
	uint64_t tag = pattern_mix(random_state.state);
	uint32_t number;

	if (!strcmp(to->code, "l45_stream_tag")) {
		number = 1 + rnd(&random_state, chance(&random_state, 2) ? 3000 : 65280);
		memcpy(to->parameters, &tag, 8);
		memcpy(to->parameters + 8, &number, 4);
		to->parameters_size = 12;
	} else if (strcmp(to->code, "l45_dns_app_tag")) {
		number = strcmp(to->code, "l45_rate_limit") ? tag : rnd(&random_state, 3);
		memcpy(to->parameters, &number, 4);
		to->parameters_size = 4;
	}
}

static struct tap_customization new_member(void)
{
	struct tap_customization member = { .epoch = next_epoch++,
					    .priority = rnd(&random_state, 100) };
	uint64_t words[] = { pattern_mix(random_state.state + applied), applied + 1 };

	memcpy(member.id, words, sizeof(member.id));
	memcpy(member.token, words, sizeof(member.token));
	strcpy(member.code, codes[rnd(&random_state, 6)]);
	member.match.protocol = strcmp(member.code, "l45_dns_app_tag") ? IPPROTO_TCP : IPPROTO_UDP;
	strcpy(member.match.process, "stress");
	set_parameters(&member);
	member.flags = has_wire_form(&member) ? RECEIVE : SEND;
	return member;
}

/* Apply what `members` says, and wait until no worker is where it began under the set before. */
static void apply(int drain_ms)
{
	uint64_t generation;

	if (tap_apply(&tap, members, count, drain_ms, &generation))
		failed("a set of %u was refused: %s", count, tap.reason);
	applied++;
	wait_sections();
}

/* Workers open no connection meanwhile: none has one end under each of two sets. */
static void pause_workers(bool on)
{
	__atomic_store_n(&shared->paused, on, __ATOMIC_SEQ_CST);
	if (on)
		wait_sections();
}

/* Whether a change that need not wait for workers does. */
static bool calm(void)
{
	return shared->calm || chance(&random_state, 2);
}

/* Datagrams have no marks by which a peer can tell: both sockets are used first under one set, and
 * nothing is on its way when a set takes away what its sender had. */
static bool is_of_datagrams(const struct tap_customization *member)
{
	return member->match.protocol == IPPROTO_UDP;
}

static void add(void)
{
	if (count == MEMBERS_MAX)
		return;
	members[count++] = new_member();
	/* In a hurry one end only may have it: it comes to nothing there. */
	pause_workers(calm());
	apply(DRAIN_LONG);
	pause_workers(false);
}

static void note_revoke(uint32_t drain_ms)
{
	uint64_t now = now_ns();
	uint32_t place = shared->revokes;

	if (place == REVOKES_MAX)
		failed("more than %d customizations were taken away: a shorter run", REVOKES_MAX);
	shared->revoke[place] = (struct revoke){ now, now + drain_ms * 1000000ull };
	__atomic_store_n(&shared->revokes, place + 1, __ATOMIC_SEQ_CST);
}

/* What a customization has restored, before it goes. */
static int sum_bytes(void *context, uint8_t command, struct nl_row row)
{
	struct nl_attribute customization, id, counters, bytes;

	(void)command;
	if (nl_find(row, L45_A_CUSTOMIZATION, &customization) &&
	    nl_find(nl_inside(&customization), L45_C_ID, &id) &&
	    !memcmp(id.data, context, TAP_ID_SIZE) &&
	    nl_find(nl_inside(&customization), L45_C_COUNTERS, &counters) &&
	    nl_find(nl_inside(&counters), L45_N_RECEIVED_BYTES, &bytes))
		restored += nl_number(&bytes);
	return 0;
}

static void take_away(unsigned int which)
{
	static const uint32_t drains[] = { 0, 0, 3, 50, DRAIN_LONG };
	uint32_t drain = drains[rnd(&random_state, 5)];

	if (tap_dump(&tap, L45_CMD_GET_CUSTOMIZATIONS, sum_bytes, members[which].id))
		failed("a dump was refused: %s", tap.reason);
	if (members[which].flags & SEND && chance(&random_state, 2)) {
		members[which].flags &= ~SEND;
		apply(DRAIN_LONG);
		sleep_us(rnd(&random_state, 200000));
	}
	/* What is drained is still understood by who accepts a connection meanwhile. */
	pause_workers(drain != DRAIN_LONG || is_of_datagrams(&members[which]) || calm());
	members[which] = members[--count];
	/* Before, for the first reset may come before apply() returns. */
	note_revoke(drain);
	apply(drain);
	pause_workers(false);
}

static void toggle(unsigned int which, uint32_t flag)
{
	pause_workers(is_of_datagrams(&members[which]) || calm());
	members[which].flags ^= flag;
	apply(DRAIN_LONG);
	pause_workers(false);
}

static void raise_or_lower(unsigned int which)
{
	members[which].priority = rnd(&random_state, 100);
	apply(DRAIN_LONG);
}

void sets_change(void)
{
	unsigned int which = count ? rnd(&random_state, count) : 0;

	switch (count ? rnd(&random_state, 8) : 0) {
	case 0:
	case 1:
		add();
		break;
	case 2:
	case 3:
	case 4:
		members[which].flags |= SEND; /* its peers receive since the set before */
		apply(DRAIN_LONG);
		break;
	case 5:
		toggle(which, DEPRECATED);
		break;
	case 6:
		raise_or_lower(which);
		break;
	default:
		take_away(which);
	}
}

static int count_one(void *context, uint8_t command, struct nl_row row)
{
	(void)command;
	(void)row;
	++*(unsigned int *)context;
	return 0;
}

/* What a run before has left must be gone: ids and epochs begin again. */
static void wait_empty(void)
{
	unsigned int left;

	for (int ms = 0; ms < PATIENCE_MS; ms += 10) {
		left = 0;
		if (tap_dump(&tap, L45_CMD_GET_CUSTOMIZATIONS, count_one, &left))
			failed("a dump was refused: %s", tap.reason);
		if (!left)
			return;
		sleep_us(10000);
	}
	failed("%u customizations were taken away, and do not go", left);
}

void sets_open(uint64_t seed)
{
	random_state.state = seed;
	if (tap_open(&tap))
		failed("%s", tap.reason);
	apply(0);
	wait_empty();
}

void sets_close(void)
{
	while (count)
		take_away(count - 1);
	wait_empty();
	tap_close(&tap);
}

uint64_t sets_restored(void)
{
	return restored;
}

unsigned long sets_applied(void)
{
	return applied;
}
