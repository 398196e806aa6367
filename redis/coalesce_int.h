/* What the three files of the coalescer share: coalesce.c collects records, coalesce_plan.c decides about inodes and
 * names, coalesce_list.c about chunk lists and slices. Not for others. */
#ifndef JFS_REDIS_COALESCE_INT_H
#define JFS_REDIS_COALESCE_INT_H

#include "journal/record.h"
#include "redis/coalesce.h"
#include "redis/paint.h"

struct co_trash {
	struct pl_trash t;
	uint64_t time_ns;
};

struct co_parent {
	uint64_t parent;
	int64_t delta;
};

struct co_xattr {
	const uint8_t *name, *value; /* value NULL: removed */
	uint32_t name_len, value_len;
};

struct co_chunk {
	uint32_t chunk;
	struct layer w; /* new bytes and zeroes of the window */
	bool compact;	/* one slice is wanted */
	VEC(uint64_t) leave; /* slices that what is shown is to leave */
};

struct co_inode {
	uint64_t ino;
	bool born, has_image, deleted, gone, sustain;
	uint64_t time_ns; /* of the last record about it */
	struct jfs_attr image;
	bool has_stat;
	int64_t st_length, st_space, st_inodes;
	int64_t ln_length, ln_space; /* of a hard-linked file: for every name that Redis had before the window */
	bool q_whole; /* the usage of its quota is set, not changed */
	int64_t q_space, q_inodes;
	uint64_t cut; /* smallest length in the window, UINT64_MAX: never cut */
	const uint8_t *target;
	uint32_t target_len;
	VEC(struct co_trash) trash;
	VEC(struct co_parent) parents;
	VEC(struct co_xattr) xattrs;
	VEC(struct co_chunk) chunks;
	/* scratch of coalesce_plan */
	uint32_t lost, gained; /* names that Redis has and are gone; names that are new */
	uint32_t moves;	       /* to trash; the first so many of trash_pick */
	uint32_t *trash_pick;
	enum co_orphan orphan;
	enum { CI_DROP, CI_NEW, CI_KEEP, CI_SUSTAIN, CI_REMOVE } fate;
	bool nameless;
	uint8_t type; /* enum jfs_type, 0: not known */
};

struct co_dentry {
	uint64_t parent;
	const uint8_t *name;
	uint32_t name_len;
	bool has_expect;
	uint8_t before[9], after[9]; /* all zero: absent */
	bool lost_used;		     /* scratch: a trash item stands for this lost name */
};

struct coalesce {
	struct arena mem;
	VEC(struct co_inode) inodes;
	VEC(struct co_dentry) dentries;
	struct hmap by_ino, by_name;
	uint64_t last;
};

/* While a plan is made. */
struct placed { /* staged bytes that have a place in one of the plan's slices */
	uint64_t segment;
	uint32_t off, len;
	uint32_t slice; /* index */
	uint32_t slice_off;
};
struct pack { /* a slice that many files share; their records say size 0 until all are planned */
	uint64_t id;
	uint32_t slice; /* index */
	uint32_t size;
};
struct build {
	struct coalesce *co;
	const struct coalesce_in *in;
	struct window_plan *p;
	VEC(struct placed) recorded, fresh; /* recorded: sorted */
	struct hmap recorded_ids, recorded_posts; /* u64 id -> slice; {u64 ino, u32 chunk} -> post */
	struct hmap refs;
	VEC(struct pack) packs; /* ids rise; the last one takes more while pack_pieces has some */
	VEC(struct slice_piece) pack_pieces;
	struct hmap moved_at; /* {u64 slice, u32 offset, u32 length} of another slice that is copied into one of the plan's: */
	VEC(struct placed) moved;
	bool no_ids;
};

struct co_inode *co_inode_get(struct coalesce *co, uint64_t ino); /* NULL: not touched */
int build_recorded(struct build *b);
/* coalesce_again.c: when the recorded slices are in the plan. 0, -ENOMEM. */
int recorded_index(struct build *b);
/* The list that the chunk was recorded with, if it shows what is wanted. *kept: its first so many records are the old list's, all
 * of them, or 0. *post NULL: it does not, or there is none. 0, -ENOMEM, -EUCLEAN. */
int recorded_list(const struct build *b, const struct pl_chunk_ref *at, const struct layer *wanted, const uint8_t *old, uint32_t n_old,
	const struct pl_post **post, uint32_t *kept);
void recorded_fini(struct build *b);
/* coalesce_pack.c: a slice of pieces that shares a block with others. *id, *off: where they are; *id 0: no ids left. 0, -ENOMEM. */
int pack_add(struct build *b, uint64_t ino, uint32_t chunk, const struct slice_piece *pieces, uint32_t n, uint32_t len, uint64_t *id,
	uint32_t *off);
/* The same of a piece of another slice, once however often it is asked for. *size: the slice's, 0 while it grows. *id 0 also:
 * it is no piece that packs take. */
int pack_move(struct build *b, uint64_t ino, uint32_t chunk, const struct slice_piece *pc, uint64_t *id, uint32_t *size, uint32_t *off);
/* A recorded slice holds this piece of another one. 0, -ENOMEM. */
int pack_moved(struct build *b, const struct slice_piece *pc, uint32_t slice, uint32_t off);
/* When all lists are made: sizes are known now. */
int pack_settle(struct build *b);
void pack_fini(struct build *b);
/* What both do for a slice: its staged bytes have a place; Redis will refer to it. */
int slice_placed(struct build *b, const struct slice_piece *pc, bool recorded, uint32_t slice, uint32_t off);
int slice_refer(struct build *b, uint64_t id, uint32_t size);
/* Notes the lists that must be known first. */
int build_missing(struct build *b, const struct co_inode *ci);
/* Lists of a live file. 0, -ENOMEM, -EUCLEAN; what is missing is noted in the plan. */
int build_lists(struct build *b, struct co_inode *ci);

static inline bool value_absent(const uint8_t v[9])
{
	return v[0] == 0;
}
static inline uint64_t value_ino(const uint8_t v[9])
{
	return get_be64(v + 1);
}
static inline struct smap_hit hit_none(void)
{
	return (struct smap_hit){ 0 };
}

#endif
