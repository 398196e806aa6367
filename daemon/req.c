/* The frame every operation runs in. See req.h. */
#include "daemon/req.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/accesslog.h"
#include "daemon/asked.h"
#include "daemon/caller.h"
#include "daemon/transport.h"
#include "daemon/virt.h"
#include "util/clock.h"
#include "util/log.h"

void req_init(struct req *r, fuse_req_t q, const struct op *op)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(q);

	memset(r, 0, sizeof(*r));
	r->s = req_session(q);
	r->q = q;
	r->op = op;
	r->route = transport_route();
	r->hold = -1;
	r->cred = (struct fs_cred){ .uid = ctx->uid, .gid = ctx->gid, .pid = (uint32_t)ctx->pid, .umask = ctx->umask };
	r->started_ns = clock_mono_ns();
}

/* --- thread's reply buffer --- */
static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
struct thread_buffer {
	size_t size;
	_Alignas(64) char bytes[];
};

static void buffer_key_make(void)
{
	if (pthread_key_create(&buffer_key, free))
		abort();
}

void *req_buffer(size_t n)
{
	struct thread_buffer *b;
	size_t room;
	void *place = transport_reply_place(&room);

	if (place && n <= room)
		return place;
	pthread_once(&buffer_once, buffer_key_make);
	b = pthread_getspecific(buffer_key);
	if (b && b->size >= n)
		return b->bytes;
	free(b);
	pthread_setspecific(buffer_key, NULL);
	if (n < 128 * 1024)
		n = 128 * 1024;
	if (posix_memalign((void **)&b, 64, sizeof(*b) + n))
		return NULL;
	b->size = n;
	if (pthread_setspecific(buffer_key, b)) {
		free(b);
		return NULL;
	}
	return b->bytes;
}

/* --- leaving the thread --- */
static char *copy_bytes(char **p, const void *src, size_t n)
{
	char *dst = *p;

	memcpy(dst, src, n);
	*p += n;
	return dst;
}

/* The request as one heap block, names and data behind it. NULL: out of memory. */
static struct req *req_clone(const struct req *r)
{
	size_t n1 = r->name ? strlen(r->name) + 1 : 0, n2 = r->name2 ? strlen(r->name2) + 1 : 0;
	/* Bytes that are staged already are not needed again. */
	size_t nd = r->data && !r->have_staged ? r->data_len : 0;
	struct req *c = malloc(sizeof(*c) + n1 + n2 + nd);
	char *p;

	if (!c)
		return NULL;
	memcpy(c, r, sizeof(*c));
	c->on_heap = true;
	p = (char *)(c + 1);
	if (n1)
		c->name = copy_bytes(&p, r->name, n1);
	if (n2)
		c->name2 = copy_bytes(&p, r->name2, n2);
	c->data = nd ? copy_bytes(&p, r->data, nd) : NULL;
	return c;
}

static void req_free(struct req *r)
{
	if (r->have_staged) /* given up: no record names the bytes */
		staging_release(journal_staging(r->s->journal), r->staged.segment);
	free(r->heap);
	r->heap = NULL;
	if (r->on_heap)
		free(r);
}

/* --- answering --- */
static bool gate_enter(struct session *s)
{
	bool ok;

	pthread_mutex_lock(&s->gate_lock);
	ok = !s->stopped;
	if (ok)
		s->replying++;
	pthread_mutex_unlock(&s->gate_lock);
	return ok;
}

static void gate_leave(struct session *s)
{
	pthread_mutex_lock(&s->gate_lock);
	if (--s->replying == 0)
		pthread_cond_broadcast(&s->gate_cond);
	pthread_mutex_unlock(&s->gate_lock);
}

static int forget_attributes(struct req *r, uint64_t ino)
{
	int rc = fuse_lowlevel_notify_inval_inode(r->s->se, ino_out(r->s, ino), -1, 0);

	if (rc && rc != -ENOENT)
		log_warn("event=invalidate ino=%llu err=\"%s\"", (unsigned long long)ino, strerror(-rc));
	return rc == -ENOENT ? 0 : rc;
}

/* What the kernel counts no version for (asked.h) is invalidated, before the caller goes on. */
static void changed(struct req *r, uint64_t ino, bool dir)
{
	uint64_t when = ino ? asked_changed(r->s->asked, ino, dir, r->cred.pid) : 0;

	if (when && forget_attributes(r, ino) == 0)
		asked_settled(r->s->asked, ino, dir, when);
}

