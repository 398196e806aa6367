/* Hooks below libfuse, shared by all transports. See transport.h. */
#include "daemon/transport.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

/* The custom-I/O hooks get the file system's userdata, not ours; a process mounts one session. */
static struct transport *the_transport;

static __thread struct {
	bool set;
	int route;
	const void *raw;
	size_t raw_len;
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

void init_reply_patch(void *body, size_t len, uint32_t offered, const struct transport_config *cfg)
{
	struct fuse_init_out out;

	if (len < sizeof(out))
		return;
	memcpy(&out, body, sizeof(out));
	/* libfuse 3.14 keeps this in `want` but never sends it. */
	out.flags |= offered & FUSE_PARALLEL_DIROPS;
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

static ssize_t hook_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct transport *t = the_transport;
	const struct fuse_out_header *out = iov[0].iov_base;

	(void)userdata;
	(void)fd;
	if (out->unique == 0) /* a notification */
		return writev(t->fd, iov, count);
	if (out->unique == t->init_unique && !out->error && count >= 2)
		init_reply_patch(iov[1].iov_base, iov[1].iov_len, t->init_flags, &t->cfg);
	return t->ops->reply(t, transport_route(), iov, count);
}

static ssize_t hook_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

void transport_execute(struct transport *t, int route, void *buf, size_t len)
{
	const struct fuse_in_header *in = buf;
	struct fuse_buf fb = { .size = len, .mem = buf };

	if (len < sizeof(*in))
		return;
	if (in->opcode == FUSE_INIT && len >= sizeof(*in) + 16) {
		t->init_flags = ((const struct fuse_init_in *)(in + 1))->flags;
		t->init_unique = in->unique;
	}
	here.set = true;
	here.route = route;
	here.raw = buf;
	here.raw_len = len;
	fuse_session_process_buf(t->se, &fb);
	here.raw = NULL;
	here.raw_len = 0;
}

unsigned transport_threads(unsigned asked)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return asked ? asked : cpus > 2 ? 2 * (unsigned)cpus : 4;
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
	t->fd = fuse_session_fd(se);
	t->ops = &transport_classic;
	t->buf_size = TRANSPORT_MAX_WRITE + 65536;
	t->cfg.threads = transport_threads(cfg->threads);
	the_transport = t;
	r = fuse_session_custom_io(se, &io, t->fd);
	if (r == 0)
		r = t->ops->start(t, e);
	else
		errmsg_set(e, r, "libfuse refuses our I/O hooks: %s", strerror(-r));
	if (r) {
		the_transport = NULL;
		free(t);
		return r;
	}
	*out = t;
	return 0;
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
	the_transport = NULL;
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
