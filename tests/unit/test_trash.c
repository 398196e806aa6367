/* The script that removes from the trash, on a real Redis: what it refuses leaves everything as it was. */
#include "tests/unit/redis_server.h"
#include "tests/unit/unit.h"

#include "redis/trash.h"
#include "util/buf.h"
#include "util/jfsfmt.h"

#define HOUR 9223372032828243969u /* the first one */

static struct redis_server server;
static struct rds_conn *conn;

static void cmd(const char *text)
{
	struct errmsg e;

	REQUIRE(rds_cmd(conn, NULL, &e, text) == 0);
}

static long long number(const char *text)
{
	struct redisReply *r = NULL;
	struct errmsg e;

	REQUIRE(rds_cmd(conn, &r, &e, text) == 0);
	long long n = r->type == REDIS_REPLY_INTEGER ? r->integer : r->str ? atoll(r->str) : -1;

	rds_reply_free(r);
	return n;
}

static void put_inode(uint64_t ino, uint8_t type, uint32_t nlink, uint64_t len, uint64_t parent, uint8_t flags)
{
	struct jfs_attr a = {.flags = flags, .type = type, .mode = 0600, .nlink = nlink, .length = len, .parent = parent};
	uint8_t rec[JFS_ATTR_MAX], entry[9];
	size_t n = jfs_attr_encode(&a, rec);
	struct errmsg e;

	entry[0] = type;
	put_be64(entry + 1, ino);
	REQUIRE(rds_cmd(conn, NULL, &e, "SET i%llu %b", (unsigned long long)ino, rec, n) == 0);
	REQUIRE(rds_cmd(conn, NULL, &e, "HSET d%llu 1-%llu-x %b", (unsigned long long)HOUR, (unsigned long long)ino, entry,
			sizeof(entry)) == 0);
}

static void put_slice(uint64_t ino, uint64_t id, uint32_t size)
{
	uint8_t rec[24] = {0};
	struct errmsg e;

	put_be64(rec + 4, id);
	put_be32(rec + 12, size);
	put_be32(rec + 20, size);
	REQUIRE(rds_cmd(conn, NULL, &e, "RPUSH c%llu_0 %b", (unsigned long long)ino, rec, sizeof(rec)) == 0);
}

static int drop(uint64_t ino, bool dir, struct trash_removal *t)
{
	static char name[32];
	struct errmsg e;

	snprintf(name, sizeof(name), "1-%llu-x", (unsigned long long)ino);
	*t = (struct trash_removal){.epoch = 5, .parent = HOUR, .name = name, .ino = ino, .dir = dir};
	return rds_trash_remove(conn, t, &e);
}

static void fresh(void)
{
	cmd("FLUSHALL");
	cmd("HSET zjfs epoch 5 seq 77 chain abc");
	cmd("MSET usedSpace 1000000 totalInodes 10");
	cmd("HSET dirDataLength 9223372032828243969 500");
	cmd("HSET dirUsedSpace 9223372032828243969 90000");
	cmd("HSET dirUsedInodes 9223372032828243969 9");
}

static void file_goes_with_its_slices(void)
{
	struct trash_removal t;

	fresh();
	put_inode(7, JFS_FILE, 1, 300, HOUR, 0);
	put_slice(7, 11, 200);
	put_slice(7, 12, 100);
	cmd("HSET sliceRef k12_100 1"); /* somebody else names it too */
	CHECK_EQ(drop(7, false, &t), 0);
	CHECK_EQ(t.space, 4096);
	CHECK_EQ(t.inodes, 1);
	CHECK_EQ(number("EXISTS i7 c7_0 d9223372032828243969 sliceRef"), 0);
	CHECK_EQ(number("HGET zjfs.dead k11_200"), 78); /* behind the position */
	CHECK_EQ(number("HLEN zjfs.dead"), 1);
	CHECK_EQ(number("GET usedSpace"), 1000000 - 4096);
	CHECK_EQ(number("GET totalInodes"), 9);
	CHECK_EQ(number("HGET dirDataLength 9223372032828243969"), 200);
	CHECK_EQ(number("HGET dirUsedSpace 9223372032828243969"), 90000 - 4096);
	CHECK_EQ(number("HGET dirUsedInodes 9223372032828243969"), 8);
	CHECK_EQ(number("HGET zjfs seq"), 77);
	CHECK_EQ(drop(7, false, &t), -ENOENT);
}

static void empty_file_and_large_file(void)
{
	struct trash_removal t;

	fresh();
	put_inode(7, JFS_FILE, 1, 0, HOUR, 0);
	CHECK_EQ(drop(7, false, &t), 0);
	put_inode(8, JFS_FILE, 1, 1001ull << 26, HOUR, 0);
	put_slice(8, 11, 200);
	CHECK_EQ(drop(8, false, &t), 0);
	CHECK_EQ(t.space, 1001ll << 26);
	CHECK(number("ZSCORE delfiles 8:67175972864") > 0);
	CHECK_EQ(number("LLEN c8_0"), 1); /* stock's to dismantle */
	CHECK_EQ(number("EXISTS zjfs.dead"), 0);
}

