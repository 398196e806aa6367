/* The table of ACL rules in Redis: hash `acl`, number -> rule, and the counter aclMaxId (spec/juicefs-format.md 2.14). Rules
 * are never changed or removed; one that nothing names does no harm. So this is done beside replay, before anything names
 * the rule. Blocking. */
#ifndef JFS_REDIS_ACL_H
#define JFS_REDIS_ACL_H

#include <stddef.h>
#include <stdint.h>

#include "redis/conn.h"

/* The number of a rule, made if there is none yet; a new one is above `least`. 0; -EKEYREVOKED: another mount has the lease;
 * -EAGAIN: Redis has forgotten that it is ours; -ENODATA: no lease there; -EUCLEAN; the errors of redis/conn.h. */
int rds_acl_number(struct rds_conn *c, uint64_t epoch, const void *rule, size_t len, uint32_t least, uint32_t *id, struct errmsg *e);
/* The rule of a number, as heap memory of *len bytes; NULL: there is none. */
int rds_acl_read(struct rds_conn *c, uint32_t id, uint8_t **rule, size_t *len, struct errmsg *e);

struct rds_acl {
	uint32_t id;
	size_t len;
	const uint8_t *rule;
};
/* Puts rules there again that Redis may have forgotten, all or none. As rds_acl_number; -EUCLEAN too when a number means
 * another rule there. */
int rds_acl_restore(struct rds_conn *c, uint64_t epoch, const struct rds_acl *v, size_t n, struct errmsg *e);

#endif
