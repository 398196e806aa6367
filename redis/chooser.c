/* For every record fed: how many keys were touched up to it (an upper bound of the commands), and differences of two sums:
 * bytes that are live after it, and bytes live after it that died later. Each run of new bytes is followed by painting,
 * like the coalescer does. Bytes of files that were published before and go to the trash are counted as dying only when the
 * inode is dismantled; that errs towards live.
 *
 * A chooser can go on behind a window instead of reading what lies ahead again: `again` and `deaths` keep what would count
 * otherwise had it begun later. What lies before `from` is still in the maps; when that is most of them, a new one is cheaper. */
#include "redis/chooser.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal/record.h"
#include "redis/paint.h"

#define STALE 20000 /* keys of before, beside twice those ahead, that are worth keeping */

struct ch_chunk {
	uint64_t ino;
	uint32_t chunk;
	struct layer w;
};

struct ch_inode {
	uint64_t ino;
	uint64_t born; /* by this record; 0: not seen */
	VEC(uint32_t) chunks;
};

struct ch_again { /* a key was touched, the last time before by `prev`; both are behind `from` */
	uint64_t seq, prev;
};

struct ch_death { /* of bytes written by `born`, known because record `since` was seen; both are behind `from` */
	uint64_t seq, born, since;
	uint32_t len;
};

struct ch_point {
	uint64_t keys;
	uint64_t bytes; /* of all records up to it */
	int64_t live, waste; /* differences */
};

struct chooser {
	uint64_t from, seq, since; /* since: see ch_death; 0: the bytes' own record */
	struct hmap touched, inode_at, chunk_at; /* touched: index of its last record */
	VEC(uint64_t) last;
	VEC(struct ch_again) again;
	VEC(struct ch_death) deaths;
	bool failed; /* no memory while painting */
	VEC(struct ch_inode) inodes;
	VEC(struct ch_chunk) chunks;
	VEC(struct ch_point) points; /* [i]: record from + 1 + i */
};

struct chooser *chooser_new(uint64_t from)
{
	struct chooser *c = calloc(1, sizeof(*c));

	if (c)
		c->from = c->seq = from;
	return c;
}

void chooser_free(struct chooser *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->chunks.n; i++)
		layer_fini(&c->chunks.v[i].w);
	for (size_t i = 0; i < c->inodes.n; i++)
		vec_fini(&c->inodes.v[i].chunks);
	vec_fini(&c->chunks);
	vec_fini(&c->inodes);
	vec_fini(&c->points);
	vec_fini(&c->last);
	vec_fini(&c->again);
	vec_fini(&c->deaths);
	hmap_fini(&c->touched);
	hmap_fini(&c->inode_at);
	hmap_fini(&c->chunk_at);
	free(c);
}

static struct ch_point *point(struct chooser *c, uint64_t seq)
{
	return &c->points.v[seq - c->from - 1];
}

static void part_died(void *arg, const struct stroke *part)
{
	struct chooser *c = arg;
	struct ch_death *d;

	if (part->src.kind != PIECE_STAGED || part->born <= c->from)
		return;
	d = vec_push(&c->deaths);
	if (d)
		*d = (struct ch_death){ c->seq, part->born, c->since ? c->since : part->born, part->len };
	else
		c->failed = true;
	point(c, c->seq)->live -= part->len;
	point(c, part->born)->waste += part->len;
	point(c, c->seq)->waste -= part->len;
}

static struct ch_inode *inode_get(struct chooser *c, uint64_t ino)
{
	bool fresh;
	uint32_t i;
	struct ch_inode *ci;

	if (hmap_put(&c->inode_at, &ino, sizeof(ino), (uint32_t)c->inodes.n, &i, &fresh) != 0)
		return NULL;
	ci = fresh ? vec_push(&c->inodes) : &c->inodes.v[i];
	if (ci)
		ci->ino = ino;
	return ci;
}

static int paint(struct chooser *c, uint64_t ino, uint32_t chunk, const struct stroke *s)
{
	uint64_t key[2] = { ino, chunk };
	struct ch_inode *ci = inode_get(c, ino);
	bool fresh;
	uint32_t i, *at;

	if (!ci || hmap_put(&c->chunk_at, key, sizeof(key), (uint32_t)c->chunks.n, &i, &fresh) != 0)
		return -ENOMEM;
	if (fresh) {
		struct ch_chunk *cc = vec_push(&c->chunks);

		at = cc ? vec_push(&ci->chunks) : NULL;
		if (!at)
			return -ENOMEM;
		cc->ino = ino;
		cc->chunk = chunk;
		*at = i;
	}
	return layer_paint(&c->chunks.v[i].w, s, part_died, c);
}

