/* Choosing the next window, building its plan, recording it. A recorded window that follows the tail comes first: its end,
 * its slices and its chain are never chosen anew (HISTORIES 30), unless a conflict's repair lies behind it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "redis/replayer_int.h"
#include "util/clock.h"
#include "util/log.h"

#define LOOK_AHEAD 60000 /* commands scanned beyond the last end */
#define WIN_HARD   20000

enum co_orphan orphan_state(const struct pl_orphan *v, size_t n, uint64_t ino)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].ino == ino)
			return v[i].state;
	return CO_LIVE;
}

/* --- recorded windows --- */

struct gather {
	struct buf b;
	uint16_t next, parts;
	int err;
};

static int gather_part(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct gather *g = arg;

	(void)key;
	(void)klen;
	if (vlen < 4 || get_be16(val) != g->next || get_be16(val + 2) == 0)
		return g->err = -EUCLEAN;
	g->parts = get_be16(val + 2);
	g->next++;
	buf_put(&g->b, val + 4, vlen - 4);
	if (g->b.err)
		g->err = g->b.err;
	return g->err ? g->err : g->next == g->parts;
}

/* The encoding of a recorded window as it lies in the view. */
static int window_bytes(struct replayer *r, uint64_t end, struct gather *g)
{
	struct view_iter *it;
	const uint8_t *k, *v;
	size_t kn, vn;
	struct jkey from;
	int more;

	memset(g, 0, sizeof(*g));
	buf_init(&g->b, 0);
	key_window(&from, end, 0);
	journal_lock(r->j);
	it = view_seek(r->j, &from, 9);
	more = it ? 1 : -ENOMEM;
	while (more > 0 && (more = view_step(it, &k, &kn, &v, &vn)) > 0)
		if (gather_part(g, k, kn, v, vn))
			break;
	if (it)
		view_end(it);
	journal_unlock(r->j);
	if (more < 0)
		return more;
	if (g->err)
		return g->err;
	return g->parts && g->next == g->parts ? 0 : -ENOENT;
}

int window_read(struct replayer *r, uint64_t end, struct window *w)
{
	struct gather g;
	int err = window_bytes(r, end, &g);

	if (!err)
		err = window_decode(g.b.data, g.b.len, w);
	buf_fini(&g.b);
	return err;
}

int known_add(struct replayer *r, const struct window *w)
{
	struct known *k = NULL;

	for (size_t i = 0; i < r->known.n && !k; i++)
		if (r->known.v[i].end == w->end)
			k = &r->known.v[i];
	if (!k)
		k = vec_push(&r->known);
	if (!k)
		return -ENOMEM;
	k->from = w->from;
	k->end = w->end;
	memcpy(k->before, w->before, sizeof(k->before));
	memcpy(k->chain, w->chain, sizeof(k->chain));
	return 0;
}

struct ends {
	VEC(uint64_t) v;
};

static int collect_end(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct ends *e = arg;
	uint64_t *end;

	(void)vlen;
	if (klen < 11 || get_be16(val) != 0)
		return 0;
	end = vec_push(&e->v);
	if (!end)
		return -ENOMEM;
	*end = get_be64(key + 1);
	return 0;
}

int known_load(struct replayer *r)
{
	static const uint8_t table = T_WINDOW;
	struct ends e = { 0 };
	int err;

	err = journal_wait(r->j, WM_DURABLE, journal_mark(r->j, WM_COMMITTED));
	if (!err)
		err = journal_base_scan(r->j, &table, 1, collect_end, &e);
	for (size_t i = 0; i < e.v.n && !err; i++) {
		struct window w;

		err = window_read(r, e.v.v[i], &w);
		if (!err) {
			err = known_add(r, &w);
			window_fini(&w);
		} else if (err == -ENOENT) {
			err = 0;
		}
	}
	vec_fini(&e.v);
	return err;
}

const struct known *known_at(const struct replayer *r, uint64_t end, const char *chain)
{
	for (size_t i = 0; i < r->known.n; i++)
		if (r->known.v[i].end == end && (!chain || strcmp(r->known.v[i].chain, chain) == 0))
			return &r->known.v[i];
	return NULL;
}

static const struct known *known_after(const struct replayer *r, uint64_t seq, const char *chain)
{
	const struct known *best = NULL;

	for (size_t i = 0; i < r->known.n; i++) {
		const struct known *k = &r->known.v[i];

		if (k->from == seq && k->end > seq && strcmp(k->before, chain) == 0 && k->end >= r->min_end && (!best || k->end > best->end))
			best = k;
	}
	return best;
}

