// SPDX-License-Identifier: GPL-2.0
/*
 * The eBPF tap: one program set for all network namespaces of a kernel.
 *
 * A datagram leaves (tc egress) or arrives (tc ingress) on an interface of a namespace. Its socket
 * tells the owner (owners.h), the owner's namespace the set of customizations (sets.h). The first
 * that matches is asked by tail call into its module; the module's answer comes back, by tail call
 * again, to l45_answer, which finishes the packet (headers.h) or asks the next, and counts
 * (flows.h).
 *
 * The interfaces are Ethernet, and the driver chooses them so that a packet comes by once
 * (host_agent/bpf_tc.py).
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include <l45/module.h>
#include <attach.h>
#include <match.h>
#include "flows.h"
#include "headers.h"
#include "kernel.h"
#include "maps.h"
#include "owners.h"
#include "sets.h"

/* Other filters of the interface are asked too. */
#define UNTOUCHED TC_ACT_UNSPEC

/* Written and read by the driver alone: which module is in which slot of the dispatch table. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, L45_MODULES_MAX);
	__type(key, __u32);
	__type(value, struct l45_module_entry);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_modules SEC(".maps");

/* Begin with a message of this socket; 0: nothing in force is for it. */
static __noinline int begin(struct l45_walk *walk, struct l45_socket *socket)
{
	const struct l45_set *set = l45_set_of(socket->netns);
	__u32 attached = set ? l45_attached_to(socket, set) : 0;

	if (!attached)
		return 0;
	walk->set = *set;
	walk->attached = attached;
	walk->position = 0;
	walk->changed = 0;
	walk->too_big = 0;
	__builtin_memcpy(walk->process, socket->owner.user.process, L45_COMM);
	return 1;
}

/* Put the next customization for this message into walk->index; its slot, or -1: there is none. */
static __noinline int next_slot(struct l45_walk *walk)
{
	__u32 wanted = walk->direction == L45_PLACE_SEND ? L45_FLAG_SEND : L45_FLAG_RECEIVE;
	const struct l45_customization *c;
	const struct l45_attached *entry;

	for (__u32 i = 0; i < L45_SET_MAX; i++) {
		if (i < walk->position || !(walk->attached & 1u << i))
			continue;
		entry = &walk->set.entries[i];
		if (!(entry->flags & wanted) || entry->flags & L45_FLAG_INACTIVE)
			continue;
		c = bpf_map_lookup_elem(&l45_customizations, &entry->index);
		if (!c || !l45_ends_match(&c->match, &walk->ends))
			continue;
		walk->index = entry->index;
		walk->position = i + 1;
		return c->slot;
	}
	return -1;
}

static __always_inline int ask_next(struct __sk_buff *skb, struct l45_walk *walk)
{
	int slot = next_slot(walk);

	if (slot < 0)
		return UNTOUCHED;
	walk->too_big = 0; /* what an earlier module met is not this one's */
	bpf_tail_call(skb, &l45_dispatch, L45_PLACE(slot, walk->direction));
	l45_count(skb, walk, L45_ERRORS); /* its module is gone, or too many said "next" */
	return UNTOUCHED;
}

SEC("tc")
int l45_egress(struct __sk_buff *skb)
{
	struct l45_walk *walk = l45_context_of_cpu();
	struct bpf_sock *sk = skb->sk;
	struct l45_socket *socket;
	enum l45_shape shape;
	__u32 port;

	if (!walk || !sk)
		return UNTOUCHED;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return UNTOUCHED;
	port = sk->src_port;
	socket = bpf_sk_storage_get(&l45_sockets, sk, 0, 0);
	if (!socket || !begin(walk, socket))
		return UNTOUCHED;
	walk->direction = L45_PLACE_SEND;
	shape = l45_parse(skb, walk);
	/* What a tunnel wraps around a datagram still has its socket, but other ports. */
	if (shape == L45_FOREIGN || walk->ends.local_port != port)
		return UNTOUCHED;
	if (shape == L45_WHOLE)
		return ask_next(skb, walk);
	if (next_slot(walk) >= 0)
		l45_count(skb, walk, L45_TOO_BIG);
	return UNTOUCHED;
}

