/* The local half of a check: every key of the view, every record of the log, every staged byte that lives. Reads only. */
#ifndef JFS_RECOVERY_SCAN_H
#define JFS_RECOVERY_SCAN_H

#include "journal/extent.h"
#include "journal/inspect.h"
#include "recovery/aside.h"
#include "recovery/backlog.h"
#include "recovery/paths.h"
#include "recovery/report.h"
#include "recovery/staged.h"
#include "redis/lease.h"

struct slice_use {
	uint64_t slice, ino;
};

struct scan {
	struct journal *j;
	const struct inspect *found;
	bool has_position;	      /* this journal has a history in Redis: */
	struct rds_position position; /* the last that base knows to be applied */
	struct staged_set staged;
	struct backlog backlog;
	struct paths *paths;
	struct aside aside; /* to be loaded before the walk */
	/* slice -> the files that use it, one for each extent, for the names of missing objects; sorted by slice, then inode */
	VEC(struct slice_use) uses;
	/* while walking */
	uint64_t cur_ino;
	bool cur_lives;
	VEC(struct cut) cuts; /* of cur_ino */
};

int scan_init(struct scan *s, struct journal *j, const struct inspect *found);
void scan_fini(struct scan *s);
/* Reads the position that the journal has noted. 0, -EUCLEAN, -EIO. */
int scan_position(struct scan *s);
/* Walks the view and the log behind `applied`; notes damaged keys and records in the report. 0, -ENOMEM, -EIO. */
int scan_walk(struct scan *s, uint64_t applied, struct report *r, struct errmsg *e);
/* Reads every staged run that lives, from the disk itself, and compares checksums. 0, -ENOMEM. */
int scan_staging(struct scan *s, struct report *r);
/* Lists by path what Redis at position `applied` does not have. 0, -ENOMEM. */
int scan_unsafe(struct scan *s, uint64_t applied, struct report *r);
/* Path of an inode, escaped; heap. NULL without memory. */
char *scan_path(const struct scan *s, uint64_t ino);

#endif
