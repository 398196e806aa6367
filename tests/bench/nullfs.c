/* nullfs MOUNTPOINT [--single | --threads N] [--transport classic|io_uring] [--poll] [--keep BYTES] [--xattr]: a FUSE file
 * system in memory that records nothing.
 *
 * The floor of the benchmark: what the kernel, libfuse and a name lookup cost when an operation does no work. Its
 * kernel-facing settings are those of the daemon: entries, attributes and negatives without time-out, FLUSH, OPEN and
 * OPENDIR answered ENOSYS, default_permissions, readdirplus, 1 MiB writes, parallel directory operations. Of each file
 * the first BYTES bytes (default 64 KiB) are kept; what lies behind reads as zeros. Requests come by libfuse's own loops, or
 * with --transport or --poll by those of the daemon. With --xattr it says that files can have attributes and that none has any: without,
 * the kernel asks once and never again, which a file system with attributes cannot have.
 *
 * One mutex guards everything and is never held over a reply. A node lives while a name or the kernel (lookup count)
 * refers to it: with OPEN answered ENOSYS there is no release, and the FORGET of an unlinked file comes at its last
 * close. Prints "ready" when mounted; ends with umount or SIGTERM, and the contents with it. Running out of memory is
 * answered with ENOMEM. */
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/transport.h"
#include "util/log.h"
#include "util/parse.h"

#define FOREVER 1e9
#define BUCKETS (1u << 18)

struct dentry;

struct node {
	struct stat st;
	uint64_t lookups;
	uint8_t *data; /* a file's kept bytes, or a symlink's target */
	size_t data_size;
	/* directories */
	struct node *parent;
	struct dentry *first, *last;
	uint64_t next_cookie;
};

struct dentry {
	struct dentry *hash_next, *next, *prev; /* next, prev: in the directory, by ascending cookie */
	struct node *dir, *node;
	uint64_t cookie;
	char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct dentry *table[BUCKETS];
static struct node root;
static uint64_t last_ino = FUSE_ROOT_ID;
static size_t keep_max = 64 << 10;

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static fuse_ino_t node_id(struct node *n)
{
	return n == &root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}

static void node_touch(struct node *n, bool contents)
{
	clock_gettime(CLOCK_REALTIME, &n->st.st_ctim);
	if (contents)
		n->st.st_mtim = n->st.st_ctim;
}

static void node_put(struct node *n)
{
	if (n != &root && n->lookups == 0 && n->st.st_nlink == 0) {
		free(n->data);
		free(n);
	}
}

static struct node *node_new(fuse_req_t req, struct node *parent, mode_t mode, dev_t rdev)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->st.st_ino = ++last_ino;
	n->st.st_mode = mode;
	n->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	n->st.st_uid = ctx->uid;
	n->st.st_gid = parent->st.st_mode & S_ISGID ? parent->st.st_gid : ctx->gid;
	if (S_ISDIR(mode) && parent->st.st_mode & S_ISGID)
		n->st.st_mode |= S_ISGID;
	n->st.st_rdev = rdev;
	n->st.st_blksize = 4096;
	n->parent = parent;
	node_touch(n, true);
	n->st.st_atim = n->st.st_mtim;
	return n;
}

static unsigned name_hash(const struct node *dir, const char *name)
{
	uint64_t h = (uintptr_t)dir * 0x9e3779b97f4a7c15ull;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return (unsigned)(h >> 40) % BUCKETS;
}

static struct dentry *dentry_find(const struct node *dir, const char *name)
{
	for (struct dentry *d = table[name_hash(dir, name)]; d; d = d->hash_next)
		if (d->dir == dir && strcmp(d->name, name) == 0)
			return d;
	return NULL;
}

