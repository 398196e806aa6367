/* Micro benchmark of the journal alone: commits of create-like records, lookups through the merged view, fsync waits.
 *
 *   journal_bench CACHE_DIR HOT_DIR [RECORDS]      prints one line per figure */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/journal.h"
#include "util/clock.h"

static struct journal *j;
static uint64_t next_ino = 2;

static int cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void report(const char *what, uint32_t *ns, size_t n, uint64_t total_ns)
{
	qsort(ns, n, sizeof(*ns), cmp);
	printf("%-28s n=%zu per_s=%.0f mean_us=%.2f p50_us=%.2f p99_us=%.2f p999_us=%.1f max_us=%.0f\n", what, n,
		(double)n * 1e9 / (double)total_ns, (double)total_ns / (double)n / 1e3, ns[n / 2] / 1e3, ns[n * 99 / 100] / 1e3,
		ns[n * 999 / 1000] / 1e3, ns[n - 1] / 1e3);
}

/* What a create puts: the entry, the inode, the parent, one extent of a first write. */
static int create_one(uint64_t *seq)
{
	struct inode_val v = {.lflags = IL_DATA_LOCAL}, dir = {.lflags = IL_DIR_COMPLETE};
	uint8_t d[JFS_DENTRY_LEN];
	char name[32];
	struct jkey k;
	int err;

	journal_lock(j);
	for (;;) {
		struct rec *r = journal_begin(j, OP_CREATE);
		struct extent_val e = {.kind = EXT_HOLE, .len = 4096, .born = journal_next_seq(j)};
		int n = snprintf(name, sizeof(name), "file-%012llu", (unsigned long long)next_ino);

		v.seq = dir.seq = journal_next_seq(j);
		v.attr = (struct jfs_attr){.type = JFS_FILE, .mode = 0644, .nlink = 1, .parent = 1, .length = 4096};
		dir.attr = (struct jfs_attr){.type = JFS_DIR, .mode = 0755, .nlink = 2, .parent = 1};
		key_dentry(&k, 1, name, (size_t)n);
		jfs_dentry_encode(JFS_FILE, next_ino, d);
		rec_put(r, &k, d, sizeof(d), 0);
		rec_expect(r, &k, NULL, 0);
		rec_put_inode(r, next_ino, &v, IF_NEW);
		rec_put_inode(r, 1, &dir, 0);
		rec_put_extent(r, next_ino, 0, &e, 0);
		rec_space(r, 4096, 1);
		rec_dirstat(r, 1, 4096, 4096, 1);
		err = journal_commit(j, seq);
		if (err != -11)
			break;
		journal_unlock(j);
		err = journal_wait_room(j);
		if (err)
			return err;
		journal_lock(j);
	}
	journal_unlock(j);
	next_ino++;
	return err;
}

static int bench_create(size_t n, uint32_t *ns)
{
	uint64_t t0 = clock_mono_ns(), seq;

	for (size_t i = 0; i < n; i++) {
		uint64_t t = clock_mono_ns();
		int err = create_one(&seq);

		if (err)
			return err;
		ns[i] = (uint32_t)(clock_mono_ns() - t);
	}
	report("create records", ns, n, clock_mono_ns() - t0);
	t0 = clock_mono_ns();
	int err = journal_wait(j, WM_DURABLE, seq);
	printf("%-28s %.1f ms\n", "until durable", (double)(clock_mono_ns() - t0) / 1e6);
	return err;
}

static void bench_lookup(size_t n, uint32_t *ns)
{
	uint64_t t0 = clock_mono_ns(), rnd = 12345, found = 0;
	struct inode_val v;

	for (size_t i = 0; i < n; i++) {
		uint64_t t = clock_mono_ns();

		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		journal_lock(j);
		found += view_get_inode(j, 2 + (rnd >> 33) % (next_ino - 2), &v) == 0;
		journal_unlock(j);
		ns[i] = (uint32_t)(clock_mono_ns() - t);
	}
	report("inode lookups", ns, n, clock_mono_ns() - t0);
	if (found != n)
		printf("MISSING %zu inodes\n", n - (size_t)found);
}

static int bench_fsync(size_t n, uint32_t *ns)
{
	uint64_t t0 = clock_mono_ns(), seq;

	for (size_t i = 0; i < n; i++) {
		uint64_t t = clock_mono_ns();
		int err = create_one(&seq);

		if (!err)
			err = journal_wait(j, WM_DURABLE, seq);
		if (err)
			return err;
		ns[i] = (uint32_t)(clock_mono_ns() - t);
	}
	report("create + fsync, 1 thread", ns, n, clock_mono_ns() - t0);
	return 0;
}

int main(int argc, char **argv)
{
	size_t n = argc > 3 ? strtoul(argv[3], NULL, 10) : 300000;
	struct journal_config cfg = {.cache_dir = argv[1], .hot_dir = argc > 2 ? argv[2] : NULL, .uuid = "bench"};
	uint32_t *ns = calloc(n, sizeof(*ns));
	struct journal_figures f;
	struct errmsg e;
	int err;

	if (argc < 3 || n < 1000 || !ns) {
		fprintf(stderr, "usage: journal_bench CACHE_DIR HOT_DIR [RECORDS >= 1000]\n");
		return 2;
	}
	if (journal_open(&cfg, &j, NULL, &e)) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	err = bench_create(n, ns);
	if (!err)
		bench_lookup(n, ns);
	if (!err)
		err = bench_fsync(500, ns);
	journal_figures(j, &f);
	printf("%-28s flushes=%llu base_mb=%llu last_flush_us=%llu\n", "figures", (unsigned long long)f.flushes,
		(unsigned long long)f.base_bytes >> 20, (unsigned long long)f.last_flush_us);
	if (!err)
		err = journal_close(j);
	free(ns);
	if (err)
		fprintf(stderr, "failed: %s\n", strerror(-err));
	return err ? 1 : 0;
}
