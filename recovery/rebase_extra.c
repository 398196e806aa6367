/* Names that only the volume has, in a directory that is known here completely: they were removed or renamed here, or somebody
 * made them since. What was renamed may have bytes that are nowhere else, so nothing is removed before all that is here was
 * brought, and nothing at all if that could not be done or the journal is damaged. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/virt.h"
#include "recovery/rebase_walk.h"

/* Calls fn for each name of the directory but "." and "..". */
static int for_each(struct walk *w, int dir, int (*fn)(struct walk *w, int dir, const char *name, const void *arg), const void *arg)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct names all = {0};
	struct dirent *de;

	if (!d) {
		rc = walk_fail(w, "open", errno);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (!rc && (errno = 0, de = readdir(d))) /* all of them first: fn may remove them */
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 && de->d_ino < VIRT_NODE_BASE)
			rc = names_add(&all, 0, de->d_name, strlen(de->d_name));
	if (!rc && errno)
		rc = walk_fail(w, "readdir", errno);
	closedir(d);
	for (size_t i = 0; i < all.v.n && !rc; i++) {
		const char *name = names_at(&all, i);
		size_t was;

		rc = walk_push(w, name, &was);
		if (!rc)
			rc = fn(w, dir, name, arg);
		walk_pop(w, was);
	}
	names_free(&all);
	return rc;
}

/* --- looking --- */

int extra_note(struct walk *w)
{
	struct removal *x = vec_add(&w->extra);

	if (!x)
		return -ENOMEM;
	x->known = w->known;
	x->path = strndup((const char *)w->path.data, w->path.len);
	return x->path ? 0 : -ENOMEM;
}

static int cmp_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct sorted {
	const char **v;
	size_t n;
};

static int look_at(struct walk *w, int dir, const char *name, const void *arg)
{
	const struct sorted *ours = arg;
	struct stat st;

	if (ours->n && bsearch(&name, ours->v, ours->n, sizeof(*ours->v), cmp_text))
		return 0;
	if (strcmp(name, REBASE_TEMPORARY) == 0)
		return w->c->apply && unlinkat(dir, name, 0) ? walk_fail(w, "cannot be removed", errno) : 0;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return walk_fail(w, "stat", errno);
	return walk_newer(w, &st, w->known) ? 0 : extra_note(w);
}

int extra_look(struct walk *w, int dir)
{
	const struct names *ours = w->ours, *beside = w->beside;
	struct sorted s = {.v = malloc((ours->v.n + beside->v.n + 1) * sizeof(*s.v))};
	int rc;

	if (!s.v)
		return -ENOMEM;
	for (size_t i = 0; i < ours->v.n; i++)
		s.v[s.n++] = names_at(ours, i);
	for (size_t i = 0; i < beside->v.n; i++)
		s.v[s.n++] = names_at(beside, i);
	qsort(s.v, s.n, sizeof(*s.v), cmp_text);
	rc = for_each(w, dir, look_at, &s);
	free(s.v);
	return rc;
}

/* --- removing --- */

static int remove_inside(struct walk *w, int dir, const char *name, const void *known);

/* What is not allowed stays, and with it the directories above. */
static int remove_old(struct walk *w, int dir, const char *name, const struct timespec *known)
{
	struct stat st;
	int fd, rc;

	walk_beat(w);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : walk_fail(w, "stat", errno);
	if (walk_newer(w, &st, *known)) /* a directory also when a name in it came or went */
		return 0;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dir, name, 0) && errno != EPERM ? walk_fail(w, "cannot be removed", errno) : 0;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return walk_fail(w, "open", errno);
	rc = for_each(w, fd, remove_inside, known);
	close(fd);
	/* Something newer in it keeps it. */
	return !rc && unlinkat(dir, name, AT_REMOVEDIR) && errno != ENOTEMPTY && errno != EPERM ? walk_fail(w, "cannot be removed", errno) : rc;
}

static int remove_inside(struct walk *w, int dir, const char *name, const void *known)
{
	return remove_old(w, dir, name, known);
}

static int remove_one(struct walk *w, const struct removal *x)
{
	const char *base;
	int dir = walk_open_parent(w, x->path, &base), rc;

	if (dir < 0)
		return walk_fail(w, "cannot be removed", -dir);
	rc = remove_old(w, dir, base, &x->known);
	close(dir);
	return rc;
}

int extra_end(struct walk *w)
{
	bool go = w->c->remove_others && w->r->broken.n == 0;
	int rc = 0;

	for (size_t i = 0; i < w->extra.n && !rc; i++) {
		const struct removal *x = &w->extra.v[i];

		buf_reset(&w->path);
		buf_put(&w->path, x->path, strlen(x->path));
		rc = w->path.err;
		if (!rc)
			rc = walk_tell(w, go ? "removed" : "kept");
		if (!rc && go && w->c->apply)
			rc = remove_one(w, x);
	}
	return rc;
}

void extra_free(struct walk *w)
{
	for (size_t i = 0; i < w->extra.n; i++)
		free(w->extra.v[i].path);
	vec_free(&w->extra);
}
