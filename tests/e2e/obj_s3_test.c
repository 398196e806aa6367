/* The S3 back end against a real server that verifies signatures.
 *
 * obj_s3_test ENDPOINT ACCESS SECRET COMMAND...      COMMAND ends the server at once (the last test runs it) */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "s3/object.h"
#include "util/clock.h"

extern char **environ;
static const char *endpoint, *access_key, *secret_key;
static char **stop_command;

static struct obj_store *store_open(const char *bucket, const char *secret, unsigned retries, unsigned shards)
{
	char url[300];
	struct obj_config cfg = {.storage = "s3", .bucket = url, .access_key = access_key, .secret_key = secret,
		.max_parallel = 20, .retries = retries, .timeout_ms = 60000, .shards = shards};
	struct obj_store *st = NULL;
	struct errmsg e = {""};

	snprintf(url, sizeof(url), "%s/%s", endpoint, bucket);
	if (obj_store_open(&cfg, &st, &e))
		fprintf(stderr, "%s\n", e.text);
	REQUIRE(st);
	return st;
}

#define DO(call, want)                                                                                                \
	do {                                                                                                          \
		struct errmsg e = {""};                                                                               \
		int err_ = (call), want_ = (want);                                                                    \
		if (err_ != want_) {                                                                                  \
			fprintf(stderr, "%s:%d: %s is %d (%s), expected %d\n", __FILE__, __LINE__, #call, err_, e.text, want_); \
			unit_failures++;                                                                              \
		}                                                                                                     \
	} while (0)

static void check_twice(void)
{
	struct obj_store *st = store_open("main", secret_key, 3, 0);

	DO(obj_check(st, "vol", &e), 0); /* makes the bucket */
	DO(obj_check(st, "vol", &e), 0); /* finds it */
	obj_store_close(st);
}

static void roundtrip(struct obj_store *st, const char *key, const uint8_t *data, size_t len)
{
	uint8_t *got = NULL;
	uint64_t size = 99;
	size_t n = 77;

	DO(obj_put(st, key, data, len, &e), 0);
	DO(obj_head(st, key, &size, &e), 0);
	CHECK_EQ(size, len);
	DO(obj_get(st, key, &got, &n, &e), 0);
	CHECK(n == len && (!len || (got && memcmp(got, data, len) == 0)));
	free(got);
}

static void sizes_and_ranges(void)
{
	struct obj_store *st = store_open("main", secret_key, 3, 0);
	size_t len = 4 << 20, n;
	uint8_t *data = malloc(len), *got = NULL;
	uint64_t seed = unit_seed(), size;
	struct obj_stats stats;

	REQUIRE(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)unit_rand(&seed);
	roundtrip(st, "vol/chunks/0/0/1_0_4194304", data, len);
	roundtrip(st, "vol/chunks/0/0/2_0_1", data, 1);
	roundtrip(st, "vol/empty", data, 0);
	DO(obj_get_range(st, "vol/chunks/0/0/1_0_4194304", 1234567, 4096, &got, &n, &e), 0);
	CHECK(n == 4096 && got && memcmp(got, data + 1234567, n) == 0);
	free(got);
	got = NULL;
	DO(obj_get_range(st, "vol/chunks/0/0/1_0_4194304", len - 10, 4096, &got, &n, &e), 0);
	CHECK(n == 10 && got && memcmp(got, data + len - 10, n) == 0);
	free(got);
	got = NULL;
	DO(obj_get_range(st, "vol/chunks/0/0/1_0_4194304", len, 1, &got, &n, &e), 0);
	CHECK_EQ(n, 0);
	free(got);
	DO(obj_delete(st, "vol/empty", &e), 0);
	DO(obj_delete(st, "vol/empty", &e), 0);
	DO(obj_head(st, "vol/empty", &size, &e), -ENOENT);
	DO(obj_get(st, "vol/empty", &got, &n, &e), -ENOENT);
	obj_store_stats(st, &stats);
	CHECK(stats.puts == 3 && stats.put_bytes == len + 1 && stats.deletes == 2 && stats.in_flight == 0);
	free(data);
	obj_store_close(st);
}

static const char *const odd_keys[] = {"odd/a b", "odd/a+b", "odd/a%41b", "odd/\xc3\xa9\xe2\x82\xac", "odd/a&b=c;d",
	"odd/<x>'\"", "odd/q?r#s", "odd/~_-.!*()", "odd/dots/../up", "odd/back\\slash", "odd/@:,$", NULL};

struct seen {
	int n;
	unsigned found; /* bits of odd_keys */
	uint64_t bytes;
	int64_t oldest;
};

static int seen_add(void *arg, const char *key, uint64_t size, int64_t mtime)
{
	struct seen *s = arg;

	s->n++;
	s->bytes += size;
	if (!s->oldest || mtime < s->oldest)
		s->oldest = mtime;
	for (unsigned i = 0; odd_keys[i]; i++)
		if (strcmp(odd_keys[i], key) == 0)
			s->found |= 1u << i;
	return 0;
}

static void odd_characters(void)
{
	struct obj_store *st = store_open("main", secret_key, 0, 0);
	struct seen seen = {0};
	int n = 0;

	for (; odd_keys[n]; n++)
		roundtrip(st, odd_keys[n], (const uint8_t *)odd_keys[n], strlen(odd_keys[n]));
	DO(obj_list(st, "odd/", seen_add, &seen, &e), 0);
	CHECK_EQ(seen.n, n);
	CHECK_EQ(seen.found, (1u << n) - 1);
	CHECK(llabs(seen.oldest - clock_wall_sec()) < 300);
	for (n = 0; odd_keys[n]; n++)
		DO(obj_delete(st, odd_keys[n], &e), 0);
	obj_store_close(st);
}

struct crowd {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int ok, canceled, failed;
	char detail[400];
};

static void crowd_done(void *arg, const struct obj_result *res)
{
	struct crowd *c = arg;

	pthread_mutex_lock(&c->lock);
	c->ok += res->err == 0;
	c->canceled += res->err == -ECANCELED;
	if (res->err && res->err != -ECANCELED) {
		c->failed++;
		snprintf(c->detail, sizeof(c->detail), "%s", res->detail);
	}
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void crowd_put(struct obj_store *st, struct crowd *c, const char *prefix, int n)
{
	for (int i = 0; i < n; i++) {
		char key[64];
		struct obj_request req = {.op = OBJ_PUT, .key = key, .data = "crowd", .len = 5, .interactive = i % 10 == 0,
			.done = crowd_done, .arg = c};

		snprintf(key, sizeof(key), "%s%04d", prefix, i);
		CHECK_EQ(obj_submit(st, &req), 0);
	}
}

static void crowd_wait(struct crowd *c, int n)
{
	pthread_mutex_lock(&c->lock);
	while (c->ok + c->canceled + c->failed < n)
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static void hundred_parallel_puts(void)
{
	struct crowd c = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct obj_store *st = store_open("main", secret_key, 3, 0);
	uint64_t start = clock_mono_ms();
	struct seen seen = {0};

	crowd_put(st, &c, "crowd/", 100);
	crowd_wait(&c, 100);
	CHECK_EQ(c.ok, 100);
	fprintf(stderr, "  100 PUTs in %llu ms\n", (unsigned long long)(clock_mono_ms() - start));
	DO(obj_list(st, "crowd/", seen_add, &seen, &e), 0);
	CHECK(seen.n == 100 && seen.bytes == 500);
	obj_store_close(st);
}

static void closing_cancels(void)
{
	struct crowd c = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct obj_store *st = store_open("main", secret_key, 3, 0);
	struct seen seen = {0};
	char prefix[40];

	/* a name of its own for each run, should the server keep its objects */
	snprintf(prefix, sizeof(prefix), "close%llu/", (unsigned long long)clock_wall_ns());
	crowd_put(st, &c, prefix, 200);
	crowd_wait(&c, 1);
	obj_store_close(st);
	CHECK(c.ok + c.canceled == 200 && c.failed == 0 && c.ok > 0 && c.canceled > 0);
	st = store_open("main", secret_key, 3, 0);
	DO(obj_list(st, prefix, seen_add, &seen, &e), 0);
	CHECK_EQ(seen.n, c.ok);
	obj_store_close(st);
}

static void four_shards(void)
{
	struct obj_store *st = store_open("shard%d", secret_key, 3, 4), *one;
	struct seen all = {0}, third = {0};

	DO(obj_check(st, "myjfs", &e), 0);
	roundtrip(st, "myjfs/chunks/0/4/4097_0_10000", (const uint8_t *)"abc", 3);
	roundtrip(st, "myjfs/juicefs_uuid", (const uint8_t *)"abcd", 4);
	DO(obj_list(st, "", seen_add, &all, &e), 0);
	CHECK(all.n == 2 && all.bytes == 7);
	obj_store_close(st);
	one = store_open("shard3", secret_key, 3, 0);
	DO(obj_list(one, "", seen_add, &third, &e), 0);
	CHECK(third.n == 1 && third.bytes == 3);
	obj_store_close(one);
}

static void wrong_keys(void)
{
	struct obj_store *st = store_open("main", "not-the-secret", 5, 0);
	const char *good = access_key;
	uint8_t *big = calloc(1, 4 << 20);
	struct errmsg e = {""};
	uint64_t size;

	REQUIRE(big);
	CHECK_EQ(obj_check(st, "vol", &e), -EACCES);
	CHECK(strstr(e.text, "secret key do not match"));
	CHECK_EQ(obj_put(st, "vol/x", "x", 1, &e), -EACCES);
	CHECK_EQ(obj_head(st, "vol/x", &size, &e), -EACCES);
	/* the server may answer and close before it has read all */
	CHECK_EQ(obj_put(st, "vol/big", big, 4 << 20, &e), -EACCES);
	CHECK(strstr(e.text, "secret key do not match"));
	free(big);
	CHECK(!strstr(e.text, "not-the-secret"));
	obj_store_close(st);
	access_key = "nobody";
	st = store_open("main", secret_key, 5, 0);
	CHECK_EQ(obj_put(st, "vol/x", "x", 1, &e), -EACCES);
	obj_store_close(st);
	access_key = good;
}

static void wrong_bucket(void)
{
	struct obj_store *st = store_open("nowhere", secret_key, 5, 0);
	struct errmsg e = {""};
	uint8_t *data = NULL;
	size_t n;

	CHECK_EQ(obj_put(st, "vol/x", "x", 1, &e), -ENODEV);
	CHECK(strstr(e.text, "bucket nowhere") && strstr(e.text, "does not exist"));
	CHECK_EQ(obj_get(st, "vol/x", &data, &n, &e), -ENODEV);
	CHECK_EQ(obj_list(st, "", seen_add, NULL, &e), -ENODEV);
	obj_store_close(st);
}

static void server_dies_in_the_middle(void)
{
	struct crowd c = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct obj_store *st = store_open("main", secret_key, 2, 0);
	struct errmsg e = {""};
	int status;
	pid_t pid;

	crowd_put(st, &c, "dies/", 400);
	crowd_wait(&c, 5);
	REQUIRE(posix_spawnp(&pid, stop_command[0], NULL, NULL, stop_command, environ) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	crowd_wait(&c, 400);
	CHECK(c.ok >= 5 && c.failed > 0 && c.canceled == 0 && c.ok + c.failed == 400);
	CHECK(strstr(c.detail, endpoint));
	CHECK_EQ(obj_check(st, "vol", &e), -ECONNREFUSED);
	CHECK(strstr(e.text, endpoint));
	obj_store_close(st);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"check_twice", check_twice}, {"sizes_and_ranges", sizes_and_ranges},
		{"odd_characters", odd_characters}, {"hundred_parallel_puts", hundred_parallel_puts},
		{"closing_cancels", closing_cancels}, {"four_shards", four_shards}, {"wrong_keys", wrong_keys},
		{"wrong_bucket", wrong_bucket}, {"server_dies_in_the_middle", server_dies_in_the_middle}, {0}};

	if (argc < 5) {
		fprintf(stderr, "usage: obj_s3_test ENDPOINT ACCESS SECRET COMMAND...\n");
		return 2;
	}
	endpoint = argv[1];
	access_key = argv[2];
	secret_key = argv[3];
	stop_command = argv + 4;
	unsetenv("http_proxy");
	return unit_main(1, argv, tests);
}
