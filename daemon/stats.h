/* Metrics, and their text for MOUNTPOINT/.stats (spec 6.2): one line per metric, `juicefs_NAME VALUE`, sorted by family.
 *
 * Counters of the front live here and are lock-free; every other part registers a source which adds its own figures when
 * the text is made. */
#ifndef JFS_DAEMON_STATS_H
#define JFS_DAEMON_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "util/buf.h"

/* --- building a text --- */
struct stats_text;
struct stats_text *stats_text_new(void); /* NULL: out of memory */
void stats_text_free(struct stats_text *t);
/* family: the name without `juicefs_`; label: appended as _LABEL, or NULL. Families that begin with "juicefs_" keep their
 * doubled prefix (spec 6.2). */
void stats_int(struct stats_text *t, const char *family, const char *label, int64_t v);
void stats_float(struct stats_text *t, const char *family, const char *label, double v);
/* FAMILY_total (count) and FAMILY_sum; with a label FAMILY_LABEL_total ... */
void stats_hist(struct stats_text *t, const char *family, const char *label, uint64_t count, double sum);
/* Sorts and appends everything to `out`. 0, -ENOMEM. */
int stats_text_finish(struct stats_text *t, struct buf *out);
/* Shortest decimal without exponent that reads back as v. */
void stats_format_float(char *out, size_t size, double v);

/* --- the daemon's registry --- */
struct stats;
typedef void (*stats_source)(void *ctx, struct stats_text *t);

struct stats *stats_new(void);
void stats_free(struct stats *s);
/* At most 16, by one thread at a time; texts may be made meanwhile. There is no taking back. */
void stats_register(struct stats *s, stats_source fn, void *ctx);
/* One file system operation ended: its name (a string constant out of stats_ops), time and error (0 or -errno). */
void stats_op(struct stats *s, unsigned op, uint64_t ns, int err);
/* Bytes of one read or write. */
void stats_read(struct stats *s, uint64_t bytes);
void stats_written(struct stats *s, uint64_t bytes);
/* The whole text. 0, -ENOMEM. */
int stats_write(struct stats *s, struct buf *out);

/* Operations as JuiceFS names them. */
enum stats_opcode {
	SO_LOOKUP, SO_GETATTR, SO_SETATTR, SO_MKNOD, SO_CREATE, SO_MKDIR, SO_SYMLINK, SO_READLINK, SO_LINK, SO_UNLINK,
	SO_RMDIR, SO_RENAME, SO_READDIR, SO_READ, SO_WRITE, SO_FLUSH, SO_FSYNC, SO_FALLOCATE, SO_COPY, SO_LSEEK, SO_STATFS,
	SO_GETXATTR, SO_SETXATTR, SO_LISTXATTR, SO_REMOVEXATTR, SO_IOCTL, SO_FORGET, SO_RELEASE, SO_N
};
extern const char *const stats_op_names[SO_N];

#endif
