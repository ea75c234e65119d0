// SPDX-License-Identifier: GPL-2.0
/* Much data, and data in small pieces. */
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "sockets.h"

#define MB (1024 * 1024)

static void *read_until_end(void *argument)
{
	read_to_end(argument);
	return NULL;
}

/* `a` writes, `b` reads in a thread. */
static void transfer(int send_buffer, int receive_buffer, size_t size, size_t piece)
{
	struct pair pair;
	pthread_t reader;

	open_pair_buffered(&pair, send_buffer, receive_buffer);
	reader = start(read_until_end, &pair.b);
	step("write %zu bytes in pieces of %zu", size, piece);
	write_pieces(&pair.a, size, piece);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	step("wait for the reader");
	join(reader);
	EXPECT(pair.b.read, pair.a.written);
	finish(&pair);
}

static void blocking(void)
{
	transfer(0, 0, 8 * MB, 65536);
}

static void one_huge_send(void)
{
	transfer(0, 0, 8 * MB, 8 * MB);
}

static void odd_pieces(void)
{
	transfer(0, 0, 300000, 7);
	transfer(0, 0, 1000000, 999);
	transfer(0, 0, 1000000, 1001);
	transfer(0, 0, 4000000, 65537);
	transfer(0, 0, 4000000, 16385);
}

static void small_buffers(void)
{
	transfer(1, 1, 500000, 10000);
	transfer(4608, 2304, 1000000, 65536);
}

static void large_buffers(void)
{
	transfer(4 * MB, 6 * MB, 16 * MB, 1 * MB);
}

static void one_byte_writes(void)
{
	transfer(0, 0, 10000, 1);
}

static void one_byte_writes_nodelay(void)
{
	struct pair pair;

	open_pair(&pair);
	set_option(pair.a.fd, IPPROTO_TCP, TCP_NODELAY, 1);
	for (int i = 0; i < 3000; i++) {
		write_bytes(&pair.a, 1);
		if (i % 3 == 0)
			read_bytes(&pair.b, 1);
	}
	EXPECT(get_option(pair.a.fd, IPPROTO_TCP, TCP_NODELAY), 1);
	finish(&pair);
}

static void one_byte_reads(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 10000);
	read_pieces(&pair.b, 10000, 1);
	finish(&pair);
}

static void ping_pong(void)
{
	struct pair pair;

	open_pair(&pair);
	for (int i = 0; i < 1000; i++) {
		write_bytes(&pair.a, 1 + i % 50);
		read_bytes(&pair.b, 1 + i % 50);
		write_bytes(&pair.b, 1 + i % 31);
		read_bytes(&pair.a, 1 + i % 31);
	}
	finish(&pair);
}

static void *write_4mb(void *argument)
{
	struct end *end = argument;

	write_pieces(end, 4 * MB, 30000);
	EXPECT(shutdown(end->fd, SHUT_WR), 0);
	return NULL;
}

static void both_ways(void)
{
	struct pair pair;
	struct end a, b;
	pthread_t threads[4];

	open_pair(&pair);
	a = pair.a; /* a thread that writes and one that reads keep their own counts */
	b = pair.b;
	threads[0] = start(write_4mb, &a);
	threads[1] = start(write_4mb, &b);
	threads[2] = start(read_until_end, &pair.a);
	threads[3] = start(read_until_end, &pair.b);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	EXPECT(pair.a.read, b.written);
	EXPECT(pair.b.read, a.written);
	close_pair(&pair);
}

#define BULK (32 * MB)

static void bulk_child(void *argument)
{
	struct pair *pair = argument;

	EXPECT(close(pair->a.fd), 0);
	read_bytes(&pair->b, BULK);
	write_pieces(&pair->b, BULK, 100000);
	EXPECT(close(pair->b.fd), 0);
}

/* Two processes, each with its end only. */
static void bulk(void)
{
	struct pair pair;
	pid_t child;

	open_pair(&pair);
	child = spawn(bulk_child, &pair);
	EXPECT(close(pair.b.fd), 0);
	step("32 MB there");
	write_pieces(&pair.a, BULK, 65537);
	step("32 MB back");
	read_bytes(&pair.a, BULK);
	step("the end");
	read_to_end(&pair.a);
	EXPECT(close(pair.a.fd), 0);
	join_child(child);
}

static void *read_records(void *argument)
{
	struct end *end = argument;

	for (int i = 0; i < 64; i++)
		recv_wanted(end, 65537, MSG_WAITALL, 65537);
	return NULL;
}

static void records(void)
{
	struct pair pair;
	pthread_t reader;

	open_pair(&pair);
	reader = start(read_records, &pair.b);
	write_pieces(&pair.a, 64 * 65537, 65537);
	join(reader);
	finish(&pair);
}

