/* Extended attributes. The kernel asks for security.capability before the first write to a file; fs_getxattr answers
 * that from the inode's "all attributes are here" flag without a scan.
 *
 * `ls -l` asks every file for its SELinux label, unless it has been told once that the file system has none (EOPNOTSUPP). That is
 * what it is told where the kernel has no SELinux that could use one, until this mount has met a label. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include "daemon/req.h"
#include "daemon/trash.h"
#include "daemon/virt.h"

/* getxattr and listxattr answer the length alone when size is 0. */
static int sized_send(struct req *r)
{
	if (r->size == 0)
		return fuse_reply_xattr(r->q, r->out_len);
	return fuse_reply_buf(r->q, r->out, r->out_len);
}

static bool is_label(const char *name)
{
	return strcmp(name, "security.selinux") == 0;
}

static void label_met(struct req *r, int rc)
{
	if (rc == 0 && is_label(r->name))
		atomic_store(&r->s->labels, true);
}

static int getxattr_run(struct req *r)
{
	char *buf = r->size ? req_buffer(r->size) : NULL;
	int rc;

	if (r->size && !buf)
		return -ENOMEM;
	r->out = buf;
	r->out_len = r->size;
	rc = fs_getxattr(r->s->fs, r->ino, r->name, strlen(r->name), buf, &r->out_len, &r->need);
	label_met(r, rc);
	return rc == -ENODATA && is_label(r->name) && !atomic_load(&r->s->labels) ? -EOPNOTSUPP : rc;
}

static const struct op getxattr_op = { SO_GETXATTR, getxattr_run, sized_send, false };

static void op_getxattr(fuse_req_t q, fuse_ino_t ino, const char *name, size_t size)
{
	struct req r;

	if (virt_is(ino)) {
		fuse_reply_err(q, ENODATA);
		return;
	}
	if (trash_is(ino)) {
		trash_xattr(q, ino, name, size);
		return;
	}
	req_init(&r, q, &getxattr_op);
	r.ino = ino_in(r.s, ino);
	r.name = name;
	r.size = size > XATTR_SIZE_MAX ? XATTR_SIZE_MAX : size;
	req_start(&r);
}

static int listxattr_run(struct req *r)
{
	char *buf = r->size ? req_buffer(r->size) : NULL;

	if (r->size && !buf)
		return -ENOMEM;
	r->out = buf;
	r->out_len = r->size;
	return fs_listxattr(r->s->fs, r->ino, buf, &r->out_len, &r->need);
}

static const struct op listxattr_op = { SO_LISTXATTR, listxattr_run, sized_send, false };

static void op_listxattr(fuse_req_t q, fuse_ino_t ino, size_t size)
{
	struct req r;

	if (virt_is(ino)) {
		fuse_reply_xattr(q, 0);
		return;
	}
	if (trash_is(ino)) {
		trash_xattr(q, ino, NULL, size);
		return;
	}
	req_init(&r, q, &listxattr_op);
	r.ino = ino_in(r.s, ino);
	r.size = size > XATTR_LIST_MAX ? XATTR_LIST_MAX : size;
	req_start(&r);
}

static int setxattr_run(struct req *r)
{
	int rc = fs_setxattr(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), r->data, r->data_len, r->flags, &r->seq,
		&r->need);

	label_met(r, rc);
	return rc;
}

static const struct op setxattr_op = { SO_SETXATTR, setxattr_run, send_ok, false, GATE_META };

static void op_setxattr(fuse_req_t q, fuse_ino_t ino, const char *name, const char *val, size_t size, int flags)
{
	struct req r;

	if (virt_is(ino) || trash_is(ino)) {
		fuse_reply_err(q, EPERM);
		return;
	}
	req_init(&r, q, &setxattr_op);
	r.ino = ino_in(r.s, ino);
	r.name = name;
	r.data = val;
	r.data_len = size;
	r.flags = flags;
	req_start(&r);
}

static int removexattr_run(struct req *r)
{
	return fs_removexattr(r->s->fs, &r->cred, r->ino, r->name, strlen(r->name), &r->seq, &r->need);
}

static const struct op removexattr_op = { SO_REMOVEXATTR, removexattr_run, send_ok, false };

static void op_removexattr(fuse_req_t q, fuse_ino_t ino, const char *name)
{
	struct req r;

	if (virt_is(ino) || trash_is(ino)) {
		fuse_reply_err(q, EPERM);
		return;
	}
	req_init(&r, q, &removexattr_op);
	r.ino = ino_in(r.s, ino);
	r.name = name;
	req_start(&r);
}

void ops_xattr(struct fuse_lowlevel_ops *ops)
{
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
}
