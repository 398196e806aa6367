/* The file back end through the public interface, in a real directory. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "s3/object.h"

static char dir[64], bucket[96];

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
	(void)s;
	(void)type;
	(void)ftw;
	return remove(path);
}

static struct obj_store *store_open(const char *b, unsigned shards)
{
	struct obj_config cfg = {.storage = "file", .bucket = b, .shards = shards, .max_parallel = 4};
	struct obj_store *st = NULL;
	struct errmsg e = {""};

	CHECK_EQ(obj_store_open(&cfg, &st, &e), 0);
	REQUIRE(st);
	return st;
}

static void put_get_head_delete(void)
{
	struct obj_store *st = store_open(bucket, 0);
	uint8_t *data = NULL;
	uint64_t size = 7;
	struct stat s;
	struct errmsg e;
	char path[200];
	size_t n;

	CHECK_EQ(obj_put(st, "vol/chunks/0/0/1_0_5", "hello", 5, &e), 0);
	snprintf(path, sizeof(path), "%svol/chunks/0/0/1_0_5", bucket);
	CHECK(stat(path, &s) == 0 && s.st_size == 5);
	CHECK(obj_get(st, "vol/chunks/0/0/1_0_5", &data, &n, &e) == 0 && n == 5 && memcmp(data, "hello", 5) == 0);
	free(data);
	CHECK(obj_get_range(st, "vol/chunks/0/0/1_0_5", 1, 3, &data, &n, &e) == 0 && n == 3 && !memcmp(data, "ell", 3));
	free(data);
	CHECK(obj_get_range(st, "vol/chunks/0/0/1_0_5", 3, 99, &data, &n, &e) == 0 && n == 2);
	free(data);
	CHECK(obj_get_range(st, "vol/chunks/0/0/1_0_5", 9, 1, &data, &n, &e) == 0 && n == 0);
	free(data);
	CHECK(obj_head(st, "vol/chunks/0/0/1_0_5", &size, &e) == 0 && size == 5);
	CHECK_EQ(obj_put(st, "vol/empty", NULL, 0, &e), 0);
	CHECK(obj_get(st, "vol/empty", &data, &n, &e) == 0 && n == 0);
	free(data);
	CHECK_EQ(obj_delete(st, "vol/chunks/0/0/1_0_5", &e), 0);
	CHECK_EQ(obj_delete(st, "vol/chunks/0/0/1_0_5", &e), 0);
	CHECK_EQ(obj_get(st, "vol/chunks/0/0/1_0_5", &data, &n, &e), -ENOENT);
	CHECK(strstr(e.text, "vol/chunks/0/0/1_0_5"));
	CHECK_EQ(obj_head(st, "vol/chunks", &size, &e), -ENOENT); /* a directory is no object */
	CHECK_EQ(obj_head(st, "vol/empty/below", &size, &e), -ENOENT);
	snprintf(path, sizeof(path), "%svol/chunks/0/0", bucket);
	CHECK(stat(path, &s) == 0 && S_ISDIR(s.st_mode)); /* directories stay */
	obj_store_close(st);
}

static void no_way_out(void)
{
	static const char *const bad[] = {"", "/etc/x", "../x", "a/../../x", "a/..", ".", "a//b", "a/", "a/./b", NULL};
	struct obj_store *st = store_open(bucket, 0);
	struct errmsg e;

	for (int i = 0; bad[i]; i++) {
		CHECK_EQ(obj_put(st, bad[i], "x", 1, &e), -EINVAL);
		CHECK_EQ(obj_delete(st, bad[i], &e), -EINVAL);
	}
	CHECK_EQ(obj_put(st, "a/..b", "x", 1, &e), 0);
	CHECK_EQ(obj_put(st, "a/...", "x", 1, &e), 0);
	obj_store_close(st);
}

struct seen {
	int n, stop_at;
	uint64_t bytes;
	char keys[16][64];
};

static int seen_add(void *arg, const char *key, uint64_t size, int64_t mtime)
{
	struct seen *s = arg;

	CHECK(mtime > 0);
	if (s->n < 16)
		snprintf(s->keys[s->n], sizeof(s->keys[0]), "%s", key);
	s->bytes += size;
	return ++s->n == s->stop_at ? 42 : 0;
}

static void listing(void)
{
	struct obj_store *st = store_open(bucket, 0);
	struct seen all = {0}, some = {0}, stopped = {.stop_at = 2}, none = {0};
	struct errmsg e;

	CHECK_EQ(obj_list(st, "l/", seen_add, &none, &e), 0);
	CHECK_EQ(none.n, 0);
	CHECK_EQ(obj_put(st, "l/a/1", "x", 1, &e), 0);
	CHECK_EQ(obj_put(st, "l/a/22", "xy", 2, &e), 0);
	CHECK_EQ(obj_put(st, "l/ab", "xyz", 3, &e), 0);
	CHECK_EQ(obj_list(st, "l/", seen_add, &all, &e), 0);
	CHECK(all.n == 3 && all.bytes == 6);
	CHECK_EQ(obj_list(st, "l/a/2", seen_add, &some, &e), 0);
	CHECK_EQ(some.n, 1);
	CHECK_STR(some.keys[0], "l/a/22");
	CHECK_EQ(obj_list(st, "l/", seen_add, &stopped, &e), 42);
	CHECK_EQ(stopped.n, 2);
	obj_store_close(st);
}

