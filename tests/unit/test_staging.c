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
	REQUIRE(staging_sync(st, false) == 0);
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
	CHECK_EQ(staging_sync(st, false), 0);
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
		CHECK_EQ(staging_sync(st, false), 0);
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

/* --- zeros ahead of small syncs --- */

static off_t hole_after(uint64_t segment, off_t from)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%016llx.seg", dir, (unsigned long long)segment);
	fd = open(path, O_RDONLY);
	REQUIRE(fd >= 0);
	off_t hole = lseek(fd, from, SEEK_HOLE);
	close(fd);
	return hole;
}

static off_t size_of(uint64_t segment)
{
	char path[200];
	struct stat sb;

	snprintf(path, sizeof(path), "%s/%016llx.seg", dir, (unsigned long long)segment);
	REQUIRE(stat(path, &sb) == 0);
	return sb.st_size;
}

static void small_append(struct staging *st, int i, struct staged *s)
{
	uint8_t data[5000];

	memset(data, 1 + i % 250, sizeof(data));
	REQUIRE(staging_append(st, data, sizeof(data), s) == 0);
}

static void zeros_are_written_ahead_and_given_back(void)
{
	static uint8_t big[2 << 20];
	struct staging *st = fresh(1);
	struct staged s[300];

	staging_set_segment_size(st, 4 << 20);
	CHECK_EQ(staging_zero_ahead(st), 0); /* nothing there yet */
	small_append(st, 0, &s[0]);
	CHECK_EQ(staging_zero_ahead(st), 0); /* nothing synced yet */
	CHECK(hole_after(1, 0) <= 8192);
	for (int i = 1; i < 300; i++) { /* over the end of the window, and of the next */
		small_append(st, i, &s[i]);
		CHECK_EQ(s[i].off, s[i - 1].off + 5000); /* one after the other: zeros never push an append away */
		CHECK_EQ(staging_sync(st, true), 0);
		CHECK_EQ(staging_zero_ahead(st), 0);
		CHECK(hole_after(1, 0) >= s[i].off + 5000 + (512 << 10));
		CHECK(hole_after(1, 0) <= s[i].off + 5000 + (1 << 20) + 8192);
	}
	for (int i = 0; i < 300; i++)
		CHECK_EQ(staging_verify(st, s[i].segment, s[i].off, s[i].len, s[i].sum), 0);
	staging_verify_end(st);
	staging_close_tails(st);
	CHECK_EQ(size_of(1), 300 * 5000);
	staging_close(st);
	st = fresh(2);
	staging_trim_tails(st);
	CHECK(size_of(1) <= 300 * 5000 + 4095);
	for (int i = 0; i < 300; i++)
		CHECK_EQ(staging_verify(st, s[i].segment, s[i].off, s[i].len, s[i].sum), 0);
	REQUIRE(staging_append(st, big, sizeof(big), &s[0]) == 0);
	CHECK_EQ(staging_sync(st, true), 0);
	CHECK_EQ(staging_zero_ahead(st), 0);
	CHECK_EQ(hole_after(2, 0), sizeof(big)); /* a large sync is not made twice as large */
	staging_verify_end(st);
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
	CHECK_EQ(staging_sync(st, false), -EIO);
	CHECK_EQ(staging_sync(st, false), -EIO); /* the disk is well again; it does not count */
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

static void zeros_find_no_room(void)
{
	struct staging *st = fresh(1);
	struct staged s;

	small_append(st, 1, &s);
	CHECK_EQ(staging_sync(st, true), 0);
	CHECK_EQ(staging_zero_ahead(st), 0); /* fails, and nobody minds */
	CHECK_EQ(hole_after(s.segment, s.off), s.off + 8192);
	small_append(st, 2, &s);
	CHECK_EQ(s.off, 5000);
	CHECK_EQ(staging_sync(st, true), 0);
	CHECK_EQ(staging_zero_ahead(st), 0);
	CHECK(hole_after(s.segment, 0) > 512 << 10);
	staging_close(st);
}

static void *zero_ahead(void *st)
{
	CHECK_EQ(staging_zero_ahead(st), 0);
	return NULL;
}

/* Appends that meet zeros being written go past them, and past each other. JFS_FAULT_WAIT names a file that holds them up. */
static void zeros_never_replace_data(void)
{
	struct staging *st = fresh(1);
	struct staged first, jumped, s[2];
	pthread_t t;

	small_append(st, 0, &first);
	CHECK_EQ(staging_sync(st, true), 0);
	REQUIRE(pthread_create(&t, NULL, zero_ahead, st) == 0);
	for (int i = 0; i < 10000; i++) { /* until the other thread has begun */
		REQUIRE(staging_append(st, "x", 1, &jumped) == 0);
		if (jumped.off >= 1 << 20)
			break;
		usleep(1000);
	}
	CHECK(jumped.off >= 1 << 20);
	for (int i = 0; i < 2; i++)
		small_append(st, i + 1, &s[i]);
	CHECK_EQ(s[0].off, jumped.off + 1);
	CHECK_EQ(s[1].off, s[0].off + 5000);
	REQUIRE(unlink(getenv("JFS_FAULT_WAIT")) == 0);
	pthread_join(t, NULL);
	CHECK_EQ(staging_sync(st, true), 0);
	CHECK_EQ(staging_verify(st, first.segment, first.off, first.len, first.sum), 0);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(staging_verify(st, s[i].segment, s[i].off, s[i].len, s[i].sum), 0);
	staging_verify_end(st);
	staging_close(st);
}

/* The sync of zeros may be the one that hears of data that were lost. */
static void sync_of_zeros_fails(void)
{
	struct staging *st = fresh(1);
	struct staged s;

	small_append(st, 1, &s);
	CHECK_EQ(staging_sync(st, true), 0);
	CHECK_EQ(staging_zero_ahead(st), -EIO);
	CHECK_EQ(staging_append(st, "abc", 3, &s), -EROFS);
	staging_close(st);
}

static void sync_of_replaced_zeros_fails(void)
{
	struct staging *st = fresh(1);
	struct staged s;

	small_append(st, 1, &s);
	CHECK_EQ(staging_sync(st, true), 0);
	CHECK_EQ(staging_zero_ahead(st), 0);
	small_append(st, 2, &s);
	CHECK_EQ(staging_sync(st, true), -EIO);
	CHECK_EQ(staging_append(st, "abc", 3, &s), -EROFS);
	staging_close(st);
}

static void faults(void)
{
	char wait[200];
	int fd;

	staging_close(fresh(1));
	with_fault("staging.sync:1:EIO", sync_fails);
	with_fault("staging.make:1:ENOSPC", no_room_for_a_segment);
	with_fault("staging.write:1:ENOSPC", write_fails);
	with_fault("staging.zero:1:ENOSPC", zeros_find_no_room);
	snprintf(wait, sizeof(wait), "%s/wait", dir);
	REQUIRE((fd = open(wait, O_CREAT | O_WRONLY, 0600)) >= 0 && close(fd) == 0);
	setenv("JFS_FAULT_WAIT", wait, 1);
	with_fault("staging.zero:1:wait", zeros_never_replace_data);
	with_fault("staging.sync:2:EIO", sync_of_zeros_fails);
	with_fault("staging.sync:3:EIO", sync_of_replaced_zeros_fails);
	wipe();
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"append_read_verify", append_read_verify}, {"rotation", rotation},
		{"parallel_appends_do_not_overlap", parallel_appends_do_not_overlap},
		{"zeros_are_written_ahead_and_given_back", zeros_are_written_ahead_and_given_back},
		{"faults", faults}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
