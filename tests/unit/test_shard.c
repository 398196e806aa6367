#include "tests/unit/unit.h"

#include <errno.h>

#include "s3/shard.h"

/* The values of spec/juicefs-format.md 4.7, seen on a stock volume. */
static void picks_as_stock_does(void)
{
	CHECK_EQ(shard_hash("myjfs/chunks/0/0/1_0_5000"), 0x8b80cc4cu);
	CHECK_EQ(shard_pick("myjfs/chunks/0/0/1_0_5000", 4), 0);
	CHECK_EQ(shard_hash("myjfs/chunks/0/4/4097_0_10000"), 0x4740792fu);
	CHECK_EQ(shard_pick("myjfs/chunks/0/4/4097_0_10000", 4), 3);
	CHECK_EQ(shard_hash("myjfs/juicefs_uuid"), 0x991d29ceu);
	CHECK_EQ(shard_pick("myjfs/juicefs_uuid", 4), 2);
	CHECK_EQ(shard_pick("x", 0), 0);
	CHECK_EQ(shard_pick("x", 1), 0);
}

static void names_buckets(void)
{
	char b[40];

	CHECK(shard_bucket("/srv/s%d/", 4, 3, b, sizeof(b), NULL) == 0 && strcmp(b, "/srv/s3/") == 0);
	CHECK(shard_bucket("b%03d", 200, 17, b, sizeof(b), NULL) == 0 && strcmp(b, "b017") == 0);
	CHECK(shard_bucket("100%%-%d", 2, 1, b, sizeof(b), NULL) == 0 && strcmp(b, "100%-1") == 0);
	CHECK(shard_bucket("/srv/100%d", 1, 0, b, sizeof(b), NULL) == 0 && strcmp(b, "/srv/100%d") == 0);
}

static void refuses_other_formats(void)
{
	struct errmsg e;
	char b[8];

	CHECK_EQ(shard_bucket("plain", 2, 0, b, sizeof(b), &e), -EINVAL);
	CHECK_STR(e.text, "bucket \"plain\" of a volume with 2 shards must hold one %d");
	CHECK_EQ(shard_bucket("%s", 2, 0, b, sizeof(b), &e), -EINVAL);
	CHECK_EQ(shard_bucket("%n%d", 2, 0, b, sizeof(b), &e), -EINVAL);
	CHECK_EQ(shard_bucket("%d%d", 2, 0, b, sizeof(b), &e), -EINVAL);
	CHECK_EQ(shard_bucket("x%", 2, 0, b, sizeof(b), &e), -EINVAL);
	CHECK_EQ(shard_bucket("%99d", 2, 0, b, sizeof(b), &e), -EINVAL);
	CHECK_EQ(shard_bucket("toolong%d", 2, 0, b, sizeof(b), &e), -ENAMETOOLONG);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"picks_as_stock_does", picks_as_stock_does},
		{"names_buckets", names_buckets}, {"refuses_other_formats", refuses_other_formats}, {0}};

	return unit_main(argc, argv, tests);
}
