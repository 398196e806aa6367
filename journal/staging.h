/* Staging: written bytes, appended to preallocated segments (DESIGN 3.4).
 *
 * CACHE/staging/{segment number, 16 hex digits}.seg, 64 MiB each or less, never reused, only punched or removed; an append
 * never crosses a segment.
 * A segment's directory entry is fsynced before the first byte of it is handed out. Appends run in parallel without
 * a lock over pwrite. Only the flusher syncs. A failed sync is terminal and marks the staging failed. */
#ifndef JFS_JOURNAL_STAGING_H
#define JFS_JOURNAL_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/errmsg.h"

#define SEGMENT_SIZE  ((uint32_t)64 << 20) /* the largest */
#define STAGING_BLOCK 4096u		   /* what a punch frees is made of these */

struct staging;

struct staged {
	uint64_t segment;
	uint32_t off, len;
	uint64_t sum; /* XXH3-64 of the bytes */
};

/* `dir` is created when missing. next_segment: first number to use (above all that were ever used; base keeps it). */
int staging_open(const char *dir, uint64_t next_segment, struct staging **out, struct errmsg *e);
void staging_close(struct staging *st);
/* Of segments made from now on, 4 to 64 MiB. */
void staging_set_segment_size(struct staging *st, uint32_t size);
/* Appends len (<= 4 MiB) bytes; thread-safe; may sleep in the kernel's write-back throttling, so never call it with a
 * lock held. -ENOSPC, -EIO (both leave nothing behind that counts), -EROFS after a failed sync. */
int staging_append(struct staging *st, const void *data, size_t len, struct staged *out);
/* After a successful append the segment cannot be removed until this is called once: when a record names the bytes, or when
 * they were given up. */
void staging_release(struct staging *st, uint64_t segment);
/* Reads exactly len bytes: 0, -ENOENT (the segment is gone, or was punched there: look the bytes up again), -EIO. Thread-safe. */
int staging_read(struct staging *st, uint64_t segment, uint32_t off, void *buf, size_t len);
/* The same for bytes [off, off + len) of a run, for readers who know its checksum. What an earlier life wrote is compared with
 * it, all of the run: -EBADMSG, or -ENOMEM. What this life wrote is in memory or was synced before our eyes. */
int staging_read_run(struct staging *st, const struct staged *run, uint32_t off, void *buf, size_t len);
/* Flusher only: syncs every segment that was appended to since the last call began. With flush_follows the caller promises to
 * fdatasync a file of the same file system and device before it relies on anything: then bytes that replaced zeros are only
 * written to the device, and that flush takes them through its cache. A failure is terminal. */
int staging_sync(struct staging *st, bool flush_follows);
/* The same for one segment, appended to by an earlier process (recovery). -ENOENT, -EIO (terminal). */
int staging_sync_segment(struct staging *st, uint64_t segment);
/* Gives back the preallocated room behind the last written byte of every sealed segment, and those never written to.
 * Only when everything that records name has been synced (after recovery): what is unsynced may look unwritten. */
void staging_trim_tails(struct staging *st);
/* At a clean close, after the last sync and before staging_close: gives back the room behind the last byte of this life's segments. */
void staging_close_tails(struct staging *st);
/* Flusher only, after a staging_sync: when that was small, sees to it that zeros are written and synced for some way behind the
 * tail, so that the next small sync has nothing but data to flush. Blocks. 0, also when the disk would not take them; -EIO is a
 * failed sync, terminal. */
int staging_zero_ahead(struct staging *st);
/* Makes the next segment ahead of need, when the current one is half full. Blocks; the flusher calls it. 0, -errno. */
int staging_prepare(struct staging *st);
/* While held no segment is made: an append that needs one gets -ENOSPC. The flusher holds it from the moment the reserve was
 * given up until there is one again, so that writers do not use up what flush and unlink need. */
void staging_hold(struct staging *st, bool hold);
/* Recovery, one thread: reads with O_DIRECT where possible and compares XXH3-64: 0, -EBADMSG, -ENOENT, -EIO. Keeps a
 * window of what it read; staging_verify_end frees it. */
int staging_verify(struct staging *st, uint64_t segment, uint32_t off, uint32_t len, uint64_t sum);
void staging_verify_end(struct staging *st);
/* True while the segment takes appends, or an append to it has not been released. Once false it stays false. */
bool staging_is_held(struct staging *st, uint64_t segment);
/* Deletes a segment that is sealed (not the current one) and not held by an append: open readers keep their bytes. 0,
 * -EBUSY, -ENOENT, -errno. */
int staging_remove(struct staging *st, uint64_t segment);
/* Bytes [0, *written) of the segment are all named by committed records, or were given up; false: it is held by an append,
 * gone, or there is nothing. Unlike staging_is_held it may be the current one. */
bool staging_settled(struct staging *st, uint64_t segment, uint32_t *written);
/* Gives [off, off + len), multiples of STAGING_BLOCK below what staging_settled said, back to the disk. Nothing may name
 * them: whoever reads them still gets -ENOENT, never zeros. 0, -ENOENT, -ENOMEM, -EOPNOTSUPP, -errno. */
int staging_punch(struct staging *st, uint64_t segment, uint32_t off, uint32_t len);
/* Has all of it been punched? */
bool staging_is_punched(struct staging *st, uint64_t segment, uint32_t off, uint32_t len);
/* Segment numbers present, ascending; the current one last (without the one made ahead). Returns the count, fills at most max. */
size_t staging_list(struct staging *st, uint64_t *segments, size_t max);
uint64_t staging_current(struct staging *st); /* the segment that takes appends now, or will */
uint64_t staging_next(struct staging *st);    /* above every number ever used: what base keeps */
/* Bytes appended that no finished staging_sync covers; and bytes on disk in all segments. */
uint64_t staging_dirty(struct staging *st);
uint64_t staging_bytes(struct staging *st);
/* The latter without room that is preallocated and not written to. */
uint64_t staging_used(struct staging *st);

#endif
