// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target: two endpoints, joined by a transport that splits as the input says. The input
 * attaches customizations to both, then does one thing after the other: an application writes, the
 * transport delivers, customizations are switched on and off, live streams are armed.
 *
 * Oracle: what an application reads is what the other wrote, in order, and in the end all of it.
 * Both ends are always ready to receive, and a nonce stands in no payload, as it is promised to.
 */
#include <l45_user.h>

#include "fuzz.h"
#include "modules.h"

#define CUSTOMIZATIONS 4
#define WINDOW	       1000
#define WRITTEN_MAX    (1 << 17) /* by an application */
#define WIRE_MAX       (6 << 20) /* stream_tag can make 33 bytes of one */

struct side {
	struct l45_endpoint *endpoint;
	const struct l45_instance *attached[CUSTOMIZATIONS];
	__u8 written[WRITTEN_MAX];
	__u32 written_size;
	__u32 read; /* of it, by the other side's application */
	__u8 wire[WIRE_MAX];
	__u32 wire_start, wire_size; /* sent, and not delivered yet */
	int accepts;
	int opened; /* a stream, at least once */
};

static struct side sides[2];
static struct l45_instance customizations[CUSTOMIZATIONS];
static __u32 customizations_count;
static __u8 nonce[L45_TOKEN];
static __u64 now;
static int armed; /* at least once */

static struct side *other(struct side *side)
{
	return side == sides ? sides + 1 : sides;
}

static int is_broken(const struct side *side)
{
	return l45_endpoint_state(side->endpoint, L45_SEND) == L45_SEND_BROKEN;
}

/* So that no input can hold the token that it leads to. */
static void make_token(const __u8 *bytes, __u32 size, __u8 token[L45_TOKEN])
{
	__u64 hash = 0xcbf29ce484222325; /* FNV-1a */

	while (size--)
		hash = (hash ^ *bytes++) * 0x100000001b3;
	memcpy(token, &hash, sizeof(hash));
}

static void put_on_wire(struct side *side, const void *bytes, __u32 size)
{
	CHECK(size <= WIRE_MAX - side->wire_size);
	if (size)
		memcpy(side->wire + side->wire_size, bytes, size);
	side->wire_size += size;
}

static int no_copy(void *source, void *to, __u32 size)
{
	(void)source, (void)to, (void)size;
	return -EFAULT;
}

/* The application's bytes cannot be read: nothing has happened, unless nobody wanted to. */
static int is_refused(struct side *side, __u32 size, struct l45_frame *frame)
{
	static __u8 buffer[L45_WHOLE_MAX];
	struct l45_flow *flow = l45_endpoint_flow(side->endpoint);
	__u8 state = flow->tx.state;
	int error;

	frame->buffer = l45_send_needs_buffer(flow) ? buffer : NULL;
	error = l45_send(flow, no_copy, NULL, size, frame);
	CHECK(error != -EFAULT || (state == flow->tx.state && !frame->head_size));
	return error == -EFAULT;
}

/* Who joined or accepted begins no stream by itself. */
static void check_opening(struct side *side, enum l45_send_state before)
{
	if (before == L45_SEND_FRAMED ||
	    l45_endpoint_state(side->endpoint, L45_SEND) != L45_SEND_FRAMED)
		return;
	CHECK(before == L45_SEND_NEW || armed);
	CHECK(!side->accepts || other(side)->opened || armed);
	side->opened = 1;
}

static void send_all(struct side *side, const __u8 *app, __u32 size, int refuse)
{
	struct l45_frame frame = { 0 };
	int error, before;

	for (; size; app += frame.taken, size -= frame.taken) {
		before = l45_endpoint_state(side->endpoint, L45_SEND);
		if (!refuse || is_refused(side, size, &frame))
			error = l45_endpoint_send(side->endpoint, app, size, &frame);
		else
			error = is_broken(side) ? -EPIPE : 0;
		CHECK(!error || (error == -EPIPE && is_broken(side)));
		if (error)
			return;
		CHECK(frame.taken && frame.taken <= size);
		check_opening(side, before);
		put_on_wire(side, frame.head, frame.head_size);
		put_on_wire(side, frame.body ? frame.body : app, frame.body_size);
		side->written_size += frame.taken;
	}
}

