#include "util/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t cap)
{
	memset(b, 0, sizeof(*b));
	b->cap = cap;
}

void buf_fini(struct buf *b)
{
	if (!b)
		return;
	size_t cap = b->cap;

	free(b->data);
	buf_init(b, cap);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->err = 0;
}

static int buf_reserve(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : (size_t)1 << 30;

	if (b->err)
		return b->err;
	if (n > cap || b->len > cap - n)
		return b->err = -E2BIG;
	if (b->len + n + 1 <= b->size)
		return 0;
	size_t size = b->size ? b->size : 64;
	while (size < b->len + n + 1)
		size *= 2;
	uint8_t *p = realloc(b->data, size);
	if (!p)
		return b->err = -ENOMEM;
	b->data = p;
	b->size = size;
	return 0;
}

void *buf_extend(struct buf *b, size_t n)
{
	if (buf_reserve(b, n))
		return NULL;
	void *p = b->data + b->len;
	memset(p, 0, n);
	b->len += n;
	return p;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0 || buf_reserve(b, n))
		return;
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

void buf_puts(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || buf_reserve(b, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void buf_put_u8(struct buf *b, uint8_t v)
{
	buf_put(b, &v, 1);
}

void buf_put_be16(struct buf *b, uint16_t v)
{
	uint8_t t[2];

	put_be16(t, v);
	buf_put(b, t, 2);
}

void buf_put_be32(struct buf *b, uint32_t v)
{
	uint8_t t[4];

	put_be32(t, v);
	buf_put(b, t, 4);
}

void buf_put_be64(struct buf *b, uint64_t v)
{
	uint8_t t[8];

	put_be64(t, v);
	buf_put(b, t, 8);
}

const char *buf_cstr(struct buf *b)
{
	if (buf_reserve(b, 0))
		return "";
	b->data[b->len] = 0;
	return (const char *)b->data;
}

void rd_init(struct rd *r, const void *p, size_t n)
{
	r->p = p;
	r->end = r->p + n;
	r->err = 0;
}

size_t rd_left(const struct rd *r)
{
	return r->err ? 0 : (size_t)(r->end - r->p);
}

const void *rd_bytes(struct rd *r, size_t n)
{
	if (r->err || (size_t)(r->end - r->p) < n) {
		r->err = -EBADMSG;
		return NULL;
	}
	const void *p = r->p;
	r->p += n;
	return p;
}

uint8_t rd_u8(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 1);

	return p ? *p : 0;
}

uint16_t rd_be16(struct rd *r)
{
	const void *p = rd_bytes(r, 2);

	return p ? get_be16(p) : 0;
}

uint32_t rd_be32(struct rd *r)
{
	const void *p = rd_bytes(r, 4);

	return p ? get_be32(p) : 0;
}

uint64_t rd_be64(struct rd *r)
{
	const void *p = rd_bytes(r, 8);

	return p ? get_be64(p) : 0;
}
