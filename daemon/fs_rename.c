/* rename: plain, NOREPLACE, EXCHANGE (spec 3.8), WHITEOUT. One record: both names, both directories, the moved inode and, if
 * there is one, the replaced target as unlink or rmdir would leave it. A whiteout, by which an overlay file system remembers that
 * a name of its lower layer is gone, is a character device 0:0 that takes the old name. */
#include <errno.h>
#include <string.h>

#include "daemon/fs_internal.h"

struct side {
	uint64_t parent;
	const char *name;
	size_t n;
	struct inode_val dir; /* of the destination only when the parents differ: see dst_dir */
	bool exists;
	uint8_t type;
	uint64_t ino;
	struct inode_val v;
	int64_t below_space, below_inodes; /* of a directory that leaves or enters a quota: what lies in it */
};

static int side_read(struct fs *fs, struct side *s, struct fs_need *need)
{
	int rc = fs_dir(fs, s->parent, &s->dir, need);

	if (rc)
		return rc;
	rc = fs_dentry(fs, s->parent, s->name, s->n, &s->type, &s->ino);
	s->exists = rc == 0;
	if (rc == -ENOENT)
		return 0;
	return rc ? rc : fs_inode(fs, s->ino, &s->v, need);
}

/* -EINVAL if directory `ino` is `from` or one of its ancestors. */
static int not_below(struct fs *fs, uint64_t ino, uint64_t from, struct fs_need *need)
{
	struct inode_val v;

	for (unsigned depth = 0; from != ino; depth++) {
		int rc;

		if (from == JFS_ROOT_INODE || from == 0)
			return 0;
		if (depth > 1u << 20)
			return -ELOOP;
		rc = fs_inode(fs, from, &v, need);
		if (rc)
			return rc;
		from = v.attr.parent;
	}
	return -EINVAL;
}

static int rename_check(struct fs *fs, const struct fs_cred *c, struct side *s, struct side *d, unsigned flags,
	struct fs_need *need)
{
	bool exchange = flags & FS_RENAME_EXCHANGE;
	int rc = 0;

	if (fs_name_reserved(s->parent, s->name, s->n) || fs_name_reserved(d->parent, d->name, d->n))
		return -EPERM;
	if (!s->exists || (exchange && !d->exists))
		return -ENOENT;
	if (d->exists && (flags & FS_RENAME_NOREPLACE))
		return -EEXIST;
	if (fs->cfg.read_only)
		return -EROFS;
	if (d->exists && s->ino == d->ino)
		return 0; /* one name, or two of one inode: nothing will be done */
	if (jfs_inode_is_trash(s->dir.attr.parent))
		return fs_need(need, NEED_TRASH, s->parent, 0);
	if (d->dir.attr.nlink == 0 || jfs_inode_is_trash(d->dir.attr.parent))
		return -ENOENT;
	if (s->type == JFS_DIR && s->parent != d->parent)
		rc = not_below(fs, s->ino, d->parent, need);
	if (!rc && exchange && d->type == JFS_DIR && s->parent != d->parent)
		rc = not_below(fs, d->ino, s->parent, need);
	if (!rc)
		rc = fs_may_remove(c, &s->dir, &s->v);
	if (rc)
		return rc;
	if (d->dir.attr.flags & JFS_FLAG_IMMUTABLE)
		return -EPERM;
	if (!d->exists)
		return s->type == JFS_DIR && s->parent != d->parent && d->dir.attr.nlink >= FS_LINK_MAX ? -EMLINK : 0;
	if (!exchange && s->type != d->type && (s->type == JFS_DIR || d->type == JFS_DIR))
		return d->type == JFS_DIR ? -EISDIR : -ENOTDIR;
	rc = fs_may_remove(c, &d->dir, &d->v);
	if (rc || exchange || d->type != JFS_DIR)
		return rc;
	rc = fs_dir(fs, d->ino, &d->v, need);
	if (!rc && !fs_dir_empty(fs, d->ino, &rc) && !rc)
		rc = -ENOTEMPTY;
	return rc;
}

/* An inode gets the name in `to` instead of that in `from`: its record, its parents, the statistics, and the link
 * counts of the directories. */
static void inode_move(struct fs_op *op, struct side *what, struct side *from, struct side *to)
{
	struct inode_val *v = &what->v;

	fs_op_touch(op, v, FS_CTIME);
	if (from->parent != to->parent) {
		int64_t len = fs_stat_len(v), space = (int64_t)jfs_attr_space(&v->attr);

		if (v->attr.parent == 0) {
			fs_op_parent(op, what->ino, v, 0, to->parent, 1);
			fs_op_parent(op, what->ino, v, 0, from->parent, -1);
		} else {
			v->attr.parent = to->parent;
		}
		fs_op_dirstat(op, from->parent, -len, -space, -1);
		fs_op_dirstat(op, to->parent, len, space, 1);
		fs_quota_add_dir(op, from->parent, -what->below_space, -what->below_inodes);
		fs_quota_add_dir(op, to->parent, what->below_space, what->below_inodes);
		if (v->attr.type == JFS_DIR) {
			fs_unlink_dir(&from->dir);
			to->dir.attr.nlink++;
		}
	}
	fs_op_put(op, what->ino, v, 0);
}

