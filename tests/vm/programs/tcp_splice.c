// SPDX-License-Identifier: GPL-2.0
/* sendfile, splice, tee and vmsplice: bytes that no buffer of the application holds. */
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "sockets.h"

#define FILE_SIZE 3000000
#define PIPE_SIZE 65536

/* A file with what this end is to send next, without a name. */
static int file_for(const struct end *end, size_t size)
{
	int fd = memfd_create("sockets", MFD_CLOEXEC);
	char *buffer = malloc(size);

	CHECK(fd >= 0, "memfd_create: %s", strerror(errno));
	next_bytes(end, buffer, 0, size);
	EXPECT(pwrite(fd, buffer, size, 0), size);
	free(buffer);
	return fd;
}

static void *read_until_end(void *argument)
{
	read_to_end(argument);
	return NULL;
}

static void send_whole(struct end *end, int file, off_t *offset, size_t size)
{
	size_t left = size;

	while (left) {
		ssize_t sent = sendfile(end->fd, file, offset, left);

		CHECK(sent > 0 && (size_t)sent <= left, "sendfile of %zu: %zd %s", left, sent,
		      sent < 0 ? strerrorname_np(errno) : "");
		left -= sent;
		end->written += sent;
	}
}

static void send_file(void)
{
	static const size_t sizes[] = { 1, 999, 4096, 4097, 65536, 100001, 1000000 };
	struct pair pair;
	pthread_t reader;
	off_t offset;
	int file;

	open_pair(&pair);
	file = file_for(&pair.a, FILE_SIZE);
	offset = 0;
	reader = start(read_until_end, &pair.b);
	for (int i = 0; i < 7; i++) {
		off_t before = offset;

		step("sendfile of %zu at %ld", sizes[i], (long)offset);
		send_whole(&pair.a, file, &offset, sizes[i]);
		EXPECT(offset - before, sizes[i]);
	}
	step("from the file's position");
	EXPECT(lseek(file, offset, SEEK_SET), offset);
	send_whole(&pair.a, file, NULL, 50000);
	EXPECT(lseek(file, 0, SEEK_CUR), offset + 50000);
	offset += 50000;
	step("to the file's end");
	send_whole(&pair.a, file, &offset, FILE_SIZE - offset);
	EXPECT(sendfile(pair.a.fd, file, &offset, 1000), 0);
	EXPECT(close(file), 0);
	write_bytes(&pair.a, 100);
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	join(reader);
	finish(&pair);
}

/* Header, file, trailer, as a web server sends them. */
static void send_file_between(void)
{
	struct pair pair;
	char buffer[300];

	open_pair(&pair);
	for (int i = 0; i < 20; i++) {
		off_t offset = 0;
		int file;

		next_bytes(&pair.a, buffer, 0, 300);
		EXPECT(send(pair.a.fd, buffer, 300, MSG_MORE), 300);
		pair.a.written += 300;
		file = file_for(&pair.a, 5000 + i);
		send_whole(&pair.a, file, &offset, 5000 + i);
		write_bytes(&pair.a, 50);
		EXPECT(close(file), 0);
		read_bytes(&pair.b, 5350 + i);
	}
	finish(&pair);
}

static void send_file_nonblocking(void)
{
	struct pair pair;
	off_t offset = 0;
	bool was_full = false;
	int file;

	open_pair_buffered(&pair, 20000, 20000);
	file = file_for(&pair.a, FILE_SIZE);
	set_nonblocking(pair.a.fd, true);
	while (offset < FILE_SIZE) {
		off_t before = offset;
		ssize_t sent = sendfile(pair.a.fd, file, &offset, 500000);

		if (sent < 0) {
			CHECK(errno == EAGAIN, "sendfile: %s", strerrorname_np(errno));
			EXPECT(offset, before);
			was_full = true;
			read_bytes(&pair.b, pair.a.written - pair.b.read);
			EXPECT(poll_until(pair.a.fd, POLLOUT), POLLOUT);
			continue;
		}
		CHECK(sent > 0, "sendfile gave %zd", sent);
		EXPECT(offset - before, sent);
		pair.a.written += sent;
	}
	CHECK(was_full, "it was never full");
	EXPECT(close(file), 0);
	finish(&pair);
}

