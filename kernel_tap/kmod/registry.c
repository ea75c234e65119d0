// SPDX-License-Identifier: GPL-2.0
/*
 * The set of customizations of each network namespace, and how long things live.
 *
 * A set is published under RCU and never changes. It has a reference to each of its
 * customizations; so does `draining`, and whoever else needs one for longer than an RCU read
 * section. Memory of both is freed a grace period after the last reference: readers under RCU may
 * find a customization in a flow without having one. A customization's module is let go of at
 * once, so that it can be unloaded then; its code runs only for those who have a reference.
 *
 * A namespace goes after its last socket, and with it, its flows: nothing is left here but sets.
 * l45.ko itself cannot go before all modules have, so there are no customizations then.
 */
#include <linux/rcupdate_wait.h>
#include <net/netns/generic.h>

#include "registry.h"

static unsigned int l45_net_id __read_mostly;

struct l45_net *l45_net_of(const struct net *net)
{
	return net_generic(net, l45_net_id);
}

/* ---- customizations ---- */

void l45_customization_get(struct l45_customization *customization)
{
	kref_get(&customization->refs);
}

static void release(struct kref *refs)
{
	struct l45_customization *customization =
		container_of(refs, struct l45_customization, refs);

	if (customization->code)
		l45_code_put(customization->code);
	kfree(customization->match.executable);
	memzero_explicit(customization->key, sizeof(customization->key));
	kfree_rcu(customization, rcu);
}

void l45_customization_put(struct l45_customization *customization)
{
	kref_put(&customization->refs, release);
}

static void add_counts(struct l45_counts *to, const struct l45_counts *counts)
{
	to->sent += counts->sent;
	to->received += counts->received;
	to->passed += counts->passed;
	to->dropped += counts->dropped;
	to->errors += counts->errors;
	to->too_big += counts->too_big;
	to->sent_bytes += counts->sent_bytes;
	to->received_bytes += counts->received_bytes;
}

void l45_customization_attached(struct l45_customization *customization)
{
	atomic_inc(&customization->flows);
}

/* The caller still has a reference. Either this sees that it is drained, or l45_apply(), which
 * looks at `flows` after it has set `drain_until`, sees that this was the last flow. */
void l45_customization_detached(struct l45_customization *customization,
				const struct l45_counts *counts)
{
	struct l45_net *net = customization->net;

	if (counts) {
		spin_lock(&net->totals);
		add_counts(&customization->gone, counts);
		spin_unlock(&net->totals);
	}
	if (atomic_dec_and_test(&customization->flows) && READ_ONCE(customization->drain_until))
		mod_delayed_work(system_wq, &net->reap, 0);
}

/* A connection that nobody has read yet can begin with its mark. It is reset if it is read after
 * the deadline, and has not ended. */
static bool may_still_come(const struct l45_customization *customization)
{
	return customization->match.protocol == IPPROTO_TCP &&
	       l45_has_wire_form(customization->instance.module) &&
	       ktime_get_ns() < customization->drain_until + L45_GRACE_NS &&
	       l45_has_waiting_connections(customization->net->net);
}

void l45_forget_drained(struct l45_net *net)
{
	struct l45_customization *customization, *next;

	lockdep_assert_held(&net->lock);
	list_for_each_entry_safe(customization, next, &net->draining, draining) {
		if (atomic_read(&customization->flows))
			continue;
		if (may_still_come(customization)) {
			schedule_delayed_work(&net->reap, HZ / 10);
			continue;
		}
		list_del(&customization->draining);
		l45_tell_removed(customization);
		l45_customization_put(customization);
	}
}

static void reap(struct work_struct *work)
{
	struct l45_net *net = container_of(to_delayed_work(work), struct l45_net, reap);

	mutex_lock(&net->lock);
	l45_forget_drained(net);
	mutex_unlock(&net->lock);
}

/* ---- sets ---- */

struct l45_set *l45_set_get(struct l45_net *net)
{
	struct l45_set *set;

	/* Whose count is 0 was replaced before: the next one is there. */
	rcu_read_lock();
	do {
		set = rcu_dereference(net->set);
	} while (!refcount_inc_not_zero(&set->refs));
	rcu_read_unlock();
	return set;
}

void l45_set_put(struct l45_set *set)
{
	if (!refcount_dec_and_test(&set->refs))
		return;
	for (u32 i = 0; i < set->count; i++)
		l45_customization_put(set->entries[i].customization);
	kfree_rcu(set, rcu);
}

u64 l45_generation(struct l45_net *net)
{
	u64 generation;

	rcu_read_lock();
	generation = rcu_dereference(net->set)->generation;
	rcu_read_unlock();
	return generation;
}

struct l45_set *l45_set_current(struct l45_net *net)
{
	return rcu_dereference_protected(net->set, lockdep_is_held(&net->lock));
}

static struct l45_customization *find(struct l45_net *net, const u8 id[L45_ID_SIZE])
{
	const struct l45_set *set = l45_set_current(net);
	struct l45_customization *customization;

	for (u32 i = 0; i < set->count; i++)
		if (!memcmp(set->entries[i].customization->id, id, L45_ID_SIZE))
			return set->entries[i].customization;
	list_for_each_entry(customization, &net->draining, draining)
		if (!memcmp(customization->id, id, L45_ID_SIZE))
			return customization;
	return NULL;
}

