/* See inspect.h. The two generations stand where a running journal has them: the older one as `frozen`, the newer as
 * `cur`, so the view's own code merges them. */
#include "journal/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "journal/journal_int.h"
#include "journal/kv.h"

struct taking {
	struct journal *j;
	struct inspect *rep;
	struct generation *gen;
	uint64_t next; /* the sequence number that must come */
	unsigned newer; /* the version of a record that is too new */
};

static void note_bad(struct inspect *rep, const char *text)
{
	if (rep->hot_bad++ == 0)
		snprintf(rep->first_bad, sizeof(rep->first_bad), "%s", text);
}

static int take(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct taking *t = arg;
	struct rec_deltas sum = {0, 0};
	struct rec_header h;
	struct rec_reader it;
	char why[160];
	int err;

	if (t->rep->hot_bad) { /* nothing is taken behind a gap */
		t->rep->hot_bad++;
		return 0;
	}
	if (seq != t->next) {
		snprintf(why, sizeof(why), "the log goes on at %" PRIu64 ", the journal ends before %" PRIu64, seq, t->next);
		note_bad(t->rep, why);
		return 0;
	}
	err = rec_open(rec, len, &h, &it);
	if (!err)
		err = rec_apply(rec, len, t->gen->ov, &sum);
	if (err == -ENOTSUP)
		t->newer = rec_version(rec, len);
	if (err == -ENOMEM || err == -ENOTSUP)
		return err; /* says nothing about the record: see journal_recover.c */
	if (err) {
		snprintf(why, sizeof(why), "record %" PRIu64 ": damaged record", seq);
		note_bad(t->rep, why);
		return 0;
	}
	if (t->gen->ops++ == 0)
		t->gen->first = seq;
	t->gen->last = seq;
	t->next = seq + 1;
	t->rep->hot_records++;
	t->rep->space += sum.space;
	t->rep->inodes += sum.inodes;
	return 0;
}

/* Opens both logs; what is damaged is noted and left out. */
static int open_logs(struct journal *j, struct inspect *rep, struct errmsg *e)
{
	for (int i = 0; i < 2; i++) {
		struct generation *g = &j->gen[i];
		struct errmsg why = {""};
		char path[4096];
		int err;

		snprintf(path, sizeof(path), "%s/%d", j->dir.hot, i);
		g->ov = overlay_new();
		if (!g->ov)
			return errmsg_set(e, -ENOMEM, "out of memory");
		err = hot_open_read(&g->hot, path, j->dir.id, &why);
		if (err == -ENOMEM)
			return errmsg_set(e, err, "%s", why.text);
		if (err && err != -ENOENT) {
			note_bad(rep, why.text);
			g->hot.empty = true;
		}
	}
	return 0;
}

static int lay_over(struct journal *j, struct inspect *rep, struct errmsg *e)
{
	struct generation *order[2] = {&j->gen[0], &j->gen[1]};
	struct taking t = {.j = j, .rep = rep, .next = j->state.durable + 1};
	int err = open_logs(j, rep, e);

	if (!order[0]->hot.empty && !order[1]->hot.empty && order[1]->hot.g < order[0]->hot.g) {
		order[0] = &j->gen[1];
		order[1] = &j->gen[0];
	}
	for (int i = 0; i < 2 && !err; i++) {
		struct generation *g = order[i];

		if (g->hot.empty || g->hot.g <= j->state.flushed_g)
			continue;
		t.gen = g;
		err = hot_scan(&g->hot, 1, UINT64_MAX, take, &t);
		if (err == -EUCLEAN || err == -EIO) {
			note_bad(rep, "a hot log is damaged");
			err = 0;
		}
		if (err == -ENOTSUP)
			return journal_is_newer(e, j->dir.path, "hot log", t.newer, REC_VERSION);
		if (err)
			return errmsg_set(e, err, "%s: %s", j->dir.hot, strerror(-err));
		if (g->ops == 0)
			continue;
		j->frozen = j->cur;
		j->cur = g;
	}
	atomic_store(&j->mark[WM_COMMITTED], t.next - 1);
	return err;
}

