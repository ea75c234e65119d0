// SPDX-License-Identifier: GPL-2.0
/* How much a receive gives, and when: time limits, low water, MSG_WAITALL, MSG_TRUNC. */
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "sockets.h"

static void *write_later(void *argument)
{
	sleep_ms(20);
	write_bytes(argument, 100);
	return NULL;
}

static void receive_timeout(void)
{
	struct pair pair;
	pthread_t writer;
	char byte;

	open_pair(&pair);
	set_timeout(pair.b.fd, SO_RCVTIMEO, 50);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, 0), EAGAIN);
	write_bytes(&pair.a, 10);
	read_bytes(&pair.b, 10);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, 0), EAGAIN);
	step("what came is given when the time is over");
	write_bytes(&pair.a, 7);
	recv_wanted(&pair.b, 100, MSG_WAITALL, 7);
	step("what comes in time");
	set_timeout(pair.b.fd, SO_RCVTIMEO, 60000);
	writer = start(write_later, &pair.a);
	read_bytes(&pair.b, 100);
	join(writer);
	finish(&pair);
}

/* A send that has no room any more gives what it has sent when its time is over. */
static void send_timeout(void)
{
	const size_t size = 4 * 1024 * 1024;
	char *buffer = malloc(size);
	struct pair pair;
	ssize_t sent;

	open_pair_buffered(&pair, 20000, 20000);
	set_timeout(pair.a.fd, SO_SNDTIMEO, 50);
	next_bytes(&pair.a, buffer, 0, size);
	sent = send(pair.a.fd, buffer, size, 0);
	CHECK(sent > 0 && (size_t)sent < size, "send: %zd %s", sent, strerrorname_np(errno));
	pair.a.written += sent;
	next_bytes(&pair.a, buffer, 0, 5000);
	while ((sent = send(pair.a.fd, buffer, 5000, 0)) > 0) {
		pair.a.written += sent;
		next_bytes(&pair.a, buffer, 0, 5000);
	}
	CHECK(errno == EAGAIN, "send: expected EAGAIN, got %s", strerrorname_np(errno));
	step("read what was sent");
	read_bytes(&pair.b, pair.a.written - pair.b.read);
	EXPECT_ERRNO(recv(pair.b.fd, buffer, 1, MSG_DONTWAIT), EAGAIN);
	write_bytes(&pair.a, 3000);
	read_bytes(&pair.b, 3000);
	free(buffer);
	finish(&pair);
}

static void low_water(void)
{
	struct pair pair;

	open_pair(&pair);
	set_option(pair.b.fd, SOL_SOCKET, SO_RCVLOWAT, 100);
	EXPECT(get_option(pair.b.fd, SOL_SOCKET, SO_RCVLOWAT), 100);
	write_bytes(&pair.a, 99);
	wait_readable(&pair.b, 99);
	EXPECT(poll_now(pair.b.fd, POLLIN), 0);
	step("one more");
	write_bytes(&pair.a, 1);
	EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
	EXPECT(readable(pair.b.fd), 100);
	recv_wanted(&pair.b, 1000, 0, 100);
	step("a nonblocking receive gives less");
	write_bytes(&pair.a, 50);
	wait_readable(&pair.b, 50);
	recv_wanted(&pair.b, 1000, MSG_DONTWAIT, 50);
	step("back to 1");
	set_option(pair.b.fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	write_bytes(&pair.a, 1);
	EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
	finish(&pair);
}

static void *write_by_tens(void *argument)
{
	for (int i = 0; i < 50; i++) {
		write_bytes(argument, 10);
		sleep_ms(1);
	}
	return NULL;
}

/* A blocking receive waits for the low water. */
static void low_water_blocking(void)
{
	struct pair pair;
	pthread_t writer;
	char buffer[1000];
	ssize_t got;

	open_pair(&pair);
	set_option(pair.b.fd, SOL_SOCKET, SO_RCVLOWAT, 400);
	writer = start(write_by_tens, &pair.a);
	got = recv(pair.b.fd, buffer, sizeof(buffer), 0);
	CHECK(got >= 400, "recv with low water 400: %zd", got);
	took(&pair.b, buffer, got);
	join(writer);
	step("less is asked for than the low water");
	read_pieces(&pair.b, 500 - pair.b.read, 10);
	step("the end comes before the low water");
	write_bytes(&pair.a, 5);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
	recv_wanted(&pair.b, 1000, 0, 5);
	finish(&pair);
}

static void *write_in_pieces(void *argument)
{
	for (int i = 0; i < 20; i++) {
		write_pieces(argument, 5000, 700);
		sleep_ms(1);
	}
	return NULL;
}

static void wait_all(void)
{
	struct pair pair;
	pthread_t writer;

	open_pair(&pair);
	writer = start(write_in_pieces, &pair.a);
	recv_wanted(&pair.b, 5, MSG_WAITALL, 5);
	recv_wanted(&pair.b, 59995, MSG_WAITALL, 59995);
	recv_wanted(&pair.b, 40000, MSG_WAITALL, 40000);
	join(writer);
	step("the end comes first");
	write_bytes(&pair.a, 100);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	recv_wanted(&pair.b, 1000, MSG_WAITALL, 100);
	recv_wanted(&pair.b, 1000, MSG_WAITALL, 0);
	finish(&pair);
}

static void wait_all_dont_wait(void)
{
	struct pair pair;
	char byte;

	open_pair(&pair);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_WAITALL | MSG_DONTWAIT), EAGAIN);
	write_bytes(&pair.a, 100);
	wait_readable(&pair.b, 100);
	recv_wanted(&pair.b, 1000, MSG_WAITALL | MSG_DONTWAIT, 100);
	finish(&pair);
}

