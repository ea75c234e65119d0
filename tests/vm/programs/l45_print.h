/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TEST_L45_PRINT_H
#define TEST_L45_PRINT_H

#include "netlink.h"

/* Print the attributes of a message of the tap's as one line of key=value; an nl_each. */
int l45_print(void *context, uint8_t command, struct nl_row row);
void l45_print_hex(const unsigned char *bytes, size_t size);

#endif
