/* A plan that is made again of a recorded window: which lists stay as they were.
 *
 * How a list was chosen depends on how many pieces were counted then, and that comes out differently once the bytes have places
 * in slices: those of two copies may be found in either. So the recorded list is not chosen again: it is the answer whenever it
 * shows what is to be seen. Where it does not (somebody else's list is there now, a slice of an earlier window is dead) the chunk
 * is planned as for the first time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/coalesce_int.h"

struct cursor {
	const struct layer *l;
	size_t i;
	uint32_t in; /* bytes into stroke i */
};

int recorded_index(struct build *b)
{
	uint8_t key[12];
	uint32_t at;
	bool fresh;
	int err = 0;

	for (size_t i = 0; i < b->p->n_recorded && !err; i++)
		err = hmap_put(&b->recorded_ids, &b->p->slices.v[i].s.id, sizeof(uint64_t), (uint32_t)i, &at, &fresh);
	for (size_t i = 0; i < b->in->n_recorded_posts && !err; i++) {
		const struct pl_post *p = &b->in->recorded_posts[i];

		if (p->onward)
			continue;
		put_be64(key, p->ino);
		put_be32(key + 8, p->chunk);
		err = hmap_put(&b->recorded_posts, key, sizeof(key), (uint32_t)i, &at, &fresh);
	}
	return err ? -ENOMEM : 0;
}

void recorded_fini(struct build *b)
{
	vec_fini(&b->recorded);
	hmap_fini(&b->recorded_ids);
	hmap_fini(&b->recorded_posts);
}

static struct slice_piece piece_from(const struct slice_piece *p, uint32_t skip)
{
	struct slice_piece out = *p;

	if (p->kind == PIECE_STAGED)
		out.off += skip;
	else if (p->kind == PIECE_OBJECT)
		out.slice_off += skip;
	return out;
}

/* Bytes of a recorded slice are those that it is made of. Returns how many of the n follow each other there, too. */
static uint32_t made_of(const struct build *b, struct slice_piece *src, uint32_t n)
{
	const struct slice_plan *s;
	uint32_t i, at = 0;

	if (src->kind != PIECE_OBJECT || !hmap_get(&b->recorded_ids, &src->slice_id, sizeof(src->slice_id), &i))
		return n;
	s = &b->p->slices.v[i].s;
	for (uint32_t k = 0; k < s->n; at += s->pieces[k++].len) {
		uint32_t skip = src->slice_off - at, left = s->pieces[k].len - skip;

		if (skip >= s->pieces[k].len)
			continue;
		*src = piece_from(&s->pieces[k], skip);
		return left < n ? left : n;
	}
	return n;
}

/* The next bytes that are not zeroes: how many, where, and what they are. 0: there are none. */
static uint32_t look(const struct build *b, struct cursor *c, uint32_t *pos, struct slice_piece *src)
{
	for (; c->i < c->l->s.n; c->i++, c->in = 0) {
		const struct stroke *s = &c->l->s.v[c->i];

		while (c->in < s->len) {
			*src = piece_from(&s->src, c->in);
			*pos = s->pos + c->in;
			uint32_t n = made_of(b, src, s->len - c->in);

			if (src->kind != PIECE_ZERO)
				return n;
			c->in += n;
		}
	}
	return 0;
}

/* Staged bytes may also be named where an earlier window put them. *n is cut to what is the same. */
static bool same(const struct build *b, const struct slice_piece *wanted, const struct slice_piece *shown, uint32_t *n)
{
	struct smap_hit hit = hit_none();

	if (wanted->kind == PIECE_STAGED && shown->kind == PIECE_STAGED)
		return wanted->segment == shown->segment && wanted->off == shown->off;
	if (wanted->kind == PIECE_OBJECT && shown->kind == PIECE_OBJECT)
		return wanted->slice_id == shown->slice_id && wanted->slice_off == shown->slice_off;
	if (wanted->kind != PIECE_STAGED || !b->in->smap || b->in->smap(b->in->arg, wanted, *n, &hit) != 1)
		return false;
	*n = hit.len < *n ? hit.len : *n;
	return hit.slice_id == shown->slice_id && hit.slice_off == shown->slice_off;
}

static bool shows(const struct build *b, const struct layer *wanted, const struct layer *list)
{
	struct cursor x = { .l = wanted }, y = { .l = list };

	for (;;) {
		struct slice_piece from, to;
		uint32_t at, there, n = look(b, &x, &at, &from), m = look(b, &y, &there, &to);

		if (!n || !m)
			return n == m;
		n = n < m ? n : m;
		if (at != there || !same(b, &from, &to, &n))
			return false;
		x.in += n;
		y.in += n;
	}
}

/* Does every record from `from` on show something? One that does not may name a slice that Redis counts no more. */
static bool none_hidden(const struct layer *list, uint32_t from, uint32_t n)
{
	for (uint32_t r = from; r < n; r++) {
		size_t i = 0;

		while (i < list->s.n && list->s.v[i].record != r)
			i++;
		if (i == list->s.n)
			return false;
	}
	return true;
}

int recorded_list(const struct build *b, const struct pl_chunk_ref *at, const struct layer *wanted, const uint8_t *old, uint32_t n_old,
	const struct pl_post **post, uint32_t *kept)
{
	struct layer list = { 0 };
	const struct pl_post *p;
	uint8_t key[12];
	uint32_t i;
	int err;

	*post = NULL;
	put_be64(key, at->ino);
	put_be32(key + 8, at->chunk);
	if (!hmap_get(&b->recorded_posts, key, sizeof(key), &i))
		return 0;
	p = &b->in->recorded_posts[i];
	*kept = p->n > n_old && (!n_old || memcmp(p->records, old, (size_t)n_old * JFS_SLICE_LEN) == 0) ? n_old : 0;
	err = layer_paint_list(&list, p->records, (size_t)p->n * JFS_SLICE_LEN);
	if (!err && none_hidden(&list, *kept, p->n) && shows(b, wanted, &list))
		*post = p;
	layer_fini(&list);
	return err;
}
