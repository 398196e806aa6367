/* What jfs bench measures: phases over a folder of its own, each by one or more threads at once. */
#ifndef JFS_DAEMON_BENCH_H
#define JFS_DAEMON_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/errmsg.h"

struct bench_config {
	const char *dir; /* an existing directory; the folder is made in it and removed at the end */
	uint64_t block_size, big_size, small_size, small_count, syncs; /* of each thread; block_size and small_size >= 1 */
	uint64_t threads;
};

enum bench_unit { BENCH_BYTES, BENCH_FILES };

struct bench_result {
	const char *name, *label; /* "write_big", "Write big file" */
	enum bench_unit unit;
	uint64_t amount;	  /* bytes or files (or fsyncs) of all threads together */
	double seconds;		  /* from the start of all threads to the end of the last */
	double each;		  /* seconds a thread needed for one file (or fsync), on average */
};

#define BENCH_PHASES 7

/* Runs the phases that have something to do and fills `out` in their order; *n is how many. `begin` (NULL: nobody) is told of each
 * before it starts. Blocks. Reading compares what comes with what was written, and asks the kernel to forget its pages first. 0;
 * -EINTR when *stop was set by a signal; else -errno with a text. Whatever happened, the folder is removed. */
int bench_run(const struct bench_config *cfg, const atomic_bool *stop, void (*begin)(const char *label),
	struct bench_result out[BENCH_PHASES], int *n, struct errmsg *e);

#endif
