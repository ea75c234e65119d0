/* SPDX-License-Identifier: GPL-2.0 */
/* Operation tables, and the states of sockets that they stand for (l45.h). */
#ifndef L45_KMOD_HOOKS_H
#define L45_KMOD_HOOKS_H

#include "l45.h"

/* The kernel's own operations for such a socket, and those of one that is not used yet. */
const struct proto_ops *l45_native_of(const struct sock *sk);
const struct proto_ops *l45_lazy_of(const struct sock *sk);

/* Is the socket not used yet, or customized, as far as its operations say? */
bool l45_is_lazy(const struct socket *sock);
bool l45_is_customized(const struct socket *sock);

static inline bool l45_is_tcp(const struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_TCP;
}

/* Options that leave another protocol on the socket. */
bool l45_takes_protocol_away(int level, int option);

/* A lazy socket becomes native: nothing will be decided. Takes lock_sock(). */
void l45_leave_to_kernel(struct socket *sock);

/* Under lock_sock(). */
void l45_make_native(struct socket *sock);
void l45_make_lazy(struct socket *sock);
void l45_make_customized(struct socket *sock);

/* Look at the open sockets of a namespace (NULL: of all) that the kernel's own operations serve:
 * those that could get customizations become lazy. */
void l45_look_at_open_sockets(const struct net *net);

/* lazy.c: make a lazy table of a copy of the native one. */
void l45_lazy_operations(struct proto_ops *lazy, bool tcp);

int l45_hooks_init(void);
void l45_hooks_exit(void);

#endif
