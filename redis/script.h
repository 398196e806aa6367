/* One window, one script (DESIGN 3.5): a plan as arguments of redis/apply.lua, and the script's answer.
 *
 * The script checks the fencing token and that the position is the previous window's, then everything a write could
 * stumble over, and only then writes. So an answer other than OK means that nothing was changed, a lost script makes those
 * behind it answer GAP, and one that arrives late answers GAP as well. Executing it twice is impossible: it moves the
 * position. All keys are derived from the plan; they are not declared in KEYS (one server, no Cluster).
 *
 * There is one argument, a MessagePack array (Redis's Lua decodes it in C, at less cost than thousands of arguments): the
 * head, then the sections in the order of script_encode, flat arrays where a field occurs once for each element. Identities are
 * decimal text, counts and flags numbers, lengths and space numbers or, from 10^15 on, text, everything else raw bytes.
 *
 *   head      prefix, epoch, previous sequence, previous chain, new sequence, new chain, now (s), hour of the trash, sid, space
 *             and inodes of new inodes
 *   strings   arrays of at most 2,000 key, value: records and symlink targets of new inodes
 *   lists     of one record, of new inodes: [keys], [records]
 *   lists     of several: [key, record ..] each
 *   entries   [key, new directory, [name, value ..], [name to delete ..], expected values in that order or 0: none] each
 *   counts    of slices: field, delta, records of a new one that has several (else 0) ..
 *   inodes    that exist: [inode, kind, record, named, link delta or "a", ctime, cut, [trash name, value ..]] each
 *   lists     of inodes that exist: [key, kind, old records, record ..] each
 *   parents   inode, parent, delta ..
 *   dirstats  [of new directories], [changes] (inode, length, space, inodes ..), [deletions], [linked files: inode, length, space ..]
 *   xattrs    [key, new, [name, value ..], [name to delete ..]] each
 *   quotas    directory, set or add, space, inodes .. */
#ifndef JFS_REDIS_SCRIPT_H
#define JFS_REDIS_SCRIPT_H

#include <hiredis/hiredis.h>

#include "redis/lease.h"
#include "redis/plan.h"
#include "util/buf.h"

extern const char rds_apply_lua[];

/* What a plan is sent with. */
struct script_ctx {
	const char *prefix;	 /* NULL: none */
	struct rds_position prev; /* epoch: our token; seq, chain: before this window */
	uint64_t seq;		 /* the window's end */
	char chain[RDS_CHAIN_LEN + 1];
	uint64_t sid;		 /* our session, for files that are unlinked while open */
	int64_t now;		 /* unix seconds: names the trash's hour, dates delfiles */
	int64_t oldest_ctime;	 /* older ctimes are sent as this (gc deletes what looks old: spec 10.2) */
};

/* What both ways of applying a plan (script, pipeline.h) say in the same words. Pure. */
size_t plan_record(const struct script_ctx *ctx, const struct pl_inode *pi, uint8_t out[JFS_ATTR_MAX]); /* its length */
void plan_ctime(const struct script_ctx *ctx, const struct pl_inode *pi, uint8_t out[12]); /* as in a record */
void plan_trash_hour(const struct script_ctx *ctx, char out[32]);
/* {parent}-{inode}-{name}, cut to 255 bytes (spec 3.20), and the entry it had. The name's length. */
size_t plan_trash_entry(const struct pl_inode *pi, const struct pl_trash *t, char name[64 + JFS_NAME_MAX],
	uint8_t value[JFS_DENTRY_LEN]);
/* usedSpace and totalInodes of the inodes that are born. */
void plan_counters(const struct window_plan *p, int64_t *space, int64_t *inodes);

#define SCRIPT_MAX ((size_t)512 << 20) /* what Redis takes as one argument, unless told otherwise */
/* The script's one argument. 0, -ENOMEM, -E2BIG; buf_fini(out) in any case. */
int script_encode(const struct window_plan *p, const struct script_ctx *ctx, struct buf *out);

enum script_status {
	SCRIPT_OK,
	SCRIPT_GAP,	/* the position is another one: pos */
	SCRIPT_FENCED,	/* a higher epoch: pos */
	SCRIPT_FORGOT,	/* a lower epoch: pos */
	SCRIPT_NOKEY,	/* the private key is gone: reloaded or flushed */
	SCRIPT_ENTRY,	/* key (d{parent}), field: the name, value: what is there instead (9 bytes or empty) */
	SCRIPT_EXISTS,	/* key: should not be there */
	SCRIPT_LIST,	/* key (c{ino}_{chunk}): the list changed: load it and compute again */
	SCRIPT_GONE,	/* key: the inode (decimal) has no record any more */
	SCRIPT_DEADREF, /* key: sliceRef field of a slice whose objects are being deleted */
	SCRIPT_BAD,	/* key, field: why */
};
struct script_answer {
	enum script_status status;
	struct rds_position pos;
	char key[128];
	uint8_t field[256], value[16];
	size_t field_len, value_len;
};
/* 0 or -EPROTO: not an answer of this script. */
int script_parse(const redisReply *r, struct script_answer *out);

#endif
