/* Choosing the next window, and building its plan. A recorded window that follows the tail comes first: its end is never
 * chosen anew, and its slices only when they grew too old (HISTORIES 30), unless a conflict's repair lies behind it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/replayer_int.h"
#include "redis/windows.h"
#include "util/clock.h"
#include "util/log.h"

#define LOOK_AHEAD 60000 /* commands scanned beyond the last end */
#define LOOK_MOST  300000 /* and records: those that change the same things again are no more commands, but take memory */
#define WIN_HARD   20000
#define LOOK_MS	   1000 /* a flush that meets a full disk tells nobody */
#define FILL_NS	   10000000000u /* how long at most what is due waits for what else an object could hold */

enum co_orphan orphan_state(const struct pl_orphan *v, size_t n, uint64_t ino)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].ino == ino)
			return v[i].state;
	return CO_LIVE;
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

static bool window_names(const struct window *w, uint64_t id)
{
	for (size_t i = 0; i < w->posts.n; i++)
		for (uint32_t k = 0; k < w->posts.v[i].n; k++)
			if (get_be64(w->posts.v[i].records + (size_t)k * JFS_SLICE_LEN + 4) == id)
				return true;
	return false;
}

/* Has one of the slices that the window's lists name the bytes from s on? */
static bool window_holds(const struct window *w, const struct slice_piece *s, uint32_t len, struct smap_hit *hit)
{
	for (size_t i = 0; i < w->slices.n; i++) {
		const struct slice_plan *p = &w->slices.v[i].s;
		uint32_t at = 0;

		for (uint32_t k = 0; k < p->n; at += p->pieces[k++].len) {
			const struct slice_piece *q = &p->pieces[k];
			uint32_t left = q->off + q->len - s->off;

			if (q->kind != PIECE_STAGED || q->segment != s->segment || s->off < q->off || s->off >= q->off + q->len ||
				!window_names(w, p->id))
				continue;
			*hit = (struct smap_hit){ p->id, p->size, at + s->off - q->off, left < len ? left : len };
			return true;
		}
	}
	return false;
}

