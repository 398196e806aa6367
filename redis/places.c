#include "redis/places.h"

#include <errno.h>
#include <stdlib.h>

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->len < y->len ? -1 : x->len > y->len;
}

static int by_source(const void *a, const void *b)
{
	const struct moved *x = a, *y = b;

	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return x->from_off < y->from_off ? -1 : x->from_off > y->from_off;
}

static int ids_named(const struct window *w, struct hmap *ids)
{
	bool fresh;
	uint32_t i;

	for (size_t p = 0; p < w->posts.n; p++) {
		for (uint32_t k = 0; k < w->posts.v[p].n; k++) {
			uint64_t id = get_be64(w->posts.v[p].records + (size_t)k * JFS_SLICE_LEN + 4);

			if (hmap_put(ids, &id, sizeof(id), 0, &i, &fresh) != 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static int add_staged(struct places *out, const struct slice_plan *s, const struct slice_piece *pc, uint32_t at)
{
	struct place *p = vec_push(&out->staged);

	if (!p)
		return -ENOMEM;
	*p = (struct place){ pc->segment, pc->off, pc->len, s->size, at, s->id };
	return 0;
}

static int add_moved(struct places *out, const struct slice_plan *s, const struct slice_piece *pc, uint32_t at)
{
	struct moved *m = vec_push(&out->moved);

	if (!m)
		return -ENOMEM;
	*m = (struct moved){ .from = pc->slice_id, .from_off = pc->slice_off, .len = pc->len, .slice_size = s->size, .slice_off = at,
		.id = s->id };
	return 0;
}

static int add_slice(struct places *out, const struct slice_plan *s)
{
	uint32_t at = 0;
	int err = 0;

	for (uint32_t k = 0; k < s->n && !err; at += s->pieces[k++].len) {
		const struct slice_piece *pc = &s->pieces[k];

		if (pc->kind == PIECE_STAGED)
			err = add_staged(out, s, pc, at);
		else if (pc->kind == PIECE_OBJECT)
			err = add_moved(out, s, pc, at);
	}
	return err;
}

int places_make(const struct window *w, struct places *out)
{
	struct hmap ids = { 0 };
	uint32_t unused;
	int err = ids_named(w, &ids);

	for (size_t i = 0; i < w->slices.n && !err; i++)
		if (hmap_get(&ids, &w->slices.v[i].s.id, sizeof(uint64_t), &unused))
			err = add_slice(out, &w->slices.v[i].s);
	hmap_fini(&ids);
	if (out->staged.n)
		qsort(out->staged.v, out->staged.n, sizeof(*out->staged.v), by_place);
	if (out->moved.n)
		qsort(out->moved.v, out->moved.n, sizeof(*out->moved.v), by_source);
	return err;
}

void places_fini(struct places *p)
{
	vec_fini(&p->staged);
	vec_fini(&p->moved);
}

static void point_at(struct extent_val *e, uint64_t id, uint32_t size, uint32_t off)
{
	e->kind = EXT_OBJECT;
	e->slice_id = id;
	e->slice_size = size;
	e->slice_off = off;
}

static bool repoint_staged(const struct places *pl, struct extent_val *e)
{
	size_t lo = 0, hi = pl->staged.n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct place *p = &pl->staged.v[mid];

		if (p->segment < e->segment || (p->segment == e->segment && p->off <= e->off))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo-- > 0 && pl->staged.v[lo].segment == e->segment && pl->staged.v[lo].off >= e->run_off;) {
		const struct place *p = &pl->staged.v[lo];

		if ((uint64_t)e->off + e->len <= (uint64_t)p->off + p->len) {
			point_at(e, p->id, p->slice_size, p->slice_off + e->off - p->off);
			return true;
		}
	}
	return false;
}

static bool list_names(const uint8_t *records, uint32_t n, uint64_t id)
{
	while (n-- > 0)
		if (get_be64(records + (size_t)n * JFS_SLICE_LEN + 4) == id)
			return true;
	return false;
}

static bool repoint_moved(const struct places *pl, const uint8_t *records, uint32_t n, struct extent_val *e)
{
	const struct moved key = { .from = e->slice_id, .from_off = e->slice_off };
	size_t lo = 0, hi = pl->moved.n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (by_source(&pl->moved.v[mid], &key) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo-- > 0;) {
		const struct moved *m = &pl->moved.v[lo];

		if (m->from != e->slice_id)
			break;
		if (e->slice_off >= m->from_off && (uint64_t)e->slice_off + e->len <= (uint64_t)m->from_off + m->len &&
			list_names(records, n, m->id)) {
			point_at(e, m->id, m->slice_size, m->slice_off + e->slice_off - m->from_off);
			return true;
		}
	}
	return false;
}

bool places_repoint(const struct places *p, const uint8_t *records, uint32_t n, struct extent_val *e)
{
	if (e->kind == EXT_STAGED)
		return repoint_staged(p, e);
	return e->kind == EXT_OBJECT && repoint_moved(p, records, n, e);
}

bool places_listed(const uint8_t *records, uint32_t n, struct extent_val *e)
{
	if (e->kind == EXT_HOLE || (e->kind == EXT_OBJECT && list_names(records, n, e->slice_id)))
		return false;
	while (n-- > 0) { /* the last one that covers a byte shows it */
		struct jfs_slice s;

		if (jfs_slice_decode(records + (size_t)n * JFS_SLICE_LEN, JFS_SLICE_LEN, &s) != 0)
			return false;
		if (s.pos + s.len <= e->pos || e->pos + e->len <= s.pos)
			continue;
		if (!s.id || s.pos > e->pos || s.pos + s.len < e->pos + e->len)
			return false;
		point_at(e, s.id, s.size, s.off + e->pos - s.pos);
		return true;
	}
	return false;
}
