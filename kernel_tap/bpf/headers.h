/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers of a packet, IPv4 and IPv6: what it is, between which ends, and how lengths and
 * checksums follow its payload.
 */
#ifndef L45_BPF_HEADERS_H
#define L45_BPF_HEADERS_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <l45/abi.h>
#include "kernel.h"
#include "payload.h"

#define L45_NEXT_FRAGMENT 44 /* IPv6's extension header of fragments (RFC 8200, 4.5) */

struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment; /* bit 13: more fragments; the lower ones: offset */
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 source;
	__be32 destination;
};

struct ipv6_header {
	__be32 version_class_label;
	__be16 length; /* of what follows this header */
	__u8 next;
	__u8 hops;
	__be32 source[4];
	__be32 destination[4];
};

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset; /* the upper 13 bits */
	__be32 id;
};

struct udp_header {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 check;
};

enum l45_shape {
	L45_FOREIGN, /* not ours, or not right: left alone */
	L45_WHOLE,   /* a datagram */
	L45_LARGE,   /* the first fragment of a datagram, or several that the device separates */
};

/* Source and destination of the packet, as local and remote. */
static inline void l45_set_addresses(struct l45_walk *walk, const __be32 source[4],
				     const __be32 destination[4])
{
	int sends = walk->direction == L45_PLACE_SEND;

	for (__u32 i = 0; i < 4; i++) {
		walk->ends.local[i] = sends ? source[i] : destination[i];
		walk->ends.remote[i] = sends ? destination[i] : source[i];
	}
}

/* A UDP header behind `header` bytes of IP's, and so many bytes behind these. */
static inline enum l45_shape l45_parse_udp(struct __sk_buff *skb, struct l45_walk *walk,
					   __u32 header, __u32 rest)
{
	int sends = walk->direction == L45_PLACE_SEND;
	struct udp_header udp;

	walk->ip = ETH_HEADER_SIZE;
	walk->udp = walk->ip + header;
	walk->payload = walk->udp + sizeof(udp);
	if (bpf_skb_load_bytes(skb, walk->udp, &udp, sizeof(udp)))
		return L45_FOREIGN;
	walk->length = bpf_ntohs(udp.length) - sizeof(udp);
	walk->length_before = walk->length;
	walk->ends.protocol = IPPROTO_UDP;
	walk->ends.local_port = bpf_ntohs(sends ? udp.source : udp.destination);
	walk->ends.remote_port = bpf_ntohs(sends ? udp.destination : udp.source);
	if (bpf_ntohs(udp.length) < sizeof(udp) || rest != bpf_ntohs(udp.length) ||
	    walk->payload + walk->length > skb->len)
		return L45_FOREIGN;
	return L45_WHOLE;
}

static inline enum l45_shape l45_parse_ipv4(struct __sk_buff *skb, struct l45_walk *walk)
{
	__be32 source[4] = { 0, 0, bpf_htonl(0xffff) },
	       destination[4] = { 0, 0, bpf_htonl(0xffff) };
	enum l45_shape shape;
	struct ipv4_header ip;
	__u32 header;

	if (bpf_skb_load_bytes(skb, ETH_HEADER_SIZE, &ip, sizeof(ip)))
		return L45_FOREIGN;
	header = (ip.version_ihl & 15) * 4;
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip) || ip.protocol != IPPROTO_UDP ||
	    bpf_ntohs(ip.fragment) & 0x1fff)
		return L45_FOREIGN; /* a later fragment has no UDP header */
	walk->version = 4;
	source[3] = ip.source;
	destination[3] = ip.destination;
	l45_set_addresses(walk, source, destination);
	shape = l45_parse_udp(skb, walk, header, bpf_ntohs(ip.total) - header);
	return skb->gso_size || bpf_ntohs(ip.fragment) & 0x2000 ? L45_LARGE : shape;
}

