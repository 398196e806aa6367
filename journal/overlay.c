/* A skip list whose nodes, keys and values lie in an arena, and a hash table of the nodes beside it.
 *
 * A node is one allocation: the entry (so that overlay_next can start from it), its forward pointers, then the key.
 * Heights come from a private xorshift state, so that the same operations give the same list. The first 16 bytes of
 * a key are kept as two numbers as well: they decide nearly every comparison.
 *
 * A generation holds some ten thousand keys, and each step along a list of them is a line that the processor's nearer caches may
 * not have. So the list is walked for what needs its order alone: a seek, and the place of a new key. A key itself is found by
 * its hash. New keys of a table mostly come in order (inode numbers rise, so do the names of a tree that is laid out): the way to
 * the last one of each table is kept, and the next one that is above it is looked for from there. */
#include "journal/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "util/buf.h"

#define LEVELS	    14
#define FINGERS	    32 /* tables: first bytes of keys; more may share one, which only makes it less useful */
#define SLOTS_MIN   1024
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

struct slot {
	uint64_t hash;
	struct node *node; /* NULL: free */
};

/* Where the last new key of a table was put: the pointers that led to it, level by level, and then past it. What owns them is
 * never above the key; nodes that came in between since are met on the way. */
struct finger {
	struct node *last; /* NULL: none yet */
	struct node **link[LEVELS];
};

struct overlay {
	struct chunk *chunks, *spare; /* in use, newest first; kept for reuse (all of CHUNK_SIZE) */
	size_t n_spare;
	size_t count, bytes;
	uint64_t rand;
	int height;
	struct node *head[LEVELS];
	struct slot *slots; /* linear probing, at most three quarters taken */
	size_t n_slots;	    /* a power of two */
	struct finger fingers[FINGERS];
};

struct overlay *overlay_new(void)
{
	struct overlay *ov = calloc(1, sizeof(*ov));

	if (!ov)
		return NULL;
	ov->rand = 88172645463325252ull;
	ov->height = 1;
	ov->n_slots = SLOTS_MIN;
	ov->slots = calloc(ov->n_slots, sizeof(*ov->slots));
	if (!ov->slots) {
		free(ov);
		return NULL;
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
	free(ov->slots);
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
	memset(ov->slots, 0, ov->n_slots * sizeof(*ov->slots));
	for (int i = 0; i < FINGERS; i++)
		ov->fingers[i].last = NULL;
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

/* --- by hash --- */

/* The key's slot, or the free one that would be its. */
static struct slot *slot_find(const struct overlay *ov, uint64_t hash, const uint8_t *key, size_t klen)
{
	size_t mask = ov->n_slots - 1, i = hash & mask;

	for (; ov->slots[i].node; i = (i + 1) & mask) {
		const struct node *n = ov->slots[i].node;

		if (ov->slots[i].hash == hash && n->e.klen == klen && memcmp(n->e.key, key, klen) == 0)
			break;
	}
	return &ov->slots[i];
}

static int slots_grow(struct overlay *ov)
{
	struct slot *old = ov->slots;
	size_t n = ov->n_slots, mask = 2 * n - 1;
	struct slot *bigger = calloc(2 * n, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		size_t i = old[k].hash & mask;

		if (!old[k].node)
			continue;
		while (bigger[i].node)
			i = (i + 1) & mask;
		bigger[i] = old[k];
	}
	free(old);
	ov->slots = bigger;
	ov->n_slots = 2 * n;
	return 0;
}

/* --- by order --- */

/* The first node on level `l` behind `at` whose key is not below the given one; *at comes to the pointers of the one before. */
static struct node *level_walk(struct node ***at, int l, struct prefix p, const uint8_t *key, size_t klen)
{
	struct node *n;

	while ((n = (*at)[l]) && node_below(n, p, key, klen))
		*at = n->next;
	return n;
}

static const struct node *list_seek(const struct overlay *ov, const uint8_t *key, size_t klen)
{
	struct node **at = (struct node **)ov->head, *n = NULL;
	struct prefix p = key_prefix(key, klen);

	for (int l = ov->height - 1; l >= 0; l--)
		n = level_walk(&at, l, p, key, klen);
	return n;
}

/* The pointers that are to lead to a new key of height `h`, in its table's finger. */
static struct finger *list_place(struct overlay *ov, int h, struct prefix p, const uint8_t *key, size_t klen)
{
	struct finger *f = &ov->fingers[klen ? key[0] % FINGERS : 0];
	struct node **at = ov->head;
	int top = ov->height - 1;
	bool walked = true;

	if (f->last && node_below(f->last, p, key, klen)) {
		struct node *n;

		/* Up to where the next node is beyond the key: what is left is below. */
		for (top = h - 1; top < ov->height - 1 && (n = *f->link[top]) && node_below(n, p, key, klen);)
			top++;
		walked = false;
	}
	for (int l = top; l >= 0; l--) {
		struct node **from = walked ? at : f->link[l] - l;

		at = from;
		level_walk(&at, l, p, key, klen);
		walked = walked || at != from;
		f->link[l] = &at[l];
	}
	return f;
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

static void list_insert(struct overlay *ov, struct node *n, int h)
{
	struct finger *f;

	for (; ov->height < h; ov->height++)
		for (int i = 0; i < FINGERS; i++)
			ov->fingers[i].link[ov->height] = &ov->head[ov->height];
	f = list_place(ov, h, n->p, n->e.key, n->e.klen);
	for (int l = 0; l < h; l++) {
		n->next[l] = *f->link[l];
		*f->link[l] = n;
		f->link[l] = &n->next[l];
	}
	f->last = n;
}

/* The entry of a key, made when missing: its value is still to be set. */
static struct overlay_entry *entry_obtain(struct overlay *ov, const void *key, size_t klen)
{
	uint64_t hash = XXH3_64bits(key, klen);
	struct slot *s = slot_find(ov, hash, key, klen);
	struct node *n;

	if (s->node)
		return &s->node->e;
	if (4 * (ov->count + 1) > 3 * ov->n_slots) {
		if (slots_grow(ov))
			return NULL;
		s = slot_find(ov, hash, key, klen);
	}
	int h = random_height(ov);
	size_t fixed = sizeof(*n) + (size_t)h * sizeof(n->next[0]);

	n = arena_alloc(ov, fixed + klen);
	if (!n)
		return NULL;
	memcpy((uint8_t *)n + fixed, key, klen);
	n->p = key_prefix(key, klen);
	n->e = (struct overlay_entry){.key = (uint8_t *)n + fixed, .klen = klen};
	list_insert(ov, n, h);
	*s = (struct slot){.hash = hash, .node = n};
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
	const struct node *n = list_seek(ov, key, klen);

	return n ? &n->e : NULL;
}

const struct overlay_entry *overlay_get(const struct overlay *ov, const void *key, size_t klen)
{
	const struct node *n = ov->count ? slot_find(ov, XXH3_64bits(key, klen), key, klen)->node : NULL;

	return n ? &n->e : NULL;
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
