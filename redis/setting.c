#include "redis/setting.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/rand.h>

enum field_type { F_STRING, F_INT, F_UINT, F_BOOL, F_TIERS };

/* In the order in which stock writes them. */
static const struct field {
	const char *name;
	enum field_type type;
	bool keep_empty; /* written even when empty, 0 or false */
	size_t at;
} fields[] = {
#define AT(member) offsetof(struct rds_setting, member)
	{"Name", F_STRING, true, AT(name)},
	{"UUID", F_STRING, true, AT(uuid)},
	{"Storage", F_STRING, true, AT(storage)},
	{"StorageClass", F_STRING, false, AT(storage_class)},
	{"Tiers", F_TIERS, true, AT(tiers)},
	{"Bucket", F_STRING, true, AT(bucket)},
	{"AccessKey", F_STRING, false, AT(access_key)},
	{"SecretKey", F_STRING, false, AT(secret_key)},
	{"SessionToken", F_STRING, false, AT(session_token)},
	{"BlockSize", F_INT, true, AT(block_kib)},
	{"Compression", F_STRING, false, AT(compression)},
	{"Shards", F_INT, false, AT(shards)},
	{"HashPrefix", F_BOOL, false, AT(hash_prefix)},
	{"Capacity", F_UINT, false, AT(capacity)},
	{"Inodes", F_UINT, false, AT(inodes)},
	{"EncryptKey", F_STRING, false, AT(encrypt_key)},
	{"EncryptAlgo", F_STRING, false, AT(encrypt_algo)},
	{"KeyEncrypted", F_BOOL, false, AT(key_encrypted)},
	{"UploadLimit", F_INT, false, AT(upload_limit)},
	{"DownloadLimit", F_INT, false, AT(download_limit)},
	{"TrashDays", F_INT, true, AT(trash_days)},
	{"MetaVersion", F_INT, false, AT(meta_version)},
	{"MinClientVersion", F_STRING, false, AT(min_client)},
	{"MaxClientVersion", F_STRING, false, AT(max_client)},
	{"DirStats", F_BOOL, false, AT(dir_stats)},
	{"UserGroupQuota", F_BOOL, false, AT(user_group_quota)},
	{"EnableACL", F_BOOL, true, AT(enable_acl)},
	{"RangerRestUrl", F_STRING, false, AT(ranger_url)},
	{"RangerService", F_STRING, false, AT(ranger_service)},
	{"ChangeLog", F_BOOL, false, AT(change_log)},
	{"ChangeLogMaxAge", F_INT, false, AT(change_log_age)},
	{"ChangeLogMaxLines", F_INT, false, AT(change_log_lines)},
	{"KerbConf", F_STRING, false, AT(kerb_conf)},
#undef AT
};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

static void *field_ptr(const struct rds_setting *s, const struct field *f)
{
	return (char *)(uintptr_t)s + f->at;
}

static char **field_string(const struct rds_setting *s, const struct field *f)
{
	return field_ptr(s, f);
}

static void wipe_free(char *p)
{
	if (p)
		explicit_bzero(p, strlen(p));
	free(p);
}

int rds_setting_set(char **field, const char *value)
{
	char *copy = strdup(value ? value : "");

	if (!copy)
		return -ENOMEM;
	wipe_free(*field);
	*field = copy;
	return 0;
}

void rds_setting_fini(struct rds_setting *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < FIELD_COUNT; i++)
		if (fields[i].type == F_STRING)
			wipe_free(*field_string(s, &fields[i]));
	json_decref(s->tiers);
	json_decref(s->extra);
	memset(s, 0, sizeof(*s));
}

/* All strings "". */
static int setting_blank(struct rds_setting *s)
{
	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (fields[i].type == F_STRING && rds_setting_set(field_string(s, &fields[i]), "")) {
			rds_setting_fini(s);
			return -ENOMEM;
		}
	}
	return 0;
}

int rds_setting_init(struct rds_setting *s)
{
	int rc = setting_blank(s);

	if (rc)
		return rc;
	rc = rds_setting_set(&s->storage, "file");
	if (rc == 0)
		rc = rds_setting_set(&s->compression, "none");
	if (rc == 0)
		rc = rds_setting_set(&s->encrypt_algo, "aes256gcm-rsa"); /* stored by stock even without a key */
	if (rc == 0)
		rc = rds_setting_set(&s->min_client, RDS_MIN_CLIENT);
	if (rc)
		rds_setting_fini(s);
	s->block_kib = 4096;
	s->trash_days = 1;
	s->meta_version = RDS_META_VERSION;
	s->dir_stats = true;
	return rc;
}

