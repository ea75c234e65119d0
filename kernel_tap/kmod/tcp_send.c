// SPDX-License-Identifier: GPL-2.0
/* A customized TCP socket sends (tcp.h). */
#include <linux/mm.h>
#include <linux/uio.h>
#include <net/tcp.h>

#include "compat.h"
#include "flow.h"
#include "hooks.h"
#include "tcp.h"
#include "tcp_train.h"

#define OFFER	   16384 /* bytes of the application that the core is offered at once */
#define TRAIN_SIZE 32768 /* bytes that are made before they are handed over, about */

/* Until what the transport did not take is offered again, without its application. */
#define RETRY_JIFFIES max(1, HZ / 100)

/*
 * Waiting.
 */

static int error_of(const struct l45_tcp *t)
{
	const struct sock *sk = l45_sk(t);

	return sk->sk_err || sk->sk_shutdown & SEND_SHUTDOWN ? -EPIPE : 0;
}

static bool is_early(const struct l45_tcp *t)
{
	return t->not_before && ktime_get_ns() < t->not_before;
}

bool l45_tcp_is_held(const struct l45_tcp *t)
{
	return t->train.size || is_early(t);
}

/* Wait until the time has come, holding no lock meanwhile. Others may send when it has. */
static int wait_for_time(struct l45_tcp *t, long *timeo)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	struct sock *sk = l45_sk(t);
	int error = 0;

	add_wait_queue(sk_sleep(sk), &wait);
	while (!error && is_early(t)) {
		u64 left = t->not_before - ktime_get_ns();
		long most = nsecs_to_jiffies(left) + 1, wanted = min(*timeo, most), rest = wanted;

		if (!*timeo)
			error = -EAGAIN;
		else if (signal_pending(current))
			error = sock_intr_errno(*timeo);
		else if (t->tap.closed)
			error = L45_NOT_OURS;
		else if (error_of(t))
			error = -EPIPE;
		if (error)
			break;
		sk_wait_event(sk, &rest, error_of(t), &wait);
		if (*timeo != MAX_SCHEDULE_TIMEOUT)
			*timeo -= wanted - rest;
	}
	remove_wait_queue(sk_sleep(sk), &wait);
	return error;
}

/* Tell the application, by poll(), when it can send again. */
static void wake_later(struct l45_tcp *t)
{
	u64 now = ktime_get_ns();

	set_bit(SOCK_NOSPACE, &t->tap.sock->flags);
	if (t->not_before > now)
		l45_tap_kick(&t->tap, nsecs_to_jiffies(t->not_before - now) + 1);
	else if (t->train.size)
		l45_tap_kick(&t->tap, RETRY_JIFFIES);
}

/* What the core sends without being asked: a mark, a switch, an end. */
static int add_control(struct l45_tcp *t)
{
	struct l45_frame frame;
	int any = l45_send_control(&t->flow, &frame);

	if (any > 0)
		any = l45_train_load(t, frame.head, frame.head_size) ? -EPIPE : 0;
	if (any < 0)
		l45_tcp_break(t);
	return any;
}

static int settled(struct l45_tcp *t, long *timeo)
{
	int error;

	do {
		if (t->tap.closed)
			return L45_NOT_OURS;
		error = error_of(t);
		if (!error && is_early(t))
			error = wait_for_time(t, timeo);
		if (error)
			return error;
		t->not_before = 0;
		l45_tcp_sync(t);
		error = l45_train_depart(t, 0) ?: add_control(t) ?: l45_train_depart(t, 0);
		if (error == -EAGAIN && *timeo)
			error = sk_stream_wait_memory(l45_sk(t), timeo) ?: -EAGAIN;
		else if (error)
			return error;
	} while (error == -EAGAIN && *timeo);
	return error;
}

int l45_tcp_settle(struct l45_tcp *t, long *timeo)
{
	int error = settled(t, timeo);

	/* Whoever waits or not, what was taken goes out in time. */
	if (error && error != L45_NOT_OURS && l45_tcp_is_held(t) && !t->reset)
		wake_later(t);
	return error;
}

/*
 * The application's bytes.
 */

/* Looks at bytes of the application, and leaves them to be read again. */
static int copy_some(void *application, void *to, __u32 size)
{
	struct iov_iter copy = *(struct iov_iter *)application;

	return copy_from_iter_full(to, size, &copy) ? 0 : -EFAULT;
}

/* The core has counted as sent what could not be put on the train. */
static int loaded(struct l45_tcp *t, int error)
{
	if (error)
		l45_tcp_break(t);
	return error;
}

/* A frame of some of the application's bytes. Returns how many; 0: no frame, but `granted` bytes
 * may go as they are. */
static int add_frame(struct l45_tcp *t, struct iov_iter *application, u32 size,
		     struct l45_frame *frame)
{
	int error = l45_send(&t->flow, copy_some, application, size, frame);

