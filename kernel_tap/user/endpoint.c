// SPDX-License-Identifier: GPL-2.0
/* A tap for streams without sockets (l45_user.h). */
#include "l45_user.h"

struct l45_endpoint {
	struct l45_flow flow;
	struct l45_instance instances[L45_ATTACHED_MAX]; /* free where they have no module */
	__u8 frame[L45_WHOLE_MAX];
	__u8 wire[L45_ENDPOINT_WIRE];
	__u32 start, end;    /* of what is in there and not looked at */
	struct l45_span app; /* for the application, before what is not looked at */
	int ended;
};

struct l45_endpoint *l45_endpoint_new(enum l45_role role, const char *process)
{
	struct l45_endpoint *endpoint = calloc(1, sizeof(*endpoint));
	char name[L45_NAME_SIZE] = { 0 };

	if (!endpoint)
		return NULL;
	if (process)
		memcpy(name, process, strnlen(process, sizeof(name) - 1));
	l45_flow_open(&endpoint->flow, role, name);
	return endpoint;
}

void l45_endpoint_free(struct l45_endpoint *endpoint)
{
	l45_flow_close(&endpoint->flow);
	free(endpoint);
}

struct l45_flow *l45_endpoint_flow(struct l45_endpoint *endpoint)
{
	return &endpoint->flow;
}

int l45_endpoint_state(const struct l45_endpoint *endpoint, enum l45_direction direction)
{
	return direction == L45_SEND ? endpoint->flow.tx.state : endpoint->flow.rx.state;
}

int l45_endpoint_fault(const struct l45_endpoint *endpoint, enum l45_direction direction)
{
	return direction == L45_SEND ? endpoint->flow.tx.fault : endpoint->flow.rx.fault;
}

__u32 l45_endpoint_changes(const struct l45_endpoint *endpoint, enum l45_direction direction)
{
	return direction == L45_SEND ? endpoint->flow.tx.changes : endpoint->flow.rx.changes;
}

static struct l45_instance *free_instance(struct l45_endpoint *endpoint)
{
	for (__u32 i = 0; i < L45_ATTACHED_MAX; i++)
		if (!endpoint->instances[i].module)
			return &endpoint->instances[i];
	return NULL;
}

const struct l45_instance *l45_endpoint_attach(struct l45_endpoint *endpoint,
					       const struct l45_instance *instance, __u32 priority,
					       __u8 switches)
{
	struct l45_instance *copy = free_instance(endpoint);
	int error = -ENOSPC;

	if (copy) {
		*copy = *instance;
		error = l45_flow_attach(&endpoint->flow, copy, priority, switches);
	}
	if (!error)
		return copy;
	if (copy)
		copy->module = NULL;
	errno = -error;
	return NULL;
}

int l45_endpoint_detach(struct l45_endpoint *endpoint, const struct l45_instance *instance)
{
	int error = l45_flow_detach(&endpoint->flow, instance);

	if (!error)
		endpoint->instances[instance - endpoint->instances].module = NULL;
	return error;
}

static int copy_bytes(void *source, void *to, __u32 size)
{
	memcpy(to, source, size);
	return 0;
}

static __u8 *put(__u8 *to, const __u8 *from, __u32 size)
{
	memcpy(to, from, size);
	return to + size;
}

/* Frames like the one that was made, behind it, of what follows of the application's bytes. */
static void send_again(struct l45_endpoint *endpoint, __u32 size, struct l45_frame *frame)
{
	const __u8 *head = frame->head, *app = frame->body;
	__u32 head_size = frame->head_size, body_size = frame->body_size;
	__u8 *to = endpoint->frame;
	__u32 count;

	if (body_size > sizeof(endpoint->frame))
		return;
	count = l45_send_again(&endpoint->flow, frame, size, sizeof(endpoint->frame) - body_size);
	if (!count)
		return;
	to = put(to, app, body_size);
	for (; count; count--) {
		app += body_size;
		frame->taken += body_size;
		to = put(to, frame->head, frame->head_size);
		to = put(to, app, body_size);
	}
	frame->head = head;
	frame->head_size = head_size;
	frame->body = endpoint->frame;
	frame->body_size = to - endpoint->frame;
}