struct l45_customization *l45_find(struct l45_net *net, const u8 id[L45_ID_SIZE])
{
	struct l45_customization *customization;

	mutex_lock(&net->lock);
	customization = find(net, id);
	if (customization)
		l45_customization_get(customization);
	mutex_unlock(&net->lock);
	return customization;
}

/* ---- snapshots ---- */

static void take(struct l45_snapshot *snapshot, struct l45_customization *customization,
		 u32 priority, u32 flags)
{
	struct l45_status *status = &snapshot->of[snapshot->count++];
	struct l45_net *net = customization->net;

	l45_customization_get(customization);
	status->customization = customization;
	status->priority = priority;
	status->flags = flags;
	memset(&customization->live, 0, sizeof(customization->live));
	spin_lock(&net->totals);
	status->counts = customization->gone;
	spin_unlock(&net->totals);
}

u32 l45_read_attachments(struct l45_tap *tap, struct l45_attachment *room)
{
	u32 count;

	spin_lock(&tap->net->totals);
	count = l45_tap_attachments(tap, room);
	spin_unlock(&tap->net->totals);
	return count;
}

/* A flow that closes while this goes on may be missed, and is there the next time. */
static void add_up_flows(struct l45_net *net, struct l45_attachment *room)
{
	struct l45_tap *tap;
	unsigned long number;

	lockdep_assert_held(&net->lock);
	rcu_read_lock();
	xa_for_each(&net->flows, number, tap) {
		u32 count = l45_read_attachments(tap, room);

		for (u32 i = 0; i < count; i++)
			add_counts(&room[i].customization->live, &room[i].counts);
		cond_resched_rcu();
	}
	rcu_read_unlock();
}

static void fill(struct l45_snapshot *snapshot, struct l45_net *net, struct l45_attachment *room)
{
	const struct l45_set *set = l45_set_current(net);
	struct l45_customization *customization;

	for (u32 i = 0; i < set->count; i++)
		take(snapshot, set->entries[i].customization, set->entries[i].priority,
		     set->entries[i].flags);
	list_for_each_entry(customization, &net->draining, draining)
		take(snapshot, customization, customization->last_priority,
		     L45_CUSTOMIZATION_DRAINING);
	add_up_flows(net, room);
	for (u32 i = 0; i < snapshot->count; i++)
		add_counts(&snapshot->of[i].counts, &snapshot->of[i].customization->live);
}

struct l45_snapshot *l45_snapshot_new(struct l45_net *net)
{
	struct l45_attachment *room = kmalloc_array(L45_SET_SIZE_MAX, sizeof(*room), GFP_KERNEL);
	struct l45_snapshot *snapshot = NULL;
	size_t count;

	mutex_lock(&net->lock);
	count = l45_set_current(net)->count + list_count_nodes(&net->draining);
	if (room)
		snapshot = kvzalloc(struct_size(snapshot, of, count), GFP_KERNEL_ACCOUNT);
	if (snapshot)
		fill(snapshot, net, room);
	mutex_unlock(&net->lock);
	kfree(room);
	return snapshot;
}

void l45_snapshot_free(struct l45_snapshot *snapshot)
{
	for (u32 i = 0; i < snapshot->count; i++)
		l45_customization_put(snapshot->of[i].customization);
	kvfree(snapshot);
}

/* ---- namespaces ---- */

static int __net_init net_init(struct net *net)
{
	struct l45_net *l45 = l45_net_of(net);
	struct l45_set *set = kzalloc(sizeof(*set), GFP_KERNEL_ACCOUNT);

	if (!set)
		return -ENOMEM;
	refcount_set(&set->refs, 1);
	RCU_INIT_POINTER(l45->set, set);
	l45->net = net;
	mutex_init(&l45->lock);
	INIT_LIST_HEAD(&l45->draining);
	xa_init_flags(&l45->flows, XA_FLAGS_ALLOC1);
	spin_lock_init(&l45->totals);
	INIT_DELAYED_WORK(&l45->reap, reap);
	return 0;
}

static void __net_exit net_exit(struct net *net)
{
	struct l45_net *l45 = l45_net_of(net);
	struct l45_customization *customization, *next;

	cancel_delayed_work_sync(&l45->reap);
	list_for_each_entry_safe(customization, next, &l45->draining, draining) {
		list_del(&customization->draining);
		l45_customization_put(customization);
	}
	l45_set_put(rcu_dereference_protected(l45->set, true));
	WARN_ON_ONCE(!xa_empty(&l45->flows));
	xa_destroy(&l45->flows);
	mutex_destroy(&l45->lock);
}

static struct pernet_operations net_operations = {
	.init = net_init,
	.exit = net_exit,
	.id = &l45_net_id,
	.size = sizeof(struct l45_net),
};

int l45_registry_init(void)
{
	return register_pernet_subsys(&net_operations);
}

/* What waits for a grace period is plain memory: kfree_rcu() needs none of our code. */
void l45_registry_exit(void)
{
	unregister_pernet_subsys(&net_operations);
}
