// SPDX-License-Identifier: GPL-2.0
/* l45-peer: commands, which change the customizations of a connection while it runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peer.h"
#include "text.h"

#define NS_IN_MS 1000000ull
#define MS_MAX	 86400000 /* a day */

static const char *const usages[] = {
	[VERB_SET] = "set MODULE off|send|receive|both [PRIORITY]",
	[VERB_ARM] = "arm TOKEN MILLISECONDS",
	[VERB_GO] = "go",
	[VERB_DISARM] = "disarm",
	[VERB_DRAIN] = "drain MILLISECONDS",
};

static bool parse_duration(const char *text, __u64 *duration)
{
	if (!text || !to_number(text, MS_MAX, duration))
		return false;
	*duration *= NS_IN_MS;
	return true;
}

static bool parse_set(__u32 customizations, struct command *command)
{
	const char *which = strtok(NULL, " "), *switches = strtok(NULL, " ");
	const char *priority = strtok(NULL, " ");
	__u64 number;

	if (!switches || !to_number(which, customizations, &number) || !number ||
	    !to_switches(switches, &command->switches))
		return false;
	command->which = number - 1;
	command->keep = !priority;
	if (priority && !to_number(priority, UINT32_MAX, &number))
		return false;
	command->priority = number;
	return true;
}

static bool parse_rest(__u32 customizations, struct command *command)
{
	const char *token;

	switch (command->verb) {
	case VERB_SET:
		return parse_set(customizations, command);
	case VERB_ARM:
		token = strtok(NULL, " ");
		return token && from_hex(token, command->token, L45_TOKEN) == L45_TOKEN &&
		       parse_duration(strtok(NULL, " "), &command->duration);
	case VERB_DRAIN:
		return parse_duration(strtok(NULL, " "), &command->duration);
	default:
		return true;
	}
}

static bool find_verb(const char *word, enum verb *verb)
{
	for (__u32 i = 0; i < sizeof(usages) / sizeof(*usages); i++) {
		size_t size = strcspn(usages[i], " ");

		if (strlen(word) == size && !strncmp(word, usages[i], size)) {
			*verb = i;
			return true;
		}
	}
	return false;
}

const char *parse_command(char *line, __u32 customizations, struct command *command)
{
	const char *word = strtok(line, " "), *bytes;

	command->at = 0;
	if (word && !strcmp(word, "at")) {
		bytes = strtok(NULL, " ");
		if (!bytes || !to_number(bytes, UINT64_MAX, &command->at))
			return "want: at BYTES COMMAND";
		word = strtok(NULL, " ");
	}
	if (!word || !find_verb(word, &command->verb))
		return "no such command; there are: set, arm, go, disarm, drain; --help explains";
	if (!parse_rest(customizations, command) || strtok(NULL, " "))
		return usages[command->verb];
	return NULL;
}

char *without_comment(char *line)
{
	line[strcspn(line, "#\r\n")] = 0;
	return line[strspn(line, " ")] ? line : NULL;
}

static void check_line(const struct options *options, char *line, unsigned long number)
{
	struct command command;
	const char *wrong;

	line = without_comment(line);
	wrong = line ? parse_command(line, options->count, &command) : NULL;
	if (wrong)
		fail("%s line %lu: %s", options->control, number, wrong);
}

void check_control(const struct options *options)
{
	char line[PEER_LINE];
	struct stat kind;
	FILE *file;

	if (stat(options->control, &kind))
		fail("%s: %s", options->control, strerror(errno));
	if (S_ISFIFO(kind.st_mode) && options->command != PEER_FORWARD)
		return;
	if (!S_ISREG(kind.st_mode))
		fail("%s: --control wants a file%s", options->control,
		     options->command == PEER_FORWARD ? ": each connection reads it from its begin"
						      : " or a FIFO");
	file = fopen(options->control, "r");
	if (!file)
		fail("%s: %s", options->control, strerror(errno));
	for (unsigned long number = 1; fgets(line, sizeof(line), file); number++) {
		if (!strchr(line, '\n') && !feof(file))
			fail("%s line %lu: too long", options->control, number);
		check_line(options, line, number);
	}
	fclose(file);
}
