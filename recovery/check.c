/* jfs-recover check: changes nothing. The order of things: the journal's own state, the position (which tells how much of
 * the log is still needed), every key and record, staged bytes, objects, and then what is only here. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "recovery/caches.h"
#include "recovery/guard.h"
#include "recovery/recover.h"
#include "recovery/remote.h"
#include "recovery/scan.h"
#include "redis/windows.h"
#include "util/errmsg.h"

int recover_cannot(const char *text)
{
	fprintf(stderr, "jfs-recover: %s\n", text);
	return RECOVER_CANNOT;
}

int recover_tell(const struct recover_options *o, const struct report *r)
{
	if (o->json && report_json(r))
		return recover_cannot("cannot write the report");
	if (!o->json)
		report_print(r, o->all);
	if (fflush(stdout))
		return recover_cannot("cannot write the report");
	return report_exit(r);
}

static int look_journal(const struct inspect *found, struct journal *j, struct report *r)
{
	snprintf(r->id, sizeof(r->id), "%s", journal_cache_id(j));
	r->clean = found->clean && found->hot_records == 0;
	r->power_cut = !found->clean && !found->hot_found;
	r->moved = found->moved;
	r->durable = found->durable;
	r->trimmed = found->trimmed;
	r->committed = journal_mark(j, WM_COMMITTED);
	r->hot_records = found->hot_records;
	r->hot_bad = found->hot_bad;
	if (!found->hot_bad)
		return 0;
	return report_broken(r, NULL, "the hot log is damaged, %" PRIu64 " records would be set aside: %s", found->hot_bad,
		found->first_bad);
}

/* What the operator should do next; the worst comes first. */
static void advise(const struct recover_options *o, struct report *r)
{
	const char *url = o->meta_url ? "" : " META-URL";

	if (r->broken.n && r->rebase)
		snprintf(r->advice, sizeof(r->advice), "this journal cannot be replayed into that Redis; copy into the volume what only it knows "
			"(jfs-recover rebase, with --apply, --cache-dir %.400s and the META-URL), or save it as plain files: jfs-recover export "
			"--apply --cache-dir %.400s TARGET", r->cache, r->cache);
	else if (r->broken.n && r->position && strcmp(r->position, "same") != 0 && strcmp(r->position, "earlier") != 0)
		snprintf(r->advice, sizeof(r->advice), "this journal cannot be replayed into that Redis; save what is only here: "
			"jfs-recover export --apply --cache-dir %.900s TARGET", r->cache);
	else if (r->broken.n && r->staged_bad)
		snprintf(r->advice, sizeof(r->advice), "copy %.400s before anything else; the files named above have lost bytes: give them "
			"up (jfs-recover discard --apply --cache-dir %.400s PATH...), then all others can be replayed", r->cache, r->cache);
	else if (r->broken.n)
		snprintf(r->advice, sizeof(r->advice), "copy %s before anything else, then mount or replay what is whole", r->cache);
	else if ((r->backlog_ops || r->backlog_bytes) && r->moved && r->redis_epoch && !r->released)
		snprintf(r->advice, sizeof(r->advice), "if nothing runs any more with the directory that holds the lease: jfs-recover replay "
			"--apply --takeover --cache-dir %.900s%s", r->cache, url);
	else if (r->backlog_ops || r->backlog_bytes)
		snprintf(r->advice, sizeof(r->advice), "mount the volume with this cache directory, or: jfs-recover replay --apply "
			"--cache-dir %.900s%s", r->cache, url);
}

/* An error of Redis or the object store, told from one of the journal. */
static int far(int err)
{
	return err == -EUCLEAN || err == -EIO || err == -EBADMSG ? -EREMOTEIO : err;
}

static int look_windows(struct journal *j, struct report *r, struct errmsg *e)
{
	struct windows_found w;
	int rc = windows_look(j, NULL, &w);

	if (!rc && w.damaged) {
		r->no_replay = true;
		rc = report_broken(r, NULL, "%" PRIu64 " of %" PRIu64 " windows that the journal remembers are damaged", w.damaged, w.windows);
	}
	if (rc == -ENOTSUP)
		return errmsg_set(e, rc, "the journal remembers a window of a newer format version: use the newer jfs that wrote it");
	return rc ? errmsg_set(e, rc, "the journal cannot be read: %s", strerror(-rc)) : 0;
}