static int dentry_add(struct node *dir, const char *name, struct node *n)
{
	size_t len = strlen(name) + 1;
	struct dentry *d, **bucket = &table[name_hash(dir, name)];

	if (len > 256)
		return ENAMETOOLONG;
	d = malloc(sizeof(*d) + len);
	if (!d)
		return ENOMEM;
	*d = (struct dentry){.hash_next = *bucket, .prev = dir->last, .dir = dir, .node = n, .cookie = ++dir->next_cookie};
	memcpy(d->name, name, len);
	*bucket = d;
	*(dir->last ? &dir->last->next : &dir->first) = d;
	dir->last = d;
	if (S_ISDIR(n->st.st_mode)) {
		n->parent = dir;
		dir->st.st_nlink++;
	}
	node_touch(dir, true);
	return 0;
}

/* Takes the name away; the node's own link count is the caller's. */
static void dentry_drop(struct dentry *d)
{
	struct dentry **p = &table[name_hash(d->dir, d->name)];

	while (*p != d)
		p = &(*p)->hash_next;
	*p = d->hash_next;
	*(d->prev ? &d->prev->next : &d->dir->first) = d->next;
	*(d->next ? &d->next->prev : &d->dir->last) = d->prev;
	if (S_ISDIR(d->node->st.st_mode))
		d->dir->st.st_nlink--;
	node_touch(d->dir, true);
	free(d);
}

/* Fills the answer for a name that the kernel will now remember. Under the lock. */
static struct fuse_entry_param entry_of(struct node *n)
{
	struct fuse_entry_param e = {.ino = node_id(n), .attr = n->st, .attr_timeout = FOREVER, .entry_timeout = FOREVER};

	n->lookups++;
	return e;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.entry_timeout = FOREVER}; /* ino 0: it does not exist, remember that */
	struct dentry *d;

	pthread_mutex_lock(&lock);
	d = dentry_find(node_of(parent), name);
	if (d)
		e = entry_of(d->node);
	pthread_mutex_unlock(&lock);
	fuse_reply_entry(req, &e);
}

static void node_forget(fuse_ino_t ino, uint64_t count)
{
	struct node *n = node_of(ino);

	n->lookups -= count < n->lookups ? count : n->lookups;
	node_put(n);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	pthread_mutex_lock(&lock);
	node_forget(ino, count);
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count; i++)
		node_forget(f[i].ino, f[i].nlookup);
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	pthread_mutex_lock(&lock);
	st = node_of(ino)->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, FOREVER);
}

/* Changes the length; kept bytes that come back by a later extension read as zeros. */
static void node_resize(struct node *n, off_t size)
{
	if ((uint64_t)size < n->data_size)
		memset(n->data + size, 0, n->data_size - (size_t)size);
	n->st.st_size = size;
	n->st.st_blocks = (size + 511) / 512;
	node_touch(n, true);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	struct stat st;

	(void)fi;
	pthread_mutex_lock(&lock);
	node_touch(n, false);
	if (set & FUSE_SET_ATTR_MODE)
		n->st.st_mode = (n->st.st_mode & S_IFMT) | (attr->st_mode & 07777);
	if (set & FUSE_SET_ATTR_UID)
		n->st.st_uid = attr->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		n->st.st_gid = attr->st_gid;
	if (set & FUSE_SET_ATTR_SIZE)
		node_resize(n, attr->st_size);
	if (set & FUSE_SET_ATTR_ATIME)
		n->st.st_atim = set & FUSE_SET_ATTR_ATIME_NOW ? n->st.st_ctim : attr->st_atim;
	if (set & FUSE_SET_ATTR_MTIME)
		n->st.st_mtim = set & FUSE_SET_ATTR_MTIME_NOW ? n->st.st_ctim : attr->st_mtim;
	st = n->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, FOREVER);
}

/* Makes a node under a new name. 0 and the entry, or a positive errno. */
static int node_make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, const char *target,
	struct fuse_entry_param *e)
{
	struct node *dir = node_of(parent), *n = NULL;
	int err = EEXIST;

