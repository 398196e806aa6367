/* Fault points: named places where a test can kill the process, make a call fail, or wait.
 *
 * JFS_FAULT in the environment, read once by fault_init: a comma-separated list of NAME:N:ACTION, where N is the hit
 * that triggers (1 = the first) and ACTION is `kill` (SIGKILL to ourselves), `abort`, `wait` (until the file that
 * JFS_FAULT_WAIT names is gone), or an errno name (EIO, ENOSPC) that FAULT_ERR returns negated. N may end in `+`: that hit and every later one. Without the variable a fault point
 * is one predictable branch. Names look like room.place: "journal.flush.before_commit". */
#ifndef JFS_UTIL_FAULT_H
#define JFS_UTIL_FAULT_H

#include <stdbool.h>

extern bool fault_active;
/* Parses JFS_FAULT; exits with status 2 and a message when it is malformed (only tests set it). */
void fault_init(void);
int fault_hit(const char *name);

/* Marks a name that is chosen at run time, so that whoever lists the points finds it in the source. */
#define FAULT_NAME(name) name
#define FAULT_POINT(name)                                                                                             \
	do {                                                                                                          \
		if (__builtin_expect(fault_active, 0))                                                                \
			fault_hit(name);                                                                              \
	} while (0)
/* 0, or the negative errno that the test asked for. */
#define FAULT_ERR(name) (__builtin_expect(fault_active, 0) ? fault_hit(name) : 0)

#endif
