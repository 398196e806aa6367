/* Chunk lists and slices: from a window's strokes over the published list to the list that Redis gets.
 *
 * Rules (DESIGN 3.5 and spec 10.5): neighbouring staged strokes become one slice; a zero stroke becomes an id-0 record only
 * where it hides published bytes; a list has at most 4 records and shows at most 4 pieces, otherwise it is rewritten:
 * first without hidden records, then as its visible pieces, and if those are too many as one new slice. A piece is what becomes
 * one record, however many writes made it. That slice may be 64 MiB for 4 KiB that were written, at every window: where it
 * would be more than 16 times what the window changes, a list grows to 100 records before (stock clients that read a list of more
 * than 4 may compact it, as they may one of their own, which grows as long). Staged bytes that have a place in a slice already
 * (recorded for this window, shared within it, or from an earlier window) are not uploaded again. Bytes of old records that a cut
 * took away whole are the script's affair (cut_chunks). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/coalesce_int.h"

#define LIST_MAX     4
#define LIST_LONG    100
#define COMPOSE_MOST 16u

struct records {
	VEC(struct jfs_slice) r;
};

struct chunk_build {
	struct build *b;
	const struct co_inode *ci;
	uint32_t chunk;
	const uint8_t *old;
	uint32_t n_old;
	struct layer w, old_l, all; /* the window's strokes, the old list, both */
	struct records out;
	bool compact; /* one slice is wanted */
	const struct co_chunk *leaving; /* whose shown bytes are to leave some slices; NULL: none do */
	bool rewrite, known; /* known: the old list is still there, perhaps empty */
};

static int by_place(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int ref_add(struct build *b, uint64_t id, uint32_t size, int64_t delta, bool fresh)
{
	uint64_t key[2] = { id, size };
	struct pl_ref *r;
	bool first;
	uint32_t i;

	if (!id)
		return 0;
	if (hmap_put(&b->refs, key, sizeof(key), (uint32_t)b->p->refs.n, &i, &first) != 0)
		return -ENOMEM;
	r = first ? vec_push(&b->p->refs) : &b->p->refs.v[i];
	if (!r)
		return -ENOMEM;
	if (first)
		*r = (struct pl_ref){ .id = id, .size = size };
	r->fresh |= fresh;
	r->delta += delta;
	return 0;
}

int slice_refer(struct build *b, uint64_t id, uint32_t size)
{
	return ref_add(b, id, size, 0, true);
}

int slice_placed(struct build *b, const struct slice_piece *pc, bool recorded, uint32_t slice, uint32_t off)
{
	struct placed *pl;

	if (pc->kind != PIECE_STAGED)
		return 0;
	pl = recorded ? vec_push(&b->recorded) : vec_push(&b->fresh);
	if (!pl)
		return -ENOMEM;
	*pl = (struct placed){ pc->segment, pc->off, pc->len, slice, off };
	return 0;
}

/* Copies a slice with its pieces into the plan. 0 or -ENOMEM. */
static int slice_add(struct build *b, const struct pl_slice *s, bool recorded)
{
	struct pl_slice *out = vec_push(&b->p->slices);
	uint32_t at = 0;

	if (!out)
		return -ENOMEM;
	*out = *s;
	out->s.pieces = arena_copy(&b->p->mem, s->s.pieces, s->s.n * sizeof(*s->s.pieces));
	if (!out->s.pieces)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->s.n; at += s->s.pieces[i++].len)
		if (slice_placed(b, &s->s.pieces[i], recorded, (uint32_t)(b->p->slices.n - 1), at) < 0 ||
			(recorded && s->s.pieces[i].kind == PIECE_OBJECT &&
				pack_moved(b, &s->s.pieces[i], (uint32_t)(b->p->slices.n - 1), at) < 0))
			return -ENOMEM;
	if (!recorded)
		b->p->upload_bytes += s->s.size;
	return slice_refer(b, s->s.id, s->s.size);
}

int build_recorded(struct build *b)
{
	for (size_t i = 0; i < b->in->n_recorded; i++)
		if (slice_add(b, &b->in->recorded[i], true) < 0)
			return -ENOMEM;
	b->p->n_recorded = b->in->n_recorded;
	if (b->recorded.n)
		qsort(b->recorded.v, b->recorded.n, sizeof(*b->recorded.v), by_place);
	return recorded_index(b);
}

