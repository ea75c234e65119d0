/* SPDX-License-Identifier: GPL-2.0 */
/* What the two halves of adversary.c share: the connection, and its bytes (adversary_wire.c). */
#ifndef L45_ADVERSARY_H
#define L45_ADVERSARY_H

#include <l45_user.h>

#define WRITTEN_MAX (1u << 17) /* then another connection begins */
#define WIRE_MAX    (1u << 20)
#define SLOTS	    5

/* One end, and the direction that begins there. */
struct side {
	struct l45_endpoint *endpoint;
	struct l45_flow *flow;
	const struct l45_instance *attached[SLOTS];
	__u8 switches[SLOTS];
	int armed; /* with this arming's token */
	__u8 written[WRITTEN_MAX];
	__u32 written_size;
	__u32 read; /* of it, by the other application */
	__u8 wire[WIRE_MAX];
	__u32 sent, delivered, consumed; /* bytes of the wire; consumed: at least */
	__u32 mark, mark_end;		 /* the last one on the wire */
	int live;			 /* it is one of a live stream */
	__u32 shy;			 /* so often the application does not write */
};

extern struct side sides[2];
extern struct l45_instance slots[SLOTS];
extern __u8 token[L45_TOKEN]; /* of live marks */
extern __u64 seed, step, random_state, marks;

/* Say at which step, and end. */
void fail(const char *what);

/* A random number. */
__u32 below(__u32 limit);

void make_token(__u8 to[L45_TOKEN]);
struct side *other(struct side *side);

/* The application writes, or the tap does without it. */
void write_some(struct side *side);
void send_control(struct side *side);

/* Some of what `side` sent arrives. */
void deliver_some(struct side *side);

/* A mark that is late comes whole: what was handed over of it would reset the connection. */
void complete_mark(struct side *side);

/* What the other end sent; returns what l45_endpoint_read does. */
int read_some(struct side *side, __u32 room);
void read_all(struct side *side);

/* Everything that this end sent is read. */
void drain_wire(struct side *side);

#endif
