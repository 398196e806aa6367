/* jfs status: what Redis says about a volume, or what a mount says about itself (its .config and .stats). */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/commands.h"
#include "daemon/options.h"
#include "redis/format.h"
#include "redis/keys.h"
#include "redis/lease.h"
#include "redis/session.h"
#include "util/buf.h"
#include "util/clock.h"

struct status_options {
	bool json;
};

static const struct opt status_table[] = {
	{"json", 0, OPT_FLAG, offsetof(struct status_options, json), 0, false, NULL, "print JSON"},
	{0},
};

static const struct options_spec status_spec = {
	.usage = "jfs status [--json] META-URL|MOUNTPOINT",
	.summary = "Shows a volume's setting, sessions, lease and counters, or the backlog of a mount point.",
	.opts = status_table,
	.args_min = 1,
	.args_max = 1,
};

static const char *const counters[] = {RDS_USED_SPACE, RDS_TOTAL_INODES, RDS_NEXT_INODE, RDS_NEXT_CHUNK, RDS_NEXT_SESSION,
	RDS_NEXT_TRASH};
#define COUNTERS (sizeof(counters) / sizeof(counters[0]))

static char *time_text(int64_t sec, char out[32])
{
	time_t t = (time_t)sec;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		strcpy(out, "?");
	return out;
}

static json_t *sessions_json(const struct rds_session *list, size_t n)
{
	json_t *a = json_array();
	char when[32];

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_pack("{s:I,s:s,s:s,s:s,s:s,s:s,s:I}", "Sid", (json_int_t)list[i].sid, "Expire",
			time_text(list[i].expiry, when), "Version", list[i].version, "HostName", list[i].host, "MountPoint",
			list[i].mountpoint, "MountTime", list[i].mount_time, "ProcessID", (json_int_t)list[i].pid));
	return a;
}

static json_t *setting_json(const struct rds_setting *s)
{
	struct buf b;

	buf_init(&b, 0);
	rds_setting_write(s, true, &b);
	json_t *o = json_loads(buf_cstr(&b), 0, NULL);
	buf_fini(&b);
	return o ? o : json_null();
}

static int read_counters(struct rds_conn *c, json_t *out, struct errmsg *e)
{
	for (size_t i = 0; i < COUNTERS; i++) {
		struct redisReply *r = NULL;
		int64_t v = 0;
		int rc = rds_cmd(c, &r, e, "GET %s", counters[i]);

		if (rc == 0 && r->type == REDIS_REPLY_STRING && rds_parse_i64(r->str, r->len, &v))
			rc = errmsg_set(e, -EUCLEAN, "counter %s in Redis at %s is not a number", counters[i], rds_conn_name(c));
		rds_reply_free(r);
		if (rc)
			return rc;
		json_object_set_new(out, counters[i], json_integer(v));
	}
	return 0;
}

static int read_lease(struct rds_conn *c, json_t **out, struct errmsg *e)
{
	struct lease_state st = {0};
	char when[32];
	bool released;
	int rc = lease_read(c, &st, &released, e);

	*out = json_null();
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		*out = json_pack("{s:I,s:b,s:s,s:s,s:s,s:I,s:I,s:b}", "Epoch", (json_int_t)st.pos.epoch, "Released", released, "Host",
			st.host, "CacheDir", st.dir, "Seen", time_text(st.seen, when), "Backlog", (json_int_t)st.backlog, "Sequence",
			(json_int_t)st.pos.seq, "Stale", !released && clock_wall_sec() - st.seen > LEASE_STALE_SEC);
	return rc;
}

static void print_lease(const json_t *l)
{
	if (!json_is_object(l)) {
		printf("lease      never taken\n");
		return;
	}
	printf("lease      epoch %lld, %s by %s (%s), last seen %s%s, applied through %lld, backlog %lld\n",
		(long long)json_integer_value(json_object_get(l, "Epoch")),
		json_is_true(json_object_get(l, "Released")) ? "released" : "held",
		json_string_value(json_object_get(l, "Host")), json_string_value(json_object_get(l, "CacheDir")),
		json_string_value(json_object_get(l, "Seen")), json_is_true(json_object_get(l, "Stale")) ? " (stale)" : "",
		(long long)json_integer_value(json_object_get(l, "Sequence")),
		(long long)json_integer_value(json_object_get(l, "Backlog")));
}

