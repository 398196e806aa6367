/* The far half of a check: does Redis stand at a place of this journal's history, and are the objects there that it was
 * told to name? Reads only. */
#ifndef JFS_RECOVERY_REMOTE_H
#define JFS_RECOVERY_REMOTE_H

#include "recovery/scan.h"
#include "redis/setting.h"
#include "s3/reader.h"

struct remote;

/* Connects and reads setting, lease and position. The setting must be that of the journal's volume. Errors of redis/conn.h
 * and of rds_volume_load; -ESTALE another volume. */
int remote_open(const char *meta_url, const char *uuid, struct remote **out, struct errmsg *e);
void remote_close(struct remote *rm); /* NULL-safe */
/* Compares positions: fills the report and says what is wrong. *applied: what may be taken for safe. Call it between
 * scan_position and scan_walk. 0, -ENOMEM. */
int remote_position(struct remote *rm, const struct scan *s, struct report *r, uint64_t *applied);
/* Asks the object store for every block of every slice of a window up to `applied` that the journal still knows. Errors of
 * storage_open, of the network. */
int remote_objects(struct remote *rm, const struct scan *s, uint64_t applied, struct report *r, struct errmsg *e);

/* The lease as remote_open found it: is there one, and of which journal (not NULL). */
bool remote_lease(const struct remote *rm, const char **journal);
/* *alone: there is a lease, and nobody has mounted the volume after the mount that it was last of. */
int remote_alone(struct remote *rm, bool *alone, struct errmsg *e);
/* What Redis's counter of slices says. */
int remote_next_slice(struct remote *rm, uint64_t *out, struct errmsg *e);
/* Sees to it that no inode or slice up to these is given out any more. */
int remote_raise(struct remote *rm, uint64_t inode, uint64_t slice, struct errmsg *e);
/* A reader of the volume's objects, with the store that it reads from: free it, then the store. */
int remote_reader(struct remote *rm, struct obj_store **store, struct slice_reader **out, struct errmsg *e);

#endif
