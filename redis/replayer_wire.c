/* Talking to Redis. In step means: the connection works, the script is known there, Redis's position is r->acked, and every
 * script sent since then is in r->wins in order. Any error ends that: nothing more is sent, answers still due are read and
 * dropped, and wire_up looks at the position before it goes on. A script that arrives late finds another position: GAP. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "redis/keys.h"
#include "redis/pipeline.h"
#include "redis/replayer_int.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define BACKOFF_MIN 50
#define BACKOFF_MAX 1000

static void wire_retry(struct replayer *r, const char *why)
{
	r->in_step = false;
	r->backoff_ms = r->backoff_ms ? r->backoff_ms * 2 : BACKOFF_MIN;
	if (r->backoff_ms > BACKOFF_MAX)
		r->backoff_ms = BACKOFF_MAX;
	r->retry_at_ms = clock_mono_ms() + r->backoff_ms;
	replayer_say(r, REPLAY_WAITING, "%s", why);
	if (log_ratelimit(&r->log_last, 10000))
		log_warn("what=\"replay waits\" seq=%llu why=\"%s\"", (unsigned long long)r->acked.seq, why);
}

static void wire_stop(struct replayer *r, const char *why)
{
	r->in_step = false;
	rds_disconnect(r->conn);
	r->pending = 0;
	replayer_say(r, REPLAY_STOPPED, "%s", why);
	log_error("what=\"replay stopped\" seq=%llu why=\"%s\"", (unsigned long long)r->acked.seq, why);
}

static void wire_fenced(struct replayer *r, uint64_t epoch)
{
	char why[128];

	snprintf(why, sizeof(why), "another mount took the volume over (epoch %llu)", (unsigned long long)epoch);
	wire_stop(r, why);
	replayer_say(r, REPLAY_FENCED, "%s", why);
	journal_freeze(r->j, why);
	if (r->cfg.ops.on_fenced)
		r->cfg.ops.on_fenced(r->cfg.ctx, epoch);
}

static void wins_unsent(struct replayer *r)
{
	for (size_t i = 0; i < r->wins.n; i++)
		r->wins.v[i]->sent = false;
}

static void delete_start(struct replayer *r, const char *field, size_t len);

/* What earlier compositions uploaded in vain is named by nobody, ever: none of them can be executed any more. But windows up to
 * `applied` were executed once, and Redis forgot them: copies made since name their slices. */
static void stale_delete(struct replayer *r, const struct window *now, uint64_t applied)
{
	uint64_t from = now->from > applied ? now->from : applied;

	for (size_t i = 0; i < r->known.n && r->cfg.ops.delete_slice; i++) {
		struct window w;

		if (r->known.v[i].end <= from || r->known.v[i].end > now->end || !r->known.v[i].stale || window_read(r, &r->known.v[i], &w) != 0)
			continue;
		r->known.v[i].stale = false;
		for (size_t k = 0; k < w.slices.n; k++) {
			char field[RDS_KEY_MAX];
			bool used = false;

			for (size_t n = 0; n < now->slices.n && !used; n++)
				used = now->slices.v[n].s.id == w.slices.v[k].s.id;
			if (!used)
				delete_start(r, field, rds_field_slice_ref(field, w.slices.v[k].s.id, w.slices.v[k].s.size));
		}
		window_fini(&w);
	}
}

/* Is a window to be looked at once more when objects have come, its own or (there: it needs none) those of windows before it,
 * which its lists may name? With publish=eager only. */
static bool win_lags(const struct replayer *r, const struct window *w, bool there)
{
	return !there || (r->lagging.n && w->posts.n);
}

/* The first window was executed. */
static int win_acked(struct replayer *r)
{
	const uint64_t applied = r->applied;
	struct win *win = r->wins.v[0];
	int err;

	FAULT_POINT("redis.replay.before_applied");
	err = apply_commit(r, &win->w, win->uploaded);
	if (err)
		return err;
	stale_delete(r, &win->w, applied);
	r->acked.seq = win->w.end;
	memcpy(r->acked.chain, win->w.chain, sizeof(r->acked.chain));
	pthread_mutex_lock(&r->lock);
	r->status.commands += win->plan->commands;
	r->status.scripts++;
	pthread_mutex_unlock(&r->lock);
	if (win_lags(r, &win->w, win->uploaded)) {
		struct win **lag = vec_push(&r->lagging);

		if (!lag)
			return -ENOMEM;
		*lag = win;
	} else {
		win_free(win);
	}
	memmove(r->wins.v, r->wins.v + 1, (r->wins.n - 1) * sizeof(*r->wins.v));
	r->wins.n--;
	return 0;
}

