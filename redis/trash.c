#include "redis/trash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "redis/keys.h"
#include "util/clock.h"

/* ARGV: epoch parent name inode dir now. Everything is read and checked before the first write, as in apply.lua.
 * Answer: OK space inodes | word | BAD key */
static const char remove_lua[] =
	"local A, sub, fmt, floor, unp = ARGV, string.sub, string.format, math.floor, struct.unpack\n"
	"local wrong\n"
	"local function call(cmd, key, ...)\n"
	"  local r = redis.pcall(cmd, key, ...)\n"
	"  if type(r) == 'table' and r.err then wrong = key; error(r.err, 0) end\n"
	"  return r\n"
	"end\n"
	"local function int(v) if not v then return true end\n" /* and has room for what is added below */
	"  return string.find(v, '^%-?%d+$') and math.abs(tonumber(v)) < 9e18 end\n"
	"local function remove()\n"
	"local z = call('HMGET', 'zjfs', 'epoch', 'seq')\n"
	"if not z[1] then return {'NOKEY'} end\n"
	"if z[1] ~= A[1] then return {tonumber(z[1]) > tonumber(A[1]) and 'FENCED' or 'FORGOT'} end\n"
	"local P, D, I, now = A[2], 'd' .. A[2], A[4], tonumber(A[6])\n"
	"local e = call('HGET', D, A[3])\n"
	"if not e then return {'ENOENT'} end\n"
	"if #e ~= 9 then return {'BAD', D} end\n"
	"local typ, hi, lo = string.byte(e), unp('>I4I4', e, 2)\n"
	/* inode numbers of the trash are beyond what a Lua number holds exactly */
	"local id = hi == 2147483647 and '92233720' .. fmt('%011.0f', 32828243968 + lo - 268435456) or fmt('%.0f', hi * 4294967296 + lo)\n"
	"if id ~= I then return {'ENOENT'} end\n"
	"if A[5] == '1' and typ ~= 2 then return {'ENOTDIR'} end\n"
	"if A[5] ~= '1' and typ == 2 then return {'EISDIR'} end\n"
	"if typ == 2 and call('HLEN', 'd' .. I) > 0 then return {'ENOTEMPTY'} end\n"
	/* Numbers are exact up to 2^53, lengths go up to 2^57: whole pages, which are, and the rest. */
	"local rec, nlink, pages, rest = call('GET', 'i' .. I), 1, 0, 0\n"
	"if rec then\n"
	"  if #rec < 63 then return {'BAD', 'i' .. I} end\n"
	"  if string.byte(rec) % 4 > 0 then return {'EPERM'} end\n" /* immutable, append-only */
	"  nlink = unp('>I4', rec, 48)\n"
	"  hi, lo = unp('>I4I4', rec, 52)\n"
	"  rest = lo % 4096\n"
	"  pages = hi * 4294967296 + (lo - rest)\n"
	"end\n"
	"local space = typ == 1 and math.max(4096, pages + (rest > 0 and 4096 or 0)) or 4096\n"
	"local plain, prec = not (sub(P, 1, 8) == '92233720' and #P == 19), nil\n"
	"if plain then\n"
	"  prec = call('GET', 'i' .. P)\n"
	"  if prec and #prec < 63 then return {'BAD', 'i' .. P} end\n"
	"end\n"
	"local function touched(b, from)\n" /* mtime or ctime of a record: from there on */
	"  return sub(b, 1, from - 1) .. struct.pack('>I8I4', now, 0) .. sub(b, from + 12)\n"
	"end\n"
	"local function stat_ok(h) return int(call('HGET', h, P)) and int(call('HGET', h, I)) end\n"
	"for _, h in ipairs({'dirDataLength', 'dirUsedSpace', 'dirUsedInodes'}) do\n"
	"  if not stat_ok(h) then return {'BAD', h} end\n"
	"end\n"
	"local hasstat = call('HGET', 'dirUsedSpace', P)\n"
	"if not int(call('GET', 'usedSpace')) then return {'BAD', 'usedSpace'} end\n"
	"if not int(call('GET', 'totalInodes')) then return {'BAD', 'totalInodes'} end\n"
	"local linked = rec and sub(rec, 64, 71) == string.rep('\\0', 8)\n"
	"if linked and not int(call('HGET', 'p' .. I, P)) then return {'BAD', 'p' .. I} end\n"
	"local last = typ == 2 or nlink <= 1\n"
	"local owned = {}\n"
	"for at, kind in pairs(rec and last and {[4] = 'user', [8] = 'group'} or {}) do\n"
	"  local id, s, n = fmt('%.0f', unp('>I4', rec, at)), kind .. 'QuotaUsedSpace', kind .. 'QuotaUsedInodes'\n"
	"  if call('HEXISTS', n, id) == 1 then\n"
	"    if not (int(call('HGET', s, id)) and int(call('HGET', n, id))) then return {'BAD', s} end\n"
	"    owned[#owned + 1] = {s, id, fmt('%.0f', -space)}\n"
	"    owned[#owned + 1] = {n, id, '-1'}\n"
	"  end\n"
	"end\n"
	"local chunks, refs, lists, order = math.ceil((pages + (rest > 0 and 4096 or 0)) / 67108864), {}, {}, {}\n"
	"if last and typ == 1 and chunks <= 1000 then\n"
	"  for k = 0, chunks - 1 do\n"
	"    local key = fmt('c%s_%d', I, k)\n"
	"    local l = call('LRANGE', key, 0, -1)\n"
	"    if #l > 0 then lists[#lists + 1] = key end\n"
	"    for i = 1, #l do\n"
	"      if #l[i] ~= 24 then return {'BAD', key} end\n"
	"      local _, sid, size = unp('>I4I8I4', l[i])\n"
	"      if sid ~= 0 then\n"
	"        local f = fmt('k%.0f_%.0f', sid, size)\n"
	"        if not refs[f] then refs[f] = 0; order[#order + 1] = f end\n"
	"        refs[f] = refs[f] - 1\n"
	"      end\n"
	"    end\n"
	"  end\n"
	"  for i = 1, #order do\n"
	"    if not int(call('HGET', 'sliceRef', order[i])) then return {'BAD', 'sliceRef'} end\n"
	"  end\n"
	"  call('HLEN', 'zjfs.dead'); call('HLEN', 'zjfs.packs')\n"
	"elseif last and typ == 1 then call('ZCARD', 'delfiles') end\n"
	/* ---- nothing below can fail ---- */
	"call = redis.call\n"
	"call('HDEL', D, A[3])\n"
	"if hasstat then\n"
	"  if typ == 1 then\n"
	"    call('HINCRBY', 'dirDataLength', P, fmt('%.0f', 0 - pages))\n"
	"    call('HINCRBY', 'dirDataLength', P, fmt('%.0f', 0 - rest))\n"
	"  end\n"
	"  call('HINCRBY', 'dirUsedSpace', P, fmt('%.0f', -space))\n"
	"  call('HINCRBY', 'dirUsedInodes', P, '-1')\n"
	"end\n"
	"if prec then\n"
	"  prec = touched(touched(prec, 24), 36)\n"
	"  if typ == 2 then prec = sub(prec, 1, 47) .. struct.pack('>I4', math.max(2, unp('>I4', prec, 48) - 1)) .. sub(prec, 52) end\n"
	"  call('SET', 'i' .. P, prec)\n"
	"end\n"
	"if not last then\n"
	"  rec = touched(rec, 36)\n"
	"  call('SET', 'i' .. I, sub(rec, 1, 47) .. struct.pack('>I4', nlink - 1) .. sub(rec, 52))\n"
	"  if linked then call('HINCRBY', 'p' .. I, P, '-1') end\n"
	"  return {'OK', '0', '0'}\n"
	"end\n"
	"call('DEL', 'i' .. I, 'x' .. I, 'p' .. I, 's' .. I)\n"
	"if typ == 2 then\n"
	"  for _, h in ipairs({'dirDataLength', 'dirUsedSpace', 'dirUsedInodes', 'dirQuota', 'dirQuotaUsedSpace', 'dirQuotaUsedInodes'}) do\n"
	"    call('HDEL', h, I)\n"
	"  end\n"
	"elseif typ == 1 and chunks > 1000 then\n"
	"  local t = fmt('%010.0f', pages)\n" /* the last nine digits take the rest */
	"  local top, low = tonumber(sub(t, 1, -10)), tonumber(sub(t, -9)) + rest\n"
	"  if low >= 1000000000 then top, low = top + 1, low - 1000000000 end\n"
	"  call('ZADD', 'delfiles', A[6], I .. ':' .. (string.gsub(fmt('%.0f', top) .. fmt('%09.0f', low), '^0+(%d)', '%1')))\n"
	"end\n"
	"for i = 1, #lists do call('DEL', lists[i]) end\n"
	"local after = fmt('%.0f', (tonumber(z[2] or '0') or 0) + 1)\n"
	"for i = 1, #order do\n"
	"  local f = order[i]\n"
	"  local n = tonumber(call('HINCRBY', 'sliceRef', f, fmt('%.0f', refs[f])))\n"
	"  if n <= 0 then call('HDEL', 'sliceRef', f) end\n"
	"  if n < 0 then call('HSET', 'zjfs.dead', f, after); call('HDEL', 'zjfs.packs', f) end\n"
	"end\n"
	"for i = 1, #owned do call('HINCRBY', owned[i][1], owned[i][2], owned[i][3]) end\n"
	"call('INCRBY', 'usedSpace', fmt('%.0f', -space))\n"
	"call('INCRBY', 'totalInodes', '-1')\n"
	"return {'OK', fmt('%.0f', space), '1'}\n"
	"end\n"
	"local ok, r = pcall(remove)\n"
	"if not ok and wrong then return {'BAD', wrong} end\n" /* of another type than it should be; nothing was written yet */
	"if not ok then error(r, 0) end\n"
	"return r\n";

