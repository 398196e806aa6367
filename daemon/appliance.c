/* See appliance.h. A --local-only mount (tests) has neither Redis nor S3: the journal and the file system core alone. */
#include "daemon/appliance.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/awake.h"
#include "daemon/cache_dir.h"
#include "daemon/fs.h"
#include "daemon/gate.h"
#include "daemon/reclaim.h"
#include "daemon/session.h"
#include "daemon/stats.h"
#include "daemon/volume.h"
#include "redis/replayer.h"
#include "util/clock.h"
#include "util/log.h"

struct appliance {
	const struct mount_options *o;
	char *cache; /* DIR/{UUID} */
	char *mountpoint;
	const char *name; /* of the volume */
	struct journal *journal;
	struct journal_report report;
	struct fs *fs;
	struct stats *stats;
	struct session *session; /* written under lock: the keeper's thread looks at it */
	struct volume *volume; /* NULL: local-only */
	struct gate *gate;     /* NULL: local-only, whose journal never drains */
	_Atomic uint64_t orphaned; /* staged bytes of unlinked open files */
	struct loader loader;
	struct block_reader reader;
	uint64_t root;	       /* inode of --subdir, else 1 */
	bool replaying;	       /* volume_start has run */
	/* Lazy deletion: wakes at every flush. */
	pthread_t reaper;
	bool reaper_started;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool ending, closing, kicked, fenced; /* lock; ending: the session takes no work any more; closing: the reaper ends */
};

/* --- .stats --- */
static void source_journal(void *ctx, struct stats_text *t)
{
	struct appliance *a = ctx;
	struct journal_figures f;
	int64_t space = 0, inodes = 0;

	journal_figures(a->journal, &f);
	journal_lock(a->journal);
	journal_stats(a->journal, &space, &inodes);
	journal_unlock(a->journal);
	stats_int(t, "used_space", NULL, space < 0 ? 0 : space);
	stats_int(t, "used_inodes", NULL, inodes < 0 ? 0 : inodes);
	stats_int(t, "journal_commits", NULL, (int64_t)f.commits);
	stats_int(t, "journal_flushes", NULL, (int64_t)f.flushes);
	stats_int(t, "journal_syncs", NULL, (int64_t)f.syncs);
	stats_int(t, "journal_log_records", NULL, (int64_t)f.log_records);
	stats_int(t, "journal_hot_bytes", NULL, (int64_t)f.hot_used);
	stats_int(t, "journal_base_bytes", NULL, (int64_t)f.base_bytes);
	stats_int(t, "journal_last_flush_us", NULL, (int64_t)f.last_flush_us);
	stats_int(t, "staging_bytes", NULL, (int64_t)f.staging_bytes);
	stats_int(t, "staging_dirty_bytes", NULL, (int64_t)f.staging_dirty);
	stats_int(t, "durable_lag", NULL, (int64_t)journal_durable_lag_ms(a->journal));
	stats_int(t, "sequence", "committed", (int64_t)journal_mark(a->journal, WM_COMMITTED));
	stats_int(t, "sequence", "durable", (int64_t)journal_mark(a->journal, WM_SYNCED)); /* for a reader: what a power cut keeps */
	stats_int(t, "sequence", "base", (int64_t)journal_mark(a->journal, WM_DURABLE));
	stats_int(t, "sequence", "uploaded", (int64_t)journal_mark(a->journal, WM_UPLOADED));
	stats_int(t, "sequence", "applied", (int64_t)journal_mark(a->journal, WM_APPLIED));
	stats_int(t, "sequence", "trim", (int64_t)journal_mark(a->journal, WM_TRIM));
	stats_int(t, "journal_failed", NULL, journal_failed(a->journal));
}

/* What S3 has not confirmed. A local-only mount has nobody who would. Bytes that no window names yet are blocks to be:
 * at least one. */