static void write_app(struct side *side, const __u8 *app, __u32 size, int refuse)
{
	__u8 *written = side->written + side->written_size;

	if (size > WRITTEN_MAX - side->written_size)
		return;
	if (size)
		memcpy(written, app, size);
	send_all(side, written, size, refuse);
}

/* The input's front, as often as it takes. */
static void write_repeated(struct side *side, struct input *input, __u32 size, int refuse)
{
	static __u8 app[1 << 16];
	__u32 done = l45_min(input->size, size), more;

	memcpy(app, done ? input->bytes : (const __u8 *)"?", done ? done : 1);
	for (done = done ? done : 1; done < size; done += more) {
		more = l45_min(done, size - done);
		memcpy(app + done, app, more);
	}
	write_app(side, app, size, refuse);
}

static void control(struct side *side)
{
	struct l45_frame frame;
	int before = l45_endpoint_state(side->endpoint, L45_SEND);
	int result = l45_send_control(l45_endpoint_flow(side->endpoint), &frame);

	CHECK(result >= 0 || is_broken(side));
	if (result < 0)
		return;
	check_opening(side, before);
	CHECK(!frame.body_size && !frame.taken && result == (frame.head_size > 0));
	put_on_wire(side, frame.head, frame.head_size);
}

/* The application at the other end reads once; returns whether it got something. */
static int read_some(struct side *from, __u32 room)
{
	static __u8 app[1 << 16];
	int size = l45_endpoint_read(other(from)->endpoint, app, room);

	CHECK(size >= 0 || size == -ENODATA);
	if (size <= 0)
		return 0;
	CHECK((__u32)size <= from->written_size - from->read);
	CHECK(!memcmp(app, from->written + from->read, size));
	from->read += size;
	return 1;
}

static void read_all(struct side *from, __u32 room)
{
	while (read_some(from, room))
		;
}

/* To where the other end's application can read it. */
static void carry(struct side *from, __u32 size)
{
	__u32 space;
	__u8 *to = l45_endpoint_space(other(from)->endpoint, &space);

	size = l45_min(l45_min(size, from->wire_size - from->wire_start), space);
	memcpy(to, from->wire + from->wire_start, size);
	from->wire_start += size;
	l45_endpoint_filled(other(from)->endpoint, size);
}

static void tick(struct side *side)
{
	__u64 again = l45_flow_tick(l45_endpoint_flow(side->endpoint), now);

	CHECK(!again || again > now);
}

static void deliver(struct side *from, __u32 size, __u32 room)
{
	carry(from, size);
	read_all(from, room);
	tick(other(from));
}

/* To an application that is slow. */
static void deliver_unread(struct side *from, __u32 size, __u32 room)
{
	carry(from, size);
	read_some(from, room);
	tick(other(from));
}

static void deliver_all(void)
{
	for (__u32 i = 0; i < 2; i++)
		while (sides[i].wire_start < sides[i].wire_size)
			deliver(&sides[i], L45_ENDPOINT_WIRE, L45_ENDPOINT_WIRE);
	for (__u32 i = 0; i < 2; i++) {
		read_all(&sides[i], L45_ENDPOINT_WIRE);
		CHECK(l45_endpoint_flow(sides[i].endpoint)->tx.changes ==
		      l45_endpoint_flow(other(&sides[i])->endpoint)->rx.changes);
	}
}

/* A mark that would be taken. */
static void make_mark(__u8 mark[L45_MARK_SIZE], int new)
{
	if (new)
		l45_put_mark(mark, L45_MARK_NEW, customizations[0].token, &customizations[0]);
	else
		l45_put_mark(mark, L45_MARK_LIVE, nonce, &customizations[0]);
}

