/* See awake.h. */
#include "daemon/awake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"

#define DEVICE "/dev/cpu_dma_latency"
#define MS 1000000u

struct awake {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t thread;
	bool begun, stop; /* under lock */
	atomic_bool watching; /* the thread waits for a burst: requests are to look out for one */
	atomic_bool held;
	atomic_uint_fast64_t requests;
};

static __thread struct awake_burst my_burst;

/* --- decisions --- */
bool awake_begins(struct awake_burst *b, uint64_t now_ns)
{
	if (b->requests == 0 || now_ns - b->since_ns > (uint64_t)AWAKE_BEGIN_MS * MS)
		*b = (struct awake_burst){ .since_ns = now_ns };
	if (++b->requests < AWAKE_BEGIN)
		return false;
	b->requests = 0;
	return true;
}

enum awake_next awake_decide(uint64_t held_ns, uint64_t requests)
{
	if (requests < AWAKE_BEGIN)
		return AWAKE_LET_GO;
	return held_ns < (uint64_t)AWAKE_HELD_MS * MS ? AWAKE_GO_ON : AWAKE_TAKE_A_REST;
}

/* --- the device --- */
/* A descriptor that holds the latency at 0 while it is open; -errno. */
static int device_hold(void)
{
	int32_t us = 0;
	int fd = open(DEVICE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write(fd, &us, sizeof(us)) != sizeof(us)) {
		int err = errno ? -errno : -EIO;

		close(fd);
		return err;
	}
	return fd;
}

int awake_check(struct errmsg *e)
{
	int fd = device_hold();

	if (fd < 0)
		return errmsg_set(e, fd, "cannot keep CPUs from halting: " DEVICE ": %s (it takes root, and a kernel with this device)",
			strerror(-fd));
	close(fd);
	return 0;
}

/* --- the thread --- */
/* Sleeps up to `ms`; false: it is to end. [locked] */
static bool rest(struct awake *a, uint64_t ms)
{
	struct timespec until = clock_mono_after_ms(ms);

	while (!a->stop && pthread_cond_timedwait(&a->cond, &a->lock, &until) != ETIMEDOUT)
		;
	return !a->stop;
}

/* From the beginning of a burst to its end, or the end of patience. [locked] */
static enum awake_next burst(struct awake *a)
{
	uint64_t start = clock_mono_ns(), last = atomic_load(&a->requests);
	enum awake_next next = AWAKE_GO_ON;

	while (next == AWAKE_GO_ON && rest(a, AWAKE_LOOK_MS)) {
		uint64_t n = atomic_load(&a->requests);

		next = awake_decide(clock_mono_ns() - start, n - last);
		last = n;
	}
	return next;
}

/* [locked] */
static void hold(struct awake *a)
{
	static long long said;
	enum awake_next next;
	int fd = device_hold();

	if (fd < 0) {
		if (log_ratelimit(&said, 60000))
			log_warn("event=poll error=\"" DEVICE ": %s\"", strerror(-fd));
		rest(a, AWAKE_REST_MS);
		return;
	}
	atomic_store(&a->held, true);
	next = burst(a);
	close(fd);
	atomic_store(&a->held, false);
	if (next == AWAKE_TAKE_A_REST)
		rest(a, AWAKE_REST_MS);
}

static void *awake_main(void *arg)
{
	struct awake *a = arg;

	pthread_setname_np(pthread_self(), "jfs-awake");
	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		a->begun = false;
		atomic_store(&a->watching, true);
		while (!a->begun && !a->stop)
			pthread_cond_wait(&a->cond, &a->lock);
		atomic_store(&a->watching, false);
		if (!a->stop)
			hold(a);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

void awake_note(struct awake *a)
{
	if (!a)
		return;
	atomic_fetch_add_explicit(&a->requests, 1, memory_order_relaxed);
	if (!atomic_load_explicit(&a->watching, memory_order_relaxed) || !awake_begins(&my_burst, clock_mono_ns()))
		return;
	pthread_mutex_lock(&a->lock);
	a->begun = true;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
}

bool awake_held(const struct awake *a)
{
	return a && atomic_load(&a->held);
}

int awake_new(struct awake **out, struct errmsg *e)
{
	pthread_condattr_t ca;
	struct awake *a;
	int r = awake_check(e);

	if (r)
		return r;
	a = calloc(1, sizeof(*a));
	if (!a)
		return errmsg_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&a->cond, &ca);
	pthread_condattr_destroy(&ca);
	r = -pthread_create(&a->thread, NULL, awake_main, a);
	if (r) {
		pthread_cond_destroy(&a->cond);
		pthread_mutex_destroy(&a->lock);
		free(a);
		return errmsg_set(e, r, "cannot start a thread: %s", strerror(-r));
	}
	*out = a;
	return 0;
}

void awake_free(struct awake *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->cond);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
