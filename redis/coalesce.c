/* Collecting the records of a window. Invariants: a key has one entry; `before` of an entry is its first before-image (an
 * OP_REPAIR's replaces it: that is what Redis has), `after` its last after-image; strokes of a chunk are what the window's
 * records painted, in order, a cut or a punch being zeroes. Unknown tables inside IT_PUT are the view's own affair. */
#include "redis/coalesce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/coalesce_int.h"

struct coalesce *coalesce_new(void)
{
	return calloc(1, sizeof(struct coalesce));
}

static void chunk_fini(struct co_chunk *c)
{
	layer_fini(&c->w);
	vec_fini(&c->leave);
}

void coalesce_free(struct coalesce *co)
{
	if (!co)
		return;
	for (size_t i = 0; i < co->inodes.n; i++) {
		struct co_inode *ci = &co->inodes.v[i];

		for (size_t c = 0; c < ci->chunks.n; c++)
			chunk_fini(&ci->chunks.v[c]);
		vec_fini(&ci->chunks);
		vec_fini(&ci->trash);
		vec_fini(&ci->parents);
		vec_fini(&ci->xattrs);
	}
	vec_fini(&co->inodes);
	vec_fini(&co->dentries);
	hmap_fini(&co->by_ino);
	hmap_fini(&co->by_name);
	arena_fini(&co->mem);
	free(co);
}

struct co_inode *co_inode_get(struct coalesce *co, uint64_t ino)
{
	uint32_t i;

	return hmap_get(&co->by_ino, &ino, sizeof(ino), &i) ? &co->inodes.v[i] : NULL;
}

static struct co_inode *co_inode_touch(struct coalesce *co, uint64_t ino, uint64_t time_ns)
{
	struct co_inode *ci;
	bool fresh;
	uint32_t i;

	if (hmap_put(&co->by_ino, &ino, sizeof(ino), (uint32_t)co->inodes.n, &i, &fresh) != 0)
		return NULL;
	ci = fresh ? vec_push(&co->inodes) : &co->inodes.v[i];
	if (!ci)
		return NULL;
	if (fresh) {
		ci->ino = ino;
		ci->cut = UINT64_MAX;
	}
	ci->time_ns = time_ns;
	return ci;
}

static struct co_dentry *co_dentry_touch(struct coalesce *co, const struct rec_item *it, bool *fresh)
{
	uint64_t parent, hash;
	const uint8_t *name;
	size_t n;
	uint32_t i;
	struct co_dentry *d;

	if (key_parse_dentry(it->key, it->klen, &parent, &hash, &name, &n) != 0 || n == 0 || n > JFS_NAME_MAX)
		return NULL;
	if (hmap_put(&co->by_name, it->key, it->klen, (uint32_t)co->dentries.n, &i, fresh) != 0)
		return NULL;
	if (!*fresh)
		return &co->dentries.v[i];
	d = vec_push(&co->dentries);
	if (!d)
		return NULL;
	d->parent = parent;
	d->name = arena_copy(&co->mem, name, n);
	d->name_len = (uint32_t)n;
	return d->name ? d : NULL;
}

static int feed_dentry(struct coalesce *co, const struct rec_header *h, const struct rec_item *it)
{
	bool fresh;
	struct co_dentry *d = co_dentry_touch(co, it, &fresh);
	uint8_t value[9] = { 0 };

	if (!d)
		return -EUCLEAN;
	if (it->kind != IT_DEL && it->vlen) {
		if (it->vlen != 9 || it->val[0] == 0)
			return -EUCLEAN;
		memcpy(value, it->val, 9);
	}
	if (it->kind != IT_EXPECT) {
		memcpy(d->after, value, 9);
		return 0;
	}
	if (d->has_expect && h->op != OP_REPAIR)
		return 0;
	d->has_expect = true;
	memcpy(d->before, value, 9);
	if (fresh)
		memcpy(d->after, value, 9);
	return 0;
}

/* A chunk; a new one starts with what earlier cuts of the window took away. */
static struct co_chunk *chunk_touch(struct co_inode *ci, uint32_t chunk)
{
	uint64_t base = (uint64_t)chunk << JFS_CHUNK_BITS;
	struct co_chunk *c = NULL;