static bool placed_hit(const struct build *b, const struct placed *pl, const struct slice_piece *src, uint32_t len,
	struct smap_hit *hit)
{
	const struct slice_plan *s = &b->p->slices.v[pl->slice].s;
	uint32_t left;

	if (pl->segment != src->segment || src->off < pl->off || src->off >= pl->off + pl->len)
		return false;
	left = pl->off + pl->len - src->off;
	*hit = (struct smap_hit){ s->id, s->size, pl->slice_off + (src->off - pl->off), left < len ? left : len };
	return true;
}

/* Of the recorded slices that hold the bytes: the chunk's own, else the last one of a chunk before it. That is what the
 * first making of this plan chose. */
static bool recorded_find(const struct build *b, const struct pl_chunk_ref *at, const struct slice_piece *src, uint32_t len,
	struct smap_hit *hit)
{
	size_t lo = 0, hi = b->recorded.n;
	int64_t best = -1;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct placed *p = &b->recorded.v[mid];

		if (p->segment < src->segment || (p->segment == src->segment && p->off <= src->off))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo-- > 0 && b->recorded.v[lo].segment == src->segment && b->recorded.v[lo].off >= src->run_off;) {
		const struct placed *p = &b->recorded.v[lo];
		const struct pl_slice *s = &b->p->slices.v[p->slice];
		bool own = s->ino == at->ino && s->chunk == at->chunk;
		bool before = s->ino < at->ino || (s->ino == at->ino && s->chunk < at->chunk);

		if (src->off >= p->off + p->len || (best >= 0 && !own && !(before && (int64_t)p->slice + 1 > best)))
			continue;
		placed_hit(b, p, src, len, hit);
		best = own ? INT64_MAX : before ? (int64_t)p->slice + 1 : 0;
		if (own)
			break;
	}
	return best >= 0;
}

/* Where staged bytes are to be found already; hit->len counts from src->off. */
static bool place_find(const struct build *b, const struct pl_chunk_ref *at, const struct slice_piece *src, uint32_t len,
	bool copy, struct smap_hit *hit)
{
	if (recorded_find(b, at, src, len, hit))
		return true;
	if (!copy)
		return false;
	for (size_t i = b->fresh.n; i-- > 0;)
		if (placed_hit(b, &b->fresh.v[i], src, len, hit))
			return true;
	return b->in->smap && b->in->smap(b->in->arg, src, len, hit) == 1;
}

static int record_add(struct records *rs, uint32_t pos, uint64_t id, uint32_t size, uint32_t off, uint32_t len)
{
	struct jfs_slice *last = rs->r.n ? &rs->r.v[rs->r.n - 1] : NULL, *r;

	if (last && last->id == id && last->pos + last->len == pos && (!id || (last->size == size && last->off + last->len == off))) {
		last->len += len;
		return 0;
	}
	r = vec_push(&rs->r);
	if (!r)
		return -ENOMEM;
	*r = (struct jfs_slice){ .id = id, .pos = pos, .size = size, .off = off, .len = len };
	return 0;
}

/* A new slice of pieces[0..n), recorded at pos. 0, -ENOMEM; without ids the plan is marked and nothing is added. */
static int slice_make(struct build *b, uint64_t ino, uint32_t chunk, bool composed, uint32_t pos, struct slice_piece *pieces,
	uint32_t n, struct records *rs)
{
	struct pl_slice s = { .ino = ino, .chunk = chunk, .composed = composed };

	s.s.pieces = pieces;
	s.s.n = n;
	for (uint32_t i = 0; i < n; i++)
		s.s.size += pieces[i].len;
	if (!composed && s.s.size <= b->in->pack_below && s.s.size < b->in->pack_size) {
		uint64_t id = 0;
		uint32_t off = 0;

		if (pack_add(b, ino, chunk, pieces, n, s.s.size, &id, &off) < 0)
			return -ENOMEM;
		return id ? record_add(rs, pos, id, 0, off, s.s.size) : 0;
	}
	s.s.id = b->in->new_slice(b->in->arg);
	if (!s.s.id) {
		b->no_ids = true;
		return 0;
	}
	if (slice_add(b, &s, false) < 0)
		return -ENOMEM;
	return record_add(rs, pos, s.s.id, s.s.size, 0, s.s.size);
}

static bool leaves(const struct co_chunk *c, uint64_t id)
{
	for (size_t i = 0; c && i < c->leave.n; i++)
		if (c->leave.v[i] == id)
			return true;
	return false;
}