static void print_volume(const struct rds_setting *s, const struct rds_session *list, size_t n, const json_t *lease,
	const json_t *stat)
{
	char when[32];
	const char *key;
	json_t *v;

	printf("volume     %s (%s)\n", s->name, s->uuid);
	printf("storage    %s %s, block %lld KiB, compression %s%s, %lld shards\n", s->storage, s->bucket,
		(long long)s->block_kib, s->compression[0] ? s->compression : "none", s->hash_prefix ? ", hashed names" : "",
		(long long)s->shards);
	printf("limits     capacity %llu, inodes %llu (0: none), trash %lld days\n", (unsigned long long)s->capacity,
		(unsigned long long)s->inodes, (long long)s->trash_days);
	json_object_foreach((json_t *)(uintptr_t)stat, key, v)
		printf("%-10s %lld\n", key, (long long)json_integer_value(v));
	print_lease(lease);
	for (size_t i = 0; i < n; i++)
		printf("session    %llu on %s at %s, pid %lld, version %s, expires %s\n", (unsigned long long)list[i].sid,
			list[i].host, list[i].mountpoint, (long long)list[i].pid, list[i].version, time_text(list[i].expiry, when));
	if (n == 0)
		printf("session    none\n");
}

static int status_volume(const char *text, bool json, struct errmsg *e, bool *usage)
{
	struct rds_conn *c = NULL;
	struct rds_session *list = NULL;
	struct rds_setting s = {0};
	struct rds_url url;
	json_t *lease = NULL, *stat = json_object(), *doc = NULL;
	size_t n = 0;
	int rc = rds_url_parse(text, &url, e);

	*usage = rc != 0;
	if (rc == 0)
		rc = rds_url_env(&url, e);
	if (rc == 0)
		rc = rds_conn_new(&url, &c, e);
	explicit_bzero(&url, sizeof(url));
	if (rc == 0)
		rc = rds_volume_load(c, &s, NULL, NULL, e);
	if (rc == 0)
		rc = rds_session_list(c, &list, &n, e);
	if (rc == 0)
		rc = read_lease(c, &lease, e);
	if (rc == 0)
		rc = read_counters(c, stat, e);
	if (rc == 0 && json) {
		doc = json_pack("{s:o,s:o,s:O,s:O}", "Setting", setting_json(&s), "Sessions", sessions_json(list, n), "Lease", lease,
			"Statistic", stat);
		if (!doc || json_dumpf(doc, stdout, JSON_INDENT(2)) || putchar('\n') == EOF)
			rc = errmsg_set(e, -EIO, "cannot print the status");
	} else if (rc == 0) {
		print_volume(&s, list, n, lease, stat);
	}
	json_decref(doc);
	json_decref(lease);
	json_decref(stat);
	free(list);
	rds_setting_fini(&s);
	rds_conn_free(c);
	return rc;
}

/* ---- a mount point ---- */

/* Reads one of the mount's virtual files, under its plain name or with the prefix .jfs. */
static int read_virtual(const char *mountpoint, const char *name, struct buf *b, struct errmsg *e)
{
	char path[4096];
	int fd = -1;

	for (int i = 0; i < 2 && fd < 0; i++) {
		snprintf(path, sizeof(path), "%s/%s%s", mountpoint, i ? ".jfs" : "", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			break;
	}
	if (fd < 0)
		return errno == ENOENT
			       ? errmsg_set(e, -ENOENT, "%s is not a mount point of jfs: there is no %s in it", mountpoint, name)
			       : errmsg_set(e, -errno, "cannot read %s: %s", path, strerror(errno));
	for (;;) {
		char chunk[4096];
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = errno;
			close(fd);
			return errmsg_set(e, -err, "cannot read %s: %s", path, strerror(err));
		}
		if (n == 0)
			break;
		buf_put(b, chunk, (size_t)n);
	}
	close(fd);
	return b->err ? errmsg_set(e, b->err, "%s is too large", path) : 0;
}

/* "name value" lines to an object of numbers. */
static json_t *stats_json(const char *text)
{
	json_t *o = json_object();

	while (*text) {
		size_t n = strcspn(text, "\n"), k = strcspn(text, " \n");
		char name[256];
		if (k < n && k < sizeof(name)) {
			memcpy(name, text, k);
			name[k] = 0;
			json_object_set_new(o, name, json_real(strtod(text + k + 1, NULL)));
		}
		text += n + (text[n] == '\n');
	}
	return o;
}

static const char *config_text(const json_t *config, const char *group, const char *key)
{
	const char *v = json_string_value(json_object_get(json_object_get(config, group), key));

	return v ? v : "?";
}

static double stat_value(const json_t *stats, const char *name)
{
	return json_number_value(json_object_get(stats, name));
}

