// SPDX-License-Identifier: GPL-2.0
/* One socket, many users: threads, processes, descriptors. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sockets.h"

#define RECORD	400
#define RECORDS 1500
#define WRITERS 2
#define SEED	0x5000

/* A record: whose it is, its number, and a pattern of both. */
struct record {
	uint32_t writer, number;
	char pattern[RECORD - 8];
};

struct worker {
	int fd;
	uint32_t number;
	uint64_t bytes;
};

static void *write_records(void *argument)
{
	struct worker *worker = argument;
	struct record record = { .writer = worker->number };

	for (uint32_t i = 0; i < RECORDS; i++) {
		record.number = i;
		pattern_fill(record.pattern, SEED + worker->number, (uint64_t)i << 32,
			     sizeof(record.pattern));
		EXPECT(send(worker->fd, &record, sizeof(record), 0), sizeof(record));
	}
	return NULL;
}

static void read_record(int fd, uint32_t next[WRITERS])
{
	struct record record;
	uint32_t writer;

	EXPECT(recv(fd, &record, sizeof(record), MSG_WAITALL), sizeof(record));
	writer = record.writer;
	CHECK(writer < WRITERS && record.number == next[writer],
	      "a record is not whole, or not in order: %u of writer %u", record.number, writer);
	CHECK(pattern_check(record.pattern, SEED + writer, (uint64_t)next[writer]++ << 32,
			    sizeof(record.pattern)) == PATTERN_RIGHT,
	      "record %u of writer %u is wrong", record.number, writer);
}

/* Small records of two threads stay whole, and each thread's in order. */
static void two_writers(void)
{
	struct worker workers[WRITERS];
	uint32_t next[WRITERS] = { 0 };
	pthread_t threads[WRITERS];
	struct pair pair;

	open_pair(&pair);
	for (uint32_t i = 0; i < WRITERS; i++) {
		workers[i] = (struct worker){ pair.a.fd, i, 0 };
		threads[i] = start(write_records, &workers[i]);
	}
	for (int i = 0; i < WRITERS * RECORDS; i++)
		read_record(pair.b.fd, next);
	for (int i = 0; i < WRITERS; i++)
		join(threads[i]);
	finish(&pair);
}

static void write_records_child(void *argument)
{
	write_records(argument);
}

/* The same of two processes. */
static void two_processes(void)
{
	uint32_t next[WRITERS] = { 0 };
	struct worker workers[WRITERS];
	pid_t children[WRITERS];
	struct pair pair;

	open_pair(&pair);
	for (uint32_t i = 0; i < WRITERS; i++) {
		workers[i] = (struct worker){ pair.a.fd, i, 0 };
		children[i] = spawn(write_records_child, &workers[i]);
	}
	for (int i = 0; i < WRITERS * RECORDS; i++)
		read_record(pair.b.fd, next);
	for (int i = 0; i < WRITERS; i++)
		join_child(children[i]);
	finish(&pair);
}

#define COUNT_TO 251

/* What one call of recv gives stands together: each byte is one more than the one before. */
static void *count_bytes(void *argument)
{
	struct worker *worker = argument;
	unsigned char buffer[1000];
	ssize_t got;

	while ((got = recv(worker->fd, buffer, 1 + worker->bytes % sizeof(buffer), 0)) > 0) {
		for (ssize_t i = 1; i < got; i++)
			EXPECT(buffer[i], (buffer[i - 1] + 1) % COUNT_TO);
		worker->bytes += got;
	}
	CHECK(got == 0, "recv: %s", strerrorname_np(errno));
	return NULL;
}

static void write_count(int fd, size_t rounds)
{
	unsigned char buffer[COUNT_TO * 31];

	for (size_t i = 0; i < sizeof(buffer); i++)
		buffer[i] = i % COUNT_TO;
	while (rounds--)
		EXPECT(send(fd, buffer, sizeof(buffer), 0), sizeof(buffer));
	EXPECT(shutdown(fd, SHUT_WR), 0);
}

/* Two threads that read one socket get every byte once, and both see the end. */
static void two_readers(void)
{
	struct worker workers[2] = { 0 };
	pthread_t threads[2];
	struct pair pair;

	open_pair(&pair);
	for (int i = 0; i < 2; i++) {
		workers[i].fd = pair.b.fd;
		threads[i] = start(count_bytes, &workers[i]);
	}
	write_count(pair.a.fd, 400);
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	EXPECT(workers[0].bytes + workers[1].bytes, 400 * COUNT_TO * 31);
	close_pair(&pair);
}

