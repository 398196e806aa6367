/* Placeholders until the mount is there. */
#include <stdio.h>

#include "daemon/commands.h"

static int missing(const char *what)
{
	fprintf(stderr, "jfs %s: not built yet\n", what);
	return 1;
}

int cmd_mount(int argc, char **argv)
{
	(void)argc;
	return missing(argv[0]);
}

int cmd_mount_helper(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return missing("mount");
}

int cmd_umount(int argc, char **argv)
{
	(void)argc;
	return missing(argv[0]);
}

int cmd_flush(int argc, char **argv)
{
	(void)argc;
	return missing(argv[0]);
}
