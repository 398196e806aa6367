#include "redis/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "redis/keys.h"
#include "util/jfsfmt.h"

#define PAGE "2000" /* HSCAN's hint: a page blocks Redis for about a millisecond */

void rds_loaded_init(struct rds_loaded *l)
{
	memset(l, 0, sizeof(*l));
	l->pos.seq = UINT64_MAX;
}

void rds_loaded_free(struct rds_loaded *l)
{
	for (size_t i = 0; i < l->n_replies; i++)
		rds_reply_free(l->replies[i]);
	free(l->replies);
	free(l->entries);
	free(l->pairs);
	free(l->joined);
	rds_loaded_init(l);
}

/* Keeps an answer alive as long as the result. */
static int keep(struct rds_loaded *l, struct redisReply *r)
{
	struct redisReply **p = realloc(l->replies, (l->n_replies + 1) * sizeof(*p));

	if (!p) {
		rds_reply_free(r);
		return -ENOMEM;
	}
	l->replies = p;
	p[l->n_replies++] = r;
	return 0;
}

static struct rds_bytes bytes_of(const struct redisReply *r)
{
	if (!r || r->type != REDIS_REPLY_STRING)
		return (struct rds_bytes){0};
	return (struct rds_bytes){(const uint8_t *)r->str, r->len};
}

static int read_kept(struct rds_conn *c, struct rds_loaded *l, struct redisReply **out, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_read(c, &r, e);

	if (rc) {
		rds_reply_free(r);
		return rc;
	}
	*out = r;
	rc = keep(l, r);
	return rc ? errmsg_set(e, rc, "out of memory") : 0;
}

static int append_position(struct rds_conn *c)
{
	return rds_append(c, "HMGET %s epoch seq chain", RDS_PRIVATE_KEY);
}

static int read_position(struct rds_conn *c, struct rds_loaded *l, struct errmsg *e)
{
	struct rds_position pos;
	struct redisReply *r = NULL;
	int rc = rds_read(c, &r, e);

	if (!rc && rds_position_parse(r, &pos))
		rc = errmsg_set(e, -EUCLEAN, "the private key %s in Redis holds foreign bytes", RDS_PRIVATE_KEY);
	rds_reply_free(r);
	if (!rc && pos.seq < l->pos.seq)
		l->pos = pos;
	return rc;
}

/* An error in the middle of a pipeline leaves answers behind: they must not be taken for those of the next command. */
static int fail(struct rds_conn *c, int rc)
{
	if (rc && rds_conn_ok(c) && rds_conn_pending(c) > 0)
		rds_disconnect(c);
	return rc;
}

/* One command and the position, in one round trip. The position comes first: an answer is at least as new. */
static int load_one(struct rds_conn *c, struct rds_loaded *l, struct redisReply **out, struct errmsg *e, const char *cmd,
	const char *key, const char *rest)
{
	int rc = append_position(c);

	if (!rc)
		rc = rds_append(c, rest ? "%s %s 0 -1" : "%s %s", cmd, key);
	if (rc)
		return fail(c, errmsg_set(e, rc, "cannot ask Redis for %s", key));
	rc = read_position(c, l, e);
	if (!rc)
		rc = read_kept(c, l, out, e);
	if (rc == -EUCLEAN)
		errmsg_prefix(e, "key %s", key);
	return fail(c, rc);
}

/* A key that holds one string: the whole value, or none. */
static int load_value(struct rds_conn *c, size_t (*key_of)(char *, const char *, uint64_t), uint64_t ino, struct rds_loaded *l,
	struct errmsg *e)
{
	char key[RDS_KEY_MAX];
	struct redisReply *r;

	key_of(key, NULL, ino);
	int rc = load_one(c, l, &r, e, "GET", key, NULL);
	if (!rc)
		l->value = bytes_of(r);
	return rc;
}

int rds_load_inode(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e)
{
	return load_value(c, rds_key_inode, ino, l, e);
}

int rds_load_symlink(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e)
{
	return load_value(c, rds_key_symlink, ino, l, e);
}

