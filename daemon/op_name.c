/* Operations that make, remove and move names. See req.h for the frame. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* RENAME_* */
#include <string.h>
#include <sys/stat.h>

#include "daemon/req.h"
#include "daemon/trash.h"
#include "daemon/virt.h"

/* What answers an operation on a name of ours in the root (spec 6.1), or on one in the trash. False: neither. */
static bool refuse_virtual(fuse_req_t q, fuse_ino_t parent, const char *name, int err)
{
	if (trash_is(parent))
		err = EPERM;
	else if (!virt_is_name(parent, name))
		return false;
	fuse_reply_err(q, err);
	return true;
}

static void made(struct req *r)
{
	r->seq = r->attr.seq;
	r->born = true;
}

/* --- create, mknod, mkdir, symlink, link: all answer with an entry --- */
static int create_run(struct req *r)
{
	int rc = fs_create(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), r->mode, r->flag, r->flags & O_TRUNC,
		&r->attr, &r->born, &r->need);

	if (rc == 0)
		r->seq = r->attr.seq;
	return rc;
}

/* Before the first write into the page cache of each file the kernel asks for security.capability, a fifth of the requests of a
 * small file that is made, written and closed. A write past the cache comes alone. What it costs is that the file's whole pages
 * are not in the cache afterwards: a reader needs one READ either way, for the last page never is, but one more for each MiB.
 * So only for a new file that nobody else is to have (O_EXCL), as those are opened that lay out trees of files: not for logs,
 * nor for what a shell redirects. */
static bool past_the_cache(const struct req *r)
{
	const int mask = O_ACCMODE | O_EXCL | O_DIRECT;

	return r->s->direct_creates && r->born && (r->flags & mask) == (O_WRONLY | O_EXCL);
}

static int create_send(struct req *r)
{
	struct fuse_file_info fi = { .flags = r->flags, .keep_cache = 1, .noflush = !r->s->cfg.data_waits };
	struct fuse_entry_param e;

	if (past_the_cache(r)) {
		fi.direct_io = 1;
		fi.fh = FH_DIRECT;
	}
	attr_to_entry(r, &r->attr, &e);
	return fuse_reply_create(r->q, &e, &fi);
}

static const struct op create_op = { SO_CREATE, create_run, create_send, true, GATE_META };

static void op_create(fuse_req_t q, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct req r;

	if (refuse_virtual(q, parent, name, EEXIST))
		return;
	req_init(&r, q, &create_op);
	r.ino = ino_in(r.s, parent);
	r.name = name;
	r.mode = mode;
	r.flags = fi->flags;
	r.flag = fi->flags & O_EXCL;
	req_start(&r);
}

static int mknod_run(struct req *r)
{
	int rc = fs_mknod(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), r->mode, r->rdev, &r->attr, &r->need);

	if (rc == 0)
		made(r);
	return rc;
}

static const struct op mknod_op = { SO_MKNOD, mknod_run, send_entry, true, GATE_META };

static void op_mknod(fuse_req_t q, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct req r;

	if (refuse_virtual(q, parent, name, EEXIST))
		return;
	req_init(&r, q, &mknod_op);
	r.ino = ino_in(r.s, parent);
	r.name = name;
	r.mode = mode;
	r.rdev = (uint32_t)rdev;
	req_start(&r);
}

static int mkdir_run(struct req *r)
{
	int rc = fs_mkdir(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), r->mode, &r->attr, &r->need);

	if (rc == 0)
		made(r);
	return rc;
}

static const struct op mkdir_op = { SO_MKDIR, mkdir_run, send_entry, true, GATE_META };

static void op_mkdir(fuse_req_t q, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct req r;

	if (refuse_virtual(q, parent, name, EEXIST))
		return;
	req_init(&r, q, &mkdir_op);
	r.ino = ino_in(r.s, parent);
	r.name = name;
	r.mode = mode;
	req_start(&r);
}

