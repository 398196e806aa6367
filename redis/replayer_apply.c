/* What replay commits to the journal. "Applied" is several records: where staged bytes went (T_SMAP), lists (T_PUBLISHED),
 * extents that now lie in objects; the last one moves the position. Anything between them may be lost in a crash: Redis's
 * position says what was executed, and the recorded window is adopted again. All of it is idempotent. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/replayer_int.h"
#include "util/clock.h"
#include "util/log.h"

#define BATCH 512	  /* posts or places handled under one hold of the journal's lock */
#define EXTENTS 2048	  /* and extents: a file may have as many as it likes, a record not */
#define BYTES	(128u << 10) /* and bytes of lists */

/* --- committing in batches --- */

struct apply {
	const struct window *w;
	const struct places *pl;
	bool listed; /* whatever the lists name is in the object store */
	size_t at; /* first of this batch */
	uint32_t pos; /* and where in its chunk */
	size_t next_at; /* where the next one begins */
	uint32_t next_pos;
};

/* Where the bytes behind a place are known to be, although its key, under which that stood, is given to the place. */
struct rest {
	uint64_t segment;
	uint32_t off;
	struct smap_val v; /* len 0: there are none */
};

/* len 0: nothing stands there. */
static struct smap_val smap_read(struct replayer *r, struct rec *rec, uint64_t segment, uint32_t off)
{
	struct smap_val m = { 0 };
	const void *val;
	struct jkey k;
	size_t n;

	key_smap(&k, segment, off);
	int err = view_get(r->j, &k, &val, &n);
	if (!err)
		err = smap_val_decode(val, n, &m);
	if (err && err != -ENOENT)
		rec->buf.err = err;
	return err ? (struct smap_val){ 0 } : m;
}

static void rest_skip(struct rest *t, uint32_t n)
{
	n = n < t->v.len ? n : t->v.len;
	t->off += n;
	t->v.len -= n;
	t->v.slice_off += n;
}

/* Where it does not stand under a key of its own already. */
static void rest_put(struct replayer *r, struct rec *rec, struct rest *t)
{
	uint8_t val[SMAP_VAL_LEN];
	struct smap_val m;
	struct jkey k;

	while (t->v.len && (m = smap_read(r, rec, t->segment, t->off)).len)
		rest_skip(t, m.len);
	if (!t->v.len)
		return;
	smap_val_encode(&t->v, val);
	key_smap(&k, t->segment, t->off);
	rec_put(rec, &k, val, sizeof(val), 0);
	t->v.len = 0;
}

static void fill_smap(struct replayer *r, struct rec *rec, void *arg)
{
	const struct apply *a = arg;
	struct rest rest = { 0 };

	for (size_t i = a->at; i < a->pl->staged.n && i < a->at + BATCH; i++) {
		const struct place *p = &a->pl->staged.v[i];
		struct smap_val m = { .len = p->len, .slice_id = p->id, .slice_size = p->slice_size, .slice_off = p->slice_off,
			.window_end = a->w->end };
		struct rest old = { .segment = p->segment, .off = p->off };
		uint8_t val[SMAP_VAL_LEN];
		struct jkey k;

		if (rest.v.len && (rest.segment != p->segment || rest.off < p->off))
			rest_put(r, rec, &rest);
		old.v = smap_read(r, rec, p->segment, p->off);
		rest_skip(&old, p->len);
		if (rest.v.len && rest.off == p->off)
			rest_skip(&rest, p->len);
		if (old.v.len && (!rest.v.len || old.off + old.v.len >= rest.off + rest.v.len))
			rest = old;
		smap_val_encode(&m, val);
		key_smap(&k, p->segment, p->off);
		rec_put(rec, &k, val, sizeof(val), 0);
	}
	rest_put(r, rec, &rest);
}

