// SPDX-License-Identifier: GPL-2.0
/* Whose socket is it, what does it connect, and does a customization match. */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/mm_types.h>
#include <linux/rcupdate.h>
#include <linux/version.h>
#include <net/ipv6.h>

#include "l45.h"

/* ---- owners ---- */

/* As get_mm_exe_file(), which is not exported. */
static struct file *executable_of(struct mm_struct *mm)
{
	struct file *file;

	rcu_read_lock();
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	file = rcu_dereference(mm->exe_file);
	if (file && !get_file_rcu(file))
		file = NULL;
#else
	file = get_file_rcu(&mm->exe_file);
#endif
	rcu_read_unlock();
	return file;
}

/* A program whose file was replaced or removed since it was started keeps its name. */
static void cut_deleted(char *path, const struct dentry *dentry)
{
	static const char mark[] = " (deleted)"; /* of d_path() */
	size_t size = strlen(path), marked = sizeof(mark) - 1;

	if (size > marked && d_unlinked(dentry) && !strcmp(path + size - marked, mark))
		path[size - marked] = 0;
}

/* The path as the current task sees it; NULL where it is longer than a match can name. */
static char *path_of(struct file *file, char *room)
{
	char *path = d_path(&file->f_path, room, PATH_MAX);

	if (IS_ERR(path))
		return NULL;
	cut_deleted(path, file->f_path.dentry);
	return strlen(path) <= L45_EXECUTABLE_MAX ? path : NULL;
}

static int look_up_executable(struct l45_owner *owner)
{
	struct mm_struct *mm = current->flags & PF_KTHREAD ? NULL : current->mm;
	struct file *file = mm ? executable_of(mm) : NULL;
	char *room, *path;
	int err = 0;

	if (!file)
		return 0;
	room = kmalloc(PATH_MAX, GFP_KERNEL);
	path = room ? path_of(file, room) : NULL;
	if (path)
		owner->executable = kstrdup(path, GFP_KERNEL_ACCOUNT);
	if (!room || (path && !owner->executable))
		err = -ENOMEM;
	kfree(room);
	fput(file);
	return err;
}

int l45_owner_of_current(struct l45_owner *owner, bool paths)
{
	memset(owner, 0, sizeof(*owner));
	owner->pid = task_pid_nr(current);
	owner->tgid = task_tgid_nr(current);
	owner->uid = from_kuid(&init_user_ns, current_euid());
	get_task_comm(owner->thread, current);
	/* The leader stays as long as its threads do, also when it has exited. */
	get_task_comm(owner->process, current->group_leader);
	return paths ? look_up_executable(owner) : 0;
}

void l45_owner_clear(struct l45_owner *owner)
{
	kfree(owner->executable);
	owner->executable = NULL;
}

static bool name_matches(const char wanted[TASK_COMM_LEN], const char name[TASK_COMM_LEN])
{
	return !wanted[0] || !strncmp(wanted, name, TASK_COMM_LEN);
}

bool l45_owner_matches(const struct l45_match *match, const struct l45_owner *owner)
{
	return name_matches(match->thread, owner->thread) &&
	       name_matches(match->process, owner->process) &&
	       (!match->by_uid || match->uid == owner->uid) &&
	       (!match->executable ||
		(owner->executable && !strcmp(match->executable, owner->executable)));
}

/* ---- ends ---- */

static bool address_matches(const struct in6_addr *wanted, u8 prefix,
			    const struct in6_addr *address, bool maybe)
{
	return (maybe && ipv6_addr_any(address)) || ipv6_prefix_equal(wanted, address, prefix);
}

static bool port_matches(u16 first, u16 last, u16 port, bool maybe)
{
	return !last || (maybe && !port) || (first <= port && port <= last);
}

bool l45_ends_match(const struct l45_match *match, const struct l45_ends *ends, bool maybe)
{
	return match->protocol == ends->protocol &&
	       port_matches(match->local_port, match->local_port_last, ends->local_port, maybe) &&
	       port_matches(match->remote_port, match->remote_port_last, ends->remote_port,
			    maybe) &&
	       address_matches(&match->local, match->local_prefix, &ends->local, maybe) &&
	       address_matches(&match->remote, match->remote_prefix, &ends->remote, maybe);
}

/* No address is zero in either family: "not known yet", or any. */
static void set_v4(struct in6_addr *to, __be32 address)
{
	if (address)
		ipv6_addr_set_v4mapped(address, to);
	else
		*to = in6addr_any;
}

static void set_v6(struct in6_addr *to, const struct in6_addr *address)
{
	if (ipv6_addr_v4mapped(address))
		set_v4(to, address->s6_addr32[3]);
	else
		*to = *address;
}

void l45_ends_of(const struct sock *sk, struct l45_ends *ends)
{
	ends->protocol = sk->sk_protocol;
	ends->local_port = READ_ONCE(sk->sk_num);
	ends->remote_port = ntohs(READ_ONCE(sk->sk_dport));
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6) {
		set_v6(&ends->local, &sk->sk_v6_rcv_saddr);
		set_v6(&ends->remote, &sk->sk_v6_daddr);
		return;
	}
#endif
	set_v4(&ends->local, READ_ONCE(sk->sk_rcv_saddr));
	set_v4(&ends->remote, READ_ONCE(sk->sk_daddr));
}

bool l45_ends_set_remote(struct l45_ends *ends, const struct sockaddr *address, int size)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

	if (size < (int)sizeof(address->sa_family))
		return false;
	if (address->sa_family == AF_INET && size >= (int)sizeof(*v4)) {
		set_v4(&ends->remote, v4->sin_addr.s_addr);
		ends->remote_port = ntohs(v4->sin_port);
		return true;
	}
	if (address->sa_family == AF_INET6 && size >= SIN6_LEN_RFC2133) {
		set_v6(&ends->remote, &v6->sin6_addr);
		ends->remote_port = ntohs(v6->sin6_port);
		return true;
	}
	return false;
}
