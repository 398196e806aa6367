/* The gate in front of every operation that adds to staging or to the log (budget.h says when it is open).
 *
 * Two lanes, writers and the rest. What may not pass is parked in its lane's queue, holds no thread, and is let go in order
 * by the gate's own thread: at the lane's rate while it is slowed, as soon as there is room again while it is full. Nothing
 * that frees (unlink, rmdir, truncate, punch, forget) comes here, and nothing that reads.
 * The thread measures when it is told that something was freed, when the room that was counted is used up, and every
 * GATE_TICK_MS while anything passes or waits; otherwise it sleeps. Between two measurements the budget may be exceeded by
 * what was admitted and not yet written, and by the records of one tick.
 * A journal that failed or is frozen opens the gate: its error is the answer. */
#ifndef JFS_DAEMON_GATE_H
#define JFS_DAEMON_GATE_H

#include "daemon/budget.h"

struct gate;

enum gate_lane { GATE_NONE, GATE_META, GATE_DATA };
#define GATE_TICK_MS 100

struct gate_wait {
	struct gate_wait *next;
	uint64_t bytes, ino;
	void (*go)(struct gate_wait *w, int err); /* gate's thread; must not block. err: answer that instead */
};

struct gate_config {
	/* Fills what budget_decide wants. False: the journal refuses everything, let it. */
	bool (*measure)(void *ctx, struct budget_in *in);
	/* Carries the rest of the decision out: called after every measurement. Must not block for long. */
	void (*act)(void *ctx, const struct budget_out *out);
	bool (*is_orphan)(void *ctx, uint64_t ino); /* an unlinked file? */
	void *ctx;
};

struct gate_figures {
	struct budget_in in;
	struct budget_out out;
	uint64_t waiting, waited; /* now; ever */
};

int gate_new(const struct gate_config *cfg, struct gate **out);
/* May this go on? False: gate_park it. Any thread, never blocks. g NULL: always. */
bool gate_pass(struct gate *g, enum gate_lane lane, uint64_t bytes);
void gate_park(struct gate *g, enum gate_lane lane, struct gate_wait *w);
/* Something was freed, or the journal failed. NULL-safe. */
void gate_kick(struct gate *g);
bool gate_pressing(struct gate *g); /* NULL: false */
void gate_figures(struct gate *g, struct gate_figures *out);
/* Closing: what waits goes on with -EIO, and nothing waits any more. Ends the thread. NULL-safe. */
void gate_stop(struct gate *g);
void gate_free(struct gate *g); /* stops first */

#endif
