/* A skip list whose nodes, keys and values lie in an arena.
 *
 * A node is one allocation: the entry (so that overlay_next can start from it), its forward pointers, then the key.
 * Heights come from a private xorshift state, so that the same operations give the same list. The last search path is
 * not remembered: a generation holds some ten thousand keys and stays within the processor's cache. The first 16 bytes of
 * a key are kept as two numbers as well: they decide nearly every comparison. */
#include "journal/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/buf.h"

#define LEVELS	    14
#define CHUNK_SIZE  ((size_t)256 << 10)
#define KEEP_CHUNKS 16 /* kept by overlay_clear: a usual generation needs no malloc */

struct prefix {
	uint64_t hi, lo; /* the first 16 bytes, big-endian, zeros behind a shorter key */
};

struct node {
	struct overlay_entry e; /* first: an entry is its node */
	struct prefix p;
	struct node *next[];
};

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(16) uint8_t data[];
};

struct overlay {
	struct chunk *chunks, *spare; /* in use, newest first; kept for reuse (all of CHUNK_SIZE) */
	size_t n_spare;
	size_t count, bytes;
	uint64_t rand;
	int height;
	struct node *head[LEVELS];
};

struct overlay *overlay_new(void)
{
	struct overlay *ov = calloc(1, sizeof(*ov));

	if (ov) {
		ov->rand = 88172645463325252ull;
		ov->height = 1;
	}
	return ov;
}

static void chunks_free(struct chunk *c)
{
	while (c) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
}

void overlay_free(struct overlay *ov)
{
	if (!ov)
		return;
	chunks_free(ov->chunks);
	chunks_free(ov->spare);
	free(ov);
}

void overlay_clear(struct overlay *ov)
{
	while (ov->chunks) {
		struct chunk *c = ov->chunks;

		ov->chunks = c->next;
		if (c->size == CHUNK_SIZE && ov->n_spare < KEEP_CHUNKS) {
			c->next = ov->spare;
			ov->spare = c;
			ov->n_spare++;
		} else {
			free(c);
		}
	}
	ov->count = ov->bytes = 0;
	ov->height = 1;
	memset(ov->head, 0, sizeof(ov->head));
}

static struct chunk *chunk_new(struct overlay *ov, size_t n)
{
	struct chunk *c = ov->spare;
	size_t size = n > CHUNK_SIZE ? n : CHUNK_SIZE;

	if (c && n <= CHUNK_SIZE) {
		ov->spare = c->next;
		ov->n_spare--;
	} else {
		c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->size = size;
	}
	c->used = 0;
	c->next = ov->chunks;
	ov->chunks = c;
	return c;
}

static void *arena_alloc(struct overlay *ov, size_t n)
{
	struct chunk *c = ov->chunks;

	n = (n + 15) & ~(size_t)15;
	if (!c || c->size - c->used < n) {
		c = chunk_new(ov, n);
		if (!c)
			return NULL;
	}
	void *p = c->data + c->used;
	c->used += n;
	ov->bytes += n;
	return p;
}

static int key_cmp(const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
	int c = memcmp(a, b, an < bn ? an : bn);

	return c ? c : (an > bn) - (an < bn);
}

static struct prefix key_prefix(const uint8_t *key, size_t klen)
{
	uint8_t b[16] = {0};

	memcpy(b, key, klen < sizeof(b) ? klen : sizeof(b));
	return (struct prefix){.hi = get_be64(b), .lo = get_be64(b + 8)};
}

static bool node_below(const struct node *n, struct prefix p, const uint8_t *key, size_t klen)
{
	if (n->p.hi != p.hi)
		return n->p.hi < p.hi;
	if (n->p.lo != p.lo)
		return n->p.lo < p.lo;
	return key_cmp(n->e.key, n->e.klen, key, klen) < 0;
}

/* The first node whose key is not below the given one; fills the pointers that lead to it where wanted. */
static struct node *list_find(const struct overlay *ov, const uint8_t *key, size_t klen, struct node **link[LEVELS])
{
	struct node **at = (struct node **)ov->head;
	struct node *n = NULL, *known = NULL; /* known: already found to be >= key, on the level above */
	struct prefix p = key_prefix(key, klen);

	for (int l = ov->height - 1; l >= 0; l--) {
		while ((n = at[l]) && n != known && node_below(n, p, key, klen))
			at = n->next;
		known = n;
		if (link)
			link[l] = &at[l];
	}
	return n;
}

static int random_height(struct overlay *ov)
{
	uint64_t x = ov->rand;
	int h = 1;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	ov->rand = x;
	for (; h < LEVELS && (x & 3) == 0; x >>= 2)
		h++;
	return h;
}

/* The entry of a key, made when missing: its value is still to be set. */
static struct overlay_entry *entry_obtain(struct overlay *ov, const void *key, size_t klen)
{
	struct node **link[LEVELS];
	struct node *n = list_find(ov, key, klen, link);

	if (n && n->e.klen == klen && memcmp(n->e.key, key, klen) == 0)
		return &n->e;
	int h = random_height(ov);
	size_t fixed = sizeof(*n) + (size_t)h * sizeof(n->next[0]);

	n = arena_alloc(ov, fixed + klen);
	if (!n)
		return NULL;
	memcpy((uint8_t *)n + fixed, key, klen);
	n->p = key_prefix(key, klen);
	n->e = (struct overlay_entry){.key = (uint8_t *)n + fixed, .klen = klen};
	for (; ov->height < h; ov->height++)
		link[ov->height] = &ov->head[ov->height];
	for (int l = 0; l < h; l++) {
		n->next[l] = *link[l];
		*link[l] = n;
	}
	ov->count++;
	return &n->e;
}

int overlay_put(struct overlay *ov, const void *key, size_t klen, const void *val, size_t vlen)
{
	uint8_t *copy = arena_alloc(ov, vlen + 1); /* + 1: an empty value is not NULL */
	struct overlay_entry *e;

	if (!copy || !(e = entry_obtain(ov, key, klen)))
		return -ENOMEM;
	if (vlen)
		memcpy(copy, val, vlen);
	e->val = copy;
	e->vlen = vlen;
	e->forget = false;
	return 0;
}

int overlay_del(struct overlay *ov, const void *key, size_t klen, bool forget)
{
	struct overlay_entry *e = entry_obtain(ov, key, klen);

	if (!e)
		return -ENOMEM;
	e->val = NULL;
	e->vlen = 0;
	e->forget = forget;
	return 0;
}

const struct overlay_entry *overlay_seek(const struct overlay *ov, const void *key, size_t klen)
{
	struct node *n = list_find(ov, key, klen, NULL);

	return n ? &n->e : NULL;
}

const struct overlay_entry *overlay_get(const struct overlay *ov, const void *key, size_t klen)
{
	struct node *n = ov->count ? list_find(ov, key, klen, NULL) : NULL;

	return n && n->e.klen == klen && memcmp(n->e.key, key, klen) == 0 ? &n->e : NULL;
}

const struct overlay_entry *overlay_next(const struct overlay_entry *e)
{
	const struct node *n = (const struct node *)e;

	return n->next[0] ? &n->next[0]->e : NULL;
}

size_t overlay_count(const struct overlay *ov)
{
	return ov->count;
}

size_t overlay_bytes(const struct overlay *ov)
{
	return ov->bytes;
}
