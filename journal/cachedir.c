#include "journal/cachedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "util/boot.h"
#include "util/fault.h"
#include "util/log.h"

/* --- small file helpers --- */

/* Makes the entry of what was just made durable. Who may not read the parent (and so did not make it) cannot. */
static int parent_sync(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *p = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	int err = 0, fd = p ? open(p, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (!p)
		err = -ENOMEM;
	else if (fd < 0)
		err = errno == EACCES ? 0 : -errno;
	else if (fsync(fd))
		err = -errno;
	if (fd >= 0)
		close(fd);
	free(p);
	return err;
}

int mkdir_all(const char *path)
{
	char *p = strdup(path);
	int err = p ? 0 : -ENOMEM;

	for (char *s = p ? p + 1 : NULL; !err && s; s = s ? s + 1 : NULL) {
		s = strchr(s, '/');
		if (s)
			*s = 0;
		if (mkdir(p, 0700) == 0)
			err = parent_sync(p);
		else if (errno != EEXIST)
			err = -errno;
		if (s)
			*s = '/';
	}
	free(p);
	return err;
}

/* A short write is what comes before ENOSPC; the next one says so, or writes the rest. */
static int write_whole(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_replace(int dirfd, const char *name, const void *data, size_t len)
{
	char tmp[300];
	int err, fd;

	snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = write_whole(fd, data, len);
	if (!err && fsync(fd))
		err = -errno;
	close(fd);
	if (!err && renameat(dirfd, tmp, dirfd, name))
		err = -errno;
	if (!err && fsync(dirfd))
		err = -errno;
	if (err)
		unlinkat(dirfd, tmp, 0);
	return err;
}

/* Reads a short text file, without its last newline. Length or -errno. */
static ssize_t text_read(int dirfd, const char *name, char *buf, size_t size)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	buf[n < 0 ? 0 : n] = 0;
	if (n > 0 && buf[n - 1] == '\n')
		buf[--n] = 0;
	return n;
}

/* --- checks --- */

/* File systems that answer an fsync before the bytes are safe, lose them at a reboot, or belong to several hosts. */
static const char *fs_refused(int fd)
{
	static const struct {
		unsigned long magic;
		const char *name;
	} refused[] = {{TMPFS_MAGIC, "tmpfs"}, {0x858458f6, "ramfs"}, {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
		{BTRFS_SUPER_MAGIC, "btrfs"}, {0x2fc12fc1, "zfs"}, {0xca451a4e, "bcachefs"}, {NFS_SUPER_MAGIC, "nfs"},
		{0xff534d42, "cifs"}, {0xfe534d42, "smb2"}, {FUSE_SUPER_MAGIC, "fuse"}, {0x00c36400, "ceph"},
		{V9FS_MAGIC, "9p"}};
	struct statfs s;

	if (fstatfs(fd, &s))
		return "unknown";
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if ((unsigned long)s.f_type == refused[i].magic)
			return refused[i].name;
	return NULL;
}

static int check_owner(const char *path, int fd, struct errmsg *e)
{
	struct stat sb;

	if (fstat(fd, &sb))
		return errmsg_set(e, -errno, "%s: %s", path, strerror(errno));
	if (sb.st_uid != geteuid())
		return errmsg_set(e, -EPERM, "%s: the cache directory belongs to user %u, not to %u: use another one",
			path, sb.st_uid, geteuid());
	if (sb.st_mode & 077)
		return errmsg_set(e, -EPERM, "%s: the cache directory is open to other users: chmod 0700 it", path);
	return 0;
}

static int flock_file(int dirfd, const char *name, const char *path, int *out, struct errmsg *e)
{
	char pid[32];
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return errmsg_set(e, -errno, "%s/%s: %s", path, name, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int err = errno == EWOULDBLOCK ? -EBUSY : -errno;

		close(fd);
		if (err != -EBUSY)
			return errmsg_set(e, err, "%s/%s: %s", path, name, strerror(-err));
		if (text_read(dirfd, name, pid, sizeof(pid)) <= 0)
			strcpy(pid, "unknown");
		return errmsg_set(e, err, "%s: in use by process %s: unmount it first", path, pid);
	}
	int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n)
		log_debug("lock: cannot note the pid file=%s/%s", path, name); /* only for the message above */
	*out = fd;
	return 0;
}

/* --- identity --- */

static int id_make(char id[33])
{
	uint8_t r[16];

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	for (int i = 0; i < 16; i++)
		snprintf(id + 2 * i, 3, "%02x", r[i]);
	return 0;
}

static int check_identity(struct cachedir *c, const char *uuid, bool read_only, struct errmsg *e)
{
	char have[128];
	struct stat sb;
	ssize_t n = text_read(c->fd, "id", c->id, sizeof(c->id));
	int err;

	if (n == -ENOENT && !fstatat(c->fd, "base", &sb, 0))
		return errmsg_set(e, -EUCLEAN, "%s/id is missing although there is a journal: damaged, use jfs-recover", c->path);
	if (n == -ENOENT && read_only)
		return errmsg_set(e, -ENOENT, "%s: no journal here", c->path);
	if (n == -ENOENT) {
		c->fresh = true;
		err = id_make(c->id);
		if (!err)
			err = file_replace(c->fd, "id", c->id, 32);
		if (err)
			return errmsg_set(e, err, "%s/id: %s", c->path, strerror(-err));
		n = 32;
	}
	if (n != 32 || strspn(c->id, "0123456789abcdef") != 32)
		return errmsg_set(e, n < 0 ? (int)n : -EUCLEAN, "%s/id: not the id of a cache directory", c->path);
	n = text_read(c->fd, "uuid", have, sizeof(have));
	if (n == -ENOENT && uuid && !read_only) {
		err = file_replace(c->fd, "uuid", uuid, strlen(uuid));
		return err ? errmsg_set(e, err, "%s/uuid: %s", c->path, strerror(-err)) : 0;
	}
	if (n < 0)
		return errmsg_set(e, (int)n, "%s/uuid: %s", c->path, strerror((int)-n));
	if (uuid && strcmp(have, uuid) != 0)
		return errmsg_set(e, -ESTALE, "%s: holds the journal of volume %s, not of %s: use another cache directory",
			c->path, have, uuid);
	return 0;
}

/* The inode number and birth time survive a rename and a remount, not a copy. */
static int home_mark(struct cachedir *c, char mark[64])
{
	char machine[64] = "";
	struct statx sx;

	if (statx(c->fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &sx))
		return -errno;
	if (!(sx.stx_mask & STATX_BTIME))
		memset(&sx.stx_btime, 0, sizeof(sx.stx_btime));
	snprintf(mark, 64, "%llx.%llx.%x", (unsigned long long)sx.stx_ino, (unsigned long long)sx.stx_btime.tv_sec,
		sx.stx_btime.tv_nsec);
	if (text_read(AT_FDCWD, "/etc/machine-id", machine, sizeof(machine)) < 0)
		machine[0] = 0;
	snprintf(c->home, sizeof(c->home), "%.40s %.63s", machine, mark);
	return 0;
}

int cachedir_open(struct cachedir *c, const char *path, const char *uuid, bool allow_any_fs, bool read_only, struct errmsg *e)
{
	const char *fs;
	char mark[64];
	int err;

	*c = (struct cachedir){.fd = -1, .lock_fd = -1, .hot_lock_fd = -1};
	c->path = strdup(path);
	if (!c->path)
		return errmsg_set(e, -ENOMEM, "%s: out of memory", path);
	if (!read_only && (err = mkdir_all(path)) != 0) {
		errmsg_set(e, err, "%s: cannot make the cache directory: %s", path, strerror(-err));
		goto fail;
	}
	c->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->fd < 0) {
		err = errmsg_set(e, -errno, "%s: %s", path, strerror(errno));
		goto fail;
	}
	fs = allow_any_fs ? NULL : fs_refused(c->fd);
	if (fs) {
		err = errmsg_set(e, -ENOTSUP, "%s: a cache directory on %s could lose what was synced: use ext4 or xfs", path, fs);
		goto fail;
	}
	err = check_owner(path, c->fd, e);
	if (!err && !read_only)
		err = flock_file(c->fd, "lock", path, &c->lock_fd, e);
	if (!err)
		err = check_identity(c, uuid, read_only, e);
	if (!err && (err = home_mark(c, mark)) != 0)
		errmsg_set(e, err, "%s: %s", path, strerror(-err));
	if (!err)
		return 0;
fail:
	cachedir_close(c);
	return err;
}

