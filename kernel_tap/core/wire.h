/* SPDX-License-Identifier: GPL-2.0 */
/* Marks and frame headers as bytes: docs/wire-format.md, which has the reasons. */
#ifndef L45_CORE_WIRE_H
#define L45_CORE_WIRE_H

#include <l45/module.h>

#define L45_MARK_SIZE	20
#define L45_MARK_BEGIN	0xf5 /* its first byte */
#define L45_MARK_KIND	5    /* where its kind stands */
#define L45_VERSION	1
#define L45_HEADER_SIZE 4
#define L45_HEAD_MAX	255
#define L45_CONTENT_MAX 65535
#define L45_WHOLE_MAX	17920 /* content of a frame that a receiver must hold */
#define L45_NAMED_SIZE	6     /* epoch and signature */

enum l45_mark_kind {
	L45_MARK_NEW = 'N',
	L45_MARK_LIVE = 'L',
};

enum l45_frame_type {
	L45_FRAME_DATA = 'D',
	L45_FRAME_PLAIN = 'P',
	L45_FRAME_SWITCH = 'S',
	L45_FRAME_END = 'E',
};

struct l45_header {
	__u8 type;
	__u8 head;
	__u16 length;
};

/* By one access: four single bytes would be waited for when they are read as one. */
static inline void l45_put_header(__u8 bytes[L45_HEADER_SIZE], struct l45_header header)
{
	__u32 word = L45_BE32((__u32)header.type << 24 | header.head << 16 | header.length);

	memcpy(bytes, &word, sizeof(word));
}

static inline struct l45_header l45_get_header(const __u8 bytes[L45_HEADER_SIZE])
{
	__u32 word;

	memcpy(&word, bytes, sizeof(word));
	word = L45_BE32(word);
	return (struct l45_header){
		.type = word >> 24,
		.head = word >> 16 & 0xff,
		.length = word & 0xffff,
	};
}

/* Whether there can be such a frame, whatever the customization. */
static inline int l45_is_frame(struct l45_header header)
{
	switch (header.type) {
	case L45_FRAME_DATA:
		return header.head <= header.length;
	case L45_FRAME_PLAIN:
		return !header.head && header.length;
	case L45_FRAME_SWITCH:
		return !header.head && header.length == L45_NAMED_SIZE;
	case L45_FRAME_END:
		return !header.head && !header.length;
	default:
		return 0;
	}
}

/* How marks and switches name a customization. */
static inline void l45_put_name(__u8 bytes[L45_NAMED_SIZE], const struct l45_instance *instance)
{
	__u32 signature = instance->module->signature;

	bytes[0] = instance->epoch >> 8;
	bytes[1] = instance->epoch & 0xff;
	bytes[2] = signature >> 24;
	bytes[3] = signature >> 16 & 0xff;
	bytes[4] = signature >> 8 & 0xff;
	bytes[5] = signature & 0xff;
}

static inline int l45_is_named(const __u8 bytes[L45_NAMED_SIZE],
			       const struct l45_instance *instance)
{
	__u8 name[L45_NAMED_SIZE];

	l45_put_name(name, instance);
	return !memcmp(bytes, name, sizeof(name));
}

static inline void l45_put_mark(__u8 bytes[L45_MARK_SIZE], enum l45_mark_kind kind,
				const __u8 token[L45_TOKEN], const struct l45_instance *instance)
{
	static const __u8 magic[] = { L45_MARK_BEGIN, 'L', '4', '5', L45_VERSION };

	memcpy(bytes, magic, sizeof(magic));
	bytes[sizeof(magic)] = kind;
	memcpy(bytes + sizeof(magic) + 1, token, L45_TOKEN);
	l45_put_name(bytes + sizeof(magic) + 1 + L45_TOKEN, instance);
}

#endif
