/* State, commits and watermarks of the journal. The invariants are in journal.h. */
#include "journal/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "journal/journal_int.h"
#include "journal/kv.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"
#include "util/mutex.h"

#define HOT_SIZE       ((size_t)64 << 20)
#define HOT_SIZE_SMALL ((size_t)16 << 20) /* on a tmpfs that has no room for two of the usual */
#define HOT_SIZE_MIN   ((size_t)256 << 10)
#define DIRTY_LIMIT    ((uint64_t)256 << 20)
#define INTERVAL_MS    50

/* --- opening --- */

/* A small tmpfs (a container's /dev/shm) gets smaller logs, unless the caller named a size. */
static void size_hot(struct journal *j, const struct journal_config *cfg)
{
	struct statvfs s;
	struct stat sb;
	char path[4096];

	if (cfg->hot_size)
		return;
	snprintf(path, sizeof(path), "%s/0/data.mdb", j->dir.hot);
	if (stat(path, &sb) == 0 && (uint64_t)sb.st_size >= HOT_SIZE_SMALL && (uint64_t)sb.st_size <= HOT_SIZE) {
		j->hot_size = (size_t)sb.st_size; /* what was left there takes the room that it needs */
		return;
	}
	if (statvfs(j->dir.hot, &s))
		return;
	while (j->hot_size > HOT_SIZE_SMALL && 2 * (uint64_t)j->hot_size + HOT_SIZE_SMALL > (uint64_t)s.f_bavail * s.f_frsize)
		j->hot_size /= 2;
	if (j->hot_size < HOT_SIZE)
		log_warn("journal: little room for the hot logs dir=%s mib=%zu", j->dir.hot, j->hot_size >> 20);
}

static int open_hot(struct journal *j, const struct journal_config *cfg, struct journal_report *rep, struct errmsg *e)
{
	bool other_boot = false, any = false;
	int err = cachedir_hot(&j->dir, cfg->hot_dir, &other_boot, e);

	if (!err)
		size_hot(j, cfg);
	for (int i = 0; i < 2 && !err; i++) {
		struct generation *g = &j->gen[i];
		char path[4096];

		snprintf(path, sizeof(path), "%s/%d", j->dir.hot, i);
		g->ov = overlay_new();
		if (!g->ov)
			return errmsg_set(e, -ENOMEM, "out of memory");
		err = hot_open(&g->hot, path, j->hot_size, j->dir.id, e);
		if (err == -EUCLEAN) { /* it vanishes at a reboot anyway; the user must know */
			log_error("recovery: %s", e->text);
			snprintf(rep->first_bad, sizeof(rep->first_bad), "%.200s", e->text);
			rep->dropped++;
			err = hot_remake(&g->hot, e);
		}
		any = any || g->hot.found;
	}
	/* The logs were made anew though the last process did not say good-bye. */
	rep->power_cut = !err && !rep->fresh && !rep->clean && !any;
	return err;
}

static int check_home(struct journal *j, struct journal_report *rep)
{
	char have[sizeof(j->dir.home)];
	size_t n = sizeof(have);
	int err = base_meta_get(j, "home", have, &n);

	if (!err && n == strlen(j->dir.home) && memcmp(have, j->dir.home, n) == 0)
		return 0;
	if (err && err != -ENOENT)
		return err;
	rep->moved = err == 0;
	return j->read_only ? 0 : base_meta_put(j, "home", j->dir.home, strlen(j->dir.home));
}

/* From now on a crash may lose something: base must not go on saying that the last close was clean. A disk that is full now
 * may refuse it: then only the next mount's message would suffer. */
static int mark_unclean(struct journal *j, struct errmsg *e)
{
	struct base_state s = j->state;
	bool more;
	int err;

	if (s.clean == UINT64_MAX)
		return 0;
	s.clean = UINT64_MAX;
	err = base_write(j, NULL, &s, &more);
	if (err && err != -ENOSPC)
		return errmsg_set(e, err, "%s/base: %s", j->dir.path, strerror(-err));
	if (err)
		log_warn("journal: disk full, base still says clean dir=%s", j->dir.path);
	else
		j->state = s;
	return 0;
}

