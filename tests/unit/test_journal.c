#include "tests/unit/journal_kit.h"

static void open_close(void)
{
	struct kit k;

	kit_init(&k);
	kit_open(&k);
	CHECK(k.rep.fresh && !k.rep.clean && !k.rep.power_cut && !k.rep.moved && k.rep.recovered == 0);
	CHECK_EQ(strlen(journal_cache_id(k.j)), 32);
	CHECK_EQ(kit_set(&k, 1, "one"), 1);
	CHECK_EQ(kit_set(&k, 2, "two"), 2);
	kit_expect(&k, 1, "one");
	CHECK_EQ(journal_mark(k.j, WM_COMMITTED), 2);
	kit_close(&k);
	kit_open(&k);
	CHECK(!k.rep.fresh && k.rep.clean && !k.rep.power_cut && k.rep.recovered == 0);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 2);
	kit_expect(&k, 1, "one");
	kit_expect(&k, 2, "two");
	CHECK_EQ(kit_set(&k, 1, NULL), 3);
	CHECK_EQ(kit_probe(&k, 1), -EKEYREVOKED);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, 3), 0);
	CHECK_EQ(kit_probe(&k, 1), -EKEYREVOKED);
	CHECK_EQ(kit_probe(&k, 77), -ENOENT);
	kit_kill(&k);
	kit_open(&k);
	CHECK(!k.rep.clean && !k.rep.power_cut && k.rep.dropped == 0);
	CHECK_EQ(kit_probe(&k, 1), -EKEYREVOKED);
	kit_close(&k);
	kit_fini(&k);
}

static void kill_keeps_everything(void)
{
	int64_t space, inodes;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	for (int i = 0; i < 1000; i++)
		kit_set(&k, (uint64_t)i % 100, i % 3 ? "value" : NULL);
	kit_set(&k, 1, "last");
	kit_kill(&k);
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 1001);
	CHECK_EQ(k.rep.dropped, 0);
	kit_expect(&k, 1, "last");
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 1001);
	journal_lock(k.j);
	journal_stats(k.j, &space, &inodes);
	journal_unlock(k.j);
	CHECK_EQ(space, 1001);
	CHECK_EQ(inodes, 1001);
	CHECK_EQ(kit_set(&k, 5, "more"), 1002);
	kit_close(&k);
	kit_fini(&k);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"open_close", open_close},
		{"kill_keeps_everything", kill_keeps_everything}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