	pthread_mutex_lock(&lock);
	if (dentry_find(dir, name))
		goto out;
	err = ENOMEM;
	n = node_new(req, dir, mode, rdev);
	if (!n)
		goto out;
	if (target) {
		n->data = (uint8_t *)strdup(target);
		n->st.st_size = (off_t)strlen(target);
		if (!n->data)
			goto out;
	}
	err = dentry_add(dir, name, n);
	if (!err)
		*e = entry_of(n);
out:
	if (err && n) {
		n->st.st_nlink = 0;
		node_put(n);
	}
	pthread_mutex_unlock(&lock);
	return err;
}

static void reply_made(fuse_req_t req, int err, const struct fuse_entry_param *e)
{
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_entry(req, e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fuse_entry_param e;

	reply_made(req, node_make(req, parent, name, mode, rdev, NULL, &e), &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param e;

	reply_made(req, node_make(req, parent, name, S_IFDIR | mode, 0, NULL, &e), &e);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;

	reply_made(req, node_make(req, parent, name, S_IFLNK | 0777, 0, target, &e), &e);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	int err = node_make(req, parent, name, mode, 0, NULL, &e);

	if (err) {
		fuse_reply_err(req, err);
		return;
	}
	fi->keep_cache = 1;
	fuse_reply_create(req, &e, fi);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct node *n = node_of(ino);
	struct fuse_entry_param e;
	int err = EEXIST;

	pthread_mutex_lock(&lock);
	if (!dentry_find(node_of(parent), name))
		err = dentry_add(node_of(parent), name, n);
	if (!err) {
		n->st.st_nlink++;
		node_touch(n, false);
		e = entry_of(n);
	}
	pthread_mutex_unlock(&lock);
	reply_made(req, err, &e);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_readlink(req, (const char *)node_of(ino)->data); /* never changes while the kernel knows the node */
}

/* Removes a name and one link. Under the lock. */
static int name_remove(struct dentry *d)
{
	struct node *n = d->node;

	if (S_ISDIR(n->st.st_mode) && n->first)
		return ENOTEMPTY;
	dentry_drop(d);
	n->st.st_nlink = S_ISDIR(n->st.st_mode) ? 0 : n->st.st_nlink - 1;
	node_touch(n, false);
	node_put(n);
	return 0;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct dentry *d;
	int err = ENOENT;

	pthread_mutex_lock(&lock);
	d = dentry_find(node_of(parent), name);
	if (d)
		err = name_remove(d);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, err);
}

/* The kernel has checked the types of both, and that no directory moves below itself. */
static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
	unsigned int flags)
{
	struct dentry *from, *to;
	struct node *n;
	int err = flags & ~(unsigned)RENAME_NOREPLACE ? EINVAL : ENOENT;

	pthread_mutex_lock(&lock);
	from = dentry_find(node_of(parent), name);
	if (err == EINVAL || !from)
		goto out;
	n = from->node;
	to = dentry_find(node_of(newparent), newname);
	err = 0;
	if (to && flags)
		err = EEXIST;
	else if (to && to->node != n)
		err = name_remove(to);
	if (err || (to && to->node == n))
		goto out;
	err = dentry_add(node_of(newparent), newname, n);
	if (!err) {
		dentry_drop(from);
		node_touch(n, false);
	}
out:
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, err);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	uint8_t *buf = NULL;
	size_t kept;

	(void)fi;
	pthread_mutex_lock(&lock);
	if (off >= n->st.st_size)
		size = 0;
	else if ((uint64_t)size > (uint64_t)(n->st.st_size - off))
		size = (size_t)(n->st.st_size - off);
	buf = calloc(1, size ? size : 1);
	kept = (size_t)off < n->data_size ? n->data_size - (size_t)off : 0;
	if (buf && kept)
		memcpy(buf, n->data + off, kept < size ? kept : size);
	pthread_mutex_unlock(&lock);
	if (buf)
		fuse_reply_buf(req, (char *)buf, size);
	else
		fuse_reply_err(req, ENOMEM);
	free(buf);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	size_t end = (size_t)off + size, keep = end < keep_max ? end : keep_max;
	int err = 0;

	(void)fi;
	pthread_mutex_lock(&lock);
	if ((size_t)off < keep) {
		if (keep > n->data_size) {
			uint8_t *grown = realloc(n->data, keep);

			if (!grown) {
				err = ENOMEM;
				goto out;
			}
			memset(grown + n->data_size, 0, keep - n->data_size);
			n->data = grown;
			n->data_size = keep;
		}
		memcpy(n->data + off, data, keep - (size_t)off);
	}
	if ((off_t)end > n->st.st_size) {
		n->st.st_size = (off_t)end;
		n->st.st_blocks = (n->st.st_size + 511) / 512;
	}
	node_touch(n, true);
