/* Kills a process that commits through the real journal, at random instants and at every fault point, recovery included,
 * and demands afterwards: everything acknowledged is there, nothing twice, nothing in part.
 *
 * The content of a record is a function of its sequence number, so the state after S records can be worked out for any
 * S: key n % KEYS holds the last n <= S of its kind, the counters are S. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/journal_kit.h"
#include "util/clock.h"

enum { KEYS = 97, INODES = 13, WRITE_EVERY = 5, DELETE_EVERY = 7, THREADS = 2 };

static const char *const points[] = {"journal.commit.before", "journal.commit.after", "journal.swap",
	"journal.flush.before_sync", "journal.flush.before_base", "journal.flush.before_commit", "journal.flush.after_commit",
	"journal.flush.after_empty", "hot.put", "hot.reset.before", "hot.reset.after", "staging.append.before",
	"staging.append.after", "staging.make", "staging.make.before_dirsync", "staging.sync", "staging.write", "recovery.step",
	"recovery.before_base", "recovery.before_empty", "hot.allocate", "journal.close.before_clean"};
enum { POINTS = sizeof(points) / sizeof(points[0]) };

static int ack_fd;
static _Atomic bool enough;

/* The bytes that a write of 100 + fill * 300 bytes carries. */
static size_t fill_bytes(uint8_t *buf, uint8_t fill)
{
	size_t n = 100 + (size_t)fill * 300;

	memset(buf, fill, n);
	return n;
}

static void record_build(struct rec *r, uint64_t n, const struct staged *s)
{
	uint8_t v[8];
	struct jkey key;

	put_be64(v, n);
	key_symlink(&key, n % KEYS);
	if (n % DELETE_EVERY == 0)
		rec_del(r, &key, 0);
	else
		rec_put(r, &key, v, sizeof(v), 0);
	rec_space(r, 1, -1);
	if (s->len) {
		struct extent_val e = {.kind = EXT_STAGED, .pos = 0, .len = s->len, .born = n, .segment = s->segment, .off = s->off,
			.run_off = s->off, .run_len = s->len, .sum = s->sum};

		rec_put_extent(r, n % INODES, (uint32_t)n, &e, IF_NEW);
	}
}

static void *commit_forever(void *arg)
{
	struct kit *k = arg;
	static _Thread_local uint8_t bytes[80000];

	while (!atomic_load(&enough)) {
		struct staged s = {.len = 0};
		uint64_t n, done;
		int err;

		uint8_t fill = (uint8_t)(journal_mark(k->j, WM_COMMITTED) % 250);
		err = staging_append(journal_staging(k->j), bytes, fill_bytes(bytes, fill), &s);
		if (err)
			_exit(3);
		journal_lock(k->j);
		n = journal_next_seq(k->j);
		if (n % WRITE_EVERY)
			s.len = 0;
		record_build(journal_begin(k->j, n % WRITE_EVERY ? OP_SYMLINK : OP_WRITE), n, &s);
		err = journal_commit(k->j, &done);
		journal_unlock(k->j);
		if (err == -EAGAIN && journal_wait_room(k->j) == 0)
			continue;
		if (err || done != n)
			_exit(4);
		if (n % 200 == 0 && journal_wait(k->j, WM_DURABLE, n))
			_exit(5);
		if (write(ack_fd, &n, sizeof(n)) != sizeof(n))
			_exit(6);
		if (n % 1500 == 0)
			atomic_store(&enough, true);
	}
	return NULL;
}

static void child(struct kit *k, const char *fault)
{
	pthread_t t[THREADS];

	if (fault)
		setenv("JFS_FAULT", fault, 1);
	fault_init();
	if (kit_try_open(k))
		_exit(2);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, commit_forever, k))
			_exit(2);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	_exit(journal_close(k->j) ? 7 : 0);
}

/* The last acknowledged sequence number of a child that is killed after `acks` acknowledgements, or by its fault. */
static uint64_t run_child(struct kit *k, const char *fault, uint64_t acks, uint64_t last)
{
	int fds[2], status;
	uint64_t n, seen = 0;
	pid_t pid;

	REQUIRE(pipe(fds) == 0);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		ack_fd = fds[1];
		child(k, fault);
	}
	close(fds[1]);
	while (read(fds[0], &n, sizeof(n)) == (ssize_t)sizeof(n)) {
		last = n > last ? n : last;
		if (++seen == acks)
			kill(pid, SIGKILL);
	}
	close(fds[0]);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	if (!WIFSIGNALED(status) && WEXITSTATUS(status))
		fprintf(stderr, "  the child ended with %d, fault %s\n", WEXITSTATUS(status), fault ? fault : "none");
	return last;
}

static int log_follows(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *next = arg;
	struct rec_header h;
	struct rec_reader it;

	CHECK_EQ(rec_open(rec, len, &h, &it), 0);
	CHECK_EQ(seq, *next);
	*next = seq + 1;
	return 0;
}

