/* The whole unit test framework: checks that print where they failed, a test list, and the summary line that
 * tests/run adds up. Exit status 1 on any failure. A random test takes its seed from unit_seed(). */
#ifndef JFS_TESTS_UNIT_H
#define JFS_TESTS_UNIT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int unit_failures;

#define CHECK(cond)                                                                                                   \
	do {                                                                                                          \
		if (!(cond)) {                                                                                        \
			fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #cond);                      \
			unit_failures++;                                                                              \
		}                                                                                                     \
	} while (0)
#define CHECK_EQ(a, b)                                                                                                \
	do {                                                                                                          \
		long long a_ = (long long)(a), b_ = (long long)(b);                                                   \
		if (a_ != b_) {                                                                                       \
			fprintf(stderr, "%s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, #a, a_, #b, b_); \
			unit_failures++;                                                                              \
		}                                                                                                     \
	} while (0)
#define CHECK_STR(a, b)                                                                                               \
	do {                                                                                                          \
		const char *a_ = (a), *b_ = (b);                                                                      \
		if (strcmp(a_, b_) != 0) {                                                                            \
			fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #a, a_, b_);     \
			unit_failures++;                                                                              \
		}                                                                                                     \
	} while (0)
/* For what the rest of a test cannot do without. */
#define REQUIRE(cond)                                                                                                 \
	do {                                                                                                          \
		if (!(cond)) {                                                                                        \
			fprintf(stderr, "%s:%d: REQUIRE(%s) failed\n", __FILE__, __LINE__, #cond);                    \
			exit(1);                                                                                      \
		}                                                                                                     \
	} while (0)

struct unit_test {
	const char *name;
	void (*fn)(void);
};

/* JFS_SEED, or the clock; printed so that a failure can be replayed. */
static inline uint64_t unit_seed(void)
{
	const char *env = getenv("JFS_SEED");
	struct timespec t;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &t);
	seed = env ? strtoull(env, NULL, 0) : (uint64_t)t.tv_sec * 1000003u + (uint64_t)t.tv_nsec;
	fprintf(stderr, "  seed: JFS_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* xorshift64*: one state word, never 0 */
static inline uint64_t unit_rand(uint64_t *s)
{
	if (*s == 0)
		*s = 88172645463325252ull;
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 2685821657736338717ull;
}

static inline int unit_main(int argc, char **argv, const struct unit_test *tests)
{
	int passed = 0, failed = 0;

	for (; tests->name; tests++) {
		int before = unit_failures;

		if (argc > 1 && strcmp(argv[1], tests->name) != 0)
			continue;
		tests->fn();
		if (unit_failures == before) {
			passed++;
		} else {
			failed++;
			fprintf(stderr, "FAIL %s %s\n", argv[0], tests->name);
		}
	}
	printf("unit %s: %d passed, %d failed, 0 skipped\n", strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0],
		passed, failed);
	return failed ? 1 : 0;
}

#endif
