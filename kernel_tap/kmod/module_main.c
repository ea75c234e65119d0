// SPDX-License-Identifier: GPL-2.0
/*
 * What makes an l45 module a kernel module: compiled into each, beside its module.c.
 *
 * It can only be unloaded when no customization uses it: each has a reference.
 */
#include <linux/module.h>

#include "l45.h"

extern const struct l45_module l45_module;

static int __init l45_module_init(void)
{
	return l45_register(&l45_module, THIS_MODULE, L45_KMOD_ABI);
}

static void __exit l45_module_exit(void)
{
	l45_unregister(&l45_module);
}

module_init(l45_module_init);
module_exit(l45_module_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Layer 4.5 customization module");
