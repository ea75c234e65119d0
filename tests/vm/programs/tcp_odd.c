// SPDX-License-Identifier: GPL-2.0
/*
 * What few use, and what a customized socket may refuse (with --customized): whatever the answer,
 * the stream is right before and after.
 */
#include <time.h>
#include <linux/errqueue.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "sockets.h"

#define PAGE 4096

static void exchange(struct pair *pair)
{
	write_bytes(&pair->a, 3000);
	read_bytes(&pair->b, 3000);
	write_bytes(&pair->b, 4000);
	read_bytes(&pair->a, 4000);
}

/* A call that failed did so as a customized socket may. */
static void allow(const char *what, int wanted)
{
	CHECK(setting.customized && errno == wanted, "%s: %s", what, strerrorname_np(errno));
}

/* Urgent data stands beside the stream, or in it where the receiver wants that. */
static void urgent(void)
{
	struct pair pair;
	char byte = 0;

	open_pair(&pair);
	EXPECT_ERRNO(recv(pair.b.fd, &byte, 1, MSG_OOB), EINVAL);
	exchange(&pair);
	write_bytes(&pair.a, 100);
	if (send(pair.a.fd, "!", 1, MSG_OOB) == 1) {
		CHECK(poll_until(pair.b.fd, POLLPRI) & POLLPRI, "no POLLPRI");
		EXPECT(recv(pair.b.fd, &byte, 1, MSG_OOB), 1);
		EXPECT(byte, '!');
	} else {
		allow("send of MSG_OOB", EOPNOTSUPP);
	}
	write_bytes(&pair.a, 100);
	read_bytes(&pair.b, 200);
	exchange(&pair);
	finish(&pair);
}

static void urgent_inline(void)
{
	struct pair pair;
	char byte = 0;

	open_pair(&pair);
	set_option(pair.b.fd, SOL_SOCKET, SO_OOBINLINE, 1);
	exchange(&pair);
	write_bytes(&pair.a, 100);
	if (send(pair.a.fd, "!", 1, MSG_OOB) == 1) {
		read_bytes(&pair.b, 100);
		EXPECT(recv(pair.b.fd, &byte, 1, 0), 1);
		EXPECT(byte, '!');
	} else {
		allow("send of MSG_OOB", EOPNOTSUPP);
	}
	exchange(&pair);
	finish(&pair);
}

/* Return how many sends the kernel is done with, from the socket's error queue. */
static uint32_t done_sends(int fd)
{
	char control[200];
	struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct sock_extended_err error;

	if (recvmsg(fd, &message, MSG_ERRQUEUE) < 0) {
		CHECK(errno == EAGAIN, "MSG_ERRQUEUE: %s", strerrorname_np(errno));
		return 0;
	}
	CHECK(CMSG_FIRSTHDR(&message), "an error without control data");
	memcpy(&error, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(error));
	EXPECT(error.ee_origin, SO_EE_ORIGIN_ZEROCOPY);
	return error.ee_data - error.ee_info + 1;
}

static void zero_copy(void)
{
	char buffer[20000];
	uint32_t done = 0, sends = 0;
	struct pair pair;

	open_pair(&pair);
	set_option(pair.a.fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	for (int i = 0; i < 20; i++) {
		ssize_t sent;

		next_bytes(&pair.a, buffer, 0, sizeof(buffer));
		sent = send(pair.a.fd, buffer, sizeof(buffer), MSG_ZEROCOPY);
		if (sent < 0) {
			allow("send of MSG_ZEROCOPY", EOPNOTSUPP);
			break;
		}
		pair.a.written += sent;
		sends++;
		read_bytes(&pair.b, sent);
		step("notification %u", sends);
		while (done < sends) { /* only then may the buffer be used again */
			CHECK(poll_until(pair.a.fd, 0) & POLLERR, "no POLLERR");
			done += done_sends(pair.a.fd);
		}
	}
	EXPECT(done, sends);
	exchange(&pair);
	finish(&pair);
}

/* Without SO_ZEROCOPY the flag means nothing. */
static void zero_copy_not_asked(void)
{
	struct pair pair;
	char buffer[5000];

	open_pair(&pair);
	next_bytes(&pair.a, buffer, 0, sizeof(buffer));
	EXPECT(send(pair.a.fd, buffer, sizeof(buffer), MSG_ZEROCOPY), sizeof(buffer));
	pair.a.written += sizeof(buffer);
	memset(buffer, 0, sizeof(buffer));
	read_bytes(&pair.b, sizeof(buffer));
	EXPECT_ERRNO(recv(pair.a.fd, buffer, 1, MSG_ERRQUEUE), EAGAIN);
	finish(&pair);
}

static void zero_copy_receive(void)
{
	struct pair pair;
	struct tcp_zerocopy_receive request = { .length = PAGE };
	socklen_t size = sizeof(request);
	void *window;

	open_pair(&pair);
	window = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, pair.b.fd, 0);
	write_bytes(&pair.a, 3 * PAGE);
	wait_readable(&pair.b, 3 * PAGE);
	if (window != MAP_FAILED) {
		request.address = (uintptr_t)window;
		if (!getsockopt(pair.b.fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &request, &size))
			took(&pair.b, window, request.length);
	}
	read_bytes(&pair.b, 3 * PAGE - pair.b.read % (3 * PAGE));
	exchange(&pair);
	finish(&pair);
}

