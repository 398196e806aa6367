/* getattr, setattr (truncate included), access times, statfs (spec 3.9, 3.10, 3.16; what a local file system does where
 * stock bends POSIX: every chmod, chown and utimens changes ctime, a truncate to the same length touches the times). */
#include <errno.h>

#include "daemon/fs_internal.h"
#include "util/clock.h"

int fs_getattr(struct fs *fs, uint64_t ino, struct fs_attr *out, struct fs_need *need)
{
	struct inode_val v;
	int rc;

	journal_lock(fs->j);
	rc = fs_inode(fs, ino, &v, need);
	if (!rc)
		fs_fill(out, ino, &v);
	journal_unlock(fs->j);
	return rc;
}

static int size_check(const struct inode_val *v, uint64_t size)
{
	if (v->attr.type == JFS_DIR)
		return -EISDIR;
	if (v->attr.type != JFS_FILE)
		return -EINVAL;
	if (size >= JFS_FILE_MAX)
		return -EFBIG;
	return v->attr.flags & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND) ? -EPERM : 0;
}

/* A write-back of cached times by the kernel (it carries ctime) is nobody's request: it has no owner to check. */
static int setattr_check(struct fs *fs, const struct fs_cred *c, uint64_t ino, const struct inode_val *v, const struct fs_setattr *set,
	struct fs_need *need)
{
	bool owner = c->uid == 0 || c->uid == v->attr.uid, times = false;
	int rc;

	if (jfs_inode_is_trash(v->attr.parent))
		return -EPERM;
	if (set->valid & FSA_SIZE) {
		rc = size_check(v, set->size);
		if (!rc)
			rc = fs_room_file(fs, ino, v, (int64_t)jfs_align4k(set->size) - (int64_t)jfs_align4k(v->attr.length), need);
		if (rc)
			return rc;
	} else if (v->attr.flags & JFS_FLAG_IMMUTABLE) {
		return -EPERM;
	}
	if (owner)
		return 0;
	if (!(set->valid & (FSA_CTIME | FSA_SIZE)))
		times = ((set->valid & FSA_ATIME) && !(set->valid & FSA_ATIME_NOW)) ||
			((set->valid & FSA_MTIME) && !(set->valid & FSA_MTIME_NOW));
	return set->valid & (FSA_MODE | FSA_UID | FSA_GID) || times ? -EPERM : 0;
}

/* What the inode uses goes to its new owner. */
static void owner_change(struct fs_op *op, struct jfs_attr *a, const struct fs_setattr *set)
{
	uint32_t uid = set->valid & FSA_UID ? set->uid : a->uid, gid = set->valid & FSA_GID ? set->gid : a->gid;

	if (uid == a->uid && gid == a->gid)
		return;
	fs_quota_add_owner(op, a->uid, a->gid, -(int64_t)jfs_attr_space(a), -1);
	fs_quota_add_owner(op, uid, gid, (int64_t)jfs_attr_space(a), 1);
	a->uid = uid;
	a->gid = gid;
}

/* A chown, and a truncation by anybody but root, take setuid and setgid away. 0, FS_MEMBER. */
static int setattr_mode(const struct fs_cred *c, struct inode_val *v, const struct fs_setattr *set, struct fs_need *need)
{
	bool chown = (set->valid & (FSA_UID | FSA_GID) || set->valid == 0) && v->attr.type != JFS_DIR;
	bool truncate = set->valid & FSA_SIZE && c->uid != 0;

	if (set->valid & FSA_MODE)
		v->attr.mode = (uint16_t)(set->mode & 07777);
	if (set->valid & FSA_KILL_SUID || ((chown || truncate) && !(set->valid & FSA_MODE)))
		return fs_kill_suid(c, v, need);
	return 0;
}

static void setattr_apply(struct fs_op *op, struct inode_val *v, const struct fs_setattr *set)
{
	struct jfs_attr *a = &v->attr;

	owner_change(op, a, set);
	if (set->valid & FSA_SIZE)
		fs_op_touch(op, v, FS_MTIME);
	if (set->valid & FSA_ATIME_NOW) {
		fs_op_touch(op, v, FS_ATIME);
	} else if (set->valid & FSA_ATIME) {
		a->atime = set->atime;
		a->atime_nsec = set->atimensec;
	}
	if (set->valid & FSA_MTIME_NOW) {
		fs_op_touch(op, v, FS_MTIME);
	} else if (set->valid & FSA_MTIME) {
		a->mtime = set->mtime;
		a->mtime_nsec = set->mtimensec;
	}
	fs_op_touch(op, v, FS_CTIME);
	if (set->valid & FSA_CTIME) {
		a->ctime = set->ctime;
		a->ctime_nsec = set->ctimensec;
	}
}

