/* See ring_watch.h. */
#include "daemon/ring_watch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/thread_class.h"

struct watched {
	_Alignas(64) _Atomic uint64_t requests; /* by that thread alone; it has joined before the first */
	_Alignas(64) struct class_thread thread;
};

struct ring_watch {
	struct class_watch *watch;
	unsigned n;
	struct watched of[];
};

static enum class_seen look(void *arg, uint64_t now_ns, bool scarce)
{
	struct ring_watch *w = arg;
	enum class_seen seen = CLASS_REST;

	for (unsigned i = 0; i < w->n; i++) {
		struct class_thread *t = &w->of[i].thread;
		struct class_look l = { .now_ns = now_ns, .scarce = scarce,
			.requests = atomic_load_explicit(&w->of[i].requests, memory_order_acquire) };
		bool was = t->state.idle;

		/* Most rings of a large machine, most of the time. */
		if (!was && l.requests == t->state.last.requests) {
			t->state.last.now_ns = now_ns;
			t->state.quiet++;
		} else if (!class_thread_see(t, &l)) {
			return CLASS_BLIND;
		} else if (class_decide(&t->state, &l) != was) {
			class_thread_set(t, !was);
		}
		if (t->state.idle || t->state.quiet < CLASS_QUIET)
			seen = CLASS_WORK;
	}
	return seen;
}

static void all_ordinary(void *arg)
{
	struct ring_watch *w = arg;

	for (unsigned i = 0; i < w->n; i++)
		if (w->of[i].thread.state.idle) {
			w->of[i].thread.state.idle = false;
			class_thread_set(&w->of[i].thread, false);
		}
}

void ring_watch_note(struct ring_watch *w, unsigned i)
{
	uint64_t n;

	if (!w)
		return;
	n = atomic_load_explicit(&w->of[i].requests, memory_order_relaxed) + 1;
	atomic_store_explicit(&w->of[i].requests, n, memory_order_release);
	if (n % CLASS_KNOCK == 0)
		class_watch_knock(w->watch);
}

void ring_watch_join(struct ring_watch *w, unsigned i)
{
	if (w)
		class_thread_join(&w->of[i].thread);
}

void ring_watch_stop(struct ring_watch *w)
{
	if (w)
		class_watch_stop(w->watch);
}

void ring_watch_free(struct ring_watch *w)
{
	if (!w)
		return;
	class_watch_free(w->watch);
	for (unsigned i = 0; i < w->n; i++)
		class_thread_fini(&w->of[i].thread);
	free(w);
}

struct ring_watch *ring_watch_new(unsigned n, unsigned cpus)
{
	struct class_watcher watcher = { look, all_ordinary, NULL };
	struct ring_watch *w;

	if (posix_memalign((void **)&w, 64, sizeof(*w) + n * sizeof(w->of[0])))
		return NULL;
	memset(w, 0, sizeof(*w) + n * sizeof(w->of[0]));
	w->n = n;
	for (unsigned i = 0; i < n; i++)
		class_thread_init(&w->of[i].thread);
	watcher.arg = w;
	w->watch = class_watch_new(&watcher, cpus);
	if (!w->watch) {
		free(w);
		return NULL;
	}
	return w;
}