/* --- what Redis has --- */

static bool posts_find(const struct window *w, uint64_t ino, uint32_t chunk, const uint8_t **records, uint32_t *n)
{
	for (size_t i = w->posts.n; i-- > 0;) {
		const struct pl_post *p = &w->posts.v[i];

		if (p->ino != ino || (p->onward ? p->chunk > chunk : p->chunk != chunk))
			continue;
		*records = p->records;
		*n = p->onward ? 0 : p->n;
		return true;
	}
	return false;
}

static struct loaded_list *loaded_get(struct replayer *r, uint64_t ino, uint32_t chunk)
{
	for (size_t i = 0; i < r->loaded.n; i++)
		if (r->loaded.v[i].ino == ino && r->loaded.v[i].chunk == chunk)
			return &r->loaded.v[i];
	return NULL;
}

struct plan_ctx {
	struct replayer *r;
	struct arena mem; /* copies of T_PUBLISHED values */
	int err;
};

static int cb_published(void *arg, uint64_t ino, uint32_t chunk, const uint8_t **records, uint32_t *n)
{
	struct plan_ctx *pc = arg;
	struct replayer *r = pc->r;
	const struct loaded_list *l;
	const void *val;
	struct jkey k;
	size_t len;
	int err;

	for (size_t i = r->wins.n; i-- > 0;)
		if (posts_find(&r->wins.v[i]->w, ino, chunk, records, n))
			return 0;
	l = loaded_get(r, ino, chunk);
	if (l) {
		*records = l->records;
		*n = l->n;
		return l->n == UINT32_MAX ? -ENOENT : 0;
	}
	if (r->rewound)
		return -ENOENT;
	key_published(&k, ino, chunk);
	journal_lock(r->j);
	err = view_get(r->j, &k, &val, &len);
	if (!err) {
		*records = arena_copy(&pc->mem, val, len);
		*n = (uint32_t)(len / JFS_SLICE_LEN);
	}
	journal_unlock(r->j);
	if (!err && !*records)
		pc->err = -ENOMEM;
	return err || !*records ? -ENOENT : 0;
}

static enum co_orphan cb_orphan(void *arg, uint64_t ino)
{
	struct replayer *r = ((struct plan_ctx *)arg)->r;

	if (r->wins.n) /* each window carries the whole set after it */
		return orphan_state(r->wins.v[r->wins.n - 1]->w.orphans.v, r->wins.v[r->wins.n - 1]->w.orphans.n, ino);
	return orphan_state(r->orphans.v, r->orphans.n, ino);
}

static int cb_smap(void *arg, const struct slice_piece *s, uint32_t len, struct smap_hit *hit)
{
	struct replayer *r = ((struct plan_ctx *)arg)->r;
	struct view_iter *it;
	const uint8_t *k, *v;
	struct jkey from;
	size_t kn, vn;
	int found = 0;

	if (r->no_smap)
		return 0;
	for (size_t w = r->wins.n; w-- > 0;) {
		for (size_t i = 0; i < r->wins.v[w]->w.slices.n; i++) {
			const struct slice_plan *p = &r->wins.v[w]->w.slices.v[i].s;
			uint32_t at = 0;

			for (uint32_t k2 = 0; k2 < p->n; at += p->pieces[k2++].len) {
				const struct slice_piece *q = &p->pieces[k2];

				if (q->kind != PIECE_STAGED || q->segment != s->segment || s->off < q->off || s->off >= q->off + q->len)
					continue;
				*hit = (struct smap_hit){ p->id, p->size, at + s->off - q->off, q->off + q->len - s->off };
				hit->len = hit->len < len ? hit->len : len;
				return 1;
			}
		}
	}
	key_smap(&from, s->segment, s->run_off);
	journal_lock(r->j);
	it = view_seek(r->j, &from, 9);
	while (it && !found && view_step(it, &k, &kn, &v, &vn) > 0) {
		struct smap_val m;
		uint64_t segment;
		uint32_t off;

		if (key_parse_smap(k, kn, &segment, &off) != 0 || off > s->off || smap_val_decode(v, vn, &m) != 0)
			break;
		/* while Redis is behind, a slice of a window it has not got yet is not there to be referred to */
		if (s->off >= off + m.len || m.window_end > r->acked.seq)
			continue;
		*hit = (struct smap_hit){ m.slice_id, m.slice_size, m.slice_off + s->off - off, off + m.len - s->off };
		hit->len = hit->len < len ? hit->len : len;
		found = 1;
	}
	if (it)
		view_end(it);
	journal_unlock(r->j);
	return found;
}

