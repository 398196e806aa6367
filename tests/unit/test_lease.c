/* The lease and loading against a real redis-server. */
#include "tests/unit/redis_server.h"

#include "redis/lease.h"
#include "redis/load.h"
#include "util/buf.h"
#include "util/jfsfmt.h"

static struct redis_server server;

static struct rds_conn *fresh(void)
{
	struct rds_conn *c;
	struct rds_url u;
	struct errmsg e;

	REQUIRE(rds_url_parse(server.url, &u, &e) == 0);
	REQUIRE(rds_conn_new(&u, &c, &e) == 0);
	REQUIRE(rds_cmd(c, NULL, &e, "FLUSHALL") == 0);
	return c;
}

static struct lease_want want(const char *holder, const char *journal)
{
	struct lease_want w = {.start_seq = 5, .start_chain = "00112233445566778899aabbccddeeff"};

	snprintf(w.id.holder, sizeof(w.id.holder), "%s", holder);
	snprintf(w.id.journal, sizeof(w.id.journal), "%s", journal);
	snprintf(w.id.host, sizeof(w.id.host), "build1");
	snprintf(w.id.dir, sizeof(w.id.dir), "/var/cache/x");
	return w;
}

static void acquire_and_refuse(void)
{
	struct rds_conn *c = fresh();
	struct lease_state st;
	struct errmsg e;
	struct lease_want a = want("m1/j1/p1", "j1"), b = want("m2/j2/p2", "j2");
	bool released;

	CHECK_EQ(lease_read(c, &st, &released, &e), -ENOENT);
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_OK && st.new_history && st.pos.epoch == 1 && st.pos.seq == 5);
	/* the same holder again: a higher epoch, its own history goes on */
	a.own_history = true;
	a.min_epoch = 1;
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_OK && !st.new_history && st.pos.epoch == 2);
	CHECK_STR(st.pos.chain, a.start_chain);
	/* an old copy of the journal (history 50): nothing is changed */
	a.start_seq = 4;
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_AHEAD && st.pos.seq == 5);
	lease_refusal(&st, &e);
	CHECK(strstr(e.text, "old copy") && strstr(e.text, "/var/cache/x"));
	REQUIRE(lease_read(c, &st, &released, &e) == 0);
	CHECK(!released && st.pos.epoch == 2);
	a.start_seq = 5;
	/* another one is refused, and the message names the first */
	REQUIRE(lease_acquire(c, &b, &st, &e) == 0);
	CHECK(st.status == LEASE_HELD);
	lease_refusal(&st, &e);
	CHECK(strstr(e.text, "build1") && strstr(e.text, "/var/cache/x") && strstr(e.text, "--takeover"));
	/* released with a backlog is still held */
	CHECK_EQ(lease_release(c, 2, false, 17, &e), 0);
	REQUIRE(lease_acquire(c, &b, &st, &e) == 0);
	CHECK(st.status == LEASE_HELD && st.backlog == 17);
	/* released for good */
	CHECK_EQ(lease_release(c, 2, true, 0, &e), 0);
	REQUIRE(lease_acquire(c, &b, &st, &e) == 0);
	CHECK(st.status == LEASE_OK && st.new_history && st.pos.epoch == 3);
	/* the first one comes back with work of its own: too late */
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_HELD);
	a.takeover = true;
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_OTHER_HISTORY);
	lease_refusal(&st, &e);
	CHECK(strstr(e.text, "export"));
	/* and with nothing of its own it may take over */
	a.own_history = false;
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_OK && st.pos.epoch == 4);
	REQUIRE(lease_read(c, &st, &released, &e) == 0);
	CHECK(!released && st.pos.epoch == 4);
	/* the database was flushed */
	REQUIRE(rds_cmd(c, NULL, &e, "FLUSHALL") == 0);
	a.own_history = true;
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(st.status == LEASE_GONE);
	rds_conn_free(c);
}

/* 50: a copy of the cache directory on another machine, or in another place of this one, is another holder. */
static void history_50_copied_cache_is_another_holder(void)
{
	struct lease_id a, b;

	lease_id_fill(&a, "cafe", "/tmp");
	lease_id_fill(&b, "cafe", "/usr");
	CHECK_STR(a.journal, b.journal);
	CHECK(strcmp(a.holder, b.holder) != 0);
}

