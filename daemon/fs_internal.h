/* What the fs_*.c files share. Every function here is called with the journal's lock held unless it says otherwise.
 *
 * The course of a mutation: read the view and refuse what must be refused (nothing has happened yet), fs_op_begin, add
 * items to the record, fs_op_commit. Errors of the building are sticky in the record and come out of the commit. A return
 * value above 0 (FS_NEED, FS_ROOM) means that nothing was committed, as a negative one does. */
#ifndef JFS_DAEMON_FS_INTERNAL_H
#define JFS_DAEMON_FS_INTERNAL_H

#include "daemon/fs.h"
#include "daemon/fs_refs.h"
#include "journal/extent.h"

enum {
	FS_INLINE_KEYS = 64,	/* keys of one inode that are deleted in the record itself, more of them lazily */
	FS_RECORD_KEYS = 1024,	/* extents or loaded entries that one record changes at most */
	FS_ID_RANGES = 8,
	FS_ID_STEP = 1024,	/* creations between two durable notes of how far the numbers are used */
	FS_LINK_MAX = 0x7fffffff,
};

struct fs {
	struct journal *j;
	struct fs_config cfg; /* journal's lock, as everything below but refs */
	struct fs_refs refs;
	struct {
		uint64_t next, end;
	} ids[FS_ID_RANGES];
	unsigned id_ranges;
	uint64_t ids_noted; /* numbers below this may have been used, as the view's meta key has it; */
	uint64_t ids_floor; /* as it had it when we started */
	struct cut *cuts;   /* scratch of fs_cuts_read */
	size_t cuts_size;
	struct extent_val *spans; /* scratch: FS_RECORD_KEYS */
	uint64_t *waiting;	  /* orphans whose release found no room */
	size_t waiting_n, waiting_size;
	struct jkey reap_at; /* where fs_reap_step goes on */
	uint64_t dir_moved;  /* the last record that gave a directory another name */
	uint64_t reap_ino, reap_from, reap_pos, reap_seq; /* its pass over one live inode; ino 0: none */
};

struct fs_op {
	struct fs *fs;
	struct rec *r;
	uint64_t seq, now_ns;
	int64_t now;
	uint32_t now_nsec;
	/* an inode that ends for Redis with this record while the kernel still holds it: kept by a second one */
	bool keep;
	uint8_t keep_state; /* enum orphan_state */
	uint64_t keep_ino;
	struct inode_val keep_val;
	/* an inode that went to trash and that nobody holds: forgotten by a second record */
	uint64_t release_ino;
};

void fs_op_begin(struct fs_op *op, struct fs *fs, enum rec_op kind);
/* 0 and *seq (may be NULL), FS_ROOM, -errno. */
int fs_op_commit(struct fs_op *op, uint64_t *seq);
void fs_op_put(struct fs_op *op, uint64_t ino, struct inode_val *v, unsigned flags); /* stamps v->seq */
void fs_op_put_dentry(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint8_t type, uint64_t ino);
/* IT_EXPECT: what the entry was before; ino 0: absent. */
void fs_op_expect(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint8_t type, uint64_t ino);
/* Directory statistics of a change of a named file's length; a file with several parents gives its own number as key. */
void fs_op_filestat(struct fs_op *op, uint64_t ino, const struct inode_val *v, int64_t len, int64_t space);
/* Sets v's length, with the space and directory statistics of the change. */
void fs_op_set_length(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t len);
enum { FS_CTIME = 1, FS_MTIME = 2, FS_ATIME = 4 };
void fs_op_touch(const struct fs_op *op, struct inode_val *v, unsigned which);

