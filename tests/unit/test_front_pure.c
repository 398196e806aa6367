/* The pure parts of the front: the corrected INIT reply, hidden request fields, metrics text, mountinfo, names. */
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "daemon/accesslog.h"
#include "daemon/mountinfo.h"
#include "daemon/stats.h"
#include "daemon/transport.h"
#include "daemon/virt.h"
#include "tests/unit/unit.h"

static const struct transport_config both = { .no_open = true, .killpriv_v2 = true };

static void init_reply(void)
{
	struct fuse_init_out o = { .flags = FUSE_ATOMIC_O_TRUNC | FUSE_ASYNC_READ | FUSE_HANDLE_KILLPRIV, .max_write = 77 };

	init_reply_patch(&o, sizeof(o), FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_ATOMIC_O_TRUNC, &both);
	CHECK_EQ(o.flags, FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2);
	CHECK_EQ(o.max_write, 77);
}

/* What the kernel did not offer must not be claimed; with OPEN answered, O_TRUNC may stay. */
static void init_reply_old_kernel(void)
{
	const struct transport_config open = { .no_open = false, .killpriv_v2 = true };
	struct fuse_init_out o = { .flags = FUSE_ATOMIC_O_TRUNC };

	init_reply_patch(&o, sizeof(o), 0, &open);
	CHECK_EQ(o.flags, FUSE_ATOMIC_O_TRUNC);
}

static void init_reply_short(void)
{
	struct fuse_init_out o = { .flags = FUSE_ATOMIC_O_TRUNC };

	init_reply_patch(&o, sizeof(o) - 1, ~0u, &both);
	CHECK_EQ(o.flags, FUSE_ATOMIC_O_TRUNC);
}

static void kill_suid_flags(void)
{
	struct {
		struct fuse_in_header h;
		struct fuse_write_in w;
	} w = { .h.opcode = FUSE_WRITE };
	struct {
		struct fuse_in_header h;
		struct fuse_setattr_in s;
	} s = { .h.opcode = FUSE_SETATTR };

	CHECK(!raw_kill_suid(&w, sizeof(w)));
	w.w.write_flags = FUSE_WRITE_KILL_SUIDGID;
	CHECK(raw_kill_suid(&w, sizeof(w)));
	CHECK(!raw_kill_suid(&w, sizeof(w) - 1));
	CHECK(!raw_kill_suid(NULL, 0));
	s.s.valid = FATTR_SIZE;
	CHECK(!raw_kill_suid(&s, sizeof(s)));
	s.s.valid |= FATTR_KILL_SUIDGID;
	CHECK(raw_kill_suid(&s, sizeof(s)));
	s.h.opcode = FUSE_GETATTR;
	CHECK(!raw_kill_suid(&s, sizeof(s)));
}

static void float_text(void)
{
	static const struct {
		double v;
		const char *text;
	} t[] = { { 0, "0" }, { 1, "1" }, { 0.5, "0.5" }, { 0.1, "0.1" }, { 1234567.25, "1234567.25" }, { 1e-7, "0.0000001" },
		{ 123456789012, "123456789012" }, { 0.004718, "0.004718" } };
	char s[64];

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		stats_format_float(s, sizeof(s), t[i].v);
		CHECK_STR(s, t[i].text);
	}
}

static void stats_text_sorted(void)
{
	struct stats_text *t = stats_text_new();
	struct buf b;

	buf_init(&b, 0);
	REQUIRE(t);
	stats_int(t, "uptime", NULL, 3);
	stats_hist(t, "fuse_read_size_bytes", NULL, 2, 4096.5);
	stats_int(t, "fuse_ops_total", "write", 7);
	stats_int(t, "fuse_ops_total", "create", 1);
	stats_float(t, "cpu_usage", NULL, 0.25);
	CHECK_EQ(stats_text_finish(t, &b), 0);
	CHECK_STR(buf_cstr(&b), "juicefs_cpu_usage 0.25\njuicefs_fuse_ops_total_write 7\njuicefs_fuse_ops_total_create 1\n"
				"juicefs_fuse_read_size_bytes_total 2\njuicefs_fuse_read_size_bytes_sum 4096.5\njuicefs_uptime 3\n");
	stats_text_free(t);
	buf_fini(&b);
}

static void add_source(void *ctx, struct stats_text *t)
{
	stats_int(t, "staging_blocks", NULL, *(int *)ctx);
}

static void stats_registry(void)
{
	struct stats *s = stats_new();
	struct buf b;
	int blocks = 12;

	buf_init(&b, 0);
	REQUIRE(s);
	stats_register(s, add_source, &blocks);
	stats_op(s, SO_CREATE, 2000000, 0);
	stats_op(s, SO_LOOKUP, 1000000, -ENOENT);
	stats_written(s, 1024);
	CHECK_EQ(stats_write(s, &b), 0);
	CHECK(strstr(buf_cstr(&b), "juicefs_staging_blocks 12\n"));
	CHECK(strstr(buf_cstr(&b), "juicefs_fuse_ops_total_create 1\n"));
	CHECK(strstr(buf_cstr(&b), "juicefs_fuse_ops_io_errors_ENOENT 1\n"));
	CHECK(strstr(buf_cstr(&b), "juicefs_fuse_ops_durations_histogram_seconds_sum 0.003\n"));
	CHECK(strstr(buf_cstr(&b), "juicefs_fuse_written_size_bytes_sum 1024\n"));
	buf_fini(&b);
	stats_free(s);
}

static void mountinfo_lines(void)
{
	struct mount_entry m;

	CHECK(mountinfo_parse("41 29 0:36 / /mnt/a\\040b rw,relatime shared:5 master:2 - fuse.jfs JuiceFS:x rw,user_id=0\n", &m));
	CHECK_STR(m.point, "/mnt/a b");
	CHECK_STR(m.type, "fuse.jfs");
	CHECK_STR(m.source, "JuiceFS:x");
	CHECK_EQ(m.major, 0);
	CHECK_EQ(m.minor, 36);
	CHECK(!mountinfo_parse("41 29 0:36 / /mnt rw", &m));
	CHECK(!mountinfo_parse("", &m));
	CHECK(!mountinfo_parse("1 2 x / /mnt rw - ext4 /dev/vda rw", &m));
}

static void virtual_names(void)
{
	CHECK(virt_is_name(1, ".stats"));
	CHECK(virt_is_name(1, ".control"));
	CHECK(!virt_is_name(2, ".control"));
	CHECK(!virt_is_name(1, ".stat"));
	CHECK(!virt_is_name(1, "stats"));
	CHECK(virt_is(VIRT_NODE_BASE + 5));
	CHECK(!virt_is(JFS_VIRT_INODE + 1));
	CHECK(!virt_is(1));
}

static void accesslog_times(void)
{
	char s[48];

	setenv("TZ", "UTC", 1);
	tzset();
	accesslog_time(s, sizeof(s), 1787360000123456789ull);
	CHECK_STR(s, "2026.08.22 00:53:20.123456");
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "init_reply", init_reply }, { "init_reply_old_kernel", init_reply_old_kernel },
		{ "init_reply_short", init_reply_short }, { "kill_suid_flags", kill_suid_flags }, { "float_text", float_text },
		{ "stats_text_sorted", stats_text_sorted }, { "stats_registry", stats_registry },
		{ "mountinfo_lines", mountinfo_lines }, { "virtual_names", virtual_names },
		{ "accesslog_times", accesslog_times }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
