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

enum {
	FOLLOWER = 0,
	FOLLOW_LATE_NS = 20000,
	FOLLOW_AGAIN_NS = 200000,
	FOLLOW_GUARD_MS = 50,
	FOLLOW_SLEPT = 4, /* of the looks in the next, which is a mask */
	FOLLOW_SLEPT_LOOKS = 0xff,
};

struct follow {
	struct class_watch *watch;
	pthread_mutex_t turn; /* who changes `alone`, and wakes who rests; never held over a system call or a line of the log */
	pthread_cond_t many;  /* it was cleared */
	atomic_bool alone;
	bool guarded; /* [turn] one of those who rest looks after who looks on */
	pthread_mutex_t place; /* binding and letting go, as the next three */
	struct cpus *home, *watch_home; /* where the follower, and who looks on, belong */
	bool bound;
	pthread_mutex_t lock; /* begin and end; the watcher's: nobody who serves waits for it */
	bool ended;
	atomic_bool joined;  /* the follower has */
	atomic_bool lost;    /* the caller cannot be followed; the watcher takes it back */
	atomic_bool reading; /* the follower is in read(2), or about to be */
	atomic_uint caller;  /* of the last request */
	atomic_uint times;   /* that it began */
	atomic_uint_fast64_t requests, changes; /* of the caller */
	atomic_uint_fast64_t mine;		/* requests that the follower has read */
	atomic_uint_fast64_t looks;
	/* the watcher's */
	uint64_t seen_changes, seen_mine;
	unsigned slept; /* a bit for each of the last looks: asleep within a request */
	struct class_thread thread; /* the follower */
	/* the follower's */
	unsigned cpu_times; /* `times` when it went there */
	int cpu;	    /* that it has bound itself to, or -1 */
	uint64_t read_ns, went_ns; /* when it began to read; when it last looked where the caller is */
};

