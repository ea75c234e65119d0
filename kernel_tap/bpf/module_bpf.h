/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module SDK in eBPF: a module becomes two tc programs that the tap reaches by tail call.
 *
 * The payload moves, the UDP header stays where it is: a packet may be waiting for its checksum
 * (CHECKSUM_PARTIAL), whose place the kernel keeps. Lengths and checksums are the tap's work, once,
 * after the module's answer (tap.bpf.c).
 */
#ifndef L45_MODULE_BPF_H
#define L45_MODULE_BPF_H

#include <asm-generic/errno-base.h>
#include <asm-generic/errno.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include <l45/abi.h>
#include "maps.h"
#include "payload.h"

#define L45_PIECE_MAX 64 /* of l45_load and l45_store */

_Static_assert(L45_NAME_SIZE == L45_COMM, "names as the kernel keeps them");

struct l45_msg {
	struct __sk_buff *skb;
	struct l45_walk *walk;
	const struct l45_customization *customization;
};

static inline int l45_within(__u32 length, __u32 offset, __u32 size)
{
	return offset <= length && size <= length - offset;
}

/* Must come before the first change: the checksum is corrected by the difference. */
static inline void l45_remember(struct l45_msg *msg)
{
	struct l45_walk *walk = msg->walk;

	if (!walk->changed)
		walk->sum_before = l45_sum(msg->skb, walk->payload, walk->length);
}

L45_CALL __u32 l45_len(const struct l45_msg *msg)
{
	return msg->walk->length;
}

L45_CALL int l45_load(const struct l45_msg *msg, __u32 offset, void *to, __u32 size)
{
	if (!size || size > L45_PIECE_MAX || !l45_within(msg->walk->length, offset, size))
		return -EINVAL;
	return bpf_skb_load_bytes(msg->skb, msg->walk->payload + offset, to, size);
}

L45_CALL int l45_store(struct l45_msg *msg, __u32 offset, const void *from, __u32 size)
{
	if (!size || size > L45_PIECE_MAX || !l45_within(msg->walk->length, offset, size))
		return -EINVAL;
	l45_remember(msg);
	msg->walk->changed = 1;
	return bpf_skb_store_bytes(msg->skb, msg->walk->payload + offset, from, size, 0);
}

static inline int l45_fits(struct l45_msg *msg, __u32 growth)
{
	__u32 mtu = 0; /* 0: measure the packet as it is */

	if (growth > 0xffff || msg->walk->payload + msg->walk->length + growth > 0xffff)
		return 0; /* no packet is that long */
	return msg->walk->direction != L45_PLACE_SEND ||
	       bpf_check_mtu(msg->skb, 0, &mtu, growth, 0) == BPF_MTU_CHK_RET_SUCCESS;
}

L45_CALL int l45_insert(struct l45_msg *msg, __u32 offset, __u32 size)
{
	struct l45_walk *walk = msg->walk;
	__u32 at = walk->payload + offset, rest = walk->length - offset;

	if (!size || offset > walk->length)
		return -EINVAL;
	if (!l45_fits(msg, size)) {
		walk->too_big = 1;
		return -EMSGSIZE;
	}
	l45_remember(msg);
	if (bpf_skb_change_tail(msg->skb, walk->payload + walk->length + size, 0))
		return -ENOMEM;
	walk->changed = 1;
	walk->length += size;
	if (l45_move(msg->skb, at, at + size, rest))
		return -EFAULT;
	return l45_clear(msg->skb, at, size);
}

L45_CALL int l45_remove(struct l45_msg *msg, __u32 offset, __u32 size)
{
	struct l45_walk *walk = msg->walk;
	__u32 at = walk->payload + offset, length = walk->length - size;

	if (!size || !l45_within(walk->length, offset, size))
		return -EINVAL;
	l45_remember(msg);
	walk->changed = 1;
	if (l45_move(msg->skb, at + size, at, length - offset))
		return -EFAULT;
	if (bpf_skb_change_tail(msg->skb, walk->payload + length, 0))
		return -ENOMEM;
	walk->length = length;
	return 0;
}

L45_CALL int l45_process_name(const struct l45_msg *msg, char name[L45_NAME_SIZE])
{
	if (!msg->walk->process[0])
		return -ENOENT;
	__builtin_memcpy(name, msg->walk->process, L45_NAME_SIZE);
	return 0;
}

/* Byte by byte: no alignment is promised, and the verifier sees each bound. */
static inline __u64 l45_param(const struct l45_msg *msg, __u32 offset, __u32 size)
{
	const struct l45_customization *customization = msg->customization;
	__u64 value = 0;

	if (!l45_within(customization->parameters_size, offset, size))
		return 0;
	for (__u32 i = 0; i < size; i++)
		if (offset + i < L45_PARAMETERS)
			value |= (__u64)customization->parameters[offset + i] << (8 * i);
	return value;
}

L45_CALL __u8 l45_param_u8(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, 1);
}

L45_CALL __u16 l45_param_u16(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, 2);
}

L45_CALL __u32 l45_param_u32(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, 4);
}

L45_CALL __u64 l45_param_u64(const struct l45_msg *msg, __u32 offset)
{
	return l45_param(msg, offset, 8);
}

L45_CALL __u64 l45_time_ns(void)
{
	return bpf_ktime_get_ns();
}

/* Run a callback on the message that the tap left in the context, and hand its answer back. */
static __always_inline int l45_run(struct __sk_buff *skb, l45_callback callback)
{
	struct l45_msg msg = { .skb = skb, .walk = l45_context_of_cpu() };

	if (!msg.walk)
		return TC_ACT_SHOT;
	msg.customization = bpf_map_lookup_elem(&l45_customizations, &msg.walk->index);
	if (!msg.customization)
		return TC_ACT_SHOT;
	msg.walk->verdict = callback(&msg);
	bpf_tail_call(skb, &l45_dispatch, L45_PLACE_ANSWER);
	return TC_ACT_SHOT; /* no tap behind us: nobody would correct lengths and checksums */
}

#define L45_MODULE(module_name, send_callback, recv_callback)                      \
	_Static_assert(sizeof(#module_name) <= 32, "a module's name is too long"); \
	SEC("tc") int l45_send(struct __sk_buff *skb)                              \
	{                                                                          \
		return l45_run(skb, send_callback);                                \
	}                                                                          \
	SEC("tc") int l45_recv(struct __sk_buff *skb)                              \
	{                                                                          \
		return l45_run(skb, recv_callback);                                \
	}                                                                          \
	char l45_license[] SEC("license") = "GPL";

#endif
