/* Plans and the script against a real redis-server: random histories cut at random window ends must leave what the model
 * says, with every count exact; and what a wrong type, a foreign entry or a wrong position leave: nothing. */
#include <errno.h>

#include "redis/coalesce.h"
#include "redis/pipeline.h"
#include "redis/script.h"
#include "tests/e2e/lib/replay_check.h"

static struct redis_here server;
static struct rds_conn *conn;
static struct rds_script apply;

#define PUB_MAX 512
struct driver {
	struct model *m;
	struct store *st;
	struct rds_position pos;
	bool pipeline;	    /* unsafe_batch: without the script */
	uint32_t pack_size; /* 0: no packing */
	uint64_t next_slice;
	struct {
		uint64_t ino;
		uint32_t chunk, n;
		uint8_t list[4096];
		bool used;
	} pub[PUB_MAX];
	struct {
		uint64_t ino;
		enum co_orphan state;
	} orphan[256];
	size_t orphans;
	struct {
		uint32_t off, len, slice_size, slice_off;
		uint64_t id;
	} smap[8192];
	size_t smaps;
};

static int cb_published(void *arg, uint64_t ino, uint32_t chunk, const uint8_t **list, uint32_t *n)
{
	struct driver *d = arg;

	for (int i = 0; i < PUB_MAX; i++) {
		if (d->pub[i].used && d->pub[i].ino == ino && d->pub[i].chunk == chunk) {
			*list = d->pub[i].list;
			*n = d->pub[i].n;
			return 0;
		}
	}
	return -ENOENT;
}

static void pub_set(struct driver *d, uint64_t ino, uint32_t chunk, const uint8_t *list, uint32_t n)
{
	int at = -1;

	for (int i = 0; i < PUB_MAX; i++)
		if (d->pub[i].used ? d->pub[i].ino == ino && d->pub[i].chunk == chunk : at < 0)
			at = i;
	REQUIRE(at >= 0 && n * 24 <= 4096);
	d->pub[at].used = true;
	d->pub[at].ino = ino;
	d->pub[at].chunk = chunk;
	d->pub[at].n = n;
	if (n)
		memcpy(d->pub[at].list, list, n * 24);
}

static void pub_load(struct driver *d, uint64_t ino, uint32_t chunk)
{
	redisReply *r = CK(conn, "LRANGE c%llu_%u 0 -1", (unsigned long long)ino, chunk);
	uint8_t list[4096];

	for (size_t i = 0; i < r->elements; i++)
		memcpy(list + 24 * i, r->element[i]->str, 24);
	pub_set(d, ino, chunk, list, (uint32_t)r->elements);
	rds_reply_free(r);
}

static enum co_orphan cb_orphan(void *arg, uint64_t ino)
{
	struct driver *d = arg;

	for (size_t i = 0; i < d->orphans; i++)
		if (d->orphan[i].ino == ino)
			return d->orphan[i].state;
	return CO_LIVE;
}

static uint64_t cb_slice(void *arg)
{
	return ((struct driver *)arg)->next_slice++;
}

static int cb_smap(void *arg, const struct slice_piece *s, uint32_t len, struct smap_hit *hit)
{
	struct driver *d = arg;

	for (size_t i = d->smaps; i-- > 0;) {
		uint32_t left;

		if (s->off < d->smap[i].off || s->off >= d->smap[i].off + d->smap[i].len)
			continue;
		left = d->smap[i].off + d->smap[i].len - s->off;
		*hit = (struct smap_hit){ d->smap[i].id, d->smap[i].slice_size, d->smap[i].slice_off + s->off - d->smap[i].off, left < len ? left : len };
		return 1;
	}
	return 0;
}

