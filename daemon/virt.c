/* See virt.h. One lock over all instances and their contents; nothing blocks under it but the waits of workers. An
 * instance lives while the kernel holds it or a worker uses it (refs). */
#include "daemon/virt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/accesslog.h"
#include "daemon/req.h"
#include "daemon/transport.h"
#include "daemon/verbs.h"
#include "util/clock.h"

enum virt_kind { V_ACCESSLOG = 1, V_CONTROL = 2, V_STATS = 3, V_CONFIG = 4 }; /* as the inode numbers of spec 6.1 */

static const struct {
	const char *name;
	enum virt_kind kind;
	mode_t mode;
} files[] = {
	{ ".accesslog", V_ACCESSLOG, 0400 },
	{ ".control", V_CONTROL, 0666 },
	{ ".stats", V_STATS, 0444 },
	{ ".config", V_CONFIG, 0400 },
};
enum { N_FILES = sizeof(files) / sizeof(files[0]) };

enum {
	LOG_MAX = 4 << 20,	 /* unread lines kept for a slow reader; later ones are dropped */
	LOG_BEHIND = 256 << 10,	 /* kept behind the reader: the kernel reads whole pages again */
	CONTROL_MAX = 1 << 20,	 /* of one request */
	IDLE_MS = 1000,
};

struct instance {
	struct accesslog_sink sink; /* first */
	struct instance *next;
	struct virt *v;
	fuse_ino_t node;
	unsigned file; /* index into files[] */
	uint64_t refs;
	struct buf text; /* bytes from `base` on */
	uint64_t base, read_end;
	size_t parsed;	 /* .control: of text, what belongs to answered requests and their answers */
	unsigned running; /* .control: commands in workers */
	struct timespec born;
};

struct virt {
	struct session *s;
	pthread_mutex_t lock;
	pthread_cond_t grown;
	struct instance *list;
	uint64_t next_node;
	bool stopping;
};

bool virt_is_name(fuse_ino_t parent, const char *name)
{
	if (parent != FUSE_ROOT_ID || name[0] != '.')
		return false;
	for (unsigned i = 0; i < N_FILES; i++)
		if (strcmp(name, files[i].name) == 0)
			return true;
	return false;
}

struct virt *virt_new(struct session *s)
{
	struct virt *v = calloc(1, sizeof(*v));
	pthread_condattr_t ca;

	if (!v)
		return NULL;
	v->s = s;
	v->next_node = VIRT_NODE_BASE;
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&v->grown, &ca);
	pthread_condattr_destroy(&ca);
	return v;
}

void virt_stop(struct virt *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	v->stopping = true;
	pthread_cond_broadcast(&v->grown);
	pthread_mutex_unlock(&v->lock);
}

bool virt_is_stopping(struct virt *v)
{
	bool stopping;

	pthread_mutex_lock(&v->lock);
	stopping = v->stopping;
	pthread_mutex_unlock(&v->lock);
	return stopping;
}

static uint64_t instance_size(const struct instance *in)
{
	return in->base + in->text.len;
}

static struct instance *find(struct virt *v, fuse_ino_t node)
{
	struct instance *in = v->list;

	while (in && in->node != node)
		in = in->next;
	return in;
}

static void instance_free(struct instance *in)
{
	if (files[in->file].kind == V_ACCESSLOG)
		accesslog_unwatch(in->v->s->alog, &in->sink);
	buf_fini(&in->text);
	free(in);
}

/* Gives n references back; frees with the last. Lock not held: a sink may be waiting for it. */
static void instance_put(struct virt *v, struct instance *in, uint64_t n)
{
	bool last;

	pthread_mutex_lock(&v->lock);
	in->refs -= n < in->refs ? n : in->refs;
	last = in->refs == 0;
	for (struct instance **p = &v->list; last && *p; p = &(*p)->next) {
		if (*p == in) {
			*p = in->next;
			break;
		}
	}
	pthread_mutex_unlock(&v->lock);
	if (last)
		instance_free(in);
}

static struct instance *instance_get(struct virt *v, fuse_ino_t node)
{
	struct instance *in;

