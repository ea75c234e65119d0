// SPDX-License-Identifier: GPL-2.0
/* l45-peer: from the application to the peer (peer.h). */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "peer.h"

void read_application(struct connection *c)
{
	struct outgoing *out = &c->out;
	ssize_t size = read(c->application_in, out->bytes, sizeof(out->bytes));

	if (size < 0) {
		if (!is_transient(errno))
			break_off(c, PEER_FAILED, "cannot read from the application: %s",
				  strerror(errno));
		return;
	}
	out->start = 0;
	out->end = size;
	out->ended = !size;
}

static int copy_bytes(void *source, void *to, __u32 size)
{
	memcpy(to, source, size);
	return 0;
}

/* What goes next: what must not wait for the application, or some of its bytes. Returns whether
 * there is a frame, or -EPIPE. */
static int make_frame(struct connection *c)
{
	struct outgoing *out = &c->out;
	__u32 size = l45_min(out->end - out->start, bytes_before_command(c));
	int made = l45_send_control(&c->flow, &out->frame);

	if (made || !size)
		return made;
	out->frame.buffer = out->whole;
	made = l45_send(&c->flow, copy_bytes, out->bytes + out->start, size, &out->frame);
	return made < 0 ? made : 1;
}

static void next_frame(struct connection *c, __u64 now)
{
	struct outgoing *out = &c->out;
	int made = make_frame(c);

	if (made < 0)
		break_off(c, PEER_FAILED, "event=fault direction=send reason=\"%s\"",
			  fault_text(c->flow.tx.fault));
	if (made <= 0)
		return;
	if (!out->frame.body)
		out->frame.body = out->bytes + out->start;
	out->start += out->frame.taken;
	out->sent = 0;
	out->not_before = now + out->frame.delay_ms * 1000000ull;
	out->pending = true;
	tell_sent(c);
}

/* What is left of the frame, as two pieces. */
static void rest_of_frame(const struct outgoing *out, struct iovec rest[2])
{
	const struct l45_frame *frame = &out->frame;
	__u32 head = l45_min(out->sent, frame->head_size), body = out->sent - head;

	rest[0].iov_base = (void *)(frame->head + head);
	rest[0].iov_len = frame->head_size - head;
	rest[1].iov_base = (void *)(frame->body + body);
	rest[1].iov_len = frame->body_size - body;
}

/* What follows at once may share a segment with it. */
static void transmit(struct connection *c)
{
	struct outgoing *out = &c->out;
	struct iovec rest[2];
	struct msghdr message = { .msg_iov = rest, .msg_iovlen = 2 };
	ssize_t size;

	rest_of_frame(out, rest);
	size = sendmsg(c->peer, &message, MSG_NOSIGNAL | (out->start < out->end ? MSG_MORE : 0));
	if (size < 0) {
		if (!is_transient(errno))
			break_off(c, PEER_FAILED, "cannot send to the peer: %s", strerror(errno));
		return;
	}
	out->sent += size;
	out->pending = out->sent < out->frame.head_size + out->frame.body_size;
}

static void tell_end(struct connection *c)
{
	struct outgoing *out = &c->out;

	if (!out->ended || out->start < out->end || out->pending || out->closed)
		return;
	shutdown(c->peer, SHUT_WR);
	out->closed = true;
}

void send_frames(struct connection *c, __u64 now)
{
	struct outgoing *out = &c->out;

	do {
		run_commands(c, now);
		if (!out->pending && !out->closed)
			next_frame(c, now);
		if (out->pending && now >= out->not_before)
			transmit(c);
	} while (!c->over && !out->pending && out->start < out->end);
	if (!c->over)
		tell_end(c);
}
