// SPDX-License-Identifier: GPL-2.0
/*
 * The eBPF tap: one program set for all network namespaces of a kernel.
 *
 * A datagram leaves (tc egress) or arrives (tc ingress) on an interface of a namespace. Its socket
 * tells the owner (owners.h), the owner's namespace the set of customizations. The first that
 * matches is asked by tail call into its module; the module's answer comes back, by tail call
 * again, to l45_answer, which finishes the packet or asks the next.
 *
 * The interfaces are Ethernet, and the driver chooses them so that a packet comes by once
 * (host_agent/bpf_tc.py).
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <l45/module.h>
#include <attach.h>
#include <match.h>
#include "kernel.h"
#include "maps.h"
#include "owners.h"
#include "payload.h"

/* Other filters of the interface are asked too. */
#define UNTOUCHED TC_ACT_UNSPEC

/* A namespace's set is replaced whole: the outer map's update is one pointer, and returns to the
 * driver when no program sees the old set any more (the kernel waits for a grace period). A plain
 * hash would reuse an element at once, under the eyes of a program that copies it.
 * Sizes, not types: Linux 6.1 takes the driver's maps, made without BTF, for another kind of map
 * than one with BTF. */
struct l45_set_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct l45_set));
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, L45_TABLE_MAX);
	__type(key, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct l45_set_map);
} l45_namespaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, L45_TABLE_MAX);
	__type(key, __u32);
	__type(value, struct l45_counters);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_counts SEC(".maps");

/* Written and read by the driver alone: which module is in which slot of the dispatch table. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, L45_MODULES_MAX);
	__type(key, __u32);
	__type(value, struct l45_module_entry);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_modules SEC(".maps");

#define COUNT(index, what)                                         \
	do {                                                       \
		struct l45_counters *counters;                     \
		__u32 key = (index);                               \
		counters = bpf_map_lookup_elem(&l45_counts, &key); \
		if (counters)                                      \
			counters->what++;                          \
	} while (0)

static __noinline int load_set(struct l45_walk *walk)
{
	__u64 netns = walk->owner.netns;
	const struct l45_set *set;
	__u32 first = 0;
	void *inner;

	inner = bpf_map_lookup_elem(&l45_namespaces, &netns);
	if (!inner)
		return 0;
	set = bpf_map_lookup_elem(inner, &first);
	if (!set || !set->count)
		return 0;
	walk->set = *set;
	walk->position = 0;
	walk->changed = 0;
	walk->too_big = 0;
	return 1;
}

static inline int left_alone(const struct l45_owner *owner, const struct l45_customization *c)
{
	for (__u32 i = 0; i < L45_LEFT_MAX; i++)
		if (i < owner->left_count && l45_same_id(owner->left[i], c->id))
			return 1;
	return 0;
}

/* Put the next customization for this message into walk->index; its slot, or -1: there is none. */
static __noinline int next_slot(struct l45_walk *walk)
{
	__u32 wanted = walk->direction == L45_PLACE_SEND ? L45_FLAG_SEND : L45_FLAG_RECEIVE;
	const struct l45_customization *c;
	const struct l45_attached *entry;

	for (__u32 i = 0; i < L45_SET_MAX; i++) {
		if (i < walk->position || i >= walk->set.count)
			continue;
		entry = &walk->set.entries[i];
		c = bpf_map_lookup_elem(&l45_customizations, &entry->index);
		if (!c || !(entry->flags & wanted) || left_alone(&walk->owner, c) ||
		    !l45_matches(&c->match, &walk->owner, &walk->flow))
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
	COUNT(walk->index, errors); /* its module is gone, or too many modules said "next" */
	return UNTOUCHED;
}

enum shape {
	FOREIGN,
	DATAGRAM,
	LARGE
};

static inline enum shape shape_of(struct __sk_buff *skb, const struct ipv4_header *ip)
{
	__u16 fragment = bpf_ntohs(ip->fragment) & 0x3fff;

	if (fragment & 0x1fff)
		return FOREIGN; /* a later fragment: no UDP header in it */
	return fragment || skb->gso_size ? LARGE : DATAGRAM;
}

static __noinline enum shape parse(struct __sk_buff *skb, struct l45_walk *walk)
{
	struct ipv4_header ip;
	struct udp_header udp;
	__u32 header;

	/* A packet with a VLAN tag comes by again on the VLAN's interface. */
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    bpf_skb_load_bytes(skb, ETH_HEADER_SIZE, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return FOREIGN;
	header = (ip.version_ihl & 15) * 4;
	walk->ip = ETH_HEADER_SIZE;
	walk->udp = walk->ip + header;
	walk->payload = walk->udp + sizeof(udp);
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip) ||
	    bpf_skb_load_bytes(skb, walk->udp, &udp, sizeof(udp)))
		return FOREIGN;
	walk->length = bpf_ntohs(udp.length) - sizeof(udp);
	walk->length_before = walk->length;
	walk->flow.protocol = IPPROTO_UDP;
	walk->flow.local = walk->direction == L45_PLACE_SEND ? ip.source : ip.destination;
	walk->flow.remote = walk->direction == L45_PLACE_SEND ? ip.destination : ip.source;
	walk->flow.local_port = walk->direction == L45_PLACE_SEND ? udp.source : udp.destination;
	walk->flow.remote_port = walk->direction == L45_PLACE_SEND ? udp.destination : udp.source;
	if (shape_of(skb, &ip) != DATAGRAM)
		return shape_of(skb, &ip);
	if (bpf_ntohs(udp.length) < sizeof(udp) ||
	    bpf_ntohs(ip.total) != header + bpf_ntohs(udp.length) ||
	    walk->payload + walk->length > skb->len)
		return FOREIGN;
	return DATAGRAM;
}

