/* Containers of the pure replay core: an arena that is freed as a whole, growing arrays, and a map from byte keys to
 * small numbers. Nothing here is thread-safe. Allocation failures are reported (NULL or -ENOMEM), never fatal. */
#ifndef JFS_REDIS_MEM_H
#define JFS_REDIS_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_block;
struct arena {
	struct arena_block *head;
};
/* Zeroed and aligned for anything; lives until arena_fini. */
void *arena_alloc(struct arena *a, size_t n);
void *arena_copy(struct arena *a, const void *p, size_t n);
void arena_fini(struct arena *a);

/* VEC(T) is an array that grows; start it zeroed. vec_push returns a zeroed new element or NULL. */
#define VEC(T)                                                                                                        \
	struct {                                                                                                      \
		T *v;                                                                                                 \
		size_t n, cap;                                                                                        \
	}
void *vec_more(void *vp, size_t *n, size_t *cap, size_t size);
#define vec_push(a) ((__typeof__((a)->v))vec_more(&(a)->v, &(a)->n, &(a)->cap, sizeof(*(a)->v)))
#define vec_fini(a) (free((a)->v), (a)->v = NULL, (a)->n = (a)->cap = 0)

struct hmap_slot;
struct hmap {
	struct hmap_slot *slots;
	size_t n, size; /* size: a power of two */
	struct arena keys;
};
/* The number stored for a key; a new key gets `value` and *fresh = true. 0 or -ENOMEM. Keys are copied. */
int hmap_put(struct hmap *m, const void *key, size_t n, uint32_t value, uint32_t *found, bool *fresh);
bool hmap_get(const struct hmap *m, const void *key, size_t n, uint32_t *found);
void hmap_fini(struct hmap *m);

#endif
