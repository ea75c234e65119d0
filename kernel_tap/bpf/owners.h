/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whose is this socket? Packets do not say; the socket hooks of the cgroup root see the process
 * that makes, binds, connects, sends or receives, and leave who it is in the socket's storage.
 *
 * No hook sees a connected socket being used, nor a socket that is handed to another program
 * (fork and exec, socket activation, SCM_RIGHTS) and not used yet. So when a set is applied the
 * driver has all open files looked at: for who becomes the owner of each socket, and, where that is
 * not who it was, a second time to read who that is. It is who used the socket last, while he has
 * it; else the youngest process that has it, for who hands on what he made is older.
 */
#ifndef L45_BPF_OWNERS_H
#define L45_BPF_OWNERS_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <match.h>
#include "executable.h"
#include "kernel.h"
#include "sets.h"

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct l45_socket);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_sockets SEC(".maps");

/* Tasks here are pointers that the verifier knows: members are read without a call. The kernel pads
 * names with NUL. */
static inline void l45_read_user(const struct task_struct *task, struct l45_user *user)
{
	__builtin_memcpy(user->thread, task->comm, L45_COMM);
	__builtin_memcpy(user->process, task->group_leader->comm, L45_COMM);
	user->exec_id = task->self_exec_id;
	user->tgid = task->tgid;
	user->uid = task->cred->euid.val;
}

static inline int l45_is_program(const struct l45_user *user, const struct task_struct *task)
{
	return user->tgid == (__u32)task->tgid && user->exec_id == task->self_exec_id;
}

static inline int l45_same_user(const struct l45_user *a, const struct l45_user *b)
{
	return a->tgid == b->tgid && a->exec_id == b->exec_id && a->uid == b->uid &&
	       l45_same_name(a->thread, b->thread) && l45_same_name(a->process, b->process);
}

/* The task is the socket's owner. Packets in flight on other CPUs may see half of another owner;
 * of a socket that is being handed over nobody is the sure owner anyway. */
static __noinline int l45_own(struct l45_socket *socket, const struct task_struct *task,
			      __u64 netns, __u32 uses)
{
	struct l45_owner *owner = &socket->owner;
	struct l45_user now = {};

	l45_read_user(task, &now);
	if (!l45_same_user(&owner->user, &now)) {
		if (!l45_is_program(&owner->user, task)) {
			l45_find_executable(task, socket);
			owner->used = 0;
		}
		owner->user = now;
		owner->pid = task->pid;
		__sync_fetch_and_add(&socket->version, 1);
	}
	if (uses && !owner->used)
		owner->used = uses;
	if (!socket->netns) {
		socket->opened = bpf_ktime_get_ns();
		socket->netns = netns;
	}
	return 0;
}

static __always_inline int l45_record(void *sk, __u64 netns, __u32 uses)
{
	struct l45_socket *socket =
		bpf_sk_storage_get(&l45_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (socket)
		l45_own(socket, bpf_get_current_task_btf(), netns, uses);
	return 1; /* the kernel goes on with what it was asked to do */
}

/* Who receives is the owner too, if it is another program: which of its threads reads says nothing
 * of the next message, which is matched when it comes. */
static __always_inline int l45_record_reader(void *sk, __u64 netns, __u32 uses)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct l45_socket *socket =
		bpf_sk_storage_get(&l45_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!socket)
		return 1;
	if (!l45_is_program(&socket->owner.user, task))
		l45_own(socket, task, netns, uses);
	else if (!socket->owner.used)
		socket->owner.used = uses;
	return 1;
}

#define L45_SOCKET_HOOK(section, name)                                \
	SEC("cgroup/" section) int name(struct bpf_sock *ctx)         \
	{                                                             \
		if (ctx->protocol != IPPROTO_UDP)                     \
			return 1;                                     \
		return l45_record(ctx, bpf_get_netns_cookie(ctx), 0); \
	}

#define L45_ADDRESS_HOOK(section, name, record)                       \
	SEC("cgroup/" section) int name(struct bpf_sock_addr *ctx)    \
	{                                                             \
		if (ctx->protocol != IPPROTO_UDP || !ctx->sk)         \
			return 1;                                     \
		return record(ctx->sk, bpf_get_netns_cookie(ctx), 1); \
	}

L45_SOCKET_HOOK("sock_create", l45_sock_create)
L45_SOCKET_HOOK("post_bind4", l45_post_bind4)
L45_SOCKET_HOOK("post_bind6", l45_post_bind6)
L45_ADDRESS_HOOK("connect4", l45_connect4, l45_record)
L45_ADDRESS_HOOK("connect6", l45_connect6, l45_record)
L45_ADDRESS_HOOK("sendmsg4", l45_sendmsg4, l45_record)
L45_ADDRESS_HOOK("sendmsg6", l45_sendmsg6, l45_record)
L45_ADDRESS_HOOK("recvmsg4", l45_recvmsg4, l45_record_reader)
L45_ADDRESS_HOOK("recvmsg6", l45_recvmsg6, l45_record_reader)

/* The UDP socket that an open file is, or NULL. */
static __always_inline struct sock *l45_udp_of(struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct sock *sk = socket ? socket->sk : 0;

	if (!sk || sk->sk_protocol != IPPROTO_UDP ||
	    (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6))
		return 0;
	return sk;
}

/* How good a claim to a socket is: to have used it, then to be young. */
static inline __u64 l45_claim(const struct l45_owner *owner, const struct task_struct *task)
{
	if (owner->used && owner->user.tgid == (__u32)task->tgid)
		return ~0ull;
	return task->group_leader->start_time;
}

SEC("iter/task_file")
int l45_find_heirs(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct l45_info *info = l45_info_of_tap();
	struct l45_socket *socket;
	struct sock *sk;
	__u64 claim;

	if (!task || !file)
		return 0;
	sk = l45_udp_of(file);
	if (!sk)
		return 0;
	socket = bpf_sk_storage_get(&l45_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket || !info)
		return 0;
	if (!l45_is_program(&socket->owner.user, task))
		info->strangers = 1;
	claim = l45_claim(&socket->owner, task);
	if (socket->scan != info->scan || claim > socket->heir_age) {
		socket->heir = task->tgid;
		socket->heir_age = claim;
		socket->scan = info->scan;
	}
	return 0;
}

SEC("iter/task_file")
int l45_settle_heirs(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct l45_info *info = l45_info_of_tap();
	struct l45_socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	sk = l45_udp_of(file);
	if (!sk)
		return 0;
	socket = bpf_sk_storage_get(&l45_sockets, sk, 0, 0);
	if (!socket || !info || socket->scan != info->scan || socket->heir != (__u32)task->tgid)
		return 0;
	/* Of the owner himself the hooks know more: which of his threads it was. */
	if (!l45_is_program(&socket->owner.user, task))
		l45_own(socket, task, BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie), 0);
	return 0;
}

#endif
