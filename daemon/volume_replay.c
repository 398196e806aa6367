/* Everything in daemon/ that knows the replayer. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/keeper.h"
#include "daemon/redis_loader.h"
#include "daemon/volume_int.h"
#include "redis/replayer.h"
#include "redis/windows.h"
#include "util/clock.h"
#include "util/log.h"

#define META_APPLIED "applied"

int volume_read_position(struct volume *v, struct journal *j, bool *own_history)
{
	struct rds_position left;
	int rc = windows_left(j, &left);

	(void)v;
	*own_history = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

static int refuse_place(struct volume *v, enum windows_place place, uint64_t seq, struct errmsg *e)
{
	static const char todo[] = "run jfs-recover check, then jfs-recover rebase, which brings back what this journal knows; to go on with "
				   "what Redis has, mount with an empty cache directory";

	if (place == PLACE_TRIMMED)
		return errmsg_set(e, -EKEYREVOKED, "Redis fell back to %" PRIu64 ", further than the journal in %s keeps its log (was it "
						   "restored from a backup?): %s", seq, v->cache_dir, todo);
	return errmsg_set(e, -EKEYREVOKED, "Redis is at %" PRIu64 ", which is no place in the history of the journal in %s (was it restored "
					   "from a backup, or did another copy of the journal replay?): %s", seq, v->cache_dir, todo);
}

int volume_check_place(struct volume *v, struct journal *j, struct errmsg *e)
{
	struct lease_state st;
	struct rds_position left;
	enum windows_place place = PLACE_SAME;
	struct lease_id id;
	bool released;
	int rc = lease_read(v->conn, &st, &released, e);

	lease_id_fill(&id, journal_cache_id(j), v->cache_dir);
	bool held = !released && !v->cfg.takeover && (strcmp(st.host, id.host) != 0 || strcmp(st.dir, id.dir) != 0);

	if (rc == -ENOENT || (!rc && (held || strcmp(st.journal, journal_cache_id(j)) != 0)))
		return 0; /* lease_acquire's refusals */
	if (rc)
		return rc;
	rc = windows_left(j, &left);
	if (!rc)
		rc = windows_place(j, &st.pos, &left, journal_mark(j, WM_TRIM), &place);
	if (rc)
		return errmsg_set(e, rc, "the journal in %s is damaged: run jfs-recover check", v->cache_dir);
	return place == PLACE_TRIMMED || place == PLACE_UNKNOWN ? refuse_place(v, place, st.pos.seq, e) : 0;
}

int volume_set_position(struct volume *v, struct journal *j, const struct rds_position *pos)
{
	uint8_t val[16 + RDS_CHAIN_LEN];

	(void)v;
	put_be64(val, pos->epoch);
	put_be64(val + 8, pos->seq);
	memcpy(val + 16, pos->chain, RDS_CHAIN_LEN);
	return volume_meta_put(j, META_APPLIED, val, sizeof(val));
}

struct sums {
	int64_t space, inodes;
};

static int sum_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct sums *s = arg;
	struct rec_header h;
	struct rec_reader it;
	struct rec_item item;
	int rc = rec_open(rec, len, &h, &it);

	(void)seq;
	while (!rc && (rc = rec_next(&it, &item)) == 1) {
		rc = 0;
		if (item.kind == IT_SPACE && item.vlen == 16) {
			s->space += (int64_t)get_be64(item.val);
			s->inodes += (int64_t)get_be64(item.val + 8);
		}
	}
	return rc;
}

int volume_sum_deltas(struct journal *j, uint64_t from, int64_t *space, int64_t *inodes)
{
	struct sums s = {0};
	int rc = journal_wait(j, WM_DURABLE, journal_mark(j, WM_COMMITTED));

	if (!rc)
		rc = journal_log_scan(j, from, journal_mark(j, WM_DURABLE), sum_record, &s);
	*space = s.space;
	*inodes = s.inodes;
	return rc;
}

static int count_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	(void)seq;
	(void)rec;
	(void)len;
	++*(uint64_t *)arg;
	return 0;
}

uint64_t volume_backlog_exact(struct volume *v, uint64_t applied)
{
	uint64_t n = 0;

	/* If it cannot be counted, something is left for all we know. */
	if (journal_wait(v->journal, WM_DURABLE, journal_mark(v->journal, WM_COMMITTED)) ||
		journal_log_scan(v->journal, applied, journal_mark(v->journal, WM_DURABLE), count_record, &n))
		return n + 1;
	return n;
}

/* --- what is only here --- */

enum { LOOK_RECORDS = 20000 }; /* some 10 ms */

struct only_here {
	uint64_t uploaded, ops, blocks, bytes;
	uint32_t block_size;
};

