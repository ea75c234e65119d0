// SPDX-License-Identifier: GPL-2.0
/*
 * A test of the stream core inside the kernel, not a tap: when it is loaded, two flows joined by
 * memory carry a customized connection from its mark through a rotation to its end, once for each
 * way in which a transport may cut it into segments. What one end writes the other must read.
 * Where it does not, loading fails with EBADMSG, and the kernel's log says why.
 */
#include <linux/module.h>

#include "stream.h"

#define WRITTEN	  20000 /* bytes of a turn: more than a frame of a module that sees all of them */
#define WRITE_MAX 1500
#define WIRE_SIZE (3 * WRITTEN)
#define DELAY_MS  7
#define BOTH	  (L45_MAY_SEND | L45_MAY_RECEIVE)

extern const struct l45_module stream_tag_module, stream_xor_module, rate_limit_module;

static const char process[L45_NAME_SIZE] = "core_test";

static const struct l45_instance tag = {
	.module = &stream_tag_module,
	.epoch = 1,
	.token = "12345678",
	.parameters_size = 12,
	.parameters = { [0] = 42, [8] = 100 }, /* a tag for every 100 bytes */
};
static const struct l45_instance xor = {
	.module = &stream_xor_module,
	.epoch = 2,
	.token = "87654321",
	.parameters_size = 4,
	.parameters = { 0x11, 0x22, 0x33, 0x44 },
};
static const struct l45_instance limit = {
	.module = &rate_limit_module,
	.epoch = 3,
	.parameters_size = 4,
	.parameters = { DELAY_MS },
};

/* A connection, and what is on its way; 0 is the end that connects. */
struct connection {
	struct l45_flow ends[2];
	__u32 segment; /* bytes that the transport has at a time, at most */
	__u32 wire_size;
	__u32 read; /* by the application */
	__u8 whole[L45_WHOLE_MAX];
	__u8 written[WRITTEN];
	__u8 wire[WIRE_SIZE];
};

static int expect(bool right, const char *what)
{
	if (right)
		return 0;
	pr_err("l45_core_test: %s\n", what);
	return -EBADMSG;
}

static int copy(void *source, void *to, __u32 size)
{
	memcpy(to, source, size);
	return 0;
}

static int put_frame(struct connection *over, const struct l45_frame *frame, const __u8 *app)
{
	if (frame->head_size + frame->body_size > WIRE_SIZE - over->wire_size)
		return expect(false, "what is sent is far longer than what was written");
	memcpy(over->wire + over->wire_size, frame->head, frame->head_size);
	over->wire_size += frame->head_size;
	memcpy(over->wire + over->wire_size, frame->body ?: app, frame->body_size);
	over->wire_size += frame->body_size;
	return 0;
}

static int write_all(struct connection *over, struct l45_flow *flow)
{
	struct l45_frame frame = { .buffer = over->whole };
	__u32 at = 0, size = 0;
	int error = 0;

	for (__u32 i = 0; i < WRITTEN; i++)
		over->written[i] = i * 7 + (i >> 8);
	for (; at < WRITTEN && !error; at += frame.taken) {
		size = 1 + (size + 411) % WRITE_MAX;
		error = l45_send(flow, copy, over->written + at, l45_min(size, WRITTEN - at),
				 &frame);
		if (!error)
			error = put_frame(over, &frame, over->written + at);
	}
	return error;
}

static int write_control(struct connection *over, struct l45_flow *flow)
{
	struct l45_frame frame = { .buffer = over->whole };
	int more = l45_send_control(flow, &frame);

	return more > 0 ? put_frame(over, &frame, NULL) : more;
}

static int compare(struct connection *over, struct l45_span app)
{
	if (app.size > WRITTEN - over->read)
		return expect(false, "more is read than was written");
	if (memcmp(app.data, over->written + over->read, app.size))
		return expect(false, "other bytes are read than were written");
	over->read += app.size;
	return 0;
}

/* One segment, in memory of its own: whoever reads or writes beyond it is caught, where the kernel
 * checks such things. */
