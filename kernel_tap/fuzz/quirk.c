// SPDX-License-Identifier: GPL-2.0
/*
 * Stream modules that do what a module may and those at hand do not: each answer, a head or a
 * content of any size, and what breaks a stream. What they send they restore.
 *
 * On send the parameters say what they do to a message: the byte that its length picks. On recv
 * the first byte says it.
 */
#include <l45/module.h>

enum quirk {
	QUIRK_RESTORE, /* on send: produce what is restored */
	QUIRK_KEEP,    /* all bytes are the application's */
	QUIRK_NEXT,
	QUIRK_PASS,
	QUIRK_LEAVE,
	QUIRK_ERROR,
	QUIRK_DROP,
	QUIRK_SPOIL,
	QUIRK_GROW, /* as far as it goes */
	QUIRKS,
};

static const enum l45_verdict verdicts[QUIRKS] = {
	[QUIRK_NEXT] = L45_NEXT,   [QUIRK_PASS] = L45_PASS, [QUIRK_LEAVE] = L45_LEAVE,
	[QUIRK_ERROR] = L45_ERROR, [QUIRK_DROP] = L45_DROP, [QUIRK_SPOIL] = L45_NEXT,
};

/* A byte for this message. */
static __u8 choice(const struct l45_msg *msg, __u32 salt)
{
	return l45_param_u8(msg, (l45_len(msg) + salt) % 16) + l45_len(msg);
}

static enum l45_verdict spoil(struct l45_msg *msg)
{
	l45_insert(msg, 0, 1);
	return L45_NEXT;
}

/* As much as there is room for at `offset`, then half as much, and so on. */
static enum l45_verdict grow(struct l45_msg *msg, __u32 offset)
{
	for (__u32 size = 1024; size; size /= 2)
		while (!l45_insert(msg, offset, size))
			;
	return L45_DONE;
}

/* Where the number stands of a message that had so many bytes. */
static __u32 number_place(__u32 length)
{
	return 1 + length / 3;
}

/* A head of 1 to 255 zero bytes. */
static enum l45_verdict put_head(struct l45_msg *msg)
{
	__u32 size = 1 + choice(msg, 2) % 255;

	if (size % 4)
		l45_repeat(msg);
	return l45_insert(msg, 0, size) ? L45_ERROR : L45_DONE;
}

static enum l45_verdict send_head(struct l45_msg *msg)
{
	__u8 what = choice(msg, 0) % (2 * QUIRKS), part = choice(msg, 1);

	if (part % 4 == 0)
		l45_split(msg, 1 + l45_len(msg) / 2);
	if (part % 2)
		l45_delay_ms(msg, part);
	if (what == QUIRK_GROW)
		return grow(msg, 0);
	if (what == QUIRK_KEEP || what == QUIRK_LEAVE + QUIRKS)
		return L45_DONE;
	if (what == QUIRK_SPOIL)
		return spoil(msg);
	return what < QUIRKS && what ? verdicts[what] : put_head(msg);
}

/*
 * A zero byte at the front, the message's number further behind, some more and their number at the
 * end.
 */
static enum l45_verdict send_whole(struct l45_msg *msg)
{
	__u8 what = choice(msg, 0) % (4 * QUIRKS), behind = choice(msg, 1);
	__u8 number = l45_state(msg);
	__u32 place;

	if (behind % 4 == 0)
		l45_split(msg, 1 + l45_len(msg) / 2);
	if (what == QUIRK_SPOIL)
		return spoil(msg);
	if (what && what < QUIRKS && what != QUIRK_KEEP && what != QUIRK_GROW)
		return verdicts[what];
	place = number_place(l45_len(msg));
	if (l45_insert(msg, 0, 1) || l45_insert(msg, place, 1) ||
	    l45_insert(msg, l45_len(msg), behind + 1) || l45_store(msg, place, &number, 1) ||
	    l45_store(msg, l45_len(msg) - 1, &behind, 1))
		return L45_ERROR;
	l45_set_state(msg, number + 1);
	return L45_DONE;
}

/* The last byte first, so that others move. */
static enum l45_verdict restore_head(struct l45_msg *msg)
{
	__u8 byte;
	__u32 size = 0;

	while (!l45_load(msg, size, &byte, 1))
		size++;
	if (size % 3)
		l45_repeat(msg);
	if (l45_remove(msg, size - 1, 1) || (size > 1 && l45_remove(msg, 0, size - 1)))
		return L45_ERROR;
	return L45_DONE;
}

static enum l45_verdict restore_whole(struct l45_msg *msg)
{
	__u32 length = l45_len(msg), place;
	__u8 behind, number;

	if (l45_load(msg, length - 1, &behind, 1) || length < behind + 4u)
		return L45_ERROR;
	length -= behind + 3;
	place = number_place(length);
	if (l45_load(msg, place, &number, 1) || number != (__u8)l45_state(msg))
		return L45_ERROR;
	if (l45_remove(msg, length + 2, behind + 1) || l45_remove(msg, place, 1) ||
	    l45_remove(msg, 0, 1))
		return L45_ERROR;
	l45_set_state(msg, number + 1);
	return L45_DONE;
}

static enum l45_verdict receive(struct l45_msg *msg, l45_callback restore)
{
	__u8 what;

	if (l45_load(msg, 0, &what, 1))
		return L45_ERROR;
	switch (what % QUIRKS) {
	case QUIRK_RESTORE:
		return restore(msg);
	case QUIRK_KEEP:
		return L45_DONE;
	case QUIRK_SPOIL:
		return l45_store(msg, 0, &what, 1) ? L45_DONE : L45_NEXT;
	case QUIRK_GROW:
		return l45_remove(msg, 0, 1) ? L45_ERROR : grow(msg, 0);
	default:
		return verdicts[what % QUIRKS];
	}
}

static enum l45_verdict recv_head(struct l45_msg *msg)
{
	return receive(msg, restore_head);
}

static enum l45_verdict recv_whole(struct l45_msg *msg)
{
	return receive(msg, restore_whole);
}

const struct l45_module quirk_head_module = {
	.name = "quirk_head",
	.signature = 0x51484541, /* "QHEA" */
	.kind = L45_STREAM_HEAD,
	.send = send_head,
	.recv = recv_head,
};

const struct l45_module quirk_whole_module = {
	.name = "quirk_whole",
	.signature = 0x5157484f, /* "QWHO" */
	.kind = L45_STREAM_WHOLE,
	.send = send_whole,
	.recv = recv_whole,
};
