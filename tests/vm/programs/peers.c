// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "sockets.h"

pthread_t start(void *(*run)(void *), void *argument)
{
	pthread_t thread;

	EXPECT(pthread_create(&thread, NULL, run, argument), 0);
	return thread;
}

void join(pthread_t thread)
{
	EXPECT(pthread_join(thread, NULL), 0);
}

pid_t spawn(void (*run)(void *), void *argument)
{
	pid_t child = fork();

	CHECK(child >= 0, "fork: %s", strerror(errno));
	if (child)
		return child;
	run(argument);
	_exit(0);
}

void join_child(pid_t child)
{
	int status;

	EXPECT(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "a child ended with status %#x", status);
}

void sleep_ms(long milliseconds)
{
	struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

void wait_asleep(pid_t thread)
{
	char path[64], line[512], *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", thread);
	for (;;) {
		FILE *file = fopen(path, "r");

		CHECK(file && fgets(line, sizeof(line), file), "%s: %s", path, strerror(errno));
		fclose(file);
		state = strrchr(line, ')');
		if (state && state[2] == 'S')
			return;
		sleep_ms(1);
	}
}
