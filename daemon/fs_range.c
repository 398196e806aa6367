/* Range operations: fallocate (spec 3.12), copy_file_range (spec 3.13), compact (spec 4.5).
 *
 * A range that touches more than FS_RECORD_KEYS keys becomes several records, each complete (its own IT_PUNCH). Zeroing
 * what is zero already writes nothing, so that starting again after FS_ROOM makes progress. */
#include <errno.h>
#include <linux/falloc.h>

#include "daemon/fs_internal.h"

/* Zeroes as much of [off, end) as one record takes; *off moves on. *changed: extents or holes were written. */
static int zero_piece(struct fs_op *op, uint64_t ino, const struct inode_val *v, uint64_t *off, uint64_t end, bool *changed)
{
	uint32_t items = op->r->items;
	unsigned budget = FS_RECORD_KEYS;
	uint64_t start = *off;

	while (*off < end && budget) {
		uint64_t base = *off & ~(JFS_CHUNK_SIZE - 1);
		uint32_t from = (uint32_t)(*off - base), to, want;
		int rc;

		want = to = end - base < JFS_CHUNK_SIZE ? (uint32_t)(end - base) : (uint32_t)JFS_CHUNK_SIZE;
		rc = fs_op_zero(op, ino, v, (uint32_t)(*off >> JFS_CHUNK_BITS), from, &to, &budget);
		if (rc)
			return rc;
		*off = base + to;
		if (to < want)
			break;
	}
	*changed = op->r->items > items;
	if (*changed)
		rec_punch(op->r, ino, start, *off - start);
	return 0;
}

/* The next byte at or above off that an extent covers, where nothing needs to be loaded: whole empty chunks are skipped. */
static int zero_skip(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t *off, uint64_t end)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	uint32_t chunk, last;
	struct jkey k;
	int rc;

	if (!(v->lflags & IL_DATA_LOCAL))
		return 0;
	key_extent(&k, ino, (uint32_t)(*off >> JFS_CHUNK_BITS), (uint32_t)(*off & (JFS_CHUNK_SIZE - 1)));
	it = view_seek(fs->j, &k, 9);
	if (!it)
		return -EIO;
	rc = view_step(it, &key, &klen, &val, &vlen);
	if (rc == 1) {
		rc = key_parse_extent(key, klen, &ino, &chunk, &last);
		if (!rc && (uint64_t)chunk * JFS_CHUNK_SIZE > *off)
			*off = (uint64_t)chunk * JFS_CHUNK_SIZE < end ? (uint64_t)chunk * JFS_CHUNK_SIZE : end;
	} else if (rc == 0) {
		*off = end;
	}
	view_end(it);
	return rc;
}

/* All pieces but the last are committed here; the last one stays in the open record. */
static int zero_range(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t off, uint64_t end)
{
	bool changed;
	int rc = 0;

	while (!rc && off < end) {
		rc = zero_skip(op->fs, ino, v, &off, end);
		if (!rc && off < end)
			rc = zero_piece(op, ino, v, &off, end, &changed);
		if (rc || off >= end || !changed)
			continue;
		fs_op_touch(op, v, FS_MTIME | FS_CTIME);
		fs_op_put(op, ino, v, 0);
		rc = fs_op_commit(op, NULL);
		if (!rc)
			fs_op_begin(op, op->fs, OP_FALLOCATE);
	}
	return rc;
}

static int fallocate_check(struct fs *fs, const struct inode_val *v, int mode, uint64_t off, uint64_t len)
{
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if ((mode & FALLOC_FL_PUNCH_HOLE) && (!(mode & FALLOC_FL_KEEP_SIZE) || (mode & FALLOC_FL_ZERO_RANGE)))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (v->attr.type == JFS_FIFO)
		return -EPIPE;
	if (v->attr.type != JFS_FILE)
		return v->attr.type == JFS_DIR ? -EISDIR : -ENODEV;
	if (off >= JFS_FILE_MAX || len >= JFS_FILE_MAX - off)
		return -EFBIG;
	if (fs->cfg.read_only)
		return -EROFS;
	if (v->attr.flags & JFS_FLAG_IMMUTABLE)
		return -EPERM;
	if ((v->attr.flags & JFS_FLAG_APPEND) && (mode & ~FALLOC_FL_KEEP_SIZE))
		return -EPERM;
	return 0;
}

