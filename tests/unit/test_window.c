/* The codec of recorded windows, and the chain. */
#include "redis/window.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <xxhash.h>

static void window_sample(struct window *w)
{
	static const uint8_t list[48] = { 1, 2, 3 };
	struct pl_slice *s;
	struct pl_post *p;
	struct pl_orphan *o;

	memset(w, 0, sizeof(*w));
	w->from = 5;
	w->end = 17;
	w->nonce = 99;
	w->boot = 4;
	w->made_ms = 5000;
	strcpy(w->before, "start");
	window_chain(w->before, w->end, w->nonce, w->chain);
	s = vec_push(&w->slices);
	REQUIRE(s);
	s->ino = 7;
	s->chunk = 1;
	s->composed = true;
	s->s.id = 1000;
	s->s.size = 60;
	s->s.n = 3;
	s->s.pieces = arena_alloc(&w->mem, 3 * sizeof(struct slice_piece));
	REQUIRE(s->s.pieces);
	s->s.pieces[0] = (struct slice_piece){ .kind = PIECE_STAGED, .len = 10, .segment = 3, .off = 5, .run_off = 1, .run_len = 20, .sum = 77 };
	s->s.pieces[1] = (struct slice_piece){ .kind = PIECE_ZERO, .len = 20 };
	s->s.pieces[2] = (struct slice_piece){ .kind = PIECE_OBJECT, .len = 30, .slice_id = 4, .slice_size = 90, .slice_off = 60 };
	p = vec_push(&w->posts);
	REQUIRE(p);
	*p = (struct pl_post){ .ino = 7, .chunk = 1, .fresh = true, .records = list, .n = 2 };
	p = vec_push(&w->posts);
	REQUIRE(p);
	*p = (struct pl_post){ .ino = 8, .onward = true };
	o = vec_push(&w->orphans);
	REQUIRE(o);
	*o = (struct pl_orphan){ 12, CO_SUSTAINED };
}

static void round_trip(void)
{
	struct window w, back;
	struct buf a, b;

	window_sample(&w);
	buf_init(&a, 0);
	buf_init(&b, 0);
	window_encode(&w, &a);
	REQUIRE(window_decode(a.data, a.len, &back) == 0);
	CHECK_EQ(back.end, 17);
	CHECK(back.boot == 4 && back.made_ms == 5000);
	CHECK_STR(back.before, "start");
	CHECK_STR(back.chain, w.chain);
	CHECK(back.slices.n == 1 && back.slices.v[0].s.pieces[2].slice_off == 60);
	CHECK(back.posts.n == 2 && back.posts.v[0].fresh && back.posts.v[1].onward);
	window_encode(&back, &b);
	CHECK(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
	window_fini(&back);
	for (size_t i = 0; i < a.len; i++) { /* any damaged byte, any length */
		a.data[i] ^= 0x40;
		CHECK(window_decode(a.data, a.len, &back) != 0);
		a.data[i] ^= 0x40;
		CHECK(window_decode(a.data, i, &back) != 0);
	}
	window_fini(&w);
	buf_fini(&a);
	buf_fini(&b);
}

/* Takes boot and made away, which version 1 lacked, and makes the checksum right again. */
static void make_version_1(struct buf *b)
{
	memmove(b->data + 25, b->data + 41, b->len - 41);
	b->len -= 16;
	b->data[0] = 1;
	put_be64(b->data + b->len - 8, XXH3_64bits(b->data, b->len - 8));
}

static void an_older_version_is_read_and_a_newer_one_told_apart(void)
{
	struct window w, back;
	struct buf a, b;

	window_sample(&w);
	buf_init(&a, 0);
	buf_init(&b, 0);
	window_encode(&w, &a);
	make_version_1(&a);
	REQUIRE(window_decode(a.data, a.len, &back) == 0);
	CHECK(back.from == 5 && back.end == 17 && back.nonce == 99 && back.boot == 0 && back.made_ms == 0);
	CHECK_STR(back.before, "start");
	CHECK_STR(back.chain, w.chain);
	CHECK(back.slices.n == 1 && back.slices.v[0].s.pieces[2].slice_off == 60 && back.posts.n == 2 && back.orphans.n == 1);
	window_encode(&back, &b); /* what is written is of today */
	CHECK(b.len == a.len + 16 && b.data[0] == 2);
	window_fini(&back);
	b.data[0] = 3;
	CHECK_EQ(window_decode(b.data, b.len, &back), -EUCLEAN);
	put_be64(b.data + b.len - 8, XXH3_64bits(b.data, b.len - 8));
	CHECK_EQ(window_decode(b.data, b.len, &back), -ENOTSUP);
	window_fini(&w);
	buf_fini(&a);
	buf_fini(&b);
}

static void chains_differ(void)
{
	char a[RDS_CHAIN_LEN + 1], b[RDS_CHAIN_LEN + 1], c[RDS_CHAIN_LEN + 1];

	window_chain("x", 5, 1, a);
	window_chain("x", 5, 2, b);
	window_chain("x", 6, 1, c);
	CHECK_EQ(strlen(a), RDS_CHAIN_LEN);
	CHECK(strcmp(a, b) != 0 && strcmp(a, c) != 0);
	window_chain("x", 5, 1, b);
	CHECK_STR(a, b);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "round_trip", round_trip }, { "chains_differ", chains_differ },
		{ "an_older_version_is_read_and_a_newer_one_told_apart", an_older_version_is_read_and_a_newer_one_told_apart }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
