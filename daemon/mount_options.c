/* See mount_options.h. Options of stock that have no meaning here are accepted, so that an fstab line or a script can be
 * taken over; those that would promise something we do not keep are refused. */
#include "daemon/mount_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/volume.h"
#include "redis/url.h"
#include "util/parse.h"

#define MIB (1ull << 20)
#define SECOND 1000000000ull
#define AT(member) offsetof(struct mount_options, member)
#define IGNORED(name) { name, 0, OPT_IGNORED, 0, 0, false, NULL, NULL }
#define IGNORED_FLAG(name) { name, 0, OPT_IGNORED_FLAG, 0, 0, false, NULL, NULL }

static const struct opt table[] = {
	{ "foreground", 'f', OPT_FLAG, AT(foreground), 0, false, NULL, "stay in the foreground" },
	{ "background", 'd', OPT_FLAG, AT(background), 0, false, NULL, "go into the background (the default)" },
	{ "options", 'o', OPT_O, 0, 0, false, "LIST", "options for the kernel (ro,nosuid,...), or any below as NAME=VALUE" },
	{ "subdir", 0, OPT_STRING, AT(subdir), 0, false, "DIR", "mount only this directory of the volume" },
	{ "read-only", 0, OPT_FLAG, AT(read_only), 0, false, NULL, "change nothing; takes no lease, so that others may write" },
	{ "writeback", 0, OPT_FLAG, AT(writeback), 0, false, NULL, "close() does not wait for the object store" },
	{ "upload-delay", 0, OPT_TIME, AT(upload_delay_ns), 0, false, "TIME", "with --writeback: upload this late (default 0s)" },
	{ "pack-below", 0, OPT_SIZE, AT(pack_below), 1, false, "SIZE",
		"files of up to SIZE bytes share objects (default 128K; 0: one object each)" },
	{ "durability", 0, OPT_STRING, AT(durability), 0, false, "MODE",
		"interval: answer when journaled (default); strict: when synced" },
	{ "sync-interval", 0, OPT_TIME, AT(sync_interval_ns), 0, false, "TIME", "sync the journal so often (default 50ms)" },
	{ "publish", 0, OPT_STRING, AT(publish), 0, false, "MODE",
		"ordered: names after their data (default); eager: at once" },
	{ "cache-dir", 0, OPT_STRING, AT(cache_dir), 0, false, "DIR[:DIR]",
		"journal (in the first), staging and cache (default /var/jfsCache)" },
	{ "hot-dir", 0, OPT_STRING, AT(hot_dir), 0, false, "DIR", "a tmpfs for the hot log (default /run/jfs)" },
	{ "cache-size", 0, OPT_SIZE, AT(cache_size), MIB, false, "SIZE", "for staged writes and cached reads (unit MiB, default 100G)" },
	{ "free-space-ratio", 0, OPT_DOUBLE, AT(free_space_ratio), 0, false, "R", "keep this part of the disk free (default 0.1)" },
	{ "buffer-size", 0, OPT_SIZE, AT(buffer_size), MIB, false, "SIZE",
		"memory for read-ahead and uploads (unit MiB, default 300M)" },
	{ "max-uploads", 0, OPT_U64, AT(max_uploads), 0, false, "N", "connections for uploading (default 20)" },
	{ "max-downloads", 0, OPT_U64, AT(max_downloads), 0, false, "N", "connections for downloading (default 200)" },
	{ "max-deletes", 0, OPT_U64, AT(max_deletes), 0, false, "N", "0: never delete objects" },
	{ "get-timeout", 0, OPT_TIME, AT(get_timeout_ns), 0, false, "TIME", "of reading one object (default 60s)" },
	{ "put-timeout", 0, OPT_TIME, AT(put_timeout_ns), 0, false, "TIME", "of writing or deleting one object (default 60s)" },
	{ "io-retries", 0, OPT_U64, AT(io_retries), 0, false, "N", "of a read before EIO (default 10)" },
	{ "storage", 0, OPT_STRING, AT(storage), 0, false, "NAME", "another way to the same objects, for this mount" },
	{ "bucket", 0, OPT_STRING, AT(bucket), 0, false, "URL", "another way to the same objects, for this mount" },
	{ "storage-class", 0, OPT_STRING, AT(storage_class), 0, false, "CLASS", "of the objects that this mount writes" },
	{ "heartbeat", 0, OPT_TIME, AT(heartbeat_ns), 0, false, "TIME", "renew lease and session so often (default 12s)" },
	{ "no-bgjob", 0, OPT_FLAG, AT(no_bgjob), 0, false, NULL, "always so: no cleaning for others" },
	{ "atime-mode", 0, OPT_STRING, AT(atime_mode), 0, false, "MODE", "relatime (default), strictatime or noatime" },
	{ "no-xattr", 0, OPT_FLAG, AT(no_xattr), 0, false, NULL, "no extended attributes: a request less for each file that is written" },
	{ "takeover", 0, OPT_FLAG, AT(takeover), 0, false, NULL, "take the volume from the host that holds it" },
	{ "offline", 0, OPT_FLAG, AT(offline), 0, false, NULL, "mount this machine's journal while Redis is away" },
	{ "transport", 0, OPT_STRING, AT(transport), 0, false, "NAME",
		"how requests come from the kernel: auto (default): io_uring where the kernel offers it; io_uring; classic" },
	{ "poll", 0, OPT_FLAG, AT(poll), 0, false, NULL,
		"keep CPUs from halting while many requests come: faster, costs power; needs root" },
	{ "force", 0, OPT_FLAG, AT(force), 0, false, NULL, "mount on a directory that is not empty" },
	{ "log", 0, OPT_STRING, AT(log), 0, false, "FILE", "log file (default: syslog; in the foreground stderr)" },
	{ "no-syslog", 0, OPT_FLAG, AT(no_syslog), 0, false, NULL, "log to --log only" },
	{ "debug", 0, OPT_FLAG, AT(debug), 0, false, NULL, "log more" },
	{ "verbose", 'v', OPT_FLAG, AT(verbose), 0, false, NULL, NULL },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), 0, false, NULL, NULL },
	/* for tests */
	{ "local-only", 0, OPT_FLAG, AT(local_only), 0, false, NULL, NULL },
	{ "data-waits", 0, OPT_FLAG, AT(data_waits), 0, false, NULL, NULL },
	{ "allow-any-fs", 0, OPT_FLAG, AT(allow_any_fs), 0, false, NULL, NULL },
	{ "threads", 0, OPT_U64, AT(threads), 0, false, NULL, NULL },
	{ "ring-payload", 0, OPT_SIZE, AT(ring_payload), 1, false, NULL, NULL },
	{ "dirty-limit", 0, OPT_SIZE, AT(dirty_limit), 1, false, NULL, NULL },
	{ "hot-size", 0, OPT_SIZE, AT(hot_size), 1, false, NULL, NULL },
	{ "log-limit", 0, OPT_SIZE, AT(log_limit), 1, false, NULL, NULL },
	{ "retention", 0, OPT_TIME, AT(retention_ns), 0, false, NULL, NULL },
	/* jfs-recover rebase */
	{ "rebasing", 0, OPT_FLAG, AT(rebasing), 0, false, NULL, NULL },
	/* stock's: limits that we would not keep */
	{ "upload-limit", 0, OPT_STRING, AT(refused[0]), 0, false, NULL, NULL },
	{ "download-limit", 0, OPT_STRING, AT(refused[1]), 0, false, NULL, NULL },
	{ "upload-hours", 0, OPT_STRING, AT(refused[2]), 0, false, NULL, NULL },
	/* stock's, without meaning here */
	IGNORED("backup-meta"), IGNORED_FLAG("backup-skip-trash"), IGNORED("skip-dir-mtime"), IGNORED_FLAG("sort-dir"),
	IGNORED_FLAG("fast-statfs"), IGNORED("attr-cache"), IGNORED("entry-cache"), IGNORED("dir-entry-cache"),
	IGNORED("negative-entry-cache"), IGNORED_FLAG("readdir-cache"), IGNORED("open-cache"), IGNORED("open-cache-limit"),
	IGNORED("prefetch"), IGNORED("max-readahead"), IGNORED("writeback-threshold-size"), IGNORED("max-stage-write"),
	IGNORED("cache-items"), IGNORED("cache-mode"), IGNORED_FLAG("cache-partial-only"),
	IGNORED_FLAG("cache-large-write"), IGNORED("verify-cache-checksum"), IGNORED("cache-eviction"),
	IGNORED("cache-scan-interval"), IGNORED("cache-expire"), IGNORED("tag"),
	IGNORED_FLAG("check-storage"), IGNORED_FLAG("enable-xattr"), IGNORED_FLAG("enable-cap"),
	IGNORED_FLAG("enable-selinux"), IGNORED_FLAG("enable-ioctl"), IGNORED("max-fuse-io"),
	IGNORED_FLAG("prefix-internal"), IGNORED_FLAG("hide-internal"), IGNORED("metrics"), IGNORED("consul"),
	IGNORED("custom-labels"), IGNORED_FLAG("no-usage-report"), IGNORED_FLAG("update-fstab"), IGNORED_FLAG("no-color"),
	{ 0 },
};

