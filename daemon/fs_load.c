/* Inserting what was loaded from Redis (DESIGN 3.3). Invariants: a key that any layer holds, a tombstone too, is never
 * overwritten; an answer older than what we have applied is refused; `complete` flags and "this chunk is loaded" come with
 * the last piece, so that a crash or an error half way only means loading again. What is put here carries sequence number
 * 0 or keeps the one it has: a load changes no file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fs_internal.h"
#include "util/buf.h"

enum { LOAD_ENTRIES = 1000, LOAD_BYTES = 256 << 10 };

static int position_check(struct fs *fs, uint64_t position)
{
	return position < journal_mark(fs->j, WM_APPLIED) ? -ESTALE : 0;
}

/* 1: no layer knows the key, 0: held or deleted, -errno. */
static int key_free(struct fs *fs, const struct jkey *k)
{
	const void *val;
	size_t len;
	int rc = view_probe(fs->j, k, &val, &len);

	return rc == -ENOENT ? 1 : rc == -EKEYREVOKED ? 0 : rc;
}

/* A held inode: 0, -ENOENT (deleted or evicted meanwhile: the answer is for nobody). */
static int inode_held(struct fs *fs, uint64_t ino, struct inode_val *v)
{
	int rc = view_get_inode(fs->j, ino, v);

	return rc == -EKEYREVOKED ? -ENOENT : rc;
}

/* record NULL: a broken entry, of which only the type is known. */
static int inode_insert(struct fs_op *op, uint64_t ino, uint8_t type, const void *record, size_t len)
{
	struct inode_val v = { .attr = { .type = type, .nlink = 1 } };
	struct jkey k;
	int rc;

	key_inode(&k, ino);
	rc = key_free(op->fs, &k);
	if (rc <= 0)
		return rc;
	if (record && jfs_attr_decode(record, len, &v.attr))
		return -EUCLEAN;
	rec_put_inode(op->r, ino, &v, 0);
	return 0;
}

int fs_insert_inode(struct fs *fs, uint64_t position, uint64_t ino, const void *record, size_t len)
{
	struct fs_op op;
	int rc;

	journal_lock(fs->j);
	rc = position_check(fs, position);
	if (rc)
		goto out;
	if (!record) {
		rc = -ENOENT;
		goto out;
	}
	fs_op_begin(&op, fs, OP_LOAD);
	rc = inode_insert(&op, ino, 0, record, len);
	if (!rc && op.r->items)
		rc = fs_op_commit(&op, NULL);
out:
	journal_unlock(fs->j);
	return rc;
}

static int entry_insert(struct fs_op *op, uint64_t dir, const struct fs_loaded_entry *e)
{
	uint8_t type;
	uint64_t ino;
	struct jkey k;
	int rc;

	if (!jfs_name_valid((const char *)e->name, e->name_len) || e->ino == 0 || !jfs_type_to_mode(e->type))
		return -EUCLEAN;
	key_dentry(&k, dir, e->name, e->name_len);
	rc = key_free(op->fs, &k);
	if (rc < 0)
		return rc;
	if (rc == 1) {
		fs_op_put_dentry(op, dir, (const char *)e->name, e->name_len, e->type, e->ino);
	} else if (fs_dentry(op->fs, dir, (const char *)e->name, e->name_len, &type, &ino) || ino != e->ino) {
		return 0; /* removed or replaced here: its inode is none of ours to bring back */
	}
	rc = inode_insert(op, e->ino, e->type, e->record, e->record_len);
	/* A damaged record costs that file only: it is asked for, and told, again when somebody wants it. */
	return rc == -EUCLEAN ? 0 : rc;
}

/* Commits entries from *at on, at most `step`; complete with the last. 0, -errno, FS_ROOM. [locked] */
static int dir_piece(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_entry *e, size_t n, size_t *at,
	size_t step)
{
	size_t end = *at + step < n ? *at + step : n;
	struct inode_val v;
	struct fs_op op;
	int rc = position_check(fs, position);

	if (!rc)
		rc = inode_held(fs, ino, &v);
	if (rc)
		return rc;
	if (v.attr.type != JFS_DIR)
		return -ENOTDIR;
	if (v.lflags & IL_DIR_COMPLETE) {
		*at = n;
		return 0;
	}
	fs_op_begin(&op, fs, OP_LOAD);
	for (size_t i = *at; i < end && !rc; i++)
		rc = entry_insert(&op, ino, &e[i]);
	if (rc)
		return rc;
	if (end == n) {
		v.lflags |= IL_DIR_COMPLETE;
		rec_put_inode(op.r, ino, &v, 0);
	}
	if (op.r->items)
		rc = fs_op_commit(&op, NULL);
	if (!rc)
		*at = end;
	return rc;
}

int fs_insert_dir(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_entry *e, size_t n)
{
	size_t at = 0, step = LOAD_ENTRIES;
	int rc;

	do {
		journal_lock(fs->j);
		rc = dir_piece(fs, position, ino, e, n, &at, step);
		journal_unlock(fs->j);
		if (rc == -E2BIG && step > 1) { /* a small hot map */
			step /= 2;
			rc = 0;
			continue;
		}
	} while (!rc && at < n);
	return rc;
}

