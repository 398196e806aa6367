/* Looking at a dead journal: what a mount would find, and nothing changed by it. */
#include "journal/inspect.h"
#include "tests/unit/journal_kit.h"

static void look(struct kit *k, struct journal **j, struct inspect *found)
{
	if (journal_inspect(&k->cfg, j, found, &k->e)) {
		fprintf(stderr, "inspect: %s\n", k->e.text);
		exit(1);
	}
}

static const char *text_of(struct journal *j, uint64_t id)
{
	struct kit k = {.j = j};

	return kit_get(&k, id);
}

static int count(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *n = arg;

	(void)rec;
	CHECK(len > 0);
	CHECK_EQ(seq, ++n[0] + n[1]);
	return 0;
}

static void hot_records_are_seen(void)
{
	uint64_t n[2] = {0, 1};
	struct inspect found;
	struct journal *j;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 3600000;
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_DURABLE, kit_set(&k, 1, "base")), 0);
	kit_set(&k, 2, "hot");
	kit_set(&k, 1, "newer");
	kit_kill(&k);
	for (int i = 0; i < 2; i++) { /* looking changes nothing */
		n[0] = 0;
		look(&k, &j, &found);
		CHECK(!found.clean && found.hot_found);
		CHECK_EQ(found.durable, 1);
		CHECK_EQ(found.hot_records, 2);
		CHECK_EQ(found.hot_bad, 0);
		CHECK_EQ(journal_mark(j, WM_COMMITTED), 3);
		CHECK_STR(text_of(j, 1), "newer");
		CHECK_STR(text_of(j, 2), "hot");
		CHECK_EQ(journal_inspect_hot(j, count, n), 0);
		CHECK_EQ(n[0], 2);
		CHECK_EQ(journal_close(j), 0);
	}
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 2);
	kit_expect(&k, 1, "newer");
	kit_close(&k);
	look(&k, &j, &found);
	CHECK(found.clean);
	CHECK_EQ(found.hot_records, 0);
	CHECK_STR(text_of(j, 2), "hot");
	CHECK_EQ(journal_close(j), 0);
	kit_fini(&k);
}

static void meet_a_daemon(struct kit *k)
{
	struct inspect found;
	struct journal *j;
	char pid[32];

	CHECK_EQ(journal_inspect(&k->cfg, &j, &found, &k->e), -EBUSY);
	snprintf(pid, sizeof(pid), "process %d:", (int)getppid());
	CHECK(strstr(k->e.text, pid) != NULL);
}

static void meet_a_tool(struct kit *k)
{
	CHECK_EQ(kit_try_open(k), -EBUSY);
}

/* LMDB wants one environment in a process: the other side is a child. */
static void a_living_daemon_is_named(void)
{
	struct inspect found;
	struct journal *j;
	struct kit k;

	kit_init(&k);
	CHECK_EQ(journal_inspect(&k.cfg, &j, &found, &k.e), -ENOENT);
	kit_open(&k);
	kit_set(&k, 1, "x");
	kit_fork(&k, NULL, false, meet_a_daemon);
	kit_close(&k);
	look(&k, &j, &found);
	kit_fork(&k, NULL, false, meet_a_tool);
	CHECK_EQ(journal_close(j), 0);
	kit_fini(&k);
}

/* The hot directory is found where the daemon had it. */
static void the_noted_hot_directory(void)
{
	struct inspect found;
	struct journal *j;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 3600000;
	kit_open(&k);
	kit_set(&k, 1, "x");
	kit_kill(&k);
	k.cfg.hot_dir = NULL;
	look(&k, &j, &found);
	CHECK_EQ(found.hot_records, 1);
	CHECK_EQ(journal_close(j), 0);
	kit_remove(k.hot);
	look(&k, &j, &found);
	CHECK(!found.hot_found && !found.clean);
	CHECK_EQ(found.hot_records, 0);
	CHECK_EQ(journal_close(j), 0);
	REQUIRE(mkdir(k.hot, 0700) == 0);
	kit_fini(&k);
}

/* Another hot directory after a kill would lose what was acknowledged. */
static void the_hot_directory_must_not_change_after_a_kill(void)
{
	char other[160], first[160];
	struct kit k;

	kit_init(&k);
	snprintf(first, sizeof(first), "%s/first", k.hot);
	snprintf(other, sizeof(other), "%s/other", k.hot);
	k.cfg.sync_interval_ms = 3600000;
	k.cfg.hot_dir = first;
	kit_open(&k);
	kit_set(&k, 1, "x");
	kit_kill(&k);
	k.cfg.hot_dir = other;
	CHECK_EQ(kit_try_open(&k), -EXDEV);
	CHECK(strstr(k.e.text, first) != NULL);
	k.cfg.hot_dir = NULL;
	kit_open(&k);
	CHECK_EQ(k.rep.recovered, 1);
	kit_expect(&k, 1, "x");
	kit_close(&k);
	k.cfg.hot_dir = other; /* after a clean end any will do */
	kit_open(&k);
	kit_expect(&k, 1, "x");
	kit_close(&k);
	kit_fini(&k);
}

/* A flipped byte of a record: it and all behind it are what recovery would set aside. */
static void a_damaged_record(void)
{
	static const char mark[] = "find-me-in-the-file";
	struct inspect found;
	struct journal *j;
	char cmd[700];
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 3600000;
	kit_open(&k);
	kit_set(&k, 1, "good");
	kit_set(&k, 2, mark);
	kit_set(&k, 3, "behind");
	kit_kill(&k);
	snprintf(cmd, sizeof(cmd),
		"find '%s' -name data.mdb | while read f; do for o in $(grep -abo %s $f | cut -d: -f1); do "
		"printf X | dd of=$f bs=1 seek=$o conv=notrunc 2>/dev/null; done; done", k.hot, mark); /* old pages too */
	REQUIRE(system(cmd) == 0);
	look(&k, &j, &found);
	CHECK_EQ(found.hot_records, 1);
	CHECK_EQ(found.hot_bad, 2);
	CHECK(strstr(found.first_bad, "record 2") != NULL);
	CHECK_STR(text_of(j, 1), "good");
	CHECK(text_of(j, 2) == NULL && text_of(j, 3) == NULL);
	CHECK_EQ(journal_close(j), 0);
	kit_open(&k); /* recovery agrees */
	CHECK_EQ(k.rep.recovered, 1);
	CHECK_EQ(k.rep.dropped, 2);
	kit_close(&k);
	kit_fini(&k);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"hot_records_are_seen", hot_records_are_seen},
		{"a_living_daemon_is_named", a_living_daemon_is_named}, {"the_noted_hot_directory", the_noted_hot_directory},
		{"the_hot_directory_must_not_change_after_a_kill", the_hot_directory_must_not_change_after_a_kill},
		{"a_damaged_record", a_damaged_record}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