static void make_pipe(int fds[2])
{
	EXPECT(pipe2(fds, O_CLOEXEC), 0);
	EXPECT(fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE), PIPE_SIZE);
}

static void close_pipe(int fds[2])
{
	EXPECT(close(fds[0]), 0);
	EXPECT(close(fds[1]), 0);
}

/* Move `size` bytes that are there, or are coming. */
static void splice_all(int from, loff_t *offset, int to, size_t size, unsigned int flags)
{
	while (size) {
		ssize_t moved = splice(from, offset, to, NULL, size, flags);

		CHECK(moved > 0, "splice of %zu: %zd %s", size, moved,
		      moved < 0 ? strerrorname_np(errno) : "");
		size -= moved;
	}
}

static void splice_out(void)
{
	struct pair pair;
	pthread_t reader;
	loff_t offset = 0;
	int file, fds[2];

	open_pair(&pair);
	file = file_for(&pair.a, FILE_SIZE);
	make_pipe(fds);
	reader = start(read_until_end, &pair.b);
	for (int i = 0; offset < FILE_SIZE; i++) {
		size_t left = FILE_SIZE - offset, size = 1 + pattern_mix(i) % PIPE_SIZE;
		ssize_t in = splice(file, &offset, fds[1], NULL, size < left ? size : left, 0);

		CHECK(in > 0, "splice from the file: %s", strerrorname_np(errno));
		splice_all(fds[0], NULL, pair.a.fd, in, i % 3 ? 0 : SPLICE_F_MORE);
		pair.a.written += in;
	}
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	join(reader);
	close_pipe(fds);
	EXPECT(close(file), 0);
	finish(&pair);
}

static void read_pipe(struct end *end, int fd, size_t size)
{
	char buffer[PIPE_SIZE];

	while (size) {
		ssize_t got = read(fd, buffer, size < sizeof(buffer) ? size : sizeof(buffer));

		CHECK(got > 0, "read from the pipe: %s", strerrorname_np(errno));
		took(end, buffer, got);
		size -= got;
	}
}

static void *write_2mb(void *argument)
{
	struct end *end = argument;

	write_pieces(end, 2000000, 12345);
	EXPECT(shutdown(end->fd, SHUT_WR), 0);
	return NULL;
}

static void splice_in(void)
{
	struct pair pair;
	pthread_t writer;
	ssize_t moved;
	int fds[2];

	open_pair(&pair);
	make_pipe(fds);
	set_nonblocking(pair.b.fd, true); /* SPLICE_F_NONBLOCK is of the pipe */
	EXPECT_ERRNO(splice(pair.b.fd, NULL, fds[1], NULL, 100, 0), EAGAIN);
	set_nonblocking(pair.b.fd, false);
	writer = start(write_2mb, &pair.a);
	do {
		step("splice, %lu bytes read", pair.b.read);
		moved = splice(pair.b.fd, NULL, fds[1], NULL, 1 + pair.b.read % PIPE_SIZE, 0);
		CHECK(moved >= 0, "splice: %s", strerrorname_np(errno));
		read_pipe(&pair.b, fds[0], moved);
	} while (moved);
	join(writer);
	EXPECT(pair.b.read, pair.a.written);
	close_pipe(fds);
	finish(&pair);
}

