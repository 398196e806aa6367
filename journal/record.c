/* Record builder, reader and apply(). Pure; the format is described in record.h and FORMAT.md. */
#include "journal/record.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "journal/overlay.h"

enum { HEADER_LEN = 16, ITEM_LEN = 8, SUM_LEN = 8, ITEMS_AT = 12 };

void rec_init(struct rec *r)
{
	buf_init(&r->buf, REC_MAX);
	r->items = 0;
}

void rec_fini(struct rec *r)
{
	if (r)
		buf_fini(&r->buf);
}

void rec_begin(struct rec *r, enum rec_op op, uint64_t time_ns)
{
	uint8_t h[HEADER_LEN];

	buf_reset(&r->buf);
	r->items = 0;
	h[0] = 1;
	h[1] = (uint8_t)op;
	put_be16(h + 2, 0);
	put_be64(h + 4, time_ns);
	put_be32(h + ITEMS_AT, 0);
	buf_put(&r->buf, h, sizeof(h));
}

void rec_item(struct rec *r, enum rec_item_kind kind, unsigned flags, const void *key, size_t klen, const void *val, size_t vlen)
{
	uint8_t h[ITEM_LEN];

	if (klen > JKEY_MAX || vlen > REC_MAX) {
		if (!r->buf.err)
			r->buf.err = -E2BIG;
		return;
	}
	h[0] = (uint8_t)kind;
	h[1] = (uint8_t)flags;
	put_be16(h + 2, (uint16_t)klen);
	put_be32(h + 4, (uint32_t)vlen);
	buf_put(&r->buf, h, sizeof(h));
	buf_put(&r->buf, key, klen);
	buf_put(&r->buf, val, vlen);
	r->items++;
}

void rec_put(struct rec *r, const struct jkey *k, const void *val, size_t len, unsigned flags)
{
	rec_item(r, IT_PUT, flags, k->b, k->len, val, len);
}

void rec_del(struct rec *r, const struct jkey *k, unsigned flags)
{
	rec_item(r, IT_DEL, flags, k->b, k->len, NULL, 0);
}

static void rec_inode_item(struct rec *r, enum rec_item_kind kind, uint64_t ino, const void *val, size_t vlen)
{
	struct jkey k;

	key_inode(&k, ino);
	rec_item(r, kind, 0, k.b, k.len, val, vlen);
}

void rec_put_inode(struct rec *r, uint64_t ino, const struct inode_val *v, unsigned flags)
{
	uint8_t val[INODE_VAL_MAX];
	struct jkey k;

	key_inode(&k, ino);
	rec_put(r, &k, val, inode_val_encode(v, val), flags);
}

void rec_put_extent(struct rec *r, uint64_t ino, uint32_t chunk, const struct extent_val *v, unsigned flags)
{
	uint8_t val[EXTENT_VAL_MAX];
	struct jkey k;

	key_extent(&k, ino, chunk, v->pos + v->len - 1);
	rec_put(r, &k, val, extent_val_encode(v, val), flags);
}

void rec_expect(struct rec *r, const struct jkey *dentry, const void *old, size_t old_len)
{
	rec_item(r, IT_EXPECT, 0, dentry->b, dentry->len, old, old_len);
}

void rec_space(struct rec *r, int64_t space, int64_t inodes)
{
	uint8_t v[16];

	put_be64(v, (uint64_t)space);
	put_be64(v + 8, (uint64_t)inodes);
	rec_item(r, IT_SPACE, 0, NULL, 0, v, sizeof(v));
}

void rec_dirstat(struct rec *r, uint64_t dir, int64_t length, int64_t space, int64_t inodes)
{
	uint8_t v[24];

	put_be64(v, (uint64_t)length);
	put_be64(v + 8, (uint64_t)space);
	put_be64(v + 16, (uint64_t)inodes);
	rec_inode_item(r, IT_DIRSTAT, dir, v, sizeof(v));
}

