// SPDX-License-Identifier: GPL-2.0
/* Customizations as an agent sends them: what attributes may be, and what they say together. */
#include "netlink.h"
#include "registry.h"

#define FLAGS                                                                              \
	(L45_CUSTOMIZATION_SEND | L45_CUSTOMIZATION_RECEIVE | L45_CUSTOMIZATION_INACTIVE | \
	 L45_CUSTOMIZATION_DEPRECATED)
#define PORT_MAX 65535

/* Not const: policies of Linux 6.1 point to them so. */
static struct netlink_range_validation priorities = { .max = 65535 };
static struct netlink_range_validation drain_times = { .max = L45_DRAIN_MS_MAX };

static const struct nla_policy match_policy[L45_M_COUNT] = {
	[L45_M_PROTOCOL] = { .type = NLA_U8 },
	[L45_M_THREAD] = { .type = NLA_STRING, .len = TASK_COMM_LEN - 1 },
	[L45_M_PROCESS] = { .type = NLA_STRING, .len = TASK_COMM_LEN - 1 },
	[L45_M_EXECUTABLE] = { .type = NLA_STRING, .len = L45_EXECUTABLE_MAX },
	[L45_M_UID] = { .type = NLA_U32 },
	[L45_M_LOCAL] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[L45_M_LOCAL_PREFIX] = NLA_POLICY_MAX(NLA_U8, 128),
	[L45_M_REMOTE] = NLA_POLICY_EXACT_LEN(sizeof(struct in6_addr)),
	[L45_M_REMOTE_PREFIX] = NLA_POLICY_MAX(NLA_U8, 128),
	[L45_M_LOCAL_PORT] = { .type = NLA_U16 },
	[L45_M_LOCAL_PORT_LAST] = { .type = NLA_U16 },
	[L45_M_REMOTE_PORT] = { .type = NLA_U16 },
	[L45_M_REMOTE_PORT_LAST] = { .type = NLA_U16 },
};

static const struct nla_policy customization_policy[L45_C_COUNT] = {
	[L45_C_ID] = NLA_POLICY_EXACT_LEN(L45_ID_SIZE),
	[L45_C_CODE] = { .type = NLA_STRING, .len = L45_CODE_NAME_SIZE - 1 },
	[L45_C_MATCH] = NLA_POLICY_NESTED(match_policy),
	[L45_C_PRIORITY] = NLA_POLICY_FULL_RANGE(NLA_U32, &priorities),
	[L45_C_FLAGS] = NLA_POLICY_MASK(NLA_U32, FLAGS),
	[L45_C_PARAMETERS] = { .type = NLA_BINARY, .len = L45_PARAMETERS_MAX },
	[L45_C_EPOCH] = { .type = NLA_U16 },
	[L45_C_TOKEN] = NLA_POLICY_EXACT_LEN(L45_TOKEN),
	[L45_C_KEY] = NLA_POLICY_EXACT_LEN(L45_KEY_SIZE),
};

static const struct nla_policy set_policy[L45_A_COUNT] = {
	[L45_A_CUSTOMIZATION] = NLA_POLICY_NESTED(customization_policy),
};

const struct nla_policy l45_apply_policy[L45_A_COUNT] = {
	[L45_A_SET] = NLA_POLICY_NESTED(set_policy),
	[L45_A_DRAIN_MS] = NLA_POLICY_FULL_RANGE(NLA_U32, &drain_times),
};

const struct nla_policy l45_challenge_policy[L45_A_COUNT] = {
	[L45_A_ID] = NLA_POLICY_EXACT_LEN(L45_ID_SIZE),
	[L45_A_NONCE] = NLA_POLICY_RANGE(NLA_BINARY, L45_NONCE_MIN, L45_NONCE_MAX),
};

