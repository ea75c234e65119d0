// SPDX-License-Identifier: GPL-2.0
/*
 * stream_probe_whole: everything that a module of whole messages can answer, for tests of the
 * stream core.
 *
 * The message's first byte says what: 'n' next, 'p' pass, 'e' error, 'l' leave, and where the
 * parameter `fatal` is set, 'd' drop, 's' next after a change; else done. Then it is a count of
 * messages, so that one that was lost or comes twice is found, a size, the application's bytes, and
 * so many zero bytes. A message that begins with 'h' is halved before.
 */
#include <l45/module.h>

#define PADDING_MAX 11

struct front {
	__u8 count;
	__u8 padding;
};

static enum l45_verdict wrap(struct l45_msg *msg, __u8 first)
{
	struct front front = { .count = l45_state(msg), .padding = first % PADDING_MAX };

	if (first == 'h' && l45_len(msg) > 1 && l45_split(msg, l45_len(msg) / 2))
		return L45_ERROR;
	if (front.padding && l45_insert(msg, l45_len(msg), front.padding))
		return L45_ERROR;
	if (l45_insert(msg, 0, sizeof(front)) || l45_store(msg, 0, &front, sizeof(front)))
		return L45_ERROR;
	l45_set_state(msg, l45_state(msg) + 1);
	return L45_DONE;
}

static enum l45_verdict send(struct l45_msg *msg)
{
	int fatal = l45_param_u8(msg, 0);
	__u8 first;

	if (l45_load(msg, 0, &first, sizeof(first)))
		return L45_ERROR;
	switch (first) {
	case 'n':
		return L45_NEXT;
	case 'p':
		return L45_PASS;
	case 'e':
		return L45_ERROR;
	case 'l':
		return L45_LEAVE;
	case 'd':
		return fatal ? L45_DROP : L45_NEXT;
	case 's':
		if (fatal)
			l45_store(msg, 0, &first, sizeof(first));
		return L45_NEXT;
	default:
		return wrap(msg, first);
	}
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	struct front front;

	if (l45_load(msg, 0, &front, sizeof(front)) || front.count != (l45_state(msg) & 0xff) ||
	    l45_remove(msg, 0, sizeof(front)))
		return L45_ERROR;
	l45_set_state(msg, l45_state(msg) + 1);
	if (front.padding > l45_len(msg))
		return L45_ERROR;
	if (front.padding && l45_remove(msg, l45_len(msg) - front.padding, front.padding))
		return L45_ERROR;
	return L45_DONE;
}

L45_STREAM_MODULE(stream_probe_whole, L45_STREAM_WHOLE, 0x50524257 /* "PRBW" */, send, recv)