	for (size_t i = ci->chunks.n; i-- > 0 && !c;)
		if (ci->chunks.v[i].chunk == chunk)
			c = &ci->chunks.v[i];
	if (c)
		return c;
	c = vec_push(&ci->chunks);
	if (!c)
		return NULL;
	c->chunk = chunk;
	if (ci->cut < base + JFS_CHUNK_SIZE) {
		struct stroke z = { .src.kind = PIECE_ZERO };

		z.pos = ci->cut > base ? (uint32_t)(ci->cut - base) : 0;
		z.len = (uint32_t)JFS_CHUNK_SIZE - z.pos;
		if (layer_paint(&c->w, &z, NULL, NULL) != 0)
			return NULL;
	}
	return c;
}

static int paint_zero(struct co_inode *ci, uint32_t chunk, uint32_t pos, uint32_t len)
{
	struct stroke z = { .pos = pos, .len = len, .src.kind = PIECE_ZERO };
	struct co_chunk *c = chunk_touch(ci, chunk);

	return c ? layer_paint(&c->w, &z, NULL, NULL) : -ENOMEM;
}

static int feed_cut(struct co_inode *ci, uint64_t from)
{
	uint32_t within = (uint32_t)(from & (JFS_CHUNK_SIZE - 1));
	int err = 0;

	for (size_t i = 0; !err && i < ci->chunks.n; i++) {
		uint64_t base = (uint64_t)ci->chunks.v[i].chunk << JFS_CHUNK_BITS;
		uint32_t pos = from > base ? (uint32_t)(from - base) : 0;

		if (from < base + JFS_CHUNK_SIZE)
			err = paint_zero(ci, ci->chunks.v[i].chunk, pos, (uint32_t)JFS_CHUNK_SIZE - pos);
	}
	if (!err && within && !ci->born)
		err = paint_zero(ci, (uint32_t)(from >> JFS_CHUNK_BITS), within, (uint32_t)JFS_CHUNK_SIZE - within);
	if (from < ci->cut)
		ci->cut = from;
	return err;
}

static int feed_punch(struct co_inode *ci, uint64_t off, uint64_t len)
{
	int err = 0;

	while (!err && len) {
		uint32_t pos = (uint32_t)(off & (JFS_CHUNK_SIZE - 1));
		uint64_t n = JFS_CHUNK_SIZE - pos < len ? JFS_CHUNK_SIZE - pos : len;

		err = paint_zero(ci, (uint32_t)(off >> JFS_CHUNK_BITS), pos, (uint32_t)n);
		off += n;
		len -= n;
	}
	return err;
}

static int feed_extent(struct coalesce *co, uint64_t seq, uint64_t time_ns, const struct rec_item *it)
{
	struct stroke s = { .born = seq, .copy = it->flags & IF_COPY };
	struct extent_val v;
	struct co_inode *ci;
	struct co_chunk *c;
	uint32_t chunk, last;
	uint64_t ino;

	if (key_parse_extent(it->key, it->klen, &ino, &chunk, &last) != 0 || extent_val_decode(it->val, it->vlen, &v) != 0)
		return -EUCLEAN;
	if (!v.len || (uint64_t)v.pos + v.len > JFS_CHUNK_SIZE)
		return -EUCLEAN;
	ci = co_inode_touch(co, ino, time_ns);
	c = ci ? chunk_touch(ci, chunk) : NULL;
	if (!c)
		return -ENOMEM;
	s.pos = v.pos;
	s.len = v.len;
	s.src.kind = v.kind == EXT_STAGED ? PIECE_STAGED : v.kind == EXT_OBJECT ? PIECE_OBJECT : PIECE_ZERO;
	s.src.segment = v.segment;
	s.src.off = v.off;
	s.src.run_off = v.run_off;
	s.src.run_len = v.run_len;
	s.src.sum = v.sum;
	s.src.slice_id = v.slice_id;
	s.src.slice_size = v.slice_size;
	s.src.slice_off = v.slice_off;
	return layer_paint(&c->w, &s, NULL, NULL);
}

