// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <sys/ioctl.h>

#include "sockets.h"

#define PIECE	 65536
#define PATIENCE 60000 /* ms; the watchdog says where */

/* Seeds of what the connecting and the accepting end send. */
enum {
	CONNECTING = 0x1000,
	ACCEPTING = 0x2000
};

socklen_t loopback(union address *address, bool server, uint16_t port)
{
	memset(address, 0, sizeof(*address));
	if (setting.family == AF_INET || (setting.dual && !server)) {
		address->v4.sin_family = AF_INET;
		address->v4.sin_port = htons(port);
		address->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(address->v4);
	}
	address->v6.sin6_family = AF_INET6;
	address->v6.sin6_port = htons(port);
	address->v6.sin6_addr = setting.dual ? in6addr_any : in6addr_loopback;
	return sizeof(address->v6);
}

uint16_t port_of(int fd)
{
	union address address;
	socklen_t size = sizeof(address);

	EXPECT(getsockname(fd, &address.any, &size), 0);
	return ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
}

int listener(void)
{
	union address address;
	socklen_t size = loopback(&address, true, 0);
	int fd = socket(setting.family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0, "socket: %s", strerror(errno));
	EXPECT(bind(fd, &address.any, size), 0);
	EXPECT(listen(fd, 64), 0);
	return fd;
}

int client_socket(int type)
{
	int fd = socket(setting.dual ? AF_INET : setting.family, type | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0, "socket: %s", strerror(errno));
	return fd;
}

int connect_to(int listener_fd)
{
	union address address;
	socklen_t size = loopback(&address, false, port_of(listener_fd));
	int fd = client_socket(SOCK_STREAM);

	EXPECT(connect(fd, &address.any, size), 0);
	return fd;
}

static void set_buffers(int fd, int send_buffer, int receive_buffer)
{
	if (send_buffer)
		set_option(fd, SOL_SOCKET, SO_SNDBUF, send_buffer);
	if (receive_buffer)
		set_option(fd, SOL_SOCKET, SO_RCVBUF, receive_buffer);
}

/* The accepting end customizes nothing before it has read a mark: a few bytes bring it. */
static void greet(struct end *client, struct end *server)
{
	write_bytes(client, 5);
	read_bytes(server, 5);
}

void open_pair_buffered(struct pair *pair, int send_buffer, int receive_buffer)
{
	struct end client = { .out_seed = CONNECTING, .in_seed = ACCEPTING };
	struct end server = { .out_seed = ACCEPTING, .in_seed = CONNECTING };
	union address address;
	int fd = listener();
	socklen_t size = loopback(&address, false, port_of(fd));

	/* Accepted sockets inherit them, and only so they are there before the handshake. */
	set_buffers(fd, send_buffer, receive_buffer);
	client.fd = client_socket(SOCK_STREAM);
	set_buffers(client.fd, send_buffer, receive_buffer);
	EXPECT(connect(client.fd, &address.any, size), 0);
	server.fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	CHECK(server.fd >= 0, "accept4: %s", strerror(errno));
	close(fd);
	if (setting.accepted)
		greet(&client, &server);
	pair->a = setting.accepted ? server : client;
	pair->b = setting.accepted ? client : server;
}

void open_pair(struct pair *pair)
{
	open_pair_buffered(pair, 0, 0);
}

void close_pair(struct pair *pair)
{
	EXPECT(close(pair->a.fd), 0);
	EXPECT(close(pair->b.fd), 0);
}

void finish(struct pair *pair)
{
	step("finish: both ends shut down, and read to the end");
	set_nonblocking(pair->a.fd, false);
	set_nonblocking(pair->b.fd, false);
	EXPECT(shutdown(pair->a.fd, SHUT_WR), 0);
	read_to_end(&pair->b);
	EXPECT(shutdown(pair->b.fd, SHUT_WR), 0);
	read_to_end(&pair->a);
	CHECK(pair->b.read == pair->a.written, "b read %lu of %lu bytes", pair->b.read,
	      pair->a.written);
	CHECK(pair->a.read == pair->b.written, "a read %lu of %lu bytes", pair->a.read,
	      pair->b.written);
	close_pair(pair);
}

