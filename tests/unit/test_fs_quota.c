/* Quotas case by case: EDQUOT at the right byte, and what other clients do in Redis is taken over. */
#include <linux/falloc.h>

#include "tests/unit/quota_kit.h"

static void the_right_byte(void)
{
	uint64_t q, ino, other, copied;
	struct fs_quota list[1];
	struct fk f;

	qk_init(&f, false);
	CHECK_EQ(fk_mkdir(&f, 1, "q", &q), 0);
	list[0] = limit(QUOTA_DIR, q, 5 * PAGE, 2);
	settled(&f, list, 1);
	ino = fk_file(&f, q, "f");
	CHECK_USED(&f, QUOTA_DIR, q, 1, 1);
	CHECK_EQ(fk_write(&f, ino, 5 * PAGE - 1, "x", 1), 0);
	CHECK_EQ(fk_write(&f, ino, 5 * PAGE, "x", 1), -EDQUOT);
	CHECK_EQ(fk_truncate(&f, ino, 5 * PAGE + 1), -EDQUOT);
	CHECK_EQ(fk_write(&f, ino, 2 * PAGE, "inside", 6), 0); /* sparse or not, only the length counts */
	CHECK_EQ(FK(&f, fs_fallocate(f.fs, &f.c, ino, FALLOC_FL_KEEP_SIZE, 0, 9 * PAGE, &f.seq, &f.need)), 0);
	CHECK_EQ(FK(&f, fs_fallocate(f.fs, &f.c, ino, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4 * PAGE, &f.seq, &f.need)), 0);
	CHECK_USED(&f, QUOTA_DIR, q, 5, 1);
	CHECK_EQ(fk_create(&f, q, "g", &other), -EDQUOT);
	CHECK_EQ(fk_truncate(&f, ino, 4 * PAGE), 0);
	other = fk_file(&f, q, "g");
	CHECK_EQ(fk_mkdir(&f, q, "h", &copied), -EDQUOT); /* names */
	CHECK_EQ(FK(&f, fs_copy_range(f.fs, &f.c, ino, 0, other, 0, PAGE, &copied, &f.seq, &f.need)), 0);
	CHECK_EQ(FK(&f, fs_copy_range(f.fs, &f.c, ino, 0, other, 0, PAGE + 1, &copied, &f.seq, &f.need)), -EDQUOT);
	CHECK_EQ(copied, 0);
	CHECK_USED(&f, QUOTA_DIR, q, 5, 2);
	fk_fini(&f);
}

static void a_file_without_a_name(void)
{
	struct fs_quota list[2];
	uint64_t q, ino;
	struct fk f;

	qk_init(&f, false);
	CHECK_EQ(fk_mkdir(&f, 1, "q", &q), 0);
	list[0] = limit(QUOTA_DIR, q, 2 * PAGE, -1);
	list[1] = limit(QUOTA_USER, 7, 4 * PAGE, -1);
	settled(&f, list, 2);
	f.c.uid = 7;
	ino = fk_file(&f, q, "f");
	CHECK_EQ(fk_unlink(&f, q, "f"), 0); /* held */
	CHECK_USED(&f, QUOTA_DIR, q, 0, 0);
	CHECK_EQ(fk_write(&f, ino, 4 * PAGE - 1, "x", 1), 0);
	CHECK_EQ(fk_write(&f, ino, 4 * PAGE, "x", 1), -EDQUOT); /* the owner's counts on */
	CHECK_USED(&f, QUOTA_USER, 7, 4, 1);
	fk_restart(&f, true); /* nobody holds it any more */
	CHECK_USED(&f, QUOTA_USER, 7, 0, 0);
	CHECK_USED(&f, QUOTA_DIR, q, 0, 0);
	fk_fini(&f);
}

/* Of many quotas in Redis the one that is new is counted, wherever it stands. */
static void a_new_one_among_many(void)
{
	enum { MANY = 1300 };
	static const size_t places[] = { 0, 499, 500, 1299 };
	struct fs_quota *list = calloc(MANY, sizeof(*list)), was;
	uint64_t q, which[4];
	struct fk f;

	REQUIRE(list);
	for (size_t i = 0; i < MANY; i++)
		list[i] = limit(QUOTA_DIR, 1000000 + i, -1, 5);
	qk_init(&f, false);
	CHECK_EQ(fk_mkdir(&f, 1, "q", &q), 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		settled(&f, list, MANY);
		was = list[places[i]];
		list[places[i]] = limit(QUOTA_DIR, q, -1, 1);
		CHECK_EQ(sync_at(&f, 0, false, list, MANY, which), 1);
		CHECK_EQ(which[0], places[i]);
		list[places[i]] = was;
	}
	free(list);
	fk_fini(&f);
}

