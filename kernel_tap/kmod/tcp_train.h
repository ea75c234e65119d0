/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The train of a customized TCP socket: frames that are made, in pages. It departs when it is long
 * enough; what the transport does not take then waits, and nothing overtakes it.
 *
 * All under lock_sock().
 */
#ifndef L45_KMOD_TCP_TRAIN_H
#define L45_KMOD_TCP_TRAIN_H

#include "l45.h"

/* Whether there is room for one more frame. */
bool l45_train_is_full(const struct l45_frame_train *train);

/* Put bytes of ours at its end, or a frame, whose bytes come from `application` where it has none
 * of its own. -ENOMEM; -EFAULT: the application's cannot be read. Some of it may be there then. */
int l45_train_load(struct l45_tcp *t, const u8 *from, u32 size);
int l45_train_load_frame(struct l45_tcp *t, const struct l45_frame *frame,
			 struct iov_iter *application);

/* How many bytes there is room for, at least: pages can be single ones. */
u32 l45_train_room(const struct l45_frame_train *train);

/* Put `count` frames at its end, as `frame` is (l45_send_again), in that room. As above. */
int l45_train_load_again(struct l45_tcp *t, const struct l45_frame *frame, u32 count,
			 struct iov_iter *application);

/* Hand over what the transport takes; `flags`: of L45_MORE. 0: all. -EAGAIN: some is left, for
 * there is no memory. */
int l45_train_depart(struct l45_tcp *t, int flags);

void l45_train_drop(struct l45_tcp *t);

#endif
