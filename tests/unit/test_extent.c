/* Extent algebra against a naive byte painter. */
#include "journal/extent.h"

#include <errno.h>

#include "tests/unit/unit.h"
#include "util/buf.h"

enum { SPACE = 4096 };

/* What a byte is: 0 a hole, else slice id * SPACE + offset in the slice. */
static void paint(uint64_t *px, const struct extent_val *e, bool under)
{
	for (uint32_t i = 0; i < e->len; i++)
		if (!under || px[e->pos + i] == 0)
			px[e->pos + i] = e->slice_id * SPACE + e->slice_off + i;
}

static void check_list(const struct extent_list *l, const uint64_t *px)
{
	uint64_t *got = calloc(SPACE, sizeof(*got));
	uint32_t end = 0;

	for (size_t i = 0; i < l->n; i++) {
		CHECK(l->v[i].len > 0);
		CHECK(i == 0 || l->v[i].pos >= end);
		end = extent_end(&l->v[i]);
		REQUIRE(end <= SPACE);
		paint(got, &l->v[i], false);
	}
	CHECK(memcmp(got, px, SPACE * sizeof(*got)) == 0);
	free(got);
}

static struct extent_val random_extent(uint64_t *s, uint64_t id)
{
	uint32_t pos = (uint32_t)(unit_rand(s) % SPACE), max = SPACE - pos;
	struct extent_val e = { .kind = EXT_OBJECT, .pos = pos, .slice_id = id, .slice_size = SPACE, .born = id };

	e.len = 1 + (uint32_t)(unit_rand(s) % (unit_rand(s) % 4 ? (max < 64 ? max : 64) : max));
	e.slice_off = (uint32_t)(unit_rand(s) % (SPACE - e.len + 1));
	return e;
}

static void list_against_painter(void)
{
	uint64_t s = unit_seed(), px[SPACE];

	for (int round = 0; round < 200; round++) {
		struct extent_list l;

		extent_list_init(&l);
		memset(px, 0, sizeof(px));
		for (uint64_t id = 1; id < 60; id++) {
			struct extent_val e = random_extent(&s, id);

			switch (unit_rand(&s) % 4) {
			case 0:
				CHECK_EQ(extent_list_remove(&l, e.pos, extent_end(&e)), 0);
				memset(px + e.pos, 0, e.len * sizeof(*px));
				break;
			case 1:
				CHECK_EQ(extent_list_fill(&l, &e), 0);
				paint(px, &e, true);
				break;
			default:
				CHECK_EQ(extent_list_paint(&l, &e), 0);
				paint(px, &e, false);
			}
			check_list(&l, px);
		}
		extent_list_fini(&l);
	}
}

static void slices_against_painter(void)
{
	uint64_t s = unit_seed(), px[SPACE];

	for (int round = 0; round < 200; round++) {
		size_t n = unit_rand(&s) % 40;
		struct extent_list l;
		struct buf b;

		buf_init(&b, 0);
		memset(px, 0, sizeof(px));
		for (size_t i = 0; i < n; i++) {
			struct extent_val e = random_extent(&s, i + 1);
			struct jfs_slice sl = { .id = unit_rand(&s) % 4 ? i + 1 : 0, .pos = e.pos, .len = e.len,
				.off = e.slice_off, .size = SPACE };

			jfs_slice_encode(&sl, buf_extend(&b, JFS_SLICE_LEN));
			if (sl.id)
				paint(px, &e, false);
			else
				memset(px + e.pos, 0, e.len * sizeof(*px));
		}
		extent_list_init(&l);
		CHECK_EQ(extent_list_from_slices(&l, b.data, n, 7), 0);
		check_list(&l, px);
		extent_list_fini(&l);
		buf_fini(&b);
	}
}

