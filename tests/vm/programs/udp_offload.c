// SPDX-License-Identifier: GPL-2.0
/* Datagrams that are put together or taken apart by the kernel. */
#include <netinet/udp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "udp.h"

#define SEGMENT 500

static void send_flagged(int fd, const char *buffer, size_t size, int flags)
{
	EXPECT(send(fd, buffer, size, flags), size);
}

/* Parts with MSG_MORE, or while corked, make one datagram. */
static void more(void)
{
	char buffer[3000];
	struct udp udp;

	udp_connect(&udp);
	for (int i = 0; i < 40; i++) {
		size_t first = i * 7, second = 100 + i * 11;

		step("MSG_MORE %d", i);
		datagram(buffer, i, first + second + 10);
		send_flagged(udp.a, buffer, first, MSG_MORE);
		send_flagged(udp.a, buffer + first, second, MSG_MORE);
		EXPECT_ERRNO(recv(udp.b, buffer, 0, MSG_DONTWAIT), EAGAIN);
		send_flagged(udp.a, buffer + first + second, 10, 0);
		recv_datagram(udp.b, i, first + second + 10);
		step("cork %d", i);
		set_option(udp.a, IPPROTO_UDP, UDP_CORK, 1);
		EXPECT(get_option(udp.a, IPPROTO_UDP, UDP_CORK), 1);
		send_flagged(udp.a, buffer, first, 0);
		send_flagged(udp.a, buffer + first, second + 10, 0);
		EXPECT_ERRNO(recv(udp.b, buffer, 0, MSG_DONTWAIT), EAGAIN);
		set_option(udp.a, IPPROTO_UDP, UDP_CORK, 0);
		recv_datagram(udp.b, i, first + second + 10);
		send_datagram(udp.a, i, 50);
		recv_datagram(udp.b, i, 50);
	}
	udp_close(&udp);
}

static void more_to_address(void)
{
	char buffer[1000];
	struct udp udp;

	udp_open(&udp);
	for (int i = 0; i < 10; i++) {
		datagram(buffer, i, 300);
		EXPECT(sendto(udp.a, buffer, 100, MSG_MORE, &udp.to_b.any, udp.to_b_size), 100);
		EXPECT(sendto(udp.a, buffer + 100, 200, 0, &udp.to_b.any, udp.to_b_size), 200);
		recv_datagram(udp.b, i, 300);
	}
	udp_close(&udp);
}

/* What is too big when it has been put together is refused, and forgotten. */
static void more_too_big(void)
{
	char *buffer = calloc(1, 40000);
	struct udp udp;

	udp_connect(&udp);
	send_flagged(udp.a, buffer, 40000, MSG_MORE);
	EXPECT_ERRNO(send(udp.a, buffer, 40000, 0), EMSGSIZE);
	send_datagram(udp.a, 3, 100);
	recv_datagram(udp.b, 3, 100);
	free(buffer);
	udp_close(&udp);
}

static void fill_segments(char *buffer, uint64_t number, size_t size)
{
	for (size_t at = 0; at < size; at += SEGMENT)
		datagram(buffer + at, number++, size - at < SEGMENT ? size - at : SEGMENT);
}

static void recv_segments(int fd, uint64_t number, size_t size)
{
	for (size_t at = 0; at < size; at += SEGMENT)
		recv_datagram(fd, number++, size - at < SEGMENT ? size - at : SEGMENT);
}

static ssize_t send_segmented(int fd, char *buffer, size_t size)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(uint16_t))];
	} control = { .head = { CMSG_LEN(sizeof(uint16_t)), IPPROTO_UDP, UDP_SEGMENT } };
	struct iovec vector = { buffer, size };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	uint16_t segment = SEGMENT;

	memcpy(CMSG_DATA(&control.head), &segment, sizeof(segment));
	return sendmsg(fd, &message, 0);
}

