/* Hooks below libfuse, shared by all transports. See transport.h. */
#include "daemon/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/awake.h"
#include "daemon/ring_wire.h"
#include "util/log.h"

/* The custom-I/O hooks get the file system's userdata, not ours; a process mounts one session. */
static struct transport *the_transport;

static __thread struct current {
	bool set;
	int route;
	const void *raw;
	size_t raw_len;
	void *place;
	size_t place_size;
} here;

int transport_route(void)
{
	return here.set ? here.route : -1;
}

void transport_set_route(int route)
{
	here.set = true;
	here.route = route;
}

const void *transport_raw(size_t *len)
{
	*len = here.raw_len;
	return here.raw;
}

void *transport_reply_place(size_t *size)
{
	*size = here.place_size;
	return here.place;
}

bool raw_kill_suid(const void *raw, size_t len)
{
	const struct fuse_in_header *in = raw;
	const uint8_t *arg = (const uint8_t *)raw + sizeof(*in);

	if (!raw || len < sizeof(*in))
		return false;
	len -= sizeof(*in);
	if (in->opcode == FUSE_WRITE && len >= sizeof(struct fuse_write_in))
		return ((const struct fuse_write_in *)arg)->write_flags & FUSE_WRITE_KILL_SUIDGID;
	if (in->opcode == FUSE_SETATTR && len >= sizeof(struct fuse_setattr_in))
		return ((const struct fuse_setattr_in *)arg)->valid & FATTR_KILL_SUIDGID;
	return false;
}

bool transport_kill_suid(void)
{
	return raw_kill_suid(here.raw, here.raw_len);
}

void init_reply_patch(void *body, size_t len, uint64_t offered, const struct transport_config *cfg)
{
	struct fuse_init_out out;

	if (len < sizeof(out))
		return;
	memcpy(&out, body, sizeof(out));
	/* libfuse 3.14 keeps this in `want` but never sends it. */
	out.flags |= (uint32_t)offered & FUSE_PARALLEL_DIROPS;
	/* With it the kernel leaves the truncation to OPEN, which is never sent: `>` would not shorten a file. */
	if (cfg->no_open)
		out.flags &= ~(uint32_t)FUSE_ATOMIC_O_TRUNC;
	/* It also makes the kernel remember that a file has no security.capability instead of asking at each write. */
	if (cfg->killpriv_v2 && (offered & FUSE_HANDLE_KILLPRIV_V2)) {
		out.flags |= FUSE_HANDLE_KILLPRIV_V2;
		out.flags &= ~(uint32_t)FUSE_HANDLE_KILLPRIV;
	}
	memcpy(body, &out, sizeof(out));
}

bool init_reply_take_ring(void *body, size_t len, uint64_t offered, size_t payload)
{
	struct fuse_init_out out;

	/* libfuse 3.14 does not know of it. */
	if (len < sizeof(out) || !(offered & INIT_OVER_IO_URING) || init_reply_payload(body, len) > payload)
		return false;
	memcpy(&out, body, sizeof(out));
	if (!(out.flags & FUSE_INIT_EXT))
		return false;
	out.flags2 |= (uint32_t)(INIT_OVER_IO_URING >> 32);
	memcpy(body, &out, sizeof(out));
	return true;
}

static void amend_init_reply(struct transport *t, void *body, size_t len)
{
	init_reply_patch(body, len, t->init_flags, &t->cfg);
	if (t->ops == &transport_ring)
		t->ring_taken = init_reply_take_ring(body, len, t->init_flags, TRANSPORT_MAX_WRITE);
}

static ssize_t hook_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct transport *t = the_transport;
	const struct fuse_out_header *out = iov[0].iov_base;

	(void)userdata;
	(void)fd;
	if (out->unique == 0) /* a notification */
		return writev(t->fd, iov, count);
	if (out->unique == t->init_unique && !out->error && count >= 2)
		amend_init_reply(t, iov[1].iov_base, iov[1].iov_len);
	return t->ops->reply(t, transport_route(), iov, count);
}

static ssize_t hook_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

void transport_execute(struct transport *t, int route, void *buf, size_t len, void *place, size_t size)
{
	const struct fuse_in_header *in = buf;
	struct fuse_buf fb = { .size = len, .mem = buf };
	struct current outer = here; /* an INTERRUPT may be executed within another request */

	if (len < sizeof(*in))
		return;
	awake_note(t->awake);
	if (in->opcode == FUSE_INIT) {
		t->init_flags = init_offer(in + 1, len - sizeof(*in));
		t->init_unique = in->unique;
	}
	here = (struct current){ .set = true, .route = route, .raw = buf, .raw_len = len,
		.place = place, .place_size = size };
	fuse_session_process_buf(t->se, &fb);
	here = outer;
}

/* The kernel's first request, which it queued with the mount. */
static int exchange_init(struct transport *t, struct errmsg *e)
{
	void *buf = malloc(t->buf_size);
	ssize_t n;

	if (!buf)
		return errmsg_set(e, -ENOMEM, "out of memory");
	do
		n = read(t->fd, buf, t->buf_size);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		int err = errno;

		free(buf);
		return errmsg_set(e, -err, "the kernel ended the mount before it began: %s", strerror(err));
	}
	transport_execute(t, -1, buf, (size_t)n, NULL, 0);
	free(buf);
	if (fuse_session_exited(t->se))
		return errmsg_set(e, -EPROTO, "libfuse and this kernel do not understand each other");
	return 0;
}

