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

static int combine_bytes(struct l45_msg *msg, __u32 offset, const struct pattern *key)
{
	const __u8 *keys = (const __u8 *)key->words;
	__u8 byte;

	for (; offset < l45_len(msg); offset++) {
		if (l45_load(msg, offset, &byte, 1))
			return -1;
		byte ^= keys[offset % sizeof(*key)];
		if (l45_store(msg, offset, &byte, 1))
			return -1;
	}
	return 0;
}

static enum l45_verdict combine(struct l45_msg *msg)
{
	struct pattern key = pattern(msg), piece;
	__u32 offset = 0;

	for (; offset + sizeof(piece) <= l45_len(msg); offset += sizeof(piece)) {
		if (l45_load(msg, offset, &piece, sizeof(piece)))
			return L45_ERROR;
		for (int i = 0; i < 16; i++)
			piece.words[i] ^= key.words[i];
		if (l45_store(msg, offset, &piece, sizeof(piece)))
			return L45_ERROR;
	}
	return combine_bytes(msg, offset, &key) ? L45_ERROR : L45_DONE;
}

L45_STREAM_MODULE(stream_xor, L45_STREAM_WHOLE, SIGNATURE, combine, combine)