	pthread_mutex_lock(&v->lock);
	in = find(v, node);
	if (in)
		in->refs++;
	pthread_mutex_unlock(&v->lock);
	return in;
}

void virt_free(struct virt *v)
{
	struct instance *in;

	if (!v)
		return;
	while ((in = v->list) != NULL) {
		v->list = in->next;
		instance_free(in);
	}
	pthread_cond_destroy(&v->grown);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

static void fill_stat(const struct instance *in, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = JFS_VIRT_INODE + files[in->file].kind;
	st->st_mode = S_IFREG | files[in->file].mode;
	st->st_nlink = 1;
	st->st_uid = geteuid();
	st->st_gid = getegid();
	st->st_size = (off_t)instance_size(in);
	st->st_blksize = 4096;
	st->st_atim = st->st_mtim = st->st_ctim = in->born;
}

/* A line of the access log. Lines that nobody reads in time are dropped, whole ones. */
static void log_line_in(struct accesslog_sink *sink, const char *line, size_t n)
{
	struct instance *in = (struct instance *)sink;
	struct virt *v = in->v;

	pthread_mutex_lock(&v->lock);
	if (instance_size(in) - in->read_end + n <= LOG_MAX)
		buf_put(&in->text, line, n);
	pthread_cond_broadcast(&v->grown);
	pthread_mutex_unlock(&v->lock);
}

/* Drops what is far behind the reader. Lock held. */
static void log_trim(struct instance *in)
{
	uint64_t keep = in->read_end > LOG_BEHIND ? (in->read_end - LOG_BEHIND) & ~4095ull : 0;

	if (keep < in->base + LOG_BEHIND)
		return;
	memmove(in->text.data, in->text.data + (keep - in->base), in->text.len - (keep - in->base));
	in->text.len -= keep - in->base;
	in->base = keep;
}

static int instance_fill(struct virt *v, struct instance *in)
{
	switch (files[in->file].kind) {
	case V_STATS:
		return stats_write(v->s->stats, &in->text);
	case V_CONFIG:
		return v->s->cfg.config_text(v->s->cfg.ctx, &in->text);
	case V_ACCESSLOG:
		in->sink.line = log_line_in;
		accesslog_watch(v->s->alog, &in->sink);
		return 0;
	case V_CONTROL:
		return 0;
	}
	return 0;
}

bool virt_lookup(struct session *s, fuse_req_t q, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .generation = 1 };
	struct virt *v = s->virt;
	struct instance *in;
	unsigned file = 0;
	int rc;

	while (file < N_FILES && strcmp(name, files[file].name) != 0)
		file++;
	if (parent != FUSE_ROOT_ID || file == N_FILES || (files[file].kind == V_CONFIG && !s->cfg.config_text))
		return false;
	in = calloc(1, sizeof(*in));
	if (!in) {
		fuse_reply_err(q, ENOMEM);
		return true;
	}
	buf_init(&in->text, 2 * LOG_MAX);
	in->v = v;
	in->file = file;
	in->refs = 1;
	clock_gettime(CLOCK_REALTIME, &in->born);
	rc = instance_fill(v, in);
	if (rc) {
		instance_free(in);
		fuse_reply_err(q, -rc);
		return true;
	}
	pthread_mutex_lock(&v->lock);
	in->node = v->next_node++;
	in->next = v->list;
	v->list = in;
	e.ino = in->node;
	fill_stat(in, &e.attr);
	pthread_mutex_unlock(&v->lock);
	if (fuse_reply_entry(q, &e) < 0)
		virt_forget(s, e.ino, 1);
	return true;
}

void virt_forget(struct session *s, fuse_ino_t ino, uint64_t n)
{
	struct instance *in = instance_get(s->virt, ino);

	if (in)
		instance_put(s->virt, in, n + 1);
}

/* --- getattr: where readers wait --- */
static bool must_wait(const struct instance *in)
{
	if (in->v->stopping || instance_size(in) > in->read_end)
		return false;
	return files[in->file].kind == V_ACCESSLOG || in->running > 0;
}

