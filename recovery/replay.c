/* jfs-recover replay: brings Redis and the object store up to date without mounting. A dry run is a check.
 *
 * With --apply it is what a mount does in the background, without FUSE: the journal is recovered, the lease taken, the rest
 * of the log replayed, the lease released. It may be killed at any point, as a mount may. Signals and --timeout end it
 * early and in order; what is left then stays in the journal. Afterwards everything is looked at again, and that is the
 * report. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "daemon/fs.h"
#include "daemon/volume.h"
#include "recovery/progress.h"
#include "recovery/recover.h"
#include "util/clock.h"

enum { TICK_MS = 200 };

struct drain {
	struct volume *volume;
	struct journal *journal;
	struct fs *fs;
	bool attached, running;
	int done_fd, signal_fd;
	_Atomic int err;	     /* of the drain; valid once done_fd is readable */
	_Atomic(const char *) lost; /* why it cannot go on: fenced, or the volume is gone */
};

static void wake(struct drain *d)
{
	uint64_t one = 1;

	if (write(d->done_fd, &one, sizeof(one)) < 0)
		return; /* its counter is full: it is readable already */
}

static void on_fenced(void *ctx, const char *why)
{
	struct drain *d = ctx;

	(void)why;
	atomic_store(&d->lost, "another mount has taken the volume over");
	wake(d);
}

static void on_gone(void *ctx, const char *why)
{
	struct drain *d = ctx;

	(void)why;
	atomic_store(&d->lost, "the volume is not there any more");
	wake(d);
}

/* Durable, or what is demanded, has moved. */
static void on_moved(void *ctx)
{
	struct drain *d = ctx;

	volume_kick(d->volume);
}

/* --- opening and closing --- */

static int open_all(struct drain *d, const struct recover_options *o, const char *cache, struct errmsg *e)
{
	const struct volume_config vc = {.meta_url = o->meta_url, .cache_root = cache, .mountpoint = "jfs-recover",
		.takeover = o->takeover, .writeback = true, .pack_below = VOLUME_PACK_BELOW, .heartbeat_ns = 12000000000ull, .buffer_bytes = 300ull << 20,
		.cache_bytes = 100ull << 30, .free_ratio = 0.1, .max_uploads = 20, .io_retries = 10, .timeout_ms = 60000,
		.on_fenced = on_fenced, .on_gone = on_gone, .ctx = d};
	struct journal_config jc = {.cache_dir = cache, .hot_dir = o->hot_dir, .allow_any_fs = o->allow_any_fs};
	struct journal_report found;
	struct fs_config fc;
	int rc = volume_connect(&vc, &d->volume, e);

	if (rc)
		return rc;
	jc.uuid = volume_setting(d->volume)->uuid;
	rc = journal_open(&jc, &d->journal, &found, e);
	if (rc)
		return rc;
	d->attached = true; /* from here on volume_detach is due */
	rc = volume_attach(d->volume, d->journal, cache, e);
	if (rc)
		return rc;
	volume_fs_config(d->volume, &fc);
	rc = fs_new(d->journal, &fc, &d->fs);
	if (rc)
		return errmsg_set(e, rc, "%s: cannot open the view: %s", cache, strerror(-rc));
	rc = volume_start(d->volume, d->fs, e);
	d->running = true;
	journal_set_notify(d->journal, on_moved, d);
	if (!rc && (rc = fs_reap_orphans(d->fs)) != 0)
		errmsg_set(e, rc, "%s: cannot clean up unlinked files: %s", cache, strerror(-rc));
	return rc;
}

static int close_all(struct drain *d)
{
	int rc;

	if (d->running) {
		volume_cancel(d->volume);
		volume_stop(d->volume);
	}
	if (d->attached)
		volume_detach(d->volume);
	rc = journal_close(d->journal); /* answers `drained` if that still waits */
	fs_free(d->fs);
	volume_free(d->volume);
	return rc;
}

/* --- waiting --- */

static void drained(void *arg, int err)
{
	struct drain *d = arg;

	atomic_store(&d->err, err);
	wake(d);
}

