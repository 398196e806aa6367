/* See control.h. */
#include "daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/mountinfo.h"
#include "daemon/virt.h"
#include "util/buf.h"
#include "util/clock.h"

int control_find_mount(const char *path, char *point, struct errmsg *e)
{
	struct mount_entry m;
	char full[PATH_MAX];
	int r = mountinfo_resolve(path, full);

	if (r)
		return errmsg_set(e, r, "%s: %s", path, strerror(-r));
	r = mountinfo_containing(full, &m);
	if (r < 0)
		return errmsg_set(e, r, "cannot read the mount table: %s", strerror(-r));
	/* Through symbolic links, if what is there answers. */
	if ((r == 0 || strcmp(m.type, "fuse.jfs") != 0) && realpath(path, full))
		r = mountinfo_containing(full, &m);
	if (r != 1 || strcmp(m.type, "fuse.jfs") != 0)
		return errmsg_set(e, -EINVAL, "%s is not on a jfs mount", path);
	strcpy(point, m.point);
	return 0;
}

/* --- progress, on a terminal only --- */
struct progress {
	const char *point;
	pthread_t tid;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done; /* lock */
};

static int64_t stat_value(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		if (strncmp(p, name, n) == 0 && p[n] == ' ')
			return strtoll(p + n + 1, NULL, 10);
	return -1;
}

static bool read_stats(const char *point, char *text, size_t size)
{
	char path[PATH_MAX];
	ssize_t n = -1;
	int fd = -1;

	if (snprintf(path, sizeof(path), "%s/.stats", point) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void progress_show(const char *point, int64_t *most)
{
	enum { WIDTH = 30 };
	char text[65536], bar[WIDTH + 1];
	int64_t bytes, records;

	if (!read_stats(point, text, sizeof(text)))
		return;
	bytes = stat_value(text, "juicefs_staging_block_bytes");
	records = stat_value(text, "juicefs_sequence_committed") - stat_value(text, "juicefs_sequence_applied");
	if (records > *most)
		*most = records;
	int full = *most > 0 ? (int)(WIDTH * (*most - records) / *most) : WIDTH;

	memset(bar, '.', WIDTH);
	memset(bar, '#', (size_t)(full < 0 ? 0 : full > WIDTH ? WIDTH : full));
	bar[WIDTH] = '\0';
	fprintf(stderr, "\r[%s] %lld operations, %.1f MiB to go\033[K", bar, (long long)(records < 0 ? 0 : records),
		(double)(bytes < 0 ? 0 : bytes) / 1048576);
}

static void *progress_main(void *arg)
{
	struct progress *p = arg;
	int64_t most = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->done) {
		struct timespec until = clock_mono_after_ms(300);

		pthread_cond_timedwait(&p->cond, &p->lock, &until);
		if (p->done)
			break;
		pthread_mutex_unlock(&p->lock);
		progress_show(p->point, &most);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void progress_start(struct progress *p, const char *point)
{
	pthread_condattr_t ca;

	memset(p, 0, sizeof(*p));
	p->point = point;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&p->cond, &ca);
	pthread_condattr_destroy(&ca);
	if (isatty(STDERR_FILENO))
		p->started = pthread_create(&p->tid, NULL, progress_main, p) == 0;
}

static void progress_end(struct progress *p)
{
	pthread_mutex_lock(&p->lock);
	p->done = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
	if (p->started) {
		pthread_join(p->tid, NULL);
		fprintf(stderr, "\r\033[K");
	}
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
}

/* The answer is one byte behind the request. -ENOTTY: nobody there takes requests. */
static int exchange(int fd, uint32_t command, bool writable)
{
	uint8_t req[8], answer;
	ssize_t n;

	put_be32(req, command);
	put_be32(req + 4, 0);
	n = writable ? write(fd, req, sizeof(req)) : ioctl(fd, VIRT_IOC_COMMAND, req) ? -1 : (ssize_t)sizeof(req);
	if (n != (ssize_t)sizeof(req))
		return n < 0 ? -errno : -EIO;
	do
		n = pread(fd, &answer, 1, sizeof(req));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == 1 ? -(int)answer : -EIO;
}

/* The daemon of a read-only mount has nothing on its way, but for an offline mount of a journal that holds work. */
static int read_only_command(const char *point, struct errmsg *e)
{
	char text[65536];
	int64_t left = read_stats(point, text, sizeof(text)) ? stat_value(text, "juicefs_backlog_operations") : -1;

	if (left == 0)
		return 0;
	return left < 0 ? errmsg_set(e, -EIO, "%s does not answer", point)
			: errmsg_set(e, -EROFS, "%s is mounted read-only: %lld operations in its journal stay there until it is mounted "
				"without --read-only", point, (long long)left);
}

int control_command(const char *point, uint32_t command, struct errmsg *e)
{
	char path[PATH_MAX];
	struct progress p;
	bool writable;
	int fd, r;

	if (snprintf(path, sizeof(path), "%s/.control", point) >= (int)sizeof(path))
		return errmsg_set(e, -ENAMETOOLONG, "%s: path too long", point);
	fd = open(path, O_RDWR | O_CLOEXEC);
	writable = fd >= 0 || errno != EROFS;
	if (!writable)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errmsg_set(e, -errno, "%s does not answer: %s", point, strerror(errno));
	progress_start(&p, point);
	r = exchange(fd, command, writable);
	progress_end(&p);
	close(fd);
	if (r == -ENOTTY)
		r = read_only_command(point, e);
	else if (r == -EIO)
		errmsg_set(e, r, "%s: it cannot be done, `jfs status %s` says why", point, point);
	else if (r)
		errmsg_set(e, r, "%s: %s", point, strerror(-r));
	return r;
}