static int append_lists(struct rds_conn *c, uint64_t ino, uint32_t chunk, const uint64_t *beside, size_t n)
{
	char key[RDS_KEY_MAX];
	int rc = append_position(c);

	for (size_t i = 0; i <= n && !rc; i++) {
		if (i == 0)
			rds_key_chunk(key, NULL, ino, chunk);
		else
			rds_key_chunk(key, NULL, beside[i - 1], 0);
		rc = rds_append(c, "LRANGE %s 0 -1", key);
	}
	return rc;
}

/* The answers, and how many records they hold together. An error in place of a list beside (NULL then) is told to who asks for
 * that one. */
static int read_lists(struct rds_conn *c, struct rds_loaded *l, struct redisReply **r, size_t n, size_t *records, struct errmsg *e)
{
	int rc = read_position(c, l, e);

	for (size_t i = 0; i <= n && !rc; i++) {
		rc = read_kept(c, l, &r[i], e);
		if (rc == -EUCLEAN && i > 0)
			rc = 0;
		else if (!rc && r[i]->type == REDIS_REPLY_ARRAY)
			*records += r[i]->elements;
	}
	return rc;
}

/* Copies the records of a list to *at and moves that on; false: element *bad is none. */
static bool join_records(const struct redisReply *r, uint8_t **at, size_t *bad, struct rds_bytes *out)
{
	uint8_t *p = *at;

	for (*bad = 0; *bad < r->elements; ++*bad, p += JFS_SLICE_LEN) {
		struct jfs_slice s;

		if (jfs_slice_decode(r->element[*bad]->str, r->element[*bad]->len, &s))
			return false;
		memcpy(p, r->element[*bad]->str, JFS_SLICE_LEN);
	}
	*out = (struct rds_bytes){*at, (size_t)(p - *at)};
	*at = p;
	return true;
}

static int take_lists(struct rds_loaded *l, struct redisReply **r, size_t n, size_t records, struct errmsg *e)
{
	uint8_t *at = l->joined = malloc(records * JFS_SLICE_LEN + 1);
	size_t bad;

	if (!at)
		return errmsg_set(e, -ENOMEM, "out of memory");
	if (r[0]->type != REDIS_REPLY_ARRAY)
		return errmsg_set(e, -EUCLEAN, "not a list");
	if (!join_records(r[0], &at, &bad, &l->value))
		return errmsg_set(e, -EUCLEAN, "element %zu is not a slice record", bad);
	l->n = r[0]->elements;
	for (size_t i = 1; i <= n; i++)
		if (r[i] && r[i]->type == REDIS_REPLY_ARRAY)
			join_records(r[i], &at, &bad, &l->entries[i - 1].record);
	return 0;
}

int rds_load_chunk(struct rds_conn *c, uint64_t ino, uint32_t chunk, const uint64_t *beside, size_t n, struct rds_loaded *l,
	struct errmsg *e)
{
	struct redisReply **r = calloc(n + 1, sizeof(*r));
	char key[RDS_KEY_MAX];
	size_t records = 0;
	int rc;

	rds_key_chunk(key, NULL, ino, chunk);
	l->entries = calloc(n + 1, sizeof(*l->entries));
	rc = r && l->entries ? append_lists(c, ino, chunk, beside, n) : -ENOMEM;
	if (rc) {
		errmsg_set(e, rc, "cannot ask Redis for %s", key);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		l->entries[i].ino = beside[i];
	rc = read_lists(c, l, r, n, &records, e);
	if (!rc)
		rc = take_lists(l, r, n, records, e);
	if (rc == -EUCLEAN)
		errmsg_prefix(e, "key %s", key);
out:
	free(r);
	return fail(c, rc);
}

static int load_pairs(struct rds_conn *c, const char *key, struct rds_loaded *l, struct errmsg *e)
{
	struct redisReply *r;
	int rc = load_one(c, l, &r, e, "HGETALL", key, NULL);

	if (rc)
		return rc;
	if (r->type != REDIS_REPLY_ARRAY || r->elements % 2)
		return errmsg_set(e, -EUCLEAN, "key %s: not a hash", key);
	l->n = r->elements / 2;
	l->pairs = calloc(l->n + 1, sizeof(*l->pairs));
	if (!l->pairs)
		return errmsg_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < l->n; i++) {
		l->pairs[i].name = bytes_of(r->element[2 * i]);
		l->pairs[i].val = bytes_of(r->element[2 * i + 1]);
		if (!l->pairs[i].name.p || l->pairs[i].name.n == 0 || l->pairs[i].name.n > 255)
			return errmsg_set(e, -EUCLEAN, "key %s: illegal field name", key);
	}
	return 0;
}

