/* From --cache-dir to the one directory that holds a journal. */
#ifndef JFS_RECOVERY_CACHES_H
#define JFS_RECOVERY_CACHES_H

#include <stdbool.h>

#include "util/errmsg.h"

/* `dir` is a journal's directory itself, or one above it as `jfs mount --cache-dir` takes it (of a list with ':' the
 * first). With several journals `uuid` chooses; it is checked in any case when given. *out: heap, an absolute path.
 * A journal that a rebase has set aside (recovery/rebase.c) is passed over; with `begun` it stands for the one that it was.
 * 0; -ENOENT no journal there; -EINVAL several and no uuid, or not that one (the text lists them); -errno. */
int cache_find(const char *dir, const char *uuid, bool begun, char **out, struct errmsg *e);
/* The volume's UUID of a cache, "" when unknown. */
void cache_uuid(const char *cache, char out[64]);
/* Its own id, likewise: which journal's history a position in Redis is of. */
void cache_id(const char *cache, char out[64]);
/* What recovery has put aside: calls fn with each name. Returns the count, or -errno. */
int cache_setaside(const char *cache, int (*fn)(void *arg, const char *name), void *arg);

#endif