static int deliver(struct connection *over, struct l45_flow *flow, const __u8 *wire, __u32 size)
{
	__u8 *segment = kmemdup(wire, size, GFP_KERNEL);
	struct l45_span app;
	__u32 at = 0;
	int used, error = 0;

	if (!segment)
		return -ENOMEM;
	do {
		used = l45_receive(flow, segment + at, size - at, &app);
		error = used < 0 ? used : compare(over, app);
		at += used;
	} while (!error && (used || app.size));
	kfree(segment);
	return error ?: expect(at == size, "bytes of a segment are left over");
}

static int deliver_all(struct connection *over, struct l45_flow *flow)
{
	__u32 size, at = 0;
	int error = 0;

	for (; at < over->wire_size && !error; at += size) {
		size = l45_min(over->segment, over->wire_size - at);
		error = deliver(over, flow, over->wire + at, size);
	}
	return error;
}

/* One end writes, the other reads; `by` acts, or nobody. */
static int turn(struct connection *over, int writer, const struct l45_instance *by)
{
	struct l45_flow *from = &over->ends[writer], *to = &over->ends[!writer];
	int error;

	over->wire_size = 0;
	over->read = 0;
	error = write_control(over, from);
	error = error ?: write_all(over, from);
	error = error ?: deliver_all(over, to);
	error = error ?: expect(over->read == WRITTEN, "not everything that was written is read");
	error = error ?: expect(from->tx.in_use == by, "another customization sends");
	return error ?: expect(to->rx.in_use == by, "another customization receives");
}

static int both_turns(struct connection *over, const struct l45_instance *by)
{
	int error = turn(over, 0, by);

	return error ?: turn(over, 1, by);
}

typedef int (*change)(struct l45_flow *, const struct l45_instance *, __u32, __u8);

static int on_both(struct connection *over, change change, const struct l45_instance *instance,
		   __u8 switches)
{
	int error = change(&over->ends[0], instance, 100, switches);

	return error ?: change(&over->ends[1], instance, 100, switches);
}

static int detach(struct connection *over, const struct l45_instance *instance)
{
	int error = l45_flow_detach(&over->ends[0], instance);

	return error ?: l45_flow_detach(&over->ends[1], instance);
}

static int mark_rotation_end(struct connection *over)
{
	int error = on_both(over, l45_flow_attach, &tag, BOTH);

	error = error ?: both_turns(over, &tag);
	error = error ?: on_both(over, l45_flow_attach, &xor, BOTH);
	error = error ?: on_both(over, l45_flow_set, &tag, L45_MAY_RECEIVE);
	error = error ?: both_turns(over, &xor);
	error = error ?: detach(over, &tag);
	error = error ?: on_both(over, l45_flow_set, &xor, L45_MAY_RECEIVE);
	error = error ?: both_turns(over, NULL);
	return error ?: detach(over, &xor);
}

/* It changes nothing, and says how long to wait. */
static int delay(struct connection *over)
{
	struct l45_frame frame = { .buffer = over->whole };
	int error = on_both(over, l45_flow_attach, &limit, BOTH);

	error = error ?: l45_send(&over->ends[0], copy, over->written, 10, &frame);
	return error ?: expect(frame.delay_ms == DELAY_MS && !frame.head_size, "no delay alone");
}

static int connection(struct connection *over, __u32 segment)
{
	int error;

	over->segment = segment;
	l45_flow_open(&over->ends[0], L45_CONNECT, process);
	l45_flow_open(&over->ends[1], L45_ACCEPT, process);
	error = mark_rotation_end(over);
	error = error ?: delay(over);
	l45_flow_close(&over->ends[0]);
	l45_flow_close(&over->ends[1]);
	if (error)
		pr_err("l45_core_test: segments of %u bytes: error %d\n", segment, error);
	return error;
}

static int __init core_test(void)
{
	static const __u32 segments[] = { 1, 2, 3, 19, 20, 100, 1448, 4096, WIRE_SIZE };
	struct connection *over = kvmalloc(sizeof(*over), GFP_KERNEL);
	int error = 0;

	if (!over)
		return -ENOMEM;
	for (__u32 i = 0; i < ARRAY_SIZE(segments) && !error; i++)
		error = connection(over, segments[i]);
	kvfree(over);
	if (!error)
		pr_info("l45_core_test: passed, segmentations=%zu\n", ARRAY_SIZE(segments));
	return error;
}

static void __exit unload(void)
{
}

module_init(core_test);
module_exit(unload);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Test of the Layer 4.5 stream core in the kernel");
