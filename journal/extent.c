/* See extent.h. Every function keeps the list ascending and free of overlaps; an extent that is trimmed keeps naming the
 * same bytes: position, length and the offset in its source move together (a run's checksum still covers the run). */
#include "journal/extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct extent_val extent_slice(const struct extent_val *e, uint32_t from, uint32_t to)
{
	struct extent_val r = *e;
	uint32_t skip = from - e->pos;

	r.pos = from;
	r.len = to - from;
	if (e->kind == EXT_STAGED)
		r.off += skip;
	else if (e->kind == EXT_OBJECT)
		r.slice_off += skip;
	return r;
}

int extent_subtract(const struct extent_val *e, uint32_t from, uint32_t to, struct extent_val out[2])
{
	uint32_t end = extent_end(e);
	int n = 0;

	if (to <= e->pos || from >= end) {
		out[0] = *e;
		return 1;
	}
	if (from > e->pos)
		out[n++] = extent_slice(e, e->pos, from);
	if (to < end)
		out[n++] = extent_slice(e, to, end);
	return n;
}

uint64_t cuts_limit(const struct cut *cuts, size_t n, uint64_t position)
{
	uint64_t limit = UINT64_MAX;

	for (size_t i = 0; i < n; i++)
		if (position < cuts[i].seq && cuts[i].from < limit)
			limit = cuts[i].from;
	return limit;
}

uint32_t extent_visible(const struct extent_val *e, uint32_t chunk, const struct cut *cuts, size_t n)
{
	uint64_t start = (uint64_t)chunk * JFS_CHUNK_SIZE + e->pos;
	uint64_t limit = cuts_limit(cuts, n, e->born);

	if (limit <= start)
		return 0;
	return limit - start < e->len ? (uint32_t)(limit - start) : e->len;
}

void extent_list_init(struct extent_list *l)
{
	memset(l, 0, sizeof(*l));
}

void extent_list_fini(struct extent_list *l)
{
	if (!l)
		return;
	free(l->v);
	extent_list_init(l);
}

static int list_reserve(struct extent_list *l, size_t n)
{
	size_t size = l->size ? l->size : 16;
	struct extent_val *v;

	if (n <= l->size)
		return 0;
	while (size < n)
		size *= 2;
	v = realloc(l->v, size * sizeof(*v));
	if (!v)
		return -ENOMEM;
	l->v = v;
	l->size = size;
	return 0;
}

/* Replaces `gone` members from index i on by the n given ones. */
static int list_splice(struct extent_list *l, size_t i, size_t gone, const struct extent_val *in, size_t n)
{
	int rc = list_reserve(l, l->n - gone + n);

	if (rc)
		return rc;
	if (l->n > i + gone)
		memmove(l->v + i + n, l->v + i + gone, (l->n - i - gone) * sizeof(*l->v));
	if (n)
		memcpy(l->v + i, in, n * sizeof(*in));
	l->n = l->n - gone + n;
	return 0;
}

size_t extent_list_find(const struct extent_list *l, uint32_t pos)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (extent_end(&l->v[mid]) > pos)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Takes [from, to) away and puts `mid` (may be NULL) in its place. */
static int list_replace(struct extent_list *l, uint32_t from, uint32_t to, const struct extent_val *mid)
{
	struct extent_val in[3];
	size_t i = extent_list_find(l, from), j, n = 0;

	if (i < l->n && l->v[i].pos < from)
		in[n++] = extent_slice(&l->v[i], l->v[i].pos, from);
	if (mid)
		in[n++] = *mid;
	for (j = i; j < l->n && l->v[j].pos < to; j++)
		;
	if (j > i && extent_end(&l->v[j - 1]) > to)
		in[n++] = extent_slice(&l->v[j - 1], to, extent_end(&l->v[j - 1]));
	return list_splice(l, i, j - i, in, n);
}

int extent_list_remove(struct extent_list *l, uint32_t from, uint32_t to)
{
	return from < to ? list_replace(l, from, to, NULL) : 0;
}

int extent_list_paint(struct extent_list *l, const struct extent_val *e)
{
	return list_replace(l, e->pos, extent_end(e), e);
}

int extent_list_fill(struct extent_list *l, const struct extent_val *e)
{
	uint32_t pos = e->pos, end = extent_end(e);
	size_t i = extent_list_find(l, pos);

	while (pos < end) {
		uint32_t stop = i < l->n && l->v[i].pos < end ? l->v[i].pos : end;

		if (stop > pos) {
			struct extent_val piece = extent_slice(e, pos, stop);
			int rc = list_splice(l, i, 0, &piece, 1);

			if (rc)
				return rc;
			i++;
		}
		if (i >= l->n || stop == end)
			break;
		pos = extent_end(&l->v[i++]);
	}
	return 0;
}

int extent_list_from_slices(struct extent_list *l, const void *records, size_t n, uint64_t born)
{
	const uint8_t *p = records;

	for (size_t i = 0; i < n; i++, p += JFS_SLICE_LEN) {
		struct jfs_slice s;
		struct extent_val e = { .born = born, .kind = EXT_OBJECT };
		int rc = jfs_slice_decode(p, JFS_SLICE_LEN, &s);

		if (rc)
			return rc;
		if (s.id == 0) {
			rc = extent_list_remove(l, s.pos, s.pos + s.len);
		} else {
			e.pos = s.pos;
			e.len = s.len;
			e.slice_id = s.id;
			e.slice_size = s.size;
			e.slice_off = s.off;
			rc = extent_list_paint(l, &e);
		}
		if (rc)
			return rc;
	}
	return 0;
}
