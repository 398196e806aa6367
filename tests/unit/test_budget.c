/* What the budget decides, threshold by threshold, and how the gate carries it out. */
#include "daemon/budget.h"
#include "daemon/gate.h"

#include <errno.h>
#include <pthread.h>

#include "journal/staging.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define MIN ((uint64_t)60 * 1000)

static struct budget_in roomy(void)
{
	return (struct budget_in){ .size = 1000 * MIB, .free_ratio = 0.1, .disk_total = 1000 * GIB, .disk_free = 900 * GIB,
		.retention_ms = 30 * MIN };
}

static struct budget_out decide(struct budget_in in)
{
	struct budget_out out;

	budget_decide(&in, &out);
	return out;
}

static void staging_thresholds(void)
{
	struct budget_in in = roomy();
	struct budget_out o = decide(in);

	CHECK_EQ(o.limit, 1000 * MIB);
	CHECK(o.data == BUDGET_FREE && !o.pressing && o.what == BUDGET_STAGING);
	CHECK_EQ(o.room, 500 * MIB);
	in.staged = 500 * MIB - 1;
	o = decide(in);
	CHECK(!o.pressing);
	CHECK_EQ(o.room, 1);
	in.staged = 500 * MIB;
	o = decide(in);
	CHECK(o.pressing && o.data == BUDGET_FREE);
	CHECK_EQ(o.room, 250 * MIB);
	in.staged = 750 * MIB;
	o = decide(in);
	CHECK(o.data == BUDGET_SLOW && o.meta == BUDGET_FREE);
	CHECK_EQ(o.data_rate, BUDGET_RATE);
	in.staged = 875 * MIB;
	CHECK_EQ(decide(in).data_rate, BUDGET_RATE / 2);
	in.staged = 999 * MIB;
	CHECK_EQ(decide(in).data_rate, BUDGET_RATE * 1 / 250);
	in.staged = 1000 * MIB;
	o = decide(in);
	CHECK(o.data == BUDGET_FULL && o.meta == BUDGET_FREE);
	CHECK_EQ(o.room, 0);
	CHECK_EQ(o.retention_ms, 30 * MIN); /* a full staging says nothing of the log */
}

static void pressing_ends_lower_than_it_begins(void)
{
	struct budget_in in = roomy();

	in.staged = 400 * MIB;
	CHECK(!decide(in).pressing);
	in.pressing = true;
	CHECK(decide(in).pressing);
	in.staged = 374 * MIB;
	CHECK(!decide(in).pressing);
}

static void cached_blocks_give_way(void)
{
	struct budget_in in = roomy();

	in.cached = 1000 * MIB;
	CHECK(decide(in).data == BUDGET_FREE);
	in.staged = 300 * MIB;
	CHECK_EQ(decide(in).cache_limit, 700 * MIB);
	in.staged = 2000 * MIB;
	CHECK_EQ(decide(in).cache_limit, 0);
	in.staged = 0;
	in.disk_total = 1000 * MIB; /* 100 must stay free for the cache */
	in.disk_free = 50 * MIB;
	in.cached = 200 * MIB;
	CHECK_EQ(decide(in).cache_limit, 150 * MIB);
}

static void the_ratio_bounds_staging(void)
{
	struct budget_in in = roomy();
	struct budget_out o;

	in.disk_total = 1000 * MIB; /* 50 must stay free */
	in.disk_free = 200 * MIB;
	in.cached = 100 * MIB;
	in.staged = 50 * MIB;
	o = decide(in);
	CHECK_EQ(o.limit, 300 * MIB);
	CHECK(o.what == BUDGET_DISK);
	in.disk_free = 60 * MIB; /* somebody else fills the disk */
	in.cached = 0;
	o = decide(in);
	CHECK_EQ(o.limit, 60 * MIB);
	CHECK(o.data == BUDGET_SLOW);
	CHECK_EQ(o.retention_ms, RETENTION_MIN_MS);
	in.disk_free = 20 * MIB;
	in.staged = 30 * MIB;
	o = decide(in);
	CHECK_EQ(o.limit, BUDGET_MIN); /* so much is always allowed */
	CHECK(o.data == BUDGET_SLOW);
	in.disk_free = BUDGET_DISK_FULL - 1;
	in.staged = 40 * MIB;
	o = decide(in);
	CHECK(o.data == BUDGET_FREE && o.meta == BUDGET_FREE); /* its ENOSPC is the answer */
}

