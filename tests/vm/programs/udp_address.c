// SPDX-License-Identifier: GPL-2.0
/* Whom datagrams are for and from: control data, connect, errors from the network. */
#include <arpa/inet.h>
#include <time.h>
#include <linux/errqueue.h>
#include <netinet/ip.h>
#include <time.h>

#include "udp.h"

#define CONTROL_SIZE 512

/* Find a control message; whether it is there, and of that size. */
static bool control_of(struct msghdr *message, int level, int type, void *to, size_t size)
{
	struct cmsghdr *head;

	for (head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
		if (head->cmsg_level != level || head->cmsg_type != type)
			continue;
		CHECK(head->cmsg_len >= CMSG_LEN(size), "control message %d.%d of %zu bytes", level,
		      type, head->cmsg_len);
		memcpy(to, CMSG_DATA(head), size);
		return true;
	}
	return false;
}

static bool is_v4(void)
{
	return setting.family == AF_INET;
}

static void check_information(struct msghdr *message)
{
	if (is_v4()) {
		struct in_pktinfo info;

		CHECK(control_of(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info)),
		      "no IP_PKTINFO");
		EXPECT(ntohl(info.ipi_addr.s_addr), INADDR_LOOPBACK);
	} else {
		struct in6_pktinfo info;

		CHECK(control_of(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info)),
		      "no IPV6_PKTINFO");
		CHECK(setting.dual || IN6_IS_ADDR_LOOPBACK(&info.ipi6_addr), "to another address");
	}
}

static void check_tos(struct msghdr *message, int wanted)
{
	uint8_t tos = 0;
	int class = 0;

	if (is_v4()) {
		CHECK(control_of(message, IPPROTO_IP, IP_TOS, &tos, 1), "no IP_TOS");
		EXPECT(tos, wanted);
	} else if (!setting.dual) {
		CHECK(control_of(message, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof(class)),
		      "no IPV6_TCLASS");
		EXPECT(class, wanted);
	}
}

/* What comes beside a datagram comes with a customized one too. */
static void control_data(void)
{
	char buffer[1000], control[CONTROL_SIZE];
	union address from;
	struct timespec stamp;
	struct udp udp;

	udp_connect(&udp);
	set_option(udp.b, is_v4() ? IPPROTO_IP : IPPROTO_IPV6,
		   is_v4() ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
	set_option(udp.b, is_v4() ? IPPROTO_IP : IPPROTO_IPV6,
		   is_v4() ? IP_RECVTOS : IPV6_RECVTCLASS, 1);
	set_option(udp.b, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	if (!setting.dual)
		set_option(udp.a, is_v4() ? IPPROTO_IP : IPPROTO_IPV6,
			   is_v4() ? IP_TOS : IPV6_TCLASS, 0x28);
	for (int i = 0; i < 20; i++) {
		struct iovec vector = { buffer, sizeof(buffer) };
		struct msghdr message = { .msg_name = &from,
					  .msg_namelen = sizeof(from),
					  .msg_iov = &vector,
					  .msg_iovlen = 1,
					  .msg_control = control,
					  .msg_controllen = sizeof(control) };

		send_datagram(udp.a, i, 20 + i * 10);
		EXPECT(recvmsg(udp.b, &message, i % 4 == 3 ? MSG_PEEK : 0), 20 + i * 10);
		check_datagram(buffer, i, 20 + i * 10);
		check_address(&from, message.msg_namelen, &udp.from_a);
		check_information(&message);
		check_tos(&message, 0x28);
		CHECK(control_of(&message, SOL_SOCKET, SO_TIMESTAMPNS, &stamp, sizeof(stamp)),
		      "no SO_TIMESTAMPNS");
		CHECK(stamp.tv_sec > 0, "time %ld", (long)stamp.tv_sec);
		if (i % 4 == 3)
			recv_datagram(udp.b, i, 20 + i * 10);
	}
	step("no room for control data");
	send_datagram(udp.a, 1, 100);
	struct iovec vector = { buffer, sizeof(buffer) };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(struct cmsghdr) };
	EXPECT(recvmsg(udp.b, &message, 0), 100);
	EXPECT(message.msg_flags, MSG_CTRUNC);
	udp_close(&udp);
}

/* A sender says for one datagram where it is from, and its class of service. */
static void send_control(void)
{
	union {
		struct cmsghdr head;
		char bytes[CONTROL_SIZE];
	} control;
	struct in_pktinfo info = { .ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK + 1) };
	char buffer[1000];
	struct udp udp;

	if (!is_v4())
		skip("for --family 4");
	udp.b = udp_bound(&udp.to_b, &udp.to_b_size);
	udp.a = client_socket(SOCK_DGRAM);
	for (int i = 0; i < 20; i++) {
		struct iovec vector = { buffer, 50 + i };
		struct msghdr message = { .msg_name = &udp.to_b,
					  .msg_namelen = udp.to_b_size,
					  .msg_iov = &vector,
					  .msg_iovlen = 1,
					  .msg_control = &control,
					  .msg_controllen = CMSG_SPACE(sizeof(info)) };
		union address from;
		socklen_t size = sizeof(from);

		control.head = (struct cmsghdr){ CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO };
		memcpy(CMSG_DATA(&control.head), &info, sizeof(info));
		datagram(buffer, i, 50 + i);
		EXPECT(sendmsg(udp.a, &message, 0), 50 + i);
		EXPECT(recvfrom(udp.b, buffer, sizeof(buffer), 0, &from.any, &size), 50 + i);
		check_datagram(buffer, i, 50 + i);
		EXPECT(ntohl(from.v4.sin_addr.s_addr), INADDR_LOOPBACK + 1);
	}
	step("control data that is wrong");
	control.head = (struct cmsghdr){ 3, IPPROTO_IP, IP_PKTINFO };
	struct iovec vector = { buffer, 100 };
	struct msghdr message = { .msg_name = &udp.to_b,
				  .msg_namelen = udp.to_b_size,
				  .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = CMSG_SPACE(sizeof(info)) };
	EXPECT_ERRNO(sendmsg(udp.a, &message, 0), EINVAL);
	udp_close(&udp);
}

