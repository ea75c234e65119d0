// SPDX-License-Identifier: GPL-2.0
#include "sockets.h"

/* clang-format off */
const struct scenario *const themes[] = {
	tcp_bulk, tcp_calls, tcp_poll, tcp_receive, tcp_peek, tcp_splice, tcp_close,
	tcp_connect, tcp_accept, tcp_shared, tcp_fault, tcp_odd, tcp_uring,
	udp_basic, udp_receive, udp_address, udp_offload, NULL,
};
/* clang-format on */
