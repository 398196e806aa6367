/* See thread_class.h. */
#include "daemon/thread_class.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
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
/* Waits for its CPU, or for what a request waits for. The kernel counts the time on a CPU at its ticks: in CLASS_STUCK looks a thread
 * that runs is seen to. */
static bool stands_still(const struct class_look *a, const struct class_look *b)
{
	return a->requests == b->requests &&
	       (a->within || (a->runnable && a->turns == b->turns && a->ran_ns == b->ran_ns));
}

static bool is_amiss(struct class_state *c, const struct class_look *l)
{
	uint64_t turns = l->turns - c->last.turns, waited = l->waited_ns - c->last.waited_ns;

	c->stuck = c->idle && stands_still(l, &c->last) ? c->stuck + 1 : 0;
	return c->idle && (l->amiss || c->stuck >= CLASS_STUCK || waited > CLASS_WAIT_MS * MS * (turns ? turns : 1));
}

/* Stays ordinary for a while. */
static void hold(struct class_state *c, uint64_t now_ns)
{
	uint64_t stay = now_ns - c->since_ns;

	if (!c->hold_ns || stay >= CLASS_GOOD_MS * MS)
		c->hold_ns = CLASS_HOLD_MS * MS;
	else if (stay < CLASS_BAD_MS * MS)
		c->hold_ns = c->hold_ns * 2 < CLASS_HOLD_MAX_MS * MS ? c->hold_ns * 2 : CLASS_HOLD_MAX_MS * MS;
	c->not_before_ns = now_ns + c->hold_ns;
}

bool class_decide(struct class_state *c, const struct class_look *l)
{
	uint64_t requests = l->requests - c->last.requests, since = l->now_ns - c->last.now_ns;
	bool much = requests >= CLASS_BUSY, busy = much && since <= 4 * CLASS_LOOK_MS * MS, amiss = is_amiss(c, l);

	c->last = *l;
	c->quiet = much ? 0 : c->quiet + 1;
	if (amiss)
		hold(c, l->now_ns);
	if (c->idle) {
		c->idle = !amiss && !l->scarce && c->quiet < CLASS_QUIET;
	} else if (busy && !l->amiss && !l->scarce && l->now_ns >= c->not_before_ns) {
		c->idle = true;
		c->since_ns = l->now_ns;
	}
	return c->idle;
}

bool class_scarce(unsigned *wanted, unsigned running, unsigned cpus)
{
	unsigned now = running < 1000000 ? running * 64 : 64000000;

	*wanted = *wanted - *wanted / 16 + now / 16;
	return *wanted > cpus * 64 + 32;
}

/* --- a thread that is looked at --- */
static int class_set(pid_t tid, bool idle)
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

static int thread_file(pid_t tid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)tid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

void class_thread_init(struct class_thread *t, pid_t tid)
{
	*t = (struct class_thread){ .tid = tid, .schedstat = -1, .stat = -1 };
}

void class_thread_fini(struct class_thread *t)
{
	fd_close(t->schedstat);
	fd_close(t->stat);
	t->schedstat = t->stat = -1;
}

bool class_thread_see(struct class_thread *t, struct class_look *l)
{
	unsigned long long ran, waited, turns;
	char text[128], *state;

	if (t->schedstat < 0)
		t->schedstat = thread_file(t->tid, "schedstat");
	if (!text_of(t->schedstat, text, sizeof(text)) || sscanf(text, "%llu %llu %llu", &ran, &waited, &turns) != 3)
		return false;
	l->ran_ns = ran;
	l->waited_ns = waited;
	l->turns = turns;
	if (!t->state.idle || (l->requests != t->state.last.requests && !l->within))
		return true;
	if (t->stat < 0)
		t->stat = thread_file(t->tid, "stat");
	/* PID (NAME) STATE ...: our threads' names have no parenthesis. */
	if (!text_of(t->stat, text, sizeof(text)) || !(state = strchr(text, ')')) || state[1] != ' ')
		return false;
	l->runnable = state[2] == 'R';
	return true;
}

void class_thread_set(struct class_thread *t)
{
	static long long said;
	bool idle = t->state.idle;
	int r = class_set(t->tid, idle);

	if (r == 0)
		log_debug("event=thread_class tid=%d class=%s", (int)t->tid, idle ? "idle" : "ordinary");
	else if (log_ratelimit(&said, 60000))
		log_warn("event=thread_class tid=%d class=%s error=\"%s\"", (int)t->tid, idle ? "idle" : "ordinary", strerror(-r));
	t->state.idle = r == 0 ? idle : !idle && r != -ESRCH;
}

