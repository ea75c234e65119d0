// SPDX-License-Identifier: GPL-2.0
/*
 * rate_limit: each send of the application waits. It changes no byte, so the peer needs nothing.
 *
 * The module says how long, the tap waits when the module has returned: nothing is held meanwhile,
 * and a socket that must not block is not put to sleep.
 */
#include <l45/module.h>

#define DELAY_OFFSET 0

static enum l45_verdict send(struct l45_msg *msg)
{
	l45_delay_ms(msg, l45_param_u32(msg, DELAY_OFFSET));
	return L45_DONE;
}

L45_STREAM_MODULE(rate_limit, L45_STREAM_WATCH, 0, send, 0)