/* The CPU a thread runs on, or ran on last; -ESRCH: there is no such thread (any more); -errno: it cannot be told. */
static int cpu_of(uint32_t tid)
{
	char path[40], text[1024], *p;
	int fd, field;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return n < 0 ? -errno : -ESRCH;
	text[n] = '\0';
	/* proc(5): the name, which may hold anything, is field 2; the CPU is field 39. */
	p = strrchr(text, ')');
	for (field = 2; p && field < 39; field++) {
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	return p ? atoi(p) : -EINVAL;
}

/* --- alone, and together again --- */
/* Everybody serves again. The rest of the end is the watcher's. */
static void serve_all(struct follow *f)
{
	pthread_mutex_lock(&f->turn);
	atomic_store(&f->alone, false);
	pthread_cond_broadcast(&f->many);
	pthread_mutex_unlock(&f->turn);
}

/* [lock] */
static void begin_alone(struct follow *f)
{
	bool known;

	pthread_mutex_lock(&f->place);
	known = cpus_read(f->home, f->thread.tid) && cpus_read(f->watch_home, class_watch_tid(f->watch));
	pthread_mutex_unlock(&f->place);
	f->thread.state.idle = known;
	if (known)
		class_thread_set(&f->thread);
	if (!f->thread.state.idle)
		return;
	f->slept = 0;
	atomic_store(&f->lost, false);
	atomic_fetch_add(&f->times, 1);
	atomic_store(&f->alone, true);
}

/* First those who wait are served, then the follower gets its CPU, which it may need to let go of `place`. [lock] */
static void end_alone(struct follow *f)
{
	serve_all(f);
	f->thread.state.idle = false;
	class_thread_set(&f->thread);
	pthread_mutex_lock(&f->place);
	if (f->bound) {
		cpus_unpin(f->home, f->thread.tid);
		cpus_unpin(f->watch_home, class_watch_tid(f->watch));
	}
	f->bound = false;
	pthread_mutex_unlock(&f->place);
}

/* --- the serving threads --- */
void follow_join(struct follow *f, unsigned i)
{
	if (!f || i != FOLLOWER)
		return;
	class_thread_init(&f->thread, gettid());
	atomic_store(&f->joined, true);
}

/* Who looks on is kept to the follower's CPU, and so is stuck with it where a real-time program has that CPU: one of those who rest
 * looks whether it still looks. [turn] */
static void guard(struct follow *f)
{
	uint64_t looks = atomic_load(&f->looks);
	struct timespec until = clock_mono_after_ms(FOLLOW_GUARD_MS);

	f->guarded = true;
	while (atomic_load(&f->alone) && pthread_cond_timedwait(&f->many, &f->turn, &until) != ETIMEDOUT)
		;
	f->guarded = false;
	if (atomic_load(&f->alone) && atomic_load(&f->looks) == looks) {
		atomic_store(&f->alone, false);
		pthread_cond_broadcast(&f->many);
	}
}

static void rest(struct follow *f)
{
	pthread_mutex_lock(&f->turn);
	while (atomic_load(&f->alone)) {
		if (f->guarded)
			pthread_cond_wait(&f->many, &f->turn);
		else
			guard(f);
	}
	pthread_mutex_unlock(&f->turn);
}

void follow_turn(struct follow *f, unsigned i)
{
	if (!f)
		return;
	if (i == FOLLOWER) {
		atomic_store_explicit(&f->reading, true, memory_order_relaxed);
		if (atomic_load_explicit(&f->alone, memory_order_relaxed))
			f->read_ns = clock_mono_ns();
	} else if (atomic_load_explicit(&f->alone, memory_order_relaxed)) {
		rest(f);
	}
}

/* Binds the follower, and who looks on, unless everybody serves again. */
static bool bind_to(struct follow *f, unsigned cpu)
{
	bool done = true;

	pthread_mutex_lock(&f->place);
	if (atomic_load(&f->alone)) {
		f->bound = true; /* one of them, at least, may be */
		done = cpus_pin(f->home, class_watch_tid(f->watch), cpu) && cpus_pin(f->home, 0, cpu);
	}
	pthread_mutex_unlock(&f->place);
	return done;
}

/* The follower goes to the CPU of the caller, who waits for it. */
static void go_to(struct follow *f, uint32_t caller)
{
	int cpu = caller ? cpu_of(caller) : -EINVAL;

	if (cpu == -ESRCH) /* gone: it waits no more */
		return;
	if (cpu < 0 || (cpu != f->cpu && !bind_to(f, (unsigned)cpu)))
		atomic_store(&f->lost, true);
	else
		f->cpu = cpu;
}

/* The follower has read a request. A caller on its CPU has its next request made after a few microseconds; where it took longer
 * it may have been moved. */
static void follow(struct follow *f, uint32_t caller, bool other)
{
	unsigned times = atomic_load_explicit(&f->times, memory_order_relaxed);
	uint64_t now = clock_mono_ns();

	if (f->cpu_times != times) { /* it was let go meanwhile */
		f->cpu_times = times;
		f->cpu = -1;
	}
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
	if (i == FOLLOWER) {
		atomic_store_explicit(&f->reading, false, memory_order_relaxed);
		atomic_fetch_add_explicit(&f->mine, 1, memory_order_relaxed);
	}
	if (caller == FOLLOW_KERNEL)
		return;
	other = atomic_load_explicit(&f->caller, memory_order_relaxed) != caller;
	if (other) {
		atomic_store(&f->caller, caller);
		atomic_fetch_add(&f->changes, 1);
	}
	if (i == FOLLOWER && atomic_load_explicit(&f->alone, memory_order_relaxed))
		follow(f, caller, other);
	if (atomic_fetch_add(&f->requests, 1) % CLASS_KNOCK == 0)
		class_watch_knock(f->watch);
}

/* [lock] */
static void end_for_all(struct follow *f)
{
	f->ended = true;
	if (atomic_load(&f->joined) && (f->thread.state.idle || atomic_load(&f->alone)))
		end_alone(f);
}

void follow_end(struct follow *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	end_for_all(f);
	pthread_mutex_unlock(&f->lock);
}

/* --- who looks on --- */
static bool callers_mix(struct follow *f, uint64_t requests)
{
	uint64_t changes = atomic_load(&f->changes), n = changes - f->seen_changes;

	f->seen_changes = changes;
	return n > 1 && n * FOLLOW_MIXED > requests;
}

/* Whether it is not right that the follower serves alone, or begins to. */
static bool is_amiss(struct follow *f, struct class_look *l, bool was)
{
	uint64_t mine = atomic_load(&f->mine);
	bool stands_still = mine == f->seen_mine && l->within, mixed = callers_mix(f, l->requests - f->thread.state.last.requests);

	f->seen_mine = mine;
	f->slept = f->slept << 1 | (l->within && !l->runnable);
	if (!was)
		return mixed || stands_still;
	return mixed || atomic_exchange(&f->lost, false) || !atomic_load(&f->alone) ||
	       __builtin_popcount(f->slept & FOLLOW_SLEPT_LOOKS) >= FOLLOW_SLEPT;
}

/* [lock] */
static enum class_seen look_locked(struct follow *f, uint64_t now_ns, bool scarce)
{
	struct class_thread *t = &f->thread;
	struct class_look l = { .now_ns = now_ns, .scarce = scarce, .requests = atomic_load(&f->requests) };
	bool was = t->state.idle;

	l.within = !atomic_load(&f->reading);
	if (!class_thread_see(t, &l)) {
		log_info("event=thread_class tid=%d result=unchanged why=\"it cannot be seen how long it waits\"", (int)t->tid);
		end_for_all(f);
		return CLASS_REST;
	}
	l.amiss = is_amiss(f, &l, was);
	if (class_decide(&t->state, &l) != was)
		(was ? end_alone : begin_alone)(f);
	return t->state.idle || t->state.quiet < CLASS_QUIET ? CLASS_WORK : CLASS_REST;
}

static enum class_seen look(void *arg, uint64_t now_ns, bool scarce)
{
	struct follow *f = arg;
	enum class_seen seen;

	atomic_fetch_add(&f->looks, 1);
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

struct follow *follow_new(unsigned threads, unsigned enough)
{
	struct class_watcher watcher = { look, end, NULL };
	pthread_condattr_t attr;
	struct follow *f;

	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->cpu = -1;
	class_thread_init(&f->thread, 0);
	pthread_mutex_init(&f->turn, NULL);
	pthread_mutex_init(&f->place, NULL);
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->many, &attr);
	pthread_condattr_destroy(&attr);
	f->home = cpus_allowed();
	f->watch_home = cpus_allowed();
	watcher.arg = f;
	if (threads > 1 && cpus_count(f->home) > 1 && f->watch_home)
		f->watch = class_watch_new(&watcher, enough == FOLLOW_OWN ? cpus_count(f->home) : enough);
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
	cpus_free(f->home);
	cpus_free(f->watch_home);
	pthread_cond_destroy(&f->many);
	pthread_mutex_destroy(&f->turn);
	pthread_mutex_destroy(&f->place);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
