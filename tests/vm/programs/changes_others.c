// SPDX-License-Identifier: GPL-2.0
/* Datagrams, delays, namespaces, events, challenges. */
#include <linux/if_alg.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "changes.h"
#include "udp.h"

/* UDP sockets that are open get customizations and lose them. */
static void open_datagrams(void)
{
	struct tap_customization tag = customization("l45_dns_app_tag", 1);
	struct udp udp;

	udp_connect(&udp);
	send_datagram(udp.a, 1, 100);
	recv_datagram(udp.b, 1, 100);
	for (int i = 0; i < 10; i++) {
		apply(&tag, 1, DRAIN_LONG);
		send_datagram(udp.a, 1, 100);
		recv_datagram(udp.b, 1, 100);
		EXPECT(told_of(1).sent, 1);
		EXPECT(told_of(1).received, 1);
		EXPECT(flow_of(udp.a).found, true);
		apply_none(0);
		wait_gone(1);
		send_datagram(udp.a, 1, 100);
		recv_datagram(udp.b, 1, 100);
		EXPECT(flow_count(), 0);
	}
	udp_close(&udp);
}

static void *recv_100(void *argument)
{
	recv_datagram(*(int *)argument, 1, 100);
	return NULL;
}

/* ... while a thread waits for a datagram. */
static void datagram_asleep(void)
{
	struct tap_customization tag = customization("l45_dns_app_tag", 1);
	struct udp udp;
	pthread_t reader;

	udp_connect(&udp);
	reader = start(recv_100, &udp.b);
	sleep_ms(30);
	apply(&tag, 1, DRAIN_LONG);
	send_datagram(udp.a, 1, 100);
	join(reader);
	EXPECT(told_of(1).sent, 1);
	reader = start(recv_100, &udp.b);
	sleep_ms(30);
	apply_none(0);
	wait_gone(1);
	send_datagram(udp.a, 1, 100);
	join(reader);
	udp_close(&udp);
}

static struct tap_customization delay(uint32_t milliseconds)
{
	struct tap_customization it = customization("l45_rate_limit", 1);

	it.flags = SEND;
	memcpy(it.parameters, &milliseconds, 4);
	return it;
}

/* A delay changes no byte; who must not block waits in poll, and what it says is true. */
static void delayed(void)
{
	struct tap_customization it = delay(40);
	char buffer[500];
	struct pair pair;
	int times = 0;

	apply(&it, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 500);
	EXPECT(told_of(1).sent, setting.accepted ? 3 : 2);
	set_nonblocking(pair.a.fd, true);
	while (pair.a.written < 5500) {
		ssize_t sent;

		next_bytes(&pair.a, buffer, 0, sizeof(buffer));
		sent = send(pair.a.fd, buffer, sizeof(buffer), 0);
		if (sent < 0) {
			CHECK(errno == EAGAIN, "send: %s", strerrorname_np(errno));
			EXPECT(poll_until(pair.a.fd, POLLOUT), POLLOUT);
			times++;
			sent = send(pair.a.fd, buffer, sizeof(buffer), 0);
			CHECK(sent > 0, "send after POLLOUT: %s", strerrorname_np(errno));
		}
		pair.a.written += sent;
	}
	CHECK(times > 0, "there was never a delay");
	read_bytes(&pair.b, pair.a.written - pair.b.read);
	step("the delay goes");
	apply_none(0);
	exchange(&pair, 500);
	finish(&pair);
}

/* What was sent with a delay arrives before the end, also where it is closed at once. */
static void delayed_and_closed(void)
{
	struct tap_customization it = delay(100);

	apply(&it, 1, DRAIN_LONG);
	for (int i = 0; i < 4; i++) {
		struct pair pair;

		open_pair(&pair);
		set_nonblocking(pair.a.fd, i % 2);
		for (int k = 0; k < 2; k++) {
			char buffer[100];
			ssize_t sent;

			next_bytes(&pair.a, buffer, 0, sizeof(buffer));
			sent = send(pair.a.fd, buffer, sizeof(buffer), 0);
			pair.a.written += sent > 0 ? sent : 0;
		}
		if (i / 2)
			EXPECT(shutdown(pair.a.fd, SHUT_WR), 0);
		EXPECT(close(pair.a.fd), 0);
		read_to_end(&pair.b);
		EXPECT(pair.b.read, pair.a.written);
		EXPECT(close(pair.b.fd), 0);
	}
	apply_none(0);
}

