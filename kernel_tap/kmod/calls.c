// SPDX-License-Identifier: GPL-2.0
#include <linux/delay.h>
#include <linux/hash.h>
#include <linux/sched/signal.h>

#include "calls.h"

#define BUCKET_BITS 6
#define PAUSE_MS    10

static struct bucket {
	spinlock_t lock;
	struct list_head calls;
} ____cacheline_aligned_in_smp buckets[1 << BUCKET_BITS];

static struct bucket *bucket_of(const struct task_struct *task)
{
	return &buckets[hash_ptr(task, BUCKET_BITS)];
}

void l45_calls_init(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(buckets); i++) {
		spin_lock_init(&buckets[i].lock);
		INIT_LIST_HEAD(&buckets[i].calls);
	}
}

void l45_enter(struct l45_call *call)
{
	struct bucket *bucket = bucket_of(current);

	call->task = current;
	call->poked = false;
	spin_lock(&bucket->lock);
	list_add(&call->node, &bucket->calls);
	spin_unlock(&bucket->lock);
}

long l45_leave(struct l45_call *call, long result)
{
	struct bucket *bucket = bucket_of(current);

	spin_lock(&bucket->lock);
	list_del(&call->node);
	spin_unlock(&bucket->lock);
	if (call->poked && result == -EINTR)
		return -ERESTARTSYS;
	return result;
}

void l45_poke(struct task_struct *task)
{
	if (task->flags & PF_KTHREAD)
		return;
	set_tsk_thread_flag(task, TIF_SIGPENDING);
	if (READ_ONCE(task->__state) & TASK_INTERRUPTIBLE)
		wake_up_process(task);
}

/* A task in the list is alive, for it has to leave the list itself. It has no signal: on its way
 * out of the kernel it starts its call again, which then is the kernel's own. */
static bool poke(struct bucket *bucket)
{
	struct l45_call *call;
	bool any;

	spin_lock(&bucket->lock);
	any = !list_empty(&bucket->calls);
	list_for_each_entry(call, &bucket->calls, node) {
		call->poked = true;
		l45_poke(call->task);
	}
	spin_unlock(&bucket->lock);
	return any;
}

void l45_calls_end(void)
{
	bool any;

	do {
		any = false;
		for (u32 i = 0; i < ARRAY_SIZE(buckets); i++)
			any |= poke(&buckets[i]);
		if (any)
			msleep(PAUSE_MS);
	} while (any);
}
