/* Names: lookup, create, mkdir, mknod, symlink, link, unlink, rmdir (spec 3.4-3.7; DESIGN 3.5 Names).
 *
 * A creation is one record: the new inode (IF_NEW), its parent, the entry with what it was before, the counters. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/fs_internal.h"

int fs_lookup(struct fs *fs, uint64_t parent, const char *name, size_t n, struct fs_attr *out, struct fs_need *need)
{
	struct inode_val dir, v;
	uint8_t type;
	uint64_t ino;
	int rc = fs_name_check(name, n);

	if (rc)
		return rc;
	journal_lock(fs->j);
	if (n == 1 && name[0] == '.') { /* by a file handle: of any kind */
		ino = parent;
	} else {
		rc = fs_dir(fs, parent, &dir, need);
		if (rc)
			goto out;
		if (n == 2 && name[0] == '.' && name[1] == '.')
			ino = parent == JFS_ROOT_INODE ? parent : dir.attr.parent;
		else
			rc = fs_dentry(fs, parent, name, n, &type, &ino);
	}
	if (!rc)
		rc = fs_inode(fs, ino, &v, need);
	if (rc)
		goto out;
	fs_fill(out, ino, &v);
	fs_refs_add(&fs->refs, ino, 1);
out:
	journal_unlock(fs->j);
	return rc;
}

void fs_inode_new(const struct fs_op *op, const struct fs_cred *c, uint64_t parent, const struct inode_val *dir, uint8_t type,
	uint32_t mode, struct inode_val *v)
{
	memset(v, 0, sizeof(*v));
	v->attr.type = type;
	v->attr.flags = dir->attr.flags & JFS_FLAG_SKIP_TRASH;
	v->attr.mode = (uint16_t)(type == JFS_SYMLINK ? 0777 : mode & 07777);
	v->attr.uid = c->uid;
	v->attr.gid = c->gid;
	if (dir->attr.mode & 02000) {
		v->attr.gid = dir->attr.gid;
		if (type == JFS_DIR)
			v->attr.mode |= 02000;
	}
	v->attr.nlink = type == JFS_DIR ? 2 : 1;
	v->attr.length = type == JFS_DIR ? 4096 : 0;
	v->attr.parent = parent;
	v->attr.tier = dir->attr.tier;
	v->lflags = IL_XATTR_COMPLETE | IL_PLAIN | (type == JFS_DIR ? IL_DIR_COMPLETE : IL_DATA_LOCAL);
	fs_op_touch(op, v, FS_ATIME | FS_MTIME | FS_CTIME);
}

void fs_op_new(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint64_t ino, struct inode_val *v)
{
	fs_op_put(op, ino, v, IF_NEW);
	fs_op_put_dentry(op, parent, name, n, v->attr.type, ino);
	fs_op_space(op, &v->attr, 4096, 1);
	fs_op_dirstat(op, parent, 0, 4096, 1);
	fs_id_note(op, ino);
}

struct new_node {
	enum rec_op op;
	uint8_t type;
	uint32_t mode, rdev;
	const char *target; /* of a symlink */
	size_t target_len;
};

/* After fs_check_new: makes the node. [locked] */
static int node_make(struct fs *fs, const struct fs_cred *c, uint64_t parent, struct inode_val *dir, const char *name,
	size_t n, const struct new_node *node, struct fs_attr *out, struct fs_need *need)
{
	bool inherits = fs->cfg.acl && dir->attr.default_acl && node->type != JFS_SYMLINK;
	uint16_t mode = (uint16_t)(node->mode & 07777 & ~(inherits ? 0 : c->umask));
	uint32_t access = 0;
	struct inode_val v;
	struct fs_op op;
	struct jkey k;
	uint64_t ino;
	int rc;

	if (node->type == JFS_DIR && dir->attr.nlink >= FS_LINK_MAX)
		return -EMLINK;
	rc = fs_room_new(fs, c->uid, dir->attr.mode & 02000 ? dir->attr.gid : c->gid, parent, need);
	if (!rc && inherits)
		rc = fs_acl_inherit(fs, dir, &mode, &access, need);
	if (!rc)
		rc = fs_id_take(fs, &ino, need);
	if (rc)
		return rc;
	fs_op_begin(&op, fs, node->op);
	fs_inode_new(&op, c, parent, dir, node->type, mode, &v);
	v.attr.access_acl = access;
	if (inherits && node->type == JFS_DIR)
		v.attr.default_acl = dir->attr.default_acl;
	v.attr.rdev = node->rdev;
	if (node->type == JFS_SYMLINK) {
		v.attr.length = node->target_len;
		key_symlink(&k, ino);
		rec_put(op.r, &k, node->target, node->target_len, 0);
	}
	if (node->type == JFS_DIR)
		dir->attr.nlink++;
	fs_op_touch(&op, dir, FS_MTIME | FS_CTIME);
	fs_op_expect(&op, parent, name, n, 0, 0);
	fs_op_new(&op, parent, name, n, ino, &v);
	fs_op_put(&op, parent, dir, 0);
	rc = fs_op_commit(&op, NULL);
	if (rc)
		return rc;
	fs_id_noted(fs, ino);
	fs_fill(out, ino, &v);
	fs_refs_add(&fs->refs, ino, 1);
	return 0;
}