/* --- what -o can say besides --- */
static bool in_list(const char *key, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(key, *list) == 0)
			return true;
	return false;
}

static int o_other(void *base, const char *key, const char *value, struct errmsg *e)
{
	/* fstab's own words, and what is always so here */
	static const char *const ignored[] = { "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group",
		"nofail", "_netdev", "relatime", "diratime", "default_permissions", "fsname", "subtype", "comment",
		"uhelper", "helper", "user_id", "group_id", "max_read", "big_writes", "clone_fd", NULL };
	/* the kernel's */
	static const char *const passed[] = { "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync",
		NULL };
	struct mount_options *o = base;

	if (in_list(key, ignored) || strncmp(key, "x-", 2) == 0 || strncmp(key, "X-", 2) == 0)
		return 0;
	if (in_list(key, passed)) {
		buf_printf(&o->kernel_options, "%s%s", o->kernel_options.len ? "," : "", key);
		return o->kernel_options.err;
	}
	if (strcmp(key, "ro") == 0 || strcmp(key, "rw") == 0)
		o->read_only = key[1] == 'o';
	else if (strcmp(key, "allow_other") == 0)
		o->allow_other = true;
	else if (strcmp(key, "noatime") == 0)
		o->no_atime = true;
	else if (strcmp(key, "strictatime") == 0)
		o->strict_atime = true;
	else if (strcmp(key, "nonempty") == 0)
		o->force = true;
	else if (strcmp(key, "max_threads") == 0 && value) /* libfuse's word */
		return parse_u64(value, &o->threads) ? errmsg_set(e, -EINVAL, "bad value of -o max_threads: %s", value) : 0;
	else if (strcmp(key, "remount") == 0)
		o->remount = true;
	else if (strcmp(key, "writeback_cache") == 0)
		return errmsg_set(e, -EINVAL, "-o writeback_cache is not possible: acknowledged writes would only be in memory");
	else
		return errmsg_set(e, -EINVAL, "unknown option -o %s%s%s", key, value ? "=" : "", value ? value : "");
	return 0;
}

