// SPDX-License-Identifier: GPL-2.0
/* How connections begin, and what goes wrong with that. */
#include <netinet/tcp.h>

#include "sockets.h"

/* A port where nobody listens: bound, so that nobody else takes it. */
static socklen_t deaf(union address *address, int *holder)
{
	socklen_t size = loopback(address, true, 0);

	*holder = socket(setting.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT(bind(*holder, &address->any, size), 0);
	return loopback(address, false, port_of(*holder));
}

static void refused(void)
{
	union address address;
	int fd = client_socket(SOCK_STREAM), holder;
	socklen_t size = deaf(&address, &holder);

	EXPECT_ERRNO(connect(fd, &address.any, size), ECONNREFUSED);
	EXPECT(get_option(fd, SOL_SOCKET, SO_ERROR), 0);
	EXPECT_ERRNO(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT(close(fd), 0);
	EXPECT(close(holder), 0);
}

static void use(int fd, int listener_fd)
{
	struct pair pair = { .a = { .fd = fd, .out_seed = 1, .in_seed = 2 },
			     .b = { .out_seed = 2, .in_seed = 1 } };

	pair.b.fd = accept(listener_fd, NULL, NULL);
	CHECK(pair.b.fd >= 0, "accept: %s", strerror(errno));
	write_bytes(&pair.a, 5000);
	read_bytes(&pair.b, 5000);
	write_bytes(&pair.b, 7000);
	read_bytes(&pair.a, 7000);
	finish(&pair);
}

/* A socket that was refused connects the next time. */
static void again(void)
{
	union address address;
	int fd = client_socket(SOCK_STREAM), server = listener(), holder;
	socklen_t size = deaf(&address, &holder);

	EXPECT_ERRNO(connect(fd, &address.any, size), ECONNREFUSED);
	size = loopback(&address, false, port_of(server));
	EXPECT(connect(fd, &address.any, size), 0);
	use(fd, server);
	EXPECT(close(server), 0);
	EXPECT(close(holder), 0);
}

static void nonblocking_refused(void)
{
	union address address;
	int fd = client_socket(SOCK_STREAM | SOCK_NONBLOCK), holder;
	socklen_t size = deaf(&address, &holder);
	int result = connect(fd, &address.any, size);

	CHECK(result == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED), "connect: %d %s",
	      result, strerrorname_np(errno));
	if (errno == EINPROGRESS) {
		EXPECT(poll_until(fd, POLLOUT) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
		EXPECT(get_option(fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	}
	EXPECT(get_option(fd, SOL_SOCKET, SO_ERROR), 0);
	EXPECT(close(fd), 0);
	EXPECT(close(holder), 0);
}

static void nonblocking_connect(void)
{
	union address address;
	int server = listener(), fd = client_socket(SOCK_STREAM | SOCK_NONBLOCK);
	socklen_t size = loopback(&address, false, port_of(server));

	EXPECT_ERRNO(connect(fd, &address.any, size), EINPROGRESS);
	EXPECT(poll_until(fd, POLLOUT), POLLOUT);
	EXPECT(get_option(fd, SOL_SOCKET, SO_ERROR), 0);
	EXPECT(connect(fd, &address.any, size), 0);
	EXPECT_ERRNO(connect(fd, &address.any, size), EISCONN);
	set_nonblocking(fd, false);
	use(fd, server);
	EXPECT(close(server), 0);
}

/* connect to AF_UNSPEC takes a connection off a socket, and it can be used again. */
static void disconnect(void)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	int server = listener(), fd = client_socket(SOCK_STREAM);

	for (int i = 0; i < 5; i++) {
		union address address;
		socklen_t size = loopback(&address, false, port_of(server));
		struct end a = { .fd = fd, .out_seed = i, .in_seed = i + 10 };
		struct end b = { .out_seed = i + 10, .in_seed = i };

		step("connection %d", i);
		EXPECT(connect(fd, &address.any, size), 0);
		b.fd = accept(server, NULL, NULL);
		write_bytes(&a, 2000 + i);
		read_bytes(&b, 2000 + i);
		write_bytes(&b, 3000);
		read_bytes(&a, 3000 - i * 10); /* some are left, and forgotten */
		EXPECT(connect(fd, &nobody, sizeof(nobody)), 0);
		EXPECT_ERRNO(recv(b.fd, &address, 1, 0), ECONNRESET);
		EXPECT_ERRNO(recv(fd, &address, 1, 0), ECONNRESET);
		EXPECT_ERRNO(recv(fd, &address, 1, 0), ENOTCONN);
		EXPECT(close(b.fd), 0);
	}
	EXPECT(close(fd), 0);
	EXPECT(close(server), 0);
}

static void not_connected(void)
{
	int server = listener(), fd = client_socket(SOCK_STREAM);
	union address address;
	socklen_t size = sizeof(address);

	EXPECT_ERRNO(recv(fd, &address, 1, 0), ENOTCONN);
	EXPECT_ERRNO(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT_ERRNO(getpeername(fd, &address.any, &size), ENOTCONN);
	EXPECT_ERRNO(shutdown(fd, SHUT_WR), ENOTCONN);
	EXPECT(poll_now(fd, POLLIN | POLLOUT), POLLOUT | POLLHUP);
	step("a listener");
	EXPECT_ERRNO(recv(server, &address, 1, 0), ENOTCONN);
	EXPECT_ERRNO(send(server, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT_ERRNO(accept(fd, NULL, NULL), EINVAL);
	EXPECT(connect_to(server) >= 0, true);
	EXPECT(poll_until(server, POLLIN), POLLIN);
	EXPECT(close(fd), 0);
	EXPECT(close(server), 0);
}

/* A socket that was asked too early works when it is connected. */
static void too_early(void)
{
	int server = listener(), fd = client_socket(SOCK_STREAM);
	union address address;
	socklen_t size = loopback(&address, false, port_of(server));

	EXPECT_ERRNO(recv(fd, &address, 1, 0), ENOTCONN);
	EXPECT_ERRNO(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT(poll_now(fd, POLLIN | POLLOUT), POLLOUT | POLLHUP);
	EXPECT(connect(fd, &address.any, size), 0);
	use(fd, server);
	EXPECT(close(server), 0);
}

static void same_address(const union address *one, const union address *other, socklen_t size)
{
	CHECK(!memcmp(one, other, size), "addresses differ");
}

static void names(void)
{
	int server = listener(), fd = connect_to(server), accepted;
	union address here, there, peer;
	socklen_t size = sizeof(peer), here_size = sizeof(here), there_size = sizeof(there);

	accepted = accept4(server, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(accepted >= 0, "accept4: %s", strerror(errno));
	EXPECT(fcntl(accepted, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	EXPECT(fcntl(accepted, F_GETFD), FD_CLOEXEC);
	EXPECT(getpeername(accepted, &here.any, &here_size), 0);
	EXPECT(here_size, size);
	same_address(&here, &peer, size);
	EXPECT(getpeername(fd, &there.any, &there_size), 0);
	EXPECT(getsockname(accepted, &here.any, &here_size), 0);
	if (!setting.dual)
		same_address(&here, &there, size);
	EXPECT(port_of(accepted), port_of(server));
	EXPECT(get_option(accepted, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	EXPECT(get_option(accepted, SOL_SOCKET, SO_DOMAIN), setting.family);
	EXPECT(get_option(server, SOL_SOCKET, SO_ACCEPTCONN), 1);
	EXPECT(get_option(accepted, SOL_SOCKET, SO_ACCEPTCONN), 0);
	EXPECT(close(fd), 0);
	EXPECT(close(accepted), 0);
	EXPECT(close(server), 0);
}

/* As SSH and SMTP: nothing of the client is on the wire when the server begins. */
static void server_first(void)
{
	int server = listener();
	struct pair pair = { .a = { .out_seed = 1, .in_seed = 2 },
			     .b = { .out_seed = 2, .in_seed = 1 } };

	pair.a.fd = connect_to(server);
	pair.b.fd = accept(server, NULL, NULL);
	write_bytes(&pair.b, 200);
	read_bytes(&pair.a, 200);
	for (int i = 1; i < 100; i++) {
		write_bytes(&pair.a, i * 10);
		read_bytes(&pair.b, i * 10);
		write_bytes(&pair.b, i * 20);
		read_bytes(&pair.a, i * 20);
	}
	EXPECT(close(server), 0);
	finish(&pair);
}

/* Both send at once, before either has read. */
static void both_first(void)
{
	int server = listener();
	struct pair pair = { .a = { .out_seed = 1, .in_seed = 2 },
			     .b = { .out_seed = 2, .in_seed = 1 } };

	pair.a.fd = connect_to(server);
	pair.b.fd = accept(server, NULL, NULL);
	write_bytes(&pair.a, 1000);
	write_bytes(&pair.b, 1000);
	write_bytes(&pair.a, 1000);
	write_bytes(&pair.b, 1000);
	read_bytes(&pair.a, 2000);
	read_bytes(&pair.b, 2000);
	write_bytes(&pair.b, 1000);
	read_bytes(&pair.a, 1000);
	EXPECT(close(server), 0);
	finish(&pair);
}

const struct scenario tcp_connect[] = {
	{ "tcp_refused", refused, ONCE },
	{ "tcp_again", again, ONCE },
	{ "tcp_nonblocking_refused", nonblocking_refused, ONCE },
	{ "tcp_nonblocking_connect", nonblocking_connect, ONCE },
	{ "tcp_disconnect", disconnect, ONCE },
	{ "tcp_not_connected", not_connected, ONCE },
	{ "tcp_too_early", too_early, ONCE },
	{ "tcp_names", names, ONCE },
	{ "tcp_server_first", server_first, ONCE },
	{ "tcp_both_first", both_first, ONCE },
	{ 0 },
};
