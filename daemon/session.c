/* Mounting, serving and ending service. See session.h. */
#include "daemon/session.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <unistd.h>

#include "daemon/accesslog.h"
#include "daemon/asked.h"
#include "daemon/mountinfo.h"
#include "daemon/req.h"
#include "daemon/transport.h"
#include "daemon/trash.h"
#include "daemon/virt.h"
#include "util/log.h"

/* The protocol's minor version from which a write past the page cache drops the pages before and after it: Linux 6.16. */
enum { CACHE_DROPPED_AFTER_DIRECT = 44 };
enum { NET_WORKERS = 32, ROOM_WORKERS = 32, DATA_WORKERS = 16, IDS_WORKERS = 1, CONTROL_WORKERS = 32, READAHEAD_KB = 1024 };

/* The lease makes us the only writer: what the kernel knows stays true until we say otherwise. A mount without one lets it
 * ask again, as stock does. */
static const double FOREVER = 1e9, SHARED = 1;

/* --- handlers without an operation behind them --- */
static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct session *s = userdata;

	/* Splicing made reads five times slower. HANDLE_KILLPRIV is replaced by its second version in the transport. After an
	 * asynchronous direct write the kernel does not drop the pages that readers have cached meanwhile. */
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
				  FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ASYNC_DIO |
				  FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
	/* File handles (open_by_handle_at, NFS) of what the kernel has forgotten: it asks for "." of the inode. They could name
	 * what lies beside a subdirectory that alone is mounted. */
	if (s->cfg.root == JFS_ROOT_INODE)
		conn->want |= conn->capable & FUSE_CAP_EXPORT_SUPPORT;
	conn->want |= conn->capable &
		(FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
			FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPEN_SUPPORT |
			FUSE_CAP_NO_OPENDIR_SUPPORT);
	if (s->cfg.acl) /* a default rule takes the umask's place, so it is ours to apply */
		conn->want |= conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
	if (s->cfg.shared) /* otherwise nobody changes data behind the kernel's back */
		conn->want |= conn->capable & FUSE_CAP_AUTO_INVAL_DATA;
	/* Older kernels may leave old pages in the cache beside such writes. It pays without xattrs too: into the cache, a write that
	 * begins within a page which is there only in part becomes two. */
	s->direct_creates = conn->proto_minor >= CACHE_DROPPED_AFTER_DIRECT && !s->cfg.data_waits;
	conn->max_write = TRANSPORT_MAX_WRITE;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

/* ENOSYS teaches the kernel that there are no handles: no OPEN, no RELEASE any more. */
static void op_open(fuse_req_t q, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(q, ENOSYS);
}

/* Comes for files that were created before the kernel had learnt it. */
static void op_release(fuse_req_t q, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	stats_op(req_session(q)->stats, SO_RELEASE, 0, 0);
	fuse_reply_err(q, 0);
}

/* libfuse's words go to our log instead of stderr: a mount helper prints nothing. */
static struct errmsg *mount_error;

static void fuse_log_line(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[512];
	size_t n;

	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	while (n && text[n - 1] == '\n')
		text[--n] = '\0';
	if (mount_error)
		errmsg_set(mount_error, 0, "%s", text);
	else if (level <= FUSE_LOG_WARNING)
		log_warn("event=libfuse text=\"%s\"", text);
}

static int options_text(const struct session_config *cfg, struct buf *b)
{
	/* libfuse's own default is nosuid,nodev; what the user says comes behind and wins. */
	buf_printf(b, "subtype=jfs,default_permissions%s", geteuid() == 0 ? ",suid,dev" : "");
	if (cfg->allow_other)
		buf_printf(b, ",allow_other");
	if (cfg->read_only)
		buf_printf(b, ",ro");
	if (cfg->fuse_options && cfg->fuse_options[0])
		buf_printf(b, ",%s", cfg->fuse_options);
	/* Last, and with commas escaped: a volume's name is the user's. */
	buf_puts(b, ",fsname=");
	for (const char *p = cfg->fsname; *p; p++) {
		if (*p == ',' || *p == '\\')
			buf_put_u8(b, '\\');
		buf_put_u8(b, (uint8_t)*p);
	}
	return b->err;
}