const struct options_spec mount_spec = {
	.usage = "jfs mount [OPTIONS] META-URL MOUNTPOINT",
	.summary = "Mounts the volume in META-URL and returns when it can be used. Times are seconds, or 100ms, 10m, 1h30m, 1d.\n"
		   "Options of JuiceFS that have no meaning here are accepted.",
	.opts = table,
	.args_min = 2,
	.args_max = 2,
	.o_other = o_other,
};

/* --- meaning --- */
struct choice {
	const char *option, *first, *second, *third;
};

/* 0 for the first (and for NULL), 1, 2; -EINVAL. */
static int choose(const struct choice *c, const char *value, struct errmsg *e)
{
	if (!value || strcmp(value, c->first) == 0)
		return 0;
	if (strcmp(value, c->second) == 0)
		return 1;
	if (c->third && strcmp(value, c->third) == 0)
		return 2;
	return errmsg_set(e, -EINVAL, "bad value of --%s: \"%s\": use %s%s%s%s%s", c->option, value, c->first,
		c->third ? ", " : " or ", c->second, c->third ? " or " : "", c->third ? c->third : "");
}

/* A malformed address is a usage error: it is told before anything else is tried. */
static int check_url(const char *text, struct errmsg *e)
{
	struct rds_url url;
	int r = rds_url_parse(text, &url, e);

	explicit_bzero(&url, sizeof(url));
	return r;
}

