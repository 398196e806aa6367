/* Bytes of a file: write, map, seek. The bytes themselves are in staging or in objects; here they get their places.
 *
 * A write of more than FS_RECORD_KEYS replaced extents becomes several records, each a complete shorter write; done again
 * from the start (FS_ROOM half way) they change nothing but the times. An append done again would
 * move to the new end: it is one record, though what a truncate left behind the end may lie in its way. */
#include <errno.h>
#include <linux/xattr.h>
#include <stdlib.h>

#include "daemon/fs_internal.h"

enum { APPEND_KEYS = 1 << 16 }; /* dead extents that an append takes away: some 2 MiB of record */

static int data_inode(struct fs *fs, uint64_t ino, struct inode_val *v, struct fs_need *need)
{
	int rc = fs_inode(fs, ino, v, need);

	if (rc)
		return rc;
	if (v->attr.type == JFS_DIR)
		return -EISDIR;
	return v->attr.type == JFS_FILE ? 0 : -EINVAL;
}

/* From where on there are no extents in the way. A cut may have left some behind the end for later. */
static uint64_t extents_end(const struct inode_val *v)
{
	const uint8_t simple = IL_PLAIN | IL_DATA_LOCAL;

	return (v->lflags & simple) == simple ? v->attr.length : UINT64_MAX;
}

/* Is there an extent of just this range? Then there is no other in it, and the new one takes its key. */
static bool same_extent(struct fs *fs, uint64_t ino, uint32_t chunk, uint32_t from, uint32_t to)
{
	struct extent_val e;
	const void *val;
	struct jkey k;
	size_t len;

	key_extent(&k, ino, chunk, to - 1);
	return view_get(fs->j, &k, &val, &len) == 0 && extent_val_decode(val, len, &e) == 0 && e.pos == from && e.len == to - from;
}

/* One record: as much of the write's rest as the budget of keys takes. *done: bytes. */
static int write_piece(struct fs_op *op, uint64_t ino, const struct inode_val *v, uint64_t off, const struct staged *s, uint32_t skip,
	unsigned budget, uint32_t *done)
{
	uint64_t free_from = extents_end(v);

	*done = 0;
	while (skip + *done < s->len) {
		uint64_t at = off + *done;
		uint32_t chunk = (uint32_t)(at >> JFS_CHUNK_BITS), pos = (uint32_t)(at & (JFS_CHUNK_SIZE - 1));
		uint64_t n = s->len - skip - *done, room = JFS_CHUNK_SIZE - pos;
		uint32_t want = pos + (uint32_t)(n < room ? n : room), to = want;
		int rc = 0;

		if (at < free_from && !same_extent(op->fs, ino, chunk, pos, to))
			rc = fs_op_clear(op, ino, chunk, pos, &to, &budget);
		if (rc)
			return rc;
		if (to > pos) {
			struct extent_val e = { .pos = pos, .len = to - pos, .born = op->seq, .kind = EXT_STAGED,
				.segment = s->segment, .off = s->off + skip + *done, .run_off = s->off, .run_len = s->len,
				.sum = s->sum };

			rec_put_extent(op->r, ino, chunk, &e, IF_NEW);
			*done += to - pos;
		}
		if (to < want)
			break;
	}
	return 0;
}

/* Takes away what is in the inode, and tells whether the record is to delete `caps` as well. 0, FS_NEED, FS_MEMBER. */
static int write_kills(struct fs *fs, const struct fs_cred *c, uint64_t ino, struct inode_val *v, const struct fs_kill *kill,
	struct jkey *caps, bool *there, struct fs_need *need)
{
	const void *val;
	size_t n;
	int rc = kill->suid ? fs_kill_suid(c, v, need) : 0;

