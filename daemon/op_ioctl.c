/* ioctl: what chattr and lsattr ask for, as JuiceFS keeps it (spec 2.3): i (immutable), a (append only), s (removed without
 * the trash), and the first two in the form of XFS, in which the kernel asks for them before it changes any. The kernel has
 * checked who asks, and refuses nothing by itself afterwards: the operations do. Any other ioctl is ENOTTY, so that programs
 * take another way. */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "daemon/req.h"
#include "daemon/trash.h"
#include "daemon/virt.h"
#include "util/log.h"

struct flag_map {
	uint32_t kernel;
	uint8_t ours;
};
static const struct flag_map classic[] = {
	{ FS_IMMUTABLE_FL, JFS_FLAG_IMMUTABLE }, { FS_APPEND_FL, JFS_FLAG_APPEND }, { FS_SECRM_FL, JFS_FLAG_SKIP_TRASH }, { 0 },
};
static const struct flag_map xfs[] = {
	{ FS_XFLAG_IMMUTABLE, JFS_FLAG_IMMUTABLE }, { FS_XFLAG_APPEND, JFS_FLAG_APPEND }, { 0 },
};

static uint32_t flags_out(const struct flag_map *m, uint8_t ours)
{
	uint32_t kernel = 0;

	for (; m->kernel; m++)
		if (ours & m->ours)
			kernel |= m->kernel;
	return kernel;
}

/* False: a flag that cannot be kept. *mask: all that this form can say. */
static bool flags_in(const struct flag_map *m, uint32_t kernel, uint8_t *mask, uint8_t *ours)
{
	*mask = *ours = 0;
	for (; m->kernel; m++) {
		*mask |= m->ours;
		if (kernel & m->kernel)
			*ours |= m->ours;
		kernel &= ~m->kernel;
	}
	return kernel == 0;
}

static int get_run(struct req *r)
{
	return fs_getattr(r->s->fs, r->ino, &r->attr, &r->need);
}

static int get_send(struct req *r)
{
	uint32_t flags = flags_out(classic, r->attr.a.flags);

	return fuse_reply_ioctl(r->q, 0, &flags, sizeof(flags));
}

static int get_xfs_send(struct req *r)
{
	struct fsxattr x = { .fsx_xflags = flags_out(xfs, r->attr.a.flags) };

	return fuse_reply_ioctl(r->q, 0, &x, sizeof(x));
}

static int set_run(struct req *r)
{
	return fs_setflags(r->s->fs, &r->cred, r->ino, (uint8_t)r->mode, (uint8_t)r->flags, &r->seq, &r->need);
}

/* The kernel does not expect that ctime moves. */
static int set_send(struct req *r)
{
	int rc = fuse_lowlevel_notify_inval_inode(r->s->se, ino_out(r->s, r->ino), -1, 0);

	if (rc < 0 && rc != -ENOENT)
		log_warn("event=invalidate ino=%llu err=\"%s\"", (unsigned long long)r->ino, strerror(-rc));
	return fuse_reply_ioctl(r->q, 0, NULL, 0);
}

static const struct op get_op = { SO_IOCTL, get_run, get_send, false };
static const struct op get_xfs_op = { SO_IOCTL, get_run, get_xfs_send, false };
static const struct op set_op = { SO_IOCTL, set_run, set_send, false, GATE_META };

/* What is asked to be set; false: it cannot be kept. */
static bool wanted(unsigned cmd, const void *in, uint8_t *mask, uint8_t *flags)
{
	struct fsxattr x;
	uint32_t classic_flags;

	if (cmd == (unsigned)FS_IOC_SETFLAGS) {
		memcpy(&classic_flags, in, sizeof(classic_flags));
		return flags_in(classic, classic_flags, mask, flags);
	}
	memcpy(&x, in, sizeof(x));
	return !x.fsx_extsize && !x.fsx_projid && !x.fsx_cowextsize && flags_in(xfs, x.fsx_xflags, mask, flags);
}

static const struct op *op_of(unsigned cmd, size_t in_size, size_t out_size)
{
	switch (cmd) {
	case (unsigned)FS_IOC_GETFLAGS:
		return out_size >= sizeof(uint32_t) ? &get_op : NULL;
	case (unsigned)FS_IOC_FSGETXATTR:
		return out_size >= sizeof(struct fsxattr) ? &get_xfs_op : NULL;
	case (unsigned)FS_IOC_SETFLAGS:
		return in_size >= sizeof(uint32_t) ? &set_op : NULL;
	case (unsigned)FS_IOC_FSSETXATTR:
		return in_size >= sizeof(struct fsxattr) ? &set_op : NULL;
	default:
		return NULL;
	}
}

static void op_ioctl(fuse_req_t q, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned mode,
	const void *in, size_t in_size, size_t out_size)
{
	const struct op *op = trash_is(ino) ? NULL : op_of(cmd, in_size, out_size);
	uint8_t mask = 0, flags = 0;
	struct req r;

	(void)arg;
	(void)fi;
	(void)mode;
	if (virt_is(ino)) {
		virt_ioctl(req_session(q), q, ino, cmd, in, in_size);
		return;
	}
	if (!op || (op == &set_op && !wanted(cmd, in, &mask, &flags))) {
		fuse_reply_err(q, op ? EOPNOTSUPP : ENOTTY);
		return;
	}
	req_init(&r, q, op);
	r.ino = ino_in(r.s, ino);
	r.mode = mask;
	r.flags = flags;
	req_start(&r);
}

void ops_ioctl(struct fuse_lowlevel_ops *ops)
{
	ops->ioctl = op_ioctl;
}
