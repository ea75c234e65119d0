/* SPDX-License-Identifier: GPL-2.0 */
/* How a socket gets customizations, and loses them. */
#ifndef L45_KMOD_FLOW_H
#define L45_KMOD_FLOW_H

#include "l45.h"

/* The tap of a customized socket with a reference, or NULL where it has just lost it. */
struct l45_tap *l45_tap_hold(const struct sock *sk);

/* What a call on a lazy socket begins with: decides, if it can be decided now, and makes the socket
 * native or customized. Negative errno: the call must fail, for what the peer sends could not be
 * undone; the socket stays lazy. May sleep; takes lock_sock(). */
int l45_first_use(struct socket *sock);

/* For connect(): as if used for the first time, with that peer. */
int l45_use_to_connect(struct socket *sock, const struct sockaddr *address, int size);

/* The socket has no customizations any more. Under lock_sock(); the caller has made it native or
 * lazy, and calls l45_tap_quit() when it has released the lock, or is the tap's work. */
void l45_tap_detach(struct l45_tap *tap);

/* Wait for the tap's work, and put the reference that the socket had. */
void l45_tap_quit(struct l45_tap *tap);

/* Let the tap's work run after `delay` jiffies, not later if it is queued. */
void l45_tap_kick(struct l45_tap *tap, unsigned long delay);

/* Operations of every customized socket. */
void l45_flow_operations(struct proto_ops *act);

int l45_flow_init(void);
void l45_flow_exit(void);

#endif
