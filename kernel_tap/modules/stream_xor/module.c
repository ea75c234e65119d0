// SPDX-License-Identifier: GPL-2.0
/*
 * stream_xor: the smallest dialect: each byte of a message is combined with the key's byte at that
 * place. Who does not speak it is told apart; it keeps nothing secret.
 */
#include <l45/module.h>

#define SIGNATURE 0x53584f52 /* "SXOR" */

/* The pattern that a message is combined with, as often as it is long. */
struct pattern {
	__u32 words[16];
};

static struct pattern pattern(const struct l45_msg *msg)
{
	__u32 key = L45_BE32(l45_param_u32(msg, 0));
	struct pattern pattern;

	for (int i = 0; i < 16; i++)
		pattern.words[i] = key;
	return pattern;
}

/* Pieces of `size` bytes, as many as there are from `offset` on; returns where they end. */
static inline __u32 combine_pieces(struct l45_msg *msg, __u32 offset, __u32 size,
				   const struct pattern *key)
{
	struct pattern piece;

	for (; offset + size <= l45_len(msg); offset += size) {
		if (l45_load(msg, offset, &piece, size))
			break;
		for (__u32 i = 0; i < size / 4; i++)
			piece.words[i] ^= key->words[i];
		if (l45_store(msg, offset, &piece, size))
			break;
	}
	return offset;
}

/* The last bytes, fewer than a word of the key. */
static __u32 combine_rest(struct l45_msg *msg, __u32 offset, const struct pattern *key)
{
	const __u8 *keys = (const __u8 *)key->words;
	__u8 byte;

	for (; offset < l45_len(msg); offset++) {
		if (l45_load(msg, offset, &byte, 1))
			break;
		byte ^= keys[offset % 4];
		if (l45_store(msg, offset, &byte, 1))
			break;
	}
	return offset;
}

static enum l45_verdict combine(struct l45_msg *msg)
{
	struct pattern key = pattern(msg);
	__u32 offset = combine_pieces(msg, 0, sizeof(key), &key);

	offset = combine_pieces(msg, offset, sizeof(key.words[0]), &key);
	return combine_rest(msg, offset, &key) == l45_len(msg) ? L45_DONE : L45_ERROR;
}

L45_STREAM_MODULE(stream_xor, L45_STREAM_WHOLE, SIGNATURE, combine, combine)
