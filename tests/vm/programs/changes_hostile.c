// SPDX-License-Identifier: GPL-2.0
/*
 * A peer that is nobody's, and speaks the wire form by itself, well or badly (docs/wire-format.md).
 * What it breaks resets the connection; what is not of the format is the application's.
 */
#include <stdio.h>
#include <sys/prctl.h>

#include "changes.h"

#define MARK_SIZE 20

/* Bytes that a peer sends, in pieces of so many, and what the application gets. */
struct attack {
	const char *name;
	size_t size;
	const char *wire;
	size_t plain_size;
	const char *plain;
	int error; /* of recv after that; 0: the end */
};

#define B(text) sizeof(text) - 1, text
/* Of customization 1, and 2. */
#define MARK_OF(token, epoch) "\xf5L45\x01N\0\0\0\0\0\0\0" token "\0" epoch "STAG"
#define MARK		      MARK_OF("\x01", "\x01")
#define TAG_28               \
	"STAG"               \
	"\0\0\0\0\0\0\0\x07" \
	"curl\0\0\0\0\0\0\0\0\0\0\0\0"
#define NOTHING B("")

static const struct attack attacks[] = {
	{ "a mark and the end", B(MARK), NOTHING, 0 },
	{ "data", B(MARK "D\x1c\0\x21" TAG_28 "GET /"), B("GET /"), 0 },
	{ "data without a tag", B(MARK "D\0\0\5GET /"), B("GET /"), 0 },
	{ "passed, and an end", B(MARK "P\0\0\3abcE\0\0\0plain"), B("abcplain"), 0 },
	{ "a switch to the same", B(MARK "S\0\0\6\0\1STAGP\0\0\1x"), B("x"), 0 },
	{ "another token", B(MARK_OF("\x09", "\x01") "rest"), B(MARK_OF("\x09", "\x01") "rest"),
	  0 },
	{ "another epoch", B(MARK_OF("\x01", "\x09") "rest"), B(MARK_OF("\x01", "\x09") "rest"),
	  0 },
	{ "half a mark", B("\xf5L45\x01N\0\0"), B("\xf5L45\x01N\0\0"), 0 },
	{ "nearly a mark", B("\xf5L45\x01Nabc"), B("\xf5L45\x01Nabc"), 0 },
	{ "a mark that is late", B("x" MARK "rest"), B("x" MARK "rest"), 0 },
	{ "no type", B(MARK "X\0\0\1a"), NOTHING, ECONNRESET },
	{ "type 0", B(MARK "\0\0\0\0"), NOTHING, ECONNRESET },
	{ "an end with content", B(MARK "E\0\0\1a"), NOTHING, ECONNRESET },
	{ "an end with a head", B(MARK "E\1\0\0"), NOTHING, ECONNRESET },
	{ "nothing passed", B(MARK "P\0\0\0"), NOTHING, ECONNRESET },
	{ "passed with a head", B(MARK "P\2\0\3abc"), NOTHING, ECONNRESET },
	{ "a head longer than its frame", B(MARK "D\x1c\0\5STAG!"), NOTHING, ECONNRESET },
	{ "a head that is no tag", B(MARK "D\4\0\6ABCDxy"), NOTHING, ECONNRESET },
	{ "a tag cut short", B(MARK "D\4\0\6STAGxy"), NOTHING, ECONNRESET },
	{ "a switch to nothing", B(MARK "S\0\0\6\0\7STAG"), NOTHING, ECONNRESET },
	{ "a switch to another module", B(MARK "S\0\0\6\0\1ABCD"), NOTHING, ECONNRESET },
	{ "a short switch", B(MARK "S\0\0\5\0\1STA"), NOTHING, ECONNRESET },
	{ "the end in a header", B(MARK "D\0"), NOTHING, ECONNRESET },
	{ "the end in a head", B(MARK "D\x1c\0\x21STAG"), NOTHING, ECONNRESET },
	{ "the end in content", B(MARK "P\0\0\5abc"), B("abc"), ECONNRESET },
	{ "right, then wrong", B(MARK "P\0\0\3abcD\0\0\2deZZZZ"), B("abcde"), ECONNRESET },
};

struct attacker {
	const struct attack *attack;
	size_t piece;
	uint16_t port;
};

static void attack(void *argument)
{
	struct attacker *attacker = argument;
	const char *at = attacker->attack->wire, *end = at + attacker->attack->size;
	union address address;
	socklen_t size = loopback(&address, false, attacker->port);
	int fd;
	char byte;

	prctl(PR_SET_NAME, "somebody");
	fd = client_socket(SOCK_STREAM);
	EXPECT(connect(fd, &address.any, size), 0);
	for (; at < end; at += attacker->piece) {
		size_t left = end - at, now = left < attacker->piece ? left : attacker->piece;

		if (send(fd, at, now, MSG_NOSIGNAL) < 0)
			break; /* it was reset before it had said all */
		if (attacker->piece < 20)
			sleep_ms(1);
	}
	shutdown(fd, SHUT_WR);
	while (recv(fd, &byte, 1, 0) > 0)
		;
}

static void defend(const struct attack *attack_, int fd)
{
	char got[200];
	size_t size = 0;
	ssize_t now;

	while ((now = recv(fd, got + size, sizeof(got) - size, size % 2 ? MSG_WAITALL : 0)) > 0)
		size += now;
	CHECK(now == (attack_->error ? -1 : 0) && (now == 0 || errno == attack_->error),
	      "%s: expected %s at the end, got %zd %s", attack_->name,
	      attack_->error ? strerrorname_np(attack_->error) : "the end", now,
	      now ? strerrorname_np(errno) : "");
	CHECK(size == attack_->plain_size && !memcmp(got, attack_->plain, size),
	      "%s: expected %zu bytes, got %zu: %.*s", attack_->name, attack_->plain_size, size,
	      (int)size, got);
}

static void attacks_of(size_t piece)
{
	struct tap_customization tag = customization(TAG, 1);
	int server = listener();

	apply(&tag, 1, DRAIN_LONG);
	for (size_t i = 0; i < sizeof(attacks) / sizeof(*attacks); i++) {
		struct attacker attacker = { &attacks[i], piece, port_of(server) };
		pid_t child;
		int fd;

		step("%s, in pieces of %zu", attacks[i].name, piece);
		child = spawn(attack, &attacker);
		fd = accept(server, NULL, NULL);
		defend(&attacks[i], fd);
		EXPECT(close(fd), 0);
		join_child(child);
	}
	EXPECT(close(server), 0);
	EXPECT(flow_count(), 0);
	apply_none(0);
}

static void at_once(void)
{
	attacks_of(1000);
}

static void by_bytes(void)
{
	attacks_of(1);
}

static void by_sevens(void)
{
	attacks_of(7);
}

const struct scenario change_hostile[] = {
	{ "change_hostile", at_once, ONCE },
	{ "change_hostile_by_bytes", by_bytes, ONCE },
	{ "change_hostile_by_sevens", by_sevens, ONCE },
	{ 0 },
};