/* From the socket to a file, through a pipe. */
static void splice_to_file(void)
{
	struct pair pair;
	pthread_t writer;
	char *bytes;
	ssize_t moved;
	int fds[2], file = memfd_create("sockets", MFD_CLOEXEC);

	open_pair(&pair);
	make_pipe(fds);
	writer = start(write_2mb, &pair.a);
	while ((moved = splice(pair.b.fd, NULL, fds[1], NULL, PIPE_SIZE, SPLICE_F_MOVE)) > 0)
		splice_all(fds[0], NULL, file, moved, SPLICE_F_MOVE);
	EXPECT(moved, 0);
	join(writer);
	EXPECT(lseek(file, 0, SEEK_END), pair.a.written);
	bytes = mmap(NULL, pair.a.written, PROT_READ, MAP_SHARED, file, 0);
	CHECK(bytes != MAP_FAILED, "mmap: %s", strerror(errno));
	took(&pair.b, bytes, pair.a.written);
	EXPECT(close(file), 0);
	close_pipe(fds);
	finish(&pair);
}

/* splice and recv take from the same bytes in turn. */
static void splice_and_receive(void)
{
	struct pair pair;
	int fds[2];

	open_pair(&pair);
	make_pipe(fds);
	set_nonblocking(pair.b.fd, true);
	for (int i = 1; i < 50; i++) {
		write_bytes(&pair.a, 300 * i);
		wait_readable(&pair.b, 300 * i);
		recv_wanted(&pair.b, 70, MSG_PEEK, 70);
		splice_all(pair.b.fd, NULL, fds[1], 100 * i, 0);
		read_pipe(&pair.b, fds[0], 100 * i);
		read_bytes(&pair.b, 100 * i);
		splice_all(pair.b.fd, NULL, fds[1], 100 * i, SPLICE_F_NONBLOCK);
		read_pipe(&pair.b, fds[0], 100 * i);
		EXPECT_ERRNO(splice(pair.b.fd, NULL, fds[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
	}
	close_pipe(fds);
	finish(&pair);
}

/* From one connection to another, as a proxy does it, with a copy by tee. */
static void splice_through(void)
{
	struct pair in, out;
	pthread_t writer, reader;
	char copy[PIPE_SIZE];
	ssize_t moved;
	int fds[2], twice[2];

	open_pair(&in);
	open_pair(&out);
	make_pipe(fds);
	make_pipe(twice);
	writer = start(write_2mb, &in.a);
	reader = start(read_until_end, &out.b);
	while ((moved = splice(in.b.fd, NULL, fds[1], NULL, 20000, 0)) > 0) {
		EXPECT(tee(fds[0], twice[1], moved, 0), moved);
		splice_all(fds[0], NULL, out.a.fd, moved, 0);
		EXPECT(read(twice[0], copy, sizeof(copy)), moved);
		took(&in.b, copy, moved);
	}
	EXPECT(moved, 0);
	join(writer);
	EXPECT(shutdown(out.a.fd, SHUT_WR), 0);
	join(reader);
	close_pipe(fds);
	close_pipe(twice);
	close_pair(&in);
	close_pair(&out);
}

/* Pages of the process go through a pipe into the socket. */
static void splice_pages(void)
{
	const size_t size = 40000;
	char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec vector = { buffer, size };
	struct pair pair;
	int fds[2];

	open_pair(&pair);
	make_pipe(fds);
	next_bytes(&pair.a, buffer, 0, size);
	EXPECT(vmsplice(fds[1], &vector, 1, 0), size);
	splice_all(fds[0], NULL, pair.a.fd, size, 0);
	pair.a.written += size;
	read_bytes(&pair.b, size);
	close_pipe(fds);
	finish(&pair);
}

const struct scenario tcp_splice[] = {
	{ "tcp_sendfile", send_file, BOTH_WAYS },
	{ "tcp_sendfile_between", send_file_between, BOTH_WAYS },
	{ "tcp_sendfile_nonblocking", send_file_nonblocking, BOTH_WAYS },
	{ "tcp_splice_out", splice_out, BOTH_WAYS },
	{ "tcp_splice_in", splice_in, BOTH_WAYS },
	{ "tcp_splice_to_file", splice_to_file, BOTH_WAYS },
	{ "tcp_splice_and_receive", splice_and_receive, BOTH_WAYS },
	{ "tcp_splice_through", splice_through, BOTH_WAYS },
	{ "tcp_splice_pages", splice_pages, BOTH_WAYS },
	{ 0 },
};
