/* FUSE over io_uring (Linux 6.14 and later, where the fuse module's parameter enable_uring is on): one queue with a thread
 * of its own for each possible CPU (ring_queue.h), and one more thread that reads the device, where FORGET and INTERRUPT
 * still come.
 *
 * Order of things. Threads, rings and memory exist before INIT is answered (ring_prepare): with that answer the kernel
 * begins to hold all requests back until every queue has an entry or a registration has failed. Then all register
 * (ring_start). If the kernel refuses one, it sends everything over the device as ever, and we leave the field to the
 * classic transport.
 *
 * INTERRUPT names a request by its `unique`. It may overtake the request, which then lies in an entry whose thread has not
 * looked yet; libfuse keeps it then, and hands it back to the kernel (EAGAIN) when another request comes first. The kernel
 * would look for the request among those read from the device, and drop it: so it is we who take it back, as long as the
 * request is here. For a signal that was pending when the request was made the kernel (6.18) sends none over a ring.
 *
 * Failure modes. Unmounted or aborted: the device says ENODEV, and transport_wait returns. A ring that stops working ends
 * the daemon's service in the same way: the queue's CPU would be without an answer for good. kill -9: the kernel closes the
 * rings, then the device, and that aborts the connection.
 *
 * As long as there are rings the device's descriptor does not block, and t->fd, a duplicate, neither: undone when the field is left
 * to the classic transport. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/cpus.h"
#include "daemon/ring_queue.h"
#include "daemon/ring_watch.h"
#include "daemon/transport.h"
#include "util/log.h"

/* FORGETs that come while the thread rests are one request: it costs a caller less to queue one than to wake a thread. */
enum { FORGET_REST_MS = 2 };

enum phase { PREPARING, REGISTERING, GIVEN_UP };

struct ring_thread {
	struct ring *r;
	struct ring_queue q;
	pthread_t tid;
	bool started;
};

struct ring {
	struct transport *t;
	int device; /* our own descriptor: libfuse closes its one when it unmounts. Does not block. */
	int stop_fd; /* tells the device's thread */
	struct ring_watch *watch; /* or NULL */
	struct cpus *cpus;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	/* All under lock. */
	enum phase phase;
	unsigned answers;   /* threads that have done what this phase wants */
	unsigned executing; /* queues' threads that may still execute requests */
	int error;	    /* of the first that could not */
	bool device_started, device_gone;
	pthread_t device_tid;
	unsigned n;
	struct ring_thread th[];
};