int rds_setting_copy(struct rds_setting *to, const struct rds_setting *from)
{
	*to = *from;
	to->tiers = json_deep_copy(from->tiers);
	to->extra = json_deep_copy(from->extra);
	bool failed = (from->tiers && !to->tiers) || (from->extra && !to->extra);
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (fields[i].type != F_STRING)
			continue;
		char **field = field_string(to, &fields[i]);
		*field = NULL; /* the pointer copied above belongs to `from` */
		failed = failed || rds_setting_set(field, *field_string(from, &fields[i]));
	}
	if (failed)
		rds_setting_fini(to);
	return failed ? -ENOMEM : 0;
}

/* ---- reading ---- */

static int field_read(struct rds_setting *s, const struct field *f, json_t *v, struct errmsg *e)
{
	static const char *const wants[] = {"a string", "an integer", "a number >= 0", "true or false", "an object"};
	bool ok = false;

	if (json_is_null(v))
		return 0;
	switch (f->type) {
	case F_STRING:
		ok = json_is_string(v);
		if (ok && rds_setting_set(field_ptr(s, f), json_string_value(v)))
			return errmsg_set(e, -ENOMEM, "no memory for the volume setting");
		break;
	case F_INT:
		ok = json_is_integer(v);
		if (ok)
			*(int64_t *)field_ptr(s, f) = json_integer_value(v);
		break;
	case F_UINT:
		ok = json_is_integer(v) && json_integer_value(v) >= 0;
		if (ok)
			*(uint64_t *)field_ptr(s, f) = (uint64_t)json_integer_value(v);
		break;
	case F_BOOL:
		ok = json_is_boolean(v);
		if (ok)
			*(bool *)field_ptr(s, f) = json_is_true(v);
		break;
	case F_TIERS:
		ok = json_is_object(v);
		if (ok) {
			json_decref(s->tiers);
			s->tiers = json_incref(v);
		}
		break;
	}
	if (!ok)
		return errmsg_set(e, -EUCLEAN, "volume setting: %s is not %s", f->name, wants[f->type]);
	return 0;
}

static int entry_read(struct rds_setting *s, const char *key, json_t *v, struct errmsg *e)
{
	for (size_t i = 0; i < FIELD_COUNT; i++)
		if (strcasecmp(fields[i].name, key) == 0)
			return field_read(s, &fields[i], v, e);
	if (!s->extra)
		s->extra = json_object();
	if (!s->extra || json_object_set(s->extra, key, v))
		return errmsg_set(e, -ENOMEM, "no memory for the volume setting");
	return 0;
}

static int required_check(const struct rds_setting *s, struct errmsg *e)
{
	const struct {
		const char *name;
		bool missing;
	} rows[] = {
		{"Name", !s->name[0]},
		{"UUID", !s->uuid[0]},
		{"Storage", !s->storage[0]},
		{"Bucket", !s->bucket[0]},
		{"BlockSize", s->block_kib == 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].missing)
			return errmsg_set(e, -EUCLEAN, "volume setting: %s is missing", rows[i].name);
	return 0;
}

int rds_setting_parse(const char *text, size_t len, struct rds_setting *s, struct errmsg *e)
{
	json_error_t err;
	const char *key;
	json_t *v;
	int rc = setting_blank(s);

	if (rc)
		return errmsg_set(e, rc, "no memory for the volume setting");
	json_t *doc = len <= RDS_SETTING_MAX ? json_loadb(text, len, 0, &err) : NULL;
	if (!doc)
		rc = errmsg_set(e, -EUCLEAN, "volume setting is not JSON: %s",
			len <= RDS_SETTING_MAX ? err.text : "longer than 1 MiB");
	else if (!json_is_object(doc))
		rc = errmsg_set(e, -EUCLEAN, "volume setting is not a JSON object");
	if (rc == 0) {
		json_object_foreach(doc, key, v)
		{
			rc = entry_read(s, key, v, e);
			if (rc)
				break;
		}
	}
	if (rc == 0)
		rc = required_check(s, e);
	json_decref(doc);
	if (rc)
		rds_setting_fini(s);
	return rc;
}

/* ---- writing, as Go's encoder with an empty indent ---- */

static void write_string(struct buf *b, const char *s)
{
	buf_put_u8(b, '"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", c);
		else if (c == '\n')
			buf_puts(b, "\\n");
		else if (c == '\r')
			buf_puts(b, "\\r");
		else if (c == '\t')
			buf_puts(b, "\\t");
		else if (c == '\b')
			buf_puts(b, "\\b");
		else if (c == '\f')
			buf_puts(b, "\\f");
		else if (c < 0x20 || c == '<' || c == '>' || c == '&')
			buf_printf(b, "\\u%04x", c);
		else if (c == 0xe2 && (unsigned char)s[1] == 0x80 && ((unsigned char)s[2] & 0xfe) == 0xa8) {
			buf_printf(b, "\\u202%x", (unsigned char)s[2] & 0xf);
			s += 2;
		} else
			buf_put_u8(b, c);
	}
	buf_put_u8(b, '"');
}