static int add_only_here(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct only_here *u = arg;
	struct rec_header h;
	struct rec_reader it;
	struct rec_item item;
	struct extent_val v;
	int rc = rec_open(rec, len, &h, &it);

	u->ops++;
	while (!rc && seq > u->uploaded && (rc = rec_next(&it, &item)) == 1) {
		rc = 0;
		if (item.kind != IT_PUT || !(item.flags & IF_NEW) || item.klen == 0 || item.key[0] != T_EXTENT ||
			extent_val_decode(item.val, item.vlen, &v) || v.kind != EXT_STAGED)
			continue;
		u->bytes += v.len;
		u->blocks += (v.len + u->block_size - 1) / u->block_size;
	}
	return rc;
}

void volume_only_here(struct volume *v, struct staged_look *out)
{
	uint64_t applied = journal_mark(v->journal, WM_APPLIED), committed = journal_mark(v->journal, WM_COMMITTED);
	struct only_here u = {.uploaded = journal_mark(v->journal, WM_UPLOADED), .block_size = v->format.block_size};
	uint64_t start = clock_mono_ms();

	pthread_mutex_lock(&v->lock);
	struct staged_look look = v->look;
	pthread_mutex_unlock(&v->lock);
	bool moved = look.uploaded != u.uploaded || look.applied != applied || look.committed != committed;
	/* A long backlog takes time: it is looked through at most once a second. */
	if (moved && (committed < applied + LOOK_RECORDS || start - look.at_ms >= 1000)) {
		/* What is not durable yet is asked to be: a reader of the figure wants to know of what it has just written. */
		if (journal_wait(v->journal, WM_DURABLE, committed) == 0 &&
			journal_log_scan(v->journal, applied, journal_mark(v->journal, WM_DURABLE), add_only_here, &u) == 0) {
			look = (struct staged_look){.uploaded = u.uploaded, .applied = applied, .committed = committed, .ops = u.ops,
				.blocks = u.blocks, .bytes = u.bytes, .at_ms = clock_mono_ms()};
			pthread_mutex_lock(&v->lock);
			v->look = look;
			pthread_mutex_unlock(&v->lock);
		}
	}
	*out = look;
}

int volume_moved(void *ctx, const struct slice_piece *staged, struct slice_piece *object)
{
	struct volume *v = ctx;

	return windows_moved(v->journal, staged, UINT64_MAX, object);
}

static int ops_upload(void *ctx, const struct slice_plan *plans, size_t n, void (*done)(void *arg, int err), void *arg)
{
	struct volume *v = ctx;

	return uploader_submit(v->uploader, plans, n, done, arg);
}

static int ops_delete(void *ctx, uint64_t id, uint32_t size, void (*done)(void *arg, int err), void *arg)
{
	struct volume *v = ctx;

	return uploader_delete(v->uploader, id, size, done, arg);
}

static int ops_next_slice(void *ctx, uint64_t *id)
{
	struct volume *v = ctx;
	int rc = ids_next(v->slices, id);

	if (rc == -ENODATA || ids_left(v->slices) < SLICE_BATCH / 2)
		keeper_kick(v->keeper);
	return rc;
}

static void ops_fenced(void *ctx, uint64_t epoch)
{
	char why[96];

	snprintf(why, sizeof(why), "another mount took the volume over (epoch %" PRIu64 ")", epoch);
	volume_fenced(ctx, why);
}

static void ops_applied(void *ctx, uint64_t seq)
{
	struct volume *v = ctx;

	if (v->cfg.on_applied)
		v->cfg.on_applied(v->cfg.ctx, seq);
}

static void ops_stopped(void *ctx)
{
	struct volume *v = ctx;

	pthread_mutex_lock(&v->lock);
	v->replay_stopped = true;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
	redis_loader_give_up(v->loader);
}

/* Only what both made is sorted out: where we replaced or removed something, whose it is now nobody can tell. */
static int ops_conflict(void *ctx, const struct replayer_conflict *c, uint64_t *seq)
{
	struct volume *v = ctx;
	struct fs_conflict f = {.parent = c->parent, .name_len = c->name_len, .type = c->type, .ino = c->ino, .seq = c->seq};
	int rc;

	if (!c->present || !c->made || !v->fs)
		return -ENOTSUP;
	memcpy(f.name, c->name, c->name_len);
	rc = fs_conflict(v->fs, &f, seq);
	if (rc)
		return rc;
	log_warn("event=conflict dir=%llu name=\"%.*s\" kept=\"%.*s\" hint=\"somebody else made this name too: theirs keeps it\"",
		(unsigned long long)f.parent, (int)f.name_len, f.name, (int)f.kept_len, f.kept);
	if (v->cfg.on_renamed) {
		v->cfg.on_renamed(v->cfg.ctx, f.parent, f.name, f.name_len);
		if (f.kept_len)
			v->cfg.on_renamed(v->cfg.ctx, f.parent, f.kept, f.kept_len);
	}
	return 0;
}

struct mark_wait {
	struct volume *v;
	bool done, left; /* left: nobody waits any more */
	int err;
};

