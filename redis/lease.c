#include "redis/lease.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "redis/keys.h"
#include "util/clock.h"

/* ARGV: holder journal host dir min_epoch takeover own_history start_seq start_chain now
 * Answer: status epoch seq chain new_history replaced_epoch replaced_holder host dir seen backlog, seq and chain before */
static const char acquire_lua[] =
	"local f = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'released', 'journal', 'seq', 'chain', 'host', 'dir', 'seen', 'backlog')\n"
	"for i = 1, 10 do if not f[i] then f[i] = '' end end\n"
	"local epoch = tonumber(f[1]) or 0\n"
	"local function answer(status, e, seq, chain, new)\n"
	"  return {status, tostring(e), seq, chain, new, f[1] == '' and '0' or f[1], f[2], f[7], f[8], f[9], f[10], f[5], f[6]}\n"
	"end\n"
	"local own = ARGV[7] == '1'\n"
	"if f[1] == '' and own then return answer('GONE', 0, '0', '', '0') end\n"
	"local mine = f[2] == ARGV[1]\n"
	"if f[1] ~= '' and f[3] ~= '1' and not mine and ARGV[6] ~= '1' then return answer('HELD', epoch, f[5], f[6], '0') end\n"
	"local same = f[4] == ARGV[2]\n"
	"if own and not same then return answer('OTHER', epoch, f[5], f[6], '0') end\n"
	"if own and (tonumber(f[5]) or 0) > tonumber(ARGV[8]) then return answer('AHEAD', epoch, f[5], f[6], '0') end\n"
	"local new = math.max(epoch, tonumber(ARGV[5])) + 1\n"
	"redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', new), 'holder', ARGV[1], 'host', ARGV[3], 'dir', ARGV[4],\n"
	"  'seen', ARGV[10], 'released', '0')\n"
	"if same and own then return answer('OK', string.format('%.0f', new), f[5], f[6], '0') end\n"
	"redis.call('HSET', KEYS[1], 'journal', ARGV[2], 'seq', ARGV[8], 'chain', ARGV[9], 'backlog', '0')\n"
	"return answer('OK', string.format('%.0f', new), ARGV[8], ARGV[9], '1')\n";

/* ARGV: holder journal host dir epoch nonce now */
static const char resume_lua[] =
	"local f = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'journal', 'seq', 'chain', 'resumed')\n"
	"for i = 1, 6 do if not f[i] then f[i] = '' end end\n"
	"local new = string.format('%.0f', tonumber(ARGV[5]) + 1)\n"
	"if f[2] ~= ARGV[1] or f[3] ~= ARGV[2] then return {'NO', f[1], f[4], f[5]} end\n"
	"if f[1] == new and f[6] == ARGV[6] then return {'OK', new, f[4], f[5]} end\n"
	"if f[1] ~= ARGV[5] then return {'NO', f[1], f[4], f[5]} end\n"
	"redis.call('HSET', KEYS[1], 'epoch', new, 'host', ARGV[3], 'dir', ARGV[4], 'seen', ARGV[7], 'released', '0', 'resumed', ARGV[6])\n"
	"return {'OK', new, f[4], f[5]}\n";

/* KEYS: zjfs nextinode nextchunk. ARGV: holder epoch replaced_holder replaced_epoch inode_end slice_end now backlog host dir journal, and of a new
 * history: seq and chain that it found, seq and chain that it began with ("": none) */
