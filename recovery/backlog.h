/* What a list of records changes, by name: "created", "changed", "removed". Pure.
 *
 * Only the first and the last that happened to a name counts; what was born and removed in between is left out. */
#ifndef JFS_RECOVERY_BACKLOG_H
#define JFS_RECOVERY_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recovery/vec.h"
#include "util/buf.h"

struct backlog_inode {
	uint64_t ino;
	bool born;
};

struct backlog_name {
	uint64_t parent, seq;
	size_t at; /* in `names` */
	uint16_t len;
	uint8_t what; /* internal until backlog_done, which leaves one element for each name that was removed */
};

struct backlog {
	uint64_t operations, first, last; /* records, and their sequence numbers */
	VEC(struct backlog_inode) inodes; /* after backlog_done: sorted, each once */
	VEC(struct backlog_name) removed;
	struct buf names;
};

void backlog_init(struct backlog *b);
void backlog_fini(struct backlog *b);
/* Takes a record, in order; those that are not operations are skipped. 0, -ENOMEM, -EUCLEAN, -ENOTSUP (see rec_open). */
int backlog_feed(struct backlog *b, uint64_t seq, const void *rec, size_t len);
void backlog_done(struct backlog *b);

#endif