/* An --offline mount: exactly the epoch it holds, by its own holder and journal; a lost answer may be asked for again. */
static void history_54_resume_is_exact(void)
{
	struct rds_conn *c = fresh();
	struct lease_state st;
	struct rds_position pos;
	struct errmsg e;
	struct lease_want a = want("m1/j1/p1", "j1"), b = want("m2/j2/p2", "j2");

	CHECK_EQ(lease_resume(c, &a.id, 1, "n1", &pos, &e), -EKEYREVOKED); /* nothing there: flushed */
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK_EQ(lease_release(c, 1, true, 0, &e), 0);
	CHECK_EQ(lease_resume(c, &a.id, 1, "n1", &pos, &e), 0);
	CHECK(pos.epoch == 2 && pos.seq == 5);
	CHECK_EQ(lease_resume(c, &a.id, 1, "n1", &pos, &e), 0);
	CHECK(pos.epoch == 2);
	CHECK_EQ(lease_resume(c, &a.id, 1, "n2", &pos, &e), -EKEYREVOKED); /* another life: a copy of the journal */
	CHECK_EQ(lease_resume(c, &a.id, 3, "n1", &pos, &e), -EKEYREVOKED); /* Redis forgot */
	CHECK_EQ(lease_resume(c, &b.id, 2, "n1", &pos, &e), -EKEYREVOKED);
	b.takeover = true;
	REQUIRE(lease_acquire(c, &b, &st, &e) == 0);
	CHECK_EQ(lease_resume(c, &a.id, 2, "n3", &pos, &e), -EKEYREVOKED);
	CHECK(strstr(e.text, "epoch 3 instead of 2") != NULL);
	rds_conn_free(c);
}

static void heartbeats(void)
{
	struct rds_conn *c = fresh();
	struct lease_state st;
	struct rds_position pos;
	struct errmsg e;
	enum lease_beat beat;
	struct lease_want a = want("m1/j1/p1", "j1"), b = want("m2/j2/p2", "j2");

	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	struct lease_beat_arg arg = {.id = &a.id, .epoch = 1, .replaced_epoch = 0, .replaced_holder = "", .inode_end = 1000, .slice_end = 50};
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_OK && pos.seq == 5);
	/* 52: Redis restarts without its last second and shows an older epoch of ours: heal, raise the counters */
	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	arg.epoch = st.pos.epoch;
	arg.replaced_epoch = st.replaced_epoch;
	arg.replaced_holder = st.replaced_holder;
	REQUIRE(rds_cmd(c, NULL, &e, "HSET zjfs epoch 1") == 0);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_FORGOT_HEALED && pos.epoch == 2);
	struct redisReply *r;
	REQUIRE(rds_cmd(c, &r, &e, "GET nextinode") == 0);
	CHECK(r->str && strcmp(r->str, "1000") == 0);
	rds_reply_free(r);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_OK);
	/* the epoch was kept, a later allocation was not */
	REQUIRE(rds_cmd(c, NULL, &e, "MSET nextinode 7 nextchunk 60") == 0);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_OK);
	REQUIRE(rds_cmd(c, &r, &e, "MGET nextinode nextchunk") == 0);
	CHECK(r->elements == 2 && strcmp(r->element[0]->str, "1000") == 0 && strcmp(r->element[1]->str, "60") == 0);
	rds_reply_free(r);
	/* a lower epoch of somebody we never knew: refuse */
	REQUIRE(rds_cmd(c, NULL, &e, "HSET zjfs epoch 1 holder stranger") == 0);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_REFUSED);
	/* a higher epoch fences, and then we can neither release nor allocate */
	b.takeover = true;
	b.min_epoch = 2;
	REQUIRE(lease_acquire(c, &b, &st, &e) == 0);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_FENCED);
	uint64_t first;
	CHECK_EQ(lease_alloc_ids(c, 2, "nextinode", 10, 0, &first, &e), -EKEYREVOKED);
	CHECK_EQ(lease_release(c, 2, true, 0, &e), 0);
	bool released;
	REQUIRE(lease_read(c, &st, &released, &e) == 0);
	CHECK(!released);
	rds_conn_free(c);
}

/* B took over and began a history of its own; then Redis falls back to before that. It gets its lease and its beginning back
 * if Redis shows exactly what it found; what A lost as well nobody can replay. */
