#include "util/jfsfmt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/buf.h"

/* Offsets in an inode record (spec 2.4). */
enum {
	OFF_FLAGS = 0,
	OFF_MODE = 1,
	OFF_UID = 3,
	OFF_GID = 7,
	OFF_ATIME = 11,
	OFF_MTIME = 23,
	OFF_CTIME = 35,
	OFF_NLINK = 47,
	OFF_LENGTH = 51,
	OFF_RDEV = 59,
	OFF_PARENT = 63,
	OFF_TAIL = 71,
};

static void time_encode(uint8_t *p, int64_t sec, uint32_t nsec)
{
	put_be64(p, (uint64_t)sec);
	put_be32(p + 8, nsec);
}

static void time_decode(const uint8_t *p, int64_t *sec, uint32_t *nsec)
{
	*sec = (int64_t)get_be64(p);
	*nsec = get_be32(p + 8);
}

size_t jfs_attr_encode(const struct jfs_attr *a, uint8_t out[JFS_ATTR_MAX])
{
	size_t n = OFF_TAIL;

	out[OFF_FLAGS] = a->flags;
	put_be16(out + OFF_MODE, (uint16_t)(a->type << 12 | (a->mode & 07777)));
	put_be32(out + OFF_UID, a->uid);
	put_be32(out + OFF_GID, a->gid);
	time_encode(out + OFF_ATIME, a->atime, a->atime_nsec);
	time_encode(out + OFF_MTIME, a->mtime, a->mtime_nsec);
	time_encode(out + OFF_CTIME, a->ctime, a->ctime_nsec);
	put_be32(out + OFF_NLINK, a->nlink);
	put_be64(out + OFF_LENGTH, a->length);
	put_be32(out + OFF_RDEV, a->rdev);
	put_be64(out + OFF_PARENT, a->parent);
	if (a->access_acl || a->default_acl) {
		put_be32(out + n, a->access_acl);
		put_be32(out + n + 4, a->default_acl);
		n += 8;
	}
	if (a->tier)
		out[n++] = a->tier;
	out[n++] = 0; /* stock has always allocated one byte too many, and readers take it for tier 0 */
	return n;
}

int jfs_attr_decode(const void *p, size_t len, struct jfs_attr *a)
{
	const uint8_t *b = p;

	memset(a, 0, sizeof(*a));
	if (len != 63 && len != 64 && len != 72 && len != 73 && len != 80 && len != 81)
		return -EUCLEAN;
	uint16_t mode = get_be16(b + OFF_MODE);

	a->flags = b[OFF_FLAGS];
	a->type = (uint8_t)(mode >> 12);
	a->mode = mode & 07777;
	a->uid = get_be32(b + OFF_UID);
	a->gid = get_be32(b + OFF_GID);
	time_decode(b + OFF_ATIME, &a->atime, &a->atime_nsec);
	time_decode(b + OFF_MTIME, &a->mtime, &a->mtime_nsec);
	time_decode(b + OFF_CTIME, &a->ctime, &a->ctime_nsec);
	a->nlink = get_be32(b + OFF_NLINK);
	a->length = get_be64(b + OFF_LENGTH);
	a->rdev = get_be32(b + OFF_RDEV);

	/* The order of stock's tests: each field is there if enough bytes are left for it. */
	size_t at = OFF_PARENT;
	if (len - at >= 8) {
		a->parent = get_be64(b + at);
		at += 8;
	}
	if (len - at >= 8) {
		a->access_acl = get_be32(b + at);
		a->default_acl = get_be32(b + at + 4);
		at += 8;
	}
	if (len > at)
		a->tier = b[at];
	return a->type >= JFS_FILE && a->type <= JFS_SOCKET ? 0 : -EUCLEAN;
}

bool jfs_attr_equal(const struct jfs_attr *a, const struct jfs_attr *b)
{
	uint8_t x[JFS_ATTR_MAX], y[JFS_ATTR_MAX];
	size_t n = jfs_attr_encode(a, x);

	return n == jfs_attr_encode(b, y) && memcmp(x, y, n) == 0;
}

