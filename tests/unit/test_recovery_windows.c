/* What jfs-recover makes of the windows that a journal remembers. */
#include "redis/windows.h"
#include "redis/window.h"
#include "tests/unit/journal_kit.h"

static const char chain[3][RDS_CHAIN_LEN + 1] = {
	"00000000000000000000000000000000", "11111111111111111111111111111111", "22222222222222222222222222222222"};

/* Commits the window in pieces of `part` bytes whose keys begin at `first`; leaves out piece `skip`, and all behind piece
 * `cut`. Returns the number of pieces. */
static size_t put_window_at(struct kit *k, uint64_t from, uint64_t end, int before, size_t part, size_t skip, bool flip, size_t first,
	size_t cut)
{
	struct window w = {.from = from, .end = end, .nonce = 7};
	uint8_t val[4096];
	size_t parts;
	struct buf b;

	strcpy(w.before, chain[before]);
	strcpy(w.chain, chain[before + 1]);
	buf_init(&b, 0);
	window_encode(&w, &b);
	REQUIRE(b.err == 0 && b.len < sizeof(val));
	if (flip)
		b.data[9] ^= 1;
	parts = (b.len + part - 1) / part;
	journal_lock(k->j);
	struct rec *r = journal_begin(k->j, OP_WINDOW);

	for (size_t i = 0; i < parts; i++) {
		size_t n = b.len - i * part < part ? b.len - i * part : part;
		struct jkey key;

		put_be16(val, (uint16_t)i);
		put_be16(val + 2, (uint16_t)parts);
		memcpy(val + 4, b.data + i * part, n);
		key_window(&key, end, (uint16_t)(first + i));
		if (i != skip && i < cut)
			rec_put(r, &key, val, n + 4, 0);
	}
	CHECK_EQ(journal_commit(k->j, NULL), 0);
	journal_unlock(k->j);
	buf_fini(&b);
	return parts;
}

static void put_window(struct kit *k, uint64_t from, uint64_t end, int before, size_t part, size_t skip, bool flip)
{
	put_window_at(k, from, end, before, part, skip, flip, 0, SIZE_MAX);
}

static struct windows_found look(struct kit *k, uint64_t seq, int c)
{
	struct rds_position pos = {.seq = seq};
	struct windows_found found;

	strcpy(pos.chain, chain[c]);
	CHECK_EQ(windows_look(k->j, &pos, &found), 0);
	return found;
}

static void positions(void)
{
	struct windows_found f;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	CHECK_EQ(windows_look(k.j, NULL, &f), 0);
	CHECK(f.windows == 0 && f.damaged == 0 && !f.known);
	put_window(&k, 5, 10, 0, 4000, 99, false);
	put_window(&k, 10, 20, 1, 17, 99, false); /* of many parts */
	f = look(&k, 10, 1);
	CHECK(f.windows == 2 && f.damaged == 0);
	CHECK(f.known && f.same);
	f = look(&k, 10, 2);
	CHECK(f.known && !f.same);
	f = look(&k, 20, 2);
	CHECK(f.known && f.same);
	f = look(&k, 5, 0); /* before the first */
	CHECK(f.known && f.same);
	f = look(&k, 7, 0);
	CHECK(!f.known && !f.same);
	kit_close(&k);
	kit_fini(&k);
}

static void damage(void)
{
	struct windows_found f;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	put_window(&k, 5, 10, 0, 17, 2, false);	  /* a part is missing */
	put_window(&k, 10, 20, 0, 4000, 9, true); /* a bit */
	put_window(&k, 20, 30, 0, 17, 0, false);  /* the first part */
	put_window(&k, 30, 40, 0, 20, 99, false);
	f = look(&k, 40, 1);
	CHECK_EQ(f.windows, 4);
	CHECK_EQ(f.damaged, 3);
	CHECK(f.known && f.same);
	f = look(&k, 20, 1);
	CHECK(!f.known);
	kit_close(&k);
	kit_fini(&k);
}

