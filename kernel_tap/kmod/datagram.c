// SPDX-License-Identifier: GPL-2.0
/* One datagram, and the customizations that are asked about it (core/attach.h says how). */
#include <linux/mm.h>

#include "udp.h"

/* Room at each end. wire/manifest.py allows a module a growth of 1400 bytes. */
#define ROOM 1536

/* Under udp->lock, as the next functions. */
static bool is_wanted(const struct l45_udp *udp, u32 i, u8 way, const struct l45_ends *ends,
		      bool maybe)
{
	const struct l45_entry *entry = &udp->set->entries[i];

	return udp->on[i].attached && !udp->on[i].left && (l45_switches(entry->flags) & way) &&
	       (!ends || l45_ends_match(&entry->customization->match, ends, maybe));
}

bool l45_datagram_wanted(struct l45_udp *udp, u8 way, const struct l45_ends *ends)
{
	bool wanted = false;

	mutex_lock(&udp->lock);
	for (u32 i = 0; udp->set && i < udp->set->count && !wanted; i++)
		wanted = is_wanted(udp, i, way, ends, true);
	mutex_unlock(&udp->lock);
	return wanted;
}

int l45_datagram_open(struct l45_datagram *datagram, u8 way, const struct l45_ends *ends, u32 size)
{
	memset(datagram, 0, sizeof(*datagram));
	datagram->way = way;
	datagram->ends = *ends;
	datagram->msg.size = ROOM + size + ROOM;
	datagram->msg.buffer = kvmalloc(datagram->msg.size, GFP_KERNEL);
	return datagram->msg.buffer ? 0 : -ENOBUFS;
}

static void forget(struct l45_datagram *datagram)
{
	if (datagram->set)
		l45_set_put(datagram->set);
	datagram->set = NULL;
}

void l45_datagram_close(struct l45_datagram *datagram)
{
	forget(datagram);
	kvfree(datagram->msg.buffer);
	datagram->msg.buffer = NULL;
}

u8 *l45_datagram_payload(struct l45_datagram *datagram)
{
	return datagram->msg.buffer + ROOM;
}

static enum l45_verdict call(struct l45_udp *udp, struct l45_datagram *datagram, u32 i)
{
	const struct l45_instance *instance = &udp->set->entries[i].customization->instance;
	l45_callback callback =
		datagram->way == L45_MAY_SEND ? instance->module->send : instance->module->recv;

	datagram->msg.instance = instance;
	datagram->msg.too_big = 0; /* what an earlier module met is not this one's */
	return callback ? callback(&datagram->msg) : L45_NEXT;
}

static enum l45_fate did(struct l45_datagram *datagram, u32 i, enum l45_deed deed,
			 enum l45_fate fate)
{
	datagram->deeds[i] = deed;
	return fate;
}

static enum l45_fate ask_one(struct l45_udp *udp, struct l45_datagram *datagram, u32 i)
{
	enum l45_verdict verdict = call(udp, datagram, i);
	enum l45_deed failure = datagram->msg.too_big ? L45_TOO_BIG : L45_FAILED;

	switch (l45_after(verdict, datagram->msg.changed)) {
	case L45_FINISH:
		return did(datagram, i, L45_ACTED, L45_CUSTOMIZED);
	case L45_DISCARD:
		return did(datagram, i, L45_DROPPED, L45_GONE);
	case L45_SPOILT:
		return did(datagram, i, failure, L45_GONE);
	case L45_FAIL:
		return did(datagram, i, failure, L45_UNCHANGED);
	case L45_FORWARD:
		return did(datagram, i, L45_PASSED, L45_UNCHANGED);
	case L45_ASK:
		break;
	}
	if (verdict == L45_LEAVE)
		udp->on[i].left = true;
	return did(datagram, i, L45_PASSED, L45_UNDECIDED);
}

static enum l45_fate ask_all(struct l45_udp *udp, struct l45_datagram *datagram)
{
	enum l45_fate fate = L45_UNDECIDED;

	if (!udp->set)
		return L45_UNCHANGED;
	datagram->set = udp->set;
	refcount_inc(&udp->set->refs);
	for (u32 i = 0; i < udp->set->count && fate == L45_UNDECIDED; i++)
		if (is_wanted(udp, i, datagram->way, &datagram->ends, false))
			fate = ask_one(udp, datagram, i);
	return fate == L45_UNDECIDED ? L45_UNCHANGED : fate;
}

enum l45_fate l45_datagram_ask(struct l45_udp *udp, struct l45_datagram *datagram, u32 size,
			       u32 limit)
{
	struct l45_msg *msg = &datagram->msg;
	enum l45_fate fate;

	forget(datagram);
	memset(datagram->deeds, L45_NOTHING, sizeof(datagram->deeds));
	datagram->state = 0;
	msg->state = &datagram->state;
	msg->process = udp->tap.owner.process;
	msg->start = ROOM;
	msg->visible = size;
	msg->limit = limit;
	msg->changed = 0;
	mutex_lock(&udp->lock);
	fate = ask_all(udp, datagram);
	mutex_unlock(&udp->lock);
	datagram->bytes = datagram->way == L45_MAY_SEND ? size : msg->visible;
	return fate;
}

/* What is told of the flow: it may have got a port or a peer since it was customized. */
static void note_ends(struct l45_udp *udp)
{
	const struct sock *sk = udp->tap.sk;

	if (udp->tap.ends.local_port != READ_ONCE(sk->sk_num) ||
	    udp->tap.ends.remote_port != ntohs(READ_ONCE(sk->sk_dport)))
		l45_ends_of(sk, &udp->tap.ends);
}

static void count_acted(struct l45_udp *udp, struct l45_counts *counts,
			const struct l45_datagram *datagram)
{
	u64 now = ktime_get_real_ns();

	note_ends(udp);
	if (datagram->way == L45_MAY_SEND) {
		counts->sent++;
		counts->sent_bytes += datagram->bytes;
		WRITE_ONCE(udp->tap.sent, now);
	} else {
		counts->received++;
		counts->received_bytes += datagram->bytes;
		WRITE_ONCE(udp->tap.received, now);
	}
}

static void count(struct l45_udp *udp, struct l45_counts *counts,
		  const struct l45_datagram *datagram, enum l45_deed deed)
{
	switch (deed) {
	case L45_NOTHING:
		break;
	case L45_PASSED:
		counts->passed++;
		break;
	case L45_ACTED:
		count_acted(udp, counts, datagram);
		break;
	case L45_DROPPED:
		counts->dropped++;
		break;
	case L45_FAILED:
		counts->errors++;
		break;
	case L45_TOO_BIG:
		counts->too_big++;
		break;
	}
}

/* The set may be another than when they were asked. */
static struct l45_counts *counts_of(struct l45_udp *udp,
				    const struct l45_customization *customization)
{
	for (u32 i = 0; udp->set && i < udp->set->count; i++)
		if (udp->set->entries[i].customization == customization && udp->on[i].attached)
			return &udp->on[i].counts;
	return NULL;
}

void l45_datagram_count(struct l45_udp *udp, struct l45_datagram *datagram)
{
	struct l45_counts *counts;

	if (!datagram->set)
		return;
	mutex_lock(&udp->lock);
	for (u32 i = 0; i < datagram->set->count; i++) {
		if (datagram->deeds[i] == L45_NOTHING)
			continue;
		counts = counts_of(udp, datagram->set->entries[i].customization);
		if (counts)
			count(udp, counts, datagram, datagram->deeds[i]);
	}
	mutex_unlock(&udp->lock);
	forget(datagram);
}
