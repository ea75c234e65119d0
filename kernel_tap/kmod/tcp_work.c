// SPDX-License-Identifier: GPL-2.0
/*
 * What happens to a customized TCP socket without its application: a new set, time, and the end
 * (tcp.h).
 */
#include <net/tcp.h>

#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"
#include "tcp_train.h"

#define LOOK_NS (NSEC_PER_SEC / 5)

/*
 * A new set.
 */

static const struct l45_entry *entry_of(const struct l45_set *set,
					const struct l45_customization *customization)
{
	for (u32 i = 0; i < set->count; i++)
		if (set->entries[i].customization == customization)
			return &set->entries[i];
	return NULL;
}

/* An inactive one begins nothing, and still understands what its peer began before: that can wait
 * for as long as nobody reads. */
static u8 switches_of(const struct l45_entry *entry)
{
	if (!(entry->flags & L45_CUSTOMIZATION_INACTIVE))
		return l45_switches(entry->flags);
	return l45_switches(entry->flags & ~L45_CUSTOMIZATION_INACTIVE) & L45_MAY_RECEIVE;
}

u8 l45_tcp_switches(enum l45_role role, const struct l45_entry *entry)
{
	u8 switches = switches_of(entry);

	if (role == L45_ACCEPT && entry->flags & L45_CUSTOMIZATION_DEPRECATED)
		switches &= L45_MAY_RECEIVE;
	return switches;
}

/* What stays gets its priority and switches; what was taken away is only understood. */
static void update_attached(struct l45_tcp *t, const struct l45_set *set)
{
	const struct l45_instance *instances[L45_ATTACHED_MAX];
	u32 count = t->flow.count;

	for (u32 i = 0; i < count; i++)
		instances[i] = t->flow.attached[i].instance;
	for (u32 i = 0; i < count; i++) {
		const struct l45_entry *entry = entry_of(set, l45_customization_of(instances[i]));
		const struct l45_attached_stream *attached = l45_flow_find(&t->flow, instances[i]);

		if (entry)
			l45_flow_set(&t->flow, instances[i], entry->priority,
				     t->provisional ? l45_tcp_switches(t->flow.role, entry)
						    : switches_of(entry));
		else
			l45_flow_set(&t->flow, instances[i], attached->priority,
				     attached->switches & L45_MAY_RECEIVE);
	}
}

/* On a flow that has customizations others can be switched to; they begin no stream. */
static void attach_new(struct l45_tcp *t, const struct l45_set *set)
{
	for (u32 i = 0; i < set->count; i++) {
		const struct l45_entry *entry = &set->entries[i];
		struct l45_customization *customization = entry->customization;
		const struct l45_instance *instance = &customization->instance;
		u8 switches = switches_of(entry);

		if (customization->match.protocol != IPPROTO_TCP ||
		    entry->flags & L45_CUSTOMIZATION_DEPRECATED ||
		    l45_flow_find(&t->flow, instance) ||
		    !l45_owner_matches(&customization->match, &t->tap.owner) ||
		    !l45_ends_match(&customization->match, &t->tap.ends, false) ||
		    l45_flow_attach(&t->flow, instance, entry->priority, switches & ~L45_MAY_SEND))
			continue;
		l45_flow_set(&t->flow, instance, entry->priority, switches);
		l45_customization_get(customization);
		l45_customization_attached(customization);
	}
}

void l45_tcp_sync(struct l45_tcp *t)
{
	struct l45_net *net = t->tap.net;
	struct l45_set *set;

	if (l45_generation(net) == t->tap.generation)
		return;
	set = l45_set_get(net);
	spin_lock(&net->totals);
	update_attached(t, set);
	attach_new(t, set);
	t->not_before =
		0; /* what waits is of the old set, and may be what the peer must have now */
	spin_unlock(&net->totals);
	t->tap.generation = set->generation;
	l45_set_put(set);
	l45_tap_kick(&t->tap, 0);
}

/*
 * What was taken away leaves when the peer cannot use it any more.
 */

static u64 deadline_of(const struct l45_customization *customization)
{
	return READ_ONCE(customization->drain_until);
}

/* Whether the peer may still begin with it, or switch to it. */
static bool may_come(const struct l45_tcp *t, const struct l45_instance *instance, u64 now)
{
	u64 until = deadline_of(l45_customization_of(instance));
	const struct l45_receiver *rx = &t->flow.rx;

	if (instance->module->kind == L45_STREAM_WATCH || rx->state == L45_RECEIVE_BROKEN ||
	    rx->state == L45_RECEIVE_PLAIN)
		return false;
	if (rx->state == L45_RECEIVE_LOOK && rx->first)
		until += L45_GRACE_NS;
	return rx->in_use == instance || now < until;
}

void l45_tcp_let_go(struct l45_tcp *t, struct l45_attached_stream *attached)
{
	struct l45_customization *customization = l45_customization_of(attached->instance);
	struct l45_counts counts = attached->counts;
	int error;

	spin_lock(&t->tap.net->totals);
	error = l45_flow_detach(&t->flow, attached->instance);
	spin_unlock(&t->tap.net->totals);
	if (error)
		return;
	l45_customization_detached(customization, &counts);
	l45_customization_put(customization);
}

void l45_tcp_keep_begun(struct l45_tcp *t)
{
	struct l45_set *set = l45_set_get(t->tap.net);
	const struct l45_entry *entry;

	t->provisional = false;
	for (u32 i = t->flow.count; i > 0; i--) {
		struct l45_attached_stream *attached = &t->flow.attached[i - 1];

		entry = entry_of(set, l45_customization_of(attached->instance));
		if (entry && entry->flags & L45_CUSTOMIZATION_DEPRECATED &&
		    t->flow.rx.in_use != attached->instance)
			l45_tcp_let_go(t, attached);
	}
	l45_set_put(set);
	t->tap.generation = 0; /* switches as they are from now on */
	l45_tcp_sync(t);
}

