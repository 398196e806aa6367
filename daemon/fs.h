/* File system semantics over the journal's view. Knows nothing of FUSE, of transports or of the network.
 *
 * Every operation takes the journal's lock itself, reads the view, builds one whole record, commits, unlocks, and returns
 *   0 or -errno as a local file system would, or
 *   FS_NEED   something is not here: *need says what; load it (may wait for the network) and call again from scratch,
 *   FS_ROOM   no room in the journal now: journal_wait_room, then call again from scratch,
 *   FS_MEMBER is the caller in the group need->ino? fs_cred_tell, then call again.
 * It leaves *before* its first put in all these cases. Nothing here waits, allocates unboundedly, or talks to anybody.
 *
 * Names are (pointer, length), 1..255 bytes, checked here (ENAMETOOLONG, EINVAL). Inode 1 is the root of what is
 * mounted (with --subdir the caller translates). Mode checks are the kernel's (default_permissions); sticky rules,
 * immutable/append flags, setattr ownership rules are checked here (spec 3.0). Times: clock_wall_ns(). */
#ifndef JFS_DAEMON_FS_H
#define JFS_DAEMON_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"
#include "util/aclrule.h"

enum { FS_NEED = 1, FS_ROOM, FS_MEMBER, FS_ANSWERS };

enum fs_need_kind {
	NEED_DIR = 1,	 /* all entries of directory `ino` with their inode records, and its own record */
	NEED_INODE,	 /* the record of `ino` (kernel asks for one that was evicted) */
	NEED_CHUNK,	 /* the slice list of (ino, chunk) */
	NEED_XATTR,	 /* all xattrs of ino */
	NEED_SYMLINK,	 /* the target of ino */
	NEED_INODE_IDS,	 /* a fresh range of inode numbers */
	NEED_TRASH,	 /* the operation touches .trash: goes through Redis */
	NEED_ACL,	 /* the rule with the number `ino` (fs_acl.c) */
	NEED_ACL_NUMBER, /* a number for the rule in slot `ino` */
	NEED_PARENTS,	 /* the directories of all names of file `ino` */
	NEED_TREE,	 /* everything below directory `ino` */
	NEED_ENTRY,	 /* one name in directory `ino`: only fetched, never kept (daemon/trash.h) */
};
struct fs_need {
	enum fs_need_kind kind;
	uint64_t ino;
	uint32_t chunk;
};

struct fs_cred {
	uint32_t uid, gid, pid;
	uint32_t umask;
	/* Whether `group` is one of the caller's other groups, which only /proc tells: asked when it matters. */
	bool told, member;
	uint32_t group;
};
/* The answer to FS_MEMBER. */
void fs_cred_tell(struct fs_cred *c, const struct fs_need *need, bool member);

struct fs_config {
	bool trash;		 /* TrashDays > 0 */
	uint64_t capacity, inodes; /* 0: unlimited */
	bool strict_atime;	 /* else relatime */
	bool read_only;
	bool acl;		 /* the volume has POSIX ACLs */
	bool dir_quotas, owner_quotas; /* DirStats, UserGroupQuota */
	bool admit_all;		 /* count, but refuse nothing: what is made was acknowledged once (jfs-recover rebase) */
};

struct fs;

int fs_new(struct journal *j, const struct fs_config *cfg, struct fs **out);
void fs_free(struct fs *fs);
void fs_get_config(struct fs *fs, struct fs_config *out);
void fs_set_config(struct fs *fs, const struct fs_config *cfg); /* setting reload */
struct journal *fs_journal(struct fs *fs);
/* The last record that gave a directory another name: what lies below is found by its path only once that is durable. */
uint64_t fs_dir_moved(struct fs *fs);
/* Up to here records may still change an inode whose last name lies in the trash: it was open when it went there. Of the
 * last life everything may. */
uint64_t fs_trash_left(struct fs *fs);
bool fs_has_trash(struct fs *fs); /* as the setting says now */

/* Inode numbers: a durable range is handed in by the id allocator; creation takes from it; FS_NEED/NEED_INODE_IDS when
 * it is used up. fs_ids_left tells when to refill. Thread-safe. */
void fs_add_ids(struct fs *fs, uint64_t first, uint64_t end /* exclusive */);
bool fs_has_ids(struct fs *fs);
/* An unlinked file that is still held? Any doubt is no. */
bool fs_is_orphan(struct fs *fs, uint64_t ino);
uint64_t fs_ids_left(struct fs *fs);

