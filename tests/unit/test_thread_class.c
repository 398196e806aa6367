/* Which scheduling class threads get that serve, look by look, and that real threads get it. */
#include "daemon/cpus.h"
#include "daemon/ring_watch.h"
#include "daemon/thread_class.h"
#include "daemon/worker.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define MS 1000000ull

/* --- decisions --- */
static struct class_state c;
static struct class_look l;

static void begin(void)
{
	c = (struct class_state){ 0 };
	l = (struct class_look){ .now_ns = 1000 * MS };
	CHECK(!class_decide(&c, &l));
}

/* A look later, after so many requests, each in a turn of its own that began `late_us` late. */
static bool after(unsigned requests, unsigned late_us)
{
	l.now_ns += CLASS_LOOK_MS * MS;
	l.requests += requests;
	l.turns += requests;
	l.waited_ns += requests * late_us * 1000ull;
	return class_decide(&c, &l);
}

static void become_idle(void)
{
	CHECK(after(100, 0));
}

static void a_busy_thread_becomes_idle(void)
{
	begin();
	become_idle();
	for (int i = 0; i < 10000; i++)
		CHECK(after(100, 20));
}

static void now_and_then_is_not_busy(void)
{
	begin();
	for (int i = 0; i < 1000; i++)
		CHECK(!after(CLASS_BUSY - 1, 0));
	l.now_ns += 3600000 * MS; /* while nobody looked */
	CHECK(!after(100, 0));
	CHECK(after(CLASS_BUSY, 0));
}

static void without_work_it_is_ordinary(void)
{
	begin();
	become_idle();
	for (int i = 1; i < CLASS_QUIET; i++)
		CHECK(after(0, 0));
	CHECK(!after(0, 0));
	become_idle(); /* at once: it has waited for nothing */
}

static void where_cpus_are_scarce_it_is_ordinary(void)
{
	begin();
	l.scarce = true;
	for (int i = 0; i < 100; i++)
		CHECK(!after(100, 0));
	l.scarce = false;
	become_idle();
	l.scarce = true;
	CHECK(!after(100, 0));
	l.scarce = false;
	become_idle();
}

static void what_is_scarce(void)
{
	unsigned wanted = 2 * 64, looks = 0;

	for (int i = 0; i < 1000; i++)
		CHECK(!class_scarce(&wanted, i % 8 ? 2 : 4, 2)); /* caller and thread, and now and then more */
	while (!class_scarce(&wanted, 4, 2))
		CHECK(++looks < 20);
	for (looks = 0; class_scarce(&wanted, 1, 2);)
		CHECK(++looks < 20);
	for (int i = 0; i < 100; i++)
		class_scarce(&wanted, 4000000000u, 2);
	CHECK(class_scarce(&wanted, 4000000000u, 4096));
	for (int i = 0; i < 1000; i++)
		class_scarce(&wanted, 0, 1);
	CHECK(!class_scarce(&wanted, 0, 1));
}

/* How many looks a thread that is always busy stays ordinary. */
static unsigned held(void)
{
	unsigned looks = 1;

	while (!after(100, 0))
		looks++;
	return looks;
}

static void who_waits_is_ordinary_for_a_while(void)
{
	unsigned least = CLASS_HOLD_MS / CLASS_LOOK_MS, before = least;

	begin();
	become_idle();
	CHECK(!after(3, CLASS_WAIT_MS * 1000 + 100));
	CHECK_EQ(held(), least);
	CHECK(after(3, CLASS_WAIT_MS * 1000 - 100)); /* short waits are nothing, however many */
	CHECK(after(0, 0));
	/* Again and again, soon after: longer and longer, up to a limit. */
	for (int i = 0; i < 20; i++) {
		unsigned now;

		CHECK(!after(1, 20000));
		now = held();
		CHECK(now == before * 2 || now == CLASS_HOLD_MAX_MS / CLASS_LOOK_MS);
		before = now;
	}
	CHECK_EQ(before, CLASS_HOLD_MAX_MS / CLASS_LOOK_MS);
	/* After a time that was worth it not longer, after a good one short again. */
	for (int i = 0; i < CLASS_BAD_MS / CLASS_LOOK_MS; i++)
		CHECK(after(100, 0));
	CHECK(!after(1, 20000));
	CHECK_EQ(held(), before);
	for (int i = 0; i < CLASS_GOOD_MS / CLASS_LOOK_MS; i++)
		CHECK(after(100, 0));
	CHECK(!after(1, 20000));
	CHECK_EQ(held(), least);
}

