// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pattern.h"
#include "stress.h"

#define SIZE_MAX_SENT 9000
#define DNS_FLAGS     2
#define DNS_ANSWER    0x80

static int bound(int family, struct sockaddr_in6 *address, socklen_t *size)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memset(address, 0, sizeof(*address));
	address->sin6_family = family;
	*size = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(*address);
	if (family == AF_INET)
		((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		address->sin6_addr = in6addr_loopback;
	if (fd < 0 || bind(fd, (struct sockaddr *)address, *size) ||
	    getsockname(fd, (struct sockaddr *)address, size))
		failed("a UDP socket: %s", strerrorname_np(errno));
	return fd;
}

/* From one socket to the other, in a section: nothing is under way when sets change twice. */
static void one_datagram(struct slot *slot, struct random *random, int from, int to)
{
	char sent[SIZE_MAX_SENT], got[SIZE_MAX_SENT + 100];
	size_t size = rnd(random, chance(random, 2) ? 100 : SIZE_MAX_SENT);
	struct pollfd ready = { to, POLLIN, 0 };
	ssize_t count;

	pattern_fill(sent, random->state, 0, size);
	if (size > DNS_FLAGS)
		sent[DNS_FLAGS] &= ~DNS_ANSWER; /* a query, for dns_app_tag */
	enter_section(slot);
	if (send(from, sent, size, 0) != (ssize_t)size)
		failed("send of a datagram of %zu: %s", size, strerrorname_np(errno));
	if (chance(random, 3) && poll(&ready, 1, -1) != 1)
		failed("poll: %s", strerrorname_np(errno));
	count = recv(to, got, sizeof(got), 0);
	leave_section(slot);
	if (count != (ssize_t)size || memcmp(got, sent, size))
		failed("a datagram of %zu bytes came as one of %zd", size, count);
	__atomic_add_fetch(&slot->datagrams, 1, __ATOMIC_RELAXED);
}

void use_datagrams(struct slot *slot, struct random *random, int family)
{
	struct sockaddr_in6 addresses[2];
	socklen_t sizes[2];
	int fds[2] = { bound(family, &addresses[0], &sizes[0]),
		       bound(family, &addresses[1], &sizes[1]) };

	snprintf(slot->step[0], STEP_SIZE, "datagrams");
	slot->opened = now_ns();
	for (int i = 0; i < 2; i++)
		if (connect(fds[i], (struct sockaddr *)&addresses[!i], sizes[!i]))
			failed("connect: %s", strerrorname_np(errno));
	for (uint32_t i = rnd(random, 200); i; i--) {
		int from = chance(random, 2);

		one_datagram(slot, random, fds[from], fds[!from]);
	}
	close(fds[0]);
	close(fds[1]);
}
