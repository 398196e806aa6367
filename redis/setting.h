/* The volume setting: the JSON under the key `setting` (spec/juicefs-format.md 2.3, 1.2).
 *
 * Parsed as stock's Go decoder does it: keys without regard to case, strict types, null leaves the default. Fields that
 * are not known are kept and written back behind the known ones. The writer reproduces stock's bytes: stock's field
 * order, a line break after every token, `<`, `>`, `&` escaped.
 *
 * Strings are owned by the struct and never NULL. No function blocks. */
#ifndef JFS_REDIS_SETTING_H
#define JFS_REDIS_SETTING_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/buf.h"
#include "util/errmsg.h"

#define RDS_META_VERSION    1
#define RDS_CLIENT_VERSION  "1.4.1" /* the stock release we claim to be equal to in version checks */
#define RDS_MIN_CLIENT	    "1.1.0-A"
#define RDS_MIN_CLIENT_ACL  "1.2.0-A"
#define RDS_SETTING_MAX	    (1u << 20) /* bytes of JSON we are ready to parse */
#define RDS_SHARDS_MAX	    256
#define RDS_BLOCK_KIB_MIN   64
#define RDS_BLOCK_KIB_MAX   16384

struct rds_setting {
	char *name, *uuid;
	char *storage, *storage_class, *bucket;
	char *access_key, *secret_key, *session_token; /* the last two as stored: encrypted if key_encrypted */
	int64_t block_kib; /* BlockSize */
	char *compression;
	int64_t shards;
	bool hash_prefix;
	uint64_t capacity, inodes; /* bytes, number; 0: unlimited */
	char *encrypt_key, *encrypt_algo;
	bool key_encrypted;
	int64_t upload_limit, download_limit; /* Mbit/s */
	int64_t trash_days;
	int64_t meta_version;
	char *min_client, *max_client;
	bool dir_stats, user_group_quota, enable_acl;
	char *ranger_url, *ranger_service;
	bool change_log;
	int64_t change_log_age, change_log_lines;
	char *kerb_conf;
	json_t *tiers; /* NULL: to be made from storage_class */
	json_t *extra; /* unknown fields, an object or NULL */
};

/* Defaults of a new volume without name, UUID, bucket. -ENOMEM. */
int rds_setting_init(struct rds_setting *s);
void rds_setting_fini(struct rds_setting *s); /* wipes the secrets; NULL-safe, also for a zeroed struct */
int rds_setting_copy(struct rds_setting *to, const struct rds_setting *from); /* initialises *to; -ENOMEM */
/* Replaces one of the strings; value may be NULL for "". -ENOMEM. */
int rds_setting_set(char **field, const char *value);

/* Initialises *s from JSON; on an error *s is empty (fini is allowed). -EUCLEAN with a message: not JSON, not an object, a
 * field of the wrong type, a required one missing. */
int rds_setting_parse(const char *text, size_t len, struct rds_setting *s, struct errmsg *e);
/* Appends the JSON. With `public` the secrets are replaced by "removed" (for people and .config). */
void rds_setting_write(const struct rds_setting *s, bool public, struct buf *out);

/* May this program work on the volume? -ENOTSUP with one line that names the feature: newer format or client demanded,
 * change log, encryption, unknown storage or compression; -EUCLEAN: a value that breaks the format. */
int rds_setting_check(const struct rds_setting *s, struct errmsg *e);

/* Secrets (2.3): AES-128-GCM under MD5 of the UUID text. Decrypting and encrypting work in place and toggle key_encrypted;
 * both do nothing when there is nothing to do. -EBADMSG: does not decrypt; -ENOTSUP: sm4gcm; -ENOKEY: "removed". */
int rds_setting_decrypt(struct rds_setting *s, struct errmsg *e);
int rds_setting_encrypt(struct rds_setting *s, struct errmsg *e);
/* One secret, with the nonce given (12 bytes); *out is heap memory. For the above and the test vector. */
int rds_secret_seal(const char *uuid, const char *plain, const uint8_t nonce[12], char **out);
int rds_secret_open(const char *uuid, const char *stored, char **out);

/* Compares versions as stock does (1.2): -1, 0, 1, or -EINVAL when one is malformed. */
int rds_version_compare(const char *a, const char *b);
/* ^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$ : what `format` demands of a new volume's name. */
bool rds_volume_name_valid(const char *name);
/* A random version 4 UUID, lower case. -EIO when there is no entropy. */
int rds_uuid_make(char out[37]);

#endif