static void who_cannot_run_at_all_waits(void)
{
	begin();
	become_idle();
	l.runnable = true;
	for (int i = 1; i < CLASS_STUCK; i++)
		CHECK(after(0, 0)); /* may just have been woken, or be about to get its turn */
	CHECK(!after(0, 0));
	CHECK_EQ(held(), CLASS_HOLD_MS / CLASS_LOOK_MS);
	for (int i = 1; i < CLASS_STUCK; i++)
		CHECK(after(0, 0));
	CHECK(after(1, 0)); /* it did run */
	for (int i = 1; i < CLASS_STUCK; i++)
		CHECK(after(0, 0));
	l.runnable = false;
	CHECK(after(0, 0)); /* sleeps */
	l.runnable = true;
	for (int i = 1; i < CLASS_STUCK; i++)
		CHECK(after(0, 0));
	CHECK(!after(0, 0));
}

/* --- real threads --- */
static struct ring_watch *watch;
static atomic_int tid;
static atomic_bool works, ends;

static void *serve(void *arg)
{
	(void)arg;
	ring_watch_join(watch, 0);
	atomic_store(&tid, gettid());
	while (!atomic_load(&ends)) {
		if (atomic_load(&works))
			ring_watch_note(watch, 0);
		else
			usleep(100);
	}
	return NULL;
}

static void wait_for_class(int class)
{
	while (sched_getscheduler(atomic_load(&tid)) != class) /* the runner's time-out ends it */
		usleep(100);
}

struct class_job {
	struct worker_job job;
	atomic_int class, cpus;
};

static void class_note(struct worker_job *job)
{
	cpu_set_t set;

	atomic_store(&((struct class_job *)job)->class, sched_getscheduler(0));
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		atomic_store(&((struct class_job *)job)->cpus, CPU_COUNT(&set));
}

static struct worker_pool *pool;

static void *submit_from_another_class(void *arg)
{
	struct class_job *job = arg;
	struct cpus *cpus = cpus_allowed();
	struct sched_param none = { 0 };

	for (unsigned cpu = 0; !cpus_pin(cpus, 0, cpu); cpu++)
		;
	cpus_free(cpus);
	CHECK_EQ(sched_setscheduler(0, SCHED_IDLE, &none), 0);
	worker_submit(pool, &job->job);
	return NULL;
}

/* Another time: where programs want all CPUs it may be over before anybody sees it. */
static void wait_until_idle(unsigned times)
{
	while (ring_watch_times(watch) <= times)
		usleep(100);
}

static void start(pthread_t *thread, void *(*fn)(void *))
{
	CHECK_EQ(pthread_create(thread, NULL, fn, NULL), 0);
}

static void serving_begins(pthread_t *thread)
{
	atomic_store(&tid, 0);
	atomic_store(&works, true);
	atomic_store(&ends, false);
	watch = ring_watch_new(1, 1000000); /* so many CPUs are never scarce */
	CHECK(watch);
	start(thread, serve);
	while (!atomic_load(&tid))
		usleep(100);
	wait_until_idle(0);
}

static void serving_ends(pthread_t thread)
{
	ring_watch_stop(watch);
	CHECK_EQ(sched_getscheduler(atomic_load(&tid)), SCHED_OTHER);
	atomic_store(&ends, true);
	pthread_join(thread, NULL);
	ring_watch_free(watch);
	watch = NULL;
}

