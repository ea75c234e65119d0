// SPDX-License-Identifier: GPL-2.0
/*
 * bench-core: what the core and a module cost in user space, beside memcpy of the same bytes.
 *
 *	bench-core MODULE.so PARAMETERS-IN-HEX WRITE TOTAL ROUNDS
 *
 * TOTAL bytes in calls of WRITE bytes, ROUNDS times. Prints `CASE NANOSECONDS` for each measurement
 * of a round, which follow each other:
 *
 *	copy-out  the application's bytes, WRITE at a time, to the transport
 *	send	  the same in frames
 *	copy-in	  the transport's bytes, WRITE at a time, to the application
 *	receive	  the same out of frames
 *
 * What the application sends and what the transport has received is somewhere in memory. Sent bytes
 * go to a ring as large as a socket's buffer, received ones to the application's buffer of WRITE
 * bytes. For a module for datagrams, a message is a DNS query of WRITE bytes, the same each time.
 */
#include <dlfcn.h>
#include <stdio.h>

#include "l45_user.h"

#define RING   (1u << 20)
#define GROWTH 2 /* the wire form is at most so much larger, for writes of 32 bytes or more */

struct bench {
	const struct l45_module *module;
	struct l45_instance instance;
	__u32 write;
	__u64 total;
	__u8 *app;  /* `total` bytes that the application sends */
	__u8 *ring; /* of the transport */
	__u8 *wire; /* what the transport has received */
	__u64 wire_size;
	__u8 *read; /* the application's buffer */
	__u8 frame[L45_WHOLE_MAX];
};

static void fail(const char *what)
{
	fprintf(stderr, "bench-core: %s\n", what);
	exit(EXIT_FAILURE);
}

static __u64 copy_out(struct bench *bench)
{
	__u64 begin = l45_clock_ns(), place = 0;

	for (__u64 at = 0; at < bench->total; at += bench->write) {
		memcpy(bench->ring + place, bench->app + at, bench->write);
		place = place + bench->write < RING ? place + bench->write : 0;
	}
	return l45_clock_ns() - begin;
}

static __u64 copy_in(struct bench *bench)
{
	__u64 begin = l45_clock_ns();

	for (__u64 at = 0; at < bench->total; at += bench->write)
		memcpy(bench->read, bench->wire + at, bench->write);
	return l45_clock_ns() - begin;
}

static int copy_source(void *source, void *to, __u32 size)
{
	memcpy(to, source, size);
	return 0;
}

static __u32 gather(__u8 *to, const struct l45_frame *frame, const __u8 *app, __u32 size)
{
	l45_prefetch(app + frame->taken, size - frame->taken);
	memcpy(to, frame->head, frame->head_size);
	memcpy(to + frame->head_size, frame->body ? frame->body : app, frame->body_size);
	return frame->head_size + frame->body_size;
}

static void open_flow(struct bench *bench, struct l45_flow *flow, enum l45_role role)
{
	static const char process[L45_NAME_SIZE] = "bench";

	l45_flow_open(flow, role, process);
	if (l45_flow_attach(flow, &bench->instance, 0, L45_MAY_SEND | L45_MAY_RECEIVE))
		fail("the module cannot be attached");
}

/* Into `to`, from its begin again behind `size` bytes; returns how many bytes that were. */
static __u64 send_stream(struct bench *bench, __u8 *to, __u64 size)
{
	struct l45_frame frame = { .buffer = bench->frame };
	__u64 place = 0, all = 0;
	struct l45_flow flow;
	__u32 made;

	open_flow(bench, &flow, L45_CONNECT);
	for (__u64 at = 0; at < bench->total; at += bench->write) {
		for (__u32 done = 0; done < bench->write; done += frame.taken) {
			if (l45_send(&flow, copy_source, bench->app + at + done,
				     bench->write - done, &frame))
				fail("the module did not take a write");
			made = gather(to + place, &frame, bench->app + at + done,
				      bench->write - done);
			all += made;
			place = place + made < size ? place + made : 0;
		}
	}
	l45_flow_close(&flow);
	return all;
}

/* To `to`, which is `step` bytes further after each call. */
static void receive_stream(struct bench *bench, __u8 *to, __u32 step)
{
	struct l45_flow flow;
	struct l45_span app;

	open_flow(bench, &flow, L45_ACCEPT);
	for (__u64 at = 0; at < bench->wire_size;) {
		__u32 left = l45_min(bench->write, bench->wire_size - at), got = 0;

		while (left) {
			int used = l45_receive(&flow, bench->wire + at, left, &app);

			if (used < 0)
				fail("the stream is broken");
			if (app.size)
				memcpy(to + got, app.data, app.size);
			got += app.size;
			at += used;
			left -= used;
		}
		to += step ? got : 0;
	}
	l45_flow_close(&flow);
}

