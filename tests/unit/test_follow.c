/* One of several threads follows a single caller: in the place of the device a pipe, whose readers the kernel wakes in turn as well. */
#include "daemon/follow.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/cpus.h"
#include "daemon/thread_class.h"
#include "tests/unit/unit.h"

enum { THREADS = 4, ENOUGH = 1000000, IN_A_ROW = 20 };

enum how { AT_ONCE, ASLEEP, NAPPING, BUSY };

struct request {
	uint32_t caller;
	bool stop;
	enum how how; /* it is not done before go_on */
	sem_t *answer;
};

static struct follow *f;
static struct cpus *cpus;
static int device[2];
static pthread_t servers[THREADS];
static atomic_int tids[THREADS];
static atomic_uint served[THREADS];
static sem_t blocked, go_on;
static pid_t watcher;

static void be_stuck(enum how how)
{
	sem_post(&blocked);
	if (how == ASLEEP)
		while (sem_wait(&go_on))
			;
	while (how != ASLEEP && sem_trywait(&go_on))
		if (how == NAPPING)
			usleep(500);
}

static void *serve(void *arg)
{
	unsigned i = (unsigned)(uintptr_t)arg;
	struct request *r;

	follow_join(f, i);
	atomic_store(&tids[i], gettid());
	for (;;) {
		follow_turn(f, i);
		REQUIRE(read(device[0], &r, sizeof(r)) == sizeof(r));
		if (r->stop)
			break;
		follow_note(f, i, r->caller);
		atomic_fetch_add(&served[i], 1);
		if (r->how != AT_ONCE)
			be_stuck(r->how);
		sem_post(r->answer);
	}
	follow_end(f);
	return NULL;
}

/* The thread that looks on: it is known by its name. */
static pid_t find_watcher(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	char path[300], name[32];
	pid_t found = 0;

	REQUIRE(d);
	while (!found && (e = readdir(d))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		file = fopen(path, "r");
		if (file && fgets(name, sizeof(name), file) && strcmp(name, "jfs-class\n") == 0)
			found = atoi(e->d_name);
		if (file)
			fclose(file);
	}
	closedir(d);
	return found;
}

static bool begin_with(unsigned enough)
{
	REQUIRE(pipe(device) == 0);
	cpus = cpus_allowed();
	REQUIRE(cpus);
	f = follow_new(THREADS, enough);
	if (cpus_count(cpus) < 2) {
		CHECK(!f);
		cpus_free(cpus);
		return false; /* nothing is to be gained on one CPU, and nothing to be tested */
	}
	REQUIRE(f);
	for (unsigned i = 0; i < THREADS; i++) {
		atomic_store(&tids[i], 0);
		atomic_store(&served[i], 0);
		REQUIRE(pthread_create(&servers[i], NULL, serve, (void *)(uintptr_t)i) == 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		while (!atomic_load(&tids[i]))
			usleep(100);
	while (!(watcher = find_watcher()))
		usleep(100);
	return true;
}

static bool begin(void)
{
	return begin_with(ENOUGH);
}

static void ask(struct request *r)
{
	REQUIRE(write(device[1], &r, sizeof(r)) == sizeof(r));
}

static void call(uint32_t caller)
{
	sem_t answer;
	struct request r = { .caller = caller, .answer = &answer }, *p = &r;

	sem_init(&answer, 0, 0);
	ask(p);
	while (sem_wait(&answer))
		;
	sem_destroy(&answer);
}

static struct request stop = { .stop = true };

static void end(void)
{
	for (unsigned i = 0; i < THREADS; i++)
		ask(&stop);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(servers[i], NULL);
	follow_free(f);
	cpus_free(cpus);
	close(device[0]);
	close(device[1]);
}

static bool tid_ordinary(pid_t tid)
{
	cpu_set_t set;

	REQUIRE(sched_getaffinity(tid, sizeof(set), &set) == 0);
	return sched_getscheduler(tid) == SCHED_OTHER && (unsigned)CPU_COUNT(&set) == cpus_count(cpus);
}

static bool ordinary(unsigned i)
{
	return tid_ordinary(atomic_load(&tids[i]));
}

static void wait_until_ordinary(void)
{
	for (unsigned i = 0; i < THREADS; i++)
		while (!ordinary(i)) /* the runner's time-out ends it */
			usleep(100);
	while (!tid_ordinary(watcher))
		usleep(100);
}

/* May this thread use that CPU alone? */
static bool is_bound(pid_t tid, int cpu)
{
	cpu_set_t set;

	REQUIRE(sched_getaffinity(tid, sizeof(set), &set) == 0);
	return CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set);
}

static unsigned served_by_others(void)
{
	return atomic_load(&served[1]) + atomic_load(&served[2]) + atomic_load(&served[3]);
}

/* Calls until the follower is alone, and has served some. */
static void call_until_alone(uint32_t caller)
{
	unsigned times = follow_times(f);

	while (follow_times(f) == times)
		call(caller);
}

/* Does it wait for anything else than a request? */
static bool rests(unsigned i)
{
	char path[64];
	long number = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)atomic_load(&tids[i]));
	file = fopen(path, "r");
	REQUIRE(file);
	if (fscanf(file, "%ld", &number) != 1)
		number = -1; /* "running" */
	fclose(file);
	return number == SYS_futex;
}