/* Redis executed a recorded window that we hold no plan of. An eager one's objects are still to come. */
static int adopt_one(struct replayer *r, const struct known *k)
{
	struct win *lag, **slot;
	struct window w;
	int err = window_read(r, k, &w);
	bool there, lags;

	if (err)
		return err;
	if (known_last(r, k->end)->first != k->first) {
		log_warn("what=\"an earlier composition was executed late\" seq=%llu", (unsigned long long)k->end);
		err = window_record_again(r, &w, r->cfg.eager ? w.slices.n : 0);
	}
	there = !r->cfg.eager || w.end <= r->uploaded || !w.slices.n;
	if (!err)
		err = apply_commit(r, &w, there);
	if (!err) {
		r->acked.seq = w.end;
		memcpy(r->acked.chain, w.chain, sizeof(r->acked.chain));
	}
	lags = !err && win_lags(r, &w, there);
	lag = lags ? calloc(1, sizeof(*lag)) : NULL;
	slot = lag ? vec_push(&r->lagging) : NULL;
	if (slot) {
		lag->w = w;
		lag->uploaded = there;
		for (size_t i = 0; i < w.slices.n; i++)
			lag->composed |= w.slices.v[i].composed;
		*slot = lag;
		return 0;
	}
	free(lag);
	window_fini(&w);
	return err ? err : lags ? -ENOMEM : 0;
}

/* An answer was lost, and then we ended, or the window was composed anew. -ENOENT: no such windows lead there. */
static int adopt_recorded(struct replayer *r, const struct known *to)
{
	struct known_path path = { 0 };
	int err = known_path(r, &r->acked, to, &path);

	if (!err)
		wins_drop(r, 0);
	for (size_t i = path.v.n; i-- > 0 && !err;)
		err = adopt_one(r, &path.v.v[i]);
	vec_fini(&path.v);
	return err;
}

/* Redis forgot: it is where our history was at an earlier window's end (P8). */
static int rewind_to(struct replayer *r, const struct rds_position *pos, const struct known *k)
{
	struct window w;
	int err = 0;

	log_warn("what=\"redis forgot\" seq=%llu redis=%llu", (unsigned long long)r->acked.seq, (unsigned long long)pos->seq);
	wins_drop(r, 0);
	for (size_t i = 0; i < r->loaded.n; i++)
		free(r->loaded.v[i].records);
	r->loaded.n = r->orphans.n = 0;
	while (r->lagging.n && r->lagging.v[r->lagging.n - 1]->w.end > pos->seq) /* they become windows under way again */
		win_free(r->lagging.v[--r->lagging.n]);
	while (r->trim_queue.n && r->trim_queue.v[r->trim_queue.n - 1].seq > pos->seq) /* the retention begins anew */
		r->trim_queue.n--;
	r->rewound = true;
	r->acked = *pos;
	if (!k)
		return 0;
	err = window_read(r, k, &w);
	for (size_t i = 0; !err && i < w.orphans.n; i++) {
		struct pl_orphan *o = vec_push(&r->orphans);

		if (!o)
			err = -ENOMEM;
		else
			*o = w.orphans.v[i];
	}
	if (err != -ENOENT)
		window_fini(&w);
	pthread_mutex_lock(&r->lock);
	r->status.resent++;
	pthread_mutex_unlock(&r->lock);
	return err;
}

static bool pos_is(const struct rds_position *pos, uint64_t seq, const char *chain)
{
	return pos->seq == seq && strcmp(pos->chain, chain) == 0;
}

