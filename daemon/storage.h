/* From a volume's setting to an object store, and what `format` does with it. */
#ifndef JFS_DAEMON_STORAGE_H
#define JFS_DAEMON_STORAGE_H

#include "redis/setting.h"
#include "s3/object.h"

struct storage_limits {
	unsigned max_parallel, max_downloads, retries, timeout_ms, get_timeout_ms; /* as in struct obj_config */
	const char *storage, *bucket, *storage_class; /* for this client instead of the setting's; NULL: the setting's */
};

/* Opens the store that the setting names; decrypts the secrets in a copy of its own. Does not touch the network. Errors of
 * rds_setting_decrypt and obj_store_open. */
int storage_open(const struct rds_setting *s, const struct storage_limits *l, struct obj_store **out, struct errmsg *e);
/* A new volume's prefix "{name}/" must hold no object (probes under testing/ and empty ones do not count): -ENOTEMPTY. */
int storage_check_empty(struct obj_store *st, const char *name, struct errmsg *e);
/* Writes, or removes, the object "{name}/juicefs_uuid" (spec/juicefs-format.md 4.6). */
int storage_put_uuid(struct obj_store *st, const struct rds_setting *s, struct errmsg *e);
int storage_delete_uuid(struct obj_store *st, const struct rds_setting *s);
/* What `file` storage keeps as its bucket: absolute, without "." and "..", ending in '/' (spec 4.7). Heap memory, or NULL.
 * Pure but for the working directory. */
char *storage_file_bucket(const char *path);
/* Where `file` storage goes by default: /var/jfs for root, ~/.juicefs/local otherwise. Heap memory, or NULL. */
char *storage_default_bucket(void);

#endif
