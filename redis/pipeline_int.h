/* What the two files of the pipeline share: pipeline.c asks and reads, pipeline_write.c makes the new images and sends them.
 * Not for others. */
#ifndef JFS_REDIS_PIPELINE_INT_H
#define JFS_REDIS_PIPELINE_INT_H

#include "journal/tables.h"
#include "redis/keys.h"
#include "redis/pipeline.h"

struct px_inode { /* an inode that Redis knows */
	const struct pl_inode *pi;
	const uint8_t *old; /* its record, NULL: none */
	size_t old_len;
	uint8_t type;
	uint64_t length;
	uint32_t nlink;
	int64_t space;
	const bool *in_trash; /* of each of its moves: the hour has an entry of that name already */
};

struct px_ref {
	char field[RDS_KEY_MAX];
	int64_t delta, count;
	bool had;
	const char *dead; /* value in the list of dead slices, NULL: not there */
};

struct px_stat { /* a directory's statistics */
	uint64_t dir;
	int64_t length, space, inodes; /* to be added */
	bool had;
	int64_t old_length, old_space, old_inodes;
};

struct px_quota { /* usage of a quota as it is to be */
	bool skip; /* Redis does not have it */
	int64_t space, inodes;
};

struct px_owner { /* change of what a user or group uses */
	enum quota_kind kind;
	uint32_t id;
	int64_t space, inodes;
};

struct px_command { /* being built */
	VEC(const char *) argv;
	VEC(size_t) lens;
};

struct pipe {
	struct rds_conn *c;
	const struct window_plan *p;
	const struct script_ctx *ctx;
	struct script_answer *ans;
	struct errmsg *e;
	int err; /* sticky; also when ans says what is wrong */
	struct arena mem;
	struct px_command cmd;
	VEC(struct redisReply *) replies; /* all that were read: what points into them lives as long */
	VEC(struct px_inode) inodes;
	VEC(struct px_ref) refs;
	struct hmap ref_at;
	VEC(struct px_stat) stats;
	struct hmap stat_at;
	VEC(struct px_quota) quotas; /* one for each of the plan's */
	bool counted; /* what users and groups use */
	VEC(struct px_owner) owners;
	VEC(const char *) gone; /* lists that are dropped */
	struct hmap gone_at;
	int64_t space, inodes_delta;
	/* the trash's hour */
	bool moving, hour_new;
	uint64_t hour_ino, hour_number;
	char hour[32];
};

enum { PIPE_MAX = 4000 }; /* arguments of one command */

/* Commands: begun, filled, appended to the connection's output. All bytes must live until then. */
void cmd_begin(struct pipe *pp, const char *name, const char *key /* NULL: none */);
void cmd_arg(struct pipe *pp, const void *p, size_t n);
void cmd_text(struct pipe *pp, const char *s);
void cmd_copy(struct pipe *pp, const void *p, size_t n); /* into the arena */
void cmd_int(struct pipe *pp, int64_t v);
size_t cmd_args(const struct pipe *pp);
void cmd_end(struct pipe *pp);

char *px_key(struct pipe *pp, size_t (*fn)(char *, const char *, uint64_t), uint64_t ino);
char *px_name(struct pipe *pp, const char *name);
char *px_chunk_key(struct pipe *pp, uint64_t ino, uint32_t chunk);
/* The hashes of a kind of quota: 0 limits, 1 used space, 2 used inodes. */
const char *px_quota_hash(enum quota_kind kind, int which);
/* Answers instead of an error: nothing was written. */
void pipe_refuse(struct pipe *pp, enum script_status status, const char *key, const char *why);
struct px_stat *px_stat(struct pipe *pp, uint64_t dir); /* found or made; NULL: no memory (err is set) */
bool px_parent_in_trash(const uint8_t *record);
/* The record that an inode is to have, without its link count and parent decided: `room` bytes JFS_ATTR_MAX. 0: none. */
size_t px_image(const struct pipe *pp, const struct px_inode *n, uint8_t *room);

/* pipeline_write.c */
void pipe_write(struct pipe *pp);

#endif
