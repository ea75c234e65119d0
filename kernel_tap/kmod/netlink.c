// SPDX-License-Identifier: GPL-2.0
/*
 * The agent's door: the generic netlink family, its requests, and what is told to listeners.
 *
 * Requests run in parallel: each takes the locks that it needs, and one that waits for a
 * namespace's flows must not stop all of generic netlink. The family has no reserved commands
 * (`resv_start_op` is 0), so all are checked strictly, and where there is no policy nothing may be
 * in a request.
 */
#include "challenge.h"
#include "netlink.h"
#include "registry.h"

#define DRAIN_MS 30000 /* where the request says nothing */

/* ---- requests ---- */

static struct sk_buff *reply_new(struct genl_info *info, void **header)
{
	struct sk_buff *skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);

	if (skb)
		*header = genlmsg_put_reply(skb, info, &l45_family, 0, info->genlhdr->cmd);
	return skb;
}

/* A reply is far shorter than its buffer: `err` would be a mistake of ours. */
static int reply(struct genl_info *info, struct sk_buff *skb, void *header, int err)
{
	if (WARN_ON_ONCE(err)) {
		nlmsg_free(skb);
		return err;
	}
	genlmsg_end(skb, header);
	return genlmsg_reply(skb, info);
}

static int get_info(struct sk_buff *request, struct genl_info *info)
{
	u64 generation = l45_generation(l45_net_of(genl_info_net(info)));
	struct sk_buff *skb;
	void *header;

	skb = reply_new(info, &header);
	if (!skb)
		return -ENOMEM;
	return reply(info, skb, header,
		     nla_put_u32(skb, L45_A_INFO_VERSION, L45_GENL_VERSION)
			     ?: nla_put_u64_64bit(skb, L45_A_GENERATION, generation, L45_A_PAD));
}

static int apply(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *set = info->attrs[L45_A_SET], *drain = info->attrs[L45_A_DRAIN_MS];
	struct sk_buff *skb;
	u64 generation;
	void *header;
	int err;

	if (!set) {
		GENL_SET_ERR_MSG(info,
				 "L45_A_SET is missing: give the whole set, also an empty one");
		return -EINVAL;
	}
	skb = reply_new(info, &header); /* before anything is changed */
	if (!skb)
		return -ENOMEM;
	err = l45_apply(l45_net_of(genl_info_net(info)), set, drain ? nla_get_u32(drain) : DRAIN_MS,
			info->extack, &generation);
	if (err) {
		nlmsg_free(skb);
		return err;
	}
	return reply(info, skb, header,
		     nla_put_u64_64bit(skb, L45_A_GENERATION, generation, L45_A_PAD));
}

static int answer(struct genl_info *info, const struct l45_customization *customization)
{
	const struct nlattr *nonce = info->attrs[L45_A_NONCE];
	const struct l45_code *code = customization->code;
	u8 answer[L45_ANSWER_SIZE];
	struct sk_buff *skb;
	void *header;
	int err;

	err = l45_challenge(customization, nla_data(nonce), nla_len(nonce), answer);
	if (err == -ENOKEY)
		GENL_SET_ERR_MSG(info,
				 "this customization was given no key, so it cannot be challenged");
	if (err == -EOPNOTSUPP)
		GENL_SET_ERR_MSG(
			info,
			"the kernel knows no build id of this module: build it with --build-id");
	if (err)
		return err;
	skb = reply_new(info, &header);
	if (!skb)
		return -ENOMEM;
	return reply(info, skb, header,
		     nla_put(skb, L45_A_ID, L45_ID_SIZE, customization->id) ?:
		     nla_put(skb, L45_A_BUILD_ID, code->build_id_size, code->build_id) ?:
			     nla_put(skb, L45_A_ANSWER, sizeof(answer), answer));
}

static int challenge(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *id = info->attrs[L45_A_ID];
	struct l45_customization *customization;
	int err;

	if (!id || !info->attrs[L45_A_NONCE]) {
		GENL_SET_ERR_MSG(info, "a challenge needs L45_A_ID and L45_A_NONCE");
		return -EINVAL;
	}
	customization = l45_find(l45_net_of(genl_info_net(info)), nla_data(id));
	if (!customization) {
		NL_SET_ERR_MSG_ATTR(info->extack, id,
				    "no customization in this network namespace has this id");
		return -ENOENT;
	}
	err = answer(info, customization);
	l45_customization_put(customization);
	return err;
}

/* ---- events ---- */

