/* Threads for what may wait: network, sync, room. A pool grows to `max` threads as jobs queue up and shrinks when they
 * have been idle for ten seconds. Two pools are used (daemon/session.c), so that writers who wait for room can never
 * occupy the threads that an unlink needs. */
#ifndef JFS_DAEMON_WORKER_H
#define JFS_DAEMON_WORKER_H

struct worker_pool;

/* Embed it as the first member of what is to be done. */
struct worker_job {
	struct worker_job *next;
	void (*run)(struct worker_job *job); /* in a worker; owns the job from here on */
};

struct worker_pool *worker_pool_new(unsigned max, const char *name); /* NULL: out of memory */
/* Never blocks. Jobs start in order. If no thread can be started at all the job runs in the caller. */
void worker_submit(struct worker_pool *p, struct worker_job *job);
/* Jobs that are queued or running. */
unsigned worker_backlog(struct worker_pool *p);
/* Runs what is queued, waits for all, frees. Whoever blocks jobs must have been cancelled before. NULL-safe. */
void worker_pool_free(struct worker_pool *p);

#endif
