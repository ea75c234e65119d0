// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target: the receive side. The input's front is what a peer sends; its end says which
 * customizations are ready, in which pieces the bytes come, and what happens in between.
 *
 * Oracles. However the bytes are split, an application gets the same, and the same fault. Where
 * nothing happens in between, that is what the model gets.
 */
#include <l45_user.h>
#include <receiver.h>

#include "fuzz.h"
#include "model.h"
#include "modules.h"

#define CUSTOMIZATIONS 8
#define STEP_NS	       50000000ull
#define APP_MAX	       (1 << 20)

static const __u8 new_token[L45_TOKEN] = { 0, 1, 2, 3, 4, 5, 6, 7 };
static const __u8 live_tokens[2][L45_TOKEN] = { "nonce 1.", "nonce 2." };

enum step_kind {
	STEP_FEED,
	STEP_FEED_LONG,
	STEP_TICK,
	STEP_ARM,
	STEP_GO,
	STEP_DISARM,
	STEP_SET,
	STEP_DRAIN,
	STEP_KINDS,
};

struct step {
	__u8 what; /* kind in the low half */
	__u8 how;
};

enum flags {
	FLAG_ARMED = 1,
	FLAG_ENDED = 2,
	FLAG_NO_MEMORY = 4,
};

struct plan {
	enum l45_role role;
	__u8 flags;
	__u8 attached; /* a bit for each customization */
	__u8 receives; /* of them */
	__u8 count;
	struct step steps[255];
	const __u8 *wire;
	__u32 size;
};

/* What an application got. */
struct outcome {
	__u8 app[APP_MAX];
	__u32 size;
	struct l45_flow flow; /* as it was left */
};

/* A way to feed a flow. */
struct feeder {
	struct l45_endpoint *endpoint;
	struct outcome *outcome;
	int in_pieces;
	__u32 delayed; /* bytes not fed yet, where pieces are put together */
	const __u8 *at;
	__u32 left;
	__u64 now;
	const struct l45_instance *attached[CUSTOMIZATIONS];
};

static int no_memory;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
	return no_memory && size == L45_WHOLE_MAX ? NULL : __real_malloc(size);
}

static struct plan make_plan(const __u8 *bytes, __u32 size)
{
	struct input input = { .bytes = bytes, .size = size };
	struct plan plan = {
		.role = choose(&input) % 3,
		.flags = choose(&input),
		.attached = choose(&input),
		.receives = choose(&input),
		.count = choose(&input),
	};

	for (__u32 i = 0; i < plan.count; i++) {
		plan.steps[i].what = choose(&input);
		plan.steps[i].how = choose(&input);
	}
	plan.wire = input.bytes;
	plan.size = l45_min(input.size, APP_MAX);
	return plan;
}

static struct l45_instance customization(__u32 index)
{
	struct l45_instance instance = {
		.module = modules[index % MODULES_COUNT],
		.epoch = 1 + index / MODULES_COUNT,
		.parameters_size = 16,
	};

	memcpy(instance.token, new_token, L45_TOKEN);
	memset(instance.parameters, 0x5a, instance.parameters_size);
	return instance;
}

static struct l45_flow *flow_of(struct feeder *feeder)
{
	return l45_endpoint_flow(feeder->endpoint);
}

static void keep(struct feeder *feeder, const __u8 *app, __u32 size)
{
	CHECK(size <= APP_MAX - feeder->outcome->size);
	if (size)
		memcpy(feeder->outcome->app + feeder->outcome->size, app, size);
	feeder->outcome->size += size;
}

/* Sanitizers do not see one field of the flow run into the next. */
static void check_bounds(const struct l45_flow *flow)
{
	const struct l45_receiver *rx = &flow->rx;

	CHECK(rx->held <= L45_MARK_SIZE && rx->shown <= rx->held);
	CHECK(rx->held < L45_MARK_SIZE || rx->state == L45_RECEIVE_BROKEN);
	CHECK(rx->given_size <= sizeof(rx->given) && rx->given_taken <= rx->given_size);
	CHECK(rx->got < (rx->part == L45_PART_WHOLE ? L45_WHOLE_MAX : sizeof(rx->unit)));
	CHECK(!rx->in_use == (rx->state != L45_RECEIVE_FRAMED));
	CHECK(!rx->fault == (rx->state != L45_RECEIVE_BROKEN));
}