	if (error == -EPIPE)
		l45_tcp_break(t);
	if (error)
		return error;
	if (frame->delay_ms)
		t->not_before = ktime_get_ns() + frame->delay_ms * NSEC_PER_MSEC;
	if (!frame->head_size && !frame->body) {
		t->granted = frame->body_size;
		return 0;
	}
	error = loaded(t, l45_train_load_frame(t, frame, application));
	if (error)
		return error;
	if (frame->body)
		iov_iter_advance(application, frame->taken);
	return frame->taken;
}

/* As many more like it as `readable` bytes make, and `room` bytes of the train hold. */
static int add_again(struct l45_tcp *t, struct iov_iter *application, u32 readable, u32 room,
		     struct l45_frame *frame)
{
	u32 space = min(room, l45_train_room(&t->train));
	u32 count = l45_send_again(&t->flow, frame, readable, space);
	int error = 0;

	if (count)
		error = loaded(t, l45_train_load_again(t, frame, count, application));
	return error ? error : count * frame->body_size;
}

/* Fill a train; returns how many of the application's bytes are on it. A frame that the core has
 * made must be filled, so it makes them of bytes that can be read. */
static int fill(struct l45_tcp *t, struct msghdr *msg, u8 *buffer)
{
	int space = max(sk_stream_wspace(l45_sk(t)), 1), room = min(space, TRAIN_SIZE), done = 0;
	u32 readable = min_t(size_t, msg_data_left(msg), TRAIN_SIZE);
	struct l45_frame frame;

	frame.buffer = buffer;
	readable -= fault_in_iov_iter_readable(&msg->msg_iter, readable);
	if (!readable)
		return -EFAULT;
	while (readable && t->train.size < room && !l45_train_is_full(&t->train)) {
		u32 size = min_t(size_t, msg_data_left(msg), INT_MAX);
		int taken, more = 0;

		t->flow.tx.limit = min_t(u32, readable, OFFER);
		taken = add_frame(t, &msg->msg_iter, size, &frame);
		if (taken > 0 && t->train.size < room)
			more = add_again(t, &msg->msg_iter, readable - taken, room - t->train.size,
					 &frame);
		if (taken <= 0 || more < 0)
			return done ? done : min(taken, more);
		done += taken + more;
		readable -= taken + more;
		if (t->not_before)
			break;
	}
	t->tap.sent = ktime_get_coarse_real_ns();
	return done;
}

/* Bytes that go as they are: the transport copies them itself. */
static int send_granted(struct l45_tcp *t, struct msghdr *msg)
{
	size_t left = msg_data_left(msg), size = min_t(u64, left, t->granted);
	unsigned int flags = msg->msg_flags;
	int sent;

	msg->msg_flags |= MSG_DONTWAIT | MSG_NOSIGNAL | (size < left ? MSG_MORE : 0);
	iov_iter_truncate(&msg->msg_iter, size);
	sent = tcp_sendmsg_locked(l45_sk(t), msg, size);
	iov_iter_reexpand(&msg->msg_iter, left - max(sent, 0));
	msg->msg_flags = flags;
	if (sent > 0)
		t->granted -= sent;
	return sent;
}

/* What says to the transport that more will come. Who has to wait for room next must not keep what
 * is there from leaving. */
static int more_to_come(const struct l45_tcp *t, struct msghdr *msg)
{
	if (sk_stream_wspace(l45_sk(t)) <= 2 * (int)t->train.size + TRAIN_SIZE)
		return 0;
	return msg_data_left(msg) ? MSG_MORE : msg->msg_flags & L45_MORE;
}

static int send_framed(struct l45_tcp *t, struct msghdr *msg)
{
	u8 *buffer = NULL;
	int done, error;

	if (l45_send_needs_buffer(&t->flow)) {
		buffer = l45_allocate(L45_WHOLE_MAX);
		if (!buffer)
			return -ENOBUFS;
	}
	done = fill(t, msg, buffer);
	l45_release(buffer);
	if (t->reset || is_early(t))
		return done;
	error = l45_train_depart(t, more_to_come(t, msg));
	if (error && error != -EAGAIN)
		return error;
	return done;
}

/* Some of what is left, when all before it is out and the queue has room. */
static int send_some(struct l45_tcp *t, struct msghdr *msg, long *timeo)
{
	struct sock *sk = l45_sk(t);
	int error = l45_tcp_settle(t, timeo);

	while (!error && !sk_stream_memory_free(sk)) {
		error = sk_stream_wait_memory(sk, timeo);
		if (!error)
			error = l45_tcp_settle(t, timeo);
	}
	if (error)
		return error;
	if (t->granted)
		return send_granted(t, msg);
	return send_framed(t, msg);
}

