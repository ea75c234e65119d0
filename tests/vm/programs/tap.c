// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

static int read_groups(struct tap *tap, struct nl_row groups)
{
	struct nl_attribute group, name, number;

	while (nl_next(&groups, &group))
		if (nl_find(nl_inside(&group), CTRL_ATTR_MCAST_GRP_NAME, &name) &&
		    nl_find(nl_inside(&group), CTRL_ATTR_MCAST_GRP_ID, &number) &&
		    !strcmp((const char *)name.data, L45_GENL_EVENTS))
			tap->group = nl_number(&number);
	return 0;
}

static int read_family(void *context, uint8_t command, struct nl_row row)
{
	struct tap *tap = context;
	struct nl_attribute attribute;

	(void)command;
	if (nl_find(row, CTRL_ATTR_FAMILY_ID, &attribute))
		tap->family = nl_number(&attribute);
	if (nl_find(row, CTRL_ATTR_MCAST_GROUPS, &attribute))
		return read_groups(tap, nl_inside(&attribute));
	return 0;
}

int tap_open(struct tap *tap)
{
	struct nl_request request;
	int error;

	memset(tap, 0, sizeof(*tap));
	tap->fd = nl_open();
	if (tap->fd < 0)
		return tap->fd;
	nl_begin(&request, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);
	nl_put_string(&request, CTRL_ATTR_FAMILY_NAME, L45_GENL_NAME);
	error = nl_talk(tap->fd, &request, read_family, tap, tap->reason);
	if (error) {
		close(tap->fd);
		tap->fd = -1;
	}
	if (error == -ENOENT)
		snprintf(tap->reason, sizeof(tap->reason), "family %s is not there: insmod l45.ko",
			 L45_GENL_NAME);
	return error;
}

void tap_close(struct tap *tap)
{
	close(tap->fd);
	tap->fd = -1;
}

static void begin(struct tap *tap, struct nl_request *request, uint16_t flags, uint8_t command)
{
	nl_begin(request, tap->family, flags, command, L45_GENL_VERSION);
}

struct numbers {
	bool has_version, has_generation;
	uint32_t version;
	uint64_t generation;
};

static int read_numbers(void *context, uint8_t command, struct nl_row row)
{
	struct numbers *numbers = context;
	struct nl_attribute attribute;

	(void)command;
	numbers->has_version = nl_find(row, L45_A_INFO_VERSION, &attribute);
	if (numbers->has_version)
		numbers->version = nl_number(&attribute);
	numbers->has_generation = nl_find(row, L45_A_GENERATION, &attribute);
	if (numbers->has_generation)
		numbers->generation = nl_number(&attribute);
	return 0;
}

static int incomplete(struct tap *tap, const char *what)
{
	snprintf(tap->reason, sizeof(tap->reason), "the reply has no %s", what);
	return -EBADMSG;
}

int tap_info(struct tap *tap, uint32_t *version, uint64_t *generation)
{
	struct numbers numbers = { 0 };
	struct nl_request request;
	int error;

	begin(tap, &request, 0, L45_CMD_GET_INFO);
	error = nl_talk(tap->fd, &request, read_numbers, &numbers, tap->reason);
	if (error)
		return error;
	if (!numbers.has_version || !numbers.has_generation)
		return incomplete(tap, "version and generation");
	*version = numbers.version;
	*generation = numbers.generation;
	return 0;
}

static void put_prefix(struct nl_request *request, const struct tap_prefix *prefix,
		       uint16_t address, uint16_t length)
{
	if (!prefix->given)
		return;
	nl_put(request, address, &prefix->address, sizeof(prefix->address));
	nl_put_u8(request, length, prefix->length);
}

static void put_ports(struct nl_request *request, const struct tap_ports *ports, uint16_t first,
		      uint16_t last)
{
	if (!ports->given)
		return;
	nl_put_u16(request, first, ports->first);
	if (ports->last != ports->first)
		nl_put_u16(request, last, ports->last);
}