static void history_51_fallen_back_behind_a_takeover(void)
{
	struct rds_conn *c = fresh();
	struct lease_state st;
	struct rds_position pos;
	struct errmsg e;
	enum lease_beat beat;
	struct lease_want a = want("m1/j1/p1", "j1"), b = want("m2/j2/p2", "j2");
	struct redisReply *r;

	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	REQUIRE(rds_cmd(c, NULL, &e, "HSET zjfs seq 77 chain aaa") == 0);
	b.takeover = true;
	b.start_seq = 9;
	strcpy(b.start_chain, "bbb");
	REQUIRE(lease_acquire(c, &b, &st, &e) == 0);
	CHECK(st.new_history && st.replaced.seq == 77 && strcmp(st.replaced.chain, "aaa") == 0);
	struct lease_beat_arg arg = {.id = &b.id, .epoch = st.pos.epoch, .replaced_epoch = st.replaced_epoch,
		.replaced_holder = st.replaced_holder, .found = &st.replaced, .start = &st.pos};
	REQUIRE(rds_cmd(c, NULL, &e, "HSET zjfs epoch 1 holder m1/j1/p1 journal j1 seq 70 chain older") == 0);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK_EQ(beat, BEAT_REFUSED);
	REQUIRE(rds_cmd(c, NULL, &e, "HSET zjfs seq 77 chain aaa") == 0);
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK(beat == BEAT_FORGOT_HEALED && pos.epoch == 2 && pos.seq == 9 && strcmp(pos.chain, "bbb") == 0);
	REQUIRE(rds_cmd(c, &r, &e, "HGET zjfs journal") == 0);
	CHECK(r->str && strcmp(r->str, "j2") == 0);
	rds_reply_free(r);
	arg = (struct lease_beat_arg){.id = &a.id, .epoch = 1, .replaced_holder = ""};
	REQUIRE(lease_heartbeat(c, &arg, &beat, &pos, &e) == 0);
	CHECK_EQ(beat, BEAT_FENCED);
	rds_conn_free(c);
}

static void ids(void)
{
	struct rds_conn *c = fresh();
	struct lease_want a = want("m1/j1/p1", "j1");
	struct lease_state st;
	struct errmsg e;
	uint64_t first;

	REQUIRE(lease_acquire(c, &a, &st, &e) == 0);
	CHECK(lease_alloc_ids(c, 1, "nextinode", 1024, 0, &first, &e) == 0 && first == 1);
	CHECK(lease_alloc_ids(c, 1, "nextinode", 10, 1024, &first, &e) == 0 && first == 1025);
	/* Redis lost its last second: what it gave away is not given again */
	REQUIRE(rds_cmd(c, NULL, &e, "SET nextinode 1024") == 0);
	CHECK(lease_alloc_ids(c, 1, "nextinode", 10, 1034, &first, &e) == 0 && first == 1035);
	REQUIRE(rds_cmd(c, NULL, &e, "SET nextchunk rubbish") == 0);
	CHECK(lease_alloc_ids(c, 1, "nextchunk", 10, 0, &first, &e) != 0);
	int64_t space, inodes;
	struct rds_position pos;
	REQUIRE(rds_cmd(c, NULL, &e, "MSET usedSpace 8192 totalInodes 2") == 0);
	CHECK(lease_counters(c, &space, &inodes, &pos, &e) == 0 && space == 8192 && inodes == 2 && pos.seq == 5);
	REQUIRE(rds_cmd(c, NULL, &e, "SET usedSpace x") == 0);
	CHECK_EQ(lease_counters(c, &space, &inodes, &pos, &e), -EUCLEAN);
	rds_conn_free(c);
}