void rec_linkstat(struct rec *r, uint64_t ino, int64_t length, int64_t space)
{
	struct jkey k;
	uint8_t v[24] = { 0 };

	key_inode(&k, ino);
	put_be64(v, (uint64_t)length);
	put_be64(v + 8, (uint64_t)space);
	rec_item(r, IT_DIRSTAT, IF_LINKED, k.b, k.len, v, sizeof(v));
}

void rec_nlink(struct rec *r, uint64_t ino, int32_t delta)
{
	uint8_t v[4];

	put_be32(v, (uint32_t)delta);
	rec_inode_item(r, IT_NLINK, ino, v, sizeof(v));
}

void rec_parent(struct rec *r, uint64_t ino, uint64_t parent, int32_t delta)
{
	uint8_t v[12];

	put_be64(v, parent);
	put_be32(v + 8, (uint32_t)delta);
	rec_inode_item(r, IT_PARENT, ino, v, sizeof(v));
}

static void rec_two(struct rec *r, enum rec_item_kind kind, uint64_t ino, uint64_t a, uint64_t b)
{
	uint8_t v[16];

	put_be64(v, a);
	put_be64(v + 8, b);
	rec_inode_item(r, kind, ino, v, sizeof(v));
}

void rec_cut(struct rec *r, uint64_t ino, uint64_t from, uint64_t new_length)
{
	rec_two(r, IT_CUT, ino, from, new_length);
}

void rec_punch(struct rec *r, uint64_t ino, uint64_t off, uint64_t len)
{
	rec_two(r, IT_PUNCH, ino, off, len);
}

void rec_trash(struct rec *r, const struct jkey *dentry, uint8_t type, uint64_t ino)
{
	uint8_t v[9];

	v[0] = type;
	put_be64(v + 1, ino);
	rec_item(r, IT_TRASH, 0, dentry->b, dentry->len, v, sizeof(v));
}

void rec_gone(struct rec *r, uint64_t ino, uint64_t length)
{
	uint8_t v[8];

	put_be64(v, length);
	rec_inode_item(r, IT_GONE, ino, v, sizeof(v));
}

void rec_sustain(struct rec *r, uint64_t ino)
{
	rec_inode_item(r, IT_SUSTAIN, ino, NULL, 0);
}

void rec_compact(struct rec *r, uint64_t ino, uint32_t chunk)
{
	uint8_t v[4];

	put_be32(v, chunk);
	rec_inode_item(r, IT_COMPACT, ino, v, sizeof(v));
}

static void version_atleast(struct rec *r, uint8_t version)
{
	if (!r->buf.err && r->buf.data[0] < version)
		r->buf.data[0] = version;
}

void rec_repack(struct rec *r, uint64_t ino, uint32_t chunk, uint64_t slice)
{
	uint8_t v[12];

	put_be32(v, chunk);
	put_be64(v + 4, slice);
	rec_inode_item(r, IT_REPACK, ino, v, sizeof(v));
	version_atleast(r, 3);
}

void rec_quota(struct rec *r, uint64_t dir, int64_t space, int64_t inodes, bool whole)
{
	struct jkey k;
	uint8_t v[16];

	key_inode(&k, dir);
	put_be64(v, (uint64_t)space);
	put_be64(v + 8, (uint64_t)inodes);
	rec_item(r, IT_QUOTA, whole ? IF_NEW : 0, k.b, k.len, v, sizeof(v));
	version_atleast(r, 2);
}

int rec_finish(struct rec *r)
{
	if (r->buf.err)
		return r->buf.err;
	put_be32(r->buf.data + ITEMS_AT, r->items);
	buf_put_be64(&r->buf, XXH3_64bits(r->buf.data, r->buf.len));
	return r->buf.err;
}

/* Without the checksum: for bytes that this process has just built. */
static int header_parse(const uint8_t *p, size_t len, struct rec_header *h, struct rec_reader *it)
{
	if (len < HEADER_LEN + SUM_LEN || p[0] == 0)
		return -EUCLEAN;
	h->op = p[1];
	h->flags = get_be16(p + 2);
	h->time_ns = get_be64(p + 4);
	h->items = get_be32(p + ITEMS_AT);
	if (p[0] > REC_VERSION)
		return -ENOTSUP;
	if (h->items > len / ITEM_LEN)
		return -EUCLEAN;
	rd_init(&it->rd, p + HEADER_LEN, len - HEADER_LEN - SUM_LEN);
	it->left = h->items;
	return 0;
}