/* A record of what is no staged bytes; those of a slice that is to be left go into a pack. */
static int stroke_record(struct build *b, const struct chunk_build *cb, const struct stroke *s, bool dry, struct records *rs)
{
	struct slice_piece pc = s->src;
	uint32_t size, off;
	uint64_t id = 0;
	int err = 0;

	pc.len = s->len;
	if (pc.kind == PIECE_OBJECT && leaves(cb->leaving, pc.slice_id) && !dry)
		err = pack_move(b, cb->ci->ino, cb->chunk, &pc, &id, &size, &off);
	if (err || id)
		return err ? err : record_add(rs, s->pos, id, size, off, s->len);
	return record_add(rs, s->pos, pc.kind == PIECE_OBJECT ? pc.slice_id : 0, pc.slice_size, pc.slice_off, s->len);
}

/* Records for the strokes of w, in order of position. Groups of neighbouring staged strokes that have no place yet become
 * one slice each. With `dry` no slice is made: each group counts as one record of id UINT64_MAX. */
static int strokes_record(const struct chunk_build *cb, const struct layer *w, bool dry, struct records *rs)
{
	VEC(struct slice_piece) group = { 0 };
	struct build *b = cb->b;
	const uint64_t ino = cb->ci->ino;
	const uint32_t chunk = cb->chunk;
	const struct pl_chunk_ref at = { ino, chunk };
	uint32_t start = 0, end = 0;
	int err = 0;

	for (size_t i = 0; !err && i <= w->s.n; i++) {
		const struct stroke *s = i < w->s.n ? &w->s.v[i] : NULL;
		uint32_t done = 0;

		do {
			struct slice_piece src = s ? s->src : (struct slice_piece){ 0 };
			struct smap_hit hit = hit_none();
			uint32_t pos = s ? s->pos + done : 0;
			bool staged = s && src.kind == PIECE_STAGED, found;

			src.off += done;
			found = staged && place_find(b, &at, &src, s->len - done, s->copy, &hit);
			if (group.n && (!staged || found || pos != end)) {
				err = dry ? record_add(rs, start, UINT64_MAX, 0, start, end - start) :
					    slice_make(b, ino, chunk, false, start, group.v, (uint32_t)group.n, rs);
				group.n = 0;
			}
			if (err || !s)
				break;
			if (staged && !found) {
				/* the rest of the stroke, even if a later part of it has a place: a duplicate is no harm */
				struct slice_piece *pc = vec_push(&group);

				if (!pc) {
					err = -ENOMEM;
					break;
				}
				if (group.n == 1)
					start = pos;
				*pc = src;
				pc->len = s->len - done;
				end = pos + pc->len;
				done = s->len;
			} else if (staged) {
				err = record_add(rs, pos, hit.slice_id, hit.slice_size, hit.slice_off, hit.len);
				done += hit.len;
			} else {
				err = stroke_record(b, cb, s, dry, rs);
				done = s->len;
			}
		} while (!err && s && done < s->len);
	}
	vec_fini(&group);
	return err;
}

/* Zeroes that hide nothing go; the others shrink to what they hide. */
static int zeroes_trim(struct layer *w, const struct layer *old)
{
	size_t out = 0;

	for (size_t i = 0; i < w->s.n; i++) {
		struct stroke s = w->s.v[i];
		uint32_t from = UINT32_MAX, to = 0;

		for (size_t k = 0; s.src.kind == PIECE_ZERO && k < old->s.n; k++) {
			const struct stroke *o = &old->s.v[k];
			uint32_t a = o->pos > s.pos ? o->pos : s.pos;
			uint32_t e = o->pos + o->len < s.pos + s.len ? o->pos + o->len : s.pos + s.len;

			if (o->src.kind != PIECE_OBJECT || a >= e)
				continue;
			from = a < from ? a : from;
			to = e > to ? e : to;
		}
		if (s.src.kind == PIECE_ZERO) {
			if (from >= to)
				continue;
			s.pos = from;
			s.len = to - from;
		}
		w->s.v[out++] = s;
	}
	w->s.n = out;
	return 0;
}

/* How many records the strokes become (those of many small writes in a row become one), and how many pieces a reader finds: also
 * the gaps between them. */