static int open_files(struct journal *j, const struct journal_config *cfg, struct journal_report *rep, struct errmsg *e)
{
	char path[4096];
	bool found;
	int err = cachedir_open(&j->dir, cfg->cache_dir, cfg->uuid, cfg->allow_any_fs, j->read_only, e);

	if (err)
		return err;
	err = base_open(j, e);
	if (!err)
		err = base_state_read(j, &j->state, &found, e);
	if (err)
		return err;
	rep->fresh = !found;
	rep->clean = found && j->state.clean == j->state.durable;
	err = check_home(j, rep);
	if (err)
		return errmsg_set(e, err, "%s/base: %s", cfg->cache_dir, strerror(-err));
	snprintf(path, sizeof(path), "%s/staging", cfg->cache_dir);
	err = staging_open(path, j->state.next_segment, &j->staging, e);
	if (err || j->read_only)
		return err;
	j->one_flush = base_flushes_staging(j);
	if (cfg->segment_size)
		staging_set_segment_size(j->staging, cfg->segment_size);
	j->space = j->state.space;
	j->inodes = j->state.inodes;
	err = open_hot(j, cfg, rep, e);
	if (!err)
		err = journal_recover(j, rep, e);
	j->state.life++; /* in base with its next commit; before there is a frame of this life */
	if (!err)
		err = mark_unclean(j, e);
	if (!err)
		staging_trim_tails(j->staging);
	return err;
}

static void start_marks(struct journal *j)
{
	atomic_store(&j->mark[WM_COMMITTED], j->state.durable);
	atomic_store(&j->mark[WM_SYNCED], j->state.durable);
	atomic_store(&j->mark[WM_DURABLE], j->state.durable);
	atomic_store(&j->mark[WM_TRIM], base_trim_target(j));
}

static void start_generation(struct journal *j)
{
	for (int i = 0; i < 2; i++)
		j->gen[i].ready = true;
	j->cur = &j->gen[(j->state.flushed_g + 1) & 1];
	j->cur->ready = false;
	j->cur->g = j->state.flushed_g + 1;
}

static void journal_free(struct journal *j)
{
	view_fini(j);
	for (int i = 0; i < 2; i++) {
		if (j->gen[i].hot.dir)
			hot_close(&j->gen[i].hot);
		overlay_free(j->gen[i].ov);
	}
	synclog_fini(&j->sync);
	synclog_forget(&j->kept);
	staging_close(j->staging);
	kv_close(j->base);
	cachedir_close(&j->dir);
	rec_fini(&j->rec);
	pthread_mutex_destroy(&j->lock);
	pthread_cond_destroy(&j->wake);
	pthread_cond_destroy(&j->room);
	free(j);
}

static struct journal *journal_new(const struct journal_config *cfg)
{
	struct journal *j = calloc(1, sizeof(*j));
	pthread_condattr_t attr;

	if (!j)
		return NULL;
	j->dir.fd = j->dir.lock_fd = j->dir.hot_lock_fd = -1;
	j->interval_ms = cfg->sync_interval_ms ? cfg->sync_interval_ms : INTERVAL_MS;
	j->dirty_limit = cfg->dirty_limit ? cfg->dirty_limit : DIRTY_LIMIT;
	j->hot_size = cfg->hot_size ? cfg->hot_size & ~(size_t)4095 : HOT_SIZE;
	if (j->hot_size < HOT_SIZE_MIN)
		j->hot_size = HOT_SIZE_MIN;
	j->read_only = cfg->read_only;
	rec_init(&j->rec);
	synclog_init(&j->sync);
	mutex_init_short(&j->lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&j->wake, &attr);
	pthread_cond_init(&j->room, &attr);
	pthread_condattr_destroy(&attr);
	return j;
}