uint8_t rec_version(const void *data, size_t len)
{
	return len ? *(const uint8_t *)data : 0;
}

/* Every version ends with the checksum of all before it, so damage is told from news. */
int rec_open(const void *data, size_t len, struct rec_header *h, struct rec_reader *it)
{
	const uint8_t *p = data;
	struct rec_reader walk;
	struct rec_item item;
	int err;

	if (len < HEADER_LEN + SUM_LEN || XXH3_64bits(p, len - SUM_LEN) != get_be64(p + len - SUM_LEN))
		return -EUCLEAN;
	err = header_parse(p, len, h, it);
	if (err)
		return err;
	for (walk = *it; (err = rec_next(&walk, &item)) > 0;)
		;
	return err;
}

/* Length a kind demands of its value; -1: anything. */
static bool item_shape_ok(const struct rec_item *i)
{
	switch (i->kind) {
	case IT_PUT:
		return i->klen > 0;
	case IT_DEL:
		return i->klen > 0 && i->vlen == 0;
	case IT_EXPECT:
		return i->klen > 17 && (i->vlen == 9 || i->vlen == 0);
	case IT_SPACE:
		return i->klen == 0 && i->vlen == 16;
	case IT_DIRSTAT:
		return i->klen == 9 && i->vlen == 24;
	case IT_NLINK:
		return i->klen == 9 && i->vlen == 4;
	case IT_PARENT:
		return i->klen == 9 && i->vlen == 12;
	case IT_CUT:
	case IT_PUNCH:
	case IT_QUOTA:
		return i->klen == 9 && i->vlen == 16;
	case IT_TRASH:
		return i->klen > 17 && i->vlen == 9;
	case IT_GONE:
		return i->klen == 9 && i->vlen == 8;
	case IT_SUSTAIN:
		return i->klen == 9 && i->vlen == 0;
	case IT_COMPACT:
		return i->klen == 9 && i->vlen == 4;
	case IT_REPACK:
		return i->klen == 9 && i->vlen == 12;
	}
	return false;
}

int rec_next(struct rec_reader *it, struct rec_item *item)
{
	if (it->left == 0)
		return rd_left(&it->rd) || it->rd.err ? -EUCLEAN : 0;
	it->left--;
	item->kind = rd_u8(&it->rd);
	item->flags = rd_u8(&it->rd);
	item->klen = rd_be16(&it->rd);
	item->vlen = rd_be32(&it->rd);
	item->key = rd_bytes(&it->rd, item->klen);
	item->val = rd_bytes(&it->rd, item->vlen);
	return it->rd.err || item->klen > JKEY_MAX || !item_shape_ok(item) ? -EUCLEAN : 1;
}

static int items_apply(struct rec_reader *it, struct overlay *ov, struct rec_deltas *sum)
{
	struct rec_item i;
	int err;

	while ((err = rec_next(it, &i)) > 0) {
		if (i.kind == IT_PUT)
			err = overlay_put(ov, i.key, i.klen, i.val, i.vlen);
		else if (i.kind == IT_DEL)
			err = overlay_del(ov, i.key, i.klen, i.flags & IF_FORGET);
		else if (i.kind == IT_SPACE) {
			sum->space += (int64_t)get_be64(i.val);
			sum->inodes += (int64_t)get_be64(i.val + 8);
			err = 0;
		} else
			err = 0;
		if (err)
			return err;
	}
	return err;
}

int rec_apply(const void *data, size_t len, struct overlay *ov, struct rec_deltas *sum)
{
	struct rec_header h;
	struct rec_reader it;
	int err = rec_open(data, len, &h, &it);

	return err ? err : items_apply(&it, ov, sum);
}

int rec_apply_trusted(const void *data, size_t len, struct overlay *ov, struct rec_deltas *sum)
{
	struct rec_header h;
	struct rec_reader it;
	int err = header_parse(data, len, &h, &it);

	return err ? err : items_apply(&it, ov, sum);
}
