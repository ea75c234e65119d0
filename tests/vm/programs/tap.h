/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel tap's family (kernel_tap/include/l45/netlink.h) for test programs. */
#ifndef TEST_TAP_H
#define TEST_TAP_H

#include <l45/netlink.h>
#include <netinet/in.h>

#include "netlink.h"

#define TAP_ID_SIZE	   16
#define TAP_TOKEN_SIZE	   8
#define TAP_PARAMETERS_MAX 64

struct tap {
	int fd;
	uint16_t family;
	uint32_t group;		     /* of events */
	char reason[NL_REASON_SIZE]; /* why the last call failed */
};

struct tap_ports {
	bool given;
	uint16_t first, last;
};

struct tap_prefix {
	bool given;
	struct in6_addr address;
	uint8_t length;
};

/* What is not given, or empty, is left out of the message. */
struct tap_match {
	uint8_t protocol;
	char thread[16], process[16], executable[L45_EXECUTABLE_MAX + 1];
	bool by_uid;
	uint32_t uid;
	struct tap_prefix local, remote;
	struct tap_ports local_ports, remote_ports;
};

struct tap_customization {
	uint8_t id[TAP_ID_SIZE];
	char code[L45_CODE_NAME_SIZE];
	struct tap_match match;
	uint32_t priority, flags;
	uint8_t parameters[TAP_PARAMETERS_MAX];
	size_t parameters_size;
	uint16_t epoch;
	uint8_t token[TAP_TOKEN_SIZE];
	uint8_t key[L45_KEY_SIZE];
};

struct tap_answer {
	uint8_t build_id[64];
	size_t build_id_size;
	uint8_t answer[L45_ANSWER_SIZE];
};

#define TAP_DRAIN_DEFAULT (-1)

/* All return 0 or a negative errno; -ENOENT from tap_open: there is no tap in this kernel. */
int tap_open(struct tap *tap);
void tap_close(struct tap *tap);
int tap_info(struct tap *tap, uint32_t *version, uint64_t *generation);
int tap_apply(struct tap *tap, const struct tap_customization *set, unsigned int count,
	      int drain_ms, uint64_t *generation);
/* One of the commands L45_CMD_GET_*, but for GET_INFO. */
int tap_dump(struct tap *tap, enum l45_command command, nl_each each, void *context);
int tap_challenge(struct tap *tap, const uint8_t id[TAP_ID_SIZE], const void *nonce,
		  size_t nonce_size, struct tap_answer *answer);
/* From now on events arrive at this socket, for nl_events(). */
int tap_subscribe(struct tap *tap);

/* Put a customization as L45_A_CUSTOMIZATION. */
void tap_put(struct nl_request *request, const struct tap_customization *customization);

#endif
