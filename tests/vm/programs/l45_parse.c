// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l45_parse.h"

void usage_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("l45-set: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(2);
}

unsigned long parse_number(const char *name, const char *text, unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (!isdigit((unsigned char)*text) || *end || errno || value > max)
		usage_error("%s=%s: a number up to %lu", name, text, max);
	return value;
}

size_t parse_hex(const char *name, const char *text, uint8_t *to, size_t max)
{
	size_t size = strlen(text) / 2;

	if (strlen(text) % 2 || size > max ||
	    strspn(text, "0123456789abcdefABCDEF") != strlen(text))
		usage_error("%s=%s: hexadecimal, at most %zu bytes", name, text, max);
	for (size_t i = 0; i < size; i++)
		sscanf(text + 2 * i, "%2hhx", &to[i]);
	return size;
}

void parse_exactly(const char *name, const char *text, uint8_t *to, size_t size)
{
	if (parse_hex(name, text, to, size) != size)
		usage_error("%s=%s: %zu bytes", name, text, size);
}

static void parse_text(const char *name, const char *text, char *to, size_t size)
{
	if (strlen(text) >= size)
		usage_error("%s=%s: at most %zu characters", name, text, size - 1);
	strcpy(to, text);
}

static uint32_t parse_flags(char *text)
{
	static const char *const names[] = { "send",	   "receive",  "inactive",
					     "deprecated", "draining", NULL };
	uint32_t flags = 0;

	for (char *name = strtok(text, ","); name; name = strtok(NULL, ",")) {
		unsigned int bit = 0;

		while (names[bit] && strcmp(names[bit], name))
			bit++;
		if (!names[bit] && strcmp(name, "none"))
			usage_error("flags: there is no %s", name);
		flags |= names[bit] ? 1u << bit : 0;
	}
	return flags;
}

static struct tap_ports parse_ports(const char *name, char *text)
{
	char *last = strchr(text, '-');
	struct tap_ports ports = { .given = true };

	if (last)
		*last++ = '\0';
	ports.first = parse_number(name, text, UINT16_MAX);
	ports.last = last ? parse_number(name, last, UINT16_MAX) : ports.first;
	return ports;
}

static struct tap_prefix parse_prefix(const char *name, char *text)
{
	struct tap_prefix prefix = { .given = true, .length = 128 };
	char *length = strchr(text, '/');
	struct in_addr v4;

	if (length)
		*length++ = '\0';
	if (inet_pton(AF_INET, text, &v4) == 1) {
		prefix.address.s6_addr16[5] = 0xffff;
		prefix.address.s6_addr32[3] = v4.s_addr;
		prefix.length = length ? 96 + parse_number(name, length, 32) : 128;
	} else if (inet_pton(AF_INET6, text, &prefix.address) == 1) {
		prefix.length = length ? parse_number(name, length, 128) : 128;
	} else {
		usage_error("%s=%s: an address", name, text);
	}
	return prefix;
}

static uint8_t parse_protocol(const char *text)
{
	if (!strcmp(text, "tcp"))
		return IPPROTO_TCP;
	if (!strcmp(text, "udp"))
		return IPPROTO_UDP;
	return parse_number("protocol", text, UINT8_MAX);
}

static bool parse_match(const char *name, char *value, struct tap_match *match)
{
	if (!strcmp(name, "protocol"))
		match->protocol = parse_protocol(value);
	else if (!strcmp(name, "thread"))
		parse_text(name, value, match->thread, sizeof(match->thread));
	else if (!strcmp(name, "process"))
		parse_text(name, value, match->process, sizeof(match->process));
	else if (!strcmp(name, "executable"))
		parse_text(name, value, match->executable, sizeof(match->executable));
	else if (!strcmp(name, "uid"))
		match->uid = parse_number(name, value, UINT32_MAX), match->by_uid = true;
	else if (!strcmp(name, "local"))
		match->local = parse_prefix(name, value);
	else if (!strcmp(name, "remote"))
		match->remote = parse_prefix(name, value);
	else if (!strcmp(name, "local_port"))
		match->local_ports = parse_ports(name, value);
	else if (!strcmp(name, "remote_port"))
		match->remote_ports = parse_ports(name, value);
	else
		return false;
	return true;
}

static void parse_setting(char *word, struct tap_customization *to)
{
	char *value = strchr(word, '='), *name = word;

	if (!value)
		usage_error("%s: NAME=VALUE", word);
	*value++ = '\0';
	if (!strcmp(name, "id"))
		parse_exactly(name, value, to->id, sizeof(to->id));
	else if (!strcmp(name, "code"))
		parse_text(name, value, to->code, sizeof(to->code));
	else if (!strcmp(name, "flags"))
		to->flags = parse_flags(value);
	else if (!strcmp(name, "priority"))
		to->priority = parse_number(name, value, UINT32_MAX);
	else if (!strcmp(name, "parameters"))
		to->parameters_size = parse_hex(name, value, to->parameters, TAP_PARAMETERS_MAX);
	else if (!strcmp(name, "epoch"))
		to->epoch = parse_number(name, value, UINT16_MAX);
	else if (!strcmp(name, "token"))
		parse_exactly(name, value, to->token, sizeof(to->token));
	else if (!strcmp(name, "key"))
		parse_exactly(name, value, to->key, sizeof(to->key));
	else if (!parse_match(name, value, &to->match))
		usage_error("%s: there is no such setting; l45-set --help", name);
}

int parse_customization(int count, char **words, unsigned int number,
			struct tap_customization *customization)
{
	int taken = 0;

	memset(customization, 0, sizeof(*customization));
	customization->id[TAP_ID_SIZE - 1] = number;
	customization->flags = L45_CUSTOMIZATION_SEND | L45_CUSTOMIZATION_RECEIVE;
	while (taken < count && strcmp(words[taken], "--"))
		parse_setting(words[taken++], customization);
	return taken + (taken < count);
}
