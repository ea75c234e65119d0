/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The stream core as a tap uses it: one `l45_flow` a connection. states.h says how it works.
 *
 * Functions that give an int return 0, or what they say, or a negative errno.
 */
#ifndef L45_CORE_STREAM_H
#define L45_CORE_STREAM_H

#include "attach.h"
#include "states.h"
#include "wire.h"

#define L45_ATTACHED_MAX 16  /* customizations of one flow: L45_SET_MAX */
#define L45_ROOM	 768 /* a L45_STREAM_WHOLE module can add so much at either end */
#define L45_WHOLE_OFFER	 (L45_WHOLE_MAX - 2 * L45_ROOM) /* bytes that it is asked to take */
#define L45_KNOWN_MAX	 64 /* longest header and head that are remembered */
#define L45_HEAD_OFFER	 (L45_CONTENT_MAX - L45_HEAD_MAX)
#define L45_HOLD_NS	 3000000000ull /* longest that what may be a new stream's mark is held */

enum l45_role {
	L45_CONNECT, /* a new connection, made from here */
	L45_ACCEPT,  /* a new connection, made from there */
	L45_JOIN,    /* a connection on which bytes may have passed before */
};

enum l45_switches {
	L45_MAY_SEND = 1,
	L45_MAY_RECEIVE = 2,
};

/* Why a direction is broken. */
enum l45_fault {
	L45_FAULT_NONE,
	L45_FAULT_FRAME,    /* there is no such frame */
	L45_FAULT_TOO_LONG, /* a frame that we would have to hold is too long */
	L45_FAULT_UNKNOWN,  /* a switch to a customization that may not receive here */
	L45_FAULT_MODULE,   /* the module could not restore, dropped, or spoilt a message */
	L45_FAULT_CUT,	    /* the stream ended inside a frame */
	L45_FAULT_LATE,	    /* a mark whose begin was handed over already */
	L45_FAULT_SILENT,   /* the peer did not end its customization in time */
	L45_FAULT_MEMORY,
};

/* A customization on a flow. */
struct l45_attached_stream {
	const struct l45_instance *instance;
	__u32 priority; /* the lowest number is asked first */
	__u8 switches;
	__u8 left;	/* its module wants to be left alone */
	__u8 opens;	/* it could send from the first, so it may begin a new stream */
	__u64 state[2]; /* what the module keeps: for sending, for receiving */
	struct l45_counts counts;
};

struct l45_sender {
	__u8 state; /* enum l45_send_state */
	__u8 fault;
	__u8 armed;
	__u8 go;
	const struct l45_instance *in_use; /* while FRAMED: what the receiver decodes with */
	__u32 limit;   /* set by the tap: bytes of the application in a frame; 0: any */
	__u32 watched; /* bytes of this write that one who only watches has taken already */
	__u32 errors;  /* messages that a module could not take: they passed unchanged */
	__u32 changes; /* marks, switches and ends sent: the peer's `rx.changes`, if all is read */
	__u64 taken;   /* application's bytes */
};

/* What of a frame comes next. */
enum l45_part {
	L45_PART_HEADER,
	L45_PART_HEAD,	/* the module's own bytes */
	L45_PART_REST,	/* bytes that are the application's as they are */
	L45_PART_WHOLE, /* content for the module to work on */
	L45_PART_NAME,	/* of the customization that is switched to */
};

struct l45_receiver {
	__u8 state; /* enum l45_receive_state */
	__u8 fault;
	__u8 first; /* no byte was handed over: a new stream's mark may stand here */
	__u8 armed;
	__u8 opened; /* a new stream's mark was seen */
	__u8 late;   /* time is up: hold nothing back */
	__u8 shared; /* set by the tap: what it is shown must stay as it is, modules get a copy */
	__u8 part;   /* enum l45_part */
	__u8 held;   /* bytes in `mark` */
	__u8 shown;  /* of them, handed over already */
	__u8 mark[L45_MARK_SIZE];
	__u8 given[2 * L45_MARK_SIZE]; /* held back before, to be handed over now */
	__u8 given_size;
	__u8 given_taken; /* of them, handed over by the last l45_receive: they must stay there */
	__u8 unit[L45_HEAD_MAX]; /* a header, head or name that is incomplete */
	const struct l45_instance *in_use;
	__u8 *whole; /* L45_WHOLE_MAX bytes while they are needed, else NULL */
	__u32 got;   /* bytes in `unit` or `whole` */
	__u32 rest;  /* of PART_REST */
	struct l45_header header;
	__u8 known[L45_KNOWN_MAX]; /* header and head that its module need not see again ... */
	__u32 known_size;	   /* ... 0: none */
	__u32 known_body;	   /* bytes that follow them */
	__u32 changes;		   /* marks, switches and ends read */
	__u64 hold_until;	   /* 0: not begun */
	__u64 end_until;	   /* the peer must have ended by then; 0: no such time */
};