/* A port where nobody listens answers with an error, which a connected socket sees once. */
static void refused(void)
{
	union address address;
	struct udp udp;
	socklen_t size;
	char byte;
	int other;

	udp_connect(&udp);
	other = udp_bound(&address, &size);
	EXPECT(close(other), 0); /* nobody has it now */
	for (int i = 0; i < 5; i++) {
		EXPECT(connect(udp.a, &address.any, size), 0);
		send_datagram(udp.a, i, 100);
		CHECK(poll_until(udp.a, POLLIN) & POLLERR, "no POLLERR");
		if (i % 2)
			EXPECT_ERRNO(recv(udp.a, &byte, 1, 0), ECONNREFUSED);
		else
			EXPECT(get_option(udp.a, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
		EXPECT_ERRNO(recv(udp.a, &byte, 1, MSG_DONTWAIT), EAGAIN);
		step("connected to somebody who listens");
		EXPECT(connect(udp.a, &udp.to_b.any, udp.to_b_size), 0);
		send_datagram(udp.a, i, 200);
		recv_datagram(udp.b, i, 200);
	}
	udp_close(&udp);
}

/* The same as a message of the error queue, with the datagram that was refused. */
static void error_queue(void)
{
	char buffer[1000], control[CONTROL_SIZE];
	struct iovec vector = { buffer, sizeof(buffer) };
	struct msghdr message = { .msg_iov = &vector,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct sock_extended_err error;
	union address address;
	struct udp udp;
	socklen_t size;
	int other;

	if (!is_v4())
		skip("for --family 4");
	udp_connect(&udp);
	other = udp_bound(&address, &size);
	EXPECT(close(other), 0);
	set_option(udp.a, IPPROTO_IP, IP_RECVERR, 1);
	EXPECT(connect(udp.a, &address.any, size), 0);
	send_datagram(udp.a, 1, 100);
	CHECK(poll_until(udp.a, POLLIN) & POLLERR, "no POLLERR");
	CHECK(recvmsg(udp.a, &message, MSG_ERRQUEUE) >= 0, "MSG_ERRQUEUE: %s",
	      strerrorname_np(errno));
	CHECK(control_of(&message, IPPROTO_IP, IP_RECVERR, &error, sizeof(error)), "no IP_RECVERR");
	EXPECT(error.ee_errno, ECONNREFUSED);
	EXPECT(message.msg_flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
	EXPECT(connect(udp.a, &udp.to_b.any, udp.to_b_size), 0);
	EXPECT(get_option(udp.a, SOL_SOCKET, SO_ERROR), 0);
	send_datagram(udp.a, 3, 200);
	recv_datagram(udp.b, 3, 200);
	udp_close(&udp);
}

/* A connected socket hears its peer only; connect to another one, and to nobody. */
static void reconnect(void)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	union address address;
	struct udp udp;
	socklen_t size;
	char buffer[500];
	int other;

	udp_connect(&udp);
	other = udp_bound(&address, &size);
	for (int i = 0; i < 10; i++) {
		EXPECT(connect(udp.a, &address.any, size), 0);
		send_datagram(udp.a, i, 100);
		recv_datagram(other, i, 100);
		step("from somebody else");
		datagram(buffer, i, 100);
		EXPECT(sendto(udp.b, buffer, 100, 0, &udp.from_a.any,
			      is_v4() ? sizeof(udp.from_a.v4) : sizeof(udp.from_a.v6)),
		       100);
		EXPECT_ERRNO(recv(udp.a, buffer, 1, MSG_DONTWAIT), EAGAIN);
		EXPECT(connect(udp.a, &udp.to_b.any, udp.to_b_size), 0);
		send_datagram(udp.a, i, 200);
		recv_datagram(udp.b, i, 200);
		step("connected to nobody");
		EXPECT(connect(udp.a, &nobody, sizeof(nobody)), 0);
		EXPECT_ERRNO(send(udp.a, "x", 1, 0), EDESTADDRREQ);
		datagram(buffer, i, 300);
		EXPECT(sendto(udp.a, buffer, 300, 0, &udp.to_b.any, udp.to_b_size), 300);
		recv_datagram(udp.b, i, 300);
	}
	EXPECT(close(other), 0);
	udp_close(&udp);
}

static void addresses(void)
{
	union address address;
	socklen_t size = sizeof(address);
	struct udp udp;

	udp_connect(&udp);
	send_datagram(udp.a, 1, 10);
	recv_datagram(udp.b, 1, 10);
	EXPECT(getpeername(udp.a, &address.any, &size), 0);
	check_address(&address, size, &udp.to_b);
	EXPECT_ERRNO(getpeername(udp.b, &address.any, &size), ENOTCONN);
	step("to an address while connected");
	EXPECT(sendto(udp.a, "x", 1, 0, &udp.to_b.any, udp.to_b_size), 1);
	EXPECT(recv(udp.b, &address, 1, 0), 1);
	step("addresses that are wrong");
	EXPECT_ERRNO(sendto(udp.b, "x", 1, 0, &udp.from_a.any, 3), EINVAL);
	EXPECT_ERRNO(send(udp.b, "x", 1, 0), EDESTADDRREQ);
	if (udp.to_b.any.sa_family == AF_INET) /* IPv6 does not look at it */
		EXPECT_ERRNO(send(udp.a, "x", 1, MSG_OOB), EOPNOTSUPP);
	udp_close(&udp);
}

/* One datagram to all sockets of a group, on this machine's loopback. */
static void multicast(void)
{
	struct sockaddr_in group = { .sin_family = AF_INET };
	struct ip_mreqn member = { .imr_ifindex = 1 };
	int sender = socket(AF_INET, SOCK_DGRAM, 0), receivers[3];

	if (!is_v4())
		skip("for --family 4");
	group.sin_addr.s_addr = member.imr_multiaddr.s_addr = inet_addr("239.45.45.45");
	for (int i = 0; i < 3; i++) {
		receivers[i] = socket(AF_INET, SOCK_DGRAM, 0);
		set_option(receivers[i], SOL_SOCKET, SO_REUSEADDR, 1);
		EXPECT(bind(receivers[i], (struct sockaddr *)&group, sizeof(group)), 0);
		group.sin_port = htons(port_of(receivers[i]));
		if (setsockopt(receivers[i], IPPROTO_IP, IP_ADD_MEMBERSHIP, &member,
			       sizeof(member)))
			skip("no multicast over lo: %s", strerrorname_np(errno));
	}
	EXPECT(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &member, sizeof(member)), 0);
	if (connect(sender, (struct sockaddr *)&group, sizeof(group)))
		skip("no route to a group: %s", strerrorname_np(errno));
	for (int i = 0; i < 20; i++) {
		send_datagram(sender, i, 100 + i);
		for (int k = 0; k < 3; k++)
			recv_datagram(receivers[k], i, 100 + i);
	}
}

const struct scenario udp_address[] = {
	{ "udp_control_data", control_data, ONCE }, { "udp_send_control", send_control, ONCE },
	{ "udp_refused", refused, ONCE },	    { "udp_error_queue", error_queue, ONCE },
	{ "udp_reconnect", reconnect, ONCE },	    { "udp_addresses", addresses, ONCE },
	{ "udp_multicast", multicast, ONCE },	    { 0 },
};