/* One send, many datagrams. */
static void segmented(void)
{
	static const size_t lengths[] = { 1,	499,  500,  501,   1000,  1001,
					  2500, 5432, 9999, 15000, 20000, 30000 };
	char *buffer = malloc(30000);
	struct udp udp;

	udp_connect(&udp);
	set_option(udp.b, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	for (int i = 0; i < 12; i++) {
		step("by control message, %zu bytes", lengths[i]);
		fill_segments(buffer, i, lengths[i]);
		EXPECT(send_segmented(udp.a, buffer, lengths[i]), lengths[i]);
		recv_segments(udp.b, i, lengths[i]);
	}
	set_option(udp.a, IPPROTO_UDP, UDP_SEGMENT, SEGMENT);
	EXPECT(get_option(udp.a, IPPROTO_UDP, UDP_SEGMENT), SEGMENT);
	for (int i = 0; i < 12; i++) {
		step("by option, %zu bytes", lengths[i]);
		fill_segments(buffer, i + 50, lengths[i]);
		EXPECT(send(udp.a, buffer, lengths[i], 0), lengths[i]);
		recv_segments(udp.b, i + 50, lengths[i]);
	}
	set_option(udp.a, IPPROTO_UDP, UDP_SEGMENT, 0);
	step("whole again");
	send_datagram(udp.a, 1, 5000);
	recv_datagram(udp.b, 1, 5000);
	free(buffer);
	udp_close(&udp);
}

/* Receive one or many datagrams at once, as the kernel likes; return how many bytes. */
static size_t recv_coalesced(int fd, uint64_t *number, char *buffer, size_t size)
{
	char control[100];
	struct iovec vector = { buffer, size };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(fd, &message, 0), at = 0;
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	int segment = got;

	CHECK(got > 0, "recvmsg: %s", strerrorname_np(errno));
	if (head && head->cmsg_level == IPPROTO_UDP && head->cmsg_type == UDP_GRO)
		memcpy(&segment, CMSG_DATA(head), sizeof(segment));
	for (; at < got; at += segment)
		check_datagram(buffer + at, (*number)++, got - at < segment ? got - at : segment);
	return got;
}

static void coalesced(void)
{
	const size_t size = 12300;
	char *buffer = malloc(65536);
	struct udp udp;

	udp_connect(&udp);
	set_option(udp.b, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	set_option(udp.b, IPPROTO_UDP, UDP_GRO, 1);
	for (int i = 0; i < 20; i++) {
		uint64_t number = i;

		fill_segments(buffer, i, size);
		EXPECT(send_segmented(udp.a, buffer, size), size);
		for (size_t left = size; left;)
			left -= recv_coalesced(udp.b, &number, buffer, 65536);
		send_datagram(udp.a, i, 200);
		recv_datagram(udp.b, i, 200);
	}
	free(buffer);
	udp_close(&udp);
}

/* A file, or what is in a pipe, in a datagram. It fits a page: what the kernel makes of more
 * depends on its version. */
static void from_file(void)
{
	int file = memfd_create("sockets", MFD_CLOEXEC), fds[2];
	char buffer[4000];
	struct udp udp;

	udp_connect(&udp);
	EXPECT(pipe2(fds, O_CLOEXEC), 0);
	for (int i = 0; i < 20; i++) {
		off_t offset = 0;
		size_t size = 100 + i * 150;

		step("sendfile %d", i);
		datagram(buffer, i, size);
		EXPECT(pwrite(file, buffer, size, 0), size);
		EXPECT(ftruncate(file, size), 0);
		EXPECT(sendfile(udp.a, file, &offset, size), size);
		recv_datagram(udp.b, i, size);
		step("splice %d", i);
		EXPECT(write(fds[1], buffer, size), size);
		EXPECT(splice(fds[0], NULL, udp.a, NULL, size, 0), size);
		recv_datagram(udp.b, i, size);
		send_datagram(udp.a, i, 50);
		recv_datagram(udp.b, i, 50);
	}
	EXPECT(close(file), 0);
	EXPECT(close(fds[0]), 0);
	EXPECT(close(fds[1]), 0);
	udp_close(&udp);
}

static void zero_copy(void)
{
	char buffer[8000], control[200];
	struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct udp udp;

	udp_connect(&udp);
	set_option(udp.a, SOL_SOCKET, SO_ZEROCOPY, 1);
	for (int i = 0; i < 20; i++) {
		datagram(buffer, i, sizeof(buffer));
		if (send(udp.a, buffer, sizeof(buffer), MSG_ZEROCOPY) < 0) {
			CHECK(setting.customized && errno == EOPNOTSUPP, "MSG_ZEROCOPY: %s",
			      strerrorname_np(errno));
			break;
		}
		recv_datagram(udp.b, i, sizeof(buffer));
		step("notification %d", i);
		CHECK(poll_until(udp.a, 0) & POLLERR, "no POLLERR");
		message.msg_controllen = sizeof(control);
		EXPECT(recvmsg(udp.a, &message, MSG_ERRQUEUE), 0);
	}
	send_datagram(udp.a, 1, 100);
	recv_datagram(udp.b, 1, 100);
	udp_close(&udp);
}

/* UDP-Lite shares operations with UDP in the kernel, but is not UDP. */
static void lite(void)
{
	union address address;
	socklen_t size = loopback(&address, true, 0);
	int a, b = socket(setting.family, SOCK_DGRAM, IPPROTO_UDPLITE);

	if (b < 0)
		skip("no UDP-Lite: %s", strerrorname_np(errno));
	EXPECT(bind(b, &address.any, size), 0);
	size = loopback(&address, false, port_of(b));
	a = socket(address.any.sa_family, SOCK_DGRAM, IPPROTO_UDPLITE);
	EXPECT(connect(a, &address.any, size), 0);
	for (int i = 0; i < 50; i++) {
		send_datagram(a, i, 10 + i * 20);
		recv_datagram(b, i, 10 + i * 20);
	}
	EXPECT(close(a), 0);
	EXPECT(close(b), 0);
}

const struct scenario udp_offload[] = {
	{ "udp_more", more, ONCE },
	{ "udp_more_to_address", more_to_address, ONCE },
	{ "udp_more_too_big", more_too_big, ONCE },
	{ "udp_segmented", segmented, ONCE },
	{ "udp_coalesced", coalesced, ONCE },
	{ "udp_from_file", from_file, ONCE },
	{ "udp_zero_copy", zero_copy, ONCE },
	{ "udp_lite", lite, ONCE },
	{ 0 },
};