int journal_open(const struct journal_config *cfg, struct journal **out, struct journal_report *rep, struct errmsg *e)
{
	struct journal_report unused;
	struct errmsg text = {""};
	struct journal *j = journal_new(cfg);
	int err;

	if (!j)
		return errmsg_set(e, -ENOMEM, "out of memory");
	rep = rep ? rep : &unused;
	e = e ? e : &text;
	*rep = (struct journal_report){0};
	if (!j->read_only)
		kv_catch_sigbus(); /* a cut file fails while it is opened */
	err = open_files(j, cfg, rep, e);
	if (!err && (err = snapshot_renew(j)) != 0)
		errmsg_set(e, err, "%s/base: %s", cfg->cache_dir, strerror(-err));
	if (err)
		goto fail;
	start_marks(j);
	if (!j->read_only) {
		start_generation(j);
		cachedir_reserve_make(&j->dir, cfg->reserve_size ? cfg->reserve_size : RESERVE_SIZE);
		err = -pthread_create(&j->flusher, NULL, flusher_main, j);
		if (err) {
			errmsg_set(e, err, "cannot start the flusher: %s", strerror(-err));
			goto fail;
		}
		j->flusher_runs = true;
	}
	*out = j;
	return 0;
fail:
	journal_free(j);
	return err;
}

static void flusher_stop(struct journal *j, bool abandon)
{
	pthread_mutex_lock(&j->lock);
	j->stop = true;
	j->abandon = abandon;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
	if (j->flusher_runs)
		pthread_join(j->flusher, NULL);
	j->flusher_runs = false;
}

/* Everything is in base: says so, with the position as the proof. */
static int write_clean(struct journal *j)
{
	struct base_state s = j->state;
	bool more;

	if (s.clean == s.durable && !j->state_dirty)
		return 0;
	s.clean = s.durable;
	s.space = j->space;
	s.inodes = j->inodes;
	s.next_segment = staging_next(j->staging);
	FAULT_POINT("journal.close.before_clean");
	int err = base_write(j, NULL, &s, &more);
	FAULT_POINT("journal.close.after_clean");
	return err;
}

static void hot_logs_remove(struct journal *j)
{
	for (int i = 0; i < 2; i++)
		hot_remove(&j->gen[i].hot);
	cachedir_hot_remove(&j->dir);
}

int journal_close(struct journal *j)
{
	struct waiter *w;
	char path[4096];
	int err = 0;

	if (!j)
		return 0;
	if (!j->read_only) {
		flusher_stop(j, false);
		if (atomic_load(&j->failed))
			err = -EIO;
		else if (j->frozen || j->cur->ops)
			err = -ENOSPC; /* kept in the hot logs for the next open */
		else
			err = write_clean(j);
		if (!err) {
			hot_logs_remove(j);
			snprintf(path, sizeof(path), "%s/base", j->dir.path);
			synclog_remove(&j->sync, path);
			staging_close_tails(j->staging);
		}
	}
	pthread_mutex_lock(&j->lock);
	w = j->waiters;
	j->waiters = NULL;
	pthread_mutex_unlock(&j->lock);
	for (struct waiter *x = w; x; x = x->next)
		x->err = err ? err : -ESHUTDOWN;
	waiters_fire(w);
	journal_free(j);
	return err;
}

void journal_abandon(struct journal *j)
{
	if (!j)
		return;
	flusher_stop(j, true);
	for (struct waiter *w = j->waiters; w;) {
		struct waiter *next = w->next;

		free(w);
		w = next;
	}
	journal_free(j);
}

/* --- small things --- */

void journal_lock(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
}

void journal_unlock(struct journal *j)
{
	pthread_mutex_unlock(&j->lock);
}

struct staging *journal_staging(struct journal *j)
{
	return j->staging;
}

const char *journal_cache_id(const struct journal *j)
{
	return j->dir.id;
}

bool journal_failed(const struct journal *j)
{
	return atomic_load(&j->failed);
}

const char *journal_failure(const struct journal *j)
{
	return atomic_load(&j->failed) || atomic_load(&j->frozen_ops) ? j->failure : "";
}

void journal_notify(struct journal *j)
{
	void (*fn)(void *arg) = atomic_load(&j->notify);

	if (fn)
		fn(j->notify_arg);
}

void journal_set_notify(struct journal *j, void (*fn)(void *arg), void *arg)
{
	if (fn) /* a call may be under way: it keeps its argument */
		j->notify_arg = arg;
	atomic_store(&j->notify, fn);
}