out:
	pthread_mutex_unlock(&lock);
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino, (void)datasync, (void)fi;
	fuse_reply_err(req, 0);
}

/* As the daemon answers without POSIX ACLs and labels (daemon/op_xattr.c). */
static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino, (void)size;
	fuse_reply_err(req, strcmp(name, "security.selinux") == 0 || strncmp(name, "system.posix_acl_", 17) == 0 ? EOPNOTSUPP : ENODATA);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	(void)ino;
	if (size)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_xattr(req, 0);
}

/* OPEN, OPENDIR and FLUSH: after this answer the kernel does not ask again. */
static void op_not_needed(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, ENOSYS);
}

static size_t entry_put(fuse_req_t req, char *buf, size_t room, const char *name, struct node *n, uint64_t cookie,
	bool plus, bool dot)
{
	struct fuse_entry_param e = {.attr = n->st, .attr_timeout = FOREVER, .entry_timeout = FOREVER};

	if (!plus)
		return fuse_add_direntry(req, buf, room, name, &n->st, (off_t)cookie);
	e.ino = dot ? 0 : node_id(n); /* "." and ".." are not looked up by listing them */
	return fuse_add_direntry_plus(req, buf, room, name, &e, (off_t)cookie);
}

/* Offsets: 0 ".", 1 "..", from there the entry's cookie + 2, so that a listing is stable while names come and go. */
static void dir_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct node *dir = node_of(ino);
	char *buf = malloc(size);
	size_t used = 0, n;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_lock(&lock);
	for (; off < 2; off++) {
		n = entry_put(req, buf + used, size - used, off ? ".." : ".", off ? dir->parent : dir, (uint64_t)off + 1, plus,
			true);
		if (n > size - used)
			goto out;
		used += n;
	}
	for (struct dentry *d = dir->first; d; d = d->next) {
		if (d->cookie + 2 <= (uint64_t)off)
			continue;
		n = entry_put(req, buf + used, size - used, d->name, d->node, d->cookie + 2, plus, false);
		if (n > size - used)
			break;
		used += n;
		d->node->lookups += plus;
	}
out:
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	dir_read(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	dir_read(req, ino, size, off, true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs sv = {.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1u << 28, .f_bfree = 1u << 28,
		.f_bavail = 1u << 28, .f_files = 1u << 28, .f_ffree = 1u << 28, .f_namemax = 255};

	(void)ino;
	fuse_reply_statfs(req, &sv);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = 1 << 20;
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_NO_OPEN_SUPPORT |
					FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_CACHE_SYMLINKS);
	/* Where OPEN is answered ENOSYS nobody would see an O_TRUNC that the kernel left to us. */
	conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ |
				  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_not_needed,
	.opendir = op_not_needed,
	.flush = op_not_needed,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.create = op_create,
};

/* libfuse 3.14 never passes PARALLEL_DIROPS on to the kernel; the INIT reply is corrected on its way. It is the first
 * reply of all, sent before any other request is read. */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	static atomic_bool init_sent;

	(void)userdata;
	if (!atomic_load(&init_sent)) {
		atomic_store(&init_sent, true);
		if (count >= 2 && iov[1].iov_len >= 16)
			((struct fuse_init_out *)iov[1].iov_base)->flags |= FUSE_PARALLEL_DIROPS;
	}
	return writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static void *unmount_at_signal(void *mountpoint)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigwait(&set, &number) == 0)
		umount2(mountpoint, MNT_DETACH);
	return NULL;
}

