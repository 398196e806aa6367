/* See repack.h. */
#include "redis/repack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/keys.h"
#include "redis/replayer_int.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define ITEMS	     1000  /* lists in a record */
#define RECORDS_MAX  20000 /* of the slices that one round takes, about */
#define PAUSE_MIN_MS 1000
#define STEP_REST    4 /* times as long as a step took, before the next one */

/* ARGV: cursor. Answers the next one, then field, records at first, records now of what has lost a quarter. */
static const char choose_lua[] =
	"local page = redis.call('HSCAN', 'zjfs.packs', ARGV[1], 'COUNT', '500')\n"
	"local out, l = {page[1]}, page[2]\n"
	"for i = 1, #l, 2 do\n"
	"  local now, first = (tonumber(redis.call('HGET', 'sliceRef', l[i]) or '0') or 0) + 1, tonumber(l[i + 1]) or 0\n"
	"  if now * 4 <= first * 3 then out[#out + 1] = l[i]; out[#out + 1] = l[i + 1]; out[#out + 1] = tostring(now) end\n"
	"end\n"
	"return out\n";

/* ARGV: cursor, slices. Answers the next one, then key, number of the slice, bytes. A key of another type is none of ours. */
static const char walk_lua[] =
	"local page, at = redis.call('SCAN', ARGV[1], 'MATCH', 'c[0-9]*_[0-9]*', 'COUNT', '500'), {}\n"
	"for i = 2, #ARGV do at[ARGV[i]] = i - 1 end\n"
	"local out = {page[1]}\n"
	"for _, key in ipairs(page[2]) do\n"
	"  local list, sum = redis.pcall('LRANGE', key, 0, -1), {}\n"
	"  for i = 1, list.err and 0 or #list do\n"
	"    if #list[i] == 24 then\n"
	"      local _, id, _, _, len = struct.unpack('>I4I8I4I4I4', list[i])\n"
	"      local k = at[string.format('%.0f', id)]\n"
	"      if k then sum[k] = (sum[k] or 0) + len end\n"
	"    end\n"
	"  end\n"
	"  for k, len in pairs(sum) do\n"
	"    out[#out + 1] = key; out[#out + 1] = tostring(k - 1); out[#out + 1] = string.format('%.0f', len)\n"
	"  end\n"
	"end\n"
	"return out\n";

/* ARGV: epoch, then field, records: how many there are now, 0: it is no longer watched. */
static const char done_lua[] =
	"if redis.call('HGET', 'zjfs', 'epoch') ~= ARGV[1] then return 0 end\n"
	"for i = 2, #ARGV, 2 do\n"
	"  if ARGV[i + 1] == '0' then redis.call('HDEL', 'zjfs.packs', ARGV[i])\n"
	"  elseif redis.call('HEXISTS', 'zjfs.packs', ARGV[i]) == 1 then redis.call('HSET', 'zjfs.packs', ARGV[i], ARGV[i + 1]) end\n"
	"end\n"
	"return 1\n";

struct args {
	VEC(const char *) v;
	VEC(size_t) n;
};

static int args_add(struct args *a, const char *s)
{
	const char **v = vec_push(&a->v);
	size_t *n = vec_push(&a->n);

	if (!v || !n)
		return -ENOMEM;
	*v = s;
	*n = strlen(s);
	return 0;
}

static void args_fini(struct args *a)
{
	vec_fini(&a->v);
	vec_fini(&a->n);
}

static int args_call(struct replayer *r, const char *lua, struct args *a, redisReply **out)
{
	struct rds_script s;
	struct errmsg e;
	int err;

	rds_script_init(&s, lua);
	err = rds_script_call(r->conn, &s, out, &e, 0, (int)a->v.n, a->v.v, a->n.v);
	args_fini(a);
	return err;
}

/* The answers of both walks: a cursor, then threes of strings. False: another shape. */
static bool threes(const redisReply *a)
{
	if (!a || a->type != REDIS_REPLY_ARRAY || a->elements % 3 != 1 || a->element[0]->len >= sizeof(((struct repack *)0)->cursor))
		return false;
	for (size_t i = 0; i < a->elements; i++)
		if (a->element[i]->type != REDIS_REPLY_STRING)
			return false;
	return true;
}