/* kTLS: without keys it changes nothing, and a customized socket refuses it. */
static void tls(void)
{
	struct pair pair;

	for (int used = 0; used < 2; used++) {
		open_pair(&pair);
		if (used)
			exchange(&pair);
		if (setsockopt(pair.a.fd, IPPROTO_TCP, TCP_ULP, "tls", 3) < 0 && errno != ENOENT)
			allow("TCP_ULP", EBUSY);
		exchange(&pair);
		finish(&pair);
	}
}

static void repair(void)
{
	struct pair pair;
	int on = TCP_REPAIR_ON, off = TCP_REPAIR_OFF_NO_WP;

	open_pair(&pair);
	exchange(&pair);
	if (!setsockopt(pair.a.fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)))
		EXPECT(setsockopt(pair.a.fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)), 0);
	exchange(&pair);
	finish(&pair);
}

static void information(void)
{
	struct pair pair;
	struct tcp_info info;
	socklen_t size = sizeof(info);

	open_pair(&pair);
	exchange(&pair);
	EXPECT(getsockopt(pair.a.fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	EXPECT(info.tcpi_state, 1); /* established */
	set_option(pair.a.fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(pair.a.fd, IPPROTO_TCP, TCP_KEEPIDLE, 17);
	set_option(pair.a.fd, IPPROTO_TCP, TCP_KEEPINTVL, 3);
	EXPECT(get_option(pair.a.fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	EXPECT(get_option(pair.a.fd, IPPROTO_TCP, TCP_KEEPIDLE), 17);
	set_option(pair.a.fd, SOL_SOCKET, SO_SNDBUF, 50000);
	EXPECT(get_option(pair.a.fd, SOL_SOCKET, SO_SNDBUF), 100000);
	exchange(&pair);
	EXPECT(get_option(pair.a.fd, SOL_SOCKET, SO_SNDBUF), 100000);
	EXPECT_ERRNO(setsockopt(pair.a.fd, IPPROTO_TCP, 9999, &size, sizeof(size)), ENOPROTOOPT);
	EXPECT_ERRNO(ioctl(pair.a.fd, 0x4545, &size), ENOTTY);
	finish(&pair);
}

static volatile sig_atomic_t signals;

static void count(int number)
{
	signals += number == SIGIO;
}

static void by_signal(void)
{
	struct pair pair;

	open_pair(&pair);
	signal(SIGIO, count);
	EXPECT(fcntl(pair.b.fd, F_SETOWN, getpid()), 0);
	EXPECT(fcntl(pair.b.fd, F_SETFL, O_ASYNC | O_NONBLOCK), 0);
	for (int i = 0; i < 20; i++) {
		signals = 0;
		write_bytes(&pair.a, 100);
		step("SIGIO %d", i);
		while (!signals)
			sleep_ms(1);
		wait_readable(&pair.b, 100);
		recv_wanted(&pair.b, 200, 0, 100);
	}
	EXPECT(fcntl(pair.b.fd, F_SETFL, 0), 0);
	finish(&pair);
}

static void no_wait(void)
{
	struct pair pair;
	char buffer[100];
	struct iovec vector = { buffer, sizeof(buffer) };

	open_pair(&pair);
	if (preadv2(pair.b.fd, &vector, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP)
		skip("RWF_NOWAIT: not on sockets of this kernel");
	EXPECT_ERRNO(preadv2(pair.b.fd, &vector, 1, -1, RWF_NOWAIT), EAGAIN);
	write_bytes(&pair.a, 150);
	wait_readable(&pair.b, 150);
	EXPECT(preadv2(pair.b.fd, &vector, 1, -1, RWF_NOWAIT), 100);
	took(&pair.b, buffer, 100);
	read_bytes(&pair.b, 50);
	finish(&pair);
}

static void end_of_pair(struct pair *pair, int server)
{
	pair->b.fd = accept(server, NULL, NULL);
	CHECK(pair->b.fd >= 0, "accept: %s", strerror(errno));
	pair->a.out_seed = pair->b.in_seed = 1;
	pair->a.in_seed = pair->b.out_seed = 2;
	EXPECT(close(server), 0);
}

/* Data with the SYN: by a flag of the first send, or by an option that lets connect wait for it. */
static void fast_open(void)
{
	for (int by_option = 0; by_option < 2; by_option++) {
		struct pair pair = { 0 };
		union address address;
		int server = listener();
		socklen_t size = loopback(&address, false, port_of(server));
		char buffer[500];

		step(by_option ? "TCP_FASTOPEN_CONNECT" : "MSG_FASTOPEN");
		pair.a.fd = client_socket(SOCK_STREAM);
		pair.a.out_seed = 1;
		next_bytes(&pair.a, buffer, 0, sizeof(buffer));
		if (by_option) {
			set_option(pair.a.fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
			EXPECT(connect(pair.a.fd, &address.any, size), 0);
		} else if (sendto(pair.a.fd, buffer, sizeof(buffer), MSG_FASTOPEN, &address.any,
				  size) == sizeof(buffer)) {
			pair.a.written = sizeof(buffer);
		} else {
			allow("sendto of MSG_FASTOPEN", EOPNOTSUPP);
			EXPECT(connect(pair.a.fd, &address.any, size), 0);
		}
		write_bytes(&pair.a, 1000);
		end_of_pair(&pair, server);
		read_bytes(&pair.b, pair.a.written);
		exchange(&pair);
		finish(&pair);
	}
}

/* A socket of IPv6 with an IPv4 connection becomes one of IPv4. */
static void address_form(void)
{
	struct pair pair;

	if (!setting.dual)
		skip("for --family dual");
	for (int used = 0; used < 2; used++) {
		int *fd;

		open_pair(&pair);
		fd = setting.accepted ? &pair.a.fd : &pair.b.fd;
		if (used)
			exchange(&pair);
		if (setsockopt(*fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){ AF_INET }, sizeof(int)))
			CHECK(setting.customized, "IPV6_ADDRFORM: %s", strerrorname_np(errno));
		exchange(&pair);
		finish(&pair);
	}
}

static void multipath(void)
{
	struct pair pair = { 0 };
	union address address;
	socklen_t size = loopback(&address, true, 0);
	int server = socket(setting.family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (server < 0)
		skip("no MPTCP: %s", strerrorname_np(errno));
	EXPECT(bind(server, &address.any, size), 0);
	EXPECT(listen(server, 5), 0);
	size = loopback(&address, false, port_of(server));
	pair.a.fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	EXPECT(connect(pair.a.fd, &address.any, size), 0);
	end_of_pair(&pair, server);
	for (int i = 0; i < 50; i++)
		exchange(&pair);
	finish(&pair);
}

const struct scenario tcp_odd[] = {
	{ "tcp_urgent", urgent, BOTH_WAYS },
	{ "tcp_urgent_inline", urgent_inline, BOTH_WAYS },
	{ "tcp_zero_copy", zero_copy, BOTH_WAYS },
	{ "tcp_zero_copy_not_asked", zero_copy_not_asked, BOTH_WAYS },
	{ "tcp_zero_copy_receive", zero_copy_receive, BOTH_WAYS },
	{ "tcp_tls", tls, BOTH_WAYS },
	{ "tcp_repair", repair, BOTH_WAYS },
	{ "tcp_information", information, BOTH_WAYS },
	{ "tcp_by_signal", by_signal, BOTH_WAYS },
	{ "tcp_no_wait", no_wait, BOTH_WAYS },
	{ "tcp_fast_open", fast_open, ONCE },
	{ "tcp_address_form", address_form, BOTH_WAYS },
	{ "tcp_multipath", multipath, ONCE },
	{ 0 },
};
