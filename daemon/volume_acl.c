/* ACL rules and their numbers, fetched for the view (daemon/fs_acl.c). */
#include <errno.h>
#include <stdlib.h>

#include "daemon/redis_loader.h"
#include "daemon/volume_int.h"
#include "redis/acl.h"

struct asking {
	struct volume *v;
	bool number; /* wanted: a number for the rule; else the rule of the number */
	uint32_t id, least;
	uint8_t wanted[ACL_RULE_MAX], *rule;
	size_t len;
};

static int ask(void *arg, struct rds_conn *c, struct errmsg *e)
{
	struct asking *a = arg;
	uint64_t epoch;

	if (!a->number)
		return rds_acl_read(c, a->id, &a->rule, &a->len, e);
	if (!volume_lease_is_ours(a->v, &epoch))
		return errmsg_set(e, -EAGAIN, "mounted offline: the lease is not renewed yet");
	return rds_acl_number(c, epoch, a->wanted, a->len, a->least, &a->id, e);
}

/* What Redis says of a file's names is of no use while some are on their way. */
static int wait_applied(struct volume *v, uint64_t ino)
{
	struct fs_need need;
	struct fs_attr a;
	int rc = fs_getattr(v->fs, ino, &a, &need);

	return rc ? (rc == FS_NEED ? 0 : rc) : volume_replay_wait(v, WM_APPLIED, a.seq);
}

int volume_acl(void *ctx, const struct fs_need *need)
{
	struct volume *v = ctx;

	if (need->kind == NEED_PARENTS)
		return wait_applied(v, need->ino);
	struct asking *a = calloc(1, sizeof(*a));
	int rc = 0;

	if (!a)
		return -ENOMEM;
	a->v = v;
	a->number = need->kind == NEED_ACL_NUMBER;
	a->id = (uint32_t)need->ino;
	if (a->number)
		a->len = fs_acl_wanted(v->fs, need->ino, a->wanted, &a->least);
	if (!a->number || a->len)
		rc = redis_loader_do(v->loader, ask, a);
	if (!rc && (!a->number || a->len))
		rc = fs_acl_known(v->fs, a->id, a->number ? a->wanted : a->rule, a->len);
	free(a->rule);
	free(a);
	return rc == 0 || rc == -EROFS ? rc : rc == -EKEYREVOKED ? -EROFS : -EIO;
}
