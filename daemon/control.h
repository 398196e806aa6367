/* Talking to a running mount through its .control file (spec 6.3), from the command line. */
#ifndef JFS_DAEMON_CONTROL_H
#define JFS_DAEMON_CONTROL_H

#include <stdint.h>

#include "util/errmsg.h"

/* The mount of ours that holds `path` (any file below it, or the mount point). Fills `point` (PATH_MAX). 0, -errno with
 * a text. */
int control_find_mount(const char *path, char *point, struct errmsg *e);
/* Sends a command without payload and waits for its answer: 0 or -errno as the daemon says. Shows the backlog on stderr
 * while it waits, if that is a terminal. */
int control_command(const char *point, uint32_t command, struct errmsg *e);

#endif