/* An owner whose usage is known, and who writes before Redis was asked again (mounted offline): it counts once. */
static void an_owner_is_known_offline(void)
{
	struct fs_quota list[1] = { limit(QUOTA_USER, 7, 20 * PAGE, -1) };
	uint64_t ino, which[4];
	struct fk f;

	list[0].used_space = 10 * PAGE;
	list[0].used_inodes = 3;
	qk_init(&f, false);
	settled(&f, list, 1);
	for (int kill = 0; kill < 2; kill++) {
		fk_restart(&f, kill);
		f.c.uid = 7;
		CHECK_EQ(fk_create(&f, 1, kill ? "g" : "f", &ino), 0);
		CHECK_USED(&f, QUOTA_USER, 7, 11 + kill, 4 + kill);
	}
	CHECK_EQ(fk_truncate(&f, ino, 9 * PAGE + 1), -EDQUOT);
	CHECK_EQ(fk_truncate(&f, ino, 9 * PAGE), 0);
	/* Redis is back, and nothing of it is there yet */
	CHECK_EQ(sync_at(&f, 0, false, list, 1, which), 0);
	CHECK_USED(&f, QUOTA_USER, 7, 20, 5);
	/* and now it is, with what somebody else took away */
	list[0].used_space = 18 * PAGE;
	list[0].used_inodes = 4;
	CHECK_EQ(sync_at(&f, fk_mark(&f), false, list, 1, which), 0);
	CHECK_USED(&f, QUOTA_USER, 7, 18, 4);
	fk_fini(&f);
}

/* Owners are counted since a moment ago and Redis was not asked: what it has comes on top, once, also after a kill. */
static void an_owner_is_not_known_yet(void)
{
	struct fs_quota list[1] = { limit(QUOTA_USER, 7, -1, -1) };
	uint64_t ino, which[4];
	struct fk f;

	list[0].used_space = 10 * PAGE;
	list[0].used_inodes = 3;
	for (int kill = 0; kill < 2; kill++) {
		qk_init(&f, false);
		f.c = (struct fs_cred){ .uid = 7, .gid = 8 };
		CHECK_EQ(fk_create(&f, 1, "f", &ino), 0);
		if (kill)
			fk_restart(&f, true);
		CHECK_USED(&f, QUOTA_USER, 7, 1, 1);
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(sync_at(&f, 0, false, list, 1, which), 0);
			CHECK_USED(&f, QUOTA_USER, 7, 11, 4);
			CHECK_USED(&f, QUOTA_GROUP, 8, 1, 1);
		}
		/* Redis names the group later, with what we told it */
		struct fs_quota both[2] = { list[0], limit(QUOTA_GROUP, 8, -1, -1) };
		both[1].used_space = PAGE;
		both[1].used_inodes = 1;
		CHECK_EQ(fk_truncate(&f, ino, 2 * PAGE), 0);
		CHECK_EQ(sync_at(&f, 1, false, both, 2, which), 0);
		CHECK_USED(&f, QUOTA_GROUP, 8, 2, 1);
		fk_fini(&f);
	}
}

static int quota_records(struct fk *f, uint64_t from)
{
	return fk_items(f, from, IT_QUOTA);
}

/* What stock counted while we did is put right after the next sync; if there was none, when it is counted again. */
static void counted_once_more(void)
{
	struct fs_quota list[1];
	uint64_t q, which[4], at;
	struct fk f;

	for (int restart = 0; restart < 3; restart++) {
		qk_init(&f, false);
		CHECK_EQ(fk_mkdir(&f, 1, "q", &q), 0);
		fk_file(&f, q, "f");
		list[0] = limit(QUOTA_DIR, q, -1, 100);
		CHECK_EQ(sync_at(&f, 0, false, list, 1, which), 1);
		adopt(&f, &list[0]);
		fk_file(&f, q, "g");
		at = fk_mark(&f);
		list[0].used_inodes = 1; /* stock's */
		list[0].used_space = PAGE;
		if (restart) {
			fk_restart(&f, restart == 2);
			at = fk_mark(&f);
			CHECK_EQ(sync_at(&f, at, true, list, 1, which), 1);
			CHECK_EQ(quota_records(&f, at), 0);
			CHECK_USED(&f, QUOTA_DIR, q, 2, 2);
			adopt(&f, &list[0]);
			CHECK_EQ(quota_records(&f, at), 1);
			at = fk_mark(&f);
		}
		CHECK_EQ(sync_at(&f, at, false, list, 1, which), 0);
		CHECK_EQ(quota_records(&f, at), 1);
		CHECK_USED(&f, QUOTA_DIR, q, 2, 2);
		CHECK_EQ(told(&f, q).inodes, 2);
		at = fk_mark(&f);
		list[0].used_inodes = 2;
		list[0].used_space = 2 * PAGE;
		CHECK_EQ(sync_at(&f, at, false, list, 1, which), 0);
		CHECK_EQ(quota_records(&f, at), 0);
		fk_fini(&f);
	}
}