static void source_staging(void *ctx, struct stats_text *t)
{
	struct appliance *a = ctx;
	struct volume_figures f = {0};

	if (a->volume) {
		volume_figures(a->volume, &f);
	} else {
		struct journal_figures jf;

		journal_figures(a->journal, &jf);
		f.pending_bytes = jf.staging_bytes;
		f.pending_blocks = jf.staging_bytes ? 1 : 0;
	}
	stats_int(t, "staging_blocks", NULL, (int64_t)f.pending_blocks);
	stats_int(t, "staging_block_bytes", NULL, (int64_t)f.pending_bytes);
	stats_int(t, "backlog_operations", NULL, (int64_t)f.backlog_ops);
	stats_int(t, "replay_windows", NULL, (int64_t)f.windows);
	stats_int(t, "replay_scripts", NULL, (int64_t)f.scripts);
	stats_int(t, "replay_commands", NULL, (int64_t)f.commands);
	stats_int(t, "replay_stopped", NULL, f.replay_stopped);
	stats_int(t, "lease_epoch", NULL, (int64_t)f.epoch);
	stats_int(t, "fenced", NULL, f.fenced);
	stats_int(t, "redis_silence_ms", NULL, (int64_t)f.redis_silence_ms);
	stats_int(t, "s3_failing_ms", NULL, (int64_t)f.s3_failing_ms);
	stats_int(t, "object_request_uploading", NULL, (int64_t)f.objects.in_flight);
	stats_int(t, "object_request_errors", NULL, (int64_t)f.objects.errors);
	stats_int(t, "object_request_data_bytes", "GET", (int64_t)f.objects.get_bytes);
	stats_int(t, "object_request_data_bytes", "PUT", (int64_t)f.objects.put_bytes);
	stats_hist(t, "object_request_durations_histogram_seconds", "PUT", f.objects.puts, f.objects.put_seconds);
	stats_hist(t, "object_request_durations_histogram_seconds", "GET", f.objects.gets, f.objects.get_seconds);
	stats_hist(t, "object_request_durations_histogram_seconds", "DELETE", f.objects.deletes, f.objects.delete_seconds);
	stats_int(t, "blockcache_blocks", NULL, (int64_t)f.cache.blocks);
	stats_int(t, "blockcache_bytes", NULL, (int64_t)f.cache.bytes);
	stats_int(t, "blockcache_evicts", NULL, (int64_t)f.cache.evicted);
	stats_int(t, "blockcache_writes", NULL, (int64_t)f.cache.writes);
	stats_int(t, "blockcache_write_bytes", NULL, (int64_t)f.cache.write_bytes);
	stats_int(t, "blockcache_hits", NULL, (int64_t)f.reader.hits);
	stats_int(t, "blockcache_hit_bytes", NULL, (int64_t)f.reader.hit_bytes);
	stats_int(t, "blockcache_miss", NULL, (int64_t)f.reader.misses);
	stats_int(t, "blockcache_miss_bytes", NULL, (int64_t)f.reader.miss_bytes);
	stats_int(t, "used_buffer_size_bytes", NULL, (int64_t)f.reader.memory_bytes);
	stats_hist(t, "meta_ops_durations_histogram_seconds", NULL, 0, 0);
	stats_hist(t, "transaction_durations_histogram_seconds", NULL, 0, 0);
}

/* --- the budget (budget.h) --- */
static bool gate_measure(void *ctx, struct budget_in *in)
{
	struct appliance *a = ctx;
	struct journal_figures f;
	struct statvfs sv;

	journal_figures(a->journal, &f);
	in->size = a->o->cache_size;
	in->free_ratio = a->o->free_space_ratio;
	in->staged = f.staging_used;
	in->cached = volume_cached_bytes(a->volume);
	in->orphaned = atomic_load(&a->orphaned);
	in->log = f.log_bytes;
	in->log_limit = a->o->log_limit;
	in->retention_ms = a->o->retention_ns ? a->o->retention_ns / 1000000 : RETENTION_MS;
	if (statvfs(a->cache, &sv) == 0) {
		in->disk_total = (uint64_t)sv.f_blocks * sv.f_frsize;
		in->disk_free = (uint64_t)sv.f_bavail * sv.f_frsize;
	} else {
		log_warn("event=statvfs dir=\"%s\" error=\"%s\"", a->cache, strerror(errno));
		in->disk_total = in->disk_free = UINT64_MAX / 4; /* only --cache-size counts then */
	}
	return !journal_failure(a->journal)[0];
}