static void the_log_has_its_own(void)
{
	struct budget_in in = roomy();
	struct budget_out o;

	CHECK_EQ(decide(in).log_limit, BUDGET_LOG_MIN);
	in.size = 80 * GIB;
	CHECK_EQ(decide(in).log_limit, 10 * GIB);
	in.log_limit = 1000;
	in.log = 500;
	o = decide(in);
	CHECK(o.pressing);
	CHECK_EQ(o.retention_ms, 30 * MIN);
	in.log = 625;
	CHECK_EQ(decide(in).retention_ms, 16 * MIN);
	in.log = 750;
	o = decide(in);
	CHECK(o.data == BUDGET_SLOW && o.meta == BUDGET_SLOW && o.what == BUDGET_LOG);
	CHECK_EQ(o.retention_ms, 2 * MIN);
	in.log = 1000;
	o = decide(in);
	CHECK(o.data == BUDGET_FULL && o.meta == BUDGET_FULL);
	in.retention_ms = 1000; /* less than the least stays */
	CHECK_EQ(decide(in).retention_ms, 1000);
}

static void unlinked_files_that_fill_it(void)
{
	struct budget_in in = roomy();

	in.staged = 1000 * MIB;
	in.orphaned = 749 * MIB;
	CHECK(!decide(in).orphans_end);
	in.orphaned = 750 * MIB;
	CHECK(decide(in).orphans_end);
	in.staged = 999 * MIB; /* there is room */
	CHECK(!decide(in).orphans_end);
}

static void segments_are_small_in_a_small_budget(void)
{
	CHECK_EQ(budget_segment(100 * GIB), SEGMENT_SIZE);
	CHECK_EQ(budget_segment(GIB), SEGMENT_SIZE);
	CHECK_EQ(budget_segment(160 * MIB), 10 * MIB);
	CHECK_EQ(budget_segment(0), 4 * MIB);
}

/* --- the gate --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct budget_in in;
	bool refuses;
	unsigned n;
	uint64_t went[16];
	int err[16];
} w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static bool w_measure(void *ctx, struct budget_in *in)
{
	bool pressing = in->pressing;

	(void)ctx;
	pthread_mutex_lock(&w.lock);
	*in = w.in;
	in->pressing = pressing;
	bool refuses = w.refuses;
	pthread_mutex_unlock(&w.lock);
	return !refuses;
}

static void w_act(void *ctx, const struct budget_out *out)
{
	(void)ctx;
	(void)out;
}

static bool w_is_orphan(void *ctx, uint64_t ino)
{
	(void)ctx;
	return ino >= 100;
}

static void went(struct gate_wait *x, int err)
{
	pthread_mutex_lock(&w.lock);
	w.went[w.n] = x->ino;
	w.err[w.n++] = err;
	pthread_cond_signal(&w.cond);
	pthread_mutex_unlock(&w.lock);
}

static void wait_went(unsigned n)
{
	pthread_mutex_lock(&w.lock);
	while (w.n < n)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
}

static void set(uint64_t staged, uint64_t log, uint64_t orphaned)
{
	pthread_mutex_lock(&w.lock);
	w.in = roomy();
	w.in.log_limit = 1000 * MIB;
	w.in.staged = staged;
	w.in.log = log;
	w.in.orphaned = orphaned;
	w.refuses = false;
	pthread_mutex_unlock(&w.lock);
}

static struct gate *open_gate(void)
{
	const struct gate_config cfg = { w_measure, w_act, w_is_orphan, NULL };
	struct gate *g;

	w.n = 0;
	REQUIRE(gate_new(&cfg, &g) == 0);
	return g;
}

static bool passes(struct gate *g, enum gate_lane lane, uint64_t bytes, struct gate_wait *x)
{
	if (gate_pass(g, lane, bytes))
		return true;
	x->bytes = bytes;
	x->go = went;
	gate_park(g, lane, x);
	return false;
}

static void settle(struct gate *g)
{
	struct gate_figures f;

	do {
		gate_kick(g);
		gate_figures(g, &f);
	} while (f.in.staged != w.in.staged || f.in.log != w.in.log);
}

static void a_full_gate_parks_and_wakes_in_order(void)
{
	struct gate_wait a = { .ino = 1 }, b = { .ino = 2 }, m = { .ino = 3 };
	struct gate *g;
	struct gate_figures f;

	set(1000 * MIB, 0, 0);
	g = open_gate();
	settle(g);
	CHECK(!passes(g, GATE_DATA, 1, &a));
	CHECK(!passes(g, GATE_DATA, 1, &b));
	CHECK(passes(g, GATE_META, 0, &m)); /* only writers */
	CHECK(passes(g, GATE_NONE, 0, &m));
	gate_kick(g);
	gate_figures(g, &f);
	CHECK_EQ(f.waiting, 2);
	CHECK_EQ(w.n, 0);
	set(100 * MIB, 0, 0);
	gate_kick(g);
	wait_went(2);
	CHECK(w.went[0] == 1 && w.went[1] == 2 && w.err[0] == 0 && w.err[1] == 0);
	CHECK(gate_pass(g, GATE_DATA, 1));
	gate_free(g);
}