/* Other extension headers than that of a first fragment: the packet passes as it is. */
static inline enum l45_shape l45_parse_ipv6(struct __sk_buff *skb, struct l45_walk *walk)
{
	struct ipv6_fragment fragment = {};
	__u32 header = sizeof(struct ipv6_header);
	enum l45_shape shape;
	struct ipv6_header ip;

	if (bpf_skb_load_bytes(skb, ETH_HEADER_SIZE, &ip, sizeof(ip)) ||
	    (bpf_ntohl(ip.version_class_label) >> 28) != 6)
		return L45_FOREIGN;
	walk->version = 6;
	l45_set_addresses(walk, ip.source, ip.destination);
	if (ip.next == IPPROTO_UDP) {
		shape = l45_parse_udp(skb, walk, header, bpf_ntohs(ip.length));
		return skb->gso_size ? L45_LARGE : shape;
	}
	if (ip.next != L45_NEXT_FRAGMENT ||
	    bpf_skb_load_bytes(skb, ETH_HEADER_SIZE + header, &fragment, sizeof(fragment)) ||
	    fragment.next != IPPROTO_UDP || bpf_ntohs(fragment.offset) >> 3)
		return L45_FOREIGN;
	l45_parse_udp(skb, walk, header + sizeof(fragment), 0);
	return L45_LARGE;
}

/* Fill in what `walk` says of the packet; its direction is there. */
static __noinline enum l45_shape l45_parse(struct __sk_buff *skb, struct l45_walk *walk)
{
	walk->ends.protocol = 0;
	if (skb->vlan_present)
		return L45_FOREIGN; /* it comes by again on the VLAN's interface */
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return l45_parse_ipv4(skb, walk);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return l45_parse_ipv6(skb, walk);
	return L45_FOREIGN;
}

static inline long l45_finish_ipv4(struct __sk_buff *skb, const struct l45_walk *walk)
{
	__u32 check = walk->ip + __builtin_offsetof(struct ipv4_header, check);
	__u32 at = walk->ip + __builtin_offsetof(struct ipv4_header, total);
	__be16 total = bpf_htons(walk->payload - walk->ip + walk->length);
	__be16 before = bpf_htons(walk->payload - walk->ip + walk->length_before);

	return bpf_skb_store_bytes(skb, at, &total, sizeof(total), 0) ||
	       bpf_l3_csum_replace(skb, check, before, total, 2);
}

static inline long l45_finish_ipv6(struct __sk_buff *skb, const struct l45_walk *walk)
{
	__u32 at = walk->ip + __builtin_offsetof(struct ipv6_header, length);
	__be16 length = bpf_htons(sizeof(struct udp_header) + walk->length);

	return bpf_skb_store_bytes(skb, at, &length, sizeof(length), 0);
}

/* Lengths and checksums after the payload changed. The UDP sum waits for the device
 * (CHECKSUM_PARTIAL) or is there; the helper knows which, and leaves 0 (no checksum) alone. A sum
 * of the whole packet by the device (CHECKSUM_COMPLETE) stays right because what the payload adds
 * the UDP sum takes away; where the size changes, bpf_skb_change_tail has dropped it already. */
static __noinline int l45_finish(struct __sk_buff *skb, const struct l45_walk *walk)
{
	__u32 check = walk->udp + __builtin_offsetof(struct udp_header, check);
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
	       (walk->version == 4 ? l45_finish_ipv4(skb, walk) : l45_finish_ipv6(skb, walk));
}

/* A router's own wildcard socket is found for what only passes through: ask the routes. */
static __noinline int l45_forwarded(struct __sk_buff *skb, const struct l45_walk *walk)
{
	struct bpf_fib_lookup route = {
		.family = walk->version == 4 ? AF_INET : AF_INET6,
		.ifindex = skb->ifindex,
	};
	long answer;

	if (walk->version == 4) {
		route.ipv4_src = walk->ends.remote[3];
		route.ipv4_dst = walk->ends.local[3];
	} else {
		__builtin_memcpy(route.ipv6_src, walk->ends.remote, sizeof(route.ipv6_src));
		__builtin_memcpy(route.ipv6_dst, walk->ends.local, sizeof(route.ipv6_dst));
	}
	answer = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	return answer != BPF_FIB_LKUP_RET_NOT_FWDED && answer != BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* The socket that an arrived datagram is for; to be released. */
static __always_inline struct bpf_sock *l45_receiver(struct __sk_buff *skb,
						     const struct l45_walk *walk)
{
	const struct l45_ends *ends = &walk->ends;
	struct bpf_sock_tuple tuple = {};

	if (walk->version == 4) {
		tuple.ipv4.saddr = ends->remote[3];
		tuple.ipv4.daddr = ends->local[3];
		tuple.ipv4.sport = bpf_htons(ends->remote_port);
		tuple.ipv4.dport = bpf_htons(ends->local_port);
		return bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, ends->remote, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, ends->local, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = bpf_htons(ends->remote_port);
	tuple.ipv6.dport = bpf_htons(ends->local_port);
	return bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

#endif
