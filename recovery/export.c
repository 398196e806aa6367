/* jfs-recover export.
 *
 * A file's bytes come from staging: every live extent of it, each append verified by its checksum before a byte of it is
 * used. Whatever else the file consists of (slices in the object store, lists that were never loaded) is not here: then the
 * file is called NAME.partial, and the report says which bytes are missing. A file is written under a temporary name,
 * synced and renamed; a crash leaves a temporary file or nothing, and the next run replaces it.
 *
 * Names are those of the volume, byte for byte. No symlink is ever followed below the directory that was given. */
#include "recovery/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/fs.h"
#include "recovery/plain.h"
#include "recovery/progress.h"
#include "recovery/recover.h"
#include "util/fault.h"
#include "util/fileio.h"

#define TEMPORARY ".jfs-recover.part"
#define PART	  (1u << 20)

struct export {
	struct scan *s;
	struct fs *fs;
	struct report *r;
	struct exported *out;
	struct errmsg *e;
	const char *dir;
	int top;
	uint8_t *buf; /* PART bytes */
};

static int fail(struct export *x, const char *path, const char *what, int err)
{
	return errmsg_set(x->e, -err, "%s%s: %s: %s", x->dir, path, what, strerror(err));
}

/* --- paths --- */

/* Opens the directory that holds the path's last component, making what is missing; name: NAME_MAX + 1. The descriptor, or
 * -errno with a text. */
static int parent_open(struct export *x, const char *path, char *name)
{
	int fd = dup(x->top);
	const char *at = path;

	if (fd < 0)
		return fail(x, path, "dup", errno);
	for (;;) {
		const char *slash;
		int next;

		at += *at == '/';
		slash = strchr(at, '/');
		if (text_unescape(at, slash ? (size_t)(slash - at) : strlen(at), name)) {
			close(fd);
			return fail(x, path, "no name for a file", EINVAL);
		}
		if (!slash)
			return fd;
		next = mkdirat(fd, name, 0755) && errno != EEXIST ? -1 : openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0) {
			int err = errno;

			close(fd);
			return fail(x, path, name, err);
		}
		close(fd);
		fd = next;
		at = slash;
	}
}

/* --- files --- */

/* Bytes of [0, length) that staging does not have and that are no hole; *first: where they begin. */
static int missing_bytes(struct export *x, uint64_t ino, uint64_t length, uint64_t *missing, uint64_t *first)
{
	struct fs_piece pieces[256];
	uint64_t at = 0;

	*missing = 0;
	while (at < length) {
		struct fs_need need;
		uint64_t len;
		int n = fs_map(x->fs, ino, at, length - at, pieces, 256, &len, &need);

		if (n == -EAGAIN) { /* a list that was never loaded: nobody here knows what it holds */
			uint64_t end = (at / JFS_CHUNK_SIZE + 1) * JFS_CHUNK_SIZE;

			end = end < length ? end : length;
			*first = *missing ? *first : at;
			*missing += end - at;
			at = end;
			continue;
		}
		if (n <= 0)
			return n ? n : -EUCLEAN;
		for (int i = 0; i < n; i++) {
			if (pieces[i].kind == EXT_OBJECT) {
				*first = *missing ? *first : at;
				*missing += pieces[i].len;
			}
			at += pieces[i].len;
		}
	}
	return 0;
}

static int copy_run(struct export *x, int fd, const struct staged_ref *ref)
{
	struct staging *st = journal_staging(x->s->j);

	for (uint32_t at = 0; at < ref->len;) {
		uint32_t n = ref->len - at < PART ? ref->len - at : PART;
		int rc = staging_read(st, ref->segment, ref->off + at, x->buf, n);

		if (rc)
			return rc;
		rc = file_write_at(fd, x->buf, n, (off_t)(ref->file_off + at));
		if (rc)
			return rc;
		at += n;
	}
	return 0;
}

