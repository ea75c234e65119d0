// SPDX-License-Identifier: GPL-2.0
/*
 * stream_xor: the smallest dialect: each byte of a message is combined with the key's byte at that
 * place. Who does not speak it is told apart; it keeps nothing secret.
 */
#include <l45/module.h>

#define SIGNATURE 0x53584f52 /* "SXOR" */

static enum l45_verdict combine(struct l45_msg *msg)
{
	__u64 key = L45_BE32(l45_param_u32(msg, 0));

	return l45_xor(msg, 0, l45_len(msg), key << 32 | key) ? L45_ERROR : L45_DONE;
}

L45_STREAM_MODULE(stream_xor, L45_STREAM_WHOLE, SIGNATURE, combine, combine)