static void loading(void)
{
	struct rds_conn *c = fresh();
	struct rds_loaded l;
	struct errmsg e;
	uint8_t v[JFS_DENTRY_LEN];

	/* a big directory comes in pages, whole */
	for (int i = 0; i < 5000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file%d", i);
		jfs_dentry_encode(JFS_FILE, 100 + (uint64_t)i, v);
		REQUIRE(rds_append(c, "HSET d1 %s %b", name, v, sizeof(v)) == 0);
		REQUIRE(rds_append(c, "SET i%d record%d", 100 + i, i) == 0);
	}
	while (rds_conn_pending(c) > 0)
		REQUIRE(rds_read(c, NULL, &e) == 0);
	REQUIRE(rds_cmd(c, NULL, &e, "SET i1 root") == 0);
	rds_loaded_init(&l);
	REQUIRE(rds_load_dir(c, 1, &l, &e) == 0);
	CHECK_EQ(l.n, 5000);
	CHECK(l.value.n == 4 && memcmp(l.value.p, "root", 4) == 0);
	CHECK_EQ(l.pos.seq, 0);
	size_t good = 0;
	for (size_t i = 0; i < l.n; i++) {
		char rec[32];
		int n = snprintf(rec, sizeof(rec), "record%llu", (unsigned long long)l.entries[i].ino - 100);

		good += l.entries[i].record.n == (size_t)n && memcmp(l.entries[i].record.p, rec, (size_t)n) == 0;
	}
	CHECK_EQ(good, 5000);
	rds_loaded_free(&l);
	/* nothing there */
	CHECK(rds_load_dir(c, 77, &l, &e) == 0 && l.n == 0 && l.value.p == NULL);
	rds_loaded_free(&l);
	/* foreign bytes: each names the key */
	REQUIRE(rds_cmd(c, NULL, &e, "HSET d2 name short") == 0);
	CHECK_EQ(rds_load_dir(c, 2, &l, &e), -EUCLEAN);
	CHECK(strstr(e.text, "d2") && strstr(e.text, "name"));
	rds_loaded_free(&l);
	REQUIRE(rds_cmd(c, NULL, &e, "SET d3 string") == 0);
	CHECK_EQ(rds_load_dir(c, 3, &l, &e), -EUCLEAN);
	CHECK(strstr(e.text, "d3"));
	rds_loaded_free(&l);
	REQUIRE(rds_conn_ok(c) || rds_reconnect(c, &e) == 0);
	REQUIRE(rds_cmd(c, NULL, &e, "RPUSH c5_0 tooshort") == 0);
	CHECK_EQ(rds_load_chunk(c, 5, 0, NULL, 0, &l, &e), -EUCLEAN);
	rds_loaded_free(&l);
	REQUIRE(rds_conn_ok(c) || rds_reconnect(c, &e) == 0);
	uint8_t rec[JFS_SLICE_LEN];
	jfs_slice_encode(&(struct jfs_slice){.id = 9, .size = 100, .len = 100}, rec);
	REQUIRE(rds_cmd(c, NULL, &e, "RPUSH c6_0 %b %b", rec, sizeof(rec), rec, sizeof(rec)) == 0);
	CHECK(rds_load_chunk(c, 6, 0, NULL, 0, &l, &e) == 0 && l.n == 2 && memcmp(l.value.p + 24, rec, 24) == 0);
	rds_loaded_free(&l);
	/* what lies beside: another list, one with foreign bytes, none, no list at all */
	const uint64_t beside[] = {8, 5, 7, 9};
	REQUIRE(rds_cmd(c, NULL, &e, "RPUSH c8_0 %b", rec, sizeof(rec)) == 0);
	REQUIRE(rds_cmd(c, NULL, &e, "SET c9_0 string") == 0);
	REQUIRE(rds_load_chunk(c, 6, 0, beside, 4, &l, &e) == 0);
	CHECK(l.n == 2 && memcmp(l.value.p + 24, rec, 24) == 0 && l.pos.seq == 0);
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(l.entries[i].ino, beside[i]);
	CHECK(l.entries[0].record.n == 24 && memcmp(l.entries[0].record.p, rec, 24) == 0);
	CHECK(!l.entries[1].record.p && !l.entries[3].record.p && l.entries[2].record.p && l.entries[2].record.n == 0);
	CHECK(rds_conn_ok(c) && rds_conn_pending(c) == 0);
	rds_loaded_free(&l);
	/* and the one that is asked for is damaged */
	CHECK_EQ(rds_load_chunk(c, 9, 0, beside, 2, &l, &e), -EUCLEAN);
	CHECK(strstr(e.text, "c9_0"));
	rds_loaded_free(&l);
	REQUIRE(rds_conn_ok(c) || rds_reconnect(c, &e) == 0);
	REQUIRE(rds_cmd(c, NULL, &e, "HSET x6 user.a 1 user.b 22") == 0);
	CHECK(rds_load_xattrs(c, 6, &l, &e) == 0 && l.n == 2);
	rds_loaded_free(&l);
	REQUIRE(rds_cmd(c, NULL, &e, "SET s6 target") == 0);
	CHECK(rds_load_symlink(c, 6, &l, &e) == 0 && l.value.n == 6);
	rds_loaded_free(&l);
	rds_conn_free(c);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"acquire_and_refuse", acquire_and_refuse},
		{"history_50_copied_cache_is_another_holder", history_50_copied_cache_is_another_holder},
		{"history_54_resume_is_exact", history_54_resume_is_exact}, {"heartbeats", heartbeats},
		{"history_51_fallen_back_behind_a_takeover", history_51_fallen_back_behind_a_takeover}, {"ids", ids}, {"loading", loading}, {0}};

	signal(SIGPIPE, SIG_IGN);
	redis_server_start(&server);
	int rc = unit_main(argc, argv, tests);
	redis_server_end(&server);
	return rc;
}
