#include "journal/synclog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fault.h"
#include "util/fileio.h"
#include "util/log.h"

static void file_name(const char *dir, char out[4096])
{
	snprintf(out, 4096, "%s/sync.log", dir);
}

void synclog_init(struct synclog *l)
{
	*l = (struct synclog){.fd = -1};
	buf_init(&l->frame, SYNC_LOG_SIZE);
}

void synclog_fini(struct synclog *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	buf_fini(&l->frame);
}

bool synclog_ready(const struct synclog *l)
{
	return l->fd >= 0;
}

static void turn_off(struct synclog *l, const char *why)
{
	log_warn("journal: without a sync log, every fsync is a flush of base why=\"%s\"", why);
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->off = true;
}

/* --- making --- */

int synclog_make(struct synclog *l, const char *dir, const char *id, uint64_t life, uint64_t anchor)
{
	char path[4096];
	int err;

	file_name(dir, path);
	if (unlink(path) && errno != ENOENT)
		return -errno;
	l->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (l->fd < 0) {
		turn_off(l, strerror(errno));
		return 0;
	}
	err = FAULT_ERR("synclog.make");
	if (!err)
		err = file_zero_at(l->fd, SYNC_LOG_SIZE, 0);
	if (err) { /* whoever writes next meets the same disk and says so */
		if (unlink(path))
			log_debug("journal: an unfinished sync log stays path=%s", path);
		turn_off(l, strerror(-err));
		return 0;
	}
	FAULT_POINT("synclog.make.before_sync");
	if (fsync(l->fd) || dir_sync_at(AT_FDCWD, dir))
		return -EIO;
	memcpy(l->id, id, 32);
	l->life = life;
	synclog_restart(l, anchor);
	return 0;
}

void synclog_restart(struct synclog *l, uint64_t anchor)
{
	l->anchor = anchor;
	l->tail = 0;
}

void synclog_remove(struct synclog *l, const char *dir)
{
	char path[4096];

	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	file_name(dir, path);
	if (unlink(path) && errno != ENOENT)
		log_warn("journal: cannot remove path=%s err=\"%s\"", path, strerror(errno));
}

/* --- appending --- */

int synclog_write(struct synclog *l, uint64_t first, uint64_t last)
{
	struct sync_frame f = {.life = l->life, .anchor = l->anchor, .first = first, .last = last};
	int err;

	sync_frame_finish(&l->frame, l->id, &f);
	if (l->frame.err)
		return l->frame.err == -E2BIG ? -ENOSPC : l->frame.err;
	if (l->frame.len > SYNC_LOG_SIZE - l->tail)
		return -ENOSPC;
	err = FAULT_ERR("synclog.write");
	if (!err)
		err = file_write_at(l->fd, l->frame.data, l->frame.len, (off_t)l->tail);
	if (err == -ENOSPC) /* not all bytes of a preallocated file are its own: it was copied by reference */
		turn_off(l, "disk full");
	if (err)
		return err;
	/* The device gets it while the staged bytes are on their way. */
	if (sync_file_range(l->fd, (off_t)l->tail, (off_t)l->frame.len, SYNC_FILE_RANGE_WRITE))
		return -EIO;
	l->tail += l->frame.len;
	return 0;
}

int synclog_sync(struct synclog *l)
{
	int err = FAULT_ERR("synclog.sync");

	if (!err && fdatasync(l->fd))
		err = -errno;
	if (err)
		log_error("journal: the sync of the sync log failed err=\"%s\"", strerror(-err));
	return err ? -EIO : 0;
}

/* --- what a life left --- */

static int file_read(const char *path, uint8_t **data, size_t *len)
{
	int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	*len = 0;
	*data = NULL;
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	*data = malloc(SYNC_LOG_SIZE);
	if (!*data)
		err = -ENOMEM;
	while (!err && *len < SYNC_LOG_SIZE) {
		ssize_t n = pread(fd, *data + *len, SYNC_LOG_SIZE - *len, (off_t)*len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		*len += (size_t)n;
	}
	close(fd);
	return err;
}

/* Does it continue the frames before it? */
static bool continues(const struct sync_kept *k, const struct sync_frame *f)
{
	const struct sync_frame *prev = k->n ? &k->frame[k->n - 1] : NULL;

	if (f->last < f->first)
		return false;
	return prev ? f->anchor == prev->anchor && f->first == prev->last + 1 : f->first == f->anchor + 1;
}

static int take_run(struct sync_kept *k, size_t len, const char *id, uint64_t life, uint64_t durable, size_t *end)
{
	struct sync_frame f;
	size_t size;
	int err = 0;

	for (*end = 0; *end < len; *end += size) {
		err = sync_frame_read(k->data + *end, len - *end, id, &f, &size);
		if (err || f.life != life || f.anchor > durable || !continues(k, &f))
			break;
		k->frame[k->n++] = f;
	}
	return err == -ENOENT ? 0 : err;
}

/* Frames of the same run, or of a later one than base has. What an earlier run left here base has. */
static void take_behind(struct sync_kept *k, size_t from, size_t len, const char *id, uint64_t life, uint64_t durable)
{
	struct sync_frame f;
	size_t size;

	for (size_t at = from; at < len; at += size) {
		const struct sync_frame *prev = k->n ? &k->frame[k->n - 1] : NULL;

		if (sync_frame_read(k->data + at, len - at, id, &f, &size))
			size = SYNC_BLOCK;
		else if (f.life == life && f.first <= f.last && (prev ? f.anchor == prev->anchor && f.first > prev->last : f.last > durable)) {
			k->frame[k->n++] = f;
			k->damaged = true;
		}
	}
}

int synclog_load(const char *dir, const char *id, uint64_t life, uint64_t durable, struct sync_kept *out)
{
	char path[4096];
	size_t len, end = 0;
	unsigned newer;
	int err;

	*out = (struct sync_kept){0};
	file_name(dir, path);
	err = file_read(path, &out->data, &len);
	if (!err && len && !(out->frame = calloc(SYNC_LOG_SIZE / SYNC_BLOCK, sizeof(*out->frame))))
		err = -ENOMEM;
	if (!err)
		err = take_run(out, len, id, life, durable, &end);
	if (out->n && out->frame[out->n - 1].last <= durable)
		out->n = 0;
	if (!err)
		take_behind(out, end, len, id, life, durable);
	newer = err == -ENOTSUP ? sync_frame_version(out->data + end) : 0;
	if (err)
		synclog_forget(out);
	out->newer = newer;
	return err;
}

int synclog_scan(const struct sync_kept *k, uint64_t from, int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg)
{
	for (size_t i = 0; i < k->n; i++) {
		uint64_t seq = k->frame[i].first;
		const uint8_t *rec;
		size_t at = 0, len;
		int more;

		while ((more = sync_frame_next(&k->frame[i], &at, &rec, &len)) == 1) {
			int err = seq < from || seq > k->frame[i].last ? 0 : fn(arg, seq, rec, len);

			if (err)
				return err;
			seq++;
		}
		if (more < 0 || seq != k->frame[i].last + 1)
			return -EUCLEAN;
	}
	return 0;
}

void synclog_forget(struct sync_kept *k)
{
	if (!k)
		return;
	free(k->frame);
	free(k->data);
	*k = (struct sync_kept){0};
}
