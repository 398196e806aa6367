/* See precheck.h. Everything goes out in one pipeline. An error in its middle leaves answers behind, so the connection is
 * dropped then: the mount is refused anyway. */
#include "redis/precheck.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "redis/keys.h"
#include "redis/lease.h"
#include "util/jfsfmt.h"

#define REMEDY "the database was damaged or is used by something else: restore it from a backup"

static const struct {
	const char *key, *type;
	bool number;
} fixed[] = {
	{RDS_NEXT_INODE, "string", true}, {RDS_NEXT_CHUNK, "string", true}, {RDS_NEXT_SESSION, "string", true},
	{RDS_NEXT_TRASH, "string", true}, {RDS_USED_SPACE, "string", true}, {RDS_TOTAL_INODES, "string", true},
	{"i1", "string", false}, {"d1", "hash", false}, {RDS_SLICE_REF, "hash", false}, {RDS_DEL_SLICES, "hash", false},
	{RDS_DEL_FILES, "zset", false}, {RDS_DETACHED, "zset", false}, {RDS_ALL_SESSIONS, "zset", false},
	{RDS_SESSION_INFOS, "hash", false}, {RDS_DIR_DATA_LENGTH, "hash", false}, {RDS_DIR_USED_SPACE, "hash", false},
	{RDS_DIR_USED_INODES, "hash", false}, {RDS_PRIVATE_KEY, "hash", false},
};
enum { N_FIXED = sizeof(fixed) / sizeof(fixed[0]) };

static int ask(struct rds_conn *c)
{
	int rc = 0;

	for (int i = 0; i < N_FIXED && !rc; i++)
		rc = rds_append(c, "TYPE %s", fixed[i].key);
	for (int i = 0; i < N_FIXED && !rc; i++)
		if (fixed[i].number)
			rc = rds_append(c, "GET %s", fixed[i].key);
	if (!rc)
		rc = rds_append(c, "GET i1");
	if (!rc)
		rc = rds_append(c, "HMGET %s epoch seq", RDS_PRIVATE_KEY);
	return rc;
}

static int check_type(struct rds_conn *c, int i, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_read(c, &r, e);

	if (!rc && (r->type != REDIS_REPLY_STATUS ||
			   (strcmp(r->str, fixed[i].type) != 0 && strcmp(r->str, "none") != 0)))
		rc = errmsg_set(e, -EUCLEAN, "key %s in Redis at %s is a %.20s, not a %s: " REMEDY, fixed[i].key, rds_conn_name(c),
			r->str ? r->str : "?", fixed[i].type);
	rds_reply_free(r);
	return rc;
}

static int check_number(struct rds_conn *c, int i, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int64_t v;
	int rc = rds_read(c, &r, e);

	if (!rc && r->type == REDIS_REPLY_STRING && rds_parse_i64(r->str, r->len, &v))
		rc = errmsg_set(e, -EUCLEAN, "key %s in Redis at %s is not a number: " REMEDY, fixed[i].key, rds_conn_name(c));
	rds_reply_free(r);
	return rc;
}

static int check_root(struct rds_conn *c, struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct jfs_attr a;
	int rc = rds_read(c, &r, e);

	if (!rc && (r->type != REDIS_REPLY_STRING || jfs_attr_decode((const uint8_t *)r->str, r->len, &a) || a.type != JFS_DIR))
		rc = errmsg_set(e, -EUCLEAN, "key i1 in Redis at %s does not hold the root directory: " REMEDY, rds_conn_name(c));
	rds_reply_free(r);
	return rc;
}

static int check_lease(struct rds_conn *c, struct errmsg *e)
{
	struct redisReply *r = NULL;
	uint64_t v;
	int rc = rds_read(c, &r, e);

	for (size_t i = 0; !rc && i < (r->type == REDIS_REPLY_ARRAY ? r->elements : 0); i++)
		if (r->element[i]->type == REDIS_REPLY_STRING && rds_parse_u64(r->element[i]->str, r->element[i]->len, &v))
			rc = errmsg_set(e, -EUCLEAN, "key %s in Redis at %s holds foreign bytes: " REMEDY, RDS_PRIVATE_KEY,
				rds_conn_name(c));
	rds_reply_free(r);
	return rc;
}

int rds_precheck(struct rds_conn *c, struct errmsg *e)
{
	int rc = ask(c);

	if (rc)
		errmsg_set(e, rc, "cannot ask Redis at %s", rds_conn_name(c));
	for (int i = 0; i < N_FIXED && !rc; i++)
		rc = check_type(c, i, e);
	for (int i = 0; i < N_FIXED && !rc; i++)
		if (fixed[i].number)
			rc = check_number(c, i, e);
	if (!rc)
		rc = check_root(c, e);
	if (!rc)
		rc = check_lease(c, e);
	if (rc)
		rds_disconnect(c);
	return rc;
}
