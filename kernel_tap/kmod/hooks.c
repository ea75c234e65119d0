// SPDX-License-Identifier: GPL-2.0
/*
 * How sockets come to the tap, and leave it when it is unloaded.
 *
 * Of the kernel's tables only `init` of four protocols is changed: it is called for each new socket
 * of a user, which becomes lazy there. An accepted socket gets the operations of its listener.
 *
 * A table that sockets may point to is never freed, for sockets cannot be found (one can be on its
 * way in a UNIX socket's message): unloading makes all its entries the kernel's own.
 */
#include <linux/delay.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/kmemleak.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <net/inet_common.h>
#include <net/inet_connection_sock.h>
#include <net/tcp.h>
#include <net/transp_v6.h>
#include <net/udp.h>

#include "calls.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"

enum protocol {
	TCP4,
	UDP4,
	TCP6,
	UDP6,
	PROTOCOLS
};

struct tables {
	struct proto_ops lazy, act;
};

static struct {
	struct proto *prot;
	const struct proto_ops *native;
	int (*init)(struct sock *sk);
	struct tables *tables;
} protocols[PROTOCOLS] = {
	[TCP4] = { .prot = &tcp_prot, .native = &inet_stream_ops },
	[UDP4] = { .prot = &udp_prot, .native = &inet_dgram_ops },
};

static enum protocol protocol_of(const struct sock *sk)
{
	if (sk->sk_family == AF_INET6)
		return sk->sk_protocol == IPPROTO_TCP ? TCP6 : UDP6;
	return sk->sk_protocol == IPPROTO_TCP ? TCP4 : UDP4;
}

const struct proto_ops *l45_native_of(const struct sock *sk)
{
	return protocols[protocol_of(sk)].native;
}

const struct proto_ops *l45_lazy_of(const struct sock *sk)
{
	return &protocols[protocol_of(sk)].tables->lazy;
}

bool l45_is_lazy(const struct socket *sock)
{
	return READ_ONCE(sock->ops) == l45_lazy_of(sock->sk);
}

bool l45_is_customized(const struct socket *sock)
{
	return READ_ONCE(sock->ops) == &protocols[protocol_of(sock->sk)].tables->act;
}

void l45_leave_to_kernel(struct socket *sock)
{
	lock_sock(sock->sk);
	if (l45_is_lazy(sock))
		l45_make_native(sock);
	release_sock(sock->sk);
}

void l45_make_native(struct socket *sock)
{
	smp_store_release(&sock->ops, protocols[protocol_of(sock->sk)].native);
}

void l45_make_lazy(struct socket *sock)
{
	smp_store_release(&sock->ops, &protocols[protocol_of(sock->sk)].tables->lazy);
}

void l45_make_customized(struct socket *sock)
{
	smp_store_release(&sock->ops, &protocols[protocol_of(sock->sk)].tables->act);
}

/*
 * New sockets.
 */

static int init_hook(struct sock *sk, enum protocol protocol)
{
	struct l45_call call;
	struct socket *sock;
	int error;

	l45_enter(&call);
	error = protocols[protocol].init(sk);
	sock = sk->sk_socket;
	if (!error && sock && !sk->sk_kern_sock && sock->ops == protocols[protocol].native)
		WRITE_ONCE(sock->ops, &protocols[protocol].tables->lazy);
	return l45_leave(&call, error);
}

static int init_tcp4(struct sock *sk)
{
	return init_hook(sk, TCP4);
}

static int init_udp4(struct sock *sk)
{
	return init_hook(sk, UDP4);
}

static int init_tcp6(struct sock *sk)
{
	return init_hook(sk, TCP6);
}

static int init_udp6(struct sock *sk)
{
	return init_hook(sk, UDP6);
}

static int (*const init_hooks[PROTOCOLS])(struct sock *sk) = {
	[TCP4] = init_tcp4,
	[UDP4] = init_udp4,
	[TCP6] = init_tcp6,
	[UDP6] = init_udp6,
};

/*
 * Open sockets.
 */

/* Whether it is of one of the four protocols, and not of another's that is built on them. */
static bool is_ours(const struct sock *sk)
{
	return (sk->sk_family == AF_INET || sk->sk_family == AF_INET6) &&
	       (sk->sk_protocol == IPPROTO_TCP || sk->sk_protocol == IPPROTO_UDP) &&
	       READ_ONCE(sk->sk_prot) == protocols[protocol_of(sk)].prot;
}