static int look(const struct recover_options *o, struct scan *s, struct report *r, struct errmsg *e)
{
	struct remote *rm = NULL;
	uint64_t applied;
	int rc = scan_position(s);

	if (rc == -EUCLEAN)
		rc = report_broken(r, NULL, "the position that the journal noted is damaged");
	if (rc)
		return errmsg_set(e, rc, "the journal cannot be read: %s", strerror(-rc));
	r->applied = applied = s->position.seq;
	if (o->meta_url) {
		rc = far(remote_open(o->meta_url, r->uuid, &rm, e));
		if (!rc && (rc = remote_position(rm, s, r, &applied)) != 0)
			errmsg_set(e, rc, "out of memory");
	}
	if (!rc)
		rc = look_windows(s->j, r, e);
	if (!rc)
		rc = scan_walk(s, applied, r, e);
	if (!rc && (rc = aside_tell(&s->aside, s->paths, r)) != 0)
		errmsg_set(e, rc, "out of memory");
	if (!rc && (rc = scan_staging(s, r)) != 0)
		errmsg_set(e, rc, "staging cannot be read: %s", strerror(-rc));
	if (!rc && rm && !o->no_objects)
		rc = far(remote_objects(rm, s, applied, r, e));
	if (!rc && (rc = scan_unsafe(s, applied, r)) != 0)
		errmsg_set(e, rc, "out of memory");
	remote_close(rm);
	return rc;
}

/* What is damaged is a finding; everything else keeps us from looking. */
static int cannot_read(struct report *r, int err, const char *text)
{
	if (err != -EUCLEAN && err != -EIO && err != -EBADMSG)
		return recover_cannot(text);
	r->no_replay = true;
	snprintf(r->advice, sizeof(r->advice), "copy %s before anything else, and look for errors of its disk", r->cache);
	return report_broken(r, NULL, "%s", text) ? recover_cannot("out of memory") : RECOVER_CLEAN;
}

int recover_look(const struct recover_options *o, const char *cache, struct report *r)
{
	return recover_look_then(o, cache, r, NULL, NULL);
}

int recover_look_then(const struct recover_options *o, const char *cache, struct report *r, recover_then *then, void *arg)
{
	const struct journal_config jc = {.cache_dir = cache, .hot_dir = o->hot_dir, .allow_any_fs = true};
	struct errmsg e = {""};
	struct journal *j = NULL;
	struct inspect found;
	struct scan s;
	int rc;

	*r = (struct report){.cache = cache};
	cache_uuid(cache, r->uuid);
	rc = journal_inspect(&jc, &j, &found, &e);
	if (rc)
		return cannot_read(r, rc, e.text);
	rc = scan_init(&s, j, &found);
	if (!rc)
		rc = look_journal(&found, j, r);
	if (!rc)
		rc = aside_load(&s.aside, cache, s.paths);
	if (rc)
		errmsg_set(&e, rc, "%s: %s", cache, strerror(-rc));
	else
		rc = look(o, &s, r, &e);
	if (!rc && then && (rc = then(arg, &s, r, &e)) != 0) {
		scan_fini(&s);
		journal_close(j);
		return recover_cannot(e.text);
	}
	scan_fini(&s);
	journal_close(j);
	if (rc)
		return cannot_read(r, rc, e.text);
	advise(o, r);
	return RECOVER_CLEAN;
}

/* --- in a child: see guard.h --- */

static int tell_crash(const struct recover_options *o, const char *command, const char *cache, int sig)
{
	struct report r = {.command = command, .cache = cache, .no_replay = true};
	int status;

	cache_uuid(cache, r.uuid);
	status = report_broken(&r, NULL, "the journal's database %s/base is damaged: reading it ended with signal %d (%s)", cache, sig,
		strsignal(sig));
	snprintf(r.advice, sizeof(r.advice), "copy %s before anything else, and look for errors of its disk", cache);
	status = status ? recover_cannot("out of memory") : recover_tell(o, &r);
	report_free(&r);
	return status;
}

int recover_guarded(const struct recover_options *o, const char *command, const char *cache, int (*fn)(void *arg), void *arg)
{
	int sig, rc = guard_run(fn, arg, &sig);

	if (rc == -EUCLEAN)
		return tell_crash(o, command, cache, sig);
	if (rc == -EINTR)
		return recover_cannot("interrupted");
	return rc < 0 ? recover_cannot(strerror(-rc)) : rc;
}

struct check_call {
	const struct recover_options *o;
	const char *cache;
};

static int check(void *arg)
{
	const struct check_call *c = arg;
	struct report r;
	int status = recover_look(c->o, c->cache, &r);

	r.command = "check";
	if (status == RECOVER_CLEAN)
		status = recover_tell(c->o, &r);
	report_free(&r);
	return status;
}

int recover_check(const struct recover_options *o, const char *cache)
{
	struct check_call c = {.o = o, .cache = cache};

	return recover_guarded(o, "check", cache, check, &c);
}