/* Its begin, and then what does not go on like one. */
static void write_likeness(struct side *side, __u8 choice)
{
	__u8 mark[L45_MARK_SIZE];
	__u32 size = 1 + (choice >> 1) % L45_MARK_SIZE;

	make_mark(mark, choice & 1);
	mark[size - 1] ^= 0x80;
	write_app(side, mark, size, 0);
}

static void attach(struct side *side, __u32 index, __u8 choice)
{
	struct l45_endpoint *endpoint = side->endpoint;
	__u8 switches = L45_MAY_RECEIVE | (choice & 1 ? L45_MAY_SEND : 0);

	side->attached[index] =
		l45_endpoint_attach(endpoint, &customizations[index], choice >> 1, switches);
	CHECK(side->attached[index]);
	CHECK(!l45_endpoint_attach(endpoint, &customizations[index], 0, 0) && errno == EEXIST);
}

static void set(struct side *side, __u32 index, __u8 choice)
{
	__u8 switches = L45_MAY_RECEIVE | (choice & 1 ? L45_MAY_SEND : 0);

	CHECK(!l45_flow_set(l45_endpoint_flow(side->endpoint), side->attached[index], choice >> 1,
			    switches));
}

static int is_framed_with(const struct side *side, const struct l45_instance *instance)
{
	const struct l45_flow *flow = l45_endpoint_flow(side->endpoint);

	return flow->tx.in_use == instance || flow->rx.in_use == instance;
}

static void attach_anew(struct side *side, __u32 index, __u8 choice)
{
	const struct l45_instance *old = side->attached[index];
	struct l45_flow *flow = l45_endpoint_flow(side->endpoint);

	CHECK(!l45_endpoint_detach(side->endpoint, old));
	CHECK(l45_flow_detach(flow, old) == -ENOENT);
	CHECK(l45_flow_set(flow, old, 0, 0) == -ENOENT);
	attach(side, index, choice);
}

/* At both ends or none, while nothing is under way. */
static void replace(__u32 index, __u8 choice)
{
	deliver_all();
	for (__u32 i = 0; i < 2; i++) {
		const struct l45_instance *old = sides[i].attached[index];

		if (is_framed_with(&sides[i], old)) {
			CHECK(l45_endpoint_detach(sides[i].endpoint, old) == -EBUSY);
			return;
		}
	}
	for (__u32 i = 0; i < 2; i++)
		attach_anew(&sides[i], index, choice);
}

/* Both ends, with a nonce of its own each time, while nothing is under way. */
static void arm(void)
{
	deliver_all();
	armed = 1;
	nonce[0]++;
	for (__u32 i = 0; i < 2; i++)
		l45_flow_arm(l45_endpoint_flow(sides[i].endpoint), nonce, now, WINDOW);
}

static void close_windows(void)
{
	deliver_all();
	now += WINDOW;
	for (__u32 i = 0; i < 2; i++) {
		struct l45_flow *flow = l45_endpoint_flow(sides[i].endpoint);

		CHECK(l45_flow_go(flow, now) < 0);
		tick(&sides[i]);
		CHECK(!flow->tx.go);
		read_all(other(&sides[i]), L45_ENDPOINT_WIRE);
	}
}

static void disarm(void)
{
	deliver_all();
	for (__u32 i = 0; i < 2; i++) {
		l45_flow_disarm(l45_endpoint_flow(sides[i].endpoint));
		read_all(other(&sides[i]), L45_ENDPOINT_WIRE);
	}
}

enum act {
	ACT_WRITE,
	ACT_WRITE_LONG,
	ACT_WRITE_LIKENESS,
	ACT_CONTROL,
	ACT_DELIVER,
	ACT_DELIVER_LONG,
	ACT_DELIVER_UNREAD,
	ACT_SET,
	ACT_REPLACE,
	ACT_ARM,
	ACT_GO,
	ACT_CLOSE_WINDOWS,
	ACT_DISARM,
	ACTS,
};