static void reaper_kick(struct appliance *a)
{
	pthread_mutex_lock(&a->lock);
	a->kicked = true;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
}

static void gate_act(void *ctx, const struct budget_out *out)
{
	struct appliance *a = ctx;

	volume_set_pressure(a->volume, out->pressing, out->retention_ms, out->cache_limit);
	if (out->pressing) /* what died since the last look may be given back */
		reaper_kick(a);
}

static bool gate_is_orphan(void *ctx, uint64_t ino)
{
	struct appliance *a = ctx;

	return fs_is_orphan(a->fs, ino);
}

static int start_gate(struct appliance *a, struct errmsg *e)
{
	const struct gate_config gc = { .measure = gate_measure, .act = gate_act, .is_orphan = gate_is_orphan, .ctx = a };
	int r = a->o->read_only ? 0 : gate_new(&gc, &a->gate);

	return r ? errmsg_set(e, r, "cannot start a thread: %s", strerror(-r)) : 0;
}

static void source_budget(void *ctx, struct stats_text *t)
{
	struct appliance *a = ctx;
	struct gate_figures f;

	if (!a->gate)
		return;
	gate_figures(a->gate, &f);
	stats_int(t, "budget_bytes", NULL, (int64_t)f.out.limit);
	stats_int(t, "budget_used_bytes", NULL, (int64_t)f.in.staged);
	stats_int(t, "budget_unlinked_bytes", NULL, (int64_t)f.in.orphaned);
	stats_int(t, "budget_cache_bytes", NULL, (int64_t)f.out.cache_limit);
	stats_int(t, "budget_log_bytes", NULL, (int64_t)f.out.log_limit);
	stats_int(t, "budget_log_used_bytes", NULL, (int64_t)f.in.log);
	stats_int(t, "budget_state", NULL, f.out.data > f.out.meta ? f.out.data : f.out.meta);
	stats_int(t, "budget_uploads_due", NULL, f.out.pressing);
	stats_int(t, "budget_waiting", NULL, (int64_t)f.waiting);
	stats_int(t, "budget_waited_total", NULL, (int64_t)f.waited);
	stats_int(t, "budget_retention_ms", NULL, (int64_t)f.out.retention_ms);
}

/* "free"; "slowing writers: log"; "writers wait: staging is full, Redis is away". */
static void budget_text(const struct appliance *a, char *out, size_t n)
{
	struct gate_figures f;
	const char *away;

	gate_figures(a->gate, &f);
	if (f.out.data == BUDGET_FREE) {
		snprintf(out, n, "%s", budget_state_name(BUDGET_FREE));
		return;
	}
	away = volume_outage(a->volume);
	snprintf(out, n, "%s: the budget of the %s is %s%s%s", budget_state_name(f.out.data), budget_what_name(f.out.what),
		f.out.data == BUDGET_FULL ? "used up" : "nearly used up", *away ? ", " : "", away);
}

/* --- .config (spec 6.1); no CommPath: a stock mount would try to take the mount over --- */
/* The volume's setting without its secrets; local-only: just a name. NULL without memory. */
static json_t *format_json(const struct appliance *a)
{
	struct buf b;
	json_t *o;

	if (!a->volume)
		return json_pack("{s:s}", "Name", a->name);
	buf_init(&b, 0);
	rds_setting_write(volume_setting(a->volume), true, &b);
	o = json_loadb((const char *)b.data, b.err ? 0 : b.len, 0, NULL);
	buf_fini(&b);
	return o;
}

