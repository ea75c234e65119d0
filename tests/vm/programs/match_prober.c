// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets of processes with given names, users, programs and ends; each sends one datagram of four
 * bytes, and stays open.
 *
 *	match-prober		reads probes, a line each: EXECUTABLE PROCESS THREAD UID LOCAL
 *				LOCAL_PORT REMOTE REMOTE_PORT; prints the process id of each when
 *				its datagram is sent, in the order of the lines; ends them when
 *				its input ends
 *	match-prober one FD ...	is one of those, and ends when FD does
 *
 * An address with a colon makes an IPv6 socket, that of an IPv4 address (::ffff:10.0.0.1) too.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIELDS 8

struct end {
	struct sockaddr_storage address;
	socklen_t size;
};

static struct end end_of(const char *address, const char *port)
{
	struct end end = {};
	struct sockaddr_in6 *v6 = (void *)&end.address;
	struct sockaddr_in *v4 = (void *)&end.address;
	int is_v6 = strchr(address, ':') != NULL;

	end.address.ss_family = is_v6 ? AF_INET6 : AF_INET;
	end.size = is_v6 ? sizeof(*v6) : sizeof(*v4);
	if (is_v6)
		v6->sin6_port = htons(atoi(port));
	else
		v4->sin_port = htons(atoi(port));
	if (inet_pton(end.address.ss_family, address,
		      is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr) != 1)
		errx(1, "%s is no address", address);
	return end;
}

/* In a thread of its own: its name is one of the things that are matched. */
static void *send_one(void *given)
{
	char **fields = given;
	struct end local = end_of(fields[4], fields[5]), remote = end_of(fields[6], fields[7]);
	int fd;

	prctl(PR_SET_NAME, fields[2]);
	fd = socket(local.address.ss_family, SOCK_DGRAM, 0);
	if (fd < 0 || bind(fd, (void *)&local.address, local.size))
		err(1, "%s %s", fields[4], fields[5]);
	if (sendto(fd, "l4.5", 4, 0, (void *)&remote.address, remote.size) != 4)
		err(1, "to %s %s", fields[6], fields[7]);
	return NULL;
}

static int one(const char *until, char **fields)
{
	unsigned uid = strtoul(fields[3], NULL, 10);
	pthread_t thread;
	char rest;

	prctl(PR_SET_NAME, fields[1]);
	if (setresuid(uid, uid, uid))
		err(1, "user %u", uid);
	if (pthread_create(&thread, NULL, send_one, fields) || pthread_join(thread, NULL))
		errx(1, "no thread");
	printf("%d\n", getpid());
	fflush(stdout);
	return read(atoi(until), &rest, 1) != 0;
}

/* Start a probe, wait until it has sent, and pass on what it says. */
static void start(char *line, int until)
{
	char *arguments[FIELDS + 4] = { "match-prober", "one" }, number[16], *rest = line;
	int said[2];
	ssize_t size;

	snprintf(number, sizeof(number), "%d", until);
	arguments[2] = number;
	for (int i = 0; i < FIELDS; i++)
		arguments[3 + i] = strsep(&rest, " \n");
	if (!arguments[2 + FIELDS] || pipe(said))
		errx(1, "not a probe");
	if (!fork()) {
		fcntl(until, F_SETFD, 0);
		dup2(said[1], 1);
		close(said[0]);
		close(said[1]);
		execv(arguments[3], arguments);
		err(1, "%s", arguments[3]);
	}
	close(said[1]);
	size = read(said[0], number, sizeof(number));
	close(said[0]);
	if (size <= 0 || write(1, number, size) != size)
		errx(1, "a probe has failed");
}

int main(int count, char **arguments)
{
	char line[4096];
	int until[2];

	if (count == FIELDS + 3 && !strcmp(arguments[1], "one"))
		return one(arguments[2], arguments + 3);
	if (count != 1 || pipe2(until, O_CLOEXEC))
		errx(2, "see the source for how it is used");
	while (fgets(line, sizeof(line), stdin))
		start(line, until[0]);
	close(until[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
