/* Recovery's reading of staged bytes: what counts is what the disk has, not the page cache (P12). One thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "journal/staging_int.h"
#include "util/fault.h"

#define VERIFY_WINDOW ((uint32_t)1 << 20)
#define DIRECT_ALIGN  4096u

/* Reads around the page cache where the file system can, so that what counts is what the disk has (P12). */
static int direct_read(struct staging *st, uint64_t segment, uint32_t off, uint32_t len, uint8_t *buf, uint32_t *got)
{
	char name[32];
	int fd, err = 0;
	size_t done = 0;

	segment_name(name, segment);
	fd = openat(st->dirfd, name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 && errno == EINVAL) {
		fd = openat(st->dirfd, name, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			(void)posix_fadvise(fd, off, len, POSIX_FADV_DONTNEED);
	}
	if (fd < 0)
		return staging_open_error(errno);
	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)off + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = -EIO;
		if (n <= 0)
			break;
		done += (size_t)n;
		if (done % DIRECT_ALIGN) /* the end of the file */
			break;
	}
	close(fd);
	*got = (uint32_t)done;
	return err;
}

int staging_verify(struct staging *st, uint64_t segment, uint32_t off, uint32_t len, uint64_t sum)
{
	uint32_t from = off / DIRECT_ALIGN * DIRECT_ALIGN, size = VERIFY_WINDOW;
	int err;

	if (len > APPEND_MAX || off > SEGMENT_SIZE - len)
		return -EBADMSG;
	if (!st->window) {
		if (posix_memalign((void **)&st->window, DIRECT_ALIGN, APPEND_MAX + 2 * DIRECT_ALIGN))
			return st->window = NULL, -ENOMEM;
		st->window_len = 0;
	}
	if (st->window_segment != segment || off < st->window_off || off + len > st->window_off + st->window_len) {
		if (off - from + len > size)
			size = (off - from + len + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
		st->window_len = 0;
		err = FAULT_ERR("staging.verify");
		if (!err)
			err = direct_read(st, segment, from, size, st->window, &st->window_len);
		if (err) {
			st->window_len = 0;
			return err;
		}
		st->window_segment = segment;
		st->window_off = from;
		if (off + len > from + st->window_len)
			return -EBADMSG;
	}
	return XXH3_64bits(st->window + (off - st->window_off), len) == sum ? 0 : -EBADMSG;
}

void staging_verify_end(struct staging *st)
{
	free(st->window);
	st->window = NULL;
	st->window_len = 0;
}
