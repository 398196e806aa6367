#include "recovery/rebase_lost.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/cache_dir.h"
#include "recovery/scan.h"

int rebase_lost(const struct recover_options *o, const char *cache, struct remote *rm, bool *lost, struct errmsg *e)
{
	const struct journal_config jc = {.cache_dir = cache, .hot_dir = o->hot_dir, .allow_any_fs = true};
	struct report r = {.cache = cache};
	struct errmsg unused = {""};
	struct inspect found;
	struct journal *j;
	uint64_t applied;
	struct scan s;
	int rc;

	*lost = false;
	/* The mount of a run that was killed may still be ending. */
	while ((rc = journal_inspect(&jc, &j, &found, &unused)) == -EBUSY && cache_dir_wait(cache, e) == 0)
		;
	if (rc)
		return rc == -EBUSY ? rc : 0;
	if (scan_init(&s, j, &found))
		rc = -ENOMEM;
	snprintf(r.id, sizeof(r.id), "%s", journal_cache_id(j));
	r.committed = journal_mark(j, WM_COMMITTED);
	r.trimmed = found.trimmed;
	if (!rc && scan_position(&s) == 0 && s.has_position) {
		rc = remote_position(rm, &s, &r, &applied);
		*lost = !rc && (r.rebase || strcmp(r.position, "foreign") == 0 || strcmp(r.position, "gone") == 0);
	}
	scan_fini(&s);
	journal_close(j);
	report_free(&r);
	return rc ? errmsg_set(e, rc, "the journal in %s cannot be compared with Redis: %s", cache, strerror(-rc)) : 0;
}
