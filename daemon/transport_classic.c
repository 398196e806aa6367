/* The classic transport: N threads, each reading /dev/fuse through a clone of the descriptor of its own, executing what
 * it read, and writing the reply itself unless the request went to a worker.
 *
 * Locking: `live` and the condition under `lock`; the routes' descriptors are written before the threads start. */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "daemon/transport.h"
#include "util/clock.h"
#include "util/log.h"

/* Interrupts a thread that is blocked in read(2) so that it sees `stop`. */
#define WAKE_SIGNAL SIGUSR2

struct classic_thread {
	struct transport *t;
	int route, fd;
	bool started, gone; /* gone: under lock */
	pthread_t tid;
};

struct classic {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned n, live;
	atomic_bool stop;
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

static void serve(struct classic *c, struct classic_thread *th, void *buf)
{
	while (!atomic_load(&c->stop) && !fuse_session_exited(th->t->se)) {
		ssize_t n = read(th->fd, buf, th->t->buf_size);

		if (n > 0) {
			transport_execute(th->t, th->route, buf, (size_t)n);
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

static void *thread_main(void *arg)
{
	struct classic_thread *th = arg;
	struct classic *c = th->t->impl;
	void *buf = NULL;

	pthread_setname_np(pthread_self(), "jfs-fuse");
	if (posix_memalign(&buf, 4096, th->t->buf_size) == 0)
		serve(c, th, buf);
	else
		log_error("event=fuse_thread error=\"out of memory\"");
	free(buf);
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
	pthread_mutex_lock(&c->lock);
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
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->lock);
	free(c);
	t->impl = NULL;
}

static int classic_start(struct transport *t, struct errmsg *e)
{
	struct classic *c = calloc(1, sizeof(*c) + t->cfg.threads * sizeof(c->th[0]));
	struct sigaction sa = { .sa_handler = wake_handler };
	pthread_condattr_t ca;
	int r = 0;

	if (!c)
		return errmsg_set(e, -ENOMEM, "out of memory");
	t->impl = c;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &ca);
	pthread_condattr_destroy(&ca);
	sigaction(WAKE_SIGNAL, &sa, NULL);
	for (unsigned i = 0; i < t->cfg.threads; i++) {
		struct classic_thread *th = &c->th[i];

		th->t = t;
		th->route = (int)i;
		th->fd = i == 0 ? t->fd : device_clone(t->fd);
		if (th->fd < 0) {
			log_warn("event=clone_fd error=\"%s\"", strerror(-th->fd));
			th->fd = t->fd;
		}
	}
	c->n = t->cfg.threads;
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
		errmsg_set(e, r, "cannot start threads: %s", strerror(-r));
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
