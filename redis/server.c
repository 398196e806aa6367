#include "redis/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

/* The value of "name:value\r\n" in INFO's text; cut to size. False if there is no such line. */
static bool info_field(const char *info, size_t len, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);
	const char *p = info, *end = info + len;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *eol = nl ? nl : end;
		if ((size_t)(eol - p) > n && memcmp(p, name, n) == 0 && p[n] == ':') {
			const char *v = p + n + 1;
			size_t vn = (size_t)(eol - v);
			while (vn && (v[vn - 1] == '\r' || v[vn - 1] == ' '))
				vn--;
			if (vn >= size)
				vn = size - 1;
			memcpy(out, v, vn);
			out[vn] = 0;
			return true;
		}
		p = eol + 1;
	}
	return false;
}

int rds_server_parse(const char *info, size_t len, struct rds_server *out)
{
	char v[64];

	memset(out, 0, sizeof(*out));
	if (!info_field(info, len, "redis_version", v, sizeof(v)) ||
		sscanf(v, "%u.%u.%u", &out->major, &out->minor, &out->patch) < 1)
		return -EPROTO;
	out->aof = info_field(info, len, "aof_enabled", v, sizeof(v)) && v[0] == '1';
	out->cluster = info_field(info, len, "cluster_enabled", v, sizeof(v)) && v[0] == '1';
	out->loading = info_field(info, len, "loading", v, sizeof(v)) && v[0] == '1';
	out->replica = info_field(info, len, "role", v, sizeof(v)) && strcmp(v, "slave") == 0;
	if (info_field(info, len, "connected_slaves", v, sizeof(v)))
		out->replicas = (unsigned)strtoul(v, NULL, 10);
	if (info_field(info, len, "maxmemory", v, sizeof(v)))
		out->maxmemory = strtoull(v, NULL, 10);
	info_field(info, len, "maxmemory_policy", out->policy, sizeof(out->policy));
	info_field(info, len, "run_id", out->run_id, sizeof(out->run_id));
	return 0;
}

int rds_server_check(struct rds_conn *c, struct rds_server *out, struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct rds_server s;
	int rc = rds_cmd(c, &r, e, "INFO");

	if (rc == 0 && (r->type != REDIS_REPLY_STRING || rds_server_parse(r->str, r->len, &s)))
		rc = errmsg_set(e, -EPROTO, "%s does not answer INFO like a Redis: check META-URL", rds_conn_name(c));
	rds_reply_free(r);
	if (rc)
		return rc;
	if (out)
		*out = s;
	if (s.major < 4)
		return errmsg_set(e, -ENOTSUP, "Redis at %s is %u.%u.%u: at least 4.0 is needed", rds_conn_name(c), s.major, s.minor, s.patch);
	if (s.cluster)
		return errmsg_set(e, -ENOTSUP, "Redis at %s runs in cluster mode, which is not supported: use a standalone "
					       "Redis or Sentinel", rds_conn_name(c));
	if (s.replica)
		return errmsg_set(e, -EROFS, "Redis at %s is a replica: give the address of the master", rds_conn_name(c));
	if (!s.aof)
		log_warn("event=redis_check addr=%s msg=\"AOF is off: a crash of Redis loses metadata; set appendonly yes\"",
			rds_conn_name(c));
	if (s.policy[0] && strcmp(s.policy, "noeviction") != 0) {
		rc = rds_cmd(c, NULL, e, "CONFIG SET maxmemory-policy noeviction");
		if (rds_err_is_fatal(rc))
			return rc;
		if (rc)
			log_warn("event=redis_check addr=%s msg=\"maxmemory-policy is %s and cannot be changed: Redis may evict "
				 "metadata; set it to noeviction\"", rds_conn_name(c), s.policy);
	}
	return 0;
}