/* Called with the lock held. */
static void fail_locked(struct journal *j, const char *what, int err)
{
	if (atomic_load(&j->failed))
		return;
	if (!atomic_load(&j->frozen_ops))
		snprintf(j->failure, sizeof(j->failure), "%s failed: %s", what, strerror(-err));
	log_error("journal: failed, nothing more is acknowledged what=\"%s\" err=\"%s\" durable=%llu committed=%llu", what,
		strerror(-err), (unsigned long long)j->mark[WM_DURABLE], (unsigned long long)j->mark[WM_COMMITTED]);
	atomic_store(&j->failed, true);
	pthread_cond_broadcast(&j->room);
	pthread_cond_broadcast(&j->wake);
}

void journal_fail(struct journal *j, const char *what, int err)
{
	struct waiter *due;

	pthread_mutex_lock(&j->lock);
	fail_locked(j, what, err);
	due = waiters_due(j, 0);
	pthread_mutex_unlock(&j->lock);
	waiters_fire(due);
	journal_notify(j);
}

void journal_freeze(struct journal *j, const char *why)
{
	struct waiter *due;

	pthread_mutex_lock(&j->lock);
	if (!atomic_load(&j->failed) && !atomic_load(&j->frozen_ops))
		snprintf(j->failure, sizeof(j->failure), "%s", why);
	atomic_store(&j->frozen_ops, true);
	due = waiters_due(j, 0);
	pthread_mutex_unlock(&j->lock);
	waiters_fire(due);
	journal_notify(j);
}

/* --- committing --- */

struct rec *journal_begin(struct journal *j, enum rec_op op)
{
	j->rec_op = op;
	rec_begin(&j->rec, op, clock_wall_ns());
	return &j->rec;
}

uint64_t journal_next_seq(const struct journal *j)
{
	return atomic_load(&j->mark[WM_COMMITTED]) + 1;
}

static int no_room(struct journal *j)
{
	j->full = true;
	pthread_cond_signal(&j->wake);
	return j->nospace ? -ENOSPC : -EAGAIN;
}

static int commit_check(struct journal *j)
{
	int err;

	if (atomic_load(&j->failed))
		return -EIO;
	if (j->read_only || (atomic_load(&j->frozen_ops) && j->rec_op < OP_INTERNAL))
		return -EROFS;
	err = rec_finish(&j->rec);
	if (err)
		return err;
	if (j->rec.buf.len > j->hot_size / 8)
		return -E2BIG;
	return hot_fits(&j->cur->hot, j->rec.buf.len) ? 0 : no_room(j);
}

/* Fault points of their own for the records that nobody outside waits for: the steps of replay, upload and attaching. */
static void internal_point(const struct journal *j, bool after)
{
	static const struct {
		enum rec_op op;
		const char *name[2];
	} points[] = {
		{OP_LOAD, {FAULT_NAME("journal.commit.load.before"), FAULT_NAME("journal.commit.load.after")}},
		{OP_WINDOW, {FAULT_NAME("journal.commit.window.before"), FAULT_NAME("journal.commit.window.after")}},
		{OP_UPLOADED, {FAULT_NAME("journal.commit.uploaded.before"), FAULT_NAME("journal.commit.uploaded.after")}},
		{OP_APPLIED, {FAULT_NAME("journal.commit.applied.before"), FAULT_NAME("journal.commit.applied.after")}},
		{OP_REAP, {FAULT_NAME("journal.commit.reap.before"), FAULT_NAME("journal.commit.reap.after")}},
		{OP_TRIM, {FAULT_NAME("journal.commit.trim.before"), FAULT_NAME("journal.commit.trim.after")}},
		{OP_META, {FAULT_NAME("journal.commit.meta.before"), FAULT_NAME("journal.commit.meta.after")}},
	};

	for (size_t i = 0; fault_active && i < sizeof(points) / sizeof(points[0]); i++)
		if (points[i].op == j->rec_op)
			fault_hit(points[i].name[after]);
}

