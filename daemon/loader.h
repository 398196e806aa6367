/* What the front needs from whoever can fetch metadata that is not here (redis/ implements it; a local-only mount has
 * none). */
#ifndef JFS_DAEMON_LOADER_H
#define JFS_DAEMON_LOADER_H

#include "daemon/fs.h"
#include "redis/load.h"

struct loader {
	/* Resolves one need: after 0 the operation runs again from scratch. Blocks (network, replay catching up); called by
	 * workers only, by many at once. 0; -errno for the caller of the operation: -EIO (what is there cannot be
	 * understood, or cannot be reached any more), -ENOENT, -ESTALE, -EROFS (fenced). */
	int (*load)(void *ctx, const struct fs_need *need);
	/* The list of (ino, chunk) named an object that is gone: fetch it anew (a stock client compacted it). As load. */
	int (*reload_chunk)(void *ctx, uint64_t ino, uint32_t chunk);
	/* Asks Redis and keeps nothing (the trash); `name` with NEED_ENTRY. After 0 the caller frees *out. As load. */
	int (*fetch)(void *ctx, const struct fs_need *need, const char *name, struct rds_loaded *out);
	/* Removes for good what lies in the trash: `name` in `parent`, which is `ino` (redis/trash.h). Waits until what was
	 * acknowledged before is durable, and for Redis. 0; -ENOENT, -ENOTDIR, -EISDIR, -ENOTEMPTY, -EPERM; as load. NULL: no
	 * Redis. */
	int (*trash_remove)(void *owner, uint64_t parent, const char *name, uint64_t ino, bool dir);
	void *owner;
	/* Closing down: every load that waits, and every later one, answers -EIO soon. */
	void (*cancel)(void *ctx);
	void *ctx;
};

#endif
