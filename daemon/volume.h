/* The volume behind a mount: its Redis, its object store, and all that works in the background between them and the
 * journal: keeper, loader, replayer, uploader, reader. The appliance owns journal, fs and session; this owns the rest.
 *
 * Order.  volume_connect (setting, storage; nothing is changed anywhere) -> journal_open by the caller, whose cache
 * directory is named by the volume's UUID -> volume_attach (lease, position, ids; after it we are the holder) -> fs and
 * session by the caller -> volume_start (threads) -> ... -> volume_drain -> session and fs end -> volume_stop ->
 * volume_detach (lease, session; needs the journal) -> journal_close -> volume_free.
 * A crash after volume_attach leaves a lease that the same cache directory takes again by itself. */
#ifndef JFS_DAEMON_VOLUME_H
#define JFS_DAEMON_VOLUME_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/fs.h"
#include "daemon/loader.h"
#include "daemon/reader.h"
#include "redis/setting.h"
#include "redis/url.h"
#include "s3/cache.h"
#include "s3/reader.h"
#include "s3/upload.h"
#include "util/errmsg.h"

struct volume;

/* What is larger gains little when it shares an object: then the bytes take longer than the request. */
#define VOLUME_PACK_BELOW (128u << 10)

struct volume_config {
	const char *meta_url;	  /* with its password; copied, wiped at the end */
	const char *cache_root;	  /* --cache-dir: offline mounts look for {UUID}/volume.json below it */
	const char *mountpoint;
	bool takeover, offline, read_only, strict_atime;
	bool writeback, eager;
	bool admit_all; /* struct fs_config */
	bool keep_objects;		/* --max-deletes=0: delete nothing from the object store */
	const char *storage, *bucket, *storage_class; /* another way to the same objects; NULL: the setting's */
	uint64_t upload_delay_ns, heartbeat_ns, retention_ns;
	uint64_t pack_below;		/* bytes; files of up to so many share objects, 0: none (VOLUME_PACK_BELOW) */
	uint64_t buffer_bytes, cache_bytes;
	double free_ratio;
	unsigned max_uploads, max_downloads, io_retries, timeout_ms, get_timeout_ms;
	/* Called from background threads; must not block. */
	void (*on_fenced)(void *ctx, const char *why);	/* the journal is frozen already */
	void (*on_gone)(void *ctx, const char *why);	/* the volume is not there any more: end the mount */
	/* A name in this directory means another inode now. Replayer's thread: must not wait for the kernel. May be NULL */
	void (*on_renamed)(void *ctx, uint64_t parent, const char *name, size_t n);
	void (*on_applied)(void *ctx, uint64_t seq);	/* Redis has everything up to seq; may be NULL */
	void *ctx;
};

/* Parses the URL, loads and checks the setting, opens (does not touch) the storage. Offline: from volume.json. */
int volume_connect(const struct volume_config *cfg, struct volume **out, struct errmsg *e);
void volume_free(struct volume *v); /* NULL-safe; after volume_detach, or if that was never reached */
/* --read-only with Redis: takes no lease, shows what Redis has. */
bool volume_only_looks(const struct volume *v);
const struct rds_setting *volume_setting(const struct volume *v);
const struct rds_url *volume_url(const struct volume *v);
void volume_fs_config(const struct volume *v, struct fs_config *out);

/* Takes the lease, compares positions, drops what may be stale in the view, opens the id pools. -EBUSY, -EKEYREVOKED: the
 * refusals of redis/lease.h. -ESTALE: this journal is clean but not of this volume's history any more: the caller deletes
 * it (journal_close, cachedir wiped) and attaches a fresh one. */
int volume_attach(struct volume *v, struct journal *j, const char *cache_dir, struct errmsg *e);
/* Starts the background work. `fs` must outlive volume_stop. */
int volume_start(struct volume *v, struct fs *fs, struct errmsg *e);
void volume_loader(struct volume *v, struct loader *out);
void volume_reader(struct volume *v, struct block_reader *out);
/* prime=1 in the URL: loads the whole tree. */
int volume_prime(struct volume *v, struct errmsg *e);

/* Durable, or a demand, has moved: the journal's notification. Does not block. */
void volume_kick(struct volume *v);
/* Everything committed so far becomes due at once; waits until Redis and S3 have it. 0; -EIO: it cannot be done (replay has
 * stopped, the mount ends); -EROFS: fenced, or a read-only mount with a backlog. */
int volume_drain(struct volume *v);
/* Waiting loads and feeds answer -EIO from here on: closing. */
void volume_cancel(struct volume *v);
/* Ends all threads. */
void volume_stop(struct volume *v);
/* Gives up lease and session. The lease is released for good only if nothing is left that only this journal has. */
void volume_detach(struct volume *v);

/* The budget's decision (budget.h). Any thread between volume_start and volume_stop. */
void volume_set_pressure(struct volume *v, bool upload_now, uint64_t retention_ms, uint64_t cache_limit);
uint64_t volume_cached_bytes(struct volume *v);
/* Who is away, in words; "": nobody. */
const char *volume_outage(struct volume *v);

struct volume_figures {
	bool offline, fenced;
	uint64_t epoch, sid, applied, committed;
	uint64_t backlog_ops;
	uint64_t pending_blocks, pending_bytes; /* not confirmed by S3, as far as chosen; see staged_bytes */
	uint64_t staged_bytes;
	uint64_t redis_silence_ms, s3_failing_ms;
	struct uploader_stats upload;
	struct reader_stats reader;
	struct cache_stats cache;
	struct obj_stats objects;
	uint64_t windows, scripts, commands, pending_slices;
	bool replay_stopped;
	char replay_state[512];
};
void volume_figures(struct volume *v, struct volume_figures *out);

#endif
