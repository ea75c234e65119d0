/* SPDX-License-Identifier: GPL-2.0 */
/*
 * changes: what becomes of connections when a set is applied, what the tap tells of them, and what
 * peers can do to them. Needs the tap, with the modules l45_stream_tag, l45_stream_xor,
 * l45_rate_limit and l45_dns_app_tag. Both ends of a connection are this process, so both have the
 * same set; a child with another name is a peer that nobody customizes.
 */
#ifndef CHANGES_H
#define CHANGES_H

#include "sockets.h"
#include "tap.h"

extern const struct scenario change_streams[], change_matches[], change_hostile[], change_others[];

#define SEND	   L45_CUSTOMIZATION_SEND
#define RECEIVE	   L45_CUSTOMIZATION_RECEIVE
#define INACTIVE   L45_CUSTOMIZATION_INACTIVE
#define DEPRECATED L45_CUSTOMIZATION_DEPRECATED
#define BOTH	   (SEND | RECEIVE)

#define TAG "l45_stream_tag"
#define XOR "l45_stream_xor"

#define DRAIN_LONG 60000
/* Enough for who is idle to end his stream. What has not ended by then is reset; what has, but
 * could still begin again, keeps its customization until then. */
#define DRAIN_SHORT 6000

/* Customizations of this process, the first with number 1 and priority 10; the number is id, epoch
 * and in the token. */
struct tap_customization customization(const char *code, uint8_t number);

/* Make it the set, or fail. What was there before must be gone when a scenario begins. */
void apply(const struct tap_customization *set, unsigned int count, int drain_ms);
void apply_none(int drain_ms);
struct tap *the_tap(void);

/* What the tap tells of a flow; the numbers of ids, 0 for none. */
struct flow {
	bool found;
	uint8_t tx, rx;	     /* who frames the streams */
	uint8_t attached[4]; /* in the order of asking */
	unsigned int attached_count;
	uint64_t sent, received; /* times */
	uint32_t pid, tgid, uid;
	char thread[16], process[16];
	bool has_executable;
};

/* By the ports that the socket has. */
struct flow flow_of(int fd);
unsigned int flow_count(void);

/* ... and of a customization. */
struct told {
	bool found;
	uint32_t flags, flows;
	uint64_t sent, received, sent_bytes, received_bytes, errors;
};

struct told told_of(uint8_t number);
/* Wait until a customization that was taken away is gone. */
void wait_gone(uint8_t number);

/* Write on each end, and read it at the other. */
void exchange(struct pair *pair, size_t size);

#endif
