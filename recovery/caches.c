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

void cache_uuid(const char *cache, char out[64])
{
	char path[PATH_MAX];
	ssize_t n = -1;
	int fd = -1;

	if (snprintf(path, sizeof(path), "%s/uuid", cache) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, 63);
		close(fd);
	}
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
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

/* All journals one level below. */
static int search(const char *dir, const char *uuid, char **out, struct errmsg *e)
{
	char path[PATH_MAX], names[600] = "", found[PATH_MAX] = "";
	DIR *d = opendir(dir);
	struct dirent *de;
	unsigned all = 0, match = 0;

	if (!d)
		return errmsg_set(e, -errno, "%s: %s", dir, strerror(errno));
	while ((de = readdir(d))) {
		size_t used = strlen(names);

		if (de->d_name[0] == '.' || snprintf(path, sizeof(path), "%s/%s", dir, de->d_name) >= (int)sizeof(path) ||
			!is_journal(path))
			continue;
		all++;
		snprintf(names + used, sizeof(names) - used, " %s", de->d_name);
		if (!matches(path, uuid))
			continue;
		match++;
		strcpy(found, path);
	}
	closedir(d);
	if (match == 1)
		return take(out, found, e);
	if (all == 0)
		return errmsg_set(e, -ENOENT, "%s: no journal here, nor one level below", dir);
	if (match == 0)
		return errmsg_set(e, -EINVAL, "%s: no journal of volume %s; there is:%s", dir, uuid, names);
	return errmsg_set(e, -EINVAL, "%s: several journals, choose one with --uuid:%s", dir, names);
}

int cache_find(const char *dir, const char *uuid, char **out, struct errmsg *e)
{
	char first[PATH_MAX], full[PATH_MAX], have[64];

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(dir, ":"), dir);
	if (!realpath(first, full))
		return errmsg_set(e, -errno, "%s: %s", first, strerror(errno));
	if (!is_journal(full))
		return search(full, uuid, out, e);
	if (matches(full, uuid))
		return take(out, full, e);
	cache_uuid(full, have);
	return errmsg_set(e, -EINVAL, "%s: the journal of volume %s, not of %s", full, have, uuid);
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
		if (de->d_name[0] == '.')
			continue;
		n++;
		rc = fn(arg, de->d_name);
	}
	closedir(d);
	return rc ? rc : n;
}
