/* One of several threads follows a single caller: in the place of the device a pipe, whose readers the kernel wakes in turn as well. */
#include "daemon/follow.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "daemon/cpus.h"
#include "tests/unit/unit.h"

enum { THREADS = 4, ENOUGH = 1000000 };

struct request {
	uint32_t caller;
	bool stop, block;
	sem_t *answer;
};

static struct follow *f;
static struct cpus *cpus;
static int device[2];
static pthread_t servers[THREADS];
static atomic_int tids[THREADS];
static atomic_uint served[THREADS];
static sem_t blocked, go_on;

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
		if (r->block) {
			sem_post(&blocked);
			while (sem_wait(&go_on))
				;
		}
		sem_post(r->answer);
	}
	follow_end(f);
	return NULL;
}

static bool begin(void)
{
	REQUIRE(pipe(device) == 0);
	cpus = cpus_allowed();
	REQUIRE(cpus);
	f = follow_new(THREADS, cpus, ENOUGH);
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
	return true;
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

static bool ordinary(unsigned i)
{
	cpu_set_t set;

	REQUIRE(sched_getaffinity(atomic_load(&tids[i]), sizeof(set), &set) == 0);
	return sched_getscheduler(atomic_load(&tids[i])) == SCHED_OTHER && (unsigned)CPU_COUNT(&set) == cpus_count(cpus);
}

static void wait_until_ordinary(void)
{
	for (unsigned i = 0; i < THREADS; i++)
		while (!ordinary(i)) /* the runner's time-out ends it */
			usleep(100);
}

/* Calls until the follower is alone, and has served some. */
static void call_until_alone(uint32_t caller)
{
	unsigned times = follow_times(f);

	while (follow_times(f) == times)
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
	wait_until_ordinary(); /* without work */
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
	wait_until_ordinary(); /* at once, not for want of work only */
	CHECK(times <= 1);
	end();
}

static void *call_some(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++)
		call((uint32_t)gettid());
	return NULL;
}

/* The others take over from a follower that sleeps within a request. */
static void who_is_stuck_is_replaced(void)
{
	sem_t answer;
	struct request r = { .block = true, .answer = &answer };
	unsigned before;
	pthread_t other;

	if (!begin())
		return;
	sem_init(&answer, 0, 0);
	sem_init(&blocked, 0, 0);
	sem_init(&go_on, 0, 0);
	r.caller = (uint32_t)gettid();
	call_until_alone(r.caller);
	do { /* until the follower has it: another one may not rest yet, or not any more */
		call(r.caller);
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
	REQUIRE(pthread_create(&other, NULL, call_some, NULL) == 0);
	pthread_join(other, NULL);
	sem_post(&go_on);
	while (sem_wait(&answer))
		;
	wait_until_ordinary();
	end();
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
		{ "callers_that_mix_are_served_by_all", callers_that_mix_are_served_by_all },
		{ "a_caller_that_is_not_to_be_seen_is_not_followed", a_caller_that_is_not_to_be_seen_is_not_followed },
		{ "who_is_stuck_is_replaced", who_is_stuck_is_replaced }, { "it_ends_at_any_time", it_ends_at_any_time },
		{ NULL, NULL } };

	return unit_main(argc, argv, tests);
}