/* --- which one --- */
#define RING_PARAMETER "/sys/module/fuse/parameters/enable_uring"

static int ring_check(struct errmsg *e)
{
	char c = 'N';
	int fd = open(RING_PARAMETER, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errmsg_set(e, -EOPNOTSUPP, "this kernel has no FUSE over io_uring (Linux 6.14 and later have)");
	if (read(fd, &c, 1) != 1)
		c = 'N';
	close(fd);
	if (c != 'Y' && c != '1')
		return errmsg_set(e, -EOPNOTSUPP, "FUSE over io_uring is turned off in this kernel; root turns it on with"
						  " `echo Y > " RING_PARAMETER "` before the mount, or"
						  " fuse.enable_uring=1 on the kernel's command line");
	return 0;
}

int transport_check(enum transport_kind kind, struct errmsg *e)
{
	return kind == TRANSPORT_CLASSIC ? 0 : ring_check(e);
}

/* Chooses, as far as it can be told before INIT. */
static int choose(struct transport *t, struct errmsg *e)
{
	int r;

	t->ops = &transport_classic;
	if (t->cfg.kind == TRANSPORT_CLASSIC)
		return 0;
	r = ring_check(e);
	if (r == 0)
		r = transport_ring.prepare(t, e);
	if (r == 0)
		t->ops = &transport_ring;
	return r;
}

/* The rings that were prepared are not to be. */
static void back_to_classic(struct transport *t)
{
	t->ops->free(t);
	t->ops = &transport_classic;
}

static int start_ring(struct transport *t, struct errmsg *e)
{
	int r;

	if (t->ring_taken)
		r = t->ops->start(t, e);
	else
		r = errmsg_set(e, -EOPNOTSUPP, "the kernel did not offer FUSE over io_uring for this mount");
	if (r)
		back_to_classic(t);
	return r;
}

static int start(struct transport *t, struct errmsg *e)
{
	struct errmsg why = { "" };
	bool may_fall_back = t->cfg.kind != TRANSPORT_IO_URING;
	int r = choose(t, &why);

	if (r && !may_fall_back) {
		*e = why;
		return r;
	}
	r = exchange_init(t, e);
	if (r) {
		back_to_classic(t);
		return r;
	}
	if (t->ops == &transport_ring) {
		r = start_ring(t, &why);
		if (r == 0)
			return 0;
		if (!may_fall_back) {
			*e = why;
			return r;
		}
	}
	r = transport_classic.start(t, e);
	if (r == 0)
		log_info("event=transport name=classic threads=%u%s%s%s", t->threads, why.text[0] ? " why=\"" : "", why.text,
			why.text[0] ? "\"" : "");
	return r;
}

int transport_start(struct fuse_session *se, const struct transport_config *cfg, struct transport **out,
	struct errmsg *e)
{
	static const struct fuse_custom_io io = { .writev = hook_writev, .read = hook_read };
	struct transport *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return errmsg_set(e, -ENOMEM, "out of memory");
	t->cfg = *cfg;
	t->se = se;
	t->fd = fcntl(fuse_session_fd(se), F_DUPFD_CLOEXEC, 3);
	if (t->fd < 0) {
		r = -errno;
		free(t);
		return errmsg_set(e, r, "cannot duplicate a descriptor: %s", strerror(-r));
	}
	t->buf_size = TRANSPORT_MAX_WRITE + 65536;
	t->ring_payload = cfg->ring_payload ? cfg->ring_payload : TRANSPORT_MAX_WRITE;
	the_transport = t;
	*out = t;
	r = fuse_session_custom_io(se, &io, fuse_session_fd(se));
	if (r)
		errmsg_set(e, r, "libfuse refuses our I/O hooks: %s", strerror(-r));
	if (r == 0 && cfg->poll)
		r = awake_new(&t->awake, e);
	if (r == 0)
		r = start(t, e);
	if (r) {
		*out = the_transport = NULL;
		awake_free(t->awake);
		close(t->fd);
		free(t);
	}
	return r;
}

unsigned transport_threads(const struct transport *t)
{
	return t->threads;
}

unsigned transport_spare(const struct transport *t)
{
	unsigned n = t->cpus && t->cpus < t->threads ? t->cpus : t->threads;

	return n > 1 ? n - 1 : 1;
}

const char *transport_name(const struct transport *t)
{
	return t->ops->name;
}

bool transport_polls(const struct transport *t)
{
	return awake_held(t->awake);
}

void transport_wait(struct transport *t)
{
	t->ops->wait(t);
}

void transport_stop(struct transport *t)
{
	t->ops->stop(t);
}

void transport_free(struct transport *t)
{
	if (!t)
		return;
	t->ops->free(t);
	awake_free(t->awake);
	the_transport = NULL;
	close(t->fd);
	free(t);
}

void transport_drop_caches(struct transport *t)
{
	enum { NOTIFY_INC_EPOCH = 8 }; /* protocol 7.44, not in Debian 12's headers */
	struct fuse_out_header out = { .len = sizeof(out), .error = NOTIFY_INC_EPOCH };
	struct iovec iov = { &out, sizeof(out) };

	if (writev(t->fd, &iov, 1) < 0)
		log_info("event=drop_caches result=\"%s\"", strerror(errno));
}
