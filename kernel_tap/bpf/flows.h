/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What customizations did, in all and on each socket, and which sockets have any.
 */
#ifndef L45_BPF_FLOWS_H
#define L45_BPF_FLOWS_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "headers.h"
#include "kernel.h"
#include "maps.h"
#include "owners.h"
#include "sets.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, L45_TABLE_MAX);
	__type(key, __u32);
	__type(value, struct l45_counters);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_counts SEC(".maps");

/* Of the sockets that had a message for some module. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct l45_flow_counts);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_flows SEC(".maps");

enum l45_event {
	L45_SENT,
	L45_RECEIVED,
	L45_PASSED,
	L45_DROPPED,
	L45_ERRORS,
	L45_TOO_BIG,
};

/* `counters` belong to one CPU, or are added to by several. */
static __always_inline void l45_add(struct l45_counters *counters, const struct l45_walk *walk,
				    enum l45_event event)
{
	switch (event) {
	case L45_SENT:
		__sync_fetch_and_add(&counters->sent, 1);
		__sync_fetch_and_add(&counters->sent_bytes, walk->length_before);
		break;
	case L45_RECEIVED:
		__sync_fetch_and_add(&counters->received, 1);
		__sync_fetch_and_add(&counters->received_bytes, walk->length);
		break;
	case L45_PASSED:
		__sync_fetch_and_add(&counters->passed, 1);
		break;
	case L45_DROPPED:
		__sync_fetch_and_add(&counters->dropped, 1);
		break;
	case L45_ERRORS:
		__sync_fetch_and_add(&counters->errors, 1);
		break;
	case L45_TOO_BIG:
		__sync_fetch_and_add(&counters->too_big, 1);
		break;
	}
}

/* The place of a customization among a socket's counts, made if there is none. */
static __always_inline struct l45_on_flow *l45_place_on(struct l45_flow_counts *counts,
							const __u8 id[L45_ID])
{
	static const __u8 none[L45_ID];
	struct l45_on_flow *on;
	__u32 i;

	for (i = 0; i < L45_SET_MAX; i++) {
		on = &counts->on[i];
		if (l45_same_id(on->id, id))
			return on;
		if (l45_same_id(on->id, none))
			break;
	}
	if (i >= L45_SET_MAX)
		i = counts->next++ % L45_SET_MAX;
	on = &counts->on[i & (L45_SET_MAX - 1)];
	__builtin_memset(on, 0, sizeof(*on));
	__builtin_memcpy(on->id, id, L45_ID);
	return on;
}

static __noinline int l45_count_on_flow(struct l45_flow_counts *counts, const struct l45_walk *walk,
					enum l45_event event)
{
	__u32 index = walk->index;
	const struct l45_customization *c = bpf_map_lookup_elem(&l45_customizations, &index);

	if (!c)
		return 0;
	counts->ends = walk->ends;
	if (event == L45_SENT)
		counts->last_sent = bpf_ktime_get_ns();
	if (event == L45_RECEIVED)
		counts->last_received = bpf_ktime_get_ns();
	l45_add(&l45_place_on(counts, c->id)->counters, walk, event);
	return 0;
}

static __always_inline void l45_count_on(struct bpf_sock *sk, const struct l45_walk *walk,
					 enum l45_event event)
{
	struct l45_flow_counts *counts =
		bpf_sk_storage_get(&l45_flows, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (counts)
		l45_count_on_flow(counts, walk, event);
}

/* The customization that is asked did this to the message. */
static __noinline int l45_count(struct __sk_buff *skb, struct l45_walk *walk, enum l45_event event)
{
	__u32 index = walk->index;
	struct l45_counters *counters = bpf_map_lookup_elem(&l45_counts, &index);
	struct bpf_sock *sk;

	if (counters)
		l45_add(counters, walk, event);
	if (walk->direction == L45_PLACE_SEND) {
		sk = skb->sk;
		sk = sk ? bpf_sk_fullsock(sk) : 0;
		if (sk)
			l45_count_on(sk, walk, event);
		return 0;
	}
	sk = l45_receiver(skb, walk);
	if (sk) {
		l45_count_on(sk, walk, event);
		bpf_sk_release(sk);
	}
	return 0;
}

static inline void l45_map_address(__be32 to[4], __be32 address)
{
	to[2] = address ? bpf_htonl(0xffff) : 0;
	to[3] = address;
}

static inline void l45_ends_of(const struct sock *sk, struct l45_ends *ends)
{
	ends->protocol = IPPROTO_UDP;
	ends->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	ends->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&ends->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&ends->remote, sk, __sk_common.skc_v6_daddr);
		return;
	}
	l45_map_address(ends->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	l45_map_address(ends->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
}

/* Tell of the sockets that have customizations; the kernel goes through those of the namespace that
 * the reader is in, and that have a port. */
SEC("iter/udp")
int l45_list_flows(struct bpf_iter__udp *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct l45_flow_counts *counts;
	struct l45_flow_head head = {};
	const struct l45_set *set;
	struct l45_socket *socket;
	struct udp_sock *sk = ctx->udp_sk;

	if (!sk)
		return 0;
	socket = bpf_sk_storage_get(&l45_sockets, sk, 0, 0);
	set = socket ? l45_set_of(socket->netns) : 0;
	head.attached = set ? l45_attached_to(socket, set) : 0;
	if (!head.attached)
		return 0;
	counts = bpf_sk_storage_get(&l45_flows, sk, 0, 0);
	head.cookie = bpf_get_socket_cookie(sk);
	head.counted = counts != 0;
	l45_ends_of((void *)sk, &head.ends);
	bpf_seq_write(seq, &head, sizeof(head));
	bpf_seq_write(seq, socket, sizeof(*socket));
	if (counts)
		bpf_seq_write(seq, counts, sizeof(*counts));
	return 0;
}

#endif