static void write_value(struct buf *b, json_t *v)
{
	const char *key;
	json_t *m;
	size_t i;
	bool first = true;

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		buf_put_u8(b, '{');
		json_object_foreach(v, key, m)
		{
			buf_puts(b, first ? "\n" : ",\n");
			first = false;
			write_string(b, key);
			buf_puts(b, ": ");
			write_value(b, m);
		}
		buf_puts(b, first ? "}" : "\n}");
		break;
	case JSON_ARRAY:
		buf_put_u8(b, '[');
		json_array_foreach(v, i, m)
		{
			buf_puts(b, i ? ",\n" : "\n");
			write_value(b, m);
		}
		buf_puts(b, json_array_size(v) ? "\n]" : "]");
		break;
	case JSON_STRING:
		write_string(b, json_string_value(v));
		break;
	case JSON_INTEGER:
		buf_printf(b, "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		buf_printf(b, "%.17g", json_real_value(v));
		break;
	default:
		buf_puts(b, json_is_null(v) ? "null" : json_is_true(v) ? "true" : "false");
	}
}

static bool field_empty(const struct rds_setting *s, const struct field *f)
{
	switch (f->type) {
	case F_STRING:
		return !**field_string(s, f);
	case F_INT:
	case F_UINT:
		return *(int64_t *)field_ptr(s, f) == 0;
	case F_BOOL:
		return !*(bool *)field_ptr(s, f);
	case F_TIERS:
		break;
	}
	return false;
}

static void write_tiers(const struct rds_setting *s, struct buf *b)
{
	if (s->tiers) {
		write_value(b, s->tiers);
		return;
	}
	buf_puts(b, "{\n\"0\": {\n\"ID\": 0,\n\"StorageClass\": ");
	write_string(b, s->storage_class);
	buf_puts(b, ",\n\"Tag\": \"\"\n}\n}");
}

static bool field_secret(const struct field *f)
{
	return strcmp(f->name, "SecretKey") == 0 || strcmp(f->name, "SessionToken") == 0 ||
	       strcmp(f->name, "EncryptKey") == 0;
}

void rds_setting_write(const struct rds_setting *s, bool public, struct buf *out)
{
	const char *key;
	bool first = true;
	json_t *v;

	buf_put_u8(out, '{');
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		const struct field *f = &fields[i];

		if (!f->keep_empty && field_empty(s, f))
			continue;
		buf_printf(out, "%s\"%s\": ", first ? "\n" : ",\n", f->name);
		first = false;
		if (f->type == F_STRING)
			write_string(out, public && field_secret(f) ? "removed" : *field_string(s, f));
		else if (f->type == F_INT)
			buf_printf(out, "%lld", (long long)*(int64_t *)field_ptr(s, f));
		else if (f->type == F_UINT)
			buf_printf(out, "%llu", (unsigned long long)*(uint64_t *)field_ptr(s, f));
		else if (f->type == F_BOOL)
			buf_puts(out, *(bool *)field_ptr(s, f) ? "true" : "false");
		else
			write_tiers(s, out);
	}
	if (s->extra) {
		json_object_foreach(s->extra, key, v)
		{
			buf_puts(out, ",\n");
			write_string(out, key);
			buf_puts(out, ": ");
			write_value(out, v);
		}
	}
	buf_puts(out, "\n}");
}

/* ---- checks ---- */

struct version {
	unsigned long part[3];
	const char *tag; /* behind the first '-', up to a '+' */
	size_t tag_len;
};

static bool version_parse(const char *s, struct version *v)
{
	const char *end = s + strcspn(s, "+");
	const char *dash = memchr(s, '-', (size_t)(end - s));
	const char *stop = dash ? dash : end;
	unsigned n = 0;

	memset(v, 0, sizeof(*v));
	v->tag = dash ? dash + 1 : end;
	v->tag_len = (size_t)(end - v->tag);
	while (s < stop) {
		char *next;
		if (n == 3 || !isdigit((unsigned char)*s))
			return false;
		v->part[n++] = strtoul(s, &next, 10);
		if (next > stop || (next < stop && (*next != '.' || next + 1 == stop)))
			return false;
		s = next < stop ? next + 1 : stop;
	}
	return n > 0;
}

