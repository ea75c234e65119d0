// SPDX-License-Identifier: GPL-2.0
/* l45-peer: customizations of the command line. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "text.h"

#define DEFAULT_EPOCH	 1
#define DEFAULT_PRIORITY 10

bool to_switches(const char *text, __u8 *switches)
{
	static const char *const names[] = {
		[0] = "off",
		[L45_MAY_SEND] = "send",
		[L45_MAY_RECEIVE] = "receive",
		[L45_MAY_SEND | L45_MAY_RECEIVE] = "both",
	};

	for (__u32 i = 0; i < 4; i++) {
		if (!strcmp(text, names[i])) {
			*switches = i;
			return true;
		}
	}
	return false;
}

/* A name without a slash is that of a module beside this program. */
static void find_module(const char *name, char path[PATH_MAX])
{
	ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *folder_end;

	if (strchr(name, '/') || size < 0) {
		snprintf(path, PATH_MAX, "%s", name);
		return;
	}
	path[size] = 0;
	folder_end = strrchr(path, '/') + 1;
	snprintf(folder_end, path + PATH_MAX - folder_end, "%s.so", name);
}

static const struct l45_module *load(const char *name)
{
	const struct l45_module *module;
	char path[PATH_MAX];
	void *library;

	find_module(name, path);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		fail("--module %s: %s", name, dlerror());
	module = dlsym(library, "l45_module");
	if (!module)
		fail("--module %s: %s has no l45_module: it is no module", name, path);
	if (module->kind == L45_DATAGRAM)
		fail("--module %s: it is for datagrams, not for streams", name);
	return module;
}

static bool parse_value(struct customization *to, const char *key, const char *value)
{
	struct l45_instance *instance = &to->instance;
	__u64 number;
	long size;

	if (!strcmp(key, "token"))
		return from_hex(value, instance->token, L45_TOKEN) == L45_TOKEN;
	if (!strcmp(key, "epoch") && to_number(value, UINT16_MAX, &number)) {
		instance->epoch = number;
		return true;
	}
	if (!strcmp(key, "priority") && to_number(value, UINT32_MAX, &number)) {
		to->priority = number;
		return true;
	}
	if (strcmp(key, "parameters"))
		return false;
	size = from_hex(value, instance->parameters, sizeof(instance->parameters));
	instance->parameters_size = size;
	return size >= 0;
}

static void parse_part(struct customization *to, char *part)
{
	char *value = part, *key = strsep(&value, "=");

	if (value ? !parse_value(to, key, value) : !to_switches(part, &to->switches))
		fail("--module: %s%s%s: want epoch=0..65535, token=16 hexadecimal digits, "
		     "priority=NUMBER, parameters=HEXADECIMAL of at most 64 bytes, or one of off, "
		     "send, receive, both",
		     key, value ? "=" : "", value ? value : "");
}

static void refuse(const char *name, int error)
{
	if (error == -EEXIST)
		fail("--module %s: another has the same module and epoch: give it an epoch=", name);
	fail("--module %s: a connection has at most %d", name, L45_ATTACHED_MAX);
}

void add_module(struct options *options, char *text)
{
	struct customization *added = &options->customizations[options->count];
	const char *name = strsep(&text, ",");
	struct l45_flow trial;
	int error;

	if (options->count == L45_ATTACHED_MAX)
		refuse(name, -ENOSPC);
	added->instance.epoch = DEFAULT_EPOCH;
	added->priority = DEFAULT_PRIORITY;
	added->switches = L45_MAY_SEND | L45_MAY_RECEIVE;
	added->instance.module = load(name);
	while (text)
		parse_part(added, strsep(&text, ","));
	l45_flow_open(&trial, L45_CONNECT, options->process);
	attach_modules(options, &trial);
	error = l45_flow_attach(&trial, &added->instance, added->priority, added->switches);
	if (error)
		refuse(name, error);
	options->count++;
}

/* What can go wrong has gone wrong in add_module. */
void attach_modules(const struct options *options, struct l45_flow *flow)
{
	for (__u32 i = 0; i < options->count; i++) {
		const struct customization *c = &options->customizations[i];

		l45_flow_attach(flow, &c->instance, c->priority, c->switches);
	}
}
