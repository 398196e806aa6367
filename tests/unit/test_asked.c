/* Whose answers may still be on their way. */
#include "daemon/asked.h"

#include "tests/unit/unit.h"
#include "util/clock.h"

enum { DIRECTORY = true, FILE_INODE = false };

static bool note(struct asked *a, uint64_t ino, uint32_t tid)
{
	return asked_note(a, ino, DIRECTORY, tid, clock_mono_ns());
}

static uint64_t change(struct asked *a, uint64_t ino, uint32_t tid)
{
	return asked_changed(a, ino, DIRECTORY, tid);
}

/* So that times differ. */
static void tick(void)
{
	uint64_t now = clock_mono_ns();

	while (clock_mono_ns() == now)
		;
}

static void only_other_threads_count(void)
{
	struct asked *a = asked_new();

	CHECK(!change(a, 7, 1));
	CHECK(note(a, 8, 1));
	CHECK(!change(a, 8, 1));
	CHECK(change(a, 8, 2));
	CHECK(!change(a, 9, 2));
	asked_free(a);
}

static void an_earlier_other_is_not_forgotten(void)
{
	struct asked *a = asked_new();

	CHECK(note(a, 8, 2));
	CHECK(note(a, 8, 1));
	CHECK(change(a, 8, 1));
	CHECK(change(a, 8, 1));
	asked_free(a);
}

static void an_invalidation_settles_what_was_answered_before_it(void)
{
	struct asked *a = asked_new();
	uint64_t when;

	CHECK(note(a, 8, 2));
	CHECK(note(a, 8, 1));
	tick();
	when = change(a, 8, 1);
	CHECK(when);
	asked_settled(a, 8, DIRECTORY, when);
	CHECK(!change(a, 8, 1));
	CHECK(!change(a, 8, 3));
	tick();
	CHECK(note(a, 8, 1));
	CHECK(!change(a, 8, 1));
	CHECK(change(a, 8, 2));
	asked_free(a);
}

static void an_answer_after_the_change_is_not_settled(void)
{
	struct asked *a = asked_new();
	uint64_t when;

	CHECK(note(a, 8, 2));
	tick();
	when = change(a, 8, 1);
	CHECK(when);
	tick();
	CHECK(note(a, 8, 2));
	asked_settled(a, 8, DIRECTORY, when);
	CHECK(change(a, 8, 1));
	asked_free(a);
}

static void an_answer_older_than_a_change_is_not_kept(void)
{
	struct asked *a = asked_new();
	uint64_t started = clock_mono_ns();

	CHECK(!change(a, 8, 1));
	CHECK(!asked_note(a, 8, DIRECTORY, 2, started));
	tick();
	CHECK(note(a, 8, 2));
	asked_free(a);
}

static void inodes_that_share_a_place_count_as_one(void)
{
	struct asked *a = asked_new();
	uint64_t when;

	CHECK(note(a, 8, 2));
	CHECK(note(a, 8 + 4096, 1));
	tick();
	when = change(a, 8, 1);
	CHECK(when);
	/* the other's answer is as far away as it was */
	asked_settled(a, 8, DIRECTORY, when);
	CHECK(change(a, 8 + 4096, 1));
	asked_free(a);
}

static void directories_share_no_place_with_files(void)
{
	struct asked *a = asked_new();

	CHECK(note(a, 8, 1));
	CHECK(asked_note(a, 8 + 4096, FILE_INODE, 2, clock_mono_ns()));
	CHECK(!change(a, 8, 1));
	CHECK(asked_changed(a, 8 + 4096, FILE_INODE, 1));
	asked_free(a);
}

#define TEST(f) { #f, f }

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { TEST(only_other_threads_count), TEST(an_earlier_other_is_not_forgotten),
		TEST(an_invalidation_settles_what_was_answered_before_it), TEST(an_answer_after_the_change_is_not_settled),
		TEST(an_answer_older_than_a_change_is_not_kept), TEST(inodes_that_share_a_place_count_as_one),
		TEST(directories_share_no_place_with_files), { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
