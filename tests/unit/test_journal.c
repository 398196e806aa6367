#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/journal_history.h"
#include "tests/unit/journal_kit.h"

static void open_close(void)
{
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	CHECK(k.rep.fresh && !k.rep.clean && !k.rep.power_cut && !k.rep.moved && k.rep.recovered == 0);
	CHECK_EQ(strlen(journal_cache_id(k.j)), 32);
	CHECK_EQ(kit_set(&k, 1, "one"), 1);
	CHECK_EQ(kit_set(&k, 2, "two"), 2);
	kit_expect(&k, 1, "one");
	CHECK_EQ(journal_mark(k.j, WM_COMMITTED), 2);
	kit_close(&k);
	kit_open(&k);
	CHECK(!k.rep.fresh && k.rep.clean && !k.rep.power_cut && k.rep.recovered == 0);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 2);
	kit_expect(&k, 1, "one");
	kit_expect(&k, 2, "two");
	CHECK_EQ(kit_set(&k, 1, NULL), 3);
	CHECK_EQ(kit_probe(&k, 1), -EKEYREVOKED);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, 3), 0);
	CHECK_EQ(kit_probe(&k, 1), -EKEYREVOKED);
	CHECK_EQ(kit_probe(&k, 77), -ENOENT);
	kit_kill(&k);
	kit_open(&k);
	CHECK(!k.rep.clean && !k.rep.power_cut && k.rep.dropped == 0);
	CHECK_EQ(kit_probe(&k, 1), -EKEYREVOKED);
	kit_close(&k);
	kit_fini(&k);
}

static void kill_keeps_everything(void)
{
	int64_t space, inodes;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	for (int i = 0; i < 1000; i++)
		kit_set(&k, (uint64_t)i % 100, i % 3 ? "value" : NULL);
	kit_set(&k, 1, "last");
	kit_kill(&k);
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 1001);
	CHECK_EQ(k.rep.dropped, 0);
	kit_expect(&k, 1, "last");
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 1001);
	journal_lock(k.j);
	journal_stats(k.j, &space, &inodes);
	journal_unlock(k.j);
	CHECK_EQ(space, 1001);
	CHECK_EQ(inodes, 1001);
	CHECK_EQ(kit_set(&k, 5, "more"), 1002);
	kit_close(&k);
	kit_fini(&k);
}

/* --- the view against a model --- */

enum { IDS = 48 };

struct model {
	int state[IDS]; /* 0 unknown, 1 value, 2 tombstone */
	uint32_t val[IDS];
	uint64_t ops;
};

static void model_compare(struct kit *k, const struct model *m, uint64_t from)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	struct jkey start;
	size_t kn, vn;
	uint64_t id = from;
	int rc;

	key_symlink(&start, from);
	journal_lock(k->j);
	it = view_seek(k->j, &start, 1);
	REQUIRE(it);
	while ((rc = view_step(it, &key, &kn, &val, &vn)) == 1) {
		uint64_t ino;

		REQUIRE(key_parse_ino(key, kn, &ino) == 0 && ino < IDS);
		for (; id < ino; id++)
			CHECK(m->state[id] != 1);
		CHECK(m->state[ino] == 1 && vn == 4 && memcmp(val, &m->val[ino], 4) == 0);
		id = ino + 1;
	}
	CHECK_EQ(rc, 0);
	for (; id < IDS; id++)
		CHECK(m->state[id] != 1);
	view_end(it);
	for (uint64_t i = 0; i < IDS; i++) {
		const void *v;

		key_symlink(&start, i);
		rc = view_probe(k->j, &start, &v, &vn);
		CHECK_EQ(rc, m->state[i] == 1 ? 0 : m->state[i] == 2 ? -EKEYREVOKED : -ENOENT);
		if (!rc)
			CHECK(vn == 4 && memcmp(v, &m->val[i], 4) == 0);
	}
	journal_unlock(k->j);
}

static void random_history_against_model(void)
{
	uint64_t seed = unit_seed(), last = 0;
	struct model m = {.ops = 0};
	struct journal_figures f;
	int64_t space, inodes;
	struct kit k;

	kit_init(&k);
	k.cfg.hot_size = 256 << 10;
	k.cfg.sync_interval_ms = 1;
	kit_open(&k);
	for (int i = 0; i < 6000; i++) {
		uint64_t id = unit_rand(&seed) % IDS, what = unit_rand(&seed) % 100;

		if (what < 60) {
			m.val[id] = (uint32_t)unit_rand(&seed);
			m.state[id] = 1;
			last = kit_set_flags(&k, id, &m.val[id], 4, 0, 1);
		} else if (what < 90) {
			bool forget = what > 80;

			m.state[id] = forget ? 0 : 2;
			last = kit_set_flags(&k, id, NULL, 0, forget ? IF_FORGET : 0, 1);
		} else if (what < 98) {
			model_compare(&k, &m, unit_rand(&seed) % IDS);
			continue;
		} else if (what < 99) {
			CHECK_EQ(journal_wait(k.j, WM_DURABLE, last), 0);
			continue;
		} else if (unit_rand(&seed) % 2) {
			kit_kill(&k);
			kit_open(&k);
			CHECK(k.rep.dropped == 0);
			continue;
		} else {
			kit_close(&k);
			kit_open(&k);
			CHECK(k.rep.clean && k.rep.recovered == 0);
			continue;
		}
		m.ops++;
		CHECK_EQ(last, m.ops);
	}
	model_compare(&k, &m, 0);
	journal_lock(k.j);
	journal_stats(k.j, &space, &inodes);
	journal_unlock(k.j);
	CHECK_EQ(space, m.ops);
	CHECK_EQ(inodes, m.ops);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, last), 0);
	journal_figures(k.j, &f);
	CHECK_EQ(f.log_records, m.ops);
	kit_close(&k);
	kit_fini(&k);
}

