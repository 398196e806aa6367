/* How much of the local disk the mount may use, and what happens as that runs out (P11, P7). Pure: state in, decision out.
 *
 * Three budgets.  `--cache-size` bounds staged bytes and cached blocks together; `--free-space-ratio` says what must stay
 * free on the disk: the cache keeps to it, staging to half of it, as in JuiceFS; the log may take an eighth of
 * `--cache-size`. What is nearest to its limit decides:
 *
 *   fullness   staging, disk                             log
 *   1/2        uploads are due at once                   the same; the retention begins to shrink
 *   3/4        writers are slowed                        all that adds to the log is slowed; the retention is at 2 minutes
 *   1          writers wait                              all that adds to the log waits
 *
 * Cached blocks give way first: they never count, and are dropped as staging needs their room. Slowed means: all writers
 * together get a rate that falls from BUDGET_RATE at 3/4 to BUDGET_RATE_MIN when full. A disk with no room left at all
 * stops nobody here: its own ENOSPC is the answer then. At least BUDGET_MIN may be staged whatever the ratio says, or what
 * is left to upload could never be exchanged for what is new.
 * Unlinked files that are still open are uploaded by nobody, and end only when they are closed. When they alone hold more
 * than BUDGET_ORPHANS of a full budget, waiting is hopeless for their writers: those get ENOSPC. */
#ifndef JFS_DAEMON_BUDGET_H
#define JFS_DAEMON_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_MIN	  ((uint64_t)32 << 20)	/* bytes staging may always take */
#define BUDGET_LOG_MIN	  ((uint64_t)256 << 20)
#define BUDGET_DISK_FULL  ((uint64_t)16 << 20)	/* less is free: the disk is full */
#define BUDGET_RATE	  ((uint64_t)256 << 20) /* bytes a second */
#define BUDGET_RATE_MIN	  ((uint64_t)1 << 20)
#define BUDGET_OP_COST	  4096u			/* what an operation counts on top of its bytes */
#define RETENTION_MIN_MS  (2u * 60 * 1000)
#define BUDGET_ORPHANS(l) ((l) / 4 * 3)

enum budget_state { BUDGET_FREE, BUDGET_SLOW, BUDGET_FULL };
enum budget_what { BUDGET_STAGING, BUDGET_DISK, BUDGET_LOG };

struct budget_in {
	uint64_t size;			/* --cache-size */
	double free_ratio;		/* --free-space-ratio */
	uint64_t disk_total, disk_free; /* bytes of the file system; what may still be taken of it */
	uint64_t staged, cached;	/* bytes on disk */
	uint64_t orphaned;		/* staged bytes of unlinked open files */
	uint64_t log, log_limit;	/* bytes of records; log_limit 0: an eighth of size */
	uint64_t retention_ms;		/* as configured */
	bool pressing;			/* the last decision's: ends a bit lower than it begins */
};

struct budget_out {
	enum budget_state data, meta; /* writers; whatever else adds to the log */
	enum budget_what what;	      /* is nearest to its limit */
	uint64_t limit, log_limit;    /* bytes that may be staged now; of the log */
	uint64_t cache_limit;	      /* what is left for cached blocks */
	uint64_t room;		      /* bytes that may be written before deciding anew */
	uint64_t data_rate, meta_rate; /* slow: bytes a second */
	uint64_t retention_ms;
	bool pressing;		      /* uploads are due at once, dead bytes are looked for */
	bool orphans_end;	      /* writers of unlinked files get ENOSPC */
};

void budget_decide(const struct budget_in *in, struct budget_out *out);
/* Size of a staging segment: small enough that a small budget is made of many. */
uint32_t budget_segment(uint64_t size);
/* "free", "slowing writers", "writers wait"; "staging", "disk", "log". */
const char *budget_state_name(enum budget_state s);
const char *budget_what_name(enum budget_what w);

#endif
