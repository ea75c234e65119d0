// SPDX-License-Identifier: GPL-2.0
/* How a socket gets customizations, and loses them. */
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

static bool may_match(const struct l45_customization *customization, const struct l45_owner *owner,
		      const struct l45_ends *ends)
{
	const struct l45_match *match = &customization->match;

	return match->protocol == ends->protocol && l45_owner_matches(match, owner) &&
	       l45_ends_match(match, ends, true);
}

/* The peer may have begun with it while it was in force here, and before anybody looked. */
static bool may_have_begun(const struct l45_customization *customization, enum l45_role role)
{
	return role == L45_ACCEPT && customization->match.protocol == IPPROTO_TCP &&
	       l45_has_wire_form(customization->instance.module);
}

bool l45_may_attach(const struct l45_entry *entry, const struct l45_owner *owner,
		    const struct l45_ends *ends, enum l45_role role)
{
	return (!(entry->flags & L45_CUSTOMIZATION_DEPRECATED) ||
		may_have_begun(entry->customization, role)) &&
	       may_match(entry->customization, owner, ends);
}

bool l45_may_attach_drained(const struct l45_customization *customization,
			    const struct l45_owner *owner, const struct l45_ends *ends,
			    enum l45_role role)
{
	return may_have_begun(customization, role) && may_match(customization, owner, ends);
}

static bool set_may_match(const struct l45_set *set, const struct l45_owner *owner,
			  const struct l45_ends *ends, enum l45_role role)
{
	for (u32 i = 0; i < set->count; i++)
		if (l45_may_attach(&set->entries[i], owner, ends, role))
			return true;
	return false;
}

static bool drained_may_match(struct l45_net *net, const struct l45_owner *owner,
			      const struct l45_ends *ends, enum l45_role role)
{
	struct l45_customization *customization;
	bool any = false;

	if (list_empty_careful(&net->draining))
		return false;
	mutex_lock(&net->lock);
	list_for_each_entry(customization, &net->draining, draining)
		any |= l45_may_attach_drained(customization, owner, ends, role);
	mutex_unlock(&net->lock);
	return any;
}

static bool owner_may_match(const struct l45_set *set, const struct l45_owner *owner, u8 protocol)
{
	for (u32 i = 0; i < set->count; i++)
		if (set->entries[i].customization->match.protocol == protocol &&
		    !(set->entries[i].flags & L45_CUSTOMIZATION_DEPRECATED) &&
		    l45_owner_matches(&set->entries[i].customization->match, owner))
			return true;
	return false;
}

static bool asks_for_paths(const struct l45_set *set)
{
	for (u32 i = 0; i < set->count; i++)
		if (set->entries[i].customization->match.executable)
			return true;
	return false;
}

