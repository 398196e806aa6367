/* The short way of an fsync: one frame of the sync log (synclog.h) in place of a flush of base.
 *
 * A round: take the records that are not durable from the current hot log -> write their frame -> write the staged bytes to the
 * device -> one fdatasync of the log, which on a file system that allows it (journal_base.c) is the flush for both -> raise SYNCED,
 * answer. What base does not have stays where it is, for the next flush; DURABLE, and so all that replay and upload see, does not
 * move. A kill between any two steps finds all of it in the hot log. */
#include <errno.h>
#include <stdio.h>

#include "journal/journal_int.h"
#include "util/clock.h"
#include "util/fault.h"

/* Called with the lock held: does somebody wait for a frame? */
bool sync_due(const struct journal *j)
{
	uint64_t synced = atomic_load(&j->mark[WM_SYNCED]);

	return j->cur->ops && j->sync_wanted > synced && j->cur->last > synced;
}

static int take(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct buf *frame = arg;

	(void)seq;
	sync_frame_add(frame, rec, len);
	return frame->len > SYNC_FRAME_MAX;
}

/* The records first..last, with the lock held: a hot log has one reader or writer at a time. 0; 1: base must take them; -errno. */
static int frame_fill(struct journal *j, uint64_t *first, uint64_t *last)
{
	*first = atomic_load(&j->mark[WM_SYNCED]) + 1;
	*last = j->cur->last;
	if (!synclog_ready(&j->sync) || j->frozen || !sync_due(j) || j->cur->first > *first)
		return 1;
	sync_frame_begin(&j->sync.frame);
	return hot_scan(&j->cur->hot, *first, *last, take, &j->sync.frame);
}

int sync_round(struct journal *j)
{
	uint64_t first, last, taken;
	struct waiter *due;
	int err;

	pthread_mutex_lock(&j->lock);
	err = frame_fill(j, &first, &last);
	taken = clock_mono_ms();
	pthread_mutex_unlock(&j->lock);
	if (err)
		return err;
	FAULT_POINT("journal.sync.before_write");
	err = synclog_write(&j->sync, first, last);
	if (err)
		return err == -ENOSPC ? 1 : err;
	FAULT_POINT("journal.sync.before_staging");
	err = staging_sync(j->staging, j->one_flush);
	FAULT_POINT("journal.sync.before_sync");
	if (!err)
		err = synclog_sync(&j->sync);
	FAULT_POINT("journal.sync.after_sync");
	if (err)
		return err;
	pthread_mutex_lock(&j->lock);
	atomic_store(&j->mark[WM_SYNCED], last);
	j->synced_ms = taken;
	j->syncs++;
	due = waiters_due(j, 0);
	pthread_cond_broadcast(&j->room);
	pthread_mutex_unlock(&j->lock);
	waiters_fire(due);
	return 0;
}

/* After a flush, when fsyncs are met: base says by now that this life has its number. */
int sync_prepare(struct journal *j)
{
	char dir[4096];

	if (synclog_ready(&j->sync) || j->sync.off)
		return 0;
	snprintf(dir, sizeof(dir), "%s/base", j->dir.path);
	return synclog_make(&j->sync, dir, j->dir.id, j->state.life, j->state.durable);
}
