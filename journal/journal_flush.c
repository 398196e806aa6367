/* The flusher: one thread, the only writer of base and of the sync log. An fsync that finds no flush due gets a frame of that log
 * (journal_sync.c).
 *
 * A round: swap (the other generation is empty) -> sync staging -> one base transaction -> new snapshot, drop the frozen
 * overlay, raise DURABLE -> empty the hot log -> answer the waiters. A kill between any two steps is covered by
 * recovery: what base has not taken is still in the hot logs, what it has taken is told by flushed_g.
 * A full disk leaves everything as it is; the round is repeated every interval, with the reserve given up. */
#include <errno.h>
#include <string.h>

#include "journal/journal_int.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

static bool gen_due(struct journal *j, uint64_t now_ms)
{
	const struct generation *c = j->cur;

	if (c->ops == 0)
		return false;
	return j->stop || j->full || c->ops >= FLUSH_OPS || now_ms >= c->born_ms + j->interval_ms ||
	       j->flush_wanted >= c->first || hot_used(&c->hot) >= c->hot.size / 2;
}

/* Called with the lock held: is there a reason to start a round now? */
bool flush_due(struct journal *j, uint64_t now_ms)
{
	uint64_t staged = j->dirty_limit < FLUSH_STAGED ? j->dirty_limit : FLUSH_STAGED;

	return j->frozen || gen_due(j, now_ms) || staging_dirty(j->staging) >= staged;
}

/* Waits until there is something to do. False: stop. */
static bool flusher_wait(struct journal *j, bool retry, bool trim_more)
{
	uint64_t start = clock_mono_ms();

	for (;;) {
		uint64_t now = clock_mono_ms(), until = UINT64_MAX;

		if (j->abandon || atomic_load(&j->failed))
			return false;
		if (retry) { /* the disk was full: not before the interval is over */
			if (j->stop || now >= start + j->interval_ms)
				return true;
			until = start + j->interval_ms;
		} else {
			if (flush_due(j, now) || sync_due(j))
				return true;
			if (j->stop)
				return false;
			if (j->cur->ops)
				until = j->cur->born_ms + j->interval_ms;
			if ((trim_more || j->state_dirty) && until > start + j->interval_ms)
				until = start + j->interval_ms;
			if (now >= until)
				return true;
		}
		if (until == UINT64_MAX) {
			pthread_cond_wait(&j->wake, &j->lock);
		} else {
			struct timespec ts = clock_mono_after_ms(until - now);

			pthread_cond_timedwait(&j->wake, &j->lock, &ts);
		}
	}
}

/* Freezes the current generation if it holds anything and the other one can take over. */
static void swap(struct journal *j)
{
	struct generation *old = j->cur, *other = old == &j->gen[0] ? &j->gen[1] : &j->gen[0];

	if (j->frozen || old->ops == 0 || !other->ready)
		return;
	FAULT_POINT("journal.swap");
	old->space = j->space;
	old->inodes = j->inodes;
	other->g = old->g + 1;
	other->ops = 0;
	other->ready = false;
	j->frozen = old;
	j->cur = other;
	j->full = false;
	pthread_cond_broadcast(&j->room);
}

/* Lock not held. */
static int write_base(struct journal *j, struct generation *gen, struct base_state *s, bool *more)
{
	int err;

	s->next_segment = staging_next(j->staging);
	FAULT_POINT("journal.flush.before_base");
	err = base_write(j, gen, s, more);
	if (err == -ENOSPC && cachedir_reserve_give(&j->dir)) {
		log_warn("journal: disk full, the reserve was given up to carry on dir=%s", j->dir.path);
		staging_hold(j->staging, true);
		err = base_write(j, gen, s, more);
	}
	FAULT_POINT("journal.flush.after_commit");
	return err;
}

/* The generation is in base. Called with the lock held. */
static int gen_done(struct journal *j, struct generation *gen)
{
	int err = snapshot_renew(j);

	if (err)
		return err;
	gen->ops = 0;
	j->frozen = NULL;
	j->flushes++;
	if (gen->last > atomic_load(&j->mark[WM_SYNCED]))
		atomic_store(&j->mark[WM_SYNCED], gen->last);
	atomic_store(&j->mark[WM_DURABLE], gen->last);
	return 0;
}

