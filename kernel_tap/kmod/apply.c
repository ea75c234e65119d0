// SPDX-License-Identifier: GPL-2.0
/*
 * A new set for a network namespace: all of it, or nothing.
 *
 * It is built beside the one in force, under net->lock, and published when all is well. What stays
 * is the same customization as before, by id; what goes is drained.
 */
#include <net/ipv6.h>
#include <net/netlink.h>

#include "netlink.h"
#include "registry.h"

struct change {
	struct l45_net *net;
	const struct l45_set *old;
	struct l45_set *set; /* the new one */
	struct netlink_ext_ack *extack;
};

static struct l45_customization *find(const struct l45_set *set, const u8 id[L45_ID_SIZE])
{
	for (u32 i = 0; i < set->count; i++)
		if (!memcmp(set->entries[i].customization->id, id, L45_ID_SIZE))
			return set->entries[i].customization;
	return NULL;
}

static bool is_draining(struct l45_net *net, const u8 id[L45_ID_SIZE])
{
	struct l45_customization *customization;

	list_for_each_entry(customization, &net->draining, draining)
		if (!memcmp(customization->id, id, L45_ID_SIZE))
			return true;
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool same_owner(const struct l45_match *a, const struct l45_match *b)
{
	return !memcmp(a->thread, b->thread, sizeof(a->thread)) &&
	       !memcmp(a->process, b->process, sizeof(a->process)) &&
	       same_text(a->executable, b->executable) && a->by_uid == b->by_uid &&
	       a->uid == b->uid;
}

static bool same_ends(const struct l45_match *a, const struct l45_match *b)
{
	return a->protocol == b->protocol && ipv6_addr_equal(&a->local, &b->local) &&
	       ipv6_addr_equal(&a->remote, &b->remote) && a->local_prefix == b->local_prefix &&
	       a->remote_prefix == b->remote_prefix && a->local_port == b->local_port &&
	       a->local_port_last == b->local_port_last && a->remote_port == b->remote_port &&
	       a->remote_port_last == b->remote_port_last;
}

static bool same_instance(const struct l45_instance *a, const struct l45_instance *b)
{
	return a->module == b->module && a->epoch == b->epoch &&
	       !memcmp(a->token, b->token, L45_TOKEN) && a->parameters_size == b->parameters_size &&
	       !memcmp(a->parameters, b->parameters, a->parameters_size);
}

static bool same(const struct l45_customization *a, const struct l45_customization *b)
{
	return a->code == b->code && same_owner(&a->match, &b->match) &&
	       same_ends(&a->match, &b->match) && same_instance(&a->instance, &b->instance) &&
	       a->has_key == b->has_key && !memcmp(a->key, b->key, L45_KEY_SIZE);
}

/* Whether it is the same to decode with either of them. */
static bool same_meaning(const struct l45_instance *a, const struct l45_instance *b)
{
	return a->module == b->module && a->parameters_size == b->parameters_size &&
	       !memcmp(a->parameters, b->parameters, a->parameters_size) &&
	       !memcmp(a->token, b->token, L45_TOKEN);
}

/* Whether marks and switches could mean either of them, and it makes a difference: one deployment
 * may have several customizations on a host, say one for each peer. On a flow the first counts. */
static bool same_on_wire(const struct l45_customization *a, const struct l45_customization *b)
{
	const struct l45_module *module = a->instance.module, *other = b->instance.module;

	return l45_has_wire_form(module) && l45_has_wire_form(other) &&
	       a->instance.epoch == b->instance.epoch && module->signature == other->signature &&
	       !same_meaning(&a->instance, &b->instance);
}

static bool is_taken(const struct l45_set *set, const struct l45_customization *customization)
{
	for (u32 i = 0; i < set->count; i++)
		if (same_on_wire(set->entries[i].customization, customization))
			return true;
	return false;
}

static bool is_taken_by_draining(struct l45_net *net, const struct l45_customization *customization)
{
	struct l45_customization *other;

	list_for_each_entry(other, &net->draining, draining)
		if (same_on_wire(other, customization))
			return true;
	return false;
}

static int check_name(struct change *change, struct nlattr *attr,
		      const struct l45_customization *customization)
{
	if (is_taken(change->set, customization)) {
		NL_SET_ERR_MSG_ATTR(
			change->extack, attr,
			"two customizations of streams have the same signature and epoch: give one another epoch");
		return -EEXIST;
	}
	if (is_taken(change->old, customization) ||
	    is_taken_by_draining(change->net, customization)) {
		NL_SET_ERR_MSG_ATTR(
			change->extack, attr,
			"a customization that was taken away, or is now, has the same signature and epoch: use another epoch, or take it away first and wait until it is gone");
		return -EBUSY;
	}
	return 0;
}

/* What was in force stays the same object, with its flows and counts. */
static int keep(struct change *change, struct nlattr *attr, struct l45_entry *entry,
		struct l45_customization *old)
{
	if (!same(old, entry->customization)) {
		NL_SET_ERR_MSG_ATTR(
			change->extack, attr,
			"module, match, parameters, epoch, token and key of an id cannot change: use a new id");
		return -EINVAL;
	}
	l45_customization_get(old);
	l45_customization_put(entry->customization);
	entry->customization = old;
	return 0;
}

static int settle(struct change *change, struct nlattr *attr, struct l45_entry *entry)
{
	const u8 *id = entry->customization->id;
	struct l45_customization *old = find(change->old, id);

	if (find(change->set, id)) {
		NL_SET_ERR_MSG_ATTR(change->extack, attr,
				    "two customizations have the same id: give each its own");
		return -EEXIST;
	}
	if (is_draining(change->net, id)) {
		NL_SET_ERR_MSG_ATTR(
			change->extack, attr,
			"this id was taken away, and some flows still have it: use a new id, or wait until it is gone");
		return -EBUSY;
	}
	if (old)
		return keep(change, attr, entry, old);
	return check_name(change, attr, entry->customization);
}

/* The lowest priority first, and among equals as they came. */
static void insert(struct l45_set *set, struct l45_entry entry)
{
	u32 place = set->count++;

	for (; place && set->entries[place - 1].priority > entry.priority; place--)
		set->entries[place] = set->entries[place - 1];
	set->entries[place] = entry;
}

static int add(struct change *change, struct nlattr *attr)
{
	struct l45_entry entry = {};
	int err;

	if (change->set->count == L45_SET_SIZE_MAX) {
		NL_SET_ERR_MSG_ATTR(change->extack, attr,
				    "a network namespace has at most 16 customizations");
		return -ENOSPC;
	}
	err = l45_parse_customization(change->net, attr, &entry, change->extack);
	if (err)
		return err;
	err = settle(change, attr, &entry);
	if (err)
		l45_customization_put(entry.customization);
	else
		insert(change->set, entry);
	return err;
}

static int build(struct change *change, struct nlattr *wanted)
{
	struct nlattr *attr;
	int rest, err;

	nla_for_each_nested(attr, wanted, rest) {
		err = add(change, attr);
		if (err)
			return err;
	}
	return 0;
}

/* What is not in the new set is drained. Flows look at `drain_until` when they see the new set. */
static void take_away(struct change *change, u64 until)
{
	const struct l45_set *old = change->old;

	for (u32 i = 0; i < old->count; i++) {
		struct l45_customization *customization = old->entries[i].customization;

		if (find(change->set, customization->id))
			continue;
		customization->last_priority = old->entries[i].priority;
		WRITE_ONCE(customization->drain_until, until);
		l45_customization_get(customization);
		list_add_tail(&customization->draining, &change->net->draining);
	}
}

/* Under net->lock up to the end, so that flows and listeners see sets in their order. */
static void publish(struct change *change, u32 drain_ms)
{
	struct l45_net *net = change->net;
	struct l45_set *old = l45_set_current(net);

	change->set->generation = old->generation + 1;
	take_away(change, ktime_get_ns() + (u64)drain_ms * NSEC_PER_MSEC);
	rcu_assign_pointer(net->set, change->set);
	l45_set_put(old);
	l45_flows_changed(net);
	l45_tell_applied(net, change->set->generation);
	l45_forget_drained(net);
}

int l45_apply(struct l45_net *net, struct nlattr *wanted, u32 drain_ms,
	      struct netlink_ext_ack *extack, u64 *generation)
{
	struct change change = { .net = net, .extack = extack };
	int err;

	change.set = kzalloc(sizeof(*change.set), GFP_KERNEL_ACCOUNT);
	if (!change.set)
		return -ENOMEM;
	refcount_set(&change.set->refs, 1);
	mutex_lock(&net->lock);
	l45_forget_drained(net); /* so that what is drained by now is in nobody's way */
	change.old = l45_set_current(net);
	err = build(&change, wanted);
	if (!err) {
		publish(&change, drain_ms);
		*generation = change.set->generation;
	}
	mutex_unlock(&net->lock);
	if (err)
		l45_set_put(change.set);
	return err;
}
