/* Keeps the CPUs from halting while requests come thick and fast (--poll): waking a halted one costs ten times what the request does.
 *
 * While somebody holds /dev/cpu_dma_latency open with a latency of 0, an idle CPU polls instead of halting: all of them, for the
 * whole machine. So it is held during bursts only: from the moment that requests follow each other closely until a short time
 * without many, and never longer than AWAKE_HELD_MS at a stretch, after which it is let go for AWAKE_REST_MS. A thread of its own does
 * it, which sleeps without a time limit as long as no burst begins.
 *
 * Failure modes: not root, or a kernel without that device: awake_new says so. When it cannot be opened later, a line in the log, and
 * CPUs halt as ever. kill -9 closes the device, and with that lets go. */
#ifndef JFS_DAEMON_AWAKE_H
#define JFS_DAEMON_AWAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/errmsg.h"

/* A burst begins with so many requests to one thread within this time. */
enum { AWAKE_BEGIN = 32, AWAKE_BEGIN_MS = 10 };
/* It is looked at so often, and goes on while there were as many between two looks. */
enum { AWAKE_LOOK_MS = 10 };
enum { AWAKE_HELD_MS = 10000, AWAKE_REST_MS = 2000 };

struct awake;

/* Can it be done here? Tries it. 0, or -errno with a text that says what is wanted. */
int awake_check(struct errmsg *e);
/* Starts the thread. 0 or -errno with a text, that of awake_check among them. */
int awake_new(struct awake **out, struct errmsg *e);
/* A request has come. No system call, unless a burst begins. Any thread. NULL: nothing. */
void awake_note(struct awake *a);
/* Is the device held? For statistics. NULL: no. */
bool awake_held(const struct awake *a);
void awake_free(struct awake *a); /* lets go. NULL-safe. */

/* --- the decisions, pure --- */
struct awake_burst {
	uint64_t since_ns;
	unsigned requests;
};

/* Counts one more at `now_ns`; true: a burst begins (and counting starts again). */
bool awake_begins(struct awake_burst *b, uint64_t now_ns);

enum awake_next { AWAKE_GO_ON, AWAKE_LET_GO, AWAKE_TAKE_A_REST };

/* After a look: held for held_ns, with so many requests since the last look. */
enum awake_next awake_decide(uint64_t held_ns, uint64_t requests);

#endif
