/* See tree.h. Both commands walk with an explicit stack: a tree may be deeper than ours. */
#include "daemon/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/fs_internal.h"

static const struct fs_cred root_cred;

bool tree_may(const struct tree_caller *who, const struct jfs_attr *a, unsigned want)
{
	unsigned bits = a->mode & 7;

	if (who->uid == 0)
		return !(want & 1) || a->type == JFS_DIR || (a->mode & 0111);
	if (who->uid == a->uid)
		bits = a->mode >> 6 & 7;
	else if (who->gid == a->gid)
		bits = a->mode >> 3 & 7;
	else
		for (int i = 0; i < who->n_groups; i++)
			if (who->groups[i] == a->gid)
				bits = a->mode >> 3 & 7;
	return (bits & want) == want;
}

/* After an operation answered rc: 1 do it again, else its result. */
static int again(const struct tree_env *env, int rc, const struct fs_need *need)
{
	if (rc <= 0)
		return rc;
	if (env->stopped && env->stopped(env->ctx))
		return -EINTR;
	if (rc == FS_ROOM)
		rc = journal_wait_room(fs_journal(env->fs));
	else
		rc = env->loader ? env->loader->load(env->loader->ctx, need) : -EIO;
	return rc ? rc : 1;
}

/* Evaluates the call until it neither needs anything nor room. */
#define SETTLED(env, call)                                                                                            \
	({                                                                                                            \
		struct fs_need need;                                                                                  \
		int rc_;                                                                                              \
		do                                                                                                    \
			rc_ = again((env), (call), &need);                                                            \
		while (rc_ == 1);                                                                                     \
		rc_;                                                                                                  \
	})

/* --- a directory's entries, as they are at one moment --- */

struct entry {
	uint64_t ino;
	uint8_t type, len;
	char name[255];
};

struct listing {
	struct entry *v;
	size_t n, size;
	int err;
};

static int listing_add(void *arg, const struct fs_dirent *d)
{
	struct listing *l = arg;

	if (d->cookie <= 2) /* . and .. */
		return 0;
	if (l->n == l->size) {
		size_t size = l->size ? l->size * 2 : 64;
		struct entry *p = realloc(l->v, size * sizeof(*p));

		if (!p)
			return l->err = -ENOMEM;
		l->v = p;
		l->size = size;
	}
	l->v[l->n] = (struct entry){ .ino = d->ino, .type = d->type, .len = (uint8_t)d->name_len };
	memcpy(l->v[l->n++].name, d->name, d->name_len);
	return 0;
}

static int listing_read(const struct tree_env *env, uint64_t dir, struct listing *l)
{
	struct fs_need need;
	int rc;

	do {
		l->n = 0;
		rc = again(env, fs_readdir(env->fs, dir, 0, false, listing_add, l, &need), &need);
	} while (rc == 1);
	return rc ? rc : l->err;
}

/* --- the walk --- */

struct frame {
	uint64_t source, target; /* target: of the clone, else 0 */
	struct listing l;
	size_t next;
};

struct walk {
	const struct tree_env *env;
	struct frame *v;
	size_t n, size;
};

/* The kernel reference of `target` belongs to the frame from here on, whatever is answered. */
static int walk_down(struct walk *w, uint64_t source, uint64_t target)
{
	struct frame *f;

	if (w->n == w->size) {
		size_t size = w->size ? w->size * 2 : 16;
		struct frame *p = realloc(w->v, size * sizeof(*p));

		if (!p) {
			if (target)
				fs_forget(w->env->fs, target, 1);
			return -ENOMEM;
		}
		w->v = p;
		w->size = size;
	}
	f = &w->v[w->n++];
	*f = (struct frame){ .source = source, .target = target };
	return listing_read(w->env, source, &f->l);
}

static void walk_up(struct walk *w)
{
	struct frame *f = &w->v[--w->n];

	if (f->target)
		fs_forget(w->env->fs, f->target, 1);
	free(f->l.v);
}

