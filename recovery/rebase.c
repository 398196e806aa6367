/* jfs-recover rebase: Redis was restored from a backup, or flushed and reloaded, and what this journal holds cannot be
 * replayed into it. So it is brought there as if somebody did the work again: the volume is mounted with a fresh journal, and
 * all that differs from the old view is copied, by path, through that mount (rebase_tree.h). Inodes and slices get new numbers,
 * the new journal replays and uploads as always, and a stock reader sees nothing unusual.
 *
 * States of a cache directory CACHE, by what is there:
 *   CACHE alone                  not begun. CACHE/rebase, if there, is of a run that ended before the rename: made anew (rebase_before.h).
 *   CACHE.rebase                 begun: that is the old journal, and CACHE, if there, the new one. A mount is refused. The next
 *                                run goes on: it compares again, and what was copied is the same by now.
 *   CACHE.rebased-TIME, CACHE    done; the old journal is kept for the operator to delete. CACHE.rebased-TIME-lost is the new one
 *                                of a run that was cut off, before Redis was set back once more.
 * Each step is one rename, synced. The old journal is only read. The new one is a journal like any other: killed in between,
 * the next run mounts it again, and replay goes on.
 *
 * Another mount may have taken the volume over between two runs, whose changes are then no longer told from ours by that
 * time: they all count as somebody else's, which costs at most a conflict.
 *
 * Slices and inodes that the old journal was given may be above Redis's counters now. The counters are raised before the
 * mount: an upload must never replace an object that is still to be read. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "daemon/cache_dir.h"
#include "recovery/caches.h"
#include "recovery/private_mount.h"
#include "recovery/rebase_before.h"
#include "recovery/rebase_lost.h"
#include "recovery/rebase_tree.h"
#include "recovery/recover.h"
#include "recovery/remote.h"
#include "redis/ids.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/fileio.h"

struct rebase {
	const struct recover_options *o;
	const char *cache;	/* CACHE */
	char old[PATH_MAX];	/* CACHE.rebase */
	char done[PATH_MAX];	/* CACHE.rebased-TIME */
	const char *journal;	/* where the old journal is now: one of the two */
	struct rebase_before before;
	bool *go_on;		/* shared with the child that looked: there is something to do */
	/* of the child that carries */
	struct remote *remote;
	struct private_mount mount;
	struct obj_store *store;
	struct slice_reader *objects;
	int top;
	int beat; /* the file `rebase` of the old journal, while this run changes things */
	struct rebase_left left;
	struct report r;
};

static int sync_dir_of(const char *path, struct errmsg *e)
{
	char copy[PATH_MAX];
	int rc;

	snprintf(copy, sizeof(copy), "%s", path);
	rc = dir_sync_at(AT_FDCWD, dirname(copy));
	return rc ? errmsg_set(e, rc, "the directory of %s cannot be synced: %s", path, strerror(-rc)) : 0;
}

static int move(const char *from, const char *to, struct errmsg *e)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
		return errmsg_set(e, -errno, "%s cannot be renamed to %s: %s", from, to, strerror(errno));
	return sync_dir_of(from, e);
}

