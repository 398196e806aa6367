/* One frame of the sync log: the records of one fsync, whole or not at all (FORMAT.md 7). Pure functions.
 *
 * A frame begins at a multiple of SYNC_BLOCK and fills whole blocks, so that writing the next one touches no byte of one that is
 * durable. Its checksum covers header and records; whatever does not have it is the end of the log. */
#ifndef JFS_JOURNAL_SYNCFRAME_H
#define JFS_JOURNAL_SYNCFRAME_H

#include <stddef.h>
#include <stdint.h>

#include "util/buf.h"

#define SYNC_BLOCK 4096u
#define SYNC_FRAME_VERSION 1

struct sync_frame {
	uint64_t life;	 /* of the process that wrote it: base's state has the same, or the frame is void */
	uint64_t anchor; /* what base had, durably, when the first frame of this run of frames was written */
	uint64_t first, last; /* sequence numbers, all between them too */
	const uint8_t *records; /* points into what was read */
	size_t len;
};

/* Makes `b` an empty frame; then add each record, then finish it: header, padding, checksum. b->err tells what went wrong. */
void sync_frame_begin(struct buf *b);
void sync_frame_add(struct buf *b, const void *rec, size_t len);
void sync_frame_finish(struct buf *b, const char id[32], const struct sync_frame *f);

/* Reads the frame that begins at p, with n bytes behind it. 0 and the bytes that it takes; -ENOENT: no whole frame of this cache
 * directory here; -ENOTSUP: whole, of a newer version (sync_frame_version). */
int sync_frame_read(const uint8_t *p, size_t n, const char id[32], struct sync_frame *out, size_t *size);

uint8_t sync_frame_version(const uint8_t *p); /* of one that sync_frame_read knows as whole */

/* The records of a frame one by one. `at` begins as 0. 1, 0 at the end, -EUCLEAN (a good checksum over nonsense). */
int sync_frame_next(const struct sync_frame *f, size_t *at, const uint8_t **rec, size_t *len);

#endif
