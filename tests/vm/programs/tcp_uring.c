// SPDX-License-Identifier: GPL-2.0
/* io_uring: sends and receives that nobody's thread waits in. Raw system calls, one at a time. */
#include <linux/io_uring.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sockets.h"

#define ENTRIES 8

struct ring {
	int fd;
	struct io_uring_params params;
	char *rings; /* both: IORING_FEAT_SINGLE_MMAP */
	struct io_uring_sqe *entries;
};

static unsigned int *field(const struct ring *ring, uint32_t offset)
{
	return (unsigned int *)(ring->rings + offset);
}

static void open_ring(struct ring *ring)
{
	size_t size;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, ENTRIES, &ring->params);
	if (ring->fd < 0)
		skip("io_uring_setup: %s", strerrorname_np(errno));
	size = ring->params.cq_off.cqes + ring->params.cq_entries * sizeof(struct io_uring_cqe);
	ring->rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			   IORING_OFF_SQ_RING);
	ring->entries = mmap(NULL, ENTRIES * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	CHECK(ring->rings != MAP_FAILED && ring->entries != MAP_FAILED, "mmap: %s",
	      strerror(errno));
}

static void submit(struct ring *ring, const struct io_uring_sqe *entry)
{
	unsigned int *tail = field(ring, ring->params.sq_off.tail);
	unsigned int index = *tail & *field(ring, ring->params.sq_off.ring_mask);

	ring->entries[index] = *entry;
	field(ring, ring->params.sq_off.array)[index] = index;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	EXPECT(syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0), 1);
}

/* Whether something has been done; what came of it, and whether there is more to come of it. */
static bool is_done(struct ring *ring, int *result, unsigned int *flags)
{
	unsigned int *head = field(ring, ring->params.cq_off.head);
	struct io_uring_cqe *done = (void *)(ring->rings + ring->params.cq_off.cqes);

	if (*head == __atomic_load_n(field(ring, ring->params.cq_off.tail), __ATOMIC_ACQUIRE))
		return false;
	done += *head & *field(ring, ring->params.cq_off.ring_mask);
	*result = done->res;
	*flags = done->flags;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return true;
}

static int wait_done(struct ring *ring, unsigned int *flags)
{
	int result;

	while (!is_done(ring, &result, flags))
		EXPECT(syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0),
		       0);
	return result;
}

static struct io_uring_sqe transfer(int opcode, int fd, void *buffer, size_t size, int flags)
{
	return (struct io_uring_sqe){ .opcode = opcode,
				      .fd = fd,
				      .addr = (uintptr_t)buffer,
				      .len = size,
				      .msg_flags = flags };
}

/* An operation that may wait; its result. */
static int run(struct ring *ring, struct io_uring_sqe entry)
{
	unsigned int flags;

	submit(ring, &entry);
	return wait_done(ring, &flags);
}

static void send_and_receive(void)
{
	char buffer[5000];
	struct ring ring;
	struct pair pair;

	open_ring(&ring);
	open_pair(&pair);
	for (int i = 0; i < 100; i++) {
		size_t size = 1 + pattern_mix(i) % sizeof(buffer);

		next_bytes(&pair.a, buffer, 0, size);
		EXPECT(run(&ring, transfer(IORING_OP_SEND, pair.a.fd, buffer, size, 0)), size);
		pair.a.written += size;
		wait_readable(&pair.b, size);
		EXPECT(run(&ring, transfer(IORING_OP_RECV, pair.b.fd, buffer, sizeof(buffer), 0)),
		       size);
		took(&pair.b, buffer, size);
	}
	step("read and write");
	next_bytes(&pair.a, buffer, 0, 1000);
	EXPECT(run(&ring, transfer(IORING_OP_WRITE, pair.a.fd, buffer, 1000, 0)), 1000);
	pair.a.written += 1000;
	wait_readable(&pair.b, 1000);
	EXPECT(run(&ring, transfer(IORING_OP_READ, pair.b.fd, buffer, 5000, 0)), 1000);
	took(&pair.b, buffer, 1000);
	finish(&pair);
}