static void print_budget(const json_t *config, const json_t *stats)
{
	const char *state = json_string_value(json_object_get(config, "Budget"));
	const double mib = 1 << 20;

	if (!state || !json_object_get(stats, "juicefs_budget_bytes")) /* read-only */
		return;
	printf("budget     %s (staged %.1f of %.1f MiB, log %.1f of %.1f MiB)\n", state,
		stat_value(stats, "juicefs_budget_used_bytes") / mib, stat_value(stats, "juicefs_budget_bytes") / mib,
		stat_value(stats, "juicefs_budget_log_used_bytes") / mib, stat_value(stats, "juicefs_budget_log_bytes") / mib);
	printf("retention  %.0f s\n", stat_value(stats, "juicefs_budget_retention_ms") / 1000);
}

static void print_mount(const char *mountpoint, const json_t *config, const json_t *stats)
{
	static const char *const others[] = {"used_space", "used_inodes"};
	const char *key, *failure = json_string_value(json_object_get(config, "Failure"));
	json_t *v;

	printf("mount      %s\n", mountpoint);
	printf("volume     %s (%s)\n", config_text(config, "Format", "Name"), config_text(config, "Format", "UUID"));
	if ((v = json_object_get(config, "Replay")) && json_string_length(v) > 0)
		printf("replay     %s\n", json_string_value(v));
	if (failure && *failure)
		printf("read-only  %s\n", failure);
	if ((v = json_object_get(config, "Transport")) && json_string_length(v) > 0)
		printf("transport  %s\n", json_string_value(v));
	print_budget(config, stats);
	json_object_foreach((json_t *)(uintptr_t)stats, key, v)
	{
		const char *name = strncmp(key, "juicefs_", 8) == 0 ? key + 8 : key;
		bool show = strncmp(name, "staging_block", 13) == 0 || strncmp(name, "jfs_", 4) == 0 ||
			    strncmp(name, "durable_", 8) == 0 || strncmp(name, "journal_", 8) == 0 ||
			    strncmp(name, "replay_", 7) == 0 || strncmp(name, "budget_", 7) == 0 || strncmp(name, "backlog_", 8) == 0;
		for (size_t i = 0; i < 2; i++)
			show = show || strcmp(name, others[i]) == 0;
		if (show)
			printf("%-34s %.15g\n", name, json_number_value(v));
	}
}

static int status_mount(const char *mountpoint, bool json, struct errmsg *e)
{
	struct buf config_buf, stats_buf;
	json_t *config = NULL, *stats = NULL, *doc = NULL;

	buf_init(&config_buf, 1 << 20);
	buf_init(&stats_buf, 1 << 20);
	int rc = read_virtual(mountpoint, ".config", &config_buf, e);
	if (rc == 0)
		rc = read_virtual(mountpoint, ".stats", &stats_buf, e);
	if (rc == 0) {
		config = json_loads(buf_cstr(&config_buf), 0, NULL);
		stats = stats_json(buf_cstr(&stats_buf));
		if (!config)
			rc = errmsg_set(e, -EUCLEAN, "%s/.config is not JSON", mountpoint);
	}
	if (rc == 0 && json) {
		doc = json_pack("{s:O,s:O}", "Config", config, "Stats", stats);
		if (!doc || json_dumpf(doc, stdout, JSON_INDENT(2)) || putchar('\n') == EOF)
			rc = errmsg_set(e, -EIO, "cannot print the status");
	} else if (rc == 0) {
		print_mount(mountpoint, config, stats);
	}
	json_decref(doc);
	json_decref(config);
	json_decref(stats);
	buf_fini(&config_buf);
	buf_fini(&stats_buf);
	return rc;
}

/* A path, unless it looks like host/db and there is no such directory. */
static bool is_path(const char *arg)
{
	struct stat st;

	if (strstr(arg, "://"))
		return false;
	if (arg[0] == '/' || arg[0] == '.')
		return true;
	return stat(arg, &st) == 0 && S_ISDIR(st.st_mode);
}

int cmd_status(int argc, char **argv)
{
	struct status_options o = {0};
	struct options_result res;
	struct errmsg e = {""};
	bool usage = false;
	int status = 0;
	int rc = options_parse(&status_spec, &o, &res, argc, argv, &e);

	if (rc) {
		status = options_usage_error(&status_spec, &e);
	} else if (res.help) {
		options_help(&status_spec);
	} else {
		rc = is_path(res.args[0]) ? status_mount(res.args[0], o.json, &e)
					  : status_volume(res.args[0], o.json, &e, &usage);
		if (rc) {
			fprintf(stderr, "jfs status: %s\n", e.text);
			status = usage ? 2 : 1;
		}
	}
	options_free(&status_spec, &o, &res);
	return status;
}
