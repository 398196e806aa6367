/* The disk cache of blocks: CACHE/raw/{id/1000000}/{id/1000}/{id}_{k}_{size}, each file the plain block followed by
 * XXH3-64 (8 bytes, big-endian) of it. Nothing here is precious: a file that is short, damaged or unreadable is a miss
 * and is removed. Files appear by rename, are never synced, and go when cache_size or free-space-ratio say so
 * (the less recently used of two random ones). */
#ifndef JFS_S3_CACHE_H
#define JFS_S3_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

struct block_cache;

struct cache_config {
	const char *dir;	/* CACHE/raw, created */
	uint64_t size;		/* bytes; 0: the cache is off (open succeeds, everything is a miss) */
	double free_ratio;	/* of space and inodes of the file system, 0..1 */
};

/* Scans what is there (in the calling thread; a million files take a second or two). */
int cache_open(const struct cache_config *cfg, struct block_cache **out, struct errmsg *e);
void cache_close(struct block_cache *c);
/* Bytes [off, off+len) of a block of `size` bytes: 0, -ENOENT. The whole file is verified the first time it is used. */
int cache_read(struct block_cache *c, uint64_t id, uint32_t k, uint32_t size, uint32_t off, void *buf, uint32_t len);
/* From now on no more than `bytes` (never more than cache_config's size): drops blocks until that is so. */
void cache_set_limit(struct block_cache *c, uint64_t bytes);
bool cache_has(struct block_cache *c, uint64_t id, uint32_t k, uint32_t size);
/* Best effort; errors are counted, not returned. */
void cache_write(struct block_cache *c, uint64_t id, uint32_t k, const void *data, uint32_t size);

struct cache_stats {
	uint64_t blocks, bytes, evicted, writes, write_bytes, damaged, errors;
};
void cache_stats(struct block_cache *c, struct cache_stats *out);

#endif