static bool is_there(const char *journal)
{
	char path[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/base", journal);
	return access(path, F_OK) == 0;
}

/* --- the first look --- */

/* The journal is open for looking, so no daemon can have it. */
static int set_aside(void *arg, struct scan *s, struct report *r, struct errmsg *e)
{
	struct rebase *x = arg;
	struct remote *rm;
	int rc;

	(void)s;
	if (!r->rebase || !x->o->apply)
		return 0;
	rc = remote_open(x->o->meta_url, r->uuid, &rm, e);
	if (rc)
		return rc;
	rc = rebase_before_look(&x->before, rm, r->id, e);
	remote_close(rm);
	if (!rc)
		rc = rebase_before_write(x->cache, &x->before, e);
	FAULT_POINT("recover.rebase.before_aside");
	if (!rc)
		rc = move(x->cache, x->old, e);
	FAULT_POINT("recover.rebase.after_aside");
	return rc;
}

/* Does a rebase help here? If not, the report or an error says what does. */
static int first_look(void *arg)
{
	struct rebase *x = arg;
	struct report r;
	int status = recover_look_then(x->o, x->cache, &r, set_aside, x);

	r.command = "rebase";
	*x->go_on = status == RECOVER_CLEAN && r.rebase;
	if (status == RECOVER_CLEAN && !r.rebase) {
		if (!r.position || r.no_replay || strcmp(r.position, "foreign") == 0)
			status = recover_tell(x->o, &r);
		else
			status = recover_cannot("Redis is at a place of this journal's history: mount the volume with this cache directory, or "
						"run jfs-recover replay");
	}
	report_free(&r);
	return status;
}

/* --- carrying --- */

/* The highest numbers that the old journal has. */
static int raise_counters(struct rebase *x, struct scan *s, struct errmsg *e)
{
	static const char *const names[2] = {"ids.inode", "ids.slice"};
	uint64_t top[2] = {0, 0};
	int rc = 0;

	for (int i = 0; i < 2 && !rc; i++) {
		struct id_pool *p;

		rc = ids_open(s->j, names[i], &p);
		if (rc)
			return errmsg_set(e, rc, "the journal's id ranges cannot be read: %s", strerror(-rc));
		top[i] = ids_end(p);
		ids_close(p);
	}
	for (size_t i = 0; i < s->uses.n; i++)
		if (s->uses.v[i].slice > top[1])
			top[1] = s->uses.v[i].slice;
	return remote_raise(x->remote, top[0], top[1], e);
}

static int raise_in_look(void *arg, struct scan *s, struct report *r, struct errmsg *e)
{
	(void)r;
	return raise_counters(arg, s, e);
}

static int carry(void *arg, struct scan *s, struct report *r, struct errmsg *e)
{
	struct rebase *x = arg;
	struct rebase_config c = {.top = x->top, .apply = x->o->apply, .remove_others = x->o->remove_others, .objects = x->objects,
		.runs = x->before.runs.v, .n_runs = x->before.runs.n, .beat = x->beat};

	if (!x->before.sure && !x->o->trust_objects)
		c.first_sure = x->before.next_slice + 1;
	r->rebased = true;
	return rebase_tree(s, &c, r, &x->left, e);
}

/* A look at the old journal alone: Redis goes on with the new one. */
static int look_then(struct rebase *x, recover_then *then)
{
	struct recover_options o = *x->o;

	o.meta_url = NULL;
	return recover_look_then(&o, x->journal, &x->r, then, x);
}

/* The lease that the old journal still holds is our own. */
static bool is_ours(const struct rebase *x)
{
	const char *journal;

	return remote_lease(x->remote, &journal) && strcmp(journal, x->r.id) == 0;
}

/* Is the lease neither the old journal's, nor whose it was before, nor the new one's? */
static bool may_be_others(const struct rebase *x)
{
	const char *journal;
	char id[64];

	if (!remote_lease(x->remote, &journal) || strcmp(journal, x->r.id) == 0 || strcmp(journal, x->before.lease) == 0)
		return false;
	cache_id(x->cache, id);
	return strcmp(journal, id) != 0;
}

/* --- the new journal's own history --- */

/* Redis was set back once more, or another host took the volume over: the new journal cannot be replayed either. All that it
 * knows is in the old one, or was brought before and is compared again; so it goes out of the way, and the rebase begins anew. */
static int drop_lost(struct rebase *x, struct errmsg *e)
{
	char id[64], away[PATH_MAX + 8];
	bool lost;
	int rc = rebase_lost(x->o, x->cache, x->remote, &lost, e);

	if (rc || !lost)
		return rc;
	cache_id(x->old, id);
	rc = rebase_before_look(&x->before, x->remote, id, e);
	if (!rc)
		rc = rebase_before_write(x->old, &x->before, e);
	snprintf(away, sizeof(away), "%s-lost", x->done);
	if (!rc)
		rc = move(x->cache, away, e);
	FAULT_POINT("recover.rebase.after_lost");
	if (!rc)
		fprintf(stderr, "jfs-recover: Redis does not know the rebase that was cut off any more: it begins anew, and the journal of that is "
				"put aside as %s\n", away);
	return rc;
}

static int start_mount(struct rebase *x, struct errmsg *e)
{
	char root[PATH_MAX], look[PATH_MAX + 8];
	struct private_mount_config c = {.meta_url = x->o->meta_url, .cache_root = root, .hot_dir = x->o->hot_dir,
		.allow_any_fs = x->o->allow_any_fs, .takeover = x->o->takeover, .read_only = !x->o->apply};
	int rc;

	snprintf(look, sizeof(look), "%s.look", x->cache);
	snprintf(root, sizeof(root), "%s", x->cache);
	if (x->o->apply)
		dirname(root);
	else
		snprintf(root, sizeof(root), "%.*s", PATH_MAX - 1, look);
	c.takeover = x->o->apply && (c.takeover || is_ours(x));
	rc = private_mount_start(&c, &x->mount, e);
	if (rc) {
		errmsg_prefix(e, "the volume cannot be mounted");
		return rc;
	}
	x->top = open(x->mount.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return x->top < 0 ? errmsg_set(e, -errno, "%s: %s", x->mount.dir, strerror(errno)) : 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) && errno != ENOENT ? -errno : 0;
}

static void end_all(struct rebase *x, int *rc, struct errmsg *e)
{
	char look[PATH_MAX + 8];
	int ended;

	if (x->top >= 0)
		close(x->top);
	if (x->beat >= 0)
		close(x->beat);
	rebase_before_free(&x->before);
	reader_free(x->objects);
	obj_store_close(x->store);
	ended = x->mount.dir[0] ? private_mount_end(&x->mount, *rc ? NULL : e) : 0;
	if (!*rc)
		*rc = ended;
	remote_close(x->remote);
	if (!x->o->apply) { /* what the read-only mount cached */
		snprintf(look, sizeof(look), "%s.look", x->cache);
		nftw(look, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
}

static int finish(struct rebase *x, struct errmsg *e)
{
	const struct recover_options *o = x->o;
	struct report *r = &x->r;
	int rc = 0;

	r->applied_now = o->apply && report_differs(r);
	if (x->left.refused) {
		snprintf(r->advice, sizeof(r->advice), "take away what keeps these files from being changed, and run it again");
		return 0;
	}
	if (x->left.doubtful) {
		snprintf(r->advice, sizeof(r->advice), "if no other client has written to the volume since Redis was restored, run it again with "
			"--trust-objects; to leave these files out, with --no-objects");
		return 0;
	}
	if (!o->apply) {
		if (report_differs(r))
			snprintf(r->advice, sizeof(r->advice), "to make it so: jfs-recover rebase --apply --cache-dir %.900s META-URL", x->cache);
		return 0;
	}
	FAULT_POINT("recover.rebase.before_done");
	rc = move(x->old, x->done, e);
	if (rc)
		return rc;
	r->left_at = x->done;
	r->cache = x->done;
	snprintf(r->advice, sizeof(r->advice), "mount the volume; %.900s is the old journal: remove it when nothing is missing", x->done);
	return 0;
}

static int carry_all(void *arg)
{
	struct rebase *x = arg;
	struct errmsg e = {""};
	char uuid[64];
	int status, rc;

	files_limit_raise(); /* a directory stays open at every level */
	x->top = x->beat = -1;
	cache_uuid(x->journal, uuid);
	rc = remote_open(x->o->meta_url, uuid, &x->remote, &e);
	if (!rc && x->o->apply && is_there(x->cache))
		rc = drop_lost(x, &e);
	if (rc) {
		remote_close(x->remote);
		return recover_cannot(e.text);
	}
	/* First only for the numbers, which must be raised before the mount, and for the journal's name. */
	status = look_then(x, x->o->apply ? raise_in_look : NULL);
	if (status != RECOVER_CLEAN) {
		remote_close(x->remote);
		return status;
	}
	rc = x->journal == x->old ? rebase_before_read(x->old, &x->before, &e) : rebase_before_look(&x->before, x->remote, x->r.id, &e);
	if (!rc && may_be_others(x))
		x->before.runs.n = 0;
	if (!rc && x->o->apply)
		rc = rebase_before_begin(&x->before, x->old, &x->beat, &e);
	if (!rc)
		rc = start_mount(x, &e);
	report_free(&x->r);
	if (!rc && !x->o->no_objects)
		rc = remote_reader(x->remote, &x->store, &x->objects, &e);
	if (!rc) {
		status = look_then(x, carry);
		rc = status != RECOVER_CLEAN ? -EIO : 0; /* it has said why */
		if (!rc && x->o->apply)
			rc = private_mount_flush(&x->mount, &e);
	}
	end_all(x, &rc, &e);
	x->r.command = "rebase";
	if (!rc)
		rc = finish(x, &e);
	if (rc)
		status = status == RECOVER_CLEAN ? recover_cannot(e.text) : status;
	else
		status = recover_tell(x->o, &x->r);
	report_free(&x->r);
	return status;
}

/* --- the command --- */

/* The first second from now on that names nothing yet: two runs may be over within one. */
static int name_done(struct rebase *x, struct errmsg *e)
{
	char lost[PATH_MAX + 8], when[32];
	time_t now = clock_wall_sec();
	struct tm tm;

	do {
		if (!gmtime_r(&now, &tm) || !strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm))
			return errmsg_set(e, -EINVAL, "the clock is wrong");
		if (snprintf(x->done, sizeof(x->done), "%s.rebased-%s", x->cache, when) >= (int)sizeof(x->done))
			return errmsg_set(e, -ENAMETOOLONG, "%s: path too long", x->cache);
		snprintf(lost, sizeof(lost), "%s-lost", x->done);
		now++;
	} while (access(x->done, F_OK) == 0 || access(lost, F_OK) == 0);
	return 0;
}

static int names(struct rebase *x, struct errmsg *e)
{
	char uuid[64], copy[PATH_MAX];
	int rc = name_done(x, e);

	if (rc)
		return rc;
	if (snprintf(x->old, sizeof(x->old), "%s" CACHE_REBASE_SUFFIX, x->cache) >= (int)sizeof(x->old))
		return errmsg_set(e, -ENAMETOOLONG, "%s: path too long", x->cache);
	x->journal = is_there(x->old) ? x->old : x->cache;
	cache_uuid(x->journal, uuid);
	snprintf(copy, sizeof(copy), "%s", x->cache);
	if (strcmp(basename(copy), uuid) != 0)
		return errmsg_set(e, -EINVAL, "%s: its name must be the volume's UUID %s, as jfs mount makes it", x->cache, uuid);
	return geteuid() == 0 ? 0 : errmsg_set(e, -EPERM, "rebase gives files their owners: it must run as root");
}

int recover_rebase(const struct recover_options *o, const char *cache)
{
	struct rebase x = {.o = o, .cache = cache, .top = -1};
	struct errmsg e = {""};
	int status = RECOVER_CLEAN;

	if (names(&x, &e))
		return recover_cannot(e.text);
	x.go_on = mmap(NULL, sizeof(*x.go_on), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (x.go_on == MAP_FAILED)
		return recover_cannot("out of memory");
	*x.go_on = x.journal == x.old;
	if (!*x.go_on)
		status = recover_guarded(o, "rebase", x.journal, first_look, &x);
	if (status == RECOVER_CLEAN && *x.go_on) {
		if (o->apply)
			x.journal = x.old;
		status = recover_guarded(o, "rebase", x.journal, carry_all, &x);
	}
	munmap(x.go_on, sizeof(*x.go_on));
	return status;
}
