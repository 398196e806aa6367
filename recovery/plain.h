/* What the view knows of an inode besides its bytes, put on files of any other file system: attributes, extended attributes,
 * ACLs, symbolic links and special files. Nothing here follows a symbolic link. Blocks on the disk.
 *
 * Who is not root keeps what he may: EPERM of an owner or of a mode is no error, nor is a file system without extended
 * attributes or ACLs. */
#ifndef JFS_RECOVERY_PLAIN_H
#define JFS_RECOVERY_PLAIN_H

#include "daemon/fs.h"
#include "recovery/report.h"

/* Comes before all others: a change of owner takes set-id bits and security.capability away. 0, -errno. */
int plain_owner(int fd, const struct jfs_attr *a);
/* Mode and times. Comes last: extended attributes need the right to write. 0, -errno. */
int plain_attributes(int fd, const struct jfs_attr *a);
/* Those of the inode that fd does not have like that; *changed (may be NULL) tells that there was one. What only Redis has is
 * a finding for `path`. `set` false: only compare. 0, -errno. */
int plain_xattrs(struct fs *fs, int fd, uint64_t ino, bool set, bool *changed, struct report *r, const char *path);
/* The other way round: those that fd has and the inode has not are removed, where all of the inode's are here. 0, -errno. */
int plain_xattrs_drop(struct fs *fs, int fd, uint64_t ino, bool set, bool *changed);
/* Makes the symbolic link, socket, FIFO or device `name`, which must not be there. 0, -errno; -ENODATA: its target is only in
 * Redis. */
int plain_node(struct fs *fs, int dir, const char *name, uint64_t ino, const struct jfs_attr *a);
/* The target, NUL-terminated. 0, -errno, -ENODATA as above. */
int plain_target(struct fs *fs, uint64_t ino, char target[JFS_SYMLINK_MAX + 1]);
struct timespec plain_mtime(const struct jfs_attr *a);

#endif
