// SPDX-License-Identifier: GPL-2.0
/* A socket that has customizations: references, work, and the end (flow.h). */
#include "calls.h"
#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"

#include <linux/splice.h>

/* Work on flows sleeps on their locks. */
static struct workqueue_struct *l45_flow_queue;

/*
 * References.
 */

struct l45_tap *l45_tap_of(const struct sock *sk)
{
	return rcu_dereference_sk_user_data(sk);
}

/* Whose operations are not ours, his `sk_user_data` is not either. */
struct l45_tap *l45_tap_hold(const struct sock *sk)
{
	struct socket *sock = READ_ONCE(sk->sk_socket);
	struct l45_tap *tap = NULL;

	rcu_read_lock();
	if (sock && l45_is_customized(sock))
		tap = l45_tap_of(sk);
	if (tap && !kref_get_unless_zero(&tap->refs))
		tap = NULL;
	rcu_read_unlock();
	return tap;
}

struct l45_tap *l45_tap_enter(const struct sock *sk, struct l45_call *call)
{
	struct l45_tap *tap = l45_tap_hold(sk);

	if (!tap)
		l45_enter(call);
	return tap;
}

long l45_tap_leave(struct l45_tap *tap, struct l45_call *call, long result)
{
	if (!tap)
		return l45_leave(call, result);
	l45_tap_put(tap);
	return result;
}

void l45_tap_let_go(struct l45_tap **tap, struct l45_call *call)
{
	l45_enter(call);
	l45_tap_put(*tap);
	*tap = NULL;
}

void l45_tap_get(struct l45_tap *tap)
{
	kref_get(&tap->refs);
}

static void tap_free(struct rcu_head *rcu)
{
	struct l45_tap *tap = container_of(rcu, struct l45_tap, rcu);

	l45_owner_clear(&tap->owner);
	if (tap->ends.protocol == IPPROTO_TCP)
		kfree(container_of(tap, struct l45_tcp, tap));
	else
		kfree(container_of(tap, struct l45_udp, tap));
}

static void tap_release(struct kref *refs)
{
	struct l45_tap *tap = container_of(refs, struct l45_tap, refs);

	call_rcu(&tap->rcu, tap_free);
	/* Unloading waits for those callbacks (rcu_barrier), and for us to return. */
	module_put(THIS_MODULE);
}

void l45_tap_put(struct l45_tap *tap)
{
	kref_put(&tap->refs, tap_release);
}

/*
 * Attaching.
 */

static void tap_work(struct work_struct *work);

void l45_tap_start(struct l45_tap *tap, struct socket *sock, struct l45_net *net,
		   const struct l45_ends *ends)
{
	kref_init(&tap->refs);
	tap->sk = sock->sk;
	tap->sock = sock;
	tap->native = l45_native_of(sock->sk);
	tap->net = net;
	tap->ends = *ends;
	tap->opened = ktime_get_real_ns();
	INIT_DELAYED_WORK(&tap->work, tap_work);
}

/* The socket's owner of `sk_user_data` becomes the tap, if it has none. Under lock_sock(). */
static bool claim(struct sock *sk, struct l45_tap *tap)
{
	bool free;

	write_lock_bh(&sk->sk_callback_lock);
	free = !sk->sk_user_data;
	if (free)
		__rcu_assign_sk_user_data_with_flags(sk, tap, SK_USER_DATA_NOCOPY);
	write_unlock_bh(&sk->sk_callback_lock);
	return free;
}

static void unclaim(struct sock *sk)
{
	write_lock_bh(&sk->sk_callback_lock);
	rcu_assign_sk_user_data(sk, NULL);
	write_unlock_bh(&sk->sk_callback_lock);
}

static int enlist(struct l45_tap *tap)
{
	return xa_alloc_cyclic(&tap->net->flows, &tap->number, tap, xa_limit_31b,
			       &tap->net->next_flow, GFP_KERNEL) < 0
		       ? -ENOMEM
		       : 0;
}

void l45_tap_close(struct l45_tap *tap)
{
	if (tap->ends.protocol == IPPROTO_TCP)
		l45_tcp_close(container_of(tap, struct l45_tcp, tap));
	else
		l45_udp_close(container_of(tap, struct l45_udp, tap));
}

int l45_tap_attach(struct socket *sock, struct l45_tap *tap)
{
	int error;

	if (!l45_is_lazy(sock))
		return 0;
	if (!claim(sock->sk, tap)) {
		l45_make_native(sock);
		return 0;
	}
	error = enlist(tap);
	if (error) {
		unclaim(sock->sk);
		return error;
	}
	l45_tap_get(tap); /* the socket's */
	l45_make_customized(sock);
	return 1;
}

/*
 * Detaching.
 */

void l45_tap_detach(struct l45_tap *tap)
{
	struct sock *sk = tap->sk;

	xa_erase(&tap->net->flows, tap->number);
	WRITE_ONCE(tap->closed, true);
	sock_hold(sk); /* until it is forgotten */
	unclaim(sk);
}

/* Nobody finds it any more, and who has found it sees that it is closed. Under lock_sock(). */
static void forget(struct l45_tap *tap)
{
	l45_tell_flow(L45_CMD_FLOW_CLOSED, tap);
	l45_tap_close(tap);
}

static void put_forgotten(struct l45_tap *tap)
{
	sock_put(tap->sk);
	l45_tap_put(tap); /* the socket's */
}

void l45_tap_quit(struct l45_tap *tap)
{
	if (cancel_delayed_work_sync(&tap->work))
		l45_tap_put(tap); /* the work's */
	lock_sock(tap->sk);
	forget(tap);
	release_sock(tap->sk);
	put_forgotten(tap);
}