static void upload(struct driver *d, const struct slice_plan *s)
{
	struct ck_slice *o = &d->st->s[d->st->n++];
	uint32_t at = 0;

	*o = (struct ck_slice){ s->id, s->size, malloc(s->size) };
	REQUIRE(o->bytes);
	for (uint32_t i = 0; i < s->n; i++) {
		const struct slice_piece *p = &s->pieces[i];

		if (p->kind == PIECE_ZERO)
			memset(o->bytes + at, 0, p->len);
		else if (p->kind == PIECE_STAGED)
			memcpy(o->bytes + at, d->m->stage + p->off, p->len);
		else
			memcpy(o->bytes + at, store_get(d->st, p->slice_id)->bytes + p->slice_off, p->len);
		at += p->len;
	}
	REQUIRE(at == s->size);
}

static struct script_answer send(struct driver *d, const struct window_plan *p, int64_t oldest)
{
	struct script_ctx ctx = { .prev = d->pos, .seq = p->end, .sid = 7, .now = 1700000000, .oldest_ctime = oldest };
	struct script_answer ans;
	struct buf a;
	struct redisReply *r = NULL;
	struct errmsg e = { "" };
	int err;

	snprintf(ctx.chain, sizeof(ctx.chain), "%032llx", (unsigned long long)p->end);
	if (d->pipeline) {
		if (!rds_conn_ok(conn))
			REQUIRE(rds_reconnect(conn, &e) == 0);
		err = pipeline_apply(conn, p, &ctx, &ans, &e);
		if (err)
			fprintf(stderr, "pipeline: %s\n", e.text);
		REQUIRE(err == 0);
		if (ans.status == SCRIPT_OK) {
			d->pos.seq = p->end;
			strcpy(d->pos.chain, ctx.chain);
		}
		return ans;
	}
	REQUIRE(script_encode(p, &ctx, &a) == 0);
	err = rds_script_call(conn, &apply, &r, &e, 0, 1, (const char *[]){ (const char *)a.data }, &a.len);
	if (err)
		fprintf(stderr, "script: %s\n", e.text);
	REQUIRE(err == 0);
	REQUIRE(script_parse(r, &ans) == 0);
	if (ans.status == SCRIPT_OK) {
		d->pos.seq = p->end;
		strcpy(d->pos.chain, ctx.chain);
	}
	rds_reply_free(r);
	buf_fini(&a);
	return ans;
}

static void adopt(struct driver *d, const struct window_plan *p)
{
	for (size_t i = 0; i < p->posts.n; i++) {
		const struct pl_post *o = &p->posts.v[i];

		for (int k = 0; k < PUB_MAX && o->onward; k++)
			if (d->pub[k].used && d->pub[k].ino == o->ino && d->pub[k].chunk >= o->chunk)
				d->pub[k].used = false;
		if (!o->onward)
			pub_set(d, o->ino, o->chunk, o->records, o->n);
	}
	for (size_t i = 0; i < p->orphans.n; i++) {
		size_t k;

		for (k = 0; k < d->orphans && d->orphan[k].ino != p->orphans.v[i].ino; k++)
			;
		REQUIRE(k < 256);
		d->orphan[k].ino = p->orphans.v[i].ino;
		d->orphan[k].state = p->orphans.v[i].state;
		if (k == d->orphans)
			d->orphans++;
		if (d->orphan[k].state == CO_LIVE)
			d->orphan[k] = d->orphan[--d->orphans];
	}
	for (size_t i = 0; i < p->slices.n; i++) {
		const struct slice_plan *s = &p->slices.v[i].s;
		uint32_t at = 0;

		for (uint32_t k = 0; k < s->n; at += s->pieces[k++].len) {
			if (s->pieces[k].kind != PIECE_STAGED)
				continue;
			REQUIRE(d->smaps < 8192);
			d->smap[d->smaps].off = s->pieces[k].off;
			d->smap[d->smaps].len = s->pieces[k].len;
			d->smap[d->smaps].slice_size = s->size;
			d->smap[d->smaps].slice_off = at;
			d->smap[d->smaps++].id = s->id;
		}
	}
}

