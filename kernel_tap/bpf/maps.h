/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Maps that the tap and all modules share: libbpf finds them by name where the tap pinned them.
 */
#ifndef L45_BPF_MAPS_H
#define L45_BPF_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <l45/abi.h>

/* The message that this CPU is working on: tc programs run to the end without another on the
 * same CPU in between, tail calls included. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct l45_walk);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_context SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, L45_TABLE_MAX);
	__type(key, __u32);
	__type(value, struct l45_customization);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_customizations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, L45_PLACES);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} l45_dispatch SEC(".maps");

static inline struct l45_walk *l45_context_of_cpu(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&l45_context, &first);
}

#endif
