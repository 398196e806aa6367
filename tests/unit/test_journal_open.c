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

static void open_fails_with(struct kit *k, int err)
{
	char path[200];

	CHECK_EQ(kit_try_open(k), err);
	snprintf(path, sizeof(path), "%s/setaside", k->cache);
	CHECK(access(path, F_OK) != 0);
}

static void recover_without_descriptors(struct kit *k)
{
	open_fails_with(k, -EMFILE);
}

/* Only what is wrong with the bytes may set an acknowledged operation aside: neither that this process has no descriptors,
 * nor that the record was written by a newer version, which a downgrade meets. */
static void recovery_sets_aside_only_what_is_damaged(void)
{
	struct staged s;
	struct jkey key;
	struct kit k;

	kit_init(&k);
	k.cfg.sync_interval_ms = 100000;
	kit_open(&k);
	kit_write(&k, 7, "hello", 5, &s);
	kit_kill(&k);
	kit_fork(&k, "staging.verify:1:EMFILE", false, recover_without_descriptors);
	kit_open(&k);
	CHECK(k.rep.recovered == 1 && k.rep.dropped == 0);
	key_symlink(&key, 1);
	journal_lock(k.j);
	struct rec *r = journal_begin(k.j, OP_SYMLINK);
	rec_put(r, &key, "new", 3, 0);
	r->buf.data[0] = REC_VERSION + 1;
	CHECK_EQ(journal_commit(k.j, NULL), -EIO); /* we cannot apply it, but it is in the log */
	journal_unlock(k.j);
	kit_kill(&k);
	open_fails_with(&k, -ENOTSUP);
	open_fails_with(&k, -ENOTSUP);
	CHECK(strstr(k.e.text, "hot log has format version 4, this program reads up to 3") != NULL);
	kit_fini(&k);
}

#define T(name) {#name, name}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {T(a_kill_before_the_first_flush_is_not_clean), T(empty_logs_need_no_room),
		T(recovery_sets_aside_only_what_is_damaged),
		{NULL, NULL}};

	return unit_main(argc, argv, tests);
}