static int config_text(void *ctx, struct buf *out)
{
	struct appliance *a = ctx;
	const struct mount_options *o = a->o;
	const json_int_t forever = 1000000000000000000;
	struct volume_figures f = {0};
	const char *transport;
	char budget[160];

	if (a->volume)
		volume_figures(a->volume, &f);
	pthread_mutex_lock(&a->lock); /* somebody may look while the mount is on its way */
	transport = a->session ? session_transport(a->session) : "";
	pthread_mutex_unlock(&a->lock);
	budget_text(a, budget, sizeof(budget));
	json_t *root = json_pack("{s:{s:s,s:I,s:b,s:s}, s:o, s:{s:s,s:b,s:I,s:I,s:I}, s:s, s:i, s:i, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s}",
		"Meta", "MountPoint", a->mountpoint, "Sid", (json_int_t)f.sid, "ReadOnly", o->read_only, "Subdir",
		o->subdir ? o->subdir : "", "Format", format_json(a), "Chunk", "CacheDir", a->cache, "Writeback", o->writeback,
		"UploadDelay", (json_int_t)o->upload_delay_ns, "BufferSize", (json_int_t)o->buffer_size, "BlockSize",
		a->volume ? (json_int_t)volume_setting(a->volume)->block_kib * 1024 : (json_int_t)4 << 20, "Version", JFS_VERSION,
		"Pid", (int)getpid(), "PPid", (int)getppid(), "AttrTimeout", forever, "EntryTimeout", forever, "DirEntryTimeout",
		forever, "Journal", journal_cache_id(a->journal), "Replay", f.replay_state, "Failure",
		journal_failure(a->journal), "Budget", budget, "Transport", transport);
	char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;

	json_decref(root);
	if (!text)
		return -ENOMEM;
	buf_puts(out, text);
	buf_puts(out, "\n");
	free(text);
	return out->err;
}

/* --- lazy deletion in the background --- */
static void notify(void *arg)
{
	struct appliance *a = arg;

	if (a->volume)
		volume_kick(a->volume);
	reaper_kick(a);
}

/* Sleeps until somebody kicks, or a look at what can be given back that came too soon is due. False: closing. */
static bool reaper_wait(struct appliance *a, uint64_t later_ms)
{
	struct timespec until = clock_mono_after_ms(later_ms);
	int r = 0;

	pthread_mutex_lock(&a->lock);
	while (!a->closing && !(a->kicked && !later_ms) && r != ETIMEDOUT)
		r = later_ms ? pthread_cond_timedwait(&a->cond, &a->lock, &until) : pthread_cond_wait(&a->cond, &a->lock);
	a->kicked = false;
	bool closing = a->closing;
	pthread_mutex_unlock(&a->lock);
	return !closing;
}

static void *reaper_main(void *arg)
{
	struct appliance *a = arg;
	struct reclaim reclaim = { 0 };
	uint64_t freed, later = 0;
	bool closing;

	pthread_setname_np(pthread_self(), "jfs-reap");
	while (reaper_wait(a, later)) {
		int r;

		later = 0;

		while ((r = fs_reap_step(a->fs)) == 1 || (r == FS_ROOM && journal_wait_room(a->journal) == 0)) {
			pthread_mutex_lock(&a->lock);
			closing = a->closing;
			pthread_mutex_unlock(&a->lock);
			if (closing)
				return NULL;
		}
		if (r == 0) {
			r = reclaim_step(&reclaim, a->journal, gate_pressing(a->gate), &freed);
			atomic_store(&a->orphaned, reclaim.orphaned);
			if (r == -EAGAIN) {
				later = freed;
				continue;
			}
			if (r == 0 && freed)
				gate_kick(a->gate);
		}
		if (r < 0 && r != -EROFS && r != -EIO)
			log_warn("event=reap error=\"%s\"", strerror(-r));
	}
	return NULL;
}