/* Send without a reader until there is no more room: what was taken is what will arrive. */
static void fill(struct end *end, size_t piece)
{
	char *buffer = malloc(piece);
	ssize_t sent;

	for (;;) {
		next_bytes(end, buffer, 0, piece);
		sent = send(end->fd, buffer, piece, MSG_DONTWAIT);
		if (sent < 0)
			break;
		CHECK(sent > 0 && (size_t)sent <= piece, "send of %zu gave %zd", piece, sent);
		end->written += sent;
	}
	CHECK(errno == EAGAIN, "send: expected EAGAIN, got %s", strerrorname_np(errno));
	free(buffer);
}

static void check_unsent(const struct end *end)
{
	int bytes = -1;

	EXPECT(ioctl(end->fd, SIOCOUTQ, &bytes), 0);
	CHECK(bytes >= 0, "SIOCOUTQ says %d", bytes);
}

static void full(void)
{
	static const size_t pieces[] = { 1, 1000, 10000, 300000 };

	for (int i = 0; i < 4; i++) {
		struct pair pair;

		open_pair_buffered(&pair, 20000, 20000);
		step("fill in pieces of %zu", pieces[i]);
		fill(&pair.a, pieces[i]);
		check_unsent(&pair.a);
		CHECK(pair.a.written >= 4608, "only %lu bytes were taken", pair.a.written);
		step("read them");
		read_bytes(&pair.b, pair.a.written - pair.b.read);
		EXPECT_ERRNO(recv(pair.b.fd, &pair, 1, MSG_DONTWAIT), EAGAIN);
		step("room again");
		CHECK(poll_until(pair.a.fd, POLLOUT) & POLLOUT, "no POLLOUT");
		write_bytes(&pair.a, 1000);
		read_bytes(&pair.b, 1000);
		finish(&pair);
	}
}

/* Fill, take some, fill again, many times; a poll says POLLOUT only where a send takes a byte. */
static void full_and_drained(void)
{
	struct pair pair;

	open_pair_buffered(&pair, 30000, 20000);
	for (int i = 0; i < 100; i++) {
		size_t some;

		step("round %d", i);
		fill(&pair.a, 5000 + 100 * i);
		some = pair.a.written - pair.b.read;
		read_bytes(&pair.b, i % 2 ? some : some / 2);
		if (i % 2)
			CHECK(poll_until(pair.a.fd, POLLOUT) == POLLOUT, "no POLLOUT");
	}
	read_bytes(&pair.b, pair.a.written - pair.b.read);
	finish(&pair);
}

/* Both ends nonblocking, in one thread, as an event loop has them. */
static void nonblocking(void)
{
	const size_t size = 4 * MB;
	char *buffer = malloc(70000);
	struct pair pair;

	open_pair(&pair);
	set_nonblocking(pair.a.fd, true);
	set_nonblocking(pair.b.fd, true);
	while (pair.b.read < size) {
		size_t left = size - pair.a.written, now = left < 70000 ? left : 70000;
		struct pollfd ready[] = { { pair.a.fd, now ? POLLOUT : 0, 0 },
					  { pair.b.fd, POLLIN, 0 } };

		step("written %lu, read %lu", pair.a.written, pair.b.read);
		CHECK(poll(ready, 2, -1) > 0, "poll: %s", strerror(errno));
		if (ready[0].revents) {
			ssize_t sent;

			next_bytes(&pair.a, buffer, 0, now);
			sent = send(pair.a.fd, buffer, now, 0);
			CHECK(sent > 0, "send after POLLOUT: %zd %s", sent, strerrorname_np(errno));
			pair.a.written += sent;
		}
		if (ready[1].revents) {
			ssize_t got = recv(pair.b.fd, buffer, 33333, 0);

			CHECK(got > 0, "recv after POLLIN: %zd %s", got, strerrorname_np(errno));
			took(&pair.b, buffer, got);
		}
	}
	free(buffer);
	finish(&pair);
}

const struct scenario tcp_bulk[] = {
	{ "tcp_blocking", blocking, BOTH_WAYS },
	{ "tcp_one_huge_send", one_huge_send, BOTH_WAYS },
	{ "tcp_odd_pieces", odd_pieces, BOTH_WAYS },
	{ "tcp_small_buffers", small_buffers, BOTH_WAYS },
	{ "tcp_large_buffers", large_buffers, BOTH_WAYS },
	{ "tcp_one_byte_writes", one_byte_writes, BOTH_WAYS },
	{ "tcp_one_byte_writes_nodelay", one_byte_writes_nodelay, BOTH_WAYS },
	{ "tcp_one_byte_reads", one_byte_reads, BOTH_WAYS },
	{ "tcp_ping_pong", ping_pong, ONCE },
	{ "tcp_both_ways", both_ways, BOTH_WAYS },
	{ "tcp_bulk", bulk, ONCE },
	{ "tcp_records_64k1", records, BOTH_WAYS },
	{ "tcp_full", full, BOTH_WAYS },
	{ "tcp_full_and_drained", full_and_drained, BOTH_WAYS },
	{ "tcp_nonblocking", nonblocking, BOTH_WAYS },
	{ 0 },
};
