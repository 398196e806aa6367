/* Ranges of inode or slice numbers that this journal owns: taken from Redis by INCRBY, kept in the journal, handed out in
 * pieces (DESIGN 3.3, spec 2.12, 10.4).
 *
 * What is left of the ranges is the view key T_META name -> n x {be64 first, be64 end}. A piece is cut off by a record of
 * its own BEFORE any id of it is used, and every use is a later record: whatever prefix survives a power cut, no id can
 * be given out twice. A crash loses the rest of a piece; ids are never reused, gaps are normal. */
#ifndef JFS_REDIS_IDS_H
#define JFS_REDIS_IDS_H

#include <stdint.h>

#include "journal/journal.h"

struct id_pool;

/* Reads what the journal still has. `name`: "ids.inode" or "ids.slice". 0, -ENOMEM, -EUCLEAN, -EIO. */
int ids_open(struct journal *j, const char *name, struct id_pool **out);
void ids_close(struct id_pool *p);
/* A range [first, first + n) that Redis gave us: commits it. 0 or journal_commit's errors (-EAGAIN is waited out). Blocks
 * on journal room; call it without the journal's lock. */
int ids_add(struct id_pool *p, uint64_t first, uint64_t n);
/* Cuts off up to `want` ids as [*first, *end). -ENODATA: nothing left, ask Redis. Otherwise as ids_add. */
int ids_reserve(struct id_pool *p, uint64_t want, uint64_t *first, uint64_t *end);
/* One id, out of pieces of 1024. */
int ids_next(struct id_pool *p, uint64_t *id);
uint64_t ids_left(struct id_pool *p);
/* One behind the highest id that was ever added (0: none): what Redis's counter must not fall below, minus one. */
uint64_t ids_end(struct id_pool *p);

#endif