static void act(struct input *input)
{
	__u8 what = choose(input), how = choose(input);
	struct side *side = &sides[what >> 7];
	int refuse = what >> 6 & 1;

	switch (what % (1 << 6) % ACTS) {
	case ACT_WRITE:
		write_repeated(side, input, how, refuse);
		break;
	case ACT_WRITE_LONG:
		write_repeated(side, input, how * 257, refuse);
		break;
	case ACT_WRITE_LIKENESS:
		write_likeness(side, how);
		break;
	case ACT_CONTROL:
		control(side);
		break;
	case ACT_DELIVER:
		deliver(side, 1 + how % 16, 1 + how / 16);
		break;
	case ACT_DELIVER_LONG:
		deliver(side, 1 + how * 100, 1 + how * 10);
		break;
	case ACT_DELIVER_UNREAD:
		deliver_unread(side, 1 + how, 1 + how % 16);
		break;
	case ACT_SET:
		set(side, how % customizations_count, choose(input));
		break;
	case ACT_REPLACE:
		replace(how % customizations_count, choose(input));
		break;
	case ACT_ARM:
		arm();
		break;
	case ACT_GO:
		l45_flow_go(l45_endpoint_flow(side->endpoint), now);
		break;
	case ACT_CLOSE_WINDOWS:
		close_windows();
		break;
	case ACT_DISARM:
		disarm();
		break;
	}
}

static void open_sides(struct input *input, const __u8 token[L45_TOKEN])
{
	static const enum l45_role roles[2][2] = { { L45_CONNECT, L45_ACCEPT },
						   { L45_JOIN, L45_JOIN } };
	const enum l45_role *role = roles[choose(input) & 1];
	char process[L45_NAME_SIZE];

	choose_text(input, process, sizeof(process));
	customizations_count = 1 + choose(input) % CUSTOMIZATIONS;
	for (__u32 i = 0; i < 2; i++) {
		sides[i].endpoint = l45_endpoint_new(role[i], process);
		sides[i].written_size = sides[i].read = 0;
		sides[i].wire_start = sides[i].wire_size = 0;
		sides[i].accepts = role[i] == L45_ACCEPT;
		sides[i].opened = 0;
	}
	for (__u32 i = 0; i < customizations_count; i++) {
		struct l45_instance *instance = &customizations[i];

		instance->module = modules[choose(input) % MODULES_COUNT];
		instance->epoch = i;
		memcpy(instance->token, token, L45_TOKEN);
		instance->parameters_size = choose(input) % (L45_PARAMETERS_MAX + 1);
		choose_bytes(input, instance->parameters, instance->parameters_size);
		for (__u32 j = 0; j < 2; j++)
			attach(&sides[j], i, choose(input));
	}
}

/* The application of `side` closes; a write of the begin of a mark may be its last. */
static void finish(struct side *side, __u8 choice)
{
	__u8 mark[L45_MARK_SIZE];

	make_mark(mark, choice & 1);
	write_app(side, mark, (choice >> 1) % L45_MARK_SIZE, 0);
	deliver_all();
	l45_endpoint_ended(other(side)->endpoint);
	read_all(side, L45_ENDPOINT_WIRE);
	CHECK(side->read == side->written_size);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size)
{
	struct input input = { .bytes = bytes, .size = size };
	__u32 acts;

	now = 1;
	armed = 0;
	make_token(bytes, size, nonce);
	open_sides(&input, nonce);
	for (acts = choose(&input); acts; acts--)
		act(&input);
	for (__u32 i = 0; i < 2; i++)
		finish(&sides[i], choose(&input));
	for (__u32 i = 0; i < 2; i++)
		l45_endpoint_free(sides[i].endpoint);
	return 0;
}
