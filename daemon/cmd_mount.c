/* jfs mount, and the helper that mount(8) calls. The command returns when the mount answers: the daemon is a grandchild
 * that reports through a pipe, one line of text when it failed, or a single newline. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/appliance.h"
#include "daemon/commands.h"
#include "daemon/mount_options.h"
#include "daemon/mountpoint.h"
#include "daemon/remount.h"
#include "util/fileio.h"
#include "util/log.h"

static void open_log(const struct mount_options *o)
{
	int r = o->log ? log_open_file(o->log) : 0;

	if (r)
		log_warn("event=log_open file=\"%s\" error=\"%s\"", o->log, strerror(-r));
	if (!o->foreground && !o->no_syslog && !o->log)
		log_open_syslog("jfs");
	log_set_level(o->debug ? LOG_LVL_DEBUG : LOG_LVL_INFO);
}

/* From here to the end of the daemon. `ready` is told once: 0 or the error. */
static int serve(const struct mount_options *o, const char *mountpoint, void (*ready)(void *arg, const struct errmsg *e),
	void *arg)
{
	struct appliance *a = NULL;
	struct errmsg e = { "" };
	int r;

	appliance_block_signals();
	files_limit_raise(); /* the rings of many CPUs need some */
	open_log(o);
	r = appliance_open(o, &a, &e);
	if (r == 0)
		r = appliance_mount(a, mountpoint, &e);
	if (r) {
		appliance_close(a);
		ready(arg, &e);
		return 1;
	}
	ready(arg, NULL);
	sd_notifyf(0, "READY=1\nMAINPID=%d", (int)getpid());
	appliance_run(a);
	sd_notify(0, "STOPPING=1");
	return appliance_close(a) ? 1 : 0;
}

static void write_all(int fd, const char *s, size_t n)
{
	while (n) {
		ssize_t w = write(fd, s, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return; /* nobody listens any more */
		s += w;
		n -= (size_t)w;
	}
}

/* Opens a file, so that the kernel learns that there are no handles. Until somebody does, it sends a RELEASE for each file that
 * is made and closed. By way of a copy of the mount, so that nobody finds it busy; best effort (needs root). Never the daemon: a
 * process that waits in the kernel for an answer of its own cannot be killed, and while it is there the connection is not
 * aborted. */
static void teach_no_handles(const char *mountpoint)
{
	int copy = open_tree(AT_FDCWD, mountpoint, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int fd = copy < 0 ? -1 : openat(copy, ".control", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	if (copy >= 0)
		close(copy);
}

/* --- foreground --- */
struct foreground {
	struct errmsg *e;
	int teacher;
};

enum { TEACH_S = 5 };

/* A process that teaches the kernel once a byte comes, made before there are threads; nobody's child. Its descriptor, -1: none. It
 * does not go on for long: where the root has never been here it waits for Redis, and its copy keeps the daemon from ending. */
static int teacher_start(const char *mountpoint)
{
	int fds[2];
	pid_t pid;
	char c;

	if (pipe2(fds, O_CLOEXEC))
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[1]);
		if (fork() == 0 && read(fds[0], &c, 1) == 1) {
			alarm(TEACH_S);
			teach_no_handles(mountpoint);
		}
		_exit(0);
	}
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return -1;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fds[1];
}

static void ready_foreground(void *arg, const struct errmsg *e)
{
	struct foreground *f = arg;

	if (e)
		*f->e = *e;
	else
		log_info("event=ready");
	if (!e && f->teacher >= 0)
		write_all(f->teacher, "", 1);
	if (f->teacher >= 0)
		close(f->teacher);
}

/* --- background --- */
static void ready_background(void *arg, const struct errmsg *e)
{
	int *fd = arg;

	log_set_witness(-1);
	if (e)
		write_all(*fd, e->text[0] ? e->text : "failed without a reason", strlen(e->text) ? strlen(e->text) : 23);
	write_all(*fd, "\n", 1);
	close(*fd);
	*fd = -1;
}

/* Leaves the caller's terminal, session, directory and descriptors; stderr goes away last, libraries may use it. */
static void detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (chdir("/") < 0)
		log_warn("event=chdir error=\"%s\"", strerror(errno));
	if (null < 0)
		return;
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static int daemon_start(const struct mount_options *o, const char *mountpoint, int fd)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return 1;
	if (pid > 0)
		return 0; /* the middle one ends at once: the daemon is nobody's child */
	detach();
	log_set_witness(fd);
	status = serve(o, mountpoint, ready_background, &fd);
	exit(status);
}

/* The daemon's one line: 0 when it was empty, -errno-like -1 with the text. */
static int read_report(int fd, struct errmsg *e)
{
	size_t n = 0;
	ssize_t r;

	while (n < sizeof(e->text) - 1) {
		r = read(fd, e->text + n, sizeof(e->text) - 1 - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
		if (e->text[n - 1] == '\n')
			break;
	}
	if (n == 0)
		return errmsg_set(e, -EIO, "the daemon ended without a word: see the log");
	e->text[n - (e->text[n - 1] == '\n')] = '\0';
	return e->text[0] ? -EIO : 0;
}

static int mount_background(const struct mount_options *o, const char *mountpoint, struct errmsg *e)
{
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return errmsg_set(e, -errno, "cannot make a pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		r = errmsg_set(e, -errno, "cannot fork: %s", strerror(errno));
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid == 0) {
		close(fds[0]);
		_exit(daemon_start(o, mountpoint, fds[1]));
	}
	close(fds[1]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	r = read_report(fds[0], e);
	close(fds[0]);
	if (r == 0)
		r = mountpoint_answers(mountpoint, e);
	if (r == 0)
		teach_no_handles(mountpoint);
	return r;
}

static int mount_run(int argc, char **argv, const char *as)
{
	struct errmsg e = { "" };
	struct mount_options o;
	char mountpoint[PATH_MAX];
	int r, status = 0;

	r = mount_options_parse(&o, argc, argv, &e);
	if (r) {
		fprintf(stderr, "%s: %s\n", as, e.text);
		status = 2;
	} else if (o.args.help) {
		options_help(&mount_spec);
	} else if (o.remount) {
		status = remount(&o, &e) ? 1 : 0;
		if (status)
			fprintf(stderr, "%s: %s\n", as, e.text);
	} else {
		r = mountpoint_prepare(o.mountpoint, o.force, mountpoint, &e);
		if (r == 0 && o.foreground)
			status = serve(&o, mountpoint, ready_foreground, &(struct foreground){ &e, teacher_start(mountpoint) });
		else if (r == 0)
			r = mount_background(&o, mountpoint, &e);
		if (r || (status && e.text[0]))
			fprintf(stderr, "%s: %s\n", as, e.text);
		if (r)
			status = 1;
	}
	mount_options_fini(&o);
	return status;
}

int cmd_mount(int argc, char **argv)
{
	return mount_run(argc, argv, "jfs mount");
}

int cmd_mount_helper(int argc, char **argv)
{
	char **args = calloc((size_t)argc + 4, sizeof(*args));
	bool fake;
	int n, status;

	if (!args)
		return 1;
	n = mount_helper_args(argc, argv, args, &fake);
	status = fake ? 0 : mount_run(n, args, "mount.fuse.jfs");
	free(args);
	return status;
}
