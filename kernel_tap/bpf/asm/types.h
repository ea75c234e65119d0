/* SPDX-License-Identifier: GPL-2.0 */
/* Debian keeps the asm headers in a folder per architecture, which `-target bpf` does not search. */
#include <asm-generic/types.h>
