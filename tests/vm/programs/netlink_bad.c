// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netlink_bad.h"

enum level {
	TOP,
	CUSTOMIZATION,
	MATCH
};

/* A request that is right but for one attribute: another value, left out, or one more. */
struct bad {
	const char *name;
	enum level level;
	uint16_t type;
	const void *data;
	int size; /* OMIT */
	int error;
	const struct bad *also; /* another one that differs */
};

#define OMIT	      (-1)
#define TEXT(text)    (text), (int)sizeof(text) - 1
#define ZEROES(count) zeroes, (count)
#define U8(value)     (const uint8_t[]){ value }, 1
#define U16(value)    (const uint16_t[]){ value }, 2
#define U32(value)    (const uint32_t[]){ value }, 4

static const uint8_t zeroes[1024];

#define LONG_NAME "0123456789012345678901234567890123456789012345678901234567890123"

static const struct bad bads[] = {
	{ "no id", CUSTOMIZATION, L45_C_ID, NULL, OMIT, EINVAL },
	{ "id of 15 bytes", CUSTOMIZATION, L45_C_ID, ZEROES(15), ERANGE },
	{ "id of 17 bytes", CUSTOMIZATION, L45_C_ID, ZEROES(17), ERANGE },
	{ "no code", CUSTOMIZATION, L45_C_CODE, NULL, OMIT, EINVAL },
	{ "code of no bytes", CUSTOMIZATION, L45_C_CODE, ZEROES(0), ERANGE },
	{ "empty code", CUSTOMIZATION, L45_C_CODE, ZEROES(1), EINVAL },
	{ "code with NUL", CUSTOMIZATION, L45_C_CODE, TEXT("l45_stream_tag\0x"), EINVAL },
	{ "unknown code", CUSTOMIZATION, L45_C_CODE, TEXT("l45_nothing"), ENOENT },
	{ "code that is no module of l45", CUSTOMIZATION, L45_C_CODE, TEXT("overlay"), ENOENT },
	{ "code l45 itself", CUSTOMIZATION, L45_C_CODE, TEXT("l45"), ENOENT },
	{ "long code", CUSTOMIZATION, L45_C_CODE, TEXT(LONG_NAME), ERANGE },
	{ "code of datagrams for streams", CUSTOMIZATION, L45_C_CODE, TEXT(BAD_DATAGRAM_CODE),
	  EINVAL },
	{ "no match", CUSTOMIZATION, L45_C_MATCH, NULL, OMIT, EINVAL },
	{ "no priority", CUSTOMIZATION, L45_C_PRIORITY, NULL, OMIT, EINVAL },
	{ "priority 65536", CUSTOMIZATION, L45_C_PRIORITY, U32(65536), ERANGE },
	{ "priority of 2 bytes", CUSTOMIZATION, L45_C_PRIORITY, U16(1), EINVAL },
	{ "priority of 8 bytes", CUSTOMIZATION, L45_C_PRIORITY, ZEROES(8), EINVAL },
	{ "no flags", CUSTOMIZATION, L45_C_FLAGS, NULL, OMIT, EINVAL },
	{ "flag DRAINING", CUSTOMIZATION, L45_C_FLAGS, U32(L45_CUSTOMIZATION_DRAINING), EINVAL },
	{ "unknown flag", CUSTOMIZATION, L45_C_FLAGS, U32(0x80000000), EINVAL },
	{ "65 bytes of parameters", CUSTOMIZATION, L45_C_PARAMETERS, ZEROES(65), ERANGE },
	{ "1000 bytes of parameters", CUSTOMIZATION, L45_C_PARAMETERS, ZEROES(1000), ERANGE },
	{ "epoch of 4 bytes", CUSTOMIZATION, L45_C_EPOCH, ZEROES(4), EINVAL },
	{ "no token", CUSTOMIZATION, L45_C_TOKEN, NULL, OMIT, EINVAL },
	{ "token of 7 bytes", CUSTOMIZATION, L45_C_TOKEN, ZEROES(7), ERANGE },
	{ "key of 31 bytes", CUSTOMIZATION, L45_C_KEY, ZEROES(31), ERANGE },
	{ "key of 33 bytes", CUSTOMIZATION, L45_C_KEY, ZEROES(33), ERANGE },
	{ "module, which is told only", CUSTOMIZATION, L45_C_MODULE, TEXT("x"), EINVAL },
	{ "flows, which are told only", CUSTOMIZATION, L45_C_FLOWS, U32(1), EINVAL },
	{ "unknown attribute", CUSTOMIZATION, 200, U32(1), EINVAL },
	{ "attribute 0", CUSTOMIZATION, 0, U32(1), EINVAL },
	{ "no protocol", MATCH, L45_M_PROTOCOL, NULL, OMIT, EINVAL },
	{ "protocol ICMP", MATCH, L45_M_PROTOCOL, U8(IPPROTO_ICMP), EINVAL },
	{ "protocol UDP for streams", MATCH, L45_M_PROTOCOL, U8(IPPROTO_UDP), EINVAL },
	{ "protocol of 4 bytes", MATCH, L45_M_PROTOCOL, ZEROES(4), EINVAL },
	{ "thread of 16 characters", MATCH, L45_M_THREAD, TEXT("0123456789abcdef"), ERANGE },
	{ "empty thread", MATCH, L45_M_THREAD, ZEROES(1), EINVAL },
	{ "process with NUL", MATCH, L45_M_PROCESS, TEXT("a\0b"), EINVAL },
	{ "executable without its path", MATCH, L45_M_EXECUTABLE, TEXT("curl"), EINVAL },
	{ "empty executable", MATCH, L45_M_EXECUTABLE, ZEROES(0), ERANGE },
	{ "executable of 1000 bytes", MATCH, L45_M_EXECUTABLE, ZEROES(1000), ERANGE },
	{ "uid of 2 bytes", MATCH, L45_M_UID, U16(0), EINVAL },
	{ "address of 4 bytes", MATCH, L45_M_LOCAL, ZEROES(4), ERANGE },
	{ "prefix without its address", MATCH, L45_M_LOCAL_PREFIX, U8(8), EINVAL },
	{ "remote prefix without its address", MATCH, L45_M_REMOTE_PREFIX, U8(8), EINVAL },
	{ "prefix of 129", MATCH, L45_M_LOCAL_PREFIX, U8(129), ERANGE },
	{ "last port without the first", MATCH, L45_M_LOCAL_PORT_LAST, U16(80), EINVAL },
	{ "port of 4 bytes", MATCH, L45_M_REMOTE_PORT, U32(80), EINVAL },
	{ "unknown attribute of a match", MATCH, 99, U8(1), EINVAL },
	{ "no set", TOP, L45_A_SET, NULL, OMIT, EINVAL },
	{ "drain of 3600001 ms", TOP, L45_A_DRAIN_MS, U32(L45_DRAIN_MS_MAX + 1), ERANGE },
	{ "drain of 2 bytes", TOP, L45_A_DRAIN_MS, U16(1), EINVAL },
	{ "unknown attribute of a request", TOP, 77, U32(1), EINVAL },
	{ "a flow", TOP, L45_A_FLOW, U32(1), EINVAL },
};

