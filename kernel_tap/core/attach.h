/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a module's answer means to the tap that asked it: the same for every tap.
 *
 * The customizations attached to a socket are asked in the order of their priority, the lowest
 * number first; the first that takes a message is the only one that acts on it.
 */
#ifndef L45_CORE_ATTACH_H
#define L45_CORE_ATTACH_H

#include <l45/module.h>

enum l45_action {
	L45_FINISH,  /* the message is as it should be: on its way */
	L45_ASK,     /* ask the next customization */
	L45_FORWARD, /* on its way as it was, nobody else is asked */
	L45_DISCARD, /* the module wants it gone */
	L45_FAIL,    /* as it was, and an error is counted */
	L45_SPOILT,  /* changed half-way: nobody may see it, and an error is counted */
};

/* What a customization did to one socket's messages. */
struct l45_counts {
	__u64 sent;
	__u64 received;
	__u64 passed; /* seen, and left for the next or unchanged */
	__u64 dropped;
	__u64 errors;
	__u64 too_big;
	__u64 sent_bytes; /* of the application, as the next */
	__u64 received_bytes;
};

static inline enum l45_action l45_after(__u32 verdict, int changed)
{
	if (verdict == L45_DONE)
		return L45_FINISH;
	if (verdict == L45_DROP)
		return L45_DISCARD;
	if (changed)
		return L45_SPOILT;
	if (verdict == L45_PASS)
		return L45_FORWARD;
	return verdict == L45_NEXT || verdict == L45_LEAVE ? L45_ASK : L45_FAIL;
}

#endif