static const char beat_lua[] =
	"local f = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'seq', 'chain')\n"
	"local epoch = tonumber(f[1] or '') or 0\n"
	"local mine = tonumber(ARGV[2])\n"
	"local function answer(s) return {s, f[1] or '0', f[3] or '0', f[4] or ''} end\n"
	"local function raise()\n" /* the tail that Redis lost may have held an allocation, and not the lease */
	"  for i = 2, 3 do\n"
	"    local have = tonumber(redis.call('GET', KEYS[i]) or '0') or 0\n"
	"    local want = tonumber(ARGV[3 + i])\n"
	"    if have < want then redis.call('INCRBY', KEYS[i], string.format('%.0f', want - have)) end\n"
	"  end\n"
	"end\n"
	"if epoch > mine then return answer('FENCED') end\n"
	"if epoch < mine then\n"
	"  if f[1] == false then return answer('REFUSED') end\n"
	"  if not (f[2] == ARGV[1] or (f[2] == ARGV[3] and f[1] == ARGV[4])) then return answer('REFUSED') end\n"
	"  if ARGV[14] ~= '' and f[2] == ARGV[3] and f[1] == ARGV[4] then\n"
	"    if (f[3] or '') ~= ARGV[12] or (f[4] or '') ~= ARGV[13] then return answer('REFUSED') end\n"
	"    f[3], f[4] = ARGV[14], ARGV[15]\n"
	"    redis.call('HSET', KEYS[1], 'journal', ARGV[11], 'seq', f[3], 'chain', f[4])\n"
	"  end\n"
	"  redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'holder', ARGV[1], 'host', ARGV[9], 'dir', ARGV[10], 'released', '0', 'seen', ARGV[7])\n"
	"  raise()\n"
	"  f[1] = ARGV[2]\n"
	"  return answer('HEALED')\n"
	"end\n"
	"if f[2] ~= ARGV[1] then return answer('FENCED') end\n"
	"raise()\n"
	"redis.call('HSET', KEYS[1], 'seen', ARGV[7], 'backlog', ARGV[8])\n"
	"return answer('OK')\n";

/* ARGV: epoch released backlog now */
static const char release_lua[] =
	"if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end\n"
	"redis.call('HSET', KEYS[1], 'released', ARGV[2], 'backlog', ARGV[3], 'seen', ARGV[4])\n"
	"return 1\n";

/* KEYS: zjfs counter. ARGV: epoch n least. What was given to us before lies at or below least. */
static const char alloc_lua[] =
	"if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return false end\n"
	"local have, least = tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[3])\n"
	"if have and have < least then redis.call('INCRBY', KEYS[2], string.format('%.0f', least - have)) end\n"
	"return string.format('%.0f', redis.call('INCRBY', KEYS[2], ARGV[2]))\n";

struct call {
	const char *argv[24];
	size_t lens[24];
	int n;
	char numbers[16][24];
	int used;
};

static void call_str(struct call *c, const char *s)
{
	c->argv[c->n] = s;
	c->lens[c->n++] = strlen(s);
}

static void call_num(struct call *c, int64_t v)
{
	char *s = c->numbers[c->used++];

	snprintf(s, sizeof(c->numbers[0]), "%" PRId64, v);
	call_str(c, s);
}

static int run_script(struct rds_conn *c, const char *text, int nkeys, struct call *args, struct redisReply **out, struct errmsg *e)
{
	struct rds_script s;

	rds_script_init(&s, text);
	return rds_script_call(c, &s, out, e, nkeys, args->n, args->argv, args->lens);
}

/* Text of element i of an array answer; "" for nil. */
static void reply_text(const struct redisReply *r, size_t i, char *out, size_t size)
{
	out[0] = 0;
	if (r && r->type == REDIS_REPLY_ARRAY && i < r->elements && r->element[i]->str &&
		(r->element[i]->type == REDIS_REPLY_STRING || r->element[i]->type == REDIS_REPLY_STATUS))
		snprintf(out, size, "%s", r->element[i]->str);
}

static int reply_number(const struct redisReply *r, size_t i, int64_t *out)
{
	char text[32];

	reply_text(r, i, text, sizeof(text));
	*out = 0;
	return text[0] ? rds_parse_i64(text, strlen(text), out) : 0;
}

static int reply_position(const struct redisReply *r, size_t first, struct rds_position *pos)
{
	int64_t epoch, seq;

	if (reply_number(r, first, &epoch) || reply_number(r, first + 1, &seq) || epoch < 0 || seq < 0)
		return -EUCLEAN;
	pos->epoch = (uint64_t)epoch;
	pos->seq = (uint64_t)seq;
	reply_text(r, first + 2, pos->chain, sizeof(pos->chain));
	return 0;
}

int rds_position_parse(const struct redisReply *r, struct rds_position *pos)
{
	memset(pos, 0, sizeof(*pos));
	if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 3)
		return -EUCLEAN;
	return reply_position(r, 0, pos);
}