static int feed_xattr(struct coalesce *co, uint64_t time_ns, const struct rec_item *it)
{
	const uint8_t *name = it->key + 9;
	struct co_inode *ci;
	struct co_xattr *x = NULL;
	uint64_t ino;
	size_t n;

	if (key_parse_ino(it->key, it->klen, &ino) != 0 || it->klen <= 9)
		return -EUCLEAN;
	n = it->klen - 9;
	ci = co_inode_touch(co, ino, time_ns);
	if (!ci)
		return -ENOMEM;
	for (size_t i = 0; i < ci->xattrs.n && !x; i++)
		if (ci->xattrs.v[i].name_len == n && memcmp(ci->xattrs.v[i].name, name, n) == 0)
			x = &ci->xattrs.v[i];
	if (!x) {
		x = vec_push(&ci->xattrs);
		if (!x || !(x->name = arena_copy(&co->mem, name, n)))
			return -ENOMEM;
		x->name_len = (uint32_t)n;
	}
	x->value = it->kind == IT_PUT ? arena_copy(&co->mem, it->val, it->vlen) : NULL;
	x->value_len = (uint32_t)it->vlen;
	return it->kind == IT_PUT && !x->value ? -ENOMEM : 0;
}

static int feed_inode(struct co_inode *ci, const struct rec_item *it)
{
	struct inode_val v;

	if (it->kind == IT_DEL) {
		ci->deleted = true;
		return 0;
	}
	if (inode_val_decode(it->val, it->vlen, &v) != 0)
		return -EUCLEAN;
	ci->image = v.attr;
	ci->has_image = true;
	ci->deleted = false;
	if (it->flags & IF_NEW)
		ci->born = true;
	return 0;
}

static int feed_put(struct coalesce *co, uint64_t seq, const struct rec_header *h, const struct rec_item *it)
{
	struct co_inode *ci;
	uint64_t ino;

	switch (it->klen ? it->key[0] : 0) {
	case T_DENTRY:
		return feed_dentry(co, h, it);
	case T_XATTR:
		return feed_xattr(co, h->time_ns, it);
	case T_EXTENT:
		return it->kind == IT_PUT && (it->flags & IF_NEW) ? feed_extent(co, seq, h->time_ns, it) : 0;
	case T_INODE:
	case T_SYMLINK:
		break;
	default:
		return 0;
	}
	if (key_parse_ino(it->key, it->klen, &ino) != 0)
		return -EUCLEAN;
	ci = co_inode_touch(co, ino, h->time_ns);
	if (!ci)
		return -ENOMEM;
	if (it->key[0] == T_INODE)
		return feed_inode(ci, it);
	if (it->kind == IT_DEL)
		return 0;
	ci->target = arena_copy(&co->mem, it->val, it->vlen);
	ci->target_len = (uint32_t)it->vlen;
	return ci->target ? 0 : -ENOMEM;
}

static int feed_parent(struct co_inode *ci, uint64_t parent, int32_t delta)
{
	struct co_parent *p = NULL;

	for (size_t i = 0; i < ci->parents.n && !p; i++)
		if (ci->parents.v[i].parent == parent)
			p = &ci->parents.v[i];
	if (!p)
		p = vec_push(&ci->parents);
	if (!p)
		return -ENOMEM;
	p->parent = parent;
	p->delta += delta;
	return 0;
}

static int feed_trash(struct coalesce *co, const struct rec_header *h, const struct rec_item *it)
{
	uint64_t parent, hash;
	const uint8_t *name;
	struct co_trash *t;
	struct co_inode *ci;
	size_t n;

	if (it->vlen != 9 || key_parse_dentry(it->key, it->klen, &parent, &hash, &name, &n) != 0)
		return -EUCLEAN;
	ci = co_inode_touch(co, get_be64(it->val + 1), h->time_ns);
	t = ci ? vec_push(&ci->trash) : NULL;
	if (!t || !(t->t.name = arena_copy(&co->mem, name, n)))
		return -ENOMEM;
	t->t.parent = parent;
	t->t.name_len = (uint32_t)n;
	t->time_ns = h->time_ns;
	return 0;
}

/* A hard-linked file changed its length: every name counts. Names made or lost in this window are known here, those that
 * Redis has from before only there. */