/* Drops T_PUBLISHED of the chunk and all behind it. */
static void published_drop(struct replayer *r, struct rec *rec, uint64_t ino, uint32_t chunk)
{
	struct view_iter *it;
	const uint8_t *k, *v;
	size_t kn, vn;
	struct jkey from, key;
	int rc;

	key_published(&from, ino, chunk);
	it = view_seek(r->j, &from, 9);
	if (!it) {
		rec->buf.err = -EIO;
		return;
	}
	while ((rc = view_step(it, &k, &kn, &v, &vn)) > 0) {
		memcpy(key.b, k, kn);
		key.len = (uint16_t)kn;
		rec_del(rec, &key, IF_FORGET);
	}
	view_end(it);
	if (rc < 0)
		rec->buf.err = rc;
}

/* Younger extents than the window: only staged bytes are where they are whoever shows them. Others end up in a slice that their
 * list names: what it does not name may die with another file, or was never named since Redis forgot (P8). */
static bool extent_move(const struct apply *a, const struct pl_post *p, struct extent_val *e)
{
	bool there = e->born <= a->w->end, moved = (there || e->kind == EXT_STAGED) && places_repoint(a->pl, p->records, p->n, e);

	return (there && a->listed && places_listed(p->records, p->n, e)) || moved;
}

/* Extents of the post's chunk, from `pos` on, whose bytes are in a slice now: one of the window's, or one that its list
 * names. Returns where to go on when *budget ran out, else 0. */
static uint32_t extents_repoint(struct replayer *r, struct rec *rec, const struct apply *a, const struct pl_post *p,
	uint32_t pos, unsigned *budget)
{
	struct view_iter *it;
	const uint8_t *k, *v;
	size_t kn, vn;
	struct jkey from;
	uint32_t next = 0;
	int rc;

	key_extent(&from, p->ino, p->chunk, pos);
	it = view_seek(r->j, &from, 13);
	if (!it) {
		rec->buf.err = -EIO;
		return 0;
	}
	while ((rc = view_step(it, &k, &kn, &v, &vn)) > 0) {
		struct extent_val e;

		rc = extent_val_decode(v, vn, &e);
		if (rc)
			break;
		if (*budget == 0) {
			next = e.pos;
			break;
		}
		--*budget;
		if (extent_move(a, p, &e))
			rec_put_extent(rec, p->ino, p->chunk, &e, 0);
	}
	view_end(it);
	if (rc < 0)
		rec->buf.err = rc;
	return next;
}

static void fill_posts(struct replayer *r, struct rec *rec, void *arg)
{
	struct apply *a = arg;
	size_t i;

	for (i = a->at; i < a->w->posts.n && i < a->at + BATCH && rec->buf.len < BYTES; i++) {
		const struct pl_post *p = &a->w->posts.v[i];
		struct jkey k;

		if (p->onward) {
			published_drop(r, rec, p->ino, p->chunk);
			continue;
		}
		/* A file's first list of one record is as cheaply loaded again as kept. */
		key_published(&k, p->ino, p->chunk);
		if (!p->fresh || p->n > 1)
			rec_put(rec, &k, p->records, (size_t)p->n * JFS_SLICE_LEN, 0);
	}
	a->next_at = i;
}

static void fill_extents(struct replayer *r, struct rec *rec, void *arg)
{
	struct apply *a = arg;
	unsigned budget = EXTENTS;
	uint32_t pos = a->pos;
	size_t i;

	for (i = a->at; i < a->w->posts.n && i < a->at + BATCH && budget; i++) {
		const struct pl_post *p = &a->w->posts.v[i];

		if (p->onward)
			continue;
		pos = extents_repoint(r, rec, a, p, pos, &budget);
		if (pos)
			break;
	}
	a->next_at = i;
	a->next_pos = pos;
}

