/* What the fs_*.c files share. Every function here is called with the journal's lock held unless it says otherwise.
 *
 * The course of a mutation: read the view and refuse what must be refused (nothing has happened yet), fs_op_begin, add
 * items to the record, fs_op_commit. Errors of the building are sticky in the record and come out of the commit. A return
 * value above 0 (FS_NEED, FS_ROOM) means that nothing was committed, as a negative one does. */
#ifndef JFS_DAEMON_FS_INTERNAL_H
#define JFS_DAEMON_FS_INTERNAL_H

#include "daemon/fs.h"
#include "daemon/fs_ghost.h"
#include "daemon/fs_refs.h"
#include "journal/extent.h"

enum {
	FS_INLINE_KEYS = 64,	/* keys of one inode that are deleted in the record itself, more of them lazily */
	FS_RECORD_KEYS = 1024,	/* extents or loaded entries that one record changes at most */
	FS_ID_RANGES = 8,
	FS_ID_STEP = 1024,	/* creations between two durable notes of how far the numbers are used */
	FS_LINK_MAX = 0x7fffffff,
};
#define FS_SPACE_MAX (1ll << 62) /* of all files together, holes counted: what the volume's counters can hold */

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
	struct ghosts ghosts;
	uint64_t *waiting;	  /* orphans whose release found no room */
	size_t waiting_n, waiting_size;
	struct jkey reap_at; /* where fs_reap_step goes on */
	uint64_t dir_moved;  /* the last record that gave a directory another name */
	struct acl_slot *acls; /* fs_acl.c */
	size_t acls_n, acls_size;
	uint64_t trash_left; /* fs_trash_left */
	/* fs_quota.c */
	struct quota **quotas; /* sorted by kind and id */
	size_t quotas_n, quotas_size, quota_dirs;
	struct quota *quotas_touched; /* by the operation that is being built */
	uint64_t quota_round;	      /* fs_quota_sync's number */
	bool owners_seen;	      /* the last one knew of users and groups */
	uint64_t reap_ino, reap_from, reap_pos, reap_seq; /* its pass over one live inode; ino 0: none */
};

struct fs_op {
	struct fs *fs;
	struct rec *r;
	uint64_t seq, now_ns;
	int64_t now;
	uint32_t now_nsec;
	/* an inode that ends for Redis with this record while the kernel still holds it: kept by a second one, or as a ghost */
	bool keep, keep_ghost;
	uint8_t keep_state; /* enum orphan_state */
	uint64_t keep_ino;
	struct inode_val keep_val;
	const void *keep_target; /* of a symlink, in the view as it was before the record: valid until unlock */
	size_t keep_target_len;
	uint64_t ghost; /* one that this record makes an orphan; 0: none */
	/* an inode that went to trash and that nobody holds: forgotten by a second record */
	uint64_t release_ino;
	bool internal; /* not replayed: no quota hears of it */
};

void fs_op_begin(struct fs_op *op, struct fs *fs, enum rec_op kind);
/* The same for a change of this inode, which may have lost its names: internal when Redis has dismantled it already. */
void fs_op_begin_on(struct fs_op *op, struct fs *fs, uint64_t ino, const struct inode_val *v, enum rec_op kind);
/* 0 and *seq (may be NULL), FS_ROOM, -errno. */
int fs_op_commit(struct fs_op *op, uint64_t *seq);
void fs_op_put(struct fs_op *op, uint64_t ino, struct inode_val *v, unsigned flags); /* stamps v->seq */
void fs_op_put_dentry(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint8_t type, uint64_t ino);
/* What a new inode in `dir` looks like (spec 3.4). */
void fs_inode_new(const struct fs_op *op, const struct fs_cred *c, uint64_t parent, const struct inode_val *dir, uint8_t type,
	uint32_t mode, struct inode_val *v);
/* A new inode with its name, and what is counted of it; `dir` is the caller's to put. */
void fs_op_new(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint64_t ino, struct inode_val *v);
/* IT_EXPECT: what the entry was before; ino 0: absent. */
void fs_op_expect(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint8_t type, uint64_t ino);
/* Statistics of a directory: its entries change by so much; the quotas above it with them. */
void fs_op_dirstat(struct fs_op *op, uint64_t dir, int64_t len, int64_t space, int64_t inodes);
/* usedSpace and totalInodes, and what the owner of the inode uses. */
void fs_op_space(struct fs_op *op, const struct jfs_attr *owner, int64_t space, int64_t inodes);
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
/* May a new inode be made in `dir`, may a file change what it uses by `space` (not above 0: always)? They also see to it
 * that everything is here that the record's building asks for. 0, -ENOSPC, -EDQUOT, FS_NEED, -EIO. */
