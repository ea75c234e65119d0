// SPDX-License-Identifier: GPL-2.0
/* The way of a datagram, and how long it may be there. Options of IP are not reckoned with: with
 * them, a datagram that grew may need fragments. */
#include <linux/security.h>
#include <net/ip6_route.h>
#include <net/ipv6_stubs.h>
#include <net/route.h>

#include "udp.h"

#define HEADERS4 (sizeof(struct iphdr) + sizeof(struct udphdr))
#define HEADERS6 (sizeof(struct ipv6hdr) + sizeof(struct udphdr))

bool l45_udp_is_v4(const struct sock *sk, const struct l45_ends *ends)
{
	return sk->sk_family == AF_INET || ipv6_addr_v4mapped(&ends->remote);
}

static struct dst_entry *route4(struct sock *sk, struct l45_ends *ends)
{
	const struct inet_sock *inet = inet_sk(sk);
	__be32 to = ends->remote.s6_addr32[3];
	int link = ipv4_is_multicast(to) ? READ_ONCE(inet->mc_index) : READ_ONCE(inet->uc_index);
	struct flowi4 flow = {
		.flowi4_oif = READ_ONCE(sk->sk_bound_dev_if) ?: link,
		.flowi4_mark = READ_ONCE(sk->sk_mark),
		.flowi4_tos = RT_TOS(READ_ONCE(inet->tos)),
		.flowi4_proto = IPPROTO_UDP,
		.flowi4_flags = inet_sk_flowi_flags(sk),
		.flowi4_uid = sk->sk_uid,
		.daddr = to,
		.saddr = ends->local.s6_addr32[3],
		.fl4_dport = htons(ends->remote_port),
		.fl4_sport = htons(ends->local_port),
	};
	struct rtable *route;

	security_sk_classify_flow(sk, flowi4_to_flowi_common(&flow));
	route = ip_route_output_flow(sock_net(sk), &flow, sk);
	if (IS_ERR(route))
		return ERR_CAST(route);
	if (ipv6_addr_any(&ends->local))
		ipv6_addr_set_v4mapped(flow.saddr, &ends->local);
	return &route->dst;
}

#if IS_ENABLED(CONFIG_IPV6)
static int link6(const struct sock *sk, const struct in6_addr *to, int link)
{
	const struct ipv6_pinfo *np = inet6_sk(sk);

	if (link && __ipv6_addr_needs_scope_id(__ipv6_addr_type(to)))
		return link;
	if (READ_ONCE(sk->sk_bound_dev_if))
		return READ_ONCE(sk->sk_bound_dev_if);
	return ipv6_addr_is_multicast(to) ? READ_ONCE(np->mcast_oif) : READ_ONCE(np->ucast_oif);
}

static struct dst_entry *route6(struct sock *sk, struct l45_ends *ends, int link)
{
	struct flowi6 flow = {
		.flowi6_oif = link6(sk, &ends->remote, link),
		.flowi6_mark = READ_ONCE(sk->sk_mark),
		.flowi6_proto = IPPROTO_UDP,
		.flowi6_uid = sk->sk_uid,
		.daddr = ends->remote,
		.saddr = ends->local,
		.fl6_dport = htons(ends->remote_port),
		.fl6_sport = htons(ends->local_port),
	};
	struct dst_entry *route;

	security_sk_classify_flow(sk, flowi6_to_flowi_common(&flow));
	route = ipv6_stub->ipv6_dst_lookup_flow(sock_net(sk), sk, &flow, NULL);
	if (!IS_ERR(route) && ipv6_addr_any(&ends->local))
		ends->local = flow.saddr;
	return route;
}

static u32 cookie_of(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 ? inet6_sk(sk)->dst_cookie : 0;
}
#else
static struct dst_entry *route6(struct sock *sk, struct l45_ends *ends, int link)
{
	return ERR_PTR(-EAFNOSUPPORT);
}

static u32 cookie_of(const struct sock *sk)
{
	return 0;
}
#endif

static struct dst_entry *route_of(struct sock *sk, struct l45_ends *ends, bool connected, int link)
{
	struct dst_entry *route = NULL;

	if (connected && !ipv6_addr_any(&ends->local))
		route = sk_dst_check(sk, cookie_of(sk));
	if (route)
		return route;
	return l45_udp_is_v4(sk, ends) ? route4(sk, ends) : route6(sk, ends, link);
}

u32 l45_udp_fits(struct sock *sk, struct l45_ends *ends, bool connected, int link)
{
	u32 headers = l45_udp_is_v4(sk, ends) ? HEADERS4 : HEADERS6;
	struct dst_entry *route = route_of(sk, ends, connected, link);
	u32 mtu;

	if (IS_ERR(route))
		return L45_UDP_MAX4;
	mtu = dst_mtu(route);
	dst_release(route);
	return min_t(u32, max(mtu, headers) - headers, L45_UDP_MAX4);
}
