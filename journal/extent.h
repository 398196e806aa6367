/* Extent algebra: what becomes of a chunk's sorted list of non-overlapping extents when a range of it is written,
 * punched or cut off, and how loaded slice lists turn into extents. Pure: no view, no records, no I/O.
 *
 * Positions are bytes inside one chunk, 0..JFS_CHUNK_SIZE. A list is ascending and its members never overlap; what lies
 * between them is a hole. */
#ifndef JFS_JOURNAL_EXTENT_H
#define JFS_JOURNAL_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/tables.h"

static inline uint32_t extent_end(const struct extent_val *e)
{
	return e->pos + e->len;
}
/* The extent's last byte: its key in the view. */
static inline uint32_t extent_last(const struct extent_val *e)
{
	return e->pos + e->len - 1;
}

/* Bytes [from, to) of the chunk out of `e` (which contains them): the same bytes, the same birth. from < to. */
struct extent_val extent_slice(const struct extent_val *e, uint32_t from, uint32_t to);
/* What is left of `e` when [from, to) is taken away: 0, 1 or 2 pieces, ascending. */
int extent_subtract(const struct extent_val *e, uint32_t from, uint32_t to, struct extent_val out[2]);

/* A cut: hides what was born before `seq` at or above file offset `from` (DESIGN 3.1). */
struct cut {
	uint64_t seq, from;
};
/* Length of the part of `e` (in chunk `chunk`) that no cut hides; it is always the beginning. 0: all hidden. */
uint32_t extent_visible(const struct extent_val *e, uint32_t chunk, const struct cut *cuts, size_t n);
/* The lowest offset from which everything older than or as old as `position` is hidden; UINT64_MAX: nothing is. */
uint64_t cuts_limit(const struct cut *cuts, size_t n, uint64_t position);

/* --- lists in memory (loading, tests) --- */
struct extent_list {
	struct extent_val *v;
	size_t n, size;
};
void extent_list_init(struct extent_list *l);
void extent_list_fini(struct extent_list *l); /* NULL-safe */
/* Index of the first extent that ends behind `pos`; n if there is none. */
size_t extent_list_find(const struct extent_list *l, uint32_t pos);
/* Takes [from, to) away from every extent. 0, -ENOMEM. */
int extent_list_remove(struct extent_list *l, uint32_t from, uint32_t to);
/* Lays `e` on top of what is there. 0, -ENOMEM. */
int extent_list_paint(struct extent_list *l, const struct extent_val *e);
/* Lays `e` underneath: only where nothing is. 0, -ENOMEM. */
int extent_list_fill(struct extent_list *l, const struct extent_val *e);
/* Appends the list that n slice records (24 bytes each, oldest first; spec 2.7, 4.2) paint; holes become gaps, every
 * extent is born at `born`. 0, -ENOMEM, -EUCLEAN (a malformed record). */
int extent_list_from_slices(struct extent_list *l, const void *records, size_t n, uint64_t born);

#endif
