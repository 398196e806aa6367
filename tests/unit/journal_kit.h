/* What the journal's tests share: a scratch cache directory with a hot directory, and small records over symlink keys. */
#ifndef JFS_TESTS_JOURNAL_KIT_H
#define JFS_TESTS_JOURNAL_KIT_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal/journal.h"
#include "tests/unit/unit.h"
#include "util/fault.h"

struct kit {
	char dir[128], hot[128], cache[160];
	struct journal_config cfg;
	struct journal *j;
	struct journal_report rep;
	struct errmsg e;
};

static inline void kit_init(struct kit *k)
{
	const char *tmp = getenv("TMPDIR");

	memset(k, 0, sizeof(*k));
	snprintf(k->dir, sizeof(k->dir), "%s/jfs-journal-XXXXXX", tmp ? tmp : "/tmp");
	snprintf(k->hot, sizeof(k->hot), "/dev/shm/jfs-test-XXXXXX");
	REQUIRE(mkdtemp(k->dir) && mkdtemp(k->hot));
	snprintf(k->cache, sizeof(k->cache), "%s/c", k->dir);
	k->cfg = (struct journal_config){.cache_dir = k->cache, .hot_dir = k->hot, .uuid = "volume-a", .sync_interval_ms = 10,
		.hot_size = 4 << 20, .allow_any_fs = true, .reserve_size = 1 << 20};
}

static inline void kit_remove(const char *path)
{
	char cmd[300];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", path);
	REQUIRE(system(cmd) == 0);
}

static inline void kit_fini(struct kit *k)
{
	kit_remove(k->dir);
	kit_remove(k->hot);
}

static inline int kit_try_open(struct kit *k)
{
	return journal_open(&k->cfg, &k->j, &k->rep, &k->e);
}

static inline void kit_open(struct kit *k)
{
	if (kit_try_open(k)) {
		fprintf(stderr, "open: %s\n", k->e.text);
		exit(1);
	}
}

/* What a kill leaves: the hot logs, no clean mark. */
static inline void kit_kill(struct kit *k)
{
	journal_abandon(k->j);
	k->j = NULL;
}

static inline void kit_close(struct kit *k)
{
	CHECK_EQ(journal_close(k->j), 0);
	k->j = NULL;
}

/* What a power cut leaves of the hot logs. */
static inline void kit_power_cut(struct kit *k)
{
	kit_kill(k);
	kit_remove(k->hot);
	REQUIRE(mkdir(k->hot, 0700) == 0);
}

/* Commits one record that sets (or deletes, val NULL) symlink `id`, waiting for room like an operation. */
static inline uint64_t kit_set_flags(struct kit *k, uint64_t id, const void *val, size_t len, unsigned flags, int64_t space)
{
	struct jkey key;
	uint64_t seq = 0;
	int err;

	key_symlink(&key, id);
	for (;;) {
		journal_lock(k->j);
		struct rec *r = journal_begin(k->j, OP_SYMLINK);

		if (val)
			rec_put(r, &key, val, len, flags);
		else
			rec_del(r, &key, flags);
		rec_space(r, space, 1);
		err = journal_commit(k->j, &seq);
		journal_unlock(k->j);
		if (err != -EAGAIN)
			break;
		REQUIRE(journal_wait_room(k->j) == 0);
	}
	CHECK_EQ(err, 0);
	return seq;
}

static inline uint64_t kit_set(struct kit *k, uint64_t id, const char *val)
{
	return kit_set_flags(k, id, val, val ? strlen(val) : 0, 0, 1);
}

/* The view's value of symlink `id` as text; NULL when there is none. */
static inline const char *kit_get(struct kit *k, uint64_t id)
{
	static char text[256];
	struct jkey key;
	const void *v;
	size_t n;
	int err;

	key_symlink(&key, id);
	journal_lock(k->j);
	err = view_get(k->j, &key, &v, &n);
	if (!err) {
		REQUIRE(n < sizeof(text));
		memcpy(text, v, n);
		text[n] = 0;
	}
	journal_unlock(k->j);
	CHECK(err == 0 || err == -ENOENT);
	return err ? NULL : text;
}

static inline void kit_expect(struct kit *k, uint64_t id, const char *val)
{
	const char *have = kit_get(k, id);

	if (!have || !val || strcmp(have, val) != 0)
		if (have || val)
			fprintf(stderr, "  id %llu: \"%s\", expected \"%s\"\n", (unsigned long long)id, have ? have : "(none)",
				val ? val : "(none)");
	CHECK(have && val ? strcmp(have, val) == 0 : !have && !val);
}

static inline int kit_probe(struct kit *k, uint64_t id)
{
	struct jkey key;
	const void *v;
	size_t n;

	key_symlink(&key, id);
	journal_lock(k->j);
	int err = view_probe(k->j, &key, &v, &n);
	journal_unlock(k->j);
	return err;
}

/* Runs fn in a child with these fault points, which cannot be taken back. The child must exit well, or, with `killed`,
 * die of the fault. */
static inline void kit_fork(struct kit *k, const char *fault, bool killed, void (*fn)(struct kit *k))
{
	pid_t pid = fork();
	int status;

	REQUIRE(pid >= 0);
	if (pid == 0) {
		unit_failures = 0;
		if (fault)
			setenv("JFS_FAULT", fault, 1);
		fault_init();
		fn(k);
		_exit(unit_failures != 0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	if (killed)
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	else
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Stages bytes and commits a write of them as the whole of inode `ino`. */
static inline uint64_t kit_write(struct kit *k, uint64_t ino, const void *data, size_t len, struct staged *s)
{
	uint64_t seq = 0;

	REQUIRE(staging_append(journal_staging(k->j), data, len, s) == 0);
	journal_lock(k->j);
	struct extent_val e = {.kind = EXT_STAGED, .len = s->len, .born = journal_next_seq(k->j), .segment = s->segment,
		.off = s->off, .run_off = s->off, .run_len = s->len, .sum = s->sum};
	rec_put_extent(journal_begin(k->j, OP_WRITE), ino, 0, &e, IF_NEW);
	CHECK_EQ(journal_commit(k->j, &seq), 0);
	journal_unlock(k->j);
	return seq;
}

#endif
