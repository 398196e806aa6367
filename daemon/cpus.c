/* See cpus.h. */
#include "daemon/cpus.h"

#include <sched.h>
#include <stdlib.h>

enum { CPUS_MAX = 1 << 16 }; /* more than any kernel has */

struct cpus {
	cpu_set_t *set;
};

static size_t set_size(void)
{
	return CPU_ALLOC_SIZE(CPUS_MAX);
}

struct cpus *cpus_allowed(void)
{
	struct cpus *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->set = CPU_ALLOC(CPUS_MAX);
	if (!c->set || !cpus_read(c, 0)) {
		cpus_free(c);
		return NULL;
	}
	return c;
}

bool cpus_read(struct cpus *c, pid_t tid)
{
	return sched_getaffinity(tid, set_size(), c->set) >= 0;
}

void cpus_free(struct cpus *c)
{
	if (!c)
		return;
	if (c->set)
		CPU_FREE(c->set);
	free(c);
}

unsigned cpus_count(const struct cpus *c)
{
	int n = c ? CPU_COUNT_S(set_size(), c->set) : 1;

	return n > 0 ? (unsigned)n : 1;
}

bool cpus_pin(const struct cpus *c, pid_t tid, unsigned cpu)
{
	cpu_set_t *one;
	bool done;

	if (!c || cpu >= CPUS_MAX || !CPU_ISSET_S(cpu, set_size(), c->set))
		return false;
	one = CPU_ALLOC(CPUS_MAX);
	if (!one)
		return false;
	CPU_ZERO_S(set_size(), one);
	CPU_SET_S(cpu, set_size(), one);
	/* It may go offline at any time: then the kernel moves the thread. */
	done = sched_setaffinity(tid, set_size(), one) == 0;
	CPU_FREE(one);
	return done;
}

bool cpus_for_threads(const struct cpus *c, pthread_attr_t *attr)
{
	return c && pthread_attr_setaffinity_np(attr, set_size(), c->set) == 0;
}

void cpus_unpin(const struct cpus *c, pid_t tid)
{
	if (c)
		sched_setaffinity(tid, set_size(), c->set);
}
