// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pattern.h"
#include "stress.h"

#define TOTAL_MAX   300000
#define PATIENCE_MS 500

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t loopback(union address *address, int family)
{
	memset(address, 0, sizeof(*address));
	address->any.sa_family = family;
	if (family == AF_INET)
		address->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		address->v6.sin6_addr = in6addr_loopback;
	return family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
}

/* The first use of a socket, of one that has nothing to say. */
static void use(int fd)
{
	struct pollfd ready = { fd, POLLIN, 0 };

	if (poll(&ready, 1, 0) < 0)
		failed("poll: %s", strerrorname_np(errno));
}

/* Both ends, used once: from now on they have what is in force. */
static void open_connection(struct slot *slot, struct random *random, int ends[2])
{
	int family = chance(random, 2) ? AF_INET : AF_INET6;
	int server = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	union address address;
	socklen_t size = loopback(&address, family);

	ends[0] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server < 0 || ends[0] < 0 || bind(server, &address.any, size) || listen(server, 1) ||
	    getsockname(server, &address.any, &size))
		failed("a listener: %s", strerrorname_np(errno));
	if (chance(random, 3)) {
		int buffer = 3000 + rnd(random, 30000);

		setsockopt(server, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
		setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	}
	enter_section(slot);
	slot->opened = now_ns();
	if (connect(ends[0], &address.any, size))
		failed("connect: %s", strerrorname_np(errno));
	ends[1] = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	if (ends[1] < 0)
		failed("accept: %s", strerrorname_np(errno));
	use(ends[0]);
	use(ends[1]);
	leave_section(slot);
	close(server);
}

static bool deadline_passed(const struct slot *slot)
{
	uint64_t now = now_ns();
	uint32_t count = __atomic_load_n(&shared->revokes, __ATOMIC_SEQ_CST);

	for (uint32_t i = 0; i < count; i++)
		if (shared->revoke[i].at >= slot->opened && shared->revoke[i].deadline <= now)
			return true;
	return false;
}

static bool find_reason(struct slot *slot, enum reason *reason)
{
	if (__atomic_load_n(&slot->killed, __ATOMIC_SEQ_CST))
		*reason = BY_KILL;
	else if (__atomic_load_n(&slot->on_purpose, __ATOMIC_SEQ_CST))
		*reason = BY_PURPOSE;
	else if (deadline_passed(slot))
		*reason = BY_DEADLINE;
	else
		return false;
	return true;
}

/* A connection has ended too early: who did it? Who kills says so once more when he has. */
static void explain(struct slot *slot, const struct direction *direction, const char *what,
		    int error)
{
	enum reason reason;

	for (int ms = 0; !find_reason(slot, &reason); ms += 10) {
		if (ms == PATIENCE_MS)
			failed("end %s: %s at byte %lu of %lu: %s, and nobody has ended the connection",
			       direction->end, what, direction->done, direction->total,
			       strerrorname_np(error));
		sleep_us(10000);
	}
	__atomic_add_fetch(&shared->resets[reason], 1, __ATOMIC_RELAXED);
}

static void *read_side(void *argument)
{
	struct direction *direction = argument;
	int error = read_all(direction);

	if (error)
		explain(direction->slot, direction, "read", error);
	return NULL;
}

static void reset(int fd)
{
	static const struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void start_direction(struct direction *direction, struct slot *slot, int fd, int side)
{
	direction->fd = fd;
	direction->slot = slot;
	direction->step = slot->step[side];
	direction->end = side ? "b (accepted)" : "a (connecting)";
	if (pipe2(direction->pipe, O_CLOEXEC))
		failed("pipe2: %s", strerrorname_np(errno));
}

static void end_direction(struct direction *direction)
{
	close(direction->pipe[0]);
	close(direction->pipe[1]);
}

/* One end: writes in this thread, and reads in another. */
static void be_end(struct slot *slot, int fd, struct direction *out, struct direction *in, int side)
{
	pthread_t reader;
	int error;

	start_direction(out, slot, fd, side);
	start_direction(in, slot, fd, side);
	if (pthread_create(&reader, NULL, read_side, in))
		failed("pthread_create");
	error = write_all(out);
	if (error)
		explain(slot, out, "write", error);
	if (out->stop_at < out->total) {
		/* A reader that is asleep would keep the socket open. */
		shutdown(fd, SHUT_RD);
		pthread_join(reader, NULL);
		reset(fd);
	} else {
		shutdown(fd, SHUT_WR);
		pthread_join(reader, NULL);
		close(fd);
	}
	end_direction(out);
	end_direction(in);
}

static struct direction direction_of(struct random *random)
{
	struct direction direction = { .random.state = random->state, .stop_at = UINT64_MAX };

	direction.seed = pattern_mix(random->state);
	direction.total = chance(random, 8) ? 0 : rnd(random, chance(random, 2) ? 3000 : TOTAL_MAX);
	rnd(random, 2);
	return direction;
}

static pid_t fork_end(struct slot *slot, int ends[2], struct direction *out, struct direction *in)
{
	pid_t child;

	child = fork();
	if (child < 0)
		failed("fork: %s", strerrorname_np(errno));
	if (!child) {
		close(ends[0]);
		be_end(slot, ends[1], out, in, 1);
		_exit(0);
	}
	close(ends[1]);
	return child;
}

static void one_connection(struct slot *slot, struct random *random)
{
	struct direction there = direction_of(random), back = direction_of(random);
	struct direction there_in = there, back_in = back;
	int ends[2], status;

	slot->killed = 0;
	slot->on_purpose = chance(random, 6);
	if (slot->on_purpose)
		there.stop_at = rnd(random, there.total + 1);
	open_connection(slot, random, ends);
	slot->b = fork_end(slot, ends, &back, &there_in);
	be_end(slot, ends[0], &there, &back_in, 0);
	snprintf(slot->step[0], STEP_SIZE, "wait for the other end");
	waitpid(slot->b, &status, 0);
	note_death(status);
	slot->b = 0;
	__atomic_add_fetch(&slot->connections, 1, __ATOMIC_RELAXED);
}

void work(struct slot *slot, uint64_t seed)
{
	struct random random = { seed };

	setpgid(0, 0);
	while (!__atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST)) {
		if (chance(&random, 5))
			use_datagrams(slot, &random, chance(&random, 2) ? AF_INET : AF_INET6);
		else
			one_connection(slot, &random);
	}
	_exit(0);
}