/* --- local-only --- */
static int make_root(struct journal *j)
{
	struct inode_val v = { .attr = { .type = JFS_DIR, .mode = 0777, .nlink = 2, .length = 4096, .parent = 1 },
		.lflags = IL_DATA_LOCAL | IL_DIR_COMPLETE | IL_XATTR_COMPLETE };
	struct inode_val have;
	uint64_t seq;
	int r;

	journal_lock(j);
	r = view_get_inode(j, JFS_ROOT_INODE, &have);
	if (r == -ENOENT) {
		v.attr.atime = v.attr.mtime = v.attr.ctime = clock_wall_sec();
		v.seq = journal_next_seq(j);
		rec_put_inode(journal_begin(j, OP_LOAD), JFS_ROOT_INODE, &v, IF_NEW);
		r = journal_commit(j, &seq);
	}
	journal_unlock(j);
	return r;
}

/* Numbers that no earlier life can have used: creation is slower than 2^20 inodes a millisecond. */
static void give_ids(struct fs *fs)
{
	uint64_t first = (clock_wall_ns() / 1000000) << 20;

	fs_add_ids(fs, first, first + (1ull << 40));
}

static int open_local(struct appliance *a, struct errmsg *e)
{
	int r = make_root(a->journal);

	if (r)
		return errmsg_set(e, r, "%s: cannot make the root directory: %s", a->cache, strerror(-r));
	give_ids(a->fs);
	return 0;
}

/* --- opening --- */
static int open_journal(struct appliance *a, const char *uuid, struct errmsg *e)
{
	const struct mount_options *o = a->o;
	struct journal_config jc = { .cache_dir = a->cache, .hot_dir = o->hot_dir, .uuid = uuid,
		.sync_interval_ms = (uint32_t)(o->sync_interval_ns / 1000000), .dirty_limit = o->dirty_limit,
		.hot_size = o->hot_size, .allow_any_fs = o->allow_any_fs,
		.segment_size = budget_segment(o->local_only ? UINT64_MAX : o->cache_size) };
	int r;

	if (jc.sync_interval_ms == 0)
		jc.sync_interval_ms = 1;
	if (jc.dirty_limit == 0)
		jc.dirty_limit = 256ull << 20;
	r = cache_dir_make(o->cache_dir, uuid, a->volume && volume_only_looks(a->volume), &a->cache, e);
	if (r)
		return r;
	r = o->rebasing ? 0 : cache_dir_unfinished(a->cache, e);
	if (r)
		return r;
	jc.cache_dir = a->cache;
	r = journal_open(&jc, &a->journal, &a->report, e);
	while (r == -EBUSY && cache_dir_wait(a->cache, e) == 0)
		r = journal_open(&jc, &a->journal, &a->report, e);
	if (r)
		return r;
	log_info("event=journal_open cache=\"%s\" fresh=%d clean=%d power_cut=%d recovered=%llu synced=%llu dropped=%llu", a->cache,
		a->report.fresh, a->report.clean, a->report.power_cut, (unsigned long long)a->report.recovered,
		(unsigned long long)a->report.synced, (unsigned long long)a->report.dropped);
	if (a->report.power_cut)
		log_warn("event=power_cut note=\"the host lost power or the hot directory: the state before the last sync is kept\"");
	if (a->report.dropped)
		log_error("event=damage dropped=%llu first=\"%s\" note=\"see %s/setaside and jfs-recover check\"",
			(unsigned long long)a->report.dropped, a->report.first_bad, a->cache);
	return 0;
}

static int open_fs(struct appliance *a, struct errmsg *e)
{
	struct fs_config fc = { 0 };
	int r;

	if (a->volume)
		volume_fs_config(a->volume, &fc);
	fc.strict_atime = a->o->strict_atime;
	fc.read_only = a->o->read_only;
	r = fs_new(a->journal, &fc, &a->fs);

	if (r)
		return errmsg_set(e, r, "%s: cannot open the view: %s", a->cache, strerror(-r));
	return 0;
}