/* What only the sync log has: after a power cut, all of it. */
static int lay_frames(struct journal *j, struct inspect *rep, struct errmsg *e)
{
	struct generation *g = j->cur ? j->cur : &j->gen[0], was = *g;
	struct taking t = {.j = j, .rep = rep, .gen = g, .next = journal_mark(j, WM_COMMITTED) + 1};
	char dir[4096];
	int err;

	snprintf(dir, sizeof(dir), "%s/base", j->dir.path);
	err = synclog_load(dir, j->dir.id, j->state.life, j->state.durable, &j->kept);
	if (!err && j->kept.n)
		err = frames_settle(j, &j->kept, &t.newer);
	if (!err && !g->ov && !(g->ov = overlay_new()))
		err = -ENOMEM;
	j->kept_from = t.next;
	if (!err)
		err = synclog_scan(&j->kept, t.next, take, &t);
	if (err == -EUCLEAN) {
		note_bad(rep, "the sync log is damaged");
		err = 0;
	}
	if (err == -ENOTSUP)
		return t.newer ? journal_is_newer(e, j->dir.path, "hot log", t.newer, REC_VERSION)
			       : journal_is_newer(e, j->dir.path, "sync log", j->kept.newer, SYNC_FRAME_VERSION);
	if (err)
		return errmsg_set(e, err, "%s/sync.log: %s", dir, strerror(-err));
	if (t.next > j->kept_from) {
		j->cur = g;
		g->first = was.first; /* those that its hot log has */
		g->last = was.last;
		g->ops = was.ops;
	}
	atomic_store(&j->mark[WM_COMMITTED], t.next - 1);
	return 0;
}

int journal_inspect(const struct journal_config *cfg, struct journal **out, struct inspect *rep, struct errmsg *e)
{
	struct journal_config ro = *cfg;
	struct journal_report found;
	struct errmsg text = {""};
	struct journal *j = NULL;
	int err;

	e = e ? e : &text;
	*rep = (struct inspect){0};
	ro.read_only = true;
	err = journal_open(&ro, &j, &found, e);
	if (err)
		return err;
	err = cachedir_hold(&j->dir, e);
	if (!err && (err = snapshot_renew(j)) != 0) /* a daemon may have ended only now */
		errmsg_set(e, err, "%s/base: %s", cfg->cache_dir, strerror(-err));
	if (!err)
		err = base_state_read(j, &j->state, &(bool){false}, e);
	if (err)
		goto fail;
	*rep = (struct inspect){.clean = j->state.clean == j->state.durable, .moved = found.moved,
		.flushed_g = j->state.flushed_g, .durable = j->state.durable, .trimmed = j->state.trimmed,
		.space = j->state.space, .inodes = j->state.inodes};
	atomic_store(&j->mark[WM_DURABLE], j->state.durable);
	atomic_store(&j->mark[WM_COMMITTED], j->state.durable);
	err = cachedir_hot_find(&j->dir, cfg->hot_dir, e);
	rep->hot_found = err == 0;
	snprintf(rep->hot, sizeof(rep->hot), "%s", j->dir.hot ? j->dir.hot : "");
	if (!err)
		err = lay_over(j, rep, e);
	else if (err == -ENOENT)
		err = 0;
	if (!err && !rep->hot_bad && !rep->clean)
		err = lay_frames(j, rep, e);
	if (err)
		goto fail;
	*out = j;
	return 0;
fail:
	journal_close(j);
	return err;
}

int journal_inspect_hot(struct journal *j, int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg)
{
	struct generation *order[2] = {j->frozen, j->cur};
	int err = 0;

	for (int i = 0; i < 2 && !err; i++)
		if (order[i] && order[i]->ops)
			err = hot_scan(&order[i]->hot, order[i]->first, order[i]->last, fn, arg);
	return err ? err : synclog_scan(&j->kept, j->kept_from, fn, arg);
}