static void run_datagrams(struct bench *bench, enum l45_direction direction, const __u8 *from,
			  __u32 size, __u8 *to)
{
	struct l45_user_context context = {
		.process = "bench",
		.parameters = bench->instance.parameters,
		.parameters_size = bench->instance.parameters_size,
	};

	for (__u64 at = 0; at < bench->total; at += bench->write) {
		__u32 room = GROWTH * bench->write;

		if (l45_user_run(bench->module, &context, direction, from, size, to, &room) !=
		    L45_DONE)
			fail("the module did not take a query");
		bench->wire_size = room;
	}
}

/* A query for a name that fills the message. */
static void make_query(__u8 *message, __u32 size)
{
	static const __u8 header[] = { 0x1a, 0x2b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
	static const __u8 question[] = { 0, 0, 1, 0, 1 };
	__u32 at = sizeof(header), end = size - sizeof(question), label;

	if (size < 32 || size > 256)
		fail("a query has 32 to 256 bytes");
	memcpy(message, header, sizeof(header));
	for (; at < end; at += 1 + label) {
		label = l45_min(end - at - 1, 63);
		label -= end - at - 1 - label == 1; /* no label fits into one byte */
		message[at] = label;
		memset(message + at + 1, 'a', label);
	}
	memcpy(message + end, question, sizeof(question));
}

/* Makes what the transport has received; that must be what was sent. */
static void prepare(struct bench *bench)
{
	__u8 *back;

	if (bench->module->kind == L45_DATAGRAM) {
		make_query(bench->app, bench->write);
		return;
	}
	bench->wire_size = send_stream(bench, bench->wire, ~0ull);
	back = malloc(bench->total + bench->write);
	if (!back)
		fail("no memory");
	receive_stream(bench, back, 1);
	if (memcmp(bench->app, back, bench->total))
		fail("what was received is not what was sent");
	free(back);
}

static __u64 time_send(struct bench *bench)
{
	__u64 begin = l45_clock_ns();

	if (bench->module->kind == L45_DATAGRAM)
		run_datagrams(bench, L45_SEND, bench->app, bench->write, bench->wire);
	else
		send_stream(bench, bench->ring, RING);
	return l45_clock_ns() - begin;
}

static __u64 time_receive(struct bench *bench)
{
	__u64 begin = l45_clock_ns();

	if (bench->module->kind == L45_DATAGRAM)
		run_datagrams(bench, L45_RECV, bench->wire, bench->wire_size, bench->read);
	else
		receive_stream(bench, bench->read, 0);
	return l45_clock_ns() - begin;
}

static void measure(struct bench *bench)
{
	printf("copy-out %llu\n", copy_out(bench));
	printf("send %llu\n", time_send(bench));
	printf("copy-in %llu\n", copy_in(bench));
	if (bench->module->recv)
		printf("receive %llu\n", time_receive(bench));
	fflush(stdout);
}

static __u8 *memory(__u64 size)
{
	__u8 *bytes = malloc(size);

	if (!bytes)
		fail("no memory");
	for (__u64 i = 0; i < size; i++)
		bytes[i] = i * 251 >> 3;
	return bytes;
}

static void set_parameters(struct l45_instance *instance, const char *hex)
{
	unsigned int byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
		if (instance->parameters_size == sizeof(instance->parameters))
			fail("too many parameters");
		instance->parameters[instance->parameters_size++] = byte;
	}
}

int main(int argc, char **argv)
{
	static struct bench bench;
	void *library;

	if (argc != 6)
		fail("usage: bench-core MODULE.so PARAMETERS WRITE TOTAL ROUNDS");
	library = dlopen(argv[1], RTLD_NOW);
	bench.module = library ? dlsym(library, "l45_module") : NULL;
	if (!bench.module)
		fail(dlerror());
	bench.instance.module = bench.module;
	bench.instance.epoch = 1;
	set_parameters(&bench.instance, argv[2]);
	bench.write = strtoul(argv[3], NULL, 10);
	bench.total = strtoull(argv[4], NULL, 10) / bench.write * bench.write;
	bench.app = memory(bench.total);
	bench.ring = memory(RING + 2 * L45_CONTENT_MAX);
	bench.wire = memory(GROWTH * bench.total + L45_MARK_SIZE);
	bench.read = memory(GROWTH * bench.write);
	prepare(&bench);
	for (unsigned long round = strtoul(argv[5], NULL, 10); round; round--)
		measure(&bench);
	return EXIT_SUCCESS;
}
