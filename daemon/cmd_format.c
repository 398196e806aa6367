/* jfs format: makes a volume, or changes the given options of one (spec/juicefs-format.md 3.1, 6.4). Nothing is written to
 * Redis before the storage has been tried; the object juicefs_uuid is taken back when Redis refuses. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/commands.h"
#include "daemon/options.h"
#include "daemon/storage.h"
#include "redis/format.h"
#include "redis/server.h"
#include "redis/url.h"
#include "util/clock.h"

struct format_options {
	char *storage, *bucket, *access_key, *secret_key, *session_token, *storage_class, *compress;
	uint64_t block_size, capacity, inodes, trash_days, shards;
	bool hash_prefix, enable_acl, force, no_update;
};

#define AT(member) offsetof(struct format_options, member)
static const struct opt format_table[] = {
	{"storage", 0, OPT_STRING, AT(storage), 0, false, "NAME", "file (default), s3 or minio"},
	{"bucket", 0, OPT_STRING, AT(bucket), 0, false, "URL", "bucket, or the directory of file storage"},
	{"access-key", 0, OPT_STRING, AT(access_key), 0, true, "KEY", "or ACCESS_KEY in the environment"},
	{"secret-key", 0, OPT_STRING, AT(secret_key), 0, true, "KEY", "or SECRET_KEY in the environment"},
	{"session-token", 0, OPT_STRING, AT(session_token), 0, true, "TOKEN", "or SESSION_TOKEN in the environment"},
	{"storage-class", 0, OPT_STRING, AT(storage_class), 0, false, "CLASS", "default storage class of objects"},
	{"block-size", 0, OPT_SIZE, AT(block_size), 1024, false, "SIZE", "a power of two from 64K to 16M (default 4M; unit KiB)"},
	{"compress", 0, OPT_STRING, AT(compress), 0, false, "NAME", "none (default), lz4 or zstd"},
	{"hash-prefix", 0, OPT_FLAG, AT(hash_prefix), 0, false, NULL, "spread object names over prefixes"},
	{"shards", 0, OPT_U64, AT(shards), 0, false, "N", "spread objects over N buckets, bucket holds a %d"},
	{"capacity", 0, OPT_SIZE, AT(capacity), 1u << 30, false, "SIZE", "limit of the volume (unit GiB, default none)"},
	{"inodes", 0, OPT_U64, AT(inodes), 0, false, "N", "limit of the number of files (default none)"},
	{"trash-days", 0, OPT_U64, AT(trash_days), 0, false, "DAYS", "keep deleted files so long (default 1, 0: no trash)"},
	{"enable-acl", 0, OPT_FLAG, AT(enable_acl), 0, false, NULL, "keep POSIX ACLs; cannot be switched off later"},
	{"force", 0, OPT_FLAG, AT(force), 0, false, NULL, "allow changing what is fixed in an existing volume"},
	{"no-update", 0, OPT_FLAG, AT(no_update), 0, false, NULL, "do nothing if the volume exists"},
	{0},
};
#undef AT

static const struct options_spec format_spec = {
	.usage = "jfs format [OPTIONS] META-URL NAME",
	.summary = "Makes the volume NAME in the Redis database META-URL (redis://[:password@]host[:port]/db, unix://path?db=N).\n"
		   "On an existing volume only the given options are changed.",
	.opts = format_table,
	.args_min = 2,
	.args_max = 2,
};

struct format {
	struct format_options o;
	struct options_result res;
	struct rds_conn *conn;
	struct rds_setting setting;
	char *old_text; /* NULL: a new volume */
	size_t old_len;
	bool kept_uuid; /* the object was written by us and Redis does not know it yet */
	struct obj_store *store;
};

static bool given(const struct format *f, const char *name)
{
	return options_given(&format_spec, &f->res, name);
}

