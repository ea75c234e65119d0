/* SPDX-License-Identifier: GPL-2.0 */
/* A message in user space: a stretch of a buffer that can grow at either end. */
#ifndef L45_USER_MESSAGE_H
#define L45_USER_MESSAGE_H

#include <l45/module.h>
#include "l45_user.h"

/* Room at each end. wire/manifest.py allows a module a growth of 1400 bytes. */
#define L45_ROOM 1536

struct l45_msg {
	const struct l45_user_context *context;
	__u8 *buffer;
	__u32 size;  /* of the buffer */
	__u32 start; /* of the message in it */
	__u32 length;
	__u32 limit; /* longest it may become */
	int changed;
};

extern const struct l45_module l45_module;

#endif