void next_bytes(const struct end *end, void *buffer, size_t ahead, size_t size)
{
	pattern_fill(buffer, end->out_seed, end->written + ahead, size);
}

void check_bytes(const struct end *end, const void *buffer, size_t ahead, size_t size)
{
	const unsigned char *bytes = buffer;
	uint64_t offset = end->read + ahead;
	long wrong = pattern_check(buffer, end->in_seed, offset, size);

	CHECK(wrong == PATTERN_RIGHT,
	      "byte %lu of the stream is wrong: %02x (%ld in a call for %zu)", offset + wrong,
	      bytes[wrong], wrong, size);
}

void took(struct end *end, const void *buffer, size_t size)
{
	check_bytes(end, buffer, 0, size);
	end->read += size;
}

void write_pieces(struct end *end, size_t size, size_t piece)
{
	char *buffer = malloc(piece);

	while (size) {
		size_t now = size < piece ? size : piece;

		next_bytes(end, buffer, 0, now);
		EXPECT(send(end->fd, buffer, now, 0), now);
		end->written += now;
		size -= now;
	}
	free(buffer);
}

void write_bytes(struct end *end, size_t size)
{
	write_pieces(end, size, PIECE);
}

void read_pieces(struct end *end, size_t size, size_t piece)
{
	char *buffer = malloc(piece);

	while (size) {
		size_t now = size < piece ? size : piece;
		ssize_t got = recv(end->fd, buffer, now, 0);

		CHECK(got > 0 && (size_t)got <= now, "recv of %zu: got %zd %s", now, got,
		      got < 0 ? strerrorname_np(errno) : "");
		took(end, buffer, got);
		size -= got;
	}
	free(buffer);
}

void read_bytes(struct end *end, size_t size)
{
	read_pieces(end, size, PIECE);
}

void read_to_end(struct end *end)
{
	char *buffer = malloc(PIECE);
	ssize_t got;

	while ((got = recv(end->fd, buffer, PIECE, 0)) > 0)
		took(end, buffer, got);
	CHECK(got == 0, "recv: expected the end, got %s", strerrorname_np(errno));
	free(buffer);
}

void recv_wanted(struct end *end, size_t size, int flags, size_t wanted)
{
	char *buffer = malloc(size + 1);
	ssize_t got = recv(end->fd, buffer, size, flags);

	CHECK(got == (ssize_t)wanted, "recv of %zu with flags %#x: expected %zu, got %zd %s", size,
	      flags, wanted, got, got < 0 ? strerrorname_np(errno) : "");
	check_bytes(end, buffer, 0, got);
	if (!(flags & MSG_PEEK))
		end->read += got;
	free(buffer);
}

int readable(int fd)
{
	int bytes = -1;

	EXPECT(ioctl(fd, FIONREAD, &bytes), 0);
	return bytes;
}

void wait_readable(const struct end *end, int bytes)
{
	for (int ms = 0; readable(end->fd) < bytes; ms++) {
		CHECK(ms < PATIENCE, "FIONREAD: expected %d, still %d", bytes, readable(end->fd));
		sleep_ms(1);
	}
	EXPECT(readable(end->fd), bytes);
}

short poll_now(int fd, short events)
{
	struct pollfd ready = { fd, events, 0 };

	CHECK(poll(&ready, 1, 0) >= 0, "poll: %s", strerror(errno));
	return ready.revents;
}

short poll_until(int fd, short events)
{
	struct pollfd ready = { fd, events, 0 };

	EXPECT(poll(&ready, 1, -1), 1);
	return ready.revents;
}

void set_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	EXPECT(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 0);
}

void set_option(int fd, int level, int option, int value)
{
	CHECK(!setsockopt(fd, level, option, &value, sizeof(value)), "setsockopt %d.%d: %s", level,
	      option, strerrorname_np(errno));
}

int get_option(int fd, int level, int option)
{
	int value = -1;
	socklen_t size = sizeof(value);

	CHECK(!getsockopt(fd, level, option, &value, &size), "getsockopt %d.%d: %s", level, option,
	      strerrorname_np(errno));
	return value;
}

void set_timeout(int fd, int option, long milliseconds)
{
	struct timeval time = { milliseconds / 1000, milliseconds % 1000 * 1000 };

	EXPECT(setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)), 0);
}