void cachedir_close(struct cachedir *c)
{
	for (int i = 0; i < 3; i++) {
		int *fd = i == 0 ? &c->fd : i == 1 ? &c->hot_lock_fd : &c->lock_fd;

		if (c->path && *fd >= 0)
			close(*fd);
		*fd = -1;
	}
	free(c->path);
	free(c->hot);
	c->path = c->hot = NULL;
}

/* --- the hot directory --- */

static bool is_tmpfs(const char *path)
{
	struct statfs s;

	return statfs(path, &s) == 0 && s.f_type == TMPFS_MAGIC;
}

/* A directory of hot logs: two levels, files only at the bottom. */
static void hot_tree_remove(int dirfd, const char *name, int depth)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, de->d_name, 0) && depth > 0)
			hot_tree_remove(fd, de->d_name, depth - 1);
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) && errno != ENOENT)
		log_warn("hot: cannot remove a directory of another boot name=%s err=\"%s\"", name, strerror(errno));
}

static bool other_boots_remove(int dirfd, const char *boot)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	bool found = false;

	while (d && (de = readdir(d))) {
		if (de->d_name[0] == '.' || strcmp(de->d_name, boot) == 0 || strcmp(de->d_name, "lock") == 0)
			continue;
		hot_tree_remove(dirfd, de->d_name, 1);
		found = true;
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	return found;
}

