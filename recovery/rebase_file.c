#include "recovery/rebase_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recovery/plain.h"
#include "util/fault.h"
#include "util/fileio.h"

uint8_t rebase_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return JFS_FILE;
	case S_IFDIR:
		return JFS_DIR;
	case S_IFLNK:
		return JFS_SYMLINK;
	case S_IFIFO:
		return JFS_FIFO;
	case S_IFBLK:
		return JFS_BLOCKDEV;
	case S_IFCHR:
		return JFS_CHARDEV;
	case S_IFSOCK:
		return JFS_SOCKET;
	}
	return 0;
}

bool rebase_alike(const struct stat *st, const struct jfs_attr *a)
{
	return (st->st_mode & 07777) == (a->mode & 07777u) && st->st_uid == a->uid && st->st_gid == a->gid &&
	       st->st_mtim.tv_sec == a->mtime && st->st_mtim.tv_nsec == (long)a->mtime_nsec;
}

/* --- comparing --- */

struct comparing {
	int fd;
	uint8_t *buf; /* LOCAL_BYTES_PART */
};

static int read_part(int fd, uint8_t *buf, size_t n, uint64_t off)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = pread(fd, buf + done, n - done, (off_t)(off + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EIO)
			return 1; /* its bytes are lost: the store has no such object any more */
		if (r < 0)
			return -errno;
		if (r == 0)
			return 1; /* shorter than its size was */
		done += (size_t)r;
	}
	return 0;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* 1: they differ. */
static int compare_part(void *arg, uint64_t off, const uint8_t *data, size_t n)
{
	struct comparing *c = arg;
	int rc = 0;

	for (size_t at = 0; at < n && !rc;) {
		size_t len = n - at < LOCAL_BYTES_PART ? n - at : LOCAL_BYTES_PART;

		rc = read_part(c->fd, c->buf, len, off + at);
		if (!rc)
			rc = data ? memcmp(c->buf, data + at, len) != 0 : !all_zero(c->buf, len);
		at += len;
	}
	return rc;
}

static int compare_bytes(struct local_bytes *b, int dir, const char *name, uint64_t ino, uint64_t length, struct errmsg *why)
{
	struct comparing c = {.fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), .buf = malloc(LOCAL_BYTES_PART)};
	int rc = c.fd < 0 ? -errno : c.buf ? 0 : -ENOMEM;

	if (!rc)
		rc = local_bytes_read(b, ino, length, compare_part, &c, why);
	if (c.fd >= 0)
		close(c.fd);
	free(c.buf);
	return rc < 0 ? rc : rc ? SAME_NO : SAME_YES;
}

static int compare_xattrs(struct fs *fs, int dir, const char *name, uint64_t ino, struct report *r, const char *path)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc;
	bool changed = false;

	if (fd < 0)
		return -errno;
	rc = plain_xattrs(fs, fd, ino, false, &changed, r, path);
	if (!rc)
		rc = plain_xattrs_drop(fs, fd, ino, false, &changed);
	close(fd);
	return rc ? rc : changed ? SAME_BYTES : SAME_YES;
}

static int compare_target(struct fs *fs, int dir, const char *name, uint64_t ino)
{
	char ours[JFS_SYMLINK_MAX + 1], theirs[JFS_SYMLINK_MAX + 1];
	ssize_t n = readlinkat(dir, name, theirs, sizeof(theirs));
	int rc = n < 0 ? -errno : plain_target(fs, ino, ours);

	if (rc == -ENODATA) /* never read here, so never made here */
		return SAME_YES;
	return rc ? rc : (size_t)n == strlen(ours) && memcmp(ours, theirs, (size_t)n) == 0 ? SAME_YES : SAME_NO;
}

int rebase_compare(struct local_bytes *b, int dir, const char *name, const struct stat *st, uint64_t ino, const struct jfs_attr *a,
	struct report *r, const char *path, struct errmsg *why)
{
	bool same_inode = st->st_ino == ino, alike = rebase_alike(st, a);
	int rc = SAME_YES;

	if (a->type == JFS_FILE && (uint64_t)st->st_size != a->length)
		return SAME_NO;
	if (same_inode && alike && st->st_ctim.tv_sec == a->ctime && st->st_ctim.tv_nsec == (long)a->ctime_nsec)
		return SAME_YES;
	if (a->type == JFS_FILE) {
		rc = compare_bytes(b, dir, name, ino, a->length, why);
		if (rc == -ENODATA && same_inode && alike) /* nobody here has read or written it */
			rc = SAME_YES;
		if (rc == SAME_YES)
			rc = compare_xattrs(b->fs, dir, name, ino, r, path);
	} else if (a->type == JFS_SYMLINK) {
		rc = compare_target(b->fs, dir, name, ino);
	} else if (st->st_rdev != a->rdev) {
		rc = SAME_NO;
	}
	return rc == SAME_YES && !alike ? (a->type == JFS_FILE ? SAME_BYTES : SAME_NO) : rc;
}

/* --- making --- */

static int write_part(void *arg, uint64_t off, const uint8_t *data, size_t n)
{
	return data ? file_write_at(*(int *)arg, data, n, (off_t)off) : 0;
}

int rebase_attributes(struct fs *fs, int dir, const char *name, uint64_t ino, const struct jfs_attr *a, struct report *r, const char *path)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc;
	bool changed;

	if (fd < 0)
		return -errno;
	rc = plain_owner(fd, a);
	if (!rc)
		rc = plain_xattrs(fs, fd, ino, true, NULL, r, path);
	if (!rc)
		rc = plain_xattrs_drop(fs, fd, ino, true, &changed);
	if (!rc)
		rc = plain_attributes(fd, a);
	close(fd);
	return rc;
}

static int make_file(struct local_bytes *b, int dir, uint64_t ino, const struct jfs_attr *a, struct report *r, const char *path,
	struct errmsg *why)
{
	int fd = openat(dir, REBASE_TEMPORARY, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)a->length))
		rc = -errno;
	if (!rc)
		rc = local_bytes_read(b, ino, a->length, write_part, &fd, why);
	if (!rc)
		rc = plain_owner(fd, a);
	if (!rc)
		rc = plain_xattrs(b->fs, fd, ino, true, NULL, r, path);
	if (!rc)
		rc = plain_attributes(fd, a);
	if (close(fd) && !rc)
		rc = -errno;
	return rc;
}

int rebase_make(struct local_bytes *b, int dir, const char *name, uint64_t ino, const struct jfs_attr *a, uint64_t *bytes,
	struct report *r, const char *path, struct errmsg *why)
{
	int rc;

	if (unlinkat(dir, REBASE_TEMPORARY, 0) && errno != ENOENT)
		return -errno;
	rc = a->type == JFS_FILE ? make_file(b, dir, ino, a, r, path, why) : plain_node(b->fs, dir, REBASE_TEMPORARY, ino, a);
	if (rc == -ENODATA && a->type == JFS_SYMLINK)
		errmsg_set(why, rc, "its target is only in Redis");
	FAULT_POINT("recover.rebase.before_rename");
	if (!rc && renameat(dir, REBASE_TEMPORARY, dir, name))
		rc = -errno;
	if (rc)
		unlinkat(dir, REBASE_TEMPORARY, 0);
	else
		*bytes += a->type == JFS_FILE ? a->length : 0;
	return rc;
}