/* Usage errors: what can be told without asking anybody. */
static int check_values(const struct format *f, struct errmsg *e)
{
	const char *name = f->res.args[1];

	if (!rds_volume_name_valid(name))
		return errmsg_set(e, -EINVAL, "bad volume name \"%s\": 3 to 63 of a-z, 0-9 and -, no - at either end", name);
	if (f->o.compress && strcmp(f->o.compress, "none") != 0 && strcmp(f->o.compress, "lz4") != 0 &&
		strcmp(f->o.compress, "zstd") != 0)
		return errmsg_set(e, -EINVAL, "bad value of --compress: \"%s\": use none, lz4 or zstd", f->o.compress);
	if (f->o.storage && strcmp(f->o.storage, "file") != 0 && strcmp(f->o.storage, "s3") != 0 &&
		strcmp(f->o.storage, "minio") != 0)
		return errmsg_set(e, -EINVAL, "bad value of --storage: \"%s\": use file, s3 or minio", f->o.storage);
	if (f->o.shards > RDS_SHARDS_MAX)
		return errmsg_set(e, -EINVAL, "bad value of --shards: at most %d", RDS_SHARDS_MAX);
	if (f->o.shards > 1 && f->o.bucket && !strchr(f->o.bucket, '%'))
		return errmsg_set(e, -EINVAL, "with --shards the bucket must hold a %%d: \"%s\"", f->o.bucket);
	if (f->o.trash_days > 100000)
		return errmsg_set(e, -EINVAL, "bad value of --trash-days: at most 100000");
	if (f->o.capacity > INT64_MAX || f->o.inodes > INT64_MAX)
		return errmsg_set(e, -EINVAL, "--capacity or --inodes is too large");
	return 0;
}

/* KiB: rounded down to a power of two, between the limits. */
static int64_t block_kib(uint64_t bytes)
{
	int64_t kib = RDS_BLOCK_KIB_MIN;

	while (kib < RDS_BLOCK_KIB_MAX && (uint64_t)kib * 2048 <= bytes)
		kib *= 2;
	return kib;
}

/* Moves the given options into the setting; the secrets must be plain there. */
static int apply_options(struct format *f, struct errmsg *e)
{
	struct rds_setting *s = &f->setting;
	const struct {
		const char *value;
		char **field;
	} texts[] = {
		{f->o.storage, &s->storage},	     {f->o.bucket, &s->bucket},
		{f->o.access_key, &s->access_key},   {f->o.secret_key, &s->secret_key},
		{f->o.session_token, &s->session_token}, {f->o.storage_class, &s->storage_class},
		{f->o.compress, &s->compression},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].value && rds_setting_set(texts[i].field, texts[i].value))
			return errmsg_set(e, -ENOMEM, "no memory");
	if (f->o.storage_class) { /* tier 0 is made from it again */
		json_decref(s->tiers);
		s->tiers = NULL;
	}
	if (given(f, "block-size"))
		s->block_kib = block_kib(f->o.block_size);
	if (given(f, "hash-prefix"))
		s->hash_prefix = f->o.hash_prefix;
	if (given(f, "shards"))
		s->shards = (int64_t)f->o.shards;
	if (given(f, "capacity"))
		s->capacity = f->o.capacity;
	if (given(f, "inodes"))
		s->inodes = f->o.inodes;
	if (given(f, "trash-days"))
		s->trash_days = (int64_t)f->o.trash_days;
	if (f->o.enable_acl && !s->enable_acl) {
		s->enable_acl = true;
		if (!s->min_client[0] || rds_version_compare(s->min_client, RDS_MIN_CLIENT_ACL) < 0)
			return rds_setting_set(&s->min_client, RDS_MIN_CLIENT_ACL);
	}
	return 0;
}

