/* What open does with the hot logs of the process before (DESIGN 3.1 "After a crash").
 *
 * A log whose generation base has (g <= flushed_g) is emptied. The others are applied in order of g; their sequence
 * numbers must continue base's without a gap. Before base takes a record, every staged run that it brings (IF_NEW, not
 * IF_COPY) is synced and read back from the disk itself: a sync that failed in the life before is not forgiven (P12).
 * From the first record that fails any of this, everything is written to CACHE/setaside/ and reported. Recovery may be
 * killed at any point: nothing is emptied before base has it.
 *
 * Then comes what only the sync log has: all of it after a power cut, for the hot logs hold whatever it does. Its records are put
 * into an empty hot log again and go the same way, so a kill leaves a hot log that the next recovery takes, and frames of which it
 * skips what base has by then. The last frame may never have been answered: it is left out, whole, when its staged bytes are not on
 * the disk. A gap in front of it is damage, as it is in a hot log. Before the first operation of this life, frames that base did not
 * take are void: base's state has another life. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/journal_int.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define SET_ASIDE_TOLD 1000 /* records: who lost more looks into setaside/ */

struct recovery {
	struct journal *j;
	struct journal_report *rep;
	struct generation *gen;
	uint64_t next; /* the sequence number that must come */
	bool bad;
	unsigned newer, newer_frame; /* the version of a record, or of a frame of the sync log, that is too new */
	uint64_t segment; /* synced last */
	/* last run verified: several extents of a record may name one */
	uint64_t run_segment, run_sum;
	uint32_t run_off, run_len;
};

static int extent_check(struct recovery *r, const struct extent_val *v)
{
	int err;

	if (v->segment == r->run_segment && v->run_off == r->run_off && v->run_len == r->run_len && v->sum == r->run_sum)
		return 0;
	if (v->segment != r->segment) {
		err = staging_sync_segment(r->j->staging, v->segment);
		if (err)
			return err;
		r->segment = v->segment;
	}
	err = staging_verify(r->j->staging, v->segment, v->run_off, v->run_len, v->sum);
	if (!err) {
		r->run_segment = v->segment;
		r->run_off = v->run_off;
		r->run_len = v->run_len;
		r->run_sum = v->sum;
	}
	return err;
}

static void entry_name(const struct rec_item *i, char *out, size_t size)
{
	const uint8_t *name;
	uint64_t parent, hash;
	size_t n;

	if (key_parse_dentry(i->key, i->klen, &parent, &hash, &name, &n) == 0)
		snprintf(out, size, " of \"%.*s\" in directory %" PRIu64, (int)n, (const char *)name, parent);
}

/* Is the record whole, and are its bytes on the disk? Says why not. */
static int record_check(struct recovery *r, const void *rec, size_t len, char *why, size_t size)
{
	char about[300] = "";
	struct rec_header h;
	struct rec_reader it;
	struct rec_item i;
	int err = rec_open(rec, len, &h, &it);

	if (err) {
		snprintf(why, size, "%s", err == -ENOTSUP ? "written by a newer version" : "damaged record");
		return err;
	}
	while (!err && rec_next(&it, &i) == 1) {
		struct extent_val v;
		uint64_t ino;
		uint32_t chunk, last;

		if (i.kind == IT_PUT && i.key[0] == T_DENTRY)
			entry_name(&i, about, sizeof(about));
		if (i.kind != IT_PUT || i.key[0] != T_EXTENT)
			continue;
		if (key_parse_extent(i.key, i.klen, &ino, &chunk, &last) || extent_val_decode(i.val, i.vlen, &v)) {
			snprintf(why, size, "damaged extent%.160s", about);
			return -EUCLEAN;
		}
		if (!(i.flags & IF_NEW) || (i.flags & IF_COPY) || v.kind != EXT_STAGED)
			continue;
		err = extent_check(r, &v);
		if (err)
			snprintf(why, size, "bytes at %llu of inode %" PRIu64 " are not on disk (%s)",
				(unsigned long long)chunk * JFS_CHUNK_SIZE + v.pos, ino, strerror(-err));
	}
	return err;
}

static int set_aside(struct recovery *r, uint64_t seq, const void *rec, size_t len)
{
	char name[64];

	snprintf(name, sizeof(name), "%020" PRIu64 "-%" PRIu64 ".rec", seq, r->gen->g);
	FAULT_POINT("recovery.setaside");
	return cachedir_setaside(&r->j->dir, name, rec, len);
}

