/* jfs: the front. Chooses a command by the first argument, or by the name under which mount(8) calls us. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "daemon/commands.h"
#include "redis/setting.h"
#include "util/fault.h"

static const struct command {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *help;
} commands[] = {
	{"format", cmd_format, "make a volume, or change options of one"},
	{"mount", cmd_mount, "mount a volume"},
	{"umount", cmd_umount, "unmount; with --flush wait until Redis and S3 have all of it"},
	{"status", cmd_status, "show a volume, or a mount point's backlog"},
	{"flush", cmd_flush, "wait until Redis and S3 have all of a mount point"},
	{"bench", cmd_bench, "measure how fast a mount point is"},
	{NULL, NULL, NULL},
};

static void help(FILE *out)
{
	fprintf(out, "usage: jfs COMMAND [OPTIONS] ARGUMENTS\n\ncommands:\n");
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-8s  %s\n", c->name, c->help);
	fprintf(out, "\n`jfs COMMAND --help` lists the options of a command. See also jfs-recover.\n");
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *self = slash ? slash + 1 : argc > 0 ? argv[0] : "jfs";

	signal(SIGPIPE, SIG_IGN); /* a closed connection is an error of its write */
	fault_init();
	if (strcmp(self, "mount.fuse.jfs") == 0 || strcmp(self, "mount.fuse") == 0)
		return cmd_mount_helper(argc, argv);
	if (argc < 2) {
		help(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("jfs %s (works on volumes as JuiceFS %s)\n", JFS_VERSION, RDS_CLIENT_VERSION);
		return 0;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		help(stdout);
		return 0;
	}
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, argv[1]) == 0)
			return c->fn(argc - 1, argv + 1);
	fprintf(stderr, "jfs: unknown command \"%s\": see jfs --help\n", argv[1]);
	return 2;
}
