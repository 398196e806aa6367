/* What /proc tells of a request's caller. Both read a small file there. Thread-safe. */
#ifndef JFS_DAEMON_CALLER_H
#define JFS_DAEMON_CALLER_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

/* Is this thread being killed, or closing its files after that? */
bool caller_is_dying(uint32_t tid);
/* Has the caller of `q` the group besides its own? False also when that cannot be found out. */
bool caller_in_group(fuse_req_t q, uint32_t gid);

#endif
