// SPDX-License-Identifier: GPL-2.0
/* Sets that change while connections are open. */
#include "changes.h"

static void customized(void)
{
	struct tap_customization tag = customization(TAG, 1);
	struct flow flow;
	struct told told;
	struct pair pair;

	apply(&tag, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 1000);
	flow = flow_of(pair.a.fd);
	CHECK(flow.found && flow.tx == 1 && flow.rx == 1, "a: tx %d, rx %d", flow.tx, flow.rx);
	CHECK(flow.sent && flow.received, "no times");
	flow = flow_of(pair.b.fd);
	CHECK(flow.found && flow.tx == 1 && flow.rx == 1, "b: tx %d, rx %d", flow.tx, flow.rx);
	EXPECT(flow.tgid, getpid());
	EXPECT(flow.pid, getpid());
	EXPECT(flow.uid, getuid());
	CHECK(!strcmp(flow.process, "changes"), "process %s", flow.process);
	CHECK(!strcmp(flow.thread, "changes"), "thread %s", flow.thread);
	CHECK(flow.has_executable, "no executable");
	told = told_of(1);
	EXPECT(told.flows, 2);
	EXPECT(told.sent_bytes, pair.a.written + pair.b.written);
	EXPECT(told.received_bytes, pair.a.written + pair.b.written);
	EXPECT(told.errors, 0);
	finish(&pair);
	EXPECT(flow_count(), 0);
	told = told_of(1);
	EXPECT(told.flows, 0);
	EXPECT(told.sent_bytes, 2000 + (setting.accepted ? 5 : 0));
	apply_none(0);
	EXPECT(told_of(1).found, false);
}

/* A deprecated customization stays where it is, and comes to nothing new. */
static void deprecated(void)
{
	struct tap_customization tag = customization(TAG, 1);
	struct pair old, new;

	apply(&tag, 1, DRAIN_LONG);
	open_pair(&old);
	exchange(&old, 500);
	tag.flags |= DEPRECATED;
	apply(&tag, 1, DRAIN_LONG);
	open_pair(&new);
	exchange(&new, 500);
	exchange(&old, 500);
	EXPECT(flow_of(new.a.fd).tx, 0);
	EXPECT(flow_of(new.b.fd).tx, 0);
	EXPECT(flow_of(old.a.fd).tx, 1);
	finish(&new);
	finish(&old);
	apply_none(0);
}

/* New connections have the one that stays, and nothing of the one that goes, which holds on to an
 * older connection. */
static void deprecated_beside(void)
{
	struct tap_customization set[] = { customization(TAG, 1), customization(XOR, 2) };
	struct pair old, new;

	set[1].priority = 1;
	apply(set, 2, DRAIN_LONG);
	open_pair(&old);
	exchange(&old, 500);
	set[1].flags |= DEPRECATED;
	apply(set, 2, DRAIN_LONG);
	for (int i = 0; i < 3; i++) {
		step("deprecated, connection %d", i);
		open_pair(&new);
		exchange(&new, 500);
		EXPECT(flow_of(new.a.fd).tx, 1);
		EXPECT(flow_of(new.b.fd).tx, 1);
		finish(&new);
	}
	apply(set, 1, DRAIN_SHORT);
	for (int i = 0; i < 3; i++) {
		step("taken away, connection %d", i);
		open_pair(&new);
		exchange(&new, 500);
		EXPECT(flow_of(new.a.fd).tx, 1);
		EXPECT(flow_of(new.b.fd).tx, 1);
		finish(&new);
	}
	exchange(&old, 500);
	finish(&old);
	apply_none(0);
}

static void inactive(void)
{
	struct tap_customization tag = customization(TAG, 1);
	struct pair pair, active;

	tag.flags |= INACTIVE;
	apply(&tag, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 500);
	EXPECT(flow_of(pair.a.fd).found, true);
	EXPECT(flow_of(pair.a.fd).tx, 0);
	EXPECT(told_of(1).sent, 0);
	step("active");
	tag.flags &= ~INACTIVE;
	apply(&tag, 1, DRAIN_LONG);
	open_pair(&active);
	exchange(&active, 500);
	exchange(&pair, 500);
	EXPECT(flow_of(active.a.fd).tx, 1);
	finish(&active);
	finish(&pair);
	apply_none(0);
}

/* What was sent before it became inactive is decoded, although nobody had read it, nor the mark. */
static void inactive_unread(void)
{
	static const char *const codes[] = { TAG, XOR };

	for (int i = 0; i < 2; i++) {
		struct tap_customization it = customization(codes[i], 1);
		struct pair pair;

		apply(&it, 1, DRAIN_LONG);
		open_pair(&pair);
		write_bytes(&pair.a, 3000);
		it.flags |= INACTIVE;
		apply(&it, 1, DRAIN_LONG);
		read_bytes(&pair.b, 3000);
		exchange(&pair, 500);
		EXPECT(flow_of(pair.a.fd).tx, 0);
		finish(&pair);
		apply_none(0);
	}
}

