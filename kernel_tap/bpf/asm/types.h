/* SPDX-License-Identifier: GPL-2.0 */
/* Debian keeps the asm headers in a folder per architecture; `-target bpf` does not search it. */
#include <asm-generic/types.h>