/* Says what the record was about, as far as it can be read. */
static void tell_set_aside(const struct recovery *r, uint64_t seq, const void *rec, size_t len)
{
	char about[300] = "";
	struct rec_header h;
	struct rec_reader it;
	struct rec_item i;

	if (r->rep->dropped > SET_ASIDE_TOLD || rec_open(rec, len, &h, &it))
		return;
	while (!about[0] && rec_next(&it, &i) == 1)
		if ((i.kind == IT_PUT || i.kind == IT_DEL) && i.key[0] == T_DENTRY)
			entry_name(&i, about, sizeof(about));
	if (about[0])
		log_error("recovery: set aside seq=%" PRIu64 " op=%d what=\"a change%s\"", seq, (int)h.op, about);
}

/* Errors that say nothing about the record: recovery stops, and the next one finds everything as it was. A record of a
 * newer version is whole too: whoever wrote it can still take it. */
static bool err_is_ours(int err)
{
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EACCES || err == -ENOTSUP;
}

static int take_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct recovery *r = arg;
	struct generation *g = r->gen;
	struct rec_deltas sum = {0, 0};
	char why[200];
	int err = 0;

	FAULT_POINT("recovery.step");
	if (!r->bad && seq != r->next) {
		r->bad = true;
		snprintf(why, sizeof(why), "the log goes on at %" PRIu64 ", the journal ends before %" PRIu64, seq, r->next);
	} else if (!r->bad) {
		err = record_check(r, rec, len, why, sizeof(why));
		if (err == -ENOTSUP)
			r->newer = rec_version(rec, len);
		if (err_is_ours(err))
			return err;
		r->bad = err != 0;
	}
	if (r->bad) {
		if (r->rep->dropped++ == 0) {
			snprintf(r->rep->first_bad, sizeof(r->rep->first_bad), "record %" PRIu64 ": %s", seq, why);
			log_error("recovery: set aside from here on seq=%" PRIu64 " why=\"%s\"", seq, why);
		}
		tell_set_aside(r, seq, rec, len);
		return set_aside(r, seq, rec, len);
	}
	err = rec_apply(rec, len, g->ov, &sum);
	if (err)
		return err;
	if (g->ops++ == 0)
		g->first = seq;
	g->last = seq;
	r->next = seq + 1;
	r->j->space += sum.space;
	r->j->inodes += sum.inodes;
	r->rep->recovered++;
	return 0;
}

/* Puts what was good of a generation into base and empties its log. */
static int finish_generation(struct recovery *r)
{
	struct journal *j = r->j;
	struct generation *g = r->gen;
	struct base_state s = j->state;
	bool more;
	int err = 0;

	if (g->ops) {
		g->space = s.space = j->space;
		g->inodes = s.inodes = j->inodes;
		s.next_segment = staging_next(j->staging);
		FAULT_POINT("recovery.before_base");
		err = base_write(j, g, &s, &more);
		if (err == -ENOSPC && cachedir_reserve_give(&j->dir))
			err = base_write(j, g, &s, &more);
		FAULT_POINT("recovery.after_base");
		if (err)
			return err;
		j->state = s;
	} else if (g->g > j->state.flushed_g) { /* nothing of it was good: it must not be met again */
		s.flushed_g = g->g;
		s.clean = UINT64_MAX;
		err = base_write(j, NULL, &s, &more);
		if (err)
			return err;
		j->state = s;
	}
	overlay_clear(g->ov);
	g->ops = 0;
	FAULT_POINT("recovery.before_empty");
	return hot_reset(&g->hot);
}

static int recover_generation(struct recovery *r, struct generation *g)
{
	int err;

	g->g = g->hot.g;
	r->gen = g;
	if (g->g <= r->j->state.flushed_g)
		return hot_reset(&g->hot);
	err = hot_scan(&g->hot, 1, UINT64_MAX, take_record, r);
	return err ? err : finish_generation(r);
}

/* --- the sync log --- */

static int check_frame_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct recovery *r = arg;
	char why[200];
	int err = record_check(r, rec, len, why, sizeof(why));

	if (err == -ENOTSUP)
		r->newer = rec_version(rec, len);
	if (err == -EBADMSG)
		log_info("recovery: the last sync was not finished seq=%" PRIu64 " why=\"%s\"", seq, why);
	return err == -EBADMSG || err_is_ours(err) ? err : 0; /* anything else is damage: told when the record is taken */
}

