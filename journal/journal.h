/* The journal: hot log over a durable base, the local view, and the watermarks everything else waits on (DESIGN 3.1).
 *
 * States.  Two hot generations alternate. `current` takes commits; `flushing` (if any) is frozen and on its way to base.
 * View = current overlay, flushing overlay, base snapshot (opened last, renewed after every flush).
 *
 * Invariants.
 *  I1 a record is in a hot environment before it is in an overlay, and in an overlay before its operation is answered.
 *  I2 base holds exactly the records up to `durable`, in one transaction per flush, together with flushed_g.
 *  I3 a generation g is emptied only after base says flushed_g >= g; recovery empties those and replays the rest in order.
 *  I4 sequence numbers are contiguous; only the flusher writes base.
 *  I5 staging is synced before base names its bytes.
 *  I6 after a failed sync or hot commit nothing is acknowledged any more (P12): journal_failed() is true for good.
 *  I7 what an fsync was answered for is in base or in the sync log (synclog.h); base has all of it after each flush.
 *
 * Locking.  One mutex. Everything marked [locked] is called between journal_lock and journal_unlock, by any thread.
 * Nothing that blocks on disk or network happens under it, except page faults of the map. Functions without [locked]
 * may take it themselves: call them without it (journal_mark, journal_demand, journal_failed, journal_next_seq,
 * journal_must_wait and journal_staging take none).
 *
 * Trim.  An OP_TRIM record that puts the meta key "trim" (be64 sequence number) makes the flusher delete, in bounded
 * pieces with its flushes, log records up to it, tombstones and T_SMAP entries flushed up to it, and T_WINDOW entries whose
 * window ended before it. */
#ifndef JFS_JOURNAL_JOURNAL_H
#define JFS_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/record.h"
#include "journal/staging.h"
#include "journal/tables.h"
#include "util/errmsg.h"

struct journal;

struct journal_config {
	const char *cache_dir; /* DIR/{UUID}: base/, staging/, lock; made with mode 0700 */
	const char *hot_dir;   /* NULL: /run/jfs if /run is a tmpfs, else /dev/shm/jfs; anything but a tmpfs is refused. The
				  logs lie in {cache id}-{mark of the directory}/{boot id}/ below it */
	const char *uuid;      /* the volume's; a cache of another volume is refused with both names */
	uint32_t sync_interval_ms; /* 50 */
	uint64_t dirty_limit;  /* 256 MiB of unsynced staging: writers wait */
	size_t hot_size;       /* bytes of one hot map, 0: 64 MiB (tests use less) */
	bool allow_any_fs;     /* tests: cache on tmpfs or overlayfs, which is refused otherwise */
	size_t reserve_size;   /* bytes of CACHE/reserve, given up when the disk is full; 0: 64 MiB */
	uint32_t segment_size; /* of staging, 0: 64 MiB */
	bool read_only;	       /* open base read-only for tools: no hot generation, no flusher, no commits */
};

/* What opening found. */
struct journal_report {
	bool fresh;		/* a new cache directory */
	bool clean;		/* the last close was clean */
	bool power_cut;		/* unclean and the hot directory is gone or of another boot: a prefix was kept */
	bool moved;		/* another machine or directory than last time: perhaps a copy (Redis's lease decides) */
	uint64_t recovered;	/* records taken from the hot generations */
	uint64_t synced;	/* records that only the sync log had */
	uint64_t dropped;	/* records set aside from the first damaged one on (listed in CACHE/setaside/) */
	char first_bad[256];	/* what was wrong with it, by path where known */
};

int journal_open(const struct journal_config *cfg, struct journal **out, struct journal_report *rep, struct errmsg *e);
/* Flushes, marks the close clean (unless failed), frees. Returns the failure if there was one. */
int journal_close(struct journal *j);
/* Tests: forget everything in memory without flushing, as SIGKILL would. */
void journal_abandon(struct journal *j);

void journal_lock(struct journal *j);
void journal_unlock(struct journal *j);
struct staging *journal_staging(struct journal *j);
const char *journal_cache_id(const struct journal *j); /* hex text, made with the cache directory, copied with it */
bool journal_failed(const struct journal *j);	       /* and why: */
const char *journal_failure(const struct journal *j);
/* Freezes (fenced, fatal error found elsewhere): commits of operations answer -EROFS; internal records still pass. */
void journal_freeze(struct journal *j, const char *why);

/* --- the view [locked] --- */
/* Value of a key: 0 (val/len valid until unlock: a commit puts new values beside the old ones), -ENOENT, -EIO. */
int view_get(struct journal *j, const struct jkey *k, const void **val, size_t *len);
/* The same but tells a tombstone (-EKEYREVOKED) from a key that no layer holds (-ENOENT): the loading rule. */
int view_probe(struct journal *j, const struct jkey *k, const void **val, size_t *len);
int view_get_inode(struct journal *j, uint64_t ino, struct inode_val *out);
int view_get_dentry(struct journal *j, uint64_t parent, const void *name, size_t n, uint8_t *type, uint64_t *ino);