/* Compares Redis's position with ours. 0: in step now. */
static int position_check(struct replayer *r, const struct rds_position *pos)
{
	const struct known *k = known_at(r, pos->seq, pos->chain);
	size_t i;
	int err = 0;

	if (pos->epoch > replayer_epoch(r)) {
		wire_fenced(r, pos->epoch);
		return -EKEYREVOKED;
	}
	if (pos->epoch < replayer_epoch(r)) {
		wire_retry(r, "Redis forgot our lease; it is being taken back");
		return -EAGAIN;
	}
	wins_unsent(r);
	if (pos_is(pos, r->acked.seq, r->acked.chain))
		return 0;
	for (i = 0; i < r->wins.n && !pos_is(pos, r->wins.v[i]->w.end, r->wins.v[i]->w.chain); i++)
		;
	if (i < r->wins.n) {
		while (!err && !pos_is(pos, r->acked.seq, r->acked.chain))
			err = win_acked(r);
		return err;
	}
	if (k && pos->seq > r->acked.seq && (err = adopt_recorded(r, k)) != -ENOENT)
		return err;
	if (pos->seq < r->trim && pos->seq < r->acked.seq) {
		wire_stop(r, "Redis forgot more than is kept here (restored from a backup?): see jfs-recover rebase");
		return -EUCLEAN;
	}
	if (k && known_last(r, k->end) != k) {
		wire_stop(r, "Redis fell back to a composition of a window that was replaced since: see jfs-recover rebase");
		return -EUCLEAN;
	}
	if ((k && pos->seq < r->acked.seq) || pos_is(pos, r->history.seq, r->history.chain))
		return rewind_to(r, pos, k);
	if (pos->seq > journal_mark(r->j, WM_DURABLE))
		wire_stop(r, "Redis is ahead of this journal: it is an old copy. Use the newer one, or see jfs-recover export");
	else
		wire_stop(r, "Redis's position is not in this journal's history (restored from a backup, or another journal "
			     "replayed): see jfs-recover rebase");
	return -EUCLEAN;
}

static int position_read(struct replayer *r)
{
	struct redisReply *reply = NULL;
	struct rds_position pos;
	struct errmsg e = { "" };
	int err = rds_cmd(r->conn, &reply, &e, "HMGET %s epoch seq chain", RDS_PRIVATE_KEY);

	if (!err)
		err = rds_position_parse(reply, &pos);
	rds_reply_free(reply);
	if (err) {
		wire_retry(r, e.text[0] ? e.text : "Redis's position cannot be read");
		return err;
	}
	if (!pos.epoch) {
		wire_stop(r, "Redis's private key zjfs is gone: the volume was reloaded or flushed; see jfs-recover rebase");
		return -ENOENT;
	}
	return position_check(r, &pos);
}

/* Reads and drops what is still to come, so that the connection can be used for something else. */
static int wire_drain(struct replayer *r)
{
	struct errmsg e;

	for (; r->pending; r->pending--) {
		struct redisReply *reply = NULL;
		int err = rds_read(r->conn, &reply, &e);

		rds_reply_free(reply);
		if (err && rds_err_is_fatal(err))
			return err;
	}
	return 0;
}

int wire_up(struct replayer *r)
{
	struct errmsg e = { "" };
	int err = 0;

	if (r->in_step)
		return 0;
	if (clock_mono_ms() < r->retry_at_ms)
		return -EAGAIN;
	if (r->conn && rds_conn_ok(r->conn))
		err = wire_drain(r);
	if (!r->conn || !rds_conn_ok(r->conn) || err) {
		r->pending = 0;
		r->script_loaded = r->acl_restored = false;
		err = r->conn ? rds_reconnect(r->conn, &e) : rds_conn_new(&r->url, &r->conn, &e);
	}
	if (!err && !r->script_loaded && r->url.mode != RDS_UNSAFE_BATCH)
		err = rds_script_load(r->conn, &r->script, &e);
	if (err) {
		wire_retry(r, e.text);
		return err;
	}
	r->script_loaded = true;
	if (!r->acl_restored) {
		err = replayer_acl_restore(r, &e);
		r->acl_restored = err == 0;
		if (err && err != -EKEYREVOKED && err != -EAGAIN && err != -ENODATA) { /* of the lease: the position tells */
			wire_retry(r, e.text);
			return err;
		}
	}
	err = position_read(r);
	if (!err && !r->acl_restored) {
		wire_retry(r, e.text);
		err = -EAGAIN;
	}
	if (err)
		return err;
	r->in_step = true;
	r->backoff_ms = 0;
	replayer_say(r, REPLAY_RUNNING, "%s", "");
	return 0;
}

