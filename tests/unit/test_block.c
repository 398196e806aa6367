#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "s3/block.h"
#include "s3/cache.h"

static void names(void)
{
	const struct block_format f = {.volume = "vol", .block_size = 4u << 20};
	const struct block_format h = {.volume = "vol", .block_size = 4u << 20, .hash_prefix = true};
	char key[BLOCK_KEY_MAX];

	block_key(&f, 1, 5000, 0, key);
	CHECK_STR(key, "vol/chunks/0/0/1_0_5000");
	block_key(&f, 1234567, 9u << 20, 2, key);
	CHECK_STR(key, "vol/chunks/1/1234/1234567_2_1048576");
	block_key(&h, 4097, 10000, 0, key);
	CHECK_STR(key, "vol/chunks/01/0/4097_0_10000");
	CHECK_EQ(block_count(&f, 9u << 20), 3);
	CHECK_EQ(block_len(&f, 9u << 20, 3), 0);
}

static void compression(void)
{
	static const enum compression all[] = {COMPRESS_NONE, COMPRESS_LZ4, COMPRESS_ZSTD};
	static const size_t sizes[] = {1, 13, 5000, 65536, 1 << 20};
	uint64_t seed = unit_seed();
	enum compression c;

	CHECK(compress_parse("zstd", &c) == 0 && c == COMPRESS_ZSTD);
	CHECK(compress_parse("", &c) == 0 && c == COMPRESS_NONE);
	CHECK_EQ(compress_parse("gzip", &c), -ENOTSUP);
	for (size_t a = 0; a < 3; a++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			size_t n = sizes[s], cap = compress_bound(all[a], n), len = 0;
			uint8_t *src = malloc(n), *mid = malloc(cap), *dst = malloc(n + 1);

			REQUIRE(src && mid && dst);
			for (size_t i = 0; i < n; i++)
				src[i] = (uint8_t)(s % 2 ? unit_rand(&seed) : i / 7);
			CHECK_EQ(compress_block(all[a], src, n, mid, cap, &len), 0);
			CHECK_EQ(decompress_block(all[a], mid, len, dst, n), 0);
			CHECK(memcmp(src, dst, n) == 0);
			/* short, and asked for one byte more than there is */
			CHECK_EQ(decompress_block(all[a], mid, len - 1, dst, n), -EBADMSG);
			CHECK_EQ(decompress_block(all[a], mid, len, dst, n + 1), -EBADMSG);
			free(src);
			free(mid);
			free(dst);
		}
	}
}

static void disk_cache(void)
{
	char dir[] = "/tmp/jfs-cache-XXXXXX", path[256];
	uint8_t data[5000], got[5000];
	struct block_cache *c;
	struct cache_stats st;
	struct errmsg e;

	REQUIRE(mkdtemp(dir));
	struct cache_config cfg = {.dir = dir, .size = 20 * 5008};
	memset(data, 7, sizeof(data));
	REQUIRE(cache_open(&cfg, &c, &e) == 0);
	CHECK_EQ(cache_read(c, 1, 0, 5000, 0, got, 10), -ENOENT);
	for (uint64_t id = 1; id <= 100; id++) {
		data[0] = (uint8_t)id;
		cache_write(c, id, 0, data, 5000);
	}
	cache_stats(c, &st);
	CHECK_EQ(st.blocks, 20);
	CHECK_EQ(st.evicted, 80);
	CHECK_EQ(st.bytes, 20 * 5008);
	CHECK(cache_read(c, 100, 0, 5000, 0, got, 5000) == 0 && got[0] == 100 && got[4999] == 7);
	cache_close(c);

	/* What is found at the next start is used, but a damaged or short file is a miss and goes away. */
	snprintf(path, sizeof(path), "%s/0/0/100_0_5000", dir);
	int fd = open(path, O_WRONLY);
	CHECK(fd >= 0 && pwrite(fd, "x", 1, 2500) == 1);
	close(fd);
	REQUIRE(cache_open(&cfg, &c, &e) == 0);
	cache_stats(c, &st);
	CHECK_EQ(st.blocks, 20);
	CHECK_EQ(cache_read(c, 100, 0, 5000, 0, got, 10), -ENOENT);
	CHECK(access(path, F_OK) != 0);
	unsigned hits = 0;
	for (uint64_t id = 1; id < 100; id++)
		if (cache_read(c, id, 0, 5000, 0, got, 1) == 0) {
			hits++;
			CHECK_EQ(got[0], id);
		}
	CHECK_EQ(hits, 19);
	/* 0 switches it off */
	cache_close(c);
	cfg.size = 0;
	REQUIRE(cache_open(&cfg, &c, &e) == 0);
	cache_write(c, 7777, 0, data, 5000);
	CHECK_EQ(cache_read(c, 7777, 0, 5000, 0, got, 1), -ENOENT);
	cache_close(c);
	snprintf(path, sizeof(path), "rm -r %s", dir);
	CHECK_EQ(system(path), 0);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"names", names}, {"compression", compression}, {"disk_cache", disk_cache}, {0}};

	return unit_main(argc, argv, tests);
}
