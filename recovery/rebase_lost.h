/* A rebase that was cut off goes on with the journal that it had begun. Redis may have been set back once more since. */
#ifndef JFS_RECOVERY_REBASE_LOST_H
#define JFS_RECOVERY_REBASE_LOST_H

#include "recovery/recover.h"
#include "recovery/remote.h"

/* *lost: the journal in `cache` has a history, and Redis is at no place from which that can go on. One that cannot be opened, or
 * read, is not lost: the mount says what is wrong with it. Waits for a daemon that is ending. 0; -EBUSY: one lives; -ENOMEM, -EIO;
 * with a text. */
int rebase_lost(const struct recover_options *o, const char *cache, struct remote *rm, bool *lost, struct errmsg *e);

#endif
