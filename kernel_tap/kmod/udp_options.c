// SPDX-License-Identifier: GPL-2.0
/*
 * Options of customized UDP sockets.
 *
 * UDP_GRO lets the kernel hand over several datagrams as one. Modules see them one by one, and what
 * a module makes of them need not be of one size any more: it is off in the kernel while the
 * socket is customized, and the application, told that it is on, just meets none that were joined.
 */
#include <linux/uaccess.h>

#include "hooks.h"
#include "udp.h"

/* Linux 6.7 made these flags atomic bits, and stable releases before it, as well. */
#ifdef udp_test_bit
bool l45_udp_corks(const struct sock *sk)
{
	return udp_test_bit(CORK, sk);
}

bool l45_udp_joins(const struct sock *sk)
{
	return udp_test_bit(GRO_ENABLED, sk);
}

void l45_udp_set_joins(struct sock *sk, bool joins)
{
	udp_assign_bit(GRO_ENABLED, sk, joins);
	udp_assign_bit(ACCEPT_L4, sk, joins);
}
#else
bool l45_udp_corks(const struct sock *sk)
{
	return READ_ONCE(udp_sk(sk)->corkflag);
}

bool l45_udp_joins(const struct sock *sk)
{
	return udp_sk(sk)->gro_enabled;
}

void l45_udp_set_joins(struct sock *sk, bool joins)
{
	udp_sk(sk)->gro_enabled = joins;
	udp_sk(sk)->accept_udp_l4 = joins;
}
#endif

static int set_joins(struct l45_udp *udp, struct sock *sk, sockptr_t value, unsigned int size)
{
	int joins;

	if (size < sizeof(joins))
		return -EINVAL;
	if (copy_from_sockptr(&joins, value, sizeof(joins)))
		return -EFAULT;
	mutex_lock(&udp->lock);
	if (udp->set)
		udp->joins = joins;
	else
		l45_udp_set_joins(sk, joins);
	mutex_unlock(&udp->lock);
	return 0;
}

static int get_joins(const struct l45_udp *udp, const struct sock *sk, char __user *value,
		     int __user *size)
{
	int joins = READ_ONCE(udp->joins) || l45_udp_joins(sk), room;

	if (get_user(room, size))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	room = min_t(int, room, sizeof(joins));
	if (put_user(room, size) || copy_to_user(value, &joins, room))
		return -EFAULT;
	return 0;
}

static int set(struct l45_udp *udp, struct socket *sock, int level, int option, sockptr_t value,
	       unsigned int size)
{
	int result;

	/* It would make the socket one of IPv4, with other operations. */
	if (level == SOL_IPV6 && option == IPV6_ADDRFORM)
		return -EBUSY;
	/* An encapsulation takes datagrams before we see them. */
	if (level == SOL_UDP && option == UDP_ENCAP)
		return -EBUSY;
	if (level == SOL_UDP && option == UDP_GRO)
		return set_joins(udp, sock->sk, value, size);
	result = udp->tap.native->setsockopt(sock, level, option, value, size);
	if (!result && level == SOL_UDP && option == UDP_CORK && !l45_udp_corks(sock->sk))
		l45_udp_uncork(udp, sock);
	return result;
}

int l45_udp_setsockopt(struct socket *sock, int level, int option, sockptr_t value,
		       unsigned int size)
{
	struct l45_call call;
	struct l45_udp *udp = l45_udp_enter(sock->sk, &call);
	int result;

	if (udp)
		result = set(udp, sock, level, option, value, size);
	else
		result = l45_native_of(sock->sk)->setsockopt(sock, level, option, value, size);
	return l45_udp_leave(udp, &call, result);
}

int l45_udp_getsockopt(struct socket *sock, int level, int option, char __user *value,
		       int __user *size)
{
	struct l45_call call;
	struct l45_udp *udp = l45_udp_enter(sock->sk, &call);
	int result;

	if (udp && level == SOL_UDP && option == UDP_GRO)
		result = get_joins(udp, sock->sk, value, size);
	else
		result = l45_native_of(sock->sk)->getsockopt(sock, level, option, value, size);
	return l45_udp_leave(udp, &call, result);
}

/* Offsets would count in bytes of the wire. */
int l45_udp_set_peek_off(struct sock *sk, int value)
{
	return value < 0 ? 0 : -EOPNOTSUPP;
}