int fs_room_new(struct fs *fs, uint32_t uid, uint32_t gid, uint64_t dir, struct fs_need *need);
int fs_room_file(struct fs *fs, uint64_t ino, const struct inode_val *v, int64_t space, struct fs_need *need);
int fs_id_take(struct fs *fs, uint64_t *ino, struct fs_need *need);
void fs_id_note(struct fs_op *op, uint64_t ino);
void fs_id_noted(struct fs *fs, uint64_t ino); /* that record is committed */
int fs_need(struct fs_need *need, enum fs_need_kind kind, uint64_t ino, uint32_t chunk); /* returns FS_NEED */
void fs_fill(struct fs_attr *out, uint64_t ino, const struct inode_val *v);
/* Is the caller root, or in the inode's group? 0, FS_MEMBER. */
int fs_member(const struct fs_cred *c, const struct inode_val *v, bool *member, struct fs_need *need);
/* Takes setuid, and setgid unless that is without the group's execute bit and the caller a member: 0, FS_MEMBER. */
int fs_kill_suid(const struct fs_cred *c, struct inode_val *v, struct fs_need *need);
void fs_unlink_dir(struct inode_val *dir); /* one subdirectory less; a loaded count may be too low */
int64_t fs_stat_len(const struct inode_val *v); /* what a file counts in dirDataLength */

/* fs_orphan.c: a name of a non-directory, or a directory, goes. Adds everything but the entry itself. */
void fs_op_drop(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint64_t ino, struct inode_val *v);
/* After the commit: what fs_op_drop left for a second record. */
void fs_op_after_drop(struct fs_op *op);
/* Deletes all local keys of an inode: some in the record, more of them lazily. */
void fs_op_dismantle(struct fs_op *op, uint64_t ino, const struct inode_val *v, bool tombstone);
int fs_orphan_release(struct fs *fs, uint64_t ino); /* 0, FS_ROOM, -errno */

/* fs_quota.c */
int fs_quota_load(struct fs *fs);
void fs_quota_free(struct fs *fs);
bool fs_quota_of_dirs(const struct fs *fs); /* are there quotas of directories? */
/* Is everything here that a change of what `dir`, or the parents of a file, hold asks for? 0, FS_NEED, -EIO. */
int fs_quota_reach(struct fs *fs, uint64_t dir, struct fs_need *need);
int fs_quota_reach_file(struct fs *fs, uint64_t ino, const struct inode_val *v, struct fs_need *need);
uint64_t fs_quota_nearest(struct fs *fs, uint64_t dir); /* the first directory with a quota, from `dir` upwards; 0: none */
int fs_quota_check_owner(struct fs *fs, uint32_t uid, uint32_t gid, int64_t space, int64_t inodes); /* 0, -EDQUOT */
int fs_quota_check_dir(struct fs *fs, uint64_t dir, int64_t space, int64_t inodes);
/* What lies below `dir`: 0; FS_NEED (NEED_TREE). Takes its time. */
int fs_quota_usage(struct fs *fs, uint64_t dir, int64_t *space, int64_t *inodes, struct fs_need *need);
void fs_quota_add_dir(struct fs_op *op, uint64_t dir, int64_t space, int64_t inodes);
void fs_quota_add_owner(struct fs_op *op, uint32_t uid, uint32_t gid, int64_t space, int64_t inodes);
void fs_quota_begin(struct fs *fs);	/* nothing touched so far */
void fs_quota_emit(struct fs_op *op);	/* into the record, before its commit; */
void fs_quota_settle(struct fs_op *op, uint64_t seq); /* after it */
void fs_quota_statfs(struct fs *fs, uint64_t ino, struct fs_statfs *out);

/* fs_parents.c: the directories of a file of several names. Only kept where a quota may ask for them. */
/* Are they here? 0, FS_NEED, -EIO. */
int fs_parents_known(struct fs *fs, uint64_t ino, const struct inode_val *v, struct fs_need *need);
/* The file gets (loses) a name in `parent`; `first`: the directory of its only name so far, 0 if it has had several. */
void fs_op_parent(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t first, uint64_t parent, int32_t delta);
/* fn for each. 0, -EIO, what fn answers. */
int fs_parents_each(struct fs *fs, uint64_t ino, int (*fn)(void *arg, uint64_t parent, uint32_t names), void *arg);

/* fs_acl.c */
enum fs_acl_kind { FS_ACL_NONE, FS_ACL_ACCESS, FS_ACL_DEFAULT };
enum fs_acl_kind fs_acl_kind(const char *name, size_t n);
int fs_acl_load(struct fs *fs);
void fs_acl_free(struct fs *fs);
/* The access rule's number after a chmod: 0, FS_NEED, -EIO. */
int fs_acl_chmod(struct fs *fs, uint32_t *id, uint16_t mode, struct fs_need *need);
/* Mode and access rule of a new inode in a directory with a default rule: 0, FS_NEED, -EIO. */
int fs_acl_inherit(struct fs *fs, const struct inode_val *dir, uint16_t *mode, uint32_t *access, struct fs_need *need);
int fs_acl_get(struct fs *fs, uint64_t ino, enum fs_acl_kind kind, uint8_t out[ACL_XATTR_MAX], size_t *len, struct fs_need *need);
/* Takes the lock. val of length 0: remove. */
int fs_acl_set(struct fs *fs, const struct fs_cred *c, uint64_t ino, enum fs_acl_kind kind, const void *val, size_t len, int flags,
	uint64_t *seq, struct fs_need *need);

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
