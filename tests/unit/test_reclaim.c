/* When a staging segment may go: each reason to keep one is tried alone, on a real journal. */
#include "daemon/reclaim.h"
#include "tests/unit/journal_kit.h"

#define PIECE ((size_t)4 << 20)
#define PIECES 17 /* more than one segment holds */

static struct kit k;
static struct reclaim state;
static struct staged pieces[PIECES];

static uint64_t put_extent(enum rec_op op, uint64_t ino, const struct extent_val *v, unsigned flags)
{
	uint64_t seq = 0;

	journal_lock(k.j);
	struct rec *r = journal_begin(k.j, op);
	rec_put_extent(r, ino, 0, v, flags);
	REQUIRE(journal_commit(k.j, &seq) == 0);
	journal_unlock(k.j);
	return seq;
}

static struct extent_val staged_extent(const struct staged *s)
{
	return (struct extent_val){.len = s->len, .born = journal_next_seq(k.j), .kind = EXT_STAGED, .segment = s->segment,
		.off = s->off, .run_off = s->off, .run_len = s->len, .sum = s->sum};
}

/* As "applied" does it: the bytes of file 100 + i lie in slice 1000 + i now. */
static void repoint(size_t i)
{
	const struct extent_val v = {.len = (uint32_t)PIECE, .born = 1, .kind = EXT_OBJECT, .slice_id = 1000 + i,
		.slice_size = (uint32_t)PIECE};

	put_extent(OP_APPLIED, 100 + i, &v, 0);
}

static void confirm(enum watermark w)
{
	uint64_t seq = journal_mark(k.j, WM_COMMITTED);

	REQUIRE(journal_wait(k.j, WM_DURABLE, seq) == 0);
	journal_raise(k.j, w, seq);
}

static bool has_segment(uint64_t segment)
{
	uint64_t list[16];
	size_t n = staging_list(journal_staging(k.j), list, 16);

	for (size_t i = 0; i < n; i++)
		if (list[i] == segment)
			return true;
	return false;
}

static bool goes(void)
{
	uint64_t freed;

	state.ended_ns = 0; /* it need not rest */
	CHECK_EQ(reclaim_step(&state, k.j, false, &freed), 0);
	CHECK(freed > 0 || has_segment(pieces[0].segment));
	return !has_segment(pieces[0].segment);
}

/* Files 100.. whose bytes fill the first segment and begin the second; `released`: the writes have told so. */
static void fill(bool released)
{
	uint8_t *data = calloc(1, PIECE);

	REQUIRE(data);
	kit_init(&k);
	k.cfg.sync_interval_ms = 60000; /* only what is waited for becomes durable */
	k.cfg.dirty_limit = 256 << 20;
	kit_open(&k);
	memset(&state, 0, sizeof(state));
	for (size_t i = 0; i < PIECES; i++) {
		struct extent_val v;

		data[0] = (uint8_t)i;
		REQUIRE(staging_append(journal_staging(k.j), data, PIECE, &pieces[i]) == 0);
		v = staged_extent(&pieces[i]);
		put_extent(OP_WRITE, 100 + i, &v, IF_NEW);
		if (released || i)
			staging_release(journal_staging(k.j), pieces[i].segment);
	}
	REQUIRE(pieces[0].segment != pieces[PIECES - 1].segment);
	free(data);
}

static void done(void)
{
	kit_close(&k);
	kit_fini(&k);
}

static void goes_when_nothing_asks(void)
{
	fill(true);
	CHECK(!goes()); /* nothing is applied */
	for (size_t i = 0; i < PIECES; i++)
		repoint(i);
	CHECK(!goes());
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK(goes());
	CHECK(has_segment(pieces[PIECES - 1].segment)); /* the current one stays */
	done();
}

static void an_extent_keeps_it(void)
{
	fill(true);
	for (size_t i = 1; i < PIECES; i++)
		repoint(i);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK(!goes());
	repoint(0);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK(goes());
	done();
}

/* Dead by now, but live at the end of a window that is still to be uploaded. */
static void a_record_above_applied_keeps_it(void)
{
	fill(true);
	for (size_t i = 0; i < PIECES; i++)
		repoint(i);
	REQUIRE(journal_wait(k.j, WM_DURABLE, journal_mark(k.j, WM_COMMITTED)) == 0);
	journal_raise(k.j, WM_UPLOADED, 3);
	journal_raise(k.j, WM_APPLIED, 3);
	CHECK(!goes());
	done();
}

/* publish=eager: Redis names it, S3 does not have it. */
static void what_s3_lacks_keeps_it(void)
{
	fill(true);
	for (size_t i = 0; i < PIECES; i++)
		repoint(i);
	confirm(WM_APPLIED);
	CHECK(!goes());
	confirm(WM_UPLOADED);
	CHECK(goes());
	done();
}

static void an_append_that_is_not_named_yet_keeps_it(void)
{
	fill(false);
	for (size_t i = 0; i < PIECES; i++)
		repoint(i);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK(!goes());
	staging_release(journal_staging(k.j), pieces[0].segment);
	state.looked_at = 0;
	CHECK(goes());
	done();
}

