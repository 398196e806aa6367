/* See ring_class.h. */
#include "daemon/ring_class.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"

#define MS 1000000ull

/* --- decisions --- */
/* Does it wait for its CPU? */
static bool stalls(struct ring_class *c, const struct ring_class_look *l)
{
	uint64_t turns = l->turns - c->last.turns, waited = l->waited_ns - c->last.waited_ns;
	bool idle_hands = l->requests == c->last.requests && turns == 0;

	/* At one look it may just have been woken. */
	c->stuck = c->idle && idle_hands && l->runnable ? c->stuck + 1 : 0;
	return c->idle && (c->stuck >= 2 || waited > MS * (turns ? turns : 1));
}

/* Stays ordinary for a while. */
static void hold(struct ring_class *c, uint64_t now_ns)
{
	uint64_t stay = now_ns - c->since_ns;

	if (!c->hold_ns || stay >= RING_CLASS_GOOD_MS * MS)
		c->hold_ns = RING_CLASS_HOLD_MS * MS;
	else if (stay < RING_CLASS_BAD_MS * MS)
		c->hold_ns = c->hold_ns * 2 < RING_CLASS_HOLD_MAX_MS * MS ? c->hold_ns * 2 : RING_CLASS_HOLD_MAX_MS * MS;
	c->not_before_ns = now_ns + c->hold_ns;
}

bool ring_class_decide(struct ring_class *c, const struct ring_class_look *l)
{
	uint64_t requests = l->requests - c->last.requests, since = l->now_ns - c->last.now_ns;
	bool busy = requests >= RING_CLASS_BUSY && since <= 4 * RING_CLASS_LOOK_MS * MS, stalled = stalls(c, l);

	c->last = *l;
	c->quiet = requests ? 0 : c->quiet + 1;
	if (stalled)
		hold(c, l->now_ns);
	if (c->idle) {
		c->idle = !stalled && !l->scarce && c->quiet < RING_CLASS_QUIET;
	} else if (busy && !l->scarce && l->now_ns >= c->not_before_ns) {
		c->idle = true;
		c->since_ns = l->now_ns;
	}
	return c->idle;
}

bool ring_class_scarce(unsigned *wanted, unsigned running, unsigned cpus)
{
	unsigned now = running < 1000000 ? running * 64 : 64000000;

	*wanted = *wanted - *wanted / 16 + now / 16;
	return *wanted > cpus * 64 + 32;
}

/* --- the thread that looks on --- */
struct watched {
	_Alignas(64) _Atomic uint64_t requests; /* by that thread alone */
	int tid, schedstat, stat;		/* files of /proc; all set before the first request is counted */
	_Alignas(64) struct ring_class decide;	/* the watcher's */
};

struct ring_watch {
	unsigned n, cpus;
	unsigned wanted; /* the thread's, as what else is not atomic */
	int bell_fd, loadavg;
	pthread_t thread;
	bool started; /* the owner's */
	atomic_bool asleep, stop;
	struct watched of[];
};

static int class_set(int tid, bool idle)
{
	struct sched_param none = { 0 };

	return sched_setscheduler(tid, idle ? SCHED_IDLE : SCHED_OTHER, &none) ? -errno : 0;
}