static uint64_t cb_slice(void *arg)
{
	struct replayer *r = ((struct plan_ctx *)arg)->r;
	uint64_t id = 0;

	return r->cfg.ops.next_slice(r->cfg.ctx, &id) == 0 ? id : 0;
}

static int feed_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	return coalesce_feed(arg, seq, rec, len);
}

/* 0 and *plan; -EAGAIN: lists cannot be loaded now, or no slice ids. */
static int plan_make(struct replayer *r, uint64_t from, uint64_t end, const struct window *recorded, struct window_plan **plan)
{
	struct plan_ctx pc = { .r = r };
	struct coalesce_in in = { &pc, cb_published, cb_smap, cb_orphan, cb_slice, NULL, 0 };
	struct coalesce *co = coalesce_new();
	int err = co ? journal_log_scan(r->j, from, end, feed_record, co) : -ENOMEM;

	if (recorded && recorded->end != r->fresh_ids_for) {
		in.recorded = recorded->slices.v;
		in.n_recorded = recorded->slices.n;
	}
	for (int round = 0; !err; round++) {
		err = coalesce_plan(co, &in, from, end, plan);
		if (pc.err)
			err = pc.err;
		if (err != -EAGAIN || !(*plan)->missing.n || round > 3)
			break;
		err = wire_lists(r, (*plan)->missing.v, (*plan)->missing.n);
		plan_free(*plan);
		*plan = NULL;
	}
	if (err && *plan) {
		plan_free(*plan);
		*plan = NULL;
	}
	arena_fini(&pc.mem);
	coalesce_free(co);
	return err;
}

/* --- recording --- */

struct window_fill {
	const struct buf *b;
	uint64_t end, uploaded; /* uploaded: UINT64_MAX: leave it */
	size_t part, parts;
};

static void fill_window(struct replayer *r, struct rec *rec, void *arg)
{
	const struct window_fill *f = arg;
	size_t at = f->part * WINDOW_PART, n = f->b->len - at < WINDOW_PART ? f->b->len - at : WINDOW_PART;
	uint8_t *val = malloc(n + 4), up[8];
	struct jkey k;

	(void)r;
	if (!val) {
		rec->buf.err = -ENOMEM;
		return;
	}
	put_be16(val, (uint16_t)f->part);
	put_be16(val + 2, (uint16_t)f->parts);
	memcpy(val + 4, f->b->data + at, n);
	key_window(&k, f->end, (uint16_t)f->part);
	rec_put(rec, &k, val, n + 4, 0);
	free(val);
	if (f->uploaded != UINT64_MAX && f->part == 0) {
		put_be64(up, f->uploaded);
		key_meta(&k, "uploaded");
		rec_put(rec, &k, up, sizeof(up), 0);
	}
}

/* Commits the window unless it is recorded in exactly this form; does not wait. */
static int window_record(struct replayer *r, struct window *w, size_t fresh_slices, uint64_t *seq)
{
	struct window_fill f = { .end = w->end, .uploaded = UINT64_MAX };
	struct gather old;
	struct buf b;
	int err;

	buf_init(&b, 0);
	window_encode(w, &b);
	err = b.err;
	if (!err && window_bytes(r, w->end, &old) == 0 && old.b.len == b.len && memcmp(old.b.data, b.data, b.len) == 0) {
		buf_fini(&old.b);
		buf_fini(&b);
		return 0;
	}
	if (!err)
		buf_fini(&old.b);
	f.b = &b;
	f.parts = (b.len + WINDOW_PART - 1) / WINDOW_PART;
	if (fresh_slices && w->end <= r->uploaded) { /* made again with more slices: those are not there yet */
		r->uploaded = f.uploaded = w->from;
	}
	for (f.part = 0; f.part < f.parts && !err; f.part++)
		err = commit_record(r, OP_WINDOW, fill_window, &f, seq);
	buf_fini(&b);
	return err ? err : known_add(r, w);
}

