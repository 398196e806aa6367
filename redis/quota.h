/* Quotas as Redis has them (spec 2.13). Blocking. */
#ifndef JFS_REDIS_QUOTA_H
#define JFS_REDIS_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redis/lease.h"

struct rds_quota {
	uint8_t kind; /* enum quota_kind */
	uint64_t id;
	int64_t max_space, max_inodes, used_space, used_inodes;
};

/* All of directories, or of users and groups, or both, and the position that the usage belongs to, read at one moment. The
 * caller frees *list. 0; -EUCLEAN: a key is damaged, the message names it; -ENOMEM; the errors of redis/conn.h. */
int rds_quota_read(struct rds_conn *c, bool dirs, bool owners, struct rds_quota **list, size_t *n, struct rds_position *pos,
	struct errmsg *e);

#endif
