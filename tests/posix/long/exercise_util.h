/* What the exercisers share: a random generator whose stream is a function of the seed alone, and a running digest. */
#ifndef JFS_TESTS_EXERCISE_UTIL_H
#define JFS_TESTS_EXERCISE_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rng {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15u);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 .. n-1; n > 0 */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

/* 1 .. max, each magnitude as likely as any other: mostly small, sometimes large. */
static inline uint64_t rng_length(struct rng *r, uint64_t max)
{
	unsigned bits = 0;

	while (max >> bits)
		bits++;
	uint64_t n = 1 + rng_below(r, 1ull << rng_below(r, bits + 1));

	return n <= max ? n : 1 + rng_below(r, max);
}

/* Bytes without long runs of zeros that a lost write could pass for. */
static inline void rng_fill(struct rng *r, uint8_t *p, size_t n)
{
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t v = rng_next(r) | 1;

		memcpy(p, &v, 8);
	}
	while (n--)
		*p++ = (uint8_t)(rng_next(r) | 1);
}

/* FNV-1a */
static inline uint64_t digest_add(uint64_t h, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n--)
		h = (h ^ *p++) * 0x100000001b3u;
	return h;
}

#define DIGEST_START 0xcbf29ce484222325u

#endif