/* Forward iteration over live keys in memcmp order. Ends where the first `prefix` bytes differ from the start key's.
 * The pointers are valid until the next step, commit or unlock. No commit while an iterator is open. */
struct view_iter;
struct view_iter *view_seek(struct journal *j, const struct jkey *from, size_t prefix); /* NULL: -ENOMEM or -EIO */
int view_step(struct view_iter *it, const uint8_t **key, size_t *klen, const uint8_t **val, size_t *vlen); /* 1, 0, -EIO */
void view_end(struct view_iter *it);

/* --- committing [locked] --- */
/* The one record builder (reused memory); rec_begin is done with the current wall time. */
struct rec *journal_begin(struct journal *j, enum rec_op op);
/* The sequence number the next commit will get: after-images carry it. */
uint64_t journal_next_seq(const struct journal *j);
/* Finishes the record, puts it into the current hot environment and applies it. 0 and *seq; or, with nothing changed:
 * -EAGAIN no room until the flusher is done (unlock, journal_wait_room, start again from scratch); -E2BIG (split it);
 * -ENOSPC disk full; -EROFS frozen; -EIO failed for good. */
int journal_commit(struct journal *j, uint64_t *seq);
/* Blocks (lock NOT held) until a commit of this size may succeed, or the journal fails: 0, -ENOSPC, -EIO. */
int journal_wait_room(struct journal *j);
/* True when unsynced staging is over the dirty limit: hand writers to a worker that calls journal_wait_room. */
bool journal_must_wait(const struct journal *j);

/* --- watermarks --- */
enum watermark {
	WM_COMMITTED, /* in the hot log */
	WM_SYNCED,    /* would survive a power cut: in base or in the sync log. What fsync waits for */
	WM_DURABLE,   /* in base: what replay and upload see */
	WM_UPLOADED,  /* every slice live at some chosen end >= this is confirmed in S3 */
	WM_APPLIED,   /* Redis has it, and base knows that durably */
	WM_TRIM,
	WM_N
};
uint64_t journal_mark(const struct journal *j, enum watermark w);
/* Raises UPLOADED, APPLIED or TRIM (their owners do, after the record that says so is durable); wakes waiters. */
void journal_raise(struct journal *j, enum watermark w, uint64_t seq);
/* Calls fn(arg, err) once `w` >= seq (err 0), or when it can no longer happen (-EIO failed; -EROFS frozen, for UPLOADED
 * and APPLIED; -ENOSPC for SYNCED and DURABLE: the disk is full, the record is kept and tried again; -ESHUTDOWN closed; -ENOMEM).
 * Asks for it at once: a flush for DURABLE, a frame or a flush for SYNCED, a demand for UPLOADED/APPLIED. fn runs in the caller if already true,
 * else in the thread that raises it, no lock held. */
void journal_when(struct journal *j, enum watermark w, uint64_t seq, void (*fn)(void *arg, int err), void *arg);
int journal_wait(struct journal *j, enum watermark w, uint64_t seq); /* blocking form */
/* Highest sequence anybody demands of UPLOADED/APPLIED: what is below it is due now. */
uint64_t journal_demand(const struct journal *j, enum watermark w);
/* The last flush met a full disk; it is tried again. Any thread, lock NOT held. */
bool journal_full_disk(struct journal *j);
/* A callback after every advance of DURABLE, of a demand, or of failure (eventfd write or condition signal; must not block).
 * Set it once; NULL takes it away, but a call may be under way until journal_close. */
void journal_set_notify(struct journal *j, void (*fn)(void *arg), void *arg);
/* Age of the oldest record that a power cut would lose, in ms: `durable_lag`. */
uint64_t journal_durable_lag_ms(const struct journal *j);

/* --- the durable log (any thread, own snapshot, no lock) --- */
/* Calls fn for every replayable record (op < OP_INTERNAL) with from < seq <= upto (at most durable), in order; stops
 * when fn returns non-zero (returned). 0, -EUCLEAN, -EIO. */
int journal_log_scan(struct journal *j, uint64_t from, uint64_t upto,
	int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg);
/* Reads durable values without the lock: a snapshot of base only. fn gets every key with the prefix. */
int journal_base_scan(struct journal *j, const void *prefix, size_t n,
	int (*fn)(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen), void *arg);
int journal_base_get(struct journal *j, const struct jkey *k, struct buf *out); /* 0, -ENOENT, -EIO */

/* --- counters [locked]: the volume's used space and inodes as the view has them --- */
void journal_stats(struct journal *j, int64_t *space, int64_t *inodes);
/* Sets the starting point when Redis's counters were read at position `applied`. */
void journal_set_stats(struct journal *j, int64_t space, int64_t inodes);

/* Figures for .stats and tests. */
struct journal_figures {
	uint64_t commits, flushes, syncs, log_records, hot_used, hot_size, base_bytes, staging_bytes, staging_dirty;
	uint64_t last_flush_us;
	uint64_t log_bytes;    /* of base: records that trim has not passed */
	uint64_t staging_used; /* without room that is only preallocated */
};
void journal_figures(struct journal *j, struct journal_figures *out);

#endif