static void start(struct l45_tap *tap, struct socket *sock, struct l45_net *net,
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

/* Let go of what it has but memory of its own. */
static void close_tap(struct l45_tap *tap)
{
	if (tap->ends.protocol == IPPROTO_TCP)
		l45_tcp_close(container_of(tap, struct l45_tcp, tap));
	else
		l45_udp_close(container_of(tap, struct l45_udp, tap));
}

/* Under lock_sock(), of a socket that was lazy. Returns whether it has the tap now: somebody else's
 * stays his. */
static int attach(struct socket *sock, struct l45_tap *tap)
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

/* A tap for this socket, or NULL: out of memory, or it cannot have one. Takes over `owner`. */
static struct l45_tap *make(struct socket *sock, struct l45_net *net, struct l45_set *set,
			    struct l45_owner *owner, const struct l45_ends *ends,
			    enum l45_role role)
{
	struct l45_tap *tap;

	if (!try_module_get(THIS_MODULE)) {
		l45_owner_clear(owner);
		return ERR_PTR(-ENODEV);
	}
	if (l45_is_tcp(sock->sk)) {
		tap = l45_tcp_new(sock->sk, net, set, owner, ends, role);
	} else {
		refcount_inc(&set->refs);
		tap = l45_udp_new(sock->sk, set, owner);
	}
	if (IS_ERR_OR_NULL(tap)) {
		module_put(THIS_MODULE);
		return tap ? tap : ERR_PTR(-ENOMEM);
	}
	start(tap, sock, net, ends);
	return tap;
}

/* The owner matches, and the ends may: the socket is to be customized. */
static int customize(struct socket *sock, struct l45_net *net, struct l45_set *set,
		     struct l45_owner *owner, const struct l45_ends *ends, enum l45_role role)
{
	struct l45_tap *tap;
	int attached = 0;

	if (!owner->executable) {
		l45_owner_clear(owner);
		attached = l45_owner_of_current(owner, true);
		if (attached)
			return attached;
	}
	tap = make(sock, net, set, owner, ends, role);
	if (IS_ERR(tap))
		return PTR_ERR(tap) == -ENODEV ? 0 : PTR_ERR(tap);
	lock_sock(sock->sk);
	attached = attach(sock, tap);
	release_sock(sock->sk);
	if (attached > 0) {
		l45_tell_flow(L45_CMD_FLOW_OPENED, tap);
		/* A set that came meanwhile has not found it. */
		if (READ_ONCE(tap->generation) != l45_generation(net))
			l45_tap_kick(tap, 0);
	} else {
		close_tap(tap);
	}
	l45_tap_put(tap);
	return min(attached, 0);
}

static int decide(struct socket *sock, struct l45_ends *ends, enum l45_role role)
{
	struct l45_net *net = l45_net_of(sock_net(sock->sk));
	struct l45_set *set = l45_set_get(net);
	struct l45_owner owner;
	int error = 0;

	if (!set->count && list_empty_careful(&net->draining)) {
		l45_leave_to_kernel(sock);
		goto out;
	}
	error = l45_owner_of_current(&owner, asks_for_paths(set));
	if (error)
		goto out;
	if (set_may_match(set, &owner, ends, role) || drained_may_match(net, &owner, ends, role)) {
		error = customize(sock, net, set, &owner, ends, role);
		goto out;
	}
	/* A UDP socket of this owner may meet another peer later. */
	if (l45_is_tcp(sock->sk) || !owner_may_match(set, &owner, ends->protocol))
		l45_leave_to_kernel(sock);
	l45_owner_clear(&owner);
out:
	l45_set_put(set);
	return error;
}

/* Decide by the set that is in force when the socket has become what it is: who brings a new one
 * looks at the sockets that are native then, and may have looked before this one was. */
static int decide_lastingly(struct socket *sock, struct l45_ends *ends, enum l45_role role)
{
	struct l45_net *net = l45_net_of(sock_net(sock->sk));
	u64 generation;
	int error;

	for (;;) {
		generation = l45_generation(net);
		error = decide(sock, ends, role);
		smp_mb(); /* pairs with the publication of a set, in front of the look at sockets */
		if (error || generation == l45_generation(net) || l45_is_customized(sock))
			return error;
		lock_sock(sock->sk);
		if (!l45_is_customized(sock) && (!l45_is_tcp(sock->sk) || role == L45_ACCEPT))
			l45_make_lazy(sock);
		release_sock(sock->sk);
		if (!l45_is_lazy(sock))
			return 0;
	}
}

int l45_first_use(struct socket *sock)
{
	struct l45_ends ends;

	/* Who made a connection was asked when he did: this one was accepted, or is none yet. */
	if (l45_is_tcp(sock->sk) && READ_ONCE(sock->state) != SS_CONNECTED)
		return 0;
	l45_ends_of(sock->sk, &ends);
	return decide_lastingly(sock, &ends, L45_ACCEPT);
}

int l45_use_to_connect(struct socket *sock, const struct sockaddr *address, int size)
{
	struct l45_ends ends;

	l45_ends_of(sock->sk, &ends);
	if (!l45_ends_set_remote(&ends, address, size))
		return 0;
	return decide_lastingly(sock, &ends, L45_CONNECT);
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

/* Nobody finds it any more, and who has found it sees that it is closed. */
static void forget(struct l45_tap *tap)
{
	struct sock *sk = tap->sk;

	l45_tell_flow(L45_CMD_FLOW_CLOSED, tap);
	lock_sock(sk);
	close_tap(tap);
	release_sock(sk);
	sock_put(sk);
	l45_tap_put(tap); /* the socket's */
}

void l45_tap_quit(struct l45_tap *tap)
{
	if (cancel_delayed_work_sync(&tap->work))
		l45_tap_put(tap); /* the work's */
	forget(tap);
}

/* Under lock_sock(), which it releases. */
static void close_socket(struct socket *sock, struct l45_tap *tap)
{
	struct l45_tcp *t = l45_is_tcp(sock->sk) ? l45_tcp_of(tap) : NULL;
	bool ours;

	if (t)
		l45_tcp_finish(t);
	ours = !tap->closed; /* else its work was here first */
	if (ours)
		l45_tap_detach(tap);
	if (t)
		l45_tcp_unlock(t);
	else
		release_sock(sock->sk);
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

/* Who keeps the lock for long, say in a page fault that a user serves, must not keep others' work.
 */
#define PATIENCE_JIFFIES max(1, HZ / 100)

static void udp_work(struct l45_udp *udp)
{
	struct sock *sk = udp->tap.sk;
	bool last;

	lock_sock(sk);
	last = !udp->tap.closed && !l45_udp_sync(udp);
	if (last) {
		l45_make_lazy(udp->tap.sock);
		l45_tap_detach(&udp->tap);
	}
	release_sock(sk);
	if (last)
		forget(&udp->tap);
}

/* The work has a reference. Its socket is there unless the tap is closed: who closes it waits for
 * the work, or is the work. */
static void tap_work(struct work_struct *work)
{
	struct l45_tap *tap = container_of(to_delayed_work(work), struct l45_tap, work);

	if (!READ_ONCE(tap->closed) && READ_ONCE(tap->sk->sk_lock.owned))
		l45_tap_kick(tap, PATIENCE_JIFFIES);
	else if (!READ_ONCE(tap->closed) && tap->ends.protocol == IPPROTO_UDP)
		udp_work(container_of(tap, struct l45_udp, tap));
	else if (!READ_ONCE(tap->closed) && l45_tcp_work(container_of(tap, struct l45_tcp, tap)))
		forget(tap);
	l45_tap_put(tap);
}

void l45_tap_kick(struct l45_tap *tap, unsigned long delay)
{
	struct timer_list *timer = &tap->work.timer;

	if (delay && delayed_work_pending(&tap->work) &&
	    !(timer_pending(timer) && time_after(timer->expires, jiffies + delay)))
		return;
	l45_tap_get(tap);
	if (mod_delayed_work(l45_flow_queue, &tap->work, delay))
		l45_tap_put(tap); /* it was queued, and has one */
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