/* The write is acknowledged while reclaim waits for durability: too late to be in what it then looks at. */
static void name_late(void *arg, int err)
{
	const struct extent_val *v = arg;

	CHECK_EQ(err, 0);
	put_extent(OP_WRITE, 100, v, IF_NEW);
	staging_release(journal_staging(k.j), v->segment);
}

static void an_append_that_is_named_meanwhile_keeps_it(void)
{
	struct extent_val late;

	fill(false);
	for (size_t i = 0; i < PIECES; i++)
		repoint(i);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	late = staged_extent(&pieces[0]);
	repoint(1); /* something that is not durable yet, so that reclaim has to wait */
	journal_when(k.j, WM_DURABLE, journal_mark(k.j, WM_COMMITTED), name_late, &late);
	CHECK(!goes());
	done();
}

static int read_piece(size_t i, uint8_t *byte)
{
	return staging_read(journal_staging(k.j), pieces[i].segment, pieces[i].off, byte, 1);
}

/* One file holds its segment: what lies around its bytes goes, in the current segment too, and is never read as zeros. */
static void what_lies_around_a_needed_run_is_punched(void)
{
	uint64_t before, freed;
	uint8_t byte = 99;

	fill(true);
	before = staging_used(journal_staging(k.j));
	for (size_t i = 0; i < PIECES; i++)
		if (i != 3)
			repoint(i);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK_EQ(reclaim_step(&state, k.j, false, &freed), 0);
	CHECK_EQ(freed, (PIECES - 1) * PIECE);
	CHECK_EQ(before - staging_used(journal_staging(k.j)), (PIECES - 1) * PIECE);
	CHECK(has_segment(pieces[3].segment) && has_segment(pieces[PIECES - 1].segment));
	CHECK_EQ(read_piece(3, &byte), 0);
	CHECK_EQ(byte, 3);
	CHECK_EQ(read_piece(2, &byte), -ENOENT);
	CHECK_EQ(read_piece(PIECES - 1, &byte), -ENOENT);
	kit_kill(&k); /* and it is found again as it was */
	kit_open(&k);
	CHECK_EQ(read_piece(3, &byte), 0);
	CHECK_EQ(byte, 3);
	done();
}

static void a_held_segment_is_not_punched(void)
{
	uint64_t freed;

	fill(false);
	for (size_t i = 1; i < PIECES; i++)
		repoint(i);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK_EQ(reclaim_step(&state, k.j, false, &freed), 0);
	CHECK_EQ(freed, PIECE); /* the other segment's */
	CHECK_EQ(state.committed, UINT64_MAX); /* to be looked at again */
	done();
}

static void unlinked_files_are_counted_under_pressure(void)
{
	struct jkey key;
	uint64_t freed, seq;
	uint8_t one = 1;

	fill(true);
	for (size_t i = 2; i < PIECES; i++)
		repoint(i);
	journal_lock(k.j);
	key_orphan(&key, 101);
	rec_put(journal_begin(k.j, OP_UNLINK), &key, &one, 1, 0);
	REQUIRE(journal_commit(k.j, &seq) == 0);
	journal_unlock(k.j);
	CHECK_EQ(reclaim_step(&state, k.j, true, &freed), 0);
	CHECK_EQ(state.orphaned, PIECE);
	CHECK_EQ(reclaim_step(&state, k.j, true, &freed), 0); /* nothing new: no look */
	repoint(1);
	CHECK_EQ(reclaim_step(&state, k.j, true, &freed), -EAGAIN);
	CHECK(freed > 0);
	done();
}

static void a_damaged_extent_keeps_everything(void)
{
	uint64_t freed, seq;
	struct jkey key;

	fill(true);
	for (size_t i = 0; i < PIECES; i++)
		repoint(i);
	key_extent(&key, 7, 0, 99);
	journal_lock(k.j);
	rec_put(journal_begin(k.j, OP_APPLIED), &key, "not an extent", 13, 0);
	REQUIRE(journal_commit(k.j, &seq) == 0);
	journal_unlock(k.j);
	confirm(WM_UPLOADED);
	confirm(WM_APPLIED);
	CHECK_EQ(reclaim_step(&state, k.j, false, &freed), -EUCLEAN);
	CHECK(freed == 0 && has_segment(pieces[0].segment));
	done();
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"goes_when_nothing_asks", goes_when_nothing_asks},
		{"an_extent_keeps_it", an_extent_keeps_it}, {"a_record_above_applied_keeps_it", a_record_above_applied_keeps_it},
		{"what_s3_lacks_keeps_it", what_s3_lacks_keeps_it},
		{"an_append_that_is_not_named_yet_keeps_it", an_append_that_is_not_named_yet_keeps_it},
		{"an_append_that_is_named_meanwhile_keeps_it", an_append_that_is_named_meanwhile_keeps_it},
		{"what_lies_around_a_needed_run_is_punched", what_lies_around_a_needed_run_is_punched},
		{"a_held_segment_is_not_punched", a_held_segment_is_not_punched},
		{"unlinked_files_are_counted_under_pressure", unlinked_files_are_counted_under_pressure},
		{"a_damaged_extent_keeps_everything", a_damaged_extent_keeps_everything}, {0}};

	return unit_main(argc, argv, tests);
}
