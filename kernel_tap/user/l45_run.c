// SPDX-License-Identifier: GPL-2.0
/*
 * NAME-run: one module on messages by hand, built with address and undefined-behaviour sanitizers.
 *
 * Reads lines `send|recv PROCESS HEX` and answers each with `VERDICT HEX`. An empty message is
 * written `-`, and so is a process that is not known. The parameters of the customization, packed
 * (wire/manifest.py), are the command's only argument, in hexadecimal.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l45_user.h"
#include "text.h"

extern const struct l45_module l45_module;

#define LINE_SIZE (2 * L45_MESSAGE_MAX + 64)

static const char *const verdicts[] = {
	[L45_DONE] = "done", [L45_NEXT] = "next",   [L45_PASS] = "pass",
	[L45_DROP] = "drop", [L45_LEAVE] = "leave", [L45_ERROR] = "error",
};

static void answer(int verdict, const __u8 *bytes, __u32 size)
{
	printf("%s %s", verdicts[verdict], size ? "" : "-");
	for (__u32 i = 0; i < size; i++)
		printf("%02x", bytes[i]);
	putchar('\n');
	fflush(stdout);
}

/* Takes one line; returns NULL or what is wrong with it. */
static const char *take(char *line, struct l45_user_context *context)
{
	static __u8 message[L45_MESSAGE_MAX];
	const char *direction = strtok(line, " \n"), *process = strtok(NULL, " \n");
	const char *hex = strtok(NULL, " \n");
	__u32 size = sizeof(message);
	long length;
	int verdict;

	if (!hex || strtok(NULL, " \n"))
		return "want three words: send|recv PROCESS HEX";
	if (strcmp(direction, "send") && strcmp(direction, "recv"))
		return "the first word is neither send nor recv";
	length = from_hex(hex, message, sizeof(message));
	if (length < 0)
		return "the message is not hexadecimal, or longer than a datagram";
	context->process = strcmp(process, "-") ? process : NULL;
	verdict =
		l45_user_run(&l45_module, context, strcmp(direction, "send") ? L45_RECV : L45_SEND,
			     message, length, message, &size);
	if (verdict < 0)
		return strerror(-verdict);
	answer(verdict, message, size);
	return NULL;
}

int main(int argc, char **argv)
{
	static char line[LINE_SIZE];
	static __u8 parameters[64];
	struct l45_user_context context = { .parameters = parameters };
	long size = argc > 1 ? from_hex(argv[1], parameters, sizeof(parameters)) : 0;

	if (argc > 2 || size < 0) {
		fprintf(stderr, "usage: %s [PARAMETERS in hexadecimal, at most 64 bytes]\n",
			argv[0]);
		return EXIT_FAILURE;
	}
	context.parameters_size = size;
	for (unsigned long number = 1; fgets(line, sizeof(line), stdin); number++) {
		const char *fault = take(line, &context);

		if (fault) {
			fprintf(stderr, "line %lu: %s\n", number, fault);
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}
