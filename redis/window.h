/* A window as the journal remembers it: T_WINDOW (end, part) -> parts of at most 1 MiB of one encoding. Pure.
 *
 * Encoding, version 1: u8 version, be64 from, be64 end, be64 nonce, 32 bytes chain before, 32 bytes chain after, be32 slices,
 * each {be64 ino, be32 chunk, u8 composed, be64 id, be32 size, be32 n, n pieces}, be32 posts, each {be64 ino, be32 chunk,
 * u8 flags (1: onward, 2: of an inode born here), be32 n, n x 24 bytes}, be32 orphans after the window, each {be64 ino, u8
 * state}; XXH3-64 of all of it. A piece is {u8 kind, be32 len} and, staged, {be64 segment, be32 off, be32 run_off, be32
 * run_len, be64 sum} or, of an object, {be64 id, be32 size, be32 off}. Every part begins with {be16 part, be16 parts}.
 *
 * chain(n) = XXH3-128 over chain(n-1) as text, end, nonce; as 32 hex digits. The nonce is drawn for each window, so that two
 * histories that share a beginning never share a position again. */
#ifndef JFS_REDIS_WINDOW_H
#define JFS_REDIS_WINDOW_H

#include "redis/lease.h"
#include "redis/plan.h"
#include "util/buf.h"

#define WINDOW_PART ((size_t)1 << 20)

struct window {
	struct arena mem;
	uint64_t from, end, nonce;
	char before[RDS_CHAIN_LEN + 1], chain[RDS_CHAIN_LEN + 1];
	VEC(struct pl_slice) slices;
	VEC(struct pl_post) posts;
	VEC(struct pl_orphan) orphans;
};

void window_chain(const char *before, uint64_t end, uint64_t nonce, char out[RDS_CHAIN_LEN + 1]);
/* Appends the encoding; errors are in b->err. */
void window_encode(const struct window *w, struct buf *b);
/* 0, -EUCLEAN, -ENOMEM. Everything is copied into w. */
int window_decode(const void *p, size_t n, struct window *w);
void window_fini(struct window *w);

#endif
