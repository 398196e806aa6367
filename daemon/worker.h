/* Threads for what may wait: network, sync, room. A pool grows to `max` threads as jobs queue up and shrinks when they
 * have been idle for ten seconds. Several pools are used (daemon/req.h), so that writers who wait can never occupy the
 * threads that an unlink needs. */
#ifndef JFS_DAEMON_WORKER_H
#define JFS_DAEMON_WORKER_H

struct worker_pool;

/* Embed it as the first member of what is to be done. */
struct worker_job {
	struct worker_job *next;
	void (*run)(struct worker_job *job); /* in a worker; owns the job from here on */
};

/* Its threads will be in the caller's scheduling class and on its CPUs, whoever submits. NULL: out of memory. */
struct worker_pool *worker_pool_new(unsigned max, const char *name);
/* Never blocks. Jobs start in order. If no thread can be started at all the job runs in the caller. */
void worker_submit(struct worker_pool *p, struct worker_job *job);
/* Jobs that are queued or running. */
unsigned worker_backlog(struct worker_pool *p);
/* Runs what is queued and waits for all; what is submitted from then on runs in the caller. Whoever blocks jobs must have
 * been cancelled before. NULL-safe. */
void worker_pool_end(struct worker_pool *p);
/* Ends it, and frees. Jobs may submit to another pool: end all before the first is freed. NULL-safe. */
void worker_pool_free(struct worker_pool *p);

#endif