/* Padded with NUL; as it was where the attribute is not there. */
static int take_text(struct nlattr *attr, char *to, size_t size, struct netlink_ext_ack *extack)
{
	ssize_t length;

	if (!attr)
		return 0;
	length = nla_strscpy(to, attr, size);
	if (length > 0 && strlen(to) == length)
		return 0;
	NL_SET_ERR_MSG_ATTR(extack, attr, "a name is empty, or has a NUL in it");
	return -EINVAL;
}

static int take_executable(struct nlattr *attr, struct l45_match *match,
			   struct netlink_ext_ack *extack)
{
	if (!attr)
		return 0;
	match->executable = kzalloc(L45_EXECUTABLE_MAX + 1, GFP_KERNEL_ACCOUNT);
	if (!match->executable)
		return -ENOMEM;
	if (take_text(attr, match->executable, L45_EXECUTABLE_MAX + 1, extack))
		return -EINVAL;
	if (match->executable[0] == '/')
		return 0;
	NL_SET_ERR_MSG_ATTR(extack, attr, "an executable is named by its absolute path");
	return -EINVAL;
}

static int take_address(struct nlattr *address, struct nlattr *prefix, struct in6_addr *to,
			u8 *to_prefix, struct netlink_ext_ack *extack)
{
	if (!address && prefix) {
		NL_SET_ERR_MSG_ATTR(extack, prefix, "a prefix without its address");
		return -EINVAL;
	}
	if (!address)
		return 0;
	*to = nla_get_in6_addr(address);
	*to_prefix = prefix ? nla_get_u8(prefix) : 128;
	return 0;
}

static int take_ports(struct nlattr *first, struct nlattr *last, u16 *to, u16 *to_last,
		      struct netlink_ext_ack *extack)
{
	*to = first ? nla_get_u16(first) : 0;
	*to_last = last ? nla_get_u16(last) : *to ?: PORT_MAX;
	if ((first || !last) && *to <= *to_last)
		return 0;
	NL_SET_ERR_MSG_ATTR(extack, last,
			    "the last port of a range needs its first, which is not above it");
	return -EINVAL;
}

static int take_ends(struct nlattr **tb, struct l45_match *match, struct netlink_ext_ack *extack)
{
	return take_address(tb[L45_M_LOCAL], tb[L45_M_LOCAL_PREFIX], &match->local,
			    &match->local_prefix, extack) ?:
	       take_address(tb[L45_M_REMOTE], tb[L45_M_REMOTE_PREFIX], &match->remote,
			    &match->remote_prefix, extack) ?:
	       take_ports(tb[L45_M_LOCAL_PORT], tb[L45_M_LOCAL_PORT_LAST], &match->local_port,
			  &match->local_port_last, extack) ?:
	       take_ports(tb[L45_M_REMOTE_PORT], tb[L45_M_REMOTE_PORT_LAST], &match->remote_port,
			  &match->remote_port_last, extack);
}

static int take_match(struct nlattr *attr, struct l45_match *match, struct netlink_ext_ack *extack)
{
	struct nlattr *tb[L45_M_COUNT];
	int err = nla_parse_nested(tb, L45_M_COUNT - 1, attr, match_policy, extack);

	if (err)
		return err;
	if (tb[L45_M_PROTOCOL])
		match->protocol = nla_get_u8(tb[L45_M_PROTOCOL]);
	if (match->protocol != IPPROTO_TCP && match->protocol != IPPROTO_UDP) {
		NL_SET_ERR_MSG_ATTR(extack, attr, "a match needs a protocol: 6 (TCP) or 17 (UDP)");
		return -EINVAL;
	}
	match->by_uid = tb[L45_M_UID];
	match->uid = match->by_uid ? nla_get_u32(tb[L45_M_UID]) : 0;
	return take_text(tb[L45_M_THREAD], match->thread, sizeof(match->thread), extack) ?:
	       take_text(tb[L45_M_PROCESS], match->process, sizeof(match->process), extack) ?:
	       take_executable(tb[L45_M_EXECUTABLE], match, extack) ?:
	       take_ends(tb, match, extack);
}