static void walk_end(struct walk *w)
{
	while (w->n)
		walk_up(w);
	free(w->v);
}

/* --- clone --- */

static int attributes_copy(const struct tree_env *env, const struct tree_clone *c, const struct jfs_attr *a, uint64_t to)
{
	struct fs_setattr set = { .valid = FSA_MODE | FSA_UID | FSA_GID, .mode = a->mode & ~c->umask, .uid = c->who.uid,
		.gid = c->who.gid };
	struct fs_attr out;

	if (c->preserve) {
		set = (struct fs_setattr){ .valid = FSA_MODE | FSA_UID | FSA_GID | FSA_ATIME | FSA_MTIME, .mode = a->mode, .uid = a->uid,
			.gid = a->gid, .atime = a->atime, .mtime = a->mtime, .atimensec = a->atime_nsec, .mtimensec = a->mtime_nsec };
	}
	return SETTLED(env, fs_setattr(env->fs, &root_cred, to, &set, &out, &need));
}

static int xattrs_copy(const struct tree_env *env, uint64_t from, uint64_t to)
{
	enum { LIST_MAX = 65536, VALUE_MAX = 65536 };
	size_t n = LIST_MAX;
	char *list = malloc(LIST_MAX + VALUE_MAX), *value = list + LIST_MAX;
	uint64_t seq;
	int rc = list ? SETTLED(env, (n = LIST_MAX, fs_listxattr(env->fs, from, list, &n, &need))) : -ENOMEM;

	for (size_t at = 0, len; !rc && at < n; at += len + 1) {
		size_t vn = VALUE_MAX;

		len = strnlen(list + at, n - at);
		rc = SETTLED(env, (vn = VALUE_MAX, fs_getxattr(env->fs, from, list + at, len, value, &vn, &need)));
		if (rc == -ENODATA) { /* removed meanwhile */
			rc = 0;
			continue;
		}
		if (!rc)
			rc = SETTLED(env, fs_setxattr(env->fs, &root_cred, to, list + at, len, value, vn, 0, &seq, &need));
	}
	free(list);
	return rc;
}

static int data_copy(const struct tree_env *env, uint64_t from, uint64_t to, uint64_t length)
{
	struct fs_setattr set = { .valid = FSA_SIZE, .size = length };
	struct fs_attr out;
	uint64_t off = 0, copied = 0, seq;
	int rc = 0;

	while (!rc && off < length) {
		if (env->stopped && env->stopped(env->ctx))
			return -EINTR;
		rc = SETTLED(env, fs_copy_range(env->fs, &root_cred, from, off, to, off, length - off, &copied, &seq, &need));
		if (!rc && copied == 0) /* the source was cut */
			break;
		off += copied;
	}
	if (!rc && off < length)
		rc = SETTLED(env, fs_setattr(env->fs, &root_cred, to, &set, &out, &need));
	return rc;
}

static int file_clone(const struct tree_env *env, uint64_t from, const struct jfs_attr *a, uint64_t parent, const char *name,
	size_t n, uint64_t *ino)
{
	struct fs_attr out;
	bool created;
	int rc = SETTLED(env, fs_create(env->fs, &root_cred, parent, name, n, S_IFREG | 0600, true, false, &out, &created, &need));

	if (rc)
		return rc;
	*ino = out.ino;
	return data_copy(env, from, out.ino, a->length);
}

static int symlink_clone(const struct tree_env *env, uint64_t from, uint64_t parent, const char *name, size_t n, uint64_t *ino)
{
	char target[JFS_SYMLINK_MAX];
	size_t len = sizeof(target);
	struct fs_attr out;
	int rc = SETTLED(env, (len = sizeof(target), fs_readlink(env->fs, from, target, &len, &need)));

	if (!rc)
		rc = SETTLED(env, fs_symlink(env->fs, &root_cred, parent, name, n, target, len, &out, &need));
	if (!rc)
		*ino = out.ino;
	return rc;
}

