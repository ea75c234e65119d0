// SPDX-License-Identifier: GPL-2.0
/* l45-peer: the command (peer.h says how it works, peer_options.c how it is used). */
#include <unistd.h>

#include "peer.h"

static int run_connect(const struct options *options)
{
	struct addrinfo *to = resolve(options->host, options->port, 0);
	int peer;

	catch_signals();
	peer = open_connection(to, options->host, options->port);
	freeaddrinfo(to);
	if (peer < 0)
		return stopped() ? 0 : PEER_FAILED;
	return run_connection(options, L45_CONNECT, STDIN_FILENO, STDOUT_FILENO, peer);
}

static int run_listen(const struct options *options)
{
	int listener = open_listener(options->host, options->port), peer = -1;

	catch_signals();
	tell_address("listening", listener);
	while (peer < 0 && !stopped()) {
		struct pollfd polled = poll_entry(listener, POLLIN);

		wait_for(&polled, 1, 0);
		if (polled.revents)
			peer = accept_connection(listener);
	}
	close(listener);
	if (peer < 0)
		return 0;
	event("event=accepted");
	return run_connection(options, L45_ACCEPT, STDIN_FILENO, STDOUT_FILENO, peer);
}

int main(int argc, char **argv)
{
	static struct options options;

	parse_options(argc, argv, &options);
	switch (options.command) {
	case PEER_CONNECT:
		return run_connect(&options);
	case PEER_LISTEN:
		return run_listen(&options);
	default:
		return run_forwarder(&options);
	}
}