static void fill_position(struct replayer *r, struct rec *rec, void *arg)
{
	const struct apply *a = arg;
	uint8_t pos[16 + RDS_CHAIN_LEN] = { 0 }, *list;
	struct jkey k;

	put_be64(pos, replayer_epoch(r));
	put_be64(pos + 8, a->w->end);
	memcpy(pos + 16, a->w->chain, strnlen(a->w->chain, RDS_CHAIN_LEN));
	key_meta(&k, "applied");
	if (a->w->end >= r->applied) /* not while windows are sent again */
		rec_put(rec, &k, pos, sizeof(pos), 0);
	list = malloc(a->w->orphans.n * 9 + 1);
	if (!list) {
		rec->buf.err = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < a->w->orphans.n; i++) {
		put_be64(list + 9 * i, a->w->orphans.v[i].ino);
		list[9 * i + 8] = (uint8_t)a->w->orphans.v[i].state;
	}
	key_meta(&k, "nameless");
	if (a->w->end >= r->applied)
		rec_put(rec, &k, list, a->w->orphans.n * 9, 0);
	free(list);
}

struct raise {
	struct lifeline *line;
	struct journal *j;
	enum watermark w;
	uint64_t seq, record;
};

/* Flusher's thread, or ours. */
static void raise_cb(void *arg, int err)
{
	struct raise *a = arg;
	bool again = false;

	if (err == -ENOSPC) { /* the record is kept, and tried again with the next flush */
		pthread_mutex_lock(&a->line->lock);
		again = a->line->r != NULL;
		pthread_mutex_unlock(&a->line->lock);
	}
	if (again) {
		journal_when(a->j, WM_DURABLE, a->record, raise_cb, a);
		return;
	}
	if (!err)
		journal_raise(a->j, a->w, a->seq);
	pthread_mutex_lock(&a->line->lock);
	if (!err && a->line->r) {
		if (a->w == WM_APPLIED && a->line->r->cfg.ops.on_applied)
			a->line->r->cfg.ops.on_applied(a->line->r->cfg.ctx, a->seq);
		replayer_kick(a->line->r);
	}
	pthread_mutex_unlock(&a->line->lock);
	lifeline_unref(a->line);
	free(a);
}

static int raise_when_durable(struct replayer *r, enum watermark w, uint64_t mark, uint64_t record)
{
	struct raise *a = malloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	*a = (struct raise){ r->line, r->j, w, mark, record };
	lifeline_ref(r->line);
	journal_when(r->j, WM_DURABLE, record, raise_cb, a);
	return 0;
}

static int orphans_take(struct replayer *r, const struct window *w)
{
	r->orphans.n = 0;
	for (size_t i = 0; i < w->orphans.n; i++) {
		struct pl_orphan *o = vec_push(&r->orphans);

		if (!o)
			return -ENOMEM;
		*o = w->orphans.v[i];
	}
	return 0;
}

int apply_places(struct replayer *r, const struct window *w)
{
	struct places pl = { 0 };
	struct apply a = { .w = w, .pl = &pl, .listed = !r->lagging.n || r->lagging.v[0]->w.end == w->end };
	uint64_t seq;
	int err = places_make(w, &pl);

	for (a.at = 0; a.at < pl.staged.n && !err; a.at += BATCH)
		err = commit_record(r, OP_APPLIED, fill_smap, &a, &seq);
	for (a.at = a.pos = 0; a.at < w->posts.n && (a.listed || pl.staged.n + pl.moved.n) && !err; a.at = a.next_at, a.pos = a.next_pos)
		err = commit_record(r, OP_APPLIED, fill_extents, &a, &seq);
	places_fini(&pl);
	return err;
}

int apply_commit(struct replayer *r, const struct window *w, bool there)
{
	struct apply a = { .w = w };
	struct trim_point *t;
	uint64_t seq = 0;
	int err = there ? apply_places(r, w) : 0;

	for (a.at = 0; a.at < w->posts.n && !err; a.at = a.next_at)
		err = commit_record(r, OP_APPLIED, fill_posts, &a, &seq);
	if (!err)
		err = commit_record(r, OP_APPLIED, fill_position, &a, &seq);
	posts_adopt(r, w);
	if (!err)
		err = orphans_take(r, w);
	if (err)
		return err;
	if (w->end >= r->applied) {
		r->applied = w->end;
		r->rewound = false;
	}
	t = vec_push(&r->trim_queue);
	if (!t)
		return -ENOMEM;
	*t = (struct trim_point){ w->end, clock_mono_ms(), journal_mark(r->j, WM_COMMITTED) };
	pthread_mutex_lock(&r->lock);
	r->status.applied = r->applied;
	pthread_mutex_unlock(&r->lock);
	if (there && w->end > r->uploaded && !r->lagging.n)
		err = uploaded_commit(r, w->end); /* adopted, or nothing to upload */
	return err ? err : raise_when_durable(r, WM_APPLIED, w->end, seq);
}

