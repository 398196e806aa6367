/* Checking a mount point before and after: every refusal names the path and the remedy. */
#ifndef JFS_DAEMON_MOUNTPOINT_H
#define JFS_DAEMON_MOUNTPOINT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "util/errmsg.h"

/* Resolves `path` into `out` and checks that we can mount there: it exists, is a directory, nothing of FUSE is mounted
 * there, and it is empty (unless `any`). A dead mount of ours (after kill -9) is detached first. 0, -errno. */
int mountpoint_prepare(const char *path, bool any, char out[PATH_MAX], struct errmsg *e);
/* Asks the file system that was just mounted there for its root: returns when it answers. 0, -errno. */
int mountpoint_answers(const char *path, struct errmsg *e);
/* `path`, resolved, is the mount point of a mount of ours, dead or alive. 0, -errno. */
int mountpoint_find(const char *path, char point[PATH_MAX], struct errmsg *e);
/* The daemon that serves the mount at `point` (its .config): pid, or -errno. */
pid_t mountpoint_daemon(const char *point);
/* Waits until the process is gone: 0, -ETIMEDOUT. `ms` -1: for ever. */
int process_wait(pid_t pid, int ms);

#endif
