// SPDX-License-Identifier: GPL-2.0
/*
 * The core's memory (shim.h): buffers of L45_WHOLE_MAX bytes, for messages that a module works on.
 *
 * Who needs one next on this processor takes that of who had one last: a new one costs as much as
 * it is long. Two are kept, for a sender and a receiver that take turns.
 */
#include <linux/mm.h>
#include <linux/percpu.h>

#include "tcp.h"

static DEFINE_PER_CPU(u8 *, first);
static DEFINE_PER_CPU(u8 *, second);

void *l45_allocate(u32 size)
{
	u8 *buffer = this_cpu_xchg(first, NULL);

	if (!buffer)
		buffer = this_cpu_xchg(second, NULL);
	if (!buffer && size <= L45_WHOLE_MAX)
		buffer = kvmalloc(L45_WHOLE_MAX, GFP_KERNEL);
	return buffer;
}

void l45_release(void *buffer)
{
	if (buffer)
		kvfree(this_cpu_xchg(second, this_cpu_xchg(first, buffer)));
}

void l45_buffers_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
	{
		kvfree(per_cpu(first, cpu));
		kvfree(per_cpu(second, cpu));
	}
}