static int window_fill_from(struct replayer *r, struct window *w, const struct window_plan *p)
{
	const struct pl_orphan *base = r->wins.n ? r->wins.v[r->wins.n - 1]->w.orphans.v : r->orphans.v;
	size_t n = r->wins.n ? r->wins.v[r->wins.n - 1]->w.orphans.n : r->orphans.n;

	for (size_t i = 0; i < p->slices.n; i++) {
		struct pl_slice *s = vec_push(&w->slices);

		if (!s)
			return -ENOMEM;
		*s = p->slices.v[i];
		s->s.pieces = arena_copy(&w->mem, s->s.pieces, s->s.n * sizeof(*s->s.pieces));
		if (!s->s.pieces)
			return -ENOMEM;
	}
	for (size_t i = 0; i < p->posts.n; i++) {
		struct pl_post *o = vec_push(&w->posts);

		if (!o)
			return -ENOMEM;
		*o = p->posts.v[i];
		o->records = arena_copy(&w->mem, o->records, (size_t)o->n * JFS_SLICE_LEN);
		if (!o->records)
			return -ENOMEM;
	}
	for (size_t i = 0; i < n + p->orphans.n; i++) {
		const struct pl_orphan *src = i < n ? &base[i] : &p->orphans.v[i - n];
		bool changed = false;
		struct pl_orphan *o;

		for (size_t k = 0; k < p->orphans.n && i < n && !changed; k++)
			changed = p->orphans.v[k].ino == src->ino;
		if (changed || src->state == CO_LIVE)
			continue;
		o = vec_push(&w->orphans);
		if (!o)
			return -ENOMEM;
		*o = *src;
	}
	return 0;
}

static int window_build(struct replayer *r, uint64_t from, uint64_t end, const char *before, const struct window *recorded)
{
	struct win *win = calloc(1, sizeof(*win)), **slot;
	bool same = recorded && recorded->end != r->fresh_ids_for;
	uint64_t seq = 0;
	int err;

	if (!win)
		return -ENOMEM;
	err = plan_make(r, from, end, recorded, &win->plan);
	if (err) {
		free(win);
		return err;
	}
	win->w.from = from;
	win->w.end = end;
	memcpy(win->w.before, before, sizeof(win->w.before));
	if (recorded)
		win->w.nonce = recorded->nonce;
	else if (getrandom(&win->w.nonce, sizeof(win->w.nonce), 0) != (ssize_t)sizeof(win->w.nonce))
		err = -EIO;
	window_chain(before, end, win->w.nonce, win->w.chain);
	win->slices_done = same && end <= r->uploaded ? recorded->slices.n : 0;
	if (!err)
		err = window_fill_from(r, &win->w, win->plan);
	if (!err)
		err = window_record(r, &win->w, win->w.slices.n - win->slices_done, &seq);
	if (!err && seq)
		err = durable_wait(r, seq); /* before the first PUT, before the script */
	slot = err ? NULL : vec_push(&r->wins);
	if (!slot) {
		window_fini(&win->w);
		plan_free(win->plan);
		free(win);
		return err ? err : -ENOMEM;
	}
	*slot = win;
	win->serial = ++r->serial;
	win->uploaded = win->upload_noted = win->slices_done >= win->w.slices.n;
	if (win->uploaded && end > r->uploaded)
		win->upload_noted = false;
	for (size_t i = win->slices_done; i < win->w.slices.n; i++)
		win->composed |= win->w.slices.v[i].composed;
	r->no_smap = false;
	if (end >= r->min_end)
		r->min_end = 0;
	if (r->fresh_ids_for == end)
		r->fresh_ids_for = 0;
	log_debug("what=\"window chosen\" from=%llu seq=%llu commands=%llu slices=%zu upload=%llu", (unsigned long long)from,
		(unsigned long long)end, (unsigned long long)win->plan->commands, win->w.slices.n, (unsigned long long)win->plan->upload_bytes);
	return 0;
}

/* --- choosing --- */

static int choose_feed(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct replayer *r = arg;
	struct rec_header h;
	struct rec_reader it;
	int err = rec_open(rec, len, &h, &it);

	if (!err)
		err = chooser_feed(r->ch, seq, rec, len);
	while (!err && r->ch_from + r->ch_times.n < seq) {
		uint64_t *t = vec_push(&r->ch_times);

		if (!t)
			return -ENOMEM;
		*t = r->ch_from + r->ch_times.n == seq ? h.time_ns : 0;
	}
	if (err)
		return err;
	r->ch_scanned = seq;
	return chooser_commands(r->ch) > LOOK_AHEAD; /* enough seen */
}

static int choose_scan(struct replayer *r, uint64_t from, uint64_t durable)
{
	int err;

	if (!r->ch || r->ch_from != from) {
		chooser_free(r->ch);
		r->ch = chooser_new(from);
		r->ch_from = r->ch_scanned = from;
		r->ch_times.n = 0;
		if (!r->ch)
			return -ENOMEM;
	}
	if (r->ch_scanned >= durable || chooser_commands(r->ch) > LOOK_AHEAD)
		return 0;
	err = journal_log_scan(r->j, r->ch_scanned, durable, choose_feed, r);
	if (err == 0)
		r->ch_scanned = durable;
	return err > 0 ? 0 : err;
}