struct l45_flow {
	__u8 role;
	__u32 count;
	struct l45_attached_stream attached[L45_ATTACHED_MAX]; /* in the order of asking */
	struct l45_sender tx;
	struct l45_receiver rx;
	__u8 token[L45_TOKEN]; /* of the arming */
	__u64 go_until;	       /* our mark must be sent by then */
	__u64 window_until;    /* nothing is held back for a live mark from then on */
	char process[L45_NAME_SIZE];
};

/* `process` is padded with NUL to L45_NAME_SIZE; all NUL where it is not known. */
void l45_flow_open(struct l45_flow *flow, enum l45_role role, const char *process);

/* Give back what the flow holds. */
void l45_flow_close(struct l45_flow *flow);

/*
 * Customizations. The instance must stay as it is until it is detached, and an epoch and signature
 * that were on a flow do not come back to it with another: modules keep numbers on either end.
 *
 * What an end may receive it must not lose while the peer may send it, or something of it is on its
 * way: then the peer's `tx.changes` is more than the `rx.changes` here.
 */

/* What may send from the first can begin a new connection's stream: to be attached when the
 * connection is made. What may only later needs a peer that was looking since then, so it can be
 * switched to, and begins none. -ENOSPC: the flow has L45_ATTACHED_MAX; -EEXIST: one with the same
 * epoch and signature is attached; -EINVAL: its module is not for streams. */
int l45_flow_attach(struct l45_flow *flow, const struct l45_instance *instance, __u32 priority,
		    __u8 switches);

/* Sending off takes effect with the next l45_send or l45_send_control, receiving off with the next
 * mark or switch: what is being decoded goes on to its end. -ENOENT where it is not attached. */
int l45_flow_set(struct l45_flow *flow, const struct l45_instance *instance, __u32 priority,
		 __u8 switches);

/* -EBUSY: a direction is still framed with it; the sending one until l45_send_control, also where
 * the application sends no more and nothing of that goes out. -ENOENT. */
int l45_flow_detach(struct l45_flow *flow, const struct l45_instance *instance);

/*
 * Live streams. All times are of one monotonic clock in nanoseconds.
 */

/* Look for a mark with `token` for `window`; what was armed before no longer is. */
void l45_flow_arm(struct l45_flow *flow, const __u8 token[L45_TOKEN], __u64 now, __u64 window);

/* Every end is armed: send the mark with the next l45_send or l45_send_control. -EINVAL where not
 * armed, -ETIME where half of the window is over: the mark needs time to arrive. */
int l45_flow_go(struct l45_flow *flow, __u64 now);

/* The other end never went, and never will: stop looking. */
void l45_flow_disarm(struct l45_flow *flow);

/* The peer was told to end: if it has not by `until`, the receive side breaks. 0: take it back, as
 * any end that is read does, also one of before: to be said again where another stream follows. */
void l45_flow_drain(struct l45_flow *flow, __u64 until);

/* Do what time demands; returns when to call again, 0: when something else happened. To be called
 * after everything that was received, armed or drained, and when all that the transport has was
 * taken, or the rest of a mark in there is late; l45_receive may then have bytes ready. */
__u64 l45_flow_tick(struct l45_flow *flow, __u64 now);

/*
 * Sending.
 */

/* What goes to the transport: `head`, then `body_size` bytes of `body`, or, where that is NULL, of
 * the application's bytes that were offered. All of it or, if that fails, nothing ever again. */
struct l45_frame {
	__u8 *buffer; /* given by the caller where l45_send_needs_buffer: L45_WHOLE_MAX bytes */
	const __u8 *head;
	__u32 head_size;
	const __u8 *body;
	__u32 body_size;
	__u32 taken;	  /* of the application's bytes: offer the others again */
	__u32 delay_ms;	  /* wait so long before anything of this goes to the transport */
	__u32 again_head; /* of `head`, the last bytes begin frames that repeat this one; 0: none */
	__u8 room[L45_MARK_SIZE + L45_HEADER_SIZE + L45_HEAD_MAX];
};

/* Copies the first `size` bytes of what the application offers, and takes none of them away. */
typedef int (*l45_copy)(void *source, void *to, __u32 size);

int l45_send_needs_buffer(const struct l45_flow *flow);

