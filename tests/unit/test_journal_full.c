/* A disk that is really full (HISTORIES 12): base on a small tmpfs of its own, so that writes come back short in the middle
 * of a transaction, which no fault point shows. Needs root for the mount; without it there is nothing to test. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "tests/unit/journal_kit.h"

/* Takes all room of the cache directory's file system but `leave` bytes. */
static void fill(struct kit *k, uint64_t leave)
{
	struct statvfs s;
	char path[200];
	int fd;

	REQUIRE(statvfs(k->dir, &s) == 0);
	uint64_t room = (uint64_t)s.f_bavail * s.f_frsize;
	snprintf(path, sizeof(path), "%s/filler", k->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	REQUIRE(fd >= 0 && (room <= leave || posix_fallocate(fd, 0, (off_t)(room - leave)) == 0));
	close(fd);
}

static void unfill(struct kit *k)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/filler", k->dir);
	REQUIRE(unlink(path) == 0);
}

/* Runs fn in a child whose scratch directory is a tmpfs of this size. */
static void on_small_disk(unsigned mib, void (*fn)(struct kit *k))
{
	char opt[32];
	struct kit k;
	pid_t pid;
	int status;

	kit_init(&k);
	snprintf(opt, sizeof(opt), "size=%um,mode=700", mib);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		unit_failures = 0;
		if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
			mount("tmpfs", k.dir, "tmpfs", 0, opt)) {
			fprintf(stderr, "  no mount here (%s): nothing tested\n", strerror(errno));
			_exit(0);
		}
		fn(&k);
		_exit(unit_failures != 0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	kit_fini(&k);
}

/* Commits values of 20 KB, each waited for, until one does not become durable. */
static int grow(struct kit *k, uint64_t from, int max)
{
	static char text[20 << 10];
	int err = 0;

	memset(text, 'x', sizeof(text));
	for (int i = 0; i < max && !err; i++)
		err = journal_wait(k->j, WM_DURABLE, kit_set_flags(k, from + (uint64_t)i, text, sizeof(text), 0, 1));
	return err;
}

/* LMDB calls a write that came back short EIO; the disk is full all the same, and that is not terminal. */
static void short_writes(struct kit *k)
{
	uint64_t seq;
	int err;

	k->cfg.reserve_size = 64 << 10;
	kit_open(k);
	for (int round = 0; round < 4; round++) {
		fill(k, (uint64_t)(200 + 52 * round) << 10);
		err = grow(k, 1000 * (uint64_t)round + 10, 60);
		CHECK_EQ(err, -ENOSPC);
		CHECK(!journal_failed(k->j));
		unfill(k);
		do {
			seq = kit_set(k, 1, "room again");
			err = journal_wait(k->j, WM_DURABLE, seq);
		} while (err == -ENOSPC && !journal_failed(k->j));
		CHECK_EQ(err, 0);
	}
	kit_close(k);
	kit_open(k);
	CHECK(k->rep.clean);
	kit_expect(k, 1, "room again");
	kit_close(k);
}

static void history_12_short_write_is_a_full_disk(void)
{
	on_small_disk(24, short_writes);
}

/* The reserve of the process before is the reserve of this one, also when there is no room for a second. */
static void reserve_found(struct kit *k)
{
	uint64_t seq;

	k->cfg.reserve_size = 4 << 20;
	kit_open(k);
	seq = kit_set(k, 1, "one");
	CHECK_EQ(journal_wait(k->j, WM_DURABLE, seq), 0);
	kit_close(k);
	kit_open(k);
	fill(k, 0);
	kit_close(k);
	kit_open(k);
	CHECK_EQ(grow(k, 10, 20), 0); /* 400 KB in a full file system: out of the reserve */
	kit_close(k);
}

static void history_12_the_reserve_survives_a_restart(void)
{
	on_small_disk(24, reserve_found);
}

/* What the reserve sets free is for the journal, not for writers: or it is gone before it helped. */
static void reserve_not_staged(struct kit *k)
{
	static char bytes[1 << 20];
	struct staged s;
	int err = 0, n = 0;

	k->cfg.reserve_size = 10 << 20;
	kit_open(k);
	fill(k, 300 << 10);
	CHECK_EQ(grow(k, 10, 40), 0); /* 800 KB: the reserve is given up on the way */
	for (; n < 64 && !err; n++)
		err = staging_append(journal_staging(k->j), bytes, sizeof(bytes), &s);
	CHECK_EQ(err, -ENOSPC);
	CHECK_EQ(n, 1);
	CHECK_EQ(grow(k, 100, 40), 0);
	unfill(k);
	for (n = 0, err = -ENOSPC; n < 1000 && err; n++) { /* the reserve is made again first */
		CHECK_EQ(grow(k, 200, 1), 0);
		err = staging_append(journal_staging(k->j), bytes, sizeof(bytes), &s);
	}
	CHECK_EQ(err, 0);
	kit_close(k);
}

static void history_12_the_reserve_is_not_for_writers(void)
{
	on_small_disk(48, reserve_not_staged);
}

#define T(name) {#name, name}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {T(history_12_short_write_is_a_full_disk),
		T(history_12_the_reserve_survives_a_restart), T(history_12_the_reserve_is_not_for_writers), {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
