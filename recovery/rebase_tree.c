#include "recovery/rebase_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "recovery/plain.h"
#include "recovery/rebase_walk.h"

/* --- one name --- */

static int walk_dir(struct walk *w, int dir, uint64_t ino, const struct inode_val *v, const struct stat *was);

/* It cannot be brought, and that is no reason to give the others up. */
static int not_to_be_had(struct walk *w, const struct errmsg *why)
{
	w->doubtful |= w->bytes.doubtful;
	return walk_left_out(w, why->text);
}

static int not_allowed(struct walk *w)
{
	w->refused = true;
	return walk_left_out(w, "what has the name, or its directory, must not be changed: is it immutable or append-only?");
}

static int incomplete(struct walk *w)
{
	char *path = walk_shown(w);
	int rc = path ? report_broken(w->r, path, "not all of its names are known here: if it was renamed, the others still have their "
						  "old place") : -ENOMEM;

	free(path);
	return rc;
}

/* dir -1: in a dry run, where the volume has no such directory. */
static int make_dir(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const char *what)
{
	int fd = -1, rc;

	if (w->c->apply) {
		if (mkdirat(dir, name, 0700))
			return errno == EPERM ? not_allowed(w) : walk_fail(w, "mkdir", errno);
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return walk_fail(w, "open", errno);
	}
	rc = walk_tell(w, what);
	if (!rc && !(v->lflags & IL_DIR_COMPLETE))
		rc = incomplete(w);
	if (!rc)
		rc = walk_dir(w, fd, ino, v, NULL);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int make(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const char *what)
{
	const struct link *l = v->attr.nlink > 1 ? walk_link(w, ino) : NULL;
	struct errmsg why = {""};
	char *path;
	int rc = 0;

	if (v->attr.type == JFS_DIR)
		return make_dir(w, dir, name, ino, v, what);
	path = walk_shown(w);
	if (!path)
		return -ENOMEM;
	if (!w->c->apply)
		rc = v->attr.type == JFS_FILE ? local_bytes_ask(&w->bytes, ino, v->attr.length, &why) : 0;
	else if (l)
		rc = walk_make_link(w, dir, name, l);
	else
		rc = rebase_make(&w->bytes, dir, name, ino, &v->attr, &w->r->rebased_bytes, w->r, path, &why);
	walk_beat(w);
	free(path);
	if (rc == -ENODATA)
		return not_to_be_had(w, &why);
	if (rc == -EPERM)
		return not_allowed(w);
	if (rc)
		return why.text[0] ? errmsg_set(w->e, rc, "%s", why.text) : walk_fail(w, "cannot be made", -rc);
	rc = walk_tell(w, what);
	return rc ? rc : walk_note_link(w, dir, name, ino, &v->attr);
}

/* Is what stands beside ours, of an earlier run? Directories are gone into in any case: nothing newer is lost there. */
static int is_ours(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const struct stat *st)
{
	struct errmsg why = {""};
	int rc;

	if (rebase_type(st->st_mode) != v->attr.type)
		return SAME_NO;
	if (v->attr.type == JFS_DIR)
		return SAME_YES;
	rc = rebase_compare(&w->bytes, dir, name, st, ino, &v->attr, w->r, name, &why);
	if (rc == -ENODATA) /* to be found again when it is made */
		return SAME_NO;
	return rc < 0 ? walk_fail(w, "cannot be compared", -rc) : rc;
}

/* The first name with .conflict-INO that nobody else has. 1: it is free; 0: it is ours already, *st is it; -errno with a text.
 * `v` NULL: only a free one. */
static int name_beside(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, char other[NAME_MAX + 1],
	struct stat *st)
{
	for (unsigned i = 0; i < 1000; i++) {
		char suffix[60];
		int n = snprintf(suffix, sizeof(suffix), i ? ".conflict-%" PRIu64 "-%u" : ".conflict-%" PRIu64, ino, i), rc;

		snprintf(other, NAME_MAX + 1, "%.*s%s", NAME_MAX - n, name, suffix);
		if (names_have(w->ours, other))
			continue;
		if (fstatat(dir, other, st, AT_SYMLINK_NOFOLLOW))
			return errno == ENOENT ? 1 : walk_fail(w, "stat", errno);
		rc = v ? is_ours(w, dir, other, ino, v, st) : SAME_NO;
		if (rc != SAME_NO)
			return rc < 0 ? rc : 0;
	}
	return walk_fail(w, "no name beside it is free", EEXIST);
}

/* The walk stands at `name`, and shall stand at `other` in the same directory. */
static int step_aside(struct walk *w, const char *name, const char *other)
{
	w->path.len -= strlen(name);
	buf_put(&w->path, other, strlen(other));
	return w->path.err;
}

/* Theirs keeps the name. */
static int conflict(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v)
{
	char other[NAME_MAX + 1];
	struct stat st;
	int rc = name_beside(w, dir, name, ino, v, other, &st), fd;
	bool is_free = rc == 1;

	if (rc >= 0)
		rc = names_add(w->beside, ino, other, strlen(other));
	if (!rc)
		rc = step_aside(w, name, other);
	if (rc)
		return rc;
	if (is_free)
		return make(w, dir, other, ino, v, "conflict");
	if (v->attr.type != JFS_DIR)
		return walk_tell(w, "conflict");
	fd = openat(dir, other, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return walk_fail(w, "open", errno);
	rc = walk_dir(w, fd, ino, v, &st);
	close(fd);
	return rc;
}

/* A directory has the name of something else here. It was removed here, and goes or stays as such names do, but not under
 * this one. *moved: it is out of the way. */
static int move_away(struct walk *w, int dir, const char *name, const struct stat *st, bool *moved)
{
	size_t len = w->path.len, was = len - strlen(name);
	char other[NAME_MAX + 1];
	struct stat unused;
	int rc = 0;

	*moved = true;
	if (w->c->apply) {
		rc = name_beside(w, dir, name, st->st_ino, NULL, other, &unused);
		if (rc < 0)
			return rc;
		*moved = renameat(dir, name, dir, other) == 0;
		if (!*moved)
			return errno == EPERM ? not_allowed(w) : walk_fail(w, "cannot be moved away", errno);
		rc = names_add(w->beside, st->st_ino, other, strlen(other));
		if (!rc)
			rc = step_aside(w, name, other);
	}
	if (!rc)
		rc = extra_note(w);
	walk_pop(w, was);
	buf_put(&w->path, name, strlen(name));
	return rc ? rc : w->path.err;
}

static int other_kind(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const struct stat *st)
{
	bool free_now = true;
	int rc = 0;

	if (walk_newer(w, st, walk_ctime(v)))
		return conflict(w, dir, name, ino, v);
	if (S_ISDIR(st->st_mode))
		rc = move_away(w, dir, name, st, &free_now);
	else if (v->attr.type == JFS_DIR && w->c->apply && unlinkat(dir, name, 0)) {
		free_now = false;
		rc = errno == EPERM ? not_allowed(w) : walk_fail(w, "cannot be replaced", errno);
	}
	return rc || !free_now ? rc : make(w, dir, name, ino, v, "changed");
}

static int attributes_only(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const struct stat *st)
{
	char *path;
	int rc = 0;

	if (walk_newer(w, st, walk_ctime(v)))
		return walk_note_link(w, dir, name, ino, &v->attr);
	path = walk_shown(w);
	if (!path)
		return -ENOMEM;
	if (w->c->apply)
		rc = rebase_attributes(w->fs, dir, name, ino, &v->attr, w->r, path);
	free(path);
	if (rc == -EPERM)
		return not_allowed(w);
	rc = rc ? walk_fail(w, "cannot be changed", -rc) : walk_tell(w, "changed");
	return rc ? rc : walk_note_link(w, dir, name, ino, &v->attr);
}

static int known_dir(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const struct stat *st)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;

	if (fd < 0)
		return walk_fail(w, "open", errno);
	rc = walk_dir(w, fd, ino, v, st);
	close(fd);
	return rc;
}

static int known_name(struct walk *w, int dir, const char *name, uint64_t ino, const struct inode_val *v, const struct stat *st)
{
	const struct link *l = v->attr.nlink > 1 ? walk_link(w, ino) : NULL;
	struct errmsg why = {""};
	char *path;
	int rc;

	if (rebase_type(st->st_mode) != v->attr.type)
		return other_kind(w, dir, name, ino, v, st);
	if (v->attr.type == JFS_DIR)
		return known_dir(w, dir, name, ino, v, st);
	if (l && l->theirs == st->st_ino)
		return 0;
	path = walk_shown(w);
	rc = path ? rebase_compare(&w->bytes, dir, name, st, ino, &v->attr, w->r, path, &why) : -ENOMEM;
	free(path);
	if (rc == -ENODATA)
		return not_to_be_had(w, &why);
	if (rc < 0)
		return why.text[0] ? errmsg_set(w->e, rc, "%s", why.text) : walk_fail(w, "cannot be compared", -rc);
	if (l && rc != SAME_NO) /* as it is here, but a file of its own */
		return make(w, dir, name, ino, v, "changed");
	if (rc == SAME_YES)
		return walk_note_link(w, dir, name, ino, &v->attr);
	if (rc == SAME_BYTES)
		return attributes_only(w, dir, name, ino, v, st);
	return walk_newer(w, st, walk_ctime(v)) ? conflict(w, dir, name, ino, v) : make(w, dir, name, ino, v, "changed");
}

static int one_name(struct walk *w, int dir, const char *name, uint64_t ino)
{
	struct inode_val v;
	struct stat st;
	int rc = walk_inode(w, ino, &v);

	progress_set(&w->bar, ++w->done);
	walk_beat(w);
	if (rc == -ENOENT) /* a name whose inode is not here: nothing is known of it */
		return 0;
	if (rc)
		return walk_fail(w, "its record cannot be read", -rc);
	if (strcmp(name, REBASE_TEMPORARY) == 0)
		return walk_left_out(w, "rebase needs the name for itself");
	if (dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return known_name(w, dir, name, ino, &v, &st);
	if (dir >= 0 && errno != ENOENT)
		return walk_fail(w, "stat", errno);
	return make(w, dir, name, ino, &v, "new");
}

/* --- directories --- */

/* `was`: as it was found, NULL: made now. */
static int dir_attributes(struct walk *w, int dir, uint64_t ino, const struct inode_val *v, const struct stat *was)
{
	bool changed = false;
	const struct jfs_attr *a = &v->attr;
	char *path;
	int rc;

	if (was && walk_newer(w, was, walk_ctime(v)))
		return 0;
	path = walk_shown(w);
	if (!path)
		return -ENOMEM;
	walk_beat(w);
	rc = w->c->apply ? plain_owner(dir, a) : 0;
	if (!rc)
		rc = plain_xattrs(w->fs, dir, ino, w->c->apply, &changed, w->r, path);
	free(path);
	if (!rc)
		rc = plain_xattrs_drop(w->fs, dir, ino, w->c->apply, &changed);
	if (!rc && w->c->apply)
		rc = plain_attributes(dir, a);
	if (rc == -EPERM)
		return not_allowed(w);
	if (rc)
		return walk_fail(w, "its attributes", -rc);
	if (was && (changed || (was->st_mode & 07777) != (a->mode & 07777u) || was->st_uid != a->uid || was->st_gid != a->gid))
		rc = walk_tell(w, "changed");
	return rc;
}

static int all_names(struct walk *w, int dir)
{
	const struct names *ours = w->ours;
	int rc = 0;

	for (size_t i = 0; i < ours->v.n && !rc; i++) {
		const char *name = names_at(ours, i);
		size_t before;

		rc = walk_push(w, name, &before);
		if (!rc)
			rc = one_name(w, dir, name, ours->v.v[i].ino);
		walk_pop(w, before);
	}
	return rc;
}

static int walk_dir(struct walk *w, int dir, uint64_t ino, const struct inode_val *v, const struct stat *was)
{
	struct names ours = {0}, beside = {0}, *beside_above = w->beside;
	const struct names *ours_above = w->ours;
	struct timespec known_above = w->known;
	int rc = walk_names_of(w, ino, &ours);

	if (rc)
		walk_fail(w, "cannot be read", -rc);
	w->ours = &ours;
	w->beside = &beside;
	w->known = walk_ctime(v);
	if (!rc)
		rc = all_names(w, dir);
	if (!rc && dir >= 0 && was && (v->lflags & IL_DIR_COMPLETE))
		rc = extra_look(w, dir);
	w->known = known_above;
	w->beside = beside_above;
	w->ours = ours_above;
	names_free(&ours);
	names_free(&beside);
	return rc || dir < 0 ? rc : dir_attributes(w, dir, ino, v, was);
}

static int walk_all(struct walk *w)
{
	struct inode_val root;
	struct stat st;
	int rc = walk_inode(w, JFS_ROOT_INODE, &root);

	if (rc == -ENOENT)
		return errmsg_set(w->e, rc, "this journal never knew the volume's root (--subdir): nothing can be found by path; use export");
	if (!rc && fstat(w->c->top, &st))
		rc = -errno;
	if (rc)
		return walk_fail(w, "cannot be read", -rc);
	rc = walk_dir(w, w->c->top, JFS_ROOT_INODE, &root, &st);
	return rc ? rc : extra_end(w);
}

int rebase_tree(struct scan *s, const struct rebase_config *c, struct report *r, struct rebase_left *left, struct errmsg *e)
{
	const struct fs_config fc = {.read_only = true, .acl = true};
	struct walk w = {.c = c, .s = s, .r = r, .e = e};
	uint64_t total = 0;
	int rc = fs_new(s->j, &fc, &w.fs);

	buf_init(&w.path, 0);
	w.bytes = (struct local_bytes){.fs = w.fs, .objects = c->objects, .first_sure = c->first_sure, .buf = malloc(LOCAL_BYTES_PART)};
	if (!rc && !w.bytes.buf)
		rc = -ENOMEM;
	if (!rc)
		rc = walk_count(&w, &total);
	if (rc)
		errmsg_set(e, rc, "the journal cannot be read: %s", strerror(-rc));
	progress_begin(&w.bar, "rebase", "names", total);
	if (!rc)
		rc = walk_all(&w);
	progress_end(&w.bar);
	if (rc && !e->text[0])
		errmsg_set(e, rc, "%s", strerror(-rc));
	*left = (struct rebase_left){.doubtful = w.doubtful, .refused = w.refused};
	extra_free(&w);
	tdestroy(w.links, free);
	free(w.bytes.buf);
	buf_fini(&w.path);
	fs_free(w.fs);
	return rc;
}