/* With calls of the core alone; a buffer that ends where the bytes end. */
static void feed_directly(struct feeder *feeder, const __u8 *wire, __u32 size)
{
	struct l45_flow *flow = flow_of(feeder);
	__u8 *copy = malloc(size + 1), *at = copy + 1;
	struct l45_span app;
	int used;

	memcpy(at, wire, size);
	do {
		__u32 needs = l45_receive_needs(flow), before = size;
		int framed = flow->rx.state == L45_RECEIVE_FRAMED && !l45_has_given(&flow->rx);

		used = l45_receive(flow, at, size, &app);
		check_bounds(flow);
		CHECK(used <= (int)size);
		if (used < 0)
			break;
		CHECK(flow->rx.state != L45_RECEIVE_BROKEN || !app.size);
		CHECK(!framed || before >= needs || !app.size);
		keep(feeder, app.data, app.size);
		at += used;
		size -= used;
	} while (used || app.size);
	free(copy);
}

/* As an application reads that has room for so many bytes. */
static void read_all(struct feeder *feeder, __u32 room)
{
	static __u8 app[1 << 16];
	int size;

	while ((size = l45_endpoint_read(feeder->endpoint, app, room)) > 0)
		keep(feeder, app, size);
	check_bounds(flow_of(feeder));
	CHECK(!size || size == -ENODATA || flow_of(feeder)->rx.fault);
}

static void feed_piece(struct feeder *feeder, const __u8 *wire, __u32 size, __u32 room)
{
	while (size && flow_of(feeder)->rx.state != L45_RECEIVE_BROKEN) {
		__u32 space, more;
		__u8 *to = l45_endpoint_space(feeder->endpoint, &space);

		more = l45_min(space, size);
		memcpy(to, wire, more);
		l45_endpoint_filled(feeder->endpoint, more);
		read_all(feeder, room);
		wire += more;
		size -= more;
	}
}

static void tick(struct feeder *feeder)
{
	__u64 again = l45_flow_tick(flow_of(feeder), feeder->now);

	CHECK(!again || again > feeder->now);
	feed_directly(feeder, feeder->at, 0);
}

static void feed(struct feeder *feeder, __u32 size, __u32 room)
{
	size = l45_min(size, feeder->left);
	if (feeder->in_pieces)
		feed_piece(feeder, feeder->at, size, room);
	else
		feeder->delayed += size;
	if (feeder->in_pieces)
		tick(feeder);
	feeder->at += size;
	feeder->left -= size;
}

static void feed_delayed(struct feeder *feeder)
{
	if (feeder->delayed) {
		feed_directly(feeder, feeder->at - feeder->delayed, feeder->delayed);
		tick(feeder);
	}
	feeder->delayed = 0;
}

static void set(struct feeder *feeder, __u32 index, __u8 switches)
{
	if (feeder->attached[index])
		l45_flow_set(flow_of(feeder), feeder->attached[index], index, switches);
}

static void happen(struct feeder *feeder, enum step_kind kind, __u8 detail, __u8 how)
{
	struct l45_flow *flow = flow_of(feeder);

	feed_delayed(feeder);
	switch (kind) {
	case STEP_TICK:
		feeder->now += how * STEP_NS;
		break;
	case STEP_ARM:
		l45_flow_arm(flow, live_tokens[detail & 1], feeder->now, how * STEP_NS);
		break;
	case STEP_GO:
		l45_flow_go(flow, feeder->now);
		break;
	case STEP_DISARM:
		l45_flow_disarm(flow);
		break;
	case STEP_SET:
		set(feeder, how % CUSTOMIZATIONS, detail & (L45_MAY_SEND | L45_MAY_RECEIVE));
		break;
	default:
		l45_flow_drain(flow, how ? feeder->now + (how - 1) * STEP_NS : 0);
		break;
	}
	tick(feeder);
}

static void take_step(struct feeder *feeder, struct step step)
{
	enum step_kind kind = step.what % 16 % STEP_KINDS;
	__u8 detail = step.what / 16;

	if (kind == STEP_FEED)
		feed(feeder, 1 + step.how, 1 + detail);
	else if (kind == STEP_FEED_LONG)
		feed(feeder, 256u * (1 + step.how), 1 + detail * 500);
	else
		happen(feeder, kind, detail, step.how);
}

