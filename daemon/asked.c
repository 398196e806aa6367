/* See asked.h. */
#include "daemon/asked.h"

#include <pthread.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/mutex.h"

/* No reader waits longer for a CPU, once it has its answer. */
#define LATELY_NS 5000000000u

enum { PLACES = 4096 };

struct place {
	uint64_t ino, told_ns;	/* the last answer; 0: none that no invalidation has followed */
	uint64_t several_ns;	/* when answers for `ino` to several threads were last seen; 0: never, or before an invalidation */
	uint64_t shared_ns;	/* when answers for several inodes were last seen; 0: never */
	uint64_t changed_ns;
	uint32_t tid;
};

struct asked {
	pthread_mutex_t lock;
	struct place dirs[PLACES], others[PLACES];
};

struct asked *asked_new(void)
{
	struct asked *a = calloc(1, sizeof(*a));

	if (a)
		mutex_init_short(&a->lock);
	return a;
}

void asked_free(struct asked *a)
{
	if (!a)
		return;
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static struct place *place_of(struct asked *a, uint64_t ino, bool dir)
{
	return &(dir ? a->dirs : a->others)[ino % PLACES];
}

static bool lately(uint64_t then, uint64_t now)
{
	return then && now - then < LATELY_NS;
}

bool asked_note(struct asked *a, uint64_t ino, bool dir, uint32_t tid, uint64_t started_ns)
{
	struct place *p = place_of(a, ino, dir);
	uint64_t now = clock_mono_ns();
	bool keep;

	pthread_mutex_lock(&a->lock);
	if (lately(p->told_ns, now) && p->ino != ino)
		p->shared_ns = now;
	else if (lately(p->told_ns, now) && p->tid != tid)
		p->several_ns = now;
	p->ino = ino;
	p->tid = tid;
	p->told_ns = now;
	keep = p->changed_ns < started_ns;
	pthread_mutex_unlock(&a->lock);
	return keep;
}

uint64_t asked_changed(struct asked *a, uint64_t ino, bool dir, uint32_t tid)
{
	struct place *p = place_of(a, ino, dir);
	uint64_t now = clock_mono_ns();
	bool others;

	pthread_mutex_lock(&a->lock);
	p->changed_ns = now;
	others = lately(p->shared_ns, now) || lately(p->several_ns, now) ||
		(lately(p->told_ns, now) && p->ino == ino && p->tid != tid);
	pthread_mutex_unlock(&a->lock);
	return others ? now : 0;
}

void asked_settled(struct asked *a, uint64_t ino, bool dir, uint64_t changed)
{
	struct place *p = place_of(a, ino, dir);

	pthread_mutex_lock(&a->lock);
	if (p->ino == ino && !lately(p->shared_ns, changed)) {
		if (p->several_ns < changed)
			p->several_ns = 0;
		if (p->told_ns < changed)
			p->told_ns = 0;
	}
	pthread_mutex_unlock(&a->lock);
}
