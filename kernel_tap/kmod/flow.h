/* SPDX-License-Identifier: GPL-2.0 */
/* How a socket gets customizations, and loses them. */
#ifndef L45_KMOD_FLOW_H
#define L45_KMOD_FLOW_H

#include "calls.h"
#include "l45.h"

/* The tap of a customized socket with a reference, or NULL where it has just lost it. */
struct l45_tap *l45_tap_hold(const struct sock *sk);

/* For the length of a call of a customized socket: the tap, or where the socket has just lost it,
 * NULL, and unloading waits for the call (calls.h). */
struct l45_tap *l45_tap_enter(const struct sock *sk, struct l45_call *call);
long l45_tap_leave(struct l45_tap *tap, struct l45_call *call, long result);

/* In the middle of such a call the socket has lost it: the rest is the kernel's, and can take long.
 */
void l45_tap_let_go(struct l45_tap **tap, struct l45_call *call);

/* What a call on a lazy socket begins with: decides, if it can be decided now, and makes the socket
 * native or customized. Negative errno: the call must fail, for what the peer sends could not be
 * undone; the socket stays lazy. May sleep; takes lock_sock(). */
int l45_first_use(struct socket *sock);

/* What a socket that is used for the first time gets: of a set, and of what is being drained. */
bool l45_may_attach(const struct l45_entry *entry, const struct l45_owner *owner,
		    const struct l45_ends *ends, enum l45_role role);
bool l45_may_attach_drained(const struct l45_customization *customization,
			    const struct l45_owner *owner, const struct l45_ends *ends,
			    enum l45_role role);

/* For connect(): as if used for the first time, with that peer. */
int l45_use_to_connect(struct socket *sock, const struct sockaddr *address, int size);

/* A tap that was made becomes one of this socket, with a reference of the caller's. */
void l45_tap_start(struct l45_tap *tap, struct socket *sock, struct l45_net *net,
		   const struct l45_ends *ends);

/* Under lock_sock(), of a socket that was lazy. Returns whether it has the tap now: 1, or 0 where
 * it is somebody else's; or -ENOMEM. */
int l45_tap_attach(struct socket *sock, struct l45_tap *tap);

/* Let go of what it has but memory of its own. */
void l45_tap_close(struct l45_tap *tap);

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
