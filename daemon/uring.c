/* See uring.h. */
#include "daemon/uring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SQE_SIZE = 128 };

/* Linux 6.15: a thread that waits for requests is idle, not waiting for a disk. include/uapi/linux/io_uring.h. */
#define ENTER_NO_IOWAIT (1u << 7)
#define FEAT_NO_IOWAIT (1u << 17)

static unsigned *at(void *base, uint32_t offset)
{
	return (unsigned *)((char *)base + offset);
}

static int map_rings(struct uring *u, const struct io_uring_params *p)
{
	size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
	size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);

	if (!(p->features & IORING_FEAT_SINGLE_MMAP))
		return -ENOSYS;
	u->rings_size = sq > cq ? sq : cq;
	u->sqes_size = (size_t)p->sq_entries * SQE_SIZE;
	u->rings = mmap(NULL, u->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, IORING_OFF_SQ_RING);
	if (u->rings == MAP_FAILED) {
		u->rings = NULL;
		return -errno;
	}
	u->sqes = mmap(NULL, u->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, IORING_OFF_SQES);
	if (u->sqes == MAP_FAILED) {
		u->sqes = NULL;
		return -errno;
	}
	return 0;
}

int uring_open(struct uring *u, unsigned entries)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
					      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
	unsigned n = 4;
	int r;

	memset(u, 0, sizeof(*u));
	while (n < entries)
		n *= 2;
	p.cq_entries = 2 * n;
	u->fd = (int)syscall(SYS_io_uring_setup, n, &p);
	if (u->fd < 0) {
		r = -errno;
		u->fd = -1;
		return r;
	}
	r = map_rings(u, &p);
	if (r) {
		uring_close(u);
		return r;
	}
	u->sq_tail = at(u->rings, p.sq_off.tail);
	u->sq_mask = *at(u->rings, p.sq_off.ring_mask);
	u->sq_size = p.sq_entries;
	u->cq_head = at(u->rings, p.cq_off.head);
	u->cq_tail = at(u->rings, p.cq_off.tail);
	u->cq_mask = *at(u->rings, p.cq_off.ring_mask);
	u->cqes = (struct io_uring_cqe *)((char *)u->rings + p.cq_off.cqes);
	for (unsigned i = 0; i < p.sq_entries; i++)
		at(u->rings, p.sq_off.array)[i] = i;
	u->enter_flags = IORING_ENTER_GETEVENTS | (p.features & FEAT_NO_IOWAIT ? ENTER_NO_IOWAIT : 0);
	return 0;
}

void uring_close(struct uring *u)
{
	if (u->fd < 0)
		return;
	if (u->sqes)
		munmap(u->sqes, u->sqes_size);
	if (u->rings)
		munmap(u->rings, u->rings_size);
	close(u->fd);
	u->fd = -1;
}

struct io_uring_sqe *uring_prepare(struct uring *u, unsigned opcode)
{
	struct io_uring_sqe *s = (void *)((char *)u->sqes + (size_t)(u->tail++ & u->sq_mask) * SQE_SIZE);

	memset(s, 0, SQE_SIZE);
	s->opcode = (uint8_t)opcode;
	return s;
}

int uring_enter(struct uring *u, bool wait)
{
	long r;

	atomic_store_explicit((_Atomic unsigned *)u->sq_tail, u->tail, memory_order_release);
	r = syscall(SYS_io_uring_enter, u->fd, u->tail - u->submitted, wait ? 1 : 0, u->enter_flags, NULL, 0);
	if (r >= 0) {
		u->submitted += (unsigned)r;
		return 0;
	}
	return errno == EINTR || errno == EAGAIN || errno == EBUSY ? 0 : -errno;
}

bool uring_ready(const struct uring *u)
{
	return atomic_load_explicit((_Atomic unsigned *)u->cq_tail, memory_order_acquire) != *u->cq_head;
}

bool uring_take(struct uring *u, struct io_uring_cqe *out)
{
	unsigned head = *u->cq_head;

	if (!uring_ready(u))
		return false;
	*out = u->cqes[head & u->cq_mask];
	atomic_store_explicit((_Atomic unsigned *)u->cq_head, head + 1, memory_order_release);
	return true;
}
