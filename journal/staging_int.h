/* What the files of staging share: staging.c (appending, reading, punching, syncing), staging_room.c (the room behind what was
 * written), staging_verify.c (recovery's reading around the page cache). */
#ifndef JFS_JOURNAL_STAGING_INT_H
#define JFS_JOURNAL_STAGING_INT_H

#include <pthread.h>
#include <sys/stat.h>

#include "journal/staging.h"

#define APPEND_MAX	((size_t)4 << 20)
#define BUCKETS		256

struct segment {
	struct segment *next; /* in its bucket */
	uint64_t number;
	int fd;		      /* -1: closed */
	int users;	      /* calls that use the descriptor now */
	unsigned held;	      /* appends, from their reservation on, that no record names yet and that nobody gave up */
	bool dirty, gone;
	bool found;	      /* an earlier life made it */
	uint32_t tail, limit; /* next free byte; end of the preallocated room */
	uint32_t dirty_from, dirty_to;	   /* while dirty: all that was appended since the last sync took it */
	uint32_t zeroed_from, zeroed;	   /* every byte of this range was written and synced, as zeros or data */
	uint32_t zeroing_from, zeroing_to; /* zeros are being written: nobody may append there; equal: none are */
	uint8_t *punched;     /* a bit a block, set before it is punched; NULL: none in this life */
	uint64_t disk;	      /* bytes it takes */
	uint64_t used_at;     /* for closing the least recently used */
	uint64_t synced_in;   /* the staging_sync that has taken it: one round never takes it twice */
};

struct staging {
	char *dir;
	int dirfd;
	pthread_mutex_t lock; /* everything below, never held over file I/O but the making of a segment */
	pthread_mutex_t make; /* held while a segment is made; taken before `lock` */
	struct segment *bucket[BUCKETS];
	struct segment *cur, *ready; /* appended to; the one after it, made ahead */
	uint64_t next_number, clock, round, total;
	uint64_t unsynced, syncing; /* bytes appended since the last sync began; covered by the one that runs */
	uint64_t last_sync;	    /* bytes that the last finished sync covered */
	int n_fds;
	uint32_t segment_size;
	bool failed;
	bool hold; /* no new segments: the journal lives on its reserve */
	/* staging_verify's last O_DIRECT window: recovery is one thread */
	uint8_t *window;
	uint64_t window_segment;
	uint32_t window_off, window_len;
};

/* staging.c; all but segment_sync with the lock held. */
void segment_name(char out[32], uint64_t number);
struct segment *segment_find(struct staging *st, uint64_t number);
void segment_drop(struct staging *st, struct segment *s);
void segment_found(struct staging *st, struct segment *s, const struct stat *sb);
/* Pins a segment for one call: its descriptor is open until segment_unpin. -ENOENT, or what open says. */
int segment_pin(struct staging *st, uint64_t number, struct segment **out);
void segment_unpin(struct staging *st, struct segment *s);
/* Lock NOT held, the segment pinned. With from < to only that range, to the device but not through its cache: for bytes that
 * replace others, with a flush that follows. A failure is terminal. */
int segment_sync(struct staging *st, struct segment *s, uint32_t from, uint32_t to);
/* -errno of an open that failed; what this process lacks says nothing about the bytes. */
int staging_open_error(int e);

#endif