/* True when there is no point in waiting on; *text says why. */
static bool given_up(struct drain *d, const struct recover_options *o, uint64_t start_ms, struct errmsg *text)
{
	struct signalfd_siginfo si;
	struct volume_figures f;

	if (read(d->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		errmsg_set(text, 0, "interrupted");
		return true;
	}
	volume_figures(d->volume, &f);
	if (f.replay_stopped) {
		errmsg_set(text, 0, "replay %s", f.replay_state);
		return true;
	}
	if (o->timeout_ns && clock_mono_ms() - start_ms >= o->timeout_ns / 1000000) {
		errmsg_set(text, 0, "time is up%s%s", f.replay_state[0] ? ": replay " : "", f.replay_state);
		return true;
	}
	return false;
}

/* 0 when everything has been applied; else -errno with a text. */
static int wait_drained(struct drain *d, const struct recover_options *o, struct errmsg *e)
{
	uint64_t start = clock_mono_ms(), total = journal_mark(d->journal, WM_COMMITTED), from = journal_mark(d->journal, WM_APPLIED);
	struct progress bar;
	int rc = 0;

	journal_when(d->journal, WM_APPLIED, total, drained, d);
	progress_begin(&bar, "replay", "records", total > from ? total - from : 0);
	for (;;) {
		struct pollfd p[2] = {{.fd = d->done_fd, .events = POLLIN}, {.fd = d->signal_fd, .events = POLLIN}};
		uint64_t applied = journal_mark(d->journal, WM_APPLIED);

		progress_set(&bar, applied > from ? applied - from : 0);
		if (poll(p, 2, TICK_MS) < 0 && errno != EINTR) {
			rc = errmsg_set(e, -errno, "poll: %s", strerror(errno));
			break;
		}
		if (p[0].revents) {
			const char *lost = atomic_load(&d->lost);

			rc = lost ? errmsg_set(e, -EROFS, "%s", lost)
			   : d->err ? errmsg_set(e, d->err, "replay failed: %s",
					      journal_failed(d->journal) ? journal_failure(d->journal) : strerror(-d->err))
				    : 0;
			break;
		}
		if (given_up(d, o, start, e)) {
			rc = -ECANCELED;
			break;
		}
	}
	progress_end(&bar);
	return rc;
}

/* --- the command --- */

static int block_signals(struct errmsg *e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? errmsg_set(e, -errno, "signalfd: %s", strerror(errno)) : fd;
}

/* One piece of the command, in a child (guard.h). */
struct step {
	const struct recover_options *o;
	const char *cache;
	bool applied; /* the last look comes after an apply that went through */
	bool *go_on;  /* shared with the child: the first look found something to do */
};

/* RECOVER_CLEAN: everything has been applied; RECOVER_BACKLOG: it ended early; RECOVER_CANNOT. */
static int apply(void *arg)
{
	const struct step *s = arg;
	struct drain d = {.signal_fd = -1};
	struct errmsg e = {""};
	int rc, closed;

	d.done_fd = eventfd(0, EFD_CLOEXEC);
	if (d.done_fd < 0)
		return recover_cannot("no event descriptor");
	rc = d.signal_fd = block_signals(&e);
	if (rc >= 0)
		rc = open_all(&d, s->o, s->cache, &e);
	if (!rc)
		rc = wait_drained(&d, s->o, &e);
	closed = close_all(&d);
	if (!rc && closed)
		rc = errmsg_set(&e, closed, "%s: %s", s->cache, strerror(-closed));
	if (d.signal_fd >= 0)
		close(d.signal_fd);
	close(d.done_fd);
	/* -ESTALE: the journal holds nothing and the volume went on without it, which is no failure */
	if (rc == 0 || rc == -ESTALE)
		return RECOVER_CLEAN;
	recover_cannot(e.text);
	return rc == -ECANCELED ? RECOVER_BACKLOG : RECOVER_CANNOT;
}

/* Is there anything that a replay would change? A lease that was not released is such a thing. */
static bool nothing_to_do(const struct report *r)
{
	return r->backlog_ops == 0 && r->backlog_bytes == 0 && r->hot_records == 0 && r->hot_bad == 0 &&
	       (r->released || r->redis_epoch == 0 || strcmp(r->position, "foreign") == 0);
}

static int first_look(void *arg)
{
	const struct step *s = arg;
	struct report r;
	int status = recover_look(s->o, s->cache, &r);

	r.command = "replay";
	*s->go_on = status == RECOVER_CLEAN && !nothing_to_do(&r) && !r.no_replay;
	if (status == RECOVER_CLEAN && !*s->go_on)
		status = recover_tell(s->o, &r);
	report_free(&r);
	return status;
}

static int last_look(void *arg)
{
	const struct step *s = arg;
	struct report r;
	int status = recover_look(s->o, s->cache, &r);

	r.command = "replay";
	r.applied_now = s->applied;
	if (status == RECOVER_CLEAN)
		status = recover_tell(s->o, &r);
	report_free(&r);
	return status;
}

int recover_replay(const struct recover_options *o, const char *cache)
{
	struct step s = {.o = o, .cache = cache};
	int status;

	if (!o->apply)
		return recover_guarded(o, "replay", cache, last_look, &s);
	s.go_on = mmap(NULL, sizeof(*s.go_on), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s.go_on == MAP_FAILED)
		return recover_cannot("out of memory");
	status = recover_guarded(o, "replay", cache, first_look, &s);
	if (status == RECOVER_CLEAN && *s.go_on) {
		status = recover_guarded(o, "replay", cache, apply, &s);
		s.applied = status == RECOVER_CLEAN;
		if (status == RECOVER_CLEAN || status == RECOVER_BACKLOG)
			status = recover_guarded(o, "replay", cache, last_look, &s);
		else if (status != RECOVER_BROKEN)
			status = RECOVER_CANNOT; /* the journal's own handler of SIGBUS ends with 1 */
	}
	munmap(s.go_on, sizeof(*s.go_on));
	return status;
}
