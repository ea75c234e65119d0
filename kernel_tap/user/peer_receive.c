// SPDX-License-Identifier: GPL-2.0
/* l45-peer: from the peer to the application (peer.h). */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

void read_peer(struct connection *c)
{
	struct incoming *in = &c->in;
	ssize_t size;

	in->end -= in->start;
	memmove(in->wire, in->wire + in->start, in->end);
	in->start = 0;
	size = recv(c->peer, in->wire + in->end, sizeof(in->wire) - in->end, 0);
	if (size < 0) {
		if (!is_transient(errno))
			break_off(c, PEER_FAILED, "cannot receive from the peer: %s",
				  strerror(errno));
		return;
	}
	in->end += size;
	in->ended = !size;
}

/* What may be the begin of a mark is the last that was read, and the rest may have come as well: a
 * mark that only our buffer has cut must not count as late, however slow the application was. */
static bool is_cut(const struct connection *c)
{
	const struct incoming *in = &c->in;
	__u32 begun = c->flow.rx.held + in->end - in->start;

	return c->flow.rx.state == L45_RECEIVE_LOOK && !in->ended && begun && begun < L45_MARK_SIZE;
}

/* Returns whether anything happened, or a negative errno. */
static int decode_some(struct connection *c)
{
	struct incoming *in = &c->in;
	int used;

	if (is_cut(c))
		read_peer(c);
	used = l45_receive(&c->flow, in->wire + in->start, in->end - in->start, &in->app);
	if (used < 0)
		return used;
	in->start += used;
	tell_received(c);
	if (used || in->app.size || !in->ended)
		return used || in->app.size;
	in->finished = true;
	return l45_receive_end(&c->flow, &in->app);
}

void decode(struct connection *c)
{
	struct incoming *in = &c->in;
	int more = 1;

	while (more > 0 && !in->app.size && !in->finished && !c->over)
		more = decode_some(c);
	if (more < 0)
		break_off(c, PEER_BROKEN, "event=fault direction=receive reason=\"%s\"",
			  fault_text(c->flow.rx.fault));
}

/* Standard output is shared with who started us and must stay as it is, blocking: of a pipe that is
 * ready, PIPE_BUF bytes never block. */
static ssize_t put(int fd, const __u8 *bytes, size_t size)
{
	ssize_t done = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (done >= 0 || errno != ENOTSOCK)
		return done;
	return write(fd, bytes, size < PIPE_BUF ? size : PIPE_BUF);
}

static void put_decoded(struct connection *c)
{
	struct incoming *in = &c->in;
	ssize_t size = put(c->application_out, in->app.data, in->app.size);

	if (size < 0) {
		if (!is_transient(errno))
			break_off(c, PEER_FAILED, "cannot write to the application: %s",
				  strerror(errno));
		return;
	}
	in->app.data += size;
	in->app.size -= size;
	in->delivered += size;
}

static void tell_end(struct connection *c)
{
	if (shutdown(c->application_out, SHUT_WR) && errno == ENOTSOCK) {
		close(c->application_out);
		c->application_out = -1;
	}
	c->in.closed = true;
}

void deliver(struct connection *c)
{
	if (c->in.app.size)
		put_decoded(c);
	else if (c->in.finished && !c->in.closed)
		tell_end(c);
}
