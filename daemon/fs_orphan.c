/* The end of an inode: its last name goes while the kernel still holds it (an orphan), and the last forget.
 *
 *   trash                    symbolic (IT_TRASH), counters unchanged, nlink 0 here (a directory's in a second, internal
 *                            record: replay stores directories as they are); the last forget only forgets it here
 *   regular file, held       IT_SUSTAIN; the last forget's record has IT_GONE and the counters
 *   regular file, not held   IT_GONE and the counters at once
 *   anything else            IT_GONE and the counters at once; if held, it lives on as a ghost (fs_ghost.h), for which nothing
 *                            is journaled; or, if it may have attributes, a second, internal record keeps our copy, so
 *                            that no replayable record ever names an inode after its IT_GONE
 * Local keys go with the inode: up to FS_INLINE_KEYS in the record, the rest behind a cut at 0 by fs_reap_step. A crash
 * between two records leaves at worst an orphan, which fs_reap_orphans ends at the next mount. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/fs_internal.h"

enum { RELEASE_BYTES = 8 << 10 }; /* a record that is longer takes no further inode in: well below what a small hot log takes */

static void orphan_put(struct fs_op *op, uint64_t ino, uint8_t state)
{
	struct jkey k;

	key_orphan(&k, ino);
	rec_put(op->r, &k, &state, 1, 0);
}

/* Deletes every key of the tables whose first field is this inode; false when there are more than *budget. */
static bool keys_delete(struct fs_op *op, const struct jkey *from, unsigned *budget)
{
	struct view_iter *it = view_seek(op->fs->j, from, 9);
	const uint8_t *key, *val;
	size_t klen, vlen;
	bool all = true;
	int rc;

	if (!it) {
		op->r->buf.err = -EIO;
		return true;
	}
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		if ((*budget)-- == 0) {
			all = false;
			break;
		}
		rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
	}
	view_end(it);
	if (rc < 0)
		op->r->buf.err = rc;
	return all;
}

void fs_op_dismantle(struct fs_op *op, uint64_t ino, const struct inode_val *v, bool tombstone)
{
	unsigned budget = FS_INLINE_KEYS;
	uint8_t from[8] = { 0 };
	bool all = true;
	struct jkey k;

	key_inode(&k, ino);
	rec_del(op->r, &k, tombstone ? 0 : IF_FORGET);
	if (v->attr.type == JFS_SYMLINK) {
		key_symlink(&k, ino);
		rec_del(op->r, &k, IF_FORGET);
	}
	if (v->attr.type != JFS_DIR && v->attr.parent == 0) {
		unsigned names = UINT16_MAX;

		key_parent(&k, ino, 0);
		(void)keys_delete(op, &k, &names);
	}
	if (v->attr.type == JFS_FILE) {
		key_extent(&k, ino, 0, 0);
		all = keys_delete(op, &k, &budget);
	}
	if (!(v->lflags & IL_PLAIN)) {
		key_xattr(&k, ino, "", 0);
		all = all && keys_delete(op, &k, &budget);
		key_chunk(&k, ino, 0);
		all = all && keys_delete(op, &k, &budget);
		key_cut(&k, ino, 0);
		all = all && keys_delete(op, &k, &budget);
	}
	if (all)
		return;
	key_cut(&k, ino, op->seq);
	rec_put(op->r, &k, from, sizeof(from), 0);
	key_reap(&k, ino, 0);
	rec_put(op->r, &k, NULL, 0, 0);
}

static void drop_counted(struct fs_op *op, uint64_t ino, const struct inode_val *v)
{
	fs_op_space(op, &v->attr, -(int64_t)jfs_attr_space(&v->attr), -1);
	rec_gone(op->r, ino, v->attr.length);
}

/* What a symlink says, for its ghost; true for all else. */
static bool target_read(struct fs_op *op, uint64_t ino, const struct inode_val *v)
{
	struct jkey k;

	op->keep_target = NULL;
	op->keep_target_len = 0;
	key_symlink(&k, ino);
	return v->attr.type != JFS_SYMLINK || view_get(op->fs->j, &k, &op->keep_target, &op->keep_target_len) == 0;
}

