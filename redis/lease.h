/* The lease: exactly one daemon writes a volume (DESIGN 3.6). Private hash `zjfs` in Redis:
 *
 *   epoch     the fencing token; raised by every mount, checked by every script that changes anything
 *   holder    {machine}/{cache id}/{path hash}; host, dir: the same for people; seen: unix seconds of the last heartbeat
 *   released  1: the last holder unmounted with nothing left only there; 0: it may hold work (backlog: how many records)
 *   journal   cache id of the journal whose history the position belongs to
 *   session   number of the stock session that was registered last (redis/session.h); session.of: by which journal
 *   seq chain the position: the last window of that history that was applied, and the hash of the chain up to it
 *
 * A stale lease is information, never permission: another machine's lease that was not released is taken only with
 * `takeover`. Expiry fences nobody; only a higher epoch does. A lower epoch means that Redis forgot (a restart without its
 * last second, a failover): the daemon takes the lease back by compare-and-set on what it knows; anything else refuses.
 *
 * All functions block on the network and use a connection of the caller's thread. */
#ifndef JFS_REDIS_LEASE_H
#define JFS_REDIS_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "redis/conn.h"
#include "util/errmsg.h"

#define RDS_PRIVATE_KEY "zjfs"
#define RDS_CHAIN_LEN 32 /* hex digits */
#define LEASE_HEARTBEAT_SEC 12
#define LEASE_STALE_SEC 60

struct rds_position {
	uint64_t epoch, seq;
	char chain[RDS_CHAIN_LEN + 1]; /* "" before the first window of a history */
};

struct lease_id {
	char holder[128];  /* see above */
	char journal[64];  /* cache id */
	char host[256];    /* host name, for messages */
	char dir[1024];    /* cache directory, for messages */
};

struct lease_want {
	struct lease_id id;
	uint64_t min_epoch;   /* our durable epoch: the new one is higher */
	bool takeover;
	bool own_history;     /* our journal has applied windows or a backlog: `journal` must be ours, else it is refused */
	uint64_t start_seq;   /* our journal's committed sequence: a new history begins here, an own one cannot be beyond */
	char start_chain[RDS_CHAIN_LEN + 1]; /* and with this (random) */
};

enum lease_status {
	LEASE_OK = 0,
	LEASE_HELD,	     /* somebody else's, not released; who, where, last seen */
	LEASE_OTHER_HISTORY, /* our journal holds work, but the position belongs to another journal */
	LEASE_AHEAD,	     /* the position lies beyond our journal's end: this is an old copy of it */
	LEASE_GONE,	     /* our journal has a history, but the private key is not there: reloaded or flushed */
};

struct lease_state {
	enum lease_status status;
	struct rds_position pos;   /* after: epoch is the new one */
	bool new_history;	   /* the position was set to start_* */
	uint64_t replaced_epoch;   /* what we replaced: for taking back a lease that Redis forgot */
	char replaced_holder[128];
	struct rds_position replaced; /* with new_history: the position that was there before (its epoch is not set) */
	/* the other holder, unless LEASE_OK */
	char host[256], dir[1024];
	int64_t seen, backlog;
	char journal[64]; /* lease_read's: whose history the position belongs to */
};

/* Fills holder and the texts from /etc/machine-id (or the host name), the cache id and the real path of the directory. */
void lease_id_fill(struct lease_id *id, const char *cache_id, const char *cache_dir);
/* One atomic step. 0 with *st (look at st->status), or the errors of redis/conn.h. */
int lease_acquire(struct rds_conn *c, const struct lease_want *w, struct lease_state *st, struct errmsg *e);
/* The refusal as one line for people: who holds it, since when, what to do. */
void lease_refusal(const struct lease_state *st, struct errmsg *e);

/* For a mount that began without Redis (--offline): raises the epoch from exactly `epoch`, whose holder must be id->holder,
 * to `epoch` + 1. `nonce` (fresh random text of this life) lets a repetition after a lost answer find its own work. *pos:
 * Redis's position, epoch the new one. -EKEYREVOKED: anything else is there, nothing was changed. */
int lease_resume(struct rds_conn *c, const struct lease_id *id, uint64_t epoch, const char *nonce, struct rds_position *pos,
	struct errmsg *e);

enum lease_beat { BEAT_OK, BEAT_FENCED, BEAT_FORGOT_HEALED, BEAT_REFUSED };
struct lease_beat_arg {
	const struct lease_id *id;
	uint64_t epoch, replaced_epoch;
	const char *replaced_holder;
	/* If this lease began a new history: what it found, and where it began. A Redis that forgot the lease is given the
	 * beginning back if it shows exactly what was found. NULL: it did not. */
	const struct rds_position *found, *start;
	uint64_t inode_end, slice_end; /* ends of our id ranges: lower counters are raised to them */
	uint64_t backlog;
};
/* Renews `seen`; heals a lower epoch; returns Redis's position in any case. */
int lease_heartbeat(struct rds_conn *c, const struct lease_beat_arg *a, enum lease_beat *beat, struct rds_position *pos, struct errmsg *e);
/* Clean end: drained says that nothing is left only here. A fenced daemon's call changes nothing. */
int lease_release(struct rds_conn *c, uint64_t epoch, bool drained, uint64_t backlog, struct errmsg *e);
/* Reads what is there (status). -ENOENT: no lease has ever been taken. */
int lease_read(struct rds_conn *c, struct lease_state *st, bool *released, struct errmsg *e);

/* Takes `n` ids of counter "nextinode" or "nextchunk" under the token: the caller owns [*first, *first + n), which lies above
 * `least`, the highest id that we were ever given: a Redis that lost its last second may have forgotten that it gave it.
 * -EKEYREVOKED when the epoch is not ours. */
int lease_alloc_ids(struct rds_conn *c, uint64_t epoch, const char *counter, uint64_t n, uint64_t least, uint64_t *first,
	struct errmsg *e);
/* Without a token, before a lease is taken: nextinode and nextchunk are at least these afterwards. */
int lease_raise_counters(struct rds_conn *c, uint64_t inode, uint64_t slice, struct errmsg *e);
/* usedSpace and totalInodes with the position they belong to. */
int lease_counters(struct rds_conn *c, int64_t *space, int64_t *inodes, struct rds_position *pos, struct errmsg *e);
/* Parses the answer of HMGET zjfs epoch seq chain; 0 or -EUCLEAN. Missing fields are 0 and "". */
int rds_position_parse(const struct redisReply *r, struct rds_position *pos);

#endif
