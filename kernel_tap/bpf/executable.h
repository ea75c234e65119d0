/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The path of the program that a task runs, as d_path() would say it, from the task's own root.
 *
 * bpf_d_path() is not allowed where sockets are used, and device and inode would not do: a program
 * that is replaced by an update is another inode, and the path that an operator means the same. So
 * the directory entries are followed upwards, over mounts. What was removed or replaced since it
 * was started keeps its name.
 */
#ifndef L45_BPF_EXECUTABLE_H
#define L45_BPF_EXECUTABLE_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <l45/abi.h>
#include "kernel.h"

#define L45_PATH_STEPS 96 /* names and mounts in a path */

struct l45_climb {
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct dentry *root;
	struct vfsmount *root_mnt;
	char *room;  /* 2 * L45_PATH, of which the first half is used */
	__u32 begin; /* of what is there of the path, up to L45_PATH */
	__u32 arrived;
};

static inline long l45_to_mount_point(struct l45_climb *climb)
{
	struct mount *mount = (void *)climb->mnt - bpf_core_field_offset(struct mount, mnt);
	struct mount *parent = BPF_CORE_READ(mount, mnt_parent);

	if (parent == mount) {
		climb->arrived = 1;
		return 1;
	}
	climb->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
	climb->mnt = (void *)parent + bpf_core_field_offset(struct mount, mnt);
	return 0;
}

/* Put a name and the slash before it in front of what is there; nonzero: there is no room. */
static inline long l45_put_name(struct l45_climb *climb)
{
	struct dentry *dentry = climb->dentry;
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u32 length = BPF_CORE_READ(dentry, d_name.len), begin = climb->begin;

	if (length >= L45_PATH || begin < length + 2)
		return 1;
	begin -= length + 1;
	barrier_var(begin);
	begin &= L45_PATH - 1;
	barrier_var(length);
	length &= L45_PATH - 1;
	climb->room[begin] = '/';
	climb->begin = begin;
	return bpf_probe_read_kernel(climb->room + begin + 1, length, name);
}

static long l45_climb_step(__u32 index, struct l45_climb *climb)
{
	struct dentry *dentry = climb->dentry, *parent;
	struct vfsmount *mnt = climb->mnt;

	(void)index;
	if (dentry == climb->root && mnt == climb->root_mnt) {
		climb->arrived = 1;
		return 1;
	}
	if (dentry == BPF_CORE_READ(mnt, mnt_root))
		return l45_to_mount_point(climb);
	parent = BPF_CORE_READ(dentry, d_parent);
	if (parent == dentry || l45_put_name(climb))
		return 1;
	climb->dentry = parent;
	return 0;
}

/* Into the owner, which the socket's storage begins with; NUL where it is unknown or too long. */
static __noinline int l45_find_executable(const struct task_struct *task, struct l45_socket *socket)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct l45_climb climb = {
		.dentry = BPF_CORE_READ(file, f_path.dentry),
		.mnt = BPF_CORE_READ(file, f_path.mnt),
		.root = BPF_CORE_READ(task, fs, root.dentry),
		.root_mnt = BPF_CORE_READ(task, fs, root.mnt),
		.room = (char *)socket,
		.begin = L45_PATH,
	};

	__builtin_memset(socket->owner.executable, 0, L45_PATH);
	if (!climb.dentry)
		return 0;
	bpf_loop(L45_PATH_STEPS, l45_climb_step, &climb, 0);
	if (!climb.arrived)
		__builtin_memset(socket->owner.executable, 0, L45_PATH);
	return 0;
}

#endif
