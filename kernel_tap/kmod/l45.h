/* SPDX-License-Identifier: GPL-2.0 */
/*
 * l45.ko, the kernel tap: what its files share.
 *
 *	main.c		loading and unloading
 *	hooks.c		how sockets come here: operation tables, new and open sockets
 *	lazy.c		the operations of a socket that is not used yet
 *	first_use.c	what the first use decides
 *	calls.c		who is in a call that unloading must wait for
 *	owner.c		whose socket is it, and does a customization match
 *	flow.c		a socket that has customizations
 *	tcp*.c, udp*.c	what its operations do
 *	buffer.c	memory for what modules work on
 *	registry.c	modules' code, and the set of customizations of a network namespace
 *	netlink.c ...	the agent's door (l45/netlink.h)
 *
 * A socket is in one of these states, told by its operations (`sock->ops`):
 *
 *	native	the kernel's own table: not ours, or nobody's customizations matched
 *	lazy	not used yet: the first use decides
 *	act	has customizations: `sk_user_data` is its struct l45_tap
 *
 * Locks, the outer first:
 *
 *	l45_net.lock	mutex: changes of a namespace's set
 *	lock_sock()	of TCP: all of struct l45_tcp, sending and receiving
 *	l45_udp.lock	mutex: modules at work on a UDP socket; nothing blocks under it
 *	l45_net.totals	spinlock: flows and counts that come and go
 *	sk_callback_lock  who owns `sk_user_data`
 *
 * Readers of a set take a reference to it; a set never changes once it is published.
 */
#ifndef L45_KMOD_H
#define L45_KMOD_H

#include <linux/bvec.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/in6.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include <l45/module.h>
#include <l45/netlink.h>
#include <attach.h>
#include <stream.h>

#define L45_ID_SIZE 16

/* What a peer sent before it knew that a customization was taken away can come so long after the
 * deadline, where no deadline could be kept: then the connection is reset. */
#define L45_GRACE_NS (3 * NSEC_PER_SEC)

/* ---- registry.c ---- */

/* Between l45.ko and the kernel modules that carry code (module_main.c): the layout of what the SDK
 * compiles into them. */
#define L45_KMOD_ABI 2

/* A module that is loaded. Its kernel module cannot go while a customization uses it. */
struct l45_code {
	struct list_head node; /* of all codes, under their mutex */
	const struct l45_module *module;
	struct module *owner;
	atomic_t users;
	u8 build_id[20];
	u8 build_id_size;
};

int l45_register(const struct l45_module *module, struct module *owner, u32 abi);
void l45_unregister(const struct l45_module *module);

/* Whom a socket belongs to, and what it connects: as whoever used it first. */
struct l45_owner {
	pid_t pid;
	pid_t tgid;
	uid_t uid;
	char thread[TASK_COMM_LEN]; /* padded with NUL, as the next */
	char process[TASK_COMM_LEN];
	char *executable; /* NULL where it is not known; the owner's */
};

/* Ends of a flow, seen from here; IPv4 as mapped addresses, ports in the host's order. */
struct l45_ends {
	u8 protocol;
	struct in6_addr local, remote;
	u16 local_port, remote_port;
};

/* What is zero, or NULL, or a range from 0 to 65535, matches all. */
struct l45_match {
	u8 protocol;
	char thread[TASK_COMM_LEN]; /* padded with NUL, as the next */
	char process[TASK_COMM_LEN];
	char *executable;
	bool by_uid;
	uid_t uid;
	struct in6_addr local, remote;
	u8 local_prefix, remote_prefix;
	u16 local_port, local_port_last;
	u16 remote_port, remote_port_last;
};

/* One instance of a module. Nothing in it changes but counts and references. */
struct l45_customization {
	struct kref refs;
	struct l45_net *net;
	struct l45_code *code; /* referenced: its owner stays loaded */
	struct l45_instance instance;
	struct l45_match match;
	u8 id[L45_ID_SIZE];
	u8 key[L45_KEY_SIZE];
	bool has_key;
	atomic_t flows;		/* sockets that have it */
	struct l45_counts gone; /* of flows that do not have it any more; under net->totals */
	struct l45_counts
		live; /* of flows that have it, while a dump adds them up; under net->lock */
	struct list_head draining; /* in net->draining once it was taken away; under net->lock */
	u64 drain_until;	   /* ktime_get_ns(): its streams are reset then; 0: in force */
	u32 last_priority;
	struct rcu_head rcu;
};

