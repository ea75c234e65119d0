// SPDX-License-Identifier: GPL-2.0
#include "udp.h"

#define SEED	   0x9000
#define DNS_FLAGS  2
#define DNS_ANSWER 0x80

int udp_bound(union address *address, socklen_t *size)
{
	int fd = socket(setting.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0, "socket: %s", strerror(errno));
	*size = loopback(address, true, 0);
	EXPECT(bind(fd, &address->any, *size), 0);
	*size = loopback(address, false, port_of(fd));
	return fd;
}

/* What the other end sees: IPv4 as a mapped address where it is a socket of IPv6. */
static void seen_address(union address *address, int fd)
{
	socklen_t size = sizeof(*address);
	struct in_addr v4;
	uint16_t port;

	memset(address, 0, sizeof(*address));
	EXPECT(getsockname(fd, &address->any, &size), 0);
	if (!setting.dual)
		return;
	v4 = address->v4.sin_addr;
	port = address->v4.sin_port;
	memset(address, 0, sizeof(*address));
	address->v6.sin6_family = AF_INET6;
	address->v6.sin6_port = port;
	address->v6.sin6_addr.s6_addr16[5] = 0xffff;
	address->v6.sin6_addr.s6_addr32[3] = v4.s_addr;
}

void udp_open(struct udp *udp)
{
	union address any;
	socklen_t size;

	udp->b = udp_bound(&udp->to_b, &udp->to_b_size);
	udp->a = client_socket(SOCK_DGRAM);
	size = loopback(&any, false, 0);
	EXPECT(bind(udp->a, &any.any, size), 0);
	seen_address(&udp->from_a, udp->a);
}

void udp_connect(struct udp *udp)
{
	udp_open(udp);
	EXPECT(connect(udp->a, &udp->to_b.any, udp->to_b_size), 0);
	seen_address(&udp->from_a, udp->a);
}

void udp_close(struct udp *udp)
{
	char byte;

	EXPECT_ERRNO(recv(udp->a, &byte, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT_ERRNO(recv(udp->b, &byte, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT(close(udp->a), 0);
	EXPECT(close(udp->b), 0);
}

void datagram(char *buffer, uint64_t number, size_t size)
{
	pattern_fill(buffer, SEED + number, 0, size);
	if (size > DNS_FLAGS && number % 2)
		buffer[DNS_FLAGS] &= ~DNS_ANSWER;
	else if (size > DNS_FLAGS)
		buffer[DNS_FLAGS] |= DNS_ANSWER;
}

void check_datagram(const char *buffer, uint64_t number, size_t size)
{
	char *wanted = malloc(size + 1);
	size_t wrong = 0;

	datagram(wanted, number, size);
	while (wrong < size && buffer[wrong] == wanted[wrong])
		wrong++;
	CHECK(wrong == size, "datagram %lu of %zu bytes: byte %zu is wrong: %02x", number, size,
	      wrong, (unsigned char)buffer[wrong]);
	free(wanted);
}

void send_datagram(int fd, uint64_t number, size_t size)
{
	char *buffer = malloc(size + 1);

	datagram(buffer, number, size);
	EXPECT(send(fd, buffer, size, 0), size);
	free(buffer);
}

void recv_datagram(int fd, uint64_t number, size_t size)
{
	char *buffer = malloc(DATAGRAM_MAX + 100);

	EXPECT(recv(fd, buffer, DATAGRAM_MAX + 100, 0), size);
	check_datagram(buffer, number, size);
	free(buffer);
}

void check_address(const union address *got, socklen_t size, const union address *wanted)
{
	bool is_v4 = wanted->any.sa_family == AF_INET;

	EXPECT(size, is_v4 ? sizeof(wanted->v4) : sizeof(wanted->v6));
	EXPECT(got->any.sa_family, wanted->any.sa_family);
	if (is_v4)
		CHECK(got->v4.sin_port == wanted->v4.sin_port &&
			      got->v4.sin_addr.s_addr == wanted->v4.sin_addr.s_addr,
		      "from %08x:%d", ntohl(got->v4.sin_addr.s_addr), ntohs(got->v4.sin_port));
	else
		CHECK(got->v6.sin6_port == wanted->v6.sin6_port &&
			      IN6_ARE_ADDR_EQUAL(&got->v6.sin6_addr, &wanted->v6.sin6_addr),
		      "from another address, port %d", ntohs(got->v6.sin6_port));
}
