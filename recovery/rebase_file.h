/* One thing of the old view in the volume: is it there, and if not, made anew. A file is written under a temporary name and
 * renamed with all its attributes: whoever looks finds the old one or the new one. */
#ifndef JFS_RECOVERY_REBASE_FILE_H
#define JFS_RECOVERY_REBASE_FILE_H

#include <sys/stat.h>

#include "recovery/local_bytes.h"
#include "recovery/report.h"

#define REBASE_TEMPORARY ".jfs-recover.part"

enum rebase_same {
	SAME_NO,
	SAME_YES,
	SAME_BYTES, /* but not its attributes */
};

/* Is `name` in dir, of which *st was read, what the inode is here? Neither is a directory; they are of one type. The bytes
 * are compared unless inode, size and times are the same. -ENODATA with a text: they are not to be had here; else -errno. */
int rebase_compare(struct local_bytes *b, int dir, const char *name, const struct stat *st, uint64_t ino, const struct jfs_attr *a,
	struct report *r, const char *path, struct errmsg *why);
/* Makes it, in place of what has the name. *bytes: how many were written. -ENODATA as above: then nothing was changed. */
int rebase_make(struct local_bytes *b, int dir, const char *name, uint64_t ino, const struct jfs_attr *a, uint64_t *bytes,
	struct report *r, const char *path, struct errmsg *why);
/* Gives a file the attributes that it has here. 0, -errno. */
int rebase_attributes(struct fs *fs, int dir, const char *name, uint64_t ino, const struct jfs_attr *a, struct report *r, const char *path);
/* JuiceFS's type of a mode; 0: none. */
uint8_t rebase_type(mode_t mode);
/* Owner, mode and mtime alike? */
bool rebase_alike(const struct stat *st, const struct jfs_attr *a);

#endif
