/* The loader of a mount with Redis: resolves what operations need (daemon/loader.h) over a few connections of its own.
 *
 * One load is in flight per thing; whoever asks for the same waits for it. An answer that is older than what we have
 * applied (Redis fell back) is dropped and asked for again until replay has caught up. A Redis that is away is waited
 * for; only damage ends a load (-EIO and one log line naming the key), the end of replay, and cancel. */
#ifndef JFS_DAEMON_REDIS_LOADER_H
#define JFS_DAEMON_REDIS_LOADER_H

#include "daemon/fs.h"
#include "daemon/loader.h"
#include "redis/conn.h"
#include "redis/url.h"

struct redis_loader;

/* Hands a fresh piece of the inode range to fs; waits for Redis when the range is used up. 0 or -errno. */
typedef int redis_loader_ids_fn(void *ctx);
/* Resolves NEED_ACL and NEED_ACL_NUMBER; for NEED_PARENTS, which is loaded then, waits until Redis has all that we changed of
 * the file. 0 or -errno. Blocks. */
typedef int redis_loader_acl_fn(void *ctx, const struct fs_need *need);

int redis_loader_new(const struct rds_url *url, struct fs *fs, redis_loader_ids_fn *ids, redis_loader_acl_fn *acl, void *ctx,
	struct redis_loader **out);
/* No load may be running. NULL-safe. */
void redis_loader_free(struct redis_loader *l);
void redis_loader_iface(struct redis_loader *l, struct loader *out);
/* Redis will never again be where we are: loads that wait for that, and later ones, answer -EIO. */
void redis_loader_give_up(struct redis_loader *l);
/* Drops everything that was loaded, for a view that holds nothing else (a read-only mount). Blocks. 0 and the number of keys;
 * journal_drop_clean's errors. */
int redis_loader_empty(struct redis_loader *l, uint64_t *dropped);
/* An answer that was on its way then has been inserted since: what it says may be from before. */
bool redis_loader_late(struct redis_loader *l);
/* Calls fn with a connection until it returns something that does not pass with time; -EIO when cancelled. Blocks. */
int redis_loader_do(struct redis_loader *l, int (*fn)(void *arg, struct rds_conn *c, struct errmsg *e), void *arg);
/* prime=1: loads every directory below `root`. Returns the first error. */
int redis_loader_prime(struct redis_loader *l, uint64_t root);

#endif
