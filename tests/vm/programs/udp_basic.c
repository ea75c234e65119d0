// SPDX-License-Identifier: GPL-2.0
/* Datagrams there and back: whole, in order, with the right address. */
#include <sys/uio.h>

#include "udp.h"

static const size_t sizes[] = { 0,    1,    2,	   3,	  11,	 12,	13,    19,   20,   21,
				100,  512,  1024,  1400,  1452,	 1472,	1473,  4000, 8000, 8192,
				8193, 9000, 16000, 32000, 60000, 65000, 65487, 65507 };

#define SIZES (int)(sizeof(sizes) / sizeof(*sizes))

static void connected(void)
{
	struct udp udp;

	udp_connect(&udp);
	EXPECT(connect(udp.b, &udp.from_a.any,
		       udp.from_a.any.sa_family == AF_INET ? sizeof(udp.from_a.v4)
							   : sizeof(udp.from_a.v6)),
	       0);
	for (int i = 0; i < 2 * SIZES; i++) {
		step("%zu bytes, datagram %d", sizes[i / 2], i);
		send_datagram(udp.a, i, sizes[i / 2]);
		recv_datagram(udp.b, i, sizes[i / 2]);
		send_datagram(udp.b, i + 100, sizes[i / 2]);
		recv_datagram(udp.a, i + 100, sizes[i / 2]);
	}
	udp_close(&udp);
}

/* b answers to where a datagram came from. */
static void echo(const struct udp *udp, uint64_t number, size_t size)
{
	char *buffer = malloc(DATAGRAM_MAX);
	union address from;
	socklen_t from_size = sizeof(from);

	EXPECT(recvfrom(udp->b, buffer, DATAGRAM_MAX, 0, &from.any, &from_size), size);
	check_datagram(buffer, number, size);
	check_address(&from, from_size, &udp->from_a);
	datagram(buffer, number + 1000, size);
	EXPECT(sendto(udp->b, buffer, size, 0, &from.any, from_size), size);
	free(buffer);
}

static void unconnected(void)
{
	char *buffer = malloc(DATAGRAM_MAX);
	union address from;
	socklen_t size;
	struct udp udp;

	udp_open(&udp);
	for (int i = 0; i < 2 * SIZES; i++) {
		step("%zu bytes, datagram %d", sizes[i / 2], i);
		datagram(buffer, i, sizes[i / 2]);
		EXPECT(sendto(udp.a, buffer, sizes[i / 2], 0, &udp.to_b.any, udp.to_b_size),
		       sizes[i / 2]);
		echo(&udp, i, sizes[i / 2]);
		size = sizeof(from);
		EXPECT(recvfrom(udp.a, buffer, DATAGRAM_MAX, 0, &from.any, &size), sizes[i / 2]);
		check_datagram(buffer, i + 1000, sizes[i / 2]);
		check_address(&from, size, &udp.to_b);
	}
	free(buffer);
	udp_close(&udp);
}

static void too_big(void)
{
	char *buffer = calloc(1, 70000);
	struct udp udp;

	udp_connect(&udp);
	EXPECT_ERRNO(send(udp.a, buffer, 65536, 0), EMSGSIZE);
	EXPECT_ERRNO(send(udp.a, buffer, 70000, 0), EMSGSIZE);
	send_datagram(udp.a, 1, 100);
	recv_datagram(udp.b, 1, 100);
	free(buffer);
	udp_close(&udp);
}

/* Many wait in the queue, and are read in order. */
static void queue(void)
{
	struct udp udp;

	udp_connect(&udp);
	set_option(udp.b, SOL_SOCKET, SO_RCVBUF, 4 << 20);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 100; i++)
			send_datagram(udp.a, i, i * 7);
		for (int i = 0; i < 100; i++)
			recv_datagram(udp.b, i, i * 7);
	}
	udp_close(&udp);
}

#define MESSAGES 32

static void many_messages(void)
{
	static char buffers[MESSAGES][2000];
	union address names[MESSAGES];
	struct mmsghdr messages[MESSAGES] = { 0 };
	struct iovec vectors[MESSAGES];
	struct udp udp;

	udp_open(&udp);
	for (int i = 0; i < MESSAGES; i++) {
		vectors[i] = (struct iovec){ buffers[i], i * 50 };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &udp.to_b,
						       .msg_namelen = udp.to_b_size,
						       .msg_iov = &vectors[i],
						       .msg_iovlen = 1 };
		datagram(buffers[i], i, i * 50);
	}
	EXPECT(sendmmsg(udp.a, messages, MESSAGES, 0), MESSAGES);
	for (int i = 0; i < MESSAGES; i++) {
		EXPECT(messages[i].msg_len, i * 50);
		vectors[i].iov_len = sizeof(buffers[i]);
		messages[i].msg_hdr.msg_name = &names[i];
		messages[i].msg_hdr.msg_namelen = sizeof(names[i]);
		memset(buffers[i], 0, sizeof(buffers[i]));
	}
	EXPECT(recvmmsg(udp.b, messages, MESSAGES, 0, NULL), MESSAGES);
	for (int i = 0; i < MESSAGES; i++) {
		EXPECT(messages[i].msg_len, i * 50);
		EXPECT(messages[i].msg_hdr.msg_flags, 0);
		check_datagram(buffers[i], i, i * 50);
		check_address(&names[i], messages[i].msg_hdr.msg_namelen, &udp.from_a);
	}
	EXPECT_ERRNO(recvmmsg(udp.b, messages, MESSAGES, MSG_DONTWAIT, NULL), EAGAIN);
	udp_close(&udp);
}

