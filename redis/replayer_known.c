/* Recorded windows (T_WINDOW): reading them, finding the one that follows a position, recording one.
 *
 * r->known lists every composition that is whole, oldest first; the last of an end is the one that is sent, and what the
 * journal's lists and places (T_PUBLISHED, T_SMAP) say once it is applied. An earlier one is found executed only when its
 * script was lost and came late: then it is recorded again behind the others before anything is made of it, so that the
 * last one is the truth again. A crash before that record leaves Redis at a position that is looked up and adopted again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "redis/replayer_int.h"
#include "util/clock.h"

#define PARTS_MAX 65536u

/* --- reading --- */

struct gather {
	struct buf b;
	uint32_t at, first; /* the key's part that comes next; where the wanted composition begins */
	uint16_t next, parts;
	int err;
};

static int gather_part(struct gather *g, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	if (klen != 11 || vlen < 4)
		return -EUCLEAN;
	if (get_be16(key + 9) < g->first)
		return 0;
	if (get_be16(val) != g->next || get_be16(val + 2) == 0)
		return g->next && get_be16(val) == 0 ? 1 : -EUCLEAN; /* cut off by a crash; another one follows */
	g->parts = get_be16(val + 2);
	g->next++;
	buf_put(&g->b, val + 4, vlen - 4);
	return g->b.err ? g->b.err : g->next == g->parts;
}

/* The encoding of the composition that begins at part `first` of the window, as it lies in the view. b->data is the
 * caller's. 0, -ENOENT: not there, or not whole. */
static int window_bytes(struct replayer *r, uint64_t end, uint16_t first, struct buf *b)
{
	struct gather g = { .first = first };
	struct view_iter *it;
	const uint8_t *k, *v;
	size_t kn, vn;
	struct jkey from;
	int more;

	buf_init(&g.b, 0);
	key_window(&from, end, first);
	journal_lock(r->j);
	it = view_seek(r->j, &from, 9);
	more = it ? 1 : -ENOMEM;
	while (more > 0 && (more = view_step(it, &k, &kn, &v, &vn)) > 0) {
		int done = gather_part(&g, k, kn, v, vn);

		if (done) {
			more = done < 0 ? done : 0;
			break;
		}
	}
	if (it)
		view_end(it);
	journal_unlock(r->j);
	*b = g.b;
	if (more < 0)
		return more;
	return g.parts && g.next == g.parts ? 0 : -ENOENT;
}

int window_read(struct replayer *r, const struct known *k, struct window *w)
{
	struct buf b;
	int err = window_bytes(r, k->end, k->first, &b);

	if (!err)
		err = window_decode(b.data, b.len, w);
	buf_fini(&b);
	return err;
}

/* --- the list --- */

static int known_add(struct replayer *r, const struct window *w, uint16_t first)
{
	struct known *k = vec_push(&r->known);

	if (!k)
		return -ENOMEM;
	*k = (struct known){ .from = w->from, .end = w->end, .first = first };
	memcpy(k->before, w->before, sizeof(k->before));
	memcpy(k->chain, w->chain, sizeof(k->chain));
	return 0;
}

struct found {
	uint64_t end;
	uint16_t first;
};

struct finds {
	VEC(struct found) v;
};

static int collect(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct finds *f = arg;
	struct found *one;

	if (klen != 11 || vlen < 2)
		return -EUCLEAN;
	if (get_be16(val) != 0)
		return 0;
	one = vec_push(&f->v);
	if (!one)
		return -ENOMEM;
	*one = (struct found){ get_be64(key + 1), get_be16(key + 9) };
	return 0;
}

/* A window of an earlier life that Redis has not got, as far as we know: its objects may be older than we can tell. */
static void known_age(struct replayer *r, struct known *k, const struct window *w)
{
	if (k->end <= r->applied || !w->slices.n)
		return;
	k->began_ms = w->made_ms;
	k->ended_ms = w->end <= r->uploaded ? w->made_ms : 0;
	k->stale = !w->boot || w->boot != r->boot || clock_boot_ms() - w->made_ms > r->cfg.republish_ms;
}

int known_load(struct replayer *r)
{
	static const uint8_t table = T_WINDOW;
	struct finds f = { 0 };
	int err;

	err = journal_wait(r->j, WM_DURABLE, journal_mark(r->j, WM_COMMITTED));
	if (!err)
		err = journal_base_scan(r->j, &table, 1, collect, &f);
	for (size_t i = 0; i < f.v.n && !err; i++) {
		struct known k = { .end = f.v.v[i].end, .first = f.v.v[i].first };
		struct window w;

		err = window_read(r, &k, &w);
		if (!err) {
			err = known_add(r, &w, k.first);
			if (!err)
				known_age(r, &r->known.v[r->known.n - 1], &w);
			window_fini(&w);
		} else if (err == -ENOENT) {
			err = 0;
		}
	}
	vec_fini(&f.v);
	return err;
}

struct known *known_last(const struct replayer *r, uint64_t end)
{
	for (size_t i = r->known.n; i-- > 0;)
		if (r->known.v[i].end == end)
			return &r->known.v[i];
	return NULL;
}

