/* jfs-recover replay: brings Redis and the object store up to date without mounting. */
#include <stdio.h>

#include "recovery/recover.h"

static int dry_run(const struct recover_options *o, const char *cache)
{
	struct report r;
	int status = recover_look(o, cache, &r);

	r.command = "replay";
	if (status == RECOVER_CLEAN)
		status = recover_tell(o, &r);
	report_free(&r);
	return status;
}

int recover_replay(const struct recover_options *o, const char *cache)
{
	if (o->apply)
		return recover_cannot("replay --apply is not available in this release: mount the volume instead");
	return dry_run(o, cache);
}
