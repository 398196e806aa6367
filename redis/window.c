/* See window.h for the format. The decoder trusts nothing: counts are bounded by the bytes that are there. */
#include "redis/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define WINDOW_VERSION 2

static void hex(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
}

void window_chain(const char *before, uint64_t end, uint64_t nonce, char out[RDS_CHAIN_LEN + 1])
{
	uint8_t in[RDS_CHAIN_LEN + 16] = { 0 };
	XXH128_canonical_t c;

	memcpy(in, before, strnlen(before, RDS_CHAIN_LEN));
	put_be64(in + RDS_CHAIN_LEN, end);
	put_be64(in + RDS_CHAIN_LEN + 8, nonce);
	XXH128_canonicalFromHash(&c, XXH3_128bits(in, sizeof(in)));
	hex(c.digest, RDS_CHAIN_LEN / 2, out);
}

static void piece_encode(struct buf *b, const struct slice_piece *p)
{
	buf_put_u8(b, (uint8_t)p->kind);
	buf_put_be32(b, p->len);
	if (p->kind == PIECE_STAGED) {
		buf_put_be64(b, p->segment);
		buf_put_be32(b, p->off);
		buf_put_be32(b, p->run_off);
		buf_put_be32(b, p->run_len);
		buf_put_be64(b, p->sum);
	} else if (p->kind == PIECE_OBJECT) {
		buf_put_be64(b, p->slice_id);
		buf_put_be32(b, p->slice_size);
		buf_put_be32(b, p->slice_off);
	}
}

static void chain_put(struct buf *b, const char *chain)
{
	char c[RDS_CHAIN_LEN] = { 0 };

	memcpy(c, chain, strnlen(chain, RDS_CHAIN_LEN));
	buf_put(b, c, sizeof(c));
}

void window_encode(const struct window *w, struct buf *b)
{
	size_t start = b->len;

	buf_put_u8(b, WINDOW_VERSION);
	buf_put_be64(b, w->from);
	buf_put_be64(b, w->end);
	buf_put_be64(b, w->nonce);
	buf_put_be64(b, w->boot);
	buf_put_be64(b, w->made_ms);
	chain_put(b, w->before);
	chain_put(b, w->chain);
	buf_put_be32(b, (uint32_t)w->slices.n);
	for (size_t i = 0; i < w->slices.n; i++) {
		const struct pl_slice *s = &w->slices.v[i];

		buf_put_be64(b, s->ino);
		buf_put_be32(b, s->chunk);
		buf_put_u8(b, s->composed);
		buf_put_be64(b, s->s.id);
		buf_put_be32(b, s->s.size);
		buf_put_be32(b, s->s.n);
		for (uint32_t k = 0; k < s->s.n; k++)
			piece_encode(b, &s->s.pieces[k]);
	}
	buf_put_be32(b, (uint32_t)w->posts.n);
	for (size_t i = 0; i < w->posts.n; i++) {
		const struct pl_post *p = &w->posts.v[i];

		buf_put_be64(b, p->ino);
		buf_put_be32(b, p->chunk);
		buf_put_u8(b, (uint8_t)((p->onward ? 1 : 0) | (p->fresh ? 2 : 0)));
		buf_put_be32(b, p->n);
		buf_put(b, p->records, (size_t)p->n * JFS_SLICE_LEN);
	}
	buf_put_be32(b, (uint32_t)w->orphans.n);
	for (size_t i = 0; i < w->orphans.n; i++) {
		buf_put_be64(b, w->orphans.v[i].ino);
		buf_put_u8(b, (uint8_t)w->orphans.v[i].state);
	}
	if (!b->err)
		buf_put_be64(b, XXH3_64bits(b->data + start, b->len - start));
}

static int piece_decode(struct rd *r, struct slice_piece *p)
{
	p->kind = (enum piece_kind)rd_u8(r);
	p->len = rd_be32(r);
	if (p->kind == PIECE_STAGED) {
		p->segment = rd_be64(r);
		p->off = rd_be32(r);
		p->run_off = rd_be32(r);
		p->run_len = rd_be32(r);
		p->sum = rd_be64(r);
	} else if (p->kind == PIECE_OBJECT) {
		p->slice_id = rd_be64(r);
		p->slice_size = rd_be32(r);
		p->slice_off = rd_be32(r);
	} else if (p->kind != PIECE_ZERO) {
		return -EUCLEAN;
	}
	return r->err ? -EUCLEAN : 0;
}