struct l45_entry {
	struct l45_customization *customization; /* referenced */
	u32 priority;
	u32 flags; /* enum l45_customization_flag */
};

/* What is in force in a network namespace, in the order of asking. */
struct l45_set {
	refcount_t refs;
	struct rcu_head rcu;
	u64 generation;
	u32 count;
	struct l45_entry entries[L45_SET_SIZE_MAX];
};

struct l45_net {
	struct net *net;
	struct mutex lock;	   /* changes of `set` and `draining` */
	struct l45_set __rcu *set; /* never NULL */
	struct list_head draining; /* struct l45_customization */
	struct xarray flows;	   /* struct l45_tap, by number */
	u32 next_flow;
	spinlock_t totals;
	struct delayed_work reap; /* forgets customizations that are drained */
};

struct l45_net *l45_net_of(const struct net *net);

/* The set that is in force, with a reference. */
struct l45_set *l45_set_get(struct l45_net *net);
void l45_set_put(struct l45_set *set);
/* Its generation alone, without a reference. */
u64 l45_generation(struct l45_net *net);

void l45_customization_get(struct l45_customization *customization);
void l45_customization_put(struct l45_customization *customization);

/* The customization that an instance of the core's belongs to. */
static inline struct l45_customization *l45_customization_of(const struct l45_instance *instance)
{
	return container_of(instance, struct l45_customization, instance);
}

/* Streams that it customizes differ from plain ones. */
static inline bool l45_has_wire_form(const struct l45_module *module)
{
	return module->kind == L45_STREAM_HEAD || module->kind == L45_STREAM_WHOLE;
}

/* What the core may do with it: enum l45_switches. */
static inline u8 l45_switches(u32 flags)
{
	if (flags & L45_CUSTOMIZATION_INACTIVE)
		return 0;
	return (flags & L45_CUSTOMIZATION_SEND ? L45_MAY_SEND : 0) |
	       (flags & L45_CUSTOMIZATION_RECEIVE ? L45_MAY_RECEIVE : 0);
}

/* A socket got it or lost it. `counts` are added to those of former flows; NULL: none. */
void l45_customization_attached(struct l45_customization *customization);
void l45_customization_detached(struct l45_customization *customization,
				const struct l45_counts *counts);

int l45_registry_init(void);
void l45_registry_exit(void);

/* ---- netlink.c ---- */

int l45_netlink_init(void);
void l45_netlink_exit(void);

struct l45_tap;

/* Tell listeners; `command` is one of L45_CMD_FLOW_*. May sleep. */
void l45_tell_flow(enum l45_command command, struct l45_tap *tap);
void l45_tell_applied(struct l45_net *net, u64 generation);
void l45_tell_removed(struct l45_customization *customization);

/* ---- owner.c ---- */

/* Of the current task; `executable` is looked up where `paths`. */
int l45_owner_of_current(struct l45_owner *owner, bool paths);
void l45_owner_clear(struct l45_owner *owner);
bool l45_owner_matches(const struct l45_match *match, const struct l45_owner *owner);
/* Whether the ends match; those that are not known yet (zero) match where `maybe`. */
bool l45_ends_match(const struct l45_match *match, const struct l45_ends *ends, bool maybe);
void l45_ends_of(const struct sock *sk, struct l45_ends *ends);
/* Remote end as in a socket address; false: no such family. */
bool l45_ends_set_remote(struct l45_ends *ends, const struct sockaddr *address, int size);

/* ---- flow.c ---- */

/* A socket that has customizations. It is freed some time after the socket let go of it. */
struct l45_tap {
	struct kref refs;
	struct rcu_head rcu;
	struct sock *sk; /* until `closed` */
	struct socket *sock;
	const struct proto_ops *native;
	struct l45_net *net;
	struct delayed_work work; /* what time or a new set demands (tcp_work.c, flow.c) */
	u32 number;
	bool closed;	/* under lock_sock, or l45_udp.lock */
	u64 generation; /* of the set that it has; under lock_sock, or l45_udp.lock */
	struct l45_owner owner;
	struct l45_ends ends; /* of TCP; of UDP when it was used last */
	u64 opened;	      /* CLOCK_REALTIME, ns, as the next two */
	u64 sent, received;
};