static int scan_count(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *next = arg;
	struct rec_header h;
	struct rec_reader it;

	CHECK_EQ(rec_open(rec, len, &h, &it), 0);
	CHECK(h.op < OP_INTERNAL);
	CHECK(seq >= *next);
	*next = seq + 1;
	return 0;
}

static int scan_stop(void *arg, uint64_t seq, const void *rec, size_t len)
{
	(void)arg, (void)rec, (void)len;
	return seq == 5 ? 42 : 0;
}

static int base_count(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	(void)key, (void)klen, (void)val, (void)vlen;
	++*(int *)arg;
	return 0;
}

static uint64_t put_meta(struct kit *k, enum rec_op op, const char *name, uint64_t v)
{
	uint8_t b[8];
	struct jkey key;
	uint64_t seq = 0;

	put_be64(b, v);
	key_meta(&key, name);
	journal_lock(k->j);
	rec_put(journal_begin(k->j, op), &key, b, 8, 0);
	CHECK_EQ(journal_commit(k->j, &seq), 0);
	journal_unlock(k->j);
	return seq;
}

static void the_log(void)
{
	struct buf b;
	struct jkey key;
	uint64_t next = 1, last;
	uint8_t prefix = T_SYMLINK;
	int n = 0;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	for (uint64_t i = 0; i < 10; i++)
		kit_set(&k, i, "x");
	last = put_meta(&k, OP_META, "something", 7);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, last), 0);
	CHECK_EQ(journal_log_scan(k.j, 0, UINT64_MAX, scan_count, &next), 0);
	CHECK_EQ(next, 11); /* the eleventh is ours alone */
	next = 4;
	CHECK_EQ(journal_log_scan(k.j, 3, 6, scan_count, &next), 0);
	CHECK_EQ(next, 7);
	CHECK_EQ(journal_log_scan(k.j, 0, UINT64_MAX, scan_stop, NULL), 42);
	CHECK_EQ(journal_base_scan(k.j, &prefix, 1, base_count, &n), 0);
	CHECK_EQ(n, 10);
	buf_init(&b, 0);
	key_symlink(&key, 3);
	CHECK(journal_base_get(k.j, &key, &b) == 0 && b.len == 1 && b.data[0] == 'x');
	key_symlink(&key, 33);
	CHECK_EQ(journal_base_get(k.j, &key, &b), -ENOENT);
	buf_fini(&b);
	kit_close(&k);
	kit_fini(&k);
}

/* Flushes until trim is through. */
static void trim_to(struct kit *k, uint64_t seq)
{
	struct journal_figures f;
	uint64_t last = put_meta(k, OP_TRIM, "trim", seq);

	CHECK_EQ(journal_wait(k->j, WM_DURABLE, last), 0);
	for (int i = 0; i < 1000; i++) {
		journal_figures(k->j, &f);
		if (f.log_records <= last - seq)
			break;
		kit_set(k, 1000, "again");
		CHECK_EQ(journal_wait(k->j, WM_DURABLE, ++last), 0);
	}
	CHECK(f.log_records <= last - seq);
}

static void trim_frees_the_log_and_tombstones(void)
{
	struct smap_val smap = {.len = 1, .slice_id = 1, .slice_size = 1, .window_end = 3};
	uint8_t v[SMAP_VAL_LEN];
	struct jkey key, last;
	uint64_t seq, next = 0;
	struct buf b;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	for (uint64_t i = 0; i < 20; i++)
		kit_set(&k, i, "x");
	for (uint64_t i = 0; i < 10; i++)
		seq = kit_set(&k, i, NULL);
	smap_val_encode(&smap, v);
	journal_lock(k.j);
	key_smap(&key, 1, 0);
	rec_put(journal_begin(k.j, OP_WINDOW), &key, v, sizeof(v), 0);
	key_window(&key, 3, 0);
	rec_put(&*journal_begin(k.j, OP_WINDOW), &key, "w", 1, 0); /* begun anew: the window alone */
	key_smap(&key, 1, 0);
	CHECK_EQ(journal_commit(k.j, &seq), 0);
	struct rec *r = journal_begin(k.j, OP_WINDOW);
	rec_put(r, &key, v, sizeof(v), 0);
	key_window(&last, journal_next_seq(k.j), 0);
	rec_put(r, &last, "w", 1, 0);
	CHECK_EQ(journal_commit(k.j, &seq), 0);
	journal_unlock(k.j);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, seq), 0);
	kit_set(&k, 9, "born again");
	CHECK_EQ(kit_probe(&k, 3), -EKEYREVOKED);
	buf_init(&b, 0);
	trim_to(&k, 5); /* behind the window's end, but not behind what may have copied its bytes */
	key_smap(&key, 1, 0);
	CHECK_EQ(journal_base_get(k.j, &key, &b), 0);
	trim_to(&k, seq);
	CHECK_EQ(kit_probe(&k, 3), -ENOENT);
	kit_expect(&k, 9, "born again");
	kit_expect(&k, 15, "x");
	CHECK_EQ(journal_base_get(k.j, &key, &b), -ENOENT);
	key_window(&key, 3, 0);
	CHECK_EQ(journal_base_get(k.j, &key, &b), -ENOENT);
	CHECK_EQ(journal_base_get(k.j, &last, &b), 0); /* Redis may be found where it ends */
	trim_to(&k, seq + 1);
	CHECK_EQ(journal_base_get(k.j, &last, &b), -ENOENT);
	buf_fini(&b);
	CHECK_EQ(journal_log_scan(k.j, 0, UINT64_MAX, scan_count, &next), 0);
	kit_close(&k);
	kit_open(&k);
	CHECK_EQ(journal_mark(k.j, WM_TRIM), seq + 1);
	kit_close(&k);
	kit_fini(&k);
}

