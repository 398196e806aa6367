/* Dropping what is clean. At a mount after which somebody else may have written to the volume, only what our own log says
 * is known for sure (DESIGN 3.3): every key that no record above `applied` touched goes, without a tombstone, and is loaded
 * again when needed; tombstones and touched keys stay, and directories become incomplete. A read-only mount, whose journal
 * has no log, drops everything whenever the writer has moved.
 * (What Redis may still forget is replayed from the log, not from the view.)
 *
 * Flags go before what they promise: an inode's record (a directory's `complete`) before entries, a chunk's before extents.
 * So operations may go on, if nothing is loaded meanwhile. A crash in the middle leaves some keys dropped, which is always allowed; the mount that
 * follows does it again, because what it compares has not been renewed. */
#ifndef JFS_JOURNAL_EVICT_H
#define JFS_JOURNAL_EVICT_H

#include "journal/journal.h"

/* 0 and how many keys were dropped; journal_commit's errors, -EUCLEAN. Blocks. The lock is not held. */
int journal_drop_clean(struct journal *j, uint64_t applied, uint64_t *dropped);

#endif
