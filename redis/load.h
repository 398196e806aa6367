/* Loading what was never here (DESIGN 3.3): directories, inode records, chunk lists, xattrs, symlink targets.
 *
 * Every answer carries Redis's position, the lowest one seen while it was read. Whoever inserts it refuses one that is
 * below what we have applied. Nothing is interpreted here beyond its shape: wrong types and lengths are -EUCLEAN with a
 * message that names the key. Blocking; one connection, one thread at a time. Large directories come in pages by HSCAN,
 * so that Redis is never blocked for long: an entry that our own replay changes meanwhile is one that we hold. */
#ifndef JFS_REDIS_LOAD_H
#define JFS_REDIS_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "redis/conn.h"
#include "redis/lease.h"

struct rds_bytes {
	const uint8_t *p; /* NULL: not there */
	size_t n;
};

struct rds_entry {
	struct rds_bytes name, record; /* record: the raw inode record, NULL when Redis has none */
	uint8_t type;
	uint64_t ino;
};

/* One answer; what it points to lives until rds_loaded_free. */
struct rds_loaded {
	struct rds_position pos;
	struct rds_bytes value;	   /* inode: its record; symlink: its target; chunk: n x 24 bytes; p NULL: no such key */
	struct rds_entry *entries; /* directory; chunk: the inodes beside it */
	struct {
		struct rds_bytes name, val;
	} *pairs;		   /* xattrs */
	size_t n;		   /* entries, pairs, or records of a chunk */
	struct redisReply **replies;
	size_t n_replies;
	uint8_t *joined;
};

void rds_loaded_init(struct rds_loaded *l);
void rds_loaded_free(struct rds_loaded *l);

/* All return 0, -EUCLEAN, or the errors of redis/conn.h. The directory's own record is in `value`. */
int rds_load_dir(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e);
/* One name: entries[0] with its record, n 0 when there is none. */
int rds_load_entry(struct rds_conn *c, uint64_t parent, const char *name, size_t len, struct rds_loaded *l, struct errmsg *e);
int rds_load_inode(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e);
/* In the same round trip the first chunks' lists of the n inodes `beside` it: entries[i] with its number and its list as the record
 * (NULL: what is there is none). */
int rds_load_chunk(struct rds_conn *c, uint64_t ino, uint32_t chunk, const uint64_t *beside, size_t n, struct rds_loaded *l,
	struct errmsg *e);
int rds_load_xattrs(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e);
int rds_load_parents(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e); /* pairs, in decimal */
int rds_load_symlink(struct rds_conn *c, uint64_t ino, struct rds_loaded *l, struct errmsg *e);

#endif
