/* When CPUs are kept from halting. */
#include "daemon/awake.h"

#include "tests/unit/unit.h"

#define MS 1000000ull

static void a_burst_begins(void)
{
	struct awake_burst b = { 0 };
	uint64_t now = 5;

	for (unsigned i = 1; i < AWAKE_BEGIN; i++, now += 1000)
		CHECK(!awake_begins(&b, now));
	CHECK(awake_begins(&b, now));
	CHECK(!awake_begins(&b, now)); /* counts from the beginning again */
}

static void now_and_then_is_no_burst(void)
{
	struct awake_burst b = { 0 };
	uint64_t now = 0;

	for (unsigned i = 0; i < 10000; i++, now += AWAKE_BEGIN_MS * MS / (AWAKE_BEGIN - 2))
		CHECK(!awake_begins(&b, now));
	/* also behind a long pause, whatever was counted before it */
	now += 3600000 * MS;
	for (unsigned i = 1; i < AWAKE_BEGIN; i++)
		CHECK(!awake_begins(&b, now));
	CHECK(awake_begins(&b, now));
}

static void a_burst_ends(void)
{
	CHECK_EQ(awake_decide(0, AWAKE_BEGIN), AWAKE_GO_ON);
	CHECK_EQ(awake_decide(AWAKE_LOOK_MS * MS, 100000), AWAKE_GO_ON);
	CHECK_EQ(awake_decide(AWAKE_LOOK_MS * MS, AWAKE_BEGIN - 1), AWAKE_LET_GO);
	CHECK_EQ(awake_decide(AWAKE_LOOK_MS * MS, 0), AWAKE_LET_GO);
	CHECK_EQ(awake_decide(AWAKE_HELD_MS * MS - 1, AWAKE_BEGIN), AWAKE_GO_ON);
	CHECK_EQ(awake_decide(AWAKE_HELD_MS * MS, AWAKE_BEGIN), AWAKE_TAKE_A_REST);
	CHECK_EQ(awake_decide(AWAKE_HELD_MS * MS, 0), AWAKE_LET_GO);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "a_burst_begins", a_burst_begins },
		{ "now_and_then_is_no_burst", now_and_then_is_no_burst }, { "a_burst_ends", a_burst_ends }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