int journal_commit(struct journal *j, uint64_t *seq)
{
	struct generation *g = j->cur;
	struct rec_deltas sum = {0, 0};
	uint64_t s = journal_next_seq(j);
	int err = commit_check(j);

	if (err)
		return err;
	FAULT_POINT("journal.commit.before");
	internal_point(j, false);
	err = hot_put(&g->hot, g->g, s, j->rec.buf.data, j->rec.buf.len);
	if (!err)
		err = rec_apply_trusted(j->rec.buf.data, j->rec.buf.len, g->ov, &sum);
	if (err) {
		fail_locked(j, "commit", err);
		return -EIO;
	}
	FAULT_POINT("journal.commit.after");
	internal_point(j, true);
	if (g->ops++ == 0) {
		g->first = s;
		g->born_ms = clock_mono_ms();
		pthread_cond_signal(&j->wake); /* it has a deadline now */
	}
	g->last = s;
	j->space += sum.space;
	j->inodes += sum.inodes;
	j->commits++;
	atomic_store(&j->mark[WM_COMMITTED], s);
	if (seq)
		*seq = s;
	if (g->ops == FLUSH_OPS || ((g->ops % 64 == 0 || j->rec_op == OP_WRITE) && flush_due(j, g->born_ms)))
		pthread_cond_signal(&j->wake);
	return 0;
}

int journal_wait_room(struct journal *j)
{
	int err = 0;

	pthread_mutex_lock(&j->lock);
	pthread_cond_signal(&j->wake);
	while (!err && (j->full || staging_dirty(j->staging) >= j->dirty_limit)) {
		if (atomic_load(&j->failed))
			err = -EIO;
		else if (j->nospace)
			err = -ENOSPC;
		else
			pthread_cond_wait(&j->room, &j->lock);
	}
	if (!err && atomic_load(&j->failed))
		err = -EIO;
	pthread_mutex_unlock(&j->lock);
	return err;
}

bool journal_full_disk(struct journal *j)
{
	bool full;

	pthread_mutex_lock(&j->lock);
	full = j->nospace;
	pthread_mutex_unlock(&j->lock);
	return full;
}

bool journal_must_wait(const struct journal *j)
{
	return staging_dirty(j->staging) >= j->dirty_limit;
}

/* --- watermarks --- */

uint64_t journal_mark(const struct journal *j, enum watermark w)
{
	return atomic_load(&j->mark[w]);
}

uint64_t journal_demand(const struct journal *j, enum watermark w)
{
	return atomic_load(&j->demand[w]);
}

/* What can be said about a waiter now: 0 reached, 1 wait on, or the error. durable_err: why the last flush did not go
 * through. */
static int waiter_state(struct journal *j, enum watermark w, uint64_t seq, int durable_err)
{
	if (atomic_load(&j->mark[w]) >= seq)
		return 0;
	if (atomic_load(&j->failed))
		return -EIO;
	if ((w == WM_DURABLE || w == WM_SYNCED) && durable_err)
		return durable_err;
	if ((w == WM_UPLOADED || w == WM_APPLIED) && (atomic_load(&j->frozen_ops) || j->read_only))
		return -EROFS;
	return 1;
}

struct waiter *waiters_due(struct journal *j, int durable_err)
{
	struct waiter **at = &j->waiters, *due = NULL, **tail = &due;

	while (*at) {
		struct waiter *w = *at;
		int state = waiter_state(j, w->w, w->seq, durable_err);

		if (state > 0) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->err = state;
		w->next = NULL;
		*tail = w;
		tail = &w->next;
	}
	return due;
}

void waiters_fire(struct waiter *w)
{
	while (w) {
		struct waiter *next = w->next;

		w->fn(w->arg, w->err);
		free(w);
		w = next;
	}
}

void journal_raise(struct journal *j, enum watermark w, uint64_t seq)
{
	struct waiter *due;

	pthread_mutex_lock(&j->lock);
	if (seq > atomic_load(&j->mark[w]))
		atomic_store(&j->mark[w], seq);
	due = waiters_due(j, 0);
	pthread_mutex_unlock(&j->lock);
	waiters_fire(due);
}

