/* Making, changing and loading a volume in Redis (spec/juicefs-format.md 3.1). All calls block on the connection and are
 * atomic there: each is one script. */
#ifndef JFS_REDIS_FORMAT_H
#define JFS_REDIS_FORMAT_H

#include <stdint.h>

#include "redis/conn.h"
#include "redis/setting.h"

/* Writes a new volume: the trash root (if TrashDays > 0), the setting, the root directory; times are `now`, unix seconds.
 * The setting must pass rds_setting_check and have its secrets encrypted. -EEXIST: there is a volume already; -ENOTEMPTY:
 * the database holds something else; nothing is changed then. */
int rds_volume_create(struct rds_conn *c, const struct rds_setting *s, int64_t now, struct errmsg *e);

/* Replaces the setting if it is still `old_text` (byte for byte); makes the trash root if it has become necessary. -EAGAIN:
 * somebody else changed it meanwhile. */
int rds_volume_update(struct rds_conn *c, const char *old_text, size_t old_len, const struct rds_setting *s, int64_t now,
	struct errmsg *e);

/* Reads and parses the setting; does not check what it demands (rds_setting_check). -ENODATA: no volume there (the message
 * says how to make one); -ENOTEMPTY: none, but the database holds something else. `text`, if not NULL, gets the stored
 * bytes (heap, NUL-terminated). On an error *s is empty and *text NULL. */
int rds_volume_load(struct rds_conn *c, struct rds_setting *s, char **text, size_t *len, struct errmsg *e);

#endif