int l45_endpoint_send(struct l45_endpoint *endpoint, const __u8 *app, __u32 size,
		      struct l45_frame *frame)
{
	int error;

	frame->buffer = endpoint->frame;
	error = l45_send(&endpoint->flow, copy_bytes, (void *)app, size, frame);
	if (!error && !frame->body) {
		frame->body = app;
		send_again(endpoint, size - frame->taken, frame);
	}
	return error;
}

__u8 *l45_endpoint_space(struct l45_endpoint *endpoint, __u32 *size)
{
	if (!endpoint->app.size && endpoint->start) {
		endpoint->end -= endpoint->start;
		memmove(endpoint->wire, endpoint->wire + endpoint->start, endpoint->end);
		endpoint->start = 0;
	}
	*size = sizeof(endpoint->wire) - endpoint->end;
	return endpoint->wire + endpoint->end;
}

void l45_endpoint_filled(struct l45_endpoint *endpoint, __u32 size)
{
	endpoint->end += size;
}

void l45_endpoint_ended(struct l45_endpoint *endpoint)
{
	endpoint->ended = 1;
}

/* What needs no look: straight from the transport's bytes. */
static __u32 read_verbatim(struct l45_endpoint *endpoint, __u8 *app, __u32 room)
{
	__u32 size = l45_receive_verbatim(&endpoint->flow);

	size = l45_min(l45_min(size, room), endpoint->end - endpoint->start);
	if (size) {
		memcpy(app, endpoint->wire + endpoint->start, size);
		endpoint->start += size;
		l45_receive_passed(&endpoint->flow, size);
	}
	return size;
}

/* Frames whose heads are known, as far as they are there and the application has room. */
static __u32 read_run(struct l45_endpoint *endpoint, __u8 *app, __u32 room)
{
	const __u8 *at = endpoint->wire + endpoint->start, *end = endpoint->wire + endpoint->end;
	__u32 frames = 0, bytes = 0, done = 0, head, body, part;

	if (!l45_receive_runs(&endpoint->flow))
		return 0;
	while (done == bytes && done < room &&
	       (head = l45_receive_known(&endpoint->flow.rx, at, end - at, &body))) {
		at += head;
		part = l45_min(l45_min(body, end - at), room - done);
		memcpy(app + done, at, part);
		at += part;
		done += part;
		bytes += body;
		frames++;
	}
	l45_receive_ran(&endpoint->flow, frames, bytes, bytes - done);
	endpoint->start = at - endpoint->wire;
	return done;
}

static __u32 read_span(struct l45_span *span, __u8 *app, __u32 room)
{
	__u32 size = l45_min(span->size, room);

	if (size) {
		memcpy(app, span->data, size);
		span->data += size;
		span->size -= size;
	}
	return size;
}

/* Get a span to read from; 0: there is none. */
static int decode(struct l45_endpoint *endpoint)
{
	__u32 left;
	int used;

	do {
		left = endpoint->end - endpoint->start;
		used = l45_receive(&endpoint->flow, endpoint->wire + endpoint->start, left,
				   &endpoint->app);
		if (used < 0)
			return used;
		endpoint->start += used;
	} while (used && !endpoint->app.size);
	if (endpoint->app.size)
		return 1;
	if (!endpoint->ended)
		return 0;
	used = l45_receive_end(&endpoint->flow, &endpoint->app);
	if (used < 0)
		return used;
	return endpoint->app.size ? 1 : -ENODATA;
}

int l45_endpoint_read(struct l45_endpoint *endpoint, __u8 *app, __u32 room)
{
	__u32 done = 0, more;
	int result = 1;

	while (done < room && result > 0) {
		more = read_span(&endpoint->app, app + done, room - done);
		if (!more)
			more = read_verbatim(endpoint, app + done, room - done);
		if (!more)
			more = read_run(endpoint, app + done, room - done);
		done += more;
		if (!more)
			result = decode(endpoint);
	}
	return done ? (int)done : result;
}
