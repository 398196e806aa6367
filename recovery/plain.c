#include "recovery/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct timespec plain_mtime(const struct jfs_attr *a)
{
	return (struct timespec){.tv_sec = a->mtime, .tv_nsec = a->mtime_nsec};
}

static void times_of(const struct jfs_attr *a, struct timespec times[2])
{
	times[0] = (struct timespec){.tv_sec = a->atime, .tv_nsec = a->atime_nsec};
	times[1] = plain_mtime(a);
}

int plain_owner(int fd, const struct jfs_attr *a)
{
	return fchown(fd, a->uid, a->gid) && errno != EPERM ? -errno : 0;
}

int plain_attributes(int fd, const struct jfs_attr *a)
{
	struct timespec times[2];

	times_of(a, times);
	if (fchmod(fd, a->mode) && errno != EPERM)
		return -errno;
	return futimens(fd, times) ? -errno : 0;
}

/* --- extended attributes and ACLs --- */

struct putting {
	int fd;
	bool set, *changed;
};

static int put(const struct putting *p, const char *name, const void *val, size_t len)
{
	char have[XATTR_SIZE_MAX];
	ssize_t n = fgetxattr(p->fd, name, have, sizeof(have));

	if (n >= 0 && (size_t)n == len && memcmp(have, val, len) == 0)
		return 0;
	if (p->changed)
		*p->changed = true;
	if (p->set && fsetxattr(p->fd, name, val, len, 0) && errno != ENOTSUP && errno != EPERM && errno != EACCES)
		return -errno;
	return 0;
}

/* Names are read under the journal's lock, values one by one without it: the file system that they go to may wait. */
static int names_of(struct journal *j, uint64_t ino, struct buf *names)
{
	const uint8_t *key, *val;
	size_t klen, vlen;
	struct view_iter *it;
	struct jkey k;
	int rc;

	key_xattr(&k, ino, "", 0);
	journal_lock(j);
	it = view_seek(j, &k, 9);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rc = 0;
		buf_put(names, key + 9, klen - 9);
		buf_put(names, "", 1);
	}
	if (it)
		view_end(it);
	journal_unlock(j);
	return rc ? rc : names->err;
}

static int put_named(const struct putting *p, struct journal *j, uint64_t ino, const char *name)
{
	char copy[XATTR_SIZE_MAX];
	const void *val;
	struct jkey k;
	size_t n = 0;
	int rc;

	key_xattr(&k, ino, name, strlen(name));
	journal_lock(j);
	rc = view_get(j, &k, &val, &n);
	if (!rc && n > sizeof(copy))
		rc = -EUCLEAN;
	if (!rc)
		memcpy(copy, val, n);
	journal_unlock(j);
	return rc ? rc : put(p, name, copy, n);
}

static int put_acls(const struct putting *p, struct fs *fs, uint64_t ino, struct report *r, const char *path)
{
	static const char *const names[] = {"system.posix_acl_access", "system.posix_acl_default"};
	int rc = 0;

	for (size_t i = 0; i < 2 && !rc; i++) {
		uint8_t acl[ACL_XATTR_MAX];
		size_t n = sizeof(acl);
		struct fs_need need;

		rc = fs_getxattr(fs, ino, names[i], strlen(names[i]), acl, &n, &need);
		if (rc > 0)
			rc = report_broken(r, path, "its ACL is only in Redis");
		else if (!rc)
			rc = put(p, names[i], acl, n);
		else if (rc == -ENODATA || rc == -EOPNOTSUPP)
			rc = 0;
	}
	return rc;
}

int plain_xattrs(struct fs *fs, int fd, uint64_t ino, bool set, bool *changed, struct report *r, const char *path)
{
	const struct putting p = {.fd = fd, .set = set, .changed = changed};
	struct buf names;
	int rc;

	buf_init(&names, 0);
	rc = names_of(fs_journal(fs), ino, &names);
	for (size_t at = 0; at < names.len && !rc; at += strlen((char *)names.data + at) + 1)
		rc = put_named(&p, fs_journal(fs), ino, (char *)names.data + at);
	buf_fini(&names);
	return rc ? rc : put_acls(&p, fs, ino, r, path);
}

int plain_xattrs_drop(struct fs *fs, int fd, uint64_t ino, bool set, bool *changed)
{
	char names[XATTR_LIST_MAX];
	ssize_t n = flistxattr(fd, names, sizeof(names));
	struct fs_need need;
	size_t room = 0;
	int rc = fs_listxattr(fs, ino, NULL, &room, &need);

	if (n < 0 || rc)
		return n < 0 ? (errno == ENOTSUP ? 0 : -errno) : rc < 0 ? rc : 0;
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
		room = 0;
		rc = fs_getxattr(fs, ino, names + at, strlen(names + at), NULL, &room, &need);
		if (rc != -ENODATA)
			continue;
		*changed = true;
		if (set && fremovexattr(fd, names + at) && errno != ENODATA)
			return -errno;
	}
	return 0;
}

/* --- symbolic links and special files --- */

int plain_target(struct fs *fs, uint64_t ino, char target[JFS_SYMLINK_MAX + 1])
{
	size_t n = JFS_SYMLINK_MAX;
	struct fs_need need;
	int rc = fs_readlink(fs, ino, target, &n, &need);

	if (!rc)
		target[n] = '\0';
	return rc > 0 ? -ENODATA : rc;
}

int plain_node(struct fs *fs, int dir, const char *name, uint64_t ino, const struct jfs_attr *a)
{
	static const mode_t kinds[] = {[JFS_FIFO] = S_IFIFO, [JFS_BLOCKDEV] = S_IFBLK, [JFS_CHARDEV] = S_IFCHR, [JFS_SOCKET] = S_IFSOCK};
	char target[JFS_SYMLINK_MAX + 1];
	struct timespec times[2];
	int rc = 0;

	if (a->type == JFS_SYMLINK)
		rc = plain_target(fs, ino, target);
	if (rc)
		return rc;
	rc = a->type == JFS_SYMLINK ? symlinkat(target, dir, name) : mknodat(dir, name, kinds[a->type] | (a->mode & 07777), a->rdev);
	if (rc || (fchownat(dir, name, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) && errno != EPERM))
		return -errno;
	/* The mask of this process took bits away. */
	if (a->type != JFS_SYMLINK && fchmodat(dir, name, a->mode & 07777, 0) && errno != EPERM)
		return -errno;
	times_of(a, times);
	return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}