static void a_full_log_parks_everything_that_grows(void)
{
	struct gate_wait a = { .ino = 1 }, b = { .ino = 2 };
	struct gate *g;

	set(0, 1000 * MIB, 0);
	g = open_gate();
	settle(g);
	CHECK(!passes(g, GATE_DATA, 1, &a));
	CHECK(!passes(g, GATE_META, 0, &b));
	CHECK(gate_pass(g, GATE_NONE, 0));
	set(0, 999 * MIB, 0); /* slow: one after the other, but all of them */
	wait_went(2);
	gate_free(g);
}

static void only_writers_of_unlinked_files_get_enospc(void)
{
	struct gate_wait a = { .ino = 1 }, b = { .ino = 101 }, c = { .ino = 2 };
	struct gate *g;

	set(1000 * MIB, 0, 800 * MIB);
	g = open_gate();
	settle(g);
	CHECK(!passes(g, GATE_DATA, 1, &a));
	CHECK(!passes(g, GATE_DATA, 1, &b));
	CHECK(!passes(g, GATE_DATA, 1, &c));
	wait_went(1);
	CHECK(w.n == 1 && w.went[0] == 101 && w.err[0] == -ENOSPC);
	gate_stop(g);
	CHECK_EQ(w.n, 3);
	CHECK(w.err[1] == -EIO && w.err[2] == -EIO && w.went[2] == 2);
	CHECK(gate_pass(g, GATE_DATA, 1 << 30)); /* what still comes meets the end elsewhere */
	gate_free(g);
}

static void a_journal_that_refuses_opens_it(void)
{
	struct gate_wait a = { .ino = 1 };
	struct gate *g;

	set(1000 * MIB, 1000 * MIB, 0);
	g = open_gate();
	settle(g);
	CHECK(!passes(g, GATE_DATA, 1, &a));
	pthread_mutex_lock(&w.lock);
	w.refuses = true;
	pthread_mutex_unlock(&w.lock);
	gate_kick(g);
	wait_went(1);
	CHECK_EQ(w.err[0], 0);
	gate_free(g);
}

/* More than the room that was counted: measured again, and goes on. */
static void used_up_room_is_measured_again(void)
{
	struct gate_wait a[8];
	struct gate *g;
	unsigned parked = 0;

	set(499 * MIB, 0, 0);
	g = open_gate();
	settle(g);
	memset(a, 0, sizeof(a));
	for (unsigned i = 0; i < 8; i++)
		parked += !passes(g, GATE_DATA, MIB, &a[i]);
	CHECK(parked > 0);
	wait_went(parked);
	gate_free(g);
	CHECK(gate_pass(NULL, GATE_DATA, 1));
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"staging_thresholds", staging_thresholds},
		{"pressing_ends_lower_than_it_begins", pressing_ends_lower_than_it_begins},
		{"cached_blocks_give_way", cached_blocks_give_way}, {"the_ratio_bounds_staging", the_ratio_bounds_staging},
		{"the_log_has_its_own", the_log_has_its_own}, {"unlinked_files_that_fill_it", unlinked_files_that_fill_it},
		{"segments_are_small_in_a_small_budget", segments_are_small_in_a_small_budget},
		{"a_full_gate_parks_and_wakes_in_order", a_full_gate_parks_and_wakes_in_order},
		{"a_full_log_parks_everything_that_grows", a_full_log_parks_everything_that_grows},
		{"only_writers_of_unlinked_files_get_enospc", only_writers_of_unlinked_files_get_enospc},
		{"a_journal_that_refuses_opens_it", a_journal_that_refuses_opens_it},
		{"used_up_room_is_measured_again", used_up_room_is_measured_again}, {0}};

	return unit_main(argc, argv, tests);
}