static int fallocate_locked(struct fs *fs, const struct fs_cred *c, uint64_t ino, int mode, uint64_t off, uint64_t len,
	uint64_t *seq, struct fs_need *need)
{
	uint64_t end = off + len, stop;
	struct inode_val v;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (!rc)
		rc = fallocate_check(fs, &v, mode, off, len);
	if (!rc && !(mode & FALLOC_FL_KEEP_SIZE) && end > v.attr.length)
		rc = fs_room_file(fs, ino, &v, (int64_t)jfs_align4k(end) - (int64_t)jfs_align4k(v.attr.length), need);
	if (!rc && c->uid != 0)
		rc = fs_kill_suid(c, &v, need);
	if (rc)
		return rc;
	fs_op_begin(&op, fs, OP_FALLOCATE);
	stop = end < v.attr.length ? end : v.attr.length;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && off < stop)
		rc = zero_range(&op, ino, &v, off, stop);
	if (rc)
		return rc;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > v.attr.length)
		fs_op_set_length(&op, ino, &v, end);
	fs_op_touch(&op, &v, FS_MTIME | FS_CTIME);
	fs_op_put(&op, ino, &v, 0);
	return fs_op_commit(&op, seq);
}

int fs_fallocate(struct fs *fs, const struct fs_cred *c, uint64_t ino, int mode, uint64_t off, uint64_t len, uint64_t *seq,
	struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = fallocate_locked(fs, c, ino, mode, off, len, seq, need);
	journal_unlock(fs->j);
	return rc;
}

/* --- copy --- */

/* Takes [off, end) of the destination away, in one go: a record must not trim the same extent twice. Returns how far it
 * got in *end. */
static int copy_clear(struct fs_op *op, uint64_t ino, uint64_t off, uint64_t *end, unsigned *budget)
{
	while (off < *end) {
		uint64_t base = off & ~(JFS_CHUNK_SIZE - 1);
		uint32_t want = *end - base < JFS_CHUNK_SIZE ? (uint32_t)(*end - base) : (uint32_t)JFS_CHUNK_SIZE, to = want;
		int rc = fs_op_clear(op, ino, (uint32_t)(off >> JFS_CHUNK_BITS), (uint32_t)(off - base), &to, budget);

		if (rc)
			return rc;
		off = base + to;
		if (to < want)
			break;
	}
	*end = off < *end ? off : *end;
	return 0;
}

/* Lays the first `len` bytes of span `e` (of the source) at `off` of the destination, where nothing is any more. */
static void copy_span(struct fs_op *op, uint64_t ino, const struct inode_val *v, const struct extent_val *e, uint32_t len,
	uint64_t off)
{
	for (uint32_t done = 0; done < len;) {
		uint64_t at = off + done, room = JFS_CHUNK_SIZE - (at & (JFS_CHUNK_SIZE - 1));
		uint32_t chunk = (uint32_t)(at >> JFS_CHUNK_BITS), n = len - done < room ? len - done : (uint32_t)room;
		struct extent_val copy = extent_slice(e, e->pos + done, e->pos + done + n);

		copy.pos = (uint32_t)(at & (JFS_CHUNK_SIZE - 1));
		copy.born = op->seq;
		if (e->kind != EXT_HOLE)
			rec_put_extent(op->r, ino, chunk, &copy, IF_NEW | IF_COPY);
		else if (!fs_chunk_known(op->fs, ino, v, chunk))
			rec_put_extent(op->r, ino, chunk, &copy, 0);
		if (e->kind == EXT_HOLE)
			rec_punch(op->r, ino, at, n);
		done += n;
	}
}

