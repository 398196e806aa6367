/* Packing: small files share slices of up to one block (DESIGN 3.4, spec 5).
 *
 * A pack belongs to one window: all its first records are in that window's script, so its count is right from the first
 * moment (records - 1), and it holds nothing but what is live at the window's end. Its size is part of every record and of the
 * name of its object, and is known only when the last file has been put in: until then records and references of this plan
 * say 0, and pack_settle writes the sizes in. No other slice has size 0.
 *
 * To a plan that is made again out of recorded windows (HISTORIES 30) a pack is a slice like any other. It stands under the file
 * that opened it, which comes before all others in it: so each finds its bytes there.
 *
 * Bytes also come from other packs, which their files are to leave (redis/repack.h): then the pack counts as composed, and is
 * uploaded when the objects of the windows before it are there. Copies that share bytes go on sharing them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/coalesce_int.h"

static int pack_open(struct build *b, uint64_t id, uint64_t ino, uint32_t chunk)
{
	struct pl_slice *s = vec_push(&b->p->slices);
	struct pack *k = vec_push(&b->packs);

	if (!s || !k)
		return -ENOMEM;
	*s = (struct pl_slice){ .ino = ino, .chunk = chunk, .s.id = id };
	*k = (struct pack){ .id = id, .slice = (uint32_t)(b->p->slices.n - 1) };
	return slice_refer(b, id, 0);
}

/* The last pack takes no more. */
static int pack_close(struct build *b)
{
	struct pl_slice *s;

	if (!b->pack_pieces.n)
		return 0;
	s = &b->p->slices.v[b->packs.v[b->packs.n - 1].slice];
	s->s.pieces = arena_copy(&b->p->mem, b->pack_pieces.v, b->pack_pieces.n * sizeof(*b->pack_pieces.v));
	if (!s->s.pieces)
		return -ENOMEM;
	s->s.n = (uint32_t)b->pack_pieces.n;
	b->pack_pieces.n = 0;
	return 0;
}

int pack_add(struct build *b, uint64_t ino, uint32_t chunk, const struct slice_piece *pieces, uint32_t n, uint32_t len, uint64_t *id,
	uint32_t *off)
{
	struct pack *k = b->packs.n ? &b->packs.v[b->packs.n - 1] : NULL;

	if (k && k->size + len > b->in->pack_size && pack_close(b) < 0)
		return -ENOMEM;
	*id = 0;
	if (!b->pack_pieces.n) {
		uint64_t fresh = b->in->new_slice(b->in->arg);

		b->no_ids |= !fresh;
		if (!fresh)
			return 0;
		if (pack_open(b, fresh, ino, chunk) < 0)
			return -ENOMEM;
		k = &b->packs.v[b->packs.n - 1];
	}
	*id = k->id;
	*off = k->size;
	for (uint32_t i = 0; i < n; i++) {
		struct slice_piece *pc = vec_push(&b->pack_pieces);

		if (!pc || slice_placed(b, &pieces[i], false, k->slice, k->size) < 0)
			return -ENOMEM;
		*pc = pieces[i];
		k->size += pieces[i].len;
	}
	b->p->upload_bytes += len;
	return 0;
}

static void moved_key(const struct slice_piece *pc, uint8_t key[16])
{
	put_be64(key, pc->slice_id);
	put_be32(key + 8, pc->slice_off);
	put_be32(key + 12, pc->len);
}

int pack_moved(struct build *b, const struct slice_piece *pc, uint32_t slice, uint32_t off)
{
	uint8_t key[16];
	struct placed *pl;
	bool fresh;
	uint32_t i;

	moved_key(pc, key);
	if (hmap_put(&b->moved_at, key, sizeof(key), (uint32_t)b->moved.n, &i, &fresh) != 0)
		return -ENOMEM;
	pl = fresh ? vec_push(&b->moved) : &b->moved.v[i];
	if (!pl)
		return -ENOMEM;
	if (fresh)
		*pl = (struct placed){ .slice = slice, .slice_off = off };
	return 0;
}

int pack_move(struct build *b, uint64_t ino, uint32_t chunk, const struct slice_piece *pc, uint64_t *id, uint32_t *size, uint32_t *off)
{
	const struct slice_plan *s;
	uint8_t key[16];
	uint32_t i;
	int err;

	moved_key(pc, key);
	*id = *size = *off = 0;
	if (hmap_get(&b->moved_at, key, sizeof(key), &i)) {
		s = &b->p->slices.v[b->moved.v[i].slice].s;
		*id = s->id;
		*size = s->size;
		*off = b->moved.v[i].slice_off;
		return 0;
	}
	if (pc->len > b->in->pack_below || pc->len >= b->in->pack_size)
		return 0;
	err = pack_add(b, ino, chunk, pc, 1, pc->len, id, off);
	if (err || !*id)
		return err;
	i = b->packs.v[b->packs.n - 1].slice;
	b->p->slices.v[i].composed = true;
	return pack_moved(b, pc, i, *off);
}

static int by_id(const void *a, const void *b)
{
	const struct pack *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static uint32_t size_of(const struct build *b, uint64_t id)
{
	const struct pack key = { .id = id }, *k = bsearch(&key, b->packs.v, b->packs.n, sizeof(key), by_id);

	return k ? k->size : 0;
}

/* A list's records lie behind its old ones, and its post-image is made of the same bytes. */
static void list_settle(const struct build *b, const struct pl_list *l)
{
	for (uint32_t i = 0; i < l->n_records; i++) {
		uint8_t *at = (uint8_t *)l->records + (size_t)i * JFS_SLICE_LEN;
		uint64_t id = get_be64(at + 4);

		if (id && !get_be32(at + 12))
			put_be32(at + 12, size_of(b, id));
	}
}

int pack_settle(struct build *b)
{
	int err = pack_close(b);

	if (err || !b->packs.n)
		return err;
	for (size_t i = 0; i < b->packs.n; i++)
		b->p->slices.v[b->packs.v[i].slice].s.size = b->packs.v[i].size;
	qsort(b->packs.v, b->packs.n, sizeof(*b->packs.v), by_id);
	for (size_t i = 0; i < b->p->lists.n; i++)
		list_settle(b, &b->p->lists.v[i]);
	for (size_t i = 0; i < b->p->refs.n; i++)
		if (b->p->refs.v[i].id && !b->p->refs.v[i].size)
			b->p->refs.v[i].size = size_of(b, b->p->refs.v[i].id);
	return 0;
}

void pack_fini(struct build *b)
{
	vec_fini(&b->packs);
	vec_fini(&b->pack_pieces);
	vec_fini(&b->moved);
	hmap_fini(&b->moved_at);
}
