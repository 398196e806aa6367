/* See gate.h. */
#include "daemon/gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/log.h"

#define BURST_NS 20000000u /* how far a lane's pace may lag behind the clock */

struct lane {
	_Atomic int state; /* enum budget_state; written under lock */
	struct gate_wait *head, **tail;
	uint64_t next_ns; /* slow: when the next one may go */
};

struct gate {
	struct gate_config cfg;
	_Atomic int64_t room; /* bytes that writers may take before the next measurement */
	_Atomic bool active;  /* something passed since the last measurement */
	bool started;	      /* the owner's; not beside flags that the thread reads, which takes them in one word */
	pthread_t thread;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t cond;  /* CLOCK_MONOTONIC */
	bool stop, kicked;
	struct lane lane[2]; /* GATE_META - 1, GATE_DATA - 1 */
	struct gate_figures f;
};

static struct lane *lane_of(struct gate *g, enum gate_lane l)
{
	return &g->lane[l - 1];
}

static void wake(struct gate *g, bool kicked)
{
	pthread_mutex_lock(&g->lock);
	g->kicked |= kicked;
	pthread_cond_signal(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

bool gate_pass(struct gate *g, enum gate_lane lane, uint64_t bytes)
{
	if (!g || lane == GATE_NONE)
		return true;
	if (!atomic_load_explicit(&g->active, memory_order_relaxed) && !atomic_exchange(&g->active, true))
		wake(g, false);
	if (atomic_load_explicit(&lane_of(g, lane)->state, memory_order_relaxed) != BUDGET_FREE)
		return false;
	return lane != GATE_DATA || atomic_fetch_sub_explicit(&g->room, (int64_t)bytes, memory_order_relaxed) > 0;
}

void gate_park(struct gate *g, enum gate_lane lane, struct gate_wait *w)
{
	struct lane *l = lane_of(g, lane);

	w->next = NULL;
	pthread_mutex_lock(&g->lock);
	bool gone = g->stop;
	if (!gone) {
		*l->tail = w;
		l->tail = &w->next;
		g->f.waiting++;
		g->f.waited++;
		g->kicked |= l->state == BUDGET_FREE; /* the room was used up: measure now */
		pthread_cond_signal(&g->cond);
	}
	pthread_mutex_unlock(&g->lock);
	if (gone)
		w->go(w, -EIO);
}

void gate_kick(struct gate *g)
{
	if (g)
		wake(g, true);
}

/* Called with the lock held, given back meanwhile. */
static void measure(struct gate *g)
{
	struct budget_in in = { .pressing = g->f.out.pressing };
	struct budget_out out;
	bool open;

	g->kicked = false;
	pthread_mutex_unlock(&g->lock);
	atomic_store(&g->active, false);
	open = !g->cfg.measure(g->cfg.ctx, &in);
	budget_decide(&in, &out);
	if (open)
		out.data = out.meta = BUDGET_FREE;
	g->cfg.act(g->cfg.ctx, &out);
	pthread_mutex_lock(&g->lock);
	if (out.data != g->f.out.data || out.meta != g->f.out.meta)
		log_info("event=budget state=\"%s\" what=%s staged=%llu limit=%llu log=%llu log_limit=%llu",
			budget_state_name(out.data), budget_what_name(out.what), (unsigned long long)in.staged,
			(unsigned long long)out.limit, (unsigned long long)in.log, (unsigned long long)out.log_limit);
	g->f.in = in;
	g->f.out = out;
	atomic_store(&g->room, out.data == BUDGET_FREE && (open || !out.room) ? INT64_MAX / 2 : (int64_t)out.room);
	atomic_store(&lane_of(g, GATE_DATA)->state, (int)out.data);
	atomic_store(&lane_of(g, GATE_META)->state, (int)out.meta);
}

static struct gate_wait *take(struct gate *g, struct lane *l)
{
	struct gate_wait *w = l->head;

	l->head = w->next;
	if (!l->head)
		l->tail = &l->head;
	g->f.waiting--;
	return w;
}

/* The head of the lane if it may go now; else *at says when to look, if ever by itself. */
static struct gate_wait *next_to_go(struct gate *g, enum gate_lane lane, uint64_t now, uint64_t *at)
{
	uint64_t rate = lane == GATE_DATA ? g->f.out.data_rate : g->f.out.meta_rate;
	struct lane *l = lane_of(g, lane);
	struct gate_wait *w = l->head;

	if (!w || l->state == BUDGET_FULL)
		return NULL;
	if (l->state == BUDGET_FREE) {
		/* The room that was counted bounds this too; the first one always goes. */
		if (lane == GATE_DATA && atomic_fetch_sub(&g->room, (int64_t)w->bytes) <= 0) {
			g->kicked = true;
			return NULL;
		}
		return take(g, l);
	}
	if (l->next_ns > now) {
		*at = *at && *at < l->next_ns ? *at : l->next_ns;
		return NULL;
	}
	if (lane == GATE_DATA && atomic_load(&g->room) <= 0) {
		g->kicked = true;
		return NULL;
	}
	if (l->next_ns + BURST_NS < now)
		l->next_ns = now - BURST_NS;
	l->next_ns += (w->bytes + BUDGET_OP_COST) * 1000000000u / rate;
	if (lane == GATE_DATA)
		atomic_fetch_sub(&g->room, (int64_t)w->bytes);
	return take(g, l);
}

/* One of those for whom waiting is hopeless. */
static struct gate_wait *next_orphan(struct gate *g)
{
	struct lane *l = lane_of(g, GATE_DATA);

	if (!g->f.out.orphans_end || l->state != BUDGET_FULL)
		return NULL;
	for (struct gate_wait **p = &l->head; *p; p = &(*p)->next) {
		struct gate_wait *w = *p;

		if (!g->cfg.is_orphan(g->cfg.ctx, w->ino))
			continue;
		*p = w->next;
		if (l->tail == &w->next)
			l->tail = p;
		g->f.waiting--;
		return w;
	}
	return NULL;
}

static void let_go(struct gate *g, struct gate_wait *w, int err)
{
	pthread_mutex_unlock(&g->lock);
	w->go(w, err);
	pthread_mutex_lock(&g->lock);
}

/* When to look again by itself, monotonic ns; 0: never. */
static uint64_t release(struct gate *g)
{
	uint64_t now = clock_mono_ns(), at = 0;
	struct gate_wait *w;

	while ((w = next_orphan(g)) != NULL)
		let_go(g, w, -ENOSPC);
	for (enum gate_lane lane = GATE_META; lane <= GATE_DATA; lane++)
		while (!g->kicked && (w = next_to_go(g, lane, now, &at)) != NULL)
			let_go(g, w, 0);
	return at;
}

static void sleep_until(struct gate *g, uint64_t ns)
{
	uint64_t now = clock_mono_ns(), ms = ns > now ? (ns - now + 999999) / 1000000 : 1;
	struct timespec until = clock_mono_after_ms(ms);

	pthread_cond_timedwait(&g->cond, &g->lock, &until);
}

static void *gate_main(void *arg)
{
	struct gate *g = arg;
	uint64_t measured = 0;

	pthread_setname_np(pthread_self(), "jfs-gate");
	pthread_mutex_lock(&g->lock);
	while (!g->stop) {
		uint64_t now = clock_mono_ns(), tick = measured + GATE_TICK_MS * 1000000ull, at;
		bool busy = g->f.waiting || g->f.out.pressing || atomic_load(&g->active);

		if (!measured || g->kicked || (busy && now >= tick)) {
			measured = now;
			measure(g);
			continue;
		}
		at = release(g);
		if (g->stop || g->kicked)
			continue;
		busy = g->f.waiting || g->f.out.pressing || atomic_load(&g->active);
		if (busy)
			sleep_until(g, at && at < tick ? at : tick);
		else
			pthread_cond_wait(&g->cond, &g->lock);
	}
	while (lane_of(g, GATE_META)->head)
		let_go(g, take(g, lane_of(g, GATE_META)), -EIO);
	while (lane_of(g, GATE_DATA)->head)
		let_go(g, take(g, lane_of(g, GATE_DATA)), -EIO);
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

int gate_new(const struct gate_config *cfg, struct gate **out)
{
	struct gate *g = calloc(1, sizeof(*g));
	pthread_condattr_t attr;
	int rc;

	if (!g)
		return -ENOMEM;
	g->cfg = *cfg;
	for (int i = 0; i < 2; i++)
		g->lane[i].tail = &g->lane[i].head;
	pthread_mutex_init(&g->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->cond, &attr);
	pthread_condattr_destroy(&attr);
	rc = -pthread_create(&g->thread, NULL, gate_main, g);
	g->started = rc == 0;
	if (rc) {
		gate_free(g);
		return rc;
	}
	*out = g;
	return 0;
}

bool gate_pressing(struct gate *g)
{
	bool p = false;

	if (g) {
		pthread_mutex_lock(&g->lock);
		p = g->f.out.pressing;
		pthread_mutex_unlock(&g->lock);
	}
	return p;
}

void gate_figures(struct gate *g, struct gate_figures *out)
{
	memset(out, 0, sizeof(*out));
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	*out = g->f;
	pthread_mutex_unlock(&g->lock);
}

void gate_stop(struct gate *g)
{
	if (!g || !g->started)
		return;
	pthread_mutex_lock(&g->lock);
	g->stop = true;
	pthread_cond_signal(&g->cond);
	pthread_mutex_unlock(&g->lock);
	pthread_join(g->thread, NULL);
	g->started = false;
	/* What still comes passes. */
	for (int i = 0; i < 2; i++)
		atomic_store(&g->lane[i].state, BUDGET_FREE);
	atomic_store(&g->room, INT64_MAX / 2);
}

void gate_free(struct gate *g)
{
	if (!g)
		return;
	gate_stop(g);
	pthread_cond_destroy(&g->cond);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
