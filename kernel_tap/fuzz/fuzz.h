/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a fuzz target makes of its input: bytes from the front, choices from the end. So what
 * libFuzzer inserts or removes in the one does not change the meaning of the other. An input that
 * is used up goes on with zeros.
 */
#ifndef L45_FUZZ_H
#define L45_FUZZ_H

#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An oracle: the input breaks a promise of what is fuzzed. */
#define CHECK(promise)                                                                        \
	do {                                                                                  \
		if (!(promise)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #promise); \
			abort();                                                              \
		}                                                                             \
	} while (0)

struct input {
	const __u8 *bytes;
	__u32 size;
};

static inline __u8 choose(struct input *input)
{
	return input->size ? input->bytes[--input->size] : 0;
}

static inline __u32 choose16(struct input *input)
{
	__u32 low = choose(input);

	return low | choose(input) << 8;
}

static inline void choose_bytes(struct input *input, void *to, __u32 size)
{
	for (__u32 i = 0; i < size; i++)
		((__u8 *)to)[i] = choose(input);
}

/* Text of fewer than `size` bytes, padded with NUL. */
static inline void choose_text(struct input *input, char *to, __u32 size)
{
	__u32 length = choose(input) % size;

	memset(to, 0, size);
	for (__u32 i = 0; i < length; i++) {
		to[i] = choose(input);
		if (!to[i])
			return;
	}
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size);

#endif
