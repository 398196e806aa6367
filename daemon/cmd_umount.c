/* jfs umount: returns when the daemon is gone, so that the volume can be mounted again at once. */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "daemon/commands.h"
#include "daemon/control.h"
#include "daemon/mountpoint.h"
#include "daemon/options.h"
#include "daemon/verbs.h"

struct umount_options {
	bool flush, wait, force;
};

#define AT(member) offsetof(struct umount_options, member)
static const struct opt table[] = {
	{ "flush", 0, OPT_FLAG, AT(flush), 0, false, NULL, "first wait until Redis and S3 have everything" },
	{ "wait", 0, OPT_FLAG, AT(wait), 0, false, NULL, "the same" },
	{ "force", 'f', OPT_FLAG, AT(force), 0, false, NULL, "detach it even if it is in use" },
	{ 0 },
};

static const struct options_spec spec = {
	.usage = "jfs umount [--flush] [--force] MOUNTPOINT",
	.summary = "Unmounts and waits for the end of the daemon. What Redis and S3 do not have yet stays in the cache directory,\n"
		   "and is carried on with at the next mount.",
	.opts = table,
	.args_min = 1,
	.args_max = 1,
};

static int unmount(const char *path, const struct umount_options *o, struct errmsg *e)
{
	char point[PATH_MAX];
	pid_t daemon;
	int r = mountpoint_find(path, point, e);

	if (r)
		return r;
	/* A dead mount has no daemon and nothing to flush: detaching it is all. */
	daemon = mountpoint_daemon(point);
	if (daemon > 0 && (o->flush || o->wait)) {
		r = control_command(point, VERB_FLUSH, e);
		if (r)
			return r;
	} else if (o->flush || o->wait) {
		return errmsg_set(e, -ENOTCONN, "%s is dead: mount the volume again, then unmount it with --flush", point);
	}
	if (umount2(point, UMOUNT_NOFOLLOW) != 0) {
		if (errno == EBUSY && !o->force && daemon > 0)
			return errmsg_set(e, -EBUSY, "%s is in use: see `fuser -vm %s`, or --force", point, point);
		if (umount2(point, UMOUNT_NOFOLLOW | MNT_DETACH) != 0)
			return errmsg_set(e, -errno, "cannot unmount %s: %s", point, strerror(errno));
		/* With --force its users may keep it alive for as long as they like: the daemon ends by itself then. */
		return 0;
	}
	return daemon > 0 ? process_wait(daemon, -1) : 0;
}

int cmd_umount(int argc, char **argv)
{
	struct umount_options o = { false, false, false };
	struct options_result res;
	struct errmsg e = { "" };
	int r, status = 0;

	if (options_parse(&spec, &o, &res, argc, argv, &e)) {
		status = options_usage_error(&spec, &e);
	} else if (res.help) {
		options_help(&spec);
	} else {
		r = unmount(res.args[0], &o, &e);
		if (r)
			fprintf(stderr, "jfs umount: %s\n", e.text);
		status = r ? 1 : 0;
	}
	options_free(&spec, &o, &res);
	return status;
}