static void put_match(struct nl_request *request, const struct tap_match *match)
{
	size_t nest = nl_nest(request, L45_C_MATCH);

	if (match->protocol)
		nl_put_u8(request, L45_M_PROTOCOL, match->protocol);
	if (match->thread[0])
		nl_put_string(request, L45_M_THREAD, match->thread);
	if (match->process[0])
		nl_put_string(request, L45_M_PROCESS, match->process);
	if (match->executable[0])
		nl_put_string(request, L45_M_EXECUTABLE, match->executable);
	if (match->by_uid)
		nl_put_u32(request, L45_M_UID, match->uid);
	put_prefix(request, &match->local, L45_M_LOCAL, L45_M_LOCAL_PREFIX);
	put_prefix(request, &match->remote, L45_M_REMOTE, L45_M_REMOTE_PREFIX);
	put_ports(request, &match->local_ports, L45_M_LOCAL_PORT, L45_M_LOCAL_PORT_LAST);
	put_ports(request, &match->remote_ports, L45_M_REMOTE_PORT, L45_M_REMOTE_PORT_LAST);
	nl_nest_end(request, nest);
}

void tap_put(struct nl_request *request, const struct tap_customization *customization)
{
	size_t nest = nl_nest(request, L45_A_CUSTOMIZATION);

	nl_put(request, L45_C_ID, customization->id, sizeof(customization->id));
	nl_put_string(request, L45_C_CODE, customization->code);
	put_match(request, &customization->match);
	nl_put_u32(request, L45_C_PRIORITY, customization->priority);
	nl_put_u32(request, L45_C_FLAGS, customization->flags);
	nl_put(request, L45_C_PARAMETERS, customization->parameters,
	       customization->parameters_size);
	if (customization->match.protocol == IPPROTO_TCP) {
		nl_put_u16(request, L45_C_EPOCH, customization->epoch);
		nl_put(request, L45_C_TOKEN, customization->token, sizeof(customization->token));
	}
	nl_put(request, L45_C_KEY, customization->key, sizeof(customization->key));
	nl_nest_end(request, nest);
}

int tap_apply(struct tap *tap, const struct tap_customization *set, unsigned int count,
	      int drain_ms, uint64_t *generation)
{
	struct numbers numbers = { 0 };
	struct nl_request request;
	size_t nest;
	int error;

	begin(tap, &request, 0, L45_CMD_APPLY);
	if (drain_ms != TAP_DRAIN_DEFAULT)
		nl_put_u32(&request, L45_A_DRAIN_MS, drain_ms);
	nest = nl_nest(&request, L45_A_SET);
	for (unsigned int i = 0; i < count; i++)
		tap_put(&request, &set[i]);
	nl_nest_end(&request, nest);
	error = nl_talk(tap->fd, &request, read_numbers, &numbers, tap->reason);
	if (error)
		return error;
	if (!numbers.has_generation)
		return incomplete(tap, "generation");
	if (generation)
		*generation = numbers.generation;
	return 0;
}

int tap_dump(struct tap *tap, enum l45_command command, nl_each each, void *context)
{
	struct nl_request request;

	begin(tap, &request, NLM_F_DUMP, command);
	return nl_talk(tap->fd, &request, each, context, tap->reason);
}

static int read_answer(void *context, uint8_t command, struct nl_row row)
{
	struct tap_answer *answer = context;
	struct nl_attribute value, build_id;

	(void)command;
	if (!nl_find(row, L45_A_ANSWER, &value) || value.size != sizeof(answer->answer) ||
	    !nl_find(row, L45_A_BUILD_ID, &build_id) || build_id.size > sizeof(answer->build_id))
		return -EBADMSG;
	memcpy(answer->answer, value.data, value.size);
	memcpy(answer->build_id, build_id.data, build_id.size);
	answer->build_id_size = build_id.size;
	return 0;
}

int tap_challenge(struct tap *tap, const uint8_t id[TAP_ID_SIZE], const void *nonce,
		  size_t nonce_size, struct tap_answer *answer)
{
	struct nl_request request;

	begin(tap, &request, 0, L45_CMD_CHALLENGE);
	nl_put(&request, L45_A_ID, id, TAP_ID_SIZE);
	nl_put(&request, L45_A_NONCE, nonce, nonce_size);
	return nl_talk(tap->fd, &request, read_answer, answer, tap->reason);
}

int tap_subscribe(struct tap *tap)
{
	int group = tap->group;

	if (!setsockopt(tap->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)))
		return 0;
	snprintf(tap->reason, sizeof(tap->reason), "no membership of the group %s",
		 L45_GENL_EVENTS);
	return -errno;
}
