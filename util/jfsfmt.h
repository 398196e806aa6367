/* The binary values and names of a JuiceFS volume that more than one room needs (spec/juicefs-format.md 2.4, 2.5,
 * 2.7, 4.4): inode records, directory entries, slice records, object names, and the constants around them.
 *
 * All functions are pure. Integers in the stored forms are big-endian. A decoder takes pointer and length, trusts
 * nothing, and answers -EUCLEAN to bytes that are not of the format; the result is then unspecified. */
#ifndef JFS_UTIL_JFSFMT_H
#define JFS_UTIL_JFSFMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JFS_CHUNK_BITS	26
#define JFS_CHUNK_SIZE	(1ull << JFS_CHUNK_BITS) /* 64 MiB */
#define JFS_CHUNK_MAX	(1ull << 31)		 /* chunks of a file */
#define JFS_FILE_MAX	(1ull << 57)		 /* a length or end offset must stay below it: EFBIG (spec 9) */
#define JFS_NAME_MAX	255
#define JFS_SYMLINK_MAX 4095

#define JFS_ROOT_INODE	  1ull
#define JFS_TRASH_INODE	  0x7FFFFFFF10000000ull /* the trash root; + n: the n-th hour directory */
#define JFS_VIRT_INODE	  0x7FFFFFFF00000000ull /* + 1 .accesslog, + 2 .control, + 3 .stats, + 4 .config */
#define JFS_TRASH_NAME	  ".trash"

enum jfs_type {
	JFS_FILE = 1,
	JFS_DIR = 2,
	JFS_SYMLINK = 3,
	JFS_FIFO = 4,
	JFS_BLOCKDEV = 5,
	JFS_CHARDEV = 6,
	JFS_SOCKET = 7,
};

#define JFS_FLAG_IMMUTABLE  0x01
#define JFS_FLAG_APPEND	    0x02
#define JFS_FLAG_SKIP_TRASH 0x20

/* An inode record. Unknown flag bits are kept. `parent` is 0 once the inode has had more than one name. */
struct jfs_attr {
	uint8_t flags;
	uint8_t type;  /* enum jfs_type */
	uint16_t mode; /* 12 bits: suid, sgid, sticky, rwx */
	uint32_t uid, gid;
	int64_t atime, mtime, ctime;		       /* seconds since 1970 */
	uint32_t atime_nsec, mtime_nsec, ctime_nsec;
	uint32_t nlink;
	uint32_t rdev; /* as FUSE delivers it */
	uint64_t length;
	uint64_t parent;
	uint32_t access_acl, default_acl; /* ids, 0: none */
	uint8_t tier;
};

#define JFS_ATTR_MAX 81

/* Writes 72, 73, 80 or 81 bytes, depending on ACL ids and tier, and returns how many (spec 2.4). */
size_t jfs_attr_encode(const struct jfs_attr *a, uint8_t out[JFS_ATTR_MAX]);
/* Takes these forms and the old ones without parent (63, 64 bytes). -EUCLEAN: another length or an unknown type. */
int jfs_attr_decode(const void *p, size_t len, struct jfs_attr *a);
bool jfs_attr_equal(const struct jfs_attr *a, const struct jfs_attr *b);

#define JFS_DENTRY_LEN 9

/* Value of a directory entry (spec 2.5). Decoding: -EUCLEAN if len is not 9, the type unknown or the inode 0. */
void jfs_dentry_encode(uint8_t type, uint64_t inode, uint8_t out[JFS_DENTRY_LEN]);
int jfs_dentry_decode(const void *p, size_t len, uint8_t *type, uint64_t *inode);
/* What can be a name in a directory: 1..255 bytes, no '/' and no NUL, not "." or "..". */
bool jfs_name_valid(const char *name, size_t len);

/* One element of a chunk's list (spec 2.7): `len` bytes at `pos` in the chunk are those from `off` in slice `id`,
 * which is `size` bytes long in all. id 0 is a hole; its size and off mean nothing. */
struct jfs_slice {
	uint64_t id;
	uint32_t pos, size, off, len;
};

#define JFS_SLICE_LEN 24

void jfs_slice_encode(const struct jfs_slice *s, uint8_t out[JFS_SLICE_LEN]);
/* -EUCLEAN: len is not 24, or the record breaks an invariant of 2.7 (outside the chunk, outside the slice, empty). */
int jfs_slice_decode(const void *p, size_t len, struct jfs_slice *s);
bool jfs_slice_valid(const struct jfs_slice *s);

/* Room for any object name, its NUL included. */
#define JFS_OBJECT_NAME_MAX 96

/* Name of block `index` of slice `id`, relative to the volume prefix "{Name}/" (spec 4.4). `bsize` is the plain length
 * of that block in bytes. Returns the length of the name. */
size_t jfs_object_name(char out[JFS_OBJECT_NAME_MAX], uint64_t id, uint32_t index, uint32_t bsize, bool hash_prefix);
/* How many blocks a slice has, and how long block `index` is (0 behind the end). block_size > 0, in bytes. */
uint32_t jfs_slice_blocks(uint32_t size, uint32_t block_size);
uint32_t jfs_block_len(uint32_t size, uint32_t block_size, uint32_t index);

/* What a file of `length` bytes counts in usedSpace: 4096 for an empty one, else rounded up to 4096 (spec 0). */
uint64_t jfs_align4k(uint64_t length);
/* The same for an inode: only regular files count their length, everything else 4096. */
uint64_t jfs_attr_space(const struct jfs_attr *a);

/* enum jfs_type of the file type bits of a mode_t, 0 if there is none. */
uint8_t jfs_type_from_mode(mode_t mode);
/* S_IF* bits of a type, 0 for an unknown one. */
mode_t jfs_type_to_mode(uint8_t type);
/* st_mode of an inode. */
mode_t jfs_attr_st_mode(const struct jfs_attr *a);

static inline bool jfs_inode_is_trash(uint64_t inode)
{
	return inode >= JFS_TRASH_INODE;
}

#endif