/* --- room --- */

static int try_big(struct kit *k, size_t len, uint64_t *seq)
{
	void *big = calloc(1, len);
	struct jkey key;
	int err;

	REQUIRE(big);
	key_symlink(&key, 500);
	journal_lock(k->j);
	rec_put(journal_begin(k->j, OP_LOAD), &key, big, len, 0);
	err = journal_commit(k->j, seq);
	journal_unlock(k->j);
	free(big);
	return err;
}

static void too_big_or_no_room(void)
{
	uint64_t seq = 0, n = 0;
	struct kit k;
	int err;

	kit_init(&k);
	k.cfg.hot_size = 1 << 20;
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	CHECK_EQ(try_big(&k, 200 << 10, &seq), -E2BIG);
	CHECK_EQ(journal_next_seq(k.j), 1);
	for (int i = 0; i < 200; i++) { /* far more than both logs hold */
		while ((err = try_big(&k, 100 << 10, &seq)) == -EAGAIN) {
			CHECK_EQ(journal_next_seq(k.j), n + 1);
			REQUIRE(journal_wait_room(k.j) == 0);
		}
		CHECK_EQ(err, 0);
		CHECK_EQ(seq, ++n);
	}
	kit_kill(&k);
	kit_open(&k);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 200);
	kit_close(&k);
	kit_fini(&k);
}

static void history_05_full_log_changes_nothing(void)
{
	uint64_t seq = 0, n = 0;
	struct kit k;

	kit_init(&k);
	k.cfg.hot_size = 256 << 10;
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	journal_lock(k.j); /* one lock over all of them: a shared commit; the flusher cannot come in between */
	for (;; n++) {
		struct jkey key;
		char text[1000];
		const void *v;
		size_t len;
		int err;

		memset(text, (int)n, sizeof(text));
		key_symlink(&key, n);
		rec_put(journal_begin(k.j, OP_SYMLINK), &key, text, sizeof(text), 0);
		err = journal_commit(k.j, &seq);
		if (err == -EAGAIN) {
			CHECK_EQ(view_get(k.j, &key, &v, &len), -ENOENT);
			break;
		}
		REQUIRE(err == 0);
		CHECK(view_get(k.j, &key, &v, &len) == 0 && len == sizeof(text));
	}
	CHECK(n > 20);
	CHECK_EQ(seq, n);
	CHECK_EQ(journal_next_seq(k.j), n + 1);
	journal_unlock(k.j);
	kit_kill(&k);
	kit_open(&k);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), n);
	kit_close(&k);
	kit_fini(&k);
}

static void history_06_nothing_grows_with_the_file(void)
{
	uint64_t seed = unit_seed(), seq = 0;
	struct kit k;

	kit_init(&k);
	k.cfg.hot_size = 1 << 20;
	kit_open(&k);
	for (int i = 0; i < 16384; i++) {
		int err;

		do {
			journal_lock(k.j);
			struct extent_val e = {.kind = EXT_HOLE, .pos = (uint32_t)(unit_rand(&seed) % 16384) * 4096, .len = 4096,
				.born = journal_next_seq(k.j)};
			struct rec *r = journal_begin(k.j, OP_WRITE);

			rec_put_extent(r, 9, 0, &e, IF_NEW);
			CHECK(r->buf.len < 200);
			err = journal_commit(k.j, &seq);
			journal_unlock(k.j);
		} while (err == -EAGAIN && journal_wait_room(k.j) == 0);
		REQUIRE(err == 0);
	}
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, seq), 0);
	kit_close(&k);
	kit_fini(&k);
}

/* --- watermarks --- */

struct answer {
	_Atomic int n, err;
};

static void answered(void *arg, int err)
{
	struct answer *a = arg;

	a->err = err;
	a->n++;
}

static void watermarks(void)
{
	struct answer a = {0}, b = {0}, c = {0};
	uint64_t seq;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	seq = kit_set(&k, 1, "x");
	journal_when(k.j, WM_COMMITTED, seq, answered, &a);
	CHECK(a.n == 1 && a.err == 0);
	journal_when(k.j, WM_APPLIED, seq, answered, &b);
	CHECK_EQ(journal_demand(k.j, WM_APPLIED), seq);
	CHECK_EQ(journal_demand(k.j, WM_UPLOADED), 0);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, seq), 0); /* in spite of the interval */
	CHECK_EQ(b.n, 0);
	journal_raise(k.j, WM_APPLIED, seq);
	CHECK(b.n == 1 && b.err == 0);
	journal_when(k.j, WM_UPLOADED, seq, answered, &c);
	journal_freeze(k.j, "fenced by test");
	CHECK(c.n == 1 && c.err == -EROFS);
	CHECK(!journal_failed(k.j) && strcmp(journal_failure(k.j), "fenced by test") == 0);
	CHECK_EQ(journal_wait(k.j, WM_APPLIED, seq + 1), -EROFS);
	struct jkey key;
	key_symlink(&key, 1);
	journal_lock(k.j);
	rec_del(journal_begin(k.j, OP_UNLINK), &key, 0);
	CHECK_EQ(journal_commit(k.j, NULL), -EROFS);
	journal_unlock(k.j);
	seq = put_meta(&k, OP_META, "fenced", 1);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, seq), 0);
	kit_close(&k);
	kit_fini(&k);
}