/* Another network namespace has its own set and flows. */
static void apart(void)
{
	struct tap_customization tag = customization(TAG, 1), other = customization(XOR, 2);
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), control;
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	struct tap there;
	struct pair pair;

	apply(&tag, 1, DRAIN_LONG);
	EXPECT(unshare(CLONE_NEWNET), 0);
	control = socket(AF_INET, SOCK_DGRAM, 0);
	EXPECT(ioctl(control, SIOCSIFFLAGS, &lo), 0);
	EXPECT(close(control), 0);
	open_pair(&pair);
	exchange(&pair, 500);
	finish(&pair);
	EXPECT(told_of(1).sent, 0);
	step("a set of its own");
	EXPECT(tap_open(&there), 0);
	EXPECT(tap_apply(&there, &other, 1, 0, NULL), 0);
	open_pair(&pair);
	exchange(&pair, 500);
	EXPECT(told_of(1).sent, 0);
	EXPECT(flow_count(), 0);
	EXPECT(tap_apply(&there, NULL, 0, DRAIN_LONG, NULL), 0);
	finish(&pair);
	tap_close(&there);
	step("the namespace goes with a set in it");
	EXPECT(tap_open(&there), 0);
	EXPECT(tap_apply(&there, &other, 1, 0, NULL), 0);
	tap_close(&there);
	EXPECT(setns(here, CLONE_NEWNET), 0);
	EXPECT(close(here), 0);
	apply_none(0);
}

static int count_event(void *context, uint8_t command, struct nl_row row)
{
	unsigned int *counts = context;

	(void)row;
	if (command < L45_CMD_COUNT)
		counts[command]++;
	return 0;
}

static void events(void)
{
	struct tap_customization tag = customization(TAG, 1);
	unsigned int counts[L45_CMD_COUNT] = { 0 };
	struct tap listener_;
	struct pair pair;

	the_tap(); /* which empties the set */
	EXPECT(tap_open(&listener_), 0);
	EXPECT(tap_subscribe(&listener_), 0);
	apply(&tag, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 100);
	finish(&pair);
	apply_none(0);
	while (!counts[L45_CMD_REMOVED])
		EXPECT(nl_events(listener_.fd, count_event, counts), 0);
	EXPECT(counts[L45_CMD_APPLIED], 2);
	EXPECT(counts[L45_CMD_FLOW_OPENED], 2);
	EXPECT(counts[L45_CMD_FLOW_CLOSED], 2);
	EXPECT(counts[L45_CMD_FLOW_BROKEN], 0);
	EXPECT(counts[L45_CMD_REMOVED], 1);
	tap_close(&listener_);
}

/* The kernel's own HMAC-SHA-256, by a socket. */
static void hmac(const uint8_t key[L45_KEY_SIZE], const void *data, size_t size, uint8_t to[32])
{
	struct sockaddr_alg address = { .salg_family = AF_ALG,
					.salg_type = "hash",
					.salg_name = "hmac(sha256)" };
	int fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), one;

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		skip("AF_ALG: %s", strerrorname_np(errno));
	EXPECT(setsockopt(fd, SOL_ALG, ALG_SET_KEY, key, L45_KEY_SIZE), 0);
	one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	EXPECT(send(one, data, size, 0), size);
	EXPECT(recv(one, to, 32, 0), 32);
	EXPECT(close(one), 0);
	EXPECT(close(fd), 0);
}

static void challenged(void)
{
	struct tap_customization tag = customization(TAG, 1);
	uint8_t wanted[32], message[L45_NONCE_MAX + TAP_ID_SIZE + 64];
	struct tap_answer answer;

	apply(&tag, 1, DRAIN_LONG);
	for (size_t size = L45_NONCE_MIN; size <= L45_NONCE_MAX; size += 12) {
		size_t at = size;

		pattern_fill(message, 99, 0, size);
		EXPECT(tap_challenge(the_tap(), tag.id, message, size, &answer), 0);
		memcpy(message + at, tag.id, TAP_ID_SIZE);
		at += TAP_ID_SIZE;
		memcpy(message + at, answer.build_id, answer.build_id_size);
		at += answer.build_id_size;
		CHECK(answer.build_id_size == 20, "build id of %zu bytes", answer.build_id_size);
		hmac(tag.key, message, at, wanted);
		CHECK(!memcmp(answer.answer, wanted, sizeof(wanted)), "another answer");
	}
	apply_none(0);
}

const struct scenario change_others[] = {
	{ "change_open_datagrams", open_datagrams, ONCE },
	{ "change_datagram_asleep", datagram_asleep, ONCE },
	{ "change_delayed", delayed, BOTH_WAYS },
	{ "change_delayed_and_closed", delayed_and_closed, BOTH_WAYS },
	{ "change_apart", apart, ONCE },
	{ "change_events", events, ONCE },
	{ "change_challenged", challenged, ONCE },
	{ 0 },
};