static void answer_attr(struct virt *v, struct instance *in, fuse_req_t q)
{
	struct stat st;

	pthread_mutex_lock(&v->lock);
	fill_stat(in, &st);
	pthread_mutex_unlock(&v->lock);
	fuse_reply_attr(q, &st, 0);
}

/* The next line, or "#" after an idle second (spec 6.1); an answer of .control as long as it takes. */
static int wait_for_more(struct req *r)
{
	struct virt *v = r->s->virt;
	struct instance *in = instance_get(v, r->ino);
	struct timespec until = clock_mono_after_ms(IDLE_MS);

	if (!in)
		return -ENOENT;
	pthread_mutex_lock(&v->lock);
	while (must_wait(in)) {
		if (files[in->file].kind != V_ACCESSLOG)
			pthread_cond_wait(&v->grown, &v->lock);
		else if (pthread_cond_timedwait(&v->grown, &v->lock, &until) == ETIMEDOUT && must_wait(in))
			buf_puts(&in->text, "#\n");
	}
	pthread_mutex_unlock(&v->lock);
	instance_put(v, in, 1);
	return 0;
}

static int wait_run(struct req *r)
{
	return r->in_worker ? 0 : REQ_PARK;
}

static int wait_send(struct req *r)
{
	struct virt *v = r->s->virt;
	struct instance *in = instance_get(v, r->ino);

	if (!in)
		return fuse_reply_err(r->q, ENOENT);
	answer_attr(v, in, r->q);
	instance_put(v, in, 1);
	return 0;
}

static const struct op wait_op = { .stat = SO_GETATTR, .run = wait_run, .send = wait_send, .unseen = true };

void virt_getattr(struct session *s, fuse_req_t q, fuse_ino_t ino, bool at_end)
{
	struct virt *v = s->virt;
	struct instance *in = instance_get(v, ino);
	struct req r;
	bool wait;

	if (!in) {
		fuse_reply_err(q, ENOENT);
		return;
	}
	pthread_mutex_lock(&v->lock);
	wait = at_end && must_wait(in);
	pthread_mutex_unlock(&v->lock);
	if (!wait)
		answer_attr(v, in, q);
	instance_put(v, in, 1);
	if (!wait)
		return;
	req_init(&r, q, &wait_op);
	r.fetch = wait_for_more;
	r.ino = ino;
	req_start(&r);
}

void virt_setattr(struct session *s, fuse_req_t q, fuse_ino_t ino, int valid)
{
	struct instance *in = instance_get(s->virt, ino);

	if (!in) {
		fuse_reply_err(q, ENOENT);
		return;
	}
	/* `echo > .control` truncates before it writes; times come with a write. */
	if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) ||
		((valid & FUSE_SET_ATTR_SIZE) && files[in->file].kind != V_CONTROL))
		fuse_reply_err(q, EPERM);
	else
		answer_attr(s->virt, in, q);
	instance_put(s->virt, in, 1);
}

void virt_read(struct session *s, fuse_req_t q, fuse_ino_t ino, size_t size, off_t off)
{
	struct virt *v = s->virt;
	struct instance *in = instance_get(v, ino);
	char *out = in ? req_buffer(size) : NULL;
	uint64_t pos = (uint64_t)off;
	size_t n = 0;

	if (!in || !out) {
		fuse_reply_err(q, in ? ENOMEM : ENOENT);
		if (in)
			instance_put(v, in, 1);
		return;
	}
	pthread_mutex_lock(&v->lock);
	if (pos >= in->base && pos < instance_size(in)) {
		n = (size_t)(instance_size(in) - pos);
		n = n < size ? n : size;
		memcpy(out, in->text.data + (pos - in->base), n);
		if (pos + n > in->read_end)
			in->read_end = pos + n;
		if (files[in->file].kind == V_ACCESSLOG)
			log_trim(in);
	}
	pthread_mutex_unlock(&v->lock);
	fuse_reply_buf(q, out, n);
	instance_put(v, in, 1);
}

/* --- .control --- */
struct virt_job {
	struct worker_job job; /* first */
	struct instance *in;
	struct tree_caller who;
	uint32_t verb;
	size_t len;
	uint8_t payload[];
};

