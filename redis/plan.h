/* A window's effect on Redis, free of Redis: what coalescing makes of the records in (from, end] and what the script
 * (redis/script.h) carries out. Everything belongs to the plan's arena.
 *
 * Two things are left to the script because only Redis knows them: what the lists hold that are dismantled or cut off
 * whole (their references are dropped there), and the published link count and length of an inode that is changed
 * (hence usedSpace and totalInodes of changed inodes, and what users and groups use: spec 2.12 says exactly what they are
 * sums of). */
#ifndef JFS_REDIS_PLAN_H
#define JFS_REDIS_PLAN_H

#include "journal/slice_plan.h"
#include "redis/mem.h"
#include "util/jfsfmt.h"

#define CHUNK_NONE UINT32_MAX

enum pl_inode_kind {
	PL_NEW,	    /* did not exist; attr is the record */
	PL_UPDATE,  /* exists; attr is the record if has_attr, else only patched */
	PL_SUSTAIN, /* lost its last name while open: goes to session{sid} with its lists */
	PL_REMOVE,  /* gone: record, lists, references */
};

struct pl_trash {
	uint64_t parent; /* directory and name that it is found under in the trash */
	const uint8_t *name;
	uint32_t name_len;
};

struct pl_inode {
	uint64_t ino;
	enum pl_inode_kind kind;
	uint8_t type; /* enum jfs_type, 0: not known (a PL_REMOVE or patch without image) */
	bool has_attr;
	bool named;		/* gained a name in this window: not in trash any more */
	bool nlink_abs;		/* attr.nlink is the truth (directories), else Redis's own + nlink_delta */
	int32_t nlink_delta;	/* moves to trash not counted */
	int64_t ctime;		/* seconds; for patches */
	uint32_t ctime_nsec;
	struct jfs_attr attr;
	uint32_t cut_chunks;	/* lists from this chunk on go, CHUNK_NONE: none */
	struct pl_trash *trash; /* moves to trash */
	uint32_t n_trash;
};

struct pl_dentry {
	uint64_t parent;
	const uint8_t *name;
	uint32_t name_len;
	bool new_dir;	     /* the directory is born in this window: nothing to check */
	bool has_expect;     /* what Redis must have: */
	uint8_t expect[9];   /* all zero: nothing */
	uint8_t value[9];    /* all zero: delete */
};

enum pl_list_kind {
	PL_FRESH,   /* no list is there, or the cut of this window takes it away */
	PL_APPEND,  /* old is there; add records */
	PL_REWRITE, /* old is there; replace by records (none: delete) */
};
struct pl_list {
	uint64_t ino;
	uint32_t chunk;
	enum pl_list_kind kind;
	bool new_inode;
	const uint8_t *old, *records; /* 24 bytes each */
	uint32_t n_old, n_records;    /* counts */
};

struct pl_ref {
	uint64_t id;
	uint32_t size;
	bool fresh;    /* born in this window: its first record counts 0 */
	int64_t delta; /* what is added to sliceRef */
};

struct pl_parent {
	uint64_t ino, parent;
	int64_t delta;
};

/* PL_STAT_LINKED: ino is a file whose names Redis had before are found in p{ino}: once for each. */
enum pl_dirstat_kind { PL_STAT_NEW, PL_STAT_ADD, PL_STAT_DROP, PL_STAT_LINKED };
struct pl_dirstat {
	uint64_t ino;
	enum pl_dirstat_kind kind;
	int64_t length, space, inodes;
};

struct pl_quota { /* usage of a directory's quota (spec 2.13), where Redis has the quota */
	uint64_t dir;
	bool whole; /* set, not added */
	int64_t space, inodes;
};

struct pl_xattr { /* value NULL: remove */
	uint64_t ino;
	bool fresh; /* of a new inode */
	const uint8_t *name, *value;
	uint32_t name_len, value_len;
};

struct pl_symlink {
	uint64_t ino;
	const uint8_t *target;
	uint32_t len;
};

/* A slice and why it was made: what a rebuilt plan needs to find it again. */
struct pl_slice {
	struct slice_plan s;
	uint64_t ino;
	uint32_t chunk;
	bool composed; /* a list was rewritten into it: not only staged bytes */
};

enum co_orphan { CO_LIVE = 0, CO_PRIVATE = 1 /* Redis does not know it */, CO_SUSTAINED = 2 };
struct pl_orphan { /* a change of what is known of nameless inodes */
	uint64_t ino;
	enum co_orphan state; /* CO_LIVE: forget it */
};

/* The list of a chunk after the window, for the next one. */
struct pl_post {
	uint64_t ino;
	uint32_t chunk;
	bool onward; /* this chunk and all behind it have no list */
	bool fresh;  /* of an inode that was born in the window */
	const uint8_t *records;
	uint32_t n;
};

struct pl_chunk_ref {
	uint64_t ino;
	uint32_t chunk;
};

struct window_plan {
	struct arena mem;
	uint64_t from, end; /* records in (from, end] */
	VEC(struct pl_inode) inodes;	/* sorted by ino */
	VEC(struct pl_dentry) dentries; /* sorted by parent, then name */
	VEC(struct pl_list) lists;
	VEC(struct pl_ref) refs;
	VEC(struct pl_parent) parents;
	VEC(struct pl_dirstat) dirstats;
	VEC(struct pl_quota) quotas;
	VEC(struct pl_xattr) xattrs; /* sorted by ino */
	VEC(struct pl_symlink) symlinks;
	VEC(struct pl_slice) slices;	/* all of this window, recorded ones first */
	size_t n_recorded;		/* so many of them were known before */
	VEC(struct pl_orphan) orphans;
	VEC(struct pl_post) posts;
	VEC(struct pl_chunk_ref) missing; /* lists that must be loaded before a plan can be made */
	uint64_t commands;		  /* of Redis, about */
	uint64_t upload_bytes;
};

void plan_free(struct window_plan *p); /* NULL-safe */

#endif