/* `file` storage keeps an absolute directory; the others need a bucket from the user. */
static int fix_bucket(struct format *f, struct errmsg *e)
{
	struct rds_setting *s = &f->setting;
	char *path = NULL, *clean;

	if (strcasecmp(s->storage, "file") != 0) {
		if (!s->bucket[0] || (f->old_text && f->o.storage && !f->o.bucket))
			return errmsg_set(e, -EINVAL, "storage %s needs --bucket", s->storage);
		return 0;
	}
	if (!s->bucket[0]) {
		path = storage_default_bucket();
		if (!path)
			return errmsg_set(e, -ENOMEM, "no memory");
	}
	clean = storage_file_bucket(path ? path : s->bucket);
	free(path);
	if (!clean)
		return errmsg_set(e, -ENOMEM, "cannot make the path of --bucket absolute");
	int rc = rds_setting_set(&s->bucket, clean);
	free(clean);
	return rc ? errmsg_set(e, rc, "no memory") : 0;
}

static int secret_from_env(char **field, const char *name)
{
	const char *v = getenv(name);

	return (*field)[0] || !v ? 0 : rds_setting_set(field, v);
}

static int build_new(struct format *f, struct errmsg *e)
{
	struct rds_setting *s = &f->setting;
	char uuid[37];
	int rc = rds_setting_init(s);

	if (rc == 0)
		rc = rds_uuid_make(uuid);
	if (rc == 0)
		rc = rds_setting_set(&s->uuid, uuid);
	if (rc == 0)
		rc = rds_setting_set(&s->name, f->res.args[1]);
	if (rc)
		return errmsg_set(e, rc, "cannot make a volume setting: %s", strerror(-rc));
	rc = apply_options(f, e);
	if (rc)
		return rc;
	if (secret_from_env(&s->access_key, "ACCESS_KEY") || secret_from_env(&s->secret_key, "SECRET_KEY") ||
		secret_from_env(&s->session_token, "SESSION_TOKEN"))
		return errmsg_set(e, -ENOMEM, "no memory");
	return fix_bucket(f, e);
}

/* Replaces stored secrets by plain ones; one that a dump removed or that is broken is dropped if it is given anew. */
static int open_secrets(struct format *f, struct errmsg *e)
{
	struct rds_setting *s = &f->setting;
	int rc = rds_setting_decrypt(s, e);

	if ((rc != -ENOKEY && rc != -EBADMSG) || !f->o.secret_key)
		return rc;
	if (rds_setting_set(&s->secret_key, NULL) || (f->o.session_token && rds_setting_set(&s->session_token, NULL)))
		return errmsg_set(e, -ENOMEM, "no memory");
	return rds_setting_decrypt(s, e);
}

static int check_fixed(const struct rds_setting *old, const struct rds_setting *s, struct errmsg *e)
{
	const char *what = NULL;

	if (strcmp(old->name, s->name) != 0)
		return errmsg_set(e, -EPERM, "the database holds volume %s, not %s: give its name or another database", old->name,
			s->name);
	if (old->block_kib != s->block_kib)
		what = "block size";
	else if (strcmp(old->compression, s->compression) != 0)
		what = "compression";
	else if (old->shards != s->shards)
		what = "number of shards";
	else if (old->hash_prefix != s->hash_prefix)
		what = "hash prefix";
	if (what)
		return errmsg_set(e, -EPERM, "the %s of volume %s cannot be changed", what, old->name);
	return 0;
}

static int build_update(struct format *f, struct errmsg *e)
{
	struct rds_setting old = {0};
	int rc = rds_setting_check(&f->setting, e);

	if (rc == 0 && rds_setting_copy(&old, &f->setting))
		rc = errmsg_set(e, -ENOMEM, "no memory");
	if (rc == 0)
		rc = open_secrets(f, e);
	if (rc == 0)
		rc = apply_options(f, e);
	if (rc == 0 && rds_setting_set(&f->setting.name, f->res.args[1]))
		rc = errmsg_set(e, -ENOMEM, "no memory");
	if (rc == 0 && (f->o.bucket || f->o.storage))
		rc = fix_bucket(f, e);
	if (rc == 0 && !f->o.force)
		rc = check_fixed(&old, &f->setting, e);
	rds_setting_fini(&old);
	return rc;
}

