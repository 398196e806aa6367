/* How requests come from the kernel and replies go back.
 *
 * libfuse parses requests and builds replies; we move the bytes, through fuse_session_custom_io. That is also where the
 * INIT reply is corrected, since libfuse 3.14 cannot say everything the kernel understands (init_reply_patch).
 * Operation code knows nothing of this; only the reply helper (daemon/req.c) asks for the route of a request when it
 * leaves its thread.
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

struct fuse_session;
struct transport;

#define TRANSPORT_MAX_WRITE (1u << 20)

struct transport_config {
	unsigned threads;  /* 0: two per CPU, at least 4 */
	bool no_open;	   /* OPEN is answered ENOSYS: then ATOMIC_O_TRUNC must be off */
	bool killpriv_v2;  /* we drop suid/sgid on write and truncate when told so */
};

/* One way of moving requests: the classic loop over /dev/fuse now, rings later. */
struct transport_ops {
	const char *name;
	int (*start)(struct transport *t, struct errmsg *e);
	/* Makes every thread leave; returns when all have. */
	void (*stop)(struct transport *t);
	/* Returns when every thread has left by itself (unmounted, aborted). */
	void (*wait)(struct transport *t);
	void (*free)(struct transport *t);
	/* Writes a reply that belongs to `route`. As writev(2). */
	ssize_t (*reply)(struct transport *t, int route, struct iovec *iov, int count);
};
extern const struct transport_ops transport_classic;

/* What the implementations share; made by transport_start. */
struct transport {
	const struct transport_ops *ops;
	struct transport_config cfg;
	struct fuse_session *se;
	int fd;		 /* the session's own: notifications, and what has no other route */
	size_t buf_size; /* of one request at most */
	void *impl;
	uint64_t init_unique; /* of the INIT request; written by the thread that reads it, which also answers it */
	uint32_t init_flags;
};

/* How many threads there will be when `asked` for so many. */
unsigned transport_threads(unsigned asked);
/* After fuse_session_mount: hooks the session's I/O and starts the threads. 0 or -errno with a text. */
int transport_start(struct fuse_session *se, const struct transport_config *cfg, struct transport **out,
	struct errmsg *e);
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

/* For implementations: run one request of `len` bytes that came over `route`. */
void transport_execute(struct transport *t, int route, void *buf, size_t len);

/* Tells the kernel to drop its cached names and attributes (when the lease was lost); best effort, kernel >= 6.16. */
void transport_drop_caches(struct transport *t);

/* Corrects the body of an INIT reply in place (struct fuse_init_out, without the 16 bytes of the header). `offered` are
 * the flags of the kernel's INIT. Pure. Too short a body is left alone. */
void init_reply_patch(void *body, size_t len, uint32_t offered, const struct transport_config *cfg);

#endif