static int node_new(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n,
	const struct new_node *node, struct fs_attr *out, struct fs_need *need)
{
	struct inode_val dir;
	int rc;

	journal_lock(fs->j);
	rc = fs_check_new(fs, parent, name, n, &dir, need);
	if (!rc)
		rc = node_make(fs, c, parent, &dir, name, n, node, out, need);
	journal_unlock(fs->j);
	return rc;
}

int fs_mknod(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode,
	uint32_t rdev, struct fs_attr *out, struct fs_need *need)
{
	struct new_node node = { .op = OP_MKNOD, .type = JFS_FILE, .mode = mode };

	if (mode & S_IFMT)
		node.type = jfs_type_from_mode(mode);
	if (node.type == 0 || node.type == JFS_SYMLINK)
		return -EINVAL;
	if (node.type == JFS_DIR)
		return -EPERM;
	if (node.type == JFS_BLOCKDEV || node.type == JFS_CHARDEV)
		node.rdev = rdev;
	return node_new(fs, c, parent, name, n, &node, out, need);
}

int fs_mkdir(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode,
	struct fs_attr *out, struct fs_need *need)
{
	struct new_node node = { .op = OP_MKDIR, .type = JFS_DIR, .mode = mode };

	return node_new(fs, c, parent, name, n, &node, out, need);
}

int fs_symlink(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, const char *target,
	size_t tn, struct fs_attr *out, struct fs_need *need)
{
	struct new_node node = { .op = OP_SYMLINK, .type = JFS_SYMLINK, .target = target, .target_len = tn };

	if (tn == 0)
		return -ENOENT;
	if (tn > JFS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	if (memchr(target, 0, tn))
		return -EINVAL;
	return node_new(fs, c, parent, name, n, &node, out, need);
}

/* An existing file that open(O_CREAT) met. [locked] */
static int create_existing(struct fs *fs, const struct fs_cred *c, uint64_t ino, bool trunc, struct fs_attr *out,
	struct fs_need *need)
{
	struct inode_val v;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	if (v.attr.type == JFS_DIR)
		return -EISDIR;
	if (trunc && v.attr.type == JFS_FILE) {
		if (fs->cfg.read_only)
			return -EROFS;
		if (v.attr.flags & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND))
			return -EPERM;
		rc = fs_quota_reach_file(fs, ino, &v, need);
		if (!rc && c->uid != 0)
			rc = fs_kill_suid(c, &v, need);
		if (rc)
			return rc;
		fs_op_begin(&op, fs, OP_TRUNCATE);
		rc = fs_op_truncate(&op, ino, &v, 0);
		if (rc)
			return rc;
		fs_op_touch(&op, &v, FS_MTIME | FS_CTIME);
		fs_op_put(&op, ino, &v, 0);
		rc = fs_op_commit(&op, NULL);
		if (rc)
			return rc;
	}
	fs_fill(out, ino, &v);
	fs_refs_add(&fs->refs, ino, 1);
	return 0;
}

int fs_create(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode,
	bool excl, bool trunc, struct fs_attr *out, bool *created, struct fs_need *need)
{
	struct new_node node = { .op = OP_CREATE, .type = JFS_FILE, .mode = mode };
	struct inode_val dir;
	uint8_t type;
	uint64_t ino;
	int rc;

	*created = false;
	journal_lock(fs->j);
	rc = fs_check_new(fs, parent, name, n, &dir, need);
	if (!rc) {
		rc = node_make(fs, c, parent, &dir, name, n, &node, out, need);
		*created = rc == 0;
	} else if (rc == -EEXIST && !excl && fs_dentry(fs, parent, name, n, &type, &ino) == 0) {
		rc = create_existing(fs, c, ino, trunc, out, need);
	}
	journal_unlock(fs->j);
	return rc;
}

int fs_readlink(struct fs *fs, uint64_t ino, char *buf, size_t *n, struct fs_need *need)
{
	const struct ghost *g;
	struct inode_val v;
	const void *val;
	struct jkey k;
	size_t len;
	int rc;

	journal_lock(fs->j);
	rc = fs_inode(fs, ino, &v, need);
	if (!rc && v.attr.type != JFS_SYMLINK)
		rc = -EINVAL;
	if (rc)
		goto out;
	g = ghost_find(&fs->ghosts, ino);
	key_symlink(&k, ino);
	if (g) {
		val = g->target;
		len = g->target_len;
	} else {
		rc = view_probe(fs->j, &k, &val, &len);
	}
	if (rc == -ENOENT)
		rc = fs_need(need, NEED_SYMLINK, ino, 0);
	else if (rc == -EKEYREVOKED)
		rc = -ENOENT;
	if (rc)
		goto out;
	if (len > *n)
		len = *n;
	memcpy(buf, val, len);
	*n = len;
out:
	journal_unlock(fs->j);
	return rc;
}