const struct known *known_at(const struct replayer *r, uint64_t end, const char *chain)
{
	for (size_t i = r->known.n; i-- > 0;)
		if (r->known.v[i].end == end && strcmp(r->known.v[i].chain, chain) == 0)
			return &r->known.v[i];
	return NULL;
}

const struct known *known_after(const struct replayer *r, uint64_t seq, const char *chain)
{
	const struct known *best = NULL;
	bool best_ours = false;

	for (size_t i = 0; i < r->known.n; i++) {
		const struct known *k = &r->known.v[i];
		bool ours;

		if (k->from != seq || k->end <= seq || k->end < r->min_end || known_last(r, k->end) != k)
			continue;
		ours = strcmp(k->before, chain) == 0;
		if (!best || ours > best_ours || (ours == best_ours && k->end > best->end)) {
			best = k;
			best_ours = ours;
		}
	}
	return best;
}

int known_path(const struct replayer *r, const struct rds_position *from, const struct known *to, struct known_path *out)
{
	const struct known *k = to;

	for (;;) {
		struct known *step = vec_push(&out->v);
		const struct known *prev = NULL;

		if (!step)
			return -ENOMEM;
		*step = *k;
		if (k->from == from->seq && strcmp(k->before, from->chain) == 0)
			return 0;
		for (size_t i = 0; i < r->known.n && !prev && k->from > from->seq; i++)
			if (r->known.v[i].end == k->from && strcmp(r->known.v[i].chain, k->before) == 0)
				prev = &r->known.v[i];
		if (!prev)
			return -ENOENT;
		k = prev;
	}
}

/* --- recording --- */

struct window_fill {
	const struct buf *b;
	uint64_t end, uploaded; /* uploaded: UINT64_MAX: leave it */
	size_t first, part, parts;
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
	key_window(&k, f->end, (uint16_t)(f->first + f->part));
	rec_put(rec, &k, val, n + 4, 0);
	free(val);
	if (f->uploaded != UINT64_MAX && f->part == 0) {
		put_be64(up, f->uploaded);
		key_meta(&k, "uploaded");
		rec_put(rec, &k, up, sizeof(up), 0);
	}
}

/* The first part number of the window that no composition has used, a cut-off one neither. */
static int parts_free(struct replayer *r, uint64_t end, size_t *next)
{
	struct view_iter *it;
	const uint8_t *k, *v;
	size_t kn, vn;
	struct jkey from;
	int more;

	*next = 0;
	key_window(&from, end, 0);
	journal_lock(r->j);
	it = view_seek(r->j, &from, 9);
	more = it ? 1 : -ENOMEM;
	while (more > 0 && (more = view_step(it, &k, &kn, &v, &vn)) > 0)
		*next = kn == 11 ? (size_t)get_be16(k + 9) + 1 : *next;
	if (it)
		view_end(it);
	journal_unlock(r->j);
	return more;
}

/* Is the window recorded as it would be encoded now? */
static int window_same(struct replayer *r, const struct known *k, const struct buf *b, bool *same)
{
	struct buf old;
	int err = window_bytes(r, k->end, k->first, &old);

	*same = !err && old.len == b->len && memcmp(old.data, b->data, b->len) == 0;
	buf_fini(&old);
	return err;
}

static int window_put(struct replayer *r, const struct window *w, const struct buf *b, size_t missing, uint64_t *seq)
{
	struct window_fill f = { .b = b, .end = w->end, .uploaded = UINT64_MAX };
	int err = parts_free(r, w->end, &f.first);

	f.parts = (b->len + WINDOW_PART - 1) / WINDOW_PART;
	if (!err && f.first + f.parts > PARTS_MAX)
		err = -EFBIG; /* composed anew tens of thousands of times */
	if (!err && missing && w->end <= r->uploaded)
		r->uploaded = f.uploaded = w->from;
	for (f.part = 0; f.part < f.parts && !err; f.part++)
		err = commit_record(r, OP_WINDOW, fill_window, &f, seq);
	return err ? err : known_add(r, w, (uint16_t)f.first);
}

int window_record(struct replayer *r, struct window *w, const struct known *k, size_t missing, uint64_t *seq)
{
	bool same = false;
	struct buf b;
	int err = 0;

	buf_init(&b, 0);
	if (k) { /* w has its nonce and time */
		window_encode(w, &b);
		err = b.err ? b.err : window_same(r, k, &b, &same);
		buf_reset(&b);
	}
	if (!err && !same) {
		if (getrandom(&w->nonce, sizeof(w->nonce), 0) != (ssize_t)sizeof(w->nonce))
			err = -EIO;
		w->boot = r->boot;
		w->made_ms = clock_boot_ms();
		window_chain(w->before, w->end, w->nonce, w->chain);
		window_encode(w, &b);
		err = err ? err : b.err;
		if (!err)
			err = window_put(r, w, &b, missing, seq);
	}
	buf_fini(&b);
	return err;
}

int window_record_again(struct replayer *r, const struct window *w, size_t missing)
{
	uint64_t seq;
	struct buf b;
	int err;

	buf_init(&b, 0);
	window_encode(w, &b);
	err = b.err ? b.err : window_put(r, w, &b, missing, &seq);
	buf_fini(&b);
	return err;
}
