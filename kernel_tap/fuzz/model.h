/* SPDX-License-Identifier: GPL-2.0 */
/* The receive side once more, as naive as can be: all of the wire is there at once, and no time. */
#ifndef L45_FUZZ_MODEL_H
#define L45_FUZZ_MODEL_H

#include <stream.h>

struct model {
	const struct l45_instance *ready[L45_ATTACHED_MAX]; /* to receive */
	__u64 states[L45_ATTACHED_MAX];			    /* theirs */
	__u32 count;
	int is_new;	   /* a mark of a new stream may stand at the begin */
	const __u8 *armed; /* token of live marks, or NULL */
	int ended;	   /* no more will come */
	const __u8 *wire;
	__u32 size;
	__u8 *app; /* what the application gets; room for all of the wire */
	__u32 app_size;
};

/* Returns what is wrong with the stream. */
enum l45_fault model_receive(struct model *model);

#endif