static int damaged(struct errmsg *e)
{
	return errmsg_set(e, -EUCLEAN, "the private key %s in Redis holds foreign bytes: it was not written by jfs", RDS_PRIVATE_KEY);
}

void lease_id_fill(struct lease_id *id, const char *cache_id, const char *cache_dir)
{
	char machine[64] = "", *real = realpath(cache_dir, NULL);
	FILE *f = fopen("/etc/machine-id", "re");

	if (f) {
		if (!fgets(machine, sizeof(machine), f))
			machine[0] = 0;
		machine[strcspn(machine, "\n")] = 0;
		fclose(f);
	}
	if (gethostname(id->host, sizeof(id->host)))
		snprintf(id->host, sizeof(id->host), "unknown");
	id->host[sizeof(id->host) - 1] = 0;
	snprintf(id->dir, sizeof(id->dir), "%s", real ? real : cache_dir);
	snprintf(id->journal, sizeof(id->journal), "%s", cache_id);
	snprintf(id->holder, sizeof(id->holder), "%.40s/%.40s/%016" PRIx64, machine[0] ? machine : id->host, cache_id,
		(uint64_t)XXH3_64bits(id->dir, strlen(id->dir)));
	free(real);
}

int lease_acquire(struct rds_conn *c, const struct lease_want *w, struct lease_state *st, struct errmsg *e)
{
	static const struct {
		const char *name;
		enum lease_status status;
	} words[] = {{"OK", LEASE_OK}, {"HELD", LEASE_HELD}, {"OTHER", LEASE_OTHER_HISTORY}, {"GONE", LEASE_GONE},
		{"AHEAD", LEASE_AHEAD}};
	struct redisReply *r = NULL;
	struct call a = {0};
	char text[64];
	int64_t n;
	int rc;

	memset(st, 0, sizeof(*st));
	call_str(&a, RDS_PRIVATE_KEY);
	call_str(&a, w->id.holder);
	call_str(&a, w->id.journal);
	call_str(&a, w->id.host);
	call_str(&a, w->id.dir);
	call_num(&a, (int64_t)w->min_epoch);
	call_str(&a, w->takeover ? "1" : "0");
	call_str(&a, w->own_history ? "1" : "0");
	call_num(&a, (int64_t)w->start_seq);
	call_str(&a, w->start_chain);
	call_num(&a, clock_wall_sec());
	rc = run_script(c, acquire_lua, 1, &a, &r, e);
	if (rc)
		goto out;
	if (r->type != REDIS_REPLY_ARRAY || r->elements != 13 || reply_position(r, 1, &st->pos)) {
		rc = damaged(e);
		goto out;
	}
	reply_text(r, 0, text, sizeof(text));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i].name) == 0)
			st->status = words[i].status;
	reply_text(r, 4, text, sizeof(text));
	st->new_history = text[0] == '1';
	reply_text(r, 6, st->replaced_holder, sizeof(st->replaced_holder));
	reply_text(r, 7, st->host, sizeof(st->host));
	reply_text(r, 8, st->dir, sizeof(st->dir));
	if (reply_number(r, 5, &n) || reply_number(r, 9, &st->seen) || reply_number(r, 10, &st->backlog)) {
		rc = damaged(e);
		goto out;
	}
	st->replaced_epoch = (uint64_t)n;
	if (reply_number(r, 11, &n))
		rc = damaged(e);
	st->replaced.seq = (uint64_t)n;
	reply_text(r, 12, st->replaced.chain, sizeof(st->replaced.chain));
out:
	rds_reply_free(r);
	return rc;
}