static void tell_changes(struct req *r)
{
	switch (r->op->stat) {
	case SO_MKNOD:
	case SO_CREATE:
	case SO_MKDIR:
	case SO_SYMLINK:
	case SO_LINK:
	case SO_UNLINK:
	case SO_RMDIR:
	case SO_RENAME:
		changed(r, r->ino, true);
		changed(r, r->ino2, r->op->stat != SO_LINK);
		break;
	case SO_WRITE:
		if (r->direct && r->kill.done)
			forget_attributes(r, r->ino);
		break;
	case SO_FALLOCATE:
		changed(r, r->ino, false);
		break;
	case SO_SETXATTR:
	case SO_REMOVEXATTR:
		changed(r, r->ino, true);
		changed(r, r->ino, false);
		break;
	default:
		break;
	}
}

static void reply(struct req *r, int err)
{
	int sent;

	transport_set_route(r->route);
	if (err) {
		/* EAGAIN and friends of ours must not leak out; libfuse wants 0..1000. Damage is told in the log. */
		fuse_reply_err(r->q, err < 0 && err > -1000 && err != -EUCLEAN && err != -EBADMSG ? -err : EIO);
		sent = -1;
	} else {
		tell_changes(r);
		sent = r->op->send(r);
	}
	/* The kernel did not take the entry (the caller was killed): its reference comes back. After an error nothing
	 * was given out. */
	if (!err && sent < 0 && r->op->gives_entry)
		fs_forget(r->s->fs, r->attr.ino, 1);
}

void req_done(struct req *r, int err)
{
	struct session *s = r->s;
	bool elsewhere = r->on_heap;

	if (!r->op->unseen) {
		stats_op(s->stats, r->op->stat, clock_mono_ns() - r->started_ns, err);
		accesslog_add(s->alog, r, err);
	}
	if (!elsewhere) {
		reply(r, err);
	} else if (gate_enter(s)) {
		reply(r, err);
		gate_leave(s);
	} else {
		fuse_reply_none(r->q);
	}
	req_free(r);
}

/* It was answered while it waited. `ran`: run() had succeeded, and what it gave out comes back. */
static void req_drop(struct req *r, bool ran)
{
	if (ran && r->op->gives_entry)
		fs_forget(r->s->fs, r->attr.ino, 1);
	if (!r->op->unseen)
		stats_op(r->s->stats, r->op->stat, clock_mono_ns() - r->started_ns, -EINTR);
	req_free(r);
}

/* --- waiting for a watermark --- */
static void hold_passed(void *arg, int err)
{
	if (wait_end(arg))
		req_done(arg, err);
	else
		req_drop(arg, true);
}

static void req_hold(struct req *r, enum watermark mark, uint64_t seq)
{
	struct req *c = r;

	if (seq <= journal_mark(r->s->journal, mark)) {
		req_done(r, 0);
		return;
	}
	if (!r->on_heap) {
		c = req_clone(r);
		if (!c) {
			req_done(r, -ENOMEM);
			return;
		}
		r->heap = NULL;
	}
	wait_begin(c);
	journal_when(c->s->journal, mark, seq, hold_passed, c);
}

/* Also finds out what run() asks about the caller. */
static int req_run(struct req *r)
{
	int rc;

	while ((rc = r->op->run(r)) == FS_MEMBER)
		fs_cred_tell(&r->cred, &r->need, caller_in_group(r->q, (uint32_t)r->need.ino));
	return rc;
}

static void req_park(struct req *r, int why);

/* What run() answered. */
static void req_settle(struct req *r, int rc)
{
	const struct session_config *cfg = &r->s->cfg;

	if (rc > 0)
		req_park(r, rc);
	else if (rc < 0)
		req_done(r, rc);
	else if (r->hold >= 0)
		req_hold(r, (enum watermark)r->hold, r->seq);
	else if (r->seq && cfg->meta_waits)
		req_hold(r, WM_APPLIED, r->seq);
	else if (r->seq && cfg->strict)
		req_hold(r, WM_SYNCED, r->seq);
	else
		req_done(r, 0);
}

static void work(struct worker_job *job)
{
	struct req *r = (struct req *)job;
	struct session *s = r->s;
	int err = 0;

	r->in_worker = true;
	free(r->heap); /* of a run that did not end */
	r->heap = NULL;
	if (r->why == FS_NEED) {
		err = s->loader ? s->loader->load(s->loader->ctx, &r->need) : -EIO;
		if (err && !s->loader)
			log_error("event=need kind=%d ino=%llu error=\"nothing can be loaded in a local-only mount\"",
				(int)r->need.kind, (unsigned long long)r->need.ino);
	} else if (r->why == REQ_GATE && r->gate_err) {
		err = r->gate_err;
	} else if (r->why == FS_ROOM || r->why == REQ_GATE) {
		err = journal_wait_room(s->journal);
	} else if (r->fetch) {
		err = r->fetch(r);
	}
	if (!wait_end(r)) {
		req_drop(r, false);
		return;
	}
	req_settle(r, err ? err : req_run(r));
}

