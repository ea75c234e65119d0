// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pattern.h"
#include "stress.h"

#define PIECE	  40000
#define PIPE_HALF 32768 /* of what a pipe holds */

static size_t at_most(uint64_t left, size_t size)
{
	return left < size ? left : size;
}

static size_t random_size(struct direction *direction)
{
	static const uint32_t most[] = { 1, 20, 1000, 1460, 16384, PIECE };
	size_t size = 1 + rnd(&direction->random, most[rnd(&direction->random, 6)]);

	return at_most(direction->total - direction->done, size);
}

/* The connection has ended: -1. Other errors may not be. */
static int ended(struct direction *direction, const char *call)
{
	if (errno == EPIPE || errno == ECONNRESET)
		return -1;
	failed("%s at byte %lu of %lu: %s", call, direction->done, direction->total,
	       strerrorname_np(errno));
}

/* ---- writing: each returns how many bytes are on their way, or -1 ---- */

typedef ssize_t (*move)(struct direction *direction, char *buffer, size_t size);

static ssize_t plain_send(struct direction *direction, char *buffer, size_t size)
{
	return send(direction->fd, buffer, size, MSG_NOSIGNAL);
}

static ssize_t send_more(struct direction *direction, char *buffer, size_t size)
{
	return send(direction->fd, buffer, size, MSG_NOSIGNAL | MSG_MORE);
}

static ssize_t send_vectors(struct direction *direction, char *buffer, size_t size)
{
	size_t first = size / 3;
	struct iovec vectors[] = { { buffer, first },
				   { buffer, 0 },
				   { buffer + first, size - first } };
	struct msghdr message = { .msg_iov = vectors, .msg_iovlen = 3 };

	return sendmsg(direction->fd, &message, MSG_NOSIGNAL);
}