static const char *default_root(void)
{
	return is_tmpfs("/run") ? "/run/jfs" : is_tmpfs("/dev/shm") ? "/dev/shm/jfs" : NULL;
}

int cachedir_hot_find(struct cachedir *c, const char *root, struct errmsg *e)
{
	char mark[64], boot[BOOT_ID_LEN + 1], noted[4096];
	struct stat sb;
	int err = boot_id_read(boot, e);

	if (err)
		return err;
	if (!root && text_read(c->fd, "hotdir", noted, sizeof(noted)) > 0)
		root = noted;
	if (!root)
		root = default_root();
	if (!root)
		return errmsg_set(e, -ENOENT, "neither /run nor /dev/shm is a tmpfs");
	err = home_mark(c, mark);
	if (!err && asprintf(&c->hot, "%s/%s-%s/%s", root, c->id, mark, boot) < 0)
		c->hot = NULL, err = -ENOMEM;
	if (!err && stat(c->hot, &sb))
		err = -errno;
	return err ? errmsg_set(e, err, "%s: %s", c->hot ? c->hot : root, strerror(-err)) : 0;
}

/* Before anything is acknowledged: what a kill leaves there must be found. */
static int note_root(struct cachedir *c, const char *root)
{
	char noted[4096], full[PATH_MAX];

	if (!realpath(root, full))
		return -errno;
	if (text_read(c->fd, "hotdir", noted, sizeof(noted)) > 0 && strcmp(noted, full) == 0)
		return 0;
	return file_replace(c->fd, "hotdir", full, strlen(full));
}

/* A killed process has left hot logs of this boot below `noted`: they hold acknowledged records, so no other place will do
 * until they have been recovered (a clean end removes them). NULL for root: 1 and they are to be used. 0, -EXDEV. */
static int noted_logs(struct cachedir *c, const char *root, const char *mark, const char *boot, char noted[4096],
	struct errmsg *e)
{
	char logs[PATH_MAX], full[PATH_MAX];
	struct stat sb;

	if (text_read(c->fd, "hotdir", noted, 4096) <= 0 ||
		snprintf(logs, sizeof(logs), "%s/%s-%s/%s", noted, c->id, mark, boot) >= (int)sizeof(logs) || stat(logs, &sb))
		return 0;
	if (!root)
		return 1;
	if (realpath(root, full) && strcmp(full, noted) == 0)
		return 0;
	return errmsg_set(e, -EXDEV, "%s: its hot log lies in %s: use --hot-dir=%s until the next clean unmount", c->path, noted, noted);
}

int cachedir_hold(struct cachedir *c, struct errmsg *e)
{
	return flock_file(c->fd, "lock", c->path, &c->lock_fd, e);
}

