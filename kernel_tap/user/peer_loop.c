// SPDX-License-Identifier: GPL-2.0
/* l45-peer: one connection, from its first byte to its last (peer.h). */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "peer.h"

void break_off(struct connection *c, int status, const char *format, ...)
{
	char text[PEER_LINE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	complain("%s", text);
	c->status = status;
	c->abrupt = true;
	c->over = true;
}

/* A signal wants the connection closed: in order, unless somebody would take what he has for all.
 */
static void stop(struct connection *c)
{
	const struct incoming *in = &c->in;

	event("event=stopped");
	c->abrupt = c->out.pending || in->app.size || in->start < in->end;
	c->over = true;
}

/* What time demands can give bytes back, which then are decoded; a mark that is found wants one in
 * return; and a command, anything. */
static void work(struct connection *c)
{
	__u64 now = l45_clock_ns();
	__u8 armed;

	do {
		c->acted = false;
		decode(c);
		armed = c->flow.tx.armed;
		c->wake = l45_flow_tick(&c->flow, now);
		if (armed && !c->flow.tx.armed)
			event("event=go-over");
		if (!c->over)
			decode(c);
		if (!c->over)
			send_frames(c, now);
	} while (c->acted && !c->over);
}

static short wanted_of_peer(const struct connection *c)
{
	const struct outgoing *out = &c->out;
	const struct incoming *in = &c->in;
	short events = 0;

	if (!in->ended && in->start == in->end && !in->app.size)
		events |= POLLIN;
	if (out->pending && l45_clock_ns() >= out->not_before)
		events |= POLLOUT;
	return events;
}

static bool wants_application(const struct outgoing *out)
{
	return !out->ended && !out->pending && out->start == out->end;
}

static bool has_for_application(const struct incoming *in)
{
	return in->app.size || (in->finished && !in->closed);
}

static void wait_and_move(struct connection *c)
{
	const struct outgoing *out = &c->out;
	__u64 delayed = out->pending && out->not_before > l45_clock_ns() ? out->not_before : 0;
	struct pollfd polled[] = {
		poll_entry(c->peer, wanted_of_peer(c)),
		poll_entry(c->application_in, wants_application(out) ? POLLIN : 0),
		poll_entry(c->application_out, has_for_application(&c->in) ? POLLOUT : 0),
		poll_entry(c->control.fd, c->control.waiting ? 0 : POLLIN),
	};

	wait_for(polled, 4, l45_earlier(c->wake, delayed));
	if (polled[0].revents & ~POLLOUT && polled[0].events & POLLIN)
		read_peer(c);
	if (polled[1].revents && !c->over)
		read_application(c);
	if (polled[2].revents && !c->over)
		deliver(c);
}

static void run(struct connection *c)
{
	while (!c->over) {
		work(c);
		if (c->over)
			break;
		if (c->out.closed && c->in.closed)
			c->over = true;
		else if (stopped())
			stop(c);
		else
			wait_and_move(c);
	}
}

static void close_all(struct connection *c)
{
	if (c->abrupt) {
		reset_socket(c->peer);
		reset_socket(c->application_out);
	}
	close(c->peer);
	close(c->application_in);
	if (c->application_out != c->application_in)
		close(c->application_out);
	close(c->control.fd);
	l45_flow_close(&c->flow);
}

int run_connection(const struct options *options, enum l45_role role, int application_in,
		   int application_out, int peer)
{
	struct connection *c = calloc(1, sizeof(*c));
	int status;

	if (!c)
		fail("no memory for a connection");
	c->options = options;
	c->application_in = application_in;
	c->application_out = application_out;
	c->peer = peer;
	l45_flow_open(&c->flow, role, options->process);
	attach_modules(options, &c->flow);
	open_control(c);
	run(c);
	close_all(c);
	status = c->status;
	event("event=closed status=%d sent=%llu received=%llu errors=%u", status,
	      (unsigned long long)c->flow.tx.taken, (unsigned long long)c->in.delivered,
	      c->flow.tx.errors);
	free(c);
	return status;
}
