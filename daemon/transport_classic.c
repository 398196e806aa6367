/* The classic transport: N threads, each reading /dev/fuse through a clone of the descriptor of its own, executing what
 * it read, and writing the reply itself unless the request went to a worker.
 *
 * With --poll one thread at a time reads, the reader, and during a burst it looks for the next request for SPIN_NS before it
 * sleeps. It must be alone: the kernel wakes a thread that sleeps in read(2) for each request, also where another has it already.
 * A reader may come to sleep in a system call (staging a write): while requests come, another thread looks every WATCH_MS whether
 * the reader gets on, and reads in its stead if not. Without requests all sleep without a time limit.
 *
 * Locking: what struct classic says; the routes' descriptors are written before the threads start. */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "daemon/awake.h"
#include "daemon/follow.h"
#include "daemon/transport.h"
#include "util/clock.h"
#include "util/log.h"

/* Interrupts a thread that is blocked in read(2) so that it sees `stop`. */
#define WAKE_SIGNAL SIGUSR2

enum { SPIN_NS = 50000, WATCH_MS = 2, NOBODY = -1 };

struct classic_thread {
	struct transport *t;
	int route, fd;
	bool started, gone; /* gone: under lock */
	pthread_t tid;
};

struct classic {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned n, live; /* live: under lock */
	atomic_bool stop;
	struct follow *follow; /* or NULL; not with --poll */
	/* with --poll; changed under lock */
	pthread_cond_t turn; /* for who does not read */
	atomic_int reader;   /* its route, or NOBODY */
	bool asleep;	     /* the reader waits for a request */
	bool busy;	     /* requests come: somebody is to watch */
	bool watched;	     /* somebody does */
	atomic_uint done;    /* requests by readers; without lock */
	struct classic_thread th[];
};

static void wake_handler(int sig)
{
	(void)sig;
}

static int device_clone(int fd)
{
	uint32_t src = (uint32_t)fd;
	int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (clone < 0)
		return -errno;
	if (ioctl(clone, FUSE_DEV_IOC_CLONE, &src) < 0) {
		int err = -errno;

		close(clone);
		return err;
	}
	return clone;
}

static void note_caller(struct classic *c, struct classic_thread *th, const void *buf, size_t len)
{
	const struct fuse_in_header *in = buf;

	bool caller = len >= sizeof(*in) && in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT;

	follow_note(c->follow, (unsigned)th->route, caller ? in->pid : FOLLOW_KERNEL);
}

static void serve(struct classic *c, struct classic_thread *th, void *buf)
{
	while (!atomic_load(&c->stop) && !fuse_session_exited(th->t->se)) {
		follow_turn(c->follow, (unsigned)th->route);

		ssize_t n = read(th->fd, buf, th->t->buf_size);

		if (n > 0) {
			note_caller(c, th, buf, (size_t)n);
			transport_execute(th->t, th->route, buf, (size_t)n, NULL, 0);
			continue;
		}
		/* ENOENT: the request was interrupted before we got it. */
		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < 0 && errno != ENODEV)
			log_error("event=fuse_read error=\"%s\"", strerror(errno));
		return;
	}
}

/* --- in turns (--poll) --- */
/* One look after the reader; true: it is stuck, or nobody reads. [locked] */
static bool watch(struct classic *c)
{
	struct timespec until = clock_mono_after_ms(WATCH_MS);
	unsigned before = atomic_load(&c->done);
	bool still;

	c->watched = true;
	while (!atomic_load(&c->stop) && atomic_load(&c->reader) != NOBODY &&
		pthread_cond_timedwait(&c->turn, &c->lock, &until) != ETIMEDOUT)
		;
	c->watched = false;
	still = atomic_load(&c->done) == before;
	if (still && c->asleep)
		c->busy = false;
	return atomic_load(&c->reader) == NOBODY || (still && !c->asleep);
}

/* Waits until this thread is the reader; false: it is to leave. */
static bool turn_take(struct classic *c, struct classic_thread *th)
{
	bool mine = false;

	pthread_mutex_lock(&c->lock);
	while (!mine && !atomic_load(&c->stop)) {
		mine = atomic_load(&c->reader) == NOBODY || (c->busy && !c->watched && watch(c));
		if (!mine && (!c->busy || c->watched))
			pthread_cond_wait(&c->turn, &c->lock);
	}
	if (mine) {
		atomic_store(&c->reader, th->route);
		c->asleep = false;
		pthread_cond_signal(&c->turn); /* another one is to watch now */
	}
	pthread_mutex_unlock(&c->lock);
	return mine;
}

static void turn_leave(struct classic *c, struct classic_thread *th)
{
	pthread_mutex_lock(&c->lock);
	if (atomic_load(&c->reader) == th->route)
		atomic_store(&c->reader, NOBODY);
	pthread_cond_broadcast(&c->turn);
	pthread_mutex_unlock(&c->lock);
}

static void await_request(struct classic *c, struct classic_thread *th)
{
	struct pollfd p = { .fd = th->fd, .events = POLLIN };
	bool mine;

	pthread_mutex_lock(&c->lock);
	mine = atomic_load(&c->reader) == th->route;
	c->asleep |= mine;
	pthread_mutex_unlock(&c->lock);
	if (!mine)
		return;
	poll(&p, 1, -1);
	pthread_mutex_lock(&c->lock);
	c->asleep = false;
	c->busy = true;
	if (!c->watched)
		pthread_cond_signal(&c->turn);
	pthread_mutex_unlock(&c->lock);
}

