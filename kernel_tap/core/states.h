/* SPDX-License-Identifier: GPL-2.0 */
/*
 * In which state a direction of a stream is: all that changes one is in these two tables.
 *
 * Theory of operation
 * -------------------
 * A connection is two streams, one each way, and a tap at either end. On an end, the send side of
 * the one stream (send.c) makes frames of what the application writes, and the receive side of the
 * other (receive.c) makes what the peer's application wrote of frames. docs/wire-format.md shows
 * the bytes. The tap that uses the core owns sockets, locks, waiting and copying; the core is told
 * of bytes and times, and never calls back but into modules.
 *
 * Send side. The customizations attached to the flow are asked in order; the first that takes the
 * application's message gives it its wire form, and a frame carries it. What the receiver decodes
 * with is what the last mark or switch named (`in_use`). Whoever takes a message and is not
 * in use is switched to in front of it; that is a rotation. Who is in use and may send no more
 * is replaced by the next that may, or, if there is none, by an end frame; both go out without
 * waiting for the application (l45_send_control).
 *
 *	NEW	nothing was sent yet: the stream can open with its first bytes, if this is the
 *		connecting end, or if the peer's stream has opened
 *	PLAIN	opens when the flow was armed and told to go, and not otherwise
 *	FRAMED	every byte is in a frame
 *	BROKEN	a module failed in a way that no byte may follow: the tap resets the connection
 *
 * Receive side. It looks for a mark, at the first byte of a new stream and, while armed, anywhere;
 * what could be the begin of one is held back, and handed over when it cannot be one any more, or
 * when that takes too long. Behind a mark it parses frames. A frame's content belongs to the
 * application as it is, from behind the module's head on (L45_STREAM_HEAD: never copied here,
 * handed over before the frame is complete), or after the module has worked on all of it
 * (L45_STREAM_WHOLE: in the tap's buffer where all of it is there, else collected in one of ours,
 * which lives as long as such a frame is incomplete).
 *
 *	LOOK	hands over what it reads, but for what could be a mark
 *	PLAIN	hands over what it reads
 *	FRAMED	parses frames
 *	BROKEN	the peer broke the format, or never ended: the tap resets the connection
 *
 * Memory. A flow is sizeof(struct l45_flow), and L45_WHOLE_MAX bytes while a frame of a
 * L45_STREAM_WHOLE module is incomplete. Nothing that a peer sends makes it more.
 *
 * Locks. None here. What is named l45_send* needs the tap's lock for sending on that flow, what is
 * named l45_receive* that for receiving; the others need both. Receiving tells sending two things,
 * by bytes that are written once: that the peer's stream has opened, and that it is our turn.
 */
#ifndef L45_CORE_STATES_H
#define L45_CORE_STATES_H

#include <linux/types.h>

enum l45_send_state {
	L45_SEND_BROKEN, /* also what a table's empty place means: there is no such transition */
	L45_SEND_NEW,
	L45_SEND_PLAIN,
	L45_SEND_FRAMED,
	L45_SEND_STATES,
};

enum l45_send_event {
	L45_SENT_PLAIN, /* bytes without a frame */
	L45_SENT_MARK,
	L45_SENT_FRAME, /* data or switch */
	L45_SENT_END,
	L45_SEND_FAULT,
	L45_SEND_EVENTS,
};

static const __u8 l45_send_next[L45_SEND_STATES][L45_SEND_EVENTS] = {
	[L45_SEND_NEW] = {
		[L45_SENT_PLAIN] = L45_SEND_PLAIN,
		[L45_SENT_MARK] = L45_SEND_FRAMED,
	},
	[L45_SEND_PLAIN] = {
		[L45_SENT_PLAIN] = L45_SEND_PLAIN,
		[L45_SENT_MARK] = L45_SEND_FRAMED,
	},
	[L45_SEND_FRAMED] = {
		[L45_SENT_FRAME] = L45_SEND_FRAMED,
		[L45_SENT_END] = L45_SEND_PLAIN,
	},
};

enum l45_receive_state {
	L45_RECEIVE_BROKEN, /* as above */
	L45_RECEIVE_LOOK,
	L45_RECEIVE_PLAIN,
	L45_RECEIVE_FRAMED,
	L45_RECEIVE_STATES,
};

enum l45_receive_event {
	L45_RECEIVED_MARK,
	L45_RECEIVED_OTHER, /* where a mark could only stand: there is none, or none is wanted now
			     */
	L45_RECEIVED_FRAME,
	L45_RECEIVED_END,
	L45_RECEIVE_ARMED,
	L45_RECEIVE_FAULT,
	L45_RECEIVE_EVENTS,
};

static const __u8 l45_receive_next[L45_RECEIVE_STATES][L45_RECEIVE_EVENTS] = {
	[L45_RECEIVE_LOOK] = {
		[L45_RECEIVED_MARK] = L45_RECEIVE_FRAMED,
		[L45_RECEIVED_OTHER] = L45_RECEIVE_PLAIN,
		[L45_RECEIVE_ARMED] = L45_RECEIVE_LOOK,
	},
	[L45_RECEIVE_PLAIN] = {
		[L45_RECEIVED_OTHER] = L45_RECEIVE_PLAIN,
		[L45_RECEIVE_ARMED] = L45_RECEIVE_LOOK,
	},
	[L45_RECEIVE_FRAMED] = {
		[L45_RECEIVED_FRAME] = L45_RECEIVE_FRAMED,
		[L45_RECEIVED_END] = L45_RECEIVE_PLAIN,
		[L45_RECEIVE_ARMED] = L45_RECEIVE_FRAMED,
	},
};

#endif
