// SPDX-License-Identifier: GPL-2.0
/* l45.ko: loading and unloading (l45.h). */
#include "calls.h"
#include "flow.h"
#include "hooks.h"
#include "l45.h"
#include "tcp.h"

static int __init l45_init(void)
{
	int error;

	l45_calls_init();
	error = l45_flow_init();
	if (error)
		return error;
	error = l45_registry_init();
	if (error)
		goto no_registry;
	error = l45_hooks_init();
	if (error)
		goto no_hooks;
	error = l45_netlink_init();
	if (!error)
		return 0;
	l45_hooks_exit();
no_hooks:
	l45_registry_exit();
no_registry:
	l45_flow_exit();
	return error;
}

/* No socket is customized any more: each would keep us loaded. */
static void __exit l45_exit(void)
{
	l45_netlink_exit();
	l45_hooks_exit();
	l45_flow_exit();
	l45_registry_exit();
	rcu_barrier();
	l45_buffers_exit();
}

module_init(l45_init);
module_exit(l45_exit);
MODULE_DESCRIPTION("Layer 4.5 customization of TCP and UDP sockets");
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0.0");
