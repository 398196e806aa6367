/* See mountinfo.h. */
#include "daemon/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One blank-separated field; mountinfo writes blank, tab, newline and backslash as \ooo. */
static const char *field(const char *p, char *out, size_t size)
{
	size_t n = 0;

	while (*p == ' ')
		p++;
	for (; *p && *p != ' ' && *p != '\n'; p++) {
		char c = *p;

		if (c == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7') {
			c = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		}
		if (n + 1 < size)
			out[n++] = c;
	}
	if (size)
		out[n] = '\0';
	return p;
}

bool mountinfo_parse(const char *line, struct mount_entry *out)
{
	char skip[256], dev[64];
	const char *p = line, *sep = strstr(line, " - ");

	if (!sep)
		return false;
	p = field(p, skip, sizeof(skip)); /* id */
	p = field(p, skip, sizeof(skip)); /* parent */
	p = field(p, dev, sizeof(dev));
	p = field(p, skip, sizeof(skip)); /* root within the file system */
	field(p, out->point, sizeof(out->point));
	if (sscanf(dev, "%u:%u", &out->major, &out->minor) != 2)
		return false;
	p = field(sep + 3, out->type, sizeof(out->type));
	field(p, out->source, sizeof(out->source));
	return out->point[0] == '/' && out->type[0];
}

static bool is_inside(const char *path, const char *point)
{
	size_t n = strlen(point);

	if (strcmp(point, "/") == 0)
		return true;
	return strncmp(path, point, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int search(const char *path, bool exact, struct mount_entry *out)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct mount_entry *m = malloc(sizeof(*m));
	size_t best = 0, room = 0;
	char *line = NULL;
	int found = 0;

	if (!f || !m) {
		found = f ? -ENOMEM : -errno;
		goto out;
	}
	while (getline(&line, &room, f) >= 0) {
		if (!mountinfo_parse(line, m))
			continue;
		if (exact ? strcmp(m->point, path) != 0 : !is_inside(path, m->point))
			continue;
		/* Of two on the same point the later is on top. */
		if (exact || strlen(m->point) >= best) {
			best = strlen(m->point);
			*out = *m;
			found = 1;
		}
	}
out:
	free(line);
	free(m);
	if (f)
		fclose(f);
	return found;
}

int mountinfo_find(const char *path, struct mount_entry *out)
{
	return search(path, true, out);
}

int mountinfo_containing(const char *path, struct mount_entry *out)
{
	return search(path, false, out);
}

void mountinfo_readahead(const char *path, unsigned kb)
{
	struct mount_entry m;
	char name[128];
	FILE *f;

	if (mountinfo_find(path, &m) != 1)
		return;
	snprintf(name, sizeof(name), "/sys/class/bdi/%u:%u/read_ahead_kb", m.major, m.minor);
	f = fopen(name, "we");
	if (!f)
		return;
	fprintf(f, "%u", kb);
	fclose(f);
}

int mountinfo_resolve(const char *path, char out[PATH_MAX])
{
	char copy[PATH_MAX], dir[PATH_MAX];
	char *slash;
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n == 0 || n >= sizeof(copy))
		return n ? -ENAMETOOLONG : -ENOENT;
	memcpy(copy, path, n);
	copy[n] = '\0';
	slash = strrchr(copy, '/');
	const char *last = slash ? slash + 1 : copy;

	/* "." and ".." name what they stand for. */
	if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return realpath(copy, out) ? 0 : -errno;
	if (slash)
		*slash = '\0';
	if (!realpath(!slash ? "." : copy[0] ? copy : "/", dir))
		return -errno;
	if (snprintf(out, PATH_MAX, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, last) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}
