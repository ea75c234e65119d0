// SPDX-License-Identifier: GPL-2.0
/* l45-set: the kernel tap by hand, for checks in shell. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "l45_parse.h"
#include "l45_print.h"
#include "tap.h"

static const char help[] =
	"l45-set: drives the kernel tap of the network namespace that it is started in\n"
	"\n"
	"  l45-set apply [drain=MS] CUSTOMIZATION [-- CUSTOMIZATION]...   the whole set\n"
	"  l45-set none [drain=MS]                                        an empty set\n"
	"  l45-set info | list | flows | code\n"
	"  l45-set challenge id=HEX nonce=HEX\n"
	"  l45-set events SECONDS\n"
	"\n"
	"CUSTOMIZATION is code=NAME protocol=tcp|udp and any of\n"
	"  id=HEX (16 bytes; the default is 1, 2, ... in the order of the set)\n"
	"  flags=send,receive,inactive,deprecated (send,receive if left out)\n"
	"  priority=N parameters=HEX epoch=N token=HEX (8 bytes) key=HEX (32 bytes)\n"
	"  thread=NAME process=NAME executable=PATH uid=N local=ADDRESS[/BITS]\n"
	"  remote=ADDRESS[/BITS] local_port=N[-N] remote_port=N[-N]\n"
	"\n"
	"Prints a line of key=value for each thing. Exit status: 0, 1 where the tap refused (the\n"
	"reason is on standard error), 2 where the command line is wrong.\n";

static int refused(const struct tap *tap, int error)
{
	fprintf(stderr, "error=%s reason=%s\n", strerrorname_np(-error), tap->reason);
	return 1;
}

static int apply(struct tap *tap, int count, char **words)
{
	struct tap_customization set[L45_SET_SIZE_MAX + 1]; /* one more, for the tap to refuse */
	unsigned int size = 0;
	int drain_ms = TAP_DRAIN_DEFAULT, error;
	uint64_t generation;

	if (count && !strncmp(*words, "drain=", 6)) {
		drain_ms = parse_number("drain", *words + 6, INT32_MAX);
		count--;
		words++;
	}
	while (count) {
		int taken = parse_customization(count, words, size + 1, &set[size]);

		if (++size > L45_SET_SIZE_MAX)
			usage_error("a set has at most %d customizations", L45_SET_SIZE_MAX);
		count -= taken;
		words += taken;
	}
	error = tap_apply(tap, set, size, drain_ms, &generation);
	if (error)
		return refused(tap, error);
	printf("applied generation=%llu\n", (unsigned long long)generation);
	return 0;
}

static int info(struct tap *tap)
{
	uint64_t generation;
	uint32_t version;
	int error = tap_info(tap, &version, &generation);

	if (error)
		return refused(tap, error);
	printf("info version=%u generation=%llu\n", version, (unsigned long long)generation);
	return 0;
}

static int dump(struct tap *tap, enum l45_command command, char *what)
{
	int error = tap_dump(tap, command, l45_print, what);

	return error ? refused(tap, error) : 0;
}

static int challenge(struct tap *tap, int count, char **words)
{
	uint8_t id[TAP_ID_SIZE] = { 0 }, nonce[L45_NONCE_MAX + 1];
	struct tap_answer answer;
	size_t size = 0;
	int error;

	for (; count; count--, words++) {
		if (!strncmp(*words, "id=", 3))
			parse_exactly("id", *words + 3, id, sizeof(id));
		else if (!strncmp(*words, "nonce=", 6))
			size = parse_hex("nonce", *words + 6, nonce, sizeof(nonce));
		else
			usage_error("%s: id=HEX or nonce=HEX", *words);
	}
	error = tap_challenge(tap, id, nonce, size, &answer);
	if (error)
		return refused(tap, error);
	printf("challenge build_id=");
	l45_print_hex(answer.build_id, answer.build_id_size);
	printf(" answer=");
	l45_print_hex(answer.answer, sizeof(answer.answer));
	putchar('\n');
	return 0;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int events(struct tap *tap, unsigned int seconds)
{
	struct pollfd ready = { tap->fd, POLLIN, 0 };
	long end = milliseconds() + seconds * 1000L, left;
	int error = tap_subscribe(tap);

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (!error && (left = end - milliseconds()) > 0) {
		if (poll(&ready, 1, left) != 1)
			continue;
		error = nl_events(tap->fd, l45_print, "event");
		if (error == -ENOBUFS) { /* the kernel says that it has dropped some */
			puts("lost");
			error = 0;
		}
	}
	return error ? refused(tap, error) : 0;
}

static int run(struct tap *tap, int count, char **words)
{
	char *what = *words++;

	count--;
	if (!strcmp(what, "apply") ||
	    (!strcmp(what, "none") && (!count || (count == 1 && !strncmp(*words, "drain=", 6)))))
		return apply(tap, count, words);
	if (!strcmp(what, "challenge"))
		return challenge(tap, count, words);
	if (!strcmp(what, "events") && count == 1)
		return events(tap, parse_number("events", *words, 100000));
	if (!strcmp(what, "info"))
		return info(tap);
	if (!strcmp(what, "list"))
		return dump(tap, L45_CMD_GET_CUSTOMIZATIONS, "customization");
	if (!strcmp(what, "flows"))
		return dump(tap, L45_CMD_GET_FLOWS, "flow");
	if (!strcmp(what, "code"))
		return dump(tap, L45_CMD_GET_CODE, "code");
	usage_error("%s: no such command; l45-set --help", what);
}

int main(int count, char **words)
{
	struct tap tap;
	int error, code;

	if (count < 2 || !strcmp(words[1], "--help")) {
		fputs(help, count < 2 ? stderr : stdout);
		return count < 2 ? 2 : 0;
	}
	error = tap_open(&tap);
	if (error)
		return refused(&tap, error);
	code = run(&tap, count - 1, words + 1);
	tap_close(&tap);
	return code;
}
