/* A window without the script: unsafe_batch=1 (DESIGN 3.5 Modes). What apply.lua reads is read by pipelined commands, what it
 * writes is sent as one MULTI ... EXEC behind them, the position last. So a lost connection leaves all of a window or none,
 * and the position tells which; but nobody looks at the fencing token, at the position, or at what entries were meanwhile:
 * whatever another writer did between the reading and the writing is overwritten, and a command that meets a wrong type
 * fails alone (P5 and P9 do not hold).
 *
 * It must leave exactly what the script leaves when nobody else writes: change both together (tests/e2e/replay_script.c
 * runs the same histories through both). */
#ifndef JFS_REDIS_PIPELINE_H
#define JFS_REDIS_PIPELINE_H

#include "redis/conn.h"
#include "redis/script.h"

/* Applies the plan; blocks for three to five round trips. 0 with ans->status SCRIPT_OK; SCRIPT_NOKEY, SCRIPT_GONE,
 * SCRIPT_LIST, SCRIPT_DEADREF and SCRIPT_BAD as the script answers them, nothing was written then; -EUCLEAN: a command of
 * the transaction failed, the rest was done; or the errors of redis/conn.h, after which the connection is broken or has
 * been broken on purpose. */
int pipeline_apply(struct rds_conn *c, const struct window_plan *p, const struct script_ctx *ctx, struct script_answer *ans,
	struct errmsg *e);

#endif
