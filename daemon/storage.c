#include "daemon/storage.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "util/buf.h"

/* The same objects by another way: --storage, --bucket and --storage-class of a mount. */
static int override(struct rds_setting *s, const struct storage_limits *l)
{
	int rc = l->storage ? rds_setting_set(&s->storage, l->storage) : 0;

	if (!rc && l->storage_class)
		rc = rds_setting_set(&s->storage_class, l->storage_class);
	if (rc || !l->bucket)
		return rc;
	if (strcasecmp(s->storage, "file") != 0)
		return rds_setting_set(&s->bucket, l->bucket);
	char *dir = storage_file_bucket(l->bucket);

	rc = dir ? rds_setting_set(&s->bucket, dir) : -ENOMEM;
	free(dir);
	return rc;
}

int storage_open(const struct rds_setting *s, const struct storage_limits *l, struct obj_store **out, struct errmsg *e)
{
	struct rds_setting plain;
	char storage[64];
	int rc = rds_setting_copy(&plain, s);

	*out = NULL;
	if (!rc)
		rc = override(&plain, l);
	if (rc) {
		rds_setting_fini(&plain);
		return errmsg_set(e, rc, "no memory for the volume setting");
	}
	snprintf(storage, sizeof(storage), "%s", plain.storage);
	for (char *p = storage; *p; p++)
		*p = (char)tolower((unsigned char)*p); /* as stock */
	rc = rds_setting_decrypt(&plain, e);
	if (rc == 0) {
		struct obj_config cfg = {
			.storage = storage,
			.bucket = plain.bucket,
			.access_key = plain.access_key,
			.secret_key = plain.secret_key,
			.session_token = plain.session_token,
			.storage_class = plain.storage_class,
			.shards = (unsigned)plain.shards,
			.max_parallel = l->max_parallel,
			.max_downloads = l->max_downloads,
			.retries = l->retries,
			.timeout_ms = l->timeout_ms,
			.get_timeout_ms = l->get_timeout_ms,
		};
		rc = obj_store_open(&cfg, out, e);
	}
	rds_setting_fini(&plain);
	return rc;
}

/* One object, if it counts. */
struct found {
	const char *prefix;
	char key[256];
};

static int look_at(void *arg, const char *key, uint64_t size, int64_t mtime)
{
	struct found *f = arg;
	const char *rest = key + strlen(f->prefix);

	(void)mtime;
	if (size == 0 || strcmp(rest, "testing") == 0 || strncmp(rest, "testing/", 8) == 0)
		return 0;
	snprintf(f->key, sizeof(f->key), "%s", key);
	return 1;
}

int storage_check_empty(struct obj_store *st, const char *name, struct errmsg *e)
{
	char prefix[256];
	struct found f = {.prefix = prefix};

	snprintf(prefix, sizeof(prefix), "%s/", name);
	int rc = obj_list(st, prefix, look_at, &f, e);
	if (rc == 1)
		return errmsg_set(e, -ENOTEMPTY,
			"the storage already holds objects of a volume %s (%s): remove them or choose another name", name, f.key);
	return rc;
}

int storage_put_uuid(struct obj_store *st, const struct rds_setting *s, struct errmsg *e)
{
	char key[256];

	snprintf(key, sizeof(key), "%s/juicefs_uuid", s->name);
	return obj_put(st, key, s->uuid, strlen(s->uuid), e);
}

int storage_delete_uuid(struct obj_store *st, const struct rds_setting *s)
{
	char key[256];

	snprintf(key, sizeof(key), "%s/juicefs_uuid", s->name);
	return obj_delete(st, key, NULL);
}

char *storage_file_bucket(const char *path)
{
	char *cwd = path[0] == '/' ? strdup("") : getcwd(NULL, 0);
	struct buf in, out;
	char *result = NULL;

	if (!cwd)
		return NULL;
	buf_init(&in, 1 << 16);
	buf_init(&out, 1 << 16);
	buf_printf(&in, "%s/%s", cwd, path);
	for (const char *p = buf_cstr(&in); *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0) {
			while (out.len > 0 && out.data[--out.len] != '/')
				;
		} else if (n > 0 && !(n == 1 && *p == '.')) {
			buf_put_u8(&out, '/');
			buf_put(&out, p, n);
		}
		p += n;
		p += strspn(p, "/");
	}
	buf_put_u8(&out, '/');
	if (!in.err && !out.err)
		result = strdup(buf_cstr(&out));
	buf_fini(&in);
	buf_fini(&out);
	free(cwd);
	return result;
}

char *storage_default_bucket(void)
{
	const char *home = getenv("HOME");
	char *path = NULL;

	if (geteuid() == 0 || !home || !*home)
		return strdup("/var/jfs");
	return asprintf(&path, "%s/.juicefs/local", home) < 0 ? NULL : path;
}
