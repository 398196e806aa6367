/* Forgetting what Redis has as we have it (DESIGN 3.3, at a mount that finds the volume changed).
 *
 * Clean is an inode whose last change is at or below the given position and that is neither an orphan nor waiting to be
 * reaped. A directory's sequence number covers its entries: every change of one changes its times. Nothing leaves a
 * tombstone, tombstones stay, and the keys of an inode that is not clean stay all. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/fs_internal.h"

enum { EVICT_KEYS = 1000 };

int fs_op_prefix_delete(struct fs_op *op, const struct jkey *from, unsigned *budget)
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

static bool has_key(struct fs *fs, const struct jkey *from, size_t prefix, int *err)
{
	const uint8_t *key, *val;
	struct view_iter *it = view_seek(fs->j, from, prefix);
	size_t klen, vlen;
	int rc;

	if (!it) {
		*err = -EIO;
		return true;
	}
	rc = view_step(it, &key, &klen, &val, &vlen);
	view_end(it);
	if (rc < 0)
		*err = rc;
	return rc != 0;
}

/* The first clean inode after `after`: 1, 0 at the end, -errno. Looks at EVICT_KEYS at most, then 1 with *clean false. */
static int clean_next(struct fs *fs, uint64_t after, uint64_t upto, uint64_t *ino, bool *clean)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct inode_val v;
	struct jkey k;
	int rc;

	key_inode(&k, after + 1);
	it = view_seek(fs->j, &k, 1);
	if (!it)
		return -EIO;
	*clean = false;
	for (int n = 0; n < EVICT_KEYS && !*clean && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1; n++) {
		rc = key_parse_ino(key, klen, ino);
		if (!rc)
			rc = inode_val_decode(val, vlen, &v);
		if (rc)
			break;
		*clean = v.seq <= upto;
		rc = 1;
	}
	view_end(it);
	return rc;
}

/* Deletes up to a record full of its keys, its own record last: 1 more to do, 0, FS_ROOM, -errno. Where one record is not
 * enough, the first says that nothing is complete any more: a kill in between must not leave half a directory that
 * counts as whole. */
static int evict_piece(struct fs *fs, uint64_t ino)
{
	unsigned budget = EVICT_KEYS;
	struct inode_val v;
	struct jkey k[7];
	struct fs_op op;
	int rc = 0;

	key_orphan(&k[0], ino);
	key_reap(&k[1], ino, 0);
	if (has_key(fs, &k[0], 9, &rc) || has_key(fs, &k[1], 9, &rc))
		return rc;
	key_chunk(&k[0], ino, 0);
	key_dentry_from(&k[1], ino, 0);
	key_xattr(&k[2], ino, "", 0);
	key_symlink(&k[3], ino);
	key_extent(&k[4], ino, 0, 0);
	key_cut(&k[5], ino, 0);
	key_inode(&k[6], ino);
	rc = view_get_inode(fs->j, ino, &v);
	fs_op_begin(&op, fs, OP_EVICT);
	for (int i = 0; i < 6 && !rc && budget; i++)
		rc = fs_op_prefix_delete(&op, &k[i], &budget);
	if (rc)
		return rc;
	if (budget) {
		rec_del(op.r, &k[6], IF_FORGET);
	} else {
		v.lflags = 0;
		rec_put_inode(op.r, ino, &v, 0);
	}
	rc = fs_op_commit(&op, NULL);
	return rc ? rc : budget == 0;
}

int fs_drop_clean(struct fs *fs, uint64_t upto)
{
	uint64_t ino = 0, after = 0;
	bool clean = false;
	int rc;

	for (;;) {
		journal_lock(fs->j);
		rc = clean_next(fs, after, upto, &ino, &clean);
		if (rc == 1)
			rc = clean ? evict_piece(fs, ino) : 0;
		else if (rc == 0)
			ino = 0;
		journal_unlock(fs->j);
		if (rc == FS_ROOM) {
			rc = journal_wait_room(fs->j);
			if (rc)
				return rc;
		} else if (rc < 0 || ino == 0) {
			return rc;
		} else if (rc == 0) {
			after = ino;
		}
	}
}