/* One round. 0; -ENOSPC: try again later; another error is terminal. *waited: somebody waited for it. */
static int flush_round(struct journal *j, bool *trim_more, bool *waited)
{
	uint64_t t0 = clock_mono_ns();
	struct waiter *due = NULL;
	struct generation *gen;
	struct base_state s;
	int err;

	pthread_mutex_lock(&j->lock);
	swap(j);
	gen = j->frozen;
	*waited = gen && (j->flush_wanted >= gen->first || j->sync_wanted >= gen->first);
	s = j->state;
	s.space = gen ? gen->space : j->space;
	s.inodes = gen ? gen->inodes : j->inodes;
	if (!gen && j->cur->ops) { /* figures of records that are not durable must not get ahead */
		s.space = j->state.space;
		s.inodes = j->state.inodes;
	}
	j->state_dirty = false;
	pthread_mutex_unlock(&j->lock);

	FAULT_POINT("journal.flush.before_sync");
	err = staging_sync(j->staging, j->one_flush);
	if (!err)
		err = write_base(j, gen, &s, trim_more);
	pthread_mutex_lock(&j->lock);
	if (!err) {
		j->state = s;
		err = gen ? gen_done(j, gen) : 0;
	}
	j->nospace = err == -ENOSPC;
	if (err == -ENOSPC || !err)
		due = waiters_due(j, err);
	j->last_flush_us = (clock_mono_ns() - t0) / 1000;
	pthread_cond_broadcast(&j->room);
	pthread_mutex_unlock(&j->lock);
	waiters_fire(due);
	if (err)
		return err;
	if (gen) {
		overlay_clear(gen->ov); /* nobody sees it any more */
		synclog_restart(&j->sync, s.durable);
		err = hot_reset(&gen->hot);
		if (err == -ENOSPC) /* it is base's word for "try again": a log that cannot be emptied is the end */
			err = -EIO;
		FAULT_POINT("journal.flush.after_empty");
		if (err)
			return err;
		pthread_mutex_lock(&j->lock);
		gen->ready = true;
		pthread_mutex_unlock(&j->lock);
		journal_notify(j);
	}
	return 0;
}

/* What need not be done before the waiters are answered. An error is terminal. */
static int flusher_housekeeping(struct journal *j, bool waited)
{
	int err;

	if (j->dir.reserve_gone) {
		cachedir_reserve_make(&j->dir, j->dir.reserve_size);
		if (!j->dir.reserve_gone)
			staging_hold(j->staging, false);
	}
	err = staging_prepare(j->staging);
	if (err && err != -ENOSPC)
		log_warn("staging: cannot make a segment ahead err=\"%s\"", strerror(-err));
	if (!waited || cachedir_room(&j->dir) < ROOM_SPARE)
		return 0;
	err = sync_prepare(j);
	return err ? err : staging_zero_ahead(j->staging);
}

/* A commit failed with the lock held: its waiters are answered from here. */
static void answer_failure(struct journal *j)
{
	struct waiter *due;

	pthread_mutex_lock(&j->lock);
	due = waiters_due(j, 0);
	pthread_mutex_unlock(&j->lock);
	waiters_fire(due);
	journal_notify(j);
}

void *flusher_main(void *arg)
{
	struct journal *j = arg;
	bool retry = false, waited = false, trim_more = base_trim_target(j) > j->state.trimmed;
	long long said = 0;
	int err;

	pthread_setname_np(pthread_self(), "jfs-flush");
	for (;;) {
		pthread_mutex_lock(&j->lock);
		bool go = flusher_wait(j, retry, trim_more);
		bool stop = j->stop, base = retry || !sync_due(j) || flush_due(j, clock_mono_ms());
		pthread_mutex_unlock(&j->lock);
		if (!go) {
			if (atomic_load(&j->failed))
				answer_failure(j);
			return NULL;
		}
		err = base ? 1 : sync_round(j);
		waited = true;
		if (err > 0)
			err = flush_round(j, &trim_more, &waited);
		retry = err == -ENOSPC;
		if (retry && log_ratelimit(&said, 60000))
			log_error("journal: disk full, waiting for room dir=%s", j->dir.path);
		if (!err)
			err = flusher_housekeeping(j, waited);
		if (err && !retry) {
			journal_fail(j, "flush", err);
			return NULL;
		}
		if (retry && stop)
			return NULL;
	}
}
