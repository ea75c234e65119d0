// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"
#include "stress.h"

#define STUCK_SECONDS 150 /* without a step anywhere in a worker; emulated machines are slow */

struct shared *shared;

static pid_t controller;
static unsigned long kills;
static bool plain; /* no sets: what this program asks for is true without a tap too */

uint32_t rnd(struct random *random, uint32_t below)
{
	random->state = pattern_mix(random->state);
	return below ? (random->state >> 16) % below : 0;
}

bool chance(struct random *random, uint32_t of)
{
	return !rnd(random, of);
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void sleep_us(long microseconds)
{
	struct timespec time = { microseconds / 1000000, microseconds % 1000000 * 1000 };

	nanosleep(&time, NULL);
}

/* Nobody stays: a worker and its child are a group. */
static void kill_workers(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (shared->slots[i].group > 0)
			kill(-shared->slots[i].group, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void summarize(void)
{
	uint64_t connections = 0, datagrams = 0, bytes = 0, short_reads = 0;

	for (int i = 0; i < SLOTS; i++) {
		connections += shared->slots[i].connections;
		datagrams += shared->slots[i].datagrams;
		bytes += shared->slots[i].bytes;
		short_reads += shared->slots[i].short_reads;
	}
	printf("stress connections=%lu bytes=%lu restored=%lu datagrams=%lu applies=%lu kills=%lu "
	       "ended_by_kill=%lu ended_on_purpose=%lu ended_at_deadline=%lu short_reads=%lu\n",
	       connections, bytes, sets_restored(), datagrams, sets_applied(), kills,
	       shared->resets[BY_KILL], shared->resets[BY_PURPOSE], shared->resets[BY_DEADLINE],
	       short_reads);
}

static _Noreturn void conclude(void)
{
	kill_workers();
	summarize();
	if (shared->failed)
		printf("FAIL %s\n", shared->failure);
	fflush(stdout);
	_exit(shared->failed != 0);
}

void failed(const char *format, ...)
{
	char text[FAILURE_SIZE];
	va_list arguments;
	uint32_t nobody = 0;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (__atomic_compare_exchange_n(&shared->failed, &nobody, 1, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		strcpy(shared->failure, text);
	if (getpid() == controller)
		conclude();
	_exit(1);
}

void note_death(int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
	    !__atomic_exchange_n(&shared->failed, 1, __ATOMIC_SEQ_CST))
		snprintf(shared->failure, FAILURE_SIZE, "a worker died of signal %d",
			 WTERMSIG(status));
}

void enter_section(struct slot *slot)
{
	for (;;) {
		__atomic_add_fetch(&slot->section, 1, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&shared->paused, __ATOMIC_SEQ_CST))
			return;
		leave_section(slot);
		sleep_us(1000);
	}
}

void leave_section(struct slot *slot)
{
	__atomic_add_fetch(&slot->section, 1, __ATOMIC_SEQ_CST);
}

void wait_sections(void)
{
	for (int i = 0; i < SLOTS; i++) {
		struct slot *slot = &shared->slots[i];
		uint32_t seen = __atomic_load_n(&slot->section, __ATOMIC_SEQ_CST);

		while (seen % 2 && seen == __atomic_load_n(&slot->section, __ATOMIC_SEQ_CST) &&
		       !__atomic_load_n(&shared->failed, __ATOMIC_SEQ_CST))
			sleep_us(500);
	}
}

static void start_worker(int number, uint64_t seed)
{
	struct slot *slot = &shared->slots[number];
	pid_t child;

	slot->b = 0;
	child = fork();
	if (!child)
		work(slot, seed);
	setpgid(child, child);
	slot->a = slot->group = child;
}

/* An end of a connection dies. */
static void kill_one(struct random *random)
{
	struct slot *slot = &shared->slots[rnd(random, SLOTS)];
	pid_t victim = chance(random, 2) ? slot->a : slot->b;

	if (slot->a <= 0 || victim <= 0 || !slot->b)
		return;
	__atomic_store_n(&slot->killed, 1, __ATOMIC_SEQ_CST);
	kill(victim, SIGKILL);
	__atomic_store_n(&slot->killed, 1, __ATOMIC_SEQ_CST);
	kills++;
	if (victim != slot->a)
		return; /* its worker waits for it */
	waitpid(victim, NULL, 0);
	slot->a = 0;
	slot->section += slot->section % 2; /* it died in one */
}

/* A worker that was killed begins again when the other end of its connection has ended too. */
static void reap(uint64_t *seed)
{
	pid_t child;
	int status;

	while ((child = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < SLOTS; i++) {
			struct slot *slot = &shared->slots[i];

			slot->a = slot->a == child ? 0 : slot->a;
			slot->b = !slot->a && slot->b == child ? 0 : slot->b;
		}
		note_death(status);
	}
	for (int i = 0; i < SLOTS && !shared->stop; i++)
		if (!shared->slots[i].a && (!shared->slots[i].b || kill(shared->slots[i].b, 0)))
			start_worker(i, pattern_mix(++*seed));
}

static void look_for_stuck(void)
{
	static char last[SLOTS][2][STEP_SIZE];
	static uint64_t since[SLOTS];

	for (int i = 0; i < SLOTS; i++) {
		struct slot *slot = &shared->slots[i];

		if (!since[i] || memcmp(last[i], slot->step, sizeof(last[i])) ||
		    !strcmp(slot->step[0], "datagrams")) {
			memcpy(last[i], slot->step, sizeof(last[i]));
			since[i] = now_ns();
		}
		if (now_ns() - since[i] < STUCK_SECONDS * 1000000000ull ||
		    __atomic_exchange_n(&shared->failed, 1, __ATOMIC_SEQ_CST))
			continue;
		snprintf(shared->failure, FAILURE_SIZE, "stuck: %.60s | %.60s%s", slot->step[0],
			 slot->step[1], slot->on_purpose ? " (one resets)" : "");
	}
}

static void control(unsigned long seconds, uint64_t seed)
{
	uint64_t end = now_ns() + seconds * 1000000000ull;
	struct random random = { seed };

	for (int i = 0; i < SLOTS; i++)
		start_worker(i, pattern_mix(++seed));
	if (!plain)
		sets_open(pattern_mix(seed));
	while (now_ns() < end && !__atomic_load_n(&shared->failed, __ATOMIC_SEQ_CST)) {
		if (!plain)
			sets_change();
		if (chance(&random, 4))
			kill_one(&random);
		reap(&seed);
		look_for_stuck();
		sleep_us(rnd(&random, 100000));
	}
	__atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
}

/* All workers end by themselves, each after its connection. */
static void wait_workers(uint64_t seed)
{
	for (int i = 0; i < SLOTS; i++)
		while (shared->slots[i].a && !shared->failed) {
			reap(&seed);
			look_for_stuck();
			sleep_us(20000);
		}
}

int main(int count, char **words)
{
	bool calm = false;
	uint64_t seed;

	if (count == 4) {
		plain = !strcmp(words[1], "--plain");
		calm = !strcmp(words[1], "--calm");
	}
	if (count != 3 + (plain || calm)) {
		fputs("stress [--plain | --calm] SECONDS SEED\n", stderr);
		return 2;
	}
	words += plain || calm;
	seed = pattern_mix(strtoull(words[2], NULL, 0));
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* of ends whose worker was killed */
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return perror("mmap"), 2;
	controller = getpid();
	shared->calm = calm;
	control(strtoul(words[1], NULL, 0), seed);
	wait_workers(seed);
	if (!plain && !shared->failed)
		sets_close();
	conclude();
}