int frames_settle(struct journal *j, struct sync_kept *k, unsigned *newer)
{
	struct recovery r = {.j = j, .segment = UINT64_MAX, .run_segment = UINT64_MAX};
	struct sync_kept last = {.frame = &k->frame[k->n - 1], .n = 1};
	int err = k->damaged ? 0 : synclog_scan(&last, j->state.durable + 1, check_frame_record, &r);

	*newer = r.newer;
	if (err == -EBADMSG)
		k->n--;
	staging_verify_end(j->staging);
	return err == -EBADMSG || err == -EUCLEAN ? 0 : err;
}

static int put_frame_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct recovery *r = arg;
	struct journal *j = r->j;
	struct generation *g = &j->gen[(j->state.flushed_g + 1) & 1];
	int err;

	FAULT_POINT("recovery.sync.before_put");
	if (!hot_fits(&g->hot, len)) {
		err = recover_generation(r, g);
		g = &j->gen[(j->state.flushed_g + 1) & 1];
		if (err || !hot_fits(&g->hot, len))
			return err ? err : -EFBIG;
	}
	return hot_put(&g->hot, j->state.flushed_g + 1, seq, rec, len);
}

/* Durably, so that no later record can be taken for one that goes on behind them. */
static int frames_void(struct journal *j)
{
	struct base_state s = j->state;
	bool more;
	int err;

	s.life++;
	s.clean = UINT64_MAX;
	err = base_write(j, NULL, &s, &more);
	if (err == -ENOSPC && cachedir_reserve_give(&j->dir))
		err = base_write(j, NULL, &s, &more);
	if (!err)
		j->state = s;
	return err;
}

static int frames_recover(struct recovery *r, struct sync_kept *k)
{
	struct journal *j = r->j;
	uint64_t before = r->rep->recovered;
	int err = frames_settle(j, k, &r->newer);

	if (!err)
		err = synclog_scan(k, r->next, put_frame_record, r);
	if (!err && !j->gen[(j->state.flushed_g + 1) & 1].hot.empty)
		err = recover_generation(r, &j->gen[(j->state.flushed_g + 1) & 1]);
	r->rep->synced = r->rep->recovered - before;
	r->rep->recovered = before;
	return err;
}

static int sync_log_recover(struct recovery *r)
{
	struct journal *j = r->j;
	struct sync_kept kept;
	char dir[4096];
	int err;

	snprintf(dir, sizeof(dir), "%s/base", j->dir.path);
	err = synclog_load(dir, j->dir.id, j->state.life, j->state.durable, &kept);
	if (err == -EIO && r->rep->recovered) { /* the hot logs hold what it does */
		log_warn("recovery: the sync log cannot be read, nor is it needed dir=%s", dir);
		return 0;
	}
	if (!err && kept.n) {
		uint64_t last = kept.frame[kept.n - 1].last;

		if (kept.damaged) /* take_record meets the gap, and sets aside what lies behind it */
			log_error("recovery: a frame of the sync log is damaged, whole ones follow it dir=%s", dir);
		if (!r->bad) /* else what comes behind the damage is set aside already */
			err = frames_recover(r, &kept);
		FAULT_POINT("recovery.sync.before_void");
		if (!err && last > j->state.durable)
			err = frames_void(j);
	}
	r->newer_frame = kept.newer;
	synclog_forget(&kept);
	return err;
}

int journal_recover(struct journal *j, struct journal_report *rep, struct errmsg *e)
{
	struct recovery r = {.j = j, .rep = rep, .next = j->state.durable + 1, .segment = UINT64_MAX, .run_segment = UINT64_MAX};
	struct generation *order[2] = {&j->gen[0], &j->gen[1]};
	int err = 0;

	if (!order[0]->hot.empty && !order[1]->hot.empty && order[1]->hot.g < order[0]->hot.g) {
		order[0] = &j->gen[1];
		order[1] = &j->gen[0];
	}
	for (int i = 0; i < 2 && !err; i++)
		if (!order[i]->hot.empty)
			err = recover_generation(&r, order[i]);
	if (!err)
		err = sync_log_recover(&r);
	staging_verify_end(j->staging);
	if (err == -ENOTSUP)
		return r.newer ? journal_is_newer(e, j->dir.path, "hot log", r.newer, REC_VERSION)
			       : journal_is_newer(e, j->dir.path, "sync log", r.newer_frame, SYNC_FRAME_VERSION);
	if (err)
		return errmsg_set(e, err, "%s: recovery failed, nothing was lost, %smount again: %s", j->dir.path,
			err == -ENOSPC ? "make room on that disk and " : "", strerror(-err));
	if (rep->dropped)
		log_error("recovery: %" PRIu64 " records set aside dir=%s/setaside", rep->dropped, j->dir.path);
	return 0;
}