/* --- answers --- */

/* Did the window that was refused expect nothing under this name? */
static bool entry_made(const struct replayer *r, const struct replayer_conflict *c)
{
	static const uint8_t nothing[9];
	const struct window_plan *p = r->wins.n ? r->wins.v[0]->plan : NULL;

	for (size_t i = 0; p && i < p->dentries.n; i++) {
		const struct pl_dentry *d = &p->dentries.v[i];

		if (d->parent == c->parent && d->name_len == c->name_len && memcmp(d->name, c->name, c->name_len) == 0)
			return d->has_expect && memcmp(d->expect, nothing, sizeof(nothing)) == 0;
	}
	return false;
}

static void conflict(struct replayer *r, const struct script_answer *a)
{
	struct replayer_conflict c = { .seq = r->wins.n ? r->wins.v[0]->w.end : r->acked.seq };
	uint64_t seq = 0;
	char why[600];
	int err;

	snprintf(why, sizeof(why), "somebody else wrote to this volume: entry %.*s of %s is not what it was", (int)a->field_len,
		(const char *)a->field, a->key);
	if (rds_parse_inode_key(a->key, strlen(a->key), 'd', &c.parent) != 0 || a->field_len > 255) {
		wire_stop(r, why);
		return;
	}
	c.name_len = a->field_len;
	memcpy(c.name, a->field, a->field_len);
	c.present = a->value_len == 9;
	if (c.present) {
		c.type = a->value[0];
		c.ino = get_be64(a->value + 1);
	}
	c.made = entry_made(r, &c);
	log_warn("what=conflict seq=%llu why=\"%s\"", (unsigned long long)c.seq, why);
	err = r->cfg.ops.on_conflict ? r->cfg.ops.on_conflict(r->cfg.ctx, &c, &seq) : -ENOTSUP;
	if (!err)
		err = durable_wait(r, seq);
	FAULT_POINT("redis.conflict.after_repair");
	if (err == -ENOSPC) {
		wire_retry(r, why);
		return;
	}
	if (err) {
		wire_stop(r, why);
		return;
	}
	r->min_end = seq; /* merged forward through the repair */
	wins_drop(r, 0);
}

static int orphan_set(struct replayer *r, uint64_t ino, enum co_orphan state)
{
	struct pl_orphan *o = NULL;

	for (size_t i = 0; i < r->orphans.n && !o; i++)
		o = r->orphans.v[i].ino == ino ? &r->orphans.v[i] : NULL;
	if (!o)
		o = vec_push(&r->orphans);
	if (!o)
		return -ENOMEM;
	*o = (struct pl_orphan){ ino, state };
	return 0;
}

static void answer_refused(struct replayer *r, const struct script_answer *a)
{
	char why[512];
	uint64_t ino;
	uint32_t chunk;

	r->in_step = false;
	switch (a->status) {
	case SCRIPT_LIST:
		if (rds_parse_chunk_key(a->key, strlen(a->key), &ino, &chunk) == 0)
			list_forget(r, ino, chunk);
		wins_drop(r, 0);
		return;
	case SCRIPT_GONE: /* expired from the trash, or destroyed: nothing of it is replayed any more */
		log_error("what=\"inode is gone from Redis\" seq=%llu inode=%s", (unsigned long long)r->acked.seq, a->key);
		if (orphan_set(r, strtoull(a->key, NULL, 10), CO_PRIVATE) != 0)
			wire_retry(r, "out of memory");
		wins_drop(r, 0);
		return;
	case SCRIPT_DEADREF:
		r->no_smap = true;
		wins_drop(r, 0);
		return;
	case SCRIPT_ENTRY:
		conflict(r, a);
		return;
	case SCRIPT_FENCED:
		wire_fenced(r, a->pos.epoch);
		return;
	case SCRIPT_GAP: /* wire_up reads the position */
		return;
	case SCRIPT_FORGOT:
		wire_retry(r, "Redis forgot our lease; it is being taken back");
		return;
	case SCRIPT_NOKEY:
		wire_stop(r, "Redis's private key zjfs is gone: the volume was reloaded or flushed; see jfs-recover rebase");
		return;
	default:
		snprintf(why, sizeof(why), "Redis key %s is not what it should be%s%s; see jfs-recover check", a->key,
			a->status == SCRIPT_EXISTS ? ": it exists already" : ": ", (const char *)a->field);
		wire_stop(r, why);
	}
}

