/* Where windows end. */
#include "journal/record.h"
#include "redis/chooser.h"
#include "tests/unit/unit.h"

static struct chooser *ch;
static struct rec rec;
static uint64_t seq;

static void begin(enum rec_op op)
{
	rec_begin(&rec, op, ++seq);
}

static void commit(void)
{
	REQUIRE(rec_finish(&rec) == 0);
	REQUIRE(chooser_feed(ch, seq, rec.buf.data, rec.buf.len) == 0);
}

static void create(uint64_t ino, uint32_t bytes)
{
	struct inode_val v = { .attr = { .type = JFS_FILE, .nlink = 1, .parent = 1 } };
	struct extent_val e = { .len = bytes, .kind = EXT_STAGED, .segment = 1, .off = (uint32_t)ino, .run_off = (uint32_t)ino, .run_len = bytes };
	struct jkey k;
	uint8_t d[9];
	char name[24];

	begin(OP_CREATE);
	rec_put_inode(&rec, ino, &v, IF_NEW);
	key_dentry(&k, 1, name, (size_t)snprintf(name, sizeof(name), "%llu", (unsigned long long)ino));
	jfs_dentry_encode(JFS_FILE, ino, d);
	rec_put(&rec, &k, d, 9, 0);
	if (bytes)
		rec_put_extent(&rec, ino, 0, &e, IF_NEW);
	commit();
}

static void drop(uint64_t ino)
{
	struct jkey k;
	char name[24];

	begin(OP_UNLINK);
	key_dentry(&k, 1, name, (size_t)snprintf(name, sizeof(name), "%llu", (unsigned long long)ino));
	rec_del(&rec, &k, 0);
	rec_gone(&rec, ino, 0);
	key_inode(&k, ino);
	rec_del(&rec, &k, 0);
	commit();
}

static void start(void)
{
	seq = 0;
	ch = chooser_new(0);
	rec_init(&rec);
	REQUIRE(ch);
}

static void stop(void)
{
	chooser_free(ch);
	rec_fini(&rec);
}

static void avoids_dead_bytes(void)
{
	struct chooser_limits l = { .want = 2000, .most = 20000 };
	uint64_t live, waste;

	start();
	for (uint64_t i = 0; i < 20; i++) {
		create(100 + i, 1000);
		drop(100 + i);
	}
	for (l.due = 1; l.due <= 40; l.due++) {
		uint64_t end = chooser_choose(ch, &l);

		REQUIRE(end && end <= l.due);
		chooser_bytes(ch, end, &live, &waste);
		if (l.due > 1)
			CHECK_EQ(waste, 0);
	}
	stop();
}

/* Temporary files that overlap for ever: one is always alive. Windows end all the same, and few bytes are uploaded. */
static void history_39_overlapping_temp_files(void)
{
	struct chooser_limits l = { .want = 2000, .most = 20000 };
	uint64_t end, live, waste;

	start();
	create(1000, 5000);
	for (uint64_t i = 1; i < 300; i++) {
		create(1000 + i, 5000);
		drop(1000 + i - 1);
	}
	l.due = seq;
	end = chooser_choose(ch, &l);
	CHECK(end >= seq / 2);
	l.due = 301;
	end = chooser_choose(ch, &l);
	CHECK(end >= 150 && end <= 301);
	chooser_bytes(ch, end, &live, &waste);
	CHECK_EQ(waste, 5000); /* one of 150 */
	stop();
}

/* A million commands due: no script gets more than 20,000, and 2,000 where nothing speaks against it. */
static void history_40_no_huge_script(void)
{
	struct chooser_limits l = { .want = 2000, .most = 20000 };
	uint64_t end;

	start();
	for (uint64_t i = 0; i < 30000; i++)
		create(100000 + i, 0);
	l.due = seq;
	end = chooser_choose(ch, &l);
	CHECK(end > 400 && end <= 2000);
	stop();
	start(); /* ending within the first 2,000 would upload what is dead by now */
	create(5, 1000000);
	for (uint64_t i = 0; i < 3000; i++)
		create(100000 + i, 0);
	drop(5);
	for (uint64_t i = 0; i < 20000; i++)
		create(200000 + i, 0);
	l.due = seq;
	end = chooser_choose(ch, &l);
	CHECK(end >= 3002 && end < 10001);
	stop();
}

