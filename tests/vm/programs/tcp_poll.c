// SPDX-License-Identifier: GPL-2.0
/* poll, select and epoll: what they say is true, and nobody is left asleep. */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include "sockets.h"

#define IN (POLLIN | POLLRDNORM)

static void level(void)
{
	struct pair pair;

	open_pair(&pair);
	EXPECT(poll_now(pair.a.fd, POLLIN | POLLOUT), POLLOUT);
	EXPECT(poll_now(pair.b.fd, POLLIN | POLLOUT), POLLOUT);
	write_bytes(&pair.a, 10);
	EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
	EXPECT(poll_now(pair.b.fd, IN | POLLOUT | POLLPRI | POLLRDHUP), IN | POLLOUT);
	read_bytes(&pair.b, 9);
	EXPECT(poll_now(pair.b.fd, IN), IN);
	read_bytes(&pair.b, 1);
	EXPECT(poll_now(pair.b.fd, IN), 0);
	step("the peer sends no more");
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	EXPECT(poll_until(pair.b.fd, POLLRDHUP), POLLRDHUP);
	EXPECT(poll_now(pair.b.fd, IN | POLLOUT | POLLRDHUP), IN | POLLOUT | POLLRDHUP);
	EXPECT(shutdown(pair.b.fd, SHUT_WR), 0);
	EXPECT(poll_until(pair.b.fd, 0), POLLHUP);
	EXPECT(poll_now(pair.b.fd, IN | POLLRDHUP), IN | POLLRDHUP | POLLHUP);
	close_pair(&pair);
}

/* After POLLIN a nonblocking read gives bytes; without bytes there is no POLLIN. */
static void is_true(void)
{
	char buffer[3000];
	struct pair pair;

	open_pair(&pair);
	set_nonblocking(pair.b.fd, true);
	for (int i = 0; i < 1000; i++) {
		size_t size = 1 + pattern_mix(i) % sizeof(buffer);

		write_bytes(&pair.a, size);
		while (size) {
			ssize_t got;

			EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
			got = recv(pair.b.fd, buffer, 1 + pattern_mix(size) % sizeof(buffer), 0);
			CHECK(got > 0, "recv after POLLIN: %zd %s", got, strerrorname_np(errno));
			took(&pair.b, buffer, got);
			size -= got;
		}
		EXPECT(poll_now(pair.b.fd, POLLIN), 0);
	}
	finish(&pair);
}

static void *write_slowly(void *argument)
{
	struct end *end = argument;

	for (int i = 0; i < 200; i++) {
		write_bytes(end, 1 + pattern_mix(i) % 3000);
		if (i % 8 == 0)
			sleep_ms(1);
	}
	EXPECT(shutdown(end->fd, SHUT_WR), 0);
	return NULL;
}

/* A reader asleep in poll is woken for all that comes. */
static void wakes(void)
{
	struct pair pair;
	pthread_t writer;
	char buffer[2000];
	ssize_t got = 1;

	open_pair(&pair);
	set_nonblocking(pair.b.fd, true);
	writer = start(write_slowly, &pair.a);
	while (got) {
		step("poll, %lu bytes read", pair.b.read);
		EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
		got = recv(pair.b.fd, buffer, sizeof(buffer), 0);
		CHECK(got >= 0, "recv after POLLIN: %s", strerrorname_np(errno));
		took(&pair.b, buffer, got);
	}
	join(writer);
	EXPECT(pair.b.read, pair.a.written);
	finish(&pair);
}

static void *read_slowly(void *argument)
{
	struct end *end = argument;

	for (int i = 0; i < 100; i++) {
		sleep_ms(1);
		read_bytes(end, 5000);
	}
	return NULL;
}

/* A writer asleep in poll is woken when there is room. */
static void wakes_writer(void)
{
	struct pair pair;
	pthread_t reader;
	char buffer[5000];

	open_pair_buffered(&pair, 10000, 10000);
	set_nonblocking(pair.a.fd, true);
	reader = start(read_slowly, &pair.b);
	while (pair.a.written < 500000) {
		size_t left = 500000 - pair.a.written, now = left < 5000 ? left : 5000;
		ssize_t sent;

		step("poll, %lu bytes written", pair.a.written);
		EXPECT(poll_until(pair.a.fd, POLLOUT), POLLOUT);
		next_bytes(&pair.a, buffer, 0, now);
		sent = send(pair.a.fd, buffer, now, 0);
		CHECK(sent > 0, "send after POLLOUT: %zd %s", sent, strerrorname_np(errno));
		pair.a.written += sent;
	}
	join(reader);
	finish(&pair);
}