static int wait_connected(struct sock *sk, long *timeo)
{
	if ((1 << sk->sk_state) & (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT))
		return 0;
	return sk_stream_wait_connect(sk, timeo);
}

static int send_all(struct l45_tcp *t, struct msghdr *msg)
{
	struct sock *sk = l45_sk(t);
	long timeo = sock_sndtimeo(sk, msg->msg_flags & MSG_DONTWAIT);
	int error = wait_connected(sk, &timeo), done = 0;

	sk_clear_bit(SOCKWQ_ASYNC_NOSPACE, sk);
	if (!error)
		error = t->fin ? -EPIPE : error_of(t);
	while (!error && msg_data_left(msg)) {
		int sent = send_some(t, msg, &timeo);

		if (sent > 0)
			done += sent;
		else if (sent == -EAGAIN && timeo)
			error = sk_stream_wait_memory(sk, &timeo);
		else
			error = sent;
		if (t->reset)
			error = -EPIPE;
		else if (!error)
			sk_flush_backlog(sk);
	}
	if (error == L45_NOT_OURS || (done && !t->reset))
		return done ? done : error;
	if (t->reset && !t->told)
		return -ECONNRESET;
	return error ? sk_stream_error(sk, msg->msg_flags, error) : 0;
}

/* What was taken of a blocking write waits here for its time, as it would for room. */
static void wait_for_last(struct l45_tcp *t, const struct msghdr *msg)
{
	long timeo = sock_sndtimeo(l45_sk(t), msg->msg_flags & MSG_DONTWAIT);

	if (l45_tcp_is_held(t) && !t->reset)
		l45_tcp_settle(t, &timeo);
}

/* Without SO_ZEROCOPY the flag means nothing. */
static bool wants_unsupported(const struct sock *sk, const struct msghdr *msg)
{
	return msg->msg_flags & MSG_OOB || msg->msg_ubuf ||
	       (msg->msg_flags & MSG_ZEROCOPY && sock_flag(sk, SOCK_ZEROCOPY));
}

static int sendmsg_customized(struct socket *sock, struct l45_tcp *t, struct msghdr *msg)
{
	int result;

	if (wants_unsupported(sock->sk, msg))
		return -EOPNOTSUPP;
	lock_sock(sock->sk);
	result = send_all(t, msg);
	if (result > 0)
		wait_for_last(t, msg);
	t->told |= result == -ECONNRESET;
	l45_tcp_unlock(t);
	if (result == -ECONNRESET)
		sock_error(sock->sk); /* it is told once */
	return result;
}

int l45_tcp_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sock->sk, &call);
	int result = tap ? sendmsg_customized(sock, l45_tcp_of(tap), msg) : L45_NOT_OURS;

	if (result == L45_NOT_OURS) {
		if (tap)
			l45_tap_let_go(&tap, &call);
		result = l45_native_of(sock->sk)->sendmsg(sock, msg, size);
	}
	return l45_tap_leave(tap, &call, result);
}

/*
 * The end.
 */

/* Returns whether the transport must not be told yet that no more comes: the work does it. */
static bool is_fin_late(struct l45_tcp *t)
{
	long timeo = 0;

	if (t->tap.closed || !l45_tcp_is_held(t) || l45_tcp_settle(t, &timeo) != -EAGAIN)
		return false;
	t->fin = true;
	return true;
}

static int shutdown_customized(struct socket *sock, struct l45_tap *tap, int how)
{
	bool late = false, over;
	int result = 0;

	lock_sock(sock->sk);
	if (how == SHUT_WR || how == SHUT_RDWR)
		late = is_fin_late(l45_tcp_of(tap));
	l45_tcp_unlock(l45_tcp_of(tap));
	if (!late || how == SHUT_RDWR)
		result = l45_native_of(sock->sk)->shutdown(sock, late ? SHUT_RD : how);
	lock_sock(sock->sk);
	over = sock->state == SS_UNCONNECTED && l45_tcp_detach_if_over(tap, sock);
	release_sock(sock->sk);
	if (over)
		l45_tap_quit(tap);
	return result;
}

int l45_tcp_shutdown(struct socket *sock, int how)
{
	struct l45_call call;
	struct l45_tap *tap = l45_tap_enter(sock->sk, &call);
	int result = tap ? shutdown_customized(sock, tap, how)
			 : l45_native_of(sock->sk)->shutdown(sock, how);

	return l45_tap_leave(tap, &call, result);
}

void l45_tcp_flush(struct l45_tcp *t)
{
	long timeo = HZ;

	t->not_before = 0;
	while (t->train.size && !t->reset && timeo) {
		int error = l45_train_depart(t, 0);

		if (error == -EAGAIN)
			error = sk_stream_wait_memory(l45_sk(t), &timeo);
		if (error)
			break;
	}
	if (t->train.size)
		l45_tcp_break(t);
}
