/* See worker.h. Everything is under `lock`; jobs run without it. */
#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cpus.h"
#include "util/clock.h"
#include "util/log.h"

enum { IDLE_MS = 10000 };

struct worker_pool {
	pthread_mutex_t lock;
	pthread_cond_t work; /* a job was queued, or closing */
	pthread_cond_t gone; /* a thread ended */
	pthread_attr_t attr; /* of its threads */
	struct worker_job *head, **tail;
	unsigned max, threads, idle, queued;
	bool closing;
	char name[16];
};

/* Takes a job or NULL when this thread is to end. Called and returns with the lock held. */
static struct worker_job *job_take(struct worker_pool *p)
{
	struct timespec until = clock_mono_after_ms(IDLE_MS);

	while (!p->head) {
		int r;

		if (p->closing)
			return NULL;
		p->idle++;
		r = pthread_cond_timedwait(&p->work, &p->lock, &until);
		p->idle--;
		if (r == ETIMEDOUT && !p->head)
			return NULL;
	}
	struct worker_job *job = p->head;

	p->head = job->next;
	if (!p->head)
		p->tail = &p->head;
	p->queued--;
	return job;
}

static void *worker_main(void *arg)
{
	struct worker_pool *p = arg;
	struct worker_job *job;

	pthread_setname_np(pthread_self(), p->name);
	pthread_mutex_lock(&p->lock);
	while ((job = job_take(p)) != NULL) {
		pthread_mutex_unlock(&p->lock);
		job->run(job);
		pthread_mutex_lock(&p->lock);
	}
	p->threads--;
	pthread_cond_broadcast(&p->gone);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Detached, and in this thread's scheduling class and on its CPUs: whoever submits a job may be in another one, and kept to one
 * (thread_class.h). */
static void attr_init(pthread_attr_t *attr, bool placed)
{
	struct sched_param param;
	struct cpus *cpus;
	int class;

	pthread_attr_init(attr);
	pthread_attr_setdetachstate(attr, PTHREAD_CREATE_DETACHED);
	if (!placed)
		return;
	cpus = cpus_allowed();
	if (pthread_getschedparam(pthread_self(), &class, &param) == 0 && pthread_attr_setschedpolicy(attr, class) == 0 &&
		pthread_attr_setschedparam(attr, &param) == 0)
		pthread_attr_setinheritsched(attr, PTHREAD_EXPLICIT_SCHED);
	cpus_for_threads(cpus, attr);
	cpus_free(cpus);
}

struct worker_pool *worker_pool_new(unsigned max, const char *name)
{
	struct worker_pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t ca;

	if (!p)
		return NULL;
	p->max = max;
	p->tail = &p->head;
	snprintf(p->name, sizeof(p->name), "%s", name);
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &ca);
	pthread_cond_init(&p->gone, &ca);
	pthread_condattr_destroy(&ca);
	attr_init(&p->attr, true);
	return p;
}

/* One more thread if jobs wait and none is idle to take them. False: there is no thread at all. Lock held. */
static bool pool_grow(struct worker_pool *p)
{
	pthread_t tid;
	int r;

	if (p->closing && p->threads == 0)
		return false;
	if (p->queued <= p->idle || p->threads >= p->max)
		return true;
	r = pthread_create(&tid, &p->attr, worker_main, p);
	if (r && r != EAGAIN) { /* who may not choose a class or CPUs (seccomp) has ordinary threads in any case */
		pthread_attr_destroy(&p->attr);
		attr_init(&p->attr, false);
		r = pthread_create(&tid, &p->attr, worker_main, p);
	}
	if (r == 0)
		p->threads++;
	else
		log_warn("event=worker_start pool=%s error=\"%s\"", p->name, strerror(r));
	return p->threads > 0;
}

void worker_submit(struct worker_pool *p, struct worker_job *job)
{
	bool ok;

	job->next = NULL;
	pthread_mutex_lock(&p->lock);
	p->queued++;
	ok = pool_grow(p);
	if (ok) {
		*p->tail = job;
		p->tail = &job->next;
		pthread_cond_signal(&p->work);
	} else {
		p->queued--;
	}
	pthread_mutex_unlock(&p->lock);
	if (!ok)
		job->run(job);
}

unsigned worker_backlog(struct worker_pool *p)
{
	unsigned n;

	pthread_mutex_lock(&p->lock);
	n = p->queued + p->threads - p->idle;
	pthread_mutex_unlock(&p->lock);
	return n;
}

void worker_pool_end(struct worker_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads)
		pthread_cond_wait(&p->gone, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void worker_pool_free(struct worker_pool *p)
{
	if (!p)
		return;
	worker_pool_end(p);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->gone);
	pthread_mutex_destroy(&p->lock);
	pthread_attr_destroy(&p->attr);
	free(p);
}
