/* The scheduling class of the threads that serve requests (internal to daemon/transport*).
 *
 * A thread that answers on its caller's CPU wakes the caller there. The kernel places a thread that wakes up on another CPU if that
 * one is idle and this one is not: with ordinary threads the caller goes to and fro between two CPUs, and an idle one is woken for
 * each answer, which costs more than the whole request. A CPU that runs nothing but SCHED_IDLE threads counts as idle: then callers
 * stay where they are, and a request takes half the time (tests/bench/RESULTS.md). But such a thread waits for hundreds of
 * milliseconds where a program wants its CPU. So one more thread looks on, every CLASS_LOOK_MS while there are requests:
 *
 *   ordinary -> idle   the thread was busy since the last look, and CPUs are not scarce
 *   idle -> ordinary   CPUs are scarce; fewer than CLASS_BUSY requests in each of CLASS_QUIET looks; or something is amiss: at CLASS_STUCK looks in a
 *                      row the thread waited for its CPU, or was not done with the request that only it can be done with, its turns began over CLASS_WAIT_MS late on average (the
 *                      flusher's bursts are shorter), or what else the transport says
 *
 * After something was amiss it stays ordinary for CLASS_HOLD_MS; twice as long, up to CLASS_HOLD_MAX_MS, if it had been idle for less than
 * CLASS_BAD_MS; and the shortest again after a stay of CLASS_GOOD_MS. CPUs are scarce if on average of some 16 looks more threads than
 * there are want one. So a program that comes costs callers some milliseconds, seldom. Without work nobody looks.
 *
 * A thread whose waits cannot be seen (/proc, CONFIG_SCHED_INFO) stays as it is; all do where a thread may not become ordinary again
 * (no root), or where the daemon was started in another class than the ordinary one. */
#ifndef JFS_DAEMON_THREAD_CLASS_H
#define JFS_DAEMON_THREAD_CLASS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	CLASS_LOOK_MS = 2,
	CLASS_BUSY = 8, /* requests in a look */
	CLASS_QUIET = 50,
	CLASS_STUCK = 3,
	CLASS_WAIT_MS = 5,
	CLASS_HOLD_MS = 50,
	CLASS_HOLD_MAX_MS = 60000,
	CLASS_BAD_MS = 100,
	CLASS_GOOD_MS = 500,
	CLASS_KNOCK = 32, /* requests after which a thread makes the one that looks on begin */
};

/* --- decisions --- */
/* What is seen of a thread. */
struct class_look {
	uint64_t now_ns;	   /* monotonic */
	uint64_t requests;	   /* so far */
	uint64_t ran_ns, waited_ns; /* so far: on a CPU, and waiting for it */
	uint64_t turns;		   /* so far: how often it got it */
	bool runnable;		   /* holds a CPU or waits for one */
	bool within;		   /* is not done with a request, and nobody else serves */
	bool amiss;		   /* to be idle is not right now */
	bool scarce;		   /* class_scarce */
};

struct class_state {
	bool idle;
	struct class_look last;
	unsigned stuck, quiet; /* looks in a row */
	uint64_t since_ns, not_before_ns, hold_ns;
};

/* Are CPUs scarce? `running`: threads that have one or wait for one now. `wanted` keeps the average, in 64ths. */
bool class_scarce(unsigned *wanted, unsigned running, unsigned cpus);
/* One look; whether the thread is to be SCHED_IDLE from now on. Start with all zeros. */
bool class_decide(struct class_state *c, const struct class_look *l);

/* --- a thread that is looked at --- */
struct class_thread {
	pid_t tid;
	int schedstat, stat; /* of /proc, or -1: opened when the thread is first looked at */
	struct class_state state;
};

void class_thread_init(struct class_thread *t, pid_t tid);
void class_thread_fini(struct class_thread *t);
/* Fills in what the kernel knows: all but the requests, within, amiss, scarce and the time. False: nothing can be seen, or the
 * thread is gone. */
bool class_thread_see(struct class_thread *t, struct class_look *l);
/* Makes it what state.idle says. Where it cannot be made ordinary state.idle stays true: so it is tried again. Failures are logged. */
void class_thread_set(struct class_thread *t);

/* --- the thread that looks on --- */
enum class_seen { CLASS_REST, CLASS_WORK };

struct class_watch;
struct class_watcher {
	/* CLASS_WORK: look again soon; CLASS_REST: when somebody knocks. */
	enum class_seen (*look)(void *arg, uint64_t now_ns, bool scarce);
	/* Makes all threads ordinary. Last call of all. */
	void (*end)(void *arg);
	void *arg;
};

/* `cpus`: that the threads may use. NULL: cannot be done here (said in the log). */
struct class_watch *class_watch_new(const struct class_watcher *watcher, unsigned cpus);
/* The thread that looks on; -1: not yet, or no more. */
pid_t class_watch_tid(const struct class_watch *w);
/* By who serves, every CLASS_KNOCK requests. Cheap. */
void class_watch_knock(struct class_watch *w);
/* Looks on no more. The threads still live. NULL-safe. */
void class_watch_stop(struct class_watch *w);
/* When nobody knocks any more. NULL-safe. */
void class_watch_free(struct class_watch *w);

#endif
