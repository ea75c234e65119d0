// SPDX-License-Identifier: GPL-2.0
/*
 * tap-datagram: DNS queries over UDP for `make bench-tap`, one after the other's answer:
 *
 *   tap-datagram ask ADDRESS PORT COUNT     prints what COUNT queries and answers took
 *   tap-datagram answer PORT                sends each datagram back, with the bit of an answer
 */
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define DATAGRAM 1500
#define FLAGS	 2 /* offset of the byte with the bit QR */
#define ANSWER	 0x80
#define PATIENCE 10 /* seconds; a query that is lost ends it */

/* A of bench.example, recursion desired (RFC 1035, 4.1). */
static const unsigned char question[] = "\0\0\1\0\0\1\0\0\0\0\0\0\5bench\7example\0\0\1\0";

static void must(bool well, const char *what)
{
	if (!well)
		error(1, errno, "%s", what);
}

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void ask_once(int fd, uint16_t id)
{
	unsigned char query[sizeof(question)], answer[DATAGRAM];
	ssize_t size;

	memcpy(query, question, sizeof(query));
	query[0] = id >> 8;
	query[1] = id;
	must(send(fd, query, sizeof(query), 0) == sizeof(query), "send");
	size = recv(fd, answer, sizeof(answer), 0);
	must(size > 0, "recv");
	if (size < (ssize_t)sizeof(query) || memcmp(answer, query, 2) || !(answer[FLAGS] & ANSWER))
		error(1, 0, "answer %u is none to the query: %zd bytes", id, size);
}

static void ask(const char *host, const char *port, int count)
{
	struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	struct timeval patience = { .tv_sec = PATIENCE };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t begin;

	must(fd >= 0, "socket");
	if (inet_pton(AF_INET, host, &server.sin_addr) != 1)
		error(2, 0, "%s: no IPv4 address", host);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	must(!connect(fd, (struct sockaddr *)&server, sizeof(server)), "connect");
	begin = nanoseconds();
	for (int i = 0; i < count; i++)
		ask_once(fd, i);
	printf("count=%d ns=%lu\n", count, nanoseconds() - begin);
}

static void answer(const char *port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	must(fd >= 0 && !bind(fd, (struct sockaddr *)&any, sizeof(any)), "bind");
	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		unsigned char bytes[DATAGRAM];
		ssize_t size =
			recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &length);

		must(size > FLAGS, "recvfrom");
		bytes[FLAGS] |= ANSWER;
		must(sendto(fd, bytes, size, 0, (struct sockaddr *)&from, length) == size,
		     "sendto");
	}
}

int main(int count, char **words)
{
	if (count == 5 && !strcmp(words[1], "ask"))
		ask(words[2], words[3], atoi(words[4]));
	else if (count == 3 && !strcmp(words[1], "answer"))
		answer(words[2]);
	else
		error(2, 0, "wrong words; the source's first lines have them");
	return 0;
}