/* What a right request has in each level. */
static const struct bad rights[] = {
	{ "", CUSTOMIZATION, L45_C_ID, TEXT("0123456789abcdef"), 0 },
	{ "", CUSTOMIZATION, L45_C_CODE, TEXT(BAD_STREAM_CODE), 0 },
	{ "", CUSTOMIZATION, L45_C_PRIORITY, U32(10), 0 },
	{ "", CUSTOMIZATION, L45_C_FLAGS, U32(3), 0 },
	{ "", CUSTOMIZATION, L45_C_PARAMETERS, ZEROES(12), 0 },
	{ "", CUSTOMIZATION, L45_C_EPOCH, U16(1), 0 },
	{ "", CUSTOMIZATION, L45_C_TOKEN, TEXT("01234567"), 0 },
	{ "", CUSTOMIZATION, L45_C_KEY, ZEROES(32), 0 },
	{ "", MATCH, L45_M_PROTOCOL, U8(IPPROTO_TCP), 0 },
	{ "", MATCH, L45_M_PROCESS, TEXT("nobody"), 0 },
};

#define COUNT(array) (int)(sizeof(array) / sizeof(*(array)))

/* Whether the request has this attribute as a right one has it. */
static bool is_right(const struct bad *bad, enum level level, uint16_t type)
{
	for (; bad; bad = bad->also)
		if (bad->level == level && bad->type == type)
			return false;
	return true;
}

static void put_level(struct nl_request *request, enum level level, const struct bad *bad)
{
	for (int i = 0; i < COUNT(rights); i++)
		if (rights[i].level == level && is_right(bad, level, rights[i].type))
			nl_put(request, rights[i].type, rights[i].data, rights[i].size);
	for (; bad; bad = bad->also)
		if (bad->level == level && bad->size != OMIT)
			nl_put(request, bad->type, bad->data, bad->size);
}

