/* Requests that wait, and callers that are killed meanwhile (req.h).
 *
 * The kernel sends one INTERRUPT for the first signal of a waiting caller, whatever the signal, and none for a SIGKILL
 * that follows; none at all for a direct read (it waits for it as for a request of its own), and over a ring none for a signal
 * that was there before the request (a killed process closes its files). So every request that waits is on a list, and one
 * thread looks, at once at those that were interrupted and every second at all of them, whether their callers are being killed
 * by now; there is no event for that. While nothing waits it sleeps.
 *
 * Who answers a request is decided by one exchange of r->waiting: WAIT_ON -> WAIT_NONE (its owner, as usual) or
 * WAIT_ON -> WAIT_INTERRUPTED (we, with EINTR). The owner then waits for WAIT_ANSWERED: from there on libfuse does not call
 * on_interrupt with r any more, and r is the owner's alone, to be freed. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/caller.h"
#include "daemon/req.h"
#include "daemon/transport.h"
#include "util/clock.h"
#include "util/log.h"

enum { LOOK_MS = 1000 };

enum req_wait {
	WAIT_NONE = 0,	  /* somebody executes or answers it */
	WAIT_ON,	  /* it waits */
	WAIT_INTERRUPTED, /* it is being answered for its owner */
	WAIT_ANSWERED,
};

static bool take(struct req *r)
{
	int expected = WAIT_ON;

	return atomic_compare_exchange_strong(&r->waiting, &expected, WAIT_INTERRUPTED);
}

static void answer(struct req *r)
{
	int mine = transport_route();

	fuse_req_interrupt_func(r->q, NULL, NULL); /* waits for a call that is on its way */
	transport_set_route(r->route);
	fuse_reply_err(r->q, EINTR);
	transport_set_route(mine);
}

/* Takes one request whose caller is being killed off the list. intr_lock held. */
static struct req *next_dying(struct session *s)
{
	for (struct req **p = &s->intr_list; *p; p = &(*p)->intr_next) {
		struct req *r = *p;

		if (!caller_is_dying(r->cred.pid))
			continue;
		/* Refused while its owner does not wait: it will answer, or begin to wait. */
		if (!take(r))
			continue;
		*p = r->intr_next;
		r->intr_listed = false;
		return r;
	}
	return NULL;
}

/* Until somebody is to be looked at: at once when that was asked for, else a second after the list got its first. intr_lock
 * held. */
static void look_wait(struct session *s)
{
	struct timespec until;
	int r = 0;

	s->intr_idle = true;
	while (!s->intr_stop && !s->intr_look && !s->intr_list && !s->intr_added)
		pthread_cond_wait(&s->intr_cond, &s->intr_lock);
	s->intr_idle = false;
	until = clock_mono_after_ms(LOOK_MS);
	while (!s->intr_stop && !s->intr_look && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&s->intr_cond, &s->intr_lock, &until);
	s->intr_look = s->intr_added = false;
}

static void *look_main(void *arg)
{
	struct session *s = arg;
	struct req *r;

	pthread_setname_np(pthread_self(), "jfs-intr");
	pthread_mutex_lock(&s->intr_lock);
	while (!s->intr_stop) {
		look_wait(s);
		while (!s->intr_stop && (r = next_dying(s)) != NULL) {
			pthread_mutex_unlock(&s->intr_lock);
			answer(r);
			pthread_mutex_lock(&s->intr_lock);
			atomic_store(&r->waiting, WAIT_ANSWERED);
			pthread_cond_broadcast(&s->intr_answered);
		}
	}
	pthread_mutex_unlock(&s->intr_lock);
	return NULL;
}

static void list_add(struct req *r, bool look)
{
	struct session *s = r->s;

	pthread_mutex_lock(&s->intr_lock);
	if (!r->intr_listed) {
		r->intr_listed = true;
		r->intr_next = s->intr_list;
		s->intr_list = r;
	}
	/* Most waits are over long before the second is: the thread sleeps on through them. */
	s->intr_added = true;
	s->intr_look |= look;
	if (look || s->intr_idle)
		pthread_cond_signal(&s->intr_cond);
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
	list_add(data, true);
}

void wait_begin(struct req *r)
{
	struct session *s = r->s;
	bool listed;

	fuse_req_interrupt_func(r->q, on_interrupt, r);
	atomic_store(&r->waiting, WAIT_ON);
	pthread_mutex_lock(&s->intr_lock);
	listed = r->intr_listed;
	pthread_mutex_unlock(&s->intr_lock);
	list_add(r, listed);
}

bool wait_end(struct req *r)
{
	int expected = WAIT_ON;

	bool ours = atomic_compare_exchange_strong(&r->waiting, &expected, WAIT_NONE);

	if (ours) {
		fuse_req_interrupt_func(r->q, NULL, NULL);
	} else {
		pthread_mutex_lock(&r->s->intr_lock);
		while (atomic_load(&r->waiting) != WAIT_ANSWERED)
			pthread_cond_wait(&r->s->intr_answered, &r->s->intr_lock);
		pthread_mutex_unlock(&r->s->intr_lock);
	}
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
	pthread_cond_init(&s->intr_answered, NULL);
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
	pthread_cond_destroy(&s->intr_answered);
	pthread_mutex_destroy(&s->intr_lock);
}