SEC("tc")
int l45_egress(struct __sk_buff *skb)
{
	struct l45_walk *walk = l45_context_of_cpu();
	struct bpf_sock *sk = skb->sk;
	struct l45_owner *owner;
	enum shape shape;
	__u32 port;

	if (!walk || !sk)
		return UNTOUCHED;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return UNTOUCHED;
	port = sk->src_port;
	owner = bpf_sk_storage_get(&l45_sockets, sk, 0, 0);
	if (!owner)
		return UNTOUCHED;
	walk->owner = *owner;
	walk->direction = L45_PLACE_SEND;
	if (!load_set(walk))
		return UNTOUCHED;
	shape = parse(skb, walk);
	/* What a tunnel wraps around a datagram still has its socket, but other ports. */
	if (shape == FOREIGN || walk->flow.local_port != bpf_htons(port))
		return UNTOUCHED;
	if (shape == DATAGRAM)
		return ask_next(skb, walk);
	if (next_slot(walk) >= 0)
		COUNT(walk->index, too_big);
	return UNTOUCHED;
}

/* The socket that an arrived datagram is for; to be released. */
static __always_inline struct bpf_sock *receiver(struct __sk_buff *skb, const struct l45_flow *flow)
{
	struct bpf_sock_tuple tuple = {
		.ipv4.saddr = flow->remote,
		.ipv4.daddr = flow->local,
		.ipv4.sport = flow->remote_port,
		.ipv4.dport = flow->local_port,
	};

	return bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
}

static __noinline int load_receiver(struct __sk_buff *skb, struct l45_walk *walk)
{
	struct bpf_sock *sk = receiver(skb, &walk->flow);
	struct l45_owner *owner;
	int known = 0;

	if (!sk)
		return 0;
	owner = bpf_sk_storage_get(&l45_sockets, sk, 0, 0);
	if (owner) {
		walk->owner = *owner;
		known = 1;
	}
	bpf_sk_release(sk);
	return known;
}

/* A router's own wildcard socket is found for what only passes through: ask the routes. */
static __noinline int forwarded(struct __sk_buff *skb, const struct l45_walk *walk)
{
	struct bpf_fib_lookup route = {
		.family = AF_INET,
		.ifindex = skb->ifindex,
		.ipv4_src = walk->flow.remote,
		.ipv4_dst = walk->flow.local,
	};
	long answer = bpf_fib_lookup(skb, &route, sizeof(route), 0);

	return answer != BPF_FIB_LKUP_RET_NOT_FWDED && answer != BPF_FIB_LKUP_RET_FWD_DISABLED;
}