int rds_load_xattrs(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e)
{
	char key[RDS_KEY_MAX];

	rds_key_xattr(key, NULL, ino);
	return load_pairs(c, key, l, e);
}

int rds_load_parents(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e)
{
	char key[RDS_KEY_MAX];

	rds_key_parents(key, NULL, ino);
	return load_pairs(c, key, l, e);
}

/* The entries of one HSCAN page, appended to the result. HSCAN may repeat an entry: inserting twice does no harm. */
static int take_page(struct rds_loaded *l, const struct redisReply *page, const char *key, struct errmsg *e)
{
	size_t n = page->elements / 2;
	struct rds_entry *p = realloc(l->entries, (l->n + n + 1) * sizeof(*p));

	if (!p)
		return errmsg_set(e, -ENOMEM, "out of memory");
	l->entries = p;
	for (size_t i = 0; i < n; i++) {
		struct rds_entry *t = &p[l->n];
		struct rds_bytes val = bytes_of(page->element[2 * i + 1]);

		memset(t, 0, sizeof(*t));
		t->name = bytes_of(page->element[2 * i]);
		if (!t->name.p || !jfs_name_valid((const char *)t->name.p, t->name.n))
			return errmsg_set(e, -EUCLEAN, "key %s: a field is not a file name", key);
		if (!val.p || jfs_dentry_decode(val.p, val.n, &t->type, &t->ino))
			return errmsg_set(e, -EUCLEAN, "key %s: the value of \"%.*s\" is not a directory entry", key,
				(int)(t->name.n > 200 ? 200 : t->name.n), (const char *)t->name.p);
		l->n++;
	}
	return 0;
}

/* MGET of the inode records of entries [from, l->n), with the position before it. */
static int append_records(struct rds_conn *c, const struct rds_loaded *l, size_t from)
{
	size_t n = l->n - from;
	char(*keys)[RDS_KEY_MAX] = malloc(n * sizeof(*keys));
	const char **argv = malloc((n + 1) * sizeof(*argv));
	size_t *lens = malloc((n + 1) * sizeof(*lens));
	int rc = keys && argv && lens ? append_position(c) : -ENOMEM;

	if (!rc) {
		argv[0] = "MGET";
		lens[0] = 4;
		for (size_t i = 0; i < n; i++) {
			argv[i + 1] = keys[i];
			lens[i + 1] = rds_key_inode(keys[i], NULL, l->entries[from + i].ino);
		}
		rc = rds_append_argv(c, (int)(n + 1), argv, lens);
	}
	free(keys);
	free(argv);
	free(lens);
	return rc;
}

/* MGET answers nil for a key of another type too: that is damage, not a missing record, and is given on as a record of no
 * bytes. */
static int tell_missing(struct rds_conn *c, struct rds_loaded *l, size_t from, struct errmsg *e)
{
	char key[RDS_KEY_MAX];
	int rc = 0;

	for (size_t i = from; i < l->n && !rc; i++) {
		if (l->entries[i].record.p)
			continue;
		rds_key_inode(key, NULL, l->entries[i].ino);
		rc = rds_append(c, "TYPE %s", key);
	}
	for (size_t i = from; i < l->n && !rc; i++) {
		struct redisReply *r = NULL;

		if (l->entries[i].record.p)
			continue;
		rc = rds_read(c, &r, e);
		if (!rc && (r->type != REDIS_REPLY_STATUS || strcmp(r->str, "none") != 0))
			l->entries[i].record = (struct rds_bytes){(const uint8_t *)"", 0};
		rds_reply_free(r);
	}
	return rc;
}

