/* A mount of the volume that only this process and its children see: in a mount namespace of their own, served by a child.
 * Whatever way this process ends, the mount ends with it; what it had acknowledged is then in its journal, as after any
 * crash. Root only. */
#ifndef JFS_RECOVERY_PRIVATE_MOUNT_H
#define JFS_RECOVERY_PRIVATE_MOUNT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "util/errmsg.h"

struct private_mount_config {
	const char *meta_url, *cache_root /* as --cache-dir */, *hot_dir /* NULL: the default */;
	bool read_only; /* without a lease, beside whoever holds it */
	bool takeover, allow_any_fs;
};

struct private_mount {
	pid_t daemon;
	char dir[PATH_MAX]; /* where it is mounted */
};

/* Enters the namespace, forks the daemon, returns when the mount answers. No other thread may run, and the caller must have
 * no journal open: the daemon inherits everything. 0, -errno with a text; then nothing is left. */
int private_mount_start(const struct private_mount_config *c, struct private_mount *m, struct errmsg *e);
/* Returns when Redis and the object store have everything. 0, -errno with a text. */
int private_mount_flush(struct private_mount *m, struct errmsg *e);
/* Unmounts, waits for the daemon. 0; -EIO with a text: it did not end well. */
int private_mount_end(struct private_mount *m, struct errmsg *e);

#endif
