/* Block compression as JuiceFS stores it (spec/juicefs-format.md 4.8): LZ4 is one raw LZ4 block, zstd one frame of the
 * one-shot API (which carries the content size) at level 1. There is no "stored uncompressed" escape. Pure. */
#ifndef JFS_S3_COMPRESS_H
#define JFS_S3_COMPRESS_H

#include <stddef.h>
#include <stdint.h>

enum compression { COMPRESS_NONE, COMPRESS_LZ4, COMPRESS_ZSTD };

/* "" and "none", "lz4", "zstd"; -ENOTSUP otherwise. */
int compress_parse(const char *name, enum compression *out);
/* Most bytes that n plain bytes can become. */
size_t compress_bound(enum compression c, size_t n);
/* 0 and *out_len, -ENOSPC (cap too small), -EIO (the library failed). */
int compress_block(enum compression c, const void *src, size_t n, void *dst, size_t cap, size_t *out_len);
/* Must yield exactly `plain` bytes: 0, or -EBADMSG for anything else (damaged, short, longer). */
int decompress_block(enum compression c, const void *src, size_t n, void *dst, size_t plain);

#endif
