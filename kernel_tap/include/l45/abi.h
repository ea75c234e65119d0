/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Structures that the tap, the modules' eBPF programs and the driver (host_agent/bpf_abi.py)
 * share through maps. Fixed widths, no holes; what is __be is in network order.
 */
#ifndef L45_ABI_H
#define L45_ABI_H

#include <linux/types.h>

#define L45_COMM	16   /* TASK_COMM_LEN */
#define L45_PATH	256  /* wire.match.EXECUTABLE_MAX, and at least one NUL */
#define L45_ID		16   /* bytes of a customization's id */
#define L45_PARAMETERS	64   /* wire.messages.MAX_PARAMETERS */
#define L45_SET_MAX	16   /* wire.messages.MAX_CUSTOMIZATIONS: a namespace has at most so many */
#define L45_TABLE_MAX	4096 /* customizations of all namespaces of this kernel */
#define L45_MODULES_MAX 64   /* module artifacts of all namespaces of this kernel */
#define L45_LEFT_MAX	4    /* customizations a socket can have been left alone by */

/* Addresses are IPv6, or IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2). */
struct l45_prefix {
	__be32 address[4];
	__be32 mask[4];
};

/* Which sockets and messages a customization applies to; what is zero matches all, but a range of
 * ports, where that is 0 to 65535. */
struct l45_match {
	char executable[L45_PATH]; /* path, with NUL in front of it */
	char thread[L45_COMM];
	char process[L45_COMM];
	struct l45_prefix local, remote;
	__u16 local_port, local_port_last; /* in the order of the host, as all ports here */
	__u16 remote_port, remote_port_last;
	__u32 protocol; /* IPPROTO_UDP */
	__u32 by_uid;	/* whether `uid` counts */
	__u32 uid;
	__u32 unused;
} __attribute__((aligned(8)));

/* The two ends of a message, seen from this host. */
struct l45_ends {
	__be32 local[4];
	__be32 remote[4];
	__u16 local_port;
	__u16 remote_port;
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

#define L45_FLAG_SEND	    1u
#define L45_FLAG_RECEIVE    2u
#define L45_FLAG_INACTIVE   4u /* stays attached, and is passed over */
#define L45_FLAG_DEPRECATED 8u /* not for sockets that were opened later than `deprecated` */

struct l45_attached {
	__u32 index; /* into the table of customizations */
	__u32 flags;
	__u64 deprecated; /* ns of CLOCK_MONOTONIC */
};

/* What is attached in one network namespace, the first to be asked first. */
struct l45_set {
	__u32 count;
	__u32 number; /* no other set of this kernel has it; never 0 */
	struct l45_attached entries[L45_SET_MAX];
};

struct l45_user {
	char thread[L45_COMM];
	char process[L45_COMM];
	__u64 exec_id; /* of the task: the next program of a process has another */
	__u32 tgid;
	__u32 uid; /* effective, in the initial user namespace */
};

/* Who made or last used a socket. */
struct l45_owner {
	char executable[L45_PATH]; /* as in struct l45_match; all NUL where it is not known */
	struct l45_user user;
	__u32 pid;  /* of the first thread that used it with these names */
	__u32 used; /* it was sent from, received from or connected; else only made */
};

/* What the tap keeps of a UDP socket, as long as there is the socket. Larger than what is in it:
 * the verifier cannot know that two parts of a path are together no longer than L45_PATH. */
struct l45_socket {
	struct l45_owner owner;
	__u64 netns;   /* cookie of its network namespace; 0: not known yet */
	__u64 opened;  /* ns of CLOCK_MONOTONIC: when it was seen first */
	__u64 matched; /* L45_MATCHED(): what is in the set for its owner, as it was found last */
	__u32 version; /* changes with the owner */
	__u32 left_count;
	__u8 left[L45_LEFT_MAX][L45_ID]; /* customizations whose module answered "leave" */
	__u64 heir_age;			 /* while open files are looked at (owners.h) */
	__u32 heir;
	__u32 scan;
	__u8 unused[88];
};

#define L45_MATCHED(number, version, mask) \
	((__u64)(number) << 32 | ((version)&0xffff) << 16 | (mask))

/* What a customization did: messages, but where it says bytes. */
struct l45_counters {
	__u64 sent;
	__u64 received;
	__u64 passed;
	__u64 dropped;
	__u64 errors;
	__u64 too_big;
	__u64 sent_bytes; /* of the application, in what was customized */
	__u64 received_bytes;
};

/* What a customization did on one socket. */
struct l45_on_flow {
	__u8 id[L45_ID]; /* all zero: nothing here */
	struct l45_counters counters;
};

/* What was done on a socket, from the first message that some module saw. */
struct l45_flow_counts {
	struct l45_ends ends; /* of the last such message */
	__u64 last_sent;      /* ns of CLOCK_MONOTONIC, of customized messages; 0: none */
	__u64 last_received;
	__u64 next; /* where to put one more customization: the oldest goes */
	struct l45_on_flow on[L45_SET_MAX];
};

/* What the driver is told of a socket that has customizations. */
struct l45_flow_head {
	__u64 cookie;
	__u32 attached;	      /* bits: places in the set */
	__u32 counted;	      /* whether counts follow the socket */
	struct l45_ends ends; /* the socket's: zero where it is not bound or not connected */
			      /* struct l45_socket, struct l45_flow_counts */
};

/* Of the whole program set; the driver's, but for `strangers`. */
struct l45_info {
	__u8 digest[32]; /* SHA-256 of the object that was loaded */
	__u32 sets;	 /* number of the newest set */
	__u32 scan;	 /* how often open files were looked at */
	__u64 scanned;	 /* ... and when last: ns of CLOCK_MONOTONIC */
	__u32 strangers; /* whether somebody was seen then with a socket that is another's */
	__u32 unused;
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
	__u32 attached; /* bits: places in the set that are for the socket */
	__u8 changed;
	__u8 too_big;
	__u8 version; /* of IP */
	__u8 unused;
	struct l45_ends ends;
	char process[L45_COMM];
	struct l45_set set;
};

#define L45_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
L45_SIZE(l45_match, 376);
L45_SIZE(l45_ends, 40);
L45_SIZE(l45_customization, 464);
L45_SIZE(l45_attached, 16);
L45_SIZE(l45_set, 264);
L45_SIZE(l45_owner, 312);
L45_SIZE(l45_socket, 2 * L45_PATH);
L45_SIZE(l45_counters, 64);
L45_SIZE(l45_flow_counts, 1344);
L45_SIZE(l45_flow_head, 56);
L45_SIZE(l45_info, 56);
L45_SIZE(l45_module_entry, 72);
L45_SIZE(l45_walk, 368);
#undef L45_SIZE

#endif
