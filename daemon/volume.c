/* See volume.h: connecting, and what works in the background. volume_attach.c takes the lease, volume_replay.c knows the
 * replayer, volume_file.c keeps the setting for --offline. */
#include "daemon/volume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper.h"
#include "daemon/redis_loader.h"
#include "daemon/storage.h"
#include "daemon/volume_int.h"
#include "redis/format.h"
#include "redis/keys.h"
#include "redis/precheck.h"
#include "redis/quota.h"
#include "redis/server.h"
#include "redis/session.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define LOOK_NS 1000000000u /* a mount that only looks shows what is new after that */

/* --- connecting --- */

static int read_setting(struct volume *v, struct errmsg *e)
{
	int rc = rds_conn_new(&v->url, &v->conn, e);

	if (!rc)
		rc = rds_server_check(v->conn, NULL, e);
	if (!rc)
		rc = rds_volume_load(v->conn, &v->setting, &v->setting_text, &v->setting_len, e);
	return rc;
}

/* Damage is better found before anything is changed. */
static int check_quotas(struct volume *v, struct errmsg *e)
{
	struct rds_quota *list;
	struct rds_position pos;
	size_t n;
	int rc = rds_quota_read(v->conn, true, true, &list, &n, &pos, e);

	free(list);
	return rc;
}

static int block_format_of(const struct rds_setting *s, struct block_format *f, struct errmsg *e)
{
	memset(f, 0, sizeof(*f));
	if (strlen(s->name) >= sizeof(f->volume))
		return errmsg_set(e, -EUCLEAN, "the volume's name is longer than %zu bytes", sizeof(f->volume) - 1);
	strcpy(f->volume, s->name);
	f->block_size = (uint32_t)s->block_kib * 1024;
	f->hash_prefix = s->hash_prefix;
	return compress_parse(s->compression, &f->compression)
		? errmsg_set(e, -ENOTSUP, "unknown compression \"%s\"", s->compression)
		: 0;
}

int volume_connect(const struct volume_config *cfg, struct volume **out, struct errmsg *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return errmsg_set(e, -ENOMEM, "out of memory");
	v->cfg = *cfg;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	rc = rds_url_parse(cfg->meta_url, &v->url, e);
	if (!rc)
		rc = rds_url_env(&v->url, e);
	if (!rc && cfg->offline)
		rc = volume_file_find(v, e);
	else if (!rc)
		rc = read_setting(v, e);
	if (!rc)
		rc = rds_setting_check(&v->setting, e);
	if (!rc && !cfg->offline)
		rc = rds_precheck(v->conn, e);
	if (!rc && !cfg->offline)
		rc = check_quotas(v, e);
	if (!rc)
		rc = block_format_of(&v->setting, &v->format, e);
	if (!rc) {
		const struct storage_limits limits = {
			.max_parallel = cfg->max_uploads, .retries = cfg->io_retries, .timeout_ms = cfg->timeout_ms,
			.max_downloads = cfg->max_downloads, .get_timeout_ms = cfg->get_timeout_ms,
			.storage = cfg->storage, .bucket = cfg->bucket, .storage_class = cfg->storage_class};

		rc = storage_open(&v->setting, &limits, &v->store, e);
	}
	if (rc) {
		volume_free(v);
		return rc;
	}
	*out = v;
	return 0;
}

