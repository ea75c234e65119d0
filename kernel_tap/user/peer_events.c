// SPDX-License-Identifier: GPL-2.0
/* l45-peer: lines on standard error, one for each thing that happens. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "peer.h"

bool verbose;

/* Written at once: several processes of a forwarder share standard error. */
static void print(const char *format, va_list arguments)
{
	char line[2 * PEER_LINE];
	int size = snprintf(line, sizeof(line), "l45-peer[%d]: ", getpid());

	vsnprintf(line + size, sizeof(line) - size, format, arguments);
	fprintf(stderr, "%s\n", line);
}

void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(format, arguments);
	va_end(arguments);
}

void event(const char *format, ...)
{
	va_list arguments;

	if (!verbose)
		return;
	va_start(arguments, format);
	print(format, arguments);
	va_end(arguments);
}

void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(format, arguments);
	va_end(arguments);
	exit(PEER_FAILED);
}

static const char *change(const struct l45_instance *from, const struct l45_instance *to)
{
	if (!from)
		return "mark";
	return to ? "switch" : "end";
}

static void tell(const char *direction, const struct l45_instance **known,
		 const struct l45_instance *now, const char *note)
{
	const struct l45_instance *named = now ? now : *known;

	if (*known == now)
		return;
	event("event=%s-%s module=%s epoch=%u%s", change(*known, now), direction,
	      named->module->name, named->epoch, note);
	*known = now;
}

void tell_sent(struct connection *c)
{
	static const char live[] = " kind=L", new[] = " kind=N";
	const struct l45_frame *frame = &c->out.frame;
	const char *note = "";

	if (!c->out.known && c->flow.tx.in_use)
		note = frame->head[L45_MARK_KIND] == L45_MARK_LIVE ? live : new;
	tell("sent", &c->out.known, c->flow.tx.in_use, note);
}

void tell_received(struct connection *c)
{
	tell("received", &c->in.known, c->flow.rx.in_use, "");
}

const char *fault_text(enum l45_fault fault)
{
	static const char *const texts[] = {
		[L45_FAULT_NONE] = "none",
		[L45_FAULT_FRAME] = "there is no such frame",
		[L45_FAULT_TOO_LONG] = "a frame is longer than a receiver can hold",
		[L45_FAULT_UNKNOWN] = "a switch to a customization that may not receive here",
		[L45_FAULT_MODULE] = "the module could not work on a message",
		[L45_FAULT_CUT] = "the stream ended inside a frame",
		[L45_FAULT_LATE] = "a mark came after its begin was handed over",
		[L45_FAULT_SILENT] = "the customization was not ended in time",
		[L45_FAULT_MEMORY] = "no memory",
	};

	return texts[fault];
}