static ssize_t send_polled(struct direction *direction, char *buffer, size_t size)
{
	struct pollfd ready = { direction->fd, POLLOUT, 0 };
	ssize_t sent;

	if (poll(&ready, 1, -1) != 1)
		failed("poll: %s", strerrorname_np(errno));
	sent = send(direction->fd, buffer, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static ssize_t send_file(struct direction *direction, char *buffer, size_t size)
{
	int file = memfd_create("stress", MFD_CLOEXEC);
	off_t offset = 0;
	ssize_t sent;

	if (file < 0 || write(file, buffer, size) != (ssize_t)size)
		failed("memfd: %s", strerrorname_np(errno));
	sent = sendfile(direction->fd, file, &offset, size);
	close(file);
	return sent;
}

static ssize_t splice_out(struct direction *direction, char *buffer, size_t size)
{
	ssize_t left, moved;

	size = at_most(size, PIPE_HALF);
	left = write(direction->pipe[1], buffer, size);
	if (left != (ssize_t)size)
		failed("write to a pipe: %zd", left);
	for (; left; left -= moved) {
		moved = splice(direction->pipe[0], NULL, direction->fd, NULL, left, 0);
		if (moved <= 0)
			return -1;
	}
	return size;
}

static ssize_t send_bytes(struct direction *direction, char *buffer, size_t size)
{
	size_t count = at_most(size, 20), done = 0;

	while (done < count && send(direction->fd, buffer + done, 1, MSG_NOSIGNAL) == 1)
		done++;
	return done ? (ssize_t)done : -1;
}

static const move writes[] = { plain_send,  plain_send, send_more,  send_vectors,
			       send_polled, send_file,	splice_out, send_bytes };

int write_all(struct direction *direction)
{
	static __thread char buffer[PIECE];

	while (direction->done < direction->total) {
		unsigned int how = rnd(&direction->random, 8);
		size_t size = random_size(direction);
		ssize_t sent;

		if (direction->done >= direction->stop_at)
			return 0;
		snprintf(direction->step, STEP_SIZE, "write %u of %zu at %lu of %lu", how, size,
			 direction->done, direction->total);
		pattern_fill(buffer, direction->seed, direction->done, size);
		sent = writes[how](direction, buffer, size);
		if (sent < 0)
			return ended(direction, "write") ? errno : 0;
		if ((size_t)sent > size)
			failed("write %u of %zu gave %zd", how, size, sent);
		direction->done += sent;
		if (chance(&direction->random, 40))
			sleep_us(rnd(&direction->random, 3000));
	}
	return 0;
}

/* ---- reading: each returns how many bytes it has taken, 0 at the end, -1 ---- */

static void check(struct direction *direction, const char *buffer, size_t size, unsigned int how)
{
	long wrong = pattern_check(buffer, direction->seed, direction->done, size);

	if (wrong != PATTERN_RIGHT)
		failed("end %s: byte %lu of %lu is wrong: %02x (%ld of %zu, read %u)",
		       direction->end, direction->done + wrong, direction->total,
		       (unsigned char)buffer[wrong], wrong, size, how);
}

static ssize_t plain_recv(struct direction *direction, char *buffer, size_t size)
{
	return recv(direction->fd, buffer, size, 0);
}

static ssize_t recv_polled(struct direction *direction, char *buffer, size_t size)
{
	struct pollfd ready = { direction->fd, POLLIN, 0 };
	ssize_t got;

	if (poll(&ready, 1, -1) != 1)
		failed("poll: %s", strerrorname_np(errno));
	got = recv(direction->fd, buffer, size, MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		failed("poll gave %#x, and recv EAGAIN, at byte %lu of %lu", ready.revents,
		       direction->done, direction->total);
	return got;
}

static ssize_t recv_peeked(struct direction *direction, char *buffer, size_t size)
{
	ssize_t peeked = recv(direction->fd, buffer, size, MSG_PEEK), got;

	if (peeked <= 0)
		return peeked;
	check(direction, buffer, peeked, 2);
	memset(buffer, 0, peeked);
	got = recv(direction->fd, buffer, peeked, MSG_DONTWAIT);
	if (got <= 0 || got > peeked)
		failed("%zd bytes were peeked at, %zd received", peeked, got);
	if (got < peeked)
		__atomic_add_fetch(&direction->slot->short_reads, 1, __ATOMIC_RELAXED);
	return got;
}

static ssize_t recv_all(struct direction *direction, char *buffer, size_t size)
{
	return recv(direction->fd, buffer, size, MSG_WAITALL);
}

static ssize_t recv_vectors(struct direction *direction, char *buffer, size_t size)
{
	struct iovec vectors[] = { { buffer, size / 2 },
				   { buffer, 0 },
				   { buffer + size / 2, size - size / 2 } };

	return readv(direction->fd, vectors, 3);
}

static ssize_t splice_in(struct direction *direction, char *buffer, size_t size)
{
	ssize_t got =
		splice(direction->fd, NULL, direction->pipe[1], NULL, at_most(size, PIPE_HALF), 0);

	if (got > 0 && read(direction->pipe[0], buffer, got) != got)
		failed("read of a pipe: %s", strerrorname_np(errno));
	return got;
}

static ssize_t recv_counted(struct direction *direction, char *buffer, size_t size)
{
	int count = 0;
	ssize_t got;

	if (ioctl(direction->fd, FIONREAD, &count))
		failed("FIONREAD: %s", strerrorname_np(errno));
	if (!count)
		return plain_recv(direction, buffer, size);
	size = at_most(count, size);
	got = recv(direction->fd, buffer, size, MSG_DONTWAIT);
	if (!got || (got > 0 && (size_t)got > size))
		failed("FIONREAD said %d, recv of %zu gave %zd", count, size, got);
	if (got > 0 && (size_t)got < size)
		__atomic_add_fetch(&direction->slot->short_reads, 1, __ATOMIC_RELAXED);
	return got;
}

static const move reads[] = { plain_recv, plain_recv,	recv_peeked, recv_polled,
			      recv_all,	  recv_vectors, splice_in,   recv_counted };

int read_all(struct direction *direction)
{
	static __thread char buffer[PIECE];

	for (;;) {
		unsigned int how = rnd(&direction->random, 8);
		size_t size =
			1 + rnd(&direction->random, chance(&direction->random, 3) ? 50 : PIECE);
		ssize_t got;

		snprintf(direction->step, STEP_SIZE, "read %u of %zu at %lu of %lu", how, size,
			 direction->done, direction->total);
		got = reads[how](direction, buffer, at_most(size, PIECE));
		if (got < 0)
			return ended(direction, "read") ? errno : 0;
		if (!got && direction->done == direction->total)
			return 0;
		if (!got)
			return ENODATA; /* an end too early: who was killed ends so too */
		check(direction, buffer, got, how);
		direction->done += got;
		if (direction->done > direction->total)
			failed("%lu bytes too many", direction->done - direction->total);
		__atomic_add_fetch(&direction->slot->bytes, got, __ATOMIC_RELAXED);
		if (chance(&direction->random, 60))
			sleep_us(rnd(&direction->random, 3000));
	}
}
