/* The keeper: one thread with one connection that does what has to happen now and then while a volume is mounted:
 * renew the lease, refill the id ranges, reload the setting, keep our session listed (DESIGN 3.6, spec 3.2).
 *
 * It notices first that another mount took over (on_fenced), that the volume is gone or is another one (on_gone), and
 * that Redis fell back (on_position with every beat: replay compares). A mount that only looks has no lease, range or
 * session: `look` takes the place of all that. Redis being away is normal: it tries again every
 * second and says so in the log now and then. Callbacks run in the keeper's thread and must not block. */
#ifndef JFS_DAEMON_KEEPER_H
#define JFS_DAEMON_KEEPER_H

#include "daemon/fs.h"
#include "redis/ids.h"
#include "redis/lease.h"
#include "redis/setting.h"
#include "redis/url.h"

struct keeper;

struct keeper_config {
	const struct rds_url *url;
	struct fs *fs;
	struct lease_id id;
	uint64_t epoch, replaced_epoch;
	const char *replaced_holder;
	bool new_history; /* the lease began one: */
	struct rds_position found, start; /* what was there, and where it began */
	uint64_t heartbeat_ns;
	struct id_pool *inodes, *slices;
	uint64_t slice_batch;	/* ids a range */
	const char *uuid;
	uint64_t sid;		/* our stock session, 0: none */
	const char *session_json;
	uint64_t (*backlog)(void *ctx);
	void (*on_fenced)(void *ctx, const char *why);
	void (*on_gone)(void *ctx, const char *why);
	void (*on_position)(void *ctx, const struct rds_position *pos);
	/* A mount without Redis so far (--offline): called before the first beat, when Redis answers, until it returns 0 and
	 * has set epoch and sid; -EKEYREVOKED: the lease is lost (`e` says why). NULL: the lease is ours already. */
	int (*resume)(void *ctx, uint64_t *epoch, uint64_t *sid, struct errmsg *e);
	int (*quotas)(void *ctx, struct rds_conn *c, struct errmsg *e); /* reads them anew; NULL: not wanted */
	void (*on_setting)(void *ctx, const struct rds_setting *s); /* when it changed */
	/* A mount that only looks: called instead of beats, may block on `c`. NULL: the lease is ours. */
	int (*look)(void *ctx, struct rds_conn *c, struct errmsg *e);
	void *ctx;
};

/* Starts the thread. The strings and pools must outlive it. */
int keeper_new(const struct keeper_config *cfg, struct keeper **out);
/* Ends the thread; waiting feeds get -EIO. Feeds and kicks may still come until keeper_free. NULL-safe. */
void keeper_stop(struct keeper *k);
/* Stops first. NULL-safe. */
void keeper_free(struct keeper *k);
/* Wakes it: a range is nearly used up, or the network may be back. Does not block. */
void keeper_kick(struct keeper *k);
/* Hands fs the next piece of inode numbers; waits for Redis if the range is used up. 0, -EIO (closing), -EROFS. */
int keeper_feed_inodes(struct keeper *k);
/* One slice id; waits for Redis if there is none. */
int keeper_next_slice(struct keeper *k, uint64_t *id);
/* From here on: closing. Waiting feeds answer -EIO. */
void keeper_cancel(struct keeper *k);
/* Milliseconds since Redis last answered a beat. */
uint64_t keeper_silence_ms(struct keeper *k);

#endif
