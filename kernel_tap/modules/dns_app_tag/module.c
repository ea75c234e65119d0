// SPDX-License-Identifier: GPL-2.0
/*
 * dns_app_tag: each DNS query carries, before its header, a flag and the name of the process
 * that sent it.
 *
 * No query of an honest resolver begins with the flag: as a DNS header it would be opcode 8.
 */
#include <l45/module.h>

#define FLAG L45_BE32(0x58544147) /* "XTAG" */

#define DNS_HEADER_SIZE	 12
#define DNS_FLAGS_OFFSET 2
#define DNS_RESPONSE	 0x80

struct app_tag {
	__u32 flag;
	char app_id[L45_NAME_SIZE];
};

static enum l45_verdict send(struct l45_msg *msg)
{
	struct app_tag tag = { .flag = FLAG };
	__u8 flags;

	if (l45_len(msg) < DNS_HEADER_SIZE ||
	    l45_load(msg, DNS_FLAGS_OFFSET, &flags, sizeof(flags)))
		return L45_NEXT;
	if (flags & DNS_RESPONSE)
		return L45_NEXT;
	if (l45_process_name(msg, tag.app_id) || l45_insert(msg, 0, sizeof(tag)))
		return L45_ERROR;
	if (l45_store(msg, 0, &tag, sizeof(tag)))
		return L45_ERROR;
	return L45_DONE;
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	__u32 flag;

	if (l45_len(msg) < sizeof(struct app_tag) || l45_load(msg, 0, &flag, sizeof(flag)))
		return L45_NEXT;
	if (flag != FLAG)
		return L45_NEXT;
	if (l45_remove(msg, 0, sizeof(struct app_tag)))
		return L45_ERROR;
	return L45_DONE;
}

L45_MODULE(dns_app_tag, send, recv)
