/* An io_uring of one thread, by system calls: submissions of 128 bytes, as FUSE demands.
 *
 * Only the thread that opened it may submit and wait (SINGLE_ISSUER); completions appear only inside uring_enter
 * (DEFER_TASKRUN), so that what the kernel writes into buffers of ours it writes then, and at no other moment. */
#ifndef JFS_DAEMON_URING_H
#define JFS_DAEMON_URING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>

struct uring {
	int fd; /* -1: closed */
	void *rings, *sqes;
	size_t rings_size, sqes_size;
	unsigned *sq_tail, *cq_head, *cq_tail;
	unsigned sq_mask, sq_size, cq_mask;
	unsigned tail, submitted; /* of submissions: prepared, taken by the kernel */
	unsigned enter_flags;
	struct io_uring_cqe *cqes;
};

/* Room for `entries` submissions at a time. 0 or -errno: -ENOSYS, -EPERM where io_uring is not allowed. */
int uring_open(struct uring *u, unsigned entries);
/* Any thread, when its own has ended. On a closed one: nothing. */
void uring_close(struct uring *u);
/* A zeroed submission of this opcode. Never more than `entries` between two calls of uring_enter. */
struct io_uring_sqe *uring_prepare(struct uring *u, unsigned opcode);
/* Submits what was prepared; with `wait` sleeps until there is a completion. 0 also when interrupted, or when the kernel
 * wants completions taken first; -errno. */
int uring_enter(struct uring *u, bool wait);
bool uring_ready(const struct uring *u); /* is there a completion? */
bool uring_take(struct uring *u, struct io_uring_cqe *out);

#endif