/* --- with a volume --- */
static void on_fenced(void *ctx, const char *why)
{
	struct appliance *a = ctx;

	(void)why;
	pthread_mutex_lock(&a->lock);
	a->fenced = true;
	struct session *s = a->session;
	pthread_mutex_unlock(&a->lock);
	if (s)
		session_drop_caches(s);
}

static void on_renamed(void *ctx, uint64_t parent, const char *name, size_t n)
{
	struct appliance *a = ctx;

	pthread_mutex_lock(&a->lock);
	if (a->session && !a->ending)
		session_entry_changed_soon(a->session, parent, name, n);
	pthread_mutex_unlock(&a->lock);
}

static void on_applied(void *ctx, uint64_t seq)
{
	(void)seq;
	notify(ctx);
}

/* The volume is gone: end as if we had been asked to. */
static void on_gone(void *ctx, const char *why)
{
	(void)ctx;
	(void)why;
	kill(getpid(), SIGTERM);
}

static int connect_volume(struct appliance *a, struct errmsg *e)
{
	const struct mount_options *o = a->o;
	const struct volume_config vc = { .meta_url = o->meta_url, .cache_root = o->cache_dir, .mountpoint = o->mountpoint,
		.takeover = o->takeover, .offline = o->offline, .read_only = o->read_only, .writeback = o->writeback,
		.eager = o->eager, .admit_all = o->rebasing, .pack_below = o->pack_below, .upload_delay_ns = o->upload_delay_ns, .heartbeat_ns = o->heartbeat_ns,
		.retention_ns = o->retention_ns, .keep_objects = o->max_deletes == 0, .storage = o->storage, .bucket = o->bucket,
		.storage_class = o->storage_class, .strict_atime = o->strict_atime, .buffer_bytes = o->buffer_size, .cache_bytes = o->cache_size,
		.free_ratio = o->free_space_ratio, .max_uploads = (unsigned)o->max_uploads,
		.max_downloads = (unsigned)o->max_downloads, .get_timeout_ms = (unsigned)(o->get_timeout_ns / 1000000),
		.io_retries = (unsigned)o->io_retries, .timeout_ms = (unsigned)(o->put_timeout_ns / 1000000),
		.on_fenced = on_fenced, .on_gone = on_gone, .on_applied = on_applied, .on_renamed = on_renamed, .ctx = a };

	int r = volume_connect(&vc, &a->volume, e);

	if (r == 0)
		a->name = volume_setting(a->volume)->name;
	return r;
}

/* Journal and lease. A journal that holds nothing and whose volume went on without it is started anew, once. */
static int attach_volume(struct appliance *a, struct errmsg *e)
{
	const char *uuid = volume_setting(a->volume)->uuid;
	int r = open_journal(a, uuid, e);

	/* Only volume_attach's verdict: a journal that does not open, above all another volume's, is not ours to delete. */
	if (r)
		return r;
	r = volume_attach(a->volume, a->journal, a->cache, e);
	if (r != -ESTALE)
		return r;
	log_info("event=journal_reset cache=\"%s\" why=\"%s\"", a->cache, e->text);
	volume_detach(a->volume);
	r = journal_close(a->journal);
	a->journal = NULL;
	if (r == 0)
		r = cache_dir_reset(a->cache, e);
	free(a->cache);
	a->cache = NULL;
	if (r == 0)
		r = open_journal(a, uuid, e);
	if (r == 0)
		r = volume_attach(a->volume, a->journal, a->cache, e);
	return r;
}

/* One step of a path, loading what is not here. */
static int resolve_name(struct appliance *a, uint64_t parent, const char *name, size_t n, uint64_t *ino)
{
	const struct fs_cred root = { 0 };
	struct fs_need need;
	struct fs_attr attr;
	int r;

	for (;;) {
		r = fs_lookup(a->fs, parent, name, n, &attr, &need);
		if (r == -ENOENT && !a->o->read_only)
			r = fs_mkdir(a->fs, &root, parent, name, n, 0777, &attr, &need);
		if (r == FS_NEED)
			r = a->loader.load(a->loader.ctx, &need);
		else if (r == FS_ROOM)
			r = journal_wait_room(a->journal);
		else
			break;
		if (r)
			return r;
	}
	if (r == 0)
		*ino = attr.ino; /* the reference is kept: it is the root's */
	return r == 0 && attr.a.type != JFS_DIR ? -ENOTDIR : r;
}

