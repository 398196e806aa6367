/* See mountpoint.h. */
#include "daemon/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/mountinfo.h"
#include "util/clock.h"

static bool is_dead(int err)
{
	/* ECANCELED: the daemon's ring was just being taken down. */
	return err == ENOTCONN || err == ECONNABORTED || err == ECANCELED || err == EIO || err == ESHUTDOWN;
}

static int is_empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;
	int empty = 1;

	if (!d)
		return -errno;
	while (empty && (de = readdir(d)) != NULL)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			empty = 0;
	closedir(d);
	return empty;
}

/* stat, but asking the file system itself: the kernel remembers attributes of a dead mount for ever. */
static int ask(const char *path, struct statx *st)
{
	return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, st);
}

/* Detaches dead mounts of ours, however many lie on top of each other. */
static int detach_dead(const char *path, struct statx *st, struct errmsg *e)
{
	struct mount_entry m;

	while (ask(path, st) != 0) {
		int err = errno;

		if (err == ENOENT)
			return errmsg_set(e, -err, "mount point %s does not exist: make it with mkdir", path);
		if (!is_dead(err) || mountinfo_find(path, &m) != 1 || strcmp(m.type, "fuse.jfs") != 0)
			return errmsg_set(e, -err, "mount point %s cannot be used: %s", path, strerror(err));
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
			return errmsg_set(e, -errno, "mount point %s is dead and cannot be detached: %s", path,
				strerror(errno));
	}
	return 0;
}

int mountpoint_prepare(const char *path, bool any, char out[PATH_MAX], struct errmsg *e)
{
	char full[PATH_MAX];
	struct mount_entry m;
	struct statx st;
	int r = mountinfo_resolve(path, full);

	if (r)
		return errmsg_set(e, r, "mount point %s cannot be used: %s", path, strerror(-r));
	r = detach_dead(full, &st, e);
	if (r)
		return r;
	/* The last component may be a symbolic link. */
	if (!realpath(full, out))
		return errmsg_set(e, -errno, "mount point %s cannot be used: %s", path, strerror(errno));
	r = detach_dead(out, &st, e);
	if (r)
		return r;
	if (!S_ISDIR(st.stx_mode))
		return errmsg_set(e, -ENOTDIR, "mount point %s is not a directory", out);
	if (mountinfo_find(out, &m) == 1 && strncmp(m.type, "fuse", 4) == 0)
		return errmsg_set(e, -EBUSY, "mount point %s is busy: %s is mounted there; unmount it first", out, m.source);
	r = any ? 1 : is_empty(out);
	if (r < 0)
		return errmsg_set(e, r, "mount point %s cannot be read: %s", out, strerror(-r));
	if (r == 0)
		return errmsg_set(e, -ENOTEMPTY, "mount point %s is not empty: use an empty directory, or --force", out);
	return 0;
}

int mountpoint_answers(const char *path, struct errmsg *e)
{
	struct statx st;

	if (ask(path, &st) != 0)
		return errmsg_set(e, -errno, "mounted on %s, but it does not answer: %s", path, strerror(errno));
	if (st.stx_ino != 1)
		return errmsg_set(e, -EIO, "nothing is mounted on %s any more: see the log", path);
	return 0;
}

int mountpoint_find(const char *path, char point[PATH_MAX], struct errmsg *e)
{
	struct mount_entry m;
	int r = mountinfo_resolve(path, point);

	if (r)
		return errmsg_set(e, r, "%s: %s", path, strerror(-r));
	r = mountinfo_find(point, &m);
	if (r == 0 && realpath(path, point))
		r = mountinfo_find(point, &m);
	if (r < 0)
		return errmsg_set(e, r, "cannot read the mount table: %s", strerror(-r));
	if (r == 0)
		return errmsg_set(e, -EINVAL, "nothing is mounted on %s", path);
	if (strcmp(m.type, "fuse.jfs") != 0)
		return errmsg_set(e, -EINVAL, "%s is a mount of type %s, not of ours", path, m.type);
	return 0;
}

pid_t mountpoint_daemon(const char *point)
{
	char path[PATH_MAX];
	json_error_t je;
	json_t *root;
	pid_t pid;

	if (snprintf(path, sizeof(path), "%s/.config", point) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	root = json_load_file(path, 0, &je);
	if (!root)
		return -ENODATA;
	pid = (pid_t)json_integer_value(json_object_get(root, "Pid"));
	json_decref(root);
	return pid > 0 ? pid : -ENODATA;
}

int process_wait(pid_t pid, int ms)
{
	uint64_t end = clock_mono_ms() + (uint64_t)(ms < 0 ? 0 : ms);
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = 0;

	if (fd < 0)
		return errno == ESRCH ? 0 : -errno;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		int left = ms < 0 ? -1 : now >= end ? 0 : (int)(end - now);
		int n = poll(&p, 1, left);

		if (n > 0)
			break;
		if (n == 0) {
			r = -ETIMEDOUT;
			break;
		}
		if (errno != EINTR) {
			r = -errno;
			break;
		}
	}
	close(fd);
	return r;
}