struct syncer {
	struct kit *k;
	pthread_t t;
	uint64_t id;
};

static void *sync_one(void *arg)
{
	struct syncer *s = arg;
	uint64_t seq = kit_set(s->k, s->id, "synced");

	CHECK_EQ(journal_wait(s->k->j, WM_DURABLE, seq), 0);
	CHECK(journal_mark(s->k->j, WM_DURABLE) >= seq);
	return NULL;
}

static void fsyncs_share_a_flush(void)
{
	struct syncer s[16];
	struct journal_figures f;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	for (int round = 0; round < 4; round++) {
		journal_lock(k.j); /* they all come while nobody can be served */
		for (uint64_t i = 0; i < 16; i++) {
			s[i] = (struct syncer){.k = &k, .id = i};
			REQUIRE(pthread_create(&s[i].t, NULL, sync_one, &s[i]) == 0);
		}
		journal_unlock(k.j);
		for (int i = 0; i < 16; i++)
			pthread_join(s[i].t, NULL);
	}
	journal_figures(k.j, &f);
	CHECK_EQ(f.commits, 64);
	CHECK(f.flushes <= 64);
	printf("  64 fsyncs of 16 threads: %llu flushes\n", (unsigned long long)f.flushes);
	kit_close(&k);
	kit_fini(&k);
}

/* --- refusals --- */

static void refusals(void)
{
	struct journal *other;
	struct errmsg e;
	char copy[300];
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	CHECK_EQ(journal_open(&k.cfg, &other, NULL, &e), -EBUSY);
	snprintf(copy, sizeof(copy), "process %d", getpid());
	CHECK(strstr(e.text, copy) != NULL);
	kit_close(&k);
	k.cfg.uuid = "volume-b";
	CHECK_EQ(kit_try_open(&k), -ESTALE);
	CHECK(strstr(k.e.text, "volume-a") && strstr(k.e.text, "volume-b"));
	k.cfg.uuid = "volume-a";
	REQUIRE(chmod(k.cache, 0755) == 0);
	CHECK_EQ(kit_try_open(&k), -EPERM);
	REQUIRE(chmod(k.cache, 0700) == 0);
	if (geteuid() == 0) {
		REQUIRE(chown(k.cache, 12345, 0) == 0);
		CHECK_EQ(kit_try_open(&k), -EPERM);
		REQUIRE(chown(k.cache, 0, 0) == 0);
	}
	k.cfg.allow_any_fs = false;
	k.cfg.cache_dir = k.hot; /* a tmpfs */
	CHECK_EQ(kit_try_open(&k), -ENOTSUP);
	CHECK(strstr(k.e.text, "tmpfs") != NULL);
	k.cfg.allow_any_fs = true;
	k.cfg.cache_dir = k.cache;
	kit_open(&k);
	kit_close(&k);
	kit_fini(&k);
}

static void read_only_tools(void)
{
	struct journal *tool;
	struct journal_config cfg;
	struct jkey key;
	const void *v;
	struct errmsg e;
	size_t n;
	struct kit k;

	kit_init(&k);
	cfg = k.cfg;
	cfg.read_only = true;
	CHECK(journal_open(&cfg, &tool, NULL, &e) < 0);
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "x")), 0);
	REQUIRE(journal_open(&cfg, &tool, NULL, &e) == 0); /* beside the one that runs */
	key_symlink(&key, 1);
	journal_lock(tool);
	CHECK(view_get(tool, &key, &v, &n) == 0 && n == 1);
	rec_del(journal_begin(tool, OP_UNLINK), &key, 0);
	CHECK_EQ(journal_commit(tool, NULL), -EROFS);
	journal_unlock(tool);
	CHECK_EQ(journal_mark(tool, WM_DURABLE), 1);
	CHECK_EQ(journal_close(tool), 0);
	kit_close(&k);
	kit_fini(&k);
}

/* --- histories --- */

static uint64_t repoint(struct kit *k, uint64_t ino, uint64_t slice)
{
	struct extent_val e = {.kind = EXT_OBJECT, .len = 5, .slice_id = slice, .slice_size = 5};
	uint64_t seq;

	journal_lock(k->j);
	e.born = journal_next_seq(k->j);
	rec_put_extent(journal_begin(k->j, OP_APPLIED), ino, 0, &e, 0);
	CHECK_EQ(journal_commit(k->j, &seq), 0);
	journal_unlock(k->j);
	return seq;
}

static enum extent_kind extent_kind_of(struct kit *k, uint64_t ino)
{
	struct extent_val e = {0};
	struct jkey key;
	const void *v;
	size_t n;

	key_extent(&key, ino, 0, 4);
	journal_lock(k->j);
	CHECK_EQ(view_get(k->j, &key, &v, &n), 0);
	CHECK_EQ(extent_val_decode(v, n, &e), 0);
	journal_unlock(k->j);
	return e.kind;
}