/* Everything of an inode but its children and a directory's attributes, which come last. */
static int inode_clone(const struct tree_env *env, const struct tree_clone *c, uint64_t from, const struct jfs_attr *a,
	uint64_t parent, const char *name, size_t n, uint64_t *ino)
{
	struct fs_attr out;
	int rc;

	*ino = 0;
	if (!tree_may(&c->who, a, a->type == JFS_DIR ? 5 : 4) && a->type != JFS_SYMLINK)
		return -EACCES;
	if (a->type == JFS_FILE) {
		rc = file_clone(env, from, a, parent, name, n, ino);
	} else if (a->type == JFS_SYMLINK) {
		rc = symlink_clone(env, from, parent, name, n, ino);
	} else {
		rc = a->type == JFS_DIR ?
			     SETTLED(env, fs_mkdir(env->fs, &root_cred, parent, name, n, 0700, &out, &need)) :
			     SETTLED(env, fs_mknod(env->fs, &root_cred, parent, name, n, (jfs_attr_st_mode(a) & S_IFMT) | 0600, a->rdev,
						   &out, &need));
		if (!rc)
			*ino = out.ino;
	}
	if (!rc)
		rc = xattrs_copy(env, from, *ino);
	if (!rc && a->type != JFS_DIR)
		rc = attributes_copy(env, c, a, *ino);
	return rc;
}

/* The next entry of the innermost directory; with none left its attributes, and back to the one above. */
static int clone_step(struct walk *w, const struct tree_clone *c, uint64_t skip)
{
	struct frame *f = &w->v[w->n - 1];
	const struct entry *e;
	struct fs_attr a;
	uint64_t ino = 0;
	int rc;

	if (f->next == f->l.n) {
		rc = SETTLED(w->env, fs_getattr(w->env->fs, f->source, &a, &need));
		if (!rc)
			rc = attributes_copy(w->env, c, &a.a, f->target);
		walk_up(w);
		return rc;
	}
	e = &f->l.v[f->next++];
	if (e->ino == skip) /* the clone itself, of a tree that it will be part of */
		return 0;
	rc = SETTLED(w->env, fs_getattr(w->env->fs, e->ino, &a, &need));
	if (rc == -ENOENT) /* removed meanwhile */
		return 0;
	if (!rc)
		rc = inode_clone(w->env, c, e->ino, &a.a, f->target, e->name, e->len, &ino);
	if (!rc && a.a.type == JFS_DIR)
		return walk_down(w, e->ino, ino);
	if (ino)
		fs_forget(w->env->fs, ino, 1);
	return rc;
}

/* Removes what a failed clone left. Errors only leave more of it. */
static void tree_remove(const struct tree_env *env, uint64_t parent, const char *name, size_t n, uint64_t ino)
{
	struct walk w = { .env = env };
	uint64_t seq;

	if (walk_down(&w, ino, 0)) { /* not a directory */
		walk_end(&w);
		(void)SETTLED(env, fs_unlink(env->fs, &root_cred, parent, name, n, &seq, &need));
		return;
	}
	while (w.n) {
		struct frame *f = &w.v[w.n - 1];
		const struct entry *e = f->next < f->l.n ? &f->l.v[f->next] : NULL;

		if (!e) {
			walk_up(&w);
			if (w.n && w.v[w.n - 1].next < w.v[w.n - 1].l.n) {
				f = &w.v[w.n - 1];
				e = &f->l.v[f->next++];
				(void)SETTLED(env, fs_rmdir(env->fs, &root_cred, f->source, e->name, e->len, &seq, &need));
			}
		} else if (e->type == JFS_DIR) {
			if (walk_down(&w, e->ino, 0))
				break;
		} else {
			f->next++;
			(void)SETTLED(env, fs_unlink(env->fs, &root_cred, f->source, e->name, e->len, &seq, &need));
		}
	}
	walk_end(&w);
	(void)SETTLED(env, fs_rmdir(env->fs, &root_cred, parent, name, n, &seq, &need));
}