/* Redis has an entry of somebody else under a name that we made: it becomes ours, what we have there gets another name. */
struct fs_conflict {
	uint64_t parent;
	char name[JFS_NAME_MAX + 1];
	size_t name_len;
	uint8_t type; /* theirs */
	uint64_t ino;
	uint64_t seq; /* for the new name: NAME.conflict-SEQ */
	char kept[JFS_NAME_MAX + 1]; /* out: that name; */
	size_t kept_len;	     /* 0: there was nothing of ours to keep any more */
};
/* 0 and the record that says so. -errno. Waits for room in the journal. Thread-safe. */
int fs_conflict(struct fs *fs, struct fs_conflict *c, uint64_t *seq);

/* What every operation that returns attributes fills. */
struct fs_attr {
	uint64_t ino;
	struct jfs_attr a;
	uint64_t seq; /* last record that changed it: what fsync waits for */
};

/* Kernel references (FUSE lookup counts): names and opens that the kernel holds. An inode without a name lives on as an
 * orphan until its count is 0; the record of the last forget dismantles it. Every function below that returns an entry
 * to the kernel (lookup, create, mkdir, mknod, symlink, link, readdirplus' entries) counts one up by itself. */
void fs_forget(struct fs *fs, uint64_t ino, uint64_t n);
struct fs_forgotten {
	uint64_t ino, n;
};
/* The same for up to FS_FORGET_TOGETHER under one hold of the journal's lock, orphans in common records. */
enum { FS_FORGET_TOGETHER = 32 };
void fs_forget_all(struct fs *fs, const struct fs_forgotten *f, size_t n);
/* At mount: orphans of the last life have no kernel any more: dismantle them. 0, -errno. */
int fs_reap_orphans(struct fs *fs);
/* One bounded piece (<= ~1000 keys) of lazy deletion (dead extents, cuts): 1 if more is to do, 0, -errno, FS_ROOM. */
int fs_reap_step(struct fs *fs);

int fs_lookup(struct fs *fs, uint64_t parent, const char *name, size_t n, struct fs_attr *out, struct fs_need *need);
int fs_getattr(struct fs *fs, uint64_t ino, struct fs_attr *out, struct fs_need *need);

enum { FSA_MODE = 1, FSA_UID = 2, FSA_GID = 4, FSA_SIZE = 8, FSA_ATIME = 16, FSA_MTIME = 32, FSA_ATIME_NOW = 64,
       FSA_MTIME_NOW = 128, FSA_CTIME = 256, FSA_KILL_SUID = 512 };
struct fs_setattr {
	unsigned valid; /* 0: a chown that changes neither owner, which is still one: it takes setuid and touches ctime */
	uint32_t mode, uid, gid;
	uint64_t size;
	int64_t atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec;
};
int fs_setattr(struct fs *fs, const struct fs_cred *c, uint64_t ino, const struct fs_setattr *set, struct fs_attr *out, struct fs_need *need);
/* Replaces those flags (JFS_FLAG_*) that are in mask, as chattr does. -EPERM: neither root nor owner, or in the trash. */
int fs_setflags(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint8_t mask, uint8_t flags, uint64_t *seq, struct fs_need *need);

int fs_mknod(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode /* with S_IFMT */, uint32_t rdev, struct fs_attr *out, struct fs_need *need);
/* open(O_CREAT): *created tells whether it was made now; an existing file is returned (EEXIST only with excl). trunc: O_TRUNC of an existing one. */
int fs_create(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, bool excl, bool trunc, struct fs_attr *out, bool *created, struct fs_need *need);
int fs_mkdir(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, struct fs_attr *out, struct fs_need *need);
int fs_symlink(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, const char *target, size_t tn, struct fs_attr *out, struct fs_need *need);
int fs_readlink(struct fs *fs, uint64_t ino, char *buf, size_t *n /* in: room, out: length */, struct fs_need *need);
int fs_link(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint64_t parent, const char *name, size_t n, struct fs_attr *out, struct fs_need *need);
int fs_unlink(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint64_t *seq, struct fs_need *need);
int fs_rmdir(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint64_t *seq, struct fs_need *need);
enum { FS_RENAME_NOREPLACE = 1, FS_RENAME_EXCHANGE = 2, FS_RENAME_WHITEOUT = 4 /* leaves a device 0:0 behind */ };
int fs_rename(struct fs *fs, const struct fs_cred *c, uint64_t parent, const char *name, size_t n, uint64_t newparent, const char *newname, size_t nn, unsigned flags, uint64_t *seq, struct fs_need *need);