static void upload_time_bounds_a_window(void)
{
	struct chooser_limits l = { .want = 2000, .most = 20000, .bytes = 10000 };

	start();
	for (uint64_t i = 0; i < 100; i++)
		create(100 + i, 3000);
	l.due = seq;
	CHECK_EQ(chooser_choose(ch, &l), 3);
	l.bytes = 1000;
	CHECK_EQ(chooser_choose(ch, &l), 1); /* one record may exceed it */
	l.due = 0;
	CHECK_EQ(chooser_choose(ch, &l), 0);
	stop();
}

/* batch_bytes: a script is made of at most so many bytes of records, but of one record at least. */
static void batch_bytes_bound_a_script(void)
{
	struct chooser_limits l = { .due = 100, .want = 2000, .most = 20000 };

	start();
	create(2, 0);
	size_t one = rec.buf.len;
	for (uint64_t i = 3; i <= 51; i++)
		create(i, 0);
	l.script = one * 10 + one / 2;
	CHECK(chooser_choose(ch, &l) >= 5 && chooser_choose(ch, &l) <= 10);
	l.script = 1;
	CHECK_EQ(chooser_choose(ch, &l), 1);
	l.script = 0;
	CHECK(chooser_choose(ch, &l) >= 25);
	stop();
}

/* Small files that are to share an object: the window grows until that is full, ten times as large at most, and only with bytes. */
static void a_window_grows_until_an_object_is_full(void)
{
	struct chooser_limits l = { .due = 2000, .want = 30, .most = 20000, .fill = 100000 };
	uint64_t alone;

	start();
	for (uint64_t i = 0; i < 200; i++)
		create(100 + i, 1000);
	l.fill = 0;
	alone = chooser_choose(ch, &l);
	CHECK(alone && alone <= 15);
	l.fill = 10500;
	CHECK_EQ(chooser_choose(ch, &l), alone > 10 ? alone : 10);
	l.fill = 50000;
	CHECK_EQ(chooser_choose(ch, &l), 50);
	l.fill = 1000000;
	CHECK(chooser_choose(ch, &l) >= 90 && chooser_choose(ch, &l) <= 150);
	l.most = 60;
	CHECK(chooser_choose(ch, &l) <= 30);
	l.most = 20000;
	l.script = rec.buf.len * 2;
	CHECK(chooser_choose(ch, &l) >= 15 && chooser_choose(ch, &l) <= 20);
	stop();
	start();
	for (uint64_t i = 0; i < 200; i++)
		create(100 + i, i < 5 ? 100 : 0);
	l.script = 0;
	l.fill = 0;
	alone = chooser_choose(ch, &l);
	l.fill = 1000000;
	CHECK_EQ(chooser_choose(ch, &l), alone);
	stop();
}

static void write_at(uint64_t ino, uint32_t chunk, uint32_t pos, uint32_t bytes)
{
	struct extent_val e = { .pos = pos, .len = bytes, .kind = EXT_STAGED, .segment = 1, .off = (uint32_t)seq * 8192, .run_len = bytes };

	e.run_off = e.off;
	begin(OP_WRITE);
	rec_put_extent(&rec, ino, chunk, &e, IF_NEW);
	commit();
}

/* The record of *ino goes, not its bytes if others may still see them: nothing comes after that. */
static void trashed(uint64_t *ino)
{
	struct jkey k;

	begin(OP_UNLINK);
	key_inode(&k, *ino);
	rec_del(&rec, &k, 0);
	commit();
	++*ino;
}

