/* SPDX-License-Identifier: GPL-2.0 */
/* See asm/types.h beside this file. */
#include <asm-generic/posix_types.h>