static void answer_take(struct replayer *r, int err, struct redisReply *reply, const struct errmsg *e)
{
	struct script_answer a;

	r->pending--;
	if (err == -ENOEXEC)
		r->script_loaded = false;
	if (!err)
		err = script_parse(reply, &a);
	if (err) {
		if (rds_err_is_fatal(err))
			r->pending = 0;
		wire_retry(r, err == -ENOEXEC ? "Redis restarted" : e->text[0] ? e->text : "unexpected answer from Redis");
		if (err == -ENOEXEC)
			r->retry_at_ms = 0;
		return;
	}
	if (a.status != SCRIPT_OK) {
		answer_refused(r, &a);
		return;
	}
	err = r->wins.n && r->wins.v[0]->sent ? win_acked(r) : -EPROTO;
	if (err)
		wire_stop(r, err == -EPROTO ? "an answer of Redis without a question" : "the journal failed");
}

void wire_answers(struct replayer *r)
{
	while (r->in_step && r->pending) {
		struct redisReply *reply = NULL;
		struct errmsg e = { "" };
		int err = rds_read_ready(r->conn, &reply, &e);

		if (err == -EINPROGRESS)
			return;
		answer_take(r, err, reply, &e);
		rds_reply_free(reply);
	}
}

/* --- sending --- */

static struct script_ctx win_ctx(struct replayer *r, const struct win *win)
{
	int64_t now = clock_wall_sec();
	struct script_ctx ctx = { .prev = { .epoch = replayer_epoch(r), .seq = win->w.from }, .seq = win->w.end,
		.sid = r->cfg.sid, .now = now, .oldest_ctime = now - 1800 };

	memcpy(ctx.prev.chain, win->w.before, sizeof(ctx.prev.chain));
	memcpy(ctx.chain, win->w.chain, sizeof(ctx.chain));
	return ctx;
}

static int win_send(struct replayer *r, struct win *win)
{
	struct script_ctx ctx = win_ctx(r, win);
	struct errmsg e;
	struct buf b;
	int err = script_encode(win->plan, &ctx, &b);

	if (!err) {
		FAULT_POINT("redis.replay.before_script");
		err = rds_script_append(r->conn, &r->script, 0, 1, (const char *[]){ (const char *)b.data }, &b.len);
	}
	buf_fini(&b);
	if (!err)
		err = rds_flush(r->conn, &e);
	FAULT_POINT("redis.replay.after_script");
	if (!err) {
		win->sent = true;
		r->pending++;
	}
	return err;
}

/* unsafe_batch: the first window, by plain commands; it is answered when this returns. False: not applied. */
static bool win_pipeline(struct replayer *r)
{
	struct win *win = r->wins.v[0];
	struct script_ctx ctx = win_ctx(r, win);
	struct script_answer a;
	struct errmsg e = { "" };
	int err;

	FAULT_POINT("redis.replay.before_pipeline");
	err = pipeline_apply(r->conn, win->plan, &ctx, &a, &e);
	FAULT_POINT("redis.replay.after_pipeline");
	if (err == -EUCLEAN)
		wire_stop(r, e.text[0] ? e.text : "a key in Redis is not what it should be; see jfs-recover check");
	else if (err)
		wire_retry(r, e.text[0] ? e.text : strerror(-err));
	else if (a.status != SCRIPT_OK)
		answer_refused(r, &a);
	else if (win_acked(r) == 0)
		return true;
	else
		wire_stop(r, "the journal failed");
	return false;
}

/* Objects that no list names may be collected when they are an hour old (HISTORIES 43). Where the upload itself takes that
 * long (HISTORIES 45), doing it twice is all that can be done: that a gc runs meanwhile is less likely than that the third
 * time is faster. */