/* Everything of the inode at or above `from` dies, up to `to`. */
static int inode_clear(struct chooser *c, uint64_t ino, uint64_t from, uint64_t to)
{
	struct ch_inode *ci = inode_get(c, ino);
	int err = ci ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < ci->chunks.n; i++) {
		struct ch_chunk *cc = &c->chunks.v[ci->chunks.v[i]];
		uint64_t base = (uint64_t)cc->chunk << JFS_CHUNK_BITS, a = from > base ? from : base;
		uint64_t b = to < base + JFS_CHUNK_SIZE ? to : base + JFS_CHUNK_SIZE;
		struct stroke z = { .born = c->seq, .src.kind = PIECE_ZERO };

		if (a >= b)
			continue;
		z.pos = (uint32_t)(a - base);
		z.len = (uint32_t)(b - a);
		err = layer_paint(&cc->w, &z, part_died, c);
	}
	return err;
}

static int feed_extent(struct chooser *c, const struct rec_item *it)
{
	struct stroke s = { .born = c->seq };
	struct extent_val v;
	uint32_t chunk, last;
	uint64_t ino;

	if (key_parse_extent(it->key, it->klen, &ino, &chunk, &last) != 0 || extent_val_decode(it->val, it->vlen, &v) != 0)
		return -EUCLEAN;
	s.pos = v.pos;
	s.len = v.len;
	s.src.kind = v.kind == EXT_STAGED && !(it->flags & IF_COPY) ? PIECE_STAGED : PIECE_ZERO;
	if (s.src.kind == PIECE_STAGED)
		point(c, c->seq)->live += v.len;
	return paint(c, ino, chunk, &s);
}

/* Counts the key, once for the records behind `from`. */
static int key_touch(struct chooser *c, const void *key, size_t n)
{
	uint64_t *last, prev;
	bool fresh;
	uint32_t i;

	if (hmap_put(&c->touched, key, n, (uint32_t)c->last.n, &i, &fresh) != 0)
		return -ENOMEM;
	last = fresh ? vec_push(&c->last) : &c->last.v[i];
	if (!last)
		return -ENOMEM;
	prev = *last;
	*last = c->seq;
	if (prev <= c->from) {
		point(c, c->seq)->keys++;
	} else if (prev < c->seq) {
		struct ch_again *a = vec_push(&c->again);

		if (!a)
			return -ENOMEM;
		*a = (struct ch_again){ c->seq, prev };
	}
	return 0;
}

/* The record goes: of an inode that was born behind `from`, so do its bytes. */
static int feed_deleted(struct chooser *c, uint64_t ino)
{
	struct ch_inode *ci = inode_get(c, ino);
	int err;

	if (!ci)
		return -ENOMEM;
	if (ci->born <= c->from)
		return 0;
	c->since = ci->born;
	err = inode_clear(c, ino, 0, UINT64_MAX);
	c->since = 0;
	return err;
}

static int feed_item(struct chooser *c, const struct rec_item *it)
{
	uint64_t ino = 0;
	uint8_t table = it->klen ? it->key[0] : 0;

	if (it->kind == IT_EXPECT || it->kind == IT_SPACE || it->kind == IT_NLINK)
		return 0;
	if (it->kind == IT_PUT && table == T_EXTENT && (it->flags & IF_NEW)) {
		int err = key_touch(c, it->key, 13); /* the chunk's list */

		return err ? err : feed_extent(c, it);
	}
	if ((it->kind == IT_PUT || it->kind == IT_DEL) && !memchr("idxs", table, 4))
		return 0;
	if (it->kind != IT_CUT && it->kind != IT_PUNCH && key_touch(c, it->key, it->klen) != 0)
		return -ENOMEM;
	if (key_parse_ino(it->key, it->klen, &ino) != 0)
		return -EUCLEAN;
	if (it->kind == IT_CUT && it->vlen == 16)
		return inode_clear(c, ino, get_be64(it->val), UINT64_MAX);
	if (it->kind == IT_PUNCH && it->vlen == 16)
		return inode_clear(c, ino, get_be64(it->val), get_be64(it->val) + get_be64(it->val + 8));
	if (table != T_INODE)
		return 0;
	if (it->kind == IT_PUT && (it->flags & IF_NEW)) {
		struct ch_inode *ci = inode_get(c, ino);

		if (!ci)
			return -ENOMEM;
		ci->born = c->seq;
	}
	if (it->kind == IT_GONE || it->kind == IT_SUSTAIN)
		return inode_clear(c, ino, 0, UINT64_MAX);
	return it->kind == IT_DEL ? feed_deleted(c, ino) : 0;
}

