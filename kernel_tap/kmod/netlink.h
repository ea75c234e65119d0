/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the agent's door share; l45/netlink.h is what agents see. */
#ifndef L45_KMOD_NETLINK_H
#define L45_KMOD_NETLINK_H

#include <net/genetlink.h>

#include "l45.h"

#define L45_ENTRY_MAX 4096 /* bytes of attributes in one message: a flow with all it can have */

/* ---- netlink.c ---- */

extern struct genl_family l45_family;

/* ---- netlink_parse.c ---- */

extern const struct nla_policy l45_apply_policy[L45_A_COUNT];
extern const struct nla_policy l45_challenge_policy[L45_A_COUNT];

/* A customization with one reference, its priority and its flags, of an attribute that has passed
 * the policy. What is wrong is said in `extack`. */
int l45_parse_customization(struct l45_net *net, struct nlattr *attr, struct l45_entry *entry,
			    struct netlink_ext_ack *extack);

/* ---- netlink_put.c: 0, or -EMSGSIZE, and then what is in `skb` is for nlmsg_cancel() ---- */

struct l45_status;

int l45_put_code(struct sk_buff *skb, const struct l45_code *code);
int l45_put_customization(struct sk_buff *skb, const struct l45_status *status);
/* Under rcu_read_lock(); `room` is for L45_SET_SIZE_MAX. */
int l45_put_flow(struct sk_buff *skb, struct l45_tap *tap, struct l45_attachment *room);

/* ---- netlink_dump.c: callbacks of struct genl_ops ---- */

int l45_dump_codes(struct sk_buff *skb, struct netlink_callback *cb);
int l45_dump_customizations_start(struct netlink_callback *cb);
int l45_dump_customizations(struct sk_buff *skb, struct netlink_callback *cb);
int l45_dump_customizations_done(struct netlink_callback *cb);
int l45_dump_flows_start(struct netlink_callback *cb);
int l45_dump_flows(struct sk_buff *skb, struct netlink_callback *cb);

#endif
