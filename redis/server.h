/* What a Redis server must be like to hold a volume (spec/juicefs-format.md 2.1). */
#ifndef JFS_REDIS_SERVER_H
#define JFS_REDIS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redis/conn.h"

/* What the checks of a server look at, from INFO (spec 2.1). */
struct rds_server {
	unsigned major, minor, patch;
	bool aof, cluster, replica, loading;
	unsigned replicas; /* connected to it */
	uint64_t maxmemory;
	char policy[32]; /* maxmemory_policy */
	char run_id[48]; /* changes with a restart */
};

/* Pure; -EPROTO if the text has no redis_version. */
int rds_server_parse(const char *info, size_t len, struct rds_server *out);
/* Reads INFO; refuses Redis < 4.0 and Cluster (-ENOTSUP) and a replica (-EROFS); warns in the log when AOF is off; tries to
 * set maxmemory-policy noeviction, and warns when that fails and maxmemory is set. `out` may be NULL. */
int rds_server_check(struct rds_conn *c, struct rds_server *out, struct errmsg *e);

#endif
