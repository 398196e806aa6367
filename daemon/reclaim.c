#include "daemon/reclaim.h"

#include <errno.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define SEGMENTS_MAX	65536
#define SEGMENT_BLOCKS	(SEGMENT_SIZE / STAGING_BLOCK)
#define PUNCH_LEAST	4u /* blocks: fewer are not worth a call */

/* One segment and which of its blocks are needed. */
struct look_segment {
	uint64_t number;
	uint32_t written;
	bool sealed, any;
	uint8_t need[SEGMENT_BLOCKS / 8];
};

struct look {
	struct look_segment *v; /* ascending by number */
	size_t n;
	uint64_t *orphans; /* ascending */
	size_t orphans_n, orphans_size;
	uint64_t orphaned;
	bool skipped; /* a segment that was held just then */
};

static int by_number(const void *key, const void *member)
{
	uint64_t x = *(const uint64_t *)key, y = ((const struct look_segment *)member)->number;

	return (x > y) - (x < y);
}

static int by_ino(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* 0, or -EUCLEAN: what a damaged extent needs nobody can tell, so nothing goes. */
static int note_extent(struct look *l, const void *val, size_t len, uint32_t *staged)
{
	struct look_segment *s;
	struct extent_val v;
	int rc = extent_val_decode(val, len, &v);

	*staged = 0;
	if (rc || v.kind != EXT_STAGED)
		return rc;
	if (v.run_len == 0 || v.run_off > SEGMENT_SIZE || v.run_len > SEGMENT_SIZE - v.run_off || v.off < v.run_off ||
		(uint64_t)v.off + v.len > (uint64_t)v.run_off + v.run_len)
		return -EUCLEAN;
	*staged = v.len;
	s = bsearch(&v.segment, l->v, l->n, sizeof(l->v[0]), by_number);
	if (!s)
		return 0;
	s->any = true;
	for (uint32_t b = v.run_off / STAGING_BLOCK; b <= (v.run_off + v.run_len - 1) / STAGING_BLOCK; b++)
		s->need[b / 8] |= (uint8_t)(1u << b % 8);
	return 0;
}

static int look_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct rec_header h;
	struct rec_reader it;
	struct rec_item item;
	uint32_t staged;
	int rc = rec_open(rec, len, &h, &it);

	(void)seq;
	while (!rc && (rc = rec_next(&it, &item)) == 1) {
		rc = 0;
		if (item.kind == IT_PUT && item.klen && item.key[0] == T_EXTENT)
			rc = note_extent(arg, item.val, item.vlen, &staged);
	}
	return rc;
}

