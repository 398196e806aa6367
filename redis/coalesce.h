/* Coalescing: the records of a window (DESIGN 3.5) become one plan. Pure: what it must know of Redis and of earlier
 * windows comes through callbacks, so the same input gives the same plan.
 *
 * What is kept of a record: the last after-image of each key, the first before-image of each entry, sums of deltas,
 * new bytes painted per chunk. What cancels is dropped: an inode that was born and lost its names within the window
 * (its bytes, xattrs, statistics too); entries whose last image equals the first.
 *
 * Link counts and moves to trash follow from the entries themselves: an inode's published count changes by the names it
 * gained less those it lost; an IT_TRASH is a move to trash only if a name that Redis has was lost by it. An inode's data
 * is live when it has a name, or is in the trash; open-unlinked files are not. IT_SPACE is not used (see plan.h). */
#ifndef JFS_REDIS_COALESCE_H
#define JFS_REDIS_COALESCE_H

#include "redis/plan.h"

struct coalesce;

struct smap_hit {
	uint64_t slice_id;
	uint32_t slice_size, slice_off, len; /* len bytes from `off` on, at most what was asked for */
};

struct coalesce_in {
	void *arg;
	/* The chunk's list as Redis has it before this window (24 bytes a record): 0, or -ENOENT: not known here. */
	int (*published)(void *arg, uint64_t ino, uint32_t chunk, const uint8_t **records, uint32_t *n);
	/* Where bytes [off, off+len) of a segment went in an earlier window; off lies in the run. 1 found, 0 not. May be NULL. */
	int (*smap)(void *arg, const struct slice_piece *staged, uint32_t len, struct smap_hit *hit);
	enum co_orphan (*orphan)(void *arg, uint64_t ino); /* before this window */
	uint64_t (*new_slice)(void *arg);		   /* an id never used before; 0: none left now */
	/* A window that was chosen before: its slices. They are used for the bytes they hold; ids are taken only for more. */
	const struct pl_slice *recorded;
	size_t n_recorded;
	/* And the lists it leaves: one that shows what is to be seen is taken as it is. None if several windows become one. */
	const struct pl_post *recorded_posts;
	size_t n_recorded_posts;
	/* Packing: a new slice of at most pack_below bytes that would be a file's own becomes part of one that many files share,
	 * of at most pack_size bytes, which is one block. pack_below 0: no packing. */
	uint32_t pack_below, pack_size;
	bool stay; /* nothing leaves a slice (IT_REPACK): an object that is to be emptied cannot be read */
};

struct coalesce *coalesce_new(void);
void coalesce_free(struct coalesce *co);
/* Takes a record, in order of seq. 0, -ENOMEM, -EUCLEAN (damaged or not understood). Copies what it keeps. */
int coalesce_feed(struct coalesce *co, uint64_t seq, const void *rec, size_t len);
/* Makes the plan; may be called again. 0; -EAGAIN with *out->missing filled (load those lists, then again) or with nothing
 * missing (no slice ids); -ENOMEM, -EUCLEAN. *out is set with 0 and -EAGAIN; plan_free it. */
int coalesce_plan(struct coalesce *co, const struct coalesce_in *in, uint64_t from, uint64_t end, struct window_plan **out);

#endif