static int pieces_count(const struct chunk_build *cb, const struct layer *f, size_t *records, size_t *n)
{
	struct records dry = { 0 };
	int err = strokes_record(cb, f, true, &dry);

	*n = *records = dry.r.n;
	for (size_t i = 1; i < f->s.n; i++)
		*n += f->s.v[i - 1].pos + f->s.v[i - 1].len < f->s.v[i].pos;
	vec_fini(&dry.r);
	return err;
}

static int layer_copy(struct layer *to, const struct layer *from)
{
	for (size_t i = 0; i < from->s.n; i++) {
		struct stroke *s = vec_push(&to->s);

		if (!s)
			return -ENOMEM;
		*s = from->s.v[i];
	}
	return 0;
}

/* Old records of which something is still seen, whole and in order, before the window's. */
static int records_keep(struct chunk_build *cb)
{
	for (uint32_t r = 0; r < cb->n_old; r++) {
		bool seen = false;

		for (size_t i = 0; i < cb->all.s.n && !seen; i++)
			seen = cb->all.s.v[i].born == 0 && cb->all.s.v[i].record == r;
		if (seen) {
			struct jfs_slice *s = vec_push(&cb->out.r);

			if (!s)
				return -ENOMEM;
			if (jfs_slice_decode(cb->old + r * JFS_SLICE_LEN, JFS_SLICE_LEN, s) != 0)
				return -EUCLEAN;
		}
	}
	return 0;
}

static bool pieces_equal(const struct slice_plan *a, const struct slice_piece *p, uint32_t n)
{
	if (a->n != n)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		const struct slice_piece *x = &a->pieces[i], *y = &p[i];

		if (x->kind != y->kind || x->len != y->len)
			return false;
		if (x->kind == PIECE_STAGED && (x->segment != y->segment || x->off != y->off))
			return false;
		if (x->kind == PIECE_OBJECT && (x->slice_id != y->slice_id || x->slice_off != y->slice_off))
			return false;
	}
	return true;
}

/* Everything that is seen becomes one slice, or none if that is nothing but zeroes; those inside it are written out. */
static int chunk_compose(struct chunk_build *cb)
{
	VEC(struct slice_piece) pieces = { 0 };
	const struct pl_slice *same = NULL;
	uint32_t start = 0, at = 0;
	int err = 0;

	for (size_t i = 0; i < cb->all.s.n && !err; i++) {
		const struct stroke *s = &cb->all.s.v[i];
		struct slice_piece *pc;

		if (s->src.kind == PIECE_ZERO)
			continue;
		if (!pieces.n)
			start = at = s->pos;
		for (int gap = s->pos > at; gap >= 0 && !err; gap--) {
			pc = vec_push(&pieces);
			if (!pc) {
				err = -ENOMEM;
			} else if (gap) {
				*pc = (struct slice_piece){ .kind = PIECE_ZERO, .len = s->pos - at };
			} else {
				*pc = s->src;
				pc->len = s->len;
			}
		}
		at = s->pos + s->len;
	}
	for (size_t i = 0; i < cb->b->p->n_recorded && !same && !err; i++) {
		const struct pl_slice *ps = &cb->b->p->slices.v[i];

		if (ps->composed && ps->ino == cb->ci->ino && ps->chunk == cb->chunk && pieces_equal(&ps->s, pieces.v, (uint32_t)pieces.n))
			same = ps;
	}
	if (same)
		err = record_add(&cb->out, start, same->s.id, same->s.size, 0, same->s.size);
	else if (!err && pieces.n)
		err = slice_make(cb->b, cb->ci->ino, cb->chunk, true, start, pieces.v, (uint32_t)pieces.n, &cb->out);
	vec_fini(&pieces);
	return err;
}

/* A list of one record at most: the one that is still seen, or a new slice. */
static int chunk_compact(struct chunk_build *cb, size_t fresh)
{
	int err = records_keep(cb);

	cb->rewrite = true;
	if (err || fresh + cb->out.r.n == 0 || (!fresh && cb->out.r.n == 1))
		return err;
	cb->out.r.n = 0;
	return chunk_compose(cb);
}

