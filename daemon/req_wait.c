/* Requests that wait, and callers that are killed meanwhile (req.h).
 *
 * The kernel sends one INTERRUPT for the first signal of a waiting caller, whatever the signal, and none for a SIGKILL
 * that follows. So a request whose caller was interrupted is put on a list, and one thread looks, at once and then every
 * second, whether it is being killed by now; there is no event for that. The list is nearly always empty.
 *
 * Who answers a request is decided by one exchange of r->waiting: WAIT_ON -> WAIT_NONE (its owner, as usual) or
 * WAIT_ON -> WAIT_INTERRUPTED (we, with EINTR). After the latter only the owner touches r, and only to free it. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/req.h"
#include "daemon/transport.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOOK_MS = 1000 };

enum req_wait {
	WAIT_NONE = 0,	  /* somebody executes or answers it */
	WAIT_ON,	  /* it waits */
	WAIT_INTERRUPTED, /* it has been answered */
};

/* Is a SIGKILL, or what the kernel turns into one, pending for this thread? */
static bool thread_is_dying(uint32_t tid)
{
	char path[64], line[256];
	unsigned long long pending = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/status", tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "SigPnd:", 7) == 0 || strncmp(line, "ShdPnd:", 7) == 0)
			pending |= strtoull(line + 7, NULL, 16);
	fclose(f);
	return pending & 1ull << (SIGKILL - 1);
}

static bool take(struct req *r)
{
	int expected = WAIT_ON;

	return atomic_compare_exchange_strong(&r->waiting, &expected, WAIT_INTERRUPTED);
}

static void answer(fuse_req_t q, int route)
{
	int mine = transport_route();

	transport_set_route(route);
	fuse_reply_err(q, EINTR);
	transport_set_route(mine);
}

/* Takes one request whose caller is being killed off the list. intr_lock held. */
static bool next_dying(struct session *s, fuse_req_t *q, int *route)
{
	for (struct req **p = &s->intr_list; *p; p = &(*p)->intr_next) {
		struct req *r = *p;

		if (!thread_is_dying(r->cred.pid))
			continue;
		/* Refused while its owner does not wait: it will answer, or begin to wait. */
		if (!take(r))
			continue;
		*q = r->q;
		*route = r->route;
		*p = r->intr_next;
		r->intr_listed = false;
		return true;
	}
	return false;
}

static void *look_main(void *arg)
{
	struct session *s = arg;
	fuse_req_t q;
	int route;

	pthread_setname_np(pthread_self(), "jfs-intr");
	pthread_mutex_lock(&s->intr_lock);
	while (!s->intr_stop) {
		struct timespec until = clock_mono_after_ms(LOOK_MS);

		if (s->intr_list)
			pthread_cond_timedwait(&s->intr_cond, &s->intr_lock, &until);
		else
			pthread_cond_wait(&s->intr_cond, &s->intr_lock);
		while (!s->intr_stop && next_dying(s, &q, &route)) {
			pthread_mutex_unlock(&s->intr_lock);
			answer(q, route);
			pthread_mutex_lock(&s->intr_lock);
		}
	}
	pthread_mutex_unlock(&s->intr_lock);
	return NULL;
}

static void list_add(struct req *r)
{
	struct session *s = r->s;

	pthread_mutex_lock(&s->intr_lock);
	if (!r->intr_listed) {
		r->intr_listed = true;
		r->intr_next = s->intr_list;
		s->intr_list = r;
		pthread_cond_signal(&s->intr_cond);
	}
	pthread_mutex_unlock(&s->intr_lock);
}

static void list_remove(struct req *r)
{
	struct session *s = r->s;

	pthread_mutex_lock(&s->intr_lock);
	for (struct req **p = &s->intr_list; r->intr_listed && *p; p = &(*p)->intr_next) {
		if (*p == r) {
			*p = r->intr_next;
			break;
		}
	}
	r->intr_listed = false;
	pthread_mutex_unlock(&s->intr_lock);
}

/* libfuse calls it with its lock of the request held, also from within fuse_req_interrupt_func: then an answer would free
 * the lock under its feet. So it only notes the request; r is valid, since wait_end waits for that lock. */
static void on_interrupt(fuse_req_t q, void *data)
{
	(void)q;
	list_add(data);
}

void wait_begin(struct req *r)
{
	struct session *s = r->s;

	fuse_req_interrupt_func(r->q, on_interrupt, r);
	atomic_store(&r->waiting, WAIT_ON);
	pthread_mutex_lock(&s->intr_lock);
	if (r->intr_listed)
		pthread_cond_signal(&s->intr_cond);
	pthread_mutex_unlock(&s->intr_lock);
}

bool wait_end(struct req *r)
{
	int expected = WAIT_ON;

	bool ours = atomic_compare_exchange_strong(&r->waiting, &expected, WAIT_NONE);

	if (ours)
		fuse_req_interrupt_func(r->q, NULL, NULL);
	list_remove(r);
	return ours;
}

int waits_init(struct session *s)
{
	pthread_condattr_t ca;
	int r;

	pthread_mutex_init(&s->intr_lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&s->intr_cond, &ca);
	pthread_condattr_destroy(&ca);
	r = -pthread_create(&s->intr_thread, NULL, look_main, s);
	s->intr_started = r == 0;
	return r;
}

void waits_stop(struct session *s)
{
	pthread_mutex_lock(&s->intr_lock);
	s->intr_stop = true;
	pthread_cond_signal(&s->intr_cond);
	pthread_mutex_unlock(&s->intr_lock);
	if (s->intr_started)
		pthread_join(s->intr_thread, NULL);
	s->intr_started = false;
}

void waits_fini(struct session *s)
{
	pthread_cond_destroy(&s->intr_cond);
	pthread_mutex_destroy(&s->intr_lock);
}
