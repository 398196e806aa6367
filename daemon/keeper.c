#include "daemon/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/keys.h"
#include "redis/session.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define INODE_PIECE 16384
#define RETRY_MS 1000

struct keeper {
	struct keeper_config cfg;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	pthread_t thread;
	/* under lock: */
	bool kicked, stopping, cancelled, fenced;
	bool joined; /* the owner's */
	uint64_t answered_ms;
	/* the thread's own: */
	struct rds_conn *conn;
	char *setting_text; /* as last seen */
	long long last_log;
};

static int connect_redis(struct keeper *k, struct errmsg *e)
{
	if (!k->conn)
		return rds_conn_new(k->cfg.url, &k->conn, e);
	return rds_conn_ok(k->conn) ? 0 : rds_reconnect(k->conn, e);
}

static void fence(struct keeper *k, const char *why)
{
	pthread_mutex_lock(&k->lock);
	bool first = !k->fenced;
	k->fenced = true;
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
	if (first)
		k->cfg.on_fenced(k->cfg.ctx, why);
}

static int beat(struct keeper *k, struct errmsg *e)
{
	const struct lease_beat_arg arg = {.id = &k->cfg.id, .epoch = k->cfg.epoch, .replaced_epoch = k->cfg.replaced_epoch,
		.replaced_holder = k->cfg.replaced_holder, .found = k->cfg.new_history ? &k->cfg.found : NULL, .start = &k->cfg.start,
		.inode_end = ids_end(k->cfg.inodes) ? ids_end(k->cfg.inodes) - 1 : 0,
		.slice_end = ids_end(k->cfg.slices) ? ids_end(k->cfg.slices) - 1 : 0, .backlog = k->cfg.backlog(k->cfg.ctx)};
	struct rds_position pos;
	enum lease_beat b;

	FAULT_POINT("lease.renew.before");
	int rc = lease_heartbeat(k->conn, &arg, &b, &pos, e);
	FAULT_POINT("lease.renew.after");
	if (rc)
		return rc;
	switch (b) {
	case BEAT_FENCED:
		fence(k, "another mount took the volume over");
		return -EKEYREVOKED;
	case BEAT_REFUSED:
		fence(k, "Redis shows a lease that is not in our history: it was restored, reloaded or flushed; run jfs-recover check");
		return -EKEYREVOKED;
	case BEAT_FORGOT_HEALED:
		log_warn("what=\"Redis had forgotten our lease; taken back\" epoch=%" PRIu64 " position=%" PRIu64, k->cfg.epoch, pos.seq);
		break;
	case BEAT_OK:
		break;
	}
	k->cfg.on_position(k->cfg.ctx, &pos);
	return 0;
}

static int renew_session(struct keeper *k, struct errmsg *e)
{
	if (k->cfg.sid == 0)
		return 0;
	return rds_session_beat(k->conn, k->cfg.sid, k->cfg.session_json, clock_wall_sec(), e);
}

static int reload_setting(struct keeper *k, struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct rds_setting s;
	int rc = rds_cmd(k->conn, &r, e, "GET %s", RDS_SETTING);

	if (rc)
		goto out;
	if (r->type != REDIS_REPLY_STRING) {
		k->cfg.on_gone(k->cfg.ctx, "the volume's setting vanished from Redis: it was destroyed or flushed");
		rc = -EKEYREVOKED;
		goto out;
	}
	if (k->setting_text && strlen(k->setting_text) == r->len && memcmp(k->setting_text, r->str, r->len) == 0)
		goto out;
	rc = rds_setting_parse(r->str, r->len, &s, e);
	if (!rc && strcmp(s.uuid, k->cfg.uuid) != 0) {
		k->cfg.on_gone(k->cfg.ctx, "the database holds another volume now");
		rc = -EKEYREVOKED;
	} else if (!rc) {
		rc = rds_setting_check(&s, e);
		if (!rc && k->setting_text)
			k->cfg.on_setting(k->cfg.ctx, &s);
	}
	rds_setting_fini(&s);
	free(k->setting_text);
	k->setting_text = strndup(r->str, r->len);
	if (rc && rc != -EKEYREVOKED) {
		log_error("what=\"the volume's new setting cannot be used; keeping the old one\" detail=\"%s\"", e->text);
		rc = 0;
	}
out:
	rds_reply_free(r);
	return rc;
}

static int refill(struct keeper *k, struct id_pool *pool, const char *counter, uint64_t batch, struct errmsg *e)
{
	uint64_t low = k->cfg.url->metaprime ? batch / 2 : 1, first;
	int rc;

	if (batch == 0 || ids_left(pool) >= low)
		return 0;
	rc = lease_alloc_ids(k->conn, k->cfg.epoch, counter, batch, ids_end(pool) ? ids_end(pool) - 1 : 0, &first, e);
	if (rc == -EKEYREVOKED)
		return 0; /* the next beat says why */
	if (!rc && pool == k->cfg.inodes && first == JFS_ROOT_INODE) /* the counter's first number is the root's (spec 2.12) */
		rc = ids_add(pool, first + 1, batch - 1);
	else if (!rc)
		rc = ids_add(pool, first, batch);
	if (!rc) {
		log_debug("what=\"id range\" counter=%s first=%" PRIu64 " n=%" PRIu64, counter, first, batch);
		pthread_mutex_lock(&k->lock);
		pthread_cond_broadcast(&k->changed);
		pthread_mutex_unlock(&k->lock);
	}
	return rc;
}