/* Composing stores all that is seen once more. */
static bool compose_pays(const struct chunk_build *cb, size_t records)
{
	uint64_t changed = 0, start = UINT64_MAX, end = 0;

	for (size_t i = 0; i < cb->w.s.n; i++)
		changed += cb->w.s.v[i].len;
	for (size_t i = 0; i < cb->all.s.n; i++) {
		const struct stroke *s = &cb->all.s.v[i];

		if (s->src.kind == PIECE_ZERO)
			continue;
		start = s->pos < start ? s->pos : start;
		end = (uint64_t)s->pos + s->len;
	}
	return records > LIST_LONG || end <= start || end - start <= COMPOSE_MOST * changed;
}

/* A list of what is seen, if it is short or composing would not pay; else one new slice. */
static int chunk_rebuild(struct chunk_build *cb)
{
	struct layer bare = { 0 };
	size_t records = 0, pieces = 0;
	int err = 0;

	cb->rewrite = true;
	cb->out.r.n = 0;
	for (size_t i = 0; i < cb->all.s.n && !err; i++) {
		struct stroke *s = cb->all.s.v[i].src.kind == PIECE_ZERO ? NULL : vec_push(&bare.s);

		if (s)
			*s = cb->all.s.v[i];
		else if (cb->all.s.v[i].src.kind != PIECE_ZERO)
			err = -ENOMEM;
	}
	if (!err)
		err = pieces_count(cb, &bare, &records, &pieces);
	if (!err && (pieces <= LIST_MAX || !compose_pays(cb, records)))
		err = strokes_record(cb, &bare, false, &cb->out);
	else if (!err)
		err = chunk_compose(cb);
	layer_fini(&bare);
	return err;
}

/* Does the old list name a slice that is to be left? Also where nothing of it is seen: it keeps its objects alive. */
static bool old_leaves(const struct chunk_build *cb)
{
	for (uint32_t i = 0; i < cb->n_old && cb->leaving; i++)
		if (leaves(cb->leaving, get_be64(cb->old + (size_t)i * JFS_SLICE_LEN + 4)))
			return true;
	return false;
}

/* Chooses the cheapest list that obeys the limits. */
static int chunk_choose(struct chunk_build *cb)
{
	size_t fresh, pieces, kept, unused;
	int err = pieces_count(cb, &cb->w, &fresh, &unused);

	layer_merge(&cb->all);
	if (!err)
		err = pieces_count(cb, &cb->all, &unused, &pieces);
	if (err)
		return err;
	if (cb->compact && cb->n_old + fresh > 1)
		return chunk_compact(cb, fresh);
	if (old_leaves(cb))
		return chunk_rebuild(cb);
	if (cb->n_old + fresh <= LIST_MAX && pieces <= LIST_MAX)
		return strokes_record(cb, &cb->w, false, &cb->out);
	cb->rewrite = true;
	err = records_keep(cb);
	kept = cb->out.r.n;
	if (err || ((kept + fresh > LIST_MAX || pieces > LIST_MAX) && compose_pays(cb, kept + fresh)))
		return err ? err : chunk_rebuild(cb);
	if (kept == cb->n_old) { /* all of them: they need not be said again */
		cb->rewrite = false;
		cb->out.r.n = 0;
	}
	return strokes_record(cb, &cb->w, false, &cb->out);
}

/* The list of the recorded window, which was chosen once. *taken false: it is to be chosen now. */
static int chunk_again(struct chunk_build *cb, bool *taken)
{
	const struct pl_chunk_ref at = { cb->ci->ino, cb->chunk };
	const struct pl_post *p;
	uint32_t kept;
	int err = recorded_list(cb->b, &at, &cb->all, cb->old, cb->n_old, &p, &kept);

	*taken = !err && p;
	if (!*taken)
		return err;
	cb->rewrite = kept < cb->n_old || !p->n;
	for (uint32_t i = kept; i < p->n && !err; i++) {
		struct jfs_slice *s = vec_push(&cb->out.r);

		err = s ? jfs_slice_decode(p->records + (size_t)i * JFS_SLICE_LEN, JFS_SLICE_LEN, s) : -ENOMEM;
	}
	return err;
}

