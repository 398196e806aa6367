/* Brings the volume to what an old journal's view knows, by path, through a mount (jfs-recover rebase).
 *
 * Per name of the view:
 *   not in the volume             made ("new")
 *   the same                      left alone. Same is: inode, size, mtime, ctime; or bytes, attributes, extended attributes
 *   another, older than ours      ours takes its place ("changed"); the one replaced goes to the trash if there is one
 *   another, changed since        theirs keeps the name, ours is made as NAME.conflict-INODE ("conflict")
 * "Since" is a ctime above the one that the same name has here, which no rebase of this journal has made. What is here may
 * be a copy that this host never changed: what another host made of it must not be lost to that.
 *
 * A name that only the volume has, in a directory that is known here completely, was removed here, or is somebody's since: it
 * stays ("kept"), or with remove_others goes ("removed") if nothing has changed in it since the directory's ctime. That comes
 * last, and only if all that is here was brought: what was renamed here may have bytes that are nowhere else.
 *
 * Hard links of the view are hard links again. A directory gets its attributes when all in it is done.
 *
 * Running it again is harmless: what was made is the same now. That is also how a run that was cut off is continued. */
#ifndef JFS_RECOVERY_REBASE_TREE_H
#define JFS_RECOVERY_REBASE_TREE_H

#include "recovery/scan.h"
#include "s3/reader.h"

struct rebase_run { /* a rebase of this journal changed things in (from, to] */
	struct timespec from, to;
};

struct rebase_config {
	int top;		      /* the volume's root, through a mount */
	bool apply, remove_others;
	struct slice_reader *objects; /* NULL: only staged bytes are here */
	uint64_t first_sure;	      /* see recovery/local_bytes.h */
	const struct rebase_run *runs; /* earlier ones, and this one */
	size_t n_runs;
	int beat; /* a file whose mtime tells when this run last changed something; -1: none */
};

struct rebase_left { /* what was left out, and may be brought by another run */
	bool doubtful; /* for first_sure alone */
	bool refused;  /* the volume did not let us */
};

/* Fills r->changes and r->rebased_bytes; what cannot be had is a finding. 0, -errno with a text. */
int rebase_tree(struct scan *s, const struct rebase_config *c, struct report *r, struct rebase_left *left, struct errmsg *e);

#endif