/* By a transport of the daemon's, until it is unmounted. */
static int transport_run(struct fuse_session *se, const struct transport_config *cfg, const char *mountpoint)
{
	struct transport *t;
	struct errmsg e = {""};
	sigset_t set;
	pthread_t tid;

	log_set_level(LOG_LVL_WARN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (transport_start(se, cfg, &t, &e)) {
		fprintf(stderr, "nullfs: %s\n", e.text);
		return 1;
	}
	if (pthread_create(&tid, NULL, unmount_at_signal, (void *)(uintptr_t)mountpoint) == 0)
		pthread_detach(tid);
	printf("ready\n");
	fflush(stdout);
	transport_wait(t);
	transport_stop(t);
	transport_free(t);
	return 0;
}

static int session_run(const char *mountpoint, bool single, unsigned threads, const struct transport_config *transport)
{
	static const struct fuse_custom_io io = {.writev = io_writev, .read = io_read};
	char *argv[] = {"nullfs", "-o", "allow_other,default_permissions,fsname=nullfs,subtype=nullfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	int rc = 1;

	if (!se || !cfg || fuse_set_signal_handlers(se) < 0 || fuse_session_mount(se, mountpoint) < 0)
		goto out;
	if (transport) {
		rc = transport_run(se, transport, mountpoint);
		goto unmount;
	}
	if (fuse_session_custom_io(se, &io, fuse_session_fd(se)) < 0)
		goto unmount;
	printf("ready\n");
	fflush(stdout);
	fuse_loop_cfg_set_clone_fd(cfg, 1);
	fuse_loop_cfg_set_max_threads(cfg, threads);
	rc = (single ? fuse_session_loop(se) : fuse_session_loop_mt(se, cfg)) < 0;
unmount:
	fuse_session_unmount(se);
	fuse_remove_signal_handlers(se);
out:
	if (se)
		fuse_session_destroy(se);
	if (cfg)
		fuse_loop_cfg_destroy(cfg);
	fuse_opt_free_args(&args);
	return rc;
}

int main(int argc, char **argv)
{
	uint64_t threads = 10, keep = keep_max;
	struct transport_config transport = {.no_open = true};
	bool single = false, ours = false, bad = argc < 2;

	for (int i = 2; i < argc && !bad; i++) {
		if (strcmp(argv[i], "--single") == 0)
			single = true;
		else if (strcmp(argv[i], "--xattr") == 0) {
			ops.getxattr = op_getxattr;
			ops.listxattr = op_listxattr;
			transport.killpriv_v2 = true; /* or the kernel asks at each write */
		} else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
			bad = parse_u64(argv[++i], &threads) || threads == 0 || threads > 1024;
		else if (strcmp(argv[i], "--transport") == 0 && i + 1 < argc) {
			ours = true;
			transport.kind = strcmp(argv[++i], "io_uring") == 0 ? TRANSPORT_IO_URING : TRANSPORT_CLASSIC;
			bad = transport.kind == TRANSPORT_CLASSIC && strcmp(argv[i], "classic") != 0;
		} else if (strcmp(argv[i], "--poll") == 0)
			ours = transport.poll = true;
		else if (strcmp(argv[i], "--keep") == 0 && i + 1 < argc)
			bad = parse_size(argv[++i], 1, &keep) != 0;
		else
			bad = true;
	}
	if (bad) {
		fprintf(stderr, "usage: nullfs MOUNTPOINT [--single | --threads N] [--transport classic|io_uring] [--poll] [--keep BYTES] "
				"[--xattr]\n");
		return 2;
	}
	keep_max = keep;
	root.st = (struct stat){.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR | 0755, .st_nlink = 2, .st_blksize = 4096};
	root.parent = &root;
	node_touch(&root, true);
	return session_run(argv[1], single, (unsigned)threads, ours ? &transport : NULL);
}
