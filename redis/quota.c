#include "redis/quota.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal/tables.h"
#include "redis/keys.h"
#include "util/buf.h"

/* ARGV: "dir", "user", "group". A quota is there if it has a count of inodes, as in stock. */
static const char read_lua[] =
	"local f = redis.call('HMGET', 'zjfs', 'epoch', 'seq', 'chain')\n"
	"local out = {f[1] or '0', f[2] or '0', f[3] or ''}\n"
	"for _, kind in ipairs(ARGV) do\n"
	"  local n = redis.call('HGETALL', kind .. 'QuotaUsedInodes')\n"
	"  for i = 1, #n, 2 do\n"
	"    local limits = redis.call('HGET', kind .. 'Quota', n[i]) or string.rep('\\255', 16)\n"
	"    local space = redis.call('HGET', kind .. 'QuotaUsedSpace', n[i]) or '0'\n"
	"    for _, v in ipairs({kind, n[i], limits, space, n[i + 1]}) do out[#out + 1] = v end\n"
	"  end\n"
	"end\n"
	"return out\n";

enum { HEAD = 3, EACH = 5 };

static int parse_one(struct redisReply *const *f, struct rds_quota *q, struct errmsg *e)
{
	int rc = rds_parse_u64(f[1]->str, f[1]->len, &q->id);

	q->kind = f[0]->str[0] == 'd' ? QUOTA_DIR : f[0]->str[0] == 'u' ? QUOTA_USER : QUOTA_GROUP;
	if (!rc)
		rc = rds_parse_i64(f[3]->str, f[3]->len, &q->used_space);
	if (!rc)
		rc = rds_parse_i64(f[4]->str, f[4]->len, &q->used_inodes);
	if (rc || f[2]->len != 16)
		return errmsg_set(e, -EUCLEAN, "a quota in Redis is damaged: field %.20s of key %sQuota%s", f[1]->str, f[0]->str,
			f[2]->len != 16 ? "" : "UsedInodes or UsedSpace");
	q->max_space = (int64_t)get_be64((const uint8_t *)f[2]->str);
	q->max_inodes = (int64_t)get_be64((const uint8_t *)f[2]->str + 8);
	return 0;
}

int rds_quota_read(struct rds_conn *c, bool dirs, bool owners, struct rds_quota **list, size_t *n, struct rds_position *pos,
	struct errmsg *e)
{
	const char *kinds[3];
	size_t lens[3], k = 0;
	struct redisReply *r = NULL;
	struct rds_script s;

	*list = NULL;
	*n = 0;
	if (dirs)
		kinds[k++] = "dir";
	if (owners) {
		kinds[k++] = "user";
		kinds[k++] = "group";
	}
	for (size_t i = 0; i < k; i++)
		lens[i] = strlen(kinds[i]);
	rds_script_init(&s, read_lua);
	int rc = rds_script_call(c, &s, &r, e, 0, (int)k, kinds, lens);

	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements < HEAD || (r->elements - HEAD) % EACH))
		rc = errmsg_set(e, -EUCLEAN, "the quotas in Redis (dirQuota, userQuota, groupQuota) cannot be read");
	for (size_t i = 0; !rc && i < r->elements; i++)
		if (r->element[i]->type != REDIS_REPLY_STRING)
			rc = errmsg_set(e, -EUCLEAN, "the quotas in Redis (dirQuota, userQuota, groupQuota) cannot be read");
	if (!rc) {
		memset(pos, 0, sizeof(*pos));
		if (rds_parse_u64(r->element[1]->str, r->element[1]->len, &pos->seq))
			rc = errmsg_set(e, -EUCLEAN, "key zjfs in Redis is damaged");
		*n = (r->elements - HEAD) / EACH;
		*list = calloc(*n + 1, sizeof(**list));
		if (!*list)
			rc = errmsg_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; !rc && i < *n; i++)
		rc = parse_one(r->element + HEAD + i * EACH, &(*list)[i], e);
	rds_reply_free(r);
	if (rc) {
		free(*list);
		*list = NULL;
		*n = 0;
	}
	return rc;
}