static int link_locked(struct fs *fs, uint64_t ino, uint64_t parent, const char *name, size_t n, struct fs_attr *out,
	struct fs_need *need)
{
	struct inode_val dir, v;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	if (v.attr.type == JFS_DIR)
		return -EPERM;
	rc = fs_check_new(fs, parent, name, n, &dir, need);
	if (rc)
		return rc;
	if (v.attr.nlink == 0)
		return -ENOENT;
	if (v.attr.flags & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND))
		return -EPERM;
	if (v.attr.nlink >= FS_LINK_MAX)
		return -EMLINK;
	rc = fs_quota_reach(fs, parent, need);
	if (!rc)
		rc = fs_parents_known(fs, ino, &v, need);
	if (!rc)
		rc = fs_quota_check_owner(fs, v.attr.uid, v.attr.gid, 0, 1);
	if (!rc)
		rc = fs_quota_check_dir(fs, parent, (int64_t)jfs_attr_space(&v.attr), 1);
	if (rc)
		return rc;
	fs_op_begin(&op, fs, OP_LINK);
	if (v.attr.parent)
		rec_parent(op.r, ino, v.attr.parent, 1);
	fs_op_parent(&op, ino, &v, v.attr.parent, parent, 1);
	v.attr.parent = 0;
	v.attr.nlink++;
	fs_op_touch(&op, &v, FS_CTIME);
	fs_op_touch(&op, &dir, FS_MTIME | FS_CTIME);
	fs_op_expect(&op, parent, name, n, 0, 0);
	fs_op_put(&op, ino, &v, 0);
	fs_op_put(&op, parent, &dir, 0);
	fs_op_put_dentry(&op, parent, name, n, v.attr.type, ino);
	rec_nlink(op.r, ino, 1);
	fs_op_dirstat(&op, parent, fs_stat_len(&v), (int64_t)jfs_attr_space(&v.attr), 1);
	rc = fs_op_commit(&op, NULL);
	if (rc)
		return rc;
	fs_fill(out, ino, &v);
	fs_refs_add(&fs->refs, ino, 1);
	return 0;
}

int fs_link(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint64_t parent, const char *name, size_t n,
	struct fs_attr *out, struct fs_need *need)
{
	int rc;

	(void)c;
	journal_lock(fs->j);
	rc = link_locked(fs, ino, parent, name, n, out, need);
	journal_unlock(fs->j);
	return rc;
}

static int remove_locked(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, bool rmdir,
	uint64_t *seq, struct fs_need *need)
{
	struct inode_val dir, v;
	struct fs_op op;
	struct jkey k;
	uint8_t type;
	uint64_t ino;
	int rc = fs_name_check(name, n);

	if (!rc)
		rc = fs_dir(fs, parent, &dir, need);
	if (rc)
		return rc;
	if (fs_name_reserved(parent, name, n))
		return -EPERM;
	if (rmdir && n == 1 && name[0] == '.')
		return -EINVAL;
	if (rmdir && n == 2 && name[0] == '.' && name[1] == '.')
		return -ENOTEMPTY;
	rc = fs_dentry(fs, parent, name, n, &type, &ino);
	if (rc)
		return rc;
	if (fs->cfg.read_only)
		return -EROFS;
	if (jfs_inode_is_trash(dir.attr.parent))
		return fs_need(need, NEED_TRASH, parent, 0);
	if (rmdir != (type == JFS_DIR))
		return rmdir ? -ENOTDIR : -EISDIR;
	rc = rmdir ? fs_dir(fs, ino, &v, need) : fs_inode(fs, ino, &v, need);
	if (!rc)
		rc = fs_may_remove(c, &dir, &v);
	if (rc)
		return rc;
	if (rmdir && !fs_dir_empty(fs, ino, &rc))
		return rc ? rc : -ENOTEMPTY;
	rc = fs_quota_reach(fs, parent, need);
	if (!rc)
		rc = fs_parents_known(fs, ino, &v, need);
	if (rc)
		return rc;

	fs_op_begin(&op, fs, rmdir ? OP_RMDIR : OP_UNLINK);
	if (rmdir)
		fs_unlink_dir(&dir);
	fs_op_touch(&op, &dir, FS_MTIME | FS_CTIME);
	fs_op_expect(&op, parent, name, n, type, ino);
	key_dentry(&k, parent, name, n);
	rec_del(op.r, &k, 0);
	fs_op_put(&op, parent, &dir, 0);
	fs_op_drop(&op, parent, name, n, ino, &v);
	rc = fs_op_commit(&op, seq);
	if (!rc)
		fs_op_after_drop(&op);
	return rc;
}

int fs_unlink(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint64_t *seq,
	struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = remove_locked(fs, c, parent, name, n, false, seq, need);
	journal_unlock(fs->j);
	return rc;
}

int fs_rmdir(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint64_t *seq,
	struct fs_need *need)
{
	int rc;

	journal_lock(fs->j);
	rc = remove_locked(fs, c, parent, name, n, true, seq, need);
	journal_unlock(fs->j);
	return rc;
}
