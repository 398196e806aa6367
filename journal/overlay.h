/* The dirty keys of one generation: an ordered map in an arena that is freed as a whole.
 *
 * Not thread-safe: the current generation is used under the journal's lock; the one being flushed is frozen and may be
 * read by anyone. Pointers stay valid until overlay_free (a replaced value is a new allocation). */
#ifndef JFS_JOURNAL_OVERLAY_H
#define JFS_JOURNAL_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct overlay;

struct overlay_entry {
	const uint8_t *key, *val; /* val NULL: tombstone */
	size_t klen, vlen;
	bool forget; /* tombstone that need not be kept in base */
};

struct overlay *overlay_new(void);
void overlay_free(struct overlay *ov);
/* Forgets all keys but keeps (some of) the memory. */
void overlay_clear(struct overlay *ov);
int overlay_put(struct overlay *ov, const void *key, size_t klen, const void *val, size_t vlen); /* 0, -ENOMEM */
int overlay_del(struct overlay *ov, const void *key, size_t klen, bool forget);			 /* 0, -ENOMEM */
/* NULL when the overlay does not know the key. */
const struct overlay_entry *overlay_get(const struct overlay *ov, const void *key, size_t klen);
/* First entry with key >= the given one, and the one after an entry; NULL at the end. */
const struct overlay_entry *overlay_seek(const struct overlay *ov, const void *key, size_t klen);
const struct overlay_entry *overlay_next(const struct overlay_entry *e);
size_t overlay_count(const struct overlay *ov);
size_t overlay_bytes(const struct overlay *ov);

#endif
