// SPDX-License-Identifier: GPL-2.0
/* How connections end. */
#include <signal.h>
#include <sys/syscall.h>

#include "sockets.h"

static const struct linger linger_reset = { .l_onoff = 1, .l_linger = 0 };

static void set_linger(int fd, const struct linger *linger)
{
	EXPECT(setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, sizeof(*linger)), 0);
}

static void reset(struct end *end)
{
	set_linger(end->fd, &linger_reset);
	EXPECT(close(end->fd), 0);
}

/* Read to the end of what the peer sends, then answer. */
static void half_close(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 20000);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	read_to_end(&pair.b);
	write_pieces(&pair.b, 30000, 777);
	EXPECT_ERRNO(send(pair.a.fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	read_bytes(&pair.a, 30000);
	finish(&pair);
}

static void *half_close_bulk_reader(void *argument)
{
	struct end *end = argument;

	read_to_end(end);
	write_pieces(end, 2000000, 50000);
	EXPECT(shutdown(end->fd, SHUT_WR), 0);
	return NULL;
}

static void half_close_bulk(void)
{
	struct pair pair;
	pthread_t thread;

	open_pair(&pair);
	thread = start(half_close_bulk_reader, &pair.b);
	write_pieces(&pair.a, 2000000, 50000);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	read_to_end(&pair.a);
	join(thread);
	EXPECT(pair.a.read, pair.b.written);
	close_pair(&pair);
}

static void shut_read(void)
{
	struct pair pair;
	char byte;

	open_pair(&pair);
	write_bytes(&pair.a, 10);
	read_bytes(&pair.b, 10);
	EXPECT(shutdown(pair.b.fd, SHUT_RD), 0);
	EXPECT(recv(pair.b.fd, &byte, 1, 0), 0);
	EXPECT(recv(pair.b.fd, &byte, 1, MSG_DONTWAIT), 0);
	EXPECT(poll_now(pair.b.fd, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
	step("the other direction");
	write_bytes(&pair.b, 1000);
	read_bytes(&pair.a, 1000);
	finish(&pair);
}

struct reader {
	struct end *end;
	pid_t thread;
	ssize_t got;
	int error;
};

static void *receive_one(void *argument)
{
	struct reader *reader = argument;
	char byte;

	__atomic_store_n(&reader->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	reader->got = recv(reader->end->fd, &byte, 1, 0);
	reader->error = reader->got < 0 ? errno : 0;
	return NULL;
}

static pthread_t start_reader(struct reader *reader, struct end *end)
{
	pthread_t thread;

	*reader = (struct reader){ .end = end };
	thread = start(receive_one, reader);
	while (!__atomic_load_n(&reader->thread, __ATOMIC_SEQ_CST))
		sleep_ms(1);
	wait_asleep(reader->thread);
	return thread;
}

/* Who is blocked in recv wakes with the end when his own process shuts the socket down. */
static void shutdown_wakes(void)
{
	static const int how[] = { SHUT_RD, SHUT_RDWR };

	for (int i = 0; i < 2; i++) {
		struct reader reader;
		struct pair pair;
		pthread_t thread;

		open_pair(&pair);
		thread = start_reader(&reader, &pair.b);
		step("shutdown %d", how[i]);
		EXPECT(shutdown(pair.b.fd, how[i]), 0);
		join(thread);
		EXPECT(reader.got, 0);
		close_pair(&pair);
	}
}

static void reset_wakes(void)
{
	struct reader reader;
	struct pair pair;
	pthread_t thread;

	open_pair(&pair);
	thread = start_reader(&reader, &pair.b);
	reset(&pair.a);
	join(thread);
	EXPECT(reader.got, -1);
	EXPECT(reader.error, ECONNRESET);
	EXPECT(close(pair.b.fd), 0);
}

static void is_reset(struct end *end)
{
	const short wanted = POLLIN | POLLRDHUP | POLLERR | POLLHUP;
	char byte;

	CHECK((poll_until(end->fd, POLLIN | POLLRDHUP) & wanted) == wanted, "poll: %#x",
	      poll_now(end->fd, POLLIN | POLLRDHUP));
	EXPECT_ERRNO(recv(end->fd, &byte, 1, 0), ECONNRESET);
	EXPECT(recv(end->fd, &byte, 1, 0), 0);
	EXPECT_ERRNO(send(end->fd, &byte, 1, MSG_NOSIGNAL), EPIPE);
	EXPECT(get_option(end->fd, SOL_SOCKET, SO_ERROR), 0);
	EXPECT(close(end->fd), 0);
}

static void linger_zero(void)
{
	struct pair pair;

	open_pair(&pair);
	reset(&pair.a);
	is_reset(&pair.b);
	step("after data");
	open_pair(&pair);
	write_bytes(&pair.a, 1000);
	read_bytes(&pair.b, 1000);
	write_bytes(&pair.b, 1000);
	read_bytes(&pair.a, 1000);
	reset(&pair.a);
	is_reset(&pair.b);
}

/* What had arrived before the reset is read before the error is seen. */
static void reset_after_data(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 1000);
	wait_readable(&pair.b, 1000);
	reset(&pair.a);
	EXPECT(poll_until(pair.b.fd, POLLRDHUP) & POLLERR, POLLERR);
	read_bytes(&pair.b, 600);
	read_bytes(&pair.b, 400);
	EXPECT_ERRNO(recv(pair.b.fd, &pair, 1, 0), ECONNRESET);
	EXPECT(close(pair.b.fd), 0);
}

static void error_option(void)
{
	struct pair pair;

	open_pair(&pair);
	reset(&pair.a);
	EXPECT(poll_until(pair.b.fd, POLLRDHUP) & POLLERR, POLLERR);
	EXPECT(get_option(pair.b.fd, SOL_SOCKET, SO_ERROR), ECONNRESET);
	EXPECT(get_option(pair.b.fd, SOL_SOCKET, SO_ERROR), 0);
	EXPECT(close(pair.b.fd), 0);
}

/* RFC 2525, 2.17: a close with data that nobody has read resets the connection. */
static void close_unread(void)
{
	static const size_t read_first[] = { 0, 1, 500, 999 };

	for (int i = 0; i < 8; i++) {
		struct pair pair;

		open_pair(&pair);
		write_bytes(&pair.a, 1000);
		wait_readable(&pair.b, 1000);
		step("%zu of 1000 bytes are read%s", read_first[i / 2], i % 2 ? ", peeked" : "");
		read_bytes(&pair.b, read_first[i / 2]);
		if (i % 2)
			recv_wanted(&pair.b, 1000, MSG_PEEK, 1000 - read_first[i / 2]);
		EXPECT(close(pair.b.fd), 0);
		is_reset(&pair.a);
	}
}

/* A close with nothing unread ends the stream in order. */
static void close_read(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 1000);
	read_bytes(&pair.b, 1000);
	write_bytes(&pair.b, 100);
	EXPECT(close(pair.b.fd), 0);
	read_bytes(&pair.a, 100);
	read_to_end(&pair.a);
	EXPECT(poll_now(pair.a.fd, POLLRDHUP), POLLRDHUP);
	EXPECT(close(pair.a.fd), 0);
}

static void *read_slowly_to_end(void *argument)
{
	struct end *end = argument;

	sleep_ms(30);
	read_pieces(end, 100000, 3000);
	sleep_ms(30);
	read_to_end(end);
	return NULL;
}

/* All that was sent before a close arrives. */
static void close_after_send(void)
{
	static const struct linger wait = { .l_onoff = 1, .l_linger = 60 };

	for (int i = 0; i < 3; i++) {
		struct pair pair;
		pthread_t reader;

		open_pair_buffered(&pair, 0, i == 2 ? 5000 : 0);
		if (i)
			set_linger(pair.a.fd, &wait);
		reader = start(read_slowly_to_end, &pair.b);
		write_pieces(&pair.a, 1000000, 1000000);
		step("close %s", i ? "and linger" : "");
		EXPECT(close(pair.a.fd), 0);
		join(reader);
		EXPECT(pair.b.read, pair.a.written);
		EXPECT(close(pair.b.fd), 0);
	}
}

static volatile sig_atomic_t pipes;

static void count_pipe(int number)
{
	pipes += number == SIGPIPE;
}

static void broken_pipe(void)
{
	struct pair pair;

	open_pair(&pair);
	signal(SIGPIPE, count_pipe);
	write_bytes(&pair.a, 10);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	EXPECT_ERRNO(send(pair.a.fd, "x", 1, 0), EPIPE);
	EXPECT(pipes, 1);
	EXPECT_ERRNO(write(pair.a.fd, "x", 1), EPIPE);
	EXPECT(pipes, 2);
	EXPECT_ERRNO(send(pair.a.fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT_ERRNO(send(pair.a.fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT), EPIPE);
	EXPECT(pipes, 2);
	signal(SIGPIPE, SIG_IGN);
	finish(&pair);
}

/* The peer is gone: a send brings its reset, the next one fails. */
static void send_to_closed(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 10);
	read_bytes(&pair.b, 10);
	EXPECT(close(pair.b.fd), 0);
	read_to_end(&pair.a);
	EXPECT(send(pair.a.fd, "x", 1, MSG_NOSIGNAL), 1);
	CHECK(poll_until(pair.a.fd, 0) & POLLHUP, "no POLLHUP");
	EXPECT_ERRNO(send(pair.a.fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT(close(pair.a.fd), 0);
}

static void nothing_sent(void)
{
	struct pair pair;

	open_pair(&pair);
	EXPECT(close(pair.a.fd), 0);
	read_to_end(&pair.b);
	EXPECT(close(pair.b.fd), 0);
	step("the other end closes");
	open_pair(&pair);
	EXPECT(close(pair.b.fd), 0);
	read_to_end(&pair.a);
	EXPECT(close(pair.a.fd), 0);
}

static void not_connected_any_more(void)
{
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 100);
	EXPECT(shutdown(pair.a.fd, SHUT_RDWR), 0);
	read_to_end(&pair.b);
	EXPECT(shutdown(pair.b.fd, SHUT_WR), 0);
	CHECK(poll_until(pair.b.fd, 0) & POLLHUP, "no POLLHUP");
	EXPECT_ERRNO(shutdown(pair.b.fd, SHUT_RDWR), ENOTCONN);
	EXPECT_ERRNO(send(pair.b.fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	close_pair(&pair);
}

/* The writer is blocked when the reader goes: it gets what it has sent, or the error. */
static void *leave(void *argument)
{
	struct end *end = argument;

	read_bytes(end, 50000);
	reset(end);
	return NULL;
}

static void reset_while_sending(void)
{
	const size_t size = 8 << 20;
	char *buffer = malloc(size);
	struct pair pair;
	pthread_t thread;
	ssize_t sent;

	open_pair_buffered(&pair, 20000, 20000);
	thread = start(leave, &pair.b);
	next_bytes(&pair.a, buffer, 0, size);
	sent = send(pair.a.fd, buffer, size, MSG_NOSIGNAL);
	join(thread);
	CHECK((sent > 0 && (size_t)sent < size) || (sent < 0 && errno == ECONNRESET),
	      "send: %zd %s", sent, sent < 0 ? strerrorname_np(errno) : "");
	sent = send(pair.a.fd, buffer, size, MSG_NOSIGNAL);
	CHECK(sent < 0 && (errno == EPIPE || errno == ECONNRESET), "send: %zd", sent);
	EXPECT(close(pair.a.fd), 0);
	free(buffer);
}

const struct scenario tcp_close[] = {
	{ "tcp_half_close", half_close, BOTH_WAYS },
	{ "tcp_half_close_bulk", half_close_bulk, BOTH_WAYS },
	{ "tcp_shut_read", shut_read, BOTH_WAYS },
	{ "tcp_shutdown_wakes", shutdown_wakes, BOTH_WAYS },
	{ "tcp_reset_wakes", reset_wakes, BOTH_WAYS },
	{ "tcp_linger_zero", linger_zero, BOTH_WAYS },
	{ "tcp_reset_after_data", reset_after_data, BOTH_WAYS },
	{ "tcp_reset_while_sending", reset_while_sending, BOTH_WAYS },
	{ "tcp_error_option", error_option, BOTH_WAYS },
	{ "tcp_close_unread", close_unread, BOTH_WAYS },
	{ "tcp_close_read", close_read, BOTH_WAYS },
	{ "tcp_close_after_send", close_after_send, BOTH_WAYS },
	{ "tcp_broken_pipe", broken_pipe, BOTH_WAYS },
	{ "tcp_send_to_closed", send_to_closed, BOTH_WAYS },
	{ "tcp_nothing_sent", nothing_sent, BOTH_WAYS },
	{ "tcp_not_connected_any_more", not_connected_any_more, BOTH_WAYS },
	{ 0 },
};
