/* See follow.h. */
#include "daemon/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cpus.h"
#include "daemon/thread_class.h"
#include "util/clock.h"
#include "util/log.h"

enum { FOLLOWER = 0, FOLLOW_LATE_NS = 20000, FOLLOW_AGAIN_NS = 200000 };

struct follow {
	struct class_watch *watch;
	const struct cpus *cpus;
	pthread_mutex_t lock;
	pthread_cond_t many;	   /* alone was cleared */
	bool ended;		   /* lock */
	atomic_bool alone;	   /* changed under lock */
	atomic_bool lost;	   /* the caller cannot be followed */
	atomic_bool joined;	   /* the follower has */
	atomic_bool reading;	   /* the follower is in read(2), or about to be */
	atomic_uint caller;	   /* of the last request */
	atomic_uint times;
	atomic_uint_fast64_t requests, changes; /* of the caller */
	uint64_t seen_changes;	   /* the watcher's */
	struct class_thread thread; /* the follower; its state is the watcher's */
	/* the follower's */
	int cpu; /* that it has bound itself to, or -1 */
	uint64_t read_ns, went_ns; /* when it began to read; when it last looked where the caller is */
};

/* The CPU a thread runs on, or ran on last; -1: it cannot be told. */
static int cpu_of(uint32_t tid)
{
	char path[40], text[1024], *p;
	int fd, field;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	/* proc(5): the name, which may hold anything, is field 2; the CPU is field 39. */
	p = strrchr(text, ')');
	for (field = 2; p && field < 39; field++) {
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	return p ? atoi(p) : -1;
}

/* --- alone, and together again [locked] --- */
static void begin_alone(struct follow *f)
{
	class_thread_set(&f->thread);
	if (!f->thread.state.idle)
		return;
	atomic_store(&f->alone, true);
	atomic_fetch_add(&f->times, 1);
}

static void end_alone(struct follow *f)
{
	atomic_store(&f->alone, false);
	pthread_cond_broadcast(&f->many);
	f->thread.state.idle = false;
	class_thread_set(&f->thread);
	cpus_unpin(f->cpus, f->thread.tid);
	cpus_unpin(f->cpus, class_watch_tid(f->watch));
}

/* --- the serving threads --- */
void follow_join(struct follow *f, unsigned i)
{
	if (!f || i != FOLLOWER)
		return;
	class_thread_init(&f->thread, gettid());
	atomic_store(&f->joined, true);
}

void follow_turn(struct follow *f, unsigned i)
{
	if (!f)
		return;
	if (i == FOLLOWER) {
		atomic_store_explicit(&f->reading, true, memory_order_relaxed);
		if (atomic_load_explicit(&f->alone, memory_order_relaxed))
			f->read_ns = clock_mono_ns();
		else
			f->cpu = -1;
		return;
	}
	if (!atomic_load_explicit(&f->alone, memory_order_relaxed))
		return;
	pthread_mutex_lock(&f->lock);
	while (atomic_load(&f->alone))
		pthread_cond_wait(&f->many, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

/* The follower goes to the CPU of the caller, who waits for it. */
static void go_to(struct follow *f, uint32_t caller)
{
	int cpu = caller ? cpu_of(caller) : -1;

	if (cpu < 0)
		atomic_store(&f->lost, caller == 0); /* else it is gone, and does not wait */
	else if (cpu != f->cpu && (!cpus_pin(f->cpus, class_watch_tid(f->watch), (unsigned)cpu) || !cpus_pin(f->cpus, 0, (unsigned)cpu)))
		atomic_store(&f->lost, true);
	else
		f->cpu = cpu;
	/* Whoever ended it meanwhile may have let us go before we bound ourselves. */
	if (!atomic_load(&f->alone)) {
		cpus_unpin(f->cpus, class_watch_tid(f->watch));
		cpus_unpin(f->cpus, 0);
	}
}

/* The follower has read a request. A caller on its CPU has its next request made after a few microseconds; where it took longer
 * it may have been moved. */
static void follow(struct follow *f, uint32_t caller, bool other)
{
	uint64_t now = clock_mono_ns();

	if (other || f->cpu < 0 || (now - f->read_ns > FOLLOW_LATE_NS && now - f->went_ns > FOLLOW_AGAIN_NS)) {
		f->went_ns = now;
		go_to(f, caller);
	}
}

void follow_note(struct follow *f, unsigned i, uint32_t caller)
{
	bool other;

	if (!f)
		return;
	other = atomic_load_explicit(&f->caller, memory_order_relaxed) != caller;
	if (other) {
		atomic_store(&f->caller, caller);
		atomic_fetch_add(&f->changes, 1);
	}
	if (i == FOLLOWER)
		atomic_store_explicit(&f->reading, false, memory_order_relaxed);
	if (i == FOLLOWER && atomic_load_explicit(&f->alone, memory_order_relaxed))
		follow(f, caller, other);
	if (atomic_fetch_add(&f->requests, 1) % CLASS_KNOCK == 0)
		class_watch_knock(f->watch);
}

static void end_locked(struct follow *f)
{
	f->ended = true;
	if (atomic_load(&f->alone))
		end_alone(f);
}

void follow_end(struct follow *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	end_locked(f);
	pthread_mutex_unlock(&f->lock);
}

/* --- who looks on --- */
static bool callers_mix(struct follow *f, uint64_t requests)
{
	uint64_t changes = atomic_load(&f->changes), n = changes - f->seen_changes;

	f->seen_changes = changes;
	return n > 1 && n * FOLLOW_MIXED > requests;
}

/* [locked] */
static enum class_seen look_locked(struct follow *f, uint64_t now_ns, bool scarce)
{
	struct class_thread *t = &f->thread;
	struct class_look l = { .now_ns = now_ns, .scarce = scarce, .requests = atomic_load(&f->requests) };
	bool was = t->state.idle;

	l.stands = was && !atomic_load(&f->reading);
	l.amiss = callers_mix(f, l.requests - t->state.last.requests) || atomic_exchange(&f->lost, false);
	if (!class_thread_see(t, &l)) {
		log_info("event=thread_class tid=%d result=unchanged why=\"it cannot be seen how long it waits\"", (int)t->tid);
		end_locked(f);
		return CLASS_REST;
	}
	if (class_decide(&t->state, &l) != was)
		(was ? end_alone : begin_alone)(f);
	return t->state.idle || t->state.quiet < CLASS_QUIET ? CLASS_WORK : CLASS_REST;
}

static enum class_seen look(void *arg, uint64_t now_ns, bool scarce)
{
	struct follow *f = arg;
	enum class_seen seen;

	pthread_mutex_lock(&f->lock);
	if (f->ended)
		seen = CLASS_REST;
	else if (!atomic_load(&f->joined))
		seen = CLASS_WORK;
	else
		seen = look_locked(f, now_ns, scarce);
	pthread_mutex_unlock(&f->lock);
	return seen;
}

static void end(void *arg)
{
	follow_end(arg);
}

struct follow *follow_new(unsigned threads, const struct cpus *cpus, unsigned enough)
{
	struct class_watcher watcher = { look, end, NULL };
	struct follow *f;

	if (threads < 2 || cpus_count(cpus) < 2)
		return NULL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->cpus = cpus;
	f->cpu = -1;
	class_thread_init(&f->thread, 0);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->many, NULL);
	watcher.arg = f;
	f->watch = class_watch_new(&watcher, enough);
	if (!f->watch) {
		follow_free(f);
		return NULL;
	}
	return f;
}

unsigned follow_times(const struct follow *f)
{
	return f ? atomic_load(&f->times) : 0;
}

void follow_free(struct follow *f)
{
	if (!f)
		return;
	class_watch_free(f->watch);
	class_thread_fini(&f->thread);
	pthread_cond_destroy(&f->many);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