/* Calls until all but the follower rest. */
static void call_until_others_rest(uint32_t caller)
{
	for (unsigned row = 0; row < IN_A_ROW;) {
		unsigned others = served_by_others();

		call(caller);
		row = served_by_others() == others && rests(1) && rests(2) && rests(3) ? row + 1 : 0;
	}
}

static void call_until_others_serve(uint32_t caller, unsigned requests)
{
	unsigned before = served_by_others();

	while (served_by_others() - before < requests) /* the runner's time-out ends it */
		call(caller);
}

static void a_single_caller_is_followed(void)
{
	unsigned before, seen = 0;
	cpu_set_t set;

	if (!begin())
		return;
	call_until_alone((uint32_t)gettid());
	/* Where it serves alone it is in the idle class, on one CPU. */
	while (seen < 100) {
		call((uint32_t)gettid());
		if (follow_times(f) && sched_getscheduler(atomic_load(&tids[0])) == SCHED_IDLE &&
			sched_getaffinity(atomic_load(&tids[0]), sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1)
			seen++;
	}
	for (unsigned i = 1; i < THREADS; i++)
		CHECK(ordinary(i));
	before = atomic_load(&served[0]);
	for (int i = 0; i < 1000; i++)
		call((uint32_t)gettid());
	CHECK(atomic_load(&served[0]) > before);
	call_until_others_rest((uint32_t)gettid());
	wait_until_ordinary(); /* without work */
	end();
}

/* The n-th of the CPUs that may be used. */
static int nth_cpu(const cpu_set_t *set, int n)
{
	int cpu = 0;

	while (!CPU_ISSET(cpu, set) || n--)
		cpu++;
	return cpu;
}

static void go_to_cpu(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	REQUIRE(sched_setaffinity(0, sizeof(one), &one) == 0);
}

static void call_until_bound(int cpu)
{
	do
		call((uint32_t)gettid());
	while (!is_bound(atomic_load(&tids[0]), cpu) || !is_bound(watcher, cpu));
}

/* The caller goes to another CPU while the follower serves alone, which begins anew where it ended meanwhile. */
static bool moves_and_is_followed(int from, int to)
{
	unsigned times;

	go_to_cpu(from);
	call_until_bound(from);
	times = follow_times(f);
	go_to_cpu(to);
	while (follow_times(f) == times) {
		call((uint32_t)gettid());
		if (is_bound(atomic_load(&tids[0]), to) && is_bound(watcher, to))
			return follow_times(f) == times;
	}
	return false;
}

static void a_caller_that_moves_is_followed(void)
{
	cpu_set_t all;
	int a, b;

	if (!begin())
		return;
	REQUIRE(sched_getaffinity(0, sizeof(all), &all) == 0);
	a = nth_cpu(&all, 0);
	b = nth_cpu(&all, 1);
	for (int i = 0; i < 4; i++)
		while (!moves_and_is_followed(i & 1 ? b : a, i & 1 ? a : b)) /* the runner's time-out ends it */
			;
	wait_until_ordinary();
	/* And again where it was before. */
	for (int i = 0; i < 2; i++) {
		go_to_cpu(a);
		call_until_bound(a);
		REQUIRE(sched_setaffinity(0, sizeof(all), &all) == 0);
		wait_until_ordinary();
	}
	end();
}

static void where_cpus_are_scarce_all_serve(void)
{
	if (!begin_with(0))
		return;
	call_until_others_serve((uint32_t)gettid(), 5000);
	wait_until_ordinary();
	end();
}

static void callers_that_mix_are_served_by_all(void)
{
	unsigned others = 0, times;

	if (!begin())
		return;
	call_until_alone((uint32_t)gettid());
	/* Two by turns, and none that has a CPU to go to. */
	for (int i = 0; others < 1000; i++) {
		call((uint32_t)gettid() + (uint32_t)(i & 1));
		others = atomic_load(&served[1]) + atomic_load(&served[2]) + atomic_load(&served[3]);
	}
	wait_until_ordinary();
	times = follow_times(f);
	for (int i = 0; i < 20000; i++)
		call(i & 1 ? 1 : 2);
	CHECK_EQ(follow_times(f), times);
	end();
}

static void a_caller_that_is_not_to_be_seen_is_not_followed(void)
{
	unsigned times;

	if (!begin())
		return;
	for (int i = 0; i < 100000 && follow_times(f) == 0; i++)
		call(0);
	times = follow_times(f);
	call_until_others_serve(0, 1000); /* at once, not for want of work only */
	wait_until_ordinary();
	CHECK(times <= 1);
	end();
}

/* How often a thread was put on a CPU. */
static unsigned long turns_of(pid_t tid)
{
	char path[64];
	unsigned long n = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", (int)tid);
	file = fopen(path, "r");
	REQUIRE(file && fscanf(file, "%*u %*u %lu", &n) == 1);
	fclose(file);
	return n;
}

/* The others take over from a follower that is not done with a request: after a few looks, not for want of work. And while it is not,
 * they are not sent to rest again. */
static void stuck(enum how how)
{
	sem_t answer;
	struct request r = { .how = how, .answer = &answer };
	unsigned before;
	unsigned long turns;

	if (!begin())
		return;
	sem_init(&answer, 0, 0);
	sem_init(&blocked, 0, 0);
	sem_init(&go_on, 0, 0);
	r.caller = (uint32_t)gettid();
	call_until_alone(r.caller);
	do { /* until the follower has it: another one may not rest any more */
		call_until_others_rest(r.caller);
		before = atomic_load(&served[0]);
		ask(&r);
		while (sem_wait(&blocked))
			;
		if (atomic_load(&served[0]) != before)
			break;
		sem_post(&go_on);
		while (sem_wait(&answer))
			;
	} while (true);
	turns = turns_of(watcher);
	call((uint32_t)gettid());
	CHECK(turns_of(watcher) - turns < CLASS_QUIET / 2);
	before = follow_times(f);
	for (int i = 0; i < 20000; i++)
		call((uint32_t)gettid());
	CHECK_EQ(follow_times(f), before);
	sem_post(&go_on);
	while (sem_wait(&answer))
		;
	wait_until_ordinary();
	end();
}

static void who_sleeps_is_replaced(void)
{
	stuck(ASLEEP);
}

static void who_naps_is_replaced(void)
{
	stuck(NAPPING);
}

static void who_is_busy_is_replaced(void)
{
	stuck(BUSY);
}

/* What an operator has said since (taskset) holds: the follower stays within it, and has it afterwards. */
static void an_operator_says_where(void)
{
	cpu_set_t one, now;
	unsigned seen = 0;

	if (!begin())
		return;
	call_until_alone((uint32_t)gettid());
	wait_until_ordinary();
	CPU_ZERO(&one);
	for (unsigned cpu = 0; CPU_COUNT(&one) == 0; cpu++)
		if (cpus_pin(cpus, atomic_load(&tids[0]), cpu))
			CPU_SET(cpu, &one);
	for (unsigned times = follow_times(f); follow_times(f) < times + 2; seen++) {
		call((uint32_t)gettid());
		REQUIRE(sched_getaffinity(atomic_load(&tids[0]), sizeof(now), &now) == 0);
		CHECK(CPU_EQUAL(&now, &one));
		if (seen % 2000 == 1999) /* want of work ends it, too */
			while (sched_getscheduler(atomic_load(&tids[0])) != SCHED_OTHER)
				usleep(100);
	}
	follow_end(f);
	REQUIRE(sched_getaffinity(atomic_load(&tids[0]), sizeof(now), &now) == 0);
	CHECK(CPU_EQUAL(&now, &one));
	cpus_unpin(cpus, atomic_load(&tids[0]));
	end();
}

/* Ended by somebody else while the others rest: everything is as it was when that returns, for good. */
static void it_ends_for_all(void)
{
	unsigned times, before[THREADS];

	if (!begin())
		return;
	call_until_others_rest((uint32_t)gettid());
	follow_end(f);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(ordinary(i));
	CHECK(tid_ordinary(watcher));
	times = follow_times(f);
	for (unsigned i = 0; i < THREADS; i++)
		before[i] = atomic_load(&served[i]);
	for (unsigned i = 0; i < THREADS; i++)
		while (atomic_load(&served[i]) == before[i]) /* the runner's time-out ends it */
			call((uint32_t)gettid());
	/* Whatever would have ended it, or begun it. */
	for (int i = 0; i < 5000; i++)
		call(i & 1 ? 1 : 2);
	for (int i = 0; i < 20000; i++)
		call((uint32_t)gettid());
	follow_end(f);
	CHECK_EQ(follow_times(f), times);
	wait_until_ordinary();
	end();
}

static void *end_when_alone(void *arg)
{
	unsigned spin = *(unsigned *)arg;

	while (follow_times(f) == 0)
		;
	for (volatile unsigned i = 0; i < spin; i++)
		;
	follow_end(f);
	return NULL;
}

/* Ended while the follower is about to bind itself. */
static void it_ends_while_the_follower_goes(void)
{
	uint64_t seed = unit_seed();

	for (int round = 0; round < 60; round++) {
		unsigned spin = (unsigned)(unit_rand(&seed) % 30000);
		pthread_t other;

		if (!begin())
			return;
		REQUIRE(pthread_create(&other, NULL, end_when_alone, &spin) == 0);
		call_until_alone((uint32_t)gettid());
		for (int i = 0; i < 5; i++)
			call((uint32_t)gettid());
		pthread_join(other, NULL);
		for (int i = 0; i < THREADS; i++) /* the follower, too, is done with what it had */
			call((uint32_t)gettid());
		wait_until_ordinary();
		end();
	}
}

/* Also those that rest come back when it ends, at any time. */
static void it_ends_at_any_time(void)
{
	uint64_t seed = unit_seed();

	for (int round = 0; round < 20; round++) {
		if (!begin())
			return;
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		for (unsigned i = 0; i < (seed >> 33) % 3000; i++)
			call((uint32_t)gettid());
		end();
	}
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "a_single_caller_is_followed", a_single_caller_is_followed },
		{ "a_caller_that_moves_is_followed", a_caller_that_moves_is_followed },
		{ "where_cpus_are_scarce_all_serve", where_cpus_are_scarce_all_serve },
		{ "callers_that_mix_are_served_by_all", callers_that_mix_are_served_by_all },
		{ "a_caller_that_is_not_to_be_seen_is_not_followed", a_caller_that_is_not_to_be_seen_is_not_followed },
		{ "who_sleeps_is_replaced", who_sleeps_is_replaced }, { "who_naps_is_replaced", who_naps_is_replaced },
		{ "who_is_busy_is_replaced", who_is_busy_is_replaced }, { "an_operator_says_where", an_operator_says_where }, { "it_ends_for_all", it_ends_for_all },
		{ "it_ends_while_the_follower_goes", it_ends_while_the_follower_goes }, { "it_ends_at_any_time", it_ends_at_any_time },
		{ NULL, NULL } };

	return unit_main(argc, argv, tests);
}
