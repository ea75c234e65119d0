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
	choose_bytes(input, match->executable + L45_PATH - 8, 8);
	choose_bytes(input, &match->local, sizeof(match->local));
	choose_bytes(input, &match->remote, sizeof(match->remote));
	match->local_port = choose16(input);
	match->local_port_last = choose16(input);
	match->remote_port = choose16(input);
	match->remote_port_last = choose16(input);
	match->by_uid = choose(input) & 1;
	match->uid = choose(input);
	match->protocol = choose(input);
}

static void fit(__be32 address[4], const struct l45_prefix *prefix)
{
	for (int i = 0; i < 4; i++)
		address[i] = prefix->address[i] | (address[i] & ~prefix->mask[i]);
}

static void choose_ends(struct input *input, const struct l45_match *match, struct same same,
			struct l45_ends *ends)
{
	choose_bytes(input, ends->local, sizeof(ends->local));
	choose_bytes(input, ends->remote, sizeof(ends->remote));
	ends->local_port = choose16(input);
	ends->remote_port = choose16(input);
	ends->protocol = choose(input);
	if (same.addresses & 1)
		fit(ends->local, &match->local);
	if (same.addresses & 2)
		fit(ends->remote, &match->remote);
	if (same.others & 1)
		ends->local_port = match->local_port;
	if (same.others & 2)
		ends->remote_port = match->remote_port_last;
	if (same.others & 4)
		ends->protocol = match->protocol;
}

static void choose_owner(struct input *input, const struct l45_match *match, struct same same,
			 struct l45_owner *owner)
{
	choose_text(input, owner->user.thread, sizeof(owner->user.thread));
	choose_text(input, owner->user.process, sizeof(owner->user.process));
	choose_bytes(input, owner->executable + L45_PATH - 8, 8);
	owner->user.uid = choose(input);
	if (same.others & 8)
		memcpy(owner->user.thread, match->thread, sizeof(owner->user.thread));
	if (same.others & 16)
		memcpy(owner->user.process, match->process, sizeof(owner->user.process));
	if (same.others & 32)
		memcpy(owner->executable, match->executable, sizeof(owner->executable));
	if (same.others & 64)
		owner->user.uid = match->uid;
}

static int naive_prefix(const struct l45_prefix *prefix, const __be32 address[4])
{
	for (int i = 0; i < 4; i++)
		for (__u32 bit = 1; bit; bit <<= 1)
			if ((prefix->address[i] & bit) !=
			    (prefix->mask[i] & bit ? address[i] & bit : 0))
				return 0;
	return 1;
}

static int naive_name(const char *wanted, const char *name)
{
	return *wanted == '\0' || strcmp(wanted, name) == 0;
}

/* A path ends where its room ends; what ends before has an end of NUL, and is none. */
static int naive_path(const char *wanted, const char *path)
{
	if (wanted[L45_PATH - 1] == '\0')
		return 1;
	for (int i = L45_PATH - 1; i >= 0; i--)
		if (wanted[i] != path[i])
			return 0;
	return 1;
}

static int naive_port(__u16 first, __u16 last, __u16 port)
{
	for (__u32 one = first; one <= last; one++)
		if (one == port)
			return 1;
	return 0;
}

static int naive_match(const struct l45_match *match, const struct l45_owner *owner,
		       const struct l45_ends *ends)
{
	if (match->protocol != ends->protocol)
		return 0;
	if (match->by_uid && match->uid != owner->user.uid)
		return 0;
	if (!naive_port(match->local_port, match->local_port_last, ends->local_port))
		return 0;
	if (!naive_port(match->remote_port, match->remote_port_last, ends->remote_port))
		return 0;
	if (!naive_prefix(&match->local, ends->local))
		return 0;
	if (!naive_prefix(&match->remote, ends->remote))
		return 0;
	return naive_name(match->thread, owner->user.thread) &&
	       naive_name(match->process, owner->user.process) &&
	       naive_path(match->executable, owner->executable);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size)
{
	struct input input = { .bytes = bytes, .size = size };
	struct same same = { .addresses = choose(&input), .others = choose(&input) };
	struct l45_match match = { 0 };
	struct l45_owner owner = { 0 };
	struct l45_ends ends = { 0 };

	choose_match(&input, &match);
	choose_ends(&input, &match, same, &ends);
	choose_owner(&input, &match, same, &owner);
	CHECK(!l45_matches(&match, &owner, &ends) == !naive_match(&match, &owner, &ends));
	return 0;
}
