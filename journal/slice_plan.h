/* What is to be uploaded: the exact composition of a slice, durable in base before its first PUT (DESIGN 3.4). Chosen by
 * replay, carried out by s3/upload; this header is what both know. */
#ifndef JFS_JOURNAL_SLICE_PLAN_H
#define JFS_JOURNAL_SLICE_PLAN_H

#include <stddef.h>
#include <stdint.h>

enum piece_kind { PIECE_ZERO = 0, PIECE_STAGED = 1, PIECE_OBJECT = 2 };

struct slice_piece {
	enum piece_kind kind;
	uint32_t len;
	/* PIECE_STAGED: bytes [off, off+len) of the segment; the run around them and its XXH3-64, verified before the PUT */
	uint64_t segment;
	uint32_t off, run_off, run_len;
	uint64_t sum;
	/* PIECE_OBJECT (a list is rewritten): bytes [slice_off, slice_off+len) of another slice */
	uint64_t slice_id;
	uint32_t slice_size, slice_off;
};

/* A slice is written once: id never reused, size final, blocks cut at the volume's block size from offset 0. */
struct slice_plan {
	uint64_t id;
	uint32_t size; /* sum of the pieces' lengths, 1..64 MiB */
	uint32_t n;
	struct slice_piece *pieces;
};

#endif
