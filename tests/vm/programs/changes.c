// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>

#include "changes.h"

#define PATIENCE_MS 20000

/* clang-format off */
const struct scenario *const themes[] = {
	change_streams, change_matches, change_hostile, change_others, NULL,
};
/* clang-format on */

struct tap_customization customization(const char *code, uint8_t number)
{
	static const uint8_t tag[] = { 7, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0 };
	struct tap_customization it = { .priority = 9 + number, .flags = BOTH, .epoch = number };

	it.id[0] = it.token[7] = it.key[0] = number;
	strcpy(it.code, code);
	strcpy(it.match.process, "changes");
	it.match.protocol = strcmp(code, "l45_dns_app_tag") ? IPPROTO_TCP : IPPROTO_UDP;
	it.parameters_size = !strcmp(code, TAG) ? sizeof(tag) : 4;
	memcpy(it.parameters, tag, it.parameters_size);
	if (!strcmp(code, "l45_dns_app_tag"))
		it.parameters_size = 0;
	return it;
}

struct tap *the_tap(void)
{
	static struct tap tap;

	if (tap.family)
		return &tap;
	CHECK(!tap_open(&tap), "%s", tap.reason);
	/* A scenario that failed may have left something. */
	EXPECT(tap_apply(&tap, NULL, 0, 0, NULL), 0);
	for (uint8_t number = 1; number < 5; number++)
		wait_gone(number);
	return &tap;
}

void apply(const struct tap_customization *set, unsigned int count, int drain_ms)
{
	int error = tap_apply(the_tap(), set, count, drain_ms, NULL);

	CHECK(!error, "a set was refused: %s %s", strerrorname_np(-error), the_tap()->reason);
}

void apply_none(int drain_ms)
{
	apply(NULL, 0, drain_ms);
}

static uint64_t number_in(struct nl_row row, uint16_t type)
{
	struct nl_attribute attribute;

	return nl_find(row, type, &attribute) ? nl_number(&attribute) : 0;
}

static uint8_t id_in(struct nl_row row, uint16_t type)
{
	struct nl_attribute id;

	return nl_find(row, type, &id) ? id.data[0] : 0;
}

static void text_in(struct nl_row row, uint16_t type, char to[16])
{
	struct nl_attribute text;

	to[0] = '\0';
	if (nl_find(row, type, &text))
		snprintf(to, 16, "%.*s", text.size, (const char *)text.data);
}

struct search {
	uint16_t local, remote;
	unsigned int count;
	struct flow flow;
};

static void read_attached(struct nl_row flow, struct flow *to)
{
	struct nl_attribute attached, one;
	struct nl_row row;

	if (!nl_find(flow, L45_F_ATTACHED, &attached))
		return;
	row = nl_inside(&attached);
	while (nl_next(&row, &one) && to->attached_count < 4)
		to->attached[to->attached_count++] = id_in(nl_inside(&one), L45_C_ID);
}

static int read_flow(void *context, uint8_t command, struct nl_row row)
{
	struct search *search = context;
	struct nl_attribute attribute;
	struct flow *to = &search->flow;

	(void)command;
	if (!nl_find(row, L45_A_FLOW, &attribute))
		return -EBADMSG;
	row = nl_inside(&attribute);
	search->count++;
	if (number_in(row, L45_F_LOCAL_PORT) != search->local ||
	    number_in(row, L45_F_REMOTE_PORT) != search->remote)
		return 0;
	to->found = true;
	to->tx = id_in(row, L45_F_TX_ID);
	to->rx = id_in(row, L45_F_RX_ID);
	to->sent = number_in(row, L45_F_SENT);
	to->received = number_in(row, L45_F_RECEIVED);
	to->pid = number_in(row, L45_F_PID);
	to->tgid = number_in(row, L45_F_TGID);
	to->uid = number_in(row, L45_F_UID);
	text_in(row, L45_F_THREAD, to->thread);
	text_in(row, L45_F_PROCESS, to->process);
	to->has_executable = nl_find(row, L45_F_EXECUTABLE, &attribute);
	read_attached(row, to);
	return 0;
}

static struct search find_flows(uint16_t local, uint16_t remote)
{
	struct search search = { .local = local, .remote = remote };
	int error = tap_dump(the_tap(), L45_CMD_GET_FLOWS, read_flow, &search);

	CHECK(!error, "flows: %s %s", strerrorname_np(-error), the_tap()->reason);
	return search;
}

struct flow flow_of(int fd)
{
	union address peer = { 0 };
	socklen_t size = sizeof(peer);

	getpeername(fd, &peer.any, &size); /* none: port 0 */
	return find_flows(port_of(fd), ntohs(peer.v4.sin_port)).flow;
}

unsigned int flow_count(void)
{
	return find_flows(0, 0).count;
}

struct telling {
	uint8_t number;
	struct told told;
};

static int read_told(void *context, uint8_t command, struct nl_row row)
{
	struct telling *telling = context;
	struct told *told = &telling->told;
	struct nl_attribute attribute;

	(void)command;
	if (!nl_find(row, L45_A_CUSTOMIZATION, &attribute))
		return -EBADMSG;
	row = nl_inside(&attribute);
	if (id_in(row, L45_C_ID) != telling->number)
		return 0;
	told->found = true;
	told->flags = number_in(row, L45_C_FLAGS);
	told->flows = number_in(row, L45_C_FLOWS);
	if (!nl_find(row, L45_C_COUNTERS, &attribute))
		return -EBADMSG;
	row = nl_inside(&attribute);
	told->sent = number_in(row, L45_N_SENT);
	told->received = number_in(row, L45_N_RECEIVED);
	told->sent_bytes = number_in(row, L45_N_SENT_BYTES);
	told->received_bytes = number_in(row, L45_N_RECEIVED_BYTES);
	told->errors = number_in(row, L45_N_ERRORS);
	return 0;
}

struct told told_of(uint8_t number)
{
	struct telling telling = { .number = number };
	int error = tap_dump(the_tap(), L45_CMD_GET_CUSTOMIZATIONS, read_told, &telling);

	CHECK(!error, "customizations: %s %s", strerrorname_np(-error), the_tap()->reason);
	return telling.told;
}

void wait_gone(uint8_t number)
{
	step("customization %d goes", number);
	for (int ms = 0; told_of(number).found; ms += 20) {
		CHECK(ms < PATIENCE_MS, "customization %d is still there, flags %#x, flows %u",
		      number, told_of(number).flags, told_of(number).flows);
		sleep_ms(20);
	}
}

void exchange(struct pair *pair, size_t size)
{
	write_bytes(&pair->a, size);
	read_bytes(&pair->b, size);
	write_bytes(&pair->b, size);
	read_bytes(&pair->a, size);
}