/* Leaves the transport thread, if it is in one. NULL: it has been answered, without memory. */
static struct req *req_leave(struct req *r)
{
	struct req *c = r;

	if (!r->on_heap) {
		c = req_clone(r);
		if (!c) {
			req_done(r, -ENOMEM);
			return NULL;
		}
		r->heap = NULL;
	}
	c->job.run = work;
	return c;
}

static struct worker_pool *pool_of(const struct req *r)
{
	struct session *s = r->s;

	if (r->why == FS_NEED)
		return r->need.kind == NEED_INODE_IDS ? s->ids : s->net;
	if (r->op->lane == GATE_DATA)
		return s->data;
	if (virt_is(r->ino))
		return s->control;
	return r->why == REQ_PARK ? s->net : s->room;
}

static void req_park(struct req *r, int why)
{
	struct req *c = req_leave(r);

	if (!c)
		return;
	c->why = (uint8_t)why;
	wait_begin(c);
	worker_submit(pool_of(c), &c->job);
}

static void gate_opened(struct gate_wait *w, int err)
{
	struct req *r = (struct req *)((char *)w - offsetof(struct req, gate));

	r->gate_err = err;
	worker_submit(pool_of(r), &r->job);
}

static void req_gate(struct req *r)
{
	struct req *c = req_leave(r);

	if (!c)
		return;
	c->why = REQ_GATE;
	c->gate = (struct gate_wait){ .bytes = c->op->lane == GATE_DATA ? c->size : 0, .ino = c->ino, .go = gate_opened };
	wait_begin(c);
	gate_park(c->s->cfg.gate, c->op->lane, &c->gate);
}

void req_start(struct req *r)
{
	if (gate_pass(r->s->cfg.gate, r->op->lane, r->op->lane == GATE_DATA ? r->size : 0))
		req_settle(r, req_run(r));
	else
		req_gate(r);
}

/* --- conversions --- */
double session_ttl(const struct session *s)
{
	return atomic_load_explicit(&s->uncached, memory_order_relaxed) ? 0 : s->ttl;
}

void attr_to_stat(const struct session *s, const struct fs_attr *a, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino_out(s, a->ino);
	st->st_mode = jfs_attr_st_mode(&a->a);
	st->st_nlink = a->a.nlink;
	st->st_uid = a->a.uid;
	st->st_gid = a->a.gid;
	st->st_rdev = a->a.rdev;
	st->st_size = (off_t)(a->a.type == JFS_FILE || a->a.type == JFS_SYMLINK ? a->a.length :
			      a->a.type == JFS_DIR ? 4096 : 0);
	st->st_blksize = 65536;
	st->st_blocks = (blkcnt_t)(((uint64_t)st->st_size + 511) / 512);
	st->st_atim = (struct timespec){ a->a.atime, a->a.atime_nsec };
	st->st_mtim = (struct timespec){ a->a.mtime, a->a.mtime_nsec };
	st->st_ctim = (struct timespec){ a->a.ctime, a->a.ctime_nsec };
}

/* How long the kernel may keep attributes that it gets for this request. */
static double attr_ttl(const struct req *r, const struct fs_attr *a)
{
	bool keep = r->born || asked_note(r->s->asked, a->ino, a->a.type == JFS_DIR, r->cred.pid, r->started_ns);

	return keep ? session_ttl(r->s) : 0;
}

void attr_to_entry(const struct req *r, const struct fs_attr *a, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = ino_out(r->s, a->ino);
	e->generation = 1;
	attr_to_stat(r->s, a, &e->attr);
	e->entry_timeout = session_ttl(r->s);
	e->attr_timeout = attr_ttl(r, a);
}

/* --- common senders --- */
int send_entry(struct req *r)
{
	struct fuse_entry_param e;

	attr_to_entry(r, &r->attr, &e);
	return fuse_reply_entry(r->q, &e);
}

int send_attr(struct req *r)
{
	struct stat st;

	attr_to_stat(r->s, &r->attr, &st);
	return fuse_reply_attr(r->q, &st, attr_ttl(r, &r->attr));
}

int send_ok(struct req *r)
{
	return fuse_reply_err(r->q, 0);
}

int send_out(struct req *r)
{
	return fuse_reply_buf(r->q, r->out, r->out_len);
}