static bool win_stale(struct replayer *r, const struct win *win)
{
	struct known *k = known_last(r, win->w.end);
	uint64_t limit = r->cfg.republish_ms, took;

	if (r->cfg.eager || !k || !k->began_ms || !win->w.slices.n || win->w.end <= r->applied ||
		clock_boot_ms() - k->began_ms <= limit)
		return false;
	took = k->ended_ms - k->began_ms;
	if (k->anew && took > limit && clock_boot_ms() - k->ended_ms <= limit + took) {
		log_warn("what=\"the upload of a window took too long: do not run gc --delete meanwhile\" seq=%llu",
			(unsigned long long)win->w.end);
		return false;
	}
	k->stale = true;
	return true;
}

void wire_send(struct replayer *r)
{

	for (size_t i = 0; i < r->wins.n && r->in_step; i++) {
		struct win *win = r->wins.v[i];

		if (win->sent)
			continue;
		if (!r->cfg.eager && !win->uploaded)
			break;
		if (win_stale(r, win)) {
			for (size_t k = i + 1; k < r->wins.n; k++)
				if (r->wins.v[k]->uploaded)
					win_stale(r, r->wins.v[k]);
			wins_drop(r, i);
			r->look_at_ms = 1; /* at once: they are made anew */
			break;
		}
		if (r->url.mode == RDS_UNSAFE_BATCH) {
			if (!win_pipeline(r))
				break;
			i--; /* it is no longer in the list */
			continue;
		}
		if (win_send(r, win) != 0) {
			rds_disconnect(r->conn);
			wire_retry(r, "the connection to Redis broke");
		}
	}
}

/* --- lists --- */

static int list_store(struct replayer *r, const struct pl_chunk_ref *ref, const struct redisReply *reply)
{
	struct loaded_list *l;

	if (reply->type != REDIS_REPLY_ARRAY)
		return -EUCLEAN;
	list_forget(r, ref->ino, ref->chunk);
	l = NULL;
	for (size_t i = 0; i < r->loaded.n; i++)
		if (r->loaded.v[i].ino == ref->ino && r->loaded.v[i].chunk == ref->chunk)
			l = &r->loaded.v[i];
	if (!l || !(l->records = malloc(reply->elements * JFS_SLICE_LEN + 1)))
		return -ENOMEM;
	for (size_t i = 0; i < reply->elements; i++) {
		if (reply->element[i]->type != REDIS_REPLY_STRING || reply->element[i]->len != JFS_SLICE_LEN)
			return -EUCLEAN;
		memcpy(l->records + i * JFS_SLICE_LEN, reply->element[i]->str, JFS_SLICE_LEN);
	}
	l->n = (uint32_t)reply->elements;
	return 0;
}

int wire_lists(struct replayer *r, const struct pl_chunk_ref *refs, size_t n)
{
	struct errmsg e = { "" };
	char key[RDS_KEY_MAX] = "";
	int err = 0;

	/* Scripts on their way first: what is loaded must be what the position says. */
	while (r->in_step && r->pending) {
		struct redisReply *reply = NULL;

		err = rds_read(r->conn, &reply, &e);
		answer_take(r, err, reply, &e);
		rds_reply_free(reply);
	}
	if (!r->in_step)
		return -EAGAIN;
	err = 0;
	for (size_t i = 0; i < n && !err; i++) {
		rds_key_chunk(key, NULL, refs[i].ino, refs[i].chunk);
		err = rds_append(r->conn, "LRANGE %s 0 -1", key);
	}
	for (size_t i = 0; i < n && !err; i++) {
		struct redisReply *reply = NULL;

		rds_key_chunk(key, NULL, refs[i].ino, refs[i].chunk);
		err = rds_read(r->conn, &reply, &e);
		if (!err)
			err = list_store(r, &refs[i], reply);
		rds_reply_free(reply);
	}
	if (!err)
		return 0;
	rds_disconnect(r->conn); /* answers may be left */
	if (err == -EUCLEAN) {
		errmsg_set(&e, err, "Redis key %s is not what it should be: no list of slices; see jfs-recover check", key);
		wire_stop(r, e.text);
	} else {
		wire_retry(r, e.text[0] ? e.text : "lists cannot be loaded");
	}
	return -EAGAIN;
}

