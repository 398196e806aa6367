/* jfs-recover discard: gives up files of which staged bytes are damaged, so that replay can go on with everything else.
 *
 * A file is given up by removing its name, as rm would in a mount: one record, committed and synced. (Not into the trash:
 * that would publish what cannot be read.) Windows that were chosen before still ask for the bytes; replay merges them
 * forward through the removal. A crash leaves each file discarded or not; running it again is harmless. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/fs.h"
#include "recovery/caches.h"
#include "recovery/paths.h"
#include "recovery/recover.h"
#include "recovery/scan.h"
#include "util/fault.h"

struct discard_call {
	const struct recover_options *o;
	const char *cache;
	bool done;
};

static int refuse(struct errmsg *e, const char *path, const char *why)
{
	return errmsg_set(e, -EINVAL, "%s: %s", path, why);
}

/* The directory and name of a path as the report shows it. 0 or -errno with a text. */
static int resolve(struct fs *fs, const char *path, uint64_t *parent, char name[256], struct errmsg *e)
{
	uint64_t ino = JFS_ROOT_INODE;
	const char *at = path;

	for (;;) {
		struct fs_need need;
		struct fs_attr a;
		const char *end;
		int rc;

		at += strspn(at, "/");
		end = at + strcspn(at, "/");
		if (text_unescape(at, (size_t)(end - at), name))
			return refuse(e, path, "this is no path of a file");
		*parent = ino;
		rc = fs_lookup(fs, ino, name, strlen(name), &a, &need);
		if (rc > 0)
			return refuse(e, path, "this directory is not known here: only Redis has it");
		if (rc)
			return errmsg_set(e, rc, "%s: %s", path, strerror(-rc));
		fs_forget(fs, a.ino, 1);
		if (end[strspn(end, "/")] == '\0')
			return a.a.type == JFS_DIR ? refuse(e, path, "a directory has no staged bytes: name its files") : 0;
		if (a.a.type != JFS_DIR)
			return errmsg_set(e, -ENOTDIR, "%s: %s", path, strerror(ENOTDIR));
		ino = a.ino;
		at = end;
	}
}

/* All paths first: nothing is discarded if one of them is wrong. */
static int discard_all(struct fs *fs, const struct recover_options *o, bool really, uint64_t *last, struct errmsg *e)
{
	const struct fs_cred root = {0};

	for (int pass = 0; pass <= really; pass++) {
		for (size_t i = 0; i < o->n_paths; i++) {
			struct fs_need need;
			uint64_t parent = 0;
			char name[256];
			int rc = resolve(fs, o->paths[i], &parent, name, e);

			if (rc)
				return rc;
			if (!pass)
				continue;
			FAULT_POINT("recover.discard.before");
			while ((rc = fs_unlink(fs, &root, parent, name, strlen(name), last, &need)) == FS_ROOM)
				if (journal_wait_room(fs_journal(fs)))
					return errmsg_set(e, -EIO, "%s: the journal has no room", o->paths[i]);
			if (rc)
				return errmsg_set(e, rc > 0 ? -EIO : rc, "%s: cannot be removed: %s", o->paths[i], strerror(rc > 0 ? EIO : -rc));
		}
	}
	return 0;
}

static int discard(void *arg)
{
	const struct discard_call *c = arg;
	const struct fs_config fc = {.trash = false};
	struct journal_config jc = {.cache_dir = c->cache, .hot_dir = c->o->hot_dir, .allow_any_fs = c->o->allow_any_fs};
	struct journal_report found;
	struct errmsg e = {""};
	struct journal *j = NULL;
	struct fs *fs = NULL;
	uint64_t last = 0;
	char uuid[64];
	int rc;

	cache_uuid(c->cache, uuid);
	jc.uuid = uuid;
	rc = journal_open(&jc, &j, &found, &e);
	if (!rc && (rc = fs_new(j, &fc, &fs)) != 0)
		errmsg_set(&e, rc, "%s: cannot open the view: %s", c->cache, strerror(-rc));
	if (!rc)
		rc = discard_all(fs, c->o, true, &last, &e);
	if (!rc && (rc = journal_wait(j, WM_DURABLE, last)) != 0)
		errmsg_set(&e, rc, "%s: %s", c->cache, strerror(-rc));
	fs_free(fs);
	if (j && journal_close(j) && !rc)
		rc = errmsg_set(&e, -EIO, "%s: cannot be closed", c->cache);
	return rc ? recover_cannot(e.text) : RECOVER_CLEAN;
}

/* A dry run: would it work? */
static int try_paths(void *arg, struct scan *s, struct report *r, struct errmsg *e)
{
	const struct discard_call *c = arg;
	const struct fs_config fc = {.read_only = true};
	struct fs *fs;
	uint64_t last;
	int rc = fs_new(s->j, &fc, &fs);

	(void)r;
	if (rc)
		return errmsg_set(e, rc, "%s: cannot open the view: %s", c->cache, strerror(-rc));
	rc = discard_all(fs, c->o, false, &last, e);
	fs_free(fs);
	return rc;
}

static int tell(void *arg)
{
	const struct discard_call *c = arg;
	struct report r;
	int status = recover_look_then(c->o, c->cache, &r, c->done ? NULL : try_paths, arg);

	r.command = "discard";
	if (c->done) {
		r.applied_now = true;
		r.discarded = c->o->n_paths;
	}
	if (status == RECOVER_CLEAN)
		status = recover_tell(c->o, &r);
	report_free(&r);
	return status;
}

int recover_discard(const struct recover_options *o, const char *cache)
{
	struct discard_call c = {.o = o, .cache = cache};
	int status;

	if (o->apply) {
		status = recover_guarded(o, "discard", cache, discard, &c);
		if (status != RECOVER_CLEAN)
			return status;
		c.done = true;
	}
	return recover_guarded(o, "discard", cache, tell, &c);
}
