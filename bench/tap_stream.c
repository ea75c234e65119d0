// SPDX-License-Identifier: GPL-2.0
/*
 * tap-stream: TCP for `make bench-tap`, between a server and a client of the same commands:
 *
 *   tap-stream receive PORT                 reads each connection to its end, one after the other
 *   tap-stream send ADDRESS PORT BYTES      prints what the transfer took
 *   tap-stream hold PORT                    answers a byte on each connection, and keeps them
 *   tap-stream open ADDRESS PORT COUNT      opens connections, says so, and keeps them
 *   tap-stream close ADDRESS PORT COUNT     makes and ends connections to `receive`, one by one
 *
 * Every 64th read is compared with what was sent: a tap that spoils bytes has no speed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE	    65536
#define CHECK_EVERY 64

/* What the receiver says when the sender's stream has ended. */
struct received {
	uint64_t bytes, cpu;
};

/* Twice, so that any piece of the stream is in one place. */
static unsigned char pattern[2 * PIECE];

static void fill_pattern(void)
{
	uint32_t state = 1;

	for (size_t i = 0; i < PIECE; i++) {
		state = state * 1664525 + 1013904223;
		pattern[i] = pattern[i + PIECE] = state >> 24;
	}
}

static void must(bool well, const char *what)
{
	if (!well)
		error(1, errno, "%s", what);
}

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static struct sockaddr_in address_of(const char *host, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		error(2, 0, "%s: no IPv4 address", host);
	return address;
}

static int listener(const char *port)
{
	struct sockaddr_in address = address_of("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	must(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(!bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
	must(!listen(fd, 4096), "listen");
	return fd;
}

static int accepted(int listening)
{
	int fd = accept(listening, NULL, NULL);

	must(fd >= 0, "accept");
	return fd;
}

static int connected(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	must(fd >= 0, "socket");
	must(!connect(fd, (const struct sockaddr *)address, sizeof(*address)), "connect");
	return fd;
}

static uint64_t read_to_end(int fd)
{
	static unsigned char buffer[PIECE];
	uint64_t bytes = 0, reads = 0;
	ssize_t size;

	while ((size = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		if (reads++ % CHECK_EVERY == 0 && memcmp(buffer, pattern + bytes % PIECE, size))
			error(1, 0, "the read at byte %lu is not what was sent", bytes);
		bytes += size;
	}
	must(!size, "recv");
	return bytes;
}

static void receive(const char *port)
{
	int listening = listener(port);

	for (;;) {
		int fd = accepted(listening);
		uint64_t before = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
		struct received told = { .bytes = read_to_end(fd) };

		told.cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - before;
		if (told.bytes)
			must(send(fd, &told, sizeof(told), 0) == sizeof(told), "send");
		close(fd);
	}
}

static struct tcp_info info_of(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	must(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), "TCP_INFO");
	return info;
}

static void send_bytes(int fd, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes;) {
		uint64_t left = bytes - done, size = left < PIECE ? left : PIECE;
		ssize_t sent = send(fd, pattern + done % PIECE, size, 0);

		must(sent > 0, "send");
		done += sent;
	}
	must(!shutdown(fd, SHUT_WR), "shutdown");
}

static void send_stream(const struct sockaddr_in *address, uint64_t bytes)
{
	uint64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), begin = nanoseconds(CLOCK_MONOTONIC);
	int fd = connected(address);
	struct received told;
	struct tcp_info info;

	send_bytes(fd, bytes);
	cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	must(recv(fd, &told, sizeof(told), MSG_WAITALL) == sizeof(told), "recv");
	begin = nanoseconds(CLOCK_MONOTONIC) - begin;
	if (told.bytes != bytes)
		error(1, 0, "%lu of %lu bytes arrived", told.bytes, bytes);
	info = info_of(fd); /* SYN and FIN are counted as bytes, too */
	printf("bytes=%lu wire=%llu acks=%u ns=%lu sender=%lu receiver=%lu\n", bytes,
	       info.tcpi_bytes_acked - 2, info.tcpi_segs_in, begin, cpu, told.cpu);
	close(fd);
}

/* A connection is known by its first byte; none of them is ever closed here. */
static void hold(const char *port)
{
	int listening = listener(port);

	for (;;) {
		int fd = accepted(listening);
		char byte;

		must(recv(fd, &byte, 1, 0) == 1 && send(fd, &byte, 1, 0) == 1, "answer");
	}
}

static void open_connections(const struct sockaddr_in *address, int count)
{
	char byte = 'x';

	for (int i = 0; i < count; i++) {
		int fd = connected(address);

		must(send(fd, &byte, 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1, "ask");
	}
	puts("open");
	fflush(stdout);
	pause();
}

static void close_connections(const struct sockaddr_in *address, int count)
{
	uint64_t begin = nanoseconds(CLOCK_MONOTONIC);

	for (int i = 0; i < count; i++) {
		int fd = connected(address);
		char byte;

		must(!shutdown(fd, SHUT_WR) && !recv(fd, &byte, 1, 0), "end");
		close(fd);
	}
	printf("count=%d ns=%lu\n", count, nanoseconds(CLOCK_MONOTONIC) - begin);
}

int main(int count, char **words)
{
	struct sockaddr_in address;

	fill_pattern();
	if (count == 3 && !strcmp(words[1], "receive"))
		receive(words[2]);
	if (count == 3 && !strcmp(words[1], "hold"))
		hold(words[2]);
	if (count != 5)
		error(2, 0, "wrong words; the source's first lines have them");
	address = address_of(words[2], words[3]);
	if (!strcmp(words[1], "send"))
		send_stream(&address, strtoull(words[4], NULL, 10));
	else if (!strcmp(words[1], "open"))
		open_connections(&address, atoi(words[4]));
	else if (!strcmp(words[1], "close"))
		close_connections(&address, atoi(words[4]));
	else
		error(2, 0, "%s: no such command", words[1]);
	return 0;
}
