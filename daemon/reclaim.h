/* Giving staged bytes back (P7, DESIGN 3.4): they go when nothing can ask for them any more.
 *
 * A run (what one append wrote; its checksum covers all of it) is still needed by
 *   - an extent of the view (the bytes of a file that Redis does not name yet, or of an open unlinked file),
 *   - a record above APPLIED (its window may still have to be uploaded, dead or alive) or above UPLOADED (with publish=eager
 *     Redis names its bytes already, dead here or not),
 *   - an append that no record names yet (staging_release), a running call (staging pins it).
 * A sealed segment of which nothing is needed is removed; of others the blocks that belong to no needed run are punched.
 * What is uploaded and applied was re-pointed to its slice by the record that said so. The order of looking is what
 * makes it safe: the marks first, then what is held, and how far each segment is written, then everything committed becomes
 * durable, then the log above the marks, then one snapshot of base. A copy of an extent made
 * meanwhile is a record above APPLIED, or its source is still in the snapshot.
 * A crash after a removal or a punch leaves nothing: no durable extent named the bytes. A reader that had looked them up
 * before gets -ENOENT from staging, and looks again.
 *
 * Looking takes a pass over all extents: it is not done again before RECLAIM_REST times as long as the last one took, or
 * RECLAIM_REST_PRESSING times while the budget presses. */
#ifndef JFS_DAEMON_RECLAIM_H
#define JFS_DAEMON_RECLAIM_H

#include "journal/journal.h"

enum { RECLAIM_REST = 20, RECLAIM_REST_PRESSING = 2 };

struct reclaim {
	uint64_t looked_at;	/* the lower of both marks at the last look */
	uint64_t committed;	/* what was committed then */
	uint64_t ended_ns, took_ns; /* when the last look ended, monotonic, and how long it took */
	bool cannot_punch;	/* the file system does not */
	uint64_t orphaned;	/* staged bytes of unlinked open files, as of the last pressing look */
};

/* Gives back what can be given back. Looks only when there are segments and the marks have moved since; `pressing`:
 * or something was committed, and counts `orphaned`. Blocks on disk; not under the journal's lock. 0 and *freed (bytes), or
 * -errno. -EAGAIN: too soon after the last look, *freed is the milliseconds to wait. */
int reclaim_step(struct reclaim *r, struct journal *j, bool pressing, uint64_t *freed);

#endif