void fs_op_drop(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint64_t ino, struct inode_val *v)
{
	bool dir = v->attr.type == JFS_DIR, held;
	bool trash = op->fs->cfg.trash && !(v->attr.flags & JFS_FLAG_SKIP_TRASH);
	struct jkey k;

	v->attr.nlink = dir || v->attr.nlink == 0 ? 0 : v->attr.nlink - 1;
	fs_op_touch(op, v, FS_CTIME);
	fs_op_dirstat(op, parent, -fs_stat_len(v), -(int64_t)jfs_attr_space(&v->attr), -1);
	if (v->attr.parent == 0)
		fs_op_parent(op, ino, v, 0, parent, -1);
	if (trash) {
		key_dentry(&k, parent, name, n);
		rec_trash(op->r, &k, v->attr.type, ino);
	} else if (!dir) {
		rec_nlink(op->r, ino, -1);
	}
	if (v->attr.nlink > 0) {
		fs_op_put(op, ino, v, 0);
		return;
	}
	held = fs_refs_mark_orphan(&op->fs->refs, ino);
	op->keep = held && dir;
	op->keep_ino = ino;
	op->keep_val = *v;
	op->keep_state = trash ? ORPHAN_TRASHED : ORPHAN_GONE;
	if (trash) {
		if (dir)
			v->attr.nlink = 2; /* as it lies in the trash */
		fs_op_put(op, ino, v, 0);
		orphan_put(op, ino, ORPHAN_TRASHED);
		op->release_ino = held ? 0 : ino;
	} else if (held && v->attr.type == JFS_FILE) {
		fs_op_put(op, ino, v, 0);
		orphan_put(op, ino, ORPHAN_LOCAL);
		rec_sustain(op->r, ino);
	} else {
		drop_counted(op, ino, v);
		op->keep = held;
		op->keep_ghost = held && v->lflags & IL_PLAIN && !ghosts_full(&op->fs->ghosts) && target_read(op, ino, v);
		if (held && !op->keep_ghost) {
			key_inode(&k, ino);
			rec_del(op->r, &k, 0);
		} else {
			fs_op_dismantle(op, ino, v, true);
		}
	}
}

static void waiting_add(struct fs *fs, uint64_t ino)
{
	if (fs->waiting_n == fs->waiting_size) {
		size_t size = fs->waiting_size ? fs->waiting_size * 2 : 64;
		uint64_t *p = realloc(fs->waiting, size * sizeof(*p));

		if (!p)
			return; /* its orphan key stays: the next mount ends it */
		fs->waiting = p;
		fs->waiting_size = size;
	}
	fs->waiting[fs->waiting_n++] = ino;
}

void fs_op_after_drop(struct fs_op *op)
{
	struct fs *fs = op->fs;
	struct fs_op second;

	/* It was not open: nothing can have changed it behind the record that put it into the trash. */
	uint64_t left = fs->trash_left;

	if (op->release_ino && fs_orphan_release(fs, op->release_ino))
		waiting_add(fs, op->release_ino);
	fs->trash_left = left;
	if (!op->keep)
		return;
	op->keep_val.seq = op->seq;
	if (op->keep_ghost && ghost_add(&fs->ghosts, op->keep_ino, &op->keep_val, op->keep_target, op->keep_target_len) == 0)
		return;
	/* Without this record a still held directory or symlink answers ENOENT, and its attributes wait for the next
	 * mount to be reaped: no reason to fail what has been done. */
	fs_op_begin(&second, fs, OP_EVICT);
	fs_op_put(&second, op->keep_ino, &op->keep_val, 0);
	orphan_put(&second, op->keep_ino, op->keep_state);
	(void)fs_op_commit(&second, NULL);
}

static int orphan_state(struct fs *fs, uint64_t ino, uint8_t *state)
{
	const void *val;
	struct jkey k;
	size_t len;
	int rc;

	key_orphan(&k, ino);
	rc = view_get(fs->j, &k, &val, &len);
	if (rc)
		return rc;
	if (len != 1)
		return -EUCLEAN;
	*state = *(const uint8_t *)val;
	return 0;
}

bool fs_is_orphan(struct fs *fs, uint64_t ino)
{
	uint8_t state;

	journal_lock(fs->j);
	bool orphan = orphan_state(fs, ino, &state) == 0;
	journal_unlock(fs->j);
	return orphan;
}

void fs_op_begin_on(struct fs_op *op, struct fs *fs, uint64_t ino, const struct inode_val *v, enum rec_op kind)
{
	const struct ghost *g = v->attr.nlink ? NULL : ghost_find(&fs->ghosts, ino);
	uint8_t state;
	struct jkey k;

	if (g || (v->attr.nlink == 0 && orphan_state(fs, ino, &state) == 0 && state == ORPHAN_GONE))
		kind = OP_EVICT;
	fs_op_begin(op, fs, kind);
	if (!g)
		return;
	orphan_put(op, ino, ORPHAN_GONE);
	if (v->attr.type == JFS_SYMLINK) {
		key_symlink(&k, ino);
		rec_put(op->r, &k, g->target, g->target_len, 0);
	}
	op->ghost = ino;
}

struct release {
	uint64_t ino;
	struct inode_val v;
	uint8_t state;
	bool there;   /* the inode: v is filled */
	bool counted; /* Redis is to hear of it: the record is replayed */
};

