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

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "avoids_dead_bytes", avoids_dead_bytes },
		{ "history_39_overlapping_temp_files", history_39_overlapping_temp_files },
		{ "history_40_no_huge_script", history_40_no_huge_script },
		{ "upload_time_bounds_a_window", upload_time_bounds_a_window },
		{ "batch_bytes_bound_a_script", batch_bytes_bound_a_script }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
