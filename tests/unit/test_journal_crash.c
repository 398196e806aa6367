/* Kills a process that commits through the real journal, at random instants and at every fault point, recovery included,
 * and demands afterwards: everything acknowledged is there, nothing twice, nothing in part (journal_history.h). */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/journal_history.h"
#include "tests/unit/journal_kit.h"

enum { THREADS = 2 };

static const char *const points[] = {"journal.commit.before", "journal.commit.after", "journal.swap",
	"journal.flush.before_sync", "journal.flush.before_base", "journal.flush.before_commit", "journal.flush.after_commit",
	"journal.flush.after_empty", "hot.put", "hot.reset.before", "hot.reset.after", "staging.append.before",
	"staging.append.after", "staging.make", "staging.make.before_dirsync", "staging.sync", "staging.write", "recovery.step",
	"recovery.before_base", "recovery.before_empty", "hot.allocate", "journal.close.before_clean", "journal.sync.before_write",
	"journal.sync.before_staging", "journal.sync.before_sync", "journal.sync.after_sync", "synclog.make", "synclog.make.before_sync",
	"synclog.write", "synclog.sync"};
enum { POINTS = sizeof(points) / sizeof(points[0]) };

static int ack_fd;
static _Atomic bool enough;

static void *commit_forever(void *arg)
{
	struct kit *k = arg;

	while (!atomic_load(&enough)) {
		uint64_t n;

		if (history_step(k->j, &n))
			_exit(4);
		if (n % 100 == 0 && journal_wait(k->j, n % 200 ? WM_SYNCED : WM_DURABLE, n))
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

static uint64_t check_state(struct kit *k, uint64_t acked)
{
	uint64_t upto;

	kit_open(k);
	CHECK(k->rep.dropped == 0 && !k->rep.power_cut && !k->rep.moved);
	upto = journal_mark(k->j, WM_DURABLE);
	CHECK(upto >= acked);
	CHECK(upto <= acked + THREADS + 1); /* committed, the answer still on its way */
	CHECK_EQ(history_check(k->j, 60), 0);
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