static void put_customization(struct nl_request *request, const struct bad *bad)
{
	size_t nest = nl_nest(request, L45_A_CUSTOMIZATION), match;

	put_level(request, CUSTOMIZATION, bad);
	if (is_right(bad, CUSTOMIZATION, L45_C_MATCH)) {
		match = nl_nest(request, L45_C_MATCH);
		put_level(request, MATCH, bad);
		nl_nest_end(request, match);
	}
	nl_nest_end(request, nest);
}

static void build(struct tap *tap, struct nl_request *request, const struct bad *bad)
{
	size_t nest;

	nl_begin(request, tap->family, 0, L45_CMD_APPLY, L45_GENL_VERSION);
	if (is_right(bad, TOP, L45_A_SET)) {
		nest = nl_nest(request, L45_A_SET);
		put_customization(request, bad);
		nl_nest_end(request, nest);
	}
	put_level(request, TOP, bad);
}

/* Send a request, and say whether it was refused as it should be. */
static bool refused(struct tap *tap, struct nl_request *request, const char *name, int error)
{
	int got = nl_talk(tap->fd, request, NULL, NULL, tap->reason);

	if (got == -error && (tap->reason[0] || error == EOPNOTSUPP))
		return true;
	printf("FAIL %s: expected %s and a reason, got %s \"%s\"\n", name, strerrorname_np(error),
	       got ? strerrorname_np(-got) : "0", tap->reason);
	return false;
}

/* Two customizations that cannot be in one set; the second differs from the first so. */
static bool clash(struct tap *tap, const char *name, const struct bad *differs, int error)
{
	struct nl_request request;
	size_t nest;

	nl_begin(&request, tap->family, 0, L45_CMD_APPLY, L45_GENL_VERSION);
	nest = nl_nest(&request, L45_A_SET);
	put_customization(&request, NULL);
	put_customization(&request, differs);
	nl_nest_end(&request, nest);
	return refused(tap, &request, name, error);
}

static bool too_many(struct tap *tap)
{
	struct tap_customization one = { .code = BAD_STREAM_CODE,
					 .match.protocol = IPPROTO_TCP,
					 .match.process = "nobody" };
	struct nl_request request;
	size_t nest;

	nl_begin(&request, tap->family, 0, L45_CMD_APPLY, L45_GENL_VERSION);
	nest = nl_nest(&request, L45_A_SET);
	for (; one.id[0] <= L45_SET_SIZE_MAX; one.id[0]++)
		tap_put(&request, &one);
	nl_nest_end(&request, nest);
	return refused(tap, &request, "17 customizations", ENOSPC);
}

static bool bad_shape(struct tap *tap, const char *name, int shape)
{
	struct nl_request request;
	struct nlattr *set;

	build(tap, &request, NULL);
	set = (struct nlattr *)(request.bytes + NLMSG_HDRLEN + GENL_HDRLEN);
	if (shape == 0)
		set->nla_type = L45_A_SET; /* no NLA_F_NESTED */
	else if (shape == 1)
		set->nla_len += 4; /* beyond the message */
	else if (shape == 2)
		set->nla_len = 3;
	else if (shape == 3)
		((struct nlattr *)(set + 1))->nla_len += 8;
	else
		nl_put(&request, L45_A_DRAIN_MS | NLA_F_NESTED, zeroes, 4);
	return refused(tap, &request, name, EINVAL);
}

static bool bad_command(struct tap *tap, const char *name, uint8_t command, uint16_t flags,
			int error)
{
	struct nl_request request;

	nl_begin(&request, tap->family, flags, command, L45_GENL_VERSION);
	return refused(tap, &request, name, error);
}

static bool bad_challenge(struct tap *tap, const char *name, int id, int nonce, int error)
{
	struct nl_request request;

	nl_begin(&request, tap->family, 0, L45_CMD_CHALLENGE, L45_GENL_VERSION);
	if (id)
		nl_put(&request, L45_A_ID, zeroes, id);
	if (nonce)
		nl_put(&request, L45_A_NONCE, zeroes, nonce);
	return refused(tap, &request, name, error);
}

