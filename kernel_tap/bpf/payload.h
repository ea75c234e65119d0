/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Summing and moving stretches of a packet of any length. eBPF has no memmove on packets: a stack
 * buffer and bpf_loop do it, in pieces.
 */
#ifndef L45_BPF_PAYLOAD_H
#define L45_BPF_PAYLOAD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define L45_PIECE 128 /* bytes, a power of two; the BPF stack has 512 for all frames */

struct l45_stretch {
	struct __sk_buff *skb;
	__u32 from;
	__u32 to;
	__u32 left; /* bytes still to do */
	__s32 error;
	__s64 sum;
};

static inline __u32 l45_pieces(__u32 size)
{
	return (size + L45_PIECE - 1) / L45_PIECE;
}

/* Size of the next piece, 1 to L45_PIECE: bpf_loop calls only while something is left. Told so
 * that the verifier of Linux 6.1 sees both bounds, and clang takes none of it away. */
static __always_inline __u32 l45_piece_size(const struct l45_stretch *stretch)
{
	__u32 last = stretch->left - 1;

	if (last >= L45_PIECE)
		last = L45_PIECE - 1;
	barrier_var(last);
	return (last & (L45_PIECE - 1)) + 1;
}

static long l45_sum_piece(__u32 index, struct l45_stretch *stretch)
{
	__u32 size = l45_piece_size(stretch);
	__be32 piece[L45_PIECE / sizeof(__be32)] = {};

	(void)index;
	if (bpf_skb_load_bytes(stretch->skb, stretch->from, piece, size))
		return 1;
	stretch->sum = bpf_csum_diff(0, 0, piece, sizeof(piece), stretch->sum);
	stretch->from += size;
	stretch->left -= size;
	return 0;
}

/* Internet checksum (RFC 1071), not complemented, of `size` bytes as if `from` were even. */
static __noinline __u32 l45_sum(struct __sk_buff *skb, __u32 from, __u32 size)
{
	struct l45_stretch stretch = { .skb = skb, .from = from, .left = size };

	bpf_loop(l45_pieces(size), l45_sum_piece, &stretch, 0);
	return stretch.sum;
}

static inline long l45_move_piece(struct l45_stretch *stretch, __u32 from, __u32 to, __u32 size)
{
	__u8 piece[L45_PIECE] = {};

	stretch->error = bpf_skb_load_bytes(stretch->skb, from, piece, size);
	if (!stretch->error)
		stretch->error = bpf_skb_store_bytes(stretch->skb, to, piece, size, 0);
	stretch->left -= size;
	return stretch->error != 0;
}

static long l45_move_last(__u32 index, struct l45_stretch *stretch)
{
	__u32 size = l45_piece_size(stretch), before;

	(void)index;
	before = stretch->left - size;
	return l45_move_piece(stretch, stretch->from + before, stretch->to + before, size);
}

static long l45_move_first(__u32 index, struct l45_stretch *stretch)
{
	__u32 size = l45_piece_size(stretch), from = stretch->from, to = stretch->to;

	(void)index;
	stretch->from += size;
	stretch->to += size;
	return l45_move_piece(stretch, from, to, size);
}

/* Move `size` bytes, overlapping or not. Fails only where the packet does not have them. */
static __noinline int l45_move(struct __sk_buff *skb, __u32 from, __u32 to, __u32 size)
{
	struct l45_stretch stretch = { .skb = skb, .from = from, .to = to, .left = size };

	if (to > from)
		bpf_loop(l45_pieces(size), l45_move_last, &stretch, 0);
	else
		bpf_loop(l45_pieces(size), l45_move_first, &stretch, 0);
	return stretch.error;
}

static long l45_clear_piece(__u32 index, struct l45_stretch *stretch)
{
	__u32 size = l45_piece_size(stretch);
	__u8 piece[L45_PIECE] = {};

	(void)index;
	stretch->error = bpf_skb_store_bytes(stretch->skb, stretch->from, piece, size, 0);
	stretch->from += size;
	stretch->left -= size;
	return stretch->error != 0;
}

static __noinline int l45_clear(struct __sk_buff *skb, __u32 from, __u32 size)
{
	struct l45_stretch stretch = { .skb = skb, .from = from, .left = size };

	bpf_loop(l45_pieces(size), l45_clear_piece, &stretch, 0);
	return stretch.error;
}

#endif