static void check_key(struct kit *k, uint64_t id, uint64_t upto)
{
	uint64_t n = upto >= id ? upto - (upto - id) % KEYS : 0; /* the last that touched it */
	struct jkey key;
	const void *v;
	size_t len;
	int err;

	key_symlink(&key, id);
	err = view_probe(k->j, &key, &v, &len);
	if (n == 0)
		CHECK_EQ(err, -ENOENT);
	else if (n % DELETE_EVERY == 0)
		CHECK_EQ(err, -EKEYREVOKED);
	else
		CHECK(err == 0 && len == 8 && get_be64(v) == n);
}

static void check_extent(struct kit *k, uint64_t n)
{
	static uint8_t bytes[80000];
	struct extent_val e;
	struct jkey from;
	struct view_iter *it;
	const uint8_t *key, *val;
	size_t klen, vlen;

	key_extent(&from, n % INODES, (uint32_t)n, 0);
	it = view_seek(k->j, &from, 13);
	REQUIRE(it);
	CHECK_EQ(view_step(it, &key, &klen, &val, &vlen), 1);
	CHECK(extent_val_decode(val, vlen, &e) == 0 && e.born == n);
	view_end(it);
	CHECK_EQ(staging_read(journal_staging(k->j), e.segment, e.off, bytes, e.len), 0);
	for (uint32_t i = 1; i < e.len; i++)
		if (bytes[i] != bytes[0] || e.len != 100 + 300u * bytes[0]) {
			CHECK(!"bytes as they were written");
			break;
		}
}

static uint64_t check_state(struct kit *k, uint64_t acked)
{
	uint64_t upto, next = 1;
	int64_t space, inodes;

	kit_open(k);
	CHECK(k->rep.dropped == 0 && !k->rep.power_cut && !k->rep.moved);
	upto = journal_mark(k->j, WM_DURABLE);
	CHECK(upto >= acked);
	CHECK(upto <= acked + THREADS + 1); /* committed, the answer still on its way */
	journal_lock(k->j);
	for (uint64_t id = 0; id < KEYS; id++)
		check_key(k, id, upto);
	for (uint64_t n = upto > 300 ? upto - 300 : 1; n <= upto; n++)
		if (n % WRITE_EVERY == 0)
			check_extent(k, n);
	journal_stats(k->j, &space, &inodes);
	journal_unlock(k->j);
	CHECK_EQ(space, upto);
	CHECK_EQ(inodes, -(int64_t)upto);
	CHECK_EQ(journal_log_scan(k->j, 0, UINT64_MAX, log_follows, &next), 0);
	CHECK_EQ(next, upto + 1);
	kit_kill(k);
	return upto;
}

static void crash_kit(struct kit *k)
{
	kit_init(k);
	k->cfg.hot_size = 512 << 10;
	k->cfg.sync_interval_ms = 2;
}

static void killed_at_random(void)
{
	uint64_t seed = unit_seed(), last = 0;
	struct kit k;

	crash_kit(&k);
	for (int round = 0; round < 25; round++) {
		last = run_child(&k, NULL, 1 + unit_rand(&seed) % 700, last);
		last = check_state(&k, last);
	}
	kit_fini(&k);
}

static void killed_at_every_point(void)
{
	uint64_t seed = unit_seed(), last = 0;
	char fault[128];
	struct kit k;

	crash_kit(&k);
	for (int i = 0; i < POINTS; i++) {
		for (int hit = 1; hit <= 2; hit++) {
			unsigned n = hit == 1 ? 1 : 2 + (unsigned)(unit_rand(&seed) % 9);

			snprintf(fault, sizeof(fault), "%s:%u:kill", points[i], n);
			last = run_child(&k, fault, 3000, last);
			last = check_state(&k, last);
		}
	}
	kit_fini(&k);
}

/* Killed, then killed in recovery again and again, before somebody looks. */
static void recovery_is_killed_too(void)
{
	static const char *const steps[] = {"recovery.step:1:kill", "recovery.step:40:kill", "recovery.before_base:1:kill",
		"journal.flush.before_commit:1:kill", "recovery.before_empty:1:kill", "hot.reset.before:1:kill",
		"hot.allocate:1:kill", "hot.allocate:2:kill", "recovery.before_base:2:kill"};
	uint64_t last = 0;
	struct kit k;

	crash_kit(&k);
	k.cfg.sync_interval_ms = 100000; /* much to recover */
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		last = run_child(&k, NULL, 150, last);
		for (int again = 0; again < 2; again++)
			last = run_child(&k, steps[i], 150, last);
		last = check_state(&k, last);
	}
	kit_fini(&k);
}

#define T(name) {#name, name}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {T(killed_at_random), T(killed_at_every_point), T(recovery_is_killed_too),
		{NULL, NULL}};

	return unit_main(argc, argv, tests);
}
