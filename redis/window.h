/* A window as the journal remembers it: T_WINDOW (end, part) -> parts of at most 1 MiB of one encoding. Pure.
 *
 * Encoding, version 2: u8 version, be64 from, be64 end, be64 nonce, be64 boot, be64 made (version 1 lacks these two), 32
 * bytes chain before, 32 bytes chain after, be32 slices,
 * each {be64 ino, be32 chunk, u8 composed, be64 id, be32 size, be32 n, n pieces}, be32 posts, each {be64 ino, be32 chunk,
 * u8 flags (1: onward, 2: of an inode born here), be32 n, n x 24 bytes}, be32 orphans after the window, each {be64 ino, u8
 * state}; XXH3-64 of all of it. A piece is {u8 kind, be32 len} and, staged, {be64 segment, be32 off, be32 run_off, be32
 * run_len, be64 sum} or, of an object, {be64 id, be32 size, be32 off}. Every part begins with {be16 part, be16 parts}.
 *
 * A window that is composed anew (its slices grew too old to be published, a list or its predecessor changed) is recorded
 * once more behind the earlier compositions: parts of the key go on counting, those in the value begin at 0 again. All that
 * are whole are kept until trim, because a script that carried one may still be executed; the last one is what is sent. One
 * that is cut off by a crash was never sent, and is void.
 *
 * chain(n) = XXH3-128 over chain(n-1) as text, end, nonce; as 32 hex digits. The nonce is drawn for each window, so that two
 * histories that share a beginning never share a position again, and for each composition: a position says which one it was. */
#ifndef JFS_REDIS_WINDOW_H
#define JFS_REDIS_WINDOW_H

#include "redis/lease.h"
#include "redis/plan.h"
#include "util/buf.h"

#define WINDOW_PART ((size_t)1 << 20)

struct window {
	struct arena mem;
	uint64_t from, end, nonce;
	uint64_t boot, made_ms; /* recorded in which boot (util/boot.h), and when in it (clock_boot_ms): before its first PUT */
	char before[RDS_CHAIN_LEN + 1], chain[RDS_CHAIN_LEN + 1];
	VEC(struct pl_slice) slices;
	VEC(struct pl_post) posts;
	VEC(struct pl_orphan) orphans;
};

void window_chain(const char *before, uint64_t end, uint64_t nonce, char out[RDS_CHAIN_LEN + 1]);
/* Appends the encoding; errors are in b->err. */
void window_encode(const struct window *w, struct buf *b);
/* 0, -EUCLEAN, -ENOTSUP (whole, of a newer version), -ENOMEM. Everything is copied into w. */
int window_decode(const void *p, size_t n, struct window *w);
void window_fini(struct window *w);

#endif