static int resolve_subdir(struct appliance *a, struct errmsg *e)
{
	const char *p = a->o->subdir ? a->o->subdir : "";

	a->root = JFS_ROOT_INODE;
	while (*p) {
		size_t n = strcspn(p, "/");
		int r = n ? resolve_name(a, a->root, p, n, &a->root) : 0;

		if (r)
			return errmsg_set(e, r, "--subdir %s: %s", a->o->subdir, strerror(-r));
		p += n + (p[n] == '/');
	}
	return 0;
}

static int open_volume(struct appliance *a, struct errmsg *e)
{
	int r = attach_volume(a, e);

	if (r == 0)
		r = open_fs(a, e);
	if (r == 0) {
		a->replaying = true;
		r = volume_start(a->volume, a->fs, e);
	}
	if (r)
		return r;
	volume_loader(a->volume, &a->loader);
	volume_reader(a->volume, &a->reader);
	if (volume_url(a->volume)->prime && !a->o->offline)
		r = volume_prime(a->volume, e);
	return r ? r : resolve_subdir(a, e);
}

static int open_parts(struct appliance *a, struct errmsg *e)
{
	int r;

	a->root = JFS_ROOT_INODE;
	a->stats = stats_new();
	if (!a->stats)
		return errmsg_set(e, -ENOMEM, "out of memory");
	if (a->o->local_only) {
		r = open_journal(a, "local-only", e);
		if (r == 0)
			r = open_fs(a, e);
		if (r == 0)
			r = open_local(a, e);
	} else {
		r = connect_volume(a, e);
		if (r == 0)
			r = open_volume(a, e);
	}
	if (r)
		return r;
	r = fs_reap_orphans(a->fs);
	if (r)
		return errmsg_set(e, r, "%s: cannot clean up unlinked files: %s", a->cache, strerror(-r));
	if (a->volume && (r = start_gate(a, e)) != 0)
		return r;
	journal_set_notify(a->journal, notify, a);
	r = -pthread_create(&a->reaper, NULL, reaper_main, a);
	a->reaper_started = r == 0;
	if (r)
		return errmsg_set(e, r, "cannot start a thread: %s", strerror(-r));
	stats_register(a->stats, source_journal, a);
	stats_register(a->stats, source_budget, a);
	stats_register(a->stats, source_staging, a);
	return 0;
}

int appliance_open(const struct mount_options *o, struct appliance **out, struct errmsg *e)
{
	struct appliance *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return errmsg_set(e, -ENOMEM, "out of memory");
	r = o->transport_kind == TRANSPORT_IO_URING ? transport_check(o->transport_kind, e) : 0;
	if (r) {
		free(a);
		return errmsg_prefix(e, "--transport=io_uring"), r;
	}
	r = o->poll ? awake_check(e) : 0;
	if (r) {
		free(a);
		return errmsg_prefix(e, "--poll"), r;
	}
	a->o = o;
	a->name = "local";
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_t ca;

	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&a->cond, &ca);
	pthread_condattr_destroy(&ca);
	r = open_parts(a, e);
	if (r) {
		appliance_close(a);
		return r;
	}
	*out = a;
	return 0;
}

static int barrier(void *ctx)
{
	struct appliance *a = ctx;

	return volume_drain(a->volume);
}

