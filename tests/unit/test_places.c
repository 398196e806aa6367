/* Extents are pointed at the slices that hold their bytes after a window, and at nothing else. */
#include "redis/places.h"
#include "tests/unit/unit.h"

enum { INO = 7, CHUNK = 1, SLICE = 1000 };

/* One slice of 10 staged bytes, 20 zeroes and 30 bytes of slice 4, named by the list of (INO, CHUNK) when `named`. */
static void sample(struct window *w, struct places *p, bool named)
{
	const struct jfs_slice record = { .id = SLICE, .size = 60, .len = 60 };
	uint8_t *list;
	struct pl_slice *s;
	struct pl_post *o;

	memset(w, 0, sizeof(*w));
	memset(p, 0, sizeof(*p));
	list = arena_alloc(&w->mem, JFS_SLICE_LEN);
	s = vec_push(&w->slices);
	o = vec_push(&w->posts);
	REQUIRE(list && s && o);
	jfs_slice_encode(&record, list);
	*o = (struct pl_post){ .ino = INO, .chunk = CHUNK, .records = list, .n = named };
	*s = (struct pl_slice){ .ino = INO, .chunk = CHUNK, .composed = true, .s = { .id = SLICE, .size = 60, .n = 3 } };
	s->s.pieces = arena_alloc(&w->mem, 3 * sizeof(struct slice_piece));
	REQUIRE(s->s.pieces);
	s->s.pieces[0] = (struct slice_piece){ .kind = PIECE_STAGED, .len = 10, .segment = 3, .off = 5, .run_off = 1, .run_len = 20 };
	s->s.pieces[1] = (struct slice_piece){ .kind = PIECE_ZERO, .len = 20 };
	s->s.pieces[2] = (struct slice_piece){ .kind = PIECE_OBJECT, .len = 30, .slice_id = 4, .slice_size = 90, .slice_off = 60 };
	REQUIRE(places_make(w, p) == 0);
}

static bool staged_moves(const struct places *p, uint64_t segment, uint32_t off, uint32_t len, uint32_t to)
{
	struct extent_val e = { .pos = 100, .len = len, .born = 3, .kind = EXT_STAGED, .segment = segment, .off = off, .run_off = 1,
		.run_len = 20 };

	if (!places_repoint(p, NULL, 0, &e)) /* any file may show the same staged bytes */
		return false;
	CHECK(e.kind == EXT_OBJECT && e.slice_id == SLICE && e.slice_size == 60 && e.slice_off == to);
	CHECK(e.pos == 100 && e.len == len && e.born == 3);
	return true;
}

static bool object_moves(const struct window *w, const struct places *p, uint64_t id, uint32_t off, uint32_t len, uint32_t to)
{
	struct extent_val e = { .pos = 100, .len = len, .born = 3, .kind = EXT_OBJECT, .slice_id = id, .slice_size = 90, .slice_off = off };

	if (!places_repoint(p, w->posts.v[0].records, w->posts.v[0].n, &e))
		return false;
	CHECK(e.kind == EXT_OBJECT && e.slice_id == SLICE && e.slice_size == 60 && e.slice_off == to);
	CHECK(e.pos == 100 && e.len == len && e.born == 3);
	return true;
}

static void whole_extents_are_pointed(void)
{
	struct window w;
	struct places p;

	sample(&w, &p, true);
	CHECK(staged_moves(&p, 3, 5, 10, 0));
	CHECK(staged_moves(&p, 3, 7, 3, 2));
	CHECK(!staged_moves(&p, 3, 4, 3, 0));	/* begins before */
	CHECK(!staged_moves(&p, 3, 10, 6, 0));	/* ends behind */
	CHECK(!staged_moves(&p, 2, 5, 10, 0));	/* another segment */
	CHECK(object_moves(&w, &p, 4, 60, 30, 30));
	CHECK(object_moves(&w, &p, 4, 70, 5, 40));
	CHECK(!object_moves(&w, &p, 4, 59, 5, 0));
	CHECK(!object_moves(&w, &p, 4, 80, 11, 0));
	CHECK(!object_moves(&w, &p, 5, 60, 30, 0));
	places_fini(&p);
	window_fini(&w);
}

