/* Reading slices: memory, disk cache, object store, in that order.
 *
 * Blocks are immutable and named by (slice id, block, size), so whatever is cached is right for ever. One fetch is in
 * flight per block; others wait for it. Sequential reading of a slice fetches the next blocks ahead. A small read of an
 * uncompressed block that is not read in order is a range GET, but the second of one block, and the first of the next one as long
 * as blocks turn out to be read in parts; everything else fetches the whole block.
 *
 * Errors: -ENOENT no such object (a stock client compacted it away: reload the list, try once more); -EBADMSG the
 * object is shorter than its block or does not decompress; others as in s3/object.h. */
#ifndef JFS_S3_READER_H
#define JFS_S3_READER_H

#include <stdint.h>

#include "s3/block.h"
#include "s3/cache.h"
#include "s3/object.h"

struct slice_reader;

struct reader_config {
	struct obj_store *store;
	struct block_cache *cache; /* NULL: memory only */
	struct block_format format;
	uint64_t buffer_bytes;	   /* memory for blocks, read-ahead included; at least two blocks are kept */
	unsigned readahead;	   /* blocks ahead of a sequential reader */
};

int reader_new(const struct reader_config *cfg, struct slice_reader **out);
void reader_free(struct slice_reader *r); /* waits for what is in flight; NULL-safe */

/* Reads exactly len bytes at off of the slice. Blocks: call it from a worker. Thread-safe. */
int reader_read(struct slice_reader *r, uint64_t slice_id, uint32_t slice_size, uint32_t off, void *buf, uint32_t len);
/* A block that was just uploaded: into the cache, best effort. Does not block on the network. */
void reader_put(struct slice_reader *r, uint64_t slice_id, uint32_t slice_size, uint32_t k, const void *data, uint32_t len);

struct reader_stats {
	uint64_t hits, hit_bytes, misses, miss_bytes, memory_bytes;
};
void reader_stats(struct slice_reader *r, struct reader_stats *out);

#endif