static void unlock(struct l45_tap *tap)
{
	if (tap->ends.protocol == IPPROTO_TCP)
		l45_tcp_unlock(l45_tcp_of(tap));
	else
		release_sock(tap->sk);
}

/* Under lock_sock(), which it releases. */
static void close_socket(struct socket *sock, struct l45_tap *tap)
{
	bool ours;

	if (l45_is_tcp(sock->sk))
		l45_tcp_finish(l45_tcp_of(tap));
	ours = !tap->closed; /* else its work was here first */
	if (ours)
		l45_tap_detach(tap);
	unlock(tap);
	if (ours)
		l45_tap_quit(tap);
}

static int customized_release(struct socket *sock)
{
	struct l45_call call;
	struct l45_tap *tap;
	int result;

	if (!sock->sk)
		return 0;
	tap = l45_tap_enter(sock->sk, &call);
	if (tap) {
		lock_sock(sock->sk);
		close_socket(sock, tap);
	}
	result = l45_native_of(sock->sk)->release(sock);
	return l45_tap_leave(tap, &call, result);
}

/* The kernel's splicing by way of recvmsg. */
static ssize_t customized_splice_read(struct socket *sock, loff_t *position,
				      struct pipe_inode_info *pipe, size_t size, unsigned int flags)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return generic_file_splice_read(sock->file, position, pipe, size, flags);
#else
	return copy_splice_read(sock->file, position, pipe, size, flags);
#endif
}

void l45_flow_operations(struct proto_ops *act)
{
	act->release = customized_release;
	if (act->splice_read)
		act->splice_read = customized_splice_read;
}

/*
 * Changes of sets.
 */

/*
 * Who has the socket's lock can keep it for as long as he likes, say in a page fault that a user
 * serves, and the queue's workers are shared by all: so the work never waits for the lock. It takes
 * it where it is free, and else comes again; meanwhile the calls that have the lock look at the set
 * and at the time themselves. (tcp_abort() alone, in l45_tcp_unlock(), can wait: it resets a
 * connection of which no call of ours gets a byte any more.)
 */
#define PATIENCE_JIFFIES max(1, HZ / 100)

/* lock_sock(), if it need not wait. */
static bool try_lock(struct sock *sk)
{
	bool free;

	spin_lock_bh(&sk->sk_lock.slock);
	free = !sk->sk_lock.owned;
	if (free)
		sk->sk_lock.owned = 1;
	spin_unlock_bh(&sk->sk_lock.slock);
	if (free)
		mutex_acquire(&sk->sk_lock.dep_map, 0, 1, _RET_IP_);
	return free;
}

/* As l45_tcp_work(). */
static bool udp_work(struct l45_udp *udp)
{
	if (l45_udp_sync(udp))
		return false;
	l45_make_lazy(udp->tap.sock);
	l45_tap_detach(&udp->tap);
	return true;
}

static bool work_locked(struct l45_tap *tap)
{
	if (tap->closed)
		return false;
	return tap->ends.protocol == IPPROTO_TCP ? l45_tcp_work(l45_tcp_of(tap))
						 : udp_work(container_of(tap, struct l45_udp, tap));
}

/* The work has a reference. Its socket is there until the tap is forgotten: who closes it waits for
 * the work, or is the work. */
static void tap_work(struct work_struct *work)
{
	struct l45_tap *tap = container_of(to_delayed_work(work), struct l45_tap, work);
	bool over;

	if (READ_ONCE(tap->closed)) {
		/* It came too late. */
	} else if (try_lock(tap->sk)) {
		over = work_locked(tap);
		if (over)
			forget(tap);
		unlock(tap);
		if (over)
			put_forgotten(tap);
	} else {
		l45_tap_kick(tap, PATIENCE_JIFFIES);
	}
	l45_tap_put(tap);
}

/* What is queued has a reference. Whether it was queued mod_delayed_work() does not say: from Linux
 * 6.10 on it says the same where the work is being cancelled. */
void l45_tap_kick(struct l45_tap *tap, unsigned long delay)
{
	struct timer_list *timer = &tap->work.timer;

	if (delay && delayed_work_pending(&tap->work) &&
	    !(timer_pending(timer) && time_after(timer->expires, jiffies + delay)))
		return;
	l45_tap_get(tap);
	while (!READ_ONCE(tap->closed)) {
		if (queue_delayed_work(l45_flow_queue, &tap->work, delay))
			return;
		if (cancel_delayed_work(&tap->work))
			l45_tap_put(tap); /* of what was queued for another time */
	}
	l45_tap_put(tap);
}

void l45_flows_changed(struct l45_net *net)
{
	struct l45_tap *tap;
	unsigned long number;

	xa_lock(&net->flows);
	xa_for_each(&net->flows, number, tap)
		l45_tap_kick(tap, 0);
	xa_unlock(&net->flows);
	l45_look_at_open_sockets(net->net);
}

u32 l45_tap_attachments(struct l45_tap *tap, struct l45_attachment *to)
{
	if (tap->ends.protocol == IPPROTO_TCP)
		return l45_tcp_attachments(container_of(tap, struct l45_tcp, tap), to);
	return l45_udp_attachments(container_of(tap, struct l45_udp, tap), to);
}

int l45_flow_init(void)
{
	l45_flow_queue = alloc_workqueue("l45", WQ_UNBOUND, 0);
	return l45_flow_queue ? 0 : -ENOMEM;
}

void l45_flow_exit(void)
{
	destroy_workqueue(l45_flow_queue);
}
