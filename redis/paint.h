/* Painting the bytes of one chunk: the new data of a window, and what a slice list shows (spec/juicefs-format.md 4.2).
 *
 * A layer is a sorted list of strokes that do not overlap; what no stroke covers is transparent. A later stroke hides
 * earlier ones. All functions are pure; 0 or -ENOMEM. */
#ifndef JFS_REDIS_PAINT_H
#define JFS_REDIS_PAINT_H

#include "journal/slice_plan.h"
#include "redis/mem.h"
#include "util/jfsfmt.h"

struct stroke {
	uint32_t pos, len;
	uint64_t born;		/* sequence of the record, 0: from a published list */
	uint32_t record;	/* of a published list: index of the record it comes from */
	bool copy;		/* bytes are shared with another file */
	struct slice_piece src; /* .len is not used: `len` counts */
};

struct layer {
	VEC(struct stroke) s;
};

/* What of the strokes that were there is being hidden: called for each hidden part (the chooser's "died"). May be NULL. */
typedef void (*stroke_died)(void *arg, const struct stroke *part);

int layer_paint(struct layer *l, const struct stroke *s, stroke_died died, void *arg);
/* Paints a slice list in order; zero records become PIECE_ZERO strokes. -EUCLEAN for a malformed one. */
int layer_paint_list(struct layer *l, const uint8_t *records, size_t n);
/* Joins neighbours whose bytes follow each other in the same source. */
void layer_merge(struct layer *l);
void layer_fini(struct layer *l);

#endif