static int parse(const struct redisReply *r, struct trash_removal *t, struct errmsg *e)
{
	static const struct {
		const char *word;
		int err;
	} words[] = {{"ENOENT", -ENOENT}, {"ENOTDIR", -ENOTDIR}, {"EISDIR", -EISDIR}, {"ENOTEMPTY", -ENOTEMPTY}, {"EPERM", -EPERM},
		{"FENCED", -EKEYREVOKED}, {"FORGOT", -EAGAIN}, {"NOKEY", -ENODATA}};
	const char *text[3] = {"", "", ""};

	if (r->type != REDIS_REPLY_ARRAY || r->elements == 0)
		return errmsg_set(e, -EPROTO, "not an answer of the trash's script");
	for (size_t i = 0; i < r->elements && i < 3; i++)
		if (r->element[i]->str)
			text[i] = r->element[i]->str;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text[0], words[i].word) == 0)
			return errmsg_set(e, words[i].err, "%s", text[0]);
	if (strcmp(text[0], "BAD") == 0)
		return errmsg_set(e, -EUCLEAN, "key %s in Redis is damaged", text[1]);
	if (strcmp(text[0], "OK") != 0 || rds_parse_i64(text[1], strlen(text[1]), &t->space) ||
		rds_parse_i64(text[2], strlen(text[2]), &t->inodes))
		return errmsg_set(e, -EPROTO, "not an answer of the trash's script");
	return 0;
}

int rds_trash_remove(struct rds_conn *c, struct trash_removal *t, struct errmsg *e)
{
	char epoch[24], parent[24], ino[24], now[24];
	const char *argv[] = {epoch, parent, t->name, ino, t->dir ? "1" : "0", now};
	size_t lens[6];
	struct redisReply *r = NULL;
	struct rds_script s;

	snprintf(epoch, sizeof(epoch), "%" PRIu64, t->epoch);
	snprintf(parent, sizeof(parent), "%" PRIu64, t->parent);
	snprintf(ino, sizeof(ino), "%" PRIu64, t->ino);
	snprintf(now, sizeof(now), "%" PRId64, (int64_t)clock_wall_sec());
	for (size_t i = 0; i < 6; i++)
		lens[i] = strlen(argv[i]);
	rds_script_init(&s, remove_lua);
	int rc = rds_script_call(c, &s, &r, e, 0, 6, argv, lens);

	if (!rc)
		rc = parse(r, t, e);
	rds_reply_free(r);
	return rc;
}