SEC("tc")
int l45_ingress(struct __sk_buff *skb)
{
	struct l45_walk *walk = l45_context_of_cpu();

	if (!walk || skb->pkt_type != PACKET_HOST)
		return UNTOUCHED;
	walk->direction = L45_PLACE_RECEIVE;
	if (parse(skb, walk) != DATAGRAM || !load_receiver(skb, walk) || !load_set(walk) ||
	    forwarded(skb, walk))
		return UNTOUCHED;
	return ask_next(skb, walk);
}

/* Lengths and checksums after the payload changed. The UDP sum waits for the device
 * (CHECKSUM_PARTIAL) or is there; the helper knows which, and leaves 0 (no checksum) alone. A sum
 * of the whole packet by the device (CHECKSUM_COMPLETE) stays right because what the payload adds
 * the UDP sum takes away; where the size changes, bpf_skb_change_tail has dropped it already. */
static __noinline int finish(struct __sk_buff *skb, const struct l45_walk *walk)
{
	__u32 check = walk->udp + __builtin_offsetof(struct udp_header, check);
	__u32 ip_check = walk->ip + __builtin_offsetof(struct ipv4_header, check);
	__be16 total = bpf_htons(walk->payload - walk->ip + walk->length);
	__be16 total_before = bpf_htons(walk->payload - walk->ip + walk->length_before);
	__be16 size = bpf_htons(sizeof(struct udp_header) + walk->length);
	__be16 size_before = bpf_htons(sizeof(struct udp_header) + walk->length_before);
	__u32 sum = l45_sum(skb, walk->payload, walk->length);

	/* The length counts twice: in the pseudo header and in the UDP header. */
	return bpf_l4_csum_replace(skb, check, walk->sum_before, sum, BPF_F_MARK_MANGLED_0 | 4) ||
	       bpf_l4_csum_replace(skb, check, size_before, size,
				   BPF_F_MARK_MANGLED_0 | BPF_F_PSEUDO_HDR | 2) ||
	       bpf_l4_csum_replace(skb, check, size_before, size, BPF_F_MARK_MANGLED_0 | 2) ||
	       bpf_skb_store_bytes(skb, walk->udp + __builtin_offsetof(struct udp_header, length),
				   &size, sizeof(size), 0) ||
	       bpf_skb_store_bytes(skb, walk->ip + __builtin_offsetof(struct ipv4_header, total),
				   &total, sizeof(total), 0) ||
	       bpf_l3_csum_replace(skb, ip_check, total_before, total, 2);
}

static inline void leave(struct l45_owner *owner, __u32 index)
{
	const struct l45_customization *c = bpf_map_lookup_elem(&l45_customizations, &index);

	if (owner && c)
		__builtin_memcpy(owner->left[owner->left_count++ % L45_LEFT_MAX], c->id, L45_ID);
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
	sk = receiver(skb, &walk->flow);
	if (sk) {
		leave(bpf_sk_storage_get(&l45_sockets, sk, 0, 0), walk->index);
		bpf_sk_release(sk);
	}
	return 0;
}

static __always_inline int done(struct __sk_buff *skb, struct l45_walk *walk)
{
	if (walk->changed && finish(skb, walk)) {
		COUNT(walk->index, errors);
		return TC_ACT_SHOT;
	}
	if (walk->direction == L45_PLACE_SEND)
		COUNT(walk->index, sent);
	else
		COUNT(walk->index, received);
	return UNTOUCHED;
}

/* A module could not do it. */
static inline void count_failure(const struct l45_walk *walk)
{
	if (walk->too_big)
		COUNT(walk->index, too_big);
	else
		COUNT(walk->index, errors);
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
		COUNT(walk->index, dropped);
		return TC_ACT_SHOT;
	case L45_SPOILT:
		count_failure(walk);
		return TC_ACT_SHOT;
	case L45_FAIL:
		count_failure(walk);
		return UNTOUCHED;
	case L45_FORWARD:
		COUNT(walk->index, passed);
		return UNTOUCHED;
	case L45_ASK:
		break;
	}
	COUNT(walk->index, passed);
	if (walk->verdict == L45_LEAVE)
		leave_socket(skb, walk);
	return ask_next(skb, walk);
}

char l45_license[] SEC("license") = "GPL";
