/* See fs_refs.h. Linear probing; a removal moves the followers back, so that there are no tombstones. */
#include "daemon/fs_refs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_home(const struct fs_refs *r, uint64_t ino)
{
	return (size_t)((ino * 0x9E3779B97F4A7C15ull) >> 20) & (r->size - 1);
}

static struct fs_ref_slot *slot_find(const struct fs_refs *r, uint64_t ino)
{
	size_t i = slot_home(r, ino);

	while (r->slots[i].ino && r->slots[i].ino != ino)
		i = (i + 1) & (r->size - 1);
	return &r->slots[i];
}

int fs_refs_init(struct fs_refs *r)
{
	memset(r, 0, sizeof(*r));
	r->size = 1024;
	r->slots = calloc(r->size, sizeof(*r->slots));
	if (!r->slots)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	return 0;
}

void fs_refs_fini(struct fs_refs *r)
{
	if (!r->slots)
		return;
	free(r->slots);
	r->slots = NULL;
	pthread_mutex_destroy(&r->lock);
}

static int table_grow(struct fs_refs *r)
{
	struct fs_refs bigger = { .size = r->size * 2 };

	bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < r->size; i++)
		if (r->slots[i].ino)
			*slot_find(&bigger, r->slots[i].ino) = r->slots[i];
	free(r->slots);
	r->slots = bigger.slots;
	r->size = bigger.size;
	return 0;
}

void fs_refs_add(struct fs_refs *r, uint64_t ino, uint64_t n)
{
	struct fs_ref_slot *s;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, ino);
	if (!s->ino) {
		if (r->used * 2 >= r->size && table_grow(r)) {
			r->lost = true;
			goto out;
		}
		s = slot_find(r, ino);
		s->ino = ino;
		r->used++;
	}
	s->count += n;
out:
	pthread_mutex_unlock(&r->lock);
}

static void slot_remove(struct fs_refs *r, struct fs_ref_slot *s)
{
	size_t mask = r->size - 1, hole = (size_t)(s - r->slots), i = hole;

	for (;;) {
		size_t home;

		i = (i + 1) & mask;
		if (!r->slots[i].ino)
			break;
		home = slot_home(r, r->slots[i].ino);
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			r->slots[hole] = r->slots[i];
			hole = i;
		}
	}
	memset(&r->slots[hole], 0, sizeof(r->slots[hole]));
	r->used--;
}

bool fs_refs_sub(struct fs_refs *r, uint64_t ino, uint64_t n)
{
	struct fs_ref_slot *s;
	bool last = false;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, ino);
	if (s->ino) {
		s->count -= n < s->count ? n : s->count;
		if (s->count == 0) {
			last = s->orphan && !r->lost;
			slot_remove(r, s);
		}
	}
	pthread_mutex_unlock(&r->lock);
	return last;
}

bool fs_refs_mark_orphan(struct fs_refs *r, uint64_t ino)
{
	struct fs_ref_slot *s;
	bool held;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, ino);
	if (s->ino)
		s->orphan = true;
	held = s->ino || r->lost;
	pthread_mutex_unlock(&r->lock);
	return held;
}

uint64_t fs_refs_count(struct fs_refs *r, uint64_t ino)
{
	struct fs_ref_slot *s;
	uint64_t n;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, ino);
	n = s->ino ? s->count : 0;
	pthread_mutex_unlock(&r->lock);
	return n;
}