/* Others that refer to the old slice go on doing so: Redis counts them. */
static void objects_move_where_the_list_says_so_only(void)
{
	const struct jfs_slice other = { .id = 4, .size = 90, .off = 60, .len = 30 };
	struct window w;
	struct places p;
	uint8_t list[JFS_SLICE_LEN];

	sample(&w, &p, true);
	jfs_slice_encode(&other, list);
	w.posts.v[0].records = list;
	CHECK(!object_moves(&w, &p, 4, 60, 30, 0));
	w.posts.v[0].n = 0;
	CHECK(!object_moves(&w, &p, 4, 60, 30, 0));
	places_fini(&p);
	window_fini(&w);
}

static void slices_that_no_list_names_hold_nothing(void)
{
	struct window w;
	struct places p;

	sample(&w, &p, false);
	CHECK(p.staged.n == 0 && p.moved.n == 0);
	CHECK(!staged_moves(&p, 3, 5, 10, 0));
	places_fini(&p);
	window_fini(&w);
}

static void holes_stay(void)
{
	struct extent_val e = { .pos = 1, .len = 2, .kind = EXT_HOLE };
	struct window w;
	struct places p;

	sample(&w, &p, true);
	CHECK(!places_repoint(&p, w.posts.v[0].records, 1, &e));
	places_fini(&p);
	window_fini(&w);
}

static bool listed(const uint8_t *list, uint32_t n, uint32_t pos, uint32_t len, uint64_t id, uint32_t off)
{
	struct extent_val e = { .pos = pos, .len = len, .born = 3, .kind = EXT_STAGED, .segment = 9, .run_len = len };

	if (!places_listed(list, n, &e))
		return false;
	CHECK(e.kind == EXT_OBJECT && e.slice_id == id && e.slice_off == off && e.pos == pos && e.len == len && e.born == 3);
	return true;
}

static void lists_tell_what_is_shown(void)
{
	static const struct jfs_slice records[] = {
		{ .pos = 0, .id = 21, .size = 100, .off = 0, .len = 100 },
		{ .pos = 50, .id = 22, .size = 90, .off = 30, .len = 20 },
		{ .pos = 80, .id = 0, .size = 0, .off = 0, .len = 5 },
	};
	uint8_t list[3 * JFS_SLICE_LEN];

	for (int i = 0; i < 3; i++)
		jfs_slice_encode(&records[i], list + i * JFS_SLICE_LEN);
	CHECK(listed(list, 3, 0, 50, 21, 0));
	CHECK(listed(list, 3, 10, 5, 21, 10));
	CHECK(listed(list, 3, 55, 15, 22, 35));
	CHECK(listed(list, 3, 85, 15, 21, 85));
	CHECK(!listed(list, 3, 45, 10, 0, 0)); /* two slices show it */
	CHECK(!listed(list, 3, 78, 4, 0, 0));  /* a hole lies over it */
	CHECK(!listed(list, 3, 80, 5, 0, 0));
	CHECK(!listed(list, 3, 100, 5, 0, 0));
	CHECK(!listed(list, 3, 95, 10, 0, 0));
	CHECK(!listed(list, 0, 0, 5, 0, 0));
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "whole_extents_are_pointed", whole_extents_are_pointed },
		{ "objects_move_where_the_list_says_so_only", objects_move_where_the_list_says_so_only },
		{ "slices_that_no_list_names_hold_nothing", slices_that_no_list_names_hold_nothing },
		{ "holes_stay", holes_stay },
		{ "lists_tell_what_is_shown", lists_tell_what_is_shown },
		{ NULL, NULL },
	};

	return unit_main(argc, argv, tests);
}
