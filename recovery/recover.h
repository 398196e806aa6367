/* What the commands of jfs-recover share: options, and how a command is called. */
#ifndef JFS_RECOVERY_RECOVER_H
#define JFS_RECOVERY_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "recovery/report.h"
#include "util/errmsg.h"

struct recover_options {
	bool apply, json, all, takeover, no_objects, debug;
	bool remove_others, trust_objects; /* of rebase */
	bool allow_any_fs; /* tests */
	char *cache_dir, *uuid, *hot_dir;
	uint64_t timeout_ns; /* replay --apply: give up then, 0: never */
	const char *meta_url; /* NULL: not given */
	const char *dir;      /* of export */
	char *const *paths;   /* of discard */
	size_t n_paths;
};

/* Each prints what it found to stdout and errors to stderr, and returns an exit status. `cache`: absolute. */
int recover_check(const struct recover_options *o, const char *cache);
int recover_replay(const struct recover_options *o, const char *cache);
int recover_export(const struct recover_options *o, const char *cache);
int recover_rebase(const struct recover_options *o, const char *cache);
int recover_discard(const struct recover_options *o, const char *cache);

/* The common part: looks at everything and fills the report (zeroed before). RECOVER_CLEAN: see report_exit for the
 * verdict; RECOVER_CANNOT: it said why. */
int recover_look(const struct recover_options *o, const char *cache, struct report *r);
/* The same, and before the journal is closed `then`: 0, or -errno with a text. */
struct scan;
typedef int recover_then(void *arg, struct scan *s, struct report *r, struct errmsg *e);
int recover_look_then(const struct recover_options *o, const char *cache, struct report *r, recover_then *then, void *arg);
/* Prints the report and returns its exit status. */
int recover_tell(const struct recover_options *o, const struct report *r);
/* Runs fn as guard_run does; a journal that killed it becomes a report with one finding, RECOVER_BROKEN. */
int recover_guarded(const struct recover_options *o, const char *command, const char *cache, int (*fn)(void *arg), void *arg);
/* "jfs-recover: text" on stderr; RECOVER_CANNOT. */
int recover_cannot(const char *text);

#endif
