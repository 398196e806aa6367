/* The slice reader over a real file store. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "s3/reader.h"

#define BS (64u << 10)

static char dir[64];
static struct obj_store *store;

static void setup(void)
{
	struct obj_config cfg = {.storage = "file", .max_parallel = 4, .retries = 0, .timeout_ms = 5000};
	struct errmsg e;
	char bucket[96];

	strcpy(dir, "/tmp/jfs-reader-XXXXXX");
	REQUIRE(mkdtemp(dir));
	snprintf(bucket, sizeof(bucket), "%s/bucket/", dir);
	cfg.bucket = bucket;
	REQUIRE(obj_store_open(&cfg, &store, &e) == 0);
}

static void teardown(void)
{
	char cmd[96];

	obj_store_close(store);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	REQUIRE(system(cmd) == 0);
}

static uint8_t *random_slice(uint64_t *seed, uint32_t n)
{
	uint8_t *p = malloc(n);

	REQUIRE(p);
	for (uint32_t i = 0; i < n; i++)
		p[i] = i % 3 ? (uint8_t)(unit_rand(seed) >> 32) : 0;
	return p;
}

static void put_slice(const struct block_format *f, uint64_t id, const uint8_t *data, uint32_t size)
{
	for (uint32_t k = 0; k < block_count(f, size); k++) {
		uint32_t n = block_len(f, size, k);
		size_t cap = compress_bound(f->compression, n), len;
		uint8_t *out = malloc(cap);
		char key[BLOCK_KEY_MAX];
		struct errmsg e;

		REQUIRE(out && compress_block(f->compression, data + (size_t)k * BS, n, out, cap, &len) == 0);
		block_key(f, id, size, k, key);
		REQUIRE(obj_put(store, key, out, len, &e) == 0);
		free(out);
	}
}

static void object_path(const struct block_format *f, uint64_t id, uint32_t size, uint32_t k, char *path, size_t n)
{
	char key[BLOCK_KEY_MAX];

	block_key(f, id, size, k, key);
	snprintf(path, n, "%s/bucket/%s", dir, key);
}

/* Random reads, memory only and with a disk cache, for each compression. */
static void reads(void)
{
	uint64_t seed = unit_seed();

	setup();
	for (int c = COMPRESS_NONE; c <= COMPRESS_ZSTD; c++) {
		struct block_format f = {.block_size = BS, .compression = (enum compression)c};
		uint32_t size = 5 * BS + 1234;
		uint64_t id = 100 + (uint64_t)c;
		char cdir[96];
		struct errmsg e;

		snprintf(f.volume, sizeof(f.volume), "vol%d", c);
		snprintf(cdir, sizeof(cdir), "%s/raw%d", dir, c);
		uint8_t *data = random_slice(&seed, size), *got = malloc(size);
		put_slice(&f, id, data, size);
		struct cache_config cc = {.dir = cdir, .size = 1 << 20};
		struct block_cache *cache;
		REQUIRE(got && cache_open(&cc, &cache, &e) == 0);
		for (int with = 0; with < 2; with++) {
			struct reader_config rc = {.store = store, .cache = with ? cache : NULL, .format = f, .buffer_bytes = 3 * BS, .readahead = 2};
			struct slice_reader *r;

			REQUIRE(reader_new(&rc, &r) == 0);
			for (int i = 0; i < 200; i++) {
				uint32_t off = (uint32_t)(unit_rand(&seed) % size), len = (uint32_t)(unit_rand(&seed) % (size - off)) + 1;

				if (i % 3 == 0)
					len = len % 4000 + 1;
				if (len > size - off)
					len = size - off;
				REQUIRE(reader_read(r, id, size, off, got, len) == 0);
				CHECK(memcmp(got, data + off, len) == 0);
			}
			for (uint32_t off = 0; off < size; off += 10000) {
				uint32_t len = size - off < 10000 ? size - off : 10000;

				CHECK(reader_read(r, id, size, off, got, len) == 0 && memcmp(got, data + off, len) == 0);
			}
			CHECK_EQ(reader_read(r, id, size, size - 10, got, 11), -EBADMSG);
			CHECK_EQ(reader_read(r, 999, size, 0, got, 11), -ENOENT);
			reader_free(r);
		}
		cache_close(cache);
		free(data);
		free(got);
	}
	teardown();
}