/* What is counted in holes goes far beyond what a double holds exactly. */
static void sparse_file_beyond_double(void)
{
	const uint64_t len = (1ull << 57) - 4095; /* its pages are 2^57 bytes */
	struct trash_removal t;
	char text[200];

	fresh();
	put_inode(9, JFS_FILE, 1, len, HOUR, 0);
	snprintf(text, sizeof(text), "SET usedSpace %llu", 3000ull * 4096 + (1ull << 57));
	cmd(text);
	snprintf(text, sizeof(text), "HSET dirDataLength 9223372032828243969 %llu", 500 + (unsigned long long)len);
	cmd(text);
	snprintf(text, sizeof(text), "HSET dirUsedSpace 9223372032828243969 %llu", 4096 + (1ull << 57));
	cmd(text);
	CHECK_EQ(drop(9, false, &t), 0);
	CHECK_EQ(t.space, 1ll << 57);
	CHECK_EQ(number("GET usedSpace"), 3000 * 4096);
	CHECK_EQ(number("HGET dirDataLength 9223372032828243969"), 500);
	CHECK_EQ(number("HGET dirUsedSpace 9223372032828243969"), 4096);
	snprintf(text, sizeof(text), "ZSCORE delfiles 9:%llu", (unsigned long long)len);
	CHECK(number(text) > 0);
	fresh();
	cmd("SET usedSpace 9223372036854775807"); /* none that could be counted down from */
	put_inode(9, JFS_FILE, 1, 1, HOUR, 0);
	CHECK_EQ(drop(9, false, &t), -EUCLEAN);
	CHECK_EQ(number("EXISTS i9"), 1);
}

static void one_name_of_two(void)
{
	struct trash_removal t;
	struct redisReply *r = NULL;
	struct jfs_attr a;
	struct errmsg e;

	fresh();
	put_inode(7, JFS_FILE, 2, 300, 0, 0);
	put_slice(7, 11, 200);
	cmd("HSET p7 9223372032828243969 1 1 1");
	CHECK_EQ(drop(7, false, &t), 0);
	CHECK_EQ(t.inodes, 0);
	CHECK_EQ(number("LLEN c7_0"), 1);
	CHECK_EQ(number("HGET p7 9223372032828243969"), 0);
	CHECK_EQ(number("GET usedSpace"), 1000000);
	REQUIRE(rds_cmd(conn, &r, &e, "GET i7") == 0);
	REQUIRE(jfs_attr_decode(r->str, r->len, &a) == 0);
	CHECK_EQ(a.nlink, 1);
	CHECK_EQ(a.length, 300);
	CHECK(a.ctime > 0);
	rds_reply_free(r);
}

static void directories(void)
{
	struct trash_removal t;

	fresh();
	put_inode(7, JFS_DIR, 2, 4096, HOUR, 0);
	cmd("HSET d7 child x");
	cmd("HSET dirUsedSpace 7 0");
	CHECK_EQ(drop(7, true, &t), -ENOTEMPTY);
	CHECK_EQ(drop(7, false, &t), -EISDIR);
	cmd("DEL d7");
	CHECK_EQ(drop(7, true, &t), 0);
	CHECK_EQ(number("HEXISTS dirUsedSpace 7"), 0);
	CHECK_EQ(number("EXISTS i7"), 0);
	put_inode(8, JFS_FILE, 1, 0, HOUR, 0);
	CHECK_EQ(drop(8, true, &t), -ENOTDIR);
}

static void refused_and_untouched(void)
{
	struct trash_removal t;

	fresh();
	put_inode(7, JFS_FILE, 1, 300, HOUR, 0);
	put_slice(7, 11, 200);
	cmd("HSET zjfs epoch 6");
	CHECK_EQ(drop(7, false, &t), -EKEYREVOKED);
	cmd("HSET zjfs epoch 4");
	CHECK_EQ(drop(7, false, &t), -EAGAIN);
	cmd("DEL zjfs");
	CHECK_EQ(drop(7, false, &t), -ENODATA);
	cmd("HSET zjfs epoch 5 seq 77");
	cmd("SET usedSpace many");
	CHECK_EQ(drop(7, false, &t), -EUCLEAN);
	cmd("SET usedSpace 1000000");
	cmd("SET sliceRef wrong");
	CHECK_EQ(drop(7, false, &t), -EUCLEAN);
	cmd("DEL sliceRef");
	cmd("RPUSH c7_0 short");
	CHECK_EQ(drop(7, false, &t), -EUCLEAN);
	CHECK_EQ(number("EXISTS i7 c7_0 d9223372032828243969"), 3);
	CHECK_EQ(number("GET usedSpace"), 1000000);
	cmd("RPOP c7_0");
	put_inode(7, JFS_FILE, 1, 300, HOUR, 1); /* immutable */
	CHECK_EQ(drop(7, false, &t), -EPERM);
	put_inode(7, JFS_FILE, 1, 300, HOUR, 0);
	CHECK_EQ(drop(7, false, &t), 0);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"file_goes_with_its_slices", file_goes_with_its_slices},
		{"sparse_file_beyond_double", sparse_file_beyond_double},
		{"empty_file_and_large_file", empty_file_and_large_file}, {"one_name_of_two", one_name_of_two},
		{"directories", directories}, {"refused_and_untouched", refused_and_untouched}, {0}};
	struct rds_url u;
	struct errmsg e;

	signal(SIGPIPE, SIG_IGN);
	redis_server_start(&server);
	REQUIRE(rds_url_parse(server.url, &u, &e) == 0 && rds_conn_new(&u, &conn, &e) == 0);
	int status = unit_main(argc, argv, tests);
	rds_conn_free(conn);
	redis_server_end(&server);
	return status;
}
