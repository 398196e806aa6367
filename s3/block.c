#include "s3/block.h"

#include <stdio.h>

void block_key(const struct block_format *f, uint64_t id, uint32_t slice_size, uint32_t k, char *key)
{
	char name[JFS_OBJECT_NAME_MAX];

	jfs_object_name(name, id, k, block_len(f, slice_size, k), f->hash_prefix);
	snprintf(key, BLOCK_KEY_MAX, "%s/%s", f->volume, name);
}
