// SPDX-License-Identifier: GPL-2.0
/* A flow: which customizations it has, and how a live one is armed. */
#include "stream.h"

void l45_flow_open(struct l45_flow *flow, enum l45_role role, const char *process)
{
	memset(flow, 0, sizeof(*flow));
	memcpy(flow->process, process, sizeof(flow->process));
	flow->role = role;
	flow->tx.state = role == L45_JOIN ? L45_SEND_PLAIN : L45_SEND_NEW;
	flow->rx.state = role == L45_JOIN ? L45_RECEIVE_PLAIN : L45_RECEIVE_LOOK;
	flow->rx.first = role != L45_JOIN;
}

void l45_flow_close(struct l45_flow *flow)
{
	l45_release(flow->rx.whole);
	flow->rx.whole = NULL;
	flow->tx.state = L45_SEND_BROKEN;
	flow->rx.state = L45_RECEIVE_BROKEN;
}

struct l45_attached_stream *l45_flow_find(struct l45_flow *flow, const struct l45_instance *of)
{
	for (__u32 i = 0; i < flow->count; i++)
		if (flow->attached[i].instance == of)
			return &flow->attached[i];
	return NULL;
}

static int is_taken(const struct l45_flow *flow, const struct l45_instance *instance)
{
	__u8 name[L45_NAMED_SIZE];

	l45_put_name(name, instance);
	for (__u32 i = 0; i < flow->count; i++)
		if (l45_is_named(name, flow->attached[i].instance))
			return 1;
	return 0;
}

static void put(struct l45_flow *flow, struct l45_attached_stream attached)
{
	__u32 place = flow->count++;

	for (; place && flow->attached[place - 1].priority > attached.priority; place--)
		flow->attached[place] = flow->attached[place - 1];
	flow->attached[place] = attached;
}

static struct l45_attached_stream take(struct l45_flow *flow, struct l45_attached_stream *place)
{
	struct l45_attached_stream taken = *place;
	__u32 behind = flow->attached + flow->count - place - 1;

	memmove(place, place + 1, behind * sizeof(*place));
	flow->count--;
	return taken;
}

int l45_flow_attach(struct l45_flow *flow, const struct l45_instance *instance, __u32 priority,
		    __u8 switches)
{
	if (instance->module->kind == L45_DATAGRAM)
		return -EINVAL;
	if (is_taken(flow, instance))
		return -EEXIST;
	if (flow->count == L45_ATTACHED_MAX)
		return -ENOSPC;
	put(flow, (struct l45_attached_stream){
			  .instance = instance,
			  .priority = priority,
			  .switches = switches,
			  .opens = !!(switches & L45_MAY_SEND),
		  });
	return 0;
}

int l45_flow_set(struct l45_flow *flow, const struct l45_instance *instance, __u32 priority,
		 __u8 switches)
{
	struct l45_attached_stream *place = l45_flow_find(flow, instance), attached;

	if (!place)
		return -ENOENT;
	attached = take(flow, place);
	attached.priority = priority;
	attached.switches = switches;
	put(flow, attached);
	return 0;
}

int l45_flow_detach(struct l45_flow *flow, const struct l45_instance *instance)
{
	struct l45_attached_stream *place = l45_flow_find(flow, instance);

	if (!place)
		return -ENOENT;
	if (flow->tx.in_use == instance || flow->rx.in_use == instance)
		return -EBUSY;
	take(flow, place);
	return 0;
}

void l45_flow_arm(struct l45_flow *flow, const __u8 token[L45_TOKEN], __u64 now, __u64 window)
{
	l45_flow_disarm(flow);
	memcpy(flow->token, token, L45_TOKEN);
	flow->window_until = now + window;
	/* The rest of the window is for the mark to arrive. */
	flow->go_until = now + window / 2;
	flow->tx.armed = 1;
	flow->rx.armed = 1;
	flow->rx.late = 0;
	flow->rx.state = l45_receive_next[flow->rx.state][L45_RECEIVE_ARMED];
}

int l45_flow_go(struct l45_flow *flow, __u64 now)
{
	if (!flow->tx.armed)
		return -EINVAL;
	if (now >= flow->go_until)
		return -ETIME;
	flow->tx.go = 1;
	return 0;
}

void l45_flow_disarm(struct l45_flow *flow)
{
	flow->tx.armed = 0;
	flow->tx.go = 0;
	flow->rx.armed = 0;
	l45_receive_reconsider(flow);
}

void l45_flow_drain(struct l45_flow *flow, __u64 until)
{
	flow->rx.end_until = until;
}

static void stop_going(struct l45_flow *flow, __u64 now)
{
	if (flow->tx.armed && now >= flow->go_until) {
		flow->tx.armed = 0;
		flow->tx.go = 0;
	}
}

__u64 l45_flow_tick(struct l45_flow *flow, __u64 now)
{
	stop_going(flow, now);
	return l45_earlier(flow->tx.armed ? flow->go_until : 0, l45_receive_tick(flow, now));
}