static __noinline int begin_with_receiver(struct __sk_buff *skb, struct l45_walk *walk)
{
	struct bpf_sock *sk = l45_receiver(skb, walk);
	struct l45_socket *socket;
	int begun = 0;

	if (!sk)
		return 0;
	socket = bpf_sk_storage_get(&l45_sockets, sk, 0, 0);
	if (socket)
		begun = begin(walk, socket);
	bpf_sk_release(sk);
	return begun;
}

SEC("tc")
int l45_ingress(struct __sk_buff *skb)
{
	struct l45_walk *walk = l45_context_of_cpu();

	if (!walk || skb->pkt_type != PACKET_HOST)
		return UNTOUCHED;
	walk->direction = L45_PLACE_RECEIVE;
	if (l45_parse(skb, walk) != L45_WHOLE || !begin_with_receiver(skb, walk) ||
	    l45_forwarded(skb, walk))
		return UNTOUCHED;
	return ask_next(skb, walk);
}

static inline void leave(struct l45_socket *socket, __u32 index)
{
	const struct l45_customization *c = bpf_map_lookup_elem(&l45_customizations, &index);

	if (!socket || !c)
		return;
	__builtin_memcpy(socket->left[socket->left_count++ % L45_LEFT_MAX], c->id, L45_ID);
	__sync_fetch_and_add(&socket->version, 1);
}

static __noinline int leave_socket(struct __sk_buff *skb, struct l45_walk *walk)
{
	struct bpf_sock *sk;

	if (walk->direction == L45_PLACE_SEND) {
		sk = skb->sk;
		sk = sk ? bpf_sk_fullsock(sk) : 0;
		if (sk)
			leave(bpf_sk_storage_get(&l45_sockets, sk, 0, 0), walk->index);
		return 0;
	}
	sk = l45_receiver(skb, walk);
	if (sk) {
		leave(bpf_sk_storage_get(&l45_sockets, sk, 0, 0), walk->index);
		bpf_sk_release(sk);
	}
	return 0;
}

static __always_inline int done(struct __sk_buff *skb, struct l45_walk *walk)
{
	if (walk->changed && l45_finish(skb, walk)) {
		l45_count(skb, walk, L45_ERRORS);
		return TC_ACT_SHOT;
	}
	l45_count(skb, walk, walk->direction == L45_PLACE_SEND ? L45_SENT : L45_RECEIVED);
	return UNTOUCHED;
}

/* A module could not do it. */
static inline void count_failure(struct __sk_buff *skb, struct l45_walk *walk)
{
	l45_count(skb, walk, walk->too_big ? L45_TOO_BIG : L45_ERRORS);
}

/* Takes the answer of a module. */
SEC("tc")
int l45_answer(struct __sk_buff *skb)
{
	struct l45_walk *walk = l45_context_of_cpu();

	if (!walk)
		return TC_ACT_SHOT;
	switch (l45_after(walk->verdict, walk->changed)) {
	case L45_FINISH:
		return done(skb, walk);
	case L45_DISCARD:
		l45_count(skb, walk, L45_DROPPED);
		return TC_ACT_SHOT;
	case L45_SPOILT:
		count_failure(skb, walk);
		return TC_ACT_SHOT;
	case L45_FAIL:
		count_failure(skb, walk);
		return UNTOUCHED;
	case L45_FORWARD:
		l45_count(skb, walk, L45_PASSED);
		return UNTOUCHED;
	case L45_ASK:
		break;
	}
	l45_count(skb, walk, L45_PASSED);
	if (walk->verdict == L45_LEAVE)
		leave_socket(skb, walk);
	return ask_next(skb, walk);
}

char l45_license[] SEC("license") = "GPL";