/* 0, and what there is to release; 1: nothing any more, or a ghost, which has gone; -errno. */
static int release_find(struct fs *fs, uint64_t ino, struct release *r)
{
	int rc;

	if (ghost_find(&fs->ghosts, ino)) {
		ghost_drop(&fs->ghosts, ino);
		return 1;
	}
	rc = orphan_state(fs, ino, &r->state);
	if (rc)
		return rc == -ENOENT ? 1 : rc;
	rc = view_get_inode(fs->j, ino, &r->v);
	if (rc && rc != -ENOENT)
		return rc;
	r->ino = ino;
	r->there = rc == 0;
	r->counted = r->there && r->state != ORPHAN_TRASHED && r->state != ORPHAN_GONE;
	return 0;
}

static enum rec_op release_kind(const struct release *r)
{
	return r->counted ? OP_FORGET_ORPHAN : OP_EVICT;
}

static void release_add(struct fs_op *op, const struct release *r)
{
	struct jkey k;

	if (r->counted)
		drop_counted(op, r->ino, &r->v);
	if (r->there)
		fs_op_dismantle(op, r->ino, &r->v, r->state != ORPHAN_TRASHED);
	key_orphan(&k, r->ino);
	rec_del(op->r, &k, IF_FORGET);
}

int fs_orphan_release(struct fs *fs, uint64_t ino)
{
	struct release r;
	struct fs_op op;
	uint64_t seq;
	int rc = release_find(fs, ino, &r);

	if (rc)
		return rc < 0 ? rc : 0;
	fs_op_begin(&op, fs, release_kind(&r));
	release_add(&op, &r);
	rc = fs_op_commit(&op, &seq);
	if (!rc && r.state == ORPHAN_TRASHED)
		fs->trash_left = seq;
	return rc;
}

/* Those of one kind, in as few records as their size allows. Whoever finds no room waits. */
static void release_those(struct fs *fs, const struct release *all, size_t n, enum rec_op kind)
{
	for (size_t i = 0, first = 0; i < n; first = i) {
		bool any = false, trashed = false;
		struct fs_op op;
		uint64_t seq;

		for (; i < n && (!any || op.r->buf.len < RELEASE_BYTES); i++) {
			if (release_kind(&all[i]) != kind)
				continue;
			if (!any)
				fs_op_begin(&op, fs, kind);
			any = true;
			trashed |= all[i].state == ORPHAN_TRASHED;
			release_add(&op, &all[i]);
		}
		int rc = any ? fs_op_commit(&op, &seq) : 0;

		if (any && !rc && trashed)
			fs->trash_left = seq;
		for (; rc && first < i; first++)
			if (release_kind(&all[first]) == kind)
				waiting_add(fs, all[first].ino);
	}
}

/* One record costs more than what it says of a small file: orphans that are forgotten together share them. */
static void release_all(struct fs *fs, const uint64_t *ino, size_t n)
{
	struct release all[FS_FORGET_TOGETHER];
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		int rc = release_find(fs, ino[i], &all[k]);

		if (rc < 0)
			waiting_add(fs, ino[i]);
		k += rc == 0;
	}
	release_those(fs, all, k, OP_FORGET_ORPHAN);
	release_those(fs, all, k, OP_EVICT);
}

void fs_ref(struct fs *fs, uint64_t ino)
{
	fs_refs_add(&fs->refs, ino, 1);
}

void fs_forget_all(struct fs *fs, const struct fs_forgotten *f, size_t n)
{
	uint64_t last[FS_FORGET_TOGETHER];
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (fs_refs_sub(&fs->refs, f[i].ino, f[i].n))
			last[k++] = f[i].ino;
	if (k == 0)
		return;
	journal_lock(fs->j);
	n = k;
	k = 0;
	for (size_t i = 0; i < n; i++)
		if (!fs_refs_mark_orphan(&fs->refs, last[i])) /* nobody found it meanwhile, by a file handle */
			last[k++] = last[i];
	release_all(fs, last, k);
	journal_unlock(fs->j);
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t n)
{
	struct fs_forgotten f = { ino, n };

	fs_forget_all(fs, &f, 1);
}

/* The first orphan of the view that is above `after`; 0: none. [locked] */
static int orphan_next(struct fs *fs, uint64_t after, uint64_t *ino)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	*ino = 0;
	key_orphan(&k, after + 1);
	it = view_seek(fs->j, &k, 1);
	if (!it)
		return -EIO;
	rc = view_step(it, &key, &klen, &val, &vlen);
	if (rc == 1)
		rc = key_parse_ino(key, klen, ino);
	view_end(it);
	return rc;
}

int fs_reap_orphans(struct fs *fs)
{
	uint64_t ino = 0, after = 0;
	int rc;

	for (;;) {
		journal_lock(fs->j);
		rc = orphan_next(fs, after, &ino);
		if (!rc && ino)
			rc = fs_orphan_release(fs, ino);
		journal_unlock(fs->j);
		if (rc == FS_ROOM) {
			rc = journal_wait_room(fs->j);
			if (rc)
				return rc;
			continue;
		}
		if (rc == -EROFS) /* frozen: they stay as they are */
			return 0;
		if (rc || !ino)
			return rc;
		after = ino;
	}
}