static void history_01_uploaded_is_a_record(void)
{
	struct staged s;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	kit_write(&k, 7, "hello", 5, &s);
	repoint(&k, 7, 99); /* while the older image still lies in the hot log */
	CHECK_EQ(extent_kind_of(&k, 7), EXT_OBJECT);
	kit_kill(&k);
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 2);
	CHECK_EQ(extent_kind_of(&k, 7), EXT_OBJECT);
	kit_close(&k);
	kit_open(&k);
	CHECK_EQ(extent_kind_of(&k, 7), EXT_OBJECT);
	kit_close(&k);
	kit_fini(&k);
}

static void commit_ten(struct kit *k)
{
	uint64_t seq = 0;

	kit_open(k);
	for (uint64_t i = 0; i < 10; i++)
		seq = kit_set(k, i, "ten");
	journal_wait(k->j, WM_DURABLE, seq);
	CHECK_EQ(journal_close(k->j), 0);
}

static void history_02_killed_before_the_log_is_emptied(void)
{
	static const char *const points[] = {"journal.flush.after_commit:1:kill", "hot.reset.before:1:kill",
		"hot.reset.after:1:kill", "journal.flush.after_empty:1:kill", "journal.flush.before_base:1:kill",
		"journal.flush.before_sync:1:kill", "journal.swap:1:kill", "journal.close.before_clean:1:kill"};
	int64_t space, inodes;

	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		struct kit k;

		kit_init(&k);
		k.cfg.sync_interval_ms = 100000;
		kit_fork(&k, points[i], true, commit_ten);
		kit_open(&k);
		journal_lock(k.j);
		journal_stats(k.j, &space, &inodes);
		journal_unlock(k.j);
		CHECK_EQ(space, 10);
		CHECK_EQ(inodes, 10);
		CHECK_EQ(journal_mark(k.j, WM_DURABLE), 10);
		CHECK(!k.rep.power_cut && k.rep.dropped == 0);
		CHECK_EQ(kit_set(&k, 3, "new"), 11);
		kit_close(&k);
		kit_fini(&k);
	}
}

/* The first flush meets a full disk and stays, frozen; commits go on in the other log. */
static void fill_both_logs(struct kit *k)
{
	uint64_t seq;

	kit_open(k);
	seq = kit_set(k, 1, "old");
	kit_set(k, 2, "old");
	CHECK_EQ(journal_wait(k->j, WM_DURABLE, seq), -ENOSPC);
	for (uint64_t i = 0; i < 5; i++)
		kit_set(k, 1, "newer");
	kit_set(k, 1, "newest");
	kill(getpid(), SIGKILL);
}

static void history_03_both_logs_in_order(void)
{
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 20;
	for (int round = 0; round < 2; round++) { /* whichever of the two is the older one */
		if (round) {
			kit_open(&k);
			kit_set(&k, 9, "x");
			kit_close(&k);
		}
		kit_fork(&k, "journal.flush.before_commit:1+:ENOSPC", true, fill_both_logs);
		kit_open(&k);
		CHECK_EQ(k.rep.recovered, 8);
		kit_expect(&k, 1, "newest");
		kit_expect(&k, 2, "old");
		kit_close(&k);
	}
	kit_fini(&k);
}

struct reader {
	struct kit *k;
	_Atomic bool stop;
	uint64_t misses, reads;
};

static void *read_always(void *arg)
{
	struct reader *r = arg;
	struct jkey key;
	const void *v;
	size_t n;

	while (!atomic_load(&r->stop)) {
		key_symlink(&key, r->reads++ % 100);
		journal_lock(r->k->j);
		if (view_get(r->k->j, &key, &v, &n))
			r->misses++;
		journal_unlock(r->k->j);
	}
	return NULL;
}

static void history_04_what_exists_is_always_found(void)
{
	struct reader r = {0};
	pthread_t t;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 1;
	kit_open(&k);
	for (uint64_t i = 0; i < 100; i++)
		kit_set(&k, i, "here");
	r.k = &k;
	REQUIRE(pthread_create(&t, NULL, read_always, &r) == 0);
	for (uint64_t i = 0; i < 5000; i++) {
		uint64_t seq = kit_set(&k, i % 100, "here");

		if (i % 50 == 0)
			CHECK_EQ(journal_wait(k.j, WM_DURABLE, seq), 0);
	}
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	CHECK_EQ(r.misses, 0);
	CHECK(r.reads > 0);
	kit_close(&k);
	kit_fini(&k);
}

static void sync_fails(struct kit *k)
{
	struct answer a = {0};
	struct staged s;
	uint64_t seq;
	struct jkey key;

	kit_open(k);
	kit_set(k, 1, "before");
	seq = kit_write(k, 7, "hello", 5, &s);
	kit_set(k, 1, "after");
	journal_when(k->j, WM_APPLIED, seq, answered, &a);
	CHECK_EQ(journal_wait(k->j, WM_DURABLE, seq), -EIO);
	CHECK(journal_failed(k->j) && strstr(journal_failure(k->j), "flush failed"));
	CHECK_EQ(journal_wait(k->j, WM_DURABLE, seq), -EIO);
	key_symlink(&key, 2);
	journal_lock(k->j);
	rec_del(journal_begin(k->j, OP_UNLINK), &key, 0);
	CHECK_EQ(journal_commit(k->j, NULL), -EIO);
	journal_unlock(k->j);
	CHECK_EQ(journal_wait_room(k->j), -EIO);
	kit_expect(k, 1, "after"); /* still readable */
	CHECK_EQ(journal_close(k->j), -EIO);
	CHECK(a.n == 1 && a.err == -EIO);
}