/* An object shorter than its block, and one that does not decompress: an error, never zeros. */
static void damaged(void)
{
	uint64_t seed = unit_seed();

	setup();
	for (int c = COMPRESS_NONE; c <= COMPRESS_ZSTD; c++) {
		struct block_format f = {.volume = "v", .block_size = BS, .compression = (enum compression)c};
		uint64_t id = 200 + (uint64_t)c;
		uint8_t *data = random_slice(&seed, BS), got[100];
		struct reader_config rc = {.store = store, .format = f, .buffer_bytes = 3 * BS};
		struct slice_reader *r;
		struct stat st;
		char path[400];

		put_slice(&f, id, data, BS);
		object_path(&f, id, BS, 0, path, sizeof(path));
		REQUIRE(stat(path, &st) == 0 && truncate(path, st.st_size - 1) == 0);
		REQUIRE(reader_new(&rc, &r) == 0);
		CHECK_EQ(reader_read(r, id, BS, 0, got, 100), -EBADMSG);
		/* the range GET notices when its bytes are missing */
		CHECK_EQ(reader_read(r, id, BS, BS - 100, got, 100), -EBADMSG);
		reader_free(r);
		free(data);
	}
	teardown();
}

struct shared {
	struct slice_reader *r;
	const uint8_t *data;
	uint32_t size;
	uint64_t seed;
	int bad;
};

static void *read_many(void *arg)
{
	struct shared *s = arg;
	uint8_t got[5000];

	for (int i = 0; i < 300; i++) {
		uint32_t off = (uint32_t)(unit_rand(&s->seed) % (s->size - sizeof(got)));

		if (reader_read(s->r, 7, s->size, off, got, sizeof(got)) || memcmp(got, s->data + off, sizeof(got)))
			s->bad++;
	}
	return NULL;
}

static void threads(void)
{
	struct block_format f = {.volume = "v", .block_size = BS, .compression = COMPRESS_LZ4};
	struct reader_config rc = {.store = NULL, .format = f, .buffer_bytes = 2 * BS, .readahead = 3};
	uint64_t seed = unit_seed();
	uint32_t size = 9 * BS;
	struct slice_reader *r;
	pthread_t t[4];
	struct shared s[4];

	setup();
	uint8_t *data = random_slice(&seed, size);
	put_slice(&f, 7, data, size);
	rc.store = store;
	REQUIRE(reader_new(&rc, &r) == 0);
	for (int i = 0; i < 4; i++) {
		s[i] = (struct shared){.r = r, .data = data, .size = size, .seed = seed + (uint64_t)i};
		REQUIRE(pthread_create(&t[i], NULL, read_many, &s[i]) == 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		CHECK_EQ(s[i].bad, 0);
	}
	reader_free(r);
	free(data);
	teardown();
}

/* Parts of blocks in no order. A block that is read in many is fetched once, the first of them twice; after one that was fetched in
 * vain parts are fetched again. */
static void parts_of_blocks(void)
{
	enum { SLICES = 200, PARTS = 8, MANY = 20 };
	struct block_format f = {.volume = "v", .block_size = BS};
	struct reader_config rc = {.format = f, .buffer_bytes = (SLICES + MANY) * (uint64_t)BS, .readahead = 2};
	uint64_t seed = unit_seed();
	struct slice_reader *r;
	struct reader_stats st;
	uint8_t got[1000];

	setup();
	uint8_t *data = random_slice(&seed, BS);
	for (uint64_t id = 1; id <= SLICES + MANY; id++)
		put_slice(&f, id, data, BS);
	rc.store = store;
	REQUIRE(reader_new(&rc, &r) == 0);
	for (uint64_t id = 1; id <= SLICES; id++)
		for (uint32_t i = 0; i < PARTS; i++)
			CHECK(reader_read(r, id, BS, 50000 - 6000 * i, got, sizeof(got)) == 0 && memcmp(got, data + 50000 - 6000 * i, sizeof(got)) == 0);
	reader_stats(r, &st);
	CHECK_EQ(st.misses, SLICES);
	CHECK_EQ(st.hits, SLICES * (PARTS - 1) - 1);
	for (uint64_t id = SLICES + 1; id <= SLICES + MANY; id++)
		CHECK(reader_read(r, id, BS, 30000, got, sizeof(got)) == 0 && memcmp(got, data + 30000, sizeof(got)) == 0);
	reader_stats(r, &st);
	CHECK_EQ(st.misses, SLICES + 1);
	reader_free(r);
	free(data);
	teardown();
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"reads", reads}, {"damaged", damaged}, {"threads", threads}, {"parts_of_blocks", parts_of_blocks}, {0}};

	return unit_main(argc, argv, tests);
}
