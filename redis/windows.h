/* The windows that the journal remembers (T_WINDOW, redis/window.h), from trim on: are they whole, and is a position of Redis
 * one of theirs? */
#ifndef JFS_REDIS_WINDOWS_H
#define JFS_REDIS_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "journal/journal.h"
#include "journal/slice_plan.h"
#include "redis/lease.h"

struct windows_found {
	uint64_t windows, damaged;
	bool known, same; /* the position's sequence is a place of this history; and with the same chain */
	bool replaced;	  /* and that window was composed anew since, with another */
};

/* Reads all of them; pos NULL: no question. Takes the journal's lock. 0, -ENOMEM, -EIO,
 * -ENOTSUP: one was written by a newer version. */
int windows_look(struct journal *j, const struct rds_position *pos, struct windows_found *out);

/* Where this journal left Redis: 0, -ENOENT it has no history there yet, -EUCLEAN, -EIO. Takes the journal's lock. */
int windows_left(struct journal *j, struct rds_position *out);

enum windows_place {
	PLACE_SAME,	/* where this journal left it */
	PLACE_LATER,	/* windows were applied whose answers it has not noted */
	PLACE_EARLIER,	/* Redis forgot; what it forgot is still here (P8) */
	PLACE_TRIMMED,	/* Redis forgot more than that */
	PLACE_AHEAD,	/* beyond this journal's end: it is an old copy */
	PLACE_UNKNOWN,	/* at no end of a window of this history, or at one that was composed otherwise since: what followed is lost */
};
/* Where Redis's position `have` lies in this journal's history, whose last noted position is `left`; `trim`: up to where the
 * log is gone. Errors as above. */
int windows_place(struct journal *j, const struct rds_position *have, const struct rds_position *left, uint64_t trim,
	enum windows_place *out);

/* In which object, of a window that ends at `last` or before, the first bytes of a staged piece are: a PIECE_OBJECT of 1 to
 * staged->len bytes. Known from the moment that the window was applied until trim has passed it. Takes the journal's lock. 0,
 * -ENOENT, -EUCLEAN, -ENOMEM, -EIO. */
int windows_moved(struct journal *j, const struct slice_piece *staged, uint64_t last, struct slice_piece *object);

#endif