/* --- threads and phases --- */
static void answer(struct ring *r, int error)
{
	pthread_mutex_lock(&r->lock);
	r->answers++;
	if (error && !r->error)
		r->error = error;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

/* Waits for the answers of all queues. 0 or the first error. */
static int all_answered(struct ring *r, unsigned n)
{
	int error;

	pthread_mutex_lock(&r->lock);
	while (r->answers < n)
		pthread_cond_wait(&r->cond, &r->lock);
	error = r->error;
	r->answers = 0;
	pthread_mutex_unlock(&r->lock);
	return error;
}

static enum phase next_phase(struct ring *r)
{
	enum phase p;

	pthread_mutex_lock(&r->lock);
	while (r->phase == PREPARING)
		pthread_cond_wait(&r->cond, &r->lock);
	p = r->phase;
	pthread_mutex_unlock(&r->lock);
	return p;
}

static void set_phase(struct ring *r, enum phase p)
{
	pthread_mutex_lock(&r->lock);
	r->phase = p;
	if (p == REGISTERING)
		r->executing = r->n;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void executes_no_more(void *arg)
{
	struct ring *r = arg;

	pthread_mutex_lock(&r->lock);
	r->executing--;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void device_tell(struct ring *r)
{
	uint64_t one = 1;

	atomic_store(&r->stop, true);
	if (write(r->stop_fd, &one, sizeof(one)) < 0)
		log_error("event=ring_stop error=\"%s\"", strerror(errno));
}

static void *queue_main(void *arg)
{
	struct ring_thread *th = arg;
	struct ring *r = th->r;
	int err = ring_queue_open(&th->q);

	pthread_setname_np(pthread_self(), "jfs-ring");
	answer(r, err);
	if (next_phase(r) == GIVEN_UP)
		return NULL;
	err = ring_queue_register(&th->q);
	answer(r, err);
	if (!err) {
		err = ring_queue_serve(&th->q, executes_no_more, r);
		if (err) {
			log_error("event=ring queue=%u error=\"%s\" note=\"the mount ends\"", th->q.id, strerror(-err));
			device_tell(r);
		}
	}
	if (!th->q.is_quiet)
		executes_no_more(r);
	ring_watch_leave(r->watch, th->q.id);
	return NULL;
}

/* --- the device --- */
static bool ring_has(const struct ring *r, uint64_t unique)
{
	for (unsigned i = 0; i < r->n; i++)
		if (ring_queue_has(&r->th[i].q, unique))
			return true;
	return false;
}

static void device_request(struct ring *r, void *buf, size_t len)
{
	const struct fuse_in_header *in = buf;
	const struct fuse_interrupt_in *arg = (const struct fuse_interrupt_in *)(in + 1);

	/* An INTERRUPT whose request has been answered meanwhile would stay in libfuse's list. */
	if (len >= sizeof(*in) + sizeof(*arg) && in->opcode == FUSE_INTERRUPT && !ring_has(r, arg->unique))
		return;
	transport_execute(r->t, -1, buf, len, NULL, 0);
}

/* Waits until there is something to read, or for `ms`. */
static void device_rest(struct ring *r, bool forgets)
{
	struct pollfd p[2] = { { .fd = r->stop_fd, .events = POLLIN }, { .fd = r->device, .events = POLLIN } };

	poll(p, forgets ? 1 : 2, forgets ? FORGET_REST_MS : -1);
}

static void device_serve(struct ring *r, void *buf)
{
	const struct fuse_in_header *in = buf;

	while (!atomic_load(&r->stop)) {
		ssize_t n = read(r->device, buf, r->t->buf_size);

		if (n >= (ssize_t)sizeof(*in)) {
			device_request(r, buf, (size_t)n);
			if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET)
				device_rest(r, true);
		} else if (n < 0 && errno == EAGAIN) {
			device_rest(r, false);
		} else if (n < 0 && errno != EINTR && errno != ENOENT) {
			if (errno != ENODEV)
				log_error("event=fuse_read error=\"%s\"", strerror(errno));
			return;
		}
	}
}

static void *device_main(void *arg)
{
	struct ring *r = arg;
	void *buf;

	pthread_setname_np(pthread_self(), "jfs-fuse");
	if (next_phase(r) == REGISTERING) {
		buf = malloc(r->t->buf_size);
		if (buf)
			device_serve(r, buf);
		else
			log_error("event=fuse_thread error=\"out of memory\"");
		free(buf);
	}
	pthread_mutex_lock(&r->lock);
	r->device_gone = true;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* --- replies --- */

/* libfuse does not know the request that this INTERRUPT means. */
static void interrupt_again(struct ring *r, uint64_t unique)
{
	struct {
		struct fuse_in_header in;
		struct fuse_interrupt_in arg;
	} m = { .in = { .len = sizeof(m), .opcode = FUSE_INTERRUPT, .unique = unique }, .arg.unique = unique & ~1ull };

	if (ring_has(r, m.arg.unique))
		transport_execute(r->t, -1, &m, sizeof(m), NULL, 0);
}

static ssize_t ring_reply(struct transport *t, int route, struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct ring *r = t->impl;

	if (out->unique & 1) { /* the kernel marks INTERRUPTs so */
		interrupt_again(r, out->unique);
		return (ssize_t)iov[0].iov_len;
	}
	if (route < 0)
		return writev(t->fd, iov, count);
	return ring_queue_reply(&r->th[(unsigned)route / RING_DEPTH].q, (unsigned)route % RING_DEPTH, iov, count);
}

/* --- life --- */
static void ring_stop(struct transport *t)
{
	struct ring *r = t->impl;

	device_tell(r);
	for (unsigned i = 0; i < r->n; i++)
		ring_queue_quiet(&r->th[i].q);
	pthread_mutex_lock(&r->lock);
	while (r->executing || !r->device_gone)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void ring_wait(struct transport *t)
{
	struct ring *r = t->impl;

	pthread_mutex_lock(&r->lock);
	while (!r->device_gone)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void ring_free(struct transport *t)
{
	struct ring *r = t->impl;

	if (!r)
		return;
	/* The flag is t->fd's as well: the classic loop would turn round and round on it. */
	if (r->device >= 0 && fcntl(r->device, F_SETFL, O_RDWR) < 0)
		log_error("event=ring_free error=\"%s\"", strerror(errno));
	set_phase(r, GIVEN_UP); /* for who waits still */
	if (r->stop_fd >= 0)
		device_tell(r);
	ring_watch_stop(r->watch);
	for (unsigned i = 0; i < r->n; i++)
		ring_queue_end(&r->th[i].q);
	for (unsigned i = 0; i < r->n; i++)
		if (r->th[i].started)
			pthread_join(r->th[i].tid, NULL);
	if (r->device_started)
		pthread_join(r->device_tid, NULL);
	for (unsigned i = 0; i < r->n; i++)
		ring_queue_fini(&r->th[i].q);
	ring_watch_free(r->watch);
	cpus_free(r->cpus);
	if (r->device >= 0)
		close(r->device);
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
	free(r);
	t->impl = NULL;
	t->cpus = 0;
}

static int start_threads(struct ring *r)
{
	unsigned started = 0;
	int err = 0;

	for (unsigned i = 0; i < r->n && !err; i++) {
		r->th[i].r = r;
		err = -pthread_create(&r->th[i].tid, NULL, queue_main, &r->th[i]);
		r->th[i].started = !err;
		started += !err;
	}
	if (!err) {
		err = -pthread_create(&r->device_tid, NULL, device_main, r);
		r->device_started = !err;
	}
	int opened = all_answered(r, started);

	return err ? err : opened;
}

static int ring_prepare(struct transport *t, struct errmsg *e)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	unsigned n = cpus > 0 ? (unsigned)cpus : 1;
	struct ring *r = calloc(1, sizeof(*r) + n * sizeof(r->th[0]));
	int err = 0;

	if (!r)
		return errmsg_set(e, -ENOMEM, "out of memory");
	t->impl = r;
	r->t = t;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	r->stop_fd = eventfd(0, EFD_CLOEXEC);
	r->device = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
	if (r->stop_fd < 0 || r->device < 0 || fcntl(r->device, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		err = -errno;
	r->cpus = cpus_allowed();
	t->cpus = cpus_count(r->cpus);
	r->watch = ring_watch_new(n, t->cpus);
	for (; r->n < n && !err; r->n += !err) {
		err = ring_queue_init(&r->th[r->n].q, t, r->n, r->device, t->ring_payload);
		r->th[r->n].q.watch = r->watch;
		r->th[r->n].q.cpus = r->cpus;
	}
	if (!err)
		err = start_threads(r);
	if (err) {
		errmsg_set(e, err, "io_uring does not work here: %s", strerror(-err));
		ring_free(t);
		return err;
	}
	t->threads = n;
	return 0;
}

static int ring_start(struct transport *t, struct errmsg *e)
{
	struct ring *r = t->impl;
	int err;

	set_phase(r, REGISTERING);
	err = all_answered(r, r->n);
	if (err)
		return errmsg_set(e, err, "the kernel refuses our io_uring queues: %s", strerror(-err));
	log_info("event=transport name=io_uring queues=%u", r->n);
	return 0;
}

const struct transport_ops transport_ring = {
	.name = "io_uring",
	.prepare = ring_prepare,
	.start = ring_start,
	.stop = ring_stop,
	.wait = ring_wait,
	.free = ring_free,
	.reply = ring_reply,
};