static int put_flow(struct sk_buff *skb, void *tap)
{
	struct l45_attachment *room = kmalloc_array(L45_SET_SIZE_MAX, sizeof(*room), GFP_KERNEL);
	int err;

	if (!room)
		return -ENOMEM;
	rcu_read_lock();
	err = l45_put_flow(skb, tap, room);
	rcu_read_unlock();
	kfree(room);
	return err;
}

static int put_generation(struct sk_buff *skb, void *generation)
{
	return nla_put_u64_64bit(skb, L45_A_GENERATION, *(u64 *)generation, L45_A_PAD);
}

static int put_removed(struct sk_buff *skb, void *status)
{
	return l45_put_customization(skb, status);
}

static struct sk_buff *event_new(enum l45_command command,
				 int (*put)(struct sk_buff *skb, void *what), void *what)
{
	struct sk_buff *skb = genlmsg_new(L45_ENTRY_MAX, GFP_KERNEL);
	void *header;

	if (!skb)
		return NULL;
	header = genlmsg_put(skb, 0, 0, &l45_family, 0, command);
	if (!header || put(skb, what)) {
		nlmsg_free(skb);
		return NULL;
	}
	genlmsg_end(skb, header);
	return skb;
}

/* Listeners that miss one are told: their next read fails with ENOBUFS, as where they are slow. */
static void tell(struct l45_net *net, enum l45_command command,
		 int (*put)(struct sk_buff *skb, void *what), void *what)
{
	struct sk_buff *skb;

	if (!genl_has_listeners(&l45_family, net->net, 0))
		return;
	skb = event_new(command, put, what);
	if (skb)
		genlmsg_multicast_netns(&l45_family, net->net, skb, 0, 0, GFP_KERNEL);
	else
		genl_set_err(&l45_family, net->net, 0, 0, -ENOBUFS);
}

void l45_tell_flow(enum l45_command command, struct l45_tap *tap)
{
	tell(tap->net, command, put_flow, tap);
}

void l45_tell_applied(struct l45_net *net, u64 generation)
{
	tell(net, L45_CMD_APPLIED, put_generation, &generation);
}

/* Under net->lock, and no flow has it any more: nothing in it changes. */
void l45_tell_removed(struct l45_customization *customization)
{
	struct l45_status status = {
		.customization = customization,
		.priority = customization->last_priority,
		.flags = L45_CUSTOMIZATION_DRAINING,
		.counts = customization->gone,
	};

	tell(customization->net, L45_CMD_REMOVED, put_removed, &status);
}

/* ---- family ---- */

static const struct genl_ops operations[] = {
	{
		.cmd = L45_CMD_GET_INFO,
		.doit = get_info,
	},
	{
		.cmd = L45_CMD_GET_CODE,
		.flags = GENL_UNS_ADMIN_PERM,
		.dumpit = l45_dump_codes,
	},
	{
		.cmd = L45_CMD_APPLY,
		.flags = GENL_UNS_ADMIN_PERM,
		.policy = l45_apply_policy,
		.maxattr = L45_A_COUNT - 1,
		.doit = apply,
	},
	{
		.cmd = L45_CMD_GET_CUSTOMIZATIONS,
		.flags = GENL_UNS_ADMIN_PERM,
		.start = l45_dump_customizations_start,
		.dumpit = l45_dump_customizations,
		.done = l45_dump_customizations_done,
	},
	{
		.cmd = L45_CMD_GET_FLOWS,
		.flags = GENL_UNS_ADMIN_PERM,
		.start = l45_dump_flows_start,
		.dumpit = l45_dump_flows,
	},
	{
		.cmd = L45_CMD_CHALLENGE,
		.flags = GENL_UNS_ADMIN_PERM,
		.policy = l45_challenge_policy,
		.maxattr = L45_A_COUNT - 1,
		.doit = challenge,
	},
};

static const struct genl_multicast_group groups[] = {
	{ .name = L45_GENL_EVENTS, .flags = GENL_MCAST_CAP_NET_ADMIN },
};

struct genl_family l45_family __ro_after_init = {
	.name = L45_GENL_NAME,
	.version = L45_GENL_VERSION,
	.netnsok = true,
	.parallel_ops = true,
	.ops = operations,
	.n_ops = ARRAY_SIZE(operations),
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
	.module = THIS_MODULE,
};

int l45_netlink_init(void)
{
	int err = l45_challenge_init();

	if (err)
		return err;
	err = genl_register_family(&l45_family);
	if (err)
		l45_challenge_exit();
	return err;
}

/* Nothing tells events any more: there is no customization when l45.ko goes. */
void l45_netlink_exit(void)
{
	genl_unregister_family(&l45_family);
	l45_challenge_exit();
}
