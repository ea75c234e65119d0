/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The target `user`: a module as a shared library, for tests, fuzzing and middleboxes.
 *
 * build/user/NAME.so exports `l45_user_run`. It keeps nothing between calls and may be called by
 * several threads at once.
 */
#ifndef L45_USER_H
#define L45_USER_H

#include <linux/types.h>

#define L45_MESSAGE_MAX 65507 /* payload of the longest UDP datagram over IPv4 */

enum l45_direction {
	L45_SEND,
	L45_RECV,
};

/* What a customization knows besides the message. */
struct l45_user_context {
	const char *process;	/* owner of the socket; NULL or "" where it is not known */
	const __u8 *parameters; /* as wire.manifest.pack_parameters makes them */
	__u32 parameters_size;
	__u32 limit; /* longest message that fits the path; 0 for L45_MESSAGE_MAX */
};

/*
 * Run the module on the message of `in_size` bytes in `in`. `*out_size` is what `out` can hold and
 * becomes the size of the result there; `in` and `out` may be the same.
 *
 * Returns the verdict (enum l45_verdict): with L45_DONE the result is the module's, with L45_DROP
 * it is empty, otherwise it is the message unchanged. A module that changed a message and then
 * answers anything but L45_DONE loses it (L45_DROP). Or returns, with no result, -EINVAL for an
 * unknown direction, -EMSGSIZE for a message over the limit, -ENOBUFS where the result does not
 * fit `out`, -ENOMEM.
 */
int l45_user_run(const struct l45_user_context *context, enum l45_direction direction,
		 const __u8 *in, __u32 in_size, __u8 *out, __u32 *out_size);

#endif
