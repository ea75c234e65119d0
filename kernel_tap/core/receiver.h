/* SPDX-License-Identifier: GPL-2.0 */
/* What look.c and receive.c, the two halves of the receive side, share. */
#ifndef L45_CORE_RECEIVER_H
#define L45_CORE_RECEIVER_H

#include "stream.h"

static inline void l45_receive_step(struct l45_flow *flow, enum l45_receive_event event)
{
	flow->rx.state = l45_receive_next[flow->rx.state][event];
}

static inline int l45_receive_broken(struct l45_flow *flow, enum l45_fault fault)
{
	l45_receive_step(flow, L45_RECEIVE_FAULT);
	flow->rx.fault = fault;
	flow->rx.in_use = NULL;
	flow->rx.known_size = 0;
	/* What is left of a mark is nobody's. */
	flow->rx.held = 0;
	flow->rx.shown = 0;
	return fault == L45_FAULT_MEMORY ? -ENOMEM : -EPROTO;
}

static inline void l45_give(struct l45_span *app, const __u8 *data, __u32 size)
{
	app->data = data;
	app->size = size;
}

/* Hand over what is held back, and look no more. */
void l45_stop_looking(struct l45_flow *flow);

/* Take bytes while the flow is looking for a mark: at least one. */
int l45_look(struct l45_flow *flow, const __u8 *wire, __u32 size, struct l45_span *app);

/* What was held back and can be handed over. */
static inline int l45_has_given(const struct l45_receiver *rx)
{
	return rx->given_size > rx->given_taken;
}

void l45_take_given(struct l45_receiver *rx, struct l45_span *app);

/* The application has read what it was handed. */
void l45_forget_given(struct l45_receiver *rx);

#endif