/* readdir: calls fn for each entry after cookie `off` (0: from the start; "." and ".." come first with cookies 1, 2);
 * fn returns non-zero when its buffer is full: that entry will come again. Attributes are given when want_attr.
 * Entries with the same hash are never split (see tables.h). The lookup count is NOT raised here: the caller calls
 * fs_ref(ino) for each entry that it really sent with attributes. */
struct fs_dirent {
	const uint8_t *name;
	size_t name_len;
	uint64_t ino, cookie;
	uint8_t type; /* JuiceFS type */
	struct fs_attr attr; /* with want_attr */
};
int fs_readdir(struct fs *fs, uint64_t ino, uint64_t off, bool want_attr, int (*fn)(void *arg, const struct fs_dirent *d), void *arg, struct fs_need *need);
void fs_ref(struct fs *fs, uint64_t ino);

int fs_getxattr(struct fs *fs, uint64_t ino, const char *name, size_t n, void *buf, size_t *len /* in: room (0: ask), out */, struct fs_need *need);
int fs_listxattr(struct fs *fs, uint64_t ino, void *buf, size_t *len, struct fs_need *need);
int fs_setxattr(struct fs *fs, const struct fs_cred *c, uint64_t ino, const char *name, size_t n, const void *val, size_t len, int flags, uint64_t *seq, struct fs_need *need);
int fs_removexattr(struct fs *fs, const struct fs_cred *c, uint64_t ino, const char *name, size_t n, uint64_t *seq, struct fs_need *need);

/* What a write takes away from a file; NULL: nothing. */
struct fs_kill {
	bool suid, caps; /* in: set-id bits; security.capability */
	bool done;	 /* out: bits were taken away */
};

/* Data. The bytes have been staged already (staging_append, outside any lock); this makes them part of the file.
 * A write that crosses a chunk border, or covers very many extents, becomes several records, in order; *seq is the
 * last one. With append the offset is the file's end under the lock and returned in *off. */
int fs_write(struct fs *fs, const struct fs_cred *c, uint64_t ino, uint64_t *off, bool append, const struct staged *s, struct fs_kill *kill, uint64_t *seq, struct fs_need *need);
int fs_fallocate(struct fs *fs, const struct fs_cred *c, uint64_t ino, int mode, uint64_t off, uint64_t len, uint64_t *seq, struct fs_need *need); /* spec 3.12 */
/* Reference copy inside the journal; may copy less than asked (*copied). */
int fs_copy_range(struct fs *fs, const struct fs_cred *c, uint64_t in, uint64_t off_in, uint64_t out, uint64_t off_out, uint64_t len, uint64_t *copied, uint64_t *seq, struct fs_need *need);

/* Has the lists of chunks from *chunk on rewritten as one slice each when they are replayed (stock's `compact`); *chunk
 * moves behind the last one that this record took, at most the file's last. The file stays as it is. */
int fs_compact(struct fs *fs, uint64_t ino, uint32_t *chunk, uint64_t *seq, struct fs_need *need);

/* Reading: what lies behind [off, off+len) now, clipped to the file's length, as consecutive pieces. The caller reads
 * staged bytes (or, when the segment is gone, asks again) and objects without any lock. Returns the number of pieces
 * (<= max; covering a prefix of the range if there are more), or -errno, FS_NEED via *need with return -EAGAIN. */
struct fs_piece {
	enum extent_kind kind;
	uint32_t len;
	uint32_t off;	     /* staged: [off, off + len) of the run */
	struct staged run;
	uint64_t slice_id;   /* object */
	uint32_t slice_size, slice_off;
};
int fs_map(struct fs *fs, uint64_t ino, uint64_t off, uint64_t len, struct fs_piece *pieces, int max, uint64_t *file_len, struct fs_need *need);
/* May the file hold staged bytes that were written behind `uploaded`? Looks at a bounded number of extents; behind that
 * it may. 0, -EIO, -EUCLEAN. */
