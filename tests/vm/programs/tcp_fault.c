// SPDX-License-Identifier: GPL-2.0
/* Signals in the middle of calls, and buffers that are not there. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "sockets.h"

static volatile sig_atomic_t signals;

static void count(int number)
{
	signals += number == SIGUSR1;
}

static void handle(int flags)
{
	struct sigaction action = { .sa_handler = count, .sa_flags = flags };

	EXPECT(sigaction(SIGUSR1, &action, NULL), 0);
	signals = 0;
}

/* A thread that does one call, and what came of it. */
struct caller {
	ssize_t (*call)(struct caller *);
	int fd;
	void *buffer;
	size_t size;
	int flags;
	pid_t thread;
	ssize_t result;
	int error;
};

static void *do_call(void *argument)
{
	struct caller *caller = argument;

	__atomic_store_n(&caller->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	caller->result = caller->call(caller);
	caller->error = caller->result < 0 ? errno : 0;
	return NULL;
}

static ssize_t call_recv(struct caller *caller)
{
	return recv(caller->fd, caller->buffer, caller->size, caller->flags);
}

static ssize_t call_send(struct caller *caller)
{
	return send(caller->fd, caller->buffer, caller->size, caller->flags);
}

static ssize_t call_accept(struct caller *caller)
{
	return accept(caller->fd, NULL, NULL);
}

static ssize_t call_poll(struct caller *caller)
{
	struct pollfd ready = { caller->fd, POLLIN, 0 };

	return poll(&ready, 1, -1);
}

/* Start it, wait until it sleeps, and send it a signal, which it has handled at the end. */
static pthread_t interrupt(struct caller *caller)
{
	pthread_t thread;

	caller->thread = 0;
	thread = start(do_call, caller);
	while (!__atomic_load_n(&caller->thread, __ATOMIC_SEQ_CST))
		sleep_ms(1);
	wait_asleep(caller->thread);
	sleep_ms(5); /* asleep on its way there, perhaps */
	wait_asleep(caller->thread);
	EXPECT(pthread_kill(thread, SIGUSR1), 0);
	while (!signals)
		sleep_ms(1);
	return thread;
}

static void interrupted_recv(void)
{
	char buffer[100];
	struct caller caller = { call_recv, .buffer = buffer, .size = sizeof(buffer) };
	struct pair pair;

	open_pair(&pair);
	caller.fd = pair.b.fd;
	handle(0);
	join(interrupt(&caller));
	EXPECT(caller.result, -1);
	EXPECT(caller.error, EINTR);
	step("poll");
	caller.call = call_poll;
	handle(SA_RESTART);
	join(interrupt(&caller));
	EXPECT(caller.error, EINTR);
	step("what came before the signal is given");
	caller.call = call_recv;
	caller.flags = MSG_WAITALL;
	handle(SA_RESTART);
	write_bytes(&pair.a, 60);
	wait_readable(&pair.b, 60);
	join(interrupt(&caller));
	EXPECT(caller.result, 60);
	took(&pair.b, buffer, 60);
	finish(&pair);
}

static void restarted_recv(void)
{
	char buffer[100];
	struct caller caller = { call_recv, .buffer = buffer, .size = sizeof(buffer) };
	struct pair pair;
	pthread_t thread;

	open_pair(&pair);
	caller.fd = pair.b.fd;
	handle(SA_RESTART);
	thread = interrupt(&caller);
	write_bytes(&pair.a, 50);
	join(thread);
	EXPECT(caller.result, 50);
	took(&pair.b, buffer, 50);
	step("not where a time limit is set");
	set_timeout(pair.b.fd, SO_RCVTIMEO, 100000);
	handle(SA_RESTART);
	join(interrupt(&caller));
	EXPECT(caller.result, -1);
	EXPECT(caller.error, EINTR);
	finish(&pair);
}

/* Until there has been no room for a while: what is on its way still moves. */
static void fill(struct end *end)
{
	char buffer[5000];

	for (int quiet = 0; quiet < 5; quiet++) {
		ssize_t sent;

		if (quiet)
			sleep_ms(20);
		next_bytes(end, buffer, 0, sizeof(buffer));
		sent = send(end->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		end->written += sent > 0 ? sent : 0;
		quiet = sent > 0 ? -1 : quiet;
	}
}

static void interrupted_send(void)
{
	const size_t size = 4 << 20;
	char *buffer = malloc(size);
	struct caller caller = { call_send, .buffer = buffer, .size = size };
	struct pair pair;

	open_pair_buffered(&pair, 20000, 20000);
	caller.fd = pair.a.fd;
	step("part of it was sent");
	next_bytes(&pair.a, buffer, 0, size);
	handle(SA_RESTART);
	join(interrupt(&caller));
	CHECK(caller.result > 0 && caller.result < (ssize_t)size, "send gave %zd", caller.result);
	pair.a.written += caller.result;
	step("nothing of it was sent");
	fill(&pair.a);
	next_bytes(&pair.a, buffer, 0, size);
	handle(0);
	join(interrupt(&caller));
	/* The peer may have made room since. */
	CHECK(caller.result > 0 || caller.error == EINTR, "send: %s",
	      strerrorname_np(caller.error));
	pair.a.written += caller.result > 0 ? caller.result : 0;
	step("read what was sent");
	read_bytes(&pair.b, pair.a.written - pair.b.read);
	EXPECT_ERRNO(recv(pair.b.fd, buffer, 1, MSG_DONTWAIT), EAGAIN);
	free(buffer);
	finish(&pair);
}

/* A send that waits for its first byte of room goes on after the signal, as if there had been none.
 */
static void restarted_send(void)
{
	const size_t size = 3000;
	char buffer[3000];
	struct caller caller = { call_send, .buffer = buffer, .size = size };
	struct pair pair;
	pthread_t thread;

	open_pair_buffered(&pair, 20000, 20000);
	caller.fd = pair.a.fd;
	fill(&pair.a);
	next_bytes(&pair.a, buffer, 0, size);
	handle(SA_RESTART);
	thread = interrupt(&caller);
	read_bytes(&pair.b, pair.a.written - pair.b.read + 1);
	join(thread);
	CHECK(caller.result > 0, "send: %zd %s", caller.result, strerrorname_np(caller.error));
	pair.a.written += caller.result;
	finish(&pair);
}

static void interrupted_accept(void)
{
	struct caller caller = { call_accept, .fd = listener() };
	pthread_t thread;
	int fd;

	handle(0);
	join(interrupt(&caller));
	EXPECT(caller.result, -1);
	EXPECT(caller.error, EINTR);
	step("restarted");
	handle(SA_RESTART);
	thread = interrupt(&caller);
	fd = connect_to(caller.fd);
	join(thread);
	CHECK(caller.result >= 0, "accept: %s", strerrorname_np(caller.error));
	EXPECT(close(caller.result), 0);
	EXPECT(close(fd), 0);
	EXPECT(close(caller.fd), 0);
}

/* Pages, the last of which is not there. */
static char *map_gap(size_t good)
{
	char *pages =
		mmap(NULL, good + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED, "mmap: %s", strerror(errno));
	EXPECT(mprotect(pages + good, 4096, PROT_NONE), 0);
	return pages;
}

static void bad_pointers(void)
{
	char *good = map_gap(4096), *bad = good + 4096;
	struct msghdr message = { .msg_iov = (struct iovec *)bad, .msg_iovlen = 1 };
	struct pair pair;

	open_pair(&pair);
	EXPECT_ERRNO(send(pair.a.fd, bad, 100, 0), EFAULT);
	EXPECT_ERRNO(send(pair.a.fd, NULL, 100, 0), EFAULT);
	EXPECT_ERRNO(sendmsg(pair.a.fd, &message, 0), EFAULT);
	EXPECT_ERRNO(recv(pair.b.fd, bad, 100, MSG_DONTWAIT), EAGAIN);
	write_bytes(&pair.a, 100);
	wait_readable(&pair.b, 100);
	EXPECT_ERRNO(recv(pair.b.fd, bad, 100, 0), EFAULT);
	EXPECT_ERRNO(recv(pair.b.fd, bad, 100, MSG_PEEK), EFAULT);
	EXPECT_ERRNO(recvmsg(pair.b.fd, &message, 0), EFAULT);
	EXPECT(readable(pair.b.fd), 100);
	read_bytes(&pair.b, 100);
	finish(&pair);
}

/* Half of the buffer is there: what a call says it has sent is what arrives, and no more. */
static void half_bad_send(void)
{
	static const size_t goods[] = { 4096, 16384, 65536 };

	for (int i = 0; i < 3; i++) {
		char *pages = map_gap(goods[i]);
		struct pair pair;

		open_pair_buffered(&pair, 200000, 200000);
		for (size_t valid = 1; valid <= goods[i]; valid = valid * 3 + 1) {
			char *buffer = pages + goods[i] - valid;
			ssize_t sent;

			step("%zu bytes are there", valid);
			next_bytes(&pair.a, buffer, 0, valid);
			sent = send(pair.a.fd, buffer, valid + 4000, 0);
			CHECK(sent > 0 ? (size_t)sent <= valid : errno == EFAULT, "send: %zd %s",
			      sent, strerrorname_np(errno));
			pair.a.written += sent > 0 ? sent : 0;
			write_bytes(&pair.a, 100);
			read_bytes(&pair.b, pair.a.written - pair.b.read);
			EXPECT_ERRNO(recv(pair.b.fd, buffer, 1, MSG_DONTWAIT), EAGAIN);
		}
		finish(&pair);
		EXPECT(munmap(pages, goods[i] + 4096), 0);
	}
}

static void half_bad_receive(void)
{
	const size_t good = 65536;
	char *pages = map_gap(good);
	struct pair pair;

	open_pair(&pair);
	for (size_t valid = 1; valid <= good; valid = valid * 3 + 1) {
		char *buffer = pages + good - valid;
		ssize_t got;

		step("%zu bytes are there", valid);
		write_bytes(&pair.a, valid + 1000);
		wait_readable(&pair.b, valid + 1000);
		got = recv(pair.b.fd, buffer, valid + 4000, 0);
		CHECK(got > 0 ? (size_t)got <= valid : errno == EFAULT, "recv: %zd %s", got,
		      strerrorname_np(errno));
		if (got > 0)
			took(&pair.b, buffer, got);
		read_bytes(&pair.b, pair.a.written - pair.b.read);
	}
	finish(&pair);
}

/* One of several vectors is bad. */
static void bad_vector(void)
{
	char *good = map_gap(4096), *bad = good + 4096;
	struct iovec vectors[] = { { good, 1000 }, { bad, 100 }, { good + 1000, 1000 } };
	struct pair pair;
	ssize_t moved;

	open_pair(&pair);
	next_bytes(&pair.a, good, 0, 2000);
	moved = writev(pair.a.fd, vectors, 3);
	CHECK(moved > 0 ? moved <= 1000 : errno == EFAULT, "writev: %zd", moved);
	pair.a.written += moved > 0 ? moved : 0;
	write_bytes(&pair.a, 2100);
	wait_readable(&pair.b, pair.a.written - pair.b.read);
	moved = readv(pair.b.fd, vectors, 3);
	CHECK(moved > 0 ? moved <= 1000 : errno == EFAULT, "readv: %zd", moved);
	if (moved > 0)
		took(&pair.b, good, moved);
	read_bytes(&pair.b, pair.a.written - pair.b.read);
	finish(&pair);
}

const struct scenario tcp_fault[] = {
	{ "tcp_interrupted_recv", interrupted_recv, BOTH_WAYS },
	{ "tcp_restarted_recv", restarted_recv, BOTH_WAYS },
	{ "tcp_interrupted_send", interrupted_send, BOTH_WAYS },
	{ "tcp_restarted_send", restarted_send, BOTH_WAYS },
	{ "tcp_interrupted_accept", interrupted_accept, ONCE },
	{ "tcp_bad_pointers", bad_pointers, BOTH_WAYS },
	{ "tcp_half_bad_send", half_bad_send, BOTH_WAYS },
	{ "tcp_half_bad_receive", half_bad_receive, BOTH_WAYS },
	{ "tcp_bad_vector", bad_vector, BOTH_WAYS },
	{ 0 },
};
