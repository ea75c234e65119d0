// SPDX-License-Identifier: GPL-2.0
/* l45-peer forward: a process for each connection, so that nothing of one touches another. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define PAUSE_NS 100000000ull /* where no connection can be accepted although one is there */

struct forwarder {
	const struct options *options;
	const struct addrinfo *to;
	int listener;
	__u32 count;
	pid_t children[PEER_CONNECTIONS];
};

static void forget_child(struct forwarder *f, pid_t child)
{
	for (__u32 i = 0; i < f->count; i++)
		if (f->children[i] == child)
			f->children[i--] = f->children[--f->count];
}

static void reap(struct forwarder *f, int options)
{
	pid_t child;

	while (f->count && (child = waitpid(-1, NULL, options)) > 0)
		forget_child(f, child);
}

static int join(const struct forwarder *f, int accepted)
{
	const struct options *options = f->options;
	int other = open_connection(f->to, options->to_host, options->to_port);

	if (other < 0) {
		reset_socket(accepted);
		return PEER_FAILED;
	}
	if (options->near)
		return run_connection(options, L45_ACCEPT, other, other, accepted);
	return run_connection(options, L45_CONNECT, accepted, accepted, other);
}

static void run_child(const struct forwarder *f, int accepted, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(PEER_FAILED);
	close(f->listener);
	_exit(join(f, accepted));
}

static void take_connection(struct forwarder *f)
{
	int accepted = accept_connection(f->listener);
	pid_t parent = getpid(), child;

	if (accepted < 0) {
		wait_for(NULL, 0, l45_clock_ns() + PAUSE_NS);
		return;
	}
	child = fork();
	if (!child)
		run_child(f, accepted, parent);
	if (child > 0) {
		f->children[f->count++] = child;
	} else {
		complain("cannot fork for a connection: %s", strerror(errno));
		reset_socket(accepted);
	}
	close(accepted);
}

int run_forwarder(const struct options *options)
{
	struct forwarder f = { .options = options };
	struct addrinfo *to = resolve(options->to_host, options->to_port, 0);

	f.to = to;
	f.listener = open_listener(options->host, options->port);
	catch_signals();
	tell_address("listening", f.listener);
	while (!stopped()) {
		struct pollfd polled = poll_entry(f.listener, POLLIN);

		reap(&f, WNOHANG);
		/* Those over the limit wait in the listener's queue. */
		wait_for(&polled, f.count < options->limit, 0);
		if (polled.revents)
			take_connection(&f);
	}
	for (__u32 i = 0; i < f.count; i++)
		kill(f.children[i], SIGTERM);
	reap(&f, 0);
	close(f.listener);
	freeaddrinfo(to);
	return 0;
}
