// SPDX-License-Identifier: GPL-2.0
/* MSG_PEEK. */
#include "sockets.h"

static void repeated(void)
{
	struct pair pair;
	char byte;

	open_pair(&pair);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
	write_bytes(&pair.a, 3000);
	wait_readable(&pair.b, 3000);
	for (int i = 1; i <= 3000; i += 100) {
		recv_wanted(&pair.b, i, MSG_PEEK, i);
		EXPECT(readable(pair.b.fd), 3000);
	}
	step("more than there is");
	recv_wanted(&pair.b, 5000, MSG_PEEK, 3000);
	EXPECT(poll_now(pair.b.fd, POLLIN), POLLIN);
	recv_wanted(&pair.b, 5000, 0, 3000);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
	finish(&pair);
}

/* Peek and read by turns, as who parses a header does. */
static void by_turns(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 20000);
	wait_readable(&pair.b, 20000);
	for (int i = 0; i < 100; i++) {
		recv_wanted(&pair.b, 5, MSG_PEEK, 5);
		recv_wanted(&pair.b, 5 + i, MSG_PEEK, 5 + i);
		recv_wanted(&pair.b, 5, 0, 5);
		recv_wanted(&pair.b, i + 1, 0, i + 1);
	}
	read_bytes(&pair.b, pair.a.written - pair.b.read);
	finish(&pair);
}

static void *write_in_pieces(void *argument)
{
	for (int i = 0; i < 10; i++) {
		write_pieces(argument, 1000, 300);
		sleep_ms(1);
	}
	return NULL;
}

/* Blocks until all that is asked for is there, and leaves it there. */
static void wait_all(void)
{
	struct pair pair;
	pthread_t writer;

	open_pair(&pair);
	writer = start(write_in_pieces, &pair.a);
	recv_wanted(&pair.b, 10000, MSG_PEEK | MSG_WAITALL, 10000);
	join(writer);
	EXPECT(readable(pair.b.fd), 10000);
	recv_wanted(&pair.b, 10000, MSG_WAITALL, 10000);
	step("the end comes first");
	write_bytes(&pair.a, 10);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	recv_wanted(&pair.b, 100, MSG_PEEK | MSG_WAITALL, 10);
	recv_wanted(&pair.b, 100, 0, 10);
	recv_wanted(&pair.b, 100, MSG_PEEK, 0);
	recv_wanted(&pair.b, 100, MSG_PEEK | MSG_DONTWAIT, 0);
	finish(&pair);
}

/* A blocking peek waits for the first byte. */
static void blocking(void)
{
	struct pair pair;
	pthread_t writer;
	char buffer[20000];
	ssize_t got;

	open_pair(&pair);
	writer = start(write_in_pieces, &pair.a);
	while (pair.b.read < 10000) {
		got = recv(pair.b.fd, buffer, sizeof(buffer), MSG_PEEK);
		CHECK(got > 0, "peek: %zd %s", got, strerrorname_np(errno));
		check_bytes(&pair.b, buffer, 0, got);
		recv_wanted(&pair.b, got, 0, got);
	}
	join(writer);
	finish(&pair);
}

static void timed(void)
{
	struct pair pair;
	char byte;

	open_pair(&pair);
	set_timeout(pair.b.fd, SO_RCVTIMEO, 50);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_PEEK), EAGAIN);
	write_bytes(&pair.a, 10);
	recv_wanted(&pair.b, 20, MSG_PEEK | MSG_WAITALL, 10);
	recv_wanted(&pair.b, 20, MSG_WAITALL, 10);
	finish(&pair);
}

/* Large: beyond what is one frame, one segment, one page. */
static void large(void)
{
	struct pair pair;

	open_pair_buffered(&pair, 400000, 400000);
	write_pieces(&pair.a, 100000, 100000);
	wait_readable(&pair.b, 100000);
	recv_wanted(&pair.b, 100000, MSG_PEEK, 100000);
	recv_wanted(&pair.b, 70000, MSG_PEEK, 70000);
	read_bytes(&pair.b, 33333);
	recv_wanted(&pair.b, 100000, MSG_PEEK, 66667);
	read_bytes(&pair.b, 66667);
	finish(&pair);
}

static void truncating(void)
{
	struct pair pair;
	char buffer[100];

	open_pair(&pair);
	write_bytes(&pair.a, 100);
	wait_readable(&pair.b, 100);
	memset(buffer, 'x', sizeof(buffer));
	EXPECT(recv(pair.b.fd, buffer, 100, MSG_PEEK | MSG_TRUNC), 100);
	for (int i = 0; i < 100; i++)
		CHECK(buffer[i] == 'x', "MSG_TRUNC has written byte %d", i);
	EXPECT(readable(pair.b.fd), 100);
	read_bytes(&pair.b, 100);
	finish(&pair);
}

/* SO_PEEK_OFF of TCP is there from Linux 6.9. */
static void peek_offset(void)
{
	int offset = 10;
	struct pair pair;

	open_pair(&pair);
	if (setsockopt(pair.b.fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset))) {
		CHECK(errno == EOPNOTSUPP, "SO_PEEK_OFF: %s", strerrorname_np(errno));
		write_bytes(&pair.a, 100);
		recv_wanted(&pair.b, 100, MSG_PEEK | MSG_WAITALL, 100);
	} else {
		char buffer[30];

		write_bytes(&pair.a, 100);
		wait_readable(&pair.b, 100);
		EXPECT(recv(pair.b.fd, buffer, 30, MSG_PEEK), 30);
		check_bytes(&pair.b, buffer, 10, 30);
		EXPECT(recv(pair.b.fd, buffer, 30, MSG_PEEK), 30);
		check_bytes(&pair.b, buffer, 40, 30);
		read_bytes(&pair.b, 20);
		EXPECT(get_option(pair.b.fd, SOL_SOCKET, SO_PEEK_OFF), 50);
	}
	finish(&pair);
}

const struct scenario tcp_peek[] = {
	{ "tcp_peek_repeated", repeated, BOTH_WAYS },
	{ "tcp_peek_by_turns", by_turns, BOTH_WAYS },
	{ "tcp_peek_wait_all", wait_all, BOTH_WAYS },
	{ "tcp_peek_blocking", blocking, BOTH_WAYS },
	{ "tcp_peek_timed", timed, BOTH_WAYS },
	{ "tcp_peek_large", large, BOTH_WAYS },
	{ "tcp_peek_truncating", truncating, BOTH_WAYS },
	{ "tcp_peek_offset", peek_offset, BOTH_WAYS },
	{ 0 },
};
