#include "s3/compress.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#define ZSTD_LEVEL 1

int compress_parse(const char *name, enum compression *out)
{
	if (!name || !*name || strcmp(name, "none") == 0)
		*out = COMPRESS_NONE;
	else if (strcmp(name, "lz4") == 0)
		*out = COMPRESS_LZ4;
	else if (strcmp(name, "zstd") == 0)
		*out = COMPRESS_ZSTD;
	else
		return -ENOTSUP;
	return 0;
}

size_t compress_bound(enum compression c, size_t n)
{
	switch (c) {
	case COMPRESS_LZ4:
		return n > LZ4_MAX_INPUT_SIZE ? 0 : (size_t)LZ4_compressBound((int)n);
	case COMPRESS_ZSTD:
		return ZSTD_compressBound(n);
	default:
		return n;
	}
}

int compress_block(enum compression c, const void *src, size_t n, void *dst, size_t cap, size_t *out_len)
{
	size_t got;

	if (cap > INT_MAX || n > LZ4_MAX_INPUT_SIZE)
		return -EIO;
	if (cap < compress_bound(c, n))
		return -ENOSPC;
	switch (c) {
	case COMPRESS_LZ4:
		got = (size_t)LZ4_compress_default(src, dst, (int)n, (int)cap);
		if (got == 0 && n > 0)
			return -EIO;
		break;
	case COMPRESS_ZSTD:
		got = ZSTD_compress(dst, cap, src, n, ZSTD_LEVEL);
		if (ZSTD_isError(got))
			return -EIO;
		break;
	default:
		memcpy(dst, src, n);
		got = n;
	}
	*out_len = got;
	return 0;
}

int decompress_block(enum compression c, const void *src, size_t n, void *dst, size_t plain)
{
	switch (c) {
	case COMPRESS_LZ4:
		if (n > INT_MAX || plain > INT_MAX)
			return -EBADMSG;
		return LZ4_decompress_safe(src, dst, (int)n, (int)plain) == (int)plain ? 0 : -EBADMSG;
	case COMPRESS_ZSTD:
		return ZSTD_decompress(dst, plain, src, n) == plain ? 0 : -EBADMSG;
	default:
		/* A longer object is tolerated, a shorter one is damage (spec 4.2). */
		if (n < plain)
			return -EBADMSG;
		memcpy(dst, src, plain);
		return 0;
	}
}