static void open_flow(struct feeder *feeder, const struct plan *plan)
{
	feeder->endpoint = l45_endpoint_new(plan->role, "fuzz");
	for (__u32 i = 0; i < CUSTOMIZATIONS; i++) {
		struct l45_instance instance = customization(i);

		if (plan->attached & 1 << i)
			feeder->attached[i] = l45_endpoint_attach(
				feeder->endpoint, &instance, i,
				plan->receives & 1 << i ? L45_MAY_RECEIVE : L45_MAY_SEND);
	}
	if (plan->flags & FLAG_ARMED)
		l45_flow_arm(flow_of(feeder), live_tokens[0], feeder->now, 100 * STEP_NS);
}

static void play(const struct plan *plan, int in_pieces, struct outcome *outcome)
{
	struct feeder feeder = {
		.outcome = outcome,
		.in_pieces = in_pieces,
		.at = plan->wire,
		.left = plan->size,
		.now = 1,
	};

	outcome->size = 0;
	open_flow(&feeder, plan);
	for (__u32 i = 0; i < plan->count; i++)
		take_step(&feeder, plan->steps[i]);
	feed(&feeder, feeder.left, L45_ENDPOINT_WIRE);
	feed_delayed(&feeder);
	if (plan->flags & FLAG_ENDED) {
		l45_endpoint_ended(feeder.endpoint);
		read_all(&feeder, 1 + plan->count);
	}
	outcome->flow = *flow_of(&feeder);
	l45_endpoint_free(feeder.endpoint);
}

/* What one of them got begins with what the other got, but for `tail` bytes. */
static void check_begin(const struct outcome *a, const struct outcome *b, __u32 tail)
{
	__u32 shorter = l45_min(a->size, b->size);

	CHECK(!memcmp(a->app, b->app, shorter > tail ? shorter - tail : 0));
}

static void check_same(const struct outcome *whole, const struct outcome *pieces)
{
	const struct l45_receiver *a = &whole->flow.rx, *b = &pieces->flow.rx;

	if (a->fault == L45_FAULT_LATE || b->fault == L45_FAULT_LATE) {
		/* A mark that was in time in one piece, and too late in several. */
		check_begin(whole, pieces, L45_MARK_SIZE - 1);
		return;
	}
	if (a->fault == L45_FAULT_MEMORY || b->fault == L45_FAULT_MEMORY) {
		check_begin(whole, pieces, 0);
		return;
	}
	CHECK(whole->size == pieces->size && !memcmp(whole->app, pieces->app, whole->size));
	CHECK(a->state == b->state && a->fault == b->fault && a->opened == b->opened);
	CHECK(whole->flow.tx.go == pieces->flow.tx.go);
}

static void check_model(const struct plan *plan, const struct outcome *outcome)
{
	static __u8 app[APP_MAX];
	struct l45_instance instances[CUSTOMIZATIONS];
	struct model model = {
		.is_new = plan->role != L45_JOIN,
		.armed = plan->flags & FLAG_ARMED ? live_tokens[0] : NULL,
		.ended = plan->flags & FLAG_ENDED,
		.wire = plan->wire,
		.size = plan->size,
		.app = app,
	};
	enum l45_fault fault;

	for (__u32 i = 0; i < CUSTOMIZATIONS; i++) {
		instances[i] = customization(i);
		if (plan->attached & plan->receives & 1 << i &&
		    instances[i].module->kind != L45_STREAM_WATCH)
			model.ready[model.count++] = &instances[i];
	}
	fault = model_receive(&model);
	CHECK(fault == outcome->flow.rx.fault);
	CHECK(model.app_size == outcome->size && !memcmp(app, outcome->app, outcome->size));
}

static int is_timeless(const struct plan *plan)
{
	for (__u32 i = 0; i < plan->count; i++)
		if (plan->steps[i].what % 16 % STEP_KINDS > STEP_FEED_LONG)
			return 0;
	return !(plan->flags & FLAG_NO_MEMORY);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size)
{
	static struct outcome whole, pieces;
	struct plan plan = make_plan(bytes, size);

	no_memory = plan.flags & FLAG_NO_MEMORY;
	play(&plan, 0, &whole);
	play(&plan, 1, &pieces);
	no_memory = 0;
	check_same(&whole, &pieces);
	if (is_timeless(&plan))
		check_model(&plan, &whole);
	return 0;
}
