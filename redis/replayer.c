/* The replayer's thread: one loop that does whatever can be done, and then sleeps until something happens.
 *
 * Invariants. r->wins is a contiguous chain of recorded windows after r->acked, in order. A window is sent only when it is
 * durable, the ones before it have been sent, and (ordered) its slices are confirmed. r->acked moves only by an OK, or by
 * what Redis's position says. Failures: the journal's stop the thread; Redis's are waited out; see replayer_wire.c. */
#include "redis/replayer.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#include "redis/replayer_int.h"
#include "util/boot.h"
#include "util/clock.h"
#include "util/log.h"

#define REAP_REST_MS (10u * 60 * 1000) /* when the store refuses to delete */
#define MERGE_STEP 20000 /* records: about as many as a script may have commands */

void replayer_say(struct replayer *r, enum replayer_state s, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&r->lock);
	r->status.state = s;
	va_start(ap, fmt);
	vsnprintf(r->status.reason, sizeof(r->status.reason), fmt, ap);
	va_end(ap);
	pthread_mutex_unlock(&r->lock);
	if (s >= REPLAY_STOPPED && r->cfg.ops.on_stopped)
		r->cfg.ops.on_stopped(r->cfg.ctx);
}

uint64_t replayer_epoch(struct replayer *r)
{
	uint64_t e;

	pthread_mutex_lock(&r->lock);
	e = r->epoch;
	pthread_mutex_unlock(&r->lock);
	return e;
}

