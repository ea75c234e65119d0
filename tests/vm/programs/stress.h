/* SPDX-License-Identifier: GPL-2.0 */
/*
 * stress: connections come, are customized, and go, while sets are applied at random; every byte is
 * checked.
 *
 *	stress.c	the controller: workers, kills, what the end looks like
 *	stress_sets.c	... and sets
 *	stress_worker.c	a worker: one connection after the other, each with two processes
 *	stress_io.c	a direction of a connection: random calls
 *	stress_udp.c	pairs of UDP sockets
 *
 * Both ends of a connection are in one network namespace, so both have the same set; but each meets
 * it in its own time. An application's peer may be customized only when it is ready: what a worker
 * does where this counts (both ends' first use; a datagram's way) it does in a section, which it
 * enters and leaves, and the controller waits between two sets until all have left the sections
 * that they were in.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SLOTS	     6
#define REVOKES_MAX  65536
#define FAILURE_SIZE 512
#define STEP_SIZE    64

enum reason {
	BY_KILL,
	BY_PURPOSE,
	BY_DEADLINE,
	REASONS
};

/* A worker: process `a`, and its child `b` for the other end of a connection. */
struct slot {
	pid_t a, b;
	pid_t group;	     /* of both */
	uint32_t section;    /* odd while in one */
	uint32_t killed;     /* an end of this connection */
	uint32_t on_purpose; /* a reset by an end of this connection */
	uint64_t opened;     /* ns; also when the connection began that is used now */
	uint64_t connections, datagrams;
	uint64_t bytes;
	uint64_t short_reads;	 /* that gave less than was announced: the rest came later */
	char step[2][STEP_SIZE]; /* of each end */
};

/* A customization was taken away: streams that had it may be reset from then on. */
struct revoke {
	uint64_t at, deadline;
};

/* Between all processes. */
struct shared {
	uint32_t stop, paused, failed;
	uint32_t calm; /* workers open no connection while a set is applied that need not be */
	char failure[FAILURE_SIZE];
	uint64_t resets[REASONS];
	uint32_t revokes;
	struct revoke revoke[REVOKES_MAX];
	struct slot slots[SLOTS];
};

extern struct shared *shared;

struct random {
	uint64_t state;
};

uint32_t rnd(struct random *random, uint32_t below);
bool chance(struct random *random, uint32_t of);
uint64_t now_ns(void);
void sleep_us(long microseconds);

/* The first counts; ends this process. */
_Noreturn __attribute__((format(printf, 1, 2))) void failed(const char *format, ...);

/* A process that died by itself is a failure. */
void note_death(int status);

void enter_section(struct slot *slot);
void leave_section(struct slot *slot);
/* Wait until everybody has left the section that he is in. Only the controller. */
void wait_sections(void);

/* A worker; never returns. */
_Noreturn void work(struct slot *slot, uint64_t seed);
/* A number of datagrams there and back. */
void use_datagrams(struct slot *slot, struct random *random, int family);

/* One direction of a connection, as one of its ends has it. */
struct direction {
	int fd;
	struct random random;
	uint64_t seed, done, total;
	uint64_t stop_at; /* bytes; the writer resets the connection there */
	struct slot *slot;
	char *step;
	const char *end;
	int pipe[2];
};

/* Return 0, or the errno of a connection that has ended too early (EPIPE, ECONNRESET). Bytes that
 * are wrong and errors that may not be end the process. */
int write_all(struct direction *direction);
int read_all(struct direction *direction);

/* The controller's part: what is in force, changed at random. */
void sets_open(uint64_t seed);
void sets_change(void);
void sets_close(void);
unsigned long sets_applied(void);
/* Bytes that were customized and restored, by the tap's count. */
uint64_t sets_restored(void);

#endif
