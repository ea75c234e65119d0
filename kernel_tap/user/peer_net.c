// SPDX-License-Identifier: GPL-2.0
/* l45-peer: sockets, signals and waiting (peer.h). */
#define _GNU_SOURCE /* ppoll, accept4 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"
#include "text.h"

static volatile sig_atomic_t stop;

static void note_stop(int signal)
{
	(void)signal;
	stop = 1;
}

static void note_child(int signal)
{
	(void)signal;
}

/* Signals come while we wait and at no other time, so none is missed. */
void catch_signals(void)
{
	struct sigaction action = { .sa_handler = note_stop };
	sigset_t caught;

	sigemptyset(&caught);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGCHLD);
	sigprocmask(SIG_BLOCK, &caught, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = note_child;
	sigaction(SIGCHLD, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool stopped(void)
{
	return stop;
}

void wait_for(struct pollfd *polled, nfds_t count, __u64 until)
{
	__u64 now = l45_clock_ns(), left = until > now ? until - now : 0;
	struct timespec time = { .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
	sigset_t none;

	sigemptyset(&none);
	if (ppoll(polled, count, until ? &time : NULL, &none) >= 0)
		return;
	for (nfds_t i = 0; i < count; i++)
		polled[i].revents = 0;
}

struct addrinfo *resolve(const char *host, const char *port, int flags)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags }, *found;
	__u64 number;
	int error;

	/* Which getaddrinfo would take for another one. */
	if (isdigit((unsigned char)*port) && !to_number(port, UINT16_MAX, &number))
		fail("port %s: want a number from 0 to 65535, or the name of a service", port);
	error = getaddrinfo(host, port, &hints, &found);
	if (error)
		fail("%s port %s: %s", host, port, gai_strerror(error));
	return found;
}

/* A small write goes at once: the other end may wait for it (a TLS handshake does). */
static void send_at_once(int fd)
{
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

void tell_address(const char *what, int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getsockname(fd, (struct sockaddr *)&address, &size) ||
	    getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	event("event=%s address=%s port=%s", what, host, port);
}

/* 0, or why there is no connection. */
static int connect_socket(int fd, const struct addrinfo *to)
{
	struct pollfd polled = poll_entry(fd, POLLOUT);
	socklen_t size = sizeof(int);
	int error = 0;

	if (!connect(fd, to->ai_addr, to->ai_addrlen))
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	while (!stopped() && !polled.revents)
		wait_for(&polled, 1, 0);
	if (stopped())
		return EINTR;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? errno : error;
}

int open_connection(const struct addrinfo *to, const char *host, const char *port)
{
	int error = 0;

	for (; to && !stopped(); to = to->ai_next) {
		int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		error = fd < 0 ? errno : connect_socket(fd, to);
		if (!error) {
			send_at_once(fd);
			tell_address("connected", fd);
			return fd;
		}
		close(fd);
	}
	if (!stopped())
		complain("cannot connect to %s port %s: %s", host, port, strerror(error));
	return -1;
}

static int listen_socket(int fd, const struct addrinfo *at)
{
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	return bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, SOMAXCONN) ? errno : 0;
}

int open_listener(const char *address, const char *port)
{
	struct addrinfo *found = resolve(address, port, AI_PASSIVE), *at;
	int fd = -1, error = 0;

	for (at = found; at && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		error = fd < 0 ? errno : listen_socket(fd, at);
		if (error) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	if (fd < 0)
		fail("cannot listen at %s port %s: %s", address, port, strerror(error));
	return fd;
}

int accept_connection(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && !is_transient(errno) && errno != ECONNABORTED)
		complain("cannot accept a connection: %s", strerror(errno));
	if (fd >= 0)
		send_at_once(fd);
	return fd;
}

void reset_socket(int fd)
{
	struct linger at_once = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}
