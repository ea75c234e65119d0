/* SPDX-License-Identifier: GPL-2.0 */
/*
 * l45-peer: customized TCP streams over ordinary sockets, without a tap in the kernel.
 *
 * A connection has an application on one side (standard input and output, or a plain socket) and
 * the peer, who speaks the customized form, on the other. The core (stream.h) says what goes to
 * either; here is what a tap does around it, in one thread that waits in one place (peer_loop.c):
 *
 *	application -> `out.bytes` -> l45_send -> `out.frame` -> peer		(peer_send.c)
 *	peer -> `in.wire` -> l45_receive -> `in.app` -> application		(peer_receive.c)
 *
 * Each of these is filled again only when all of it has gone on: so who does not read is waited for
 * on the other side, no byte is copied but by modules that work on all bytes, and a connection
 * takes sizeof(struct connection) and what the core says. Commands (peer_control.c) change
 * customizations between two bytes of the application.
 */
#ifndef L45_PEER_H
#define L45_PEER_H

#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <stream.h>

#define PEER_BUFFER	 65536
#define PEER_LINE	 256  /* longest command */
#define PEER_CONNECTIONS 1024 /* most that a forwarder can be allowed at a time */

/* Exit statuses; 0 is a connection that both ends have closed, or that a signal told to close. */
#define PEER_FAILED 1
#define PEER_BROKEN 2

/*
 * What the command line says.
 */

enum peer_command {
	PEER_CONNECT,
	PEER_LISTEN,
	PEER_FORWARD,
};

struct customization {
	struct l45_instance instance;
	__u32 priority;
	__u8 switches;
};

struct options {
	enum peer_command command;
	const char *host, *port;
	char *to_host, *to_port; /* forward */
	bool near;		 /* forward: who connects to us speaks the customized form */
	__u32 limit;		 /* forward: connections at a time */
	const char *control;	 /* file or FIFO with commands, or NULL */
	char process[L45_NAME_SIZE];
	__u32 count;
	struct customization customizations[L45_ATTACHED_MAX];
};

/* Exits where there is nothing to run: after --help, or with what is wrong. */
void parse_options(int argc, char **argv, struct options *options);

/* Adds what `text`, the value of --module, says. Exits where it cannot be. */
void add_module(struct options *options, char *text);

void attach_modules(const struct options *options, struct l45_flow *flow);

bool to_switches(const char *text, __u8 *switches);

/*
 * Lines on standard error.
 */

extern bool verbose;

#define PRINTS __attribute__((format(printf, 1, 2)))

PRINTS void complain(const char *format, ...);
PRINTS void event(const char *format, ...); /* where `verbose` */
PRINTS __attribute__((noreturn)) void fail(const char *format, ...);

/*
 * Waiting, which signals end.
 */

void catch_signals(void);

/* SIGINT or SIGTERM has come. */
bool stopped(void);

/* Wait until one of them is ready, until that time (0: none) or for a signal; `revents` say. */
void wait_for(struct pollfd *polled, nfds_t count, __u64 until);

/* A file that nobody waits for now is not polled: it would report a hang-up again and again. */
static inline struct pollfd poll_entry(int fd, short events)
{
	return (struct pollfd){ .fd = events ? fd : -1, .events = events };
}

static inline bool is_transient(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/*
 * Sockets; none of them blocks. A negative result has been complained about, or `stopped`.
 */

struct addrinfo *resolve(const char *host, const char *port, int flags);
int open_connection(const struct addrinfo *to, const char *host, const char *port);
int open_listener(const char *address, const char *port);
void tell_address(const char *what, int fd);
int accept_connection(int listener);

/* The other end shall see that this is no orderly end. */
void reset_socket(int fd);

/*
 * Commands.
 */

enum verb {
	VERB_SET,
	VERB_ARM,
	VERB_GO,
	VERB_DISARM,
	VERB_DRAIN,
};

struct command {
	enum verb verb;
	__u64 at;    /* bytes of the application that go before */
	__u32 which; /* customization, from 0 */
	__u8 switches;
	bool keep; /* its priority */
	__u32 priority;
	__u8 token[L45_TOKEN];
	__u64 duration; /* ns */
};

struct control {
	int fd; /* -1: there are no more commands */
	unsigned long line;
	__u32 size;
	char text[PEER_LINE]; /* what of the file is not looked at yet */
	bool waiting;	      /* for the place of `next` in the application's bytes */
	struct command next;
};

/* The line up to its comment; NULL where it says nothing. */
char *without_comment(char *line);

/* NULL, or what is wrong with the line, which is taken apart. */
const char *parse_command(char *line, __u32 customizations, struct command *command);

/* Exits where the file cannot be used. */
void check_control(const struct options *options);

/*
 * A connection.
 */

struct outgoing {
	__u8 bytes[PEER_BUFFER]; /* from the application */
	__u32 start, end;	 /* of those that are in no frame yet */
	bool ended;		 /* the application sends no more */
	bool closed;		 /* and the peer was told */
	bool pending;		 /* a frame is made, and must be sent whole before anything else */
	struct l45_frame frame;
	__u32 sent; /* bytes of it */
	__u64 not_before;
	const struct l45_instance *known; /* last that we told of (event) */
	__u8 whole[L45_WHOLE_MAX];
};

struct incoming {
	__u8 wire[PEER_BUFFER]; /* from the peer */
	__u32 start, end;	/* of those that are not looked at yet */
	bool ended;		/* the peer sends no more */
	bool finished;		/* and the core has given all it had */
	bool closed;		/* and the application was told */
	struct l45_span app;	/* for the application */
	__u64 delivered;
	const struct l45_instance *known;
};

struct connection {
	const struct options *options;
	int application_in, application_out, peer;
	struct l45_flow flow;
	struct outgoing out;
	struct incoming in;
	struct control control;
	bool acted; /* a command was run: look at everything again */
	__u64 wake; /* when the core wants to be called */
	bool over;
	bool abrupt; /* both sides shall see a reset */
	int status;  /* for exit */
};

/* Returns the exit status. `application_in` and `application_out` may be the same; all are closed.
 */
int run_connection(const struct options *options, enum l45_role role, int application_in,
		   int application_out, int peer);

/* Accept and forward until a signal comes; returns the exit status. */
int run_forwarder(const struct options *options);

/*
 * Inside a connection.
 */

__attribute__((format(printf, 3, 4))) void break_off(struct connection *c, int status,
						     const char *format, ...);

void read_application(struct connection *c);
void send_frames(struct connection *c, __u64 now);

void read_peer(struct connection *c);
void decode(struct connection *c);
void deliver(struct connection *c);

void open_control(struct connection *c);
void run_commands(struct connection *c, __u64 now);

/* How many bytes of the application can be sent before the next command. */
__u32 bytes_before_command(const struct connection *c);

/* Tell of what has just been sent or received, where it was more than data. */
void tell_sent(struct connection *c);
void tell_received(struct connection *c);
const char *fault_text(enum l45_fault fault);

#endif
