/* What volume.c, volume_replay.c and volume_file.c share. */
#ifndef JFS_DAEMON_VOLUME_INT_H
#define JFS_DAEMON_VOLUME_INT_H

#include <pthread.h>

#include "daemon/volume.h"
#include "redis/conn.h"
#include "redis/ids.h"
#include "redis/lease.h"

#define SLICE_BATCH 100000 /* ids a range */

struct replayer;

/* The last look at what only this journal has: operations above APPLIED; written bytes above UPLOADED, as blocks to be. */
struct staged_look {
	uint64_t applied, uploaded, committed, ops, blocks, bytes, at_ms;
};

struct volume {
	struct volume_config cfg;
	struct rds_url url;
	struct rds_conn *conn; /* of the thread that attaches and detaches */
	struct rds_setting setting;
	char *setting_text;
	size_t setting_len;
	struct block_format format;
	char cache_dir[1024]; /* --cache-dir/{UUID}; from volume_attach */
	struct journal *journal;
	struct fs *fs;
	struct lease_id id;
	struct lease_state lease;
	struct id_pool *inodes, *slices;
	uint64_t sid;
	char *session_json;
	/* An offline mount: the keeper's thread sets attached, lease, conn and sid when Redis returns; the figures read them
	 * under lock. */
	bool attached, offline;
	char nonce[RDS_CHAIN_LEN + 1]; /* offline: see lease_resume */
	uint64_t last_sid, offline_applied;
	bool counted;
	char seen[512]; /* volume_view.c: what Redis showed when the view was emptied; the keeper's after the mount */
	struct obj_store *store;
	struct block_cache *cache;
	struct slice_reader *reader;
	struct uploader *uploader;
	struct keeper *keeper;
	struct redis_loader *loader;
	struct replayer *replayer; /* changed under lock: the keeper and the journal look at it from the start to the end */
	pthread_mutex_t lock;
	pthread_cond_t changed;	 /* one of these, or a drain's mark */
	bool fenced, cancelled, replay_stopped; /* under lock */
	struct staged_look look; /* under lock */
	/* volume_quota.c; `counter` is the keeper's thread's, counting under lock */
	enum { COUNTING_NOT, COUNTING_ON, COUNTING_DONE } counting;
	pthread_t counter;
	long long quota_log;
};

/* usedSpace and totalInodes of the view: Redis's plus what it does not have yet. */
int volume_init_counters(struct volume *v, struct journal *j, struct rds_conn *c, struct errmsg *e);
int volume_meta_put(struct journal *j, const char *name, const void *val, size_t len);

/* volume_attach.c: notes what Redis holds as we give the lease up; replay has ended. */
void volume_note_left(struct volume *v);
/* volume_attach.c: up to where the journal says that Redis and S3 have everything. */
uint64_t volume_confirmed(struct journal *j);
/* The keeper's resume (daemon/keeper.h) of a mount that began offline. */
int volume_resume(void *ctx, uint64_t *epoch, uint64_t *sid, struct errmsg *e);

/* volume_view.c: a mount that only looks */
int volume_view_attach(struct volume *v, struct journal *j, struct errmsg *e);
int volume_view_look(void *ctx, struct rds_conn *c, struct errmsg *e); /* the keeper's */

/* volume_file.c: CACHE/volume.json */
int volume_file_write(struct volume *v, struct errmsg *e);
/* Offline: finds the one below cache_root whose address is the URL's, and takes the setting from it. */
int volume_file_find(struct volume *v, struct errmsg *e);

/* volume_trash.c: false while an offline mount has not got it back */
bool volume_lease_is_ours(struct volume *v, uint64_t *epoch);
/* volume_acl.c: the loader's, for NEED_ACL and NEED_ACL_NUMBER */
int volume_acl(void *ctx, const struct fs_need *need);
/* volume_quota.c: takes over what Redis has. `starting`: nobody uses the mount yet. */
int volume_quota_sync(struct volume *v, struct rds_conn *conn, bool starting, struct errmsg *e);
int volume_quota_beat(void *ctx, struct rds_conn *conn, struct errmsg *e); /* the keeper's */
void volume_quota_stop(struct volume *v); /* after the keeper's end and volume_cancel */
/* struct loader's; owner is the volume */
int volume_trash_remove(void *owner, uint64_t parent, const char *name, uint64_t ino, bool dir);

/* volume_replay.c: everything that knows the replayer */
int volume_read_position(struct volume *v, struct journal *j, bool *own_history);
/* Before the lease is taken, for a journal with a history of its own: -EKEYREVOKED when Redis is at a place from which this
 * journal cannot replay. Replay would stop there, and what is written meanwhile would wait for ever (P8). */
int volume_check_place(struct volume *v, struct journal *j, struct errmsg *e);
int volume_set_position(struct volume *v, struct journal *j, const struct rds_position *pos);
int volume_sum_deltas(struct journal *j, uint64_t from, int64_t *space, int64_t *inodes);
/* A figure for people: may be a second old. Blocks for a flush. */
void volume_only_here(struct volume *v, struct staged_look *out);
/* Makes the replayer; without Redis so far (offline) volume_replay_resume starts it. */
int volume_replay_start(struct volume *v, struct errmsg *e);
int volume_replay_resume(struct volume *v, uint64_t epoch, struct errmsg *e);
void volume_replay_stop(struct volume *v);
void volume_replay_pressure(struct volume *v, bool upload_now, uint64_t retention_ms);
/* Waits for the mark. 0; -EIO: replay has stopped for good, or the mount ends; journal_when's errors. */
int volume_replay_wait(struct volume *v, enum watermark w, uint64_t seq);
/* An uploader_moved: where the journal says that staged bytes went. */
int volume_moved(void *ctx, const struct slice_piece *staged, struct slice_piece *object);
void volume_replay_position(void *ctx, const struct rds_position *pos);
/* Replayable records above `applied`, counted; at least 1 if that cannot be told. */
uint64_t volume_backlog_exact(struct volume *v, uint64_t applied);
void volume_replay_free(struct volume *v);
/* volume.c: freezes the journal and tells the owner, once. */
void volume_fenced(struct volume *v, const char *why);
void volume_replay_figures(struct volume *v, struct volume_figures *out);

#endif
