// SPDX-License-Identifier: GPL-2.0
/* The calls that send and receive, with many vectors, and what holds bytes back. */
#include <limits.h>
#include <netinet/tcp.h>
#include <sys/uio.h>

#include "sockets.h"

#define VECTORS 1024 /* UIO_MAXIOV */

/* Cut `size` bytes of a buffer into vectors of odd lengths, every third of them empty. */
static size_t cut(char *buffer, struct iovec *vectors, size_t size)
{
	size_t at = 0;

	for (int i = 0; i < VECTORS; i++) {
		size_t now = i % 3 == 1 ? 0 : 1 + pattern_mix(i) % (size / VECTORS);

		vectors[i] = (struct iovec){ buffer + at, now };
		at += now;
	}
	return at;
}

static void *read_until_end(void *argument)
{
	read_to_end(argument);
	return NULL;
}

static void write_vectors(struct pair *pair, size_t size, bool as_message)
{
	char *buffer = malloc(size);
	struct iovec vectors[VECTORS];
	struct msghdr message = { .msg_iov = vectors, .msg_iovlen = VECTORS };
	size_t whole = cut(buffer, vectors, size);

	next_bytes(&pair->a, buffer, 0, whole);
	EXPECT(as_message ? sendmsg(pair->a.fd, &message, 0) : writev(pair->a.fd, vectors, VECTORS),
	       whole);
	pair->a.written += whole;
	free(buffer);
}

static void gather(void)
{
	static const size_t sizes[] = { 2 * VECTORS, 70000, 3000000 };
	struct pair pair;
	pthread_t reader;

	open_pair(&pair);
	reader = start(read_until_end, &pair.b);
	for (int i = 0; i < 6; i++) {
		step("%zu bytes by %s", sizes[i / 2], i % 2 ? "sendmsg" : "writev");
		write_vectors(&pair, sizes[i / 2], i % 2);
	}
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	join(reader);
	finish(&pair);
}

static void scatter(void)
{
	const size_t size = 70000;
	char *buffer = malloc(size);
	struct iovec vectors[VECTORS];
	struct msghdr message = { .msg_iov = vectors, .msg_iovlen = VECTORS };
	size_t whole = cut(buffer, vectors, size);
	struct pair pair;

	open_pair(&pair);
	write_bytes(&pair.a, 2 * whole);
	step("recvmsg");
	EXPECT(recvmsg(pair.b.fd, &message, MSG_WAITALL), whole);
	took(&pair.b, buffer, whole);
	EXPECT(message.msg_flags & ~MSG_EOR, 0);
	step("readv");
	wait_readable(&pair.b, whole);
	EXPECT(readv(pair.b.fd, vectors, VECTORS), whole);
	took(&pair.b, buffer, whole);
	free(buffer);
	finish(&pair);
}

static void too_many_vectors(void)
{
	static struct iovec vectors[VECTORS + 1];
	struct msghdr message = { .msg_iov = vectors, .msg_iovlen = VECTORS + 1 };
	struct pair pair;

	open_pair(&pair);
	EXPECT_ERRNO(sendmsg(pair.a.fd, &message, 0), EMSGSIZE);
	EXPECT_ERRNO(writev(pair.a.fd, vectors, VECTORS + 1), EINVAL);
	EXPECT_ERRNO(recvmsg(pair.b.fd, &message, 0), EMSGSIZE);
	write_bytes(&pair.a, 10);
	read_bytes(&pair.b, 10);
	finish(&pair);
}

static void nothing(void)
{
	struct pair pair;
	char byte;

	open_pair(&pair);
	step("send nothing");
	EXPECT(send(pair.a.fd, &byte, 0, 0), 0);
	EXPECT(write(pair.a.fd, &byte, 0), 0);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT(poll_now(pair.b.fd, POLLIN), 0);
	step("receive nothing");
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 0, MSG_DONTWAIT), EAGAIN);
	write_bytes(&pair.a, 3);
	wait_readable(&pair.b, 3);
	EXPECT(recv(pair.b.fd, &byte, 0, 0), 0);
	read_bytes(&pair.b, 3);
	finish(&pair);
}

#define MESSAGES 20