/* Puts the list into the plan, with its references and post-image. */
static int chunk_emit(struct chunk_build *cb)
{
	struct build *b = cb->b;
	size_t n = cb->out.r.n;
	uint8_t *bytes = arena_alloc(&b->p->mem, (n + cb->n_old) * JFS_SLICE_LEN + 1);
	struct pl_list *l = vec_push(&b->p->lists);
	struct pl_post *post = vec_push(&b->p->posts);
	int err = 0;

	if (!bytes || !l || !post)
		return -ENOMEM;
	if (cb->n_old)
		memcpy(bytes, cb->old, cb->n_old * JFS_SLICE_LEN);
	l->ino = cb->ci->ino;
	l->chunk = cb->chunk;
	l->new_inode = cb->ci->born;
	l->kind = !cb->known ? PL_FRESH : cb->rewrite ? PL_REWRITE : PL_APPEND;
	l->old = bytes;
	l->n_old = cb->n_old;
	l->records = bytes + cb->n_old * JFS_SLICE_LEN;
	l->n_records = (uint32_t)n;
	for (size_t i = 0; i < n && !err; i++) {
		const struct jfs_slice *r = &cb->out.r.v[i];

		jfs_slice_encode(r, bytes + (cb->n_old + i) * JFS_SLICE_LEN);
		err = ref_add(b, r->id, r->size, 1, false);
	}
	for (uint32_t i = 0; i < cb->n_old && cb->rewrite && !err; i++) {
		struct jfs_slice r;

		err = jfs_slice_decode(cb->old + i * JFS_SLICE_LEN, JFS_SLICE_LEN, &r);
		if (!err)
			err = ref_add(b, r.id, r.size, -1, false);
	}
	*post = (struct pl_post){ .ino = l->ino, .chunk = l->chunk, .fresh = l->new_inode };
	post->records = cb->rewrite ? l->records : l->old;
	post->n = cb->rewrite ? l->n_records : l->n_old + l->n_records;
	b->p->commands++;
	return err;
}

static int chunk_plan(struct chunk_build *cb, const struct layer *strokes)
{
	int err = layer_copy(&cb->w, strokes);
	bool taken = false;

	if (!err)
		err = layer_paint_list(&cb->old_l, cb->old, (size_t)cb->n_old * JFS_SLICE_LEN);
	if (!err)
		err = zeroes_trim(&cb->w, &cb->old_l);
	layer_merge(&cb->w);
	if (err || (!cb->w.s.n && !(cb->compact && cb->n_old > 1) && !old_leaves(cb)))
		return err;
	err = layer_copy(&cb->all, &cb->old_l);
	for (size_t i = 0; i < cb->w.s.n && !err; i++)
		err = layer_paint(&cb->all, &cb->w.s.v[i], NULL, NULL);
	if (!err)
		err = chunk_again(cb, &taken);
	if (!err && !taken)
		err = chunk_choose(cb);
	return err ? err : chunk_emit(cb);
}

static int by_chunk(const void *a, const void *b)
{
	const struct co_chunk *x = a, *y = b;

	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

static uint64_t first_cut(const struct co_inode *ci)
{
	return ci->cut == UINT64_MAX ? UINT64_MAX : (ci->cut + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS;
}

int build_missing(struct build *b, const struct co_inode *ci)
{
	for (size_t i = 0; ci->fate == CI_KEEP && i < ci->chunks.n; i++) {
		const uint8_t *old;
		struct pl_chunk_ref *m;
		uint32_t n;

		if (ci->chunks.v[i].chunk >= first_cut(ci) || b->in->published(b->in->arg, ci->ino, ci->chunks.v[i].chunk, &old, &n) == 0)
			continue;
		m = vec_push(&b->p->missing);
		if (!m)
			return -ENOMEM;
		*m = (struct pl_chunk_ref){ ci->ino, ci->chunks.v[i].chunk };
	}
	return 0;
}

int build_lists(struct build *b, struct co_inode *ci)
{
	int err = 0;

	if (ci->chunks.n)
		qsort(ci->chunks.v, ci->chunks.n, sizeof(*ci->chunks.v), by_chunk);
	for (size_t i = 0; i < ci->chunks.n && !err; i++) {
		struct co_chunk *c = &ci->chunks.v[i];
		struct chunk_build cb = { .b = b, .ci = ci, .chunk = c->chunk, .compact = c->compact,
			.leaving = c->leave.n && !b->in->stay ? c : NULL };

		cb.known = !ci->born && c->chunk < first_cut(ci);
		if (cb.known)
			err = b->in->published(b->in->arg, ci->ino, c->chunk, &cb.old, &cb.n_old);
		if (!err)
			err = chunk_plan(&cb, &c->w);
		layer_fini(&cb.w);
		layer_fini(&cb.old_l);
		layer_fini(&cb.all);
		vec_fini(&cb.out.r);
	}
	return err;
}
