#include "daemon/reclaim.h"

#include <errno.h>
#include <stdlib.h>

#include "util/fault.h"
#include "util/log.h"

#define SEGMENTS_MAX 4096

struct look {
	uint64_t segments[SEGMENTS_MAX]; /* ascending */
	bool needed[SEGMENTS_MAX];
	size_t n, left;
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* 1: every segment is needed, stop looking. 0, or -EUCLEAN: what a damaged extent needs nobody can tell, so nothing goes. */
static int note_extent(struct look *l, const void *val, size_t len)
{
	struct extent_val v;
	int rc = extent_val_decode(val, len, &v);

	if (rc || v.kind != EXT_STAGED)
		return rc;
	uint64_t *at = bsearch(&v.segment, l->segments, l->n, sizeof(l->segments[0]), compare);
	if (at && !l->needed[at - l->segments]) {
		l->needed[at - l->segments] = true;
		l->left--;
	}
	return l->left == 0;
}

static int look_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct rec_header h;
	struct rec_reader it;
	struct rec_item item;
	int rc = rec_open(rec, len, &h, &it);

	(void)seq;
	while (!rc && (rc = rec_next(&it, &item)) == 1) {
		rc = 0;
		if (item.kind == IT_PUT && item.klen && item.key[0] == T_EXTENT)
			rc = note_extent(arg, item.val, item.vlen);
	}
	return rc;
}

static int look_extent(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	(void)key;
	(void)klen;
	return note_extent(arg, val, vlen);
}

int reclaim_step(struct reclaim *r, struct journal *j, uint64_t *freed)
{
	static const uint8_t extents[] = {T_EXTENT};
	struct staging *st = journal_staging(j);
	uint64_t applied = journal_mark(j, WM_APPLIED), uploaded = journal_mark(j, WM_UPLOADED), before = staging_bytes(st);
	struct look *l;
	int rc;

	*freed = 0;
	if (uploaded < applied)
		applied = uploaded;
	if (applied == r->looked_at)
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->n = staging_list(st, l->segments, SEGMENTS_MAX);
	if (l->n > SEGMENTS_MAX)
		l->n = SEGMENTS_MAX;
	l->left = l->n > 0 ? l->n - 1 : 0; /* the last one is the current one */
	if (l->left == 0) {
		free(l);
		return 0;
	}
	l->n = l->left;
	/* A segment that nobody holds now is named by committed records only, and no later write can name it. */
	for (size_t i = 0; i < l->n; i++)
		if (staging_is_held(st, l->segments[i])) {
			l->needed[i] = true;
			l->left--;
		}
	if (l->left == 0) {
		free(l);
		return 0;
	}
	/* Committed is not enough to be seen: make all of it durable, so that log and base hold everything. */
	rc = journal_wait(j, WM_DURABLE, journal_mark(j, WM_COMMITTED));
	if (!rc)
		rc = journal_log_scan(j, applied, journal_mark(j, WM_DURABLE), look_record, l);
	if (!rc)
		rc = journal_base_scan(j, extents, sizeof(extents), look_extent, l);
	for (size_t i = 0; i < l->n && rc == 0; i++) {
		if (l->needed[i])
			continue;
		FAULT_POINT("staging.reclaim.before");
		rc = staging_remove(st, l->segments[i]);
		if (rc == -EBUSY || rc == -ENOENT) {
			rc = 0;
		} else if (rc == 0) {
			FAULT_POINT("staging.reclaim.after");
			log_debug("what=\"segment reclaimed\" segment=%llu", (unsigned long long)l->segments[i]);
		}
	}
	if (rc >= 0)
		r->looked_at = applied;
	free(l);
	uint64_t after = staging_bytes(st);
	*freed = before > after ? before - after : 0;
	return rc < 0 ? rc : 0;
}
