// SPDX-License-Identifier: GPL-2.0
/* Customized UDP sockets: how they get customizations and lose them, and what serves them. */
#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "udp.h"

static struct l45_udp *udp_of(struct l45_tap *tap)
{
	return container_of(tap, struct l45_udp, tap);
}

struct l45_udp *l45_udp_enter(const struct sock *sk, struct l45_call *call)
{
	struct l45_tap *tap = l45_tap_hold(sk);

	if (tap)
		return udp_of(tap);
	l45_enter(call);
	return NULL;
}

long l45_udp_leave(struct l45_udp *udp, struct l45_call *call, long result)
{
	if (!udp)
		return l45_leave(call, result);
	l45_tap_put(&udp->tap);
	return result;
}

void l45_udp_refresh(struct l45_udp *udp)
{
	if (READ_ONCE(udp->tap.generation) != l45_generation(udp->tap.net))
		l45_udp_sync(udp);
}

/* Whether an entry is for datagrams of such an owner's sockets. */
static bool is_for(const struct l45_entry *entry, const struct l45_owner *owner)
{
	const struct l45_customization *customization = entry->customization;

	return customization->instance.module->kind == L45_DATAGRAM &&
	       customization->match.protocol == IPPROTO_UDP &&
	       l45_owner_matches(&customization->match, owner);
}

static bool may_attach(const struct l45_entry *entry, const struct l45_owner *owner)
{
	return !(entry->flags & L45_CUSTOMIZATION_DEPRECATED) && is_for(entry, owner);
}

/* Under udp->lock, as the next functions, or of a socket that nobody knows yet. */
static bool is_attached(const struct l45_udp *udp)
{
	for (u32 i = 0; udp->set && i < udp->set->count; i++)
		if (udp->on[i].attached)
			return true;
	return false;
}

static void attach(struct l45_udp *udp, u32 i)
{
	udp->on[i].attached = true;
	l45_customization_attached(udp->set->entries[i].customization);
}

static void detach(struct l45_udp *udp, u32 i)
{
	if (!udp->on[i].attached)
		return;
	udp->on[i].attached = false;
	l45_customization_detached(udp->set->entries[i].customization, &udp->on[i].counts);
}

/* Where the entry's customization is on the socket; L45_SET_SIZE_MAX: it is not. */
static u32 place_of(const struct l45_udp *udp, const struct l45_customization *customization)
{
	for (u32 i = 0; udp->set && i < udp->set->count; i++)
		if (udp->on[i].attached && udp->set->entries[i].customization == customization)
			return i;
	return L45_SET_SIZE_MAX;
}

/* What stays keeps what it has counted. Returns the former set. */
static noinline_for_stack struct l45_set *replace(struct l45_udp *udp, struct l45_set *set)
{
	struct l45_on_datagrams on[L45_SET_SIZE_MAX] = {};
	struct l45_set *former = udp->set;
	u32 place;

	for (u32 i = 0; i < set->count; i++) {
		place = place_of(udp, set->entries[i].customization);
		if (place == L45_SET_SIZE_MAX)
			continue;
		on[i] = udp->on[place];
		udp->on[place].attached = false;
	}
	for (u32 i = 0; former && i < former->count; i++)
		detach(udp, i);
	memcpy(udp->on, on, sizeof(on));
	WRITE_ONCE(udp->set, set);
	WRITE_ONCE(udp->tap.generation, set->generation);
	for (u32 i = 0; i < set->count; i++)
		if (!udp->on[i].attached && may_attach(&set->entries[i], &udp->tap.owner))
			attach(udp, i);
	return former;
}

bool l45_udp_sync(struct l45_udp *udp)
{
	struct l45_set *set, *former;
	bool attached;

	mutex_lock(&udp->lock);
	set = l45_set_get(udp->tap.net);
	former = set;
	if (udp->set && set->generation != udp->tap.generation)
		former = replace(udp, set);
	attached = is_attached(udp);
	mutex_unlock(&udp->lock);
	l45_set_put(former);
	return attached;
}

