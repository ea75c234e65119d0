/* SPDX-License-Identifier: GPL-2.0 */
/* The words of l45-set's command line. What is wrong ends the program with status 2. */
#ifndef TEST_L45_PARSE_H
#define TEST_L45_PARSE_H

#include "tap.h"

_Noreturn __attribute__((format(printf, 1, 2))) void usage_error(const char *format, ...);
unsigned long parse_number(const char *name, const char *text, unsigned long max);
/* Return how many bytes there were. */
size_t parse_hex(const char *name, const char *text, uint8_t *to, size_t max);
void parse_exactly(const char *name, const char *text, uint8_t *to, size_t size);
/* Read words up to the end or past a "--"; return how many were taken. */
int parse_customization(int count, char **words, unsigned int number,
			struct tap_customization *customization);

#endif