static void *read_fixed(void *argument)
{
	struct worker *worker = argument;
	struct record record;
	ssize_t got;

	while ((got = recv(worker->fd, &record, sizeof(record), MSG_WAITALL)) > 0) {
		EXPECT(got, sizeof(record));
		worker->bytes += got;
		CHECK(pattern_check(record.pattern, SEED + record.writer,
				    (uint64_t)record.number << 32,
				    sizeof(record.pattern)) == PATTERN_RIGHT,
		      "record %u is not whole", record.number);
	}
	return NULL;
}

static void read_fixed_child(void *argument)
{
	read_fixed(argument);
}

/* A child reads what a thread of its parent writes, by a socket that both have. */
static void inherited(void)
{
	struct worker writer, reader = { 0 };
	struct pair pair;
	pthread_t thread;
	pid_t child;

	open_pair(&pair);
	writer = (struct worker){ pair.a.fd, 0, 0 };
	reader.fd = pair.b.fd;
	child = spawn(read_fixed_child, &reader);
	thread = start(write_records, &writer);
	join(thread);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	join_child(child);
	EXPECT(recv(pair.b.fd, &reader, 1, 0), 0);
	close_pair(&pair);
}

static void write_and_go(void *argument)
{
	write_bytes(argument, 1234);
}

static void read_and_go(void *argument)
{
	read_bytes(argument, 1234);
}

/* Parent and child write, and read, in turn. */
static void in_turn(void)
{
	struct pair pair;

	open_pair(&pair);
	for (int i = 0; i < 20; i++) {
		write_bytes(&pair.a, 100);
		join_child(spawn(write_and_go, &pair.a));
		pair.a.written += 1234;
		read_bytes(&pair.b, 50);
		join_child(spawn(read_and_go, &pair.b));
		pair.b.read += 1234;
		read_bytes(&pair.b, 50);
	}
	finish(&pair);
}

static void duplicates(void)
{
	struct end copy, other;
	struct pair pair;
	int fd;

	open_pair(&pair);
	write_bytes(&pair.a, 100);
	fd = dup(pair.a.fd);
	CHECK(fd >= 0, "dup: %s", strerror(errno));
	copy = pair.a;
	copy.fd = fd;
	write_bytes(&copy, 200);
	EXPECT(close(pair.a.fd), 0);
	step("one closed, the other stays");
	read_bytes(&pair.b, 300);
	EXPECT(poll_now(pair.b.fd, POLLIN | POLLRDHUP), 0);
	step("dup2");
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	EXPECT(dup2(pair.b.fd, fd), fd);
	other = pair.b;
	other.fd = fd;
	EXPECT(close(pair.b.fd), 0);
	write_bytes(&copy, 1000);
	read_bytes(&other, 1000);
	write_bytes(&other, 1000);
	read_bytes(&copy, 1000);
	pair = (struct pair){ copy, other };
	finish(&pair);
}

static void pass(int channel, int fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec vector = { "x", 1 };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	EXPECT(sendmsg(channel, &message, 0), 1);
}

static int take(int channel)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec vector = { &byte, 1 };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int fd;

	EXPECT(recvmsg(channel, &message, 0), 1);
	memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return fd;
}

struct handed {
	int channel;
	struct end end;
};

/* Another process, of another name, goes on where the first one stopped. */
static void go_on(void *argument)
{
	struct handed *handed = argument;

	EXPECT(prctl(PR_SET_NAME, "another"), 0);
	handed->end.fd = take(handed->channel);
	read_bytes(&handed->end, 5000);
	write_bytes(&handed->end, 6000);
}

static void passed(void)
{
	struct handed handed;
	int channels[2];
	struct pair pair;
	pid_t child;

	EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channels), 0);
	handed.channel = channels[1];
	open_pair(&pair);
	write_bytes(&pair.a, 1000);
	read_bytes(&pair.b, 500);
	write_bytes(&pair.b, 300);
	handed.end = pair.b;
	child = spawn(go_on, &handed); /* it has the connection by inheritance as well */
	pass(channels[0], pair.b.fd);
	write_bytes(&pair.a, 5500);
	join_child(child);
	pair.b.read += 5000;
	pair.b.written += 6000;
	read_bytes(&pair.a, 6300);
	step("and back");
	read_bytes(&pair.b, 1000);
	write_bytes(&pair.b, 100);
	read_bytes(&pair.a, 100);
	EXPECT(close(channels[0]), 0);
	EXPECT(close(channels[1]), 0);
	finish(&pair);
}

const struct scenario tcp_shared[] = {
	{ "tcp_two_writers", two_writers, BOTH_WAYS },
	{ "tcp_two_processes", two_processes, BOTH_WAYS },
	{ "tcp_two_readers", two_readers, BOTH_WAYS },
	{ "tcp_inherited", inherited, BOTH_WAYS },
	{ "tcp_in_turn", in_turn, BOTH_WAYS },
	{ "tcp_duplicates", duplicates, BOTH_WAYS },
	{ "tcp_passed", passed, BOTH_WAYS },
	{ 0 },
};
