/* Keys and values of the local view: what lies in the overlays and in base. FORMAT.md describes every byte.
 *
 * A key is one table byte and big-endian fields, so that memcmp order is the order we scan in. Values are absolute
 * after-images; deltas exist only in log records. All codecs are pure; decoders take pointer + length, trust nothing and
 * return -EUCLEAN for anything malformed. */
#ifndef JFS_JOURNAL_TABLES_H
#define JFS_JOURNAL_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/jfsfmt.h"

enum jtable {
	T_INODE = 'i',	   /* ino                      -> struct inode_val */
	T_DENTRY = 'd',	   /* parent, hash(name), name -> type u8, ino be64 (9 bytes, as in Redis) */
	T_EXTENT = 'e',	   /* ino, chunk u32, last u32 -> struct extent_val; `last` is the extent's LAST byte inside the chunk:
			      "the first extent that ends at or after pos" is then one forward seek */
	T_XATTR = 'x',	   /* ino, name                -> value bytes */
	T_SYMLINK = 's',   /* ino                      -> target bytes */
	T_CUT = 'c',	   /* ino, seq                 -> from be64: hides extents born before seq at or above from (DESIGN 3.1) */
	T_CHUNK = 'C',	   /* ino, chunk u32           -> be64 Redis position of the load: this chunk's list has been loaded */
	T_PUBLISHED = 'p', /* ino, chunk u32           -> the chunk's list as Redis has it: n x 24 bytes (may be empty: no list) */
	T_WINDOW = 'w',	   /* end seq, part u16        -> a window that was chosen (redis/window.h); kept until trim is behind it */
	T_SMAP = 'm',	   /* segment, off u32         -> struct smap_val: where a staged run went; kept until trim */
	T_ORPHAN = 'o',	   /* ino                      -> u8 enum orphan_state: unlinked, the kernel still has it */
	T_REAP = 'r',	   /* ino, from be64           -> empty: extents at or above from are dead, delete them lazily */
	T_PARENT = 'P',	   /* ino, parent              -> be32 names there: of a file of several names, if IL_PARENTS */
	T_META = 'k',	   /* name                     -> value: positions, id ranges, fencing, counters */
};

enum quota_kind { QUOTA_DIR, QUOTA_USER, QUOTA_GROUP };

#define JKEY_MAX 288

struct jkey {
	uint16_t len;
	uint8_t b[JKEY_MAX];
};

/* Directory order and readdir cookies: 63-bit hash of the name, never below 16 (small cookies are ours). */
uint64_t dentry_hash(const void *name, size_t n);

void key_inode(struct jkey *k, uint64_t ino);
void key_dentry(struct jkey *k, uint64_t parent, const void *name, size_t n); /* n <= 255 */
void key_dentry_from(struct jkey *k, uint64_t parent, uint64_t hash);	      /* seek: first entry with at least this hash */
void key_extent(struct jkey *k, uint64_t ino, uint32_t chunk, uint32_t last);
void key_xattr(struct jkey *k, uint64_t ino, const void *name, size_t n);     /* n <= 255, 0: seek to the first */
void key_symlink(struct jkey *k, uint64_t ino);
void key_cut(struct jkey *k, uint64_t ino, uint64_t seq);
void key_chunk(struct jkey *k, uint64_t ino, uint32_t chunk);
void key_published(struct jkey *k, uint64_t ino, uint32_t chunk);
void key_window(struct jkey *k, uint64_t end, uint16_t part);
void key_smap(struct jkey *k, uint64_t segment, uint32_t off);
void key_orphan(struct jkey *k, uint64_t ino);
void key_reap(struct jkey *k, uint64_t ino, uint64_t from);
void key_parent(struct jkey *k, uint64_t ino, uint64_t parent);
void key_meta(struct jkey *k, const char *name);

/* Parsers: 0 or -EUCLEAN. `name` points into the key. */
int key_parse_dentry(const void *key, size_t n, uint64_t *parent, uint64_t *hash, const uint8_t **name, size_t *name_len);
int key_parse_extent(const void *key, size_t n, uint64_t *ino, uint32_t *chunk, uint32_t *last);
int key_parse_ino(const void *key, size_t n, uint64_t *ino); /* any table whose first field is an inode */
int key_parse_smap(const void *key, size_t n, uint64_t *segment, uint32_t *off);

/* --- inode --- */
enum {
	IL_DATA_LOCAL = 1,    /* born here: no chunk list in Redis that we do not know; never load */
	IL_DIR_COMPLETE = 2,  /* a directory whose entries are all here (or tombstoned) */
	IL_XATTR_COMPLETE = 4, /* all extended attributes are here */
	IL_PARENTS = 16, /* has had several names, and the directories of all are in T_PARENT */
	IL_PLAIN = 8	       /* born here, and never had an attribute, a cut or a loaded list: nothing to look for */
};

struct inode_val {
	struct jfs_attr attr; /* nlink leaves names in trash out; times are exact, replay clamps what it sends */
	uint8_t lflags;	      /* IL_* */
	uint64_t seq;	      /* sequence number of the last record that changed it; 0: as loaded */
};
#define INODE_VAL_MAX (1 + 1 + 8 + 81)
size_t inode_val_encode(const struct inode_val *v, uint8_t out[INODE_VAL_MAX]);
int inode_val_decode(const void *p, size_t n, struct inode_val *v);

/* --- extent --- */
enum extent_kind { EXT_HOLE = 0, EXT_STAGED = 1, EXT_OBJECT = 2 };

struct extent_val {
	uint32_t pos, len; /* inside the chunk; pos + len - 1 is the key's `last` */
	uint64_t born;	   /* sequence of the record that wrote it, or the load's Redis position */
	enum extent_kind kind;
	/* EXT_STAGED: bytes [off, off+len) of a staging segment. run_* is the append they came from, whole: what `sum`
	 * (XXH3-64) covers; an extent that was trimmed still names its whole run. */
	uint64_t segment;
	uint32_t off, run_off, run_len;
	uint64_t sum;
	/* EXT_OBJECT: bytes [slice_off, slice_off+len) of slice (slice_id, slice_size) */
	uint64_t slice_id;
	uint32_t slice_size, slice_off;
};
#define EXTENT_VAL_MAX 48
size_t extent_val_encode(const struct extent_val *v, uint8_t out[EXTENT_VAL_MAX]);
int extent_val_decode(const void *p, size_t n, struct extent_val *v);

/* --- smap: staged bytes [off, off+len) of a segment are bytes [slice_off, ...) of a slice --- */
struct smap_val {
	uint32_t len;
	uint64_t slice_id;
	uint32_t slice_size, slice_off;
	uint64_t window_end;
};
#define SMAP_VAL_LEN 28
void smap_val_encode(const struct smap_val *v, uint8_t out[SMAP_VAL_LEN]);
int smap_val_decode(const void *p, size_t n, struct smap_val *v);

/* Meta keys of ACL rules: this and the decimal number -> the rule as in Redis's hash `acl`. */
#define ACL_META "acl:"

enum orphan_state {
	ORPHAN_LOCAL = 0,     /* Redis does not know of it, or knows it under names that replay will remove */
	ORPHAN_SUSTAINED = 1, /* in session{sid} */
	ORPHAN_TRASHED = 2,   /* in trash: its last close only forgets it here */
	ORPHAN_GONE = 3	      /* a directory, symlink or special that IT_GONE has named: kept for the kernel only */
};

#endif
