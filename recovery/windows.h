/* The windows that the journal remembers (T_WINDOW, redis/window.h): are they whole, and is a position of Redis one of
 * theirs? */
#ifndef JFS_RECOVERY_WINDOWS_H
#define JFS_RECOVERY_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "journal/journal.h"
#include "redis/lease.h"

struct windows_found {
	uint64_t windows, damaged;
	bool known, same; /* the position's sequence is a place of this history; and with the same chain */
};

/* Reads all of them; pos NULL: no question. Takes the journal's lock. 0, -ENOMEM, -EIO. */
int windows_look(struct journal *j, const struct rds_position *pos, struct windows_found *out);

#endif
