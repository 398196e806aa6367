#include "recovery/caches.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/cache_dir.h"

static void read_line(const char *cache, const char *name, char out[64])
{
	char path[PATH_MAX];
	ssize_t n = -1;
	int fd = -1;

	if (snprintf(path, sizeof(path), "%s/%s", cache, name) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, 63);
		close(fd);
	}
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

void cache_uuid(const char *cache, char out[64])
{
	read_line(cache, "uuid", out);
}

void cache_id(const char *cache, char out[64])
{
	read_line(cache, "id", out);
}

/* Base is what makes a journal: identity files may be damaged, and that is for the check to say. */
static bool is_journal(const char *dir)
{
	char path[PATH_MAX];
	struct stat sb;

	return snprintf(path, sizeof(path), "%s/base/data.mdb", dir) < (int)sizeof(path) && stat(path, &sb) == 0;
}

static bool matches(const char *cache, const char *uuid)
{
	char have[64];

	if (!uuid)
		return true;
	cache_uuid(cache, have);
	return strcmp(have, uuid) == 0;
}

static int take(char **out, const char *path, struct errmsg *e)
{
	*out = strdup(path);
	return *out ? 0 : errmsg_set(e, -ENOMEM, "out of memory");
}

/* The name without the suffix that a rebase under way gave it: true if it had that. */
static bool strip_begun(char *path)
{
	size_t n = strlen(path), suffix = strlen(CACHE_REBASE_SUFFIX);

	if (n <= suffix || strcmp(path + n - suffix, CACHE_REBASE_SUFFIX) != 0)
		return false;
	path[n - suffix] = '\0';
	return true;
}

struct search {
	const char *uuid;
	bool begun, cut_off; /* cut_off: one that a rebase has set aside is there */
	char names[600], found[PATH_MAX];
	unsigned all, match;
};

static void look_at(struct search *s, char *path)
{
	size_t used = strlen(s->names);
	bool right = matches(path, s->uuid), aside = strip_begun(path);

	s->cut_off |= aside;
	if ((aside && !s->begun) || strstr(path, ".rebased-") || strcmp(s->found, path) == 0)
		return;
	s->all++;
	snprintf(s->names + used, sizeof(s->names) - used, " %s", strrchr(path, '/') + 1);
	if (!right)
		return;
	s->match++;
	strcpy(s->found, path);
}

/* All journals one level below. */
static int search(const char *dir, struct search *s, char **out, struct errmsg *e)
{
	char path[PATH_MAX];
	DIR *d = opendir(dir);
	struct dirent *de;

	if (!d)
		return errmsg_set(e, -errno, "%s: %s", dir, strerror(errno));
	while ((de = readdir(d)))
		if (de->d_name[0] != '.' && snprintf(path, sizeof(path), "%s/%s", dir, de->d_name) < (int)sizeof(path) && is_journal(path))
			look_at(s, path);
	closedir(d);
	if (s->match == 1)
		return take(out, s->found, e);
	if (s->all == 0 && s->cut_off)
		return errmsg_set(e, -ENOENT, "%s: a rebase of the journal here was cut off: run jfs-recover rebase again", dir);
	if (s->all == 0)
		return errmsg_set(e, -ENOENT, "%s: no journal here, nor one level below", dir);
	if (s->match == 0)
		return errmsg_set(e, -EINVAL, "%s: no journal of volume %s; there is:%s", dir, s->uuid, s->names);
	return errmsg_set(e, -EINVAL, "%s: several journals, choose one with --uuid:%s", dir, s->names);
}

/* `path` names a journal, or what was one before a rebase set it aside: resolves it. */
static bool resolve(const char *path, bool begun, char full[PATH_MAX])
{
	char aside[PATH_MAX];

	if (realpath(path, full) && is_journal(full)) {
		if (begun)
			strip_begun(full);
		return true;
	}
	return begun && snprintf(aside, sizeof(aside), "%s" CACHE_REBASE_SUFFIX, path) < (int)sizeof(aside) && realpath(aside, full) &&
	       is_journal(full) && strip_begun(full);
}

int cache_find(const char *dir, const char *uuid, bool begun, char **out, struct errmsg *e)
{
	struct search s = {.uuid = uuid, .begun = begun};
	char first[PATH_MAX], full[PATH_MAX], have[64];
	size_t n = strcspn(dir, ":");

	while (n > 1 && dir[n - 1] == '/')
		n--;
	snprintf(first, sizeof(first), "%.*s", (int)n, dir);
	if (resolve(first, begun, full)) {
		if (matches(full, uuid) || !is_journal(full))
			return take(out, full, e);
		cache_uuid(full, have);
		return errmsg_set(e, -EINVAL, "%s: the journal of volume %s, not of %s", full, have, uuid);
	}
	if (!realpath(first, full))
		return errmsg_set(e, -errno, "%s: %s", first, strerror(errno));
	return search(full, &s, out, e);
}

int cache_setaside(const char *cache, int (*fn)(void *arg, const char *name), void *arg)
{
	char path[PATH_MAX];
	struct dirent *de;
	int n = 0, rc = 0;
	DIR *d;

	if (snprintf(path, sizeof(path), "%s/setaside", cache) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (!rc && (de = readdir(d))) {
		size_t len = strlen(de->d_name);

		if (len < 4 || strcmp(de->d_name + len - 4, ".rec") != 0) /* a kill may leave one that is half written */
			continue;
		n++;
		rc = fn(arg, de->d_name);
	}
	closedir(d);
	return rc ? rc : n;
}
