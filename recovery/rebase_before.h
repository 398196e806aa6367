/* CACHE.rebase/rebase: how things were before a rebase changed anything, and from when to when each of its runs did.
 *
 * Redis's counter of slices, and whether nobody but this journal can have been given any: afterwards nobody could tell any more
 * which objects still mean what they meant. And whose changes are whose: what a run has changed itself is no change of others,
 * however often it was cut off; what was changed between two runs is. The end of the last run is the file's own mtime; a power
 * cut may set that back, which costs at most a conflict. */
#ifndef JFS_RECOVERY_REBASE_BEFORE_H
#define JFS_RECOVERY_REBASE_BEFORE_H

#include "recovery/rebase_tree.h"
#include "recovery/remote.h"

#define REBASE_BEFORE "rebase" /* its name in the old journal's directory */

struct rebase_before {
	bool sure; /* every number of a slice still means what it meant */
	uint64_t next_slice;
	char lease[64]; /* whose history the position was of; "": nobody's */
	VEC(struct rebase_run) runs;
};

/* As it is now; `id` is the old journal's. Errors of redis/conn.h. */
int rebase_before_look(struct rebase_before *b, struct remote *rm, const char *id, struct errmsg *e);
/* Whole or not at all, and synced. `journal`: the directory. 0, -errno with a text; so the others. */
int rebase_before_write(const char *journal, const struct rebase_before *b, struct errmsg *e);
int rebase_before_read(const char *journal, struct rebase_before *b, struct errmsg *e);
/* From now on this run changes things. *beat: the file, whose mtime is to be renewed while it does. */
int rebase_before_begin(struct rebase_before *b, const char *journal, int *beat, struct errmsg *e);
void rebase_before_free(struct rebase_before *b);

#endif