/* --- chunks --- */

/* Takes away from `l` what we hold on top of it; deletes or trims held extents that a cut hides, since a loaded one may
 * take their place. */
static int list_under_held(struct fs_op *op, uint64_t ino, uint32_t chunk, size_t ncuts, struct extent_list *l)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	key_extent(&k, ino, chunk, 0);
	it = view_seek(op->fs->j, &k, 13);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		struct extent_val e;
		uint32_t visible;

		rc = extent_val_decode(val, vlen, &e);
		if (rc)
			break;
		visible = extent_visible(&e, chunk, op->fs->cuts, ncuts);
		if (visible < e.len)
			rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
		if (visible == 0)
			continue;
		if (visible < e.len) {
			e = extent_slice(&e, e.pos, e.pos + visible);
			rec_put_extent(op->r, ino, chunk, &e, 0);
		}
		rc = extent_list_remove(l, e.pos, extent_end(&e));
		if (rc)
			break;
	}
	view_end(it);
	return rc;
}

/* Commits up to LOAD_ENTRIES extents of `loaded` that are missing. 1: all are in, 0: call again; -errno, FS_ROOM is
 * returned in *room. [locked] */
static int chunk_piece(struct fs *fs, uint64_t position, uint64_t ino, uint32_t chunk, const struct extent_list *loaded,
	unsigned step, bool *done)
{
	struct extent_list l;
	struct inode_val v;
	struct fs_op op;
	struct jkey k;
	uint8_t pos[8];
	unsigned put = 0;
	size_t ncuts;
	int rc = position_check(fs, position);

	if (!rc)
		rc = inode_held(fs, ino, &v);
	if (rc)
		return rc;
	*done = fs_chunk_known(fs, ino, &v, chunk);
	if (*done)
		return 0;
	extent_list_init(&l);
	fs_op_begin(&op, fs, OP_LOAD);
	rc = fs_cuts_read(fs, ino, &v, &ncuts);
	for (size_t i = 0; i < loaded->n && !rc; i++) {
		struct extent_val e = loaded->v[i];

		e.len = extent_visible(&e, chunk, fs->cuts, ncuts);
		if (e.len)
			rc = extent_list_paint(&l, &e);
	}
	if (!rc)
		rc = list_under_held(&op, ino, chunk, ncuts, &l);
	if (rc)
		goto out;
	for (; put < l.n && put < step; put++)
		rec_put_extent(op.r, ino, chunk, &l.v[put], 0);
	if (put == l.n) {
		key_chunk(&k, ino, chunk);
		put_be64(pos, position);
		rec_put(op.r, &k, pos, sizeof(pos), 0);
	}
	rc = fs_op_commit(&op, NULL);
	*done = !rc && put == l.n;
out:
	extent_list_fini(&l);
	return rc;
}

int fs_insert_chunk(struct fs *fs, uint64_t position, uint64_t ino, uint32_t chunk, const void *records, size_t n)
{
	struct extent_list loaded;
	unsigned step = LOAD_ENTRIES;
	bool done = false;
	int rc;

	extent_list_init(&loaded);
	rc = extent_list_from_slices(&loaded, records, n, position);
	while (!rc && !done) {
		journal_lock(fs->j);
		rc = chunk_piece(fs, position, ino, chunk, &loaded, step, &done);
		journal_unlock(fs->j);
		if (rc == -E2BIG && step > 1) {
			step /= 2;
			rc = 0;
		}
	}
	extent_list_fini(&loaded);
	return rc;
}

size_t fs_chunks_missing(struct fs *fs, uint64_t from, size_t n, uint64_t *out)
{
	struct inode_val v;
	size_t found = 0;

	journal_lock(fs->j);
	for (uint64_t ino = from; ino < from + n; ino++)
		if (inode_held(fs, ino, &v) == 0 && v.attr.type == JFS_FILE && v.attr.length > 0 && !fs_chunk_known(fs, ino, &v, 0))
			out[found++] = ino;
	journal_unlock(fs->j);
	return found;
}

static void hole_put(struct fs_op *op, uint64_t ino, uint32_t chunk, uint32_t from, uint32_t to)
{
	struct extent_val hole = { .pos = from, .len = to - from, .born = op->seq, .kind = EXT_HOLE };

	if (from < to)
		rec_put_extent(op->r, ino, chunk, &hole, 0);
}