static void vectors(void)
{
	char sent[3000], got[3000];
	struct iovec out[] = { { sent, 1 },	 { NULL, 0 },	      { sent + 1, 10 },
			       { sent + 11, 5 }, { sent + 16, 1484 }, { sent + 1500, 1500 } };
	struct iovec in[] = { { got, 3 }, { got + 3, 0 }, { got + 3, 997 }, { got + 1000, 2000 } };
	struct udp udp;

	udp_connect(&udp);
	for (int i = 0; i < 50; i++) {
		datagram(sent, i, sizeof(sent));
		EXPECT(writev(udp.a, out, 6), sizeof(sent));
		EXPECT(readv(udp.b, in, 4), sizeof(got));
		check_datagram(got, i, sizeof(got));
	}
	udp_close(&udp);
}

static void read_and_write(void)
{
	char buffer[1000];
	struct udp udp;

	udp_connect(&udp);
	for (int i = 0; i < 100; i++) {
		datagram(buffer, i, 10 * i);
		EXPECT(write(udp.a, buffer, 10 * i), 10 * i);
		if (i % 2) {
			EXPECT(read(udp.b, buffer, sizeof(buffer)), 10 * i);
			check_datagram(buffer, i, 10 * i);
		} else {
			recv_datagram(udp.b, i, 10 * i);
		}
	}
	udp_close(&udp);
}

#define SENDERS 3
#define EACH	300

struct sender {
	int fd;
	int number;
};

static void *send_many(void *argument)
{
	struct sender *sender = argument;

	for (int i = 0; i < EACH; i++)
		send_datagram(sender->fd, sender->number * EACH + i, 100 + i);
	return NULL;
}

struct receiver {
	int fd;
	unsigned char *seen; /* shared by all: how often each number came */
	int *left;
};

/* Which one it is, is told by its first bytes. */
static int number_of(const char *buffer, ssize_t size)
{
	char wanted[EACH + 100];

	for (int i = 0; i < SENDERS * EACH; i++) {
		if (100 + i % EACH != size)
			continue;
		datagram(wanted, i, size);
		if (!memcmp(wanted, buffer, size))
			return i;
	}
	return -1;
}

static void *receive_many(void *argument)
{
	struct receiver *receiver = argument;
	char buffer[2000];

	while (__atomic_sub_fetch(receiver->left, 1, __ATOMIC_SEQ_CST) >= 0) {
		ssize_t got = recv(receiver->fd, buffer, sizeof(buffer), 0);
		int number = number_of(buffer, got);

		CHECK(number >= 0, "a datagram of %zd bytes that nobody sent", got);
		EXPECT(__atomic_fetch_add(&receiver->seen[number], 1, __ATOMIC_SEQ_CST), 0);
	}
	return NULL;
}

/* Threads that send and receive on the same two sockets: every datagram once and whole. */
static void threads(void)
{
	static unsigned char seen[SENDERS * EACH];
	int left = SENDERS * EACH;
	struct sender senders[SENDERS];
	struct receiver receiver = { .seen = seen, .left = &left };
	pthread_t ids[SENDERS + 2];
	struct udp udp;

	udp_connect(&udp);
	set_option(udp.b, SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20);
	receiver.fd = udp.b;
	for (int i = 0; i < 2; i++)
		ids[i] = start(receive_many, &receiver);
	for (int i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ udp.a, i };
		ids[i + 2] = start(send_many, &senders[i]);
	}
	for (int i = 0; i < SENDERS + 2; i++)
		join(ids[i]);
	udp_close(&udp);
}

static void send_child(void *argument)
{
	struct udp *udp = argument;

	send_datagram(udp->a, 1, 500);
	recv_datagram(udp->b, 1, 500);
}

static void forked(void)
{
	struct udp udp;

	udp_connect(&udp);
	for (int i = 0; i < 10; i++) {
		send_datagram(udp.a, 2, 600);
		recv_datagram(udp.b, 2, 600);
		join_child(spawn(send_child, &udp));
	}
	udp_close(&udp);
}

const struct scenario udp_basic[] = {
	{ "udp_connected", connected, ONCE },
	{ "udp_unconnected", unconnected, ONCE },
	{ "udp_too_big", too_big, ONCE },
	{ "udp_queue", queue, ONCE },
	{ "udp_many_messages", many_messages, ONCE },
	{ "udp_vectors", vectors, ONCE },
	{ "udp_read_and_write", read_and_write, ONCE },
	{ "udp_threads", threads, ONCE },
	{ "udp_forked", forked, ONCE },
	{ 0 },
};
