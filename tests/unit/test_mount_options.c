/* What `jfs mount`, fstab and mount(8) say. */
#include <errno.h>

#include "daemon/mount_options.h"
#include "tests/unit/unit.h"

#define ARGS_MAX 24

/* Parses words separated by blanks, as they would come in argv. */
static int parse(struct mount_options *o, const char *words, struct errmsg *e)
{
	static char copy[1024];
	char *argv[ARGS_MAX], *rest = copy, *w;
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", words);
	while ((w = strsep(&rest, " ")) != NULL && argc < ARGS_MAX)
		argv[argc++] = w;
	return mount_options_parse(o, argc, argv, e);
}

static void defaults(void)
{
	struct mount_options o;
	struct errmsg e;

	CHECK_EQ(parse(&o, "mount redis://h/1 /mnt", &e), 0);
	CHECK_STR(o.meta_url, "redis://h/1");
	CHECK_STR(o.mountpoint, "/mnt");
	CHECK(!o.foreground && !o.writeback && !o.read_only && !o.strict && !o.eager);
	CHECK_EQ(o.upload_delay_ns, 0);
	CHECK_EQ(o.buffer_size, 300ull << 20);
	CHECK_EQ(o.cache_size, 100ull << 30);
	CHECK_EQ(o.sync_interval_ns, 50000000);
	CHECK_EQ(o.max_uploads, 20);
	CHECK_EQ(o.get_timeout_ns, 60000000000);
	CHECK_EQ(o.transport_kind, TRANSPORT_AUTO);
	mount_options_fini(&o);
}

static void users_know(void)
{
	struct mount_options o;
	struct errmsg e;

	CHECK_EQ(parse(&o, "mount --writeback --upload-delay=10m --buffer-size 600 --cache-size 2G --max-uploads=4 -d"
			   " --attr-cache 1.0s --no-usage-report --backup-meta 0 redis://h/1 /mnt --durability=strict",
			 &e), 0);
	CHECK(o.writeback && o.background && o.strict);
	CHECK_EQ(o.upload_delay_ns, 600000000000);
	CHECK_EQ(o.buffer_size, 600ull << 20);
	CHECK_EQ(o.cache_size, 2ull << 30);
	CHECK_EQ(o.max_uploads, 4);
	mount_options_fini(&o);
}

static void fstab(void)
{
	struct mount_options o;
	struct errmsg e;

	CHECK_EQ(parse(&o, "mount redis://h/1 /mnt -o rw,_netdev,noauto,user,x-systemd.automount,nosuid,nodev,writeback,"
			   "upload-delay=5s,cache_dir=/c,noatime,allow_other", &e), 0);
	CHECK(o.writeback && o.no_atime && !o.read_only && o.allow_other);
	CHECK_EQ(o.upload_delay_ns, 5000000000);
	CHECK_STR(o.cache_dir, "/c");
	CHECK_STR(buf_cstr(&o.kernel_options), "nosuid,nodev");
	mount_options_fini(&o);
	CHECK_EQ(parse(&o, "mount redis://h/1 /mnt -o ro", &e), 0);
	CHECK(o.read_only);
	mount_options_fini(&o);
	CHECK_EQ(parse(&o, "mount redis://h/1 /mnt -o transport=io_uring", &e), 0);
	CHECK_EQ(o.transport_kind, TRANSPORT_IO_URING);
	mount_options_fini(&o);
	CHECK_EQ(parse(&o, "mount redis://h/1 /mnt --transport classic", &e), 0);
	CHECK_EQ(o.transport_kind, TRANSPORT_CLASSIC);
	mount_options_fini(&o);
}

static void refused(void)
{
	static const char *const bad[] = {
		"mount redis://h/1", "mount redis://h/1 /mnt /other", "mount --nonsense redis://h/1 /mnt",
		"mount -o nonsense redis://h/1 /mnt", "mount --durability=always redis://h/1 /mnt",
		"mount --transport=pipes redis://h/1 /mnt", "mount --publish=lazy redis://h/1 /mnt", "mount --cache-dir=memory redis://h/1 /mnt",
		"mount --upload-delay=tomorrow redis://h/1 /mnt", "mount --buffer-size=-1 redis://h/1 /mnt",
		"mount -o writeback_cache redis://h/1 /mnt", "mount -f -d redis://h/1 /mnt",
		"mount --root-squash 1:1 redis://h/1 /mnt", "mount --sync-interval=0 redis://h/1 /mnt",
		"mount --max-uploads=0 redis://h/1 /mnt", "mount --max-downloads=0 redis://h/1 /mnt",
		"mount --get-timeout=0 redis://h/1 /mnt", "mount --upload-limit=100 redis://h/1 /mnt",
		"mount --download-limit 100 redis://h/1 /mnt", "mount -o upload-hours=0-6 redis://h/1 /mnt",
		"mount --read-only --takeover redis://h/1 /mnt",
	};
	struct mount_options o;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct errmsg e = { "" };

		if (parse(&o, bad[i], &e) != -EINVAL || !e.text[0] || strchr(e.text, '\n')) {
			fprintf(stderr, "accepted, or without a line: %s (%s)\n", bad[i], e.text);
			CHECK(false);
		}
		mount_options_fini(&o);
	}
}

static void secrets_stay_inside(void)
{
	char url[] = "redis://:hush@h/1", point[] = "/mnt", cmd[] = "mount";
	char *argv[] = { cmd, url, point };
	struct mount_options o;
	struct errmsg e;

	CHECK_EQ(mount_options_parse(&o, 3, argv, &e), 0);
	CHECK_STR(o.meta_url, "redis://:hush@h/1");
	CHECK(!strstr(url, "hush"));
	mount_options_fini(&o);
}

static void helper_line(void)
{
	static const char *const in[] = { "/sbin/mount.fuse.jfs", "redis://h/1", "/mnt", "-sv", "-n", "-t", "fuse.jfs", "-o", "rw,nosuid" };
	static const char *const want[] = { "/sbin/mount.fuse.jfs", "redis://h/1", "/mnt", "-o", "rw,nosuid" };
	char *argv[9], *out[12];
	bool fake;
	int n;

	for (int i = 0; i < 9; i++)
		argv[i] = strdup(in[i]);
	n = mount_helper_args(9, argv, out, &fake);
	CHECK_EQ(n, 5);
	for (int i = 0; i < 5 && i < n; i++)
		CHECK_STR(out[i], want[i]);
	CHECK(!fake);
	strcpy(argv[3], "-f");
	mount_helper_args(9, argv, out, &fake);
	CHECK(fake);
	for (int i = 0; i < 9; i++)
		free(argv[i]);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "defaults", defaults }, { "users_know", users_know }, { "fstab", fstab },
		{ "refused", refused }, { "secrets_stay_inside", secrets_stay_inside }, { "helper_line", helper_line },
		{ NULL, NULL } };

	return unit_main(argc, argv, tests);
}