static int try_storage(struct format *f, struct errmsg *e)
{
	static const struct storage_limits limits = {.max_parallel = 2, .retries = 2, .timeout_ms = 10000};
	int rc = storage_open(&f->setting, &limits, &f->store, e);

	if (rc || getenv("JFS_NO_CHECK_OBJECT_STORAGE"))
		return rc;
	rc = obj_check(f->store, f->setting.name, e);
	if (rc || f->old_text)
		return rc;
	rc = storage_check_empty(f->store, f->setting.name, e);
	if (rc == 0)
		rc = storage_put_uuid(f->store, &f->setting, e);
	f->kept_uuid = rc == 0;
	return rc;
}

static int load_old(struct format *f, struct errmsg *e)
{
	int rc = rds_volume_load(f->conn, &f->setting, &f->old_text, &f->old_len, e);

	return rc == -ENODATA ? 0 : rc;
}

static int write_volume(struct format *f, struct errmsg *e)
{
	int rc = rds_setting_encrypt(&f->setting, e);

	if (rc == 0)
		rc = rds_setting_check(&f->setting, e);
	if (rc)
		return rc;
	if (f->old_text)
		return rds_volume_update(f->conn, f->old_text, f->old_len, &f->setting, clock_wall_sec(), e);
	return rds_volume_create(f->conn, &f->setting, clock_wall_sec(), e);
}

static int run(struct format *f, struct errmsg *e)
{
	struct rds_url url;
	char where[512];
	int rc = rds_url_parse(f->res.args[0], &url, e);

	if (rc == 0)
		rc = rds_url_env(&url, e);
	if (rc)
		return rc;
	rds_url_show(&url, where, sizeof(where));
	rc = rds_conn_new(&url, &f->conn, e);
	explicit_bzero(&url, sizeof(url));
	if (rc == 0)
		rc = rds_server_check(f->conn, NULL, e);
	if (rc == 0)
		rc = load_old(f, e);
	if (rc == 0 && f->old_text && f->o.no_update) {
		printf("volume %s exists in %s, nothing changed\n", f->setting.name, where);
		return 0;
	}
	if (rc == 0)
		rc = f->old_text ? build_update(f, e) : build_new(f, e);
	if (rc == 0)
		rc = try_storage(f, e);
	if (rc == 0)
		rc = write_volume(f, e);
	if (rc)
		return rc;
	f->kept_uuid = false;
	printf("volume %s (%s) is %s in %s, data in %s %s%s/\n", f->setting.name, f->setting.uuid,
		f->old_text ? "updated" : "formatted", where, f->setting.storage, f->setting.bucket, f->setting.name);
	return 0;
}

int cmd_format(int argc, char **argv)
{
	struct format f = {0};
	struct errmsg e = {""};
	int status = 0;
	int rc = options_parse(&format_spec, &f.o, &f.res, argc, argv, &e);

	if (rc == 0 && f.res.help) {
		options_help(&format_spec);
		goto out;
	}
	if (rc == 0)
		rc = check_values(&f, &e);
	if (rc) {
		status = options_usage_error(&format_spec, &e);
		goto out;
	}
	rc = run(&f, &e);
	if (rc) {
		/* without a URL nothing was tried: that is usage too */
		status = !f.conn && (rc == -EINVAL || rc == -ENOTSUP) ? 2 : 1;
		fprintf(stderr, "jfs format: %s\n", e.text);
	}
out:
	if (f.kept_uuid)
		storage_delete_uuid(f.store, &f.setting);
	obj_store_close(f.store);
	rds_conn_free(f.conn);
	rds_setting_fini(&f.setting);
	free(f.old_text);
	options_free(&format_spec, &f.o, &f.res);
	return status;
}