static int read_records(struct rds_conn *c, struct rds_loaded *l, size_t from, struct errmsg *e)
{
	struct redisReply *r;
	int rc = read_position(c, l, e);

	if (!rc)
		rc = read_kept(c, l, &r, e);
	if (rc)
		return rc;
	if (r->type != REDIS_REPLY_ARRAY || r->elements != l->n - from)
		return errmsg_set(e, -EUCLEAN, "Redis answered MGET with %zu values instead of %zu", r->elements, l->n - from);
	for (size_t i = 0; i < r->elements; i++)
		l->entries[from + i].record = bytes_of(r->element[i]);
	return tell_missing(c, l, from, e);
}

static int load_dir(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e)
{
	char key[RDS_KEY_MAX], own[RDS_KEY_MAX], cursor[32] = "0";
	struct redisReply *r;
	int rc;

	rds_key_dir(key, NULL, ino);
	rds_key_inode(own, NULL, ino);
	rc = load_one(c, l, &r, e, "GET", own, NULL);
	if (rc)
		return rc;
	l->value = bytes_of(r);
	do {
		size_t from = l->n;

		rc = append_position(c);
		if (!rc)
			rc = rds_append(c, "HSCAN %s %s COUNT " PAGE, key, cursor);
		if (rc)
			return errmsg_set(e, rc, "cannot ask Redis for %s", key);
		rc = read_position(c, l, e);
		if (!rc)
			rc = read_kept(c, l, &r, e);
		if (rc == -EUCLEAN)
			errmsg_prefix(e, "key %s", key);
		if (rc)
			return rc;
		if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || !r->element[0]->str || r->element[0]->len >= sizeof(cursor) ||
			r->element[1]->type != REDIS_REPLY_ARRAY || r->element[1]->elements % 2)
			return errmsg_set(e, -EUCLEAN, "key %s: unexpected answer to HSCAN", key);
		memcpy(cursor, r->element[0]->str, r->element[0]->len + 1);
		rc = take_page(l, r->element[1], key, e);
		if (!rc && l->n > from) {
			rc = append_records(c, l, from);
			if (!rc)
				rc = read_records(c, l, from, e);
		}
		if (rc)
			return rc;
	} while (strcmp(cursor, "0") != 0);
	return 0;
}

int rds_load_dir(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e)
{
	return fail(c, load_dir(c, ino, l, e));
}

static int load_entry(struct rds_conn *c, uint64_t parent, const char *name, size_t len, struct rds_loaded *l, struct errmsg *e)
{
	char key[RDS_KEY_MAX];
	const char *argv[3] = {"HGET", key, name};
	size_t lens[3] = {4, rds_key_dir(key, NULL, parent), len};
	struct redisReply *r;
	int rc = append_position(c);

	if (!rc)
		rc = rds_append_argv(c, 3, argv, lens);
	if (rc)
		return errmsg_set(e, rc, "cannot ask Redis for %s", key);
	rc = read_position(c, l, e);
	if (!rc)
		rc = read_kept(c, l, &r, e);
	if (rc == -EUCLEAN)
		errmsg_prefix(e, "key %s", key);
	if (rc || r->type == REDIS_REPLY_NIL)
		return rc;
	l->entries = calloc(1, sizeof(*l->entries));
	if (!l->entries)
		return errmsg_set(e, -ENOMEM, "out of memory");
	if (!bytes_of(r).p || jfs_dentry_decode(r->str, r->len, &l->entries->type, &l->entries->ino))
		return errmsg_set(e, -EUCLEAN, "key %s: a value is not a directory entry", key);
	l->n = 1;
	rc = append_records(c, l, 0);
	return rc ? errmsg_set(e, rc, "cannot ask Redis for inode %" PRIu64, l->entries->ino) : read_records(c, l, 0, e);
}

int rds_load_entry(struct rds_conn *c, uint64_t parent, const char *name, size_t len, struct rds_loaded *l, struct errmsg *e)
{
	return fail(c, load_entry(c, parent, name, len, l, e));
}
