#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal/staging.h"
#include "util/fault.h"

static char dir[128];

static struct staging *fresh(uint64_t next)
{
	struct staging *st;
	struct errmsg e;

	if (!dir[0]) {
		const char *tmp = getenv("TMPDIR");

		snprintf(dir, sizeof(dir), "%s/jfs-staging-XXXXXX", tmp ? tmp : "/tmp");
		REQUIRE(mkdtemp(dir));
	}
	REQUIRE(staging_open(dir, next, &st, &e) == 0);
	return st;
}

static void wipe(void)
{
	char cmd[200];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	REQUIRE(system(cmd) == 0);
	dir[0] = 0;
}

static void append_read_verify(void)
{
	struct staging *st = fresh(1);
	uint64_t seed = unit_seed(), list[4];
	static uint8_t data[70000], back[70000];
	struct staged s[50];

	for (int i = 0; i < 50; i++) {
		size_t n = 1 + unit_rand(&seed) % sizeof(data);

		memset(data, i + 1, n);
		REQUIRE(staging_append(st, data, n, &s[i]) == 0);
		CHECK(s[i].len == n && s[i].segment == 1);
		CHECK(i == 0 || s[i].off >= s[i - 1].off + s[i - 1].len);
	}
	CHECK(staging_dirty(st) > 0);
	REQUIRE(staging_sync(st) == 0);
	CHECK_EQ(staging_dirty(st), 0);
	for (int i = 49; i >= 0; i--) {
		REQUIRE(staging_read(st, s[i].segment, s[i].off, back, s[i].len) == 0);
		CHECK(back[0] == i + 1 && back[s[i].len - 1] == i + 1);
		CHECK_EQ(staging_verify(st, s[i].segment, s[i].off, s[i].len, s[i].sum), 0);
		CHECK_EQ(staging_verify(st, s[i].segment, s[i].off, s[i].len, s[i].sum + 1), -EBADMSG);
	}
	CHECK_EQ(staging_read(st, 99, 0, back, 1), -ENOENT);
	CHECK_EQ(staging_verify(st, 99, 0, 1, 0), -ENOENT);
	CHECK_EQ(staging_verify(st, 1, SEGMENT_SIZE - 1, 2, 0), -EBADMSG);
	CHECK_EQ(staging_append(st, data, 0, &s[0]), -EINVAL);
	CHECK_EQ(staging_append(st, data, ((size_t)4 << 20) + 1, &s[0]), -EINVAL);
	CHECK(staging_list(st, list, 4) == 1 && list[0] == 1 && staging_current(st) == 1);
	CHECK_EQ(staging_remove(st, 1), -EBUSY);
	staging_verify_end(st);
	staging_close(st);
	st = fresh(1); /* numbers are never used again */
	CHECK_EQ(staging_next(st), 2);
	REQUIRE(staging_read(st, 1, s[3].off, back, s[3].len) == 0);
	CHECK_EQ(back[0], 4);
	REQUIRE(staging_append(st, data, 10, &s[0]) == 0);
	CHECK_EQ(s[0].segment, 2);
	CHECK_EQ(staging_remove(st, 1), 0);
	CHECK_EQ(staging_read(st, 1, 0, back, 1), -ENOENT);
	CHECK_EQ(staging_remove(st, 1), -ENOENT);
	staging_close(st);
	st = fresh(9);
	REQUIRE(staging_append(st, data, 10, &s[0]) == 0);
	CHECK_EQ(s[0].segment, 9);
	staging_close(st);
	wipe();
}

