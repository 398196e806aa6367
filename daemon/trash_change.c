/* Changes of .trash (trash.h): removing what lies there, and what `mv` out of it sees. */
#include <errno.h>
#include <string.h>

#include "daemon/req.h"
#include "daemon/trash.h"

static int in_worker(struct req *r)
{
	return r->in_worker ? 0 : REQ_PARK;
}

/* Which inode the name is; what is open here without a name is left alone: records about it are still to come. */
static int name_ino(struct req *r, uint64_t *ino)
{
	const struct loader *l = r->s->loader;
	struct fs_need need = {.kind = NEED_ENTRY, .ino = r->ino};
	struct rds_loaded a;
	int rc = l && l->fetch && l->trash_remove ? l->fetch(l->ctx, &need, r->name, &a) : -ENOENT;

	if (rc)
		return rc;
	rc = a.n ? 0 : -ENOENT;
	if (!rc)
		*ino = a.entries[0].ino;
	rds_loaded_free(&a);
	if (!rc && (fs_is_orphan(r->s->fs, *ino) || fs_is_orphan(r->s->fs, r->ino)))
		rc = -EBUSY;
	return rc;
}

static int remove_fetch(struct req *r)
{
	const struct loader *l = r->s->loader;
	uint64_t ino = 0;
	int rc = name_ino(r, &ino);

	return rc ? rc : l->trash_remove(l->owner, r->ino, r->name, ino, r->flag);
}

static const struct op unlink_op = {SO_UNLINK, in_worker, send_ok, false};
static const struct op rmdir_op = {SO_RMDIR, in_worker, send_ok, false};

bool trash_remove(fuse_req_t q, fuse_ino_t parent, const char *name, bool dir)
{
	struct req r;

	if (!trash_is(parent))
		return false;
	if (fuse_req_ctx(q)->uid != 0 || req_session(q)->cfg.read_only) {
		fuse_reply_err(q, fuse_req_ctx(q)->uid != 0 ? EPERM : EROFS);
		return true;
	}
	req_init(&r, q, dir ? &rmdir_op : &unlink_op);
	r.fetch = remove_fetch;
	r.ino = parent & ~TRASH_NODE;
	r.name = name;
	r.flag = dir;
	req_start(&r);
	return true;
}

int trash_rename_error(fuse_req_t q, fuse_ino_t parent, fuse_ino_t newparent)
{
	if (!trash_is(parent) && !trash_is(newparent))
		return 0;
	return trash_is(newparent) || fuse_req_ctx(q)->uid != 0 ? EPERM : EXDEV;
}