static int copy_check(struct fs *fs, uint64_t in, const struct inode_val *vi, uint64_t off_in, uint64_t out,
	const struct inode_val *vo, uint64_t off_out, uint64_t *len, struct fs_need *need)
{
	if (vi->attr.type == JFS_DIR || vo->attr.type == JFS_DIR)
		return -EISDIR;
	if (vi->attr.type != JFS_FILE || vo->attr.type != JFS_FILE)
		return -EINVAL;
	if (fs->cfg.read_only)
		return -EROFS;
	if (vo->attr.flags & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND))
		return -EPERM;
	if (off_in >= vi->attr.length) {
		*len = 0;
		return 0;
	}
	if (*len > vi->attr.length - off_in)
		*len = vi->attr.length - off_in;
	if (off_out >= JFS_FILE_MAX || *len >= JFS_FILE_MAX - off_out)
		return -EFBIG;
	if (in == out && off_in < off_out + *len && off_out < off_in + *len)
		return -EINVAL;
	if (off_out + *len > vo->attr.length)
		return fs_room_file(fs, out, vo, (int64_t)jfs_align4k(off_out + *len) - (int64_t)jfs_align4k(vo->attr.length), need);
	return 0;
}

static int copy_locked(struct fs *fs, const struct fs_cred *c, uint64_t in, uint64_t off_in, uint64_t out,
	uint64_t off_out, uint64_t len, uint64_t *copied, uint64_t *seq, struct fs_need *need)
{
	unsigned budget = FS_RECORD_KEYS;
	struct inode_val vi, vo;
	struct fs_op op;
	uint64_t end = off_out;
	int n, rc;

	*copied = 0;
	rc = fs_inode(fs, in, &vi, need);
	if (!rc)
		rc = fs_inode(fs, out, &vo, need);
	if (!rc)
		rc = copy_check(fs, in, &vi, off_in, out, &vo, off_out, &len, need);
	if (rc)
		return rc;
	*seq = vo.seq;
	if (len == 0)
		return 0;
	rc = c->uid != 0 ? fs_kill_suid(c, &vo, need) : 0;
	if (rc)
		return rc;
	n = fs_spans(fs, in, &vi, off_in, off_in + len, fs->spans, FS_RECORD_KEYS / 2, need);
	if (n <= 0)
		return n == -EAGAIN ? FS_NEED : n ? n : -EIO;
	for (int i = 0; i < n; i++)
		end += fs->spans[i].len;
	fs_op_begin(&op, fs, OP_COPY_RANGE);
	rc = copy_clear(&op, out, off_out, &end, &budget);
	if (rc)
		return rc;
	for (int i = 0; i < n && off_out + *copied < end; i++) {
		uint64_t left = end - off_out - *copied;
		uint32_t take = fs->spans[i].len < left ? fs->spans[i].len : (uint32_t)left;

		copy_span(&op, out, &vo, &fs->spans[i], take, off_out + *copied);
		*copied += take;
	}
	if (off_out + *copied > vo.attr.length)
		fs_op_set_length(&op, out, &vo, off_out + *copied);
	fs_op_touch(&op, &vo, FS_MTIME | FS_CTIME);
	fs_op_put(&op, out, &vo, 0);
	return fs_op_commit(&op, seq);
}

int fs_copy_range(struct fs *fs, const struct fs_cred *c, uint64_t in, uint64_t off_in, uint64_t out, uint64_t off_out,
	uint64_t len, uint64_t *copied, uint64_t *seq, struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = copy_locked(fs, c, in, off_in, out, off_out, len, copied, seq, need);
	journal_unlock(fs->j);
	if (rc)
		*copied = 0;
	return rc;
}

/* --- compact --- */

static int compact_locked(struct fs *fs, uint64_t ino, uint32_t *chunk, uint64_t *seq, struct fs_need *need)
{
	struct inode_val v;
	uint32_t chunks, at = *chunk;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (!rc && v.attr.type != JFS_FILE)
		rc = -EINVAL;
	if (!rc && fs->cfg.read_only)
		rc = -EROFS;
	if (rc)
		return rc;
	chunks = (uint32_t)((v.attr.length + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS);
	fs_op_begin_on(&op, fs, ino, &v, OP_COMPACT);
	for (unsigned n = 0; at < chunks && n < FS_RECORD_KEYS; n++)
		rec_compact(op.r, ino, at++);
	fs_op_put(&op, ino, &v, 0);
	rc = fs_op_commit(&op, seq);
	if (!rc)
		*chunk = at < chunks ? at : UINT32_MAX;
	return rc;
}

int fs_compact(struct fs *fs, uint64_t ino, uint32_t *chunk, uint64_t *seq, struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = compact_locked(fs, ino, chunk, seq, need);
	journal_unlock(fs->j);
	return rc;
}
