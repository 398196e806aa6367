/* Staging segments: reservation under a small mutex, bytes by pwrite outside of it.
 *
 * A segment's life: made (fallocate, directory fsynced) -> current -> sealed (full, or of an earlier process) -> removed.
 * `dirty` is set after a write has returned and taken back by the sync that covers it; the journal commits a record only
 * after its append returned, so a sync that begins after a commit covers the bytes the record names.
 * Failure modes: no room for a whole segment: a small one is tried before -ENOSPC; a failed write leaves a hole that
 * nobody names; a failed fdatasync is terminal (`failed`), for the kernel has by then forgotten which pages were bad. */
#include "journal/staging_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "util/fault.h"
#include "util/fileio.h"
#include "util/log.h"
#include "util/mutex.h"

#define SMALL_SEGMENT	((uint32_t)8 << 20) /* what is tried when the disk has no room for a whole one */
#define WRITEBACK_STEP	((uint32_t)8 << 20)
#define TO_DEVICE	(SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)
#define OPEN_MAX_FDS	200 /* sealed segments whose descriptor is kept open */

void segment_name(char out[32], uint64_t number)
{
	snprintf(out, 32, "%016llx.seg", (unsigned long long)number);
}

struct segment *segment_find(struct staging *st, uint64_t number)
{
	struct segment *s = st->bucket[number % BUCKETS];

	while (s && s->number != number)
		s = s->next;
	return s;
}

static struct segment *segment_add(struct staging *st, uint64_t number)
{
	struct segment *s = calloc(1, sizeof(*s));

	if (s) {
		s->number = number;
		s->fd = -1;
		s->next = st->bucket[number % BUCKETS];
		st->bucket[number % BUCKETS] = s;
		if (number >= st->next_number)
			st->next_number = number + 1;
	}
	return s;
}

void segment_drop(struct staging *st, struct segment *s)
{
	struct segment **at = &st->bucket[s->number % BUCKETS];

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	st->total -= s->disk;
	if (s->fd >= 0) {
		close(s->fd);
		st->n_fds--;
	}
	free(s->punched);
	free(s);
}

/* --- opening --- */

void segment_found(struct staging *st, struct segment *s, const struct stat *sb)
{
	s->found = true;
	s->tail = s->limit = sb->st_size < SEGMENT_SIZE ? (uint32_t)sb->st_size : SEGMENT_SIZE;
	st->total += s->disk = (uint64_t)sb->st_blocks * 512;
}

/* Finds what an earlier process left: all sealed. */
static int scan_dir(struct staging *st)
{
	int fd = openat(st->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	int err = 0;

	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (errno = 0, de = readdir(d)) != NULL) {
		struct segment *s;
		struct stat sb;
		char *end;
		uint64_t number = strtoull(de->d_name, &end, 16);

		if (end != de->d_name + 16 || strcmp(end, ".seg") != 0)
			continue;
		s = segment_add(st, number);
		if (!s)
			err = -ENOMEM;
		else if (fstatat(st->dirfd, de->d_name, &sb, 0))
			err = -errno;
		else
			segment_found(st, s, &sb);
	}
	if (!err && errno)
		err = -errno;
	closedir(d);
	return err;
}