static void gone_and_changed_in_redis(void)
{
	struct fs_quota list[2];
	uint64_t q, ino, which[4];
	struct fk f;

	qk_init(&f, false);
	CHECK_EQ(fk_mkdir(&f, 1, "q", &q), 0);
	list[0] = limit(QUOTA_DIR, q, -1, 1);
	list[1] = limit(QUOTA_USER, 7, -1, 1);
	settled(&f, list, 2);
	fk_file(&f, q, "f");
	CHECK_EQ(fk_create(&f, q, "g", &ino), -EDQUOT);
	list[0].max_inodes = 3; /* limits count at once, usage when ours is there */
	list[0].used_inodes = 9;
	CHECK_EQ(sync_at(&f, 0, false, list, 2, which), 0);
	CHECK_USED(&f, QUOTA_DIR, q, 1, 1);
	CHECK_EQ(fk_create(&f, q, "g", &ino), 0);
	list[0].used_inodes = 3;
	CHECK_EQ(sync_at(&f, fk_mark(&f), false, list, 2, which), 0);
	CHECK_EQ(fk_create(&f, q, "h", &ino), -EDQUOT);
	f.c.uid = 7;
	CHECK_EQ(fk_create(&f, 1, "x", &ino), 0);
	CHECK_EQ(fk_create(&f, 1, "y", &ino), -EDQUOT);
	f.c.uid = 0;
	CHECK_EQ(sync_at(&f, 0, false, NULL, 0, which), 0); /* both are gone; of the owner that is not sure yet */
	CHECK_EQ(fk_create(&f, q, "h", &ino), 0);
	CHECK_USED(&f, QUOTA_USER, 7, 1, 1);
	fk_restart(&f, true);
	CHECK_EQ(used(&f, QUOTA_DIR, q).used_space, -1);
	CHECK_EQ(sync_at(&f, fk_mark(&f), false, NULL, 0, which), 0);
	CHECK_EQ(used(&f, QUOTA_USER, 7).used_space, -1);
	fk_fini(&f);
}

static void what_df_shows(void)
{
	struct fs_quota list[2];
	struct fs_statfs st;
	uint64_t q, in;
	struct fk f;

	qk_init(&f, false);
	CHECK_EQ(fk_mkdir(&f, 1, "q", &q), 0);
	CHECK_EQ(fk_mkdir(&f, q, "in", &in), 0);
	list[0] = limit(QUOTA_DIR, q, 10 * PAGE, 4);
	list[0].used_space = PAGE;
	list[0].used_inodes = 1;
	list[1] = limit(QUOTA_DIR, in, 20 * PAGE, -1);
	settled(&f, list, 2);
	CHECK_EQ(fk_truncate(&f, fk_file(&f, in, "f"), 3 * PAGE), 0);
	CHECK_EQ(fs_statfs(f.fs, in, &st), 0);
	CHECK_EQ(st.avail, 6 * PAGE);
	CHECK_EQ(st.total, 9 * PAGE);
	CHECK_EQ(st.inodes_avail, 2);
	CHECK_EQ(st.inodes_total, 3);
	CHECK_EQ(fs_statfs(f.fs, q, &st), 0);
	CHECK_EQ(st.total, 10 * PAGE);
	list[0].max_space = 2 * PAGE; /* less than what is used */
	settled(&f, list, 2);
	CHECK_EQ(fk_truncate(&f, fk_ino(&f, in, "f"), 9 * PAGE), -EDQUOT);
	CHECK_EQ(fs_statfs(f.fs, 1, &st), 0);
	CHECK(st.total > 1ull << 40);
	fk_fini(&f);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "the_right_byte", the_right_byte },
		{ "a_file_without_a_name", a_file_without_a_name },
		{ "a_new_one_among_many", a_new_one_among_many },
		{ "an_owner_is_known_offline", an_owner_is_known_offline },
		{ "an_owner_is_not_known_yet", an_owner_is_not_known_yet },
		{ "counted_once_more", counted_once_more },
		{ "gone_and_changed_in_redis", gone_and_changed_in_redis },
		{ "what_df_shows", what_df_shows },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