static void whiteout_build(struct fs_op *op, const struct fs_cred *c, struct side *s, uint64_t ino)
{
	struct inode_val v;

	fs_inode_new(op, c, s->parent, &s->dir, JFS_CHARDEV, 0, &v);
	fs_op_new(op, s->parent, s->name, s->n, ino, &v);
}

/* `white`: the number of the whiteout that is left behind, or 0. */
static void rename_build(struct fs_op *op, const struct fs_cred *c, struct side *s, struct side *d, bool exchange, uint64_t white)
{
	bool same = s->parent == d->parent;
	struct jkey k;

	fs_op_expect(op, s->parent, s->name, s->n, s->type, s->ino);
	fs_op_expect(op, d->parent, d->name, d->n, d->type, d->exists ? d->ino : 0);
	inode_move(op, s, s, d);
	fs_op_put_dentry(op, d->parent, d->name, d->n, s->type, s->ino);
	if (exchange) {
		inode_move(op, d, d, s);
		fs_op_put_dentry(op, s->parent, s->name, s->n, d->type, d->ino);
	} else {
		if (white) {
			whiteout_build(op, c, s, white);
		} else {
			key_dentry(&k, s->parent, s->name, s->n);
			rec_del(op->r, &k, 0);
		}
		if (d->exists) {
			if (d->type == JFS_DIR)
				fs_unlink_dir(&d->dir);
			fs_op_drop(op, d->parent, d->name, d->n, d->ino, &d->v);
		}
	}
	fs_op_touch(op, &d->dir, FS_MTIME | FS_CTIME);
	fs_op_put(op, d->parent, &d->dir, 0);
	if (!same) {
		fs_op_touch(op, &s->dir, FS_MTIME | FS_CTIME);
		fs_op_put(op, s->parent, &s->dir, 0);
	}
}

/* What the directories' quotas have to do with it (as in stock: a replaced target is not deducted, and of an exchange only what
 * moves to the destination is checked). */
static int rename_quotas(struct fs *fs, struct side *s, struct side *d, bool exchange, struct fs_need *need)
{
	uint64_t to;
	int rc = fs_quota_reach(fs, s->parent, need);

	if (!rc)
		rc = fs_quota_reach(fs, d->parent, need);
	if (!rc)
		rc = fs_parents_known(fs, s->ino, &s->v, need);
	if (!rc && d->exists)
		rc = fs_parents_known(fs, d->ino, &d->v, need);
	if (rc || !fs_quota_of_dirs(fs) || s->parent == d->parent)
		return rc;
	to = fs_quota_nearest(fs, d->parent);
	if (fs_quota_nearest(fs, s->parent) == to)
		return 0;
	if (s->type == JFS_DIR)
		rc = fs_quota_usage(fs, s->ino, &s->below_space, &s->below_inodes, need);
	if (!rc && exchange && d->type == JFS_DIR)
		rc = fs_quota_usage(fs, d->ino, &d->below_space, &d->below_inodes, need);
	if (!rc && to)
		rc = fs_quota_check_dir(fs, d->parent, s->below_space + (int64_t)jfs_attr_space(&s->v.attr), s->below_inodes + 1);
	return rc;
}

static int rename_locked(struct fs *fs, const struct fs_cred *c, struct side *s, struct side *d, unsigned flags,
	uint64_t *seq, struct fs_need *need)
{
	uint64_t white = 0;
	struct fs_op op;
	int rc = side_read(fs, s, need);

	if (!rc)
		rc = side_read(fs, d, need);
	if (!rc)
		rc = rename_check(fs, c, s, d, flags, need);
	if (rc)
		return rc;
	if (d->exists && s->ino == d->ino) {
		*seq = s->v.seq;
		return 0;
	}
	rc = rename_quotas(fs, s, d, flags & FS_RENAME_EXCHANGE, need);
	if (!rc && flags & FS_RENAME_WHITEOUT) {
		rc = fs_room_new(fs, c->uid, s->dir.attr.mode & 02000 ? s->dir.attr.gid : c->gid, s->parent, need);
		if (!rc)
			rc = fs_id_take(fs, &white, need);
	}
	if (rc)
		return rc;
	fs_op_begin(&op, fs, OP_RENAME);
	rename_build(&op, c, s, d, flags & FS_RENAME_EXCHANGE, white);
	rc = fs_op_commit(&op, seq);
	if (!rc)
		fs_op_after_drop(&op);
	if (!rc && white)
		fs_id_noted(fs, white);
	if (!rc && (s->type == JFS_DIR || ((flags & FS_RENAME_EXCHANGE) && d->type == JFS_DIR)))
		fs->dir_moved = *seq;
	return rc;
}

int fs_rename(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint64_t newparent,
	const char *newname, size_t nn, unsigned flags, uint64_t *seq, struct fs_need *need)
{
	struct side s = { .parent = parent, .name = name, .n = n };
	struct side d = { .parent = newparent, .name = newname, .n = nn };
	int rc = fs_name_check(name, n);

	if (!rc)
		rc = fs_name_check(newname, nn);
	if (rc)
		return rc;
	if (flags & ~(unsigned)(FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE | FS_RENAME_WHITEOUT) ||
		(flags & FS_RENAME_EXCHANGE && flags != FS_RENAME_EXCHANGE))
		return -EINVAL;
	journal_lock(fs->j);
	rc = rename_locked(fs, c, &s, &d, flags, seq, need);
	journal_unlock(fs->j);
	return rc;
}
