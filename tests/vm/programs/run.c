// SPDX-License-Identifier: GPL-2.0
/* One scenario: a process, a watchdog, a line. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "sockets.h"

#define TEXT_SIZE  512
#define LABEL_SIZE 96

struct setting setting;
static int verdict_fd;	   /* to whoever waits for the scenario: the first text counts */
static char *current_step; /* shared with it */

void step(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(current_step, TEXT_SIZE, format, arguments);
	va_end(arguments);
}

static _Noreturn void conclude(const char *verdict, const char *text)
{
	char line[2 * TEXT_SIZE];
	int size = snprintf(line, sizeof(line), "%s %s", verdict, text);

	/* Less than PIPE_BUF: whole, or not at all where it was read already. */
	if (write(verdict_fd, line, size) < 0)
		_exit(3);
	_exit(1);
}

void fail_at(const char *file, int line, const char *format, ...)
{
	char text[TEXT_SIZE], whole[TEXT_SIZE + 128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	snprintf(whole, sizeof(whole), "%s (%s:%d, step: %s)", text, file, line, current_step);
	conclude("FAIL", whole);
}

void skip(const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	conclude("skip", text);
}

static const char *errno_text(long got)
{
	const char *name = got == -1 ? strerrorname_np(errno) : NULL;

	return name ? name : "";
}

void expect_at(const char *file, int line, const char *call, long got, long wanted)
{
	if (got != wanted)
		fail_at(file, line, "%s: expected %ld, got %ld %s", call, wanted, got,
			errno_text(got));
}

void expect_errno_at(const char *file, int line, const char *call, long got, int wanted)
{
	if (got != -1)
		fail_at(file, line, "%s: expected %s, got %ld", call, strerrorname_np(wanted), got);
	if (errno != wanted)
		fail_at(file, line, "%s: expected %s, got %s", call, strerrorname_np(wanted),
			errno_text(got));
}

static _Noreturn void be_scenario(const struct scenario *scenario)
{
	setpgid(0, 0);
	scenario->run();
	conclude("ok", "");
}

/* Read the verdict of a scenario, at most TEXT_SIZE bytes. */
static void read_verdict(int fd, char text[2 * TEXT_SIZE])
{
	struct pollfd ready = { fd, POLLIN, 0 };
	ssize_t got;

	if (poll(&ready, 1, setting.patience * 1000) == 0) {
		snprintf(text, 2 * TEXT_SIZE, "FAIL stuck in step: %s", current_step);
		return;
	}
	got = read(fd, text, 2 * TEXT_SIZE - 1);
	text[got > 0 ? got : 0] = '\0';
}

static bool print(const char *label, const char *verdict)
{
	const char *text = strchr(verdict, ' ');

	if (!strncmp(verdict, "ok", 2))
		printf("ok %s\n", label);
	else
		printf("%.*s %s: %s\n", (int)(text - verdict), verdict, label, text + 1);
	fflush(stdout);
	return strncmp(verdict, "FAIL", 4) != 0;
}

/* Nothing of a scenario stays: its children are in its group. One that died wrote no verdict. */
static void bury(pid_t child, char verdict[2 * TEXT_SIZE])
{
	int status;

	kill(-child, SIGKILL);
	waitpid(child, &status, 0);
	if (!verdict[0])
		snprintf(verdict, 2 * TEXT_SIZE, "FAIL died of signal %d in step: %s",
			 WIFSIGNALED(status) ? WTERMSIG(status) : 0, current_step);
}

static bool run_way(const struct scenario *scenario, const char *label)
{
	char verdict[2 * TEXT_SIZE];
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC)) {
		perror("pipe2");
		exit(2);
	}
	step("begin");
	child = fork();
	if (!child) {
		close(fds[0]);
		verdict_fd = fds[1];
		be_scenario(scenario);
	}
	setpgid(child, child);
	close(fds[1]);
	read_verdict(fds[0], verdict);
	bury(child, verdict);
	close(fds[0]);
	return print(label, verdict);
}

bool run_scenario(const struct scenario *scenario)
{
	char label[LABEL_SIZE];
	bool passed = true;

	if (!current_step)
		current_step = mmap(NULL, TEXT_SIZE, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int way = 0; way <= (scenario->ways == BOTH_WAYS); way++) {
		setting.accepted = way;
		snprintf(label, sizeof(label), "%s%s", scenario->name, way ? "/accepted" : "");
		passed &= run_way(scenario, label);
	}
	return passed;
}