static int cb_smap(void *arg, const struct slice_piece *s, uint32_t len, struct smap_hit *hit)
{
	struct replayer *r = ((struct plan_ctx *)arg)->r;
	struct slice_piece staged = *s, object;

	if (r->no_smap)
		return 0;
	for (size_t i = r->wins.n; i-- > 0;)
		if (window_holds(&r->wins.v[i]->w, s, len, hit))
			return 1;
	for (size_t i = r->lagging.n; i-- > 0;) /* Redis names these, though S3 lacks them */
		if (window_holds(&r->lagging.v[i]->w, s, len, hit))
			return 1;
	/* while Redis is behind, a slice of a window it has not got yet is not there to be referred to */
	staged.len = len;
	if (windows_moved(r->j, &staged, r->acked.seq, &object) != 0)
		return 0;
	*hit = (struct smap_hit){ object.slice_id, object.slice_size, object.slice_off, object.len };
	return 1;
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

/* Slices that recorded windows have: those whose objects are there come first. */
struct recorded {
	VEC(struct pl_slice) slices; /* of the windows below */
	VEC(struct window) w;
	size_t there;
	const struct pl_post *posts; /* of one that is built again as it was */
	size_t n_posts;
	uint64_t began_ms, ended_ms; /* of their uploads */
};

static void recorded_fini(struct recorded *rec)
{
	for (size_t i = 0; i < rec->w.n; i++)
		window_fini(&rec->w.v[i]);
	vec_fini(&rec->w);
	vec_fini(&rec->slices);
}

static int recorded_slices(struct recorded *rec, const struct window *w, bool there)
{
	for (size_t i = 0; i < w->slices.n; i++) {
		struct pl_slice *s = vec_push(&rec->slices);

		if (!s)
			return -ENOMEM;
		*s = w->slices.v[i];
	}
	rec->there += there ? w->slices.n : 0;
	return 0;
}

/* The window k, or (NULL) all that a window (from, end] merges: their slices are used again (HISTORIES 30), unless they are
 * too old to be published. */
static int recorded_load(struct replayer *r, uint64_t from, uint64_t end, const struct known *k, struct recorded *rec)
{
	int err = 0;

	for (size_t i = 0; i < r->known.n && !err; i++) {
		const struct known *o = &r->known.v[i];
		struct window *w;

		if (o->stale || (k ? o != k : o->from < from || o->end > end || known_last(r, o->end) != o))
			continue;
		w = vec_push(&rec->w);
		err = w ? window_read(r, o, w) : -ENOMEM;
		if (!o->began_ms)
			continue;
		rec->began_ms = rec->began_ms && rec->began_ms < o->began_ms ? rec->began_ms : o->began_ms;
		rec->ended_ms = rec->ended_ms > o->ended_ms ? rec->ended_ms : o->ended_ms;
	}
	for (int there = 1; there >= 0; there--)
		for (size_t i = 0; i < rec->w.n && !err; i++)
			if ((rec->w.v[i].end <= r->uploaded) == there)
				err = recorded_slices(rec, &rec->w.v[i], there);
	if (!err && k && rec->w.n) {
		rec->posts = rec->w.v[0].posts.v;
		rec->n_posts = rec->w.v[0].posts.n;
	}
	return err;
}

/* 0 and *plan; -EAGAIN: lists cannot be loaded now, or no slice ids. */
static int plan_make(struct replayer *r, uint64_t from, uint64_t end, const struct recorded *rec, struct window_plan **plan)
{
	struct plan_ctx pc = { .r = r };
	struct coalesce_in in = { &pc, cb_published, cb_smap, cb_orphan, cb_slice, rec->slices.v, rec->slices.n,
		rec->posts, rec->n_posts, r->cfg.pack_below, r->cfg.pack_size, r->staying == end };
	struct coalesce *co = coalesce_new();
	int err = co ? journal_log_scan(r->j, from, end, feed_record, co) : -ENOMEM;

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

/* --- building --- */

/* Slices of merged windows that hold nothing any more are left out: their bytes may be those that cannot be read. *there
 * says how many of the first ones have objects. */
static int slices_fill(struct window *w, const struct window_plan *p, bool merged, size_t *there)
{
	struct hmap named = { 0 };
	size_t kept_there = 0;
	int err = 0;

	for (size_t i = 0; merged && i < p->posts.n && !err; i++) {
		for (uint32_t k = 0; k < p->posts.v[i].n && !err; k++) {
			uint64_t id = get_be64(p->posts.v[i].records + (size_t)k * JFS_SLICE_LEN + 4);
			bool fresh;
			uint32_t at;

			err = hmap_put(&named, &id, sizeof(id), 0, &at, &fresh);
		}
	}
	for (size_t i = 0; i < p->slices.n && !err; i++) {
		uint64_t id = p->slices.v[i].s.id;
		struct pl_slice *s;
		uint32_t at;

		if (merged && i < p->n_recorded && !hmap_get(&named, &id, sizeof(id), &at))
			continue;
		kept_there += i < *there;
		s = vec_push(&w->slices);
		if (!s)
			err = -ENOMEM;
		if (err)
			break;
		*s = p->slices.v[i];
		s->s.pieces = arena_copy(&w->mem, s->s.pieces, s->s.n * sizeof(*s->s.pieces));
		if (!s->s.pieces)
			err = -ENOMEM;
	}
	hmap_fini(&named);
	*there = kept_there;
	return err;
}

static int window_fill_from(struct replayer *r, struct window *w, const struct window_plan *p)
{
	const struct pl_orphan *base = r->wins.n ? r->wins.v[r->wins.n - 1]->w.orphans.v : r->orphans.v;
	size_t n = r->wins.n ? r->wins.v[r->wins.n - 1]->w.orphans.n : r->orphans.n;

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

/* k: the window as it was recorded last, or NULL. It is recorded again if anything of it is different now. */
static int window_build(struct replayer *r, uint64_t from, uint64_t end, const char *before, const struct known *k)
{
	struct win *win = calloc(1, sizeof(*win)), **slot = NULL;
	struct known known = k ? *k : (struct known){ 0 }; /* the list may move */
	struct recorded rec = { 0 };
	struct known *last;
	uint64_t seq = 0;
	int err = win ? recorded_load(r, from, end, k, &rec) : -ENOMEM;

	if (!err)
		err = plan_make(r, from, end, &rec, &win->plan);
	if (!err) {
		win->w.from = from;
		win->w.end = end;
		memcpy(win->w.before, before, sizeof(win->w.before));
		if (k && rec.w.n) {
			win->w.nonce = rec.w.v[0].nonce;
			win->w.boot = rec.w.v[0].boot;
			win->w.made_ms = rec.w.v[0].made_ms;
			window_chain(before, end, win->w.nonce, win->w.chain);
		}
		win->slices_done = rec.there;
		err = slices_fill(&win->w, win->plan, !k, &win->slices_done);
		if (!err)
			err = window_fill_from(r, &win->w, win->plan);
	}
	if (!err)
		err = window_record(r, &win->w, k && rec.w.n ? &known : NULL, win->w.slices.n - win->slices_done, &seq);
	if (!err && seq)
		err = durable_wait(r, seq); /* before the first PUT, before the script */
	recorded_fini(&rec);
	slot = err ? NULL : vec_push(&r->wins);
	if (!slot) {
		if (win)
			win_free(win);
		return err ? err : -ENOMEM;
	}
	*slot = win;
	last = known_last(r, end);
	if (last && k)
		last->anew = known.stale || known.anew;
	if (last && !last->began_ms) {
		last->began_ms = rec.began_ms;
		last->ended_ms = rec.ended_ms;
	}
	win->serial = ++r->serial;
	win->uploaded = win->upload_noted = win->slices_done >= win->w.slices.n;
	if (win->uploaded && end > r->uploaded)
		win->upload_noted = false;
	for (size_t i = win->slices_done; i < win->w.slices.n; i++)
		win->composed |= win->w.slices.v[i].composed;
	r->no_smap = false;
	if (end >= r->min_end)
		r->min_end = 0;
	log_debug("what=\"window chosen\" from=%llu seq=%llu commands=%llu slices=%zu upload=%llu", (unsigned long long)from,
		(unsigned long long)end, (unsigned long long)win->plan->commands, win->w.slices.n, (unsigned long long)win->plan->upload_bytes);
	return 0;
}

/* --- choosing --- */

static bool looked_enough(const struct replayer *r)
{
	return chooser_commands(r->ch) > LOOK_AHEAD || r->ch_scanned - r->ch_from >= LOOK_MOST;
}

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
	return looked_enough(r);
}

static int choose_scan(struct replayer *r, uint64_t from, uint64_t durable)
{
	int err;

	if (r->ch && from > r->ch_from && from <= r->ch_scanned && chooser_advance(r->ch, from)) {
		size_t gone = (size_t)(from - r->ch_from) < r->ch_times.n ? (size_t)(from - r->ch_from) : r->ch_times.n;

		r->ch_times.n -= gone;
		memmove(r->ch_times.v, r->ch_times.v + gone, r->ch_times.n * sizeof(*r->ch_times.v));
		r->ch_from = from;
	}
	if (!r->ch || r->ch_from != from) {
		chooser_free(r->ch);
		r->ch = chooser_new(from);
		r->ch_from = r->ch_scanned = from;
		r->ch_times.n = 0;
		if (!r->ch)
			return -ENOMEM;
	}
	if (r->ch_scanned >= durable || looked_enough(r))
		return 0;
	err = journal_log_scan(r->j, r->ch_scanned, durable, choose_feed, r);
	if (err == 0)
		r->ch_scanned = durable;
	return err > 0 ? 0 : err;
}

/* Somebody waits for a position that a flush is just making durable. A window that ended before it would be followed by
 * another one, and what shares a pack would lie in two: so it waits for that flush. Not for what is asked for meanwhile, and
 * not while the disk is full: the flush may need the room that this window gives back. */
static bool flush_near(struct replayer *r, uint64_t demand, uint64_t durable)
{
	if (demand <= durable || (r->near_seq && durable >= r->near_seq) || journal_full_disk(r->j)) {
		r->near_seq = 0;
		return false;
	}
	if (!r->near_seq)
		r->near_seq = demand;
	r->look_at_ms = clock_mono_ms() + LOOK_MS;
	return true;
}

/* How long what is due waits for company. So that a shared object gets full, a tenth of the time that it has waited anyway. */
static uint64_t gather_ns(const struct replayer *r, uint64_t delay_ns)
{
	uint64_t fill = delay_ns / 10 < FILL_NS ? delay_ns / 10 : FILL_NS;

	return r->cfg.pack_below && fill > r->url.batch_interval_ns ? fill : r->url.batch_interval_ns;
}

/* No more would go into this window. */
static bool window_full(const struct replayer *r, const struct chooser_limits *l)
{
	return l->fill ? chooser_choose(r->ch, l) < l->due : chooser_commands(r->ch) >= l->want;
}

/* The end of a new window after `from`; 0: nothing is due (r->look_at_ms says when). */
static int choose_end(struct replayer *r, uint64_t from, uint64_t *end)
{
	uint64_t durable = journal_mark(r->j, WM_DURABLE), now = clock_wall_ns(), demand, delay_ns, due = 0, oldest = 0;
	uint64_t d1 = journal_demand(r->j, WM_APPLIED), d2 = journal_demand(r->j, WM_UPLOADED);
	struct chooser_limits l = { .want = r->url.batch_size ? r->url.batch_size : 2000, .most = WIN_HARD,
		.script = r->url.batch_bytes, .fill = r->cfg.pack_below ? r->cfg.pack_size : 0 };
	int err = choose_scan(r, from, durable);

	*end = 0;
	if (err)
		return err;
	demand = d1 > d2 ? d1 : d2;
	demand = demand > r->min_end ? demand : r->min_end;
	if (flush_near(r, demand, durable))
		return 0;
	demand = demand < durable ? demand : durable;
	pthread_mutex_lock(&r->lock);
	delay_ns = r->cfg.eager ? 0 : r->upload_delay_ms * 1000000u;
	pthread_mutex_unlock(&r->lock);
	for (size_t i = 0; i < r->ch_times.n; i++) {
		uint64_t t = r->ch_times.v[i];

		if (!t)
			continue;
		if (t > now) /* the clock was set back */
			t = 1;
		oldest = oldest ? oldest : t;
		if (t + delay_ns > now)
			break;
		due = from + 1 + i;
	}
	l.due = due > demand ? due : demand;
	l.bytes = r->cfg.eager ? 0 : (uint64_t)(r->upload_rate * 900);
	if (demand <= from) { /* nobody waits: gather */
		uint64_t at = oldest + delay_ns + gather_ns(r, delay_ns);

		if (!oldest)
			return 0;
		if (!due || (now < at && !window_full(r, &l))) {
			r->look_at_ms = clock_mono_ms() + (at > now ? (at - now) / 1000000u + 1 : 1);
			return 0;
		}
	}
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
		err = window_build(r, from, k->end, before, k);
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