static int session_mount(struct session *s, struct errmsg *e)
{
	struct fuse_lowlevel_ops ops = { .init = op_init, .open = op_open, .release = op_release,
		.opendir = op_open, .releasedir = op_release };
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct errmsg said = { "" };
	struct buf opts;
	int r = -EIO;

	buf_init(&opts, 0);
	ops_inode(&ops);
	ops_name(&ops);
	ops_dir(&ops);
	ops_data(&ops, s->cfg.data_waits);
	if (!s->cfg.no_xattr)
		ops_xattr(&ops);
	ops_ioctl(&ops);
	fuse_set_log_func(fuse_log_line);
	if (options_text(&s->cfg, &opts) || fuse_opt_add_arg(&args, "jfs") || fuse_opt_add_arg(&args, "-o") ||
		fuse_opt_add_arg(&args, buf_cstr(&opts))) {
		r = errmsg_set(e, -ENOMEM, "out of memory");
		goto out;
	}
	mount_error = &said;
	s->se = fuse_session_new(&args, &ops, sizeof(ops), s);
	if (!s->se) {
		r = errmsg_set(e, -EINVAL, "cannot mount with options \"%s\": %s", buf_cstr(&opts), said.text);
	} else if (fuse_session_mount(s->se, s->cfg.mountpoint)) {
		r = errmsg_set(e, -EIO, "cannot mount on %s: %s", s->cfg.mountpoint,
			said.text[0] ? said.text : "libfuse does not say why");
	} else {
		s->mounted = true;
		r = 0;
	}
	mount_error = NULL;
out:
	buf_fini(&opts);
	fuse_opt_free_args(&args);
	return r;
}

static void *waiter_main(void *arg)
{
	struct session *s = arg;
	uint64_t one = 1;

	pthread_setname_np(pthread_self(), "jfs-gone");
	transport_wait(s->transport);
	if (write(s->gone_fd, &one, sizeof(one)) < 0)
		log_error("event=session_gone error=\"%s\"", strerror(errno));
	return NULL;
}

static void source_session(void *ctx, struct stats_text *t)
{
	struct session *s = ctx;
	struct fs_statfs st;

	stats_int(t, "transport_io_uring", NULL, strcmp(transport_name(s->transport), "io_uring") == 0);
	stats_int(t, "transport_polls", NULL, transport_polls(s->transport));
	stats_int(t, "transport_threads", NULL, transport_threads(s->transport));
	stats_int(t, "workers_busy", "net", worker_backlog(s->net));
	stats_int(t, "workers_busy", "room", worker_backlog(s->room));
	stats_int(t, "workers_busy", "data", worker_backlog(s->data));
	stats_int(t, "workers_busy", "ids", worker_backlog(s->ids));
	stats_int(t, "workers_busy", "control", worker_backlog(s->control));
	if (fs_statfs(s->fs, 0, &st) == 0) {
		stats_int(t, "total_space", NULL, (int64_t)st.total);
		stats_int(t, "total_inodes", NULL, (int64_t)st.inodes_total);
	}
}

int session_open(const struct session_config *cfg, struct fs *fs, const struct loader *loader,
	const struct block_reader *reader, struct stats *stats, struct session **out, struct errmsg *e)
{
	struct transport_config tc = { .kind = cfg->transport, .threads = cfg->threads, .ring_payload = cfg->ring_payload,
		.no_open = true, .killpriv_v2 = true, .poll = cfg->poll };
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return errmsg_set(e, -ENOMEM, "out of memory");
	s->cfg = *cfg;
	if (s->cfg.root == 0)
		s->cfg.root = JFS_ROOT_INODE;
	s->fs = fs;
	s->journal = fs_journal(fs);
	s->loader = loader;
	s->reader = reader;
	s->stats = stats;
	s->ttl = cfg->shared ? SHARED : FOREVER;
	atomic_store(&s->labels, access("/sys/fs/selinux/enforce", F_OK) == 0);
	pthread_mutex_init(&s->gate_lock, NULL);
	pthread_cond_init(&s->gate_cond, NULL);
	s->gone_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->net = worker_pool_new(NET_WORKERS, "jfs-work");
	s->room = worker_pool_new(ROOM_WORKERS, "jfs-room");
	s->data = worker_pool_new(DATA_WORKERS, "jfs-data");
	s->ids = worker_pool_new(IDS_WORKERS, "jfs-ids");
	s->control = worker_pool_new(CONTROL_WORKERS, "jfs-control");
	s->alog = accesslog_new();
	s->asked = asked_new();
	s->virt = virt_new(s);
	s->trash = trash_new();
	r = waits_init(s);
	if (r || s->gone_fd < 0 || !s->net || !s->room || !s->data || !s->ids || !s->control || !s->alog || !s->asked || !s->virt || !s->trash)
		r = errmsg_set(e, -ENOMEM, "cannot set up the session: out of memory or descriptors");
	else
		r = session_mount(s, e);
	if (r == 0) {
		stats_register(stats, source_session, s);
		r = transport_start(s->se, &tc, &s->transport, e);
	}
	if (r == 0) {
		r = -pthread_create(&s->waiter, NULL, waiter_main, s);
		s->waiter_started = r == 0;
		if (r)
			errmsg_set(e, r, "cannot start a thread: %s", strerror(-r));
	}
	if (r) {
		session_stop(s);
		session_free(s);
		return r;
	}
	mountinfo_readahead(s->cfg.mountpoint, READAHEAD_KB);
	*out = s;
	return 0;
}

