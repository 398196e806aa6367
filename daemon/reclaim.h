/* Giving staging segments back (P7, DESIGN 3.4): a segment goes when nothing can ask for its bytes any more.
 *
 * It is still needed by
 *   - an extent of the view (the bytes of a file that Redis does not name yet, or of an open unlinked file),
 *   - a record above APPLIED (its window may still have to be uploaded, dead or alive) or above UPLOADED (with publish=eager
 *     Redis names its bytes already, dead here or not),
 *   - an append that no record names yet (staging_release), a running call (staging pins it).
 * What is uploaded and applied was re-pointed to its slice by the record that said so. The order of looking is what
 * makes it safe: the marks first, then who is held, then everything committed becomes durable, then the log above them,
 * then one snapshot of base. A copy of an extent made
 * meanwhile is a record above APPLIED, or its source is still in the snapshot.
 * A crash after a removal leaves nothing: no durable extent named the segment. */
#ifndef JFS_DAEMON_RECLAIM_H
#define JFS_DAEMON_RECLAIM_H

#include "journal/journal.h"

struct reclaim {
	uint64_t looked_at; /* the lower of both marks at the last look */
};

/* Removes what can be removed; looks only when there are sealed segments and the marks have moved since. Blocks on disk; not
 * under the journal's lock. 0 and *freed (bytes), or -errno. */
int reclaim_step(struct reclaim *r, struct journal *j, uint64_t *freed);

#endif