static void answer_command(struct instance *in, int err)
{
	struct virt *v = in->v;

	pthread_mutex_lock(&v->lock);
	in->running--;
	buf_put_u8(&in->text, (uint8_t)-err);
	in->parsed = in->text.len;
	pthread_cond_broadcast(&v->grown);
	pthread_mutex_unlock(&v->lock);
}

static void run_command(struct worker_job *job)
{
	struct virt_job *j = (struct virt_job *)job;

	answer_command(j->in, verb_run(j->in->v->s, &j->who, j->verb, j->payload, j->len));
	instance_put(j->in->v, j->in, 1);
	free(j);
}

/* Takes what was written: a job when a request is complete. 0, 1 (*out is set), -ENOMEM. Lock held. */
static int command_take(struct instance *in, struct virt_job **out)
{
	const uint8_t *p = in->text.data + in->parsed;
	size_t left = in->text.len - in->parsed, len;
	struct virt_job *j;

	if (in->running || left < 8 || left - 8 < get_be32(p + 4))
		return 0;
	len = get_be32(p + 4);
	j = calloc(1, sizeof(*j) + len);
	if (!j)
		return -ENOMEM;
	j->in = in;
	j->job.run = run_command;
	j->verb = get_be32(p);
	j->len = len;
	memcpy(j->payload, p + 8, len);
	in->running++;
	in->read_end = instance_size(in); /* a reader waits for the answer, not for its own request */
	*out = j;
	return 1;
}

static void caller_read(fuse_req_t q, struct tree_caller *who)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(q);
	gid_t groups[TREE_GROUPS];
	int n = fuse_req_getgroups(q, TREE_GROUPS, groups);

	who->uid = ctx->uid;
	who->gid = ctx->gid;
	who->n_groups = n < 0 ? 0 : n < TREE_GROUPS ? n : TREE_GROUPS;
	for (int i = 0; i < who->n_groups; i++)
		who->groups[i] = groups[i];
}

/* Appends to the requests. 0 or -errno; with *job set, the request is complete, and the job owns the reference. */
static int command_add(struct instance *in, const void *buf, size_t size, const off_t *off, struct virt_job **job)
{
	struct virt *v = in->v;
	int err = 0;

	pthread_mutex_lock(&v->lock);
	if (files[in->file].kind != V_CONTROL)
		err = -EACCES;
	else if ((off && (uint64_t)*off != instance_size(in)) || in->running || in->text.len - in->parsed + size > CONTROL_MAX)
		err = -EINVAL;
	else
		buf_put(&in->text, buf, size);
	if (!err)
		err = in->text.err;
	if (!err && command_take(in, job) < 0)
		err = -ENOMEM;
	pthread_mutex_unlock(&v->lock);
	return err;
}

void virt_write(struct session *s, fuse_req_t q, fuse_ino_t ino, const char *buf, size_t size, off_t off)
{
	struct instance *in = instance_get(s->virt, ino);
	struct virt_job *job = NULL;
	int err = in ? command_add(in, buf, size, &off, &job) : -ENOENT;

	if (job)
		caller_read(q, &job->who);
	if (err)
		fuse_reply_err(q, -err);
	else
		fuse_reply_write(q, size);
	if (job)
		worker_submit(s->control, &job->job);
	else if (in)
		instance_put(s->virt, in, 1);
}

void virt_ioctl(struct session *s, fuse_req_t q, fuse_ino_t ino, unsigned cmd, const void *arg, size_t size)
{
	bool known = cmd == (unsigned)VIRT_IOC_COMMAND && size == 8 && !s->cfg.read_only;
	struct instance *in = known ? instance_get(s->virt, ino) : NULL;
	struct virt_job *job = NULL;
	int err = in ? command_add(in, arg, size, NULL, &job) : -ENOTTY;

	if (job)
		caller_read(q, &job->who);
	if (err)
		fuse_reply_err(q, -err);
	else
		fuse_reply_ioctl(q, 0, NULL, 0);
	if (job)
		worker_submit(s->control, &job->job);
	else if (in)
		instance_put(s->virt, in, 1);
}
