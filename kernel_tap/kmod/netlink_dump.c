// SPDX-License-Identifier: GPL-2.0
/*
 * Dumps. Each goes on where the last message ended:
 *
 *	code		by its place in the list, whose changes are said (NLM_F_DUMP_INTR)
 *	customizations	a snapshot, taken at the start
 *	flows		by number: those that come or go meanwhile may be in it or not
 */
#include "netlink.h"
#include "registry.h"

struct position {
	struct l45_snapshot *snapshot; /* of customizations */
	unsigned long next;	       /* place, or number */
};

static struct position *position_of(struct netlink_callback *cb)
{
	BUILD_BUG_ON(sizeof(struct position) > sizeof(cb->ctx));
	return (struct position *)cb->ctx;
}

static void *begin(struct sk_buff *skb, struct netlink_callback *cb, enum l45_command command)
{
	return genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &l45_family,
			   NLM_F_MULTI, command);
}

/* One entry is whole, with what putting it gave, or not there. */
static int end(struct sk_buff *skb, void *header, int err)
{
	if (err)
		genlmsg_cancel(skb, header);
	else
		genlmsg_end(skb, header);
	return err;
}

/* What a callback returns: more than 0 asks for the next message. */
static int more(const struct sk_buff *skb, int err)
{
	return err == -EMSGSIZE && skb->len ? skb->len : err;
}

/* ---- code ---- */

static int dump_code(struct sk_buff *skb, struct netlink_callback *cb, const struct l45_code *code)
{
	void *header = begin(skb, cb, L45_CMD_GET_CODE);

	if (!header)
		return -EMSGSIZE;
	genl_dump_check_consistent(cb, header);
	return end(skb, header, l45_put_code(skb, code));
}

int l45_dump_codes(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct position *position = position_of(cb);
	const struct l45_code *code;
	unsigned long place = 0;
	int err = 0;

	mutex_lock(&l45_codes_lock);
	cb->seq = l45_codes_generation;
	list_for_each_entry(code, &l45_codes, node) {
		if (place++ < position->next)
			continue;
		err = dump_code(skb, cb, code);
		if (err)
			break;
		position->next = place;
	}
	mutex_unlock(&l45_codes_lock);
	return more(skb, err);
}

/* ---- customizations ---- */

int l45_dump_customizations_start(struct netlink_callback *cb)
{
	struct l45_snapshot *snapshot = l45_snapshot_new(l45_net_of(sock_net(cb->skb->sk)));

	position_of(cb)->snapshot = snapshot;
	return snapshot ? 0 : -ENOMEM;
}

int l45_dump_customizations(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct position *position = position_of(cb);
	const struct l45_snapshot *snapshot = position->snapshot;
	int err = 0;

	for (; position->next < snapshot->count; position->next++) {
		void *header = begin(skb, cb, L45_CMD_GET_CUSTOMIZATIONS);

		if (!header)
			return more(skb, -EMSGSIZE);
		err = end(skb, header, l45_put_customization(skb, &snapshot->of[position->next]));
		if (err)
			break;
	}
	return more(skb, err);
}

int l45_dump_customizations_done(struct netlink_callback *cb)
{
	l45_snapshot_free(position_of(cb)->snapshot);
	return 0;
}

/* ---- flows ---- */

int l45_dump_flows_start(struct netlink_callback *cb)
{
	cb->min_dump_alloc = nlmsg_total_size(GENL_HDRLEN + L45_ENTRY_MAX);
	return 0;
}

static int dump_flow(struct sk_buff *skb, struct netlink_callback *cb, struct l45_tap *tap,
		     struct l45_attachment *room)
{
	void *header = begin(skb, cb, L45_CMD_GET_FLOWS);

	if (!header)
		return -EMSGSIZE;
	return end(skb, header, l45_put_flow(skb, tap, room));
}

int l45_dump_flows(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct l45_net *net = l45_net_of(sock_net(cb->skb->sk));
	struct position *position = position_of(cb);
	struct l45_attachment *room;
	unsigned long number;
	struct l45_tap *tap;
	int err = 0;

	room = kmalloc_array(L45_SET_SIZE_MAX, sizeof(*room), GFP_KERNEL);
	if (!room)
		return -ENOMEM;
	rcu_read_lock();
	xa_for_each_start(&net->flows, number, tap, position->next) {
		err = dump_flow(skb, cb, tap, room);
		if (err)
			break;
		position->next = number + 1;
	}
	rcu_read_unlock();
	kfree(room);
	return more(skb, err);
}
