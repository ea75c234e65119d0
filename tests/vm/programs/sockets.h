/* SPDX-License-Identifier: GPL-2.0 */
/*
 * sockets: what applications may rely on when they use TCP and UDP, scenario by scenario.
 *
 * A scenario is a function that runs in a process of its own; it has passed when it returns.
 * Threads and children that it starts may use everything here too. What is written is a pattern
 * that says where in which stream each byte belongs.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "pattern.h"

/* How a TCP scenario is run: `a` of its pair is the connecting end, or once
 * more with `a` as the accepting end. */
enum ways {
	ONCE,
	BOTH_WAYS
};

struct scenario {
	const char *name;
	void (*run)(void);
	enum ways ways;
};

/* The last one of a theme has no name. */
extern const struct scenario tcp_bulk[], tcp_calls[], tcp_poll[], tcp_receive[], tcp_peek[],
	tcp_splice[], tcp_close[], tcp_connect[], tcp_accept[], tcp_shared[], tcp_fault[],
	tcp_odd[], tcp_uring[], udp_basic[], udp_receive[], udp_address[], udp_offload[];

/* All of a program's; NULL ends them. */
extern const struct scenario *const themes[];

/* ---- run.c: one scenario ---- */

struct setting {
	int family;	 /* AF_INET or AF_INET6 */
	bool dual;	 /* IPv4 clients of IPv6 listeners */
	bool customized; /* what a customized socket may refuse is allowed */
	int patience;	 /* seconds until a scenario is stuck */
	bool accepted;	 /* the second way: `a` is the accepting end */
};

extern struct setting setting;

/* What is done now, for the watchdog. */
__attribute__((format(printf, 1, 2))) void step(const char *format, ...);
/* End the scenario. */
_Noreturn __attribute__((format(printf, 3, 4))) void fail_at(const char *file, int line,
							     const char *format, ...);
_Noreturn __attribute__((format(printf, 1, 2))) void skip(const char *format, ...);
void expect_at(const char *file, int line, const char *call, long got, long wanted);
void expect_errno_at(const char *file, int line, const char *call, long got, int wanted);

#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...)                                     \
	do {                                                      \
		if (!(condition))                                 \
			fail_at(__FILE__, __LINE__, __VA_ARGS__); \
	} while (0)
/* A call that gives a number, or -1 and errno. */
#define EXPECT(call, wanted)  expect_at(__FILE__, __LINE__, #call, (call), (wanted))
#define EXPECT_ERRNO(call, e) expect_errno_at(__FILE__, __LINE__, #call, (call), (e))

/* Run it, and once more as "NAME/accepted" where it is run both ways. Prints a line for each;
 * return whether none failed. */
bool run_scenario(const struct scenario *scenario);

/* ---- ends.c: connections, and the bytes on them ---- */

/* An end of a connection, and how far its two streams are. */
struct end {
	int fd;
	uint64_t out_seed, written;
	uint64_t in_seed, read;
};

struct pair {
	struct end a, b; /* a writes in most scenarios, b reads */
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A loopback address with a port, for the server or for who connects to it. */
socklen_t loopback(union address *address, bool server, uint16_t port);
uint16_t port_of(int fd);
/* A TCP listener on any port; a socket connected to it; both as a pair. */
int listener(void);
int client_socket(int type);
int connect_to(int listener_fd);
/* Buffers of 0 stay as the kernel has them. */
void open_pair(struct pair *pair);
void open_pair_buffered(struct pair *pair, int send_buffer, int receive_buffer);
void close_pair(struct pair *pair);
/* Both ends closed with nothing left unread: what is always so after a scenario that went well. */
void finish(struct pair *pair);

/* Let `buffer` be the next bytes that this end is to send, `ahead` bytes on. */
void next_bytes(const struct end *end, void *buffer, size_t ahead, size_t size);
/* Check that they are the next ones that this end is to read, `ahead` bytes on. */
void check_bytes(const struct end *end, const void *buffer, size_t ahead, size_t size);
/* ... and they have been read. */
void took(struct end *end, const void *buffer, size_t size);

/* Blocking: all of it, or the scenario fails. */
void write_bytes(struct end *end, size_t size);
void write_pieces(struct end *end, size_t size, size_t piece);
void read_bytes(struct end *end, size_t size);
void read_pieces(struct end *end, size_t size, size_t piece);
void read_to_end(struct end *end);
/* One call of recv with flags, which gives `wanted` bytes. */
void recv_wanted(struct end *end, size_t size, int flags, size_t wanted);
/* Wait until so many bytes can be read (FIONREAD). */
void wait_readable(const struct end *end, int bytes);
int readable(int fd);
short poll_now(int fd, short events);
short poll_until(int fd, short events);
void set_nonblocking(int fd, bool on);
void set_option(int fd, int level, int option, int value);
int get_option(int fd, int level, int option);
void set_timeout(int fd, int option, long milliseconds);

/* ---- peers.c: who else takes part ---- */

pthread_t start(void *(*run)(void *), void *argument);
void join(pthread_t thread);
/* A child; it ends with the function. */
pid_t spawn(void (*run)(void *), void *argument);
void join_child(pid_t child);
void sleep_ms(long milliseconds);
/* Block until the other thread sleeps in the kernel. */
void wait_asleep(pid_t thread);

#endif