/* 0; FS_NEED (not here); -ENOENT (deleted), -EIO, -EUCLEAN. */
int fs_inode(struct fs *fs, uint64_t ino, struct inode_val *v, struct fs_need *need);
/* The same, and it is a complete directory. -ENOTDIR. */
int fs_dir(struct fs *fs, uint64_t ino, struct inode_val *v, struct fs_need *need);
/* An entry of a complete directory: 0, -ENOENT. */
int fs_dentry(struct fs *fs, uint64_t parent, const char *name, size_t n, uint8_t *type, uint64_t *ino);
bool fs_dir_empty(struct fs *fs, uint64_t ino, int *err);
int fs_name_check(const char *name, size_t n);
bool fs_name_reserved(uint64_t parent, const char *name, size_t n);
/* A mutation of something new in this directory: -EROFS, names, EEXIST, ENOENT (removed), EPERM, ENOSPC; FS_NEED. */
int fs_check_new(struct fs *fs, uint64_t parent, const char *name, size_t n, struct inode_val *dir, struct fs_need *need);
/* Sticky, immutable and append-only rules of removing `v` from `dir`: 0, -EPERM. */
int fs_may_remove(const struct fs_cred *c, const struct inode_val *dir, const struct inode_val *v);
int fs_room(struct fs *fs, int64_t space, int64_t inodes); /* 0, -ENOSPC */
int fs_id_take(struct fs *fs, uint64_t *ino, struct fs_need *need);
void fs_id_note(struct fs_op *op, uint64_t ino);
int fs_need(struct fs_need *need, enum fs_need_kind kind, uint64_t ino, uint32_t chunk); /* returns FS_NEED */
void fs_fill(struct fs_attr *out, uint64_t ino, const struct inode_val *v);
void fs_kill_suid(struct inode_val *v);
void fs_unlink_dir(struct inode_val *dir); /* one subdirectory less; a loaded count may be too low */
int64_t fs_stat_len(const struct inode_val *v); /* what a file counts in dirDataLength */

/* fs_orphan.c: a name of a non-directory, or a directory, goes. Adds everything but the entry itself. */
void fs_op_drop(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint64_t ino, struct inode_val *v);
/* After the commit: what fs_op_drop left for a second record. */
void fs_op_after_drop(struct fs_op *op);
/* Deletes all local keys of an inode: some in the record, more of them lazily. */
void fs_op_dismantle(struct fs_op *op, uint64_t ino, const struct inode_val *v, bool tombstone);
int fs_orphan_release(struct fs *fs, uint64_t ino); /* 0, FS_ROOM, -errno */
/* Where changes of this inode belong: internal when Redis has dismantled it already. */
enum rec_op fs_orphan_op(struct fs *fs, uint64_t ino, const struct inode_val *v, enum rec_op op);

/* fs_extents.c */
int fs_cuts_read(struct fs *fs, uint64_t ino, const struct inode_val *v, size_t *n); /* into fs->cuts */
/* Has this chunk's list been loaded, or is there none that we do not know? */
bool fs_chunk_known(struct fs *fs, uint64_t ino, const struct inode_val *v, uint32_t chunk);
/* Takes [from, *to) of a chunk away from the extents there are; *to comes back lower when *budget ran out. 0, -EIO. */
int fs_op_clear(struct fs_op *op, uint64_t ino, uint32_t chunk, uint32_t from, uint32_t *to, unsigned *budget);
/* What a shrinking truncate does to extents and cuts; sets IL_DATA_LOCAL at 0. 0, -errno. */
int fs_op_cut(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t len);
/* Zeroes a range of a chunk: removes extents, and lays a hole over a list that is not loaded. */
int fs_op_zero(struct fs_op *op, uint64_t ino, const struct inode_val *v, uint32_t chunk, uint32_t from, uint32_t *to,
	unsigned *budget);
/* What lies behind [off, end) (end <= the file's length), as consecutive spans with pos in their chunk; gaps are
 * EXT_HOLE. Returns how many, or -errno; -EAGAIN with *need. Covers a prefix when max is reached. */
int fs_spans(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t off, uint64_t end, struct extent_val *out,
	int max, struct fs_need *need);
/* The whole of a truncate to `len` but the times: 0, -errno. */
int fs_op_truncate(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t len);



#endif