void jfs_dentry_encode(uint8_t type, uint64_t inode, uint8_t out[JFS_DENTRY_LEN])
{
	out[0] = type;
	put_be64(out + 1, inode);
}

int jfs_dentry_decode(const void *p, size_t len, uint8_t *type, uint64_t *inode)
{
	const uint8_t *b = p;

	if (len != JFS_DENTRY_LEN)
		return -EUCLEAN;
	*type = b[0];
	*inode = get_be64(b + 1);
	return *type >= JFS_FILE && *type <= JFS_SOCKET && *inode ? 0 : -EUCLEAN;
}

bool jfs_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > JFS_NAME_MAX || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

void jfs_slice_encode(const struct jfs_slice *s, uint8_t out[JFS_SLICE_LEN])
{
	put_be32(out, s->pos);
	put_be64(out + 4, s->id);
	put_be32(out + 12, s->size);
	put_be32(out + 16, s->off);
	put_be32(out + 20, s->len);
}

bool jfs_slice_valid(const struct jfs_slice *s)
{
	if (s->len == 0 || (uint64_t)s->pos + s->len > JFS_CHUNK_SIZE)
		return false;
	return s->id == 0 || (uint64_t)s->off + s->len <= s->size;
}

int jfs_slice_decode(const void *p, size_t len, struct jfs_slice *s)
{
	const uint8_t *b = p;

	if (len != JFS_SLICE_LEN)
		return -EUCLEAN;
	s->pos = get_be32(b);
	s->id = get_be64(b + 4);
	s->size = get_be32(b + 12);
	s->off = get_be32(b + 16);
	s->len = get_be32(b + 20);
	return jfs_slice_valid(s) ? 0 : -EUCLEAN;
}

size_t jfs_object_name(char out[JFS_OBJECT_NAME_MAX], uint64_t id, uint32_t index, uint32_t bsize, bool hash_prefix)
{
	unsigned long long i = id;
	int n;

	if (hash_prefix)
		n = snprintf(out, JFS_OBJECT_NAME_MAX, "chunks/%02X/%llu/%llu_%u_%u", (unsigned)(id & 255), i / 1000000, i,
			index, bsize);
	else
		n = snprintf(out, JFS_OBJECT_NAME_MAX, "chunks/%llu/%llu/%llu_%u_%u", i / 1000000, i / 1000, i, index, bsize);
	return (size_t)n; /* at most 7 + 15 + 18 + 20 + 2 * 11: fits */
}

uint32_t jfs_slice_blocks(uint32_t size, uint32_t block_size)
{
	return (uint32_t)(((uint64_t)size + block_size - 1) / block_size);
}

uint32_t jfs_block_len(uint32_t size, uint32_t block_size, uint32_t index)
{
	uint64_t start = (uint64_t)index * block_size;

	if (start >= size)
		return 0;
	return size - start < block_size ? (uint32_t)(size - start) : block_size;
}

uint64_t jfs_align4k(uint64_t length)
{
	if (length == 0)
		return 4096;
	return (length + 4095) & ~4095ull;
}

uint64_t jfs_attr_space(const struct jfs_attr *a)
{
	return a->type == JFS_FILE ? jfs_align4k(a->length) : 4096;
}

static const mode_t type_bits[] = {
	[JFS_FILE] = S_IFREG,
	[JFS_DIR] = S_IFDIR,
	[JFS_SYMLINK] = S_IFLNK,
	[JFS_FIFO] = S_IFIFO,
	[JFS_BLOCKDEV] = S_IFBLK,
	[JFS_CHARDEV] = S_IFCHR,
	[JFS_SOCKET] = S_IFSOCK,
};

uint8_t jfs_type_from_mode(mode_t mode)
{
	for (uint8_t t = JFS_FILE; t <= JFS_SOCKET; t++)
		if ((mode & S_IFMT) == type_bits[t])
			return t;
	return 0;
}

mode_t jfs_type_to_mode(uint8_t type)
{
	return type <= JFS_SOCKET ? type_bits[type] : 0;
}

mode_t jfs_attr_st_mode(const struct jfs_attr *a)
{
	return jfs_type_to_mode(a->type) | (a->mode & 07777);
}
