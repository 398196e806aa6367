/* The commands of .control that stock's tools send (spec 6.3), from their payload to the errno they are answered with.
 * What is not here is answered EINVAL, which stock's tools understand. */
#ifndef JFS_DAEMON_VERBS_H
#define JFS_DAEMON_VERBS_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/tree.h"

struct session;

enum {
	VERB_CLONE = 1006,
	VERB_COMPACT = 1008,
	VERB_FLUSH = 4001, /* ours: Redis and S3 have everything up to now; no payload */
};

/* Runs the command; blocks (a worker). 0 or -errno. */
int verb_run(struct session *s, const struct tree_caller *who, uint32_t verb, const void *payload, size_t len);

/* Payload of VERB_CLONE: 0 and *c without its caller, or -EINVAL. Pure. */
int verb_parse_clone(const void *payload, size_t len, struct tree_clone *c);

#endif