int chooser_feed(struct chooser *c, uint64_t seq, const void *rec, size_t len)
{
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;
	int err = rec_open(rec, len, &h, &r), more = 0;

	if (err)
		return err;
	while (c->from + c->points.n < seq) { /* internal records leave gaps */
		struct ch_point before = { 0 }, *p;

		if (c->points.n)
			before = c->points.v[c->points.n - 1];
		p = vec_push(&c->points);
		if (!p)
			return -ENOMEM;
		p->keys = before.keys;
		p->bytes = before.bytes;
	}
	if (h.op < OP_INTERNAL)
		c->points.v[c->points.n - 1].bytes += len;
	c->seq = seq;
	while (h.op < OP_INTERNAL && !err && (more = rec_next(&r, &it)) > 0)
		err = feed_item(c, &it);
	return err ? err : c->failed ? -ENOMEM : more;
}

bool chooser_advance(struct chooser *c, uint64_t from)
{
	size_t drop = (size_t)(from - c->from), out = 0;
	uint64_t added = 0;
	struct ch_point base = { 0 };

	if (from < c->from || drop > c->points.n)
		return false;
	if (drop)
		base = c->points.v[drop - 1];
	if (c->touched.n > 2 * (chooser_commands(c) - base.keys) + STALE)
		return false;
	c->from = from;
	if (!drop)
		return true;
	c->points.n -= drop;
	memmove(c->points.v, c->points.v + drop, c->points.n * sizeof(*c->points.v));
	for (size_t i = 0, a = 0; i < c->points.n; i++) {
		for (; a < c->again.n && c->again.v[a].seq <= from + 1 + i; a++)
			added += c->again.v[a].seq > from && c->again.v[a].prev <= from;
		c->points.v[i].keys += added - base.keys;
		c->points.v[i].bytes -= base.bytes;
	}
	for (size_t i = 0; i < c->again.n; i++)
		if (c->again.v[i].prev > from)
			c->again.v[out++] = c->again.v[i];
	c->again.n = out;
	out = 0;
	for (size_t i = 0; i < c->deaths.n; i++) {
		struct ch_death d = c->deaths.v[i];

		if (d.born > from && d.since > from) {
			c->deaths.v[out++] = d;
			continue;
		}
		if (d.seq <= from)
			continue;
		point(c, d.seq)->live += d.len;
		point(c, d.seq)->waste += d.len;
		if (d.born > from)
			point(c, d.born)->waste -= d.len;
	}
	c->deaths.n = out;
	return true;
}

uint64_t chooser_commands(const struct chooser *c)
{
	return c->points.n ? c->points.v[c->points.n - 1].keys : 0;
}

uint64_t chooser_last(const struct chooser *c)
{
	return c->from + c->points.n;
}

static bool within(const struct ch_point *p, const struct chooser_limits *l, uint64_t times)
{
	return p->keys <= l->want * times && (!l->script || p->bytes <= l->script * times);
}

uint64_t chooser_choose(const struct chooser *c, const struct chooser_limits *l)
{
	uint64_t last = l->due < chooser_last(c) ? l->due : chooser_last(c), n = last > c->from ? last - c->from : 0;
	uint64_t soft = 0, hard = 0, best = 0;
	int64_t live = 0, filled = 0, waste = 0, least = INT64_MAX;

	for (uint64_t i = 0; i < n; i++) {
		live += c->points.v[i].live;
		if (i && (c->points.v[i].keys > l->most || (l->bytes && live > (int64_t)l->bytes)))
			break;
		hard = i + 1;
		if (!i || within(&c->points.v[i], l, 1) ||
			(live > filled && live <= (int64_t)l->fill && within(&c->points.v[i], l, CHOOSER_GROW))) {
			soft = i + 1;
			filled = live;
		}
	}
	for (uint64_t i = 0; i < hard; i++) {
		waste += c->points.v[i].waste;
		if (i + 1 > soft && (least == 0 || waste >= least))
			continue; /* beyond what a script should have only if that saves something */
		if (i + 1 >= (soft + 1) / 2 && waste <= least) {
			least = waste;
			best = i + 1;
		}
	}
	return best ? c->from + best : 0;
}

void chooser_bytes(const struct chooser *c, uint64_t end, uint64_t *live, uint64_t *waste)
{
	int64_t l = 0, w = 0;

	for (uint64_t i = 0; i < c->points.n && c->from + 1 + i <= end; i++) {
		l += c->points.v[i].live;
		w += c->points.v[i].waste;
	}
	*live = (uint64_t)(l > 0 ? l : 0);
	*waste = (uint64_t)(w > 0 ? w : 0);
}