	*there = false;
	if (rc || !kill->caps || v->lflags & IL_PLAIN)
		return rc;
	if (!(v->lflags & IL_XATTR_COMPLETE))
		return fs_need(need, NEED_XATTR, ino, 0);
	key_xattr(caps, ino, XATTR_NAME_CAPS, sizeof(XATTR_NAME_CAPS) - 1);
	rc = view_get(fs->j, caps, &val, &n);
	*there = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

static int write_locked(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint64_t *off, bool append, const struct staged *s,
	struct fs_kill *kill, uint64_t *seq, struct fs_need *need)
{
	struct inode_val v;
	struct jkey caps;
	uint32_t skip = 0, done;
	bool drop_caps = false;
	uint16_t mode;
	int rc = data_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	mode = v.attr.mode;
	if (append)
		*off = v.attr.length;
	if (fs->cfg.read_only)
		return -EROFS;
	if (v.attr.flags & JFS_FLAG_IMMUTABLE || (v.attr.flags & JFS_FLAG_APPEND && *off < v.attr.length))
		return -EPERM;
	if (*off >= JFS_FILE_MAX || s->len >= JFS_FILE_MAX - *off)
		return -EFBIG;
	if (*off + s->len > v.attr.length)
		rc = fs_room_file(fs, ino, &v, (int64_t)jfs_align4k(*off + s->len) - (int64_t)jfs_align4k(v.attr.length), need);
	if (!rc && kill)
		rc = write_kills(fs, c, ino, &v, kill, &caps, &drop_caps, need);
	*seq = v.seq;
	while (!rc && skip < s->len) {
		struct fs_op op;

		fs_op_begin(&op, fs, OP_WRITE);
		rc = write_piece(&op, ino, &v, *off + skip, s, skip, append ? APPEND_KEYS : FS_RECORD_KEYS, &done);
		if (rc)
			break;
		skip += done;
		if (*off + skip > v.attr.length)
			fs_op_set_length(&op, ino, &v, *off + skip);
		fs_op_touch(&op, &v, FS_MTIME | FS_CTIME);
		if (drop_caps)
			rec_del(op.r, &caps, 0);
		fs_op_put(&op, ino, &v, 0);
		rc = fs_op_commit(&op, seq);
		drop_caps = false;
		if (!rc && v.attr.mode != mode)
			kill->done = true;
	}
	return rc;
}

int fs_write(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint64_t *off, bool append, const struct staged *s,
	struct fs_kill *kill, uint64_t *seq, struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = write_locked(fs, c, ino, off, append, s, kill, seq, need);
	journal_unlock(fs->j);
	return rc;
}

static void piece_from_span(struct fs_piece *p, const struct extent_val *e)
{
	*p = (struct fs_piece){ .kind = e->kind, .len = e->len };
	if (e->kind == EXT_STAGED) {
		p->off = e->off;
		p->run = (struct staged){ .segment = e->segment, .off = e->run_off, .len = e->run_len, .sum = e->sum };
	} else if (e->kind == EXT_OBJECT) {
		p->slice_id = e->slice_id;
		p->slice_size = e->slice_size;
		p->slice_off = e->slice_off;
	}
}

int fs_map(struct fs *fs, uint64_t ino, uint64_t off, uint64_t len, struct fs_piece *pieces, int max, uint64_t *file_len,
	struct fs_need *need)
{
	struct inode_val v;
	int rc, n = 0;

	journal_lock(fs->j);
	rc = data_inode(fs, ino, &v, need);
	if (rc)
		goto out;
	if (file_len)
		*file_len = v.attr.length;
	if (off >= v.attr.length)
		goto out;
	if (len > v.attr.length - off)
		len = v.attr.length - off;
	n = fs_spans(fs, ino, &v, off, off + len, fs->spans, max < FS_RECORD_KEYS ? max : FS_RECORD_KEYS, need);
	for (int i = 0; i < n; i++)
		piece_from_span(&pieces[i], &fs->spans[i]);
out:
	journal_unlock(fs->j);
	if (rc)
		return rc == FS_NEED ? -EAGAIN : rc;
	return n;
}

/* The next extent of a file whose data are all here, at or after `off`: skips holes of any size in one step.
 * 1 and [*from, *to), 0 at the end, -errno. */
static int extent_next(struct fs *fs, uint64_t ino, uint64_t off, size_t ncuts, uint64_t *from, uint64_t *to)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	key_extent(&k, ino, (uint32_t)(off >> JFS_CHUNK_BITS), (uint32_t)(off & (JFS_CHUNK_SIZE - 1)));
	it = view_seek(fs->j, &k, 9);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		struct extent_val e;
		uint64_t owner;
		uint32_t chunk, last, visible;

