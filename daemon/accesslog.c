/* See accesslog.h. `sinks` under lock; `watchers` lets everybody else skip the lock. */
#include "daemon/accesslog.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/req.h"
#include "util/clock.h"

struct accesslog {
	pthread_mutex_t lock;
	struct accesslog_sink *sinks;
	atomic_uint watchers;
};

struct accesslog *accesslog_new(void)
{
	struct accesslog *al = calloc(1, sizeof(*al));

	if (al)
		pthread_mutex_init(&al->lock, NULL);
	return al;
}

void accesslog_free(struct accesslog *al)
{
	if (!al)
		return;
	pthread_mutex_destroy(&al->lock);
	free(al);
}

void accesslog_watch(struct accesslog *al, struct accesslog_sink *sink)
{
	pthread_mutex_lock(&al->lock);
	sink->next = al->sinks;
	al->sinks = sink;
	atomic_fetch_add(&al->watchers, 1);
	pthread_mutex_unlock(&al->lock);
}

void accesslog_unwatch(struct accesslog *al, struct accesslog_sink *sink)
{
	pthread_mutex_lock(&al->lock);
	for (struct accesslog_sink **p = &al->sinks; *p; p = &(*p)->next) {
		if (*p == sink) {
			*p = sink->next;
			atomic_fetch_sub(&al->watchers, 1);
			break;
		}
	}
	pthread_mutex_unlock(&al->lock);
}

void accesslog_time(char *out, size_t size, uint64_t wall_ns)
{
	time_t sec = (time_t)(wall_ns / 1000000000);
	char day[32];
	struct tm tm;

	localtime_r(&sec, &tm);
	strftime(day, sizeof(day), "%Y.%m.%d %H:%M:%S", &tm);
	snprintf(out, size, "%s.%06u", day, (unsigned)(wall_ns % 1000000000 / 1000));
}

/* What the operation was about: "(1,foo)", "(12,0,4096)". */
static void format_args(char *out, size_t size, const struct req *r)
{
	int n = snprintf(out, size, "%llu", (unsigned long long)r->ino);
	size_t used = n > 0 ? (size_t)n : 0;

#define MORE(...)                                                                                                     \
	do {                                                                                                          \
		if (used < size && (n = snprintf(out + used, size - used, __VA_ARGS__)) > 0)                          \
			used += (size_t)n;                                                                            \
	} while (0)
	if (r->name)
		MORE(",%s", r->name);
	if (r->ino2)
		MORE(",%llu", (unsigned long long)r->ino2);
	if (r->name2)
		MORE(",%s", r->name2);
	if (r->op->stat == SO_READ || r->op->stat == SO_WRITE || r->op->stat == SO_COPY || r->op->stat == SO_READDIR)
		MORE(",%zu,%llu", r->size, (unsigned long long)r->off);
	if (r->op->stat == SO_SETATTR)
		MORE(",0x%x", r->set.valid);
	if (r->op->stat == SO_CREATE || r->op->stat == SO_MKDIR || r->op->stat == SO_MKNOD)
		MORE(",0%o", r->mode);
#undef MORE
}

void accesslog_add(struct accesslog *al, const struct req *r, int err)
{
	char when[48], args[700], line[900];
	uint64_t took;
	int n;

	if (atomic_load_explicit(&al->watchers, memory_order_relaxed) == 0)
		return;
	took = clock_mono_ns() - r->started_ns;
	accesslog_time(when, sizeof(when), clock_wall_ns());
	format_args(args, sizeof(args), r);
	n = snprintf(line, sizeof(line), "%s [uid:%u,gid:%u,pid:%u] %s (%s) - %s <%llu.%06llu>\n", when, r->cred.uid,
		r->cred.gid, r->cred.pid, stats_op_names[r->op->stat], args, err ? strerrordesc_np(-err) : "OK",
		(unsigned long long)(took / 1000000000), (unsigned long long)(took % 1000000000 / 1000));
	if (n <= 0 || (size_t)n >= sizeof(line))
		return;
	pthread_mutex_lock(&al->lock);
	for (struct accesslog_sink *s = al->sinks; s; s = s->next)
		s->line(s, line, (size_t)n);
	pthread_mutex_unlock(&al->lock);
}
