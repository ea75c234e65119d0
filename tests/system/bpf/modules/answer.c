// SPDX-License-Identifier: GPL-2.0
/* Answers what its first parameter says; first overwrites the message if the second says so. */
#include <l45/module.h>

static enum l45_verdict answer(struct l45_msg *msg)
{
	__u8 junk[4] = { 0xde, 0xad, 0xbe, 0xef };

	if (l45_param_u8(msg, 1) && l45_store(msg, 0, junk, sizeof(junk)))
		return L45_ERROR;
	return l45_param_u8(msg, 0);
}

L45_MODULE(answer, answer, answer)