static void fill_mark(struct replayer *r, struct rec *rec, void *arg)
{
	const struct { const char *name; uint64_t seq; } *m = arg;
	uint8_t val[8];
	struct jkey k;

	(void)r;
	put_be64(val, m->seq);
	key_meta(&k, m->name);
	rec_put(rec, &k, val, sizeof(val), 0);
}

int uploaded_commit(struct replayer *r, uint64_t end)
{
	struct { const char *name; uint64_t seq; } m = { "uploaded", end };
	uint64_t seq;
	int err;

	err = commit_record(r, OP_UPLOADED, fill_mark, &m, &seq);
	if (err)
		return err;
	r->uploaded = end;
	pthread_mutex_lock(&r->lock);
	r->status.uploaded = end;
	pthread_mutex_unlock(&r->lock);
	return raise_when_durable(r, WM_UPLOADED, end, seq);
}

static int stop_at_first(void *arg, uint64_t seq, const void *rec, size_t len)
{
	(void)arg;
	(void)seq;
	(void)rec;
	(void)len;
	return 1;
}

/* Has Redis every operation up to `seen`? Until then one of them may still bring a reference to a slice that died with the
 * point's window: before that was applied, the view named it (redis/places.h). */
static bool all_applied(struct replayer *r, uint64_t seen)
{
	return seen <= r->acked.seq ||
		(seen <= journal_mark(r->j, WM_DURABLE) && journal_log_scan(r->j, r->acked.seq, seen, stop_at_first, NULL) == 0);
}

void trim_step(struct replayer *r)
{
	uint64_t retention, now = clock_mono_ms(), to = 0, seq;
	struct { const char *name; uint64_t seq; } m = { "trim", 0 };
	size_t n = 0, out = 0;

	pthread_mutex_lock(&r->lock);
	retention = r->retention_ms;
	pthread_mutex_unlock(&r->lock);
	while (n < r->trim_queue.n && r->trim_queue.v[n].ms + retention <= now && r->trim_queue.v[n].seq <= r->acked.seq &&
		r->trim_queue.v[n].seq <= r->uploaded && all_applied(r, r->trim_queue.v[n].seen))
		to = r->trim_queue.v[n++].seq;
	if (r->trim_queue.n > n) {
		uint64_t at = r->trim_queue.v[n].ms + retention;

		if (at > now && (!r->look_at_ms || at < r->look_at_ms))
			r->look_at_ms = at;
	}
	if (!n || r->rewound)
		return;
	memmove(r->trim_queue.v, r->trim_queue.v + n, (r->trim_queue.n - n) * sizeof(*r->trim_queue.v));
	r->trim_queue.n -= n;
	m.seq = to;
	if (to <= r->trim || commit_record(r, OP_TRIM, fill_mark, &m, &seq) != 0)
		return;
	r->trim = to;
	r->trim_serial = r->serial;
	for (size_t i = 0; i < r->known.n; i++) /* the window that ends at trim is the oldest position we can be found at */
		if (r->known.v[i].end >= to)
			r->known.v[out++] = r->known.v[i];
	r->known.n = out;
	pthread_mutex_lock(&r->lock);
	r->status.trim = to;
	pthread_mutex_unlock(&r->lock);
	if (raise_when_durable(r, WM_TRIM, to, seq) != 0)
		log_warn("what=\"trim not raised\" seq=%llu why=\"out of memory\"", (unsigned long long)to);
}
