/* What opening a journal may rely on, and what it must leave behind for the next one. */
#include "tests/unit/journal_kit.h"

/* Between opening and the first flush base still says what the last close said. */
static void a_kill_before_the_first_flush_is_not_clean(void)
{
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	kit_set(&k, 1, "one");
	kit_close(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	CHECK(k.rep.clean);
	kit_set(&k, 1, "two");
	kit_kill(&k);
	kit_open(&k);
	CHECK(!k.rep.clean && !k.rep.power_cut && k.rep.recovered == 1);
	kit_expect(&k, 1, "two");
	kit_close(&k);
	kit_open(&k);
	CHECK(k.rep.clean);
	kit_set(&k, 1, "lost");
	kit_power_cut(&k);
	kit_open(&k);
	CHECK(!k.rep.clean && k.rep.power_cut);
	kit_expect(&k, 1, "two");
	kit_close(&k);
	kit_fini(&k);
}

static void run_without_tmpfs_room(struct kit *k)
{
	alarm(20);
	kit_open(k);
	for (uint64_t i = 0; i < 8; i++)
		CHECK_EQ(journal_wait(k->j, WM_DURABLE, kit_set(k, 1, "go on")), 0);
	CHECK_EQ(journal_close(k->j), 0);
}

/* Logs that an earlier process left empty are emptied again without taking new memory: a tmpfs that others have filled by
 * then must not stop the flusher, which would leave every fsync waiting for ever. */
static void empty_logs_need_no_room(void)
{
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "one")), 0);
	kit_kill(&k);
	kit_fork(&k, "hot.allocate:1+:ENOSPC", false, run_without_tmpfs_room);
	kit_open(&k);
	CHECK(k.rep.clean);
	kit_expect(&k, 1, "go on");
	kit_close(&k);
	kit_fini(&k);
}

#define T(name) {#name, name}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {T(a_kill_before_the_first_flush_is_not_clean), T(empty_logs_need_no_room),
		{NULL, NULL}};

	return unit_main(argc, argv, tests);
}