static void history_10_a_failed_sync_is_not_forgiven(void)
{
	char path[300];
	struct kit k;
	FILE *f;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_fork(&k, "staging.sync:1:EIO", false, sync_fails);
	/* What the kernel does with the pages: they are clean, the disk has other bytes. The next fdatasync succeeds. */
	snprintf(path, sizeof(path), "%s/staging/0000000000000001.seg", k.cache);
	f = fopen(path, "r+");
	REQUIRE(f && fwrite("\0\0\0\0\0", 1, 5, f) == 5 && fclose(f) == 0);
	kit_open(&k);
	CHECK(!k.rep.clean && !k.rep.power_cut);
	CHECK_EQ(k.rep.recovered, 1);
	CHECK_EQ(k.rep.dropped, 2);
	CHECK(strstr(k.rep.first_bad, "inode 7") != NULL);
	kit_expect(&k, 1, "before"); /* a prefix: what came after the lost bytes went with them */
	snprintf(path, sizeof(path), "%s/setaside/00000000000000000003-1.rec", k.cache);
	CHECK(access(path, F_OK) == 0);
	CHECK_EQ(kit_set(&k, 1, "goes on"), 2);
	kit_close(&k);
	kit_open(&k);
	CHECK(k.rep.clean);
	kit_expect(&k, 1, "goes on");
	kit_close(&k);
	kit_fini(&k);
}

static void copy_tree(const char *from, const char *to)
{
	char cmd[700];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
	REQUIRE(system(cmd) == 0);
}

static void history_11_the_device_came_back_older(void)
{
	char base[300], old[300];
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	snprintf(base, sizeof(base), "%s/base", k.cache);
	snprintf(old, sizeof(old), "%s/old", k.dir);
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "one")), 0);
	kit_kill(&k);
	copy_tree(base, old);
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "two")), 0);
	kit_set(&k, 1, "three"); /* in the hot log only */
	kit_kill(&k);
	copy_tree(old, base);
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 0);
	CHECK_EQ(k.rep.dropped, 1);
	CHECK(strstr(k.rep.first_bad, "ends before 2") != NULL);
	kit_expect(&k, 1, "one");
	CHECK_EQ(kit_set(&k, 1, "on"), 2);
	kit_kill(&k);
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 1);
	kit_close(&k);
	k.cfg.hot_dir = k.dir; /* no tmpfs: it would survive a container's restart, half written */
	CHECK_EQ(kit_try_open(&k), -ENOTSUP);
	CHECK(strstr(k.e.text, "tmpfs") != NULL);
	kit_fini(&k);
}

static void history_11_hot_logs_of_another_boot(void)
{
	char cmd[800];
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "one")), 0);
	kit_set(&k, 1, "two");
	kit_kill(&k);
	snprintf(cmd, sizeof(cmd), "cd '%s'/* && for d in */; do mv $d other-boot; done", k.hot);
	REQUIRE(system(cmd) == 0);
	kit_open(&k);
	CHECK(k.rep.power_cut && !k.rep.clean && k.rep.dropped == 0);
	kit_expect(&k, 1, "one");
	snprintf(cmd, sizeof(cmd), "test ! -e '%s'/*/other-boot", k.hot);
	CHECK_EQ(system(cmd), 0);
	kit_close(&k);
	kit_fini(&k);
}

static void history_50_a_copy_is_noticed(void)
{
	char copy[300];
	struct journal *other;
	struct journal_report rep;
	struct errmsg e;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	snprintf(copy, sizeof(copy), "%s/copy", k.dir);
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "one")), 0);
	kit_set(&k, 1, "two");
	copy_tree(k.cache, copy);
	struct journal_config cfg = k.cfg;
	cfg.cache_dir = copy;
	REQUIRE(journal_open(&cfg, &other, &rep, &e) == 0); /* beside the original, on the same host */
	CHECK(rep.moved && rep.power_cut && rep.recovered == 0);
	CHECK_STR(journal_cache_id(other), journal_cache_id(k.j));
	CHECK_EQ(journal_close(other), 0);
	kit_expect(&k, 1, "two");
	kit_kill(&k);
	kit_open(&k);
	CHECK(!k.rep.moved && k.rep.recovered == 1);
	kit_expect(&k, 1, "two");
	kit_close(&k);
	kit_fini(&k);
}

static void disk_full(struct kit *k)
{
	struct staged s;
	uint64_t seq;
	int err;

	kit_open(k);
	seq = kit_set(k, 1, "one");
	kit_write(k, 7, "hello", 5, &s);
	CHECK_EQ(journal_wait(k->j, WM_DURABLE, seq), -ENOSPC);
	CHECK(!journal_failed(k->j));
	do { /* hits 1 and 2 were the flush with and without the reserve; the disk has room from hit 10 on */
		seq = kit_set(k, 1, NULL); /* rm */
		err = journal_wait(k->j, WM_DURABLE, seq);
	} while (err == -ENOSPC);
	CHECK_EQ(err, 0);
	kit_expect(k, 1, NULL);
	CHECK_EQ(journal_close(k->j), 0);
}

static void disk_full_and_log_full(struct kit *k)
{
	uint64_t seq = 0;
	int err;

	kit_open(k);
	do {
		err = try_big(k, 20 << 10, &seq);
		if (err == -EAGAIN)
			err = journal_wait_room(k->j);
	} while (!err);
	CHECK_EQ(err, -ENOSPC);
	kit_expect(k, 77, NULL);
	kill(getpid(), SIGKILL);
}

