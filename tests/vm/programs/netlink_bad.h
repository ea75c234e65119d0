/* SPDX-License-Identifier: GPL-2.0 */
/* Requests to the tap that are wrong in one way each. */
#ifndef TEST_NETLINK_BAD_H
#define TEST_NETLINK_BAD_H

#include "tap.h"

#define BAD_STREAM_CODE	  "l45_stream_tag"
#define BAD_DATAGRAM_CODE "l45_dns_app_tag"

/* Send all of them; print a line for each that was not refused as it should be, and a summary.
 * Return how many there were. Both modules must be loaded, and the set be empty. */
int list_bad(struct tap *tap);

#endif