/* The example of the format description, section 4.2. */
static void slices_example(void)
{
	static const uint32_t in[6][5] = { { 0, 10, 100, 0, 100 }, { 30, 11, 20, 0, 20 }, { 40, 12, 50, 10, 40 },
		{ 70, 0, 0, 0, 5 }, { 120, 13, 8, 0, 8 } };
	static const uint32_t want[6][4] = { { 0, 10, 0, 30 }, { 30, 11, 0, 10 }, { 40, 12, 10, 30 }, { 75, 12, 45, 5 },
		{ 80, 10, 80, 20 }, { 120, 13, 0, 8 } };
	uint8_t rec[5 * JFS_SLICE_LEN];
	struct extent_list l;

	for (int i = 0; i < 5; i++) {
		struct jfs_slice s = { .pos = in[i][0], .id = in[i][1], .size = in[i][2], .off = in[i][3], .len = in[i][4] };

		jfs_slice_encode(&s, rec + i * JFS_SLICE_LEN);
	}
	extent_list_init(&l);
	CHECK_EQ(extent_list_from_slices(&l, rec, 5, 1), 0);
	REQUIRE(l.n == 6);
	for (int i = 0; i < 6; i++) {
		CHECK_EQ(l.v[i].pos, want[i][0]);
		CHECK_EQ(l.v[i].slice_id, want[i][1]);
		CHECK_EQ(l.v[i].slice_off, want[i][2]);
		CHECK_EQ(l.v[i].len, want[i][3]);
	}
	extent_list_fini(&l);
}

static void slices_malformed(void)
{
	uint8_t rec[JFS_SLICE_LEN] = { 0 };
	struct extent_list l;

	put_be32(rec, 0xffffffff); /* outside the chunk, and empty */
	extent_list_init(&l);
	CHECK_EQ(extent_list_from_slices(&l, rec, 1, 1), -EUCLEAN);
	extent_list_fini(&l);
}

static void subtract_pieces(void)
{
	struct extent_val e = { .kind = EXT_STAGED, .pos = 100, .len = 100, .segment = 3, .off = 1000, .run_off = 900,
		.run_len = 400, .sum = 5, .born = 9 }, out[2];

	CHECK_EQ(extent_subtract(&e, 0, 100, out), 1);
	CHECK_EQ(extent_subtract(&e, 200, 300, out), 1);
	CHECK_EQ(extent_subtract(&e, 100, 200, out), 0);
	CHECK_EQ(extent_subtract(&e, 0, 4096, out), 0);
	CHECK_EQ(extent_subtract(&e, 120, 150, out), 2);
	CHECK_EQ(out[0].pos, 100);
	CHECK_EQ(out[0].len, 20);
	CHECK_EQ(out[0].off, 1000);
	CHECK_EQ(out[1].pos, 150);
	CHECK_EQ(out[1].len, 50);
	CHECK_EQ(out[1].off, 1050);
	CHECK_EQ(out[1].run_off, 900);
	CHECK_EQ(out[1].run_len, 400);
	CHECK_EQ(out[1].born, 9);
	CHECK_EQ(extent_subtract(&e, 150, 4096, out), 1);
	CHECK_EQ(extent_last(&out[0]), 149);
}

static void cuts_hide_what_is_older(void)
{
	struct extent_val e = { .kind = EXT_OBJECT, .pos = 100, .len = 100, .born = 5 };
	struct cut cuts[2] = { { .seq = 5, .from = 0 }, { .seq = 6, .from = 150 } };

	CHECK_EQ(extent_visible(&e, 0, cuts, 1), 100); /* not older */
	CHECK_EQ(extent_visible(&e, 0, cuts, 2), 50);
	CHECK_EQ(extent_visible(&e, 1, cuts, 2), 0);
	e.born = 4;
	CHECK_EQ(extent_visible(&e, 0, cuts, 2), 0);
	e.born = 6;
	CHECK_EQ(extent_visible(&e, 3, cuts, 2), 100);
	cuts[1].from = 3 * JFS_CHUNK_SIZE + 199;
	e.born = 5;
	CHECK_EQ(extent_visible(&e, 3, cuts, 2), 99);
	CHECK_EQ(extent_visible(&e, 4, cuts, 2), 0);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "list_against_painter", list_against_painter },
		{ "slices_against_painter", slices_against_painter },
		{ "slices_example", slices_example },
		{ "slices_malformed", slices_malformed },
		{ "subtract_pieces", subtract_pieces },
		{ "cuts_hide_what_is_older", cuts_hide_what_is_older },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
