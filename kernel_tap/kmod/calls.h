/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls of tasks that are in this module's code, or below it, and may sleep there: unloading waits
 * for them, and wakes those that wait for a packet.
 *
 * Only the first call on a socket comes by here; who is in a call of a customized socket keeps the
 * module loaded by the socket.
 */
#ifndef L45_KMOD_CALLS_H
#define L45_KMOD_CALLS_H

#include <linux/list.h>
#include <linux/sched.h>

struct l45_call {
	struct list_head node;
	struct task_struct *task;
	bool poked; /* it was woken to leave; under the bucket's lock */
};

void l45_enter(struct l45_call *call);

/* Returns `result`, or where unloading interrupted the call, what makes it start again. */
long l45_leave(struct l45_call *call, long result);

/* Let a task leave its wait as if a signal had come: it has none, and so starts its call again. The
 * task cannot go meanwhile. */
void l45_poke(struct task_struct *task);

/* Wait until nobody is in a call, waking all that are. */
void l45_calls_end(void);

void l45_calls_init(void);

#endif
