/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Does a customization apply to this message of this socket? Plain C without I/O, the same for
 * every tap.
 */
#ifndef L45_CORE_MATCH_H
#define L45_CORE_MATCH_H

#include <l45/abi.h>

static inline int l45_same_id(const __u8 id[L45_ID], const __u8 other[L45_ID])
{
	__u64 a[2], b[2];

	__builtin_memcpy(a, id, sizeof(a));
	__builtin_memcpy(b, other, sizeof(b));
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

static inline int l45_port_matches(__be16 wanted, __be16 port)
{
	return !wanted || wanted == port;
}

static inline int l45_matches(const struct l45_match *match, const struct l45_owner *owner,
			      const struct l45_flow *flow)
{
	return match->protocol == flow->protocol &&
	       l45_port_matches(match->local_port, flow->local_port) &&
	       l45_port_matches(match->remote_port, flow->remote_port) &&
	       (flow->local & match->local_mask) == match->local &&
	       (flow->remote & match->remote_mask) == match->remote &&
	       l45_name_matches(match->thread, owner->thread) &&
	       l45_name_matches(match->process, owner->process);
}

#endif
