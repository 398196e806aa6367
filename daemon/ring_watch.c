/* See ring_watch.h. */
#include "daemon/ring_watch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/thread_class.h"
#include "util/log.h"

struct watched {
	_Alignas(64) _Atomic uint64_t requests; /* by that thread alone; `tid` is set before the first */
	pid_t tid;
	atomic_bool left;
	_Alignas(64) struct class_thread thread; /* who looks on's, as the next */
	bool begun, given_up;
};

struct ring_watch {
	struct class_watch *watch;
	atomic_uint times;
	unsigned n;
	struct watched of[];
};

/* Whether somebody is to look again soon. */
static bool look_at(struct ring_watch *w, struct watched *t, struct class_look *l)
{
	bool was = t->thread.state.idle;

	l->requests = atomic_load_explicit(&t->requests, memory_order_acquire);
	/* Most rings of a large machine, most of the time. */
	if (!was && l->requests == t->thread.state.last.requests) {
		t->thread.state.last.now_ns = l->now_ns;
		return ++t->thread.state.quiet < CLASS_QUIET;
	}
	if (!t->begun)
		class_thread_init(&t->thread, t->tid);
	t->begun = true;
	if (!class_thread_see(&t->thread, l)) {
		log_info("event=thread_class tid=%d result=unchanged why=\"it cannot be seen how long it waits\"", (int)t->tid);
		t->given_up = true;
		t->thread.state.idle = false;
	} else {
		class_decide(&t->thread.state, l);
	}
	if (t->thread.state.idle != was)
		class_thread_set(&t->thread);
	if (t->thread.state.idle && !was)
		atomic_fetch_add(&w->times, 1);
	return t->thread.state.idle || t->thread.state.quiet < CLASS_QUIET;
}

static enum class_seen look(void *arg, uint64_t now_ns, bool scarce)
{
	struct ring_watch *w = arg;
	bool again = false;

	for (unsigned i = 0; i < w->n; i++) {
		struct class_look l = { .now_ns = now_ns, .scarce = scarce };

		if (!w->of[i].given_up && !atomic_load(&w->of[i].left) && look_at(w, &w->of[i], &l))
			again = true;
	}
	return again ? CLASS_WORK : CLASS_REST;
}

static void all_ordinary(void *arg)
{
	struct ring_watch *w = arg;

	for (unsigned i = 0; i < w->n; i++) {
		struct class_thread *t = &w->of[i].thread;

		if (t->state.idle && !atomic_load(&w->of[i].left)) {
			t->state.idle = false;
			class_thread_set(t);
		}
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

unsigned ring_watch_times(const struct ring_watch *w)
{
	return w ? atomic_load(&w->times) : 0;
}

void ring_watch_join(struct ring_watch *w, unsigned i)
{
	if (w)
		w->of[i].tid = gettid();
}

void ring_watch_leave(struct ring_watch *w, unsigned i)
{
	if (w)
		atomic_store(&w->of[i].left, true);
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
		class_thread_init(&w->of[i].thread, 0);
	watcher.arg = w;
	w->watch = class_watch_new(&watcher, cpus);
	if (!w->watch) {
		free(w);
		return NULL;
	}
	return w;
}
