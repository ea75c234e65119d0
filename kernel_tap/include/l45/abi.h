/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Structures that the tap, the modules' eBPF programs and the driver (host_agent/bpf_abi.py)
 * share through maps. Fixed widths, no holes; what is named so is in network order.
 */
#ifndef L45_ABI_H
#define L45_ABI_H

#include <linux/types.h>

#define L45_COMM	16   /* TASK_COMM_LEN */
#define L45_ID		16   /* bytes of a customization's id */
#define L45_PARAMETERS	64   /* wire.messages.MAX_PARAMETERS */
#define L45_SET_MAX	16   /* wire.messages.MAX_CUSTOMIZATIONS: a namespace has at most so many */
#define L45_TABLE_MAX	4096 /* customizations of all namespaces of this kernel */
#define L45_MODULES_MAX 64   /* module artifacts of all namespaces of this kernel */
#define L45_LEFT_MAX	4    /* customizations a socket can have been left alone by */

/* Which sockets and messages a customization applies to; what is zero matches all. */
struct l45_match {
	char thread[L45_COMM];
	char process[L45_COMM];
	__be32 local, local_mask; /* address and prefix mask */
	__be32 remote, remote_mask;
	__be16 local_port, remote_port;
	__u32 protocol; /* IPPROTO_UDP */
};

/* The two ends of a message, seen from this host. */
struct l45_flow {
	__be32 local, remote;
	__be16 local_port, remote_port;
	__u32 protocol;
};

/* One instance of a module. Never changed while a set of a namespace refers to it. */
struct l45_customization {
	__u8 id[L45_ID];
	struct l45_match match;
	__u32 slot; /* its module's place in the dispatch table */
	__u32 parameters_size;
	__u8 parameters[L45_PARAMETERS];
};

#define L45_FLAG_SEND	 1u
#define L45_FLAG_RECEIVE 2u

struct l45_attached {
	__u32 index; /* into the table of customizations */
	__u32 flags;
};

/* What is attached in one network namespace, the first to be asked first. */
struct l45_set {
	__u32 count;
	__u32 unused;
	struct l45_attached entries[L45_SET_MAX];
};

/* Who made or last used a socket. */
struct l45_owner {
	__u64 netns; /* cookie of the socket's network namespace */
	__u32 tgid;
	__u32 uid;
	char thread[L45_COMM];
	char process[L45_COMM];
	__u8 left[L45_LEFT_MAX][L45_ID]; /* customizations whose module answered "leave" */
	__u64 left_count;
};

/* What a customization did: messages. */
struct l45_counters {
	__u64 sent;
	__u64 received;
	__u64 passed;
	__u64 dropped;
	__u64 errors;
	__u64 too_big;
};

/* A module artifact in the dispatch table; all zero where the slot is free. */
struct l45_module_entry {
	__u8 digest[32];
	char name[32];
	__u64 holder; /* namespace that asked for it last and did not apply a set since, or 0 */
};

/* The dispatch table: two places per slot, then the program that takes a module's answer. */
#define L45_PLACE_SEND		   0u
#define L45_PLACE_RECEIVE	   1u
#define L45_PLACE(slot, direction) (2u * (slot) + (direction))
#define L45_PLACE_ANSWER	   (2u * L45_MODULES_MAX)
#define L45_PLACES		   (L45_PLACE_ANSWER + 1u)

/* Context of the message that a CPU is working on, from the tap to modules and back. */
struct l45_walk {
	__u32 direction; /* L45_PLACE_SEND or L45_PLACE_RECEIVE */
	__u32 ip;	 /* offsets into the packet */
	__u32 udp;
	__u32 payload;
	__u32 length; /* bytes of payload now */
	__u32 length_before;
	__u32 sum_before; /* Internet checksum of the payload as it was */
	__u32 index;	  /* the customization that is asked */
	__u32 position;	  /* of the next one in the set */
	__u32 verdict;
	__u8 changed;
	__u8 too_big;
	__u8 unused[6];
	struct l45_flow flow;
	struct l45_owner owner;
	struct l45_set set;
};

#define L45_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
L45_SIZE(l45_match, 56);
L45_SIZE(l45_flow, 16);
L45_SIZE(l45_customization, 144);
L45_SIZE(l45_attached, 8);
L45_SIZE(l45_set, 136);
L45_SIZE(l45_owner, 120);
L45_SIZE(l45_counters, 48);
L45_SIZE(l45_module_entry, 72);
L45_SIZE(l45_walk, 320);
#undef L45_SIZE

#endif