/* --- objects that nothing names any more (P10) --- */

/* ARGV: epoch, then field value pairs: marks what is still as it was; answers the fields marked. */
static const char claim_lua[] =
	"if redis.call('HGET', 'zjfs', 'epoch') ~= ARGV[1] then return {} end\n"
	"local out = {}\n"
	"for i = 2, #ARGV, 2 do\n"
	"  if redis.call('HGET', 'zjfs.dead', ARGV[i]) == ARGV[i + 1] then\n"
	"    if string.sub(ARGV[i + 1], 1, 1) ~= 'x' then redis.call('HSET', 'zjfs.dead', ARGV[i], 'x' .. ARGV[i + 1]) end\n"
	"    out[#out + 1] = ARGV[i]\n"
	"  end\n"
	"end\n"
	"return out\n";

static void delete_done(void *arg, int err)
{
	struct event *ev = arg;

	ev->err = err;
	event_post(ev);
}

static void delete_start(struct replayer *r, const char *field, size_t len)
{
	struct event *ev = calloc(1, sizeof(*ev));
	uint64_t id;
	uint32_t size;

	if (!ev || len >= sizeof(ev->field) || rds_parse_slice_ref(field, len, &id, &size) != 0) {
		free(ev);
		return;
	}
	ev->r = r;
	ev->kind = EV_DELETE;
	memcpy(ev->field, field, len);
	if (r->cfg.ops.delete_slice(r->cfg.ctx, id, size, delete_done, ev) != 0)
		free(ev);
	else
		r->deleting++;
}

void wire_reap(struct replayer *r)
{
	struct redisReply *all = NULL, *claimed = NULL;
	struct rds_script claim;
	struct errmsg e = { "" };
	VEC(const char *) argv = { 0 };
	VEC(size_t) lens = { 0 };
	char epoch[24];
	int err;

	if (!r->cfg.ops.delete_slice || !r->in_step || r->pending || r->deleting || r->trim <= r->reaped_trim)
		return;
	if (r->wins.n && r->wins.v[0]->serial <= r->trim_serial)
		return; /* planned before the trim: may still refer to what is dead */
	if (journal_mark(r->j, WM_TRIM) < r->trim || r->rewound || clock_mono_ms() < r->reap_at_ms)
		return;
	err = rds_cmd(r->conn, &all, &e, "HGETALL zjfs.dead");
	snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)replayer_epoch(r));
	for (size_t i = 0; !err && i < all->elements + 1; i++) {
		const struct redisReply *v = i ? all->element[i - 1] : NULL;
		const char **arg;
		size_t *len;

		if (i && (i & 1)) { /* a field: its value decides */
			const char *at = all->element[i]->str;

			if (strtoull(*at == 'x' ? at + 1 : at, NULL, 10) > r->trim) {
				i++;
				continue;
			}
		}
		arg = vec_push(&argv);
		len = vec_push(&lens);
		if (!arg || !len) {
			err = -ENOMEM;
			break;
		}
		*arg = i ? v->str : epoch;
		*len = i ? v->len : strlen(epoch);
	}
	if (!err && argv.n > 1) {
		rds_script_init(&claim, claim_lua);
		err = rds_script_call(r->conn, &claim, &claimed, &e, 0, (int)argv.n, argv.v, lens.v);
	}
	for (size_t i = 0; !err && claimed && i < claimed->elements; i++)
		delete_start(r, claimed->element[i]->str, claimed->element[i]->len);
	if (err)
		wire_retry(r, e.text[0] ? e.text : "the list of dead slices cannot be read");
	else
		r->reaped_trim = r->trim;
	rds_reply_free(all);
	rds_reply_free(claimed);
	vec_fini(&argv);
	vec_fini(&lens);
}

void wire_deleted(struct replayer *r, const char *field)
{
	struct errmsg e;

	if (!r->in_step || r->pending || rds_cmd(r->conn, NULL, &e, "HDEL zjfs.dead %s", field) != 0)
		r->reaped_trim = 0; /* it stays claimed: deleted once more later, which is harmless */
}