/* UDP sockets can get customizations any time, TCP sockets before they have a connection. */
static bool is_of_interest(const struct socket *sock, const struct sock *sk, const struct net *net)
{
	if ((net && sock_net(sk) != net) || sk->sk_kern_sock)
		return false;
	return !l45_is_tcp(sk) || (READ_ONCE(sock->state) == SS_UNCONNECTED &&
				   (1 << READ_ONCE(sk->sk_state)) & (TCPF_LISTEN | TCPF_CLOSE));
}

/* Are these the kernel's own operations, or what is left of ours from before? */
static bool is_native(const struct proto_ops *ops, enum protocol protocol)
{
	const struct proto_ops *native = protocols[protocol].native;

	if (ops == &protocols[protocol].tables->lazy || ops == &protocols[protocol].tables->act)
		return false;
	return ops == native || !memcmp(ops, native, sizeof(*native));
}

struct look {
	const struct net *net;
	struct task_struct *process;
	bool found; /* UDP sockets that were native, or threads that wait for a datagram */
};

/* A thread that waits for a datagram in the kernel's own code would get it as it is: it starts its
 * call again. Waiters are told by their addresses alone, for some are no tasks. */
static bool wake_receivers(struct sock *sk, struct task_struct *process)
{
	bool any = false;
	wait_queue_head_t *queue = sk_sleep(sk);
	wait_queue_entry_t *entry;
	struct task_struct *thread;

	spin_lock_irq(&queue->lock);
	list_for_each_entry(entry, &queue->head, entry) {
		if (!(entry->flags & WQ_FLAG_EXCLUSIVE))
			continue;
		for_each_thread(process, thread)
		{
			if (entry->private != thread)
				continue;
			l45_poke(thread);
			any = true;
		}
	}
	spin_unlock_irq(&queue->lock);
	return any;
}

/* A descriptor's file cannot be released meanwhile: the caller holds the table's lock. */
static int look_at_file(const void *argument, struct file *file, unsigned int fd)
{
	struct socket *sock = sock_from_file(file);
	struct sock *sk = sock ? READ_ONCE(sock->sk) : NULL;
	struct look *look = *(struct look *const *)argument;
	const struct proto_ops *ops;
	enum protocol protocol;

	if (!sk || !is_ours(sk) || !is_of_interest(sock, sk, look->net))
		return 0;
	protocol = protocol_of(sk);
	ops = READ_ONCE(sock->ops);
	if (is_native(ops, protocol)) {
		cmpxchg(&sock->ops, ops, &protocols[protocol].tables->lazy);
		look->found |= !l45_is_tcp(sk);
	}
	if (!l45_is_tcp(sk) && l45_is_lazy(sock))
		look->found |= wake_receivers(sk, look->process);
	return 0;
}

static void look_at_files(struct task_struct *task, struct look *look)
{
	look->process = task;
	task_lock(task);
	if (task->files)
		iterate_fd(task->files, 0, look_at_file, &look);
	task_unlock(task);
}

static void look_at_tasks(struct look *look)
{
	struct task_struct *leader, *task;

	rcu_read_lock();
	for_each_process_thread(leader, task) {
		if (task == leader || READ_ONCE(task->files) != READ_ONCE(leader->files))
			look_at_files(task, look);
	}
	rcu_read_unlock();
}

/* Who was on his way to sleep when we came by sleeps after a grace period, and is found the next
 * time; who was woken has left the kernel's code. Who then waits there again was asked, and is not
 * ours. */
#define LOOKS 3

void l45_look_at_open_sockets(const struct net *net)
{
	struct look look = { .net = net };

	for (int i = 0; i < LOOKS; i++) {
		look.found = false;
		look_at_tasks(&look);
		if (!net || !look.found)
			return;
		synchronize_rcu_tasks();
	}
}

struct waiting {
	const struct net *net;
	bool found;
};

