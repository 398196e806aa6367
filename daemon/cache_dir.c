/* See cache_dir.h. */
#include "daemon/cache_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/mountinfo.h"
#include "daemon/mountpoint.h"
#include "util/log.h"

enum { WAIT_MS = 120000 };

static int make_parents(const char *path)
{
	char copy[PATH_MAX];

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	strcpy(copy, path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, 0755) && errno != EEXIST ? -errno : 0;
}

int cache_dir_make(const char *list, const char *uuid, bool view, char **out, struct errmsg *e)
{
	char dir[PATH_MAX], full[PATH_MAX];
	const char *home = getenv("HOME");
	int r;

	if (list)
		snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(list, ":"), list);
	else if (geteuid() == 0 || !home)
		snprintf(dir, sizeof(dir), "/var/jfsCache");
	else
		snprintf(dir, sizeof(dir), "%s/.juicefs/cache", home);
	r = make_parents(dir);
	if (r)
		return errmsg_set(e, r, "cache directory %s cannot be made: %s", dir, strerror(-r));
	/* Absolute: the daemon leaves the working directory. */
	if (!realpath(dir, full))
		return errmsg_set(e, -errno, "cache directory %s cannot be used: %s", dir, strerror(errno));
	if (asprintf(out, "%s/%s%s", full, view ? "view/" : "", uuid) < 0) {
		*out = NULL;
		return errmsg_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

int cache_dir_unfinished(const char *cache, struct errmsg *e)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s" CACHE_REBASE_SUFFIX "/base", cache) >= (int)sizeof(path) || access(path, F_OK))
		return 0;
	return errmsg_set(e, -EBUSY, "jfs-recover rebase was cut off, and what only its journal knows is not in the volume yet: run it "
				     "again, or remove %s" CACHE_REBASE_SUFFIX " to give that up", cache);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) && errno != ENOENT ? -errno : 0;
}

int cache_dir_reset(const char *cache, struct errmsg *e)
{
	/* The identity goes last: with it there the rest, whole or not, is still a journal of this volume. */
	static const char *const parts[] = { "staging", "base", "id" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (snprintf(path, sizeof(path), "%s/%s", cache, parts[i]) >= (int)sizeof(path))
			return errmsg_set(e, -ENAMETOOLONG, "cache directory %s: path too long", cache);
		int r = nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

		if (r && !(r == -1 && errno == ENOENT))
			return errmsg_set(e, r == -1 ? -errno : r, "cannot delete %s: %s", path, strerror(r == -1 ? errno : -r));
	}
	return 0;
}

void cache_dir_note(const char *cache, const char *mountpoint)
{
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/mountpoint", cache) >= (int)sizeof(path))
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, mountpoint, strlen(mountpoint)) < 0)
		log_warn("event=mountpoint_note file=\"%s\" error=\"%s\"", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Text of CACHE/NAME, without the newline; "" if it cannot be read. */
static void read_text(const char *cache, const char *name, char *out, size_t size)
{
	char path[PATH_MAX];
	ssize_t n = -1;
	int fd = -1;

	if (snprintf(path, sizeof(path), "%s/%s", cache, name) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, size - 1);
		close(fd);
	}
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

int cache_dir_wait(const char *cache, struct errmsg *e)
{
	char pid_text[32], point[PATH_MAX];
	struct mount_entry m;
	pid_t pid;

	read_text(cache, "lock", pid_text, sizeof(pid_text));
	read_text(cache, "mountpoint", point, sizeof(point));
	pid = (pid_t)strtol(pid_text, NULL, 10);
	if (pid <= 1)
		return errmsg_set(e, -EBUSY, "cache directory %s is used by another process", cache);
	if (point[0] && mountinfo_find(point, &m) == 1 && strcmp(m.type, "fuse.jfs") == 0)
		return errmsg_set(e, -EBUSY, "cache directory %s is in use: the volume is mounted on %s (pid %d)", cache, point,
			(int)pid);
	log_info("event=wait_for_previous pid=%d cache=\"%s\"", (int)pid, cache);
	if (process_wait(pid, WAIT_MS))
		return errmsg_set(e, -ETIMEDOUT, "cache directory %s is in use: process %d does not end", cache, (int)pid);
	return 0;
}
