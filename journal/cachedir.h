/* The cache directory as a directory: who may use it, what identifies it, where its hot logs live. No database here.
 *
 * CACHE/lock      exclusive flock of the process that writes; its text is that process's pid
 * CACHE/id        32 hex digits, made once, copied with the directory
 * CACHE/uuid      UUID of the volume
 * CACHE/hotdir    HOT of the last process that wrote: what a kill leaves there must be found again
 * CACHE/reserve   preallocated bytes, given up when the disk is full
 * CACHE/setaside/ what recovery could not take
 * HOT/{id}-{home}/{boot id}/   the hot logs; `home` is the directory's own mark (inode number and birth time), so that
 *                 a copy of the cache on the same host never meets the original's hot logs (HISTORIES 50). */
#ifndef JFS_JOURNAL_CACHEDIR_H
#define JFS_JOURNAL_CACHEDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

struct cachedir {
	char *path;
	char *hot; /* HOT/{id}-{home}/{boot id}; NULL when read-only */
	int fd, lock_fd, hot_lock_fd;
	char id[33];
	char home[128]; /* machine id, inode number, birth time: differs in a copy */
	bool fresh;	/* made now */
	size_t reserve_size;
	bool reserve_gone;
};

/* Opens or makes it: mode 0700, ours, on a file system that keeps its word; takes the lock (not when read_only).
 * Errors: -EBUSY (another process), -EPERM (owner, mode), -ENOTSUP (file system), -ESTALE (another volume), -errno. */
int cachedir_open(struct cachedir *c, const char *path, const char *uuid, bool allow_any_fs, bool read_only, struct errmsg *e);
void cachedir_close(struct cachedir *c);
/* Finds and makes the directory of the hot logs on a tmpfs. Those of other boots are deleted unopened; *other_boot tells
 * that there was one. root NULL: where a killed process left logs of this boot, else /run/jfs or /dev/shm/jfs. -EXDEV: it
 * left them elsewhere. */
int cachedir_hot(struct cachedir *c, const char *root, bool *other_boot, struct errmsg *e);

/* Deletes the (empty) directory of the hot logs. */
void cachedir_hot_remove(struct cachedir *c);
/* For tools: the same directory if it is there, in c->hot; makes and deletes nothing. root NULL: the one that was noted by
 * the last cachedir_hot, else as above. -ENOENT: not there. */
int cachedir_hot_find(struct cachedir *c, const char *root, struct errmsg *e);
/* Takes the lock of a directory that was opened read-only, so that no daemon starts meanwhile. -EBUSY names its holder. */
int cachedir_hold(struct cachedir *c, struct errmsg *e);

/* Bytes that an ordinary user could still write to the disk; 0: unknown, too. */
uint64_t cachedir_room(const struct cachedir *c);
/* The reserve: taken over if it is there, else made when there is room for several times its size; given up at once. */
void cachedir_reserve_make(struct cachedir *c, size_t size);
bool cachedir_reserve_give(struct cachedir *c); /* false: nothing to give */

/* Writes DIR/NAME whole or not at all, synced. */
int file_replace(int dirfd, const char *name, const void *data, size_t len);
/* Puts something that recovery could not take into CACHE/setaside/NAME, synced. */
int cachedir_setaside(struct cachedir *c, const char *name, const void *data, size_t len);
/* mkdir with all parents, mode 0700; 0 if it is there. */
int mkdir_all(const char *path);

#endif
