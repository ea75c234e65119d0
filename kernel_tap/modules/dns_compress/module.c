// SPDX-License-Identifier: GPL-2.0
/*
 * dns_compress: a DNS query travels as a signature, its transaction id and its question.
 *
 * No query of an honest resolver begins with the signature: as a DNS header it would be opcode 10,
 * which is not assigned, with TC set.
 *
 * The server gets a query that asks the same, without what was left out: the OPT record (EDNS:
 * response size, DO, cookies, client subnet) and the bits AD and CD. So a client that validates
 * DNSSEC itself should not be matched, and a long answer comes truncated and is asked for again by
 * TCP. All else that cannot be restored goes plain, RD = 0 too: restored as RD = 1 it would ask
 * the server to do what the client did not want.
 */
#include <l45/module.h>

#define SIGNATURE L45_BE32(0x444e5343) /* "DNSC" */

/* RFC 1035, 2.3.4 */
#define LABEL_MAX	63
#define DOMAIN_NAME_MAX 255
#define LABELS_MAX	128 /* labels in the longest name, the root's empty one counted */

#define RECURSION_DESIRED 0x01 /* the first byte of flags: no response, opcode 0, no AA, no TC */
#define AD_AND_CD	  0x30 /* in the second byte */

#define TYPE_OPT L45_BE16(41)

struct dns_header {
	__u16 id;
	__u8 flags[2];
	__u16 questions;
	__u16 answers;
	__u16 authorities;
	__u16 additionals;
};

struct compressed {
	__u32 signature;
	__u16 id;
} __attribute__((packed));

#define SAVED (sizeof(struct dns_header) - sizeof(struct compressed))

struct question_tail {
	__u16 type;
	__u16 class;
};

struct opt_record { /* RFC 6891, 6.1.2 */
	__u8 name;
	__u16 type;
	__u16 response_size;
	__u8 extended_flags[4];
	__u16 data_size;
} __attribute__((packed));

/* Where the question at `offset` ends, or 0: it is not whole, or its name is compressed. */
static __u32 question_end(const struct l45_msg *msg, __u32 offset)
{
	__u32 end = offset;
	__u8 label = 1;

	for (int i = 0; i < LABELS_MAX && label; i++) {
		if (l45_load(msg, end, &label, sizeof(label)) || label > LABEL_MAX)
			return 0;
		end += sizeof(label) + label;
	}
	if (label || end - offset > DOMAIN_NAME_MAX)
		return 0;
	end += sizeof(struct question_tail);
	return end <= l45_len(msg) ? end : 0;
}

static int is_plain_query(const struct dns_header *header)
{
	return header->flags[0] == RECURSION_DESIRED && !(header->flags[1] & ~AD_AND_CD) &&
	       header->questions == L45_BE16(1) && !header->answers && !header->authorities;
}

/* Whether the message goes on at `offset` with nothing but `count` records, at most one OPT. */
static int is_rest_dropped(const struct l45_msg *msg, __u32 offset, __u16 count)
{
	__u32 left = l45_len(msg) - offset;
	struct opt_record opt;

	if (!count)
		return !left;
	if (count != L45_BE16(1) || l45_load(msg, offset, &opt, sizeof(opt)))
		return 0;
	return !opt.name && opt.type == TYPE_OPT && left == sizeof(opt) + L45_BE16(opt.data_size);
}

static enum l45_verdict send(struct l45_msg *msg)
{
	struct compressed compressed = { .signature = SIGNATURE };
	struct dns_header header;
	__u32 end, rest;

	if (l45_load(msg, 0, &header, sizeof(header)) || !is_plain_query(&header))
		return L45_NEXT;
	end = question_end(msg, sizeof(header));
	if (!end || !is_rest_dropped(msg, end, header.additionals))
		return L45_NEXT;
	compressed.id = header.id;
	rest = l45_len(msg) - end;
	if ((rest && l45_remove(msg, end, rest)) || l45_remove(msg, 0, SAVED) ||
	    l45_store(msg, 0, &compressed, sizeof(compressed)))
		return L45_ERROR;
	return L45_DONE;
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	struct dns_header header = {
		.flags = { RECURSION_DESIRED },
		.questions = L45_BE16(1),
	};
	struct compressed compressed;

	if (l45_load(msg, 0, &compressed, sizeof(compressed)) ||
	    compressed.signature != SIGNATURE ||
	    question_end(msg, sizeof(compressed)) != l45_len(msg))
		return L45_NEXT;
	header.id = compressed.id;
	if (l45_insert(msg, 0, SAVED) || l45_store(msg, 0, &header, sizeof(header)))
		return L45_ERROR;
	return L45_DONE;
}

L45_MODULE(dns_compress, send, recv)
