/* `-o remount`: changes flags of a mount of ours without its daemon having part in it. */
#ifndef JFS_DAEMON_REMOUNT_H
#define JFS_DAEMON_REMOUNT_H

#include "daemon/mount_options.h"
#include "util/errmsg.h"

/* Gives the mount at o->mountpoint exactly the flags of the kernel that `o` names (ro, nosuid, ...), as mount(2) does: those
 * left out are cleared, but what access times follow stays. Every other option that `o` names must be as the mount has it.
 * 0, -errno with a text. */
int remount(const struct mount_options *o, struct errmsg *e);

#endif
