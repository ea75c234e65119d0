/* SPDX-License-Identifier: GPL-2.0 */
/* See asm/types.h beside this file. */
#define __BITS_PER_LONG 64
#include <asm-generic/bitsperlong.h>
