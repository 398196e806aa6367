/* Removing for good what lies in the trash (spec 3.6, 3.7, 3.18, 3.20): the one change of Redis that is not replayed.
 *
 * The trash is not part of the local view, so there is no record and no window for it: one script does it at once, under the
 * fencing token, and does not move the position. It changes what no window in flight depends on: an entry of a trash
 * directory, an inode that has no other name (the caller makes sure that no record above the position touches it), and
 * counters, which windows change by deltas. An inode with other names loses one link; replay takes link counts from Redis.
 *
 * A crash, here or there, leaves the entry where it was or removes it whole. A Redis that falls back (P8) shows it again, and
 * nothing else depends on that. Slices that nothing names any more go to zjfs.dead under the position after this one: their
 * objects are deleted once a later window has been applied for as long as Redis may forget (P10). A file of more than 1,000
 * chunks is left to stock's delfiles. */
#ifndef JFS_REDIS_TRASH_H
#define JFS_REDIS_TRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redis/conn.h"

struct trash_removal {
	uint64_t epoch;	 /* our token */
	uint64_t parent; /* .trash, an hour's directory, or a directory that lies in one */
	const char *name;
	uint64_t ino; /* what the name is; another inode there counts as absent */
	bool dir;     /* rmdir, else unlink */
	/* out, after 0: what went away from usedSpace and totalInodes */
	int64_t space, inodes;
};

/* 0: removed. -ENOENT, -ENOTDIR, -EISDIR, -ENOTEMPTY, -EPERM (immutable); -EKEYREVOKED: another mount has the lease; -EAGAIN: Redis has forgotten
 * that it is ours; -ENODATA: no lease there at all; -EUCLEAN: what is there is damaged, `e` names it; the errors of
 * redis/conn.h. Blocks. */
int rds_trash_remove(struct rds_conn *c, struct trash_removal *t, struct errmsg *e);

#endif
