// SPDX-License-Identifier: GPL-2.0
/* What the tap says, as text. */
#include <arpa/inet.h>
#include <l45/netlink.h>
#include <stdio.h>
#include <string.h>

#include "l45_print.h"

enum form {
	NONE,
	NUMBER,
	TEXT,
	HEX,
	ADDRESS,
	FLAGS,
	NEST
};

struct field {
	const char *name;
	enum form form;
	const struct field *inside; /* of NEST */
	unsigned int count;
};

#define INSIDE(fields) NEST, (fields), sizeof(fields) / sizeof(*(fields))

static const struct field counters[L45_N_COUNT] = {
	[L45_N_SENT] = { "sent", NUMBER },
	[L45_N_RECEIVED] = { "received", NUMBER },
	[L45_N_PASSED] = { "passed", NUMBER },
	[L45_N_DROPPED] = { "dropped", NUMBER },
	[L45_N_ERRORS] = { "errors", NUMBER },
	[L45_N_TOO_BIG] = { "too_big", NUMBER },
	[L45_N_SENT_BYTES] = { "sent_bytes", NUMBER },
	[L45_N_RECEIVED_BYTES] = { "received_bytes", NUMBER },
};

static const struct field match[L45_M_COUNT] = {
	[L45_M_PROTOCOL] = { "protocol", NUMBER },
	[L45_M_THREAD] = { "thread", TEXT },
	[L45_M_PROCESS] = { "process", TEXT },
	[L45_M_EXECUTABLE] = { "executable", TEXT },
	[L45_M_UID] = { "uid", NUMBER },
	[L45_M_LOCAL] = { "local", ADDRESS },
	[L45_M_LOCAL_PREFIX] = { "local_prefix", NUMBER },
	[L45_M_REMOTE] = { "remote", ADDRESS },
	[L45_M_REMOTE_PREFIX] = { "remote_prefix", NUMBER },
	[L45_M_LOCAL_PORT] = { "local_port", NUMBER },
	[L45_M_LOCAL_PORT_LAST] = { "local_port_last", NUMBER },
	[L45_M_REMOTE_PORT] = { "remote_port", NUMBER },
	[L45_M_REMOTE_PORT_LAST] = { "remote_port_last", NUMBER },
};

static const struct field customization[L45_C_COUNT] = {
	[L45_C_ID] = { "id", HEX },
	[L45_C_CODE] = { "code", TEXT },
	[L45_C_MATCH] = { "match", INSIDE(match) },
	[L45_C_PRIORITY] = { "priority", NUMBER },
	[L45_C_FLAGS] = { "flags", FLAGS },
	[L45_C_PARAMETERS] = { "parameters", HEX },
	[L45_C_EPOCH] = { "epoch", NUMBER },
	[L45_C_TOKEN] = { "token", HEX },
	[L45_C_MODULE] = { "module", TEXT },
	[L45_C_FLOWS] = { "flows", NUMBER },
	[L45_C_COUNTERS] = { "counters", INSIDE(counters) },
};

static const struct field attached[L45_F_COUNT] = {
	[L45_F_CUSTOMIZATION] = { "customization", INSIDE(customization) },
};

static const struct field flow[L45_F_COUNT] = {
	[L45_F_NUMBER] = { "number", NUMBER },
	[L45_F_PROTOCOL] = { "protocol", NUMBER },
	[L45_F_LOCAL] = { "local", ADDRESS },
	[L45_F_REMOTE] = { "remote", ADDRESS },
	[L45_F_LOCAL_PORT] = { "local_port", NUMBER },
	[L45_F_REMOTE_PORT] = { "remote_port", NUMBER },
	[L45_F_PID] = { "pid", NUMBER },
	[L45_F_TGID] = { "tgid", NUMBER },
	[L45_F_UID] = { "uid", NUMBER },
	[L45_F_THREAD] = { "thread", TEXT },
	[L45_F_PROCESS] = { "process", TEXT },
	[L45_F_EXECUTABLE] = { "executable", TEXT },
	[L45_F_OPENED] = { "opened", NUMBER },
	[L45_F_SENT] = { "sent", NUMBER },
	[L45_F_RECEIVED] = { "received", NUMBER },
	[L45_F_TX_STATE] = { "tx_state", NUMBER },
	[L45_F_RX_STATE] = { "rx_state", NUMBER },
	[L45_F_TX_CHANGES] = { "tx_changes", NUMBER },
	[L45_F_RX_CHANGES] = { "rx_changes", NUMBER },
	[L45_F_TX_ID] = { "tx_id", HEX },
	[L45_F_RX_ID] = { "rx_id", HEX },
	[L45_F_FAULT] = { "fault", NUMBER },
	[L45_F_ATTACHED] = { "attached", INSIDE(attached) },
};