/* Who listens may be about to hand over what is in its queue; what was handed over is lazy. */
static int look_for_waiting(const void *argument, struct file *file, unsigned int fd)
{
	struct waiting *waiting = *(struct waiting *const *)argument;
	struct socket *sock = sock_from_file(file);
	struct sock *sk = sock ? READ_ONCE(sock->sk) : NULL;

	if (!sk || sock_net(sk) != waiting->net || sk->sk_kern_sock || !is_ours(sk) ||
	    !l45_is_tcp(sk))
		return 0;
	if (READ_ONCE(sk->sk_state) == TCP_LISTEN)
		waiting->found |= !reqsk_queue_empty(&inet_csk(sk)->icsk_accept_queue);
	else
		waiting->found |= READ_ONCE(sock->state) == SS_CONNECTED && l45_is_lazy(sock);
	return waiting->found;
}

static bool any_waiting(const struct net *net)
{
	struct waiting waiting = { .net = net }, *argument = &waiting;
	struct task_struct *leader, *task;

	rcu_read_lock();
	for_each_process_thread(leader, task) {
		if (waiting.found ||
		    (task != leader && READ_ONCE(task->files) == READ_ONCE(leader->files)))
			continue;
		task_lock(task);
		if (task->files)
			iterate_fd(task->files, 0, look_for_waiting, &argument);
		task_unlock(task);
	}
	rcu_read_unlock();
	return waiting.found;
}

/* Twice, for accept() has a connection in its hands for a moment. */
bool l45_has_waiting_connections(const struct net *net)
{
	if (any_waiting(net))
		return true;
	msleep(10);
	return any_waiting(net);
}

/*
 * Loading and unloading.
 */

/* Tables of IPv6 are not exported: a socket knows them. */
static int learn(enum protocol protocol, int type, int number)
{
	struct socket *sock;
	int error = sock_create_kern(&init_net, AF_INET6, type, number, &sock);

	if (error == -EAFNOSUPPORT) /* ipv6.disable=1 */
		return 0;
	if (error)
		return error;
	protocols[protocol].prot = sock->sk->sk_prot;
	protocols[protocol].native = sock->ops;
	sock_release(sock);
	return 0;
}

static int make_tables(enum protocol protocol)
{
	const struct proto_ops *native = protocols[protocol].native;
	struct tables *tables = kmalloc(sizeof(*tables), GFP_KERNEL);

	if (!tables)
		return -ENOMEM;
	kmemleak_not_leak(tables);
	tables->lazy = *native;
	tables->act = *native;
	l45_lazy_operations(&tables->lazy, protocol == TCP4 || protocol == TCP6);
	if (protocol == TCP4 || protocol == TCP6)
		l45_tcp_operations(&tables->act);
	else
		l45_udp_operations(&tables->act);
	l45_flow_operations(&tables->act);
	protocols[protocol].tables = tables;
	return 0;
}

int l45_hooks_init(void)
{
	int error = learn(TCP6, SOCK_STREAM, IPPROTO_TCP);

	if (!error)
		error = learn(UDP6, SOCK_DGRAM, IPPROTO_UDP);
	for (int i = 0; i < PROTOCOLS && !error; i++)
		if (protocols[i].prot)
			error = make_tables(i);
	if (error) {
		/* No socket points to one yet. */
		for (int i = 0; i < PROTOCOLS; i++)
			kfree(protocols[i].tables);
		return error;
	}
	for (int i = 0; i < PROTOCOLS; i++) {
		if (!protocols[i].prot)
			continue;
		protocols[i].init = protocols[i].prot->init;
		smp_store_release(&protocols[i].prot->init, init_hooks[i]);
	}
	l45_look_at_open_sockets(NULL);
	return 0;
}

static void become_native(struct proto_ops *table, const struct proto_ops *native)
{
	const unsigned long *from = (const unsigned long *)native;
	unsigned long *to = (unsigned long *)table;

	for (size_t i = 0; i < sizeof(*table) / sizeof(*to); i++)
		WRITE_ONCE(to[i], from[i]);
}

void l45_hooks_exit(void)
{
	for (int i = 0; i < PROTOCOLS; i++) {
		if (!protocols[i].prot)
			continue;
		WRITE_ONCE(protocols[i].prot->init, protocols[i].init);
		become_native(&protocols[i].tables->lazy, protocols[i].native);
		become_native(&protocols[i].tables->act, protocols[i].native);
	}
	/* Whoever has read one of our entries, is in it now or has left; then all leave. */
	synchronize_rcu_tasks();
	l45_calls_end();
	synchronize_rcu_tasks();
}
