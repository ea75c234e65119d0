// SPDX-License-Identifier: GPL-2.0
/* Fuzz target: l45_matches against an implementation that goes bit by bit and character by
 * character. */
#include <match.h>

#include "fuzz.h"

/* Of the fields, those that the flow and its owner have as the match wants them. */
struct same {
	__u8 addresses;
	__u8 others;
};

static void choose_match(struct input *input, struct l45_match *match)
{
	choose_text(input, match->thread, sizeof(match->thread));
	choose_text(input, match->process, sizeof(match->process));
	choose_bytes(input, &match->local, 4 * sizeof(__be32));
	choose_bytes(input, &match->local_port, 2 * sizeof(__be16));
	match->protocol = choose(input);
}

static void choose_flow(struct input *input, const struct l45_match *match, struct same same,
			struct l45_flow *flow)
{
	choose_bytes(input, &flow->local, 2 * sizeof(__be32));
	choose_bytes(input, &flow->local_port, 2 * sizeof(__be16));
	flow->protocol = choose(input);
	if (same.addresses & 1)
		flow->local = match->local | (flow->local & ~match->local_mask);
	if (same.addresses & 2)
		flow->remote = match->remote | (flow->remote & ~match->remote_mask);
	if (same.others & 1)
		flow->local_port = match->local_port;
	if (same.others & 2)
		flow->remote_port = match->remote_port;
	if (same.others & 4)
		flow->protocol = match->protocol;
}

static void choose_owner(struct input *input, const struct l45_match *match, struct same same,
			 struct l45_owner *owner)
{
	choose_text(input, owner->thread, sizeof(owner->thread));
	choose_text(input, owner->process, sizeof(owner->process));
	if (same.others & 8)
		memcpy(owner->thread, match->thread, sizeof(owner->thread));
	if (same.others & 16)
		memcpy(owner->process, match->process, sizeof(owner->process));
}

static int naive_prefix(__u32 wanted, __u32 mask, __u32 address)
{
	for (__u32 bit = 1; bit; bit <<= 1)
		if ((wanted & bit) != (mask & bit ? address & bit : 0))
			return 0;
	return 1;
}

static int naive_name(const char *wanted, const char *name)
{
	return *wanted == '\0' || strcmp(wanted, name) == 0;
}

static int naive_match(const struct l45_match *match, const struct l45_owner *owner,
		       const struct l45_flow *flow)
{
	if (match->protocol != flow->protocol)
		return 0;
	if (match->local_port != 0 && match->local_port != flow->local_port)
		return 0;
	if (match->remote_port != 0 && match->remote_port != flow->remote_port)
		return 0;
	if (!naive_prefix(match->local, match->local_mask, flow->local))
		return 0;
	if (!naive_prefix(match->remote, match->remote_mask, flow->remote))
		return 0;
	return naive_name(match->thread, owner->thread) &&
	       naive_name(match->process, owner->process);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size)
{
	struct input input = { .bytes = bytes, .size = size };
	struct same same = { .addresses = choose(&input), .others = choose(&input) };
	struct l45_match match = { 0 };
	struct l45_owner owner = { 0 };
	struct l45_flow flow = { 0 };

	choose_match(&input, &match);
	choose_flow(&input, &match, same, &flow);
	choose_owner(&input, &match, same, &owner);
	CHECK(!l45_matches(&match, &owner, &flow) == !naive_match(&match, &owner, &flow));
	return 0;
}
