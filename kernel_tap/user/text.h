/* SPDX-License-Identifier: GPL-2.0 */
/* Numbers and bytes as people write them. */
#ifndef L45_TEXT_H
#define L45_TEXT_H

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

static inline int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* Bytes that `text` stands for, at most `size`, or -1 where it is not such hexadecimal. `-` stands
 * for none. */
static inline long from_hex(const char *text, __u8 *bytes, size_t size)
{
	size_t count = strlen(text) / 2;

	if (!strcmp(text, "-"))
		return 0;
	if (strlen(text) % 2 || count > size)
		return -1;
	for (size_t i = 0; i < count; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -1;
		bytes[i] = high << 4 | low;
	}
	return count;
}

/* Whether `text` is a decimal number up to `most`. */
static inline int to_number(const char *text, __u64 most, __u64 *number)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return 0;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return !*end && !errno && *number <= most;
}

#endif
