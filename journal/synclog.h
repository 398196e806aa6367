/* The sync log: what an fsync waits for instead of a whole flush (FORMAT.md 7).
 *
 * One file, base/sync.log, beside base's own: preallocated and zero-written, so that writing into it changes nothing of the file
 * system but these bytes, and one fdatasync is one flush of the device. Each fsync appends one frame (syncframe.h): all records since
 * what was durable. When a flush has put them into base, the next frame begins at the start of the file again.
 *
 * States.  none -> ready (synclog_make) -> off (no room; for the rest of this life).  One thread uses it: the flusher.
 *
 * Invariants.
 *  S1 a frame's records follow without a gap what is durable: base's when the file was begun (`anchor`), or the frame before.
 *  S2 a frame is only written when the one before is durable; it touches no block of that one.
 *  S3 the file is begun anew only when base has, durably, all that its frames hold: then they are void by their sequence numbers.
 *  S4 frames of another life are void: each life has a number of its own, in base's state before its first frame.
 *  S5 nobody reads it but recovery (and tools in its place): replay and upload know base alone.
 *
 * After a power cut the frames that continue base are records like those of a hot log. Only the last one can be torn or name staged
 * bytes that never reached the disk: then it was not answered, and it is left out. By S2 a whole frame proves that all before it
 * were durable: where one of them is not there any more, synced records were lost to damage, and that is told. */
#ifndef JFS_JOURNAL_SYNCLOG_H
#define JFS_JOURNAL_SYNCLOG_H

#include <stdbool.h>

#include "journal/syncframe.h"

#define SYNC_LOG_SIZE ((size_t)4 << 20)
#define SYNC_FRAME_MAX ((size_t)256 << 10) /* what is more is a flush of base */

struct synclog {
	int fd; /* -1: none, or off */
	bool off;
	char id[33];
	uint64_t life, anchor;
	size_t tail;
	struct buf frame; /* reused */
};

void synclog_init(struct synclog *l);
void synclog_fini(struct synclog *l);
/* Makes the file of this life in place of one that is there (void by S4, which is for the caller to have seen to), synced. 0, also
 * when there is no room for it: then it is off. Another error is terminal. */
int synclog_make(struct synclog *l, const char *dir, const char *id, uint64_t life, uint64_t anchor);
bool synclog_ready(const struct synclog *l);
/* Base has all of it, durably, up to `anchor`. */
void synclog_restart(struct synclog *l, uint64_t anchor);
/* Writes l->frame, which was begun and filled, as the records first..last; not durable yet. 0; -ENOSPC: it does not fit, or the
 * disk is full, and base must take them; another error is terminal. */
int synclog_write(struct synclog *l, uint64_t first, uint64_t last);
/* Makes it durable. An error is terminal. */
int synclog_sync(struct synclog *l);
/* After a clean close it need not take room. */
void synclog_remove(struct synclog *l, const char *dir);

/* What a life left: its frames that continue base, in order; they may begin below. Memory of their own. */
struct sync_kept {
	uint8_t *data;
	struct sync_frame *frame;
	size_t n;
	unsigned newer; /* with -ENOTSUP: the version of the frame that is too new */
	bool damaged; /* the last of them lie behind one that is not whole, or was: their numbers leave a gap */
};
/* 0 (n may be 0), -ENOMEM, -ENOTSUP, -EIO or what opening says. */
int synclog_load(const char *dir, const char *id, uint64_t life, uint64_t durable, struct sync_kept *out);
/* Calls fn for each record from `from` on, in order, until it answers other than 0, which is returned. -EUCLEAN: a damaged frame. */
int synclog_scan(const struct sync_kept *k, uint64_t from, int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg);
void synclog_forget(struct sync_kept *k); /* NULL-safe */

#endif
