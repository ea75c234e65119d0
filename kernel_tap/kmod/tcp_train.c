// SPDX-License-Identifier: GPL-2.0
/* Frames that are made, in pages, on their way to the transport (tcp_train.h). */
#include <linux/mm.h>
#include <linux/uio.h>
#include <net/tcp.h>

#include "compat.h"
#include "tcp.h"
#include "tcp_train.h"

/* Pieces that one more frame can need, where only single pages are to be had. */
#define PIECES_OF_FRAME (L45_WHOLE_MAX / PAGE_SIZE + 4)

bool l45_train_is_full(const struct l45_frame_train *train)
{
	return train->count > ARRAY_SIZE(train->pieces) - PIECES_OF_FRAME;
}

u32 l45_train_room(const struct l45_frame_train *train)
{
	return (ARRAY_SIZE(train->pieces) - train->count) * PAGE_SIZE;
}

/* The task's (or the socket's) page, with room at its end, as the transport fills it itself. */
static struct page_frag *page_with_room(struct sock *sk)
{
	struct page_frag *frag = sk_page_frag(sk);

	return sk_page_frag_refill(sk, frag) ? frag : NULL;
}

/* `size` bytes of the page now belong to the train. */
static void take_room(struct l45_frame_train *train, struct page_frag *frag, u32 size)
{
	struct bio_vec *last = train->count ? &train->pieces[train->count - 1] : NULL;

	if (last && last->bv_page == frag->page && last->bv_offset + last->bv_len == frag->offset) {
		last->bv_len += size;
	} else {
		get_page(frag->page);
		train->pieces[train->count++] = (struct bio_vec){
			.bv_page = frag->page,
			.bv_offset = frag->offset,
			.bv_len = size,
		};
	}
	frag->offset += size;
	train->size += size;
}

/* Room for up to `*size` bytes at the train's end; NULL: there is no memory. */
static u8 *room_at_end(struct l45_tcp *t, u32 *size)
{
	struct page_frag *frag = page_with_room(l45_sk(t));
	u8 *room;

	if (!frag || t->train.count == ARRAY_SIZE(t->train.pieces))
		return NULL;
	*size = min(*size, frag->size - frag->offset);
	room = page_address(frag->page) + frag->offset;
	take_room(&t->train, frag, *size);
	return room;
}

/* Put bytes of ours behind the train. */
int l45_train_load(struct l45_tcp *t, const u8 *from, u32 size)
{
	while (size) {
		u32 part = size;
		u8 *to = room_at_end(t, &part);

		if (!to)
			return -ENOMEM;
		memcpy(to, from, part);
		from += part;
		size -= part;
	}
	return 0;
}

/* Put bytes of the application behind the train. These copies are not checked as copy_from_iter()
 * does it: the bounds are those of the page. */
static int load_from(struct l45_tcp *t, struct iov_iter *application, u32 size)
{
	while (size) {
		u32 part = size;
		u8 *to = room_at_end(t, &part);

		if (!to)
			return -ENOMEM;
		if (_copy_from_iter(to, part, application) != part)
			return -EFAULT;
		size -= part;
	}
	return 0;
}

/* Where the train ends, if that is where the page is filled next, and it has so much room. */
static u8 *room_behind(struct l45_tcp *t, struct page_frag *frag, u32 size)
{
	const struct l45_frame_train *train = &t->train;
	const struct bio_vec *last = train->pieces + train->count - 1;

	if (!train->count || last->bv_page != frag->page ||
	    last->bv_offset + last->bv_len != frag->offset || frag->size - frag->offset < size)
		return NULL;
	return page_address(frag->page) + frag->offset;
}

/* `size` bytes there are the train's. */
static void extend(struct l45_tcp *t, struct page_frag *frag, u32 size)
{
	t->train.pieces[t->train.count - 1].bv_len += size;
	t->train.size += size;
	frag->offset += size;
}

/* All frames but the first of a page come by here. */
static int load_frame_at(struct l45_tcp *t, u8 *to, const struct l45_frame *frame,
			 struct iov_iter *application)
{
	extend(t, sk_page_frag(l45_sk(t)), frame->head_size + frame->body_size);
	memcpy(to, frame->head, frame->head_size);
	to += frame->head_size;
	if (frame->body)
		memcpy(to, frame->body, frame->body_size);
	else if (_copy_from_iter(to, frame->body_size, application) != frame->body_size)
		return -EFAULT;
	return 0;
}

