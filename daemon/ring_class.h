/* The scheduling class of the rings' threads (internal to daemon/transport*).
 *
 * A ring's thread answers on its caller's CPU, and wakes the caller there. The kernel places a thread that wakes up on another CPU if
 * that one is idle and this one is not: with ordinary threads the caller goes to and fro between two CPUs, and an idle one is woken for
 * each answer, which costs more than the whole request. A CPU that runs nothing but SCHED_IDLE threads counts as idle: then callers
 * stay where they are, and a request takes half the time (tests/bench/RESULTS.md). But such a thread waits for hundreds of
 * milliseconds where a program wants its CPU. So one more thread looks on, every RING_CLASS_LOOK_MS while there are requests:
 *
 *   ordinary -> idle   the thread was busy since the last look, and CPUs are not scarce
 *   idle -> ordinary   CPUs are scarce; no requests for RING_CLASS_QUIET looks; or the thread waits for its CPU: at two looks it had
 *                      done nothing although it could, or its turns began over 1 ms late on average
 *
 * After such a wait it stays ordinary for RING_CLASS_HOLD_MS; twice as long, up to RING_CLASS_HOLD_MAX_MS, if it had been idle for less than
 * RING_CLASS_BAD_MS; and the shortest again after a stay of RING_CLASS_GOOD_MS. CPUs are scarce if on average of some 16 looks more threads
 * than there are want one. So a program that comes costs callers some milliseconds, seldom. Without work nobody looks.
 *
 * Where a thread's waits cannot be seen (/proc, CONFIG_SCHED_INFO), where a thread may not become ordinary again (no root), or where the daemon was
 * started in another class than the ordinary one, all stay as they are. */
#ifndef JFS_DAEMON_RING_CLASS_H
#define JFS_DAEMON_RING_CLASS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	RING_CLASS_LOOK_MS = 2,
	RING_CLASS_BUSY = 8, /* requests in a look */
	RING_CLASS_QUIET = 50,
	RING_CLASS_HOLD_MS = 50,
	RING_CLASS_HOLD_MAX_MS = 60000,
	RING_CLASS_BAD_MS = 100,
	RING_CLASS_GOOD_MS = 500,
	RING_CLASS_KNOCK = 32, /* requests after which a thread makes the one that looks on begin */
};

/* --- decisions --- */
/* What is seen of a thread. The first three only grow. */
struct ring_class_look {
	uint64_t now_ns;	 /* monotonic */
	uint64_t requests;	 /* taken */
	uint64_t waited_ns, turns; /* how long it waited for its CPU, and how often it got it */
	bool runnable;		 /* it has a CPU or waits for one */
	bool scarce;		 /* ring_class_scarce */
};

struct ring_class {
	bool idle;
	struct ring_class_look last;
	unsigned stuck, quiet; /* looks in a row */
	uint64_t since_ns, not_before_ns, hold_ns;
};

/* Are CPUs scarce? `running`: threads that have one or wait for one now. `wanted` keeps the average, in 64ths. */
bool ring_class_scarce(unsigned *wanted, unsigned running, unsigned cpus);
/* One look; whether the thread is to be SCHED_IDLE from now on. Start with all zeros. */
bool ring_class_decide(struct ring_class *c, const struct ring_class_look *l);

/* --- the thread that looks on --- */
struct ring_watch;

/* For n threads, served on `cpus` CPUs. NULL: cannot be done here (said in the log), or out of memory. */
struct ring_watch *ring_watch_new(unsigned n, unsigned cpus);
/* Thread i's own call, before it serves. */
void ring_watch_join(struct ring_watch *w, unsigned i);
/* Thread i has taken a request. By that thread. NULL: nothing. */
void ring_watch_note(struct ring_watch *w, unsigned i);
/* Makes all threads ordinary, and looks on no more. While they live. NULL-safe. */
void ring_watch_stop(struct ring_watch *w);
/* After the threads have ended. NULL-safe. */
void ring_watch_free(struct ring_watch *w);

#endif
