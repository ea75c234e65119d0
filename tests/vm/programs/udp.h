/* SPDX-License-Identifier: GPL-2.0 */
/* Two UDP sockets, and datagrams that are told apart by numbers. */
#ifndef SOCKETS_UDP_H
#define SOCKETS_UDP_H

#include "sockets.h"

#define DATAGRAM_MAX 65507 /* of IPv4 */

struct udp {
	int a; /* connected to b in most scenarios */
	int b; /* bound; knows a as `from_a` */
	union address to_b;
	socklen_t to_b_size;
	union address from_a; /* as b sees it */
};

/* A socket bound to the loopback address, any port. */
int udp_bound(union address *address, socklen_t *size);
void udp_open(struct udp *udp);
void udp_connect(struct udp *udp);
void udp_close(struct udp *udp);

/* The content of datagram `number`. Half of them look like DNS queries to dns_app_tag. */
void datagram(char *buffer, uint64_t number, size_t size);
void check_datagram(const char *buffer, uint64_t number, size_t size);
/* One call each, blocking, on connected sockets, or from any. */
void send_datagram(int fd, uint64_t number, size_t size);
void recv_datagram(int fd, uint64_t number, size_t size);
void check_address(const union address *got, socklen_t size, const union address *wanted);

#endif
