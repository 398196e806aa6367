/* Redo records: the only truth. An operation reads the view, builds ONE whole record, commits it; apply() puts it into
 * an overlay. The same apply() serves operations, recovery, replay and the tests' model (DESIGN 3.1).
 *
 * Encoding (FORMAT.md; golden files in tests/golden/records): header {u8 version = 1, u8 op, u16 flags, be64 time_ns,
 * be32 items}, then items, each {u8 kind, u8 flags, be16 klen, be32 vlen, key, value}. The sequence number is the key
 * under which the record is stored. A record ends with XXH3-64 of all before it.
 *
 * Who reads which item:
 *   IT_PUT, IT_DEL           apply(): absolute after-images and tombstones of view keys. Replay: those of T_INODE,
 *                            T_DENTRY, T_XATTR, T_SYMLINK; a T_EXTENT only with IF_NEW (bytes that are new in the file).
 *   all other kinds          never change the view; they tell replay what absolute images cannot (deltas, before-images).
 * Non-operations (OP_LOAD, OP_APPLIED, ...) use the same items; replay skips a record whose op is >= OP_INTERNAL. */
#ifndef JFS_JOURNAL_RECORD_H
#define JFS_JOURNAL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/tables.h"
#include "util/buf.h"

enum rec_op {
	OP_CREATE = 1, OP_MKDIR, OP_SYMLINK, OP_MKNOD, OP_LINK, OP_UNLINK, OP_RMDIR, OP_RENAME, OP_SETATTR, OP_TRUNCATE,
	OP_WRITE, OP_FALLOCATE, OP_COPY_RANGE, OP_SETXATTR, OP_REMOVEXATTR, OP_FORGET_ORPHAN, /* last close */
	OP_REPAIR,		  /* a conflict: what Redis has becomes ours (DESIGN 3.5 Names) */
	OP_COMPACT,		  /* chunk lists are to become one slice each, or to leave one (IT_REPACK) */
	OP_QUOTA,		  /* the usage of a directory quota was counted anew */
	OP_INTERNAL = 64,	  /* from here on nothing is replayed */
	OP_LOAD = 64,		  /* entries, inodes, lists loaded from Redis */
	OP_WINDOW,		  /* a window end was chosen, with its slices */
	OP_UPLOADED,		  /* a window's objects are confirmed */
	OP_APPLIED,		  /* "applied through": position, published post-images, staged extents re-pointed to objects */
	OP_REAP,		  /* lazy deletion of dead extents, cuts, tombstones */
	OP_TRIM,		  /* log, windows, smap up to here may go */
	OP_META,		  /* id ranges, fencing, lease, clean-close data */
	OP_EVICT,
};

enum rec_item_kind {
	IT_PUT = 1,   /* key, value */
	IT_DEL = 2,   /* key: tombstone; IF_FORGET: no tombstone is kept in base (the key may simply vanish) */
	IT_EXPECT = 3,/* key (T_DENTRY), value = what it was before (9 bytes) or empty = absent: checked by the script */
	IT_SPACE = 4, /* value: be64 signed used space delta, be64 signed inode count delta */
	IT_DIRSTAT = 5, /* key: T_INODE key of the directory; value: 3 x be64 signed: length, space, inodes. A file that has
			 had several names changes its length for all its parents: then the key is the file's own */
	IT_NLINK = 6, /* key: T_INODE key; value: be32 signed: change of the published nlink of a non-directory */
	IT_PARENT = 7,/* key: T_INODE key; value: be64 parent, be32 signed change of p{ino}[parent] */
	IT_CUT = 8,   /* key: T_INODE key; value: be64 from, be64 new length: truncate, replay masks from `from` */
	IT_PUNCH = 9, /* key: T_INODE key; value: be64 off, be64 len: zeroes, replay masks the range */
	IT_TRASH = 10,/* key: T_DENTRY key that went; value: type u8, ino be64: move it to trash instead of deleting, if published */
	IT_GONE = 11, /* key: T_INODE key; value: be64 final length: the last name and last opener are gone: dismantle it. No
			 replayable record names the inode afterwards; of a directory, symlink or special it comes with the
			 last name */
	IT_SUSTAIN = 12, /* key: T_INODE key: no name left, but the kernel still has it */
	IT_COMPACT = 13, /* key: T_INODE key; value: be32 chunk: its list is rewritten as one slice if it has more than one */
	IT_QUOTA = 14, /* key: T_INODE key of a directory with a quota; value: be64 signed space, be64 signed inodes: change of its
			  usage, with IF_NEW the whole of it. From version 2 on */
	IT_REPACK = 15, /* key: T_INODE key; value: be32 chunk, be64 slice: what its list shows of that slice is written anew. From
			   version 3 on */
};

