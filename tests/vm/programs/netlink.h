/* SPDX-License-Identifier: GPL-2.0 */
/* Messages of generic netlink: put together, sent, and taken apart. */
#ifndef TEST_NETLINK_H
#define TEST_NETLINK_H

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NL_REQUEST_MAX 16384
#define NL_REASON_SIZE 256

struct nl_request {
	union {
		struct nlmsghdr header;
		unsigned char bytes[NL_REQUEST_MAX];
	};
};

struct nl_attribute {
	uint16_t type; /* without flags */
	uint16_t size;
	const unsigned char *data;
};

/* What is left of a row of attributes. */
struct nl_row {
	const unsigned char *at;
	size_t left;
};

/* A reply to a command, or an event; not 0 ends the exchange with it. */
typedef int (*nl_each)(void *context, uint8_t command, struct nl_row row);

/* Return a socket of generic netlink with extended acknowledgements, or a negative errno. */
int nl_open(void);

void nl_begin(struct nl_request *request, uint16_t family, uint16_t flags, uint8_t command,
	      uint8_t version);
void nl_put(struct nl_request *request, uint16_t type, const void *data, size_t size);
void nl_put_u8(struct nl_request *request, uint16_t type, uint8_t value);
void nl_put_u16(struct nl_request *request, uint16_t type, uint16_t value);
void nl_put_u32(struct nl_request *request, uint16_t type, uint32_t value);
void nl_put_string(struct nl_request *request, uint16_t type, const char *text);
/* Open a nested attribute, and return what closes it. */
size_t nl_nest(struct nl_request *request, uint16_t type);
void nl_nest_end(struct nl_request *request, size_t nest);

/* Send a request, and read until it is acknowledged or its dump has ended. Return 0 or a negative
 * errno; `reason` has the text of the extended acknowledgement, or nothing. */
int nl_talk(int fd, struct nl_request *request, nl_each each, void *context,
	    char reason[NL_REASON_SIZE]);

/* Read one datagram of events. Return 0 or a negative errno. */
int nl_events(int fd, nl_each each, void *context);

/* Take the next attribute of a row; whether there was one. */
bool nl_next(struct nl_row *row, struct nl_attribute *attribute);
/* Whether a row has an attribute. */
bool nl_find(struct nl_row row, uint16_t type, struct nl_attribute *attribute);
/* An integer of 1, 2, 4 or 8 bytes, in the host's order. */
uint64_t nl_number(const struct nl_attribute *attribute);
struct nl_row nl_inside(const struct nl_attribute *attribute);

#endif