/* Returns when to look again, 0: when something happens. */
static u64 drain(struct l45_tcp *t, u64 now)
{
	u64 next = 0;

	/* No end will go out, unless the connection is still to be made. */
	if (l45_sk(t)->sk_state == TCP_CLOSE && t->tap.sock->state != SS_UNCONNECTED) {
		t->flow.tx.state = L45_SEND_BROKEN;
		t->flow.tx.in_use = NULL;
	}
	t->draining = false;
	for (u32 i = t->flow.count; i > 0; i--) {
		struct l45_attached_stream *attached = &t->flow.attached[i - 1];
		const struct l45_instance *instance = attached->instance;
		u64 until = deadline_of(l45_customization_of(instance));

		if (!until)
			continue;
		if (!may_come(t, instance, now)) {
			if (t->flow.tx.in_use != instance)
				l45_tcp_let_go(t, attached);
			continue;
		}
		t->draining = true;
		if (t->flow.rx.in_use != instance)
			until += L45_GRACE_NS;
		if (now < until)
			next = l45_earlier(next, until);
		else
			l45_flow_drain(&t->flow, now); /* framed with it: the peer never ended */
	}
	next = l45_earlier(next, t->flow.rx.end_until);
	/* The end can come while nobody reads. */
	return t->draining ? l45_earlier(next, now + LOOK_NS) : next;
}

/*
 * Time.
 */

static void wake_at(struct l45_tcp *t, u64 when, u64 now)
{
	if (when)
		l45_tap_kick(&t->tap, when > now ? nsecs_to_jiffies(when - now) + 1 : 1);
}

void l45_tcp_tick(struct l45_tcp *t)
{
	struct l45_receiver *rx = &t->flow.rx;
	u32 given = rx->given_size;
	u64 now;

	if (!rx->held && !rx->armed && !rx->end_until)
		return;
	now = ktime_get_ns();
	wake_at(t, l45_flow_tick(&t->flow, now), now);
	if (rx->state == L45_RECEIVE_BROKEN)
		l45_tcp_break(t);
	if (rx->given_size > given || t->reset)
		t->news++;
}

/* Nothing is customized, and nothing will be: the socket is the kernel's again. */
static bool is_idle(const struct l45_tcp *t)
{
	return !t->flow.count && !t->train.size && !l45_tcp_decoded(t) && !t->fin && !t->granted &&
	       !t->not_before && t->flow.tx.state != L45_SEND_FRAMED &&
	       t->flow.rx.state != L45_RECEIVE_FRAMED && !t->flow.rx.held &&
	       t->flow.rx.given_size == t->flow.rx.given_taken && !t->reset;
}

/* What the application may wait for: bytes, or room. */
static void wake_application(struct l45_tcp *t, u32 news)
{
	struct sock *sk = l45_sk(t);

	if (t->news != news)
		sk->sk_data_ready(sk);
	smp_mb(); /* who polls says first that he waits, and then looks (l45_tcp_poll) */
	if (!l45_tcp_is_held(t))
		sk->sk_write_space(sk);
}

/* The peer's end may be here already, in front of the application's bytes or, when there is no more
 * time, behind them. */
static void look_for_end(struct l45_tcp *t)
{
	u64 now = ktime_get_ns();

	if (t->flow.rx.state == L45_RECEIVE_LOOK)
		l45_tcp_look(t); /* the mark may be here, and nobody has read it */
	drain(t, now);
	if (t->flow.rx.end_until)
		l45_tcp_make_ready(t, l45_tcp_ready_at_most(t));
	else if (t->draining || t->flow.rx.held)
		l45_tcp_look(t);
}

/* The end that shutdown() has left to us, as inet_shutdown() does it with the lock that we have. */
static void send_fin(struct l45_tcp *t)
{
	struct sock *sk = l45_sk(t);

	if (!t->fin || l45_tcp_is_held(t) || t->reset)
		return;
	t->fin = false;
	if (sk->sk_state == TCP_CLOSE)
		return;
	WRITE_ONCE(sk->sk_shutdown, sk->sk_shutdown | SEND_SHUTDOWN);
	sk->sk_prot->shutdown(sk, SEND_SHUTDOWN);
	sk->sk_state_change(sk);
}

bool l45_tcp_work(struct l45_tcp *t)
{
	u32 news = t->news;
	long timeo = 0;
	u64 now;

	l45_tcp_sync(t);
	if ((1 << l45_sk(t)->sk_state) & (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT))
		l45_tcp_settle(t, &timeo);
	look_for_end(t);
	l45_tcp_tick(t);
	now = ktime_get_ns();
	wake_at(t, drain(t, now), now);
	wake_application(t, news);
	send_fin(t);
	if (!is_idle(t))
		return false;
	WRITE_ONCE(l45_sk(t)->sk_rcvlowat, t->lowat);
	l45_make_native(t->tap.sock);
	l45_tap_detach(&t->tap);
	return true;
}

/*
 * The end.
 */

/* Who closes with bytes unread resets the connection (RFC 1122, 4.2.2.13); those that are decoded
 * the transport does not know of. */
void l45_tcp_finish(struct l45_tcp *t)
{
	if (sock_flag(l45_sk(t), SOCK_LINGER) && !l45_sk(t)->sk_lingertime)
		l45_train_drop(t);
	else
		l45_tcp_flush(t);
	if (t->tap.closed)
		return;
	if (l45_sk(t)->sk_state != TCP_LISTEN)
		l45_tcp_look(t); /* the peer's end alone is nothing that is unread */
	if (l45_tcp_decoded(t))
		l45_tcp_break(t);
}