/* Make one frame of some of the `size` bytes that the application offers, at least one of them.
 * `source` is for `copy`, which is called for modules that look at them, maybe several times; its
 * errors are handed on, and nothing has happened then. -EPIPE: the direction is broken. */
int l45_send(struct l45_flow *flow, l45_copy copy, void *source, __u32 size,
	     struct l45_frame *frame);

/* Behind a frame that l45_send has made, before anything else is called: how many frames like it
 * can be made of `size` more bytes of the application, in `space` bytes of the transport. They are
 * counted as sent, and `frame` is now what each of them is, mark or switch left away. */
__u32 l45_send_again(struct l45_flow *flow, struct l45_frame *frame, __u32 size, __u32 space);

/* What must go out without waiting for the application: a mark, a switch, an end. Returns
 * whether there is anything, or -EPIPE. */
int l45_send_control(struct l45_flow *flow, struct l45_frame *frame);

/*
 * Receiving.
 */

struct l45_span {
	const __u8 *data;
	__u32 size;
};

/*
 * Take some of the bytes that the transport has; returns how many. What they give the application
 * is in `app`, good until the next l45_receive* on this flow and as long as `wire` is: it can lie
 * in there, and modules work on `wire` in place, unless it is `rx.shared`. To be called until it
 * takes nothing and gives nothing. -EPROTO: the peer broke the format, `flow->rx.fault` says how;
 * -ENOMEM breaks it as well.
 */
int l45_receive(struct l45_flow *flow, __u8 *wire, __u32 size, struct l45_span *app);

/* So many bytes that come next are the application's as they are: a tap can let the transport copy
 * them there. What it did must be told by l45_receive_passed. */
__u32 l45_receive_verbatim(const struct l45_flow *flow);
void l45_receive_passed(struct l45_flow *flow, __u32 size);

/* Frames of data whose heads are known already, one after the other: what follows is for taps that
 * have several of them before them. */

/* Whether the next frame can be such a one, and nothing is to be handed over before it. */
int l45_receive_runs(const struct l45_flow *flow);

/* The begin of one is at `at`: returns how many bytes stand before its body, and how long that is.
 * 0: it is another frame, for l45_receive. */
static inline __u32 l45_receive_known(const struct l45_receiver *rx, const __u8 *at, __u32 size,
				      __u32 *body);

/* So many such frames were taken, with `bytes` in their bodies, but for `rest` of the last. */
void l45_receive_ran(struct l45_flow *flow, __u32 frames, __u32 bytes, __u32 rest);

/* So many bytes complete what has begun, at least; a tap that reads so many saves a copy. 0: any.
 */
__u32 l45_receive_needs(const struct l45_flow *flow);

/* The transport has no more bytes: hand over what was held. -EPROTO: it ended inside a frame. */
int l45_receive_end(struct l45_flow *flow, struct l45_span *app);

/*
 * Inside the core.
 */

/* Hand over of what is held what can be no mark any more. */
void l45_receive_reconsider(struct l45_flow *flow);
__u64 l45_receive_tick(struct l45_flow *flow, __u64 now);

struct l45_attached_stream *l45_flow_find(struct l45_flow *flow, const struct l45_instance *of);

/* At least 8 bytes, and soon: heads are long numbers and names. */
static inline int l45_is_same(const __u8 *a, const __u8 *b, __u32 size)
{
	__u64 one, other;

	do {
		size -= sizeof(one);
		memcpy(&one, a + size, sizeof(one));
		memcpy(&other, b + size, sizeof(other));
	} while (one == other && size >= sizeof(one));
	return one == other && (!size || !memcmp(a, b, size));
}

static inline __u32 l45_receive_known(const struct l45_receiver *rx, const __u8 *at, __u32 size,
				      __u32 *body)
{
	struct l45_header header;

	if (rx->known_size && size >= rx->known_size &&
	    l45_is_same(at, rx->known, rx->known_size)) {
		*body = rx->known_body;
		return rx->known_size;
	}
	if (size < L45_HEADER_SIZE)
		return 0;
	header = l45_get_header(at);
	if (header.type != L45_FRAME_DATA || header.head)
		return 0;
	*body = header.length;
	return L45_HEADER_SIZE;
}

/* Of two times, where 0 is none. */
static inline __u64 l45_earlier(__u64 a, __u64 b)
{
	return !a || (b && b < a) ? b : a;
}

static inline int l45_is_framed(const struct l45_attached_stream *attached)
{
	return attached->instance->module->kind != L45_STREAM_WATCH;
}

#endif
