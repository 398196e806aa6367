#include "journal/tables.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "util/buf.h"

#define INODE_VAL_VERSION 1

uint64_t dentry_hash(const void *name, size_t n)
{
	uint64_t h = XXH3_64bits(name, n) >> 1;

	return h < 16 ? h + 16 : h;
}

/* --- keys --- */

static void key_start(struct jkey *k, enum jtable t)
{
	k->b[0] = (uint8_t)t;
	k->len = 1;
}

static void key_u64(struct jkey *k, uint64_t v)
{
	put_be64(k->b + k->len, v);
	k->len += 8;
}

static void key_u32(struct jkey *k, uint32_t v)
{
	put_be32(k->b + k->len, v);
	k->len += 4;
}

/* A longer name than a key can hold is cut: callers check lengths, this only keeps memory safe. */
static void key_bytes(struct jkey *k, const void *p, size_t n)
{
	if (n > sizeof(k->b) - k->len)
		n = sizeof(k->b) - k->len;
	if (n)
		memcpy(k->b + k->len, p, n);
	k->len += (uint16_t)n;
}

static void key_ino_only(struct jkey *k, enum jtable t, uint64_t ino)
{
	key_start(k, t);
	key_u64(k, ino);
}

void key_inode(struct jkey *k, uint64_t ino)
{
	key_ino_only(k, T_INODE, ino);
}

void key_dentry_from(struct jkey *k, uint64_t parent, uint64_t hash)
{
	key_ino_only(k, T_DENTRY, parent);
	key_u64(k, hash);
}

void key_dentry(struct jkey *k, uint64_t parent, const void *name, size_t n)
{
	key_dentry_from(k, parent, dentry_hash(name, n));
	key_bytes(k, name, n);
}

void key_extent(struct jkey *k, uint64_t ino, uint32_t chunk, uint32_t last)
{
	key_ino_only(k, T_EXTENT, ino);
	key_u32(k, chunk);
	key_u32(k, last);
}

void key_xattr(struct jkey *k, uint64_t ino, const void *name, size_t n)
{
	key_ino_only(k, T_XATTR, ino);
	key_bytes(k, name, n);
}

void key_symlink(struct jkey *k, uint64_t ino)
{
	key_ino_only(k, T_SYMLINK, ino);
}

void key_cut(struct jkey *k, uint64_t ino, uint64_t seq)
{
	key_ino_only(k, T_CUT, ino);
	key_u64(k, seq);
}

void key_chunk(struct jkey *k, uint64_t ino, uint32_t chunk)
{
	key_ino_only(k, T_CHUNK, ino);
	key_u32(k, chunk);
}

void key_published(struct jkey *k, uint64_t ino, uint32_t chunk)
{
	key_ino_only(k, T_PUBLISHED, ino);
	key_u32(k, chunk);
}

void key_window(struct jkey *k, uint64_t end, uint16_t part)
{
	key_ino_only(k, T_WINDOW, end);
	put_be16(k->b + k->len, part);
	k->len += 2;
}

void key_smap(struct jkey *k, uint64_t segment, uint32_t off)
{
	key_ino_only(k, T_SMAP, segment);
	key_u32(k, off);
}

void key_orphan(struct jkey *k, uint64_t ino)
{
	key_ino_only(k, T_ORPHAN, ino);
}

void key_reap(struct jkey *k, uint64_t ino, uint64_t from)
{
	key_ino_only(k, T_REAP, ino);
	key_u64(k, from);
}

void key_parent(struct jkey *k, uint64_t ino, uint64_t parent)
{
	key_ino_only(k, T_PARENT, ino);
	key_u64(k, parent);
}

void key_meta(struct jkey *k, const char *name)
{
	key_start(k, T_META);
	key_bytes(k, name, strlen(name));
}

static int key_check(const uint8_t *p, size_t n, enum jtable t, size_t min, size_t max)
{
	return n >= min && n <= max && p[0] == (uint8_t)t ? 0 : -EUCLEAN;
}

int key_parse_dentry(const void *key, size_t n, uint64_t *parent, uint64_t *hash, const uint8_t **name, size_t *name_len)
{
	const uint8_t *p = key;

	if (key_check(p, n, T_DENTRY, 18, 17 + JFS_NAME_MAX))
		return -EUCLEAN;
	*parent = get_be64(p + 1);
	*hash = get_be64(p + 9);
	*name = p + 17;
	*name_len = n - 17;
	return 0;
}

int key_parse_extent(const void *key, size_t n, uint64_t *ino, uint32_t *chunk, uint32_t *last)
{
	const uint8_t *p = key;

	if (key_check(p, n, T_EXTENT, 17, 17))
		return -EUCLEAN;
	*ino = get_be64(p + 1);
	*chunk = get_be32(p + 9);
	*last = get_be32(p + 13);
	return *last < JFS_CHUNK_SIZE ? 0 : -EUCLEAN;
}

