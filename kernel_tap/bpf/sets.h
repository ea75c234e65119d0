/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The sets of customizations of the namespaces, and which of a set is for a socket's owner.
 */
#ifndef L45_BPF_SETS_H
#define L45_BPF_SETS_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <match.h>
#include "kernel.h"
#include "maps.h"

/* A namespace's set is replaced whole: the outer map's update is one pointer, and returns to the
 * driver when no program sees the old set any more (the kernel waits for a grace period). A plain
 * hash would reuse an element at once, under the eyes of a program that copies it.
 * Sizes, not types: Linux 6.1 takes the driver's maps, made without BTF, for another kind of map
 * than one with BTF. */
struct l45_set_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct l45_set));
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, L45_TABLE_MAX);
	__type(key, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct l45_set_map);
} l45_namespaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct l45_info);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_info SEC(".maps");

/* Namespaces that the driver asks about; l45_find_living makes those that are there nonzero. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, L45_TABLE_MAX + L45_MODULES_MAX);
	__type(key, __u64);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_living SEC(".maps");

static __always_inline struct l45_info *l45_info_of_tap(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&l45_info, &first);
}

/* The set of a namespace, or NULL. */
static __always_inline const struct l45_set *l45_set_of(__u64 netns)
{
	__u32 first = 0;
	void *inner = bpf_map_lookup_elem(&l45_namespaces, &netns);

	return inner ? bpf_map_lookup_elem(inner, &first) : 0;
}

static inline int l45_was_left(const struct l45_socket *socket, const struct l45_customization *c)
{
	for (__u32 i = 0; i < L45_LEFT_MAX; i++)
		if (i < socket->left_count && l45_same_id(socket->left[i], c->id))
			return 1;
	return 0;
}

static __noinline int l45_is_for(const struct l45_socket *socket, const struct l45_attached *entry)
{
	const struct l45_customization *c = bpf_map_lookup_elem(&l45_customizations, &entry->index);

	if (!c || (entry->flags & L45_FLAG_DEPRECATED && socket->opened > entry->deprecated))
		return 0;
	return !l45_was_left(socket, c) && l45_owner_matches(&c->match, &socket->owner);
}

struct l45_choice {
	struct l45_socket *socket;
	const struct l45_set *set;
	__u32 mask;
};

static long l45_choose(__u32 index, struct l45_choice *choice)
{
	if (index >= L45_SET_MAX || index >= choice->set->count)
		return 1;
	if (l45_is_for(choice->socket, &choice->set->entries[index]))
		choice->mask |= 1u << index;
	return 0;
}

/* The places in the set that are for the socket, as bits. They are found once for each set and
 * owner, and then kept in one word, so that what is read of them is right or of no use. */
static __noinline int l45_attached_to(struct l45_socket *socket, const struct l45_set *set)
{
	__u64 known = socket->matched;
	struct l45_choice choice = { .socket = socket, .set = set };
	__u32 version = socket->version;

	if (known >> 16 == L45_MATCHED(set->number, version, 0) >> 16)
		return known & 0xffff;
	/* A loop of the verifier's own: it would follow each mask that there can be. */
	bpf_loop(L45_SET_MAX, l45_choose, &choice, 0);
	socket->matched = L45_MATCHED(set->number, version, choice.mask);
	return choice.mask;
}

#define L45_NAMESPACES_MAX (1u << 20)

struct l45_search {
	struct list_head *at;
	struct list_head *begin;
};

static long l45_note_living(__u32 index, struct l45_search *search)
{
	struct list_head *at = search->at;
	struct net *net = (void *)at - bpf_core_field_offset(struct net, list);
	__u64 cookie = BPF_CORE_READ(net, net_cookie);
	__u32 *asked = bpf_map_lookup_elem(&l45_living, &cookie);

	(void)index;
	if (asked)
		*asked = 1;
	search->at = BPF_CORE_READ(at, next);
	return !search->at || search->at == search->begin;
}

/* Run by the driver: goes from its own namespace through the ring of all. The head of the ring is
 * no namespace; what is read there for a cookie nobody asks about. */
SEC("raw_tp")
int l45_find_living(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);
	struct l45_search search = {
		.at = (void *)net + bpf_core_field_offset(struct net, list),
	};

	(void)ctx;
	search.begin = search.at;
	bpf_loop(L45_NAMESPACES_MAX, l45_note_living, &search, 0);
	return search.at == search.begin; /* the whole ring was seen */
}

#endif
