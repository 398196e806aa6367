/* Becoming the holder of a volume: lease, position, whether the view may be trusted, id ranges, session, counters; and the
 * same for a mount that began offline, when Redis is back. What the journal remembers of it, as view keys of T_META:
 *   "epoch"    be64: the epoch of our last lease
 *   "session"  be64: the number of our last stock session
 *   "left"     be64 epoch, be64 usedSpace, be64 totalInodes: what Redis had when that lease was given up
 *   "applied", "uploaded"     redis/replayer.h
 *   "ids.inode", "ids.slice"  redis/ids.h
 * and the file volume.json in the cache directory (mode 0600): address and setting, for --offline.
 * A crash between any two steps leaves a lease that the same cache directory takes again, with a higher epoch; nothing is
 * replayed before the records made here are durable, because every window's record follows them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/volume_int.h"
#include "journal/evict.h"
#include "redis/keys.h"
#include "redis/session.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

/* --- what the journal remembers --- */

static int meta_get_u64(struct journal *j, const char *name, uint64_t *out)
{
	const void *val;
	struct jkey k;
	size_t len;

	*out = 0;
	key_meta(&k, name);
	journal_lock(j);
	int rc = view_get(j, &k, &val, &len);
	if (!rc) {
		if (len == 8)
			*out = get_be64(val);
		else
			rc = -EUCLEAN;
	}
	journal_unlock(j);
	return rc == -ENOENT ? 0 : rc;
}

int volume_meta_put(struct journal *j, const char *name, const void *val, size_t len)
{
	struct jkey k;
	uint64_t seq;
	int rc;

	key_meta(&k, name);
	for (;;) {
		journal_lock(j);
		rec_put(journal_begin(j, OP_META), &k, val, len, 0);
		rc = journal_commit(j, &seq);
		journal_unlock(j);
		if (rc != -EAGAIN)
			return rc;
		rc = journal_wait_room(j);
		if (rc)
			return rc;
	}
}

static int meta_put_u64(struct journal *j, const char *name, uint64_t v)
{
	uint8_t val[8];

	put_be64(val, v);
	return volume_meta_put(j, name, val, sizeof(val));
}

/* --- attaching --- */

/* Best effort: without it the next mount compares less. */
void volume_note_left(struct volume *v)
{
	struct rds_position pos;
	struct errmsg e = {""};
	int64_t space = 0, inodes = 0;
	uint8_t val[24];
	int rc = lease_counters(v->conn, &space, &inodes, &pos, &e);

	put_be64(val, v->lease.pos.epoch);
	put_be64(val + 8, (uint64_t)space);
	put_be64(val + 16, (uint64_t)inodes);
	if (!rc)
		rc = volume_meta_put(v->journal, "left", val, sizeof(val));
	if (rc)
		log_info("what=\"not noted what Redis holds\" err=%d detail=\"%s\"", rc, e.text);
}

/* Has Redis other counters than we left? False after a crash: nobody noted them. Tools that take no session (gc, rmr of the
 * trash, restore) move nothing else. */
static int counters_moved(struct volume *v, uint64_t last_epoch, bool *moved, struct errmsg *e)
{
	struct rds_position pos;
	int64_t space, inodes;
	uint8_t left[24] = {0};
	const void *val;
	struct jkey k;
	size_t len;

	key_meta(&k, "left");
	journal_lock(v->journal);
	int rc = view_get(v->journal, &k, &val, &len);
	if (!rc && len == sizeof(left))
		memcpy(left, val, sizeof(left));
	journal_unlock(v->journal);
	*moved = false;
	if (rc || get_be64(left) != last_epoch)
		return rc == -ENOENT ? 0 : rc;
	rc = lease_counters(v->conn, &space, &inodes, &pos, e);
	*moved = !rc && ((uint64_t)space != get_be64(left + 8) || (uint64_t)inodes != get_be64(left + 16));
	return rc;
}

