/* How requests come from the kernel and replies go back.
 *
 * libfuse parses requests and builds replies; we move the bytes, through fuse_session_custom_io. That is also where the
 * INIT reply is corrected, since libfuse 3.14 cannot say everything the kernel understands (init_reply_patch).
 * Operation code knows nothing of this; only the reply helper (daemon/req.c) asks for the route of a request when it
 * leaves its thread.
 *
 * INIT is read and answered by the thread that starts the transport, before any other thread serves: it is queued when
 * mount(2) returns, and the kernel sends nothing else until it has the answer.
 *
 * Invariants.
 *  - A reply is written to the device clone from which its request was read: the kernel looks it up there.
 *  - A transport thread never waits for network, sync or room: such requests go to workers with their route.
 * Failure modes: a device error other than "unmounted" ends the thread that met it; when the last one has ended,
 * transport_wait returns and the daemon closes down as after an unmount. */
#ifndef JFS_DAEMON_TRANSPORT_H
#define JFS_DAEMON_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/errmsg.h"

struct awake;
struct fuse_session;
struct transport;

#define TRANSPORT_MAX_WRITE (1u << 20)

enum transport_kind {
	TRANSPORT_AUTO, /* rings where they can be had, else the classic loop */
	TRANSPORT_CLASSIC,
	TRANSPORT_IO_URING, /* or fail */
};

struct transport_config {
	enum transport_kind kind;
	unsigned threads;  /* of the classic loop; 0: two per CPU, at least 4 */
	size_t ring_payload; /* tests: other than the kernel will want; 0: right */
	bool no_open;	   /* OPEN is answered ENOSYS: then ATOMIC_O_TRUNC must be off */
	bool killpriv_v2;  /* we drop suid/sgid on write and truncate when told so */
	bool poll;	   /* keep CPUs from halting during bursts (awake.h); the classic loop spins then */
};

/* One way of moving requests: the classic loop over /dev/fuse, or rings. */
struct transport_ops {
	const char *name;
	/* Before INIT is answered: gets what may be wanting, and sets t->threads. On failure as if it had not been called. */
	int (*prepare)(struct transport *t, struct errmsg *e);
	/* After a failure only `free` may be called. */
	int (*start)(struct transport *t, struct errmsg *e);
	/* Makes every thread leave; returns when all have. */
	void (*stop)(struct transport *t);
	/* Returns when every thread has left by itself (unmounted, aborted). */
	void (*wait)(struct transport *t);
	void (*free)(struct transport *t);
	/* Writes a reply that belongs to `route`. As writev(2). */
	ssize_t (*reply)(struct transport *t, int route, struct iovec *iov, int count);
};
extern const struct transport_ops transport_classic, transport_ring;

/* What the implementations share; made by transport_start. */
struct transport {
	const struct transport_ops *ops;
	struct transport_config cfg;
	struct fuse_session *se;
	int fd;		 /* our duplicate of the session's, which libfuse closes early: notifications, and what has no other route */
	size_t buf_size; /* of one request at most */
	size_t ring_payload; /* of one entry */
	unsigned threads; /* that execute requests */
	unsigned cpus;	  /* that they share; 0: as many as there are threads */
	bool ring_taken;  /* the INIT reply said so */
	struct awake *awake; /* NULL without `poll` */
	void *impl;
	uint64_t init_unique; /* of the INIT request; only the starting thread looks at these two */
	uint64_t init_flags;
};

/* Can this kind be had here, as far as can be told before a mount? 0, or -errno with a text that says what to do. For
 * TRANSPORT_AUTO: can rings? */
int transport_check(enum transport_kind kind, struct errmsg *e);
/* After fuse_session_mount: hooks the session's I/O, answers INIT and starts the threads. *out is set before the first
 * of them runs. 0 or -errno with a text, and *out NULL. */
int transport_start(struct fuse_session *se, const struct transport_config *cfg, struct transport **out,
	struct errmsg *e);
/* That execute requests. */
unsigned transport_threads(const struct transport *t);
/* So many threads may sleep in a system call while requests go on being served. */
unsigned transport_spare(const struct transport *t);
const char *transport_name(const struct transport *t);
/* Are CPUs kept from halting at this moment? */
bool transport_polls(const struct transport *t);
/* Blocks until the kernel has closed the connection. */
void transport_wait(struct transport *t);
/* Ends all threads; requests still in workers can be answered afterwards. Not from a transport thread. */
void transport_stop(struct transport *t);
void transport_free(struct transport *t); /* NULL-safe; after stop or wait */

/* The route of the request that this thread is executing: keep it with a request that is answered elsewhere, and set
 * it in the answering thread just before fuse_reply_*. -1: the session's own descriptor. */
int transport_route(void);
void transport_set_route(int route);

/* The bytes of the request being executed in this thread as the kernel sent them (header first), or NULL in any other
 * thread: for the fields that libfuse 3.14 hides (write_flags, FATTR_KILL_SUIDGID). */
const void *transport_raw(size_t *len);
/* FUSE_WRITE_KILL_SUIDGID / FATTR_KILL_SUIDGID of the current request. Pure but for the thread's raw request. */
bool transport_kill_suid(void);
/* The same on given bytes (unit tests). */
bool raw_kill_suid(const void *raw, size_t len);

/* Where the reply's bytes to the request being executed in this thread will go: what is made there need not be copied.
 * *size bytes; NULL where there is no such place. */
void *transport_reply_place(size_t *size);

/* For implementations: run one request of `len` bytes that came over `route`. `place` (of `size` bytes, or NULL) holds nothing
 * of the request. */
void transport_execute(struct transport *t, int route, void *buf, size_t len, void *place, size_t size);

/* Tells the kernel to drop its cached names and attributes (when the lease was lost); best effort, kernel >= 6.16. */
void transport_drop_caches(struct transport *t);

/* Corrects the body of an INIT reply in place (struct fuse_init_out, without the 16 bytes of the header). `offered` are
 * the flags of the kernel's INIT (ring_wire.h). Pure. Too short a body is left alone. */
void init_reply_patch(void *body, size_t len, uint64_t offered, const struct transport_config *cfg);
/* Says in the reply that requests shall come over rings whose entries have room for `payload` bytes, if that was offered and
 * is enough. Pure. */
bool init_reply_take_ring(void *body, size_t len, uint64_t offered, size_t payload);

#endif