/* The end of a new window after `from`; 0: nothing is due (r->look_at_ms says when). */
static int choose_end(struct replayer *r, uint64_t from, uint64_t *end)
{
	uint64_t durable = journal_mark(r->j, WM_DURABLE), now = clock_wall_ns(), demand, delay_ns, due = 0, oldest = 0;
	uint64_t d1 = journal_demand(r->j, WM_APPLIED), d2 = journal_demand(r->j, WM_UPLOADED);
	struct chooser_limits l = { .want = r->url.batch_size ? r->url.batch_size : 2000, .most = WIN_HARD,
		.script = r->url.batch_bytes };
	int err = choose_scan(r, from, durable);

	*end = 0;
	if (err)
		return err;
	demand = d1 > d2 ? d1 : d2;
	demand = demand > r->min_end ? demand : r->min_end;
	demand = demand < durable ? demand : durable;
	pthread_mutex_lock(&r->lock);
	delay_ns = r->cfg.eager ? 0 : r->upload_delay_ms * 1000000u;
	pthread_mutex_unlock(&r->lock);
	for (size_t i = 0; i < r->ch_times.n; i++) {
		uint64_t t = r->ch_times.v[i];

		if (!t)
			continue;
		oldest = oldest ? oldest : t;
		if (t + delay_ns > now)
			break;
		due = from + 1 + i;
	}
	if (demand <= from) { /* nobody waits: gather */
		uint64_t gather = r->url.batch_interval_ns;

		if (!oldest)
			return 0;
		if (!due || (now < oldest + delay_ns + gather && chooser_commands(r->ch) < l.want)) {
			uint64_t at = oldest + delay_ns + gather;

			r->look_at_ms = clock_mono_ms() + (at > now ? (at - now) / 1000000u + 1 : 1);
			return 0;
		}
	}
	l.due = due > demand ? due : demand;
	l.bytes = r->cfg.eager ? 0 : (uint64_t)(r->upload_rate * 900);
	if (r->min_end) { /* a repair must be in it, whatever it costs */
		*end = r->min_end;
		return 0;
	}
	*end = chooser_choose(r->ch, &l);
	/* Records of our own book-keeping change nothing in Redis; a position behind them is made only if somebody waits. */
	if (demand > *end && chooser_last(r->ch) <= (*end ? *end : from) && r->ch_scanned >= durable)
		*end = demand;
	return 0;
}

int window_next(struct replayer *r)
{
	const struct win *last = r->wins.n ? r->wins.v[r->wins.n - 1] : NULL;
	uint64_t from = last ? last->w.end : r->acked.seq, end;
	char before[RDS_CHAIN_LEN + 1];
	const struct known *k;
	int err;

	memcpy(before, last ? last->w.chain : r->acked.chain, sizeof(before));
	k = known_after(r, from, before);
	if (k) {
		struct window recorded;

		err = window_read(r, k->end, &recorded);
		if (err)
			return err;
		err = window_build(r, from, recorded.end, before, &recorded);
		window_fini(&recorded);
		return err ? err : 1;
	}
	err = choose_end(r, from, &end);
	if (err || !end)
		return err;
	err = window_build(r, from, end, before, NULL);
	return err ? err : 1;
}

/* --- lists loaded from Redis --- */

void list_forget(struct replayer *r, uint64_t ino, uint32_t chunk)
{
	struct loaded_list *l = loaded_get(r, ino, chunk);

	if (!l)
		l = vec_push(&r->loaded);
	if (!l)
		return;
	free(l->records);
	*l = (struct loaded_list){ .ino = ino, .chunk = chunk, .n = UINT32_MAX };
}

void posts_adopt(struct replayer *r, const struct window *w)
{
	size_t out = 0;

	for (size_t i = 0; i < r->loaded.n; i++) {
		struct loaded_list *l = &r->loaded.v[i];
		const uint8_t *records;
		uint32_t n;

		if (posts_find(w, l->ino, l->chunk, &records, &n)) {
			uint8_t *copy = malloc((size_t)n * JFS_SLICE_LEN + 1);

			if (copy && n)
				memcpy(copy, records, (size_t)n * JFS_SLICE_LEN);
			free(l->records);
			l->records = copy;
			l->n = copy ? n : UINT32_MAX;
		}
		r->loaded.v[out++] = *l;
	}
	r->loaded.n = out;
}
