#include "util/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

int file_write_at(int fd, const void *data, size_t n, off_t off)
{
	const uint8_t *p = data;

	while (n) {
		ssize_t w = pwrite(fd, p, n, off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && errno != EDQUOT)
			return -errno;
		if (w <= 0)
			return -ENOSPC;
		p += w;
		n -= (size_t)w;
		off += w;
	}
	return 0;
}

int file_zero_at(int fd, size_t n, off_t off)
{
	static const uint8_t zeros[64 << 10];
	int err = 0;

	while (n && !err) {
		size_t part = n < sizeof(zeros) ? n : sizeof(zeros);

		err = file_write_at(fd, zeros, part, off);
		n -= part;
		off += (off_t)part;
	}
	return err;
}

int dir_sync_at(int dirfd, const char *path)
{
	int err = 0, fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd))
		err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

void files_limit_raise(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l); /* else what there is has to do */
	}
}