void l45_udp_close(struct l45_udp *udp)
{
	struct l45_corked *corked;
	struct l45_set *set;

	mutex_lock(&udp->lock);
	set = udp->set;
	corked = udp->corked;
	for (u32 i = 0; set && i < set->count; i++)
		detach(udp, i);
	if (udp->joins)
		l45_udp_set_joins(udp->tap.sk, true);
	WRITE_ONCE(udp->set, NULL);
	udp->joins = false;
	udp->corked = NULL;
	udp->tap.closed = true;
	mutex_unlock(&udp->lock);
	l45_corked_free(corked);
	if (set)
		l45_set_put(set);
}

static bool can_be_customized(const struct sock *sk)
{
	return READ_ONCE(sk->sk_peek_off) < 0 && !READ_ONCE(udp_sk(sk)->encap_type);
}

static bool any_may_attach(const struct l45_set *set, const struct l45_owner *owner)
{
	for (u32 i = 0; i < set->count; i++)
		if (may_attach(&set->entries[i], owner))
			return true;
	return false;
}

static struct l45_udp *make(struct sock *sk, struct l45_owner *owner)
{
	struct l45_udp *udp = kzalloc(sizeof(*udp), GFP_KERNEL_ACCOUNT);

	if (!udp)
		return ERR_PTR(-ENOMEM);
	mutex_init(&udp->lock);
	mutex_init(&udp->receiving);
	udp->tap.sk = sk;
	udp->tap.net = l45_net_of(sock_net(sk));
	udp->tap.owner = *owner;
	l45_ends_of(sk, &udp->tap.ends);
	return udp;
}

struct l45_tap *l45_udp_new(struct sock *sk, struct l45_set *set, struct l45_owner *owner)
{
	struct l45_udp *udp = ERR_PTR(-ENODEV);

	if (can_be_customized(sk) && any_may_attach(set, owner))
		udp = make(sk, owner);
	if (IS_ERR(udp)) {
		l45_set_put(set);
		l45_owner_clear(owner);
		return ERR_CAST(udp);
	}
	replace(udp, set);
	return &udp->tap;
}

/* A set that is replaced meanwhile stays readable for an RCU grace period. */
u32 l45_udp_attachments(struct l45_udp *udp, struct l45_attachment *to)
{
	const struct l45_set *set = READ_ONCE(udp->set);
	u32 count = 0;

	for (u32 i = 0; set && i < set->count; i++) {
		if (!udp->on[i].attached)
			continue;
		to[count++] = (struct l45_attachment){
			.customization = set->entries[i].customization,
			.priority = set->entries[i].priority,
			.flags = set->entries[i].flags,
			.counts = udp->on[i].counts,
		};
	}
	return count;
}

#if L45_HAS_SENDPAGE
/* As the kernel's own: for IPv4 alone, pages that are not the last are pieces of a datagram. */
static ssize_t send_page(struct socket *sock, struct page *page, int offset, size_t size, int flags)
{
	if (sock->sk->sk_family == AF_INET && flags & MSG_SENDPAGE_NOTLAST)
		flags |= MSG_MORE;
	return sock_no_sendpage(sock, page, offset, size, flags);
}
#else
/* A file has ended in the middle of a datagram. */
static void splice_eof(struct socket *sock)
{
	const struct proto_ops *native = l45_native_of(sock->sk);
	struct l45_call call;
	struct l45_udp *udp = l45_udp_enter(sock->sk, &call);

	if (udp && !l45_udp_corks(sock->sk))
		l45_udp_uncork(udp, sock);
	if (native->splice_eof)
		native->splice_eof(sock);
	l45_udp_leave(udp, &call, 0);
}
#endif

/* Without an operation of its own, splice_read comes by recvmsg. */
void l45_udp_operations(struct proto_ops *act)
{
	act->sendmsg = l45_udp_sendmsg;
	act->recvmsg = l45_udp_recvmsg;
	act->poll = l45_udp_poll;
	act->ioctl = l45_udp_ioctl;
	act->setsockopt = l45_udp_setsockopt;
	act->getsockopt = l45_udp_getsockopt;
	act->set_peek_off = l45_udp_set_peek_off;
#if L45_HAS_SENDPAGE
	act->sendpage = send_page;
#else
	act->splice_eof = splice_eof;
#endif
}