static struct window_plan *make_plan(struct driver *d, uint64_t from, uint64_t to, const struct window_plan *recorded)
{
	struct coalesce_in in = { d, cb_published, cb_smap, cb_orphan, cb_slice, .pack_below = d->pack_size / 2, .pack_size = d->pack_size };
	struct coalesce *co = coalesce_new();
	struct window_plan *p;
	int err;

	if (recorded) {
		in.recorded = recorded->slices.v;
		in.n_recorded = recorded->slices.n;
		in.recorded_posts = recorded->posts.v;
		in.n_recorded_posts = recorded->posts.n;
	}
	for (uint64_t s = from + 1; s <= to; s++)
		REQUIRE(coalesce_feed(co, s, d->m->log[s].data, d->m->log[s].len) == 0);
	while ((err = coalesce_plan(co, &in, from, to, &p)) == -EAGAIN) {
		REQUIRE(p->missing.n);
		for (size_t i = 0; i < p->missing.n; i++)
			pub_load(d, p->missing.v[i].ino, p->missing.v[i].chunk);
		plan_free(p);
	}
	REQUIRE(err == 0);
	coalesce_free(co);
	return p;
}

static void volume_new(void)
{
	uint8_t blob[JFS_ATTR_MAX];
	struct jfs_attr root = { .type = JFS_DIR, .mode = 0777, .nlink = 2, .length = 4096, .parent = 1 };
	size_t n = jfs_attr_encode(&root, blob);

	rds_reply_free(CK(conn, "FLUSHALL"));
	rds_reply_free(CK(conn, "SET i1 %b", blob, n));
	rds_reply_free(CK(conn, "HSET dirUsedSpace 1 0"));
	rds_reply_free(CK(conn, "HSET dirUsedInodes 1 0"));
	rds_reply_free(CK(conn, "HSET dirDataLength 1 0"));
	rds_reply_free(CK(conn, "HSET zjfs epoch 3 seq 0 chain start"));
}

static struct driver *driver_new(bool trash, uint64_t seed)
{
	struct driver *d = calloc(1, sizeof(*d));

	REQUIRE(d && (d->m = malloc(sizeof(*d->m))) && (d->st = calloc(1, sizeof(*d->st))));
	m_init(d->m, trash, seed);
	d->pos.epoch = 3;
	strcpy(d->pos.chain, "start");
	d->next_slice = 100;
	volume_new();
	return d;
}

static void driver_free(struct driver *d)
{
	for (size_t i = 0; i < d->st->n; i++)
		free(d->st->s[i].bytes);
	m_fini(d->m);
	free(d->m);
	free(d->st);
	free(d);
}

static void list_show(const char *what, const uint8_t *l, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fprintf(stderr, "    %s pos %u id %llu size %u off %u len %u\n", what, get_be32(l + 24 * i),
			(unsigned long long)get_be64(l + 24 * i + 4), get_be32(l + 24 * i + 12), get_be32(l + 24 * i + 16),
			get_be32(l + 24 * i + 20));
}

/* For finding out: SHOW=1. */
static void plan_show(const struct window_plan *p)
{
	for (size_t i = 0; i < p->inodes.n; i++)
		fprintf(stderr, "  inode %llu kind %d cut %d attr %d len %llu trash %u\n", (unsigned long long)p->inodes.v[i].ino,
			p->inodes.v[i].kind, (int)p->inodes.v[i].cut_chunks, p->inodes.v[i].has_attr,
			(unsigned long long)p->inodes.v[i].attr.length, p->inodes.v[i].n_trash);
	for (size_t i = 0; i < p->lists.n; i++) {
		const struct pl_list *l = &p->lists.v[i];

		fprintf(stderr, "  list %llu_%u kind %d new %d\n", (unsigned long long)l->ino, l->chunk, l->kind, l->new_inode);
		list_show("old", l->old, l->n_old);
		list_show("new", l->records, l->n_records);
	}
}

