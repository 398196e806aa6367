/* What is mounted where, out of /proc/self/mountinfo: never touches the mount points themselves, which may hang. */
#ifndef JFS_DAEMON_MOUNTINFO_H
#define JFS_DAEMON_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>

struct mount_entry {
	char point[PATH_MAX]; /* unescaped */
	char type[64];	      /* fuse.jfs */
	char source[512];     /* JuiceFS:NAME */
	unsigned major, minor;
};

/* Parses one line of mountinfo. Pure. */
bool mountinfo_parse(const char *line, struct mount_entry *out);
/* The topmost mount whose mount point is exactly `path` (absolute, resolved): 1 found, 0 not, -errno. */
int mountinfo_find(const char *path, struct mount_entry *out);
/* The mount that contains `path` (absolute, resolved): the longest mount point that is a prefix of it. */
int mountinfo_containing(const char *path, struct mount_entry *out);
/* Sets the read-ahead of the file system mounted there; best effort (needs root). */
void mountinfo_readahead(const char *path, unsigned kb);
/* Resolves all of `path` but its last component, so that a dead mount point can be named; without a trailing slash.
 * 0, -errno. */
int mountinfo_resolve(const char *path, char out[PATH_MAX]);

#endif