/* Asked for before it is there. */
static void receive_first(void)
{
	char buffer[5000];
	unsigned int flags;
	struct ring ring;
	struct pair pair;

	open_ring(&ring);
	open_pair(&pair);
	for (int i = 0; i < 100; i++) {
		int flag = i % 2 ? MSG_WAITALL : 0;
		struct io_uring_sqe entry =
			transfer(IORING_OP_RECV, pair.b.fd, buffer, sizeof(buffer), flag);
		int result;

		step("receive %d", i);
		submit(&ring, &entry);
		CHECK(!is_done(&ring, &result, &flags), "done before there was anything: %d",
		      result);
		write_pieces(&pair.a, sizeof(buffer), flag ? 999 : sizeof(buffer));
		result = wait_done(&ring, &flags);
		CHECK(result > 0, "recv: %s", strerrorname_np(-result));
		if (flag)
			EXPECT(result, sizeof(buffer));
		took(&pair.b, buffer, result);
		read_bytes(&pair.b, pair.a.written - pair.b.read);
	}
	finish(&pair);
}

static void *read_until_end(void *argument)
{
	read_to_end(argument);
	return NULL;
}

static void bulk(void)
{
	const size_t size = 300000;
	char *buffer = malloc(size);
	struct ring ring;
	struct pair pair;
	pthread_t reader;

	open_ring(&ring);
	open_pair_buffered(&pair, 20000, 20000);
	reader = start(read_until_end, &pair.b);
	for (int i = 0; i < 20; i++) {
		int sent;

		next_bytes(&pair.a, buffer, 0, size);
		sent = run(&ring, transfer(IORING_OP_SEND, pair.a.fd, buffer, size,
					   i % 2 ? MSG_WAITALL : 0));
		CHECK(sent > 0, "send: %s", strerrorname_np(-sent));
		if (i % 2)
			EXPECT(sent, size);
		pair.a.written += sent;
	}
	EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
	join(reader);
	free(buffer);
	finish(&pair);
}

static void polled(void)
{
	struct ring ring;
	struct pair pair;

	open_ring(&ring);
	open_pair(&pair);
	for (int i = 0; i < 100; i++) {
		struct io_uring_sqe entry = { .opcode = IORING_OP_POLL_ADD,
					      .fd = pair.b.fd,
					      .poll32_events = POLLIN };
		unsigned int flags;
		int result;

		submit(&ring, &entry);
		CHECK(!is_done(&ring, &result, &flags), "done before there was anything: %d",
		      result);
		write_bytes(&pair.a, 100);
		EXPECT(wait_done(&ring, &flags) & POLLIN, POLLIN);
		recv_wanted(&pair.b, 200, MSG_DONTWAIT, 100);
	}
	finish(&pair);
}

/* The kernel says when it is done with the buffer: in a second completion. */
static void zero_copy(void)
{
	char buffer[20000];
	unsigned int flags;
	struct ring ring;
	struct pair pair;

	open_ring(&ring);
	open_pair(&pair);
	for (int i = 0; i < 20; i++) {
		struct io_uring_sqe entry =
			transfer(IORING_OP_SEND_ZC, pair.a.fd, buffer, sizeof(buffer), 0);
		int sent;

		next_bytes(&pair.a, buffer, 0, sizeof(buffer));
		submit(&ring, &entry);
		sent = wait_done(&ring, &flags);
		if (flags & IORING_CQE_F_MORE) {
			unsigned int last;

			wait_done(&ring, &last);
			CHECK(last & IORING_CQE_F_NOTIF, "no notification");
		}
		if (sent < 0) {
			CHECK(setting.customized && sent == -EOPNOTSUPP, "send: %s",
			      strerrorname_np(-sent));
			break;
		}
		pair.a.written += sent;
		memset(buffer, 0, sizeof(buffer));
		read_bytes(&pair.b, sent);
	}
	write_bytes(&pair.a, 1000);
	finish(&pair);
}

const struct scenario tcp_uring[] = {
	{ "tcp_uring", send_and_receive, BOTH_WAYS },
	{ "tcp_uring_receive_first", receive_first, BOTH_WAYS },
	{ "tcp_uring_bulk", bulk, BOTH_WAYS },
	{ "tcp_uring_poll", polled, BOTH_WAYS },
	{ "tcp_uring_zero_copy", zero_copy, BOTH_WAYS },
	{ 0 },
};
