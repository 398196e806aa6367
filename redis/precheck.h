/* What a mount must be able to rely on in Redis before it changes anything there: the keys of fixed name have their type,
 * the counters are numbers, the lease's numbers are numbers, the root directory has a record (spec 2.2-2.4, 2.12). */
#ifndef JFS_REDIS_PRECHECK_H
#define JFS_REDIS_PRECHECK_H

#include "redis/conn.h"

/* Blocks for one round trip; changes nothing. -EUCLEAN with the key's name, or an error of the connection. */
int rds_precheck(struct rds_conn *c, struct errmsg *e);

#endif
