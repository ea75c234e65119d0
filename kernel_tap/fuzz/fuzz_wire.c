// SPDX-License-Identifier: GPL-2.0
/* Fuzz target: frame headers, names and marks, against docs/wire-format.md written down anew. */
#include <wire.h>

#include "fuzz.h"

static int naive_is_frame(const __u8 *bytes)
{
	__u32 head = bytes[1], length = bytes[2] * 256 + bytes[3];

	if (bytes[0] == 0x44)
		return head <= length;
	if (bytes[0] == 0x50)
		return head == 0 && length > 0;
	if (bytes[0] == 0x53)
		return head == 0 && length == 6;
	return bytes[0] == 0x45 && head == 0 && length == 0;
}

static void check_header(struct input *input)
{
	__u8 bytes[4], again[4];
	struct l45_header header;

	choose_bytes(input, bytes, sizeof(bytes));
	header = l45_get_header(bytes);
	l45_put_header(again, header);
	CHECK(!memcmp(bytes, again, sizeof(bytes)));
	CHECK(!l45_is_frame(header) == !naive_is_frame(bytes));
}

static __u64 big_endian(const __u8 *bytes, __u32 size)
{
	__u64 value = 0;

	while (size--)
		value = value << 8 | *bytes++;
	return value;
}

static void check_mark(struct input *input)
{
	struct l45_module module = { 0 };
	struct l45_instance instance = { .module = &module };
	enum l45_mark_kind kind = choose(input) & 1 ? L45_MARK_NEW : L45_MARK_LIVE;
	__u8 mark[20], name[6], token[8], change = choose(input);

	choose_bytes(input, &module.signature, sizeof(module.signature));
	choose_bytes(input, &instance.epoch, sizeof(instance.epoch));
	choose_bytes(input, token, sizeof(token));
	l45_put_mark(mark, kind, token, &instance);
	CHECK(big_endian(mark, 5) == 0xf54c343501);
	CHECK(mark[5] == (kind == L45_MARK_NEW ? 0x4e : 0x4c));
	CHECK(!memcmp(mark + 6, token, sizeof(token)));
	CHECK(big_endian(mark + 14, 2) == instance.epoch);
	CHECK(big_endian(mark + 16, 4) == module.signature);

	l45_put_name(name, &instance);
	CHECK(!memcmp(name, mark + 14, sizeof(name)));
	CHECK(l45_is_named(name, &instance));
	name[change % sizeof(name)] ^= 1 << change / sizeof(name) % 8;
	CHECK(!l45_is_named(name, &instance));
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t size)
{
	struct input input = { .bytes = bytes, .size = size };

	check_header(&input);
	check_mark(&input);
	return 0;
}