static void many_messages(void)
{
	static char buffers[MESSAGES][3000];
	struct mmsghdr messages[MESSAGES] = { 0 };
	struct iovec vectors[MESSAGES];
	struct pair pair;
	size_t whole = 0;

	open_pair(&pair);
	for (int i = 0; i < MESSAGES; i++) {
		vectors[i] = (struct iovec){ buffers[i], 1 + i * 150 };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1 };
		next_bytes(&pair.a, buffers[i], whole, vectors[i].iov_len);
		whole += vectors[i].iov_len;
	}
	step("sendmmsg");
	EXPECT(sendmmsg(pair.a.fd, messages, MESSAGES, 0), MESSAGES);
	for (int i = 0; i < MESSAGES; i++)
		EXPECT(messages[i].msg_len, vectors[i].iov_len);
	pair.a.written += whole;
	wait_readable(&pair.b, whole);
	step("recvmmsg");
	EXPECT(recvmmsg(pair.b.fd, messages, MESSAGES, 0, NULL), MESSAGES);
	for (int i = 0; i < MESSAGES; i++) {
		EXPECT(messages[i].msg_len, vectors[i].iov_len);
		took(&pair.b, buffers[i], messages[i].msg_len);
	}
	EXPECT_ERRNO(recvmmsg(pair.b.fd, messages, MESSAGES, MSG_DONTWAIT, NULL), EAGAIN);
	finish(&pair);
}

static void send_flagged(struct end *end, size_t size, int flags)
{
	char *buffer = malloc(size);

	next_bytes(end, buffer, 0, size);
	EXPECT(send(end->fd, buffer, size, flags), size);
	end->written += size;
	free(buffer);
}

static void more(void)
{
	struct pair pair;

	open_pair(&pair);
	step("MSG_MORE, then none");
	for (int i = 0; i < 100; i++) {
		send_flagged(&pair.a, 1 + i, MSG_MORE);
		send_flagged(&pair.a, 10 + i, MSG_MORE | MSG_DONTWAIT);
		send_flagged(&pair.a, 2, 0);
		read_bytes(&pair.b, 13 + 2 * i);
	}
	step("MSG_MORE alone: the kernel sends it after a while");
	send_flagged(&pair.a, 100, MSG_MORE);
	read_bytes(&pair.b, 100);
	step("MSG_MORE before the end");
	send_flagged(&pair.a, 50, MSG_MORE);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	read_bytes(&pair.b, 50);
	finish(&pair);
}

static void more_and_bulk(void)
{
	struct pair pair;
	pthread_t reader;

	open_pair(&pair);
	reader = start(read_until_end, &pair.b);
	for (int i = 0; i < 40; i++)
		send_flagged(&pair.a, 40000 + 777 * i, i % 5 == 4 ? 0 : MSG_MORE);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	join(reader);
	finish(&pair);
}

static void cork(void)
{
	struct pair pair;

	open_pair(&pair);
	for (int i = 1; i < 50; i++) {
		set_option(pair.a.fd, IPPROTO_TCP, TCP_CORK, 1);
		EXPECT(get_option(pair.a.fd, IPPROTO_TCP, TCP_CORK), 1);
		write_bytes(&pair.a, i);
		write_bytes(&pair.a, 20);
		set_option(pair.a.fd, IPPROTO_TCP, TCP_CORK, 0);
		read_bytes(&pair.b, i + 20);
	}
	step("corked and bulk");
	set_option(pair.a.fd, IPPROTO_TCP, TCP_CORK, 1);
	write_bytes(&pair.a, 30000);
	set_option(pair.a.fd, IPPROTO_TCP, TCP_NODELAY, 1);
	read_bytes(&pair.b, 30000);
	step("corked at the end");
	write_bytes(&pair.a, 30);
	finish(&pair);
}

static void read_and_write(void)
{
	struct pair pair;
	char buffer[5000];

	open_pair(&pair);
	for (int i = 1; i < 100; i++) {
		size_t size = i * 50;

		next_bytes(&pair.a, buffer, 0, size);
		EXPECT(write(pair.a.fd, buffer, size), size);
		pair.a.written += size;
		wait_readable(&pair.b, size);
		EXPECT(read(pair.b.fd, buffer, sizeof(buffer)), size);
		took(&pair.b, buffer, size);
	}
	EXPECT_ERRNO(lseek(pair.a.fd, 0, SEEK_SET), ESPIPE);
	EXPECT_ERRNO(pread(pair.b.fd, buffer, 1, 0), ESPIPE);
	finish(&pair);
}

const struct scenario tcp_calls[] = {
	{ "tcp_gather", gather, BOTH_WAYS },
	{ "tcp_scatter", scatter, BOTH_WAYS },
	{ "tcp_too_many_vectors", too_many_vectors, BOTH_WAYS },
	{ "tcp_nothing", nothing, BOTH_WAYS },
	{ "tcp_many_messages", many_messages, BOTH_WAYS },
	{ "tcp_more", more, BOTH_WAYS },
	{ "tcp_more_and_bulk", more_and_bulk, BOTH_WAYS },
	{ "tcp_cork", cork, BOTH_WAYS },
	{ "tcp_read_and_write", read_and_write, BOTH_WAYS },
	{ 0 },
};
