/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whose is this socket? Packets do not say; the socket hooks of the cgroup root see the process
 * that makes, binds, connects or sends, and leave its names in the socket's storage. The iterator
 * does the same, once, for sockets that were open before the tap came.
 */
#ifndef L45_BPF_OWNERS_H
#define L45_BPF_OWNERS_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <match.h>
#include "kernel.h"

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct l45_owner);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_sockets SEC(".maps");

static __always_inline void l45_record(void *sk, __u64 netns)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct l45_owner now = { .netns = netns }, *owner;

	now.tgid = bpf_get_current_pid_tgid() >> 32;
	now.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(now.thread, sizeof(now.thread));
	BPF_CORE_READ_STR_INTO(&now.process, task, group_leader, comm);
	owner = bpf_sk_storage_get(&l45_sockets, sk, &now, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner || (owner->tgid == now.tgid && l45_same_name(owner->thread, now.thread) &&
		       l45_same_name(owner->process, now.process)))
		return;
	/* Another process or thread uses it now. Packets in flight on other CPUs may see half of
	 * the new names; of a socket that is being handed over nobody is the sure owner anyway.
	 */
	owner->tgid = now.tgid;
	owner->uid = now.uid;
	__builtin_memcpy(owner->thread, now.thread, L45_COMM);
	__builtin_memcpy(owner->process, now.process, L45_COMM);
}

SEC("cgroup/sock_create")
int l45_sock_create(struct bpf_sock *ctx)
{
	if (ctx->type == SOCK_DGRAM)
		l45_record(ctx, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/post_bind4")
int l45_post_bind4(struct bpf_sock *ctx)
{
	if (ctx->type == SOCK_DGRAM)
		l45_record(ctx, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/connect4")
int l45_connect4(struct bpf_sock_addr *ctx)
{
	if (ctx->type == SOCK_DGRAM && ctx->sk)
		l45_record(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("cgroup/sendmsg4")
int l45_sendmsg4(struct bpf_sock_addr *ctx)
{
	if (ctx->type == SOCK_DGRAM && ctx->sk)
		l45_record(ctx->sk, bpf_get_netns_cookie(ctx));
	return 1;
}

SEC("iter/task_file")
int l45_open_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct l45_owner owner = {};
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || sk->sk_type != SOCK_DGRAM)
		return 0;
	owner.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	owner.tgid = task->tgid;
	BPF_CORE_READ_STR_INTO(&owner.thread, task, comm);
	BPF_CORE_READ_STR_INTO(&owner.process, task, group_leader, comm);
	bpf_sk_storage_get(&l45_sockets, sk, &owner, BPF_SK_STORAGE_GET_F_CREATE);
	return 0;
}

#endif
