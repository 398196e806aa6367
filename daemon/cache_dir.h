/* The cache directory as the command line names it: DIR[:DIR...], the journal in the first, DIR/{UUID}. */
#ifndef JFS_DAEMON_CACHE_DIR_H
#define JFS_DAEMON_CACHE_DIR_H

#include <stdbool.h>

#include "util/errmsg.h"

/* Makes the first directory of `list` (NULL: the default) with its parents, and returns DIR/{uuid}, heap memory, in *out
 * (not made); of a mount that only looks DIR/view/{uuid}. 0, -errno with a text. */
int cache_dir_make(const char *list, const char *uuid, bool view, char **out, struct errmsg *e);
/* Where `jfs-recover rebase` keeps the journal CACHE until all of it is in the volume. */
#define CACHE_REBASE_SUFFIX ".rebase"
/* -EBUSY with a text while there is such a journal: a mount now would show the volume without what only that knows. */
int cache_dir_unfinished(const char *cache, struct errmsg *e);
/* Deletes the journal in CACHE (base, staging, identity), but not the block cache. Nobody may have it open; the caller knows
 * that nothing in it is needed any more. 0, -errno with a text. */
int cache_dir_reset(const char *cache, struct errmsg *e);
/* Notes in CACHE/mountpoint where its owner mounts, for cache_dir_wait of another process. Best effort. */
void cache_dir_note(const char *cache, const char *mountpoint);
/* Somebody has the lock of CACHE. If that process serves a mount: -EBUSY and a text that names it. If it is about to end
 * (its mount is gone, the rest is being written): waits for it; 0 when it is gone. -ETIMEDOUT with a text. */
int cache_dir_wait(const char *cache, struct errmsg *e);

#endif