/* Reads until another thread has taken over. False: the connection is closed. */
static bool read_on(struct classic *c, struct classic_thread *th, void *buf)
{
	struct transport *t = th->t;
	uint64_t until = 0;

	while (atomic_load(&c->reader) == th->route && !atomic_load(&c->stop) && !fuse_session_exited(t->se)) {
		ssize_t n = read(th->fd, buf, t->buf_size);

		if (n > 0) {
			transport_execute(t, th->route, buf, (size_t)n, NULL, 0);
			atomic_fetch_add(&c->done, 1);
			until = awake_held(t->awake) ? clock_mono_ns() + SPIN_NS : 0;
		} else if (n < 0 && errno == EAGAIN) {
			if (!until || clock_mono_ns() >= until)
				await_request(c, th);
		} else if (n == 0 || (errno != EINTR && errno != ENOENT)) {
			if (n < 0 && errno != ENODEV)
				log_error("event=fuse_read error=\"%s\"", strerror(errno));
			return false;
		}
	}
	return !fuse_session_exited(t->se);
}

static void serve_in_turns(struct classic *c, struct classic_thread *th, void *buf)
{
	while (turn_take(c, th) && read_on(c, th, buf))
		;
	turn_leave(c, th);
}

static void *thread_main(void *arg)
{
	struct classic_thread *th = arg;
	struct classic *c = th->t->impl;
	void *buf = NULL;

	pthread_setname_np(pthread_self(), "jfs-fuse");
	follow_join(c->follow, (unsigned)th->route);
	if (posix_memalign(&buf, 4096, th->t->buf_size) == 0)
		(th->t->awake ? serve_in_turns : serve)(c, th, buf);
	else
		log_error("event=fuse_thread error=\"out of memory\"");
	free(buf);
	follow_end(c->follow); /* the others are to see it, too */
	pthread_mutex_lock(&c->lock);
	th->gone = true;
	c->live--;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void classic_stop(struct transport *t)
{
	struct classic *c = t->impl;

	atomic_store(&c->stop, true);
	follow_end(c->follow);
	pthread_mutex_lock(&c->lock);
	pthread_cond_broadcast(&c->turn);
	while (c->live) {
		struct timespec until = clock_mono_after_ms(10);

		/* A signal that arrives between the test of `stop` and read(2) is lost: so again until it worked. */
		for (unsigned i = 0; i < c->n; i++)
			if (c->th[i].started && !c->th[i].gone)
				pthread_kill(c->th[i].tid, WAKE_SIGNAL);
		pthread_cond_timedwait(&c->cond, &c->lock, &until);
	}
	pthread_mutex_unlock(&c->lock);
}

static void classic_wait(struct transport *t)
{
	struct classic *c = t->impl;

	pthread_mutex_lock(&c->lock);
	while (c->live)
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static void classic_free(struct transport *t)
{
	struct classic *c = t->impl;

	if (!c)
		return;
	for (unsigned i = 0; i < c->n; i++) {
		if (c->th[i].started)
			pthread_join(c->th[i].tid, NULL);
		if (c->th[i].fd >= 0 && c->th[i].fd != t->fd)
			close(c->th[i].fd);
	}
	follow_free(c->follow);
	pthread_cond_destroy(&c->turn);
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->lock);
	free(c);
	t->impl = NULL;
}

static unsigned thread_count(unsigned asked)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return asked ? asked : cpus > 2 ? 2 * (unsigned)cpus : 4;
}

static int classic_start(struct transport *t, struct errmsg *e)
{
	unsigned n = thread_count(t->cfg.threads);
	struct classic *c = calloc(1, sizeof(*c) + n * sizeof(c->th[0]));
	struct sigaction sa = { .sa_handler = wake_handler };
	pthread_condattr_t ca;
	int r = 0;

	if (!c)
		return errmsg_set(e, -ENOMEM, "out of memory");
	t->impl = c;
	t->threads = n;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &ca);
	pthread_cond_init(&c->turn, &ca);
	atomic_init(&c->reader, NOBODY);
	pthread_condattr_destroy(&ca);
	sigaction(WAKE_SIGNAL, &sa, NULL);
	for (unsigned i = 0; i < n; i++) {
		struct classic_thread *th = &c->th[i];

		th->t = t;
		th->route = (int)i;
		th->fd = i == 0 ? t->fd : device_clone(t->fd);
		if (th->fd < 0) {
			log_warn("event=clone_fd error=\"%s\"", strerror(-th->fd));
			th->fd = t->fd;
		}
		if (t->awake && fcntl(th->fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
			r = -errno;
	}
	c->n = n;
	if (!t->awake)
		c->follow = follow_new(n, FOLLOW_OWN);
	for (unsigned i = 0; i < c->n && r == 0; i++) {
		pthread_mutex_lock(&c->lock);
		r = -pthread_create(&c->th[i].tid, NULL, thread_main, &c->th[i]);
		if (r == 0) {
			c->th[i].started = true;
			c->live++;
		}
		pthread_mutex_unlock(&c->lock);
	}
	if (r) {
		errmsg_set(e, r, "cannot start the classic transport: %s", strerror(-r));
		classic_stop(t);
		classic_free(t);
	}
	return r;
}

static ssize_t classic_reply(struct transport *t, int route, struct iovec *iov, int count)
{
	struct classic *c = t->impl;
	int fd = route >= 0 && (unsigned)route < c->n ? c->th[route].fd : t->fd;

	return writev(fd, iov, count);
}

const struct transport_ops transport_classic = {
	.name = "classic",
	.start = classic_start,
	.stop = classic_stop,
	.wait = classic_wait,
	.free = classic_free,
	.reply = classic_reply,
};
