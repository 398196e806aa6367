#include "recovery/private_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/appliance.h"
#include "daemon/control.h"
#include "daemon/mount_options.h"
#include "daemon/mountpoint.h"
#include "daemon/verbs.h"

/* --- the daemon --- */

static void say(int fd, const char *text)
{
	size_t n = strlen(text);

	while (n) {
		ssize_t w = write(fd, text, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return; /* the parent is gone, and ends us */
		text += w;
		n -= (size_t)w;
	}
}

static int parse(const struct private_mount_config *c, const char *dir, struct mount_options *o, struct errmsg *e)
{
	char cache[PATH_MAX + 16], hot[PATH_MAX + 16];
	char *argv[16];
	int n = 0;

	snprintf(cache, sizeof(cache), "--cache-dir=%s", c->cache_root);
	snprintf(hot, sizeof(hot), "--hot-dir=%s", c->hot_dir ? c->hot_dir : "");
	argv[n++] = "mount";
	argv[n++] = "--foreground";
	argv[n++] = "--no-syslog";
	argv[n++] = "--writeback";
	argv[n++] = "--rebasing";
	argv[n++] = "--max-deletes=0"; /* what is replaced may still be needed, under another name; the next mount deletes it */
	argv[n++] = cache;
	if (c->hot_dir)
		argv[n++] = hot;
	if (c->read_only)
		argv[n++] = "--read-only";
	if (c->takeover)
		argv[n++] = "--takeover";
	if (c->allow_any_fs)
		argv[n++] = "--allow-any-fs";
	argv[n++] = (char *)c->meta_url;
	argv[n++] = (char *)dir;
	argv[n] = NULL;
	return mount_options_parse(o, n, argv, e);
}

/* `ready`: an empty line when the mount is there, else one that says why not. Returns the exit status. */
static int serve(const struct private_mount_config *c, const char *dir, int ready)
{
	struct appliance *a = NULL;
	struct mount_options o;
	struct errmsg e = {""};
	int rc = parse(c, dir, &o, &e), status = 1;

	appliance_block_signals();
	if (!rc)
		rc = appliance_open(&o, &a, &e);
	if (!rc)
		rc = appliance_mount(a, dir, &e);
	if (rc)
		say(ready, e.text[0] ? e.text : "the mount failed without a reason");
	say(ready, "\n");
	close(ready);
	if (!rc)
		appliance_run(a);
	if (appliance_close(a) == 0 && !rc)
		status = 0;
	mount_options_fini(&o);
	return status;
}

/* --- its parent --- */

/* A copy of another mount would keep its daemon from ending when it is unmounted outside. Best effort. */
static void leave_other_mounts(void)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;

	while (f && (m = getmntent(f)))
		if (strcmp(m->mnt_type, "fuse.jfs") == 0)
			umount2(m->mnt_dir, MNT_DETACH | UMOUNT_NOFOLLOW);
	if (f)
		endmntent(f);
}

static int own_namespace(struct errmsg *e)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return errmsg_set(e, -errno, "no mount namespace of its own: %s (this needs root)", strerror(errno));
	leave_other_mounts();
	return 0;
}

static int wait_ready(int fd, struct errmsg *e)
{
	size_t n = 0;
	ssize_t r;

	while (n < sizeof(e->text) - 1 && (n == 0 || e->text[n - 1] != '\n')) {
		r = read(fd, e->text + n, sizeof(e->text) - 1 - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return errmsg_set(e, -EIO, "the mount ended without a word");
		n += (size_t)r;
	}
	e->text[n - (e->text[n - 1] == '\n')] = '\0';
	return e->text[0] ? -EIO : 0;
}

static int fork_daemon(const struct private_mount_config *c, struct private_mount *m, int fds[2], struct errmsg *e)
{
	pid_t parent = getpid();

	fflush(NULL);
	m->daemon = fork();
	if (m->daemon < 0)
		return errmsg_set(e, -errno, "cannot fork: %s", strerror(errno));
	if (m->daemon)
		return 0;
	close(fds[0]);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	exit(getppid() == parent ? serve(c, m->dir, fds[1]) : 1);
}

int private_mount_start(const struct private_mount_config *c, struct private_mount *m, struct errmsg *e)
{
	const char *tmp = getenv("TMPDIR");
	int fds[2] = {-1, -1}, rc;
	char full[PATH_MAX];

	*m = (struct private_mount){0};
	rc = own_namespace(e);
	if (rc)
		return rc;
	if (snprintf(m->dir, sizeof(m->dir), "%s/jfs-recover.XXXXXX", tmp ? tmp : "/tmp") >= (int)sizeof(m->dir))
		return errmsg_set(e, -ENAMETOOLONG, "TMPDIR is too long");
	if (!mkdtemp(m->dir)) {
		rc = errmsg_set(e, -errno, "%s: %s", m->dir, strerror(errno));
		m->dir[0] = '\0';
		return rc;
	}
	if (realpath(m->dir, full))
		strcpy(m->dir, full);
	if (pipe2(fds, O_CLOEXEC))
		rc = errmsg_set(e, -errno, "cannot make a pipe: %s", strerror(errno));
	if (!rc)
		rc = fork_daemon(c, m, fds, e);
	if (fds[1] >= 0)
		close(fds[1]);
	if (!rc)
		rc = wait_ready(fds[0], e);
	if (!rc)
		rc = mountpoint_answers(m->dir, e);
	if (fds[0] >= 0)
		close(fds[0]);
	if (rc)
		private_mount_end(m, NULL);
	return rc;
}

int private_mount_flush(struct private_mount *m, struct errmsg *e)
{
	return control_command(m->dir, VERB_FLUSH, e);
}

int private_mount_end(struct private_mount *m, struct errmsg *e)
{
	int status = 0, rc = 0;

	if (m->daemon > 0) {
		kill(m->daemon, SIGTERM);
		while (waitpid(m->daemon, &status, 0) < 0)
			if (errno != EINTR) {
				rc = errmsg_set(e, -EIO, "the mount cannot be waited for: %s", strerror(errno));
				break;
			}
		m->daemon = 0;
	}
	if (!rc && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		rc = errmsg_set(e, -EIO, "the mount did not end well");
	if (m->dir[0] && rmdir(m->dir) && !rc)
		rc = errmsg_set(e, -EIO, "%s cannot be removed: %s", m->dir, strerror(errno));
	m->dir[0] = '\0';
	return rc;
}