/* All staged bytes of the file that lie below its length; *bad counts those that are damaged. refs are sorted by inode. */
static int copy_staged(struct export *x, int fd, uint64_t ino, uint64_t length, uint64_t *bad)
{
	const struct staged_set *set = &x->s->staged;
	size_t lo = 0, hi = set->refs.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (set->refs.v[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < set->refs.n && set->refs.v[lo].ino == ino; lo++) {
		struct staged_ref ref = set->refs.v[lo];
		int rc;

		if (ref.file_off >= length)
			continue;
		if (ref.len > length - ref.file_off)
			ref.len = (uint32_t)(length - ref.file_off);
		rc = staging_verify(journal_staging(x->s->j), ref.segment, ref.run_off, ref.run_len, ref.sum);
		if (rc == -EBADMSG || rc == -ENOENT || rc == -EIO) {
			*bad += ref.len;
			continue;
		}
		if (!rc)
			rc = copy_run(x, fd, &ref);
		if (rc)
			return rc;
		x->out->bytes += ref.len;
	}
	return 0;
}

static int note_partial(struct export *x, const char *path, uint64_t missing, uint64_t first, uint64_t bad)
{
	int rc = 0;

	x->out->partial++;
	if (missing)
		rc = report_broken(x->r, path, "%" PRIu64 " bytes, the first at %" PRIu64 ", are only in the object store: written as %s.partial",
			missing, first, path);
	if (!rc && bad)
		rc = report_broken(x->r, path, "%" PRIu64 " staged bytes are damaged: written as %s.partial", bad, path);
	return rc;
}

static int export_file(struct export *x, int dir, const char *name, const struct unsafe *u, const struct jfs_attr *a)
{
	const char *path = u->path;
	uint64_t ino = u->ino;
	uint64_t missing, first = 0, bad = 0;
	char part[NAME_MAX + 32];
	int fd, rc = missing_bytes(x, ino, a->length, &missing, &first);

	if (rc)
		return fail(x, path, "its extents cannot be read", -rc);
	if (missing && !u->bytes) { /* its mode or times changed: there are no bytes to be saved */
		x->out->skipped++;
		return 0;
	}
	if (unlinkat(dir, TEMPORARY, 0) && errno != ENOENT)
		return fail(x, path, "an old temporary file", errno);
	fd = openat(dir, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(x, path, "cannot be made", errno);
	if (ftruncate(fd, (off_t)a->length))
		rc = -errno;
	if (!rc)
		rc = copy_staged(x, fd, ino, a->length, &bad);
	if (!rc)
		rc = plain_owner(fd, a);
	if (!rc)
		rc = plain_xattrs(x->fs, fd, ino, true, NULL, x->r, path);
	if (!rc)
		rc = plain_attributes(fd, a);
	if (!rc && fsync(fd))
		rc = -errno;
	if (close(fd) && !rc)
		rc = -errno;
	snprintf(part, sizeof(part), "%.*s%s", missing || bad ? NAME_MAX - 8 : NAME_MAX, name, missing || bad ? ".partial" : "");
	FAULT_POINT("recover.export.before_rename");
	if (!rc && renameat(dir, TEMPORARY, dir, part))
		rc = -errno;
	if (rc)
		return fail(x, path, "cannot be written", -rc);
	x->out->files++;
	return missing || bad ? note_partial(x, path, missing, first, bad) : 0;
}

/* --- the others --- */

static int export_dir(struct export *x, int dir, const char *name, const char *path, uint64_t ino, const struct jfs_attr *a)
{
	int rc, fd = mkdirat(dir, name, 0755) && errno != EEXIST ? -1 : openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return fail(x, path, "cannot be made", errno);
	rc = plain_owner(fd, a);
	if (!rc)
		rc = plain_xattrs(x->fs, fd, ino, true, NULL, x->r, path);
	if (!rc)
		rc = plain_attributes(fd, a);
	close(fd);
	x->out->others++;
	return rc ? fail(x, path, "its attributes", -rc) : 0;
}

static int export_node(struct export *x, int dir, const char *name, const char *path, uint64_t ino, const struct jfs_attr *a)
{
	int rc;

	if (unlinkat(dir, name, 0) && errno != ENOENT)
		return fail(x, path, "is in the way", errno);
	rc = plain_node(x->fs, dir, name, ino, a);
	if (rc == -ENODATA) {
		x->out->partial++;
		return report_broken(x->r, path, "the target of this symbolic link is only in Redis");
	}
	if (rc)
		return fail(x, path, "cannot be made", -rc);
	x->out->others++;
	return 0;
}

/* --- all of it --- */

static int export_one(struct export *x, const struct unsafe *u, bool dirs)
{
	char name[NAME_MAX + 1];
	struct inode_val v;
	int rc, dir;

	journal_lock(x->s->j);
	rc = view_get_inode(x->s->j, u->ino, &v);
	journal_unlock(x->s->j);
	if (rc)
		return fail(x, u->path, "its record cannot be read", -rc);
	if (strcmp(u->path, "/") == 0 || (v.attr.type == JFS_DIR) != dirs)
		return 0;
	dir = parent_open(x, u->path, name);
	if (dir < 0)
		return dir;
	if (v.attr.type == JFS_DIR)
		rc = export_dir(x, dir, name, u->path, u->ino, &v.attr);
	else if (v.attr.type == JFS_FILE)
		rc = export_file(x, dir, name, u, &v.attr);
	else if (v.attr.type == JFS_SYMLINK || (v.attr.type > JFS_SYMLINK && v.attr.type <= JFS_SOCKET))
		rc = export_node(x, dir, name, u->path, u->ino, &v.attr);
	if (!rc && fsync(dir))
		rc = fail(x, u->path, "fsync of its directory", errno);
	close(dir);
	return rc;
}

static int open_top(struct export *x)
{
	if (mkdir(x->dir, 0755) && errno != EEXIST)
		return fail(x, "", "cannot be made", errno);
	x->top = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return x->top < 0 ? fail(x, "", "cannot be opened", errno) : 0;
}

int export_tree(struct scan *s, const char *dir, struct report *r, struct exported *out, struct errmsg *e)
{
	struct export x = {.s = s, .r = r, .out = out, .e = e, .dir = dir, .top = -1};
	const struct fs_config fc = {.read_only = true, .acl = true};
	struct progress bar;
	size_t n = r->unsafe.n;
	int rc = open_top(&x);

	*out = (struct exported){0};
	if (!rc && (!(x.buf = malloc(PART)) || fs_new(s->j, &fc, &x.fs)))
		rc = errmsg_set(e, -ENOMEM, "out of memory");
	progress_begin(&bar, "export", "files", n);
	/* Directories get their attributes when all that lies in them is there: after the files, from the end of the sorted list. */
	for (size_t i = 0; i < n && !rc; i++) {
		progress_set(&bar, i);
		if (r->unsafe.v[i].ino)
			rc = export_one(&x, &r->unsafe.v[i], false);
	}
	for (size_t i = n; i-- > 0 && !rc;)
		if (r->unsafe.v[i].ino)
			rc = export_one(&x, &r->unsafe.v[i], true);
	staging_verify_end(journal_staging(s->j));
	progress_end(&bar);
	if (!rc && fsync(x.top))
		rc = fail(&x, "", "fsync", errno);
	if (x.top >= 0)
		close(x.top);
	fs_free(x.fs);
	free(x.buf);
	return rc;
}

/* --- the command --- */

struct export_call {
	const struct recover_options *o;
	const char *cache;
};

static int write_tree(void *arg, struct scan *s, struct report *r, struct errmsg *e)
{
	const struct export_call *c = arg;
	struct exported out;
	int rc = export_tree(s, c->o->dir, r, &out, e);

	if (rc)
		return rc;
	r->exported_to = c->o->dir;
	r->exported_files = out.files;
	r->exported_others = out.others;
	r->exported_bytes = out.bytes;
	r->exported_partial = out.partial;
	r->exported_skipped = out.skipped;
	r->applied_now = out.files + out.others > 0;
	snprintf(r->advice, sizeof(r->advice), "look at %.500s, then keep or remove %.500s: it still holds all of this", c->o->dir, c->cache);
	return 0;
}

static int export(void *arg)
{
	const struct export_call *c = arg;
	struct report r;
	int status = recover_look_then(c->o, c->cache, &r, c->o->apply ? write_tree : NULL, arg);

	r.command = "export";
	if (status == RECOVER_CLEAN)
		status = recover_tell(c->o, &r);
	report_free(&r);
	return status;
}

int recover_export(const struct recover_options *o, const char *cache)
{
	struct export_call c = {.o = o, .cache = cache};

	return recover_guarded(o, "export", cache, export, &c);
}
