// SPDX-License-Identifier: GPL-2.0
/* How a datagram is received: in part, later, again, not at all. */
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include "udp.h"

static void truncated(void)
{
	char buffer[1000];
	struct iovec vector = { buffer, 100 };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	struct udp udp;

	udp_connect(&udp);
	for (int i = 0; i < 40; i++) {
		size_t size = 101 + i * 20;

		step("datagram %d of %zu bytes", i, size);
		send_datagram(udp.a, i, size);
		EXPECT(recv(udp.b, buffer, 100, 0), 100);
		check_datagram(buffer, i, 100);
		send_datagram(udp.a, i, size);
		EXPECT(recv(udp.b, buffer, 100, MSG_TRUNC), size);
		check_datagram(buffer, i, 100);
		send_datagram(udp.a, i, size);
		EXPECT(recv(udp.b, NULL, 0, MSG_TRUNC), size);
		send_datagram(udp.a, i, size);
		EXPECT(recvmsg(udp.b, &message, 0), 100);
		EXPECT(message.msg_flags, MSG_TRUNC);
		check_datagram(buffer, i, 100);
		send_datagram(udp.a, i, size);
		EXPECT(recvmsg(udp.b, &message, MSG_TRUNC), size);
		EXPECT(message.msg_flags, MSG_TRUNC);
		send_datagram(udp.a, i, 100);
		EXPECT(recvmsg(udp.b, &message, MSG_TRUNC), 100);
		EXPECT(message.msg_flags, 0);
	}
	udp_close(&udp);
}

