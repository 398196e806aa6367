/* Which staged bytes live extents name, and which of them Redis and S3 have already. Pure. */
#ifndef JFS_RECOVERY_STAGED_H
#define JFS_RECOVERY_STAGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recovery/vec.h"

/* A live extent over staged bytes. */
struct staged_ref {
	uint64_t segment, sum, ino, file_off;
	uint32_t off, len;	   /* the part that lives */
	uint32_t run_off, run_len; /* the append: what `sum` covers */
};

/* Staged bytes that are part of a slice (table smap). */
struct staged_slice {
	uint64_t segment, slice_id, window_end;
	uint32_t off, len, slice_size;
};

struct staged_set {
	VEC(struct staged_ref) refs;
	VEC(struct staged_slice) slices;
};

void staged_free(struct staged_set *s);
/* Sorts both: refs by (segment, run_off, run_len, sum), slices by (segment, off). */
void staged_sort(struct staged_set *s);
/* True if ref b names the same run as ref a: one reading verifies both. */
bool staged_same_run(const struct staged_ref *a, const struct staged_ref *b);
/* How many bytes of the ref no window up to `applied` holds. After staged_sort. */
uint32_t staged_unsafe(const struct staged_set *s, const struct staged_ref *r, uint64_t applied);

#endif
