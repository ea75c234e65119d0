// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "netlink.h"

#define REPLY_SIZE     65536
#define ANSWER_SECONDS 20

int nl_open(void)
{
	const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	const int one = 1;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience))) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

void nl_begin(struct nl_request *request, uint16_t family, uint16_t flags, uint8_t command,
	      uint8_t version)
{
	struct genlmsghdr *generic = (struct genlmsghdr *)(request->bytes + NLMSG_HDRLEN);

	memset(request, 0, NLMSG_HDRLEN + GENL_HDRLEN);
	request->header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
	request->header.nlmsg_type = family;
	request->header.nlmsg_flags = NLM_F_REQUEST | flags;
	generic->cmd = command;
	generic->version = version;
}

void nl_put(struct nl_request *request, uint16_t type, const void *data, size_t size)
{
	struct nlattr *attribute = (void *)(request->bytes + request->header.nlmsg_len);
	size_t whole = NLA_HDRLEN + size;

	if (request->header.nlmsg_len + NLA_ALIGN(whole) > sizeof(request->bytes)) {
		fprintf(stderr, "netlink: a request of more than %d bytes\n", NL_REQUEST_MAX);
		abort();
	}
	memset(attribute, 0, NLA_ALIGN(whole));
	attribute->nla_len = whole;
	attribute->nla_type = type;
	if (size)
		memcpy((char *)attribute + NLA_HDRLEN, data, size);
	request->header.nlmsg_len += NLA_ALIGN(whole);
}

void nl_put_u8(struct nl_request *request, uint16_t type, uint8_t value)
{
	nl_put(request, type, &value, sizeof(value));
}

void nl_put_u16(struct nl_request *request, uint16_t type, uint16_t value)
{
	nl_put(request, type, &value, sizeof(value));
}

void nl_put_u32(struct nl_request *request, uint16_t type, uint32_t value)
{
	nl_put(request, type, &value, sizeof(value));
}

void nl_put_string(struct nl_request *request, uint16_t type, const char *text)
{
	nl_put(request, type, text, strlen(text) + 1);
}

size_t nl_nest(struct nl_request *request, uint16_t type)
{
	size_t nest = request->header.nlmsg_len;

	nl_put(request, type | NLA_F_NESTED, NULL, 0);
	return nest;
}

void nl_nest_end(struct nl_request *request, size_t nest)
{
	struct nlattr *attribute = (void *)(request->bytes + nest);

	attribute->nla_len = request->header.nlmsg_len - nest;
}

bool nl_next(struct nl_row *row, struct nl_attribute *attribute)
{
	struct nlattr head;
	size_t whole;

	if (row->left < NLA_HDRLEN)
		return false;
	memcpy(&head, row->at, sizeof(head));
	if (head.nla_len < NLA_HDRLEN || head.nla_len > row->left)
		return false;
	attribute->type = head.nla_type & NLA_TYPE_MASK;
	attribute->size = head.nla_len - NLA_HDRLEN;
	attribute->data = row->at + NLA_HDRLEN;
	whole = (size_t)NLA_ALIGN(head.nla_len);
	if (whole > row->left)
		whole = row->left;
	row->at += whole;
	row->left -= whole;
	return true;
}

bool nl_find(struct nl_row row, uint16_t type, struct nl_attribute *attribute)
{
	while (nl_next(&row, attribute))
		if (attribute->type == type)
			return true;
	return false;
}

uint64_t nl_number(const struct nl_attribute *attribute)
{
	uint64_t value = 0; /* x86-64, as the guests */

	memcpy(&value, attribute->data,
	       attribute->size < sizeof(value) ? attribute->size : sizeof(value));
	return value;
}

struct nl_row nl_inside(const struct nl_attribute *attribute)
{
	return (struct nl_row){ attribute->data, attribute->size };
}

/* The text behind an acknowledgement, which repeats the request unless it is capped. */
static void read_reason(const struct nlmsghdr *message, char reason[NL_REASON_SIZE])
{
	const struct nlmsgerr *error = NLMSG_DATA(message);
	size_t skip = NLMSG_HDRLEN + sizeof(*error);
	struct nl_attribute text;
	struct nl_row row;

	if (message->nlmsg_type == NLMSG_DONE)
		skip = NLMSG_HDRLEN + sizeof(int);
	else if (!(message->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(error->msg.nlmsg_len) - NLMSG_HDRLEN;
	if (!(message->nlmsg_flags & NLM_F_ACK_TLVS) || skip > message->nlmsg_len)
		return;
	row = (struct nl_row){ (const unsigned char *)message + skip, message->nlmsg_len - skip };
	if (nl_find(row, NLMSGERR_ATTR_MSG, &text))
		snprintf(reason, NL_REASON_SIZE, "%.*s", text.size, (const char *)text.data);
}

/* Act on a message: 1 where there is more to come, else 0 or a negative errno. */
static int take(struct nlmsghdr *message, nl_each each, void *context, char *reason)
{
	struct genlmsghdr *generic = NLMSG_DATA(message);
	struct nl_row row = { (unsigned char *)generic + GENL_HDRLEN };
	int error;

	if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_type == NLMSG_DONE) {
		memcpy(&error, NLMSG_DATA(message), sizeof(error));
		read_reason(message, reason);
		return error;
	}
	if (message->nlmsg_len < NLMSG_HDRLEN + GENL_HDRLEN)
		return -EBADMSG;
	row.left = message->nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN;
	error = each ? each(context, generic->cmd, row) : 0;
	return error ? error : 1;
}

/* Read a datagram and act on what is in it; `sequence` of 0 takes all. */
static int take_datagram(int fd, uint32_t sequence, nl_each each, void *context, char *reason)
{
	static __thread _Alignas(struct nlmsghdr) char bytes[REPLY_SIZE];
	struct nlmsghdr *message = (struct nlmsghdr *)bytes;
	ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
	unsigned int left = got > 0 ? got : 0;
	int result = 1;

	if (got < 0)
		return -errno;
	for (; result == 1 && NLMSG_OK(message, left); message = NLMSG_NEXT(message, left))
		if (!sequence || message->nlmsg_seq == sequence)
			result = take(message, each, context, reason);
	return result;
}

int nl_talk(int fd, struct nl_request *request, nl_each each, void *context,
	    char reason[NL_REASON_SIZE])
{
	static __thread uint32_t sequence;
	int result = 1;

	reason[0] = '\0';
	request->header.nlmsg_seq = ++sequence;
	if (!(request->header.nlmsg_flags & NLM_F_DUMP))
		request->header.nlmsg_flags |= NLM_F_ACK;
	if (send(fd, request->bytes, request->header.nlmsg_len, 0) < 0)
		return -errno;
	while (result == 1)
		result = take_datagram(fd, sequence, each, context, reason);
	return result;
}

int nl_events(int fd, nl_each each, void *context)
{
	char reason[NL_REASON_SIZE];
	int result = take_datagram(fd, 0, each, context, reason);

	return result == 1 ? 0 : result;
}