int l45_train_load_frame(struct l45_tcp *t, const struct l45_frame *frame,
			 struct iov_iter *application)
{
	u8 *to = room_behind(t, sk_page_frag(l45_sk(t)), frame->head_size + frame->body_size);
	int error;

	if (to)
		return load_frame_at(t, to, frame, application);
	error = l45_train_load(t, frame->head, frame->head_size);
	if (error)
		return error;
	return frame->body ? l45_train_load(t, frame->body, frame->body_size)
			   : load_from(t, application, frame->body_size);
}

/* A frame for each `body` bytes at `from`; returns how many bytes could not be read. */
static unsigned long write_frames(u8 *to, const struct l45_frame *frame, u32 count,
				  const u8 __user *from)
{
	unsigned long left = 0;

	for (; count && !left; count--) {
		memcpy(to, frame->head, frame->head_size);
		to += frame->head_size;
		left = l45_copy_in(to, from, frame->body_size);
		to += frame->body_size;
		from += frame->body_size;
	}
	return left;
}

/* As many as are in one place, here and there; returns how many. */
static int load_some_again(struct l45_tcp *t, const struct l45_frame *frame, u32 count,
			   struct iov_iter *application)
{
	struct page_frag *frag = sk_page_frag(l45_sk(t));
	u32 each = frame->head_size + frame->body_size;
	u8 *to = room_behind(t, frag, each);
	void __user *from;
	size_t there;

	if (!to)
		return 0;
	there = l45_user_memory(application, &from) / frame->body_size;
	count = min3(count, (frag->size - frag->offset) / each, (u32)there);
	if (!count)
		return 0;
	extend(t, frag, count * each);
	if (write_frames(to, frame, count, from))
		return -EFAULT;
	iov_iter_advance(application, count * frame->body_size);
	return count;
}

int l45_train_load_again(struct l45_tcp *t, const struct l45_frame *frame, u32 count,
			 struct iov_iter *application)
{
	while (count) {
		int done = load_some_again(t, frame, count, application);

		if (!done)
			done = l45_train_load_frame(t, frame, application) ?: 1;
		if (done < 0)
			return done;
		count -= done;
	}
	return 0;
}

void l45_train_drop(struct l45_tcp *t)
{
	struct l45_frame_train *train = &t->train;

	while (train->first < train->count)
		put_page(train->pieces[train->first++].bv_page);
	train->first = train->count = train->size = 0;
}

static void forget_sent(struct l45_frame_train *train, u32 size)
{
	train->size -= size;
	while (size) {
		struct bio_vec *piece = &train->pieces[train->first];
		u32 part = min(size, piece->bv_len);

		piece->bv_offset += part;
		piece->bv_len -= part;
		size -= part;
		if (!piece->bv_len) {
			put_page(piece->bv_page);
			train->first++;
		}
	}
	if (!train->size)
		train->first = train->count = 0;
}

/* A frame must not be cut by a full queue: for as long as this lasts there is room. */
int l45_train_depart(struct l45_tcp *t, int flags)
{
	struct l45_frame_train *train = &t->train;
	struct sock *sk = l45_sk(t);
	int limit = READ_ONCE(sk->sk_sndbuf), raised, sent;
	s64 room = 4 * L45_WHOLE_MAX + train->size;
	u32 lowat = tcp_sk(sk)->notsent_lowat;

	if (!train->size)
		return 0;
	raised = min_t(s64, room + limit + READ_ONCE(sk->sk_wmem_queued), INT_MAX);
	WRITE_ONCE(sk->sk_sndbuf, raised);
	WRITE_ONCE(tcp_sk(sk)->notsent_lowat, UINT_MAX);
	sent = l45_send_pages(sk, train->pieces + train->first, train->count - train->first,
			      train->size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
	WRITE_ONCE(tcp_sk(sk)->notsent_lowat, lowat);
	if (sk->sk_sndbuf == raised) /* else the transport, short of memory, made it smaller */
		WRITE_ONCE(sk->sk_sndbuf, limit);
	if (sent < 0)
		return sent;
	forget_sent(train, sent);
	return train->size ? -EAGAIN : 0;
}