/* Is what the view holds clean still what Redis has? Nobody can have mounted since without one of these moving. */
static int view_is_current(struct volume *v, uint64_t last_epoch, uint64_t last_sid, bool *current, struct errmsg *e)
{
	struct redisReply *r = NULL;
	uint64_t now[3] = {0};
	int rc = rds_cmd(v->conn, &r, e, "MGET %s %s %s", RDS_NEXT_SESSION, RDS_NEXT_INODE, RDS_NEXT_CHUNK);

	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements != 3))
		rc = errmsg_set(e, -EUCLEAN, "unexpected answer to MGET");
	for (int i = 0; i < 3 && !rc; i++)
		if (r->element[i]->type == REDIS_REPLY_STRING && rds_parse_u64(r->element[i]->str, r->element[i]->len, &now[i]))
			rc = errmsg_set(e, -EUCLEAN, "a counter in Redis is not a number");
	rds_reply_free(r);
	bool moved = true;

	if (!rc)
		rc = counters_moved(v, last_epoch, &moved, e);
	*current = !rc && !moved && v->lease.replaced_epoch == last_epoch && now[0] == last_sid &&
		now[1] + 1 == ids_end(v->inodes) && now[2] + 1 == ids_end(v->slices);
	return rc;
}

static int start_session(struct volume *v, struct journal *j, uint64_t last_sid, struct errmsg *e)
{
	uint64_t sid;
	int rc;

	if (!v->session_json)
		v->session_json = rds_session_json(v->cfg.mountpoint, clock_wall_ns());
	if (!v->session_json)
		return errmsg_set(e, -ENOMEM, "out of memory");
	rc = rds_session_start(v->conn, v->session_json, clock_wall_sec(), journal_cache_id(j), last_sid, &sid, e);
	if (rc)
		return rc;
	FAULT_POINT("session.start.after");
	pthread_mutex_lock(&v->lock);
	v->sid = sid;
	pthread_mutex_unlock(&v->lock);
	if (meta_put_u64(j, "session", sid))
		return errmsg_set(e, -EIO, "cannot write to the journal: %s", journal_failure(j));
	return 0;
}

/* The position that the journal says Redis has. */
static uint64_t volume_applied(struct journal *j)
{
	uint64_t seq = 0;
	const void *val;
	struct jkey k;
	size_t len;

	key_meta(&k, "applied");
	journal_lock(j);
	if (view_get(j, &k, &val, &len) == 0 && len >= 16)
		seq = get_be64((const uint8_t *)val + 8);
	journal_unlock(j);
	return seq;
}

/* Up to where the journal says that Redis and S3 have everything. With publish=eager Redis may be ahead of S3: what it names
 * lies only here until then. */
uint64_t volume_confirmed(struct journal *j)
{
	uint64_t seq = volume_applied(j), uploaded = 0;
	const void *val;
	struct jkey k;
	size_t len;

	key_meta(&k, "uploaded");
	journal_lock(j);
	if (view_get(j, &k, &val, &len) == 0 && len == 8)
		uploaded = get_be64(val);
	journal_unlock(j);
	return seq < uploaded ? seq : uploaded; /* neither: a new history, and no log before it */
}

static int fill_nonce(char out[RDS_CHAIN_LEN + 1], struct errmsg *e)
{
	uint8_t nonce[RDS_CHAIN_LEN / 2];

	if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
		return errmsg_set(e, -EIO, "no random bytes");
	for (size_t i = 0; i < sizeof(nonce); i++)
		snprintf(out + 2 * i, 3, "%02x", nonce[i]);
	return 0;
}