void volume_free(struct volume *v)
{
	if (!v)
		return;
	obj_store_close(v->store);
	rds_conn_free(v->conn);
	rds_setting_fini(&v->setting);
	if (v->setting_text)
		explicit_bzero(v->setting_text, v->setting_len);
	free(v->setting_text);
	free(v->session_json);
	explicit_bzero(&v->url, sizeof(v->url));
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

bool volume_only_looks(const struct volume *v)
{
	return v->cfg.read_only && !v->cfg.offline;
}

const struct rds_setting *volume_setting(const struct volume *v)
{
	return &v->setting;
}

const struct rds_url *volume_url(const struct volume *v)
{
	return &v->url;
}

static void fs_config_of(const struct volume *v, const struct rds_setting *s, struct fs_config *out)
{
	*out = (struct fs_config){
		.trash = s->trash_days > 0, .acl = v->setting.enable_acl, .capacity = s->capacity, .inodes = s->inodes, .read_only = v->cfg.read_only,
		.dir_quotas = s->dir_stats, .owner_quotas = s->user_group_quota, .admit_all = v->cfg.admit_all,
		.strict_atime = v->cfg.strict_atime};
}

void volume_fs_config(const struct volume *v, struct fs_config *out)
{
	fs_config_of(v, &v->setting, out);
}

/* --- background work --- */

void volume_fenced(struct volume *v, const char *why)
{
	pthread_mutex_lock(&v->lock);
	bool first = !v->fenced;
	v->fenced = true;
	pthread_mutex_unlock(&v->lock);
	if (!first)
		return;
	journal_freeze(v->journal, why);
	redis_loader_give_up(v->loader);
	log_error("what=\"fenced: read-only from now on; the journal is kept for jfs-recover export\" why=\"%s\"", why);
	v->cfg.on_fenced(v->cfg.ctx, why);
}

static void keeper_fenced(void *ctx, const char *why)
{
	volume_fenced(ctx, why);
}

static void keeper_gone(void *ctx, const char *why)
{
	struct volume *v = ctx;

	log_error("what=\"the volume is gone\" why=\"%s\"", why);
	journal_freeze(v->journal, why);
	v->cfg.on_gone(v->cfg.ctx, why);
}

static bool text_equal(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static void keeper_setting(void *ctx, const struct rds_setting *s)
{
	struct volume *v = ctx;
	struct fs_config cfg;

	/* Requests are on their way with the old ones; an object store is opened once. */
	if (!text_equal(s->bucket, v->setting.bucket) || !text_equal(s->access_key, v->setting.access_key) ||
		!text_equal(s->secret_key, v->setting.secret_key) || !text_equal(s->session_token, v->setting.session_token))
		log_warn("what=\"the volume's bucket or keys changed: unmount and mount again to use them\"");

	fs_config_of(v, s, &cfg);
	fs_set_config(v->fs, &cfg);
	log_info("what=\"setting reloaded\" trash_days=%" PRId64 " capacity=%" PRIu64 " inodes=%" PRIu64, s->trash_days, s->capacity,
		s->inodes);
}

static uint64_t keeper_backlog(void *ctx)
{
	struct staged_look look;

	volume_only_here(ctx, &look);
	return look.ops;
}

static int feed_inodes(void *ctx)
{
	struct volume *v = ctx;

	return fs_has_ids(v->fs) ? 0 : keeper_feed_inodes(v->keeper); /* who waited with others may find that some came */
}

static int start_storage(struct volume *v, struct errmsg *e)
{
	struct cache_config cc = {.size = v->cfg.cache_bytes, .free_ratio = v->cfg.free_ratio};
	char raw[1100];
	int rc;

	snprintf(raw, sizeof(raw), "%s/raw", v->cache_dir);
	cc.dir = raw;
	rc = cache_open(&cc, &v->cache, e);
	if (rc)
		return rc;
	struct reader_config rc_cfg = {.store = v->store, .cache = v->cache, .format = v->format,
		.buffer_bytes = v->cfg.buffer_bytes / 2, .readahead = 2};
	rc = reader_new(&rc_cfg, &v->reader);
	if (rc)
		return errmsg_set(e, rc, "cannot start the reader: %s", strerror(-rc));
	struct uploader_config uc = {.store = v->store, .staging = journal_staging(v->journal), .reader = v->reader,
		.format = v->format, .buffer_bytes = v->cfg.buffer_bytes / 2, .max_parallel = v->cfg.max_uploads,
		.moved = volume_moved, .ctx = v};
	rc = uploader_new(&uc, &v->uploader);
	return rc ? errmsg_set(e, rc, "cannot start the uploader: %s", strerror(-rc)) : 0;
}

static int start_keeper(struct volume *v, struct errmsg *e)
{
	struct keeper_config kc = {.url = &v->url, .fs = v->fs, .id = v->id, .epoch = v->lease.pos.epoch,
		.replaced_epoch = v->lease.replaced_epoch, .replaced_holder = v->lease.replaced_holder,
		.new_history = v->lease.new_history, .found = v->lease.replaced, .start = v->lease.pos,
		.heartbeat_ns = v->cfg.heartbeat_ns, .inodes = v->inodes, .slices = v->slices, .slice_batch = SLICE_BATCH,
		.uuid = v->setting.uuid, .sid = v->sid, .session_json = v->session_json, .backlog = keeper_backlog,
		.on_fenced = keeper_fenced, .on_gone = keeper_gone, .on_position = volume_replay_position,
		.on_setting = keeper_setting, .quotas = v->cfg.read_only ? NULL : volume_quota_beat, .resume = v->offline ? volume_resume : NULL,
		.look = volume_only_looks(v) ? volume_view_look : NULL, .ctx = v};

	if (kc.look && kc.heartbeat_ns > LOOK_NS)
		kc.heartbeat_ns = LOOK_NS;
	int rc = keeper_new(&kc, &v->keeper);

	return rc ? errmsg_set(e, rc, "cannot start the keeper: %s", strerror(-rc)) : 0;
}

int volume_start(struct volume *v, struct fs *fs, struct errmsg *e)
{
	int rc;

	v->fs = fs;
	if (v->url.mode == RDS_UNSAFE_BATCH)
		log_warn("what=\"unsafe_batch=1: batches check neither the lease nor what is there; Redis may show states that never "
			 "existed, and a fenced daemon is not harmless\"");
	rc = start_storage(v, e);
	if (!rc && v->offline && !v->cfg.read_only)
		rc = volume_replay_start(v, e); /* there before the keeper may want to let it begin */
	if (!rc)
		rc = redis_loader_new(&v->url, fs, feed_inodes, volume_acl, v, &v->loader);
	if (!rc && !v->offline && !v->cfg.read_only)
		rc = volume_quota_sync(v, v->conn, true, e);
	if (!rc)
		rc = start_keeper(v, e);
	if (!rc && !v->offline && !v->cfg.read_only)
		rc = volume_replay_start(v, e);
	return rc;
}

void volume_loader(struct volume *v, struct loader *out)
{
	redis_loader_iface(v->loader, out);
	out->trash_remove = volume_trash_remove;
	out->owner = v;
}

int volume_prime(struct volume *v, struct errmsg *e)
{
	int rc = redis_loader_prime(v->loader, JFS_ROOT_INODE);

	return rc ? errmsg_set(e, rc, "prime=1: cannot load the tree: %s", strerror(-rc)) : 0;
}

static int iface_read(void *ctx, uint64_t id, uint32_t size, uint32_t off, uint32_t len, void *buf)
{
	struct volume *v = ctx;

	int rc = reader_read(v->reader, id, size, off, buf, len);

	/* What the store answers is no error of the file's user; the reader's log line says it. */
	return rc && rc != -ENOENT && rc != -ENOMEM ? -EIO : rc;
}

static void iface_cancel(void *ctx)
{
	struct volume *v = ctx;

	obj_store_stop(v->store);
}

void volume_reader(struct volume *v, struct block_reader *out)
{
	*out = (struct block_reader){.read = iface_read, .cancel = iface_cancel, .ctx = v};
}

int volume_drain(struct volume *v)
{
	uint64_t seq = journal_mark(v->journal, WM_COMMITTED);
	int rc;

	if (!v->replayer) /* read-only: nobody will ever do it */
		return volume_backlog_exact(v, volume_confirmed(v->journal)) ? -EROFS : 0;
	if (v->uploader)
		uploader_kick(v->uploader);
	if (v->keeper)
		keeper_kick(v->keeper);
	rc = volume_replay_wait(v, WM_APPLIED, seq);
	return rc ? rc : volume_replay_wait(v, WM_UPLOADED, seq); /* with publish=eager it comes later */
}

void volume_cancel(struct volume *v)
{
	struct loader l;

	if (v->loader) {
		redis_loader_iface(v->loader, &l);
		l.cancel(l.ctx);
	}
	if (v->keeper)
		keeper_cancel(v->keeper);
	pthread_mutex_lock(&v->lock);
	v->cancelled = true;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void volume_stop(struct volume *v)
{
	volume_cancel(v);
	keeper_stop(v->keeper); /* first: it may be the one that starts replay */
	volume_quota_stop(v);
	volume_replay_stop(v);
	obj_store_stop(v->store);
	uploader_free(v->uploader); /* its last callbacks still find the replayer */
	v->uploader = NULL;
	volume_replay_free(v);
	redis_loader_free(v->loader);
	keeper_free(v->keeper);
	reader_free(v->reader);
	cache_close(v->cache);
	v->loader = NULL;
	v->keeper = NULL;
	v->reader = NULL;
	v->cache = NULL;
}

void volume_detach(struct volume *v)
{
	struct errmsg e = {""};
	int rc = 0;

	if (v->attached && !v->fenced) {
		uint64_t left = volume_backlog_exact(v, volume_confirmed(v->journal));

		/* Idle since the mount: an outage may have cut it without anybody noticing. */
		if (!rds_conn_ok(v->conn) || rds_cmd(v->conn, NULL, &e, "PING"))
			rc = rds_reconnect(v->conn, &e);
		if (!rc)
			volume_note_left(v);
		if (!rc && v->sid)
			rc = rds_session_end(v->conn, v->sid, &e);
		if (rc == -EBUSY)
			rc = 0;
		FAULT_POINT("lease.release.before");
		if (!rc)
			rc = lease_release(v->conn, v->lease.pos.epoch, left == 0, left, &e);
		if (rc)
			log_warn("what=\"the lease was not released; the next mount with this cache directory takes it again\" err=%d "
				 "detail=\"%s\"", rc, e.text);
	}
	ids_close(v->inodes);
	ids_close(v->slices);
	v->inodes = v->slices = NULL;
}

void volume_set_pressure(struct volume *v, bool upload_now, uint64_t retention_ms, uint64_t cache_limit)
{
	volume_replay_pressure(v, upload_now, retention_ms);
	cache_set_limit(v->cache, cache_limit);
}

uint64_t volume_cached_bytes(struct volume *v)
{
	struct cache_stats st;

	cache_stats(v->cache, &st);
	return st.bytes;
}

const char *volume_outage(struct volume *v)
{
	bool redis = v->keeper && keeper_silence_ms(v->keeper) > v->cfg.heartbeat_ns / 1000000 + 2000;
	struct uploader_stats up = {0};

	if (v->uploader)
		uploader_stats(v->uploader, &up);
	if (redis)
		return up.failing_ms ? "Redis and the object store are away" : "Redis is away";
	return up.failing_ms ? "the object store is away" : "";
}

void volume_figures(struct volume *v, struct volume_figures *out)
{
	struct staged_look look;

	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&v->lock);
	out->fenced = v->fenced;
	out->offline = v->offline && !v->attached;
	out->epoch = v->lease.pos.epoch;
	out->sid = v->sid;
	pthread_mutex_unlock(&v->lock);
	out->applied = journal_mark(v->journal, WM_APPLIED);
	out->committed = journal_mark(v->journal, WM_COMMITTED);
	volume_only_here(v, &look);
	out->backlog_ops = look.ops;
	out->pending_blocks = look.blocks;
	out->pending_bytes = look.bytes;
	out->staged_bytes = staging_bytes(journal_staging(v->journal));
	if (v->keeper)
		out->redis_silence_ms = keeper_silence_ms(v->keeper);
	if (v->uploader)
		uploader_stats(v->uploader, &out->upload);
	out->s3_failing_ms = out->upload.failing_ms;
	if (v->reader)
		reader_stats(v->reader, &out->reader);
	if (v->cache)
		cache_stats(v->cache, &out->cache);
	obj_store_stats(v->store, &out->objects);
	volume_replay_figures(v, out);
}
