/* Sharding of a volume over several buckets (spec/juicefs-format.md 4.7): which bucket a key belongs to, and the
 * name of each bucket. Pure. */
#ifndef JFS_S3_SHARD_H
#define JFS_S3_SHARD_H

#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

enum { SHARD_MAX = 256 };

/* FNV-1a of the full key, volume prefix included. */
uint32_t shard_hash(const char *key);
/* 0 .. shards - 1; 0 when not sharded. */
unsigned shard_pick(const char *key, unsigned shards);
/* Writes bucket number i of the setting's Bucket. Not sharded (shards <= 1): a plain copy. Sharded: the text must hold
 * exactly one %d, possibly with flags and width (%02d), and %% for a percent sign; otherwise -EINVAL, a name that does
 * not fit in `size` -ENAMETOOLONG, each with a message. */
int shard_bucket(const char *bucket, unsigned shards, unsigned i, char *out, size_t size, struct errmsg *e);

#endif