void lease_refusal(const struct lease_state *st, struct errmsg *e)
{
	char when[64] = "at an unknown time";
	time_t t = (time_t)st->seen;
	struct tm tm;

	if (t > 0 && gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	switch (st->status) {
	case LEASE_HELD:
		errmsg_set(e, -EBUSY,
			"the volume is held by host %s, cache directory %s, last seen %s, which may hold %" PRId64
			" operations that are not in Redis yet: unmount it there (jfs umount --flush), mount with that cache "
			"directory, or give up its unreplayed work with --takeover",
			st->host, st->dir, when, st->backlog);
		break;
	case LEASE_OTHER_HISTORY:
		errmsg_set(e, -EKEYREVOKED,
			"another mount (host %s, cache directory %s, last seen %s) took the volume over while this journal still held "
			"work: save it with jfs-recover export, then mount with an empty cache directory, or bring it in with jfs-recover rebase",
			st->host, st->dir, when);
		break;
	case LEASE_GONE:
		errmsg_set(e, -EKEYREVOKED,
			"the volume's Redis database does not know this journal any more (it was reloaded or flushed): run jfs-recover "
			"check, then jfs-recover rebase, which brings back what this journal knows");
		break;
	case LEASE_AHEAD:
		errmsg_set(e, -EKEYREVOKED,
			"Redis is ahead of this journal, which is an old copy of the one that host %s used last (%s, in cache directory %s): "
			"mount with that one, or with an empty cache directory",
			st->host, when, st->dir);
		break;
	default:
		errmsg_set(e, 0, "the lease is ours");
	}
}

int lease_resume(struct rds_conn *c, const struct lease_id *id, uint64_t epoch, const char *nonce, struct rds_position *pos,
	struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct call a = {0};
	char text[16];

	call_str(&a, RDS_PRIVATE_KEY);
	call_str(&a, id->holder);
	call_str(&a, id->journal);
	call_str(&a, id->host);
	call_str(&a, id->dir);
	call_num(&a, (int64_t)epoch);
	call_str(&a, nonce);
	call_num(&a, clock_wall_sec());
	int rc = run_script(c, resume_lua, 1, &a, &r, e);
	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements != 4 || reply_position(r, 1, pos)))
		rc = damaged(e);
	if (!rc) {
		reply_text(r, 0, text, sizeof(text));
		if (strcmp(text, "OK") != 0)
			rc = errmsg_set(e, -EKEYREVOKED, "the lease is not as this journal left it (epoch %" PRIu64 " instead of %" PRIu64
				")", pos->epoch, epoch);
	}
	rds_reply_free(r);
	return rc;
}

int lease_heartbeat(struct rds_conn *c, const struct lease_beat_arg *b, enum lease_beat *beat, struct rds_position *pos, struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct call a = {0};
	char text[16];
	int rc;

	call_str(&a, RDS_PRIVATE_KEY);
	call_str(&a, RDS_NEXT_INODE);
	call_str(&a, RDS_NEXT_CHUNK);
	call_str(&a, b->id->holder);
	call_num(&a, (int64_t)b->epoch);
	call_str(&a, b->replaced_holder ? b->replaced_holder : "");
	call_num(&a, (int64_t)b->replaced_epoch);
	call_num(&a, (int64_t)b->inode_end);
	call_num(&a, (int64_t)b->slice_end);
	call_num(&a, clock_wall_sec());
	call_num(&a, (int64_t)b->backlog);
	call_str(&a, b->id->host);
	call_str(&a, b->id->dir);
	call_str(&a, b->id->journal);
	if (b->found) {
		call_num(&a, (int64_t)b->found->seq);
		call_str(&a, b->found->chain);
		call_num(&a, (int64_t)b->start->seq);
		call_str(&a, b->start->chain);
	} else {
		for (int i = 0; i < 4; i++)
			call_str(&a, "");
	}
	rc = run_script(c, beat_lua, 3, &a, &r, e);
	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements != 4 || reply_position(r, 1, pos)))
		rc = damaged(e);
	if (!rc) {
		reply_text(r, 0, text, sizeof(text));
		*beat = strcmp(text, "OK") == 0	     ? BEAT_OK
			: strcmp(text, "FENCED") == 0 ? BEAT_FENCED
			: strcmp(text, "HEALED") == 0 ? BEAT_FORGOT_HEALED
						      : BEAT_REFUSED;
	}
	rds_reply_free(r);
	return rc;
}

int lease_release(struct rds_conn *c, uint64_t epoch, bool drained, uint64_t backlog, struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct call a = {0};
	int rc;

	call_str(&a, RDS_PRIVATE_KEY);
	call_num(&a, (int64_t)epoch);
	call_str(&a, drained ? "1" : "0");
	call_num(&a, (int64_t)backlog);
	call_num(&a, clock_wall_sec());
	rc = run_script(c, release_lua, 1, &a, &r, e);
	rds_reply_free(r);
	return rc;
}

