/* A growing byte buffer with a cap and a sticky error, big-endian writers, and a bounds-checked reader.
 *
 * Writers never fail visibly: when memory or the cap runs out the buffer's `err` is set (-ENOMEM, -E2BIG) and later
 * writes are ignored; the caller checks once at the end. The reader works the same way: after a read past the end,
 * `err` is -EBADMSG and every further read returns zeros. */
#ifndef JFS_UTIL_BUF_H
#define JFS_UTIL_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t len, size;
	size_t cap; /* 0: 1 GiB */
	int err;
};

void buf_init(struct buf *b, size_t cap);
void buf_fini(struct buf *b); /* NULL-safe, leaves an empty buffer */
void buf_reset(struct buf *b); /* keeps the memory */
/* Room for n more bytes at the end, zeroed, counted in len; NULL after an error. Valid until the next write. */
void *buf_extend(struct buf *b, size_t n);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s); /* without the NUL */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_be16(struct buf *b, uint16_t v);
void buf_put_be32(struct buf *b, uint32_t v);
void buf_put_be64(struct buf *b, uint64_t v);
/* A NUL-terminated view of the contents (the NUL is not counted); "" after an error. */
const char *buf_cstr(struct buf *b);

struct rd {
	const uint8_t *p, *end;
	int err;
};

void rd_init(struct rd *r, const void *p, size_t n);
size_t rd_left(const struct rd *r);
const void *rd_bytes(struct rd *r, size_t n); /* NULL when short */
uint8_t rd_u8(struct rd *r);
uint16_t rd_be16(struct rd *r);
uint32_t rd_be32(struct rd *r);
uint64_t rd_be64(struct rd *r);

static inline void put_be16(void *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	__builtin_memcpy(p, &v, 2);
}
static inline void put_be32(void *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	__builtin_memcpy(p, &v, 4);
}
static inline void put_be64(void *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	__builtin_memcpy(p, &v, 8);
}
static inline uint16_t get_be16(const void *p)
{
	uint16_t v;
	__builtin_memcpy(&v, p, 2);
	return __builtin_bswap16(v);
}
static inline uint32_t get_be32(const void *p)
{
	uint32_t v;
	__builtin_memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}
static inline uint64_t get_be64(const void *p)
{
	uint64_t v;
	__builtin_memcpy(&v, p, 8);
	return __builtin_bswap64(v);
}

#endif
