/* Removing from the trash (redis/trash.h). The order keeps P4 and what `mv` out of the trash relies on: what was acknowledged
 * before, the copy among it, is durable here before Redis forgets the original. */
#include <errno.h>

#include "daemon/redis_loader.h"
#include "daemon/volume_int.h"
#include "redis/trash.h"

struct removing {
	struct volume *v;
	struct trash_removal t;
	bool asked; /* an answer was lost: it may be done already */
	int rc;
};

bool volume_lease_is_ours(struct volume *v, uint64_t *epoch)
{
	pthread_mutex_lock(&v->lock);
	bool ours = !v->offline || v->attached;
	*epoch = v->lease.pos.epoch;
	pthread_mutex_unlock(&v->lock);
	return ours;
}

/* 0: r->rc is the answer. */
static int try_remove(void *arg, struct rds_conn *c, struct errmsg *e)
{
	struct removing *r = arg;

	if (!volume_lease_is_ours(r->v, &r->t.epoch))
		return errmsg_set(e, -EAGAIN, "mounted offline: the lease is not renewed yet");
	r->rc = rds_trash_remove(c, &r->t, e);
	if (r->rc == -ENOENT && r->asked)
		r->rc = 0;
	switch (r->rc) {
	case 0:
	case -ENOENT:
	case -ENOTDIR:
	case -EISDIR:
	case -ENOTEMPTY:
	case -EPERM:
	case -EKEYREVOKED:
		return 0;
	case -EROFS: /* a replica */
		return -EAGAIN;
	}
	r->asked = r->asked || rds_err_is_fatal(r->rc);
	return r->rc;
}

int volume_trash_remove(void *owner, uint64_t parent, const char *name, uint64_t ino, bool dir)
{
	struct volume *v = owner;
	struct removing r = {.v = v, .t = {.parent = parent, .name = name, .ino = ino, .dir = dir}};
	struct journal *j = v->journal;
	int64_t space, inodes;

	pthread_mutex_lock(&v->lock);
	bool writer = v->replayer && !v->fenced;
	pthread_mutex_unlock(&v->lock);
	if (!writer)
		return -EROFS;
	int rc = journal_wait(j, WM_DURABLE, journal_mark(j, WM_COMMITTED));

	if (!rc)
		rc = volume_replay_wait(v, WM_APPLIED, fs_trash_left(v->fs));
	if (!rc)
		rc = redis_loader_do(v->loader, try_remove, &r);
	if (rc)
		return rc == -EROFS ? rc : -EIO;
	if (r.rc == 0) {
		journal_lock(j);
		journal_stats(j, &space, &inodes);
		journal_set_stats(j, space - r.t.space, inodes - r.t.inodes);
		journal_unlock(j);
	}
	return r.rc == -EKEYREVOKED ? -EROFS : r.rc;
}