static const struct field code[L45_CODE_COUNT] = {
	[L45_CODE_NAME] = { "name", TEXT },	   [L45_CODE_MODULE] = { "module", TEXT },
	[L45_CODE_KIND] = { "kind", NUMBER },	   [L45_CODE_SIGNATURE] = { "signature", NUMBER },
	[L45_CODE_BUILD_ID] = { "build_id", HEX }, [L45_CODE_USERS] = { "users", NUMBER },
};

static const struct field top[L45_A_COUNT] = {
	[L45_A_INFO_VERSION] = { "version", NUMBER },
	[L45_A_GENERATION] = { "generation", NUMBER },
	[L45_A_CODE] = { "code", INSIDE(code) },
	[L45_A_CUSTOMIZATION] = { "customization", INSIDE(customization) },
	[L45_A_FLOW] = { "flow", INSIDE(flow) },
};

static const char *const commands[L45_CMD_COUNT] = {
	[L45_CMD_FLOW_OPENED] = "flow_opened", [L45_CMD_FLOW_CLOSED] = "flow_closed",
	[L45_CMD_FLOW_BROKEN] = "flow_broken", [L45_CMD_APPLIED] = "applied",
	[L45_CMD_REMOVED] = "removed",
};

void l45_print_hex(const unsigned char *bytes, size_t size)
{
	while (size--)
		printf("%02x", *bytes++);
}

static void print_address(const struct nl_attribute *attribute)
{
	char text[INET6_ADDRSTRLEN] = "?";

	if (attribute->size == sizeof(struct in6_addr))
		inet_ntop(AF_INET6, attribute->data, text, sizeof(text));
	printf("%s", text);
}

static void print_flags(uint64_t flags)
{
	static const char *const names[] = { "send", "receive", "inactive", "deprecated",
					     "draining" };
	const char *comma = "";

	for (unsigned int bit = 0; bit < sizeof(names) / sizeof(*names); bit++) {
		if (!(flags & 1u << bit))
			continue;
		printf("%s%s", comma, names[bit]);
		comma = ",";
	}
}

/* A name from the network or from a process may hold anything but the end of a field. */
static void print_text(const struct nl_attribute *attribute)
{
	for (unsigned int i = 0; i < attribute->size && attribute->data[i]; i++)
		putchar(attribute->data[i] > ' ' && attribute->data[i] < 0x7f ? attribute->data[i]
									      : '?');
}

static void print_value(const struct field *field, const struct nl_attribute *attribute)
{
	switch (field->form) {
	case NUMBER:
		printf("%llu", (unsigned long long)nl_number(attribute));
		break;
	case FLAGS:
		print_flags(nl_number(attribute));
		break;
	case TEXT:
		print_text(attribute);
		break;
	case ADDRESS:
		print_address(attribute);
		break;
	default:
		l45_print_hex(attribute->data, attribute->size);
	}
}

/* What is nested two deep carries the outer name: match.process=curl. */
static void print_row(struct nl_row row, const struct field *fields, unsigned int count,
		      const char *prefix)
{
	struct nl_attribute attribute;
	const struct field *field;
	char inner[32];

	while (nl_next(&row, &attribute)) {
		field = attribute.type < count ? &fields[attribute.type] : NULL;
		if (!field || field->form == NONE)
			continue; /* padding, or what only a newer tap says */
		if (field->form == NEST) {
			snprintf(inner, sizeof(inner), "%s.", field->name);
			print_row(nl_inside(&attribute), field->inside, field->count,
				  fields == top ? "" : inner);
			continue;
		}
		printf(" %s%s=", prefix, field->name);
		print_value(field, &attribute);
	}
}

int l45_print(void *context, uint8_t command, struct nl_row row)
{
	const char *name = command < L45_CMD_COUNT ? commands[command] : NULL;

	printf("%s", name ? name : (const char *)context);
	print_row(row, top, L45_A_COUNT, "");
	putchar('\n');
	return 0;
}
