#include "redis/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <jansson.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "redis/keys.h"
#include "redis/lease.h"
#include "redis/setting.h"

/* What the sessions of this program have in their version, and stock's have not. */
#define OUR_MARK "+jfs."

/* KEYS: nextsession, allSessions, sessionInfos, zjfs. ARGV: expiry, JSON, before, our mark, journal. A Redis that forgot may
 * have given the number to somebody else since; if it has not yet, it must not. The number that zjfs notes for this journal
 * is one that a kill kept the journal from noting. */
static const char start_lua[] = "local function ours(sid)\n"
				"  local info = redis.call('HGET', KEYS[3], sid)\n"
				"  return info and string.find(info, ARGV[4], 1, true)\n"
				"end\n"
				"local sid = tonumber(ARGV[3])\n"
				"local noted = redis.call('HMGET', KEYS[4], 'epoch', 'session', 'session.of')\n"
				"if not ours(ARGV[3]) and noted[2] and noted[3] == ARGV[5] and ours(noted[2]) then\n"
				"  sid = tonumber(noted[2])\n"
				"elseif not ours(ARGV[3]) then\n"
				"  sid = redis.call('INCR', KEYS[1])\n"
				"end\n"
				"local number = string.format('%.0f', sid)\n"
				"if (tonumber(redis.call('GET', KEYS[1]) or 0) or 0) < sid then redis.call('SET', KEYS[1], number) end\n"
				"redis.call('ZADD', KEYS[2], ARGV[1], number)\n"
				"redis.call('HSET', KEYS[3], number, ARGV[2])\n"
				"if noted[1] then redis.call('HSET', KEYS[4], 'session', number, 'session.of', ARGV[5]) end\n"
				"return sid\n";

/* KEYS: allSessions, sessionInfos, session{sid}, locked{sid}. ARGV: sid. */
static const char end_lua[] = "if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then return 0 end\n"
			      "redis.call('HDEL', KEYS[2], ARGV[1])\n"
			      "redis.call('ZREM', KEYS[1], ARGV[1])\n"
			      "return 1\n";

/* Addresses of the interfaces that are up, without loopback and link-local ones. */
static void add_addresses(json_t *list)
{
	struct ifaddrs *all, *i;
	char text[INET6_ADDRSTRLEN];

	if (getifaddrs(&all))
		return; /* the field may be empty */
	for (i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
			continue;
		const void *addr = NULL;
		if (i->ifa_addr->sa_family == AF_INET)
			addr = &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr;
		else if (i->ifa_addr->sa_family == AF_INET6 &&
			 !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr))
			addr = &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
		if (addr && inet_ntop(i->ifa_addr->sa_family, addr, text, sizeof(text)))
			json_array_append_new(list, json_string(text));
	}
	freeifaddrs(all);
}

char *rds_session_json(const char *mountpoint, uint64_t now_ns)
{
	char host[256] = "", when[48];
	time_t sec = (time_t)(now_ns / 1000000000u);
	json_t *o = json_object(), *ips = json_array();
	struct tm tm;
	char *text = NULL;

	if (!o || !ips || gethostname(host, sizeof(host) - 1) || !gmtime_r(&sec, &tm)) {
		json_decref(ips);
		goto out;
	}
	size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%09uZ", (unsigned)(now_ns % 1000000000u));
	add_addresses(ips);
	/* a name that is no UTF-8 cannot be stored as JSON */
	json_t *h = json_string(host), *m = json_string(mountpoint);
	int bad = json_object_set_new(o, "Version", json_string(RDS_CLIENT_VERSION OUR_MARK JFS_VERSION));
	bad |= json_object_set_new(o, "HostName", h ? h : json_string("?"));
	bad |= json_object_set_new(o, "IPAddrs", ips);
	bad |= json_object_set_new(o, "MountPoint", m ? m : json_string("?"));
	bad |= json_object_set_new(o, "MountTime", json_string(when));
	bad |= json_object_set_new(o, "ProcessID", json_integer(getpid()));
	if (!bad)
		text = json_dumps(o, JSON_COMPACT);
out:
	json_decref(o);
	return text;
}

static void take_string(const json_t *o, const char *key, char *out, size_t size)
{
	const char *v = json_string_value(json_object_get(o, key));

	snprintf(out, size, "%s", v ? v : "");
}

int rds_session_parse(const char *json, size_t len, struct rds_session *out)
{
	json_t *o = len < 1u << 16 ? json_loadb(json, len, 0, NULL) : NULL;
	int rc = json_is_object(o) ? 0 : -EUCLEAN;

	take_string(o, "Version", out->version, sizeof(out->version));
	take_string(o, "HostName", out->host, sizeof(out->host));
	take_string(o, "MountPoint", out->mountpoint, sizeof(out->mountpoint));
	take_string(o, "MountTime", out->mount_time, sizeof(out->mount_time));
	out->pid = json_integer_value(json_object_get(o, "ProcessID"));
	json_decref(o);
	return rc;
}