static int sparse_add(struct repack *rp, const redisReply *field, const char *now)
{
	struct sparse s = { .records = (uint32_t)strtoul(now, NULL, 10) }, *to;

	if (field->len >= sizeof(s.field) || rds_parse_slice_ref(field->str, field->len, &s.id, &s.size) != 0)
		return 0;
	memcpy(s.field, field->str, field->len);
	to = vec_push(&rp->sparse);
	if (!to)
		return -ENOMEM;
	*to = s;
	return 0;
}

static bool round_full(const struct repack *rp)
{
	uint64_t n = 0;

	for (size_t i = 0; i < rp->sparse.n; i++)
		n += rp->sparse.v[i].records;
	return n >= RECORDS_MAX;
}

/* Which slices are worth the walk. */
static int choose(struct replayer *r)
{
	struct repack *rp = &r->repack;
	struct args a = { 0 };
	redisReply *page = NULL;
	int err = args_add(&a, rp->cursor);

	if (!err)
		err = args_call(r, choose_lua, &a, &page);
	if (!err && !threes(page))
		err = -EPROTO;
	for (size_t i = 1; !err && i < page->elements && !round_full(rp); i += 3)
		err = sparse_add(rp, page->element[i], page->element[i + 2]->str);
	if (!err) {
		memcpy(rp->cursor, page->element[0]->str, page->element[0]->len + 1);
		if (strcmp(rp->cursor, "0") == 0 || round_full(rp)) {
			strcpy(rp->cursor, "0");
			rp->state = rp->sparse.n ? REPACK_WALK : REPACK_REST;
		}
	}
	rds_reply_free(page);
	return err;
}

static int held_add(struct repack *rp, const redisReply *key, const char *sparse, const char *bytes)
{
	struct held h = { .sparse = (uint32_t)strtoul(sparse, NULL, 10), .bytes = (uint32_t)strtoul(bytes, NULL, 10) }, *to;

	if (rds_parse_chunk_key(key->str, key->len, &h.ino, &h.chunk) != 0 || h.sparse >= rp->sparse.n)
		return 0;
	to = vec_push(&rp->held);
	if (!to)
		return -ENOMEM;
	*to = h;
	return 0;
}

static int by_list(const void *a, const void *b)
{
	const struct held *x = a, *y = b;

	if (x->sparse != y->sparse)
		return x->sparse < y->sparse ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

/* A walk may come by a key twice. */
static void held_sum(struct repack *rp)
{
	size_t out = 0;

	if (rp->held.n)
		qsort(rp->held.v, rp->held.n, sizeof(*rp->held.v), by_list);
	for (size_t i = 0; i < rp->held.n; i++) {
		if (out && by_list(&rp->held.v[out - 1], &rp->held.v[i]) == 0)
			continue;
		rp->held.v[out++] = rp->held.v[i];
		rp->sparse.v[rp->held.v[i].sparse].bytes += rp->held.v[i].bytes;
	}
	rp->held.n = out;
}

static bool under_half(const struct sparse *s)
{
	return s->bytes * 2 < s->size;
}

struct batch {
	size_t from, next;
};

static void fill_batch(struct replayer *r, struct rec *rec, void *arg)
{
	const struct repack *rp = &r->repack;
	struct batch *b = arg;
	size_t i = b->from;

	for (unsigned n = 0; i < rp->held.n && n < ITEMS; i++) {
		const struct held *h = &rp->held.v[i];

		if (!under_half(&rp->sparse.v[h->sparse]))
			continue;
		rec_repack(rec, h->ino, h->chunk, rp->sparse.v[h->sparse].id);
		n++;
	}
	b->next = i;
}

/* What is known now: the records first, then zjfs.packs. */
static int conclude(struct replayer *r)
{
	struct repack *rp = &r->repack;
	char epoch[24], (*counts)[12] = calloc(rp->sparse.n + 1, sizeof(*counts));
	struct batch b = { 0 };
	struct args a = { 0 };
	uint64_t seq = 0, moved = 0, slices = 0;
	int err = counts ? 0 : -ENOMEM;

	held_sum(rp);
	for (size_t i = 0; i < rp->held.n; i++)
		moved += under_half(&rp->sparse.v[rp->held.v[i].sparse]);
	for (; moved && b.from < rp->held.n && !err; b.from = b.next)
		err = commit_record(r, OP_COMPACT, fill_batch, &b, &seq);
	FAULT_POINT("redis.repack.before_durable");
	if (!err && seq)
		err = durable_wait(r, seq);
	FAULT_POINT("redis.repack.after_durable");
	snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)replayer_epoch(r));
	if (!err)
		err = args_add(&a, epoch);
	for (size_t i = 0; i < rp->sparse.n && !err; i++) {
		const struct sparse *s = &rp->sparse.v[i];

		snprintf(counts[i], sizeof(counts[i]), "%u", under_half(s) ? 0 : s->records);
		slices += under_half(s) && s->bytes;
		err = args_add(&a, s->field);
		if (!err)
			err = args_add(&a, counts[i]);
	}
	if (!err)
		err = args_call(r, done_lua, &a, NULL);
	else
		args_fini(&a);
	if (!err && moved)
		log_info("what=\"packs less than half live are emptied\" seq=%llu packs=%llu lists=%llu", (unsigned long long)seq,
			(unsigned long long)slices, (unsigned long long)moved);
	free(counts);
	return err;
}