/* --- the thread that looks on --- */
struct class_watch {
	struct class_watcher watcher;
	unsigned cpus, wanted;
	int bell_fd, loadavg;
	pthread_t thread;
	atomic_int tid;
	bool started; /* the owner's */
	bool able;    /* to put a thread into a class and back; set before `tried` */
	sem_t tried;
	atomic_bool asleep, stop;
};

/* Threads that run or want to, everywhere, but for this one. */
static bool running(struct class_watch *w, unsigned *n)
{
	char text[128];
	unsigned all;

	if (!text_of(w->loadavg, text, sizeof(text)) || sscanf(text, "%*f %*f %*f %u/", &all) != 1)
		return false;
	*n = all ? all - 1 : 0;
	return true;
}

/* False: it cannot be told how many threads want a CPU. */
static bool look(struct class_watch *w, enum class_seen *seen)
{
	unsigned n;

	if (!running(w, &n))
		return false;
	*seen = w->watcher.look(w->watcher.arg, clock_mono_ns(), class_scarce(&w->wanted, n, w->cpus));
	return true;
}

static void wait_for_work(struct class_watch *w)
{
	uint64_t count;

	atomic_store(&w->asleep, true);
	while (!atomic_load(&w->stop) && read(w->bell_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	atomic_store(&w->asleep, false);
}

static void *watch_main(void *arg)
{
	struct class_watch *w = arg;
	struct pollfd p = { .fd = w->bell_fd, .events = POLLIN }; /* while it is awake only the stop rings */
	enum class_seen seen;
	bool sees = true;

	pthread_setname_np(pthread_self(), "jfs-class");
	/* Tried by a thread that is not needed if it cannot come back. */
	w->able = class_set(0, true) == 0 && class_set(0, false) == 0;
	atomic_store(&w->tid, gettid());
	sem_post(&w->tried);
	if (!w->able)
		return NULL;
	while (!atomic_load(&w->stop) && sees) {
		wait_for_work(w);
		w->wanted = w->cpus * 64;
		while (!atomic_load(&w->stop) && (sees = look(w, &seen)) && seen == CLASS_WORK)
			poll(&p, 1, CLASS_LOOK_MS);
	}
	if (!sees)
		log_warn("event=thread_class error=\"/proc/loadavg cannot be read\" note=\"all stay ordinary\"");
	w->watcher.end(w->watcher.arg);
	atomic_store(&w->tid, -1);
	return NULL;
}

static void bell(struct class_watch *w)
{
	uint64_t one = 1;

	if (write(w->bell_fd, &one, sizeof(one)) < 0)
		log_error("event=thread_class error=\"%s\"", strerror(errno));
}

pid_t class_watch_tid(const struct class_watch *w)
{
	return atomic_load(&w->tid);
}

void class_watch_knock(struct class_watch *w)
{
	if (atomic_load_explicit(&w->asleep, memory_order_relaxed) && atomic_exchange(&w->asleep, false))
		bell(w);
}

void class_watch_stop(struct class_watch *w)
{
	if (!w || !w->started)
		return;
	atomic_store(&w->stop, true);
	bell(w);
	pthread_join(w->thread, NULL);
	w->started = false;
}

void class_watch_free(struct class_watch *w)
{
	if (!w)
		return;
	class_watch_stop(w);
	fd_close(w->bell_fd);
	fd_close(w->loadavg);
	sem_destroy(&w->tried);
	free(w);
}

struct class_watch *class_watch_new(const struct class_watcher *watcher, unsigned cpus)
{
	struct class_watch *w;

	if (sched_getscheduler(0) != SCHED_OTHER) {
		log_info("event=thread_class result=unchanged why=\"this daemon was started in a class of its own\"");
		return NULL;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->watcher = *watcher;
	atomic_init(&w->tid, -1);
	w->cpus = cpus;
	w->bell_fd = eventfd(0, EFD_CLOEXEC);
	w->loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	sem_init(&w->tried, 0, 0);
	w->started = w->bell_fd >= 0 && w->loadavg >= 0 && pthread_create(&w->thread, NULL, watch_main, w) == 0;
	while (w->started && sem_wait(&w->tried))
		;
	if (!w->able) {
		log_info("event=thread_class result=unchanged why=\"%s\"",
			w->started ? "a thread may not leave SCHED_IDLE again here" : "no thread, no descriptor, or no /proc");
		class_watch_free(w);
		return NULL;
	}
	return w;
}