/* Send off: an end frame, then plain; what is on its way is decoded. */
static void stopped(void)
{
	struct tap_customization tag = customization(TAG, 1);
	struct pair pair;

	apply(&tag, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 500);
	write_bytes(&pair.a, 10000);
	tag.flags = RECEIVE;
	apply(&tag, 1, DRAIN_LONG);
	write_bytes(&pair.a, 10000);
	read_bytes(&pair.b, 15000);
	EXPECT(flow_of(pair.a.fd).tx, 0);
	read_bytes(&pair.b, 5000);
	EXPECT(flow_of(pair.b.fd).rx, 0);
	exchange(&pair, 500);
	step("and on again");
	tag.flags = BOTH;
	apply(&tag, 1, DRAIN_LONG);
	exchange(&pair, 500);
	finish(&pair);
	apply_none(0);
}

/* Two customizations change places, with bytes of both in flight. */
static void rotate(const char *first, const char *second)
{
	struct tap_customization set[] = { customization(first, 1), customization(second, 2) };
	struct pair pair;

	apply(set, 2, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 500);
	for (int i = 0; i < 60; i++) {
		step("rotation %d from %s to %s", i, first, second);
		set[i % 2].priority = 100;
		set[!(i % 2)].priority = 10;
		apply(set, 2, DRAIN_LONG);
		write_bytes(&pair.a, 1 + 37 * i);
		write_bytes(&pair.b, 1 + 20 * i);
		EXPECT(flow_of(pair.a.fd).tx, 2 - i % 2);
		if (i % 7 == 6) {
			read_bytes(&pair.b, pair.a.written - pair.b.read);
			read_bytes(&pair.a, pair.b.written - pair.a.read);
			EXPECT(flow_of(pair.b.fd).rx, 2 - i % 2);
		}
	}
	finish(&pair);
	apply_none(0);
}

static void rotated(void)
{
	rotate(TAG, TAG);
	rotate(XOR, XOR);
	rotate(TAG, XOR);
}

/* A new customization comes to a flow that has one; the old one goes. */
static void replaced(void)
{
	struct tap_customization set[] = { customization(TAG, 1), customization(XOR, 2) };
	struct pair pair;

	apply(set, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 1000);
	set[1].flags = RECEIVE;
	apply(set, 2, DRAIN_LONG);
	exchange(&pair, 1000);
	set[1].flags = BOTH;
	set[1].priority = 1;
	apply(set, 2, DRAIN_LONG);
	exchange(&pair, 1000);
	exchange(&pair, 1000);
	EXPECT(flow_of(pair.a.fd).tx, 2);
	step("the old one goes");
	apply(set + 1, 1, DRAIN_SHORT);
	exchange(&pair, 1000);
	wait_gone(1);
	exchange(&pair, 1000);
	EXPECT(flow_of(pair.b.fd).tx, 2);
	finish(&pair);
	apply_none(0);
}

/* Taken away with bytes on their way: all are decoded, then the streams are plain. */
static void taken_away(void)
{
	static const char *const codes[] = { TAG, XOR };

	for (int i = 0; i < 2; i++) {
		struct tap_customization it = customization(codes[i], 1);
		struct pair pair;

		apply(&it, 1, DRAIN_LONG);
		open_pair(&pair);
		exchange(&pair, 1000);
		write_bytes(&pair.a, 30000);
		write_bytes(&pair.b, 20000);
		apply_none(DRAIN_SHORT * 2);
		EXPECT(told_of(1).flags & L45_CUSTOMIZATION_DRAINING, L45_CUSTOMIZATION_DRAINING);
		write_bytes(&pair.a, 3000);
		write_bytes(&pair.b, 2000);
		read_bytes(&pair.b, 33000);
		read_bytes(&pair.a, 22000);
		wait_gone(1);
		exchange(&pair, 1000);
		finish(&pair);
	}
}