int lease_read(struct rds_conn *c, struct lease_state *st, bool *released, struct errmsg *e)
{
	struct redisReply *r = NULL;
	char text[16];
	int rc;

	memset(st, 0, sizeof(*st));
	rc = rds_cmd(c, &r, e, "HMGET %s epoch seq chain host dir seen backlog released journal", RDS_PRIVATE_KEY);
	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements != 9 || reply_position(r, 0, &st->pos) ||
			   reply_number(r, 5, &st->seen) || reply_number(r, 6, &st->backlog)))
		rc = damaged(e);
	if (!rc) {
		reply_text(r, 3, st->host, sizeof(st->host));
		reply_text(r, 4, st->dir, sizeof(st->dir));
		reply_text(r, 8, st->journal, sizeof(st->journal));
		reply_text(r, 7, text, sizeof(text));
		*released = text[0] == '1';
		if (st->pos.epoch == 0)
			rc = -ENOENT;
	}
	rds_reply_free(r);
	return rc;
}

int lease_alloc_ids(struct rds_conn *c, uint64_t epoch, const char *counter, uint64_t n, uint64_t least, uint64_t *first,
	struct errmsg *e)
{
	struct redisReply *r = NULL;
	struct call a = {0};
	uint64_t last;
	int rc;

	call_str(&a, RDS_PRIVATE_KEY);
	call_str(&a, counter);
	call_num(&a, (int64_t)epoch);
	call_num(&a, (int64_t)n);
	call_num(&a, (int64_t)least);
	rc = run_script(c, alloc_lua, 2, &a, &r, e);
	if (!rc && r->type == REDIS_REPLY_NIL)
		rc = errmsg_set(e, -EKEYREVOKED, "another mount took the volume over");
	else if (!rc && (r->type != REDIS_REPLY_STRING || rds_parse_u64(r->str, r->len, &last) || last < n))
		rc = errmsg_set(e, -EUCLEAN, "the counter %s in Redis is not a number that fits", counter);
	if (!rc)
		*first = last - n + 1;
	rds_reply_free(r);
	return rc;
}

int lease_raise_counters(struct rds_conn *c, uint64_t inode, uint64_t slice, struct errmsg *e)
{
	static const char lua[] = "for i = 1, 2 do\n"
				  "  local lacks = tonumber(ARGV[i]) - (tonumber(redis.call('GET', KEYS[i]) or '0') or 0)\n"
				  "  if lacks > 0 then redis.call('INCRBY', KEYS[i], string.format('%.0f', lacks)) end\n"
				  "end\n"
				  "return 'OK'\n";
	struct redisReply *r = NULL;
	struct call a = {0};
	int rc;

	call_str(&a, RDS_NEXT_INODE);
	call_str(&a, RDS_NEXT_CHUNK);
	call_num(&a, (int64_t)inode);
	call_num(&a, (int64_t)slice);
	rc = run_script(c, lua, 2, &a, &r, e);
	rds_reply_free(r);
	return rc;
}

int lease_counters(struct rds_conn *c, int64_t *space, int64_t *inodes, struct rds_position *pos, struct errmsg *e)
{
	static const char lua[] = "local f = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'chain')\n"
				  "local g = redis.call('MGET', KEYS[2], KEYS[3])\n"
				  "return {f[1] or '0', f[2] or '0', f[3] or '', g[1] or '0', g[2] or '0'}\n";
	struct redisReply *r = NULL;
	struct call a = {0};
	int rc;

	call_str(&a, RDS_PRIVATE_KEY);
	call_str(&a, RDS_USED_SPACE);
	call_str(&a, RDS_TOTAL_INODES);
	rc = run_script(c, lua, 3, &a, &r, e);
	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements != 5 || reply_position(r, 0, pos) ||
			   reply_number(r, 3, space) || reply_number(r, 4, inodes)))
		rc = errmsg_set(e, -EUCLEAN, "usedSpace or totalInodes in Redis is not a number");
	rds_reply_free(r);
	return rc;
}