static int take_lease(struct volume *v, struct journal *j, uint64_t last_epoch, bool own_history, struct errmsg *e)
{
	struct lease_want w = {.min_epoch = last_epoch, .takeover = v->cfg.takeover, .own_history = own_history};
	int rc;

	lease_id_fill(&v->id, journal_cache_id(j), v->cache_dir);
	w.id = v->id;
	w.start_seq = journal_mark(j, WM_COMMITTED);
	rc = fill_nonce(w.start_chain, e);
	if (rc)
		return rc;
	FAULT_POINT("lease.acquire.before");
	rc = lease_acquire(v->conn, &w, &v->lease, e);
	FAULT_POINT("lease.acquire.after");
	if (rc)
		return rc;
	if ((v->lease.status == LEASE_OTHER_HISTORY || v->lease.status == LEASE_AHEAD) &&
		volume_backlog_exact(v, volume_confirmed(j)) == 0)
		return errmsg_set(e, -ESTALE, "the journal in %s is clean, but the volume went on without it", v->cache_dir);
	if (v->lease.status != LEASE_OK) {
		lease_refusal(&v->lease, e);
		return v->lease.status == LEASE_HELD ? -EBUSY : -EKEYREVOKED;
	}
	if (v->lease.new_history) {
		rc = volume_set_position(v, j, &v->lease.pos);
		if (rc)
			return errmsg_set(e, rc, "cannot write to the journal: %s", journal_failure(j));
	}
	if (meta_put_u64(j, "epoch", v->lease.pos.epoch))
		return errmsg_set(e, -EIO, "cannot write to the journal: %s", journal_failure(j));
	return 0;
}

int volume_init_counters(struct volume *v, struct journal *j, struct rds_conn *c, struct errmsg *e)
{
	struct rds_position pos;
	int64_t space, inodes, more_space = 0, more_inodes = 0;
	int rc = lease_counters(c, &space, &inodes, &pos, e);

	if (!rc && (rc = volume_sum_deltas(j, pos.seq, &more_space, &more_inodes)) != 0)
		errmsg_set(e, rc, "the journal in %s cannot be read: run jfs-recover check", v->cache_dir);
	if (rc)
		return rc;
	journal_lock(j);
	journal_set_stats(j, space + more_space, inodes + more_inodes);
	journal_unlock(j);
	return 0;
}

/* Without Redis (--offline): the lease is the one that this journal held last, and nobody can tell yet whether it still is.
 * usedSpace and totalInodes count from 0 until Redis says what they were. */
static int attach_offline(struct volume *v, struct journal *j, uint64_t last_epoch, uint64_t last_sid, bool own_history,
	struct errmsg *e)
{
	int64_t space = 0, inodes = 0;

	if (last_epoch == 0 || !own_history)
		return errmsg_set(e, -ENOENT, "--offline: %s has never held the volume's lease", v->cache_dir);
	int rc = fill_nonce(v->nonce, e);

	if (rc)
		return rc;
	lease_id_fill(&v->id, journal_cache_id(j), v->cache_dir);
	v->lease.pos.epoch = last_epoch;
	v->last_sid = last_sid;
	v->session_json = rds_session_json(v->cfg.mountpoint, clock_wall_ns());
	if (!v->session_json)
		return errmsg_set(e, -ENOMEM, "out of memory");
	v->offline = true;
	v->offline_applied = volume_applied(j);
	rc = volume_sum_deltas(j, v->offline_applied, &space, &inodes);
	if (rc)
		return errmsg_set(e, rc, "the journal in %s is damaged: run jfs-recover check", v->cache_dir);
	journal_lock(j);
	journal_set_stats(j, space, inodes);
	journal_unlock(j);
	log_warn("what=\"mounted offline: if another host takes the volume over before Redis is back, what is written now goes to "
		 "jfs-recover export\" epoch=%" PRIu64, last_epoch);
	return 0;
}

/* Adds what Redis has to what attach_offline counted: the deltas above what we believed was applied. */
static int resume_counters(struct volume *v, struct errmsg *e)
{
	int64_t space, inodes, more_space, more_inodes, had_space = 0, had_inodes = 0;
	struct journal *j = v->journal;
	struct rds_position pos;
	int rc = lease_counters(v->conn, &space, &inodes, &pos, e);

	if (!rc && pos.seq != v->offline_applied) { /* an answer was lost, or Redis forgot: some deltas are in both, or in neither */
		rc = volume_sum_deltas(j, pos.seq, &more_space, &more_inodes);
		if (!rc)
			rc = volume_sum_deltas(j, v->offline_applied, &had_space, &had_inodes);
		if (!rc) {
			space += more_space - had_space;
			inodes += more_inodes - had_inodes;
		}
	}
	if (rc)
		return rc;
	journal_lock(j);
	journal_stats(j, &had_space, &had_inodes);
	journal_set_stats(j, had_space + space, had_inodes + inodes);
	journal_unlock(j);
	return 0;
}

