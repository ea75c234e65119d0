// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "pattern.h"

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t pattern_mix(uint64_t number)
{
	number += 0x9e3779b97f4a7c15;
	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
	number = (number ^ number >> 27) * 0x94d049bb133111eb;
	return number ^ number >> 31;
}

static uint64_t word_at(uint64_t seed, uint64_t offset)
{
	return pattern_mix(pattern_mix(seed) ^ offset / 8);
}

/* Bytes up to the end of the word that `offset` is in. */
static size_t in_word(uint64_t offset, size_t size)
{
	size_t left = 8 - offset % 8;

	return left < size ? left : size;
}

void pattern_fill(void *buffer, uint64_t seed, uint64_t offset, size_t size)
{
	unsigned char *to = buffer;

	while (size) {
		uint64_t word = word_at(seed, offset);
		size_t now = in_word(offset, size);

		memcpy(to, (unsigned char *)&word + offset % 8, now);
		to += now;
		offset += now;
		size -= now;
	}
}

long pattern_check(const void *buffer, uint64_t seed, uint64_t offset, size_t size)
{
	const unsigned char *at = buffer, *end = at + size;

	while (at < end) {
		uint64_t word = word_at(seed, offset);
		const unsigned char *right = (unsigned char *)&word + offset % 8;
		size_t now = in_word(offset, end - at), i = 0;

		while (i < now && at[i] == right[i])
			i++;
		if (i < now)
			return at + i - (const unsigned char *)buffer;
		at += now;
		offset += now;
	}
	return PATTERN_RIGHT;
}
