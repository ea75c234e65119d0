/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the core needs of the place where it runs: memory, and time for modules that ask. It needs
 * no randomness: tokens come from the NCO.
 */
#ifndef L45_CORE_SHIM_H
#define L45_CORE_SHIM_H

#include <linux/types.h>

#ifdef __KERNEL__
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/string.h>

void *l45_allocate(__u32 size);
void l45_release(void *memory);

static inline __u64 l45_clock_ns(void)
{
	return ktime_get_ns();
}
#else
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* As in the kernel: one access, for what another thread may read or write meanwhile. */
#define READ_ONCE(x)	     (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile __typeof__(x) *)&(x) = (value))

static inline void *l45_allocate(__u32 size)
{
	return malloc(size);
}

static inline void l45_release(void *memory)
{
	free(memory);
}

static inline __u64 l45_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000 + now.tv_nsec;
}
#endif

/* Have bytes brought near that are copied soon, at most as many as a frame of usual size has:
 * between two copies there is work to do, and without asking the memory would rest meanwhile. */
static inline void l45_prefetch(const __u8 *at, __u32 size)
{
	for (__u32 i = 0; i < size && i < 1024; i += 64)
		__builtin_prefetch(at + i);
}

static inline __u32 l45_min(__u32 a, __u32 b)
{
	return a < b ? a : b;
}

#endif
