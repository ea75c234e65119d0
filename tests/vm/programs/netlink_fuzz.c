// SPDX-License-Identifier: GPL-2.0
/*
 * netlink_fuzz: requests to the tap that were right, and were changed at random; dumps that nobody
 * reads to the end; as root, as nobody, and as root of a namespace of its own.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "netlink_bad.h"
#include "pattern.h"

#define THREADS	  4
#define READ_SIZE 65536

static const char help[] = "netlink_fuzz SECONDS SEED\n"
			   "netlink_fuzz --list-bad\n";

struct fuzzer {
	uint64_t random;
	time_t end;
	unsigned long sent, taken, refused;
};

static uint32_t rnd(struct fuzzer *fuzzer, uint32_t below)
{
	fuzzer->random = pattern_mix(fuzzer->random);
	return below ? (fuzzer->random >> 16) % below : 0;
}

static bool chance(struct fuzzer *fuzzer, uint32_t of)
{
	return !rnd(fuzzer, of);
}

static void random_customization(struct fuzzer *fuzzer, struct tap_customization *to)
{
	static const char *const codes[] = { BAD_STREAM_CODE, BAD_DATAGRAM_CODE, "l45_stream_xor",
					     "l45_rate_limit", "l45_nothing" };

	memset(to, 0, sizeof(*to));
	to->id[0] = rnd(fuzzer, 6);
	strcpy(to->code, codes[rnd(fuzzer, 5)]);
	to->match.protocol = strcmp(to->code, BAD_DATAGRAM_CODE) ? IPPROTO_TCP : IPPROTO_UDP;
	strcpy(to->match.process, "nobody-is-this");
	if (chance(fuzzer, 4))
		strcpy(to->match.executable, "/nowhere/nothing");
	to->match.local.given = chance(fuzzer, 4);
	to->match.local.length = rnd(fuzzer, 129);
	to->match.remote_ports = (struct tap_ports){ chance(fuzzer, 3), 7, 7 + rnd(fuzzer, 9) };
	to->flags = rnd(fuzzer, 16);
	to->priority = rnd(fuzzer, 65536);
	to->parameters_size = rnd(fuzzer, TAP_PARAMETERS_MAX + 1);
	to->epoch = rnd(fuzzer, 8);
}

static void right_request(struct fuzzer *fuzzer, const struct tap *tap, struct nl_request *request)
{
	static const uint8_t nonce[L45_NONCE_MAX], id[TAP_ID_SIZE];
	static const uint8_t dumps[] = { L45_CMD_GET_CODE, L45_CMD_GET_CUSTOMIZATIONS,
					 L45_CMD_GET_FLOWS };
	struct tap_customization customization;
	size_t nest;

	if (chance(fuzzer, 4)) {
		nl_begin(request, tap->family, NLM_F_DUMP, dumps[rnd(fuzzer, 3)], 1);
	} else if (chance(fuzzer, 4)) {
		nl_begin(request, tap->family, NLM_F_ACK, L45_CMD_CHALLENGE, 1);
		nl_put(request, L45_A_ID, id, sizeof(id));
		nl_put(request, L45_A_NONCE, nonce, L45_NONCE_MIN + rnd(fuzzer, 40));
	} else {
		nl_begin(request, tap->family, NLM_F_ACK, L45_CMD_APPLY, 1);
		nl_put_u32(request, L45_A_DRAIN_MS, rnd(fuzzer, 3));
		nest = nl_nest(request, L45_A_SET);
		for (uint32_t i = rnd(fuzzer, 4); i; i--) {
			random_customization(fuzzer, &customization);
			tap_put(request, &customization);
		}
		nl_nest_end(request, nest);
	}
}

/* A two-byte field, where lengths and types are. */
static void change_field(struct fuzzer *fuzzer, struct nl_request *request, uint32_t size)
{
	static const uint16_t values[] = { 0, 1, 3, 4, 5, 8, 0x7fff, 0x8000, 0xffff, 0x4001 };
	uint16_t value = values[rnd(fuzzer, 10)], old;
	uint32_t at = rnd(fuzzer, size / 2) * 2;

	memcpy(&old, request->bytes + at, 2);
	if (chance(fuzzer, 2))
		value = old + rnd(fuzzer, 9) - 4;
	memcpy(request->bytes + at, &value, 2);
}

/* Move, double or take out a piece, whatever it is. */
static uint32_t change_shape(struct fuzzer *fuzzer, struct nl_request *request, uint32_t size)
{
	uint32_t from = NLMSG_HDRLEN + rnd(fuzzer, size - NLMSG_HDRLEN), to, count;

	from &= ~3u;
	count = rnd(fuzzer, size - from) + 1;
	to = (NLMSG_HDRLEN + rnd(fuzzer, size)) & ~3u;
	if (to + count > NL_REQUEST_MAX)
		return size;
	memmove(request->bytes + to, request->bytes + from, count);
	return to + count > size ? to + count : size;
}

/* Return how many bytes to send. */
static uint32_t spoil(struct fuzzer *fuzzer, struct nl_request *request)
{
	uint32_t size = request->header.nlmsg_len, times = rnd(fuzzer, 4);

	while (times--) {
		if (chance(fuzzer, 3))
			change_field(fuzzer, request, size);
		else if (chance(fuzzer, 3))
			size = change_shape(fuzzer, request, size);
		else if (chance(fuzzer, 3))
			size = NLMSG_HDRLEN + rnd(fuzzer, size - NLMSG_HDRLEN + 1);
		else
			request->bytes[rnd(fuzzer, size)] ^= 1 << rnd(fuzzer, 8);
	}
	/* Nearly always for the tap, and not for who manages families. */
	if (!chance(fuzzer, 50))
		request->header.nlmsg_len = size;
	return size;
}