void replayer_kick(struct replayer *r)
{
	uint64_t one = 1;

	if (write(r->wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it wakes up anyway */
}

static void event_put(struct replayer *r, struct event *ev)
{
	ev->next = NULL;
	*r->events_end = ev;
	r->events_end = &ev->next;
}

void event_post(struct event *ev)
{
	struct replayer *r = ev->r;

	pthread_mutex_lock(&r->lock);
	event_put(r, ev);
	pthread_mutex_unlock(&r->lock);
	replayer_kick(r);
}

static struct event *events_all(struct replayer *r)
{
	struct event *first;

	pthread_mutex_lock(&r->lock);
	first = r->events;
	r->events = NULL;
	r->events_end = &r->events;
	pthread_mutex_unlock(&r->lock);
	return first;
}

void win_free(struct win *win)
{
	window_fini(&win->w);
	plan_free(win->plan);
	free(win);
}

struct win *win_find(struct replayer *r, uint64_t end)
{
	for (size_t i = 0; i < r->wins.n; i++)
		if (r->wins.v[i]->w.end == end)
			return r->wins.v[i];
	for (size_t i = 0; i < r->lagging.n; i++)
		if (r->lagging.v[i]->w.end == end)
			return r->lagging.v[i];
	return NULL;
}

void wins_drop(struct replayer *r, size_t from)
{
	while (r->wins.n > from) {
		struct win *win = r->wins.v[--r->wins.n];

		log_debug("what=\"window built anew\" seq=%llu", (unsigned long long)win->w.end);
		win_free(win);
	}
}

static bool stopped(struct replayer *r)
{
	bool s;

	pthread_mutex_lock(&r->lock);
	s = r->stop;
	pthread_mutex_unlock(&r->lock);
	return s;
}

/* The disk is full: waits for the next try of a flush, which is when that may have changed. */
static int disk_wait(struct replayer *r)
{
	int err = journal_wait(r->j, WM_DURABLE, journal_mark(r->j, WM_COMMITTED));

	if (err && err != -ENOSPC)
		return err;
	return stopped(r) ? -ESHUTDOWN : 0;
}

int commit_record(struct replayer *r, enum rec_op op, void (*fill)(struct replayer *r, struct rec *rec, void *arg), void *arg,
	uint64_t *seq)
{
	for (;;) {
		struct rec *rec;
		int err;

		journal_lock(r->j);
		rec = journal_begin(r->j, op);
		fill(r, rec, arg);
		err = rec->buf.err ? rec->buf.err : journal_commit(r->j, seq);
		journal_unlock(r->j);
		if (err == -EAGAIN)
			err = journal_wait_room(r->j);
		else if (!err)
			return 0;
		if (err == -ENOSPC)
			err = disk_wait(r);
		if (err)
			return err;
	}
}

int durable_wait(struct replayer *r, uint64_t seq)
{
	int err;

	while ((err = journal_wait(r->j, WM_DURABLE, seq)) == -ENOSPC)
		if (stopped(r))
			return -ESHUTDOWN;
	return err;
}

struct lifeline *lifeline_new(struct replayer *r)
{
	struct lifeline *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	pthread_mutex_init(&l->lock, NULL);
	l->r = r;
	l->refs = 1;
	return l;
}

void lifeline_ref(struct lifeline *l)
{
	pthread_mutex_lock(&l->lock);
	l->refs++;
	pthread_mutex_unlock(&l->lock);
}

void lifeline_unref(struct lifeline *l)
{
	bool last;

	pthread_mutex_lock(&l->lock);
	last = --l->refs == 0;
	pthread_mutex_unlock(&l->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* --- uploads --- */

static void upload_done(void *arg, int err)
{
	struct event *ev = arg;

	ev->err = err;
	event_post(ev);
}

/* Tells the window's first n slices from others. */
static uint64_t slices_ids(const struct win *win, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = XXH3_64bits_withSeed(&win->w.slices.v[i].s.id, sizeof(uint64_t), sum);
	return sum;
}

static int win_upload(struct replayer *r, struct win *win)
{
	size_t n = win->w.slices.n - win->slices_done;
	struct slice_plan *plans = calloc(n, sizeof(*plans));
	struct event *ev = calloc(1, sizeof(*ev));
	struct known *k = known_last(r, win->w.end);
	int err = plans && ev ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !err; i++) {
		plans[i] = win->w.slices.v[win->slices_done + i].s;
		ev->bytes += plans[i].size;
	}
	if (!err) {
		ev->r = r;
		ev->kind = EV_UPLOAD;
		ev->end = win->w.end;
		ev->slices = win->w.slices.n;
		ev->ids = slices_ids(win, ev->slices);
		ev->began_ms = clock_boot_ms();
		if (k && !k->began_ms)
			k->began_ms = ev->began_ms;
		win->uploading = true;
		r->uploads++;
		err = r->cfg.ops.upload(r->cfg.ctx, plans, n, upload_done, ev);
		if (err) {
			win->uploading = false;
			r->uploads--;
		}
	}
	if (err)
		free(ev);
	free(plans);
	return err;
}

/* An upload of this window is on its way, perhaps from before it was built anew. */
static bool upload_busy(const struct replayer *r, uint64_t end)
{
	for (size_t i = 0; i < r->busy.n; i++)
		if (r->busy.v[i] == end)
			return true;
	return false;
}

static int uploads_start(struct replayer *r)
{
	uint64_t demand = journal_demand(r->j, WM_UPLOADED), d2 = journal_demand(r->j, WM_APPLIED);
	bool before_done = true;

	demand = demand > d2 ? demand : d2;
	for (size_t i = 0; i < r->lagging.n + r->wins.n; i++) {
		struct win *win = i < r->lagging.n ? r->lagging.v[i] : r->wins.v[i - r->lagging.n];
		uint64_t *b;
		int err;

		if (!win->uploaded && !win->uploading && !upload_busy(r, win->w.end) && (before_done || !win->composed) &&
			(r->in_step || win->w.end <= demand)) {
			b = vec_push(&r->busy);
			if (!b)
				return -ENOMEM;
			*b = win->w.end;
			err = win_upload(r, win);
			if (err) {
				r->busy.n--;
				return err;
			}
		}
		before_done &= win->uploaded;
	}
	return 0;
}

static int uploads_note(struct replayer *r)
{
	int err = 0;

	while (r->lagging.n && r->lagging.v[0]->uploaded && !err) {
		struct win *win = r->lagging.v[0];

		err = apply_places(r, &win->w);
		if (!err)
			err = uploaded_commit(r, win->w.end);
		if (err)
			return err;
		memmove(r->lagging.v, r->lagging.v + 1, --r->lagging.n * sizeof(*r->lagging.v));
		win_free(win);
	}
	/* A window without slices may have been applied while others were lagging. */
	if (!r->lagging.n && r->applied > r->uploaded && !r->rewound)
		err = uploaded_commit(r, r->applied);
	for (size_t i = 0; i < r->wins.n && r->wins.v[i]->uploaded && !r->lagging.n && !err; i++) {
		struct win *win = r->wins.v[i];

		if (!win->upload_noted && win->w.end > r->uploaded)
			err = uploaded_commit(r, win->w.end);
		win->upload_noted = true;
	}
	return err;
}

static int past_step(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *v = arg; /* how many more, and where it ended */

	(void)rec;
	(void)len;
	v[1] = seq;
	return --v[0] == 0;
}

/* Staged bytes of the window cannot be read. If the files that they belong to were removed since, a window that reaches
 * behind that needs them no more: tries further and further. Its slices are made anew, for others may share one with those bytes.
 * False: nothing has happened since that could help. */
static bool merge_forward(struct replayer *r, const struct win *win)
{
	const uint64_t first = win->w.from, last = win->w.end;
	uint64_t from = win->w.end > r->merged_to ? win->w.end : r->merged_to, step[2] = { MERGE_STEP, 0 };
	size_t i = 0;

	while (i < r->wins.n && r->wins.v[i] != win)
		i++;
	if (i == r->wins.n || journal_log_scan(r->j, from, journal_mark(r->j, WM_DURABLE), past_step, step) < 0 || !step[1])
		return false;
	log_warn("what=\"staged bytes cannot be read: the window is merged with what came after it\" seq=%llu to=%llu",
		(unsigned long long)win->w.end, (unsigned long long)step[1]);
	r->min_end = r->merged_to = step[1];
	for (size_t n = 0; n < r->known.n; n++) /* also those that it was merged from */
		r->known.v[n].stale |= r->known.v[n].from >= first && r->known.v[n].end <= last;
	for (size_t n = i; n < r->wins.n; n++) /* eager: answers for what is dropped are on their way */
		r->in_step &= !r->wins.v[n]->sent;
	wins_drop(r, i);
	r->look_at_ms = 1;
	return true;
}

/* A slice that the window copies from has no object any more: a stock client took the last files that named it. The lists say
 * so; the window is planned anew from them, with slices of its own. Or the object was lost or damaged: then a pack that was to
 * be emptied stays as it is. Each once: then it is another failure. */
static bool relist(struct replayer *r, const struct win *win, int err)
{
	struct known *k = known_last(r, win->w.end);
	size_t i = 0;

	while (i < r->wins.n && r->wins.v[i] != win)
		i++;
	if (i == r->wins.n || !k || !win->composed || r->staying == win->w.end)
		return false;
	if (err != -ENOENT || r->relisted == win->w.end)
		r->staying = win->w.end;
	r->relisted = win->w.end;
	log_warn("what=\"an object to be copied from is gone or damaged: the window is planned anew\" seq=%llu packs=%s",
		(unsigned long long)win->w.end, r->staying == win->w.end ? "stay" : "emptied");
	for (size_t n = 0; n < win->w.posts.n; n++)
		if (!win->w.posts.v[n].onward)
			list_forget(r, win->w.posts.v[n].ino, win->w.posts.v[n].chunk);
	k->stale = true;
	for (size_t n = i; n < r->wins.n; n++)
		r->in_step &= !r->wins.v[n]->sent;
	wins_drop(r, i);
	r->look_at_ms = 1;
	return true;
}

static void upload_event(struct replayer *r, const struct event *ev)
{
	struct win *win = win_find(r, ev->end);
	struct known *k = known_last(r, ev->end);
	/* Dropped, built anew or merged since, the window that ends there may have others. */
	bool same = win && ev->slices <= win->w.slices.n && slices_ids(win, ev->slices) == ev->ids;

	r->uploads--;
	for (size_t i = 0; i < r->busy.n; i++)
		if (r->busy.v[i] == ev->end)
			r->busy.v[i--] = r->busy.v[--r->busy.n];
	if (ev->err) {
		log_error("what=\"upload failed\" seq=%llu err=\"%s\"", (unsigned long long)ev->end, strerror(-ev->err));
		if (!same || !win->uploading)
			return; /* it fails again if it is built anew as it was */
		if (ev->err != -ECANCELED && (relist(r, win, ev->err) || merge_forward(r, win)))
			return;
		if (ev->err != -ECANCELED)
			replayer_say(r, REPLAY_STOPPED, "staged bytes of a window cannot be read (%s): see jfs-recover check", strerror(-ev->err));
		win->uploading = ev->err != -ECANCELED; /* not again in this life */
		return;
	}
	if (ev->bytes > 1 << 20) {
		double ms = (double)(clock_boot_ms() - ev->began_ms) + 1;

		r->upload_rate = 0.7 * r->upload_rate + 0.3 * ((double)ev->bytes * 1000 / ms);
	}
	pthread_mutex_lock(&r->lock);
	r->status.upload_bytes += ev->bytes;
	pthread_mutex_unlock(&r->lock);
	if (!same)
		return; /* what is there instead is uploaded by itself */
	win->uploading = false;
	win->slices_done = ev->slices;
	win->uploaded = win->slices_done >= win->w.slices.n;
	if (k && win->uploaded)
		k->ended_ms = clock_boot_ms();
}

static void events_take(struct replayer *r)
{
	struct event *next;

	for (struct event *ev = events_all(r); ev; ev = next) {
		next = ev->next;
		if (ev->kind == EV_UPLOAD) {
			upload_event(r, ev);
		} else if (r->in_step && r->pending) { /* the connection is not free now */
			pthread_mutex_lock(&r->lock);
			event_put(r, ev);
			pthread_mutex_unlock(&r->lock);
			continue;
		} else {
			r->deleting--;
			if (!ev->err)
				wire_deleted(r, ev->field);
			else if (ev->err != -ECANCELED) /* refused: it stays in the list, with all others that are */
				r->reap_at_ms = clock_mono_ms() + REAP_REST_MS;
		}
		free(ev);
	}
}

/* --- the loop --- */

static enum replayer_state state_get(struct replayer *r)
{
	enum replayer_state s;

	pthread_mutex_lock(&r->lock);
	s = r->status.state;
	r->status.windows = (unsigned)r->wins.n;
	pthread_mutex_unlock(&r->lock);
	return s;
}

/* What was found may be as old as the last heartbeat: looking costs a round trip. */
static bool was_found_behind(struct replayer *r)
{
	uint64_t found;

	pthread_mutex_lock(&r->lock);
	found = r->found;
	r->found = UINT64_MAX;
	pthread_mutex_unlock(&r->lock);
	return found < r->acked.seq;
}

static int step(struct replayer *r)
{
	int err, made = 1;

	r->look_at_ms = 0;
	if (was_found_behind(r))
		r->in_step = false; /* wire_up reads the position */
	events_take(r);
	if (state_get(r) >= REPLAY_STOPPED)
		return 0;
	if (wire_up(r) == 0)
		wire_answers(r);
	if (state_get(r) >= REPLAY_STOPPED)
		return 0;
	while (r->wins.n < WINS_MAX && made > 0 && (r->in_step || !r->needs_redis))
		made = window_next(r);
	if (made < 0 && made != -EAGAIN)
		return made;
	r->needs_redis = made == -EAGAIN; /* lists or ids */
	if (made == -EAGAIN && r->in_step)
		r->look_at_ms = clock_mono_ms() + 100;
	err = uploads_start(r);
	if (!err)
		err = uploads_note(r);
	if (!err && r->in_step) {
		wire_send(r);
		wire_answers(r);
		trim_step(r);
		wire_reap(r);
		repack_step(r);
	}
	return err;
}

static void rest(struct replayer *r)
{
	uint64_t now = clock_mono_ms(), at = r->look_at_ms;
	struct pollfd p[2] = { { .fd = r->wake_fd, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	int timeout = -1;
	uint64_t drop;

	if (r->in_step && r->pending)
		p[1].fd = rds_conn_fd(r->conn);
	if (!r->in_step && state_get(r) < REPLAY_STOPPED)
		at = at && at < r->retry_at_ms ? at : r->retry_at_ms ? r->retry_at_ms : now;
	if (at)
		timeout = at > now ? (at - now > 60000 ? 60000 : (int)(at - now)) : 0;
	if (poll(p, 2, timeout) > 0 && (p[0].revents & POLLIN) && read(r->wake_fd, &drop, sizeof(drop)) > 0 && !r->in_step &&
		r->backoff_ms > 50)
		r->retry_at_ms = r->retry_at_ms > now + 50 ? now + 50 : r->retry_at_ms; /* somebody stirs: try soon */
}

static void *run(void *arg)
{
	struct replayer *r = arg;

	pthread_setname_np(pthread_self(), "jfs-replay");
	while (!stopped(r)) {
		int err = step(r);

		if (err && journal_failed(r->j)) {
			replayer_say(r, REPLAY_STOPPED, "the journal failed: %s", journal_failure(r->j));
		} else if (err) {
			replayer_say(r, REPLAY_STOPPED, "replay failed: %s", strerror(-err));
			log_error("what=\"replay failed\" seq=%llu err=\"%s\"", (unsigned long long)r->acked.seq, strerror(-err));
		}
		rest(r);
	}
	return NULL;
}

/* --- life --- */

static int meta_get(struct replayer *r, const char *name, uint8_t *out, size_t want, size_t *len)
{
	const void *val;
	struct jkey k;
	int err;

	key_meta(&k, name);
	journal_lock(r->j);
	err = view_get(r->j, &k, &val, len);
	if (!err && *len <= want)
		memcpy(out, val, *len);
	else if (!err)
		err = -EUCLEAN;
	journal_unlock(r->j);
	return err;
}

static void fill_history(struct replayer *r, struct rec *rec, void *arg)
{
	uint8_t val[8 + RDS_CHAIN_LEN] = { 0 };
	struct jkey k;

	(void)arg;
	put_be64(val, r->history.seq);
	memcpy(val + 8, r->history.chain, strnlen(r->history.chain, RDS_CHAIN_LEN));
	key_meta(&k, "history");
	rec_put(rec, &k, val, sizeof(val), 0);
}

static int state_load(struct replayer *r)
{
	uint8_t b[16 + RDS_CHAIN_LEN], *list = malloc(REC_MAX);
	uint64_t seq;
	size_t n;
	int err = list ? meta_get(r, "applied", b, sizeof(b), &n) : -ENOMEM;

	if (!err && n != sizeof(b))
		err = -EUCLEAN;
	if (!err) {
		r->acked.epoch = get_be64(b);
		r->acked.seq = r->applied = get_be64(b + 8);
		memcpy(r->acked.chain, b + 16, RDS_CHAIN_LEN);
		err = meta_get(r, "history", b, sizeof(b), &n);
		if (err == -ENOENT) { /* the first start of this history */
			r->history = r->acked;
			err = commit_record(r, OP_META, fill_history, NULL, &seq);
		} else if (!err && n == 8 + RDS_CHAIN_LEN) {
			r->history.seq = get_be64(b);
			memcpy(r->history.chain, b + 8, RDS_CHAIN_LEN);
		}
	} else if (err == -ENOENT) {
		err = -ENODATA;
	}
	if (!err && (err = meta_get(r, "uploaded", b, sizeof(b), &n)) == 0)
		r->uploaded = get_be64(b);
	if (err == -ENOENT)
		err = 0;
	if (!err && (err = meta_get(r, "trim", b, sizeof(b), &n)) == 0)
		r->trim = get_be64(b);
	if (err == -ENOENT)
		err = 0;
	if (!err)
		err = meta_get(r, "nameless", list, REC_MAX, &n);
	for (size_t i = 0; !err && i + 9 <= n; i += 9) {
		struct pl_orphan *o = vec_push(&r->orphans);

		if (!o)
			err = -ENOMEM;
		else
			*o = (struct pl_orphan){ get_be64(list + i), (enum co_orphan)list[i + 8] };
	}
	free(list);
	return err == -ENOENT ? 0 : err;
}

/* Windows that were published before their objects were there (eager), and then we ended. */
static int lagging_load(struct replayer *r)
{
	int err = 0;

	for (size_t i = 0; i < r->known.n && !err; i++) {
		struct win *win, **slot;

		if (r->known.v[i].end <= r->uploaded || r->known.v[i].end > r->applied ||
			known_last(r, r->known.v[i].end) != &r->known.v[i])
			continue;
		win = calloc(1, sizeof(*win));
		slot = win ? vec_push(&r->lagging) : NULL;
		if (!slot) {
			free(win);
			return -ENOMEM;
		}
		*slot = win;
		err = window_read(r, &r->known.v[i], &win->w);
		win->uploaded = !err && win->w.slices.n == 0;
		for (size_t k = 0; !err && k < win->w.slices.n; k++)
			win->composed |= win->w.slices.v[k].composed;
	}
	return err;
}

int replayer_new(const struct replayer_config *cfg, struct replayer **out, struct errmsg *e)
{
	struct replayer *r = calloc(1, sizeof(*r));
	struct trim_point *t;
	uint64_t seq;
	int err;

	*out = NULL;
	if (!r)
		return errmsg_set(e, -ENOMEM, "out of memory");
	r->cfg = *cfg;
	r->url = *cfg->url;
	r->cfg.url = &r->url;
	r->j = cfg->journal;
	r->epoch = cfg->epoch;
	r->upload_delay_ms = cfg->upload_delay_ms;
	r->retention_ms = cfg->retention_ms ? cfg->retention_ms : RETENTION_MS;
	r->upload_rate = cfg->upload_rate ? (double)cfg->upload_rate : 10 << 20;
	r->events_end = &r->events;
	r->found = UINT64_MAX;
	r->boot = boot_id_hash();
	if (!r->cfg.republish_ms)
		r->cfg.republish_ms = REPUBLISH_MS;
	pthread_mutex_init(&r->lock, NULL);
	rds_script_init(&r->script, rds_apply_lua);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->line = lifeline_new(r);
	err = r->wake_fd < 0 ? -errno : r->line ? state_load(r) : -ENOMEM;
	if (!err)
		err = known_load(r);
	/* A position that no recorded window ends at, and that trim has not passed: a new history began there. */
	if (!err && !known_at(r, r->acked.seq, r->acked.chain) && r->acked.seq > r->trim &&
		(r->history.seq != r->acked.seq || strcmp(r->history.chain, r->acked.chain) != 0)) {
		r->history = r->acked;
		err = commit_record(r, OP_META, fill_history, NULL, &seq);
	}
	t = err ? NULL : vec_push(&r->trim_queue);
	if (!err && !t)
		err = -ENOMEM;
	if (err) {
		replayer_free(r);
		if (err == -ENOTSUP)
			return errmsg_set(e, err, "the journal remembers a window of a newer format version: use the newer jfs that wrote it");
		return errmsg_set(e, err, "what replay needs cannot be read from the journal: %s", strerror(-err));
	}
	*t = (struct trim_point){ r->applied, clock_mono_ms(), journal_mark(r->j, WM_COMMITTED) };
	err = lagging_load(r);
	if (err) {
		replayer_free(r);
		return errmsg_set(e, err, "a recorded window cannot be read from the journal: %s", strerror(-err));
	}
	r->status.applied = r->applied;
	r->status.uploaded = r->uploaded;
	r->status.trim = r->trim;
	r->status.state = REPLAY_WAITING;
	journal_raise(r->j, WM_APPLIED, r->applied);
	journal_raise(r->j, WM_UPLOADED, r->uploaded > r->applied || r->lagging.n ? r->uploaded : r->applied);
	*out = r;
	return 0;
}

int replayer_start(struct replayer *r)
{
	int err = -pthread_create(&r->thread, NULL, run, r);

	r->started = err == 0;
	return err;
}

void replayer_stop(struct replayer *r)
{
	if (!r || !r->started)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_mutex_unlock(&r->lock);
	replayer_kick(r);
	pthread_join(r->thread, NULL);
	r->started = false;
}

void replayer_free(struct replayer *r)
{
	if (!r)
		return;
	replayer_stop(r);
	if (r->line) {
		pthread_mutex_lock(&r->line->lock);
		r->line->r = NULL;
		pthread_mutex_unlock(&r->line->lock);
		lifeline_unref(r->line);
	}
	wins_drop(r, 0);
	for (size_t i = 0; i < r->lagging.n; i++)
		win_free(r->lagging.v[i]);
	vec_fini(&r->lagging);
	rds_conn_free(r->conn);
	chooser_free(r->ch);
	for (size_t i = 0; i < r->loaded.n; i++)
		free(r->loaded.v[i].records);
	vec_fini(&r->loaded);
	vec_fini(&r->wins);
	vec_fini(&r->known);
	vec_fini(&r->orphans);
	for (struct event *ev = events_all(r), *next; ev; ev = next) {
		next = ev->next;
		free(ev);
	}
	repack_fini(&r->repack);
	vec_fini(&r->busy);
	vec_fini(&r->ch_times);
	vec_fini(&r->trim_queue);
	if (r->wake_fd >= 0)
		close(r->wake_fd);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void replayer_set_epoch(struct replayer *r, uint64_t epoch)
{
	pthread_mutex_lock(&r->lock);
	r->epoch = epoch;
	pthread_mutex_unlock(&r->lock);
	replayer_kick(r);
}

void replayer_found(struct replayer *r, uint64_t seq)
{
	pthread_mutex_lock(&r->lock);
	r->found = seq;
	pthread_mutex_unlock(&r->lock);
	replayer_kick(r);
}

void replayer_set_session(struct replayer *r, uint64_t sid)
{
	r->cfg.sid = sid;
}

static void set_ms(struct replayer *r, uint64_t *what, uint64_t ms)
{
	pthread_mutex_lock(&r->lock);
	bool changed = *what != ms;
	*what = ms;
	pthread_mutex_unlock(&r->lock);
	if (changed)
		replayer_kick(r);
}

void replayer_set_upload_delay(struct replayer *r, uint64_t ms)
{
	set_ms(r, &r->upload_delay_ms, ms);
}

void replayer_set_retention(struct replayer *r, uint64_t ms)
{
	set_ms(r, &r->retention_ms, ms);
}

void replayer_status(struct replayer *r, struct replayer_status *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->status;
	pthread_mutex_unlock(&r->lock);
}
