/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Does a customization apply to this message of this socket? Plain C without I/O. The kernel tap
 * has its own (kmod/owner.c), over the kernel's types: tests/unit/test_match_pairs.py and
 * tests/system/bpf/test_bpf_match.py hold all of them to one oracle.
 */
#ifndef L45_CORE_MATCH_H
#define L45_CORE_MATCH_H

#include <l45/abi.h>

/* In all structures ids, names and paths are where a __u64 could be. */
static inline int l45_same_id(const __u8 id[L45_ID], const __u8 other[L45_ID])
{
	__u64 a[2], b[2];

	__builtin_memcpy(a, __builtin_assume_aligned(id, 8), sizeof(a));
	__builtin_memcpy(b, __builtin_assume_aligned(other, 8), sizeof(b));
	return a[0] == b[0] && a[1] == b[1];
}

/* Names are padded with NUL and as long as ids. */
static inline int l45_same_name(const char name[L45_COMM], const char other[L45_COMM])
{
	return l45_same_id((const __u8 *)name, (const __u8 *)other);
}

static inline int l45_name_matches(const char wanted[L45_COMM], const char name[L45_COMM])
{
	return !wanted[0] || l45_same_name(wanted, name);
}

/* Without a branch in the loop: eBPF's verifier follows each. */
static inline int l45_same_path(const char path[L45_PATH], const char other[L45_PATH])
{
	__u64 a, b, differences = 0;

	for (__u32 i = 0; i < L45_PATH; i += sizeof(a)) {
		__builtin_memcpy(&a, __builtin_assume_aligned(path + i, 8), sizeof(a));
		__builtin_memcpy(&b, __builtin_assume_aligned(other + i, 8), sizeof(b));
		differences |= a ^ b;
	}
	return !differences;
}

/* A path ends where its room ends. */
static inline int l45_path_matches(const char wanted[L45_PATH], const char path[L45_PATH])
{
	return !wanted[L45_PATH - 1] || l45_same_path(wanted, path);
}

static inline int l45_owner_matches(const struct l45_match *match, const struct l45_owner *owner)
{
	return l45_name_matches(match->thread, owner->user.thread) &&
	       l45_name_matches(match->process, owner->user.process) &&
	       (!match->by_uid || match->uid == owner->user.uid) &&
	       l45_path_matches(match->executable, owner->executable);
}

static inline int l45_prefix_matches(const struct l45_prefix *prefix, const __be32 address[4])
{
	__be32 differences = 0;

	for (__u32 i = 0; i < 4; i++)
		differences |= (address[i] & prefix->mask[i]) ^ prefix->address[i];
	return !differences;
}

static inline int l45_ends_match(const struct l45_match *match, const struct l45_ends *ends)
{
	return match->protocol == ends->protocol && match->local_port <= ends->local_port &&
	       ends->local_port <= match->local_port_last &&
	       match->remote_port <= ends->remote_port &&
	       ends->remote_port <= match->remote_port_last &&
	       l45_prefix_matches(&match->local, ends->local) &&
	       l45_prefix_matches(&match->remote, ends->remote);
}

static inline int l45_matches(const struct l45_match *match, const struct l45_owner *owner,
			      const struct l45_ends *ends)
{
	return l45_ends_match(match, ends) && l45_owner_matches(match, owner);
}

#endif
