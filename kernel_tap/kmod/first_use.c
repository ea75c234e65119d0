// SPDX-License-Identifier: GPL-2.0
/* The first use of a socket decides whether it gets customizations (flow.h). */
#include "flow.h"
#include "hooks.h"
#include "tcp.h"

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
	l45_tap_start(tap, sock, net, ends);
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
	attached = l45_tap_attach(sock, tap);
	release_sock(sock->sk);
	if (attached > 0) {
		l45_tell_flow(L45_CMD_FLOW_OPENED, tap);
		/* A set that came meanwhile has not found it. */
		if (READ_ONCE(tap->generation) != l45_generation(net))
			l45_tap_kick(tap, 0);
	} else {
		l45_tap_close(tap);
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
