// SPDX-License-Identifier: GPL-2.0
/* A customized TCP socket: making and closing it, and what its operations refuse (tcp.h). */
#include <linux/in6.h>
#include <linux/tcp.h>
#include <net/tcp.h>

#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"
#include "tcp_train.h"

static void attach(struct l45_tcp *t, struct l45_customization *customization, u32 priority,
		   u8 switches)
{
	if (l45_flow_attach(&t->flow, &customization->instance, priority, switches))
		return; /* one that is the same on the wire is there already */
	l45_customization_get(customization);
	l45_customization_attached(customization);
}

/* What is being drained: the work sees to it that it goes. */
static void attach_drained(struct l45_tcp *t, struct l45_net *net, const struct l45_ends *ends)
{
	struct l45_customization *customization;

	if (list_empty_careful(&net->draining))
		return;
	mutex_lock(&net->lock);
	list_for_each_entry(customization, &net->draining, draining)
		if (l45_may_attach_drained(customization, &t->tap.owner, ends, t->flow.role))
			attach(t, customization, customization->last_priority, L45_MAY_RECEIVE);
	mutex_unlock(&net->lock);
	t->tap.generation = 0;
}

struct l45_tap *l45_tcp_new(struct sock *sk, struct l45_net *net, struct l45_set *set,
			    struct l45_owner *owner, const struct l45_ends *ends,
			    enum l45_role role)
{
	struct l45_tcp *t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);

	if (!t) {
		l45_owner_clear(owner);
		return NULL;
	}
	t->tap.owner = *owner;
	t->lowat = READ_ONCE(sk->sk_rcvlowat);
	INIT_LIST_HEAD(&t->ready);
	l45_flow_open(&t->flow, role, owner->process);
	t->flow.rx.shared = true;
	t->tap.generation = set->generation;
	for (u32 i = 0; i < set->count; i++) {
		const struct l45_entry *entry = &set->entries[i];

		if (!l45_may_attach(entry, owner, ends, role))
			continue;
		attach(t, entry->customization, entry->priority, l45_tcp_switches(role, entry));
		t->provisional |= !!(entry->flags & L45_CUSTOMIZATION_DEPRECATED);
	}
	attach_drained(t, net, ends);
	return &t->tap;
}

void l45_tcp_close(struct l45_tcp *t)
{
	l45_train_drop(t);
	l45_tcp_drop_ready(t);
	l45_flow_close(&t->flow);
	while (t->flow.count) {
		struct l45_attached_stream *last = &t->flow.attached[t->flow.count - 1];
		struct l45_customization *customization = l45_customization_of(last->instance);

		t->flow.count--;
		l45_customization_detached(customization, &last->counts);
		l45_customization_put(customization);
	}
}

u32 l45_tcp_attachments(struct l45_tcp *t, struct l45_attachment *to)
{
	u32 count = min_t(u32, READ_ONCE(t->flow.count), L45_ATTACHED_MAX);

	for (u32 i = 0; i < count; i++) {
		const struct l45_attached_stream *attached = &t->flow.attached[i];

		to[i].customization = l45_customization_of(READ_ONCE(attached->instance));
		to[i].priority = attached->priority;
		to[i].flags = attached->switches;
		to[i].counts = attached->counts;
	}
	return count;
}

/* Nobody is in use any more; what was decoded before can still be read. */
void l45_tcp_break(struct l45_tcp *t)
{
	t->flow.tx.state = L45_SEND_BROKEN;
	t->flow.rx.state = L45_RECEIVE_BROKEN;
	t->flow.tx.in_use = NULL;
	t->flow.rx.in_use = NULL;
	t->reset = true;
}

void l45_tcp_unlock(struct l45_tcp *t)
{
	bool reset = t->reset && !t->aborted;
	struct sock *sk = l45_sk(t);

	t->aborted |= reset;
	release_sock(sk);
	if (!reset)
		return;
	tcp_abort(sk, ECONNRESET);
	if (t->flow.tx.fault || t->flow.rx.fault)
		l45_tell_flow(L45_CMD_FLOW_BROKEN, &t->tap);
}

/*
 * Connecting. A customization that can send begins the stream only if the peer's tap looked for it
 * from the first byte on; so what is attached is what is in force when the connection is made.
 */

