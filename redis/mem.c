/* Invariant of the map: linear probing, never more than half full, no deletions. */
#include "redis/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	uint8_t bytes[] __attribute__((aligned(16)));
};

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->head;
	void *p;

	n = (n + 15) & ~(size_t)15;
	if (!b || b->size - b->used < n) {
		size_t size = n > 65536 ? n : 65536;

		b = calloc(1, sizeof(*b) + size);
		if (!b)
			return NULL;
		b->size = size;
		b->next = a->head;
		a->head = b;
	}
	p = b->bytes + b->used;
	b->used += n;
	return p;
}

void *arena_copy(struct arena *a, const void *p, size_t n)
{
	void *q = arena_alloc(a, n + 1);

	if (q && n)
		memcpy(q, p, n);
	return q;
}

void arena_fini(struct arena *a)
{
	while (a->head) {
		struct arena_block *b = a->head;

		a->head = b->next;
		free(b);
	}
}

void *vec_more(void *vp, size_t *n, size_t *cap, size_t size)
{
	uint8_t *p;

	memcpy(&p, vp, sizeof(p)); /* the element type is not known here */
	if (*n == *cap) {
		size_t more = *cap ? *cap * 2 : 8;
		void *q = realloc(p, more * size);

		if (!q)
			return NULL;
		p = q;
		memcpy(vp, &p, sizeof(p));
		*cap = more;
	}
	p += *n * size;
	memset(p, 0, size);
	++*n;
	return p;
}

struct hmap_slot {
	const uint8_t *key; /* NULL: free */
	uint32_t len, value;
	uint64_t hash;
};

static struct hmap_slot *slot_find(const struct hmap *m, const void *key, size_t n, uint64_t h)
{
	size_t i = h & (m->size - 1);

	for (;; i = (i + 1) & (m->size - 1)) {
		struct hmap_slot *s = &m->slots[i];

		if (!s->key || (s->hash == h && s->len == n && memcmp(s->key, key, n) == 0))
			return s;
	}
}

static int hmap_resize(struct hmap *m)
{
	struct hmap big = *m;

	big.size = m->size ? m->size * 2 : 64;
	big.slots = calloc(big.size, sizeof(*big.slots));
	if (!big.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->size; i++)
		if (m->slots[i].key)
			*slot_find(&big, m->slots[i].key, m->slots[i].len, m->slots[i].hash) = m->slots[i];
	free(m->slots);
	*m = big;
	return 0;
}

int hmap_put(struct hmap *m, const void *key, size_t n, uint32_t value, uint32_t *found, bool *fresh)
{
	uint64_t h = XXH3_64bits(key, n);
	struct hmap_slot *s;

	if (m->n * 2 >= m->size && hmap_resize(m) != 0)
		return -ENOMEM;
	s = slot_find(m, key, n, h);
	*fresh = !s->key;
	if (*fresh) {
		const uint8_t *copy = arena_copy(&m->keys, key, n);

		if (!copy)
			return -ENOMEM;
		*s = (struct hmap_slot){ .key = copy, .len = (uint32_t)n, .value = value, .hash = h };
		m->n++;
	}
	*found = s->value;
	return 0;
}

bool hmap_get(const struct hmap *m, const void *key, size_t n, uint32_t *found)
{
	const struct hmap_slot *s;

	if (!m->size)
		return false;
	s = slot_find(m, key, n, XXH3_64bits(key, n));
	if (!s->key)
		return false;
	*found = s->value;
	return true;
}

void hmap_fini(struct hmap *m)
{
	free(m->slots);
	arena_fini(&m->keys);
	memset(m, 0, sizeof(*m));
}