static void random_record(unsigned *rnd, uint64_t *once)
{
	uint64_t ino = 100 + (uint64_t)(rand_r(rnd) % 12);

	switch (rand_r(rnd) % 8) {
	case 6:
		trashed(once);
		break;
	case 7:
		if (rand_r(rnd) % 3 == 0)
			create(*once, 100);
		else
			write_at(*once, 0, (uint32_t)(rand_r(rnd) % 4000), 1 + (uint32_t)(rand_r(rnd) % 3000));
		break;
	case 0:
		create(ino, 1 + (uint32_t)(rand_r(rnd) % 4000));
		break;
	case 1:
		drop(ino);
		break;
	case 2:
		begin(OP_TRUNCATE);
		rec_cut(&rec, ino, (uint64_t)(rand_r(rnd) % 6000), 0);
		commit();
		break;
	case 3:
		begin(OP_TRIM);
		commit();
		break;
	default:
		write_at(ino, (uint32_t)(rand_r(rnd) % 2), (uint32_t)(rand_r(rnd) % 4000), 1 + (uint32_t)(rand_r(rnd) % 3000));
	}
}

/* What both say of every end behind `from`. */
static void same_answers(const struct chooser *a, const struct chooser *b, uint64_t from, unsigned *rnd)
{
	struct chooser_limits l = { .want = 1 + (uint64_t)(rand_r(rnd) % 100), .most = 200, .bytes = (uint64_t)(rand_r(rnd) % 50000),
		.script = (uint64_t)(rand_r(rnd) % 5000), .fill = (uint64_t)(rand_r(rnd) % 30000) };

	CHECK_EQ(chooser_commands(a), chooser_commands(b));
	CHECK_EQ(chooser_last(a), chooser_last(b));
	for (l.due = from + 1; l.due <= seq; l.due++) {
		uint64_t live[2], waste[2];

		chooser_bytes(a, l.due, &live[0], &waste[0]);
		chooser_bytes(b, l.due, &live[1], &waste[1]);
		CHECK_EQ(live[0], live[1]);
		CHECK_EQ(waste[0], waste[1]);
		CHECK_EQ(chooser_choose(a, &l), chooser_choose(b, &l));
	}
}

static void going_on_is_like_beginning_there(void)
{
	static struct { uint8_t b[512]; size_t len; } log[401];
	unsigned rnd = (unsigned)unit_seed();

	for (int round = 0; round < 60 && !unit_failures; round++) {
		uint64_t from = 0, once = 1000, steps = 1 + (uint64_t)(rand_r(&rnd) % 400);
		struct chooser *there;

		start();
		while (seq < steps) {
			random_record(&rnd, &once);
			REQUIRE(rec.buf.len <= sizeof(log[0].b));
			memcpy(log[seq].b, rec.buf.data, rec.buf.len);
			log[seq].len = rec.buf.len;
			if (rand_r(&rnd) % 20 == 0) {
				from += (uint64_t)rand_r(&rnd) % (seq - from + 1);
				REQUIRE(chooser_advance(ch, from));
			}
		}
		there = chooser_new(from);
		REQUIRE(there);
		for (uint64_t i = from + 1; i <= seq; i++)
			REQUIRE(chooser_feed(there, i, log[i].b, log[i].len) == 0);
		same_answers(ch, there, from, &rnd);
		CHECK(!chooser_advance(ch, seq + 1));
		chooser_free(there);
		stop();
	}
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "avoids_dead_bytes", avoids_dead_bytes },
		{ "history_39_overlapping_temp_files", history_39_overlapping_temp_files },
		{ "history_40_no_huge_script", history_40_no_huge_script },
		{ "upload_time_bounds_a_window", upload_time_bounds_a_window },
		{ "batch_bytes_bound_a_script", batch_bytes_bound_a_script },
		{ "a_window_grows_until_an_object_is_full", a_window_grows_until_an_object_is_full },
		{ "going_on_is_like_beginning_there", going_on_is_like_beginning_there }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
