/* Commands of .control that work on whole trees (spec 6.3): clone and compact, out of ordinary operations of the file
 * system core. They run in a worker: what is not here is loaded, and no room is waited out.
 *
 * A clone is built under a temporary name (".clone-N", N an inode number) beside its target and gets its name last, by a
 * rename that replaces nothing; so nobody ever finds half of it under the name, and a failure removes it again. A crash
 * leaves the temporary name, as that of a cp would. Data are shared with the source, byte for byte (spec 3.19), and each
 * file is as it was at some moment during the copy. Every step is one record, bounded like any other (DESIGN 3.1). */
#ifndef JFS_DAEMON_TREE_H
#define JFS_DAEMON_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/fs.h"
#include "daemon/loader.h"

enum { TREE_GROUPS = 64 };

/* Who asks: permissions are checked here, since no path was walked. */
struct tree_caller {
	uint32_t uid, gid;
	uint32_t groups[TREE_GROUPS];
	int n_groups;
};

struct tree_env {
	struct fs *fs;
	const struct loader *loader;
	bool (*stopped)(void *ctx); /* the mount ends: give up */
	void *ctx;
};

struct tree_clone {
	struct tree_caller who;
	uint64_t source, parent; /* of the clone */
	char name[256];
	size_t name_len;
	uint32_t umask;
	bool preserve; /* owner, mode and times are the source's */
};

/* 0 and the last record; -EEXIST, -ENOENT, -ENOTDIR, -EACCES, -EPERM, -ENOSPC, -EINTR (the mount ends), -EIO. Blocks. */
int tree_clone(const struct tree_env *env, const struct tree_clone *c, uint64_t *seq);
/* Has the chunk lists of every file below `ino` rewritten as one slice each, where they have more than one record. 0 and
 * the last record, or as above. Blocks. */
int tree_compact(const struct tree_env *env, const struct tree_caller *who, uint64_t ino, uint64_t *seq);

/* May `who` do `want` (a sum of 4 read, 2 write, 1 search) with it, by its mode alone? Pure. */
bool tree_may(const struct tree_caller *who, const struct jfs_attr *a, unsigned want);

#endif
