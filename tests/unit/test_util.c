#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/buf.h"
#include "util/errmsg.h"
#include "util/fileio.h"
#include "util/parse.h"

static void whole_ranges(void)
{
	char dir[] = "/tmp/jfs-util-XXXXXX", got[8];
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC), fd, pipes[2];

	REQUIRE(mkdtemp(dir) && full >= 0 && pipe(pipes) == 0);
	fd = openat(AT_FDCWD, dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	REQUIRE(fd >= 0);
	CHECK_EQ(file_write_at(fd, "abcdefgh", 8, 100000), 0);
	CHECK_EQ(file_zero_at(fd, 100003, 0), 0); /* more than it writes at once */
	CHECK(pread(fd, got, 8, 100000) == 8 && memcmp(got, "\0\0\0defgh", 8) == 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 100008);
	CHECK_EQ(file_write_at(full, "a", 1, 0), -ENOSPC);
	CHECK_EQ(file_write_at(pipes[1], "a", 1, 0), -ESPIPE);
	CHECK_EQ(file_write_at(-1, NULL, 0, 0), 0);
	CHECK_EQ(dir_sync_at(AT_FDCWD, dir), 0);
	CHECK_EQ(rmdir(dir), 0);
	CHECK_EQ(dir_sync_at(AT_FDCWD, dir), -ENOENT);
	close(fd);
	close(full);
	close(pipes[0]);
	close(pipes[1]);
}

static void sizes(void)
{
	uint64_t v;

	CHECK(parse_size("4M", 1024, &v) == 0 && v == 4u << 20);
	CHECK(parse_size("300", 1 << 20, &v) == 0 && v == 300u << 20);
	CHECK(parse_size("1.5GiB", 1, &v) == 0 && v == 1610612736u);
	CHECK(parse_size("10b", 1024, &v) == 0 && v == 10);
	CHECK_EQ(parse_size("", 1, &v), -EINVAL);
	CHECK_EQ(parse_size("-1", 1, &v), -EINVAL);
	CHECK_EQ(parse_size("1Q", 1, &v), -EINVAL);
	CHECK_EQ(parse_size("1KX", 1, &v), -EINVAL);
	CHECK_EQ(parse_size("99E", 1, &v), -ERANGE);
}

static void durations(void)
{
	uint64_t v;

	CHECK(parse_duration("90", &v) == 0 && v == 90000000000u);
	CHECK(parse_duration("50ms", &v) == 0 && v == 50000000u);
	CHECK(parse_duration("1h30m", &v) == 0 && v == 5400000000000u);
	CHECK(parse_duration("1d2h", &v) == 0 && v == 26ull * 3600 * 1000000000u);
	CHECK(parse_duration("0s", &v) == 0 && v == 0);
	CHECK_EQ(parse_duration("", &v), -EINVAL);
	CHECK_EQ(parse_duration("5x", &v), -EINVAL);
	CHECK_EQ(parse_duration("1h30", &v), -EINVAL);
}

static void buffers(void)
{
	struct buf b;
	struct rd r;

	buf_init(&b, 16);
	buf_put_be32(&b, 0x01020304);
	buf_put_be64(&b, 0x0506070809101112ull);
	CHECK(b.err == 0 && b.len == 12);
	rd_init(&r, b.data, b.len);
	CHECK_EQ(rd_be32(&r), 0x01020304);
	CHECK_EQ(rd_be64(&r), 0x0506070809101112ull);
	CHECK_EQ(rd_u8(&r), 0);
	CHECK_EQ(r.err, -EBADMSG);
	buf_puts(&b, "too long for it");
	CHECK(b.err == -E2BIG && b.len == 12);
	buf_fini(&b);
}

static void messages(void)
{
	struct errmsg e;

	CHECK_EQ(errmsg_set(&e, -EIO, "cannot read %s", "x"), -EIO);
	errmsg_prefix(&e, "volume %d", 3);
	CHECK_STR(e.text, "volume 3: cannot read x");
	CHECK_EQ(errmsg_set(NULL, -EIO, "dropped"), -EIO);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"whole_ranges", whole_ranges}, {"sizes", sizes}, {"durations", durations}, {"buffers", buffers}, {"messages", messages}, {0}};

	return unit_main(argc, argv, tests);
}