/* Of what could match, what does: now both ends are known. Under the lock. */
static void keep_matching(struct l45_tcp *t)
{
	struct l45_ends *ends = &t->tap.ends;

	l45_ends_of(l45_sk(t), ends);
	for (u32 i = t->flow.count; i > 0; i--) {
		struct l45_attached_stream *attached = &t->flow.attached[i - 1];

		if (!l45_ends_match(&l45_customization_of(attached->instance)->match, ends, false))
			l45_tcp_let_go(t, attached);
	}
}

/* The tap goes where there is no connection, or nothing for it. */
static bool is_over(struct l45_tcp *t, struct socket *sock)
{
	if (sock->state == SS_UNCONNECTED || l45_defers_connect(sock->sk))
		return true;
	if (t->flow.tx.state == L45_SEND_NEW && t->flow.rx.first)
		keep_matching(t);
	return !t->flow.count;
}

bool l45_tcp_detach_if_over(struct l45_tap *tap, struct socket *sock)
{
	if (tap->closed || !is_over(l45_tcp_of(tap), sock))
		return false;
	if (sock->state == SS_UNCONNECTED && !l45_defers_connect(sock->sk))
		l45_make_lazy(sock);
	else
		l45_make_native(sock);
	l45_tap_detach(tap);
	return true;
}

static int connect_customized(struct socket *sock, struct l45_tap *tap, struct sockaddr *address,
			      int size, int flags)
{
	int result = tap->native->connect(sock, address, size, flags);
	bool over;

	lock_sock(sock->sk);
	over = l45_tcp_detach_if_over(tap, sock);
	release_sock(sock->sk);
	if (over)
		l45_tap_quit(tap);
	return result;
}

int l45_tcp_connect(struct socket *sock, struct sockaddr *address, int size, int flags)
{
	struct l45_tap *tap;
	int result;

	if (READ_ONCE(sock->state) == SS_UNCONNECTED) {
		result = l45_use_to_connect(sock, address, size);
		if (result)
			return result;
	}
	tap = l45_tap_hold(sock->sk);
	if (!tap)
		return l45_native_of(sock->sk)->connect(sock, address, size, flags);
	result = connect_customized(sock, tap, address, size, flags);
	l45_tap_put(tap);
	return result;
}

static int customized_connect(struct socket *sock, struct sockaddr *address, int size, int flags)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sock->sk, &call);
	int result = tap ? connect_customized(sock, tap, address, size, flags)
			 : l45_tcp_connect(sock, address, size, flags);

	return l45_tap_leave(tap, &call, result);
}

/*
 * What a customized connection cannot have: docs/kernel-tap.md has the table.
 */

static int customized_setsockopt(struct socket *sock, int level, int option, sockptr_t value,
				 unsigned int size)
{
	struct l45_call call;
	struct l45_tap *tap;

	if (l45_takes_protocol_away(level, option))
		return -EBUSY;
	tap = l45_tap_enter(sock->sk, &call);
	return l45_tap_leave(tap, &call,
			     l45_native_of(sock->sk)->setsockopt(sock, level, option, value, size));
}

static int customized_getsockopt(struct socket *sock, int level, int option, char __user *value,
				 int __user *size)
{
	struct l45_call call;
	struct l45_tap *tap;

	if (level == SOL_TCP && option == TCP_ZEROCOPY_RECEIVE)
		return -EOPNOTSUPP;
	tap = l45_tap_enter(sock->sk, &call);
	return l45_tap_leave(tap, &call,
			     l45_native_of(sock->sk)->getsockopt(sock, level, option, value, size));
}

void l45_tcp_operations(struct proto_ops *act)
{
	act->connect = customized_connect;
	act->sendmsg = l45_tcp_sendmsg;
	act->recvmsg = l45_tcp_recvmsg;
	act->poll = l45_tcp_poll;
	act->ioctl = l45_tcp_ioctl;
	act->shutdown = l45_tcp_shutdown;
	act->set_rcvlowat = l45_tcp_set_rcvlowat;
	act->setsockopt = customized_setsockopt;
	act->getsockopt = customized_getsockopt;
	act->mmap = sock_no_mmap;
	act->read_sock = NULL; /* KCM, strparser: they see what the transport has */
	act->peek_len = NULL;
#if L45_HAS_SENDPAGE
	act->sendpage = sock_no_sendpage;
#endif
}