/* Read what there is; a part of it only, now and then. */
static void read_some(struct fuzzer *fuzzer, int fd)
{
	char bytes[READ_SIZE];
	struct nlmsghdr *message = (struct nlmsghdr *)bytes;
	ssize_t got;

	while (!chance(fuzzer, 6) && (got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		int error = 1;

		if (got >= NLMSG_HDRLEN + 4 && message->nlmsg_type == NLMSG_ERROR)
			memcpy(&error, NLMSG_DATA(message), sizeof(error));
		fuzzer->taken += error >= 0;
		fuzzer->refused += error < 0;
	}
}

static void fuzz_socket(struct fuzzer *fuzzer)
{
	struct tap tap;

	if (tap_open(&tap))
		return;
	if (chance(fuzzer, 4))
		tap_subscribe(&tap);
	for (uint32_t i = 1 + rnd(fuzzer, 60); i; i--) {
		struct nl_request request;
		uint32_t size;

		memset(&request, 0, sizeof(request));
		right_request(fuzzer, &tap, &request);
		size = spoil(fuzzer, &request);
		/* The family of another: not what is tried here. */
		if (request.header.nlmsg_type != tap.family)
			continue;
		fuzzer->sent += send(tap.fd, request.bytes, size, MSG_DONTWAIT) > 0;
		read_some(fuzzer, tap.fd);
	}
	tap_close(&tap); /* in the middle of a dump, perhaps */
}

static void *fuzz(void *argument)
{
	struct fuzzer *fuzzer = argument;

	while (time(NULL) < fuzzer->end)
		fuzz_socket(fuzzer);
	return NULL;
}

static int run(const char *who, unsigned long seconds, uint64_t seed)
{
	struct fuzzer fuzzers[THREADS] = { 0 }, sum = { 0 };
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		fuzzers[i].random = pattern_mix(seed + i);
		fuzzers[i].end = time(NULL) + seconds;
		pthread_create(&threads[i], NULL, fuzz, &fuzzers[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum.sent += fuzzers[i].sent;
		sum.taken += fuzzers[i].taken;
		sum.refused += fuzzers[i].refused;
	}
	printf("fuzz as=%s requests=%lu taken=%lu refused=%lu\n", who, sum.sent, sum.taken,
	       sum.refused);
	return sum.sent ? 0 : 1;
}

/* Nothing but L45_CMD_GET_INFO is for who has no right. */
static int check_nobody(void)
{
	static const uint8_t commands[] = { L45_CMD_GET_CODE, L45_CMD_GET_CUSTOMIZATIONS,
					    L45_CMD_GET_FLOWS };
	uint64_t generation;
	uint32_t version;
	struct tap tap;
	int failed = 0, error = tap_open(&tap);

	if (error || tap_info(&tap, &version, &generation)) {
		printf("FAIL nobody gets no L45_CMD_GET_INFO: %s\n", tap.reason);
		return 1;
	}
	for (int i = 0; i < 3; i++)
		failed += tap_dump(&tap, commands[i], NULL, NULL) != -EPERM;
	failed += tap_apply(&tap, NULL, 0, 0, &generation) != -EPERM;
	failed += tap_subscribe(&tap) == 0;
	if (failed)
		printf("FAIL nobody may do what needs CAP_NET_ADMIN\n");
	tap_close(&tap);
	return failed;
}

/* A child that is not what this process is. */
static pid_t be(const char *who, unsigned long seconds, uint64_t seed)
{
	pid_t child = fork();
	bool apart = !strcmp(who, "root of a namespace");

	if (child)
		return child;
	if (strcmp(who, "root") && !apart && (setgid(65534) || setuid(65534)))
		exit(2);
	if (apart && unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
		printf("skip as=%s: unshare: %s\n", who, strerrorname_np(errno));
		exit(0);
	}
	if (!strcmp(who, "nobody") && check_nobody())
		exit(1);
	child = run(who, seconds, seed);
	fflush(stdout);
	_exit(child);
}

static int fuzz_all(unsigned long seconds, uint64_t seed)
{
	pid_t children[] = { be("root", seconds, seed), be("nobody", seconds, seed + 100),
			     be("root of a namespace", seconds, seed + 200) };
	struct tap tap;
	int failed = 0;

	for (int i = 0; i < 3; i++) {
		int status;

		waitpid(children[i], &status, 0);
		failed += status != 0;
	}
	if (tap_open(&tap) || tap_apply(&tap, NULL, 0, 0, NULL)) {
		printf("FAIL the tap does not answer: %s\n", tap.reason);
		return 1;
	}
	tap_close(&tap);
	return failed != 0;
}

int main(int count, char **words)
{
	struct tap tap;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (count == 2 && !strcmp(words[1], "--list-bad")) {
		if (!tap_open(&tap))
			return list_bad(&tap) != 0;
		fprintf(stderr, "netlink_fuzz: %s\n", tap.reason);
		return 1;
	}
	if (count == 3)
		return fuzz_all(strtoul(words[1], NULL, 0), strtoull(words[2], NULL, 0));
	fputs(help, stderr);
	return 2;
}