static void recovery_meets_full_disk(struct kit *k)
{
	CHECK_EQ(kit_try_open(k), -ENOSPC); /* the reserve is gone already */
	CHECK_EQ(kit_try_open(k), -ENOSPC);
	kit_open(k); /* room again: nothing was lost */
	CHECK(k->rep.recovered > 5);
	CHECK_EQ(journal_close(k->j), 0);
}

static void history_12_disk_full(void)
{
	char faults[400] = "";
	struct kit k;

	kit_init(&k);
	k.cfg.hot_size = 256 << 10;
	for (int i = 1; i < 10; i++)
		sprintf(faults + strlen(faults), "%sjournal.flush.before_commit:%d:ENOSPC", i > 1 ? "," : "", i);
	kit_fork(&k, faults, false, disk_full);
	kit_open(&k);
	CHECK(k.rep.clean);
	kit_expect(&k, 1, NULL);
	kit_close(&k);
	kit_fork(&k, "journal.flush.before_commit:1+:ENOSPC", true, disk_full_and_log_full);
	kit_fork(&k, "journal.flush.before_commit:1:ENOSPC,journal.flush.before_commit:2:ENOSPC", false, recovery_meets_full_disk);
	kit_open(&k);
	CHECK(k.rep.clean && k.rep.dropped == 0);
	kit_close(&k);
	kit_fini(&k);
}

static void *stage_one(void *arg)
{
	struct kit *k = arg;
	struct staged s;
	void *data = calloc(1, 1 << 20);

	CHECK_EQ(staging_append(journal_staging(k->j), data, 1 << 20, &s), 0);
	free(data);
	return NULL;
}

static void history_13_staging_needs_no_lock(void)
{
	pthread_t t;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	journal_lock(k.j); /* an append that sleeps holds nobody up: it neither has this lock nor waits for it */
	REQUIRE(pthread_create(&t, NULL, stage_one, &k) == 0);
	pthread_join(t, NULL);
	journal_unlock(k.j);
	kit_close(&k);
	kit_fini(&k);
}

static void dirty_limit(void)
{
	struct staged s;
	struct kit k;
	void *data = calloc(1, 1 << 20);

	kit_init(&k);
	k.cfg.dirty_limit = 1 << 20;
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	CHECK(!journal_must_wait(k.j));
	kit_write(&k, 7, data, 1 << 20, &s);
	CHECK(journal_must_wait(k.j));
	CHECK_EQ(journal_wait_room(k.j), 0);
	CHECK(!journal_must_wait(k.j));
	free(data);
	kit_close(&k);
	kit_fini(&k);
}

static void hot_put_fails(struct kit *k)
{
	struct jkey key;

	kit_open(k);
	kit_set(k, 1, "one");
	key_symlink(&key, 1);
	journal_lock(k->j);
	rec_del(journal_begin(k->j, OP_UNLINK), &key, 0);
	CHECK_EQ(journal_commit(k->j, NULL), -EIO);
	journal_unlock(k->j);
	CHECK(journal_failed(k->j));
	kit_expect(k, 1, "one");
	CHECK_EQ(journal_wait(k->j, WM_DURABLE, 2), -EIO);
	CHECK_EQ(journal_close(k->j), -EIO);
}

static void a_failed_commit_is_terminal(void)
{
	struct kit k;

	kit_init(&k);
	kit_fork(&k, "hot.put:2:EIO", false, hot_put_fails);
	kit_open(&k);
	kit_expect(&k, 1, "one");
	kit_close(&k);
	kit_fini(&k);
}

static void a_clean_close_gives_room_back(void)
{
	struct journal_figures f;
	char path[300];
	struct stat sb;
	struct staged s;
	static uint8_t data[10000];
	struct kit k;
	int fd;

	kit_init(&k);
	kit_open(&k);
	memset(data, 7, sizeof(data));
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_write(&k, 7, data, sizeof(data), &s)), 0);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "x")), 0); /* by now zeros were written behind the first */
	snprintf(path, sizeof(path), "%s/staging/%016x.seg", k.cache, 1);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && lseek(fd, 0, SEEK_HOLE) >= 512 << 10);
	close(fd);
	kit_close(&k);
	snprintf(path, sizeof(path), "test -z \"$(ls -A '%s')\"", k.hot);
	CHECK_EQ(system(path), 0); /* memory */
	kit_open(&k);
	snprintf(path, sizeof(path), "%s/staging/%016x.seg", k.cache, 1);
	CHECK(stat(path, &sb) == 0 && sb.st_size >= 10000 && sb.st_size <= 12288);
	CHECK_EQ(staging_verify(journal_staging(k.j), s.segment, s.off, s.len, s.sum), 0);
	staging_verify_end(journal_staging(k.j));
	journal_figures(k.j, &f);
	CHECK(f.staging_bytes <= SEGMENT_SIZE + 65536); /* one may have been made ahead */
	kit_close(&k);
	kit_fini(&k);
}

static void *commit_history(void *arg)
{
	struct kit *k = arg;
	uint64_t seq;

	for (int i = 0; i < 600; i++) {
		REQUIRE(history_step(k->j, &seq) == 0);
		if (i % 100 == 0)
			CHECK_EQ(journal_wait(k->j, WM_DURABLE, seq), 0);
	}
	return NULL;
}

static void four_threads_commit(void)
{
	pthread_t t[4];
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 1;
	k.cfg.hot_size = 512 << 10;
	kit_open(&k);
	for (int i = 0; i < 4; i++)
		REQUIRE(pthread_create(&t[i], NULL, commit_history, &k) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	kit_close(&k);
	kit_open(&k);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 2400);
	CHECK_EQ(history_check(k.j, UINT64_MAX), 0);
	kit_close(&k);
	kit_fini(&k);
}