/* The file's first bytes as a string; false: it cannot be read. */
static bool text_of(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

static int thread_file(int tid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool look_at(struct watched *t, struct ring_class_look *l)
{
	unsigned long long waited, turns;
	char text[128], *state;

	l->requests = atomic_load_explicit(&t->requests, memory_order_relaxed);
	if (!text_of(t->schedstat, text, sizeof(text)) || sscanf(text, "%*u %llu %llu", &waited, &turns) != 2)
		return false;
	l->waited_ns = waited;
	l->turns = turns;
	l->runnable = false;
	if (!t->decide.idle || l->requests != t->decide.last.requests)
		return true;
	/* PID (NAME) STATE ...: our threads' names have no parenthesis. */
	if (!text_of(t->stat, text, sizeof(text)) || !(state = strchr(text, ')')) || state[1] != ' ')
		return false;
	l->runnable = state[2] == 'R';
	return true;
}

/* Threads that run or want to, everywhere, but for this one. */
static bool running(struct ring_watch *w, unsigned *n)
{
	char text[128];
	unsigned all;

	if (!text_of(w->loadavg, text, sizeof(text)) || sscanf(text, "%*f %*f %*f %u/", &all) != 1)
		return false;
	*n = all ? all - 1 : 0;
	return true;
}

static void change(struct watched *t, bool idle)
{
	int r = class_set(t->tid, idle);

	if (r)
		log_warn("event=ring_class tid=%d class=%s error=\"%s\"", t->tid, idle ? "idle" : "ordinary", strerror(-r));
	else
		log_debug("event=ring_class tid=%d class=%s", t->tid, idle ? "idle" : "ordinary");
}

enum seen { NOTHING_TO_DO, WORK, BLIND };

/* WORK: somebody has some, or is not ordinary yet: look again soon. BLIND: what is to be seen cannot be seen (any more). */
static enum seen look(struct ring_watch *w)
{
	struct ring_class_look l = { .now_ns = clock_mono_ns() };
	enum seen seen = NOTHING_TO_DO;
	unsigned n;

	if (!running(w, &n))
		return BLIND;
	l.scarce = ring_class_scarce(&w->wanted, n, w->cpus);
	for (unsigned i = 0; i < w->n; i++) {
		struct watched *t = &w->of[i];
		bool was = t->decide.idle;

		/* Most rings of a large machine, most of the time. */
		if (!was && atomic_load_explicit(&t->requests, memory_order_relaxed) == t->decide.last.requests) {
			t->decide.last.now_ns = l.now_ns;
			t->decide.quiet++;
		} else if (!look_at(t, &l)) {
			return BLIND;
		} else if (ring_class_decide(&t->decide, &l) != was) {
			change(t, !was);
		}
		if (t->decide.idle || t->decide.quiet < RING_CLASS_QUIET)
			seen = WORK;
	}
	return seen;
}

static void all_ordinary(struct ring_watch *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->of[i].decide.idle) {
			w->of[i].decide.idle = false;
			change(&w->of[i], false);
		}
}

static void wait_for_work(struct ring_watch *w)
{
	uint64_t count;

	atomic_store(&w->asleep, true);
	while (!atomic_load(&w->stop) && read(w->bell_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	atomic_store(&w->asleep, false);
}

static void *watch_main(void *arg)
{
	struct ring_watch *w = arg;
	struct pollfd p = { .fd = w->bell_fd, .events = POLLIN };
	enum seen seen = NOTHING_TO_DO;

	pthread_setname_np(pthread_self(), "jfs-class");
	if (class_set(0, true) || class_set(0, false)) {
		log_info("event=ring_class result=unchanged why=\"a thread may not leave SCHED_IDLE again here\"");
		return NULL;
	}
	while (!atomic_load(&w->stop) && seen != BLIND) {
		wait_for_work(w);
		w->wanted = w->cpus * 64;
		while (!atomic_load(&w->stop) && (seen = look(w)) == WORK)
			poll(&p, 1, RING_CLASS_LOOK_MS);
	}
	if (seen == BLIND)
		log_warn("event=ring_class error=\"/proc does not tell how long threads wait\" note=\"all stay ordinary\"");
	all_ordinary(w);
	return NULL;
}

static void bell(struct ring_watch *w)
{
	uint64_t one = 1;

	if (write(w->bell_fd, &one, sizeof(one)) < 0)
		log_error("event=ring_class error=\"%s\"", strerror(errno));
}

void ring_watch_note(struct ring_watch *w, unsigned i)
{
	uint64_t n;

	if (!w)
		return;
	n = atomic_load_explicit(&w->of[i].requests, memory_order_relaxed) + 1;
	atomic_store_explicit(&w->of[i].requests, n, memory_order_relaxed);
	if (n % RING_CLASS_KNOCK == 0 && atomic_load_explicit(&w->asleep, memory_order_relaxed) &&
		atomic_exchange(&w->asleep, false))
		bell(w);
}

void ring_watch_join(struct ring_watch *w, unsigned i)
{
	if (!w)
		return;
	w->of[i].tid = gettid();
	w->of[i].schedstat = thread_file(w->of[i].tid, "schedstat");
	w->of[i].stat = thread_file(w->of[i].tid, "stat");
}

static void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

void ring_watch_stop(struct ring_watch *w)
{
	if (!w || !w->started)
		return;
	atomic_store(&w->stop, true);
	bell(w);
	pthread_join(w->thread, NULL);
	w->started = false;
}

void ring_watch_free(struct ring_watch *w)
{
	if (!w)
		return;
	ring_watch_stop(w);
	for (unsigned i = 0; i < w->n; i++) {
		fd_close(w->of[i].schedstat);
		fd_close(w->of[i].stat);
	}
	fd_close(w->bell_fd);
	fd_close(w->loadavg);
	free(w);
}

struct ring_watch *ring_watch_new(unsigned n, unsigned cpus)
{
	struct ring_watch *w;

	if (sched_getscheduler(0) != SCHED_OTHER) {
		log_info("event=ring_class result=unchanged why=\"this daemon was started in a class of its own\"");
		return NULL;
	}
	if (posix_memalign((void **)&w, 64, sizeof(*w) + n * sizeof(w->of[0])))
		return NULL;
	memset(w, 0, sizeof(*w) + n * sizeof(w->of[0]));
	w->n = n;
	w->cpus = cpus;
	for (unsigned i = 0; i < n; i++)
		w->of[i].schedstat = w->of[i].stat = -1;
	w->bell_fd = eventfd(0, EFD_CLOEXEC);
	w->loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	w->started = w->bell_fd >= 0 && w->loadavg >= 0 && pthread_create(&w->thread, NULL, watch_main, w) == 0;
	if (!w->started) {
		log_info("event=ring_class result=unchanged why=\"no thread, no descriptor, or no /proc\"");
		ring_watch_free(w);
		return NULL;
	}
	return w;
}