int appliance_mount(struct appliance *a, const char *mountpoint, struct errmsg *e)
{
	const struct mount_options *o = a->o;
	char fsname[256];
	struct session_config sc = { .fsname = fsname, .read_only = o->read_only, .allow_other = o->allow_other,
		.strict = o->strict, .data_waits = o->data_waits, .no_atime = o->no_atime, .no_xattr = o->no_xattr, .transport = o->transport_kind,
		.poll = o->poll,
		.threads = (unsigned)o->threads, .ring_payload = o->ring_payload, .config_text = config_text, .root = a->root, .ctx = a };

	if (a->volume) {
		sc.meta_waits = volume_url(a->volume)->mode == RDS_SYNC;
		sc.data_waits = !o->writeback && !o->read_only;
		sc.barrier = barrier;
		sc.shared = volume_only_looks(a->volume);
		sc.acl = volume_setting(a->volume)->enable_acl;
		if (sc.acl && sc.no_xattr)
			return errmsg_set(e, -EINVAL, "--no-xattr: the volume has POSIX ACLs, which are extended attributes");
	}

	snprintf(fsname, sizeof(fsname), "JuiceFS:%s", a->name);
	a->mountpoint = strdup(mountpoint);
	if (!a->mountpoint)
		return errmsg_set(e, -ENOMEM, "out of memory");
	sc.mountpoint = a->mountpoint;
	sc.gate = a->gate;
	sc.fuse_options = buf_cstr((struct buf *)&o->kernel_options);
	cache_dir_note(a->cache, a->mountpoint);
	struct session *s;
	int r = session_open(&sc, a->fs, a->volume ? &a->loader : NULL, a->volume ? &a->reader : NULL, a->stats, &s, e);

	if (r)
		return r;
	pthread_mutex_lock(&a->lock);
	a->session = s;
	bool fenced = a->fenced; /* before there was a session */
	pthread_mutex_unlock(&a->lock);
	if (fenced)
		session_drop_caches(s);
	return 0;
}

void appliance_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* One signal out of the descriptor: unmount; a second one stops waiting for the users of a busy mount. True: go. */
static bool on_signal(struct appliance *a, int fd, unsigned *seen)
{
	struct signalfd_siginfo si;

	if (read(fd, &si, sizeof(si)) != sizeof(si))
		return false;
	log_info("event=signal number=%u", si.ssi_signo);
	int r = session_unmount(a->session);

	if (r && r != -EBUSY)
		log_warn("event=unmount error=\"%s\"", strerror(-r));
	/* Programs that still use a detached mount find it dead: the daemon was told to end. */
	return r != 0 || ++*seen > 1;
}

void appliance_run(struct appliance *a)
{
	unsigned seen = 0;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0) {
		log_warn("event=signalfd error=\"%s\"", strerror(errno));
		session_wait(a->session);
		return;
	}
	for (;;) {
		struct pollfd p[2] = { { .fd = session_gone_fd(a->session), .events = POLLIN },
			{ .fd = fd, .events = POLLIN } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			break;
		if (p[1].revents && on_signal(a, fd, &seen))
			break;
	}
	close(fd);
}

static void reaper_stop(struct appliance *a)
{
	if (!a->reaper_started)
		return;
	pthread_mutex_lock(&a->lock);
	a->closing = true;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->reaper, NULL);
}

int appliance_close(struct appliance *a)
{
	int r = 0;

	if (!a)
		return 0;
	pthread_mutex_lock(&a->lock);
	a->ending = true;
	pthread_mutex_unlock(&a->lock);
	if (a->replaying)
		volume_cancel(a->volume);
	gate_stop(a->gate);
	if (a->session)
		session_stop(a->session);
	reaper_stop(a);
	if (a->replaying)
		volume_stop(a->volume);
	if (a->volume && a->journal)
		volume_detach(a->volume);
	/* Answers whoever waits for a watermark; they look at the session, not at fs. */
	if (a->journal) {
		r = journal_close(a->journal);
		if (r)
			log_error("event=journal_close error=\"%s\"", strerror(-r));
	}
	session_free(a->session);
	gate_free(a->gate);
	fs_free(a->fs);
	stats_free(a->stats);
	volume_free(a->volume);
	pthread_cond_destroy(&a->cond);
	pthread_mutex_destroy(&a->lock);
	free(a->mountpoint);
	free(a->cache);
	free(a);
	return r;
}
