#include "recovery/rebase_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- where the walk is --- */

char *walk_shown(const struct walk *w)
{
	struct buf b;
	char *text;

	buf_init(&b, 0);
	buf_put(&b, "/", 1);
	for (size_t at = 0; at < w->path.len;) {
		const char *p = (const char *)w->path.data + at;
		size_t n = strnlen(p, w->path.len - at), part = 0;

		while (part < n && p[part] != '/')
			part++;
		text_escape(p, part, &b);
		if (part < n)
			buf_put(&b, "/", 1);
		at += part + 1;
	}
	text = b.err ? NULL : strdup(buf_cstr(&b));
	buf_fini(&b);
	return text;
}

int walk_push(struct walk *w, const char *name, size_t *was)
{
	*was = w->path.len;
	if (*was)
		buf_put(&w->path, "/", 1);
	buf_put(&w->path, name, strlen(name));
	return w->path.err;
}

void walk_pop(struct walk *w, size_t was)
{
	w->path.len = was;
}

int walk_fail(struct walk *w, const char *what, int err)
{
	char *path = walk_shown(w);
	int rc = errmsg_set(w->e, -err, "%s: %s: %s", path ? path : "?", what, strerror(err));

	free(path);
	return rc;
}

int walk_tell(struct walk *w, const char *what)
{
	char *path = walk_shown(w);
	int rc = path ? report_change(w->r, path, what) : -ENOMEM;

	free(path);
	return rc;
}

int walk_left_out(struct walk *w, const char *why)
{
	char *path = walk_shown(w);
	int rc = path ? report_broken(w->r, path, "not brought into the volume: %s", why) : -ENOMEM;

	free(path);
	return rc;
}

void walk_beat(const struct walk *w)
{
	if (w->c->beat >= 0)
		futimens(w->c->beat, NULL); /* unnoted, our changes look like somebody else's, which only keeps both */
}

/* --- names --- */

int names_add(struct names *n, uint64_t ino, const void *text, size_t len)
{
	struct name *name = vec_add(&n->v);

	if (!name)
		return -ENOMEM;
	*name = (struct name){.ino = ino, .at = n->text.len};
	buf_put(&n->text, text, len);
	buf_put(&n->text, "", 1);
	return n->text.err;
}

const char *names_at(const struct names *n, size_t i)
{
	return (const char *)n->text.data + n->v.v[i].at;
}

bool names_have(const struct names *n, const char *text)
{
	for (size_t i = 0; i < n->v.n; i++)
		if (strcmp(names_at(n, i), text) == 0)
			return true;
	return false;
}

void names_free(struct names *n)
{
	vec_free(&n->v);
	buf_fini(&n->text);
}

/* --- the view --- */

int walk_names_of(struct walk *w, uint64_t ino, struct names *out)
{
	const uint8_t *key, *val, *text;
	struct jkey from;
	struct view_iter *it;
	uint64_t parent, hash, child;
	size_t klen, vlen, n;
	uint8_t type;
	int rc;

	key_dentry_from(&from, ino, 0);
	journal_lock(w->s->j);
	it = view_seek(w->s->j, &from, 9);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rc = 0;
		if (key_parse_dentry(key, klen, &parent, &hash, &text, &n) == 0 && jfs_dentry_decode(val, vlen, &type, &child) == 0)
			rc = names_add(out, child, text, n); /* scan_walk has told of others */
	}
	if (it)
		view_end(it);
	journal_unlock(w->s->j);
	return rc;
}

int walk_inode(struct walk *w, uint64_t ino, struct inode_val *v)
{
	journal_lock(w->s->j);
	int rc = view_get_inode(w->s->j, ino, v);

	journal_unlock(w->s->j);
	return rc;
}

int walk_count(struct walk *w, uint64_t *total)
{
	const struct jkey start = {.len = 1, .b = {T_INODE}};
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	int rc;

	*total = 0;
	journal_lock(w->s->j);
	it = view_seek(w->s->j, &start, 1);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rc = 0;
		++*total;
	}
	if (it)
		view_end(it);
	journal_unlock(w->s->j);
	return rc;
}

struct timespec walk_ctime(const struct inode_val *v)
{
	return (struct timespec){.tv_sec = v->attr.ctime, .tv_nsec = v->attr.ctime_nsec};
}

/* --- hard links --- */

static int cmp_link(const void *a, const void *b)
{
	const struct link *x = a, *y = b;

	return (x->ino > y->ino) - (x->ino < y->ino);
}

const struct link *walk_link(const struct walk *w, uint64_t ino)
{
	struct link key = {.ino = ino}, **found = tfind(&key, &w->links, cmp_link);

	return found ? *found : NULL;
}

int walk_note_link(struct walk *w, int dir, const char *name, uint64_t ino, const struct jfs_attr *a)
{
	struct link *l;
	struct stat st;

	if (a->nlink < 2 || !w->c->apply || walk_link(w, ino))
		return 0;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return walk_fail(w, "stat", errno);
	l = malloc(sizeof(*l) + w->path.len + 1);
	if (!l)
		return -ENOMEM;
	l->ino = ino;
	l->theirs = st.st_ino;
	memcpy(l->path, w->path.data, w->path.len);
	l->path[w->path.len] = '\0';
	if (!tsearch(l, &w->links, cmp_link)) {
		free(l);
		return -ENOMEM;
	}
	return 0;
}

int walk_open_parent(const struct walk *w, const char *path, const char **base)
{
	int fd = openat(w->c->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = fd < 0 ? -errno : 0;

	for (const char *slash; !rc && (slash = strchr(path, '/')); path = slash + 1) {
		char part[NAME_MAX + 1];
		int next;

		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = next < 0 ? -errno : 0;
		close(fd);
		fd = next;
	}
	*base = path;
	return rc ? rc : fd;
}

int walk_make_link(struct walk *w, int dir, const char *name, const struct link *l)
{
	const char *base;
	int from = walk_open_parent(w, l->path, &base), rc = from < 0 ? from : 0;

	if (!rc && unlinkat(dir, REBASE_TEMPORARY, 0) && errno != ENOENT)
		rc = -errno;
	if (!rc && (linkat(from, base, dir, REBASE_TEMPORARY, 0) || renameat(dir, REBASE_TEMPORARY, dir, name)))
		rc = -errno;
	if (from >= 0)
		close(from);
	return rc;
}

/* --- whose --- */

static bool later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* By a rebase of this journal, if only as another name of what it replaced. */
static bool by_a_run(const struct walk *w, const struct timespec *t)
{
	for (size_t i = 0; i < w->c->n_runs; i++)
		if (later(t, &w->c->runs[i].from) && !later(t, &w->c->runs[i].to))
			return true;
	return false;
}

/* Replay dates late what it writes late: by a whole second, and never the bytes (redis/script.c, ctime_clamp). */
static bool by_replay(const struct stat *st, const struct timespec *known)
{
	return st->st_ctim.tv_nsec == 0 && !later(&st->st_mtim, known);
}

bool walk_newer(const struct walk *w, const struct stat *st, struct timespec known)
{
	return later(&st->st_ctim, &known) && !by_a_run(w, &st->st_ctim) && !by_replay(st, &known);
}
