/* Where a window should end (DESIGN 3.5). Pure.
 *
 * With publish=ordered every byte that is live at the end must be uploaded, also if it has died since. So among the ends
 * that are due the one with the fewest bytes that are dead by now is taken: feed it the log from the last end on, past what
 * is due (as far as is known; a bounded look ahead is enough), then ask. Only the upper half of what is due comes into
 * question, so that windows make progress however temporary files overlap (HISTORIES 39). */
#ifndef JFS_REDIS_CHOOSER_H
#define JFS_REDIS_CHOOSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chooser;

/* A shared object belongs to one window (redis/coalesce_pack.c). So that it gets full, a window of small files may be larger. */
#define CHOOSER_GROW 10

struct chooser_limits {
	uint64_t due;	     /* highest sequence that may be an end */
	uint64_t want;	     /* commands a script should have at most: 2000 */
	uint64_t most;	     /* and must not exceed: 20,000 (one record may) */
	uint64_t script;     /* bytes of records a script should be made of at most (batch_bytes), 0: no limit */
	uint64_t fill;	     /* bytes to upload that a window may grow for, to CHOOSER_GROW times want and script; 0: none */
	uint64_t bytes;	     /* to upload at most (one record may exceed it), 0: no limit */
};

struct chooser *chooser_new(uint64_t from);
void chooser_free(struct chooser *c);
/* Records follow each other from from + 1 on. 0, -ENOMEM, -EUCLEAN. */
int chooser_feed(struct chooser *c, uint64_t seq, const void *rec, size_t len);
/* Goes on at a later end: what has been fed behind it counts as if the chooser were new there and had been fed that. (A file
 * born before `from` whose record goes behind it: its bytes from behind `from` count as live for good.) False: `from` is not
 * within what was fed, or it is time for a new chooser; c is as it was, to be freed. */
bool chooser_advance(struct chooser *c, uint64_t from);
/* Commands that the records fed so far come to, about; highest sequence fed. */
uint64_t chooser_commands(const struct chooser *c);
uint64_t chooser_last(const struct chooser *c);
/* The end, in (from, due]; 0 when nothing is due. */
uint64_t chooser_choose(const struct chooser *c, const struct chooser_limits *l);
/* Bytes live at `end`, and how many of them are dead at the last record fed. */
void chooser_bytes(const struct chooser *c, uint64_t end, uint64_t *live, uint64_t *waste);

#endif