int fs_unconfirmed(struct fs *fs, uint64_t ino, uint64_t uploaded, bool *unconfirmed);
/* SEEK_DATA / SEEK_HOLE, in blocks of FS_SEEK_BLOCK: programs ask in this way how large blocks are. */
enum { FS_SEEK_BLOCK = 4096 };
int fs_seek(struct fs *fs, uint64_t ino, uint64_t off, bool hole, uint64_t *out, struct fs_need *need);
/* relatime: called after a read or readdir; commits a record only when due. */
int fs_touch_atime(struct fs *fs, uint64_t ino);

struct fs_statfs {
	uint64_t total, avail, inodes_total, inodes_avail;
};
int fs_statfs(struct fs *fs, uint64_t ino, struct fs_statfs *out); /* spec 3.16; with the quotas of directory `ino` */

/* Quotas (fs_quota.c). What Redis says at `position`: everything it has. `settled`: nothing that was committed here waits
 * for replay. Returns in `count` which of the list are quotas of directories whose usage must be counted (fs_quota_adopt); *n_count: room, then how many. 0, -errno; waits for room. Thread-safe. */
struct fs_quota {
	uint8_t kind; /* enum quota_kind */
	uint64_t id;
	int64_t max_space, max_inodes, used_space, used_inodes;
};
int fs_quota_sync(struct fs *fs, uint64_t position, bool settled, const struct fs_quota *list, size_t n, uint64_t *count,
	size_t *n_count);
/* Counts what lies below the directory and keeps its quota from now on. 0, FS_NEED, FS_ROOM, -errno. Thread-safe. */
int fs_quota_adopt(struct fs *fs, const struct fs_quota *q, struct fs_need *need);
/* What the loader does for NEED_PARENTS: p{ino} as Redis has it at `position`. -ESTALE: changes of ours are not there yet. */
struct fs_loaded_parent {
	uint64_t parent;
	uint32_t names;
};
int fs_insert_parents(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_parent *p, size_t n);

/* What the loader does for NEED_ACL and NEED_ACL_NUMBER. The rule of a slot (0: no such slot), and the highest number that is
 * known; what Redis says of a number (rule NULL: nothing). Thread-safe. */
size_t fs_acl_wanted(struct fs *fs, uint64_t slot, uint8_t rule[ACL_RULE_MAX], uint32_t *least);
int fs_acl_known(struct fs *fs, uint32_t id, const void *rule, size_t len); /* 0, -errno; waits for room */

/* --- inserting what was loaded (fs_load.c). The loading rule (DESIGN 3.3): a key that any layer holds, a tombstone
 * too, is never overwritten; a directory becomes complete together with its last piece. `position` is Redis's position
 * that came with the answer: below the highest we applied (WM_APPLIED) the answer is refused with -ESTALE: wait, load
 * again. FS_ROOM as everywhere. Big answers are committed in pieces of <= 1000 entries. */
struct fs_loaded_entry {
	const uint8_t *name;
	size_t name_len;
	uint8_t type;
	uint64_t ino;
	const uint8_t *record; /* raw inode record of Redis, NULL when missing (shown as a broken entry: type only, mode 0) */
	size_t record_len;
};
struct fs_loaded_xattr {
	const uint8_t *name, *val;
	size_t name_len, val_len;
};
int fs_insert_inode(struct fs *fs, uint64_t position, uint64_t ino, const void *record, size_t len); /* NULL: -ENOENT */
int fs_insert_dir(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_entry *e, size_t n);
/* Of the n inodes from `from` on those which are held, are files, and whose first chunk's list was never loaded; how many. */
size_t fs_chunks_missing(struct fs *fs, uint64_t from, size_t n, uint64_t *out);
int fs_insert_chunk(struct fs *fs, uint64_t position, uint64_t ino, uint32_t chunk, const void *records, size_t n /* records of 24 bytes */);
/* The list changed in Redis behind us (a stock client compacted it): replace what was loaded, keep what is ours. */
int fs_reload_chunk(struct fs *fs, uint64_t position, uint64_t ino, uint32_t chunk, const void *records, size_t n);
int fs_insert_xattrs(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_xattr *x, size_t n);
int fs_insert_symlink(struct fs *fs, uint64_t position, uint64_t ino, const void *target, size_t n); /* NULL: -EIO */

#endif
