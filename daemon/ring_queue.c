/* See ring_queue.h. */
#include "daemon/ring_queue.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/cpus.h"
#include "daemon/ring_watch.h"
#include "daemon/transport.h"
#include "util/log.h"

/* In front of each payload: the head at the beginning, what ring_request_join needs at the end. */
enum { HEAD_SIZE = 4096 };
_Static_assert(sizeof(struct ring_head) + RING_ROOM <= HEAD_SIZE, "both fit");

/* user_data of the read of wake_fd; all others are entries. */
enum { WAKE = 1 };

static __thread struct ring_queue *my_queue;

/* --- memory --- */
int ring_queue_init(struct ring_queue *q, struct transport *t, unsigned id, int device, size_t payload_size)
{
	size_t one = HEAD_SIZE + payload_size;

	memset(q, 0, sizeof(*q));
	q->t = t;
	q->id = id;
	q->device = device;
	q->payload_size = payload_size;
	q->u.fd = -1;
	q->wake_fd = eventfd(0, EFD_CLOEXEC);
	q->entries = calloc(RING_DEPTH, sizeof(q->entries[0]));
	q->memory_size = RING_DEPTH * one;
	/* Most of it is never touched. */
	q->memory = mmap(NULL, q->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (q->memory == MAP_FAILED)
		q->memory = NULL;
	if (q->wake_fd < 0 || !q->entries || !q->memory) {
		ring_queue_fini(q);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < RING_DEPTH; i++) {
		struct ring_entry *e = &q->entries[i];

		e->q = q;
		e->head = (struct ring_head *)((uint8_t *)q->memory + i * one);
		e->payload = (uint8_t *)e->head + HEAD_SIZE;
		e->buffers[0] = (struct iovec){ e->head, sizeof(*e->head) };
		e->buffers[1] = (struct iovec){ e->payload, payload_size };
	}
	return 0;
}

void ring_queue_fini(struct ring_queue *q)
{
	uring_close(&q->u);
	if (q->wake_fd >= 0)
		close(q->wake_fd);
	q->wake_fd = -1;
	free(q->entries);
	q->entries = NULL;
	if (q->memory)
		munmap(q->memory, q->memory_size);
	q->memory = NULL;
}

/* --- submissions, by the queue's thread --- */
static void prepare(struct ring_entry *e, unsigned command)
{
	struct io_uring_sqe *s = uring_prepare(&e->q->u, IORING_OP_URING_CMD);
	struct ring_command *c = (struct ring_command *)s->cmd;

	s->fd = e->q->device;
	s->cmd_op = command;
	s->user_data = (uintptr_t)e;
	if (command == RING_REGISTER) {
		s->addr = (uintptr_t)e->buffers;
		s->len = 2;
	} else {
		c->commit_id = e->commit_id;
	}
	c->queue = (uint16_t)e->q->id;
}

static void prepare_wake(struct ring_queue *q)
{
	struct io_uring_sqe *s = uring_prepare(&q->u, IORING_OP_READ);

	s->fd = q->wake_fd;
	s->addr = (uintptr_t)&q->wake_count;
	s->len = sizeof(q->wake_count);
	s->user_data = WAKE;
}

static void wake(struct ring_queue *q)
{
	uint64_t one = 1;

	while (write(q->wake_fd, &one, sizeof(one)) < 0)
		if (errno != EINTR) { /* cannot be: only 2^64 - 1 unread wakes block, and nothing else fails */
			log_error("event=ring_wake error=\"%s\"", strerror(errno));
			return;
		}
}

/* --- replies --- */
static void mail_put(struct ring_entry *e)
{
	struct ring_queue *q = e->q;

	e->next = atomic_load(&q->mail);
	while (!atomic_compare_exchange_weak(&q->mail, &e->next, e))
		;
	if (atomic_exchange(&q->asleep, false))
		wake(q);
}

static void mail_commit(struct ring_queue *q)
{
	struct ring_entry *e = atomic_exchange(&q->mail, NULL);

	while (e) {
		struct ring_entry *next = e->next;

		prepare(e, RING_COMMIT_AND_FETCH);
		e = next;
	}
}

ssize_t ring_queue_reply(struct ring_queue *q, unsigned n, const struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct ring_entry *e = &q->entries[n];
	ssize_t len = 0;

	if (atomic_load(&e->unique) != out->unique) { /* would be a second answer */
		log_error("event=ring_reply unique=%llu error=\"no such request\"", (unsigned long long)out->unique);
		errno = ENOENT;
		return -1;
	}
	for (int i = 0; i < count; i++)
		len += (ssize_t)iov[i].iov_len;
	ring_reply_split(e->head, e->payload, q->payload_size, iov, count);
	atomic_store(&e->unique, 0);
	if (my_queue == q)
		prepare(e, RING_COMMIT_AND_FETCH);
	else
		mail_put(e);
	return len;
}

bool ring_queue_has(const struct ring_queue *q, uint64_t unique)
{
	for (unsigned i = 0; i < RING_DEPTH; i++) {
		const struct ring_entry *e = &q->entries[i];
		const struct fuse_in_header *in = (const struct fuse_in_header *)e->head->in_out;

		/* In this order: an entry that is being taken is found at one of the two places. */
		if (__atomic_load_n(&e->head->commit_id, __ATOMIC_SEQ_CST) &&
			__atomic_load_n(&in->unique, __ATOMIC_RELAXED) == unique)
			return true;
		if (atomic_load(&e->unique) == unique)
			return true;
	}
	return false;
}

/* --- requests --- */
static void refuse(struct ring_entry *e, uint64_t unique)
{
	struct fuse_out_header out = { .len = sizeof(out), .error = -EIO, .unique = unique };
	struct iovec iov = { &out, sizeof(out) };

	log_error("event=ring_request queue=%u error=\"its sizes make no sense\"", e->q->id);
	ring_queue_reply(e->q, (unsigned)(e - e->q->entries), &iov, 1);
}

static void request(struct ring_entry *e)
{
	struct ring_queue *q = e->q;
	struct fuse_in_header in;
	size_t len;
	void *raw;

	ring_watch_note(q->watch, q->id);
	memcpy(&in, e->head->in_out, sizeof(in));
	e->commit_id = e->head->commit_id;
	atomic_store(&e->unique, in.unique);
	__atomic_store_n(&e->head->commit_id, 0, __ATOMIC_SEQ_CST);
	raw = ring_request_join(e->head, e->payload, q->payload_size, &len);
	if (raw)
		transport_execute(q->t, (int)(q->id * RING_DEPTH + (unsigned)(e - q->entries)), raw, len,
			e->head->payload_size ? NULL : e->payload, e->head->payload_size ? 0 : q->payload_size);
	else
		refuse(e, in.unique);
}

/* A committed entry that comes back with an error is lost to us; the request has its answer or its end. */
static void lost(struct ring_queue *q, int err)
{
	static long long said;

	/* unmounted, aborted, or our ring is being closed */
	if (err == -ENOTCONN || err == -ECONNABORTED || err == -ECANCELED)
		return;
	if (log_ratelimit(&said, 1000))
		log_error("event=ring_entry queue=%u error=\"%s\"", q->id, strerror(-err));
}

static void completion(struct ring_queue *q, const struct io_uring_cqe *c)
{
	if (c->user_data == WAKE)
		prepare_wake(q);
	else if (c->res < 0)
		lost(q, c->res);
	else if (!q->is_quiet)
		request((struct ring_entry *)(uintptr_t)c->user_data);
}

/* --- the thread --- */
int ring_queue_open(struct ring_queue *q)
{
	struct io_uring_cqe c;
	int r;

	/* Not to a CPU that whoever started us keeps us from, or that is offline: callers there find the thread on another one. */
	cpus_pin(q->cpus, 0, q->id);
	r = uring_open(&q->u, RING_DEPTH + 1);
	if (r)
		return r;
	/* Once INIT says ring, the kernel holds everything back until the queues are there: so try it out before. */
	prepare_wake(q);
	wake(q);
	while (r == 0 && !uring_ready(&q->u))
		r = uring_enter(&q->u, true);
	if (r)
		return r;
	uring_take(&q->u, &c);
	prepare_wake(q);
	return c.res == sizeof(q->wake_count) ? 0 : c.res < 0 ? c.res : -EIO;
}

int ring_queue_register(struct ring_queue *q)
{
	int r;

	my_queue = q;
	ring_watch_join(q->watch, q->id);
	for (unsigned i = 0; i < RING_DEPTH; i++)
		prepare(&q->entries[i], RING_REGISTER);
	r = uring_enter(&q->u, false);
	/* What is refused is refused within the call. A request of another queue's may have arrived already: look only. */
	for (unsigned i = *q->u.cq_head; r == 0 && i != *q->u.cq_tail; i++) {
		const struct io_uring_cqe *c = &q->u.cqes[i & q->u.cq_mask];

		if (c->user_data != WAKE && c->res < 0)
			r = c->res;
	}
	return r;
}

int ring_queue_serve(struct ring_queue *q, void (*quiet)(void *arg), void *arg)
{
	struct io_uring_cqe c;
	bool idle;
	int r = 0;

	while (r == 0) {
		bool end = atomic_load(&q->end);

		if (!q->is_quiet && atomic_load(&q->quiet)) {
			q->is_quiet = true;
			quiet(arg);
		}
		/* From here on who puts mail in, or sets a flag, wakes us. */
		atomic_store(&q->asleep, true);
		mail_commit(q);
		idle = !uring_ready(&q->u) && !atomic_load(&q->mail) && !atomic_load(&q->end) &&
		       (q->is_quiet || !atomic_load(&q->quiet));
		r = uring_enter(&q->u, idle);
		atomic_store(&q->asleep, false);
		if (end)
			break;
		while (uring_take(&q->u, &c))
			completion(q, &c);
	}
	return r;
}

void ring_queue_quiet(struct ring_queue *q)
{
	atomic_store(&q->quiet, true);
	if (atomic_exchange(&q->asleep, false))
		wake(q);
}

void ring_queue_end(struct ring_queue *q)
{
	atomic_store(&q->end, true);
	if (atomic_exchange(&q->asleep, false))
		wake(q);
}