static bool same_posts(const struct window_plan *a, const struct window_plan *b)
{
	bool same = a->posts.n == b->posts.n;

	for (size_t i = 0; i < a->posts.n && same; i++) {
		const struct pl_post *p = &a->posts.v[i], *q = &b->posts.v[i];

		same = p->ino == q->ino && p->chunk == q->chunk && p->onward == q->onward && p->n == q->n &&
		       (!p->n || memcmp(p->records, q->records, (size_t)p->n * JFS_SLICE_LEN) == 0);
	}
	return same;
}

/* Applies the records up to `to` as one window and compares. */
static void window(struct driver *d, uint64_t to)
{
	struct window_plan *p = make_plan(d, d->pos.seq, to, NULL), *again = make_plan(d, d->pos.seq, to, p);
	struct script_answer ans;

	CHECK_EQ(p->slices.n, again->slices.n); /* a window that is built anew needs no other slices, and is the same */
	CHECK(same_posts(p, again));
	for (size_t i = 0; i < p->slices.n; i++)
		upload(d, &p->slices.v[i].s);
	if (m_rand(d->m, 2)) { /* and leaves the same */
		struct window_plan *t = p;

		p = again;
		again = t;
	}
	plan_free(again);
	ans = send(d, p, 0);
	if (getenv("SHOW") && atoi(getenv("SHOW")) > 1)
		fprintf(stderr, "window to %llu\n", (unsigned long long)to), plan_show(p);
	if (ans.status != SCRIPT_OK) {
		fprintf(stderr, "window to %llu: status %d key %s %s\n", (unsigned long long)to, ans.status, ans.key, (char *)ans.field);
		unit_failures++;
		if (getenv("SHOW"))
			plan_show(p);
	} else {
		adopt(d, p);
		check_redis(conn, &d->m->hist[to], d->st);
	}
	plan_free(p);
}

/* With `pack` small slices share others, of another size in each round. */
static void run_histories(bool pipeline, bool pack)
{
	uint64_t seed = unit_seed();
	int rounds = getenv("ROUNDS") ? atoi(getenv("ROUNDS")) : 12;

	for (int round = 0; round < rounds && !unit_failures; round++) {
		struct driver *d = driver_new(round & 1, seed + (uint64_t)round * 7919 + 1);
		d->pipeline = pipeline;
		d->pack_size = pack ? 4096u << (round % 8) : 0;
		uint64_t most = round % 3 == 0 ? 4 : round % 3 == 1 ? 40 : 250;

		while (d->m->seq < 600 && !unit_failures) {
			uint64_t stop = d->m->seq + 1 + m_rand(d->m, most);

			for (int tries = 0; d->m->seq < stop && tries < 5000; tries++)
				m_step(d->m);
			if (m_rand(d->m, 5) == 0)
				memset(d->pub, 0, sizeof(d->pub)); /* forgotten: loaded again */
			window(d, d->m->seq);
			if (unit_failures)
				fprintf(stderr, "round %d, window end %llu\n", round, (unsigned long long)d->m->seq);
		}
		driver_free(d);
	}
	CHECK(ck_longest > 4); /* where composing a short one would have cost too much */
}

static void random_histories(void)
{
	run_histories(false, false);
}

static void random_histories_without_the_script(void)
{
	run_histories(true, false);
}

static void random_histories_packed(void)
{
	run_histories(false, true);
}

#include "tests/e2e/lib/replay_histories.h"

int main(int argc, char **argv)
{
	struct unit_test tests[] = { { "random_histories", random_histories },
		{ "random_histories_without_the_script", random_histories_without_the_script },
		{ "random_histories_packed", random_histories_packed }, HISTORY_TESTS, { NULL, NULL } };
	int err;

	signal(SIGPIPE, SIG_IGN);
	redis_here_start(&server);
	conn = redis_here_connect(&server);
	rds_script_init(&apply, rds_apply_lua);
	err = unit_main(argc, argv, tests);
	rds_conn_free(conn);
	redis_here_end(&server);
	return err;
}