/* What a socket has of one customization, for dumps. */
struct l45_attachment {
	struct l45_customization *customization;
	u32 priority;
	u32 flags;
	struct l45_counts counts;
};

/* Those of a flow, in the order of asking, at most L45_SET_SIZE_MAX; returns how many. No
 * references: under rcu_read_lock(), or while the set cannot change. Takes no lock. */
u32 l45_tap_attachments(struct l45_tap *tap, struct l45_attachment *to);

struct l45_tap *l45_tap_of(const struct sock *sk);
void l45_tap_get(struct l45_tap *tap);
void l45_tap_put(struct l45_tap *tap);

/* Whether there are connections in the namespace that nobody has used: accepted or to be accepted.
 */
bool l45_has_waiting_connections(const struct net *net);

/* A set has changed: flows are brought to it, and sockets that are open are looked at again. */
void l45_flows_changed(struct l45_net *net);

/* ---- tcp.c ---- */

struct l45_frame_train {
	struct bio_vec pieces[16];
	u32 first, count; /* pieces first to count - 1 are left */
	u32 size;	  /* bytes in them */
};

/* All of it under lock_sock(), but what poll() asks without: `plain`, and whether there is anything
 * in `train`, `ready` or `span`. */
struct l45_tcp {
	struct l45_tap tap;
	struct l45_flow flow;

	struct l45_frame_train train; /* made, and not with the transport yet */
	u64 not_before; /* ktime_get_ns(): nothing goes to the transport until then; 0: no wait */
	u64 granted;	/* bytes of the application that go as they are, without asking again */
	bool fin;	/* shutdown(SHUT_WR) was called, and waits for `train` */

	struct list_head ready; /* struct l45_chunk: decoded, and not read by the application */
	u32 ready_size;
	struct l45_span span; /* decoded, behind what is ready: in `bounce` or the flow */
	u8 bounce[320];	      /* of the transport, where the core must see it */
	u32 news;	      /* counts what a reader that waits should know */
	int lowat;	      /* SO_RCVLOWAT as the application has set it */
	bool plain;	      /* what comes is the application's, and stays so */
	bool ended;	      /* the core knows that the peer has */
	bool reset;	      /* to be reset when the lock is released */
	bool aborted;	      /* ... and that was done */
	bool told;	      /* ... and the application knows */
	bool provisional;     /* it has some only in case that the peer has begun with them */
	bool draining;	      /* the peer is to end what was taken away */
};

/* ---- udp.c ---- */

/* One customization on a UDP socket. */
struct l45_on_datagrams {
	bool attached; /* it is for this socket's owner */
	bool left;     /* its module wants to be left alone */
	struct l45_counts counts;
};

struct l45_udp {
	struct l45_tap tap;
	struct mutex lock;
	struct mutex receiving; /* who looks at the next datagram takes it */
	struct l45_set *set; /* referenced; entries that do not match the owner are passed over */
	struct l45_on_datagrams on[L45_SET_SIZE_MAX]; /* of the entry with that number */
	struct l45_corked *corked; /* pieces of a datagram, MSG_MORE or UDP_CORK; under `lock` */
	bool joins;		   /* the application has asked for UDP_GRO */
};

/* A tap with `set` for a socket; takes over the reference to `set`, and `owner`, whatever comes of
 * it. -ENOMEM, or -ENODEV: this socket cannot be customized, or nothing in the set is for it. */
struct l45_tap *l45_udp_new(struct sock *sk, struct l45_set *set, struct l45_owner *owner);

/* Bring it to the set that is in force; false: no entry is for this owner any more. */
bool l45_udp_sync(struct l45_udp *udp);

/* The socket is closing: let go of the set, and of what is corked. */
void l45_udp_close(struct l45_udp *udp);

/* What a customized UDP socket does otherwise than `act`, a copy of the native table; a 6.1
 * kernel's table also has `sendpage`. Reached through `tap->native` is what the kernel does. */
void l45_udp_operations(struct proto_ops *act);

u32 l45_udp_attachments(struct l45_udp *udp, struct l45_attachment *to);

#endif