/* Calls a script that answers with a number. */
static int call_number(struct rds_conn *c, const char *lua, int nkeys, int argc, const char **argv, int64_t *out,
	struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct rds_script s;

	rds_script_init(&s, lua);
	int rc = rds_script_call(c, &s, &r, e, nkeys, argc, argv, NULL);
	if (rc == 0 && r->type != REDIS_REPLY_INTEGER)
		rc = errmsg_set(e, -EREMOTEIO, "Redis at %s gave an unexpected answer", rds_conn_name(c));
	if (rc == 0)
		*out = r->integer;
	rds_reply_free(r);
	return rc;
}

int rds_session_start(struct rds_conn *c, const char *json, int64_t now, const char *journal, uint64_t before, uint64_t *sid,
	struct errmsg *e)
{
	char expiry[RDS_KEY_MAX], old[RDS_KEY_MAX];
	const char *argv[] = {RDS_NEXT_SESSION, RDS_ALL_SESSIONS, RDS_SESSION_INFOS, RDS_PRIVATE_KEY, expiry, json, old, OUR_MARK, journal};
	int64_t v;

	rds_decimal(expiry, (uint64_t)(now + RDS_SESSION_TTL));
	rds_decimal(old, before);
	int rc = call_number(c, start_lua, 4, 9, argv, &v, e);
	if (rc == 0)
		*sid = (uint64_t)v;
	return rc;
}

int rds_session_beat(struct rds_conn *c, uint64_t sid, const char *json, int64_t now, struct errmsg *e)
{
	int rc = rds_append(c, "HSETNX %s %llu %s", RDS_SESSION_INFOS, (unsigned long long)sid, json);

	if (rc)
		return errmsg_set(e, rc, "cannot renew the session");
	rc = rds_append(c, "ZADD %s %lld %llu", RDS_ALL_SESSIONS, (long long)(now + RDS_SESSION_TTL), (unsigned long long)sid);
	if (rc == 0)
		rc = rds_read(c, NULL, e);
	if (rc == -ENOMEM)
		rds_disconnect(c); /* half a pipeline */
	if (rc && rds_err_is_fatal(rc))
		return rc;
	int second = rds_read(c, NULL, rc ? NULL : e);
	return rc ? rc : second;
}

int rds_session_end(struct rds_conn *c, uint64_t sid, struct errmsg *e)
{
	char number[RDS_KEY_MAX], sustained[RDS_KEY_MAX], locked[RDS_KEY_MAX];
	const char *argv[] = {RDS_ALL_SESSIONS, RDS_SESSION_INFOS, sustained, locked, number};
	int64_t done;

	rds_decimal(number, sid);
	rds_key_sustained(sustained, NULL, sid);
	rds_key_locked(locked, NULL, sid);
	int rc = call_number(c, end_lua, 4, 5, argv, &done, e);
	if (rc == 0 && !done)
		return errmsg_set(e, -EBUSY, "session %s still holds deleted files or locks", number);
	return rc;
}

static int by_sid(const void *a, const void *b)
{
	const struct rds_session *x = a, *y = b;

	return x->sid < y->sid ? -1 : x->sid > y->sid;
}

/* One (sid, score) of allSessions; what is not a number is left out. */
static void take_score(const struct redisReply *sid, const struct redisReply *score, struct rds_session *list, size_t *n)
{
	struct rds_session *s = &list[*n];

	if (sid->type != REDIS_REPLY_STRING || score->type != REDIS_REPLY_STRING ||
		rds_parse_u64(sid->str, sid->len, &s->sid))
		return;
	s->expiry = (int64_t)strtod(score->str, NULL);
	(*n)++;
}

int rds_session_list(struct rds_conn *c, struct rds_session **out, size_t *count, struct errmsg *e)
{
	struct redisReply *scores = NULL, *infos = NULL;
	struct rds_session *list = NULL;
	size_t n = 0;

	*out = NULL;
	*count = 0;
	int rc = rds_cmd(c, &scores, e, "ZRANGE %s 0 -1 WITHSCORES", RDS_ALL_SESSIONS);
	if (rc == 0)
		rc = rds_cmd(c, &infos, e, "HGETALL %s", RDS_SESSION_INFOS);
	if (rc == 0 && (scores->type != REDIS_REPLY_ARRAY || infos->type != REDIS_REPLY_ARRAY))
		rc = errmsg_set(e, -EREMOTEIO, "Redis at %s gave an unexpected answer", rds_conn_name(c));
	if (rc)
		goto out;
	list = calloc(scores->elements / 2 + 1, sizeof(*list));
	if (!list) {
		rc = errmsg_set(e, -ENOMEM, "no memory for the list of sessions");
		goto out;
	}
	for (size_t i = 0; i + 1 < scores->elements; i += 2)
		take_score(scores->element[i], scores->element[i + 1], list, &n);
	qsort(list, n, sizeof(*list), by_sid);
	for (size_t i = 0; i + 1 < infos->elements; i += 2) {
		struct rds_session key, *s;
		const struct redisReply *id = infos->element[i], *text = infos->element[i + 1];
		if (id->type != REDIS_REPLY_STRING || rds_parse_u64(id->str, id->len, &key.sid))
			continue;
		s = bsearch(&key, list, n, sizeof(*list), by_sid);
		if (s && text->type == REDIS_REPLY_STRING)
			rds_session_parse(text->str, text->len, s); /* a broken one is listed without its details */
	}
	*out = list;
	*count = n;
	list = NULL;
out:
	free(list);
	rds_reply_free(scores);
	rds_reply_free(infos);
	return rc;
}
