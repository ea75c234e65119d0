// SPDX-License-Identifier: GPL-2.0
/* l45-peer: how it is used. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "peer.h"
#include "text.h"

#define DEFAULT_LIMIT 64

static const char help[] =
	"l45-peer speaks customized TCP streams (docs/wire-format.md) over ordinary sockets.\n"
	"\n"
	"  l45-peer connect [OPTIONS] HOST PORT     standard input to the peer, the peer to\n"
	"  l45-peer listen  [OPTIONS] ADDRESS PORT  standard output, as nc does; one connection\n"
	"  l45-peer forward [OPTIONS] --to HOST:PORT ADDRESS PORT\n"
	"                                           for programs that speak plain TCP\n"
	"\n"
	"  -m, --module MODULE[,SETTING]...  a customization; again for more, at most 16\n"
	"        MODULE is a file with a slash in its name, or a module beside this program.\n"
	"        epoch=1                     tells customizations of one module apart\n"
	"        token=0000000000000000      of the start mark; both ends have the same\n"
	"        priority=10                 the lowest number is asked first\n"
	"        parameters=HEX              packed as wire/manifest.py does: little-endian, in\n"
	"                                    the order of the manifest\n"
	"        off, send, receive, both    what it may do at first; else both\n"
	"  -p, --process NAME     who modules take for the owner of the socket\n"
	"  -c, --control FILE     commands while a connection runs, from a file or a FIFO\n"
	"  -t, --to HOST:PORT     forward: where to ([HOST]:PORT for IPv6)\n"
	"  -s, --customize SIDE   forward: near: who connects to us speaks the customized form;\n"
	"                         far (if left out): whom we connect to\n"
	"  -l, --limit NUMBER     forward: connections at a time, 64 if left out\n"
	"  -v, --verbose          a line on standard error for each thing that happens\n"
	"  -h, --help\n"
	"\n"
	"Port 0 is any; --verbose tells which.\n"
	"Exit status: 0, 1 where something failed, 2 where the peer broke the format.\n"
	"\n"
	"Commands are lines, done one after the other. MODULE is 1 for the first --module.\n"
	"  set MODULE off|send|receive|both [PRIORITY]\n"
	"  arm TOKEN MILLISECONDS    look for the mark of a live stream\n"
	"  go                        send that mark: both ends are armed\n"
	"  disarm\n"
	"  drain MILLISECONDS        reset if the peer has not ended its customization by then\n"
	"  at BYTES COMMAND          when the application has sent so many bytes\n"
	"\n"
	"A tag (7) before every 1000 bytes:\n"
	"  l45-peer listen -v -m stream_tag,parameters=0700000000000000e8030000 :: 4500\n"
	"  l45-peer connect -v -m stream_tag,parameters=0700000000000000e8030000 localhost 4500\n"
	"curl through two forwarders, customized in between:\n"
	"  l45-peer forward -m stream_xor,parameters=5a5a5a5a -s near -t localhost:8000 :: 4500\n"
	"  l45-peer forward -m stream_xor,parameters=5a5a5a5a -t localhost:4500 localhost 4501\n"
	"  curl http://localhost:4501/\n"
	"From the first customization to the second when 5000 bytes are sent, by -c FILE with:\n"
	"  at 5000 set 2 both 5\n";

static const struct option long_options[] = {
	{ "module", required_argument, NULL, 'm' },
	{ "process", required_argument, NULL, 'p' },
	{ "control", required_argument, NULL, 'c' },
	{ "to", required_argument, NULL, 't' },
	{ "customize", required_argument, NULL, 's' },
	{ "limit", required_argument, NULL, 'l' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static void parse_process(struct options *options, const char *name)
{
	if (strlen(name) >= sizeof(options->process))
		fail("--process %s: at most %zu characters", name, sizeof(options->process) - 1);
	memset(options->process, 0, sizeof(options->process));
	memcpy(options->process, name, strlen(name));
}

static void parse_to(struct options *options, char *text)
{
	char *colon = strrchr(text, ':'), *host_end = colon;

	if (!colon || colon == text || !colon[1])
		fail("--to %s: want HOST:PORT, or [HOST]:PORT for IPv6", text);
	options->to_port = colon + 1;
	options->to_host = text;
	if (*text == '[' && colon[-1] == ']') {
		options->to_host++;
		host_end--;
	}
	*host_end = 0;
}

static void parse_side(struct options *options, const char *side)
{
	options->near = !strcmp(side, "near");
	if (!options->near && strcmp(side, "far"))
		fail("--customize %s: want near or far", side);
}

static void parse_limit(struct options *options, const char *text)
{
	__u64 number;

	if (!to_number(text, PEER_CONNECTIONS, &number) || !number)
		fail("--limit %s: want a number from 1 to %d", text, PEER_CONNECTIONS);
	options->limit = number;
}

static void parse_option(struct options *options, int option)
{
	switch (option) {
	case 'm':
		return add_module(options, optarg);
	case 'p':
		return parse_process(options, optarg);
	case 'c':
		options->control = optarg;
		return;
	case 't':
		return parse_to(options, optarg);
	case 's':
		return parse_side(options, optarg);
	case 'l':
		return parse_limit(options, optarg);
	case 'v':
		verbose = true;
		return;
	case 'h':
		fputs(help, stdout);
		exit(EXIT_SUCCESS);
	default: /* getopt has said what is wrong */
		fail("--help explains");
	}
}

static void parse_command_name(struct options *options, const char *name)
{
	static const char *const names[] = {
		[PEER_CONNECT] = "connect",
		[PEER_LISTEN] = "listen",
		[PEER_FORWARD] = "forward",
	};

	for (__u32 i = 0; i < 3; i++) {
		if (!strcmp(name, names[i])) {
			options->command = i;
			return;
		}
	}
	fail("%s: want connect, listen or forward; --help explains", name);
}

static void check_forward(const struct options *options)
{
	if (options->command == PEER_FORWARD) {
		if (!options->to_host)
			fail("forward wants --to HOST:PORT");
		return;
	}
	if (options->to_host || options->near || options->limit != DEFAULT_LIMIT)
		fail("--to, --customize and --limit are for forward");
}

void parse_options(int argc, char **argv, struct options *options)
{
	int option;

	options->limit = DEFAULT_LIMIT;
	while ((option = getopt_long(argc, argv, "m:p:c:t:s:l:vh", long_options, NULL)) != -1)
		parse_option(options, option);
	if (argc - optind != 3)
		fail("want connect, listen or forward, a host and a port; --help explains");
	parse_command_name(options, argv[optind]);
	options->host = argv[optind + 1];
	options->port = argv[optind + 2];
	check_forward(options);
	if (options->control)
		check_control(options);
}
