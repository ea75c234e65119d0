/* SPDX-License-Identifier: GPL-2.0 */
/* What code.c, registry.c and apply.c give each other and the agent's door. */
#ifndef L45_KMOD_REGISTRY_H
#define L45_KMOD_REGISTRY_H

#include "l45.h"

struct netlink_ext_ack;
struct nlattr;

/* ---- code.c ---- */

/* All code, by time of loading. The number tells a dump that the list has changed; never 0. */
extern struct mutex l45_codes_lock;
extern struct list_head l45_codes;
extern u32 l45_codes_generation;

/* Code of the kernel module with this name, which then stays loaded, or NULL. */
struct l45_code *l45_code_get(const char *name);
void l45_code_put(struct l45_code *code);

/* ---- registry.c ---- */

/* Under net->lock. */
struct l45_set *l45_set_current(struct l45_net *net);
void l45_forget_drained(struct l45_net *net);

/* In force or being drained, with a reference, or NULL. */
struct l45_customization *l45_find(struct l45_net *net, const u8 id[L45_ID_SIZE]);

/* l45_tap_attachments() while none is added or taken away. Under rcu_read_lock(). */
u32 l45_read_attachments(struct l45_tap *tap, struct l45_attachment *room);

/* A customization and what it has counted: for dumps. */
struct l45_status {
	struct l45_customization *customization; /* referenced */
	u32 priority;
	u32 flags;
	struct l45_counts counts;
};

/* All of a namespace at one moment: in the order of asking, then those that are drained. */
struct l45_snapshot {
	u32 count;
	struct l45_status of[];
};

struct l45_snapshot *l45_snapshot_new(struct l45_net *net);
void l45_snapshot_free(struct l45_snapshot *snapshot);

/* ---- apply.c ---- */

/* Make what the attribute L45_A_SET says the set of the namespace; gives its generation. On an
 * error nothing has changed, and `extack` says why. */
int l45_apply(struct l45_net *net, struct nlattr *wanted, u32 drain_ms,
	      struct netlink_ext_ack *extack, u64 *generation);

#endif