/* --- absent keys beside present ones --- */

enum { NEAR = 254, NEAR_VAL = 5000 };

/* All words of `a` and `b` with up to six letters, each as it is, and with a tail of the lowest or the highest byte that makes it
 * as long as a name may be: many keys are the beginning of others. */
static void near_key(struct jkey *k, unsigned i)
{
	char name[255];
	unsigned w = i / 2 + 2, n = 0;

	for (unsigned bit = 31 - (unsigned)__builtin_clz(w); bit-- > 0;)
		name[n++] = w >> bit & 1 ? 'b' : 'a';
	if (i % 2) {
		memset(name + n, i % 4 == 1 ? '\0' : '\xff', sizeof(name) - n);
		n = sizeof(name);
	}
	key_xattr(k, 7, name, n);
}

static size_t near_val(uint8_t out[NEAR_VAL], uint32_t val)
{
	size_t n = val % 8 ? 4 + val % 300 : NEAR_VAL; /* some lie in pages of their own */

	memset(out, (int)(val & 0xff), n);
	memcpy(out, &val, 4);
	return n;
}

static void near_expect(struct kit *k, unsigned i, uint32_t val)
{
	uint8_t want[NEAR_VAL];
	const void *v;
	struct jkey key;
	size_t n;
	int err;

	near_key(&key, i);
	journal_lock(k->j);
	err = view_get(k->j, &key, &v, &n);
	CHECK_EQ(err, val ? 0 : -ENOENT);
	if (!err && val)
		CHECK(n == near_val(want, val) && memcmp(v, want, n) == 0);
	journal_unlock(k->j);
}

static unsigned near_count(struct kit *k)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	unsigned found = 0;
	struct jkey from;
	size_t kn, vn;
	int rc;

	key_xattr(&from, 7, "", 0);
	journal_lock(k->j);
	it = view_seek(k->j, &from, from.len);
	REQUIRE(it);
	while ((rc = view_step(it, &key, &kn, &val, &vn)) == 1)
		found++;
	CHECK_EQ(rc, 0);
	view_end(it);
	journal_unlock(k->j);
	return found;
}

static uint64_t near_set(struct kit *k, unsigned i, uint32_t val, bool forget)
{
	uint8_t bytes[NEAR_VAL];
	struct jkey key;
	uint64_t seq = 0;

	near_key(&key, i);
	journal_lock(k->j);
	struct rec *r = journal_begin(k->j, OP_SETXATTR);

	if (val)
		rec_put(r, &key, bytes, near_val(bytes, val), 0);
	else
		rec_del(r, &key, forget ? IF_FORGET : 0);
	CHECK_EQ(journal_commit(k->j, &seq), 0);
	journal_unlock(k->j);
	return seq;
}

/* Whoever looks for what is not there may remember where nothing is: that must never hide what comes to lie there, or lies right
 * beside it. Most of what is looked for is in base alone: a few changes, a flush, many looks in any order. */
static void absent_keys_beside_present_ones(void)
{
	uint64_t seed = unit_seed(), last = 0;
	uint32_t vals[NEAR] = {0};
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	for (int round = 0; round < 400; round++) {
		unsigned changed[12], present = 0, share = unit_rand(&seed) % 100, changes = 1 + unit_rand(&seed) % 12;

		for (unsigned n = 0; n < changes; n++) {
			unsigned i = changed[n] = unit_rand(&seed) % NEAR;

			near_expect(&k, i, vals[i]);
			vals[i] = unit_rand(&seed) % 100 < share ? (uint32_t)unit_rand(&seed) | 1u << 30 : 0;
			last = near_set(&k, i, vals[i], unit_rand(&seed) % 2);
		}
		for (int phase = 0; phase < 2; phase++) {
			for (int n = 0; n < (phase ? 300 : 2); n++) {
				unsigned i = unit_rand(&seed) % NEAR;

				near_expect(&k, i, vals[i]);
			}
			if (phase == 0)
				CHECK_EQ(journal_wait(k.j, WM_DURABLE, last), 0);
			for (unsigned n = 0; phase == 0 && n < changes; n++)
				near_expect(&k, changed[n], vals[changed[n]]);
		}
		for (unsigned i = 0; i < NEAR; i++)
			present += vals[i] != 0;
		CHECK_EQ(near_count(&k), present);
		if (unit_rand(&seed) % 50 == 0) {
			kit_close(&k);
			kit_open(&k);
		}
	}
	kit_close(&k);
	kit_fini(&k);
}

#define T(name) {#name, name}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {T(open_close), T(kill_keeps_everything), T(random_history_against_model), T(absent_keys_beside_present_ones), T(the_log), T(trim_frees_the_log_and_tombstones), T(too_big_or_no_room), T(watermarks), T(fsyncs_share_a_flush), T(refusals), T(read_only_tools), T(dirty_limit), T(four_threads_commit), T(a_failed_commit_is_terminal), T(a_clean_close_gives_room_back), T(history_01_uploaded_is_a_record), T(history_02_killed_before_the_log_is_emptied), T(history_03_both_logs_in_order), T(history_04_what_exists_is_always_found), T(history_05_full_log_changes_nothing), T(history_06_nothing_grows_with_the_file), T(history_10_a_failed_sync_is_not_forgiven), T(history_11_the_device_came_back_older), T(history_11_hot_logs_of_another_boot), T(history_12_disk_full), T(history_13_staging_needs_no_lock), T(history_50_a_copy_is_noticed), {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
