/* A growing array, as a macro over three fields: VEC(type) name; vec_add returns a zeroed new element, NULL without
 * memory. Owned by whoever embeds it; vec_free leaves an empty one. */
#ifndef JFS_RECOVERY_VEC_H
#define JFS_RECOVERY_VEC_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VEC(type)                                                                                                     \
	struct {                                                                                                      \
		type *v;                                                                                              \
		size_t n, room;                                                                                       \
	}

#define vec_add(vec)                                                                                                  \
	(vec_room((void **)&(vec)->v, &(vec)->room, (vec)->n, sizeof(*(vec)->v))                                      \
			? (memset(&(vec)->v[(vec)->n], 0, sizeof(*(vec)->v)), &(vec)->v[(vec)->n++])                  \
			: NULL)
#define vec_sort(vec, cmp)                                                                                            \
	do {                                                                                                          \
		if ((vec)->n > 1)                                                                                     \
			qsort((vec)->v, (vec)->n, sizeof(*(vec)->v), cmp);                                            \
	} while (0)
#define vec_free(vec) (free((vec)->v), (vec)->v = NULL, (vec)->n = (vec)->room = 0)

static inline int vec_room(void **v, size_t *room, size_t n, size_t size)
{
	size_t want = *room ? *room * 2 : 64;
	void *p;

	if (n < *room)
		return 1;
	if (want > SIZE_MAX / size || !(p = realloc(*v, want * size)))
		return 0;
	*v = p;
	*room = want;
	return 1;
}

#endif