		rc = key_parse_extent(key, klen, &owner, &chunk, &last);
		if (!rc)
			rc = extent_val_decode(val, vlen, &e);
		if (rc)
			break;
		visible = extent_visible(&e, chunk, fs->cuts, ncuts);
		*from = (uint64_t)chunk * JFS_CHUNK_SIZE + e.pos;
		*to = *from + visible;
		if (e.kind != EXT_HOLE && *to > off) {
			rc = 1;
			break;
		}
	}
	view_end(it);
	return rc;
}

static int seek_known(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t off, bool hole, uint64_t *out)
{
	uint64_t from = 0, to = 0;
	size_t ncuts;
	int rc = fs_cuts_read(fs, ino, v, &ncuts);

	while (!rc && off < v->attr.length) {
		rc = extent_next(fs, ino, off, ncuts, &from, &to);
		if (rc < 0)
			return rc;
		if (!hole) {
			if (rc == 0 || from >= v->attr.length)
				return -ENXIO;
			*out = from > off ? from : off;
			return 0;
		}
		if (rc == 0 || from > off)
			break;
		off = to;
		rc = 0;
	}
	if (rc < 0)
		return rc;
	if (!hole)
		return -ENXIO;
	*out = off < v->attr.length ? off : v->attr.length;
	return 0;
}

/* Some chunks may have to be loaded: goes over all spans. */
static int seek_spans(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t off, bool hole, uint64_t *out,
	struct fs_need *need)
{
	while (off < v->attr.length) {
		int n = fs_spans(fs, ino, v, off, v->attr.length, fs->spans, FS_RECORD_KEYS, need);

		if (n < 0)
			return n == -EAGAIN ? FS_NEED : n;
		for (int i = 0; i < n; i++) {
			if ((fs->spans[i].kind == EXT_HOLE) == hole) {
				*out = off;
				return 0;
			}
			off += fs->spans[i].len;
		}
	}
	if (!hole)
		return -ENXIO;
	*out = v->attr.length;
	return 0;
}

/* To the byte. */
static int seek_exact(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t off, bool hole, uint64_t *out,
	struct fs_need *need)
{
	if (v->lflags & IL_DATA_LOCAL)
		return seek_known(fs, ino, v, off, hole, out);
	return seek_spans(fs, ino, v, off, hole, out, need);
}

/* In blocks: one that has any data is data. */
static int seek_block(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t off, bool hole, uint64_t *out,
	struct fs_need *need)
{
	const uint64_t mask = FS_SEEK_BLOCK - 1;
	uint64_t at = off;

	while (at < v->attr.length) {
		uint64_t block = at & ~mask, found = 0;
		int rc = seek_exact(fs, ino, v, block, false, &found, need);

		if (rc && (rc != -ENXIO || !hole))
			return rc;
		if (!hole) {
			*out = found <= (block | mask) ? off : found & ~mask;
			return 0;
		}
		if (rc == -ENXIO || found > (block | mask))
			break;
		rc = seek_exact(fs, ino, v, found, true, &found, need);
		if (rc)
			return rc;
		at = (found + mask) & ~mask;
	}
	*out = at < v->attr.length ? at : v->attr.length;
	return 0;
}

int fs_seek(struct fs *fs, uint64_t ino, uint64_t off, bool hole, uint64_t *out, struct fs_need *need)
{
	struct inode_val v;
	int rc;

	journal_lock(fs->j);
	rc = data_inode(fs, ino, &v, need);
	if (!rc)
		rc = off >= v.attr.length ? -ENXIO : seek_block(fs, ino, &v, off, hole, out, need);
	journal_unlock(fs->j);
	return rc;
}