void journal_when(struct journal *j, enum watermark w, uint64_t seq, void (*fn)(void *arg, int err), void *arg)
{
	struct waiter *n = NULL;
	bool demand = false;
	int state;

	pthread_mutex_lock(&j->lock);
	state = waiter_state(j, w, seq, 0);
	if (state > 0 && !(n = malloc(sizeof(*n))))
		state = -ENOMEM;
	if (n) {
		*n = (struct waiter){.next = j->waiters, .w = w, .seq = seq, .fn = fn, .arg = arg};
		j->waiters = n;
		uint64_t *wanted = w == WM_SYNCED ? &j->sync_wanted : &j->flush_wanted;

		if (seq > *wanted) { /* nothing is uploaded or applied that is not in base (P4) */
			*wanted = seq;
			pthread_cond_signal(&j->wake);
		}
		if (seq > atomic_load(&j->demand[w])) {
			atomic_store(&j->demand[w], seq);
			demand = true;
		}
	}
	pthread_mutex_unlock(&j->lock);
	if (!n)
		fn(arg, state);
	else if (demand && w != WM_DURABLE && w != WM_SYNCED)
		journal_notify(j);
}

struct blocking {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int err;
};

static void blocking_done(void *arg, int err)
{
	struct blocking *b = arg;

	pthread_mutex_lock(&b->lock);
	b->done = true;
	b->err = err;
	pthread_cond_signal(&b->cond);
	pthread_mutex_unlock(&b->lock);
}

int journal_wait(struct journal *j, enum watermark w, uint64_t seq)
{
	struct blocking b = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

	journal_when(j, w, seq, blocking_done, &b);
	pthread_mutex_lock(&b.lock);
	while (!b.done)
		pthread_cond_wait(&b.cond, &b.lock);
	pthread_mutex_unlock(&b.lock);
	pthread_mutex_destroy(&b.lock);
	pthread_cond_destroy(&b.cond);
	return b.err;
}

uint64_t journal_durable_lag_ms(const struct journal *cj)
{
	struct journal *j = (struct journal *)(uintptr_t)cj;
	const struct generation *g;
	uint64_t now = clock_mono_ms(), lag = 0, since;

	pthread_mutex_lock(&j->lock);
	g = j->frozen ? j->frozen : j->cur;
	since = g && g->born_ms > j->synced_ms ? g->born_ms : j->synced_ms;
	if (atomic_load(&j->mark[WM_COMMITTED]) > atomic_load(&j->mark[WM_SYNCED]) && g && g->ops && now > since)
		lag = now - since;
	pthread_mutex_unlock(&j->lock);
	return lag;
}

/* --- figures --- */

void journal_stats(struct journal *j, int64_t *space, int64_t *inodes)
{
	*space = j->space;
	*inodes = j->inodes;
}

void journal_set_stats(struct journal *j, int64_t space, int64_t inodes)
{
	j->space = space;
	j->inodes = inodes;
	j->state_dirty = true;
	pthread_cond_signal(&j->wake);
}

void journal_figures(struct journal *j, struct journal_figures *out)
{
	struct MDB_txn *txn;
	size_t n = 0;

	*out = (struct journal_figures){0};
	if (!kv_begin(j->base, false, &txn)) {
		kv_count(j->base, txn, BASE_LOG, &n);
		out->log_bytes = kv_bytes(j->base, txn, BASE_LOG) + kv_bytes(j->base, txn, BASE_DUE);
		kv_abort(txn);
	}
	out->log_records = n;
	out->base_bytes = (kv_last_page(j->base) + 1) * kv_page_size(j->base);
	out->staging_bytes = staging_bytes(j->staging);
	out->staging_dirty = staging_dirty(j->staging);
	out->staging_used = staging_used(j->staging);
	out->hot_size = j->hot_size;
	pthread_mutex_lock(&j->lock);
	out->commits = j->commits;
	out->flushes = j->flushes;
	out->syncs = j->syncs;
	out->last_flush_us = j->last_flush_us;
	out->hot_used = j->cur && j->cur->hot.kv ? hot_used(&j->cur->hot) : 0;
	pthread_mutex_unlock(&j->lock);
}
