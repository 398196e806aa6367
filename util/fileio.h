/* Writing whole ranges of files, and making directory entries durable. */
#ifndef JFS_UTIL_FILEIO_H
#define JFS_UTIL_FILEIO_H

#include <stddef.h>
#include <sys/types.h>

/* All of the n bytes at `off`, whatever a single write takes. 0; -ENOSPC: no room, or over a quota; -errno. */
int file_write_at(int fd, const void *data, size_t n, off_t off);
/* The same of zeros. */
int file_zero_at(int fd, size_t n, off_t off);
/* Syncs the directory `path`, relative to dirfd (AT_FDCWD): its entries are durable then. 0, -errno. */
int dir_sync_at(int dirfd, const char *path);

/* This process may open as many files as it may allow itself. */
void files_limit_raise(void);

#endif