static int clone_check(const struct tree_env *env, const struct tree_clone *c, struct fs_attr *source)
{
	struct fs_attr parent, there;
	int rc = SETTLED(env, fs_getattr(env->fs, c->parent, &parent, &need));

	if (!rc && parent.a.type != JFS_DIR)
		rc = -ENOTDIR;
	if (!rc && !tree_may(&c->who, &parent.a, 3))
		rc = -EACCES;
	if (!rc)
		rc = SETTLED(env, fs_getattr(env->fs, c->source, source, &need));
	if (rc)
		return rc;
	rc = SETTLED(env, fs_lookup(env->fs, c->parent, c->name, c->name_len, &there, &need));
	if (rc == 0)
		fs_forget(env->fs, there.ino, 1);
	return rc == 0 ? -EEXIST : rc == -ENOENT ? 0 : rc;
}

int tree_clone(const struct tree_env *env, const struct tree_clone *c, uint64_t *seq)
{
	struct walk w = { .env = env };
	struct fs_attr source;
	uint64_t ino = 0;
	char temp[32];
	size_t n = 0;
	int rc = clone_check(env, c, &source);

	for (uint64_t number = c->source; !rc; number++) {
		n = (size_t)snprintf(temp, sizeof(temp), ".clone-%llu", (unsigned long long)number);
		rc = inode_clone(env, c, c->source, &source.a, c->parent, temp, n, &ino);
		if (rc != -EEXIST || ino)
			break;
		rc = 0; /* left by a crash, or another clone is being made */
	}
	if (!rc && source.a.type == JFS_DIR)
		rc = walk_down(&w, c->source, ino);
	else if (ino)
		fs_forget(env->fs, ino, 1);
	while (!rc && w.n)
		rc = clone_step(&w, c, ino);
	walk_end(&w);
	if (!rc)
		rc = SETTLED(env, fs_rename(env->fs, &root_cred, c->parent, temp, n, c->parent, c->name, c->name_len,
					    FS_RENAME_NOREPLACE, seq, &need));
	if (rc && ino)
		tree_remove(env, c->parent, temp, n, ino);
	return rc;
}

/* --- compact --- */

static int compact_file(const struct tree_env *env, uint64_t ino, uint64_t length, uint64_t *seq)
{
	uint32_t chunk = 0, chunks = (uint32_t)((length + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS);
	int rc = 0;

	while (!rc && chunk < chunks)
		rc = SETTLED(env, fs_compact(env->fs, ino, &chunk, seq, &need));
	return rc == -ENOENT ? 0 : rc;
}

static int compact_inode(struct walk *w, const struct tree_caller *who, uint64_t ino, uint64_t *seq)
{
	struct fs_attr a;
	int rc = SETTLED(w->env, fs_getattr(w->env->fs, ino, &a, &need));

	if (rc)
		return rc == -ENOENT && w->n ? 0 : rc;
	if (!tree_may(who, &a.a, a.a.type == JFS_DIR ? 5 : 4))
		return -EACCES;
	if (a.a.type == JFS_DIR)
		return walk_down(w, ino, 0);
	return a.a.type == JFS_FILE ? compact_file(w->env, ino, a.a.length, seq) : 0;
}

int tree_compact(const struct tree_env *env, const struct tree_caller *who, uint64_t ino, uint64_t *seq)
{
	struct walk w = { .env = env };
	int rc;

	*seq = 0;
	rc = compact_inode(&w, who, ino, seq);
	while (!rc && w.n) {
		struct frame *f = &w.v[w.n - 1];
		const struct entry *e = f->next < f->l.n ? &f->l.v[f->next++] : NULL;

		if (env->stopped && env->stopped(env->ctx))
			rc = -EINTR;
		else if (!e)
			walk_up(&w);
		else if (e->type == JFS_DIR || e->type == JFS_FILE)
			rc = compact_inode(&w, who, e->ino, seq);
	}
	walk_end(&w);
	return rc;
}
