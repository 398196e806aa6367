/* Operations on one inode: lookup, forget, getattr, setattr, readlink, statfs. See req.h for the frame. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "daemon/req.h"
#include "daemon/transport.h"
#include "daemon/trash.h"
#include "daemon/virt.h"
#include "util/clock.h"

/* --- lookup --- */
static int lookup_run(struct req *r)
{
	return fs_lookup(r->s->fs, r->ino, r->name, strlen(r->name), &r->attr, &r->need);
}

static const struct op op_lookup_table = { SO_LOOKUP, lookup_run, send_entry, true };

static int absent_send(struct req *r)
{
	struct fuse_entry_param e = { .entry_timeout = session_ttl(r->s) };

	return fuse_reply_entry(r->q, &e);
}

/* A name that is not there is an answer too: the kernel may remember it. */
static int lookup_run_negative(struct req *r)
{
	static const struct op absent = { SO_LOOKUP, lookup_run_negative, absent_send, false };
	int rc = lookup_run(r);

	if (rc != -ENOENT)
		return rc;
	r->op = &absent;
	return 0;
}

static const struct op lookup_op = { SO_LOOKUP, lookup_run_negative, send_entry, true };

static void op_lookup(fuse_req_t q, fuse_ino_t parent, const char *name)
{
	struct session *s = req_session(q);
	struct req r;

	if (virt_is_name(parent, name) && virt_lookup(s, q, parent, name))
		return;
	if ((trash_is(parent) || name[0] == '.') && trash_lookup(s, q, parent, name))
		return;
	/* With caching off the kernel would not use a cached absence anyway. */
	req_init(&r, q, session_ttl(s) > 0 ? &lookup_op : &op_lookup_table);
	r.ino = ino_in(s, parent);
	r.name = name;
	req_start(&r);
}

/* --- forget: never answered --- */
static void forget(struct session *s, const struct fuse_forget_data *f, size_t n)
{
	struct fs_forgotten ours[FS_FORGET_TOGETHER];
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (virt_is(f[i].ino))
			virt_forget(s, f[i].ino, f[i].nlookup);
		else if (f[i].ino != FUSE_ROOT_ID && !trash_is(f[i].ino))
			ours[k++] = (struct fs_forgotten){ ino_in(s, f[i].ino), f[i].nlookup };
		if (k == FS_FORGET_TOGETHER || (k && i + 1 == n)) {
			fs_forget_all(s->fs, ours, k);
			k = 0;
		}
	}
	stats_op(s->stats, SO_FORGET, 0, 0);
}

static void op_forget(fuse_req_t q, fuse_ino_t ino, uint64_t n)
{
	struct session *s = req_session(q);
	struct fuse_forget_data f = { ino, n };

	fuse_reply_none(q);
	forget(s, &f, 1);
}

static void op_forget_multi(fuse_req_t q, size_t n, struct fuse_forget_data *f)
{
	forget(req_session(q), f, n);
	fuse_reply_none(q);
}

/* --- getattr --- */
static int getattr_run(struct req *r)
{
	return fs_getattr(r->s->fs, r->ino, &r->attr, &r->need);
}

static const struct op getattr_op = { SO_GETATTR, getattr_run, send_attr, false };

static void op_getattr(fuse_req_t q, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct req r;

	if (virt_is(ino)) {
		virt_getattr(req_session(q), q, ino, fi != NULL);
		return;
	}
	if (trash_is(ino)) {
		trash_getattr(q, ino);
		return;
	}
	req_init(&r, q, &getattr_op);
	r.ino = ino_in(r.s, ino);
	req_start(&r);
}

/* --- setattr --- */
static int setattr_run(struct req *r)
{
	int rc = fs_setattr(r->s->fs, &r->cred, r->ino, &r->set, &r->attr, &r->need);

	if (rc == 0)
		r->seq = r->attr.seq;
	return rc;
}

static const struct op setattr_op = { SO_SETATTR, setattr_run, send_attr, false, GATE_META };
static const struct op truncate_op = { SO_SETATTR, setattr_run, send_attr, false, GATE_NONE };

