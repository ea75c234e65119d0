// SPDX-License-Identifier: GPL-2.0
/* l45-peer: commands of a connection are read and done (peer_control.c says what they are). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"

/* Of a FIFO we are a writer, too: it has no end, however often others open and close it. */
void open_control(struct connection *c)
{
	const char *path = c->options->control;

	c->control.fd = -1;
	if (!path)
		return;
	c->control.fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (c->control.fd < 0)
		c->control.fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (c->control.fd < 0)
		break_off(c, PEER_FAILED, "%s: %s", path, strerror(errno));
}

/* Returns whether there is more text than before; at the file's end its last line ends. */
static bool read_text(struct control *control)
{
	__u32 room = sizeof(control->text) - control->size;
	ssize_t size;

	if (control->fd < 0 || !room)
		return false;
	size = read(control->fd, control->text + control->size, room);
	if (size > 0) {
		control->size += size;
		return true;
	}
	if (size < 0 && is_transient(errno))
		return false;
	close(control->fd);
	control->fd = -1;
	if (control->size)
		control->text[control->size++] = '\n';
	return control->size;
}

/* Take the next line into `line`; false: there is none now. */
static bool next_line(struct control *control, char line[PEER_LINE])
{
	char *end;

	do {
		end = memchr(control->text, '\n', control->size);
	} while (!end && read_text(control));
	if (!end && control->size < sizeof(control->text))
		return false;
	if (!end)
		end = control->text + control->size - 1; /* too long: what is there is no command */
	memcpy(line, control->text, end - control->text);
	line[end - control->text] = 0;
	control->size -= end + 1 - control->text;
	memmove(control->text, end + 1, control->size);
	control->line++;
	return true;
}

/* Returns whether there is a command to be done, now or at its place. */
static bool next_command(struct connection *c)
{
	struct control *control = &c->control;
	char line[PEER_LINE];

	while (!control->waiting && next_line(control, line)) {
		const char *wrong;

		if (!without_comment(line))
			continue;
		wrong = parse_command(line, c->options->count, &control->next);
		if (wrong)
			complain("%s line %lu: %s", c->options->control, control->line, wrong);
		control->waiting = !wrong;
	}
	return control->waiting;
}

static void set(struct connection *c, const struct command *command)
{
	const struct l45_instance *instance = &c->options->customizations[command->which].instance;
	__u32 priority = command->priority;

	if (command->keep)
		priority = l45_flow_find(&c->flow, instance)->priority;
	l45_flow_set(&c->flow, instance, priority, command->switches);
	event("event=set module=%s epoch=%u send=%d receive=%d priority=%u", instance->module->name,
	      instance->epoch, !!(command->switches & L45_MAY_SEND),
	      !!(command->switches & L45_MAY_RECEIVE), priority);
}

static void go(struct connection *c, __u64 now)
{
	int error = l45_flow_go(&c->flow, now);

	if (error)
		complain("event=go-refused reason=\"%s\"",
			 error == -ETIME ? "half of the window is over" : "not armed");
	else
		event("event=go");
}

static void act(struct connection *c, const struct command *command, __u64 now)
{
	switch (command->verb) {
	case VERB_SET:
		set(c, command);
		break;
	case VERB_ARM:
		l45_flow_arm(&c->flow, command->token, now, command->duration);
		event("event=armed");
		break;
	case VERB_GO:
		go(c, now);
		break;
	case VERB_DISARM:
		l45_flow_disarm(&c->flow);
		event("event=disarmed");
		break;
	case VERB_DRAIN:
		l45_flow_drain(&c->flow, now + command->duration);
		event("event=drain");
		break;
	}
}

void run_commands(struct connection *c, __u64 now)
{
	struct control *control = &c->control;

	while (next_command(c) && control->next.at <= c->flow.tx.taken) {
		act(c, &control->next, now);
		control->waiting = false;
		c->acted = true;
	}
}

__u32 bytes_before_command(const struct connection *c)
{
	__u64 left = c->control.next.at - c->flow.tx.taken;

	return !c->control.waiting || left > UINT32_MAX ? UINT32_MAX : left;
}
