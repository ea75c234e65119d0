// SPDX-License-Identifier: GPL-2.0
/* Writes what each call of the SDK gives over the message: application sends 64 bytes, and reads
 * on the wire what the module saw. */
#include <l45/module.h>

struct seen {
	__u64 parameter64;
	__u32 parameter32;
	__u16 parameter16;
	__u8 parameter8;
	__u8 beyond; /* a parameter that the customization was not given */
	__u32 length;
	__u8 faults; /* a bit for each call that did not refuse what it must refuse */
	char name[L45_NAME_SIZE];
} __attribute__((packed));

static __u8 faults(struct l45_msg *msg)
{
	__u32 length = l45_len(msg);
	__u8 bytes[8] = {};

	return (!l45_load(msg, length - 7, bytes, 8) ? 1 : 0) |
	       (!l45_load(msg, 0xfffffffc, bytes, 8) ? 2 : 0) |
	       (!l45_store(msg, length, bytes, 1) ? 4 : 0) |
	       (!l45_insert(msg, length + 1, 1) ? 8 : 0) |
	       (!l45_insert(msg, 0, 0xffffffff) ? 16 : 0) | (!l45_remove(msg, 1, length) ? 32 : 0) |
	       (!l45_remove(msg, 0xffffffff, 2) ? 64 : 0) |
	       (l45_load(msg, length - 8, bytes, 8) ? 128 : 0);
}

static enum l45_verdict send(struct l45_msg *msg)
{
	struct seen seen = {
		.parameter64 = l45_param_u64(msg, 0),
		.parameter32 = l45_param_u32(msg, 8),
		.parameter16 = l45_param_u16(msg, 12),
		.parameter8 = l45_param_u8(msg, 14),
		.beyond = l45_param_u8(msg, 15),
		.length = l45_len(msg),
		.faults = faults(msg),
	};

	if (l45_process_name(msg, seen.name) || !l45_time_ns())
		return L45_ERROR;
	return l45_store(msg, 0, &seen, sizeof(seen)) ? L45_ERROR : L45_DONE;
}

static enum l45_verdict recv(struct l45_msg *msg)
{
	(void)msg;
	return L45_NEXT;
}

L45_MODULE(probe, send, recv)
