/* Everything that a mounted volume consists of, opened in order and closed in reverse:
 *   cache directory and journal, file system core, [Redis: lease, ids, loader, keeper], [S3: store, uploader, reader],
 *   [replayer], session. */
#ifndef JFS_DAEMON_APPLIANCE_H
#define JFS_DAEMON_APPLIANCE_H

#include "daemon/mount_options.h"
#include "util/errmsg.h"

struct appliance;

/* Opens all but the session; recovers the journal if it has to. Blocks (network, disk). The options must outlive it. 0, or
 * -errno with a line that names the thing and the remedy; then nothing was changed that a retry would not change. */
int appliance_open(const struct mount_options *o, struct appliance **out, struct errmsg *e);
/* Mounts on `mountpoint` (resolved) and serves. */
int appliance_mount(struct appliance *a, const char *mountpoint, struct errmsg *e);
/* Returns when it was unmounted, or unmounts on SIGTERM, SIGINT, SIGHUP. Call with these signals blocked in all threads
 * (appliance_block_signals before appliance_open). */
void appliance_run(struct appliance *a);
/* Ends service and closes everything. The journal's failure, if it had failed, else 0. NULL-safe. */
int appliance_close(struct appliance *a);

void appliance_block_signals(void);

#endif
