/* One thread that goes where the only caller is (internal to daemon/transport_classic).
 *
 * The kernel wakes the threads that sleep in read(2) on the device in turn, each on the CPU it ran on last, and that is mostly not
 * the caller's: an idle CPU is woken for each request, and another one for each answer. Where a single caller has much to do, as
 * commands of a build have, one thread serves it alone and stays on its CPU, the follower: then nothing is ever woken but what has
 * to run next, and a request takes a third of the time (tests/bench/RESULTS.md).
 *
 *   many -> one   requests come quickly, hardly ever from another caller than the one before, and CPUs are not scarce. Each of the
 *                 other threads answers the next request that wakes it, then rests (follow_turn). The follower is SCHED_IDLE
 *                 (thread_class.h), or its caller would be placed on another CPU when it is woken. When the caller changes, or
 *                 its next request comes late, the follower looks where it ran last, and moves there; so does who looks on: a CPU that is
 *                 idle again after it ran something looks for work, and takes the caller.
 *   one -> many   when thread_class.h says so: at three looks the follower was not done with the same request, or waited for its CPU;
 *                 no requests; CPUs are scarce; or callers mix, or cannot be followed, or the follower sleeps within requests (at half of
 *                 the last eight looks). The others serve again at once. Should who looks on not get to it, kept as it is to the same
 *                 CPU, one of the others ends it after FOLLOW_GUARD_MS without a look.
 *
 * So what comes while the follower is stuck waits for some milliseconds. A thread whose service ends, or that is to end, ends this for
 * all. Follower and who looks on get back the CPUs that they might use before. */
#ifndef JFS_DAEMON_FOLLOW_H
#define JFS_DAEMON_FOLLOW_H

#include <stdint.h>

enum { FOLLOW_MIXED = 8 }; /* requests for each that may have come from another caller than the one before */
#define FOLLOW_OWN UINT32_MAX    /* so many CPUs are enough as the threads may use */
#define FOLLOW_KERNEL UINT32_MAX /* a caller: the kernel's own request (FORGET, INTERRUPT) */

struct follow;

/* For `threads` threads, numbered from 0, which is the follower, on the CPUs that this thread may use. CPUs are scarce when more
 * than `enough` are wanted. NULL: cannot be done here, or nothing is to be gained; all below take that. */
struct follow *follow_new(unsigned threads, unsigned enough);
/* Thread i's own call, before it serves. */
void follow_join(struct follow *f, unsigned i);
/* Before thread i reads. Blocks while the follower serves alone, and i is another thread. */
void follow_turn(struct follow *f, unsigned i);
/* Thread i has read a request, from that caller's thread; 0: one that cannot be seen here. */
void follow_note(struct follow *f, unsigned i, uint32_t caller);
/* From now on everybody serves, and nobody rests. Any thread, any number of times. */
void follow_end(struct follow *f);
/* How often the follower began to serve alone. */
unsigned follow_times(const struct follow *f);
/* After the threads have ended. */
void follow_free(struct follow *f);

#endif