static int feed_linkstat(struct coalesce *co, uint64_t ino, uint64_t time_ns, int64_t length, int64_t space)
{
	struct co_inode *ci = co_inode_get(co, ino);

	ci->ln_length += length;
	ci->ln_space += space;
	for (size_t i = 0; i < ci->parents.n; i++) {
		int64_t n = ci->parents.v[i].delta;
		uint64_t parent = ci->parents.v[i].parent;

		if (n == 0 || jfs_inode_is_trash(parent))
			continue;
		struct co_inode *dir = co_inode_touch(co, parent, time_ns);
		if (!dir)
			return -ENOMEM;
		dir->has_stat = true;
		dir->st_length += n * length;
		dir->st_space += n * space;
		ci = co_inode_get(co, ino); /* the table may have moved */
	}
	return 0;
}

/* The kinds whose key is a T_INODE key. */
static int feed_about(struct coalesce *co, const struct rec_header *h, const struct rec_item *it)
{
	static const uint8_t lens[] = { [IT_DIRSTAT] = 24, [IT_NLINK] = 4, [IT_PARENT] = 12, [IT_CUT] = 16,
		[IT_PUNCH] = 16, [IT_GONE] = 8, [IT_SUSTAIN] = 0, [IT_COMPACT] = 4, [IT_QUOTA] = 16,
		[IT_REPACK] = 12 };
	struct co_inode *ci;
	struct co_chunk *c;
	uint64_t ino, *id;

	if (key_parse_ino(it->key, it->klen, &ino) != 0 || it->vlen != lens[it->kind])
		return -EUCLEAN;
	ci = co_inode_touch(co, ino, h->time_ns);
	if (!ci)
		return -ENOMEM;
	switch (it->kind) {
	case IT_DIRSTAT:
		if (it->flags & IF_LINKED)
			return feed_linkstat(co, ino, h->time_ns, (int64_t)get_be64(it->val), (int64_t)get_be64(it->val + 8));
		ci->has_stat = true;
		ci->st_length += (int64_t)get_be64(it->val);
		ci->st_space += (int64_t)get_be64(it->val + 8);
		ci->st_inodes += (int64_t)get_be64(it->val + 16);
		return 0;
	case IT_QUOTA:
		if (it->flags & IF_NEW)
			ci->q_space = ci->q_inodes = 0;
		ci->q_whole = ci->q_whole || it->flags & IF_NEW;
		ci->q_space += (int64_t)get_be64(it->val);
		ci->q_inodes += (int64_t)get_be64(it->val + 8);
		return 0;
	case IT_PARENT:
		return feed_parent(ci, get_be64(it->val), (int32_t)get_be32(it->val + 8));
	case IT_CUT:
		return feed_cut(ci, get_be64(it->val));
	case IT_PUNCH:
		return feed_punch(ci, get_be64(it->val), get_be64(it->val + 8));
	case IT_GONE:
		ci->gone = true;
		return 0;
	case IT_SUSTAIN:
		ci->sustain = true;
		return 0;
	case IT_COMPACT:
		c = chunk_touch(ci, get_be32(it->val));
		if (c)
			c->compact = true;
		return c ? 0 : -ENOMEM;
	case IT_REPACK:
		c = chunk_touch(ci, get_be32(it->val));
		id = c ? vec_push(&c->leave) : NULL;
		if (id)
			*id = get_be64(it->val + 4);
		return id ? 0 : -ENOMEM;
	default: /* IT_NLINK: follows from the names */
		return 0;
	}
}

int coalesce_feed(struct coalesce *co, uint64_t seq, const void *rec, size_t len)
{
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;
	int err = rec_open(rec, len, &h, &r), more;

	if (err)
		return err;
	if (h.op >= OP_INTERNAL)
		return 0;
	co->last = seq;
	while ((more = rec_next(&r, &it)) > 0) {
		switch (it.kind) {
		case IT_PUT:
		case IT_DEL:
			err = feed_put(co, seq, &h, &it);
			break;
		case IT_EXPECT:
			err = feed_dentry(co, &h, &it);
			break;
		case IT_TRASH:
			err = feed_trash(co, &h, &it);
			break;
		case IT_SPACE:
			break;
		case IT_DIRSTAT:
		case IT_NLINK:
		case IT_PARENT:
		case IT_CUT:
		case IT_PUNCH:
		case IT_GONE:
		case IT_SUSTAIN:
		case IT_COMPACT:
		case IT_QUOTA:
		case IT_REPACK:
			err = feed_about(co, &h, &it);
			break;
		default:
			err = -EUCLEAN;
		}
		if (err)
			return err;
	}
	return more;
}