static int try_others(struct tap *tap)
{
	static const struct bad another_token = { "", CUSTOMIZATION, L45_C_TOKEN, TEXT("another."),
						  0 };
	static const struct bad another_id = { "",	 CUSTOMIZATION,
					       L45_C_ID, TEXT("another id 16 b."),
					       0,	 &another_token };
	static const struct bad another_key = { "", CUSTOMIZATION, L45_C_KEY,
						TEXT("another key of just 32 bytes, ok"), 0 };
	int failed = 0;

	failed += !clash(tap, "the same id twice", NULL, EEXIST);
	failed += !clash(tap, "the same id with another key", &another_key, EEXIST);
	failed += !clash(tap, "the same epoch with another token", &another_id, EEXIST);
	failed += !too_many(tap);
	failed += !bad_shape(tap, "a set that is not marked as nested", 0);
	failed += !bad_shape(tap, "a set longer than the message", 1);
	failed += !bad_shape(tap, "a set shorter than its header", 2);
	failed += !bad_shape(tap, "a customization longer than its set", 3);
	failed += !bad_shape(tap, "a number marked as nested", 4);
	failed += !bad_command(tap, "command 0", 0, 0, EOPNOTSUPP);
	failed += !bad_command(tap, "command 200", 200, 0, EOPNOTSUPP);
	failed += !bad_command(tap, "an event as a command", L45_CMD_APPLIED, 0, EOPNOTSUPP);
	failed += !bad_command(tap, "no dump", L45_CMD_GET_FLOWS, 0, EOPNOTSUPP);
	failed += !bad_command(tap, "a dump", L45_CMD_APPLY, NLM_F_DUMP, EOPNOTSUPP);
	failed += !bad_challenge(tap, "a challenge of nothing", 0, 0, EINVAL);
	failed += !bad_challenge(tap, "a challenge without a nonce", TAP_ID_SIZE, 0, EINVAL);
	failed += !bad_challenge(tap, "a short nonce", TAP_ID_SIZE, L45_NONCE_MIN - 1, ERANGE);
	failed += !bad_challenge(tap, "a long nonce", TAP_ID_SIZE, L45_NONCE_MAX + 1, ERANGE);
	failed += !bad_challenge(tap, "an id of 20 bytes", 20, L45_NONCE_MIN, ERANGE);
	failed += !bad_challenge(tap, "an unknown id", TAP_ID_SIZE, L45_NONCE_MIN, ENOENT);
	return failed;
}

/* An id that is in force cannot be another customization. */
static const struct bad changes[] = {
	{ "another code", CUSTOMIZATION, L45_C_CODE, TEXT("l45_stream_xor"), 0 },
	{ "other parameters", CUSTOMIZATION, L45_C_PARAMETERS, ZEROES(13), 0 },
	{ "another epoch", CUSTOMIZATION, L45_C_EPOCH, U16(2), 0 },
	{ "another token", CUSTOMIZATION, L45_C_TOKEN, TEXT("7654321x"), 0 },
	{ "no key", CUSTOMIZATION, L45_C_KEY, NULL, OMIT, 0 },
	{ "another process", MATCH, L45_M_PROCESS, TEXT("somebody"), 0 },
	{ "a uid", MATCH, L45_M_UID, U32(0), 0 },
};

static int try_changes(struct tap *tap)
{
	struct nl_request request;
	int failed = 0;

	build(tap, &request, NULL);
	if (nl_talk(tap->fd, &request, NULL, NULL, tap->reason)) {
		printf("FAIL what is right was refused: %s\n", tap->reason);
		return 1;
	}
	for (int i = 0; i < COUNT(changes); i++) {
		build(tap, &request, &changes[i]);
		failed += !refused(tap, &request, changes[i].name, EINVAL);
	}
	if (tap_apply(tap, NULL, 0, 0, NULL)) {
		printf("FAIL an empty set was refused: %s\n", tap->reason);
		failed++;
	}
	return failed;
}

int list_bad(struct tap *tap)
{
	struct nl_request request;
	uint64_t before = 0, after = 0;
	uint32_t version;
	int failed = 0;

	failed += tap_info(tap, &version, &before) != 0;
	for (int i = 0; i < COUNT(bads); i++) {
		build(tap, &request, &bads[i]);
		failed += !refused(tap, &request, bads[i].name, bads[i].error);
	}
	failed += try_others(tap);
	failed += tap_info(tap, &version, &after) != 0;
	if (before != after) {
		printf("FAIL what was refused has changed the set %lu times\n", after - before);
		failed++;
	}
	failed += try_changes(tap);
	printf("bad requests=%d failed=%d\n", COUNT(bads), failed);
	return failed;
}
