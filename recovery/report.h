/* What jfs-recover found, and how it is told: lines for people, or one JSON object (jfs-recover(8) documents it). */
#ifndef JFS_RECOVERY_REPORT_H
#define JFS_RECOVERY_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "recovery/vec.h"

/* As fsck's, for scripts. */
enum recover_exit {
	RECOVER_CLEAN = 0,
	RECOVER_REPAIRED = 1, /* there was something to do, and it was done */
	RECOVER_BACKLOG = 2,  /* nothing wrong, but work is only here */
	RECOVER_BROKEN = 4,
	RECOVER_CANNOT = 8, /* could not run */
	RECOVER_USAGE = 16,
};

struct finding { /* something broken */
	char *path; /* escaped, NULL: not about a file */
	char *text;
};

struct unsafe { /* what is only here */
	char *path; /* escaped */
	uint64_t ino, bytes; /* ino 0: a name that went */
	const char *state;   /* "new", "changed", "removed" */
};

struct change { /* where the volume differs from what is here */
	char *path;	  /* escaped */
	const char *what; /* "new", "changed", "conflict", "kept", "removed": jfs-recover(8) */
};

struct report {
	const char *command; /* "check", "replay", "export", "discard", "rebase" */
	const char *cache;
	char uuid[64], id[64];
	/* the journal */
	bool clean, power_cut, moved;
	uint64_t durable, committed, applied, trimmed, log_records, hot_records, hot_bad, setaside, keys;
	/* staged bytes */
	uint64_t staged_bytes, staged_bad;
	/* what is only here */
	uint64_t backlog_ops, backlog_bytes;
	VEC(struct unsafe) unsafe;
	/* Redis and the object store, where they were asked */
	bool redis_asked, objects_asked;
	const char *position; /* "same", "earlier", "later", "foreign", "gone", "unknown": NULL: not asked */
	uint64_t redis_epoch, redis_seq;
	bool released;
	char holder[600], holder_seen[32];
	uint64_t objects, objects_missing, objects_short;
	VEC(struct finding) broken;
	bool no_replay; /* one of them: what is here must not, or cannot, be replayed into Redis */
	bool rebase;	/* only a rebase brings it there */
	/* replay */
	bool applied_now;
	uint64_t discarded; /* files that were given up */
	/* export */
	const char *exported_to; /* NULL: nothing was written */
	uint64_t exported_files, exported_others, exported_bytes, exported_partial, exported_skipped;
	/* rebase */
	bool rebased; /* compared with the volume: */
	VEC(struct change) changes;
	uint64_t rebased_bytes;
	const char *left_at; /* where the journal is now that all of it is in the volume; NULL: that is not so */
	char advice[1200];
};

void report_free(struct report *r);
/* Adds a finding; the text is formatted, the path (escaped already, may be NULL) copied. 0, -ENOMEM. */
int report_broken(struct report *r, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int report_unsafe(struct report *r, const char *path, uint64_t ino, const char *state, uint64_t bytes);
int report_change(struct report *r, const char *path, const char *what);
/* Is one of them still to be made in the volume? */
bool report_differs(const struct report *r);
/* The verdict; RECOVER_REPAIRED only when `applied_now`. */
enum recover_exit report_exit(const struct report *r);
/* To stdout. `all`: every path, else the first hundred. */
void report_print(const struct report *r, bool all);
/* One object and a newline to stdout. 0, -EIO. */
int report_json(const struct report *r);

#endif