static void setattr_convert(struct fs_setattr *set, const struct stat *st, int valid)
{
	static const struct {
		int fuse;
		unsigned ours;
	} map[] = {
		{ FUSE_SET_ATTR_MODE, FSA_MODE }, { FUSE_SET_ATTR_UID, FSA_UID }, { FUSE_SET_ATTR_GID, FSA_GID },
		{ FUSE_SET_ATTR_SIZE, FSA_SIZE }, { FUSE_SET_ATTR_CTIME, FSA_CTIME },
	};

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (valid & map[i].fuse)
			set->valid |= map[i].ours;
	/* The kernel sends the plain bit together with _NOW. */
	if (valid & FUSE_SET_ATTR_ATIME_NOW)
		set->valid |= FSA_ATIME_NOW;
	else if (valid & FUSE_SET_ATTR_ATIME)
		set->valid |= FSA_ATIME;
	if (valid & FUSE_SET_ATTR_MTIME_NOW)
		set->valid |= FSA_MTIME_NOW;
	else if (valid & FUSE_SET_ATTR_MTIME)
		set->valid |= FSA_MTIME;
	set->mode = st->st_mode;
	set->uid = st->st_uid;
	set->gid = st->st_gid;
	set->size = (uint64_t)st->st_size;
	set->atime = st->st_atim.tv_sec;
	set->mtime = st->st_mtim.tv_sec;
	set->ctime = st->st_ctim.tv_sec;
	set->atimensec = (uint32_t)st->st_atim.tv_nsec;
	set->mtimensec = (uint32_t)st->st_mtim.tv_nsec;
	set->ctimensec = (uint32_t)st->st_ctim.tv_nsec;
}

static void op_setattr(fuse_req_t q, fuse_ino_t ino, struct stat *st, int valid, struct fuse_file_info *fi)
{
	struct req r;

	(void)fi;
	if (virt_is(ino)) {
		virt_setattr(req_session(q), q, ino, valid);
		return;
	}
	if (trash_is(ino)) {
		fuse_reply_err(q, EPERM);
		return;
	}
	req_init(&r, q, valid & FUSE_SET_ATTR_SIZE ? &truncate_op : &setattr_op);
	r.ino = ino_in(r.s, ino);
	setattr_convert(&r.set, st, valid);
	if (transport_kill_suid())
		r.set.valid |= FSA_KILL_SUID;
	req_start(&r);
}

/* --- readlink --- */
static int readlink_run(struct req *r)
{
	char *buf = req_buffer(JFS_SYMLINK_MAX + 2);
	size_t n = JFS_SYMLINK_MAX + 1;
	int rc;

	if (!buf)
		return -ENOMEM;
	rc = fs_readlink(r->s->fs, r->ino, buf, &n, &r->need);
	if (rc == 0)
		buf[n] = '\0';
	r->out = buf;
	return rc;
}

static int readlink_send(struct req *r)
{
	return fuse_reply_readlink(r->q, r->out);
}

static const struct op readlink_op = { SO_READLINK, readlink_run, readlink_send, false };

static void op_readlink(fuse_req_t q, fuse_ino_t ino)
{
	struct req r;

	if (trash_is(ino)) {
		trash_readlink(q, ino);
		return;
	}
	req_init(&r, q, &readlink_op);
	r.ino = ino_in(r.s, ino);
	req_start(&r);
}

/* --- statfs (spec 3.16) --- */
static int statfs_run(struct req *r)
{
	return fs_statfs(r->s->fs, r->ino, &r->st);
}

static int statfs_send(struct req *r)
{
	struct statvfs v = {
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_blocks = r->st.total / 4096,
		.f_bfree = r->st.avail / 4096,
		.f_bavail = r->st.avail / 4096,
		.f_files = r->st.inodes_total,
		.f_ffree = r->st.inodes_avail,
		.f_favail = r->st.inodes_avail,
		.f_namemax = JFS_NAME_MAX,
	};

	return fuse_reply_statfs(r->q, &v);
}

static const struct op statfs_op = { SO_STATFS, statfs_run, statfs_send, false };

static void op_statfs(fuse_req_t q, fuse_ino_t ino)
{
	struct req r;

	req_init(&r, q, &statfs_op);
	r.ino = ino_in(r.s, ino);
	req_start(&r);
}

void ops_inode(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->statfs = op_statfs;
}
