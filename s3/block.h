/* How a volume cuts slices into blocks and blocks into objects (spec/juicefs-format.md 4.1, 4.4, 4.6, 4.8). Pure. */
#ifndef JFS_S3_BLOCK_H
#define JFS_S3_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/compress.h"
#include "util/jfsfmt.h"

#define BLOCK_KEY_MAX 192

struct block_format {
	char volume[72];	/* Name: the prefix of every key */
	uint32_t block_size;	/* bytes: 64 KiB .. 16 MiB, a power of two */
	bool hash_prefix;
	enum compression compression;
};

static inline uint32_t block_count(const struct block_format *f, uint32_t slice_size)
{
	return jfs_slice_blocks(slice_size, f->block_size);
}

/* Plain length of block k of a slice; 0 when there is no such block. */
static inline uint32_t block_len(const struct block_format *f, uint32_t slice_size, uint32_t k)
{
	return jfs_block_len(slice_size, f->block_size, k);
}

/* "{volume}/chunks/..." of block k. `key` has BLOCK_KEY_MAX bytes. */
void block_key(const struct block_format *f, uint64_t slice_id, uint32_t slice_size, uint32_t k, char *key);

#endif
