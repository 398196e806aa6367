/* Which CPUs a thread may use. */
#ifndef JFS_DAEMON_CPUS_H
#define JFS_DAEMON_CPUS_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

struct cpus;

/* Those that this thread may use: what whoever started the daemon has left it (taskset, systemd's CPUAffinity). On the heap. NULL:
 * cannot be told. */
struct cpus *cpus_allowed(void);
/* The set becomes what thread `tid` may use now. False: it cannot be told. */
bool cpus_read(struct cpus *c, pid_t tid);
void cpus_free(struct cpus *c); /* NULL-safe */
/* At least 1, also of NULL. */
unsigned cpus_count(const struct cpus *c);
/* Keeps thread `tid` (0: this one) to one CPU of the set. False: it is none of the set, or offline; nothing has changed. */
bool cpus_pin(const struct cpus *c, pid_t tid, unsigned cpu);
/* Threads that are made with it may use the whole set, whatever who makes them may. False: out of memory. */
bool cpus_for_threads(const struct cpus *c, pthread_attr_t *attr);
/* Lets the thread use the whole set. */
void cpus_unpin(const struct cpus *c, pid_t tid);

#endif
