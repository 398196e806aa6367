#include "redis/windows.h"

#include <errno.h>
#include <string.h>

#include "redis/window.h"

/* A composition's parts, gathered from consecutive keys {'w', be64 end, be16 part}; a value begins with {be16 part, be16
 * parts}, and part 0 begins another composition. One that just ends too early was cut off by a crash: it was never sent. */
struct gather {
	const struct rds_position *pos;
	struct windows_found *out;
	struct buf bytes;
	uint64_t end;
	uint32_t key;	      /* part of the key that comes next */
	uint16_t next, parts; /* parts 0: none is open */
	bool bad;
	bool ended_here; /* a composition that came by ended at pos */
};

static void compare(struct gather *g, uint64_t seq, const char *chain)
{
	if (!g->pos || g->pos->seq != seq)
		return;
	g->out->known = true;
	g->out->same |= strcmp(g->pos->chain, chain) == 0;
}

/* Compositions of one end come in the order in which they were made. */
static void compare_end(struct gather *g, const struct window *w)
{
	if (!g->pos || g->pos->seq != w->end)
		return;
	g->ended_here |= strcmp(g->pos->chain, w->chain) == 0;
	g->out->replaced = g->ended_here && strcmp(g->pos->chain, w->chain) != 0;
}

static int finish(struct gather *g)
{
	struct window w;
	int rc;

	if (g->parts == 0)
		return 0;
	if (!g->bad && g->next < g->parts) {
		buf_reset(&g->bytes);
		g->parts = 0;
		return 0;
	}
	g->out->windows++;
	rc = g->bytes.err;
	if (!rc)
		rc = g->bad ? -EUCLEAN : window_decode(g->bytes.data, g->bytes.len, &w);
	if (!rc && w.end != g->end) {
		window_fini(&w);
		rc = -EUCLEAN;
	}
	if (rc == -EUCLEAN)
		g->out->damaged++;
	if (!rc) {
		compare(g, w.end, w.chain);
		compare_end(g, &w);
		compare(g, w.from, w.before);
		window_fini(&w);
	}
	buf_reset(&g->bytes);
	g->parts = 0;
	return rc == -EUCLEAN ? 0 : rc;
}

static int take_part(struct gather *g, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	uint64_t end = klen == 11 ? get_be64(key + 1) : 0;
	bool sound = klen == 11 && vlen >= 4, other = end != g->end;
	int rc = 0;

	if (g->parts == 0 || other || (sound && get_be16(val) == 0)) {
		rc = finish(g);
		g->key = other ? 0 : g->key;
		g->end = end;
		g->next = 0;
		g->bad = false;
		g->parts = 1;
	}
	if (!sound || get_be16(val) != g->next || get_be16(key + 9) != g->key || get_be16(val + 2) == 0) {
		g->bad = true;
		return rc;
	}
	g->parts = get_be16(val + 2);
	g->next++;
	g->key++;
	buf_put(&g->bytes, val + 4, vlen - 4);
	return rc;
}

/* Where this history began: {be64 seq, 32 chain}. */
static void look_at_start(struct gather *g, struct journal *j)
{
	char chain[RDS_CHAIN_LEN + 1] = "";
	const void *val;
	struct jkey k;
	size_t n;

	key_meta(&k, "history");
	if (view_get(j, &k, &val, &n) || n != 8 + RDS_CHAIN_LEN)
		return;
	memcpy(chain, (const uint8_t *)val + 8, RDS_CHAIN_LEN);
	compare(g, get_be64(val), chain);
}

int windows_look(struct journal *j, const struct rds_position *pos, struct windows_found *out)
{
	struct jkey from;
	struct gather g = {.pos = pos, .out = out};
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	int rc;

	*out = (struct windows_found){0};
	buf_init(&g.bytes, 0);
	/* Trim takes parts away in pieces: what ended before it may not be whole any more, and is nobody's. */
	key_window(&from, journal_mark(j, WM_TRIM), 0);
	journal_lock(j);
	look_at_start(&g, j);
	it = view_seek(j, &from, 1);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1)
		rc = take_part(&g, key, klen, val, vlen);
	if (it)
		view_end(it);
	journal_unlock(j);
	if (!rc)
		rc = finish(&g);
	buf_fini(&g.bytes);
	return rc;
}

int windows_left(struct journal *j, struct rds_position *out)
{
	const void *val;
	struct jkey k;
	size_t n;
	int rc;

	memset(out, 0, sizeof(*out));
	key_meta(&k, "applied");
	journal_lock(j);
	rc = view_get(j, &k, &val, &n);
	if (!rc && n < 16 + RDS_CHAIN_LEN)
		rc = -EUCLEAN;
	if (!rc) {
		out->epoch = get_be64(val);
		out->seq = get_be64((const uint8_t *)val + 8);
		memcpy(out->chain, (const uint8_t *)val + 16, RDS_CHAIN_LEN);
	}
	journal_unlock(j);
	return rc;
}

int windows_place(struct journal *j, const struct rds_position *have, const struct rds_position *left, uint64_t trim,
	enum windows_place *out)
{
	struct windows_found w = {0};
	int rc = 0;

	if (have->seq > journal_mark(j, WM_COMMITTED))
		*out = PLACE_AHEAD;
	else if (have->seq == left->seq)
		*out = strcmp(have->chain, left->chain) == 0 ? PLACE_SAME : PLACE_UNKNOWN;
	else if (have->seq < trim && have->seq < left->seq)
		*out = PLACE_TRIMMED;
	else if ((rc = windows_look(j, have, &w)) == 0)
		*out = !w.same ? PLACE_UNKNOWN : have->seq > left->seq ? PLACE_LATER : w.replaced ? PLACE_UNKNOWN : PLACE_EARLIER;
	return rc;
}

/* 1: these are they; 0: look on; -ENOENT: they would have come before. */
static int smap_covers(const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen, const struct slice_piece *staged, uint64_t last,
	struct slice_piece *object)
{
	struct smap_val m;
	uint64_t segment;
	uint32_t off, skip, left;

	if (key_parse_smap(key, klen, &segment, &off) || smap_val_decode(val, vlen, &m))
		return -EUCLEAN;
	if (off > staged->off)
		return -ENOENT;
	skip = staged->off - off;
	if (skip >= m.len || m.window_end > last)
		return 0;
	left = m.len - skip;
	*object = (struct slice_piece){.kind = PIECE_OBJECT, .len = left < staged->len ? left : staged->len, .slice_id = m.slice_id,
		.slice_size = m.slice_size, .slice_off = m.slice_off + skip};
	return 1;
}

int windows_moved(struct journal *j, const struct slice_piece *staged, uint64_t last, struct slice_piece *object)
{
	struct view_iter *it;
	const uint8_t *k, *v;
	struct jkey from;
	size_t kn, vn;
	int rc = 0;

	key_smap(&from, staged->segment, staged->run_off);
	journal_lock(j);
	it = view_seek(j, &from, 9);
	while (it && (rc = view_step(it, &k, &kn, &v, &vn)) > 0 && (rc = smap_covers(k, kn, v, vn, staged, last, object)) == 0)
		;
	if (it)
		view_end(it);
	else
		rc = -ENOMEM;
	journal_unlock(j);
	return rc > 0 ? 0 : rc ? rc : -ENOENT;
}
