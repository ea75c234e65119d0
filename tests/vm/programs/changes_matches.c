// SPDX-License-Identifier: GPL-2.0
/* Whose sockets are customized, and whose are not. */
#include <stdio.h>
#include <sys/prctl.h>

#include "changes.h"

static bool is_customized(const struct tap_customization *it)
{
	struct flow flow;
	struct pair pair;

	apply(it, 1, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 300);
	flow = flow_of(pair.a.fd);
	CHECK(flow_of(pair.b.fd).found == flow.found, "one end only has it");
	CHECK(!flow.found || flow.tx == 1, "attached, and not customized");
	finish(&pair);
	apply_none(0);
	return flow.found;
}

static void owners(void)
{
	struct tap_customization it = customization(TAG, 1);

	step("thread");
	strcpy(it.match.thread, "changes");
	EXPECT(is_customized(&it), true);
	strcpy(it.match.thread, "change");
	EXPECT(is_customized(&it), false);
	it = customization(TAG, 1);
	step("process");
	strcpy(it.match.process, "changess");
	EXPECT(is_customized(&it), false);
	it.match.process[0] = '\0';
	EXPECT(is_customized(&it), true);
	it = customization(TAG, 1);
	step("uid");
	it.match.by_uid = true;
	it.match.uid = getuid();
	EXPECT(is_customized(&it), true);
	it.match.uid = getuid() + 1;
	EXPECT(is_customized(&it), false);
	it = customization(TAG, 1);
	step("executable");
	strcpy(it.match.executable, "/bin/true");
	EXPECT(is_customized(&it), false);
	CHECK(readlink("/proc/self/exe", it.match.executable, L45_EXECUTABLE_MAX) > 0, "readlink");
	EXPECT(is_customized(&it), true);
}

static struct tap_prefix loopback_prefix(uint8_t length, uint8_t other)
{
	struct tap_prefix prefix = { .given = true, .length = length };

	if (setting.family == AF_INET || setting.dual) {
		prefix.address.s6_addr16[5] = 0xffff;
		prefix.address.s6_addr32[3] = htonl(INADDR_LOOPBACK + other);
	} else {
		prefix.address = in6addr_loopback;
		prefix.address.s6_addr[15] += other;
	}
	return prefix;
}

static void addresses(void)
{
	struct tap_customization it = customization(TAG, 1);

	it.match.remote = loopback_prefix(128, 0);
	EXPECT(is_customized(&it), true);
	it.match.remote = loopback_prefix(128, 2);
	EXPECT(is_customized(&it), false);
	it.match.remote = loopback_prefix(104, 2);
	EXPECT(is_customized(&it), true);
	it.match.remote = loopback_prefix(0, 2);
	EXPECT(is_customized(&it), true);
	it = customization(TAG, 1);
	it.match.local = loopback_prefix(128, 0);
	it.match.remote = loopback_prefix(128, 0);
	EXPECT(is_customized(&it), true);
	step("ports");
	it.match.local_ports = (struct tap_ports){ true, 1024, 65535 };
	it.match.remote_ports = (struct tap_ports){ true, 1024, 65535 };
	EXPECT(is_customized(&it), true);
	it.match.remote_ports = (struct tap_ports){ true, 1, 1023 };
	EXPECT(is_customized(&it), false);
}

/* The customization of one server's port is on both ends of its connections only. */
static void one_port(void)
{
	struct tap_customization set[] = { customization(TAG, 1), customization(TAG, 1) };
	int server = listener();
	struct pair pair = { .a = { .out_seed = 1, .in_seed = 2 },
			     .b = { .out_seed = 2, .in_seed = 1 } };
	struct pair other;

	set[1].id[0] = 2; /* one deployment: epoch, token and parameters are the same */
	set[0].match.remote_ports = (struct tap_ports){ true, port_of(server), port_of(server) };
	set[1].match.local_ports = set[0].match.remote_ports;
	apply(set, 2, DRAIN_LONG);
	open_pair(&other);
	exchange(&other, 100);
	EXPECT(flow_of(other.a.fd).found, false);
	finish(&other);
	pair.a.fd = connect_to(server);
	pair.b.fd = accept(server, NULL, NULL);
	exchange(&pair, 1000);
	EXPECT(flow_of(pair.a.fd).tx, 1);
	EXPECT(flow_of(pair.b.fd).tx, 2);
	finish(&pair);
	EXPECT(close(server), 0);
	apply_none(0);
}

/* The lowest number first, and among equals as in the set. */
static void priorities(void)
{
	struct tap_customization set[] = { customization(TAG, 1), customization(XOR, 2),
					   customization(TAG, 3) };
	struct flow flow;
	struct pair pair;

	set[0].priority = 30;
	set[1].priority = set[2].priority = 20;
	apply(set, 3, DRAIN_LONG);
	open_pair(&pair);
	exchange(&pair, 1000);
	flow = flow_of(pair.a.fd);
	EXPECT(flow.attached_count, 3);
	CHECK(flow.attached[0] == 2 && flow.attached[1] == 3 && flow.attached[2] == 1,
	      "order %d %d %d", flow.attached[0], flow.attached[1], flow.attached[2]);
	EXPECT(flow.tx, 2);
	finish(&pair);
	apply_none(0);
}

