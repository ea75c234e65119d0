// SPDX-License-Identifier: GPL-2.0
/* The command line of programs of scenarios. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "sockets.h"

static const char help[] =
	"%1$s [--family 4|6|dual] [--customized] [--patience SECONDS] SCENARIO...|all\n"
	"%1$s --list\n"
	"\n"
	"Runs scenarios over the loopback of this network namespace, and prints a line for each:\n"
	"\"ok NAME\", \"FAIL NAME: what, where\" or \"skip NAME: why\". SCENARIO may be the begin of\n"
	"names. --customized allows what a customized socket may refuse (docs/kernel-tap.md).\n"
	"--patience is the time after which a scenario counts as stuck: 120 s, where a machine that\n"
	"is emulated and busy needs some.\n"
	"Exit status: 0, 1 where one failed, 2 where there is no such scenario.\n";

static int wrong_usage(void)
{
	fprintf(stderr, help, program_invocation_short_name);
	return 2;
}

static int for_each(bool (*act)(const struct scenario *), const char *begin, bool *well)
{
	int count = 0;

	for (const struct scenario *const *theme = themes; *theme; theme++)
		for (const struct scenario *scenario = *theme; scenario->name; scenario++) {
			if (strncmp(scenario->name, begin, strlen(begin)))
				continue;
			count++;
			*well &= act(scenario);
		}
	return count;
}

static bool list(const struct scenario *scenario)
{
	return puts(scenario->name) >= 0;
}

static void set_family(const char *text)
{
	setting.dual = !strcmp(text, "dual");
	setting.family = strcmp(text, "4") ? AF_INET6 : AF_INET;
	if (!setting.dual && strcmp(text, "4") && strcmp(text, "6")) {
		fprintf(stderr, "--family %s: 4, 6 or dual\n", text);
		exit(2);
	}
}

int main(int count, char **words)
{
	static const struct option options[] = { { "family", required_argument, NULL, 'f' },
						 { "customized", no_argument, NULL, 'c' },
						 { "patience", required_argument, NULL, 'p' },
						 { "list", no_argument, NULL, 'l' },
						 { 0 } };
	bool well = true;
	int option;

	set_family("4");
	setting.patience = 120;
	while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
		if (option == 'f')
			set_family(optarg);
		else if (option == 'c')
			setting.customized = true;
		else if (option == 'p')
			setting.patience = atoi(optarg);
		else if (option == 'l')
			return !for_each(list, "", &well);
		else
			return wrong_usage();
	}
	if (optind == count)
		return wrong_usage();
	signal(SIGPIPE, SIG_IGN); /* scenarios that want it take it back */
	for (; optind < count; optind++) {
		const char *name = strcmp(words[optind], "all") ? words[optind] : "";

		if (for_each(run_scenario, name, &well))
			continue;
		fprintf(stderr, "there is no scenario %s; --list\n", name);
		return 2;
	}
	return !well;
}
