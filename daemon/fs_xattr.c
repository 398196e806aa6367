/* Extended attributes (spec 3.14). A change is a change of the inode too (ctime), as on a local file system. ACLs are no
 * attributes here (fs_acl.c); without them in the volume their names answer EOPNOTSUPP. */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "daemon/fs_internal.h"

#define XATTR_NAME_LIMIT 255
#define XATTR_VALUE_LIMIT 65536

static int xattr_inode(struct fs *fs, uint64_t ino, struct inode_val *v, struct fs_need *need)
{
	int rc = fs_inode(fs, ino, v, need);

	if (!rc && !(v->lflags & IL_XATTR_COMPLETE))
		rc = fs_need(need, NEED_XATTR, ino, 0);
	return rc;
}

static int xattr_name_check(const char *name, size_t n)
{
	if (n == 0 || n > XATTR_NAME_LIMIT)
		return -ERANGE;
	if (n >= 17 && memcmp(name, "system.posix_acl_", 17) == 0)
		return -EOPNOTSUPP;
	return 0;
}

/* Copies out, or tells the room that is wanted. */
static int give(void *buf, size_t *room, const void *val, size_t len)
{
	if (*room == 0) {
		*room = len;
		return 0;
	}
	if (*room < len)
		return -ERANGE;
	memcpy(buf, val, len);
	*room = len;
	return 0;
}

int fs_getxattr(struct fs *fs, uint64_t ino, const char *name, size_t n, void *buf, size_t *len, struct fs_need *need)
{
	struct inode_val v;
	const void *val;
	struct jkey k;
	size_t vlen;
	enum fs_acl_kind acl = fs_acl_kind(name, n);
	int rc = acl ? 0 : xattr_name_check(name, n);

	if (rc)
		return rc;
	journal_lock(fs->j);
	if (acl) {
		uint8_t rule[ACL_XATTR_MAX];

		rc = fs_acl_get(fs, ino, acl, rule, &vlen, need);
		if (!rc)
			rc = give(buf, len, rule, vlen);
	} else if ((rc = xattr_inode(fs, ino, &v, need)) == 0) {
		key_xattr(&k, ino, name, n);
		rc = view_get(fs->j, &k, &val, &vlen);
		rc = rc == -ENOENT ? -ENODATA : rc ? rc : give(buf, len, val, vlen);
	}
	journal_unlock(fs->j);
	return rc;
}

static int list_locked(struct fs *fs, uint64_t ino, uint8_t *buf, size_t room, size_t *total)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	key_xattr(&k, ino, "", 0);
	it = view_seek(fs->j, &k, 9);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		size_t n = klen - 9;

		if (room && *total + n + 1 > room) {
			rc = -ERANGE;
			break;
		}
		if (room) {
			memcpy(buf + *total, key + 9, n);
			buf[*total + n] = 0;
		}
		*total += n + 1;
	}
	view_end(it);
	return rc;
}

static int list_add(uint8_t *buf, size_t room, size_t *total, const char *name)
{
	size_t n = strlen(name) + 1;

	if (room && *total + n > room)
		return -ERANGE;
	if (room)
		memcpy(buf + *total, name, n);
	*total += n;
	return 0;
}

int fs_listxattr(struct fs *fs, uint64_t ino, void *buf, size_t *len, struct fs_need *need)
{
	struct inode_val v;
	size_t total = 0;
	int rc;

	journal_lock(fs->j);
	rc = xattr_inode(fs, ino, &v, need);
	if (!rc)
		rc = list_locked(fs, ino, buf, *len, &total);
	if (!rc && fs->cfg.acl && v.attr.access_acl)
		rc = list_add(buf, *len, &total, ACL_XATTR_ACCESS);
	if (!rc && fs->cfg.acl && v.attr.default_acl)
		rc = list_add(buf, *len, &total, ACL_XATTR_DEFAULT);
	journal_unlock(fs->j);
	if (!rc)
		*len = total;
	return rc;
}

/* val NULL: remove. */
static int change_locked(struct fs *fs, const struct fs_cred *c, uint64_t ino, const struct jkey *k, const void *val,
	size_t len, int flags, uint64_t *seq, struct fs_need *need)
{
	struct inode_val v;
	const void *old;
	struct fs_op op;
	size_t old_len;
	int rc = xattr_inode(fs, ino, &v, need);

	(void)c;
	if (rc)
		return rc;
	if (fs->cfg.read_only)
		return -EROFS;
	if (v.attr.flags & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND))
		return -EPERM;
	rc = view_get(fs->j, k, &old, &old_len);
	if (rc && rc != -ENOENT)
		return rc;
	if (rc == 0 && (flags & XATTR_CREATE))
		return -EEXIST;
	if (rc == -ENOENT && (!val || (flags & XATTR_REPLACE)))
		return -ENODATA;
	fs_op_begin_on(&op, fs, ino, &v, val ? OP_SETXATTR : OP_REMOVEXATTR);
	v.lflags &= (uint8_t)~IL_PLAIN;
	if (val)
		rec_put(op.r, k, val, len, 0);
	else
		rec_del(op.r, k, 0);
	fs_op_touch(&op, &v, FS_CTIME);
	fs_op_put(&op, ino, &v, 0);
	return fs_op_commit(&op, seq);
}

int fs_setxattr(struct fs *fs, const struct fs_cred *c, uint64_t ino, const char *name, size_t n, const void *val,
	size_t len, int flags, uint64_t *seq, struct fs_need *need)
{
	enum fs_acl_kind acl = fs_acl_kind(name, n);
	struct jkey k;
	int rc = acl ? 0 : xattr_name_check(name, n);

	if (rc)
		return rc;
	if (acl)
		return fs_acl_set(fs, c, ino, acl, val, len, flags, seq, need);
	if (len > XATTR_VALUE_LIMIT)
		return -ERANGE;
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	key_xattr(&k, ino, name, n);
	journal_lock(fs->j);
	rc = change_locked(fs, c, ino, &k, len ? val : "", len, flags, seq, need);
	journal_unlock(fs->j);
	return rc;
}

int fs_removexattr(struct fs *fs, const struct fs_cred *c, uint64_t ino, const char *name, size_t n, uint64_t *seq,
	struct fs_need *need)
{
	enum fs_acl_kind acl = fs_acl_kind(name, n);
	struct jkey k;
	int rc = acl ? 0 : xattr_name_check(name, n);

	if (rc)
		return rc;
	if (acl)
		return fs_acl_set(fs, c, ino, acl, NULL, 0, 0, seq, need);
	key_xattr(&k, ino, name, n);
	journal_lock(fs->j);
	rc = change_locked(fs, c, ino, &k, NULL, 0, 0, seq, need);
	journal_unlock(fs->j);
	return rc;
}