static void dont_wait(void)
{
	struct pair pair;
	char byte;

	open_pair(&pair);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
	write_bytes(&pair.a, 100);
	wait_readable(&pair.b, 100);
	recv_wanted(&pair.b, 60, MSG_DONTWAIT, 60);
	recv_wanted(&pair.b, 60, MSG_DONTWAIT, 40);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	EXPECT(poll_until(pair.b.fd, POLLIN), POLLIN);
	recv_wanted(&pair.b, 60, MSG_DONTWAIT, 0);
	finish(&pair);
}

/* On TCP MSG_TRUNC throws bytes away, and the buffer is not touched. */
static void truncate_stream(void)
{
	struct pair pair;
	char buffer[1000];

	open_pair(&pair);
	write_bytes(&pair.a, 3000);
	wait_readable(&pair.b, 3000);
	memset(buffer, 'x', sizeof(buffer));
	EXPECT(recv(pair.b.fd, buffer, 500, MSG_TRUNC), 500);
	for (int i = 0; i < 500; i++)
		CHECK(buffer[i] == 'x', "MSG_TRUNC has written byte %d", i);
	pair.b.read += 500;
	recv_wanted(&pair.b, 100, 0, 100);
	EXPECT(recv(pair.b.fd, NULL, 400, MSG_TRUNC | MSG_WAITALL), 400);
	pair.b.read += 400;
	read_bytes(&pair.b, 2000);
	EXPECT_ERRNO(recv(pair.b.fd, buffer, 1, MSG_TRUNC | MSG_DONTWAIT), EAGAIN);
	finish(&pair);
}

static void queued(void)
{
	struct pair pair;
	int unsent;

	open_pair(&pair);
	EXPECT(readable(pair.b.fd), 0);
	for (int i = 1; i < 60; i++) {
		write_bytes(&pair.a, i * 37);
		wait_readable(&pair.b, i * 37);
		read_bytes(&pair.b, i * 20);
		EXPECT(readable(pair.b.fd), i * 17);
		read_bytes(&pair.b, i * 17);
		EXPECT(readable(pair.b.fd), 0);
	}
	step("SIOCOUTQ");
	do
		EXPECT(ioctl(pair.a.fd, SIOCOUTQ, &unsent), 0);
	while (unsent);
	EXPECT(ioctl(pair.a.fd, SIOCOUTQNSD, &unsent), 0);
	EXPECT(unsent, 0);
	step("much");
	write_bytes(&pair.a, 40000);
	wait_readable(&pair.b, 40000);
	finish(&pair);
}

/* TCP_INQ as a message: how much is left after this receive, at least. */
static void in_queue_message(void)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char buffer[100];
	struct iovec vector = { buffer, sizeof(buffer) };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct pair pair;
	int left;

	open_pair(&pair);
	set_option(pair.b.fd, IPPROTO_TCP, TCP_INQ, 1);
	write_bytes(&pair.a, 1000);
	wait_readable(&pair.b, 1000);
	EXPECT(recvmsg(pair.b.fd, &message, 0), 100);
	took(&pair.b, buffer, 100);
	if (CMSG_FIRSTHDR(&message)) {
		memcpy(&left, CMSG_DATA(&control.head), sizeof(left));
		EXPECT(control.head.cmsg_type, TCP_CM_INQ);
		EXPECT(left, 900);
	} else {
		CHECK(setting.customized, "no TCP_CM_INQ");
	}
	finish(&pair);
}

/* recvmsg and recvfrom say nothing of an address and of control data. */
static void message_fields(void)
{
	char buffer[100], control[100];
	union address name;
	struct iovec vector = { buffer, sizeof(buffer) };
	struct msghdr message = { .msg_name = &name,
				  .msg_namelen = sizeof(name),
				  .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct pair pair;
	socklen_t size = sizeof(name);

	open_pair(&pair);
	write_bytes(&pair.a, 150);
	wait_readable(&pair.b, 150);
	EXPECT(recvmsg(pair.b.fd, &message, 0), 100);
	took(&pair.b, buffer, 100);
	EXPECT(message.msg_namelen, 0);
	EXPECT(message.msg_controllen, 0);
	EXPECT(message.msg_flags, 0);
	EXPECT(recvfrom(pair.b.fd, buffer, 100, 0, &name.any, &size), 50);
	took(&pair.b, buffer, 50);
	EXPECT(size, 0);
	finish(&pair);
}

const struct scenario tcp_receive[] = {
	{ "tcp_receive_timeout", receive_timeout, BOTH_WAYS },
	{ "tcp_send_timeout", send_timeout, BOTH_WAYS },
	{ "tcp_low_water", low_water, BOTH_WAYS },
	{ "tcp_low_water_blocking", low_water_blocking, BOTH_WAYS },
	{ "tcp_wait_all", wait_all, BOTH_WAYS },
	{ "tcp_wait_all_dont_wait", wait_all_dont_wait, BOTH_WAYS },
	{ "tcp_dont_wait", dont_wait, BOTH_WAYS },
	{ "tcp_truncate", truncate_stream, BOTH_WAYS },
	{ "tcp_queued", queued, BOTH_WAYS },
	{ "tcp_in_queue_message", in_queue_message, BOTH_WAYS },
	{ "tcp_message_fields", message_fields, BOTH_WAYS },
	{ 0 },
};
