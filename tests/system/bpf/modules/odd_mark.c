// SPDX-License-Identifier: GPL-2.0
/* Puts three bytes after the first byte of a message: everything behind them changes its parity.
 * The middle one is the parameter, so that instances tell each other's messages apart. */
#include <l45/module.h>

static enum l45_verdict send(struct l45_msg *msg)
{
	__u8 mark[3] = { 0xa5, l45_param_u8(msg, 0), 0x5a };

	if (!l45_len(msg))
		return L45_NEXT;
	if (l45_insert(msg, 1, sizeof(mark)) || l45_store(msg, 1, mark, sizeof(mark)))
		return L45_ERROR;
	return L45_DONE;
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	__u8 mark[3];

	if (l45_load(msg, 1, mark, sizeof(mark)))
		return L45_NEXT;
	if (mark[0] != 0xa5 || mark[1] != l45_param_u8(msg, 0) || mark[2] != 0x5a)
		return L45_NEXT;
	return l45_remove(msg, 1, sizeof(mark)) ? L45_ERROR : L45_DONE;
}

L45_MODULE(odd_mark, send, recv)
