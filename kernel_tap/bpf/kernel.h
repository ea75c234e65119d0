/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few members of kernel structures that the tap reads. libbpf relocates them to where the
 * running kernel has them (CO-RE), so that no vmlinux.h of some kernel is needed to build.
 */
#ifndef L45_BPF_KERNEL_H
#define L45_BPF_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct {
	int tgid;
	struct task_struct *group_leader;
	char comm[16];
};

struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
};

struct socket {
	struct sock *sk;
};

struct file;

struct bpf_iter__task_file {
	struct task_struct *task;
	struct file *file;
};

#pragma clang attribute pop

#define SOCK_DGRAM	2
#define AF_INET		2
#define IPPROTO_UDP	17
#define ETH_P_IP	0x0800
#define ETH_HEADER_SIZE 14
#define PACKET_HOST	0 /* addressed to this interface */

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

struct udp_header {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 check;
};

#endif