static void mark_reached(void *arg, int err)
{
	struct mark_wait *m = arg;
	struct volume *v = m->v;

	pthread_mutex_lock(&v->lock);
	bool left = m->left;
	m->done = true;
	m->err = err;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
	if (left)
		free(m);
}

int volume_replay_wait(struct volume *v, enum watermark w, uint64_t seq)
{
	struct mark_wait *m = calloc(1, sizeof(*m));
	int err = -EIO;

	if (!m)
		return -ENOMEM;
	m->v = v;
	journal_when(v->journal, w, seq, mark_reached, m);
	pthread_mutex_lock(&v->lock);
	while (!m->done && !v->cancelled && !v->replay_stopped)
		pthread_cond_wait(&v->changed, &v->lock);
	bool done = m->done;
	if (done)
		err = m->err;
	else
		m->left = true; /* the journal frees it when it is closed, if not before */
	pthread_mutex_unlock(&v->lock);
	if (done)
		free(m);
	return err;
}

static uint64_t upload_delay_ms(const struct volume *v)
{
	return v->cfg.writeback ? v->cfg.upload_delay_ns / 1000000 : 0;
}

void volume_replay_pressure(struct volume *v, bool upload_now, uint64_t retention_ms)
{
	pthread_mutex_lock(&v->lock);
	if (v->replayer) {
		replayer_set_upload_delay(v->replayer, upload_now ? 0 : upload_delay_ms(v));
		replayer_set_retention(v->replayer, retention_ms);
	}
	pthread_mutex_unlock(&v->lock);
}

int volume_replay_start(struct volume *v, struct errmsg *e)
{
	const struct replayer_config rc_cfg = {.journal = v->journal, .url = &v->url, .epoch = v->lease.pos.epoch, .sid = v->sid,
		.upload_delay_ms = upload_delay_ms(v), .eager = v->cfg.eager, .pack_size = v->format.block_size,
		.pack_below = v->cfg.pack_below < v->format.block_size ? (uint32_t)v->cfg.pack_below : v->format.block_size,
		.retention_ms = v->cfg.retention_ns / 1000000,
		.ops = {.upload = ops_upload, .delete_slice = v->cfg.keep_objects ? NULL : ops_delete, .next_slice = ops_next_slice, .on_fenced = ops_fenced, .on_conflict = ops_conflict,
			.on_applied = ops_applied, .on_stopped = ops_stopped},
		.ctx = v};
	struct replayer *r = NULL;
	int rc = replayer_new(&rc_cfg, &r, e);

	pthread_mutex_lock(&v->lock); /* the keeper runs already, and asks for it */
	v->replayer = r;
	pthread_mutex_unlock(&v->lock);
	if (!rc && !v->offline)
		rc = replayer_start(r);
	if (rc && !e->text[0])
		errmsg_set(e, rc, "cannot start replay: %s", strerror(-rc));
	return rc;
}

int volume_replay_resume(struct volume *v, uint64_t epoch, struct errmsg *e)
{
	if (!v->replayer)
		return 0; /* read-only */
	replayer_set_epoch(v->replayer, epoch);
	replayer_set_session(v->replayer, v->sid);
	int rc = replayer_start(v->replayer);

	return rc ? errmsg_set(e, rc, "cannot start replay: %s", strerror(-rc)) : 0;
}

void volume_replay_stop(struct volume *v)
{
	if (v->replayer)
		replayer_stop(v->replayer);
}

void volume_replay_free(struct volume *v)
{
	struct replayer *r;

	pthread_mutex_lock(&v->lock); /* the keeper still runs */
	r = v->replayer;
	v->replayer = NULL;
	pthread_mutex_unlock(&v->lock);
	replayer_free(r);
}

void volume_kick(struct volume *v)
{
	pthread_mutex_lock(&v->lock);
	if (v->replayer)
		replayer_kick(v->replayer);
	pthread_mutex_unlock(&v->lock);
}

void volume_replay_position(void *ctx, const struct rds_position *pos)
{
	struct volume *v = ctx;

	if (pos->seq == journal_mark(v->journal, WM_APPLIED))
		return;
	pthread_mutex_lock(&v->lock);
	if (v->replayer)
		replayer_found(v->replayer, pos->seq);
	pthread_mutex_unlock(&v->lock);
}

void volume_replay_figures(struct volume *v, struct volume_figures *out)
{
	static const char *const names[] = {"running", "waiting", "stopped", "fenced"};
	struct replayer_status st;

	if (!v->replayer)
		return;
	replayer_status(v->replayer, &st);
	out->windows = st.windows;
	out->scripts = st.scripts;
	out->commands = st.commands;
	out->replay_stopped = st.state == REPLAY_STOPPED;
	snprintf(out->replay_state, sizeof(out->replay_state), "%s%s%.480s", names[st.state], st.reason[0] ? ": " : "", st.reason);
	out->pending_slices = st.pending_slices;
}
