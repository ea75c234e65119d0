/* SPDX-License-Identifier: GPL-2.0 */
/* What proves that a module is loaded and which: build ids, and answers to challenges. */
#ifndef L45_KMOD_CHALLENGE_H
#define L45_KMOD_CHALLENGE_H

#include "l45.h"

/* The GNU build id of a kernel module; gives its size, 0 where there is none. */
u8 l45_build_id(const struct module *owner, u8 build_id[20]);

/* HMAC-SHA-256 with the customization's key over nonce, id and build id. -ENOKEY: it has none;
 * -EOPNOTSUPP: its module has no build id. */
int l45_challenge(const struct l45_customization *customization, const u8 *nonce, u32 nonce_size,
		  u8 answer[L45_ANSWER_SIZE]);

int l45_challenge_init(void);
void l45_challenge_exit(void);

#endif
