/* SPDX-License-Identifier: GPL-2.0 */
/* The stream modules that a target is linked with: the Makefile says which, as M(NAME) M(NAME) ...
 */
#ifndef L45_FUZZ_MODULES_H
#define L45_FUZZ_MODULES_H

#include <l45/module.h>

#define M(name) extern const struct l45_module name##_module;
MODULES
#undef M

#define M(name) &name##_module,
static const struct l45_module *const modules[] = { MODULES };
#undef M

#define MODULES_COUNT (sizeof(modules) / sizeof(*modules))

#endif
