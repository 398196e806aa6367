/* See remount.h.
 *
 * mount(8) calls us with the options of /etc/fstab, or of the mount table, and the changes merged. Which options the daemon
 * runs with is what its command line says, in which the secrets are wiped. The kernel tells a FUSE daemon nothing of a remount:
 * with `ro` it refuses changes by itself, and the daemon goes on with replay, uploads and access times. */
#include "daemon/remount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "daemon/mountpoint.h"
#include "util/buf.h"

enum { CMDLINE_MAX = 1 << 20 };

static unsigned long flags_of(const struct mount_options *o)
{
	static const struct {
		const char *name;
		unsigned long set, clear;
	} words[] = {
		{ "nosuid", MS_NOSUID, 0 }, { "suid", 0, MS_NOSUID }, { "nodev", MS_NODEV, 0 }, { "dev", 0, MS_NODEV },
		{ "noexec", MS_NOEXEC, 0 }, { "exec", 0, MS_NOEXEC }, { "sync", MS_SYNCHRONOUS, 0 }, { "async", 0, MS_SYNCHRONOUS },
	};
	unsigned long flags = o->read_only ? MS_RDONLY : 0;
	const char *p = o->kernel_options.len ? (const char *)o->kernel_options.data : "";

	for (size_t n; *p; p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (strlen(words[i].name) == n && memcmp(words[i].name, p, n) == 0)
				flags = (flags | words[i].set) & ~words[i].clear;
	}
	return flags;
}

/* --- how it was mounted --- */

static int read_cmdline(pid_t pid, struct buf *b)
{
	char path[64];
	FILE *f;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	for (int c; (c = getc(f)) != EOF;)
		buf_put(b, &(char){ (char)c }, 1);
	rc = ferror(f) ? -EIO : 0;
	fclose(f);
	buf_cstr(b); /* ends the last one */
	return rc ? rc : b->err;
}

/* The daemon's options into *r, which the caller finishes in any case. */
static int running_options(pid_t pid, struct mount_options *r, struct errmsg *e)
{
	struct buf b;
	char **argv = NULL, **args = NULL;
	int argc = 0, rc;
	bool fake;

	memset(r, 0, sizeof(*r));
	buf_init(&b, CMDLINE_MAX);
	rc = read_cmdline(pid, &b);
	if (!rc)
		argv = calloc(b.len + 1, sizeof(*argv));
	if (!rc && argv)
		args = calloc(b.len + 4, sizeof(*args));
	if (rc || !args) {
		rc = errmsg_set(e, rc ? rc : -ENOMEM, "cannot tell how it was mounted: %s", strerror(rc ? -rc : ENOMEM));
		goto out;
	}
	for (char *p = (char *)b.data, *end = p + b.len; p < end; p += strlen(p) + 1)
		argv[argc++] = p;
	/* "jfs mount ARGUMENTS", or mount(8)'s call */
	if (argc > 1 && strcmp(argv[1], "mount") == 0) {
		memcpy(args, argv + 1, (size_t)(argc - 1) * sizeof(*args));
		argc--;
	} else {
		argc = mount_helper_args(argc, argv, args, &fake);
	}
	rc = mount_options_parse(r, argc, args, e);
out:
	free(args);
	free(argv);
	buf_fini(&b);
	return rc;
}

/* --- what may change --- */

static int check(const struct mount_options *o, const struct mount_options *running, struct errmsg *e)
{
	struct mount_options same = *running;
	const char *name;

	if (running->read_only && !o->read_only)
		return errmsg_set(e, -EROFS, "%s was mounted read-only, without the lease: umount, then mount it again", o->mountpoint);
	same.read_only = o->read_only;
	name = options_changed(&mount_spec, o, &o->args, &same);
	if (!name && o->no_atime && !running->no_atime)
		name = "noatime";
	if (!name && o->strict_atime && !running->strict_atime)
		name = "strictatime";
	if (!name && o->threads && o->threads != running->threads)
		name = "max_threads";
	return name ? errmsg_set(e, -EINVAL, "-o remount cannot change %s: umount, then mount with the new options", name) : 0;
}

int remount(const struct mount_options *o, struct errmsg *e)
{
	struct mount_options running;
	char point[PATH_MAX];
	pid_t daemon;
	int rc = mountpoint_find(o->mountpoint, point, e);

	if (rc)
		return rc;
	daemon = mountpoint_daemon(point);
	if (daemon < 0)
		return errmsg_set(e, (int)daemon, "%s does not answer (%s): mount the volume again", point, strerror(-(int)daemon));
	rc = running_options(daemon, &running, e);
	if (!rc)
		rc = check(o, &running, e);
	mount_options_fini(&running);
	if (rc || mount(NULL, point, NULL, MS_REMOUNT | flags_of(o), NULL) == 0)
		return rc;
	rc = -errno;
	return errmsg_set(e, rc, "cannot remount %s: %s%s", point, strerror(-rc),
		rc == -EBUSY ? ": files are open for writing, see `fuser -vm`" : "");
}