static void peeked(void)
{
	char buffer[2000];
	struct udp udp;

	udp_connect(&udp);
	EXPECT_ERRNO(recv(udp.b, buffer, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
	for (int i = 0; i < 40; i++) {
		size_t size = 20 + i * 40;

		send_datagram(udp.a, i, size);
		send_datagram(udp.a, i + 1, 50);
		EXPECT(recv(udp.b, buffer, 10, MSG_PEEK), 10);
		check_datagram(buffer, i, size < 3 ? size : 10);
		EXPECT(recv(udp.b, buffer, 10, MSG_PEEK | MSG_TRUNC), size);
		EXPECT(recv(udp.b, NULL, 0, MSG_PEEK | MSG_TRUNC), size);
		EXPECT(recv(udp.b, buffer, sizeof(buffer), MSG_PEEK), size);
		check_datagram(buffer, i, size);
		recv_datagram(udp.b, i, size);
		recv_datagram(udp.b, i + 1, 50);
	}
	udp_close(&udp);
}

/* FIONREAD gives the length of the next datagram. */
static void queued(void)
{
	struct udp udp;

	udp_connect(&udp);
	EXPECT(readable(udp.b), 0);
	for (int i = 0; i < 40; i++) {
		send_datagram(udp.a, i, 10 + i * 10);
		send_datagram(udp.a, i, 1000);
		EXPECT(readable(udp.b), 10 + i * 10);
		recv_datagram(udp.b, i, 10 + i * 10);
		EXPECT(readable(udp.b), 1000);
		recv_datagram(udp.b, i, 1000);
		EXPECT(readable(udp.b), 0);
	}
	udp_close(&udp);
}

static void polled(void)
{
	struct udp udp;
	fd_set set;
	struct timeval now = { 0, 0 };

	udp_connect(&udp);
	for (int i = 0; i < 100; i++) {
		EXPECT(poll_now(udp.b, POLLIN | POLLOUT), POLLOUT);
		send_datagram(udp.a, i, i * 10);
		EXPECT(poll_until(udp.b, POLLIN), POLLIN);
		FD_ZERO(&set);
		FD_SET(udp.b, &set);
		EXPECT(select(udp.b + 1, &set, NULL, NULL, &now), 1);
		recv_datagram(udp.b, i, i * 10);
		EXPECT(poll_now(udp.b, POLLIN), 0);
	}
	udp_close(&udp);
}

static uint32_t next_event(int epoll, int timeout)
{
	struct epoll_event event = { 0 };

	CHECK(epoll_wait(epoll, &event, 1, timeout) >= 0, "epoll_wait: %s", strerror(errno));
	return event.events;
}

static void epoll_edge(void)
{
	struct epoll_event interest = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct udp udp;
	char byte;

	udp_connect(&udp);
	EXPECT(epoll_ctl(epoll, EPOLL_CTL_ADD, udp.b, &interest), 0);
	for (int i = 0; i < 100; i++) {
		send_datagram(udp.a, i, i * 10);
		EXPECT(next_event(epoll, -1), EPOLLIN);
		EXPECT(next_event(epoll, 0), 0);
		send_datagram(udp.a, i, 20);
		EXPECT(next_event(epoll, -1), EPOLLIN);
		recv_datagram(udp.b, i, i * 10);
		recv_datagram(udp.b, i, 20);
		EXPECT_ERRNO(recv(udp.b, &byte, 1, MSG_DONTWAIT), EAGAIN);
		EXPECT(next_event(epoll, 0), 0);
	}
	EXPECT(close(epoll), 0);
	udp_close(&udp);
}

static void *send_later(void *argument)
{
	for (int i = 0; i < 50; i++) {
		sleep_ms(1);
		send_datagram(*(int *)argument, i, 30 + i);
	}
	return NULL;
}

static void blocking(void)
{
	struct udp udp;
	pthread_t thread;

	udp_connect(&udp);
	thread = start(send_later, &udp.a);
	for (int i = 0; i < 50; i++) {
		if (i % 2)
			EXPECT(poll_until(udp.b, POLLIN), POLLIN);
		recv_datagram(udp.b, i, 30 + i);
	}
	join(thread);
	udp_close(&udp);
}

static void timed(void)
{
	struct udp udp;
	char byte;

	udp_connect(&udp);
	set_timeout(udp.b, SO_RCVTIMEO, 30);
	EXPECT_ERRNO(recv(udp.b, &byte, 1, 0), EAGAIN);
	send_datagram(udp.a, 1, 100);
	recv_datagram(udp.b, 1, 100);
	EXPECT_ERRNO(recv(udp.b, &byte, 1, 0), EAGAIN);
	EXPECT_ERRNO(recv(udp.b, &byte, 1, MSG_PEEK), EAGAIN);
	set_timeout(udp.b, SO_RCVTIMEO, 0);
	set_nonblocking(udp.b, true);
	EXPECT_ERRNO(recv(udp.b, &byte, 1, 0), EAGAIN);
	send_datagram(udp.a, 3, 300);
	recv_datagram(udp.b, 3, 300);
	udp_close(&udp);
}

static volatile sig_atomic_t signals;

static void count(int number)
{
	signals += number == SIGUSR1;
}

struct sleeper {
	int fd;
	pid_t thread;
	ssize_t result;
	int error;
	char buffer[500];
};

static void *sleep_in_recv(void *argument)
{
	struct sleeper *sleeper = argument;

	__atomic_store_n(&sleeper->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	sleeper->result = recv(sleeper->fd, sleeper->buffer, sizeof(sleeper->buffer), 0);
	sleeper->error = errno;
	return NULL;
}

static void interrupted(void)
{
	for (int restart = 0; restart < 2; restart++) {
		struct sigaction action = { .sa_handler = count,
					    .sa_flags = restart ? SA_RESTART : 0 };
		struct sleeper sleeper = { 0 };
		struct udp udp;
		pthread_t thread;

		udp_connect(&udp);
		EXPECT(sigaction(SIGUSR1, &action, NULL), 0);
		signals = 0;
		sleeper.fd = udp.b;
		thread = start(sleep_in_recv, &sleeper);
		while (!__atomic_load_n(&sleeper.thread, __ATOMIC_SEQ_CST))
			sleep_ms(1);
		wait_asleep(sleeper.thread);
		sleep_ms(5);
		EXPECT(pthread_kill(thread, SIGUSR1), 0);
		while (!signals)
			sleep_ms(1);
		if (restart)
			send_datagram(udp.a, 5, 77);
		join(thread);
		EXPECT(sleeper.result, restart ? 77 : -1);
		if (restart)
			check_datagram(sleeper.buffer, 5, 77);
		else
			EXPECT(sleeper.error, EINTR);
		udp_close(&udp);
	}
}

static void bad_pointers(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct udp udp;

	udp_connect(&udp);
	EXPECT(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	EXPECT_ERRNO(send(udp.a, pages + 4096, 100, 0), EFAULT);
	EXPECT_ERRNO(send(udp.a, pages + 4000, 200, 0), EFAULT);
	EXPECT_ERRNO(recv(udp.b, pages, 1, MSG_DONTWAIT), EAGAIN);
	step("receive: the datagram is lost, the next one is not");
	for (int i = 0; i < 10; i++) {
		send_datagram(udp.a, i, 300);
		send_datagram(udp.a, i + 1, 300);
		EXPECT_ERRNO(recv(udp.b, pages + 4096, 300, MSG_PEEK), EFAULT);
		EXPECT_ERRNO(recv(udp.b, pages + 4000, 300, 0), EFAULT);
		recv_datagram(udp.b, i + 1, 300);
	}
	udp_close(&udp);
}

static void nothing_asked(void)
{
	struct udp udp;
	char byte;

	udp_connect(&udp);
	for (int i = 0; i < 10; i++) {
		send_datagram(udp.a, i, 50);
		send_datagram(udp.a, i, 0);
		send_datagram(udp.a, i + 1, 60);
		EXPECT(recv(udp.b, &byte, 0, 0), 0);
		EXPECT(recv(udp.b, &byte, 1, 0), 0);
		recv_datagram(udp.b, i + 1, 60);
	}
	udp_close(&udp);
}

/* A full queue drops, and what is in it stays right. */
static void overflow(void)
{
	struct udp udp;
	char buffer[1000];
	int got = 0;

	udp_connect(&udp);
	set_option(udp.b, SOL_SOCKET, SO_RCVBUF, 5000);
	for (int i = 0; i < 100; i++)
		send_datagram(udp.a, i, 500);
	while (recv(udp.b, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		check_datagram(buffer, got++, 500);
	CHECK(got > 0 && got < 100, "%d of 100 have arrived", got);
	send_datagram(udp.a, 1000, 500);
	recv_datagram(udp.b, 1000, 500);
	udp_close(&udp);
}

static void shut(void)
{
	struct udp udp;
	char byte;

	udp_connect(&udp);
	EXPECT(shutdown(udp.a, SHUT_RD), 0);
	EXPECT(recv(udp.a, &byte, 1, 0), 0);
	send_datagram(udp.a, 1, 100);
	recv_datagram(udp.b, 1, 100);
	EXPECT(shutdown(udp.a, SHUT_WR), 0);
	EXPECT_ERRNO(send(udp.a, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT_ERRNO(shutdown(udp.b, SHUT_RDWR), ENOTCONN);
	EXPECT(close(udp.a), 0);
	EXPECT(close(udp.b), 0);
}

const struct scenario udp_receive[] = {
	{ "udp_truncated", truncated, ONCE },
	{ "udp_peeked", peeked, ONCE },
	{ "udp_queued", queued, ONCE },
	{ "udp_polled", polled, ONCE },
	{ "udp_epoll_edge", epoll_edge, ONCE },
	{ "udp_blocking", blocking, ONCE },
	{ "udp_timed", timed, ONCE },
	{ "udp_interrupted", interrupted, ONCE },
	{ "udp_bad_pointers", bad_pointers, ONCE },
	{ "udp_nothing_asked", nothing_asked, ONCE },
	{ "udp_overflow", overflow, ONCE },
	{ "udp_shut", shut, ONCE },
	{ 0 },
};
