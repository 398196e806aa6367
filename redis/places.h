/* Where a window's bytes lie once its slices are objects: from extents of the view to slices. Pure.
 *
 * A slice holds staged bytes and, when a list was rewritten, bytes of older slices. Both kinds of extents are pointed at it
 * when the window has been applied: the staging segment can be given back, and the older slices, which the rewritten list
 * no longer names, may be deleted when trim has passed; a copy made from the view later must not name them. */
#ifndef JFS_REDIS_PLACES_H
#define JFS_REDIS_PLACES_H

#include "journal/extent.h"
#include "redis/mem.h"
#include "redis/window.h"

struct place { /* staged bytes [off, off+len) of a segment are bytes [slice_off, ...) of the slice */
	uint64_t segment;
	uint32_t off, len, slice_size, slice_off;
	uint64_t id;
};

struct moved { /* bytes [from_off, from_off+len) of slice `from`; for chunks whose list names the new slice */
	uint64_t from;
	uint32_t from_off, len, slice_size, slice_off;
	uint64_t id;
};

struct places {
	VEC(struct place) staged; /* sorted by segment, off, len */
	VEC(struct moved) moved;  /* sorted by from, from_off */
};

/* Of the slices that the window's lists name: a plan that was made anew may have done without some. 0, -ENOMEM. */
int places_make(const struct window *w, struct places *out);
void places_fini(struct places *p);
/* Points an extent at the slice that holds all of its bytes, if they were staged or the list of its chunk names that slice (a
 * file that goes on naming the old one is counted there); its position and birth stay. False: there is none, and e is as it was. */
bool places_repoint(const struct places *p, const uint8_t *records, uint32_t n, struct extent_val *e);
/* The same by the chunk's list, of an extent that was there when the list was made: a copy of bytes that an earlier window
 * had under way names a slice of that one. */
bool places_listed(const uint8_t *records, uint32_t n, struct extent_val *e);

#endif
