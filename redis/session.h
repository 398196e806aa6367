/* Stock sessions (spec/juicefs-format.md 2.10, 3.2): we register one so that `juicefs status` and `destroy` see us. Its
 * expiry lies a year ahead, so that no stock client ever takes us for dead and dismantles what we hold open; our lease
 * (redis/lease.h), not the session, says who may write. Calls block on the connection. */
#ifndef JFS_REDIS_SESSION_H
#define JFS_REDIS_SESSION_H

#include <stdint.h>

#include "redis/conn.h"

#define RDS_SESSION_TTL (365 * 86400) /* seconds */

struct rds_session {
	uint64_t sid;
	int64_t expiry; /* unix seconds */
	char version[64], host[256], mountpoint[1024];
	char mount_time[48]; /* RFC 3339, as stored */
	int64_t pid;
};

/* The JSON of a session for this process: our version, host name, addresses, mount point, time (nanoseconds since 1970) and
 * pid. Heap memory; NULL without memory. */
char *rds_session_json(const char *mountpoint, uint64_t now_ns);
/* Pure; a broken text leaves the fields empty and returns -EUCLEAN. Does not touch sid and expiry. */
int rds_session_parse(const char *json, size_t len, struct rds_session *out);

/* Registers a session. `before` (0: none) is the number that the same journal (its cache id) had last: if a session of ours
 * still stands there, its daemon has crashed or left deleted files in it, and it goes on under its number. Otherwise it gets
 * a new one, which the lease's key notes as that journal's: a daemon that is killed before its journal has noted the number
 * leaves no session behind that the next one does not take. */
int rds_session_start(struct rds_conn *c, const char *json, int64_t now, const char *journal, uint64_t before, uint64_t *sid,
	struct errmsg *e);
/* Renews it; also brings it back if somebody removed it. */
int rds_session_beat(struct rds_conn *c, uint64_t sid, const char *json, int64_t now, struct errmsg *e);
/* Removes it at a clean end. -EBUSY: session{sid} still names inodes (or locked{sid} locks); the session stays then, so
 * that nothing is orphaned. */
int rds_session_end(struct rds_conn *c, uint64_t sid, struct errmsg *e);
/* All sessions, by number; *out is heap memory. */
int rds_session_list(struct rds_conn *c, struct rds_session **out, size_t *count, struct errmsg *e);

#endif