static int setattr_locked(struct fs *fs, const struct fs_cred *c, uint64_t ino, const struct fs_setattr *set,
	struct fs_attr *out, struct fs_need *need)
{
	struct inode_val v;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	if (fs->cfg.read_only)
		return -EROFS;
	rc = setattr_check(fs, c, ino, &v, set, need);
	if (!rc && set->valid & FSA_MODE)
		rc = fs_acl_chmod(fs, &v.attr.access_acl, (uint16_t)set->mode, need);
	if (!rc)
		rc = setattr_mode(c, &v, set, need);
	if (rc)
		return rc;
	fs_op_begin_on(&op, fs, ino, &v, set->valid & FSA_SIZE ? OP_TRUNCATE : OP_SETATTR);
	if (set->valid & FSA_SIZE)
		rc = fs_op_truncate(&op, ino, &v, set->size);
	if (rc)
		return rc;
	setattr_apply(&op, &v, set);
	fs_op_put(&op, ino, &v, 0);
	rc = fs_op_commit(&op, NULL);
	if (!rc)
		fs_fill(out, ino, &v);
	return rc;
}

int fs_setattr(struct fs *fs, const struct fs_cred *c, uint64_t ino, const struct fs_setattr *set, struct fs_attr *out,
	struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = setattr_locked(fs, c, ino, set, out, need);
	journal_unlock(fs->j);
	return rc;
}

static int setflags_locked(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint8_t mask, uint8_t flags,
	uint64_t *seq, struct fs_need *need)
{
	struct inode_val v;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	if (fs->cfg.read_only)
		return -EROFS;
	if (jfs_inode_is_trash(v.attr.parent) || (c->uid != 0 && c->uid != v.attr.uid))
		return -EPERM;
	fs_op_begin_on(&op, fs, ino, &v, OP_SETATTR);
	v.attr.flags = (uint8_t)((v.attr.flags & ~mask) | (flags & mask));
	fs_op_touch(&op, &v, FS_CTIME);
	fs_op_put(&op, ino, &v, 0);
	return fs_op_commit(&op, seq);
}

int fs_setflags(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint8_t mask, uint8_t flags, uint64_t *seq,
	struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = setflags_locked(fs, c, ino, mask, flags, seq, need);
	journal_unlock(fs->j);
	return rc;
}

/* a <= b, as times */
static bool time_not_after(int64_t as, uint32_t an, int64_t bs, uint32_t bn)
{
	return as < bs || (as == bs && an <= bn);
}

static bool atime_due(const struct fs *fs, const struct jfs_attr *a, int64_t now)
{
	if (time_not_after(a->atime, a->atime_nsec, a->mtime, a->mtime_nsec) ||
		time_not_after(a->atime, a->atime_nsec, a->ctime, a->ctime_nsec) || now - a->atime >= 86400)
		return true;
	return fs->cfg.strict_atime && now - a->atime >= 1;
}

/* An access time is never worth waiting or failing for. */
int fs_touch_atime(struct fs *fs, uint64_t ino)
{
	struct inode_val v;
	struct fs_need need;
	struct fs_op op;
	int rc;

	journal_lock(fs->j);
	rc = fs->cfg.read_only ? FS_NEED : fs_inode(fs, ino, &v, &need);
	if (!rc && atime_due(fs, &v.attr, clock_wall_sec())) {
		fs_op_begin_on(&op, fs, ino, &v, OP_SETATTR);
		fs_op_touch(&op, &v, FS_ATIME);
		fs_op_put(&op, ino, &v, 0);
		rc = fs_op_commit(&op, NULL);
	}
	journal_unlock(fs->j);
	return rc == -EIO ? rc : 0;
}

int fs_statfs(struct fs *fs, uint64_t ino, struct fs_statfs *out)
{
	int64_t space, inodes;
	uint64_t capacity, limit;

	journal_lock(fs->j);
	journal_stats(fs->j, &space, &inodes);
	capacity = fs->cfg.capacity;
	limit = fs->cfg.inodes;
	journal_unlock(fs->j);
	if (space < 0)
		space = 0;
	if (inodes < 0)
		inodes = 0;
	if (capacity) {
		out->total = capacity > (uint64_t)space ? capacity : (uint64_t)space;
	} else {
		out->total = 1ull << 50;
		while (out->total < 1ull << 62 && (uint64_t)space > out->total / 10 * 8)
			out->total *= 2;
	}
	out->avail = out->total > (uint64_t)space ? out->total - (uint64_t)space : 0;
	if (limit) {
		out->inodes_avail = limit > (uint64_t)inodes ? limit - (uint64_t)inodes : 0;
	} else {
		out->inodes_avail = 10u << 20;
		while (out->inodes_avail < 1ull << 62 && (uint64_t)inodes > out->inodes_avail * 4)
			out->inodes_avail *= 2;
	}
	out->inodes_total = (uint64_t)inodes + out->inodes_avail;
	journal_lock(fs->j);
	fs_quota_statfs(fs, ino, out);
	journal_unlock(fs->j);
	return 0;
}