static int look_orphan(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct look *l = arg;
	uint64_t ino;

	(void)val;
	(void)vlen;
	if (key_parse_ino(key, klen, &ino))
		return -EUCLEAN;
	if (l->orphans_n == l->orphans_size) {
		size_t size = l->orphans_size ? 2 * l->orphans_size : 64;
		uint64_t *p = realloc(l->orphans, size * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->orphans = p;
		l->orphans_size = size;
	}
	l->orphans[l->orphans_n++] = ino;
	return 0;
}

static int look_extent(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct look *l = arg;
	uint32_t staged;
	uint64_t ino;
	int rc = note_extent(l, val, vlen, &staged);

	if (!rc && staged && l->orphans_n && key_parse_ino(key, klen, &ino) == 0 &&
		bsearch(&ino, l->orphans, l->orphans_n, sizeof(ino), by_ino))
		l->orphaned += staged;
	return rc;
}

/* The segments whose written part is all settled. 0, -ENOMEM. */
static int survey(struct look *l, struct staging *st)
{
	uint64_t *list = malloc(SEGMENTS_MAX * sizeof(*list));
	size_t n = list ? staging_list(st, list, SEGMENTS_MAX) : 0;
	int rc = list ? 0 : -ENOMEM;

	n = n < SEGMENTS_MAX ? n : SEGMENTS_MAX;
	if (n)
		l->v = calloc(n, sizeof(*l->v));
	if (n && !l->v)
		rc = -ENOMEM;
	for (size_t i = 0; i < n && !rc; i++) {
		struct look_segment *s = &l->v[l->n];

		/* Sealed first: a segment that is sealed a moment later is only taken for the current one. */
		s->sealed = !staging_is_held(st, list[i]);
		s->number = list[i];
		if (staging_settled(st, list[i], &s->written))
			l->n++;
		else
			l->skipped = true;
	}
	free(list);
	return rc;
}

static int look_all(struct look *l, struct journal *j, uint64_t mark, bool pressing)
{
	static const uint8_t extents[] = {T_EXTENT}, orphans[] = {T_ORPHAN};
	/* Committed is not enough to be seen: make all of it durable, so that log and base hold everything. */
	int rc = journal_wait(j, WM_DURABLE, journal_mark(j, WM_COMMITTED));

	if (!rc)
		rc = journal_log_scan(j, mark, journal_mark(j, WM_DURABLE), look_record, l);
	if (!rc && pressing)
		rc = journal_base_scan(j, orphans, sizeof(orphans), look_orphan, l);
	if (!rc)
		rc = journal_base_scan(j, extents, sizeof(extents), look_extent, l);
	return rc;
}

static int segment_remove(struct staging *st, uint64_t number)
{
	int rc;

	FAULT_POINT("staging.reclaim.before");
	rc = staging_remove(st, number);
	if (rc == -EBUSY || rc == -ENOENT)
		return 0;
	if (rc == 0) {
		FAULT_POINT("staging.reclaim.after");
		log_debug("what=\"segment reclaimed\" segment=%llu", (unsigned long long)number);
	}
	return rc;
}

static bool needed(const struct look_segment *s, uint32_t block)
{
	return s->need[block / 8] >> block % 8 & 1;
}

/* Every stretch of blocks that no needed run touches. */
static int segment_punch(struct staging *st, const struct look_segment *s)
{
	uint32_t end = s->written / STAGING_BLOCK, b = 0;
	int rc = 0;

	while (b < end && !rc) {
		uint32_t from = b;

		while (b < end && !needed(s, b))
			b++;
		if (b - from >= PUNCH_LEAST && !staging_is_punched(st, s->number, from * STAGING_BLOCK, (b - from) * STAGING_BLOCK)) {
			rc = staging_punch(st, s->number, from * STAGING_BLOCK, (b - from) * STAGING_BLOCK);
			rc = rc == -ENOENT ? 0 : rc;
		}
		while (b < end && needed(s, b))
			b++;
	}
	return rc;
}

static int give_back(struct reclaim *r, const struct look *l, struct staging *st)
{
	int rc = 0;

	for (size_t i = 0; i < l->n && !rc; i++) {
		const struct look_segment *s = &l->v[i];

		if (s->sealed && !s->any) {
			rc = segment_remove(st, s->number);
		} else if (!r->cannot_punch) {
			rc = segment_punch(st, s);
			if (rc == -EOPNOTSUPP) {
				log_warn("what=\"the file system of the cache directory cannot punch holes: dead bytes are freed with their segment\"");
				r->cannot_punch = true;
				rc = 0;
			}
		}
	}
	return rc;
}

/* Milliseconds until a look is worth its cost; 0: now. */
static uint64_t rest_ms(const struct reclaim *r, bool pressing)
{
	uint64_t until = r->ended_ns + r->took_ns * (pressing ? RECLAIM_REST_PRESSING : RECLAIM_REST), now = clock_mono_ns();

	return r->ended_ns && now < until ? (until - now) / 1000000 + 1 : 0;
}

int reclaim_step(struct reclaim *r, struct journal *j, bool pressing, uint64_t *freed)
{
	struct staging *st = journal_staging(j);
	uint64_t applied = journal_mark(j, WM_APPLIED), uploaded = journal_mark(j, WM_UPLOADED), before = staging_bytes(st);
	uint64_t mark = applied < uploaded ? applied : uploaded, committed = journal_mark(j, WM_COMMITTED), began;
	struct look l = {0};
	int rc;

	*freed = 0;
	if (mark == r->looked_at && !(pressing && committed != r->committed))
		return 0;
	*freed = rest_ms(r, pressing);
	if (*freed)
		return -EAGAIN;
	began = clock_mono_ns();
	rc = survey(&l, st);
	if (!rc && l.n)
		rc = look_all(&l, j, mark, pressing);
	if (!rc)
		rc = give_back(r, &l, st);
	if (!rc) {
		r->looked_at = mark;
		r->committed = l.skipped ? UINT64_MAX : committed;
		if (pressing)
			r->orphaned = l.orphaned;
	}
	free(l.v);
	free(l.orphans);
	r->ended_ns = clock_mono_ns();
	r->took_ns = r->ended_ns - began;
	uint64_t after = staging_bytes(st);
	*freed = before > after ? before - after : 0;
	return rc;
}