const char *session_transport(const struct session *s)
{
	return transport_name(s->transport);
}

void session_wait(struct session *s)
{
	transport_wait(s->transport);
}

int session_gone_fd(const struct session *s)
{
	return s->gone_fd;
}

int session_unmount(struct session *s)
{
	/* The threads go on serving: unmounting writes back what programs changed through mappings. */
	if (umount2(s->cfg.mountpoint, UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EBUSY)
		return -errno;
	log_warn("event=unmount mountpoint=\"%s\" note=\"busy: detached, still used by some programs\"",
		s->cfg.mountpoint);
	if (umount2(s->cfg.mountpoint, UMOUNT_NOFOLLOW | MNT_DETACH) < 0)
		return -errno;
	return -EBUSY;
}

void session_stop(struct session *s)
{
	if (s->transport)
		transport_stop(s->transport);
	if (s->waiter_started)
		pthread_join(s->waiter, NULL);
	s->waiter_started = false;
	waits_stop(s);
	virt_stop(s->virt);
	if (s->loader && s->loader->cancel)
		s->loader->cancel(s->loader->ctx);
	if (s->reader && s->reader->cancel)
		s->reader->cancel(s->reader->ctx);
	worker_pool_end(s->net);
	worker_pool_end(s->room);
	worker_pool_end(s->data);
	worker_pool_end(s->ids);
	worker_pool_end(s->control);
	worker_pool_free(s->net);
	worker_pool_free(s->room);
	worker_pool_free(s->data);
	worker_pool_free(s->ids);
	worker_pool_free(s->control);
	s->net = s->room = s->data = s->ids = s->control = NULL;
	/* From here on a callback of the journal does not reply any more: the descriptor goes away. */
	pthread_mutex_lock(&s->gate_lock);
	s->stopped = true;
	while (s->replying)
		pthread_cond_wait(&s->gate_cond, &s->gate_lock);
	pthread_mutex_unlock(&s->gate_lock);
	if (s->mounted)
		fuse_session_unmount(s->se);
	s->mounted = false;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	transport_free(s->transport);
	if (s->se)
		fuse_session_destroy(s->se);
	virt_free(s->virt);
	trash_free(s->trash);
	accesslog_free(s->alog);
	asked_free(s->asked);
	if (s->gone_fd >= 0)
		close(s->gone_fd);
	waits_fini(s);
	pthread_cond_destroy(&s->gate_cond);
	pthread_mutex_destroy(&s->gate_lock);
	free(s);
}

void session_drop_caches(struct session *s)
{
	atomic_store(&s->uncached, true);
	transport_drop_caches(s->transport);
}

void session_entry_changed(struct session *s, uint64_t parent, const char *name, size_t n)
{
	fuse_ino_t node = ino_out(s, parent);
	int rc = fuse_lowlevel_notify_inval_entry(s->se, node, name, n);

	if (rc == 0 || rc == -ENOENT)
		rc = fuse_lowlevel_notify_inval_inode(s->se, node, 0, 0);
	if (rc < 0 && rc != -ENOENT)
		log_warn("event=invalidate ino=%llu err=\"%s\"", (unsigned long long)parent, strerror(-rc));
}

struct entry_job {
	struct worker_job job;
	struct session *s;
	uint64_t parent;
	size_t n;
	char name[];
};

static void entry_job_run(struct worker_job *job)
{
	struct entry_job *e = (struct entry_job *)job;

	session_entry_changed(e->s, e->parent, e->name, e->n);
	free(e);
}

void session_entry_changed_soon(struct session *s, uint64_t parent, const char *name, size_t n)
{
	struct entry_job *e = malloc(sizeof(*e) + n + 1);

	if (!e) {
		log_warn("event=invalidate ino=%llu err=\"out of memory\"", (unsigned long long)parent);
		return;
	}
	*e = (struct entry_job){ .job.run = entry_job_run, .s = s, .parent = parent, .n = n };
	memcpy(e->name, name, n);
	e->name[n] = '\0';
	worker_submit(s->control, &e->job);
}