int rds_version_compare(const char *a, const char *b)
{
	struct version x, y;

	if (!version_parse(a, &x) || !version_parse(b, &y))
		return -EINVAL;
	for (int i = 0; i < 3; i++)
		if (x.part[i] != y.part[i])
			return x.part[i] < y.part[i] ? -1 : 1;
	if (!x.tag_len || !y.tag_len)
		return x.tag_len ? -1 : y.tag_len ? 1 : 0; /* a pre-release comes before its release */
	size_t n = x.tag_len < y.tag_len ? x.tag_len : y.tag_len;
	int c = memcmp(x.tag, y.tag, n);
	if (c == 0)
		c = x.tag_len < y.tag_len ? -1 : x.tag_len > y.tag_len;
	return c < 0 ? -1 : c > 0;
}

static bool one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcasecmp(s, *list) == 0)
			return true;
	return false;
}

/* Both become parts of paths and object names. */
static int names_check(const struct rds_setting *s, struct errmsg *e)
{
	for (const char *p = s->uuid; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-')
			return errmsg_set(e, -EUCLEAN, "volume setting: UUID is malformed");
	if (strlen(s->uuid) > 64)
		return errmsg_set(e, -EUCLEAN, "volume setting: UUID is malformed");
	for (const char *p = s->name; *p; p++)
		if (*p == '/' || iscntrl((unsigned char)*p))
			return errmsg_set(e, -EUCLEAN, "volume setting: Name is malformed");
	if (s->name[0] == '.' || strlen(s->name) > 128)
		return errmsg_set(e, -EUCLEAN, "volume setting: Name is malformed");
	return 0;
}

static int version_check(const struct rds_setting *s, struct errmsg *e)
{
	int c;

	if (s->meta_version > RDS_META_VERSION)
		return errmsg_set(e, -ENOTSUP, "volume %s has metadata format %lld, only %d is supported: use a newer version",
			s->name, (long long)s->meta_version, RDS_META_VERSION);
	if (s->min_client[0]) {
		c = rds_version_compare(RDS_CLIENT_VERSION, s->min_client);
		if (c < 0)
			return errmsg_set(e, -ENOTSUP, "volume %s demands client version %.32s or newer, this is equal to %s", s->name,
				s->min_client, RDS_CLIENT_VERSION);
	}
	if (s->max_client[0]) {
		c = rds_version_compare(RDS_CLIENT_VERSION, s->max_client);
		if (c > 0 || c == -EINVAL)
			return errmsg_set(e, -ENOTSUP, "volume %s demands client version %.32s or older, this is equal to %s", s->name,
				s->max_client, RDS_CLIENT_VERSION);
	}
	return 0;
}

int rds_setting_check(const struct rds_setting *s, struct errmsg *e)
{
	static const char *const storages[] = {"file", "s3", "minio", NULL};
	static const char *const compressions[] = {"", "none", "lz4", "zstd", NULL};
	int rc = required_check(s, e);

	if (rc == 0)
		rc = version_check(s, e);
	if (rc == 0)
		rc = names_check(s, e);
	if (rc)
		return rc;
	if (s->change_log)
		return errmsg_set(e, -ENOTSUP, "volume %s keeps a change log (ChangeLog), which is not supported", s->name);
	if (s->encrypt_key[0])
		return errmsg_set(e, -ENOTSUP, "volume %s encrypts its data (EncryptKey), which is not supported", s->name);
	if (!one_of(s->storage, storages))
		return errmsg_set(e, -ENOTSUP, "volume %s lies on storage \"%.64s\", supported are file, s3, minio", s->name,
			s->storage);
	if (!one_of(s->compression, compressions))
		return errmsg_set(e, -ENOTSUP, "volume %s is compressed with \"%.64s\", supported are none, lz4, zstd", s->name,
			s->compression);
	if (s->block_kib < RDS_BLOCK_KIB_MIN || s->block_kib > RDS_BLOCK_KIB_MAX || (s->block_kib & (s->block_kib - 1)))
		return errmsg_set(e, -EUCLEAN, "volume %s has block size %lld KiB, which is not a power of two from 64 to 16384",
			s->name, (long long)s->block_kib);
	if (s->shards < 0 || s->shards > RDS_SHARDS_MAX)
		return errmsg_set(e, -EUCLEAN, "volume %s has %lld shards, at most %d are allowed", s->name, (long long)s->shards,
			RDS_SHARDS_MAX);
	if (s->trash_days < 0)
		return errmsg_set(e, -EUCLEAN, "volume %s has a negative TrashDays", s->name);
	return 0;
}

bool rds_volume_name_valid(const char *name)
{
	size_t n = strlen(name);

	if (n < 3 || n > 63 || name[0] == '-' || name[n - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

int rds_uuid_make(char out[37])
{
	uint8_t r[16];

	if (RAND_bytes(r, sizeof(r)) != 1)
		return -EIO;
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2], r[3], r[4],
		r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15]);
	return 0;
}
