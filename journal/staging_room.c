/* The room behind what was written: given back to the disk, or filled with zeros ahead of small syncs.
 *
 * A preallocated range is "unwritten": the sync after the first write to it must also commit the file system's own journal.
 * Where syncs cover little, zeros are written and synced ahead of the tail, so that such a sync is a flush of data and nothing
 * else. An append replaces them. Zeros name nothing: records alone say which bytes of a segment count, so recovery does not see
 * them, and what a crash leaves of them goes with its segment; a clean close gives them back. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "journal/staging_int.h"
#include "util/fault.h"
#include "util/fileio.h"
#include "util/log.h"

#define ZERO_AHEAD ((uint32_t)1 << 20)
#define ZERO_SMALL (ZERO_AHEAD / 8) /* a sync of more is paid for by its data */

/* The end of what was ever written: an unwritten preallocated range reads as a hole. -errno when it cannot be told. */
static off_t written_end(int fd, off_t size)
{
	off_t end = 0;

	while (end < size) {
		off_t data = lseek(fd, end, SEEK_DATA);

		if (data < 0)
			return errno == ENXIO ? end : -errno;
		end = lseek(fd, data, SEEK_HOLE);
		if (end < 0)
			return -errno;
	}
	return end;
}

static void segment_trim(struct staging *st, struct segment *s, const char *name)
{
	struct stat sb;
	int fd = openat(st->dirfd, name, O_RDWR | O_CLOEXEC);
	off_t end;

	if (fd < 0)
		return;
	end = fstat(fd, &sb) ? -EIO : written_end(fd, sb.st_size);
	if (end > 0 && end < sb.st_size && ftruncate(fd, end) == 0 && fstat(fd, &sb) == 0) {
		st->total -= s->disk;
		segment_found(st, s, &sb);
	}
	close(fd);
	if (end == 0 && unlinkat(st->dirfd, name, 0) == 0)
		segment_drop(st, s);
}

void staging_trim_tails(struct staging *st)
{
	char name[32];

	pthread_mutex_lock(&st->lock);
	for (int i = 0; i < BUCKETS; i++) {
		for (struct segment *s = st->bucket[i], *next; s; s = next) {
			next = s->next;
			if (s == st->cur || s == st->ready || s->users)
				continue;
			segment_name(name, s->number);
			segment_trim(st, s, name);
		}
	}
	pthread_mutex_unlock(&st->lock);
}

/* Of this life's segments: the next one trims what it finds, but could not tell zeros from data. */
void staging_close_tails(struct staging *st)
{
	char name[32];
	int rc;

	pthread_mutex_lock(&st->lock);
	for (int i = 0; i < BUCKETS; i++) {
		for (struct segment *s = st->bucket[i]; s; s = s->next) {
			if (s->found || s->gone || s->fd < 0 || s->tail == s->limit)
				continue;
			segment_name(name, s->number);
			rc = s->tail ? ftruncate(s->fd, s->tail) : unlinkat(st->dirfd, name, 0);
			if (rc)
				log_warn("staging: cannot give room back segment=%s err=\"%s\"", name, strerror(errno));
		}
	}
	pthread_mutex_unlock(&st->lock);
}

/* --- zeros ahead --- */

/* Chooses the range [zeroing_from, zeroing_to) of the current segment, if there should be one, and pins it. */
static struct segment *zero_begin(struct staging *st)
{
	struct segment *s = st->cur;
	uint32_t from, to;

	if (!s || st->failed || st->last_sync == 0 || st->last_sync > ZERO_SMALL)
		return NULL;
	from = s->zeroed > s->tail ? s->zeroed : s->tail;
	if (from - s->tail >= ZERO_AHEAD / 2)
		return NULL;
	to = s->limit - s->tail < ZERO_AHEAD ? s->limit : s->tail + ZERO_AHEAD;
	if (from >= to)
		return NULL;
	s->zeroing_from = from;
	s->zeroing_to = to;
	s->users++;
	return s;
}

int staging_zero_ahead(struct staging *st)
{
	struct segment *s;
	uint32_t from, to;
	bool written;
	int err = 0;

	pthread_mutex_lock(&st->lock);
	s = zero_begin(st);
	pthread_mutex_unlock(&st->lock);
	if (!s)
		return 0;
	/* Not having them is no failure: whoever appends there meets the same disk and says so. */
	from = s->zeroing_from;
	to = s->zeroing_to;
	written = !FAULT_ERR("staging.zero") && file_zero_at(s->fd, to - from, from) == 0;
	pthread_mutex_lock(&st->lock);
	s->zeroing_from = s->zeroing_to = 0;
	pthread_mutex_unlock(&st->lock);
	FAULT_POINT("staging.zero.before_sync");
	if (written)
		err = segment_sync(st, s, 0, 0);
	pthread_mutex_lock(&st->lock);
	if (written && !err) {
		if (from != s->zeroed) /* appends went past the old range; their pages may still be unwritten */
			s->zeroed_from = from;
		s->zeroed = to;
	}
	segment_unpin(st, s);
	pthread_mutex_unlock(&st->lock);
	return err;
}
