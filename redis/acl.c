#include "redis/acl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/keys.h"

#define LEASE_CHECK \
	"local z = redis.call('HGET', 'zjfs', 'epoch')\n" \
	"if not z then return 'NOKEY' end\n" \
	"if z ~= ARGV[1] then return tonumber(z) > tonumber(ARGV[1]) and 'FENCED' or 'FORGOT' end\n"

/* ARGV: epoch rule least. Answer: number or word */
static const char number_lua[] = LEASE_CHECK
	"local all, found = redis.call('HGETALL', 'acl'), nil\n"
	"for i = 1, #all, 2 do\n"
	"  local n = tonumber(all[i])\n"
	"  if all[i + 1] == ARGV[2] and n and (not found or n < found) then found = n end\n"
	"end\n"
	"if found then return string.format('%.0f', found) end\n"
	"local max = redis.call('GET', 'aclMaxId') or '0'\n"
	"if not string.find(max, '^%d+$') then return 'BAD' end\n"
	"local n = math.max(tonumber(max), tonumber(ARGV[3])) + 1\n"
	"while redis.call('HEXISTS', 'acl', string.format('%.0f', n)) == 1 do n = n + 1 end\n"
	"if n > 4294967295 then return 'BAD' end\n"
	"local id = string.format('%.0f', n)\n"
	"redis.call('SET', 'aclMaxId', id)\n"
	"redis.call('HSET', 'acl', id, ARGV[2])\n"
	"return id\n";

/* ARGV: epoch {number rule}... Answer: OK or word */
static const char restore_lua[] = LEASE_CHECK
	"local max = redis.call('GET', 'aclMaxId') or '0'\n"
	"if not string.find(max, '^%d+$') then return 'BAD' end\n"
	"max = tonumber(max)\n"
	"for i = 2, #ARGV, 2 do\n"
	"  local have = redis.call('HGET', 'acl', ARGV[i])\n"
	"  if have and have ~= ARGV[i + 1] then return 'OTHER' end\n"
	"  max = math.max(max, tonumber(ARGV[i]))\n"
	"end\n"
	"for i = 2, #ARGV, 2 do redis.call('HSETNX', 'acl', ARGV[i], ARGV[i + 1]) end\n"
	"redis.call('SET', 'aclMaxId', string.format('%.0f', max))\n"
	"return 'OK'\n";

static int word_error(const char *word, struct errmsg *e)
{
	if (strcmp(word, "FENCED") == 0)
		return errmsg_set(e, -EKEYREVOKED, "another mount has taken the volume over");
	if (strcmp(word, "FORGOT") == 0)
		return errmsg_set(e, -EAGAIN, "Redis has forgotten the lease");
	if (strcmp(word, "NOKEY") == 0)
		return errmsg_set(e, -ENODATA, "there is no lease in Redis");
	if (strcmp(word, "OTHER") == 0)
		return errmsg_set(e, -EUCLEAN, "key acl in Redis holds another rule under one of our numbers");
	return errmsg_set(e, -EUCLEAN, "key aclMaxId in Redis is damaged");
}

static int call(struct rds_conn *c, const char *lua, int argc, const char **argv, const size_t *lens, char word[16], struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct rds_script s;

	rds_script_init(&s, lua);
	int rc = rds_script_call(c, &s, &r, e, 0, argc, argv, lens);

	if (!rc && (!r->str || r->len > 15))
		rc = errmsg_set(e, -EUCLEAN, "unexpected answer about the ACL rules");
	if (!rc)
		snprintf(word, 16, "%s", r->str);
	rds_reply_free(r);
	return rc;
}

int rds_acl_number(struct rds_conn *c, uint64_t epoch, const void *rule, size_t len, uint32_t least, uint32_t *id, struct errmsg *e)
{
	char token[24], low[16], word[16];
	const char *argv[] = {token, rule, low};
	uint64_t n;

	snprintf(token, sizeof(token), "%" PRIu64, epoch);
	snprintf(low, sizeof(low), "%" PRIu32, least);
	const size_t lens[] = {strlen(token), len, strlen(low)};
	int rc = call(c, number_lua, 3, argv, lens, word, e);

	if (rc)
		return rc;
	if (rds_parse_u64(word, strlen(word), &n) || n == 0 || n > UINT32_MAX)
		return word_error(word, e);
	*id = (uint32_t)n;
	return 0;
}

int rds_acl_read(struct rds_conn *c, uint32_t id, uint8_t **rule, size_t *len, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_cmd(c, &r, e, "HGET acl %u", id);

	*rule = NULL;
	*len = 0;
	if (!rc && r->type == REDIS_REPLY_STRING) {
		*rule = malloc(r->len + 1);
		if (*rule) {
			memcpy(*rule, r->str, r->len);
			*len = r->len;
		} else {
			rc = errmsg_set(e, -ENOMEM, "out of memory");
		}
	}
	rds_reply_free(r);
	return rc;
}

int rds_acl_restore(struct rds_conn *c, uint64_t epoch, const struct rds_acl *v, size_t n, struct errmsg *e)
{
	const char **argv = calloc(1 + 2 * n, sizeof(*argv));
	size_t *lens = calloc(1 + 2 * n, sizeof(*lens));
	char(*ids)[16] = calloc(n + 1, sizeof(*ids)), token[24], word[16];
	int rc = -ENOMEM;

	if (!argv || !lens || !ids) {
		errmsg_set(e, rc, "out of memory");
		goto out;
	}
	snprintf(token, sizeof(token), "%" PRIu64, epoch);
	argv[0] = token;
	lens[0] = strlen(token);
	for (size_t i = 0; i < n; i++) {
		snprintf(ids[i], sizeof(ids[i]), "%" PRIu32, v[i].id);
		argv[1 + 2 * i] = ids[i];
		lens[1 + 2 * i] = strlen(ids[i]);
		argv[2 + 2 * i] = (const char *)v[i].rule;
		lens[2 + 2 * i] = v[i].len;
	}
	rc = call(c, restore_lua, (int)(1 + 2 * n), argv, lens, word, e);
	if (!rc && strcmp(word, "OK") != 0)
		rc = word_error(word, e);
out:
	free(ids);
	free(lens);
	free(argv);
	return rc;
}
