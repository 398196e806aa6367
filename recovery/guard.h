/* Work in a child of its own. LMDB trusts its pages: a damaged one can end the process that reads it, and that must become a
 * finding, not a crash of the tool. */
#ifndef JFS_RECOVERY_GUARD_H
#define JFS_RECOVERY_GUARD_H

/* Forks, runs fn(arg) there and returns what it returned (0..255). SIGINT, SIGTERM and SIGHUP are passed on. If the child
 * dies: -EUCLEAN when a fault of memory or an assertion ended it (*sig has the signal), -EINTR when somebody else did;
 * -errno if there is no child. No other thread may run. */
int guard_run(int (*fn)(void *arg), void *arg, int *sig);

#endif