/* A connection of this listener is customized on both ends. */
static void comes_customized(int server, int client)
{
	struct pair pair = { .a = { .fd = client, .out_seed = 1, .in_seed = 2 },
			     .b = { .out_seed = 2, .in_seed = 1 } };

	set_nonblocking(server, false);
	pair.b.fd = accept(server, NULL, NULL);
	CHECK(pair.b.fd >= 0, "accept: %s", strerrorname_np(errno));
	set_nonblocking(client, false);
	exchange(&pair, 700);
	EXPECT(flow_of(pair.a.fd).tx, 1);
	EXPECT(flow_of(pair.b.fd).tx, 1);
	finish(&pair);
}

/* What was done with a listener before does not matter, nor whether it is older than the set. */
static void listeners(void)
{
	struct tap_customization tag = customization(TAG, 1);
	int server = listener(), byte;

	apply_none(0);
	EXPECT(poll_now(server, POLLIN), 0);
	EXPECT_ERRNO(recv(server, &byte, 1, 0), ENOTCONN);
	EXPECT(close(connect_to(server)), 0);
	EXPECT(close(accept(server, NULL, NULL)), 0);
	apply(&tag, 1, DRAIN_LONG);
	for (int i = 0; i < 3; i++) {
		int client;

		step("connection %d of an old listener", i);
		set_nonblocking(server, true);
		EXPECT_ERRNO(accept(server, NULL, NULL), EAGAIN);
		EXPECT(poll_now(server, POLLIN), 0);
		client = connect_to(server);
		EXPECT(poll_until(server, POLLIN), POLLIN);
		comes_customized(server, client);
	}
	EXPECT(close(server), 0);
	apply_none(0);
}

/* A client's socket gets there in the end, whatever it went through. */
static void clients(void)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	struct tap_customization tag = customization(TAG, 1);
	int server = listener(), other = listener(), client = client_socket(SOCK_STREAM);
	union address address;
	socklen_t size = loopback(&address, false, port_of(other));
	char byte;

	apply(&tag, 1, DRAIN_LONG);
	EXPECT(close(other), 0);
	EXPECT_ERRNO(recv(client, &byte, 1, 0), ENOTCONN);
	EXPECT(poll_now(client, POLLIN), POLLHUP);
	EXPECT_ERRNO(connect(client, &address.any, size), ECONNREFUSED);
	size = loopback(&address, false, port_of(server));
	set_nonblocking(client, true);
	EXPECT_ERRNO(connect(client, &address.any, size), EINPROGRESS);
	EXPECT(poll_until(client, POLLOUT), POLLOUT);
	comes_customized(server, dup(client));
	step("once more");
	EXPECT(connect(client, &nobody, sizeof(nobody)), 0);
	set_nonblocking(client, false);
	EXPECT(connect(client, &address.any, size), 0);
	comes_customized(server, client);
	EXPECT(close(server), 0);
	apply_none(0);
}

static void be_plain(void *argument)
{
	struct end *end = argument;
	union address address;
	socklen_t size = loopback(&address, false, end->fd);

	EXPECT(prctl(PR_SET_NAME, "somebody"), 0);
	end->fd = client_socket(SOCK_STREAM);
	EXPECT(connect(end->fd, &address.any, size), 0);
	write_bytes(end, 5000);
	read_bytes(end, 7000);
	write_bytes(end, 100);
	EXPECT(shutdown(end->fd, SHUT_WR), 0);
	read_to_end(end);
}

/* A client that nobody customizes, and a server that could be: all stays plain. */
static void plain_client(void)
{
	struct tap_customization tag = customization(TAG, 1);
	int server = listener();
	struct end client = { .fd = port_of(server), .out_seed = 1, .in_seed = 2 };
	struct end end = { .out_seed = 2, .in_seed = 1 };
	pid_t child;

	apply(&tag, 1, DRAIN_LONG);
	child = spawn(be_plain, &client);
	end.fd = accept(server, NULL, NULL);
	read_bytes(&end, 5000);
	write_bytes(&end, 7000);
	EXPECT(flow_of(end.fd).found, true);
	EXPECT(flow_of(end.fd).tx, 0);
	read_bytes(&end, 100);
	read_to_end(&end);
	EXPECT(close(end.fd), 0);
	join_child(child);
	EXPECT(told_of(1).sent + told_of(1).received, 0);
	EXPECT(close(server), 0);
	apply_none(0);
}

const struct scenario change_matches[] = {
	{ "change_owners", owners, BOTH_WAYS },
	{ "change_addresses", addresses, BOTH_WAYS },
	{ "change_one_port", one_port, ONCE },
	{ "change_priorities", priorities, BOTH_WAYS },
	{ "change_listeners", listeners, ONCE },
	{ "change_clients", clients, ONCE },
	{ "change_plain_client", plain_client, ONCE },
	{ 0 },
};
