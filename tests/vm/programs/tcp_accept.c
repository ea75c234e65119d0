// SPDX-License-Identifier: GPL-2.0
/* Listeners: accept, what waits for it, and processes that share it. */
#include <sys/syscall.h>

#include "sockets.h"

#define CHILDREN 4
#define EACH	 10

static void accept_nonblocking(void)
{
	int server = listener(), fd;

	set_nonblocking(server, true);
	EXPECT_ERRNO(accept(server, NULL, NULL), EAGAIN);
	EXPECT(poll_now(server, POLLIN), 0);
	fd = connect_to(server);
	EXPECT(poll_until(server, POLLIN), POLLIN);
	EXPECT(close(fd), 0);
	fd = accept(server, NULL, NULL);
	CHECK(fd >= 0, "accept: %s", strerror(errno));
	EXPECT(close(fd), 0);
	EXPECT_ERRNO(accept(server, NULL, NULL), EAGAIN);
	set_nonblocking(server, false);
	set_timeout(server, SO_RCVTIMEO, 30);
	EXPECT_ERRNO(accept(server, NULL, NULL), EAGAIN);
	EXPECT(close(server), 0);
}

struct sleeper {
	int fd;
	pid_t thread;
	int result, error;
};

static void *sleep_in_accept(void *argument)
{
	struct sleeper *sleeper = argument;

	__atomic_store_n(&sleeper->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	sleeper->result = accept(sleeper->fd, NULL, NULL);
	sleeper->error = errno;
	return NULL;
}

static void accept_wakes(void)
{
	for (int i = 0; i < 2; i++) {
		struct sleeper sleeper = { .fd = listener() };
		pthread_t thread = start(sleep_in_accept, &sleeper);
		int fd = -1;

		while (!__atomic_load_n(&sleeper.thread, __ATOMIC_SEQ_CST))
			sleep_ms(1);
		wait_asleep(sleeper.thread);
		step(i ? "connect" : "shutdown");
		if (i)
			fd = connect_to(sleeper.fd);
		else
			EXPECT(shutdown(sleeper.fd, SHUT_RDWR), 0);
		join(thread);
		CHECK(i ? sleeper.result >= 0 : sleeper.result == -1 && sleeper.error == EINVAL,
		      "accept: %d %s", sleeper.result, strerrorname_np(sleeper.error));
		if (i) {
			EXPECT(close(fd), 0);
			EXPECT(close(sleeper.result), 0);
		}
		EXPECT(close(sleeper.fd), 0);
	}
}

/* Say what number the connection has, and answer with as many bytes. */
static void serve(void *argument)
{
	int server = *(int *)argument;

	for (int i = 0; i < EACH; i++) {
		struct end end = { .out_seed = 2, .in_seed = 1 };

		end.fd = accept(server, NULL, NULL);
		CHECK(end.fd >= 0, "accept: %s", strerror(errno));
		read_bytes(&end, 3000);
		write_bytes(&end, 4000);
		read_to_end(&end);
		EXPECT(close(end.fd), 0);
	}
}

/* Children that inherit a listener share its connections. */
static void prefork(void)
{
	int server = listener();
	pid_t children[CHILDREN];

	for (int i = 0; i < CHILDREN; i++)
		children[i] = spawn(serve, &server);
	for (int i = 0; i < CHILDREN * EACH; i++) {
		struct end end = { .fd = connect_to(server), .out_seed = 1, .in_seed = 2 };

		step("connection %d", i);
		write_bytes(&end, 3000);
		read_bytes(&end, 4000);
		EXPECT(close(end.fd), 0);
	}
	for (int i = 0; i < CHILDREN; i++)
		join_child(children[i]);
	EXPECT(close(server), 0);
}

/* A server that forks for each connection, as inetd does. */
static void serve_one(void *argument)
{
	struct end *end = argument;

	read_bytes(end, 3000);
	write_bytes(end, 4000);
	read_to_end(end);
}

static void fork_for_each(void)
{
	int server = listener();

	for (int i = 0; i < 10; i++) {
		struct end a = { .fd = connect_to(server), .out_seed = 1, .in_seed = 2 };
		struct end b = { .fd = accept(server, NULL, NULL), .out_seed = 2, .in_seed = 1 };
		pid_t child;

		child = spawn(serve_one, &b);
		EXPECT(close(b.fd), 0);
		write_bytes(&a, 3000);
		read_bytes(&a, 4000);
		EXPECT(shutdown(a.fd, SHUT_WR), 0);
		read_to_end(&a);
		EXPECT(close(a.fd), 0);
		join_child(child);
	}
	EXPECT(close(server), 0);
}

static void many_empty(void)
{
	int server = listener();

	for (int i = 0; i < 200; i++) {
		int fd = connect_to(server), accepted;

		if (i % 2)
			EXPECT(close(fd), 0);
		accepted = accept(server, NULL, NULL);
		CHECK(accepted >= 0, "accept: %s", strerror(errno));
		if (i % 2)
			EXPECT(recv(accepted, &fd, 1, 0), 0);
		EXPECT(close(accepted), 0);
		if (i % 2 == 0)
			EXPECT(close(fd), 0);
	}
	EXPECT(close(server), 0);
}

/* Sent before the server has accepted; read only then. */
static void backlog(void)
{
	struct end ends[20] = { 0 };
	int server = listener();

	for (int i = 0; i < 20; i++) {
		ends[i] = (struct end){ .fd = connect_to(server), .out_seed = 7, .in_seed = 8 };
		write_bytes(&ends[i], 3000);
		if (i % 2)
			EXPECT(shutdown(ends[i].fd, SHUT_WR), 0);
	}
	for (int i = 0; i < 20; i++) {
		struct end end = { .out_seed = 8, .in_seed = 7 };

		end.fd = accept(server, NULL, NULL);
		read_bytes(&end, 3000);
		write_bytes(&end, 100);
		EXPECT(close(end.fd), 0);
		read_bytes(&ends[i], 100);
		read_to_end(&ends[i]);
		EXPECT(close(ends[i].fd), 0);
	}
	EXPECT(close(server), 0);
}

const struct scenario tcp_accept[] = {
	{ "tcp_accept_nonblocking", accept_nonblocking, ONCE },
	{ "tcp_accept_wakes", accept_wakes, ONCE },
	{ "tcp_prefork", prefork, ONCE },
	{ "tcp_fork_for_each", fork_for_each, ONCE },
	{ "tcp_many_empty", many_empty, ONCE },
	{ "tcp_backlog", backlog, ONCE },
	{ 0 },
};