static int symlink_run(struct req *r)
{
	int rc = fs_symlink(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), r->name2, strlen(r->name2), &r->attr,
		&r->need);

	if (rc == 0)
		made(r);
	return rc;
}

static const struct op symlink_op = { SO_SYMLINK, symlink_run, send_entry, true, GATE_META };

static void op_symlink(fuse_req_t q, const char *target, fuse_ino_t parent, const char *name)
{
	struct req r;

	if (refuse_virtual(q, parent, name, EEXIST))
		return;
	req_init(&r, q, &symlink_op);
	r.ino = ino_in(r.s, parent);
	r.name = name;
	r.name2 = target;
	req_start(&r);
}

static int link_run(struct req *r)
{
	int rc = fs_link(r->s->fs, &r->cred, r->ino2, r->ino, r->name, strlen(r->name), &r->attr, &r->need);

	if (rc == 0)
		r->seq = r->attr.seq;
	return rc;
}

static const struct op link_op = { SO_LINK, link_run, send_entry, true, GATE_META };

static void op_link(fuse_req_t q, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct req r;

	if (refuse_virtual(q, parent, name, EEXIST))
		return;
	if (virt_is(ino) || trash_is(ino)) {
		fuse_reply_err(q, EPERM);
		return;
	}
	req_init(&r, q, &link_op);
	r.ino = ino_in(r.s, parent);
	r.ino2 = ino_in(r.s, ino);
	r.name = name;
	req_start(&r);
}

/* --- unlink, rmdir, rename --- */
static int unlink_run(struct req *r)
{
	return fs_unlink(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), &r->seq, &r->need);
}

static const struct op unlink_op = { SO_UNLINK, unlink_run, send_ok, false };

static void op_unlink(fuse_req_t q, fuse_ino_t parent, const char *name)
{
	struct req r;

	if (trash_remove(q, parent, name, false) || refuse_virtual(q, parent, name, EPERM))
		return;
	req_init(&r, q, &unlink_op);
	r.ino = ino_in(r.s, parent);
	r.name = name;
	req_start(&r);
}

static int rmdir_run(struct req *r)
{
	return fs_rmdir(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), &r->seq, &r->need);
}

static const struct op rmdir_op = { SO_RMDIR, rmdir_run, send_ok, false };

static void op_rmdir(fuse_req_t q, fuse_ino_t parent, const char *name)
{
	struct req r;

	if (trash_remove(q, parent, name, true) || refuse_virtual(q, parent, name, EPERM))
		return;
	req_init(&r, q, &rmdir_op);
	r.ino = ino_in(r.s, parent);
	r.name = name;
	req_start(&r);
}

static int rename_run(struct req *r)
{
	return fs_rename(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), r->ino2, r->name2, strlen(r->name2),
		(unsigned)r->flags, &r->seq, &r->need);
}

static const struct op rename_op = { SO_RENAME, rename_run, send_ok, false, GATE_META };

static void op_rename(fuse_req_t q, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
	unsigned flags)
{
	int trash = trash_rename_error(q, parent, newparent);
	struct req r;

	if (trash) {
		fuse_reply_err(q, trash);
		return;
	}
	if (refuse_virtual(q, parent, name, EPERM) || refuse_virtual(q, newparent, newname, EPERM))
		return;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) {
		fuse_reply_err(q, EINVAL);
		return;
	}
	req_init(&r, q, &rename_op);
	r.ino = ino_in(r.s, parent);
	r.ino2 = ino_in(r.s, newparent);
	r.name = name;
	r.name2 = newname;
	r.flags = (flags & RENAME_NOREPLACE ? FS_RENAME_NOREPLACE : 0) | (flags & RENAME_EXCHANGE ? FS_RENAME_EXCHANGE : 0) |
		(flags & RENAME_WHITEOUT ? FS_RENAME_WHITEOUT : 0);
	req_start(&r);
}

void ops_name(struct fuse_lowlevel_ops *ops)
{
	ops->create = op_create;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
}
