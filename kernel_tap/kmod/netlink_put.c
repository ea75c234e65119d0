// SPDX-License-Identifier: GPL-2.0
/*
 * Code, customizations and flows as attributes. Each is put whole, or an error is given and the
 * caller takes back what was put. Keys and tokens are never told.
 */
#include "netlink.h"
#include "registry.h"

static int put_counts(struct sk_buff *skb, int type, const struct l45_counts *counts)
{
	struct nlattr *nest = nla_nest_start(skb, type);

	if (!nest || nla_put_u64_64bit(skb, L45_N_SENT, counts->sent, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_RECEIVED, counts->received, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_PASSED, counts->passed, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_DROPPED, counts->dropped, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_ERRORS, counts->errors, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_TOO_BIG, counts->too_big, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_SENT_BYTES, counts->sent_bytes, L45_N_PAD) ||
	    nla_put_u64_64bit(skb, L45_N_RECEIVED_BYTES, counts->received_bytes, L45_N_PAD))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* ---- code ---- */

int l45_put_code(struct sk_buff *skb, const struct l45_code *code)
{
	const struct l45_module *module = code->module;
	struct nlattr *nest = nla_nest_start(skb, L45_A_CODE);

	if (!nest || nla_put_string(skb, L45_CODE_NAME, module_name(code->owner)) ||
	    nla_put_string(skb, L45_CODE_MODULE, module->name) ||
	    nla_put_u8(skb, L45_CODE_KIND, module->kind) ||
	    nla_put_u32(skb, L45_CODE_SIGNATURE, module->signature) ||
	    nla_put(skb, L45_CODE_BUILD_ID, code->build_id_size, code->build_id) ||
	    nla_put_u32(skb, L45_CODE_USERS, atomic_read(&code->users)))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* ---- customizations ---- */

static int put_names(struct sk_buff *skb, const struct l45_match *match)
{
	if ((match->thread[0] && nla_put_string(skb, L45_M_THREAD, match->thread)) ||
	    (match->process[0] && nla_put_string(skb, L45_M_PROCESS, match->process)) ||
	    (match->executable && nla_put_string(skb, L45_M_EXECUTABLE, match->executable)) ||
	    (match->by_uid && nla_put_u32(skb, L45_M_UID, match->uid)))
		return -EMSGSIZE;
	return 0;
}

static int put_match(struct sk_buff *skb, const struct l45_match *match)
{
	struct nlattr *nest = nla_nest_start(skb, L45_C_MATCH);

	if (!nest || nla_put_u8(skb, L45_M_PROTOCOL, match->protocol) || put_names(skb, match) ||
	    nla_put_in6_addr(skb, L45_M_LOCAL, &match->local) ||
	    nla_put_u8(skb, L45_M_LOCAL_PREFIX, match->local_prefix) ||
	    nla_put_in6_addr(skb, L45_M_REMOTE, &match->remote) ||
	    nla_put_u8(skb, L45_M_REMOTE_PREFIX, match->remote_prefix) ||
	    nla_put_u16(skb, L45_M_LOCAL_PORT, match->local_port) ||
	    nla_put_u16(skb, L45_M_LOCAL_PORT_LAST, match->local_port_last) ||
	    nla_put_u16(skb, L45_M_REMOTE_PORT, match->remote_port) ||
	    nla_put_u16(skb, L45_M_REMOTE_PORT_LAST, match->remote_port_last))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int put_instance(struct sk_buff *skb, const struct l45_instance *instance)
{
	if (nla_put_string(skb, L45_C_MODULE, instance->module->name) ||
	    nla_put(skb, L45_C_PARAMETERS, instance->parameters_size, instance->parameters) ||
	    nla_put_u16(skb, L45_C_EPOCH, instance->epoch))
		return -EMSGSIZE;
	return 0;
}

int l45_put_customization(struct sk_buff *skb, const struct l45_status *status)
{
	const struct l45_customization *customization = status->customization;
	struct nlattr *nest = nla_nest_start(skb, L45_A_CUSTOMIZATION);

	if (!nest || nla_put(skb, L45_C_ID, L45_ID_SIZE, customization->id) ||
	    nla_put_string(skb, L45_C_CODE, module_name(customization->code->owner)) ||
	    put_match(skb, &customization->match) ||
	    nla_put_u32(skb, L45_C_PRIORITY, status->priority) ||
	    nla_put_u32(skb, L45_C_FLAGS, status->flags) ||
	    put_instance(skb, &customization->instance) ||
	    nla_put_u32(skb, L45_C_FLOWS, atomic_read(&customization->flows)) ||
	    put_counts(skb, L45_C_COUNTERS, &status->counts))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* ---- flows: others work on them meanwhile ---- */

static int put_ends(struct sk_buff *skb, const struct l45_ends *ends)
{
	if (nla_put_u8(skb, L45_F_PROTOCOL, ends->protocol) ||
	    nla_put_in6_addr(skb, L45_F_LOCAL, &ends->local) ||
	    nla_put_in6_addr(skb, L45_F_REMOTE, &ends->remote) ||
	    nla_put_u16(skb, L45_F_LOCAL_PORT, READ_ONCE(ends->local_port)) ||
	    nla_put_u16(skb, L45_F_REMOTE_PORT, READ_ONCE(ends->remote_port)))
		return -EMSGSIZE;
	return 0;
}

static int put_owner(struct sk_buff *skb, const struct l45_owner *owner)
{
	if (nla_put_u32(skb, L45_F_PID, owner->pid) || nla_put_u32(skb, L45_F_TGID, owner->tgid) ||
	    nla_put_u32(skb, L45_F_UID, owner->uid) ||
	    nla_put_string(skb, L45_F_THREAD, owner->thread) ||
	    nla_put_string(skb, L45_F_PROCESS, owner->process) ||
	    (owner->executable && nla_put_string(skb, L45_F_EXECUTABLE, owner->executable)))
		return -EMSGSIZE;
	return 0;
}

static int put_times(struct sk_buff *skb, const struct l45_tap *tap)
{
	if (nla_put_u64_64bit(skb, L45_F_OPENED, tap->opened, L45_F_PAD) ||
	    nla_put_u64_64bit(skb, L45_F_SENT, READ_ONCE(tap->sent), L45_F_PAD) ||
	    nla_put_u64_64bit(skb, L45_F_RECEIVED, READ_ONCE(tap->received), L45_F_PAD))
		return -EMSGSIZE;
	return 0;
}

/* An instance that a flow lets go of meanwhile is there to the end of the grace period; that of a
 * flow that is closed may be gone, and it is not framed any more. */
static int put_in_use(struct sk_buff *skb, int type, bool framed,
		      const struct l45_instance *instance)
{
	if (!framed || !instance)
		return 0;
	return nla_put(skb, type, L45_ID_SIZE, l45_customization_of(instance)->id);
}

static int put_stream(struct sk_buff *skb, const struct l45_flow *flow)
{
	const struct l45_sender *tx = &flow->tx;
	const struct l45_receiver *rx = &flow->rx;
	u8 sending = READ_ONCE(tx->state), receiving = READ_ONCE(rx->state);

	if (nla_put_u8(skb, L45_F_TX_STATE, sending) ||
	    nla_put_u8(skb, L45_F_RX_STATE, receiving) ||
	    nla_put_u32(skb, L45_F_TX_CHANGES, READ_ONCE(tx->changes)) ||
	    nla_put_u32(skb, L45_F_RX_CHANGES, READ_ONCE(rx->changes)) ||
	    put_in_use(skb, L45_F_TX_ID, sending == L45_SEND_FRAMED, READ_ONCE(tx->in_use)) ||
	    put_in_use(skb, L45_F_RX_ID, receiving == L45_RECEIVE_FRAMED, READ_ONCE(rx->in_use)) ||
	    nla_put_u8(skb, L45_F_FAULT, READ_ONCE(rx->fault) ?: READ_ONCE(tx->fault)))
		return -EMSGSIZE;
	return 0;
}

static int put_attachment(struct sk_buff *skb, const struct l45_attachment *attachment)
{
	struct nlattr *nest = nla_nest_start(skb, L45_F_CUSTOMIZATION);

	if (!nest || nla_put(skb, L45_C_ID, L45_ID_SIZE, attachment->customization->id) ||
	    nla_put_u32(skb, L45_C_PRIORITY, attachment->priority) ||
	    nla_put_u32(skb, L45_C_FLAGS, attachment->flags) ||
	    put_counts(skb, L45_C_COUNTERS, &attachment->counts))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int put_attached(struct sk_buff *skb, struct l45_tap *tap, struct l45_attachment *room)
{
	struct nlattr *nest = nla_nest_start(skb, L45_F_ATTACHED);
	u32 count = l45_read_attachments(tap, room);

	if (!nest)
		return -EMSGSIZE;
	for (u32 i = 0; i < count; i++)
		if (put_attachment(skb, &room[i]))
			return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

int l45_put_flow(struct sk_buff *skb, struct l45_tap *tap, struct l45_attachment *room)
{
	struct nlattr *nest = nla_nest_start(skb, L45_A_FLOW);

	if (!nest || nla_put_u64_64bit(skb, L45_F_NUMBER, tap->number, L45_F_PAD) ||
	    put_ends(skb, &tap->ends) || put_owner(skb, &tap->owner) || put_times(skb, tap))
		return -EMSGSIZE;
	if (tap->ends.protocol == IPPROTO_TCP &&
	    put_stream(skb, &container_of(tap, struct l45_tcp, tap)->flow))
		return -EMSGSIZE;
	if (put_attached(skb, tap, room))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}