/* Redis is back (DESIGN 3.6): takes the lease from exactly the epoch we hold, and only then lets replay begin. Runs in the
 * keeper's thread, again and again until it has come through; what was done is not done twice. */
int volume_resume(void *ctx, uint64_t *epoch, uint64_t *sid, struct errmsg *e)
{
	struct volume *v = ctx;
	struct rds_position pos;
	bool current = true;
	int rc = !v->conn ? rds_conn_new(&v->url, &v->conn, e) : rds_conn_ok(v->conn) ? 0 : rds_reconnect(v->conn, e);

	if (!rc)
		rc = lease_resume(v->conn, &v->id, v->lease.pos.epoch, v->nonce, &pos, e);
	if (rc)
		return rc;
	if (meta_put_u64(v->journal, "epoch", pos.epoch))
		return errmsg_set(e, -EIO, "cannot write to the journal: %s", journal_failure(v->journal));
	if (v->sid == 0) {
		v->lease.replaced_epoch = v->lease.pos.epoch;
		rc = view_is_current(v, v->lease.pos.epoch, v->last_sid, &current, e);
		if (!rc && !current)
			log_warn("what=\"somebody may have written to the volume since our last mount: what this host has cached of it may be "
				 "old until it is mounted again\"");
		if (!rc)
			rc = start_session(v, v->journal, v->last_sid, e);
	}
	if (!rc && !v->counted)
		rc = resume_counters(v, e);
	if (rc)
		return rc;
	v->counted = true;
	rc = volume_replay_resume(v, pos.epoch, e);
	if (rc)
		return rc;
	pthread_mutex_lock(&v->lock);
	v->lease.pos = pos;
	v->attached = true;
	pthread_mutex_unlock(&v->lock);
	*epoch = pos.epoch;
	*sid = v->sid;
	log_info("what=\"Redis is back; the offline mount goes on\" epoch=%" PRIu64 " position=%" PRIu64, pos.epoch, pos.seq);
	return 0;
}

int volume_attach(struct volume *v, struct journal *j, const char *cache_dir, struct errmsg *e)
{
	uint64_t last_epoch, last_sid, dropped;
	bool own_history, current;
	int rc;

	v->journal = j;
	snprintf(v->cache_dir, sizeof(v->cache_dir), "%s", cache_dir);
	if (volume_only_looks(v))
		return volume_view_attach(v, j, e);
	rc = meta_get_u64(j, "epoch", &last_epoch);
	if (!rc)
		rc = meta_get_u64(j, "session", &last_sid);
	if (!rc)
		rc = ids_open(j, "ids.inode", &v->inodes);
	if (!rc)
		rc = ids_open(j, "ids.slice", &v->slices);
	if (!rc)
		rc = volume_read_position(v, j, &own_history);
	if (rc)
		return errmsg_set(e, rc, "the journal in %s is damaged: run jfs-recover check", v->cache_dir);
	if (v->cfg.offline)
		return attach_offline(v, j, last_epoch, last_sid, own_history, e);
	if (own_history)
		rc = volume_check_place(v, j, e);
	if (!rc)
		rc = take_lease(v, j, last_epoch, own_history, e);
	if (rc)
		return rc;
	v->attached = true;
	if (own_history && last_sid > 0) {
		rc = view_is_current(v, last_epoch, last_sid, &current, e);
		if (!rc && !current) {
			rc = journal_drop_clean(j, volume_confirmed(j), &dropped);
			if (rc)
				return errmsg_set(e, rc, "the journal in %s cannot be read or written: %s", cache_dir, strerror(-rc));
			log_info("what=\"somebody may have written to the volume since; clean entries dropped\" keys=%" PRIu64, dropped);
		}
	}
	if (!rc)
		rc = start_session(v, j, last_sid, e);
	if (!rc)
		rc = volume_init_counters(v, j, v->conn, e);
	if (!rc)
		rc = volume_file_write(v, e);
	return rc;
}