static int take_code(struct nlattr *attr, struct l45_customization *customization,
		     struct netlink_ext_ack *extack)
{
	char name[L45_CODE_NAME_SIZE];

	if (take_text(attr, name, sizeof(name), extack))
		return -EINVAL;
	customization->code = l45_code_get(name);
	if (!customization->code) {
		NL_SET_ERR_MSG_ATTR(
			extack, attr,
			"no kernel module of this name has registered with l45: load it first");
		return -ENOENT;
	}
	customization->instance.module = customization->code->module;
	return 0;
}

static int take_instance(struct nlattr **tb, struct l45_customization *customization,
			 struct netlink_ext_ack *extack)
{
	struct l45_instance *instance = &customization->instance;

	if (tb[L45_C_PARAMETERS])
		instance->parameters_size = nla_memcpy(instance->parameters, tb[L45_C_PARAMETERS],
						       sizeof(instance->parameters));
	if (tb[L45_C_EPOCH])
		instance->epoch = nla_get_u16(tb[L45_C_EPOCH]);
	if (tb[L45_C_TOKEN]) {
		nla_memcpy(instance->token, tb[L45_C_TOKEN], L45_TOKEN);
	} else if (l45_has_wire_form(instance->module)) {
		NL_SET_ERR_MSG_ATTR(extack, tb[L45_C_CODE],
				    "a customization of streams needs a token");
		return -EINVAL;
	}
	customization->has_key = tb[L45_C_KEY];
	if (customization->has_key)
		nla_memcpy(customization->key, tb[L45_C_KEY], L45_KEY_SIZE);
	return 0;
}

static int check_protocol(const struct l45_customization *customization, struct nlattr *attr,
			  struct netlink_ext_ack *extack)
{
	bool datagrams = customization->instance.module->kind == L45_DATAGRAM;

	if (customization->match.protocol == (datagrams ? IPPROTO_UDP : IPPROTO_TCP))
		return 0;
	if (datagrams)
		NL_SET_ERR_MSG_ATTR(
			extack, attr,
			"this module customizes datagrams: its match needs protocol 17 (UDP)");
	else
		NL_SET_ERR_MSG_ATTR(
			extack, attr,
			"this module customizes streams: its match needs protocol 6 (TCP)");
	return -EINVAL;
}

static int take_all(struct nlattr **tb, struct l45_customization *customization,
		    struct netlink_ext_ack *extack)
{
	nla_memcpy(customization->id, tb[L45_C_ID], L45_ID_SIZE);
	return take_code(tb[L45_C_CODE], customization, extack) ?:
	       take_match(tb[L45_C_MATCH], &customization->match, extack) ?:
	       check_protocol(customization, tb[L45_C_MATCH], extack) ?:
	       take_instance(tb, customization, extack);
}

int l45_parse_customization(struct l45_net *net, struct nlattr *attr, struct l45_entry *entry,
			    struct netlink_ext_ack *extack)
{
	struct l45_customization *customization;
	struct nlattr *tb[L45_C_COUNT];
	int err = nla_parse_nested(tb, L45_C_COUNT - 1, attr, customization_policy, extack);

	if (err)
		return err;
	if (!tb[L45_C_ID] || !tb[L45_C_CODE] || !tb[L45_C_MATCH] || !tb[L45_C_PRIORITY] ||
	    !tb[L45_C_FLAGS]) {
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "a customization needs id, code, match, priority and flags");
		return -EINVAL;
	}
	customization = kzalloc(sizeof(*customization), GFP_KERNEL_ACCOUNT);
	if (!customization)
		return -ENOMEM;
	kref_init(&customization->refs);
	customization->net = net;
	err = take_all(tb, customization, extack);
	if (err) {
		l45_customization_put(customization);
		return err;
	}
	entry->customization = customization;
	entry->priority = nla_get_u32(tb[L45_C_PRIORITY]);
	entry->flags = nla_get_u32(tb[L45_C_FLAGS]);
	return 0;
}
