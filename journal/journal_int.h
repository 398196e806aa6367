/* What the files of the journal share: journal.c (state, commits, watermarks), journal_view.c (reading),
 * journal_base.c (base: state, flush transaction, trim), journal_flush.c (the flusher), journal_sync.c (the short way of an fsync),
 * journal_recover.c. */
#ifndef JFS_JOURNAL_JOURNAL_INT_H
#define JFS_JOURNAL_JOURNAL_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "journal/cachedir.h"
#include "journal/hot.h"
#include "journal/journal.h"
#include "journal/overlay.h"
#include "journal/synclog.h"

struct kv;
struct MDB_txn;
struct MDB_cursor;

/* Tables of base. */
enum { BASE_VIEW, BASE_LOG, BASE_DUE, BASE_META };

/* First byte of a value in BASE_VIEW. */
enum { VIEW_TOMBSTONE = 0 /* + be64 seq */, VIEW_LIVE = 1 /* + the value */ };

#define FLUSH_OPS    4096u
#define FLUSH_STAGED ((uint64_t)64 << 20)
#define RESERVE_SIZE ((size_t)64 << 20)
#define TRIM_BATCH   4096u
#define ROOM_SPARE   ((uint64_t)64 << 20) /* a disk with less left is not filled with zeros */

/* The value of "state" in BASE_META: one flush changes it as a whole (FORMAT.md). */
struct base_state {
	uint64_t flushed_g, durable;
	uint64_t clean; /* == durable after a clean close, else UINT64_MAX */
	int64_t space, inodes;
	uint64_t next_segment;
	uint64_t trimmed; /* trim has been carried out up to here */
	uint64_t life;	  /* of the process that writes: frames of the sync log with another are void */
};

/* One generation: its hot log and the keys it changed. Under the lock while current, frozen while flushing. */
struct generation {
	struct hot hot;
	struct overlay *ov;
	bool ready; /* its hot log is empty: may become current */
	uint64_t g, first, last, ops;
	uint64_t born_ms;	       /* monotonic, first commit */
	int64_t space, inodes;	       /* the volume's figures at its end */
};

struct waiter {
	struct waiter *next;
	enum watermark w;
	uint64_t seq;
	void (*fn)(void *arg, int err);
	void *arg;
	int err;
};

struct view_iter {
	struct view_iter *next_free;
	struct journal *j;
	struct MDB_cursor *cursor; /* NULL until base was not empty once */
	const struct overlay_entry *ov[2];
	bool base_valid;
	const uint8_t *bkey, *bval;
	size_t bklen, bvlen;
	uint8_t prefix[JKEY_MAX];
	size_t prefix_len;
};

/* Where base's snapshot holds no key: from `from` on, below `to` (in the snapshot; NULL: to the end). */
struct base_gap {
	struct jkey from; /* len 0: this gap is none */
	const uint8_t *to;
	size_t to_len;
};

struct journal {
	struct cachedir dir;
	uint32_t interval_ms;
	uint64_t dirty_limit;
	size_t hot_size;
	bool read_only;
	bool one_flush; /* a sync of base flushes staging's device, too */
	struct kv *base;
	struct staging *staging;
	struct synclog sync; /* the flusher's; a tool's: none */
	struct sync_kept kept; /* of a tool: frames that are laid over base, */
	uint64_t kept_from;    /* from here on */
	pthread_t flusher;
	bool flusher_runs;
	void (*_Atomic notify)(void *arg);
	void *notify_arg;

	pthread_mutex_t lock; /* everything below */
	pthread_cond_t wake;  /* the flusher: there is something to do */
	pthread_cond_t room;  /* commits may succeed again */
	struct generation gen[2];
	struct generation *cur, *frozen; /* frozen NULL: nothing is being flushed */
	struct MDB_txn *snap;		 /* newest snapshot of base */
	bool base_empty;
	struct MDB_cursor *finder; /* of the snapshot, once finder_ready */
	bool finder_ready;
	struct base_gap gaps[4]; /* found last; of the snapshot */
	unsigned next_gap;
	struct view_iter *free_iters;
	int open_iters;
	struct rec rec;
	enum rec_op rec_op;
	struct base_state state; /* as in base; changed by the flusher only */
	bool state_dirty;	 /* figures were set without a record */
	int64_t space, inodes;
	bool full;    /* a commit found no room: flush now */
	bool nospace; /* the last flush met a full disk */
	bool stop, abandon;
	uint64_t flush_wanted; /* somebody waits for DURABLE up to here */
	uint64_t sync_wanted;  /* and for SYNCED */
	uint64_t synced_ms;    /* monotonic: when the last frame was taken */
	struct waiter *waiters;
	uint64_t commits, flushes, syncs, last_flush_us;
	char failure[256];

	_Atomic uint64_t mark[WM_N], demand[WM_N];
	_Atomic bool failed, frozen_ops;
};

/* journal.c */
void journal_fail(struct journal *j, const char *what, int err); /* lock NOT held; terminal */
void journal_notify(struct journal *j);
/* Takes out the waiters that can be answered; waiters_fire calls and frees them, lock NOT held. */
struct waiter *waiters_due(struct journal *j, int durable_err);
void waiters_fire(struct waiter *w);

/* journal_base.c */
int base_open(struct journal *j, struct errmsg *e);
/* -EUCLEAN: damaged; -ENOTSUP: of a newer version, whose number and remedy the text names. */
int base_state_read(struct journal *j, struct base_state *s, bool *found, struct errmsg *e);
/* The text for a journal that this program is too old for; always -ENOTSUP. */
int journal_is_newer(struct errmsg *e, const char *cache, const char *what, unsigned version, unsigned known);
/* One durable transaction: the generation (NULL: none), the state, a bounded piece of trim. On success *s has what was
 * written and *more tells that trim has more to do. -ENOSPC leaves base as it was. */
int base_write(struct journal *j, struct generation *gen, struct base_state *s, bool *more);
/* Does an fdatasync of base take bytes that were written to staging's device before through its cache? */
bool base_flushes_staging(const struct journal *j);
int base_meta_get(struct journal *j, const char *name, void *buf, size_t *len);
int base_meta_put(struct journal *j, const char *name, const void *val, size_t len);
uint64_t base_trim_target(struct journal *j);

/* journal_view.c */
int snapshot_renew(struct journal *j); /* [locked] */
void view_fini(struct journal *j);

/* journal_flush.c */
void *flusher_main(void *arg);
bool flush_due(struct journal *j, uint64_t now_ms);

/* journal_sync.c */
bool sync_due(const struct journal *j); /* [locked] */
/* The flusher's. 0: what was asked for is answered; 1: base must take it; an error is terminal. */
int sync_round(struct journal *j);
int sync_prepare(struct journal *j);

/* journal_recover.c */
int journal_recover(struct journal *j, struct journal_report *rep, struct errmsg *e);
/* Leaves the last frame out, which nobody may have been answered for, if bytes that it names are not on the disk. -ENOTSUP: *newer is
 * the version of a record in it. */
int frames_settle(struct journal *j, struct sync_kept *k, unsigned *newer);

#endif