static int select_now(int fd, bool *can_read, bool *can_write, struct timeval *timeout)
{
	fd_set read_set, write_set;
	int count;

	FD_ZERO(&read_set);
	FD_ZERO(&write_set);
	FD_SET(fd, &read_set);
	FD_SET(fd, &write_set);
	count = select(fd + 1, &read_set, can_write ? &write_set : NULL, NULL, timeout);
	*can_read = FD_ISSET(fd, &read_set);
	if (can_write)
		*can_write = FD_ISSET(fd, &write_set);
	return count;
}

static void with_select(void)
{
	struct timeval now = { 0, 0 };
	bool can_read, can_write;
	struct pair pair;

	open_pair(&pair);
	EXPECT(select_now(pair.b.fd, &can_read, &can_write, &now), 1);
	CHECK(!can_read && can_write, "readable %d, writable %d", can_read, can_write);
	write_bytes(&pair.a, 100);
	EXPECT(select_now(pair.b.fd, &can_read, NULL, NULL), 1);
	EXPECT(select_now(pair.b.fd, &can_read, &can_write, &now), 2);
	read_bytes(&pair.b, 100);
	EXPECT(select_now(pair.b.fd, &can_read, NULL, &now), 0);
	finish(&pair);
}

static int watch(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	CHECK(epoll >= 0, "epoll_create1: %s", strerror(errno));
	EXPECT(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
	return epoll;
}

static uint32_t next_event(int epoll, int timeout)
{
	struct epoll_event event = { 0 };

	CHECK(epoll_wait(epoll, &event, 1, timeout) >= 0, "epoll_wait: %s", strerror(errno));
	return event.events;
}

static void epoll_level(void)
{
	struct pair pair;
	int epoll;

	open_pair(&pair);
	epoll = watch(pair.b.fd, EPOLLIN | EPOLLRDHUP);
	EXPECT(next_event(epoll, 0), 0);
	for (int i = 0; i < 300; i++) {
		write_bytes(&pair.a, 1 + i);
		EXPECT(next_event(epoll, -1), EPOLLIN);
		EXPECT(next_event(epoll, 0), EPOLLIN);
		read_bytes(&pair.b, 1 + i);
		EXPECT(next_event(epoll, 0), 0);
	}
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	EXPECT(next_event(epoll, -1), EPOLLIN | EPOLLRDHUP);
	EXPECT(close(epoll), 0);
	finish(&pair);
}

/* Read until EAGAIN or the end; return whether it is the end. */
static bool drain(struct end *end, size_t piece, size_t *count)
{
	char buffer[4096];
	ssize_t got;

	*count = 0;
	while ((got = recv(end->fd, buffer, piece, MSG_DONTWAIT)) > 0) {
		took(end, buffer, got);
		*count += got;
	}
	CHECK(!got || errno == EAGAIN, "recv: expected EAGAIN, got %s", strerrorname_np(errno));
	return !got;
}

/* Edges let one read all, and each of them brings something to read. */
static void epoll_edge(void)
{
	struct pair pair;
	pthread_t writer;
	size_t count;
	int epoll;
	bool ended;

	open_pair(&pair);
	epoll = watch(pair.b.fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
	writer = start(write_slowly, &pair.a);
	do {
		step("epoll_wait, %lu bytes read", pair.b.read);
		next_event(epoll, -1);
		ended = drain(&pair.b, 1 + pair.b.read % 4096, &count);
		CHECK(ended || count, "an edge, and nothing to read");
	} while (!ended);
	join(writer);
	EXPECT(pair.b.read, pair.a.written);
	EXPECT(close(epoll), 0);
	finish(&pair);
}

/* One edge for what came once, although not all was read; the next one when more comes. */
static void epoll_edge_once(void)
{
	struct pair pair;
	size_t count;
	int epoll;

	open_pair(&pair);
	epoll = watch(pair.b.fd, EPOLLIN | EPOLLET);
	for (int i = 0; i < 100; i++) {
		write_bytes(&pair.a, 100);
		EXPECT(next_event(epoll, -1), EPOLLIN);
		read_bytes(&pair.b, 50);
		EXPECT(next_event(epoll, 0), 0);
		write_bytes(&pair.a, 10);
		EXPECT(next_event(epoll, -1), EPOLLIN);
		EXPECT(drain(&pair.b, 4096, &count), false);
		EXPECT(count, 60);
		EXPECT(next_event(epoll, 0), 0);
	}
	EXPECT(close(epoll), 0);
	finish(&pair);
}

/* EPOLLOUT as an edge: after EAGAIN, when there is room. */
static void epoll_edge_out(void)
{
	struct pair pair;
	pthread_t reader;
	char buffer[5000];
	int epoll;

	open_pair_buffered(&pair, 10000, 10000);
	epoll = watch(pair.a.fd, EPOLLOUT | EPOLLET);
	reader = start(read_slowly, &pair.b);
	while (pair.a.written < 500000) {
		size_t left = 500000 - pair.a.written, now = left < 5000 ? left : 5000;
		ssize_t sent;

		next_bytes(&pair.a, buffer, 0, now);
		sent = send(pair.a.fd, buffer, now, MSG_DONTWAIT);
		if (sent > 0) {
			pair.a.written += sent;
			continue;
		}
		CHECK(errno == EAGAIN, "send: %s", strerrorname_np(errno));
		step("epoll_wait, %lu bytes written", pair.a.written);
		EXPECT(next_event(epoll, -1), EPOLLOUT);
	}
	join(reader);
	EXPECT(close(epoll), 0);
	finish(&pair);
}

static void epoll_one_shot(void)
{
	struct pair pair;
	struct epoll_event again = { .events = EPOLLIN | EPOLLONESHOT };
	int epoll;

	open_pair(&pair);
	epoll = watch(pair.b.fd, EPOLLIN | EPOLLONESHOT);
	for (int i = 0; i < 50; i++) {
		write_bytes(&pair.a, 20);
		EXPECT(next_event(epoll, -1), EPOLLIN);
		EXPECT(next_event(epoll, 0), 0);
		EXPECT(epoll_ctl(epoll, EPOLL_CTL_MOD, pair.b.fd, &again), 0);
		EXPECT(next_event(epoll, 0), EPOLLIN);
		read_bytes(&pair.b, 20);
		EXPECT(epoll_ctl(epoll, EPOLL_CTL_MOD, pair.b.fd, &again), 0);
		EXPECT(next_event(epoll, 0), 0);
	}
	EXPECT(close(epoll), 0);
	finish(&pair);
}

struct sleeper {
	int fd;
	pid_t thread;
	short events;
};

static void *sleep_in_poll(void *argument)
{
	struct sleeper *sleeper = argument;

	__atomic_store_n(&sleeper->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	sleeper->events = poll_until(sleeper->fd, POLLIN | POLLRDHUP);
	return NULL;
}

/* Who sleeps in poll wakes when the connection ends or is reset. */
static void wakes_at_the_end(void)
{
	static const struct linger reset = { .l_onoff = 1 };

	for (int i = 0; i < 2; i++) {
		struct sleeper sleeper = { 0 };
		struct pair pair;
		pthread_t thread;

		open_pair(&pair);
		sleeper.fd = pair.b.fd;
		thread = start(sleep_in_poll, &sleeper);
		while (!__atomic_load_n(&sleeper.thread, __ATOMIC_SEQ_CST))
			sleep_ms(1);
		wait_asleep(sleeper.thread);
		step("%s", i ? "reset" : "close");
		if (i)
			EXPECT(setsockopt(pair.a.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)),
			       0);
		EXPECT(close(pair.a.fd), 0);
		join(thread);
		EXPECT(sleeper.events, POLLIN | POLLRDHUP | (i ? POLLERR | POLLHUP : 0));
		EXPECT(close(pair.b.fd), 0);
	}
}

const struct scenario tcp_poll[] = {
	{ "tcp_poll_level", level, BOTH_WAYS },
	{ "tcp_poll_is_true", is_true, BOTH_WAYS },
	{ "tcp_poll_wakes", wakes, BOTH_WAYS },
	{ "tcp_poll_wakes_writer", wakes_writer, BOTH_WAYS },
	{ "tcp_poll_wakes_at_the_end", wakes_at_the_end, BOTH_WAYS },
	{ "tcp_select", with_select, BOTH_WAYS },
	{ "tcp_epoll_level", epoll_level, BOTH_WAYS },
	{ "tcp_epoll_edge", epoll_edge, BOTH_WAYS },
	{ "tcp_epoll_edge_once", epoll_edge_once, BOTH_WAYS },
	{ "tcp_epoll_edge_out", epoll_edge_out, BOTH_WAYS },
	{ "tcp_epoll_one_shot", epoll_one_shot, BOTH_WAYS },
	{ 0 },
};
