/* Who was told an inode's attributes lately.
 *
 * The kernel keeps attributes until it is told otherwise. An answer that was made before a change but is taken in after it
 * (its reader had to wait for a CPU) would leave the old ones for ever: the kernel counts a version for writes and chmod, and
 * drops late answers by it, but not for what changes a directory, for fallocate and for xattrs. There we invalidate the
 * attributes ourselves, which counts the version on, but only if another thread than the changing one may have an answer on its
 * way: most directories are changed by the thread that looks at them. An invalidation settles what was answered before it: the
 * next one is due when another thread has been answered since. And an answer that is made while a change is being
 * answered is given out without leave to keep it.
 *
 * The answer to a creation is not noted: the kernel lets nobody else find the inode before it has taken that answer in.
 * Two tables of fixed size, of directories and of the rest; inodes that share a place are taken for one, which costs
 * invalidations too many. Any thread. */
#ifndef JFS_DAEMON_ASKED_H
#define JFS_DAEMON_ASKED_H

#include <stdbool.h>
#include <stdint.h>

struct asked;

struct asked *asked_new(void); /* NULL: out of memory */
void asked_free(struct asked *a);
/* Thread `tid` of a client is about to get attributes for a request of `started_ns` (monotonic). False: they may be older than
 * a change that has been answered: not to be kept. */
bool asked_note(struct asked *a, uint64_t ino, bool dir, uint32_t tid, uint64_t started_ns);
/* A change that `tid` asked for has been made and is about to be answered. 0, or: invalidate before the answer, and hand
 * this over then. */
uint64_t asked_changed(struct asked *a, uint64_t ino, bool dir, uint32_t tid);
void asked_settled(struct asked *a, uint64_t ino, bool dir, uint64_t changed);

#endif