static void shards_and_check(void)
{
	char b[128], path[200];
	struct obj_store *st;
	struct seen all = {0};
	struct errmsg e;
	struct stat s;

	snprintf(b, sizeof(b), "%s/s%%d", dir);
	st = store_open(b, 4);
	CHECK_EQ(obj_check(st, "myjfs", &e), 0);
	CHECK_EQ(obj_put(st, "myjfs/chunks/0/4/4097_0_10000", "abc", 3, &e), 0);
	CHECK_EQ(obj_put(st, "myjfs/juicefs_uuid", "abcd", 4, &e), 0);
	snprintf(path, sizeof(path), "%s/s3/myjfs/chunks/0/4/4097_0_10000", dir);
	CHECK_EQ(stat(path, &s), 0);
	snprintf(path, sizeof(path), "%s/s2/myjfs/juicefs_uuid", dir);
	CHECK_EQ(stat(path, &s), 0);
	CHECK_EQ(obj_list(st, "", seen_add, &all, &e), 0);
	CHECK(all.n == 2 && all.bytes == 7); /* the check left nothing */
	obj_store_close(st);
}

static void a_failed_put_leaves_nothing(void)
{
	struct obj_store *st = store_open(bucket, 0);
	struct seen all = {0};
	struct errmsg e;

	CHECK_EQ(obj_put(st, "f/a", "x", 1, &e), 0);
	CHECK_EQ(obj_put(st, "f/d/x", "x", 1, &e), 0);
	CHECK_EQ(obj_put(st, "f/d", "x", 1, &e), -EISDIR); /* rename onto a directory */
	CHECK(obj_put(st, "f/a/b", "x", 1, &e) < 0);
	CHECK_EQ(obj_list(st, "f/", seen_add, &all, &e), 0);
	CHECK_EQ(all.n, 2);
	obj_store_close(st);
}

static void a_removed_directory_is_made_again(void)
{
	struct obj_store *st = store_open(bucket, 0);
	struct errmsg e;
	char path[200];

	CHECK_EQ(obj_put(st, "again/d/x", "x", 1, &e), 0);
	snprintf(path, sizeof(path), "%sagain", bucket);
	CHECK_EQ(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	CHECK_EQ(obj_put(st, "again/d/x", "x", 1, &e), 0);
	obj_store_close(st);
}

static void open_errors(void)
{
	struct obj_config cfg = {.storage = "ftp", .bucket = "/x"};
	struct obj_store *st;
	struct errmsg e;

	CHECK_EQ(obj_store_open(&cfg, &st, &e), -ENOTSUP);
	CHECK(strstr(e.text, "ftp"));
	cfg.storage = "file";
	cfg.bucket = "relative/";
	CHECK_EQ(obj_store_open(&cfg, &st, &e), -EINVAL);
	CHECK(strstr(e.text, "relative/"));
	cfg.bucket = "/noverb/";
	cfg.shards = 3;
	CHECK_EQ(obj_store_open(&cfg, &st, &e), -EINVAL);
	obj_store_close(NULL);
}

struct counter {
	pthread_mutex_t lock;
	int ok, canceled, other;
};

static void count_done(void *arg, const struct obj_result *res)
{
	struct counter *c = arg;

	pthread_mutex_lock(&c->lock);
	c->ok += res->err == 0;
	c->canceled += res->err == -ECANCELED;
	c->other += res->err != 0 && res->err != -ECANCELED;
	pthread_mutex_unlock(&c->lock);
}

static void every_request_is_answered_once(void)
{
	struct counter c = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct obj_store *st = store_open(bucket, 0);
	struct seen all = {0};
	struct errmsg e;

	for (int i = 0; i < 200; i++) {
		char key[40];
		struct obj_request req = {.op = OBJ_PUT, .key = key, .data = "data", .len = 4, .interactive = i & 1,
			.done = count_done, .arg = &c};

		snprintf(key, sizeof(key), "many/%d/%d", i % 7, i);
		CHECK_EQ(obj_submit(st, &req), 0);
	}
	obj_store_close(st);
	CHECK(c.ok + c.canceled == 200 && c.other == 0);
	st = store_open(bucket, 0);
	CHECK_EQ(obj_list(st, "many/", seen_add, &all, &e), 0);
	CHECK_EQ(all.n, c.ok); /* what was canceled was not done */
	obj_store_close(st);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"put_get_head_delete", put_get_head_delete}, {"no_way_out", no_way_out},
		{"listing", listing}, {"shards_and_check", shards_and_check},
		{"a_failed_put_leaves_nothing", a_failed_put_leaves_nothing},
		{"a_removed_directory_is_made_again", a_removed_directory_is_made_again}, {"open_errors", open_errors},
		{"every_request_is_answered_once", every_request_is_answered_once}, {0}};
	int status;

	snprintf(dir, sizeof(dir), "%s/jfs-unit-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	REQUIRE(mkdtemp(dir));
	snprintf(bucket, sizeof(bucket), "%s/b/", dir);
	status = unit_main(argc, argv, tests);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return status;
}