static void rotation(void)
{
	struct staging *st = fresh(1);
	uint8_t *data = calloc(1, 4 << 20);
	uint64_t last = 0;
	struct staged s;

	REQUIRE(data);
	for (int i = 0; i < 20; i++) { /* 78 MB in pieces that do not divide a segment */
		size_t n = ((size_t)4 << 20) - 4097;

		REQUIRE(staging_append(st, data, n, &s) == 0);
		CHECK(s.off + n <= SEGMENT_SIZE);
		CHECK(s.segment >= last);
		last = s.segment;
		if (i % 4 == 0)
			CHECK_EQ(staging_prepare(st), 0);
	}
	CHECK_EQ(last, 2);
	CHECK_EQ(staging_remove(st, 1), -EBUSY); /* sealed, but appends to it are still to be named */
	for (int i = 0; i < 20; i++)
		staging_release(st, 1);
	CHECK_EQ(staging_remove(st, 1), 0);
	CHECK(staging_bytes(st) >= SEGMENT_SIZE);
	CHECK_EQ(staging_sync(st), 0);
	free(data);
	staging_close(st);
	wipe();
}

struct appender {
	struct staging *st;
	int id;
	struct staged s[200];
};

static void *append_many(void *arg)
{
	struct appender *a = arg;
	uint8_t data[3000];

	for (int i = 0; i < 200; i++) {
		memset(data, a->id * 50 + i % 50, sizeof(data));
		if (staging_append(a->st, data, 1000 + (size_t)i * 10, &a->s[i]))
			a->s[i].len = 0;
	}
	return NULL;
}

static void parallel_appends_do_not_overlap(void)
{
	static struct appender a[4];
	struct staging *st = fresh(1);
	pthread_t t[4];

	for (int i = 0; i < 4; i++) {
		a[i].st = st;
		a[i].id = i + 1;
		REQUIRE(pthread_create(&t[i], NULL, append_many, &a[i]) == 0);
	}
	for (int i = 0; i < 20; i++)
		CHECK_EQ(staging_sync(st), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 4; i++)
		for (int n = 0; n < 200; n++) {
			CHECK(a[i].s[n].len != 0);
			CHECK_EQ(staging_verify(st, a[i].s[n].segment, a[i].s[n].off, a[i].s[n].len, a[i].s[n].sum), 0);
		}
	staging_close(st);
	wipe();
}

/* In a child, because fault points cannot be taken back. */
static void with_fault(const char *fault, void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	REQUIRE(pid >= 0);
	if (pid == 0) {
		unit_failures = 0;
		setenv("JFS_FAULT", fault, 1);
		fault_init();
		fn();
		_exit(unit_failures != 0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void sync_fails(void)
{
	struct staging *st = fresh(1);
	struct staged s;

	CHECK_EQ(staging_append(st, "abc", 3, &s), 0);
	CHECK_EQ(staging_sync(st), -EIO);
	CHECK_EQ(staging_sync(st), -EIO); /* the disk is well again; it does not count */
	CHECK_EQ(staging_append(st, "abc", 3, &s), -EROFS);
	staging_close(st);
}

static void no_room_for_a_segment(void)
{
	struct staging *st = fresh(1);
	struct staged s;

	CHECK_EQ(staging_append(st, "abc", 3, &s), -ENOSPC);
	CHECK_EQ(staging_append(st, "abc", 3, &s), 0); /* room again */
	staging_close(st);
}

static void write_fails(void)
{
	struct staging *st = fresh(1);
	struct staged s, t;

	CHECK_EQ(staging_append(st, "abc", 3, &s), -ENOSPC);
	CHECK_EQ(staging_append(st, "abcd", 4, &t), 0);
	CHECK_EQ(staging_verify(st, t.segment, t.off, t.len, t.sum), 0);
	staging_close(st);
}

static void faults(void)
{
	staging_close(fresh(1));
	with_fault("staging.sync:1:EIO", sync_fails);
	with_fault("staging.make:1:ENOSPC", no_room_for_a_segment);
	with_fault("staging.write:1:ENOSPC", write_fails);
	wipe();
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"append_read_verify", append_read_verify}, {"rotation", rotation},
		{"parallel_appends_do_not_overlap", parallel_appends_do_not_overlap}, {"faults", faults}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
