/* Invariant: strokes are sorted by pos, none is empty, none overlaps the next. */
#include "redis/paint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct stroke stroke_part(const struct stroke *s, uint32_t skip, uint32_t len)
{
	struct stroke p = *s;

	p.pos += skip;
	p.len = len;
	if (p.src.kind == PIECE_STAGED)
		p.src.off += skip;
	else if (p.src.kind == PIECE_OBJECT)
		p.src.slice_off += skip;
	return p;
}

/* Index of the first stroke that ends behind pos. */
static size_t layer_find(const struct layer *l, uint32_t pos)
{
	size_t lo = 0, hi = l->s.n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->s.v[mid].pos + l->s.v[mid].len <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int layer_paint(struct layer *l, const struct stroke *s, stroke_died died, void *arg)
{
	uint32_t from = s->pos, to = s->pos + s->len;
	struct stroke keep[3];
	size_t first, last, n = 0, old = l->s.n;

	if (!s->len)
		return 0;
	first = last = layer_find(l, from);
	while (last < old && l->s.v[last].pos < to)
		last++;
	for (size_t i = first; died && i < last; i++) {
		const struct stroke *v = &l->s.v[i];
		uint32_t a = v->pos > from ? v->pos : from, b = v->pos + v->len < to ? v->pos + v->len : to;
		struct stroke part = stroke_part(v, a - v->pos, b - a);

		died(arg, &part);
	}
	if (first < last && l->s.v[first].pos < from)
		keep[n++] = stroke_part(&l->s.v[first], 0, from - l->s.v[first].pos);
	keep[n++] = *s;
	if (first < last) {
		const struct stroke *v = &l->s.v[last - 1];

		if (v->pos + v->len > to)
			keep[n++] = stroke_part(v, to - v->pos, v->pos + v->len - to);
	}
	for (size_t i = last - first; i < n; i++)
		if (!vec_push(&l->s))
			return -ENOMEM;
	memmove(&l->s.v[first + n], &l->s.v[last], (old - last) * sizeof(*l->s.v));
	memcpy(&l->s.v[first], keep, n * sizeof(*keep));
	l->s.n = old - (last - first) + n;
	return 0;
}

int layer_paint_list(struct layer *l, const uint8_t *records, size_t n)
{
	if (n % JFS_SLICE_LEN)
		return -EUCLEAN;
	for (size_t i = 0; i < n / JFS_SLICE_LEN; i++) {
		struct jfs_slice r;
		struct stroke s = { 0 };
		int err = jfs_slice_decode(records + i * JFS_SLICE_LEN, JFS_SLICE_LEN, &r);

		if (err)
			return err;
		s.pos = r.pos;
		s.len = r.len;
		s.record = (uint32_t)i;
		s.src.kind = r.id ? PIECE_OBJECT : PIECE_ZERO;
		s.src.slice_id = r.id;
		s.src.slice_size = r.id ? r.size : 0;
		s.src.slice_off = r.id ? r.off : 0;
		err = layer_paint(l, &s, NULL, NULL);
		if (err)
			return err;
	}
	return 0;
}

static bool stroke_follows(const struct stroke *a, const struct stroke *b)
{
	if (a->pos + a->len != b->pos || a->src.kind != b->src.kind || a->copy != b->copy || a->record != b->record ||
		!a->born != !b->born)
		return false;
	if (a->src.kind == PIECE_ZERO)
		return true;
	if (a->src.kind == PIECE_OBJECT)
		return a->src.slice_id == b->src.slice_id && a->src.slice_size == b->src.slice_size &&
		       a->src.slice_off + a->len == b->src.slice_off;
	return a->src.segment == b->src.segment && a->src.run_off == b->src.run_off && a->src.run_len == b->src.run_len &&
	       a->src.off + a->len == b->src.off;
}

void layer_merge(struct layer *l)
{
	size_t out = 0;

	for (size_t i = 0; i < l->s.n; i++) {
		if (out && stroke_follows(&l->s.v[out - 1], &l->s.v[i]))
			l->s.v[out - 1].len += l->s.v[i].len;
		else
			l->s.v[out++] = l->s.v[i];
	}
	l->s.n = out;
}

void layer_fini(struct layer *l)
{
	vec_fini(&l->s);
}
