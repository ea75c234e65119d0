/* SPDX-License-Identifier: GPL-2.0 */
/* Bytes that say where in which stream they belong. */
#ifndef TEST_PATTERN_H
#define TEST_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#define PATTERN_RIGHT (-1)

void pattern_fill(void *buffer, uint64_t seed, uint64_t offset, size_t size);
/* Return the index of the first byte that is wrong, or PATTERN_RIGHT. */
long pattern_check(const void *buffer, uint64_t seed, uint64_t offset, size_t size);
/* A number that looks random, from any number. */
uint64_t pattern_mix(uint64_t number);

#endif