static int decide(struct mount_options *o, struct errmsg *e)
{
	static const struct choice durability = { "durability", "interval", "strict", NULL };
	static const struct choice publish = { "publish", "ordered", "eager", NULL };
	static const struct choice atime = { "atime-mode", "relatime", "strictatime", "noatime" };
	static const struct choice transport = { "transport", "auto", "io_uring", "classic" };
	static const enum transport_kind kinds[] = { TRANSPORT_AUTO, TRANSPORT_IO_URING, TRANSPORT_CLASSIC };
	int r;

	if ((r = choose(&transport, o->transport, e)) < 0)
		return r;
	o->transport_kind = kinds[r];
	if ((r = choose(&durability, o->durability, e)) < 0)
		return r;
	o->strict = r == 1;
	if ((r = choose(&publish, o->publish, e)) < 0)
		return r;
	o->eager = r == 1;
	if ((r = choose(&atime, o->atime_mode, e)) < 0)
		return r;
	o->strict_atime |= r == 1;
	o->no_atime |= r == 2;
	if (o->foreground && o->background)
		return errmsg_set(e, -EINVAL, "--foreground and --background contradict each other");
	if (o->read_only && o->takeover)
		return errmsg_set(e, -EINVAL, "--read-only takes no lease: --takeover has no meaning with it");
	if (o->cache_dir && (strcmp(o->cache_dir, "memory") == 0 || !o->cache_dir[0]))
		return errmsg_set(e, -EINVAL, "--cache-dir=%s is not possible: the journal needs a directory on a disk",
			o->cache_dir);
	if (o->sync_interval_ns < SECOND / 1000 || o->sync_interval_ns > 60 * SECOND)
		return errmsg_set(e, -EINVAL, "bad value of --sync-interval: 1ms to 60s");
	static const char *const limits[] = { "upload-limit", "download-limit", "upload-hours" };
	for (int i = 0; i < 3; i++)
		if (o->refused[i] && strcmp(o->refused[i], "0") != 0)
			return errmsg_set(e, -EINVAL, "--%s is not possible in this release: leave it out, and limit the host's traffic",
				limits[i]);
	if (o->buffer_size < 32 * MIB)
		o->buffer_size = 32 * MIB;
	if (o->free_space_ratio >= 1)
		return errmsg_set(e, -EINVAL, "bad value of --free-space-ratio: below 1");
	if (o->max_uploads == 0 || o->max_uploads > 1000)
		return errmsg_set(e, -EINVAL, "bad value of --max-uploads: 1 to 1000");
	if (o->max_downloads == 0 || o->max_downloads > 1000)
		return errmsg_set(e, -EINVAL, "bad value of --max-downloads: 1 to 1000");
	if (o->get_timeout_ns < SECOND / 1000 || o->put_timeout_ns < SECOND / 1000)
		return errmsg_set(e, -EINVAL, "bad value of --get-timeout or --put-timeout: 1ms at least");
	if (o->threads > 256)
		return errmsg_set(e, -EINVAL, "bad value of --threads: at most 256");
	return 0;
}

int mount_options_parse(struct mount_options *o, int argc, char **argv, struct errmsg *e)
{
	int r;

	memset(o, 0, sizeof(*o));
	buf_init(&o->kernel_options, 4096);
	o->buffer_size = 300 * MIB;
	o->cache_size = 100ull << 30;
	o->free_space_ratio = 0.1;
	o->pack_below = VOLUME_PACK_BELOW;
	o->max_uploads = 20;
	o->max_downloads = 200;
	o->max_deletes = 10;
	o->io_retries = 10;
	o->get_timeout_ns = 60 * SECOND;
	o->put_timeout_ns = 60 * SECOND;
	o->sync_interval_ns = SECOND / 20;
	o->heartbeat_ns = 12 * SECOND;
	o->allow_other = geteuid() == 0;
	r = options_parse(&mount_spec, o, &o->args, argc, argv, e);
	if (r || o->args.help)
		return r;
	o->meta_url = o->args.args[0];
	o->mountpoint = o->args.args[1];
	r = decide(o, e);
	return r || o->local_only || o->remount ? r : check_url(o->meta_url, e);
}

void mount_options_fini(struct mount_options *o)
{
	buf_fini(&o->kernel_options);
	options_free(&mount_spec, o, &o->args);
}

int mount_helper_args(int argc, char **argv, char **out, bool *fake)
{
	int n = 0;

	*fake = false;
	out[n++] = argv[0];
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if ((strcmp(a, "-N") == 0 || strcmp(a, "-t") == 0) && i + 1 < argc) {
			i++;
		} else if (strcmp(a, "-o") == 0 && i + 1 < argc) {
			out[n++] = argv[i++];
			out[n++] = argv[i];
		} else if (a[0] == '-' && a[1] && a[1] != '-' && strspn(a + 1, "sfnv") == strlen(a + 1)) {
			*fake |= strchr(a, 'f') != NULL;
		} else {
			out[n++] = argv[i];
		}
	}
	return n;
}