int key_parse_ino(const void *key, size_t n, uint64_t *ino)
{
	const uint8_t *p = key;

	if (n < 9 || !memchr("idexscCporP", p[0], 11))
		return -EUCLEAN;
	*ino = get_be64(p + 1);
	return 0;
}

int key_parse_smap(const void *key, size_t n, uint64_t *segment, uint32_t *off)
{
	const uint8_t *p = key;

	if (key_check(p, n, T_SMAP, 13, 13))
		return -EUCLEAN;
	*segment = get_be64(p + 1);
	*off = get_be32(p + 9);
	return 0;
}

/* --- values --- */

size_t inode_val_encode(const struct inode_val *v, uint8_t out[INODE_VAL_MAX])
{
	out[0] = INODE_VAL_VERSION;
	out[1] = v->lflags;
	put_be64(out + 2, v->seq);
	return 10 + jfs_attr_encode(&v->attr, out + 10);
}

int inode_val_decode(const void *p, size_t n, struct inode_val *v)
{
	const uint8_t *b = p;

	if (n < 10 || b[0] != INODE_VAL_VERSION || jfs_attr_decode(b + 10, n - 10, &v->attr))
		return -EUCLEAN;
	v->lflags = b[1];
	v->seq = get_be64(b + 2);
	return 0;
}

/* 17 common bytes, then by kind: nothing, 28 bytes (staged), 16 bytes (object). */
enum { EXT_COMMON = 17, EXT_STAGED_LEN = EXT_COMMON + 28, EXT_OBJECT_LEN = EXT_COMMON + 16 };

size_t extent_val_encode(const struct extent_val *v, uint8_t out[EXTENT_VAL_MAX])
{
	out[0] = (uint8_t)v->kind;
	put_be32(out + 1, v->pos);
	put_be32(out + 5, v->len);
	put_be64(out + 9, v->born);
	if (v->kind == EXT_STAGED) {
		put_be64(out + 17, v->segment);
		put_be32(out + 25, v->off);
		put_be32(out + 29, v->run_off);
		put_be32(out + 33, v->run_len);
		put_be64(out + 37, v->sum);
		return EXT_STAGED_LEN;
	}
	if (v->kind == EXT_OBJECT) {
		put_be64(out + 17, v->slice_id);
		put_be32(out + 25, v->slice_size);
		put_be32(out + 29, v->slice_off);
		return EXT_OBJECT_LEN;
	}
	return EXT_COMMON;
}

/* [off, off+len) inside [in, in+size), without overflow. */
static bool range_inside(uint64_t off, uint64_t len, uint64_t in, uint64_t size)
{
	return off >= in && len <= size && off - in <= size - len;
}

int extent_val_decode(const void *p, size_t n, struct extent_val *v)
{
	const uint8_t *b = p;

	memset(v, 0, sizeof(*v));
	if (n < EXT_COMMON)
		return -EUCLEAN;
	v->pos = get_be32(b + 1);
	v->len = get_be32(b + 5);
	v->born = get_be64(b + 9);
	if (v->len == 0 || !range_inside(v->pos, v->len, 0, JFS_CHUNK_SIZE))
		return -EUCLEAN;
	if (b[0] == EXT_HOLE && n == EXT_COMMON) {
		v->kind = EXT_HOLE;
		return 0;
	}
	if (b[0] == EXT_STAGED && n == EXT_STAGED_LEN) {
		v->kind = EXT_STAGED;
		v->segment = get_be64(b + 17);
		v->off = get_be32(b + 25);
		v->run_off = get_be32(b + 29);
		v->run_len = get_be32(b + 33);
		v->sum = get_be64(b + 37);
		return range_inside(v->run_off, v->run_len, 0, (uint64_t)64 << 20) &&
				       range_inside(v->off, v->len, v->run_off, v->run_len)
			       ? 0
			       : -EUCLEAN;
	}
	if (b[0] == EXT_OBJECT && n == EXT_OBJECT_LEN) {
		v->kind = EXT_OBJECT;
		v->slice_id = get_be64(b + 17);
		v->slice_size = get_be32(b + 25);
		v->slice_off = get_be32(b + 29);
		return v->slice_id && range_inside(v->slice_off, v->len, 0, v->slice_size) ? 0 : -EUCLEAN;
	}
	return -EUCLEAN;
}

void smap_val_encode(const struct smap_val *v, uint8_t out[SMAP_VAL_LEN])
{
	put_be32(out, v->len);
	put_be64(out + 4, v->slice_id);
	put_be32(out + 12, v->slice_size);
	put_be32(out + 16, v->slice_off);
	put_be64(out + 20, v->window_end);
}

int smap_val_decode(const void *p, size_t n, struct smap_val *v)
{
	const uint8_t *b = p;

	if (n != SMAP_VAL_LEN)
		return -EUCLEAN;
	v->len = get_be32(b);
	v->slice_id = get_be64(b + 4);
	v->slice_size = get_be32(b + 12);
	v->slice_off = get_be32(b + 16);
	v->window_end = get_be64(b + 20);
	return v->len && range_inside(v->slice_off, v->len, 0, v->slice_size) ? 0 : -EUCLEAN;
}
