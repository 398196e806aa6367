/* A file's bytes as the view has them: out of staging, each append verified, and out of objects where the numbers of their
 * slices still mean what they meant (see `first_sure`). Blocks on disk and network. One thread. */
#ifndef JFS_RECOVERY_LOCAL_BYTES_H
#define JFS_RECOVERY_LOCAL_BYTES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/fs.h"
#include "s3/reader.h"
#include "util/errmsg.h"

struct local_bytes {
	struct fs *fs;
	struct slice_reader *objects; /* NULL: none is read */
	/* Slices from this number on were never given to anybody else: Redis's counter had not come so far. One below may have
	 * been, after Redis forgot that it was ours; its object then holds somebody else's bytes. 0: all are sure. */
	uint64_t first_sure;
	uint8_t *buf; /* LOCAL_BYTES_PART */
	/* out, after -ENODATA: only the doubt above keeps the bytes from being read */
	bool doubtful;
};

#define LOCAL_BYTES_PART (4u << 20)

/* Called for consecutive parts; data NULL: a hole. Non-zero ends the reading and is returned. */
typedef int local_bytes_fn(void *arg, uint64_t off, const uint8_t *data, size_t n);

/* All of [0, length). -ENODATA: some of it cannot be had, *why says what and where; else 0, fn's answer, -errno. */
int local_bytes_read(struct local_bytes *b, uint64_t ino, uint64_t length, local_bytes_fn *fn, void *arg, struct errmsg *why);
/* Only asks whether that would work, without reading a byte: damage and missing objects are not found. */
int local_bytes_ask(struct local_bytes *b, uint64_t ino, uint64_t length, struct errmsg *why);

#endif
