/* Lazy deletion: the keys of dead inodes, and extents that a cut hides (DESIGN 3.1 Cuts).
 *
 * T_REAP is the work list. A dead inode's entry goes with its last key. A live one's stays until everything its cuts hide
 * is gone, and the cuts are: at once where nothing can be loaded any more, else when trim has passed them (an older answer
 * of Redis may still have to be masked). Extents born after a cut are never touched. */
#include <errno.h>
#include <string.h>

#include "daemon/fs_internal.h"
#include "util/buf.h"

static int prefix_delete(struct fs_op *op, const struct jkey *from, unsigned *budget)
{
	const uint8_t *key, *val;
	struct view_iter *it = view_seek(op->fs->j, from, 9);
	size_t klen, vlen;
	int rc = 0;

	if (!it)
		return -EIO;
	while (*budget && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
		(*budget)--;
	}
	view_end(it);
	return rc < 0 ? rc : 0;
}

enum { REAP_KEYS = 1000 };

/* The first entry at or after the cursor: 1, 0, -errno. */
static int reap_next(struct fs *fs, uint64_t *ino, uint64_t *from)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	int rc;

	if (fs->reap_at.len == 0)
		key_reap(&fs->reap_at, 0, 0);
	it = view_seek(fs->j, &fs->reap_at, 1);
	if (!it)
		return -EIO;
	rc = view_step(it, &key, &klen, &val, &vlen);
	if (rc == 1 && klen != 17) {
		rc = -EUCLEAN;
	} else if (rc == 1) {
		*ino = get_be64(key + 1);
		*from = get_be64(key + 9);
	}
	view_end(it);
	return rc;
}

static int reap_dead(struct fs_op *op, uint64_t ino, uint64_t from)
{
	unsigned budget = REAP_KEYS;
	struct jkey k[4], entry;
	int rc = 0;

	key_xattr(&k[0], ino, "", 0);
	key_extent(&k[1], ino, 0, 0);
	key_chunk(&k[2], ino, 0);
	key_cut(&k[3], ino, 0);
	for (int i = 0; i < 4 && !rc && budget; i++)
		rc = prefix_delete(op, &k[i], &budget);
	if (budget) {
		key_reap(&entry, ino, from);
		rec_del(op->r, &entry, IF_FORGET);
	}
	return rc;
}

/* One piece of a pass over a live inode's extents: *end when the pass is through. */
static int reap_hidden(struct fs_op *op, uint64_t ino, size_t ncuts, bool *end)
{
	struct fs *fs = op->fs;
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	unsigned n = 0;
	struct jkey k;
	int rc;

	key_extent(&k, ino, (uint32_t)(fs->reap_pos >> JFS_CHUNK_BITS), (uint32_t)(fs->reap_pos & (JFS_CHUNK_SIZE - 1)));
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
		if (n++ == REAP_KEYS) {
			fs->reap_pos = (uint64_t)chunk * JFS_CHUNK_SIZE + e.pos;
			break;
		}
		visible = extent_visible(&e, chunk, fs->cuts, ncuts);
		if (visible == e.len)
			continue;
		rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
		if (visible) {
			e = extent_slice(&e, e.pos, e.pos + visible);
			rec_put_extent(op->r, ino, chunk, &e, 0);
		}
	}
	*end = n <= REAP_KEYS;
	view_end(it);
	return rc;
}

/* After a whole pass: cuts that hide nothing any more, and the entry when it has no cut left. */
static void cuts_drop(struct fs_op *op, uint64_t ino, uint64_t from, const struct inode_val *v, size_t ncuts)
{
	uint64_t trim = journal_mark(op->fs->j, WM_TRIM);
	bool left = false;
	struct jkey k;

	for (size_t i = 0; i < ncuts; i++) {
		const struct cut *c = &op->fs->cuts[i];

		if (c->from < from)
			continue; /* a lower entry's business */
		if (c->seq > op->fs->reap_seq || (!(v->lflags & IL_DATA_LOCAL) && c->seq > trim)) {
			left = true;
			continue;
		}
		key_cut(&k, ino, c->seq);
		rec_del(op->r, &k, IF_FORGET);
	}
	if (left)
		return;
	key_reap(&k, ino, from);
	rec_del(op->r, &k, IF_FORGET);
}

/* *more: the same entry again. */
static int reap_live(struct fs_op *op, uint64_t ino, uint64_t from, const struct inode_val *v, bool *more)
{
	struct fs *fs = op->fs;
	bool end;
	size_t ncuts;
	int rc = fs_cuts_read(fs, ino, v, &ncuts);

	if (rc)
		return rc;
	if (fs->reap_ino != ino || fs->reap_from != from) {
		fs->reap_ino = ino;
		fs->reap_from = fs->reap_pos = from;
		fs->reap_seq = op->seq;
	}
	rc = reap_hidden(op, ino, ncuts, &end);
	if (rc)
		return rc;
	*more = !end;
	if (end) {
		cuts_drop(op, ino, from, v, ncuts);
		fs->reap_ino = 0;
	}
	return 0;
}

static int reap_entry(struct fs *fs, uint64_t ino, uint64_t from)
{
	uint64_t pos = fs->reap_pos, was = fs->reap_ino;
	struct inode_val v;
	struct fs_op op;
	bool more = true;
	int rc;

	rc = view_get_inode(fs->j, ino, &v);
	if (rc && rc != -ENOENT)
		return rc;
	fs_op_begin(&op, fs, OP_REAP);
	if (rc == -ENOENT) {
		rc = reap_dead(&op, ino, from);
	} else {
		rc = reap_live(&op, ino, from, &v, &more);
	}
	if (!rc && op.r->items)
		rc = fs_op_commit(&op, NULL);
	if (rc) {
		fs->reap_pos = pos;
		fs->reap_ino = was == ino ? ino : 0;
		return rc;
	}
	key_reap(&fs->reap_at, ino, from);
	if (!more)
		fs->reap_at.b[fs->reap_at.len++] = 0; /* just behind it */
	return 1;
}

int fs_reap_step(struct fs *fs)
{
	uint64_t ino, from;
	int rc;

	journal_lock(fs->j);
	if (fs->waiting_n) {
		rc = fs_orphan_release(fs, fs->waiting[fs->waiting_n - 1]);
		if (!rc) {
			fs->waiting_n--;
			rc = 1;
		}
		goto out;
	}
	rc = reap_next(fs, &ino, &from);
	if (rc == 1) {
		rc = reap_entry(fs, ino, from);
	} else if (rc == 0) {
		fs->reap_at.len = 0; /* from the start next time */
	}
out:
	journal_unlock(fs->j);
	return rc;
}