/* Adds to the record what chunk_unload takes away, at most LOAD_ENTRIES extents. keep_gaps: lays holes where nothing is. */
static int unload_extents(struct fs_op *op, uint64_t position, uint64_t ino, uint32_t chunk, size_t ncuts, bool keep_gaps,
	bool *more)
{
	const uint8_t *key, *val;
	struct extent_val e;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	uint32_t end = 0;
	unsigned n = 0;
	int rc;

	key_extent(&k, ino, chunk, 0);
	it = view_seek(op->fs->j, &k, 13);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		uint32_t visible;
		bool loaded;

		rc = extent_val_decode(val, vlen, &e);
		if (rc)
			break;
		loaded = e.kind == EXT_OBJECT && e.born <= position;
		if (!loaded && !keep_gaps)
			continue;
		if (n++ == LOAD_ENTRIES) {
			*more = true;
			break;
		}
		visible = extent_visible(&e, chunk, op->fs->cuts, ncuts);
		if (loaded || visible < e.len)
			rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
		if (!keep_gaps || !visible)
			continue;
		hole_put(op, ino, chunk, end, e.pos);
		end = e.pos + visible;
		if (!loaded && visible < e.len) {
			e = extent_slice(&e, e.pos, end);
			rec_put_extent(op->r, ino, chunk, &e, 0);
		}
	}
	view_end(it);
	if (!rc && keep_gaps)
		hole_put(op, ino, chunk, end, JFS_CHUNK_SIZE);
	return rc;
}

/* Takes the extents away that Redis's list at `position` contains (born at or before it, not staged here), and makes the
 * chunk unknown; data that were only ours until now may be changed behind us, so the inode is no longer all local.
 * Where the file was changed here after `position`, a gap may be a truncate's or a punch's that the list does not know of
 * yet: it becomes a hole that lies on top of the list. What does not fit into one record, or concerns chunks that were never
 * loaded, waits for replay (-ESTALE). */
static int chunk_unload(struct fs *fs, uint64_t position, uint64_t ino, uint32_t chunk, bool *more)
{
	struct inode_val v;
	struct fs_op op;
	struct jkey k;
	size_t ncuts;
	bool ahead;
	int rc = position_check(fs, position);

	*more = false;
	if (!rc)
		rc = inode_held(fs, ino, &v);
	if (rc)
		return rc;
	ahead = v.seq > position && fs_chunk_known(fs, ino, &v, chunk);
	if (ahead && (v.lflags & IL_DATA_LOCAL))
		return -ESTALE;
	rc = fs_cuts_read(fs, ino, &v, &ncuts);
	if (rc)
		return rc;
	fs_op_begin(&op, fs, OP_LOAD);
	v.lflags &= (uint8_t)~(IL_DATA_LOCAL | IL_PLAIN);
	rec_put_inode(op.r, ino, &v, 0);
	key_chunk(&k, ino, chunk);
	rec_del(op.r, &k, IF_FORGET);
	rc = unload_extents(&op, position, ino, chunk, ncuts, ahead, more);
	if (!rc && ahead && *more)
		rc = -ESTALE;
	return rc ? rc : fs_op_commit(&op, NULL);
}

int fs_reload_chunk(struct fs *fs, uint64_t position, uint64_t ino, uint32_t chunk, const void *records, size_t n)
{
	bool more = true;
	int rc = 0;

	while (!rc && more) {
		journal_lock(fs->j);
		rc = chunk_unload(fs, position, ino, chunk, &more);
		journal_unlock(fs->j);
	}
	return rc ? rc : fs_insert_chunk(fs, position, ino, chunk, records, n);
}

/* --- attributes, symlinks --- */

static int xattrs_piece(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_xattr *x, size_t n, size_t *at)
{
	struct inode_val v;
	struct fs_op op;
	struct jkey k;
	size_t i;
	int rc = position_check(fs, position);

	if (!rc)
		rc = inode_held(fs, ino, &v);
	if (rc)
		return rc;
	if (v.lflags & IL_XATTR_COMPLETE) {
		*at = n;
		return 0;
	}
	fs_op_begin(&op, fs, OP_LOAD);
	for (i = *at; i < n && op.r->buf.len < LOAD_BYTES; i++) {
		if (x[i].name_len == 0 || x[i].name_len > 255)
			return -EUCLEAN;
		key_xattr(&k, ino, x[i].name, x[i].name_len);
		rc = key_free(fs, &k);
		if (rc < 0)
			return rc;
		if (rc)
			rec_put(op.r, &k, x[i].val, x[i].val_len, 0);
	}
	if (i == n) {
		v.lflags |= IL_XATTR_COMPLETE;
		rec_put_inode(op.r, ino, &v, 0);
	}
	rc = fs_op_commit(&op, NULL);
	if (!rc)
		*at = i;
	return rc;
}

int fs_insert_xattrs(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_xattr *x, size_t n)
{
	size_t at = 0;
	int rc;

	do {
		journal_lock(fs->j);
		rc = xattrs_piece(fs, position, ino, x, n, &at);
		journal_unlock(fs->j);
	} while (!rc && at < n);
	return rc;
}

int fs_insert_symlink(struct fs *fs, uint64_t position, uint64_t ino, const void *target, size_t n)
{
	struct fs_op op;
	struct jkey k;
	int rc;

	journal_lock(fs->j);
	rc = position_check(fs, position);
	if (!rc && (n == 0 || n > 4096))
		rc = target ? -EUCLEAN : -EIO;
	key_symlink(&k, ino);
	if (!rc)
		rc = key_free(fs, &k);
	if (rc == 1) {
		fs_op_begin(&op, fs, OP_LOAD);
		rec_put(op.r, &k, target, n, 0);
		rc = fs_op_commit(&op, NULL);
	}
	journal_unlock(fs->j);
	return rc;
}