/* A position of any whole composition is one of ours; one that a crash cut off is no damage. */
static void composed_anew(void)
{
	struct windows_found f;
	size_t at;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	at = put_window_at(&k, 5, 10, 0, 17, 99, false, 0, SIZE_MAX);
	put_window_at(&k, 5, 10, 1, 17, 99, false, at, 2);
	at += put_window_at(&k, 5, 10, 1, 17, 99, false, at + 2, SIZE_MAX) + 2;
	f = look(&k, 10, 1);
	CHECK(f.windows == 2 && f.damaged == 0 && f.same && f.replaced);
	f = look(&k, 10, 2);
	CHECK(f.windows == 2 && f.damaged == 0 && f.same && !f.replaced);
	put_window_at(&k, 5, 10, 0, 17, 1, false, at, SIZE_MAX); /* a part is missing inside */
	f = look(&k, 10, 0);
	CHECK(f.windows == 3 && f.damaged == 1 && f.known && !f.same);
	kit_close(&k);
	kit_fini(&k);
}

/* Of what ends before trim some parts may be gone already. */
static void trimmed(void)
{
	struct windows_found f;
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	put_window(&k, 5, 10, 0, 17, 0, false);
	put_window(&k, 10, 20, 1, 17, 99, false);
	f = look(&k, 10, 1);
	CHECK(f.windows == 2 && f.damaged == 1);
	journal_raise(k.j, WM_TRIM, 11);
	f = look(&k, 10, 1);
	CHECK(f.windows == 1 && f.damaged == 0 && f.same); /* it is where the other one began */
	journal_raise(k.j, WM_TRIM, 20);
	f = look(&k, 20, 2);
	CHECK(f.windows == 1 && f.same);
	kit_close(&k);
	kit_fini(&k);
}

static enum windows_place place(struct kit *k, uint64_t seq, int c, uint64_t left, int left_c, uint64_t trim)
{
	struct rds_position have = {.seq = seq}, mine = {.seq = left};
	enum windows_place p = PLACE_SAME;

	strcpy(have.chain, chain[c]);
	strcpy(mine.chain, chain[left_c]);
	CHECK_EQ(windows_place(k->j, &have, &mine, trim, &p), 0);
	return p;
}

/* Ends 10 (chain 1) and 20 (chain 2) are recorded; the history began at 5 (chain 0). */
static void places(void)
{
	struct rds_position left;
	struct kit k;
	size_t at;

	kit_init(&k);
	kit_open(&k);
	CHECK_EQ(windows_left(k.j, &left), -ENOENT);
	at = put_window_at(&k, 5, 10, 0, 17, 99, false, 0, SIZE_MAX);
	put_window(&k, 10, 20, 1, 17, 99, false);
	while (journal_mark(k.j, WM_COMMITTED) < 30)
		kit_set(&k, 7, "filler");
	CHECK_EQ(place(&k, 20, 2, 20, 2, 0), PLACE_SAME);
	CHECK_EQ(place(&k, 20, 1, 20, 2, 0), PLACE_UNKNOWN);
	CHECK_EQ(place(&k, 20, 2, 10, 1, 0), PLACE_LATER);
	CHECK_EQ(place(&k, 10, 1, 20, 2, 0), PLACE_EARLIER);
	CHECK_EQ(place(&k, 5, 0, 20, 2, 0), PLACE_EARLIER);
	CHECK_EQ(place(&k, 10, 1, 20, 2, 11), PLACE_TRIMMED);
	CHECK_EQ(place(&k, 10, 2, 20, 2, 0), PLACE_UNKNOWN);
	CHECK_EQ(place(&k, 7, 0, 20, 2, 0), PLACE_UNKNOWN);
	CHECK_EQ(place(&k, 1000, 2, 20, 2, 0), PLACE_AHEAD);
	/* 10 was composed anew: replay goes on from the first one only forward, and refuses it as a place to go back to. */
	put_window_at(&k, 5, 10, 1, 4000, 99, false, at, SIZE_MAX);
	CHECK_EQ(place(&k, 10, 1, 20, 2, 0), PLACE_UNKNOWN);
	CHECK_EQ(place(&k, 10, 2, 20, 2, 0), PLACE_EARLIER);
	CHECK_EQ(place(&k, 10, 1, 5, 0, 0), PLACE_LATER);
	kit_close(&k);
	kit_fini(&k);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"positions", positions}, {"damage", damage}, {"composed_anew", composed_anew},
		{"trimmed", trimmed}, {"places", places}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
