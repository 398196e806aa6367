/* Layers against a painter of single bytes. */
#include "redis/paint.h"
#include "tests/unit/unit.h"

#define N 200

static void random_paint(void)
{
	uint64_t seed = unit_seed();

	for (int round = 0; round < 2000; round++) {
		struct layer l = { 0 };
		uint32_t want[N] = { 0 }, got[N] = { 0 }; /* staged offset + 1 */

		for (int i = 0; i < 12; i++) {
			struct stroke s = { .born = (uint64_t)i + 1 };

			s.pos = (uint32_t)(unit_rand(&seed) % N);
			s.len = 1 + (uint32_t)(unit_rand(&seed) % (N - s.pos));
			s.src.kind = unit_rand(&seed) % 4 ? PIECE_STAGED : PIECE_ZERO;
			s.src.off = s.src.run_off = (uint32_t)i * 1000;
			s.src.run_len = s.len;
			REQUIRE(layer_paint(&l, &s, NULL, NULL) == 0);
			for (uint32_t k = 0; k < s.len; k++)
				want[s.pos + k] = s.src.kind == PIECE_STAGED ? s.src.off + k + 1 : 0;
		}
		layer_merge(&l);
		for (size_t i = 0; i < l.s.n; i++) {
			const struct stroke *s = &l.s.v[i];

			CHECK(s->len > 0 && (!i || s[-1].pos + s[-1].len <= s->pos));
			for (uint32_t k = 0; k < s->len; k++)
				got[s->pos + k] = s->src.kind == PIECE_STAGED ? s->src.off + k + 1 : 0;
		}
		CHECK(memcmp(want, got, sizeof(want)) == 0);
		layer_fini(&l);
	}
}

static void count_died(void *arg, const struct stroke *part)
{
	*(uint64_t *)arg += part->len;
}

static void hidden_parts_are_told(void)
{
	struct stroke a = { .pos = 10, .len = 20, .born = 1, .src.kind = PIECE_STAGED };
	struct stroke b = { .pos = 15, .len = 5, .born = 2, .src.kind = PIECE_ZERO };
	struct layer l = { 0 };
	uint64_t died = 0;

	REQUIRE(layer_paint(&l, &a, count_died, &died) == 0);
	REQUIRE(layer_paint(&l, &b, count_died, &died) == 0);
	CHECK_EQ(died, 5);
	CHECK_EQ(l.s.n, 3);
	CHECK_EQ(l.s.v[2].src.off, 10);
	layer_fini(&l);
}

static void lists_are_painted_in_order(void)
{
	struct jfs_slice r[3] = { { .id = 5, .pos = 0, .size = 100, .len = 100 }, { .id = 0, .pos = 20, .len = 10 },
		{ .id = 6, .pos = 90, .size = 50, .off = 10, .len = 20 } };
	struct layer l = { 0 };
	uint8_t b[72];

	for (int i = 0; i < 3; i++)
		jfs_slice_encode(&r[i], b + 24 * i);
	REQUIRE(layer_paint_list(&l, b, sizeof(b)) == 0);
	CHECK_EQ(l.s.n, 4);
	CHECK_EQ(l.s.v[2].src.slice_off, 30);
	CHECK_EQ(l.s.v[2].len, 60);
	CHECK_EQ(l.s.v[3].src.slice_id, 6);
	CHECK(layer_paint_list(&l, b, 71) != 0);
	layer_fini(&l);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "random_paint", random_paint }, { "hidden_parts_are_told", hidden_parts_are_told },
		{ "lists_are_painted_in_order", lists_are_painted_in_order }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
