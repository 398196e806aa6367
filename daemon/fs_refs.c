/* See fs_refs.h. Linear probing by group; a removal moves the followers back, so that there are no tombstones. */
#include "daemon/fs_refs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/mutex.h"

static uint64_t group_of(uint64_t ino)
{
	return ino / FS_REF_GROUP + 1;
}

static size_t slot_home(const struct fs_refs *r, uint64_t group)
{
	return (size_t)((group * 0x9E3779B97F4A7C15ull) >> 20) & (r->size - 1);
}

/* The group's slot, or the free one that would be its. */
static struct fs_ref_slot *slot_find(const struct fs_refs *r, uint64_t group)
{
	size_t i = slot_home(r, group);

	while (r->slots[i].group && r->slots[i].group != group)
		i = (i + 1) & (r->size - 1);
	return &r->slots[i];
}

static bool slot_empty(const struct fs_ref_slot *s)
{
	uint32_t any = 0;

	for (unsigned i = 0; i < FS_REF_GROUP; i++)
		any |= s->count[i];
	return any == 0;
}

int fs_refs_init(struct fs_refs *r)
{
	memset(r, 0, sizeof(*r));
	r->size = 1024;
	r->slots = calloc(r->size, sizeof(*r->slots));
	if (!r->slots)
		return -ENOMEM;
	mutex_init_short(&r->lock);
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
		if (r->slots[i].group)
			*slot_find(&bigger, r->slots[i].group) = r->slots[i];
	free(r->slots);
	r->slots = bigger.slots;
	r->size = bigger.size;
	return 0;
}

void fs_refs_add(struct fs_refs *r, uint64_t ino, uint64_t n)
{
	unsigned at = ino % FS_REF_GROUP;
	struct fs_ref_slot *s;

	if (n == 0)
		return;
	pthread_mutex_lock(&r->lock);
	s = slot_find(r, group_of(ino));
	if (!s->group) {
		if (r->used * 4 >= r->size * 3 && table_grow(r)) {
			r->lost = true;
			goto out;
		}
		s = slot_find(r, group_of(ino));
		s->group = group_of(ino);
		r->used++;
	}
	if (n <= UINT32_MAX - s->count[at]) {
		s->count[at] += (uint32_t)n;
	} else {
		s->count[at] = UINT32_MAX;
		r->lost = true;
	}
out:
	pthread_mutex_unlock(&r->lock);
}

static void slot_remove(struct fs_refs *r, struct fs_ref_slot *s)
{
	size_t mask = r->size - 1, hole = (size_t)(s - r->slots), i = hole;

	for (;;) {
		size_t home;

		i = (i + 1) & mask;
		if (!r->slots[i].group)
			break;
		home = slot_home(r, r->slots[i].group);
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
	unsigned at = ino % FS_REF_GROUP;
	uint16_t bit = (uint16_t)(1u << at);
	struct fs_ref_slot *s;
	bool last = false;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, group_of(ino));
	if (s->group && s->count[at]) {
		s->count[at] -= n < s->count[at] ? (uint32_t)n : s->count[at];
		if (s->count[at] == 0) {
			last = (s->orphans & bit) && !r->lost;
			s->orphans &= (uint16_t)~bit;
			if (slot_empty(s))
				slot_remove(r, s);
		}
	}
	pthread_mutex_unlock(&r->lock);
	return last;
}

bool fs_refs_mark_orphan(struct fs_refs *r, uint64_t ino)
{
	unsigned at = ino % FS_REF_GROUP;
	struct fs_ref_slot *s;
	bool known, held;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, group_of(ino));
	known = s->group && s->count[at];
	if (known)
		s->orphans |= (uint16_t)(1u << at);
	held = known || r->lost;
	pthread_mutex_unlock(&r->lock);
	return held;
}

uint64_t fs_refs_count(struct fs_refs *r, uint64_t ino)
{
	struct fs_ref_slot *s;
	uint64_t n;

	pthread_mutex_lock(&r->lock);
	s = slot_find(r, group_of(ino));
	n = s->group ? s->count[ino % FS_REF_GROUP] : 0;
	pthread_mutex_unlock(&r->lock);
	return n;
}