enum { IF_NEW = 1,   /* IT_PUT T_INODE: born by this record; IT_PUT T_EXTENT: new bytes of the file (write, copy) */
       IF_FORGET = 2, /* IT_DEL: see there */
       IF_COPY = 4,  /* IT_PUT T_EXTENT with IF_NEW: the bytes are shared with another file (copy_file_range) */
       IF_LINKED = 8 /* IT_DIRSTAT: the key is a hard-linked file that changed its length: counts once for each of its
			names, whose directories only p{} knows */ };

#define REC_MAX ((size_t)8 << 20) /* 1/8 of a hot map (DESIGN 3.1): larger operations are split */

/* --- building: into a reusable buffer; errors are sticky in buf.err --- */
struct rec {
	struct buf buf;
	uint32_t items;
};
void rec_init(struct rec *r);
void rec_fini(struct rec *r);
void rec_begin(struct rec *r, enum rec_op op, uint64_t time_ns);
void rec_put(struct rec *r, const struct jkey *k, const void *val, size_t len, unsigned flags);
void rec_del(struct rec *r, const struct jkey *k, unsigned flags);
void rec_item(struct rec *r, enum rec_item_kind kind, unsigned flags, const void *key, size_t klen, const void *val, size_t vlen);
/* Conveniences over rec_item. */
void rec_put_inode(struct rec *r, uint64_t ino, const struct inode_val *v, unsigned flags);
void rec_put_extent(struct rec *r, uint64_t ino, uint32_t chunk, const struct extent_val *v, unsigned flags);
void rec_expect(struct rec *r, const struct jkey *dentry, const void *old, size_t old_len);
void rec_space(struct rec *r, int64_t space, int64_t inodes);
void rec_dirstat(struct rec *r, uint64_t dir, int64_t length, int64_t space, int64_t inodes);
/* The same for every name of a hard-linked file (IF_LINKED). */
void rec_linkstat(struct rec *r, uint64_t ino, int64_t length, int64_t space);
void rec_nlink(struct rec *r, uint64_t ino, int32_t delta);
void rec_parent(struct rec *r, uint64_t ino, uint64_t parent, int32_t delta);
void rec_cut(struct rec *r, uint64_t ino, uint64_t from, uint64_t new_length);
void rec_punch(struct rec *r, uint64_t ino, uint64_t off, uint64_t len);
void rec_trash(struct rec *r, const struct jkey *dentry, uint8_t type, uint64_t ino);
void rec_gone(struct rec *r, uint64_t ino, uint64_t length);
void rec_sustain(struct rec *r, uint64_t ino);
void rec_compact(struct rec *r, uint64_t ino, uint32_t chunk);
void rec_repack(struct rec *r, uint64_t ino, uint32_t chunk, uint64_t slice);
void rec_quota(struct rec *r, uint64_t dir, int64_t space, int64_t inodes, bool whole);
/* Appends the checksum; after it the bytes are final. 0, or the sticky error (-ENOMEM, -E2BIG). */
int rec_finish(struct rec *r);

/* --- reading --- */
struct rec_header {
	enum rec_op op;
	unsigned flags;
	uint64_t time_ns;
	uint32_t items;
};
struct rec_item {
	enum rec_item_kind kind;
	unsigned flags;
	const uint8_t *key, *val;
	size_t klen, vlen;
};
struct rec_reader {
	struct rd rd;
	uint32_t left;
};
/* What a whole record begins with: the version of its format. */
uint8_t rec_version(const void *data, size_t len);
/* The newest version that this program reads. It writes a record in the oldest version that has all its items. */
#define REC_VERSION 3
/* Verifies version, structure bounds and checksum: 0, -EUCLEAN (damaged), -ENOTSUP (a newer version). */
int rec_open(const void *data, size_t len, struct rec_header *h, struct rec_reader *it);
/* 1 and an item (pointers into the data), 0 at the end, -EUCLEAN. */
int rec_next(struct rec_reader *it, struct rec_item *item);

struct overlay;
struct rec_deltas {
	int64_t space, inodes;
};
/* The pure function: applies every IT_PUT/IT_DEL to the overlay and sums IT_SPACE. 0, -ENOMEM, -EUCLEAN. */
int rec_apply(const void *data, size_t len, struct overlay *ov, struct rec_deltas *sum);
/* The same without the checksum and the walk ahead: for a record that this process has just built. */
int rec_apply_trusted(const void *data, size_t len, struct overlay *ov, struct rec_deltas *sum);

#endif