int staging_open(const char *dir, uint64_t next_segment, struct staging **out, struct errmsg *e)
{
	struct staging *st = calloc(1, sizeof(*st));
	int err;

	if (!st)
		return errmsg_set(e, -ENOMEM, "%s: out of memory", dir);
	mutex_init_short(&st->lock);
	pthread_mutex_init(&st->make, NULL);
	st->dirfd = -1;
	st->next_number = next_segment ? next_segment : 1;
	st->segment_size = SEGMENT_SIZE;
	st->dir = strdup(dir);
	if (!st->dir) {
		err = -ENOMEM;
	} else if ((mkdir(dir, 0700) && errno != EEXIST) ||
		   (st->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		err = -errno;
	} else {
		err = dir_sync_at(st->dirfd, ".."); /* it may be new, made by a process that was killed here: only as durable as its path */
		if (!err)
			err = scan_dir(st);
	}
	if (err) {
		staging_close(st);
		return errmsg_set(e, err, "%s: cannot open the staging directory: %s", dir, strerror(-err));
	}
	*out = st;
	return 0;
}

void staging_set_segment_size(struct staging *st, uint32_t size)
{
	pthread_mutex_lock(&st->lock);
	st->segment_size = size;
	pthread_mutex_unlock(&st->lock);
}

void staging_close(struct staging *st)
{
	if (!st)
		return;
	for (int i = 0; i < BUCKETS; i++)
		while (st->bucket[i])
			segment_drop(st, st->bucket[i]);
	if (st->dirfd >= 0)
		close(st->dirfd);
	pthread_mutex_destroy(&st->lock);
	pthread_mutex_destroy(&st->make);
	free(st->window);
	free(st->dir);
	free(st);
}

/* --- descriptors --- */

/* Closes the sealed one that nobody used for longest. Called with the lock held. */
static void fd_evict(struct staging *st)
{
	struct segment *old = NULL;

	for (int i = 0; i < BUCKETS; i++)
		for (struct segment *s = st->bucket[i]; s; s = s->next)
			if (s->fd >= 0 && !s->users && !s->dirty && s != st->cur && s != st->ready &&
				(!old || s->used_at < old->used_at))
				old = s;
	if (old) {
		close(old->fd);
		old->fd = -1;
		st->n_fds--;
	}
}

/* What this process lacks says nothing about the bytes: recovery must not set them aside for it. */
int staging_open_error(int e)
{
	return e == ENOENT || e == EMFILE || e == ENFILE || e == ENOMEM || e == EACCES ? -e : -EIO;
}

/* Opening a file of our own directory does not wait. */
int segment_pin(struct staging *st, uint64_t number, struct segment **out)
{
	struct segment *s = segment_find(st, number);
	char name[32];

	if (!s || s->gone)
		return -ENOENT;
	if (s->fd < 0) {
		if (st->n_fds >= OPEN_MAX_FDS)
			fd_evict(st);
		segment_name(name, number);
		s->fd = openat(st->dirfd, name, O_RDWR | O_CLOEXEC);
		if (s->fd < 0)
			return staging_open_error(errno);
		st->n_fds++;
	}
	s->used_at = ++st->clock;
	s->users++;
	*out = s;
	return 0;
}

void segment_unpin(struct staging *st, struct segment *s)
{
	if (--s->users == 0 && s->gone)
		segment_drop(st, s);
}

/* --- making segments --- */

/* *limit: the size that is wanted, and what it became. */
static int segment_file(struct staging *st, uint64_t number, uint32_t *limit)
{
	char name[32];
	int err, fd;

	segment_name(name, number);
	err = FAULT_ERR("staging.make");
	if (err)
		return err;
	fd = openat(st->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (fallocate(fd, 0, 0, *limit) == 0)
		goto sync_dir;
	if (errno == EOPNOTSUPP) { /* only under allow_any_fs: room is then found out by writing */
		if (ftruncate(fd, *limit) == 0)
			goto sync_dir;
	} else if (errno == ENOSPC && *limit > SMALL_SEGMENT) {
		*limit = SMALL_SEGMENT;
		if (ftruncate(fd, 0) == 0 && fallocate(fd, 0, 0, SMALL_SEGMENT) == 0)
			goto sync_dir;
	}
	err = -errno;
	goto fail;
sync_dir:
	FAULT_POINT("staging.make.before_dirsync");
	if (fsync(st->dirfd) == 0)
		return fd;
	err = -EIO;
fail:
	close(fd);
	unlinkat(st->dirfd, name, 0);
	return err;
}

/* Makes the next segment when there is none. Takes `make`, so that two appenders do not make two. */
static int segment_make(struct staging *st)
{
	struct segment *s;
	uint64_t number;
	uint32_t limit;
	int fd, err = 0;

	pthread_mutex_lock(&st->make);
	pthread_mutex_lock(&st->lock);
	if (st->ready || st->hold) {
		err = st->ready ? 0 : -ENOSPC;
		pthread_mutex_unlock(&st->lock);
		goto out;
	}
	number = st->next_number++;
	limit = st->segment_size;
	pthread_mutex_unlock(&st->lock);
	fd = segment_file(st, number, &limit);
	if (fd < 0) {
		err = fd;
		goto out;
	}
	pthread_mutex_lock(&st->lock);
	s = segment_add(st, number);
	if (s) {
		s->fd = fd;
		s->limit = limit;
		s->disk = limit;
		st->total += limit;
		st->n_fds++;
		st->ready = s;
	} else {
		close(fd);
		err = -ENOMEM;
	}
	pthread_mutex_unlock(&st->lock);
out:
	pthread_mutex_unlock(&st->make);
	return err;
}

void staging_hold(struct staging *st, bool hold)
{
	pthread_mutex_lock(&st->lock);
	st->hold = hold;
	pthread_mutex_unlock(&st->lock);
}

int staging_prepare(struct staging *st)
{
	pthread_mutex_lock(&st->lock);
	bool want = !st->ready && !st->failed && (!st->cur || st->cur->tail > st->cur->limit / 2);
	pthread_mutex_unlock(&st->lock);
	return want ? segment_make(st) : 0;
}

/* --- appending --- */

/* Finds room for len bytes; pins the segment. */
static int reserve(struct staging *st, uint32_t len, struct segment **out, uint32_t *off)
{
	for (;;) {
		struct segment *s;
		int err;

		pthread_mutex_lock(&st->lock);
		if (st->failed) {
			pthread_mutex_unlock(&st->lock);
			return -EROFS;
		}
		if ((!st->cur || st->cur->limit - st->cur->tail < len) && st->ready && st->ready->limit >= len) {
			st->cur = st->ready;
			st->ready = NULL;
		}
		s = st->cur;
		if (s && s->tail < s->zeroing_to && s->tail + (uint64_t)len > s->zeroing_from)
			s->tail = s->zeroing_to; /* what lies between is given up */
		if (s && s->limit - s->tail >= len) {
			*off = s->tail;
			s->tail += len;
			s->users++;
			s->held++;
			*out = s;
			pthread_mutex_unlock(&st->lock);
			return 0;
		}
		pthread_mutex_unlock(&st->lock);
		err = segment_make(st);
		if (err)
			return err == -ENOSPC || err == -EDQUOT ? -ENOSPC : err == -ENOMEM ? err : -EIO;
	}
}

int staging_append(struct staging *st, const void *data, size_t len, struct staged *out)
{
	struct segment *s;
	uint32_t off;
	int err;

	if (len == 0 || len > APPEND_MAX)
		return -EINVAL;
	FAULT_POINT("staging.append.before");
	err = reserve(st, (uint32_t)len, &s, &off);
	if (err)
		return err;
	*out = (struct staged){.segment = s->number, .off = off, .len = (uint32_t)len, .sum = XXH3_64bits(data, len)};
	err = FAULT_ERR("staging.write");
	if (!err)
		err = file_write_at(s->fd, data, len, off);
	if (err && err != -ENOSPC)
		err = -EIO;
	if (!err && off / WRITEBACK_STEP != (off + (uint32_t)len) / WRITEBACK_STEP) {
		off_t from = (off_t)(off / WRITEBACK_STEP) * WRITEBACK_STEP;

		/* Only a hint: what it starts early the sync does not have to wait for. */
		(void)sync_file_range(s->fd, from, WRITEBACK_STEP, SYNC_FILE_RANGE_WRITE);
	}
	pthread_mutex_lock(&st->lock);
	if (!s->dirty || off < s->dirty_from)
		s->dirty_from = off;
	if (!s->dirty || off + (uint32_t)len > s->dirty_to)
		s->dirty_to = off + (uint32_t)len;
	s->dirty = true;
	st->unsynced += len;
	if (err)
		s->held--;
	segment_unpin(st, s);
	pthread_mutex_unlock(&st->lock);
	FAULT_POINT("staging.append.after");
	return err;
}

void staging_release(struct staging *st, uint64_t segment)
{
	pthread_mutex_lock(&st->lock);
	struct segment *s = segment_find(st, segment);
	if (s && s->held > 0)
		s->held--;
	pthread_mutex_unlock(&st->lock);
}

/* --- reading --- */

static int read_exact(int fd, uint8_t *p, size_t len, off_t off)
{
	while (len) {
		ssize_t n = pread(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
		off += n;
	}
	return 0;
}

static bool any_punched(const struct segment *s, uint32_t off, size_t len)
{
	if (!s->punched)
		return false;
	for (uint64_t b = off / STAGING_BLOCK; b * STAGING_BLOCK < off + len; b++)
		if (s->punched[b / 8] >> b % 8 & 1)
			return true;
	return false;
}

int staging_read(struct staging *st, uint64_t segment, uint32_t off, void *buf, size_t len)
{
	struct segment *s;
	int err;

	pthread_mutex_lock(&st->lock);
	err = segment_pin(st, segment, &s);
	pthread_mutex_unlock(&st->lock);
	if (err)
		return err;
	err = FAULT_ERR("staging.read");
	if (!err)
		err = read_exact(s->fd, buf, len, off);
	pthread_mutex_lock(&st->lock);
	/* Looked at after the read: a block that is not marked by now was whole when it was read. */
	if (any_punched(s, off, len))
		err = -ENOENT;
	segment_unpin(st, s);
	pthread_mutex_unlock(&st->lock);
	return err;
}

static bool segment_is_found(struct staging *st, uint64_t segment)
{
	pthread_mutex_lock(&st->lock);
	struct segment *s = segment_find(st, segment);
	bool found = s && s->found;
	pthread_mutex_unlock(&st->lock);
	return found;
}

int staging_read_run(struct staging *st, const struct staged *run, uint32_t off, void *buf, size_t len)
{
	uint8_t *whole = buf;
	int err;

	if (off < run->off || len > run->len || off - run->off > run->len - len || run->len > APPEND_MAX)
		return -EUCLEAN;
	if (!segment_is_found(st, run->segment))
		return staging_read(st, run->segment, off, buf, len);
	if (len < run->len) {
		whole = malloc(run->len);
		if (!whole)
			return -ENOMEM;
	}
	err = staging_read(st, run->segment, run->off, whole, run->len);
	if (!err && XXH3_64bits(whole, run->len) != run->sum)
		err = -EBADMSG;
	if (whole != buf) {
		if (!err)
			memcpy(buf, whole + (off - run->off), len);
		free(whole);
	}
	return err;
}

/* --- punching --- */

bool staging_settled(struct staging *st, uint64_t segment, uint32_t *written)
{
	pthread_mutex_lock(&st->lock);
	struct segment *s = segment_find(st, segment);
	bool ok = s && !s->gone && s != st->ready && s->held == 0;
	*written = ok ? s->tail : 0;
	pthread_mutex_unlock(&st->lock);
	return ok;
}

bool staging_is_punched(struct staging *st, uint64_t segment, uint32_t off, uint32_t len)
{
	bool all = len > 0;

	pthread_mutex_lock(&st->lock);
	struct segment *s = segment_find(st, segment);
	for (uint32_t b = off / STAGING_BLOCK; all && (uint64_t)b * STAGING_BLOCK < (uint64_t)off + len; b++)
		all = s && s->punched && s->punched[b / 8] >> b % 8 & 1;
	pthread_mutex_unlock(&st->lock);
	return all;
}

static int punch_file(struct segment *s, uint32_t off, uint32_t len, uint64_t *disk)
{
	struct stat sb;

	FAULT_POINT("staging.punch.before");
	if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len))
		return -errno;
	FAULT_POINT("staging.punch.after");
	if (fstat(s->fd, &sb))
		return -errno;
	*disk = (uint64_t)sb.st_blocks * 512;
	return 0;
}

int staging_punch(struct staging *st, uint64_t segment, uint32_t off, uint32_t len)
{
	struct segment *s;
	uint64_t disk = 0;
	int err;

	if (off % STAGING_BLOCK || len % STAGING_BLOCK || off > SEGMENT_SIZE || len > SEGMENT_SIZE - off)
		return -EINVAL;
	pthread_mutex_lock(&st->lock);
	err = segment_pin(st, segment, &s);
	if (!err && !s->punched && !(s->punched = calloc(1, SEGMENT_SIZE / STAGING_BLOCK / 8))) {
		segment_unpin(st, s);
		err = -ENOMEM;
	}
	for (uint32_t b = off / STAGING_BLOCK; !err && b < (off + len) / STAGING_BLOCK; b++)
		s->punched[b / 8] |= (uint8_t)(1u << b % 8);
	pthread_mutex_unlock(&st->lock);
	if (err)
		return err;
	err = punch_file(s, off, len, &disk);
	pthread_mutex_lock(&st->lock);
	if (!err) {
		st->total += disk - s->disk;
		s->disk = disk;
	}
	segment_unpin(st, s);
	pthread_mutex_unlock(&st->lock);
	return err;
}

/* --- syncing --- */

static struct segment *next_dirty(struct staging *st)
{
	for (int i = 0; i < BUCKETS; i++)
		for (struct segment *s = st->bucket[i]; s; s = s->next)
			if (s->dirty && !s->gone && s->synced_in != st->round)
				return s;
	return NULL;
}

int segment_sync(struct staging *st, struct segment *s, uint32_t from, uint32_t to)
{
	int err = FAULT_ERR("staging.sync");

	if (!err && (from < to ? sync_file_range(s->fd, from, to - from, TO_DEVICE) : fdatasync(s->fd)))
		err = -errno;
	if (err) {
		char name[32];

		segment_name(name, s->number);
		log_error("staging: sync failed, nothing more is accepted segment=%s err=\"%s\"", name, strerror(-err));
		pthread_mutex_lock(&st->lock);
		st->failed = true;
		pthread_mutex_unlock(&st->lock);
		return -EIO;
	}
	return 0;
}

int staging_sync(struct staging *st, bool flush_follows)
{
	struct segment *s;
	int err = 0;

	pthread_mutex_lock(&st->lock);
	if (st->failed)
		err = -EIO;
	st->round++;
	st->syncing += st->unsynced;
	st->unsynced = 0;
	while (!err && (s = next_dirty(st))) {
		bool replaces = s->dirty_from >= s->zeroed_from && s->dirty_to <= s->zeroed;
		uint32_t from = s->dirty_from, to = flush_follows && replaces ? s->dirty_to : 0;

		s->dirty = false;
		s->synced_in = st->round;
		s->users++;
		pthread_mutex_unlock(&st->lock);
		err = segment_sync(st, s, from, to);
		pthread_mutex_lock(&st->lock);
		segment_unpin(st, s);
	}
	if (!err) {
		st->last_sync = st->syncing;
		st->syncing = 0;
	}
	pthread_mutex_unlock(&st->lock);
	return err;
}

int staging_sync_segment(struct staging *st, uint64_t segment)
{
	struct segment *s;
	int err;

	pthread_mutex_lock(&st->lock);
	err = segment_pin(st, segment, &s);
	pthread_mutex_unlock(&st->lock);
	if (err)
		return err;
	err = segment_sync(st, s, 0, 0);
	pthread_mutex_lock(&st->lock);
	segment_unpin(st, s);
	pthread_mutex_unlock(&st->lock);
	return err;
}

/* --- the rest --- */

int staging_remove(struct staging *st, uint64_t segment)
{
	struct segment *s;
	char name[32];
	int err = 0;

	segment_name(name, segment);
	pthread_mutex_lock(&st->lock);
	s = segment_find(st, segment);
	if (!s || s->gone)
		err = -ENOENT;
	else if (s == st->cur || s == st->ready || s->held > 0)
		err = -EBUSY;
	else if (unlinkat(st->dirfd, name, 0) && errno != ENOENT)
		err = -errno;
	if (!err) {
		s->gone = true;
		s->dirty = false;
		s->users++;
		segment_unpin(st, s);
	}
	pthread_mutex_unlock(&st->lock);
	return err;
}

bool staging_is_held(struct staging *st, uint64_t segment)
{
	pthread_mutex_lock(&st->lock);
	struct segment *s = segment_find(st, segment);
	bool held = s && (s->held > 0 || s == st->cur || s == st->ready);
	pthread_mutex_unlock(&st->lock);
	return held;
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

size_t staging_list(struct staging *st, uint64_t *segments, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&st->lock);
	for (int i = 0; i < BUCKETS; i++) {
		for (struct segment *s = st->bucket[i]; s; s = s->next) {
			if (s->gone || s == st->ready)
				continue;
			if (n < max)
				segments[n] = s->number;
			n++;
		}
	}
	pthread_mutex_unlock(&st->lock);
	if (n && max)
		qsort(segments, n < max ? n : max, sizeof(*segments), cmp_u64);
	return n;
}

uint64_t staging_current(struct staging *st)
{
	pthread_mutex_lock(&st->lock);
	uint64_t n = st->cur ? st->cur->number : st->ready ? st->ready->number : st->next_number;
	pthread_mutex_unlock(&st->lock);
	return n;
}

uint64_t staging_next(struct staging *st)
{
	pthread_mutex_lock(&st->lock);
	uint64_t n = st->next_number;
	pthread_mutex_unlock(&st->lock);
	return n;
}

uint64_t staging_dirty(struct staging *st)
{
	pthread_mutex_lock(&st->lock);
	uint64_t n = st->unsynced + st->syncing;
	pthread_mutex_unlock(&st->lock);
	return n;
}

uint64_t staging_bytes(struct staging *st)
{
	pthread_mutex_lock(&st->lock);
	uint64_t n = st->total;
	pthread_mutex_unlock(&st->lock);
	return n;
}

uint64_t staging_used(struct staging *st)
{
	uint64_t unwritten = 0;

	pthread_mutex_lock(&st->lock);
	if (st->cur)
		unwritten += st->cur->limit - st->cur->tail;
	if (st->ready)
		unwritten += st->ready->limit;
	uint64_t n = st->total > unwritten ? st->total - unwritten : 0;
	pthread_mutex_unlock(&st->lock);
	return n;
}