int cachedir_hot(struct cachedir *c, const char *root, bool *other_boot, struct errmsg *e)
{
	char mark[64], boot[BOOT_ID_LEN + 1], noted[4096], *top = NULL;
	int err = boot_id_read(boot, e), fd = -1;

	if (err)
		return err;
	err = home_mark(c, mark);
	if (err)
		return errmsg_set(e, err, "%s: %s", c->path, strerror(-err));
	err = noted_logs(c, root, mark, boot, noted, e);
	if (err < 0)
		return err;
	root = err == 1 ? noted : root ? root : default_root();
	if (!root)
		return errmsg_set(e, -ENOTSUP, "neither /run nor /dev/shm is a tmpfs: give --hot-dir a directory on one");
	err = 0;
	if (asprintf(&top, "%s/%s-%s", root, c->id, mark) < 0)
		top = NULL, err = -ENOMEM;
	if (!err && asprintf(&c->hot, "%s/%s", top, boot) < 0)
		c->hot = NULL, err = -ENOMEM;
	if (!err)
		err = mkdir_all(c->hot);
	if (err) {
		errmsg_set(e, err, "%s: cannot make the hot directory: %s", root, strerror(-err));
		goto out;
	}
	if (!is_tmpfs(c->hot)) {
		err = errmsg_set(e, -ENOTSUP, "%s: not on a tmpfs: give --hot-dir a directory on one", root);
		goto out;
	}
	fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		err = errmsg_set(e, -errno, "%s: %s", top, strerror(errno));
		goto out;
	}
	err = flock_file(fd, "lock", top, &c->hot_lock_fd, e);
	if (!err)
		*other_boot = other_boots_remove(fd, boot);
	if (!err && (err = note_root(c, root)) != 0)
		errmsg_set(e, err, "%s/hotdir: %s", c->path, strerror(-err));
out:
	if (fd >= 0)
		close(fd);
	free(top);
	return err;
}

void cachedir_hot_remove(struct cachedir *c)
{
	char *slash = strrchr(c->hot, '/'), *lock = NULL;

	if (rmdir(c->hot))
		log_warn("hot: cannot remove dir=%s err=\"%s\"", c->hot, strerror(errno));
	*slash = 0; /* CACHE/lock keeps everybody else out of it */
	if (asprintf(&lock, "%s/lock", c->hot) >= 0 && (unlink(lock) || rmdir(c->hot)))
		log_debug("hot: something is left in dir=%s", c->hot);
	*slash = '/';
	free(lock);
}

/* --- the reserve --- */

uint64_t cachedir_room(const struct cachedir *c)
{
	struct statfs s;

	return fstatfs(c->fd, &s) ? 0 : (uint64_t)s.f_bavail * (uint64_t)s.f_bsize;
}

void cachedir_reserve_make(struct cachedir *c, size_t size)
{
	struct stat sb;
	int fd;

	c->reserve_size = size;
	/* One that an earlier process made serves, whatever room there is now. */
	c->reserve_gone = fstatat(c->fd, "reserve", &sb, AT_SYMLINK_NOFOLLOW) || !S_ISREG(sb.st_mode) ||
			  (uint64_t)sb.st_blocks * 512 < size;
	if (!c->reserve_gone)
		return;
	if (cachedir_room(c) < 2 * (uint64_t)size)
		return;
	fd = openat(c->fd, "reserve", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	c->reserve_gone = fallocate(fd, 0, 0, (off_t)size) != 0;
	if (c->reserve_gone && ftruncate(fd, 0))
		log_debug("reserve: cannot be emptied");
	close(fd);
}

bool cachedir_reserve_give(struct cachedir *c)
{
	if (c->reserve_gone || unlinkat(c->fd, "reserve", 0))
		return false;
	c->reserve_gone = true;
	return true;
}

int cachedir_setaside(struct cachedir *c, const char *name, const void *data, size_t len)
{
	int err = 0, fd;

	if (mkdirat(c->fd, "setaside", 0700) && errno != EEXIST)
		return -errno;
	fd = openat(c->fd, "setaside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = file_replace(fd, name, data, len);
	if (!err && fsync(c->fd))
		err = -errno;
	close(fd);
	return err;
}
