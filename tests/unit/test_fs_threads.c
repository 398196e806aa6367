/* Several threads in one directory and one file: for TSan, and for the counters. */
#include <pthread.h>

#include "tests/unit/fs_kit.h"

enum { THREADS = 4, ROUNDS = 300 };

struct work {
	struct fk *f;
	uint64_t dir, shared;
	int id;
};

static void must(int rc)
{
	REQUIRE(rc == 0);
}

static void *work_run(void *arg)
{
	struct work *w = arg;
	struct fk f = *w->f; /* its own request state over the same core */
	char name[32], to[32];
	uint64_t ino;

	for (int i = 0; i < ROUNDS; i++) {
		struct fs_piece p[4];
		struct staged s;
		uint64_t off = 0;

		snprintf(name, sizeof(name), "t%d-%d", w->id, i);
		snprintf(to, sizeof(to), "t%d-to-%d", w->id, i % 7);
		must(fk_create(&f, w->dir, name, &ino));
		REQUIRE(staging_append(journal_staging(f.k.j), "0123456789", 10, &s) == 0);
		must(FK(&f, fs_write(f.fs, &f.c, ino, &off, true, &s, NULL, &f.seq, &f.need)));
		must(FK(&f, fs_write(f.fs, &f.c, w->shared, &off, true, &s, NULL, &f.seq, &f.need)));
		REQUIRE(fs_map(f.fs, ino, 0, 10, p, 4, &off, &f.need) == 1);
		must(fk_rename(&f, w->dir, name, w->dir, to, 0));
		if (i % 3 == 0)
			must(fk_unlink(&f, w->dir, to));
		fs_forget(f.fs, ino, 1);
		REQUIRE(fs_reap_step(f.fs) >= 0);
	}
	return NULL;
}

static void one_directory(void)
{
	pthread_t th[THREADS];
	struct work w[THREADS];
	int64_t space, inodes;
	uint64_t dir, shared;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &dir), 0);
	shared = fk_file(&f, 1, "shared");
	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct work){ .f = &f, .dir = dir, .shared = shared, .id = i };
		REQUIRE(pthread_create(&th[i], NULL, work_run, &w[i]) == 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	CHECK_EQ(fk_attr(&f, shared).length, THREADS * ROUNDS * 10);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 2 + fk_keys(&f, T_DENTRY, dir));
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 0);
	fk_fini(&f);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "one_directory", one_directory }, { 0 } };

	return unit_main(argc, argv, tests);
}