static int walk(struct replayer *r)
{
	struct repack *rp = &r->repack;
	char (*ids)[24] = calloc(rp->sparse.n, sizeof(*ids));
	struct args a = { 0 };
	redisReply *page = NULL;
	int err = ids ? args_add(&a, rp->cursor) : -ENOMEM;

	for (size_t i = 0; i < rp->sparse.n && !err; i++) {
		snprintf(ids[i], sizeof(ids[i]), "%llu", (unsigned long long)rp->sparse.v[i].id);
		err = args_add(&a, ids[i]);
	}
	if (!err)
		err = args_call(r, walk_lua, &a, &page);
	else
		args_fini(&a);
	if (!err && !threes(page))
		err = -EPROTO;
	for (size_t i = 1; !err && i < page->elements; i += 3)
		err = held_add(rp, page->element[i], page->element[i + 1]->str, page->element[i + 2]->str);
	if (!err)
		memcpy(rp->cursor, page->element[0]->str, page->element[0]->len + 1);
	if (!err && strcmp(rp->cursor, "0") == 0) {
		rp->state = REPACK_REST;
		err = conclude(r);
	}
	rds_reply_free(page);
	free(ids);
	return err;
}

static uint64_t pause_ms(struct replayer *r)
{
	uint64_t ms;

	pthread_mutex_lock(&r->lock);
	ms = r->retention_ms / 3;
	pthread_mutex_unlock(&r->lock);
	ms = ms > PAUSE_MIN_MS ? ms : PAUSE_MIN_MS;
	return ms > 9 * r->repack.spent_ms ? ms : 9 * r->repack.spent_ms;
}

static void look_at(struct replayer *r, uint64_t ms)
{
	if (!r->look_at_ms || r->look_at_ms > ms)
		r->look_at_ms = ms;
}

void repack_step(struct replayer *r)
{
	struct repack *rp = &r->repack;
	uint64_t now = clock_mono_ms(), took;
	int err;

	if (!r->cfg.pack_below || !r->cfg.ops.delete_slice || !r->in_step || r->pending || r->rewound ||
		r->url.mode == RDS_UNSAFE_BATCH)
		return;
	if (rp->state == REPACK_REST && r->trim <= rp->trim)
		return;
	if (!rp->next_ms)
		rp->next_ms = now + pause_ms(r);
	if (now < rp->next_ms) {
		look_at(r, rp->next_ms);
		return;
	}
	if (rp->state == REPACK_REST) {
		rp->sparse.n = rp->held.n = 0;
		rp->spent_ms = 0;
		rp->trim = r->trim;
		strcpy(rp->cursor, "0");
		rp->state = REPACK_CHOOSE;
	}
	err = rp->state == REPACK_CHOOSE ? choose(r) : walk(r);
	took = clock_mono_ms() - now;
	rp->spent_ms += took;
	if (err) {
		log_debug("what=\"repacking is put off\" err=\"%s\"", strerror(-err));
		rp->state = REPACK_REST;
		rp->trim = 0;
	}
	rp->next_ms = now + took + (rp->state == REPACK_REST ? pause_ms(r) : 1 + STEP_REST * took);
	look_at(r, rp->next_ms);
}

void repack_fini(struct repack *rp)
{
	vec_fini(&rp->sparse);
	vec_fini(&rp->held);
}
