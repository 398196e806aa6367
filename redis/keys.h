/* Names of the Redis keys, hash fields and members of a volume (spec/juicefs-format.md 2.2, 2.8, 2.9, 2.12).
 *
 * Every builder writes a NUL-terminated name of at most RDS_KEY_MAX - 1 bytes into the caller's buffer and returns its
 * length. `prefix` goes in front of it ("" or NULL on a standalone server, "{3}" on a cluster) and is cut to
 * RDS_PREFIX_MAX bytes. Parsers take the name without the prefix; 0 or -EINVAL. All are pure. */
#ifndef JFS_REDIS_KEYS_H
#define JFS_REDIS_KEYS_H

#include <stddef.h>
#include <stdint.h>

#define RDS_KEY_MAX    96
#define RDS_PREFIX_MAX 24

/* Keys with a fixed name. */
#define RDS_SETTING	       "setting"
#define RDS_SLICE_REF	       "sliceRef"
#define RDS_DEL_SLICES	       "delSlices"
#define RDS_DEL_FILES	       "delfiles"
#define RDS_DETACHED	       "detachedNodes"
#define RDS_ALL_SESSIONS       "allSessions"
#define RDS_SESSION_INFOS      "sessionInfos"
#define RDS_USED_SPACE	       "usedSpace"
#define RDS_TOTAL_INODES       "totalInodes"
#define RDS_NEXT_INODE	       "nextinode"
#define RDS_NEXT_CHUNK	       "nextchunk"
#define RDS_NEXT_SESSION       "nextsession"
#define RDS_NEXT_TRASH	       "nextTrash"
#define RDS_DIR_DATA_LENGTH    "dirDataLength"
#define RDS_DIR_USED_SPACE     "dirUsedSpace"
#define RDS_DIR_USED_INODES    "dirUsedInodes"
#define RDS_DIR_QUOTA	       "dirQuota"
#define RDS_DIR_QUOTA_SPACE    "dirQuotaUsedSpace"
#define RDS_DIR_QUOTA_INODES   "dirQuotaUsedInodes"
#define RDS_USER_QUOTA	       "userQuota"
#define RDS_USER_QUOTA_SPACE   "userQuotaUsedSpace"
#define RDS_USER_QUOTA_INODES  "userQuotaUsedInodes"
#define RDS_GROUP_QUOTA	       "groupQuota"
#define RDS_GROUP_QUOTA_SPACE  "groupQuotaUsedSpace"
#define RDS_GROUP_QUOTA_INODES "groupQuotaUsedInodes"
#define RDS_ACL		       "acl"
/* Our private keys begin with this letter, which no stock tool scans. */
#define RDS_PRIVATE_PREFIX     "z"

size_t rds_key(char out[RDS_KEY_MAX], const char *prefix, const char *name); /* one of the fixed names */
size_t rds_key_inode(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);			/* i{ino} */
size_t rds_key_dir(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);			/* d{ino} */
size_t rds_key_parents(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);		/* p{ino} */
size_t rds_key_chunk(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino, uint32_t indx);	/* c{ino}_{indx} */
size_t rds_key_symlink(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);		/* s{ino} */
size_t rds_key_xattr(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);			/* x{ino} */
size_t rds_key_sustained(char out[RDS_KEY_MAX], const char *prefix, uint64_t sid);		/* session{sid} */
size_t rds_key_locked(char out[RDS_KEY_MAX], const char *prefix, uint64_t sid);			/* locked{sid} */
size_t rds_key_flock(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);			/* lockf{ino} */
size_t rds_key_plock(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino);			/* lockp{ino} */

size_t rds_field_slice_ref(char out[RDS_KEY_MAX], uint64_t id, uint32_t size);	  /* k{id}_{size} */
size_t rds_field_del_slices(char out[RDS_KEY_MAX], uint64_t id, int64_t unixtime); /* {id}_{unix} */
size_t rds_member_del_file(char out[RDS_KEY_MAX], uint64_t ino, uint64_t length);  /* {ino}:{length} */
size_t rds_decimal(char out[RDS_KEY_MAX], uint64_t v);

/* Plain decimal text of `len` bytes, no sign, no blanks; -ERANGE if it does not fit. */
int rds_parse_u64(const char *s, size_t len, uint64_t *out);
/* The same with an optional minus sign: counters and deltas. */
int rds_parse_i64(const char *s, size_t len, int64_t *out);
int rds_parse_inode_key(const char *s, size_t len, char letter, uint64_t *ino); /* {letter}{ino} */
int rds_parse_chunk_key(const char *s, size_t len, uint64_t *ino, uint32_t *indx);
int rds_parse_slice_ref(const char *s, size_t len, uint64_t *id, uint32_t *size);
int rds_parse_del_file(const char *s, size_t len, uint64_t *ino, uint64_t *length);

#endif