static int slice_decode(struct rd *r, struct window *w)
{
	struct pl_slice *s = vec_push(&w->slices);
	uint64_t sum = 0;

	if (!s)
		return -ENOMEM;
	s->ino = rd_be64(r);
	s->chunk = rd_be32(r);
	s->composed = rd_u8(r);
	s->s.id = rd_be64(r);
	s->s.size = rd_be32(r);
	s->s.n = rd_be32(r);
	if (r->err || s->s.n > rd_left(r) / 5)
		return -EUCLEAN;
	s->s.pieces = arena_alloc(&w->mem, s->s.n * sizeof(*s->s.pieces) + 1);
	if (!s->s.pieces)
		return -ENOMEM;
	for (uint32_t k = 0; k < s->s.n; k++) {
		if (piece_decode(r, &s->s.pieces[k]) != 0)
			return -EUCLEAN;
		sum += s->s.pieces[k].len;
	}
	return s->s.id && sum == s->s.size ? 0 : -EUCLEAN;
}

static int post_decode(struct rd *r, struct window *w)
{
	struct pl_post *p = vec_push(&w->posts);
	const void *bytes;
	uint8_t flags;

	if (!p)
		return -ENOMEM;
	p->ino = rd_be64(r);
	p->chunk = rd_be32(r);
	flags = rd_u8(r);
	p->onward = flags & 1;
	p->fresh = flags & 2;
	p->n = rd_be32(r);
	bytes = r->err ? NULL : rd_bytes(r, (size_t)p->n * JFS_SLICE_LEN);
	if (!bytes)
		return -EUCLEAN;
	p->records = arena_copy(&w->mem, bytes, (size_t)p->n * JFS_SLICE_LEN);
	return p->records ? 0 : -ENOMEM;
}

static int body_decode(struct rd *r, struct window *w)
{
	const void *before, *chain;
	uint8_t version = rd_u8(r);
	uint32_t n;
	int err = 0;

	if (version > WINDOW_VERSION) /* the checksum was good */
		return -ENOTSUP;
	if (version != 1 && version != WINDOW_VERSION)
		return -EUCLEAN;
	w->from = rd_be64(r);
	w->end = rd_be64(r);
	w->nonce = rd_be64(r);
	w->boot = version == 1 ? 0 : rd_be64(r);
	w->made_ms = version == 1 ? 0 : rd_be64(r);
	before = rd_bytes(r, RDS_CHAIN_LEN);
	chain = rd_bytes(r, RDS_CHAIN_LEN);
	if (!before || !chain)
		return -EUCLEAN;
	memcpy(w->before, before, RDS_CHAIN_LEN);
	memcpy(w->chain, chain, RDS_CHAIN_LEN);
	for (n = rd_be32(r); !err && n > 0; n--)
		err = slice_decode(r, w);
	for (n = err ? 0 : rd_be32(r); !err && n > 0; n--)
		err = post_decode(r, w);
	for (n = err ? 0 : rd_be32(r); !err && n > 0; n--) {
		struct pl_orphan *o = vec_push(&w->orphans);

		if (!o)
			return -ENOMEM;
		o->ino = rd_be64(r);
		o->state = (enum co_orphan)rd_u8(r);
		if (r->err)
			err = -EUCLEAN;
	}
	return err ? err : r->err || rd_left(r) ? -EUCLEAN : 0;
}

int window_decode(const void *p, size_t n, struct window *w)
{
	struct rd r;
	int err;

	memset(w, 0, sizeof(*w));
	if (n < 8 || XXH3_64bits(p, n - 8) != get_be64((const uint8_t *)p + n - 8))
		return -EUCLEAN;
	rd_init(&r, p, n - 8);
	err = body_decode(&r, w);
	if (err)
		window_fini(w);
	return err;
}

void window_fini(struct window *w)
{
	vec_fini(&w->slices);
	vec_fini(&w->posts);
	vec_fini(&w->orphans);
	arena_fini(&w->mem);
	memset(w, 0, sizeof(*w));
}