static void a_thread_follows_its_work(void)
{
	pthread_t thread;
	unsigned times;

	serving_begins(&thread);
	atomic_store(&works, false);
	wait_for_class(SCHED_OTHER);
	times = ring_watch_times(watch);
	atomic_store(&works, true);
	wait_until_idle(times); /* who looked on slept, and was woken */
	serving_ends(thread);
}

static atomic_bool hog_ends;

static void *hog_main(void *arg)
{
	while (!atomic_load(&hog_ends))
		;
	return arg;
}

/* Both may use one CPU only, so the idle one hardly ever has it. */
static void a_program_takes_the_cpu(void)
{
	cpu_set_t before, one;
	pthread_t thread, hog;
	unsigned times;

	CHECK_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &before))
			CPU_SET(cpu, &one);
	serving_begins(&thread);
	CHECK_EQ(sched_setaffinity(atomic_load(&tid), sizeof(one), &one), 0);
	start(&hog, hog_main);
	CHECK_EQ(pthread_setaffinity_np(hog, sizeof(one), &one), 0);
	wait_for_class(SCHED_OTHER);
	times = ring_watch_times(watch);
	atomic_store(&hog_ends, true);
	pthread_join(hog, NULL);
	wait_until_idle(times);
	serving_ends(thread);
}

static void workers_are_as_who_made_the_pool(void)
{
	struct class_job job = { .job.run = class_note, .class = -1 };
	cpu_set_t set;
	pthread_t thread;

	CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	pool = worker_pool_new(2, "test");
	CHECK(pool);
	CHECK_EQ(pthread_create(&thread, NULL, submit_from_another_class, &job), 0);
	pthread_join(thread, NULL);
	worker_pool_free(pool);
	CHECK_EQ(atomic_load(&job.class), SCHED_OTHER);
	CHECK_EQ(atomic_load(&job.cpus), CPU_COUNT(&set));
}

struct where_job {
	struct worker_job job;
	atomic_int tid;
};

static void where_note(struct worker_job *job)
{
	atomic_store(&((struct where_job *)job)->tid, gettid());
}

/* In a process that may choose neither classes nor CPUs, as under systemd's SystemCallFilter=~@resources. */
static int restricted(void)
{
	struct sock_filter code[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setscheduler, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };
	struct where_job job = { .job.run = where_note };
	struct worker_pool *p;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		return 2;
	p = worker_pool_new(2, "test");
	if (!p)
		return 3;
	worker_submit(p, &job.job);
	worker_pool_free(p);
	return atomic_load(&job.tid) != 0 && atomic_load(&job.tid) != gettid() ? 0 : 1;
}

static void workers_start_where_classes_are_refused(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(restricted());
	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}

static void another_class_is_left_alone(void)
{
	struct sched_param none = { 0 };

	CHECK_EQ(sched_setscheduler(0, SCHED_BATCH, &none), 0);
	CHECK(!ring_watch_new(1, 4));
	CHECK_EQ(sched_setscheduler(0, SCHED_OTHER, &none), 0);
	ring_watch_note(NULL, 0);
	ring_watch_join(NULL, 0);
	ring_watch_stop(NULL);
	ring_watch_free(NULL);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "a_busy_thread_becomes_idle", a_busy_thread_becomes_idle },
		{ "now_and_then_is_not_busy", now_and_then_is_not_busy },
		{ "without_work_it_is_ordinary", without_work_it_is_ordinary },
		{ "where_cpus_are_scarce_it_is_ordinary", where_cpus_are_scarce_it_is_ordinary },
		{ "what_is_scarce", what_is_scarce },
		{ "who_waits_is_ordinary_for_a_while", who_waits_is_ordinary_for_a_while },
		{ "who_cannot_run_at_all_waits", who_cannot_run_at_all_waits },
		{ "a_thread_follows_its_work", a_thread_follows_its_work },
		{ "a_program_takes_the_cpu", a_program_takes_the_cpu },
		{ "workers_are_as_who_made_the_pool", workers_are_as_who_made_the_pool },
		{ "workers_start_where_classes_are_refused", workers_start_where_classes_are_refused },
		{ "another_class_is_left_alone", another_class_is_left_alone }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