/* The time is over while bytes wait: some are read, right, then the connection is reset. */
static void deadline(void)
{
	static const int drains[] = { 0, 1, 50 };

	for (int i = 0; i < 6; i++) {
		struct tap_customization it = customization(i % 2 ? TAG : XOR, 1);
		char buffer[5000];
		struct pair pair;
		ssize_t got;

		step("drain of %d ms", drains[i / 2]);
		apply(&it, 1, DRAIN_LONG);
		open_pair(&pair);
		exchange(&pair, 1000);
		write_bytes(&pair.a, 30000);
		apply_none(drains[i / 2]);
		wait_gone(1);
		while ((got = recv(pair.b.fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
			took(&pair.b, buffer, got);
		CHECK(got < 0 && (errno == ECONNRESET ||
				  (errno == EAGAIN && pair.b.read == pair.a.written)),
		      "%lu of %lu bytes, then %zd %s", pair.b.read, pair.a.written, got,
		      got ? strerrorname_np(errno) : "");
		close_pair(&pair);
	}
}

/* The same where nothing was read yet, and all of the stream waits with its mark. */
static void deadline_at_mark(void)
{
	for (int i = 0; i < 4; i++) {
		struct tap_customization it = customization(i % 2 ? TAG : XOR, 1);
		char buffer[5000];
		struct pair pair;
		ssize_t got;

		step("drain of %d ms", i / 2 * 20);
		apply(&it, 1, DRAIN_LONG);
		open_pair(&pair);
		EXPECT(poll_now(pair.b.fd, POLLIN), 0); /* from now on it is customized */
		write_bytes(&pair.a, 3000);
		apply_none(i / 2 * 20);
		sleep_ms(100);
		while ((got = recv(pair.b.fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
			took(&pair.b, buffer, got);
		CHECK(got < 0 && (errno == ECONNRESET ||
				  (errno == EAGAIN && pair.b.read == pair.a.written)),
		      "%lu of %lu bytes, then %zd %s", pair.b.read, pair.a.written, got,
		      got ? strerrorname_np(errno) : "");
		close_pair(&pair);
		wait_gone(1);
	}
}

/* A connection that is made when the time of what was before is over has nothing to do with it. */
static void new_after_deadline(void)
{
	for (int i = 0; i < 30; i++) {
		struct tap_customization it = customization(i % 2 ? TAG : XOR, 1);
		struct pair old[4], new;

		step("round %d", i);
		apply(&it, 1, DRAIN_LONG);
		for (int k = 0; k < 4; k++) {
			open_pair(&old[k]);
			exchange(&old[k], 300);
		}
		apply_none(0);
		open_pair(&new);
		exchange(&new, 300);
		finish(&new);
		for (int k = 0; k < 4; k++)
			close_pair(&old[k]);
		wait_gone(1);
	}
}

/* A thread that is asleep in recv when its customization goes. */
static void *read_500(void *argument)
{
	read_bytes(argument, 500);
	return NULL;
}

static void asleep(void)
{
	for (int i = 0; i < 2; i++) {
		struct tap_customization tag = customization(TAG, 1);
		struct pair pair;
		pthread_t reader;

		apply(&tag, 1, DRAIN_LONG);
		open_pair(&pair);
		exchange(&pair, 100);
		reader = start(read_500, &pair.b);
		sleep_ms(30); /* it sleeps by now, most likely */
		apply_none(DRAIN_SHORT);
		if (i)
			wait_gone(1);
		write_bytes(&pair.a, 500);
		join(reader);
		wait_gone(1);
		finish(&pair);
	}
}

/* Idle flows end without anybody's help. */
static void idle(void)
{
	struct tap_customization set[] = { customization(TAG, 1), customization(XOR, 2) };
	struct pair pairs[5];

	apply(set, 2, DRAIN_LONG);
	for (int i = 0; i < 5; i++) {
		open_pair(&pairs[i]);
		exchange(&pairs[i], 100 + i);
	}
	apply_none(DRAIN_SHORT);
	wait_gone(1);
	wait_gone(2);
	for (int i = 0; i < 5; i++) {
		exchange(&pairs[i], 1000);
		finish(&pairs[i]);
	}
}

const struct scenario change_streams[] = {
	{ "change_customized", customized, BOTH_WAYS },
	{ "change_deprecated", deprecated, BOTH_WAYS },
	{ "change_deprecated_beside", deprecated_beside, BOTH_WAYS },
	{ "change_inactive", inactive, BOTH_WAYS },
	{ "change_inactive_unread", inactive_unread, BOTH_WAYS },
	{ "change_stopped", stopped, BOTH_WAYS },
	{ "change_rotated", rotated, BOTH_WAYS },
	{ "change_replaced", replaced, BOTH_WAYS },
	{ "change_taken_away", taken_away, BOTH_WAYS },
	{ "change_deadline", deadline, BOTH_WAYS },
	{ "change_deadline_at_mark", deadline_at_mark, BOTH_WAYS },
	{ "change_new_after_deadline", new_after_deadline, BOTH_WAYS },
	{ "change_asleep", asleep, BOTH_WAYS },
	{ "change_idle", idle, BOTH_WAYS },
	{ 0 },
};