/* Redis is here for the first time since a mount without it. */
static int resume(struct keeper *k, struct errmsg *e)
{
	uint64_t epoch, sid;

	if (!k->cfg.resume)
		return 0;
	int rc = k->cfg.resume(k->cfg.ctx, &epoch, &sid, e);

	if (rc == -EKEYREVOKED)
		fence(k, e->text);
	if (rc)
		return rc;
	k->cfg.replaced_epoch = k->cfg.epoch;
	k->cfg.replaced_holder = k->cfg.id.holder;
	k->cfg.epoch = epoch;
	k->cfg.sid = sid;
	k->cfg.resume = NULL;
	return 0;
}

/* One round of everything; `full` when the heartbeat is due. */
static int round_trip(struct keeper *k, bool full, struct errmsg *e)
{
	int rc = connect_redis(k, e);

	/* The setting first: a volume that was destroyed has no lease either, and that is not another mount's doing. */
	if (!rc && full)
		rc = reload_setting(k, e);
	if (k->cfg.look)
		return rc || !full ? rc : k->cfg.look(k->cfg.ctx, k->conn, e);
	if (!rc)
		rc = resume(k, e);
	if (!rc && full)
		rc = beat(k, e);
	if (!rc && full)
		rc = renew_session(k, e);
	if (!rc && full && k->cfg.quotas)
		rc = k->cfg.quotas(k->cfg.ctx, k->conn, e);
	if (!rc)
		rc = refill(k, k->cfg.inodes, RDS_NEXT_INODE, k->cfg.url->inode_batch, e);
	if (!rc)
		rc = refill(k, k->cfg.slices, RDS_NEXT_CHUNK, k->cfg.slice_batch, e);
	return rc;
}

static void *keeper_main(void *arg)
{
	struct keeper *k = arg;
	uint64_t next_beat = 0; /* monotonic ms */

	pthread_setname_np(pthread_self(), "jfs-keeper");
	pthread_mutex_lock(&k->lock);
	while (!k->stopping) {
		uint64_t now = clock_mono_ms();
		bool full = now >= next_beat;

		if (k->fenced || (!full && !k->kicked)) {
			struct timespec until = clock_mono_after_ms(k->fenced ? 3600000 : next_beat - now);

			pthread_cond_timedwait(&k->changed, &k->lock, &until);
			continue;
		}
		k->kicked = false;
		pthread_mutex_unlock(&k->lock);

		struct errmsg e = {""};
		int rc = round_trip(k, full, &e);
		if (rc && rc != -EKEYREVOKED && log_ratelimit(&k->last_log, 10000))
			log_warn("what=\"%s, trying again\" err=%d detail=\"%s\"",
				k->cfg.look ? "Redis does not answer" : "lease not renewed", rc, e.text);

		pthread_mutex_lock(&k->lock);
		if (!rc && full) {
			k->answered_ms = clock_mono_ms();
			next_beat = k->answered_ms + k->cfg.heartbeat_ns / 1000000;
		} else if (rc) {
			next_beat = clock_mono_ms() + RETRY_MS;
		}
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

int keeper_new(const struct keeper_config *cfg, struct keeper **out)
{
	struct keeper *k = calloc(1, sizeof(*k));
	pthread_condattr_t attr;
	int rc;

	if (!k)
		return -ENOMEM;
	k->cfg = *cfg;
	k->answered_ms = clock_mono_ms();
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->changed, &attr);
	pthread_condattr_destroy(&attr);
	rc = pthread_create(&k->thread, NULL, keeper_main, k);
	if (rc) {
		pthread_cond_destroy(&k->changed);
		pthread_mutex_destroy(&k->lock);
		free(k);
		return -rc;
	}
	*out = k;
	return 0;
}

void keeper_cancel(struct keeper *k)
{
	pthread_mutex_lock(&k->lock);
	k->cancelled = true;
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

void keeper_stop(struct keeper *k)
{
	if (!k || k->joined)
		return;
	pthread_mutex_lock(&k->lock);
	k->stopping = k->cancelled = true;
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	k->joined = true;
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	keeper_stop(k);
	rds_conn_free(k->conn);
	free(k->setting_text);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void keeper_kick(struct keeper *k)
{
	pthread_mutex_lock(&k->lock);
	k->kicked = true;
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

/* After -ENODATA: waits until a range has come. */
static int wait_refill(struct keeper *k, struct id_pool *pool)
{
	int rc = 0;

	pthread_mutex_lock(&k->lock);
	while (!rc && ids_left(pool) == 0) {
		k->kicked = true;
		pthread_cond_broadcast(&k->changed);
		if (k->fenced)
			rc = -EROFS;
		else if (k->cancelled)
			rc = -EIO;
		else
			pthread_cond_wait(&k->changed, &k->lock);
	}
	pthread_mutex_unlock(&k->lock);
	return rc;
}

int keeper_feed_inodes(struct keeper *k)
{
	uint64_t first, end;
	int rc;

	while ((rc = ids_reserve(k->cfg.inodes, INODE_PIECE, &first, &end)) == -ENODATA) {
		rc = wait_refill(k, k->cfg.inodes);
		if (rc)
			return rc;
	}
	if (rc)
		return rc;
	fs_add_ids(k->cfg.fs, first, end);
	if (ids_left(k->cfg.inodes) < k->cfg.url->inode_batch / 2)
		keeper_kick(k);
	return 0;
}

int keeper_next_slice(struct keeper *k, uint64_t *id)
{
	int rc;

	while ((rc = ids_next(k->cfg.slices, id)) == -ENODATA) {
		rc = wait_refill(k, k->cfg.slices);
		if (rc)
			return rc;
	}
	if (!rc && ids_left(k->cfg.slices) == k->cfg.slice_batch / 2)
		keeper_kick(k);
	return rc;
}

uint64_t keeper_silence_ms(struct keeper *k)
{
	pthread_mutex_lock(&k->lock);
	uint64_t ms = clock_mono_ms() - k->answered_ms;
	pthread_mutex_unlock(&k->lock);
	return ms;
}
