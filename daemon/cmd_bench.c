/* jfs bench: how fast a mount is, for a user who wants one table. Any directory will do, so that a disk can be compared with it. */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/bench.h"
#include "daemon/commands.h"
#include "daemon/options.h"

struct bench_options {
	uint64_t block_size, big_size, small_size, small_count, syncs, threads;
	bool json;
};

static const struct opt table[] = {
	{"block-size", 0, OPT_SIZE, offsetof(struct bench_options, block_size), 1 << 20, false, "SIZE", "of a read or write of the big file (1M)"},
	{"big-file-size", 0, OPT_SIZE, offsetof(struct bench_options, big_size), 1 << 20, false, "SIZE", "of the big file of each thread (1G); 0: none"},
	{"small-file-size", 0, OPT_SIZE, offsetof(struct bench_options, small_size), 1 << 10, false, "SIZE", "of a small file (128K)"},
	{"small-file-count", 0, OPT_U64, offsetof(struct bench_options, small_count), 0, false, "N", "small files of each thread (100); 0: none"},
	{"sync-count", 0, OPT_U64, offsetof(struct bench_options, syncs), 0, false, "N", "appends with fsync of each thread (100); 0: none"},
	{"threads", 'p', OPT_U64, offsetof(struct bench_options, threads), 0, false, "N", "how many work at once (1)"},
	{"json", 0, OPT_FLAG, offsetof(struct bench_options, json), 0, false, NULL, "print JSON"},
	{0},
};

static const struct options_spec spec = {
	.usage = "jfs bench [OPTIONS] DIRECTORY",
	.summary = "Measures a mount (or any directory): a big file, small files, stat, fsync. Works in a folder that it makes\n"
		   "there and removes. What counts is when the mount answers; the backlog may go to Redis and S3 afterwards.",
	.opts = table,
	.args_min = 1,
	.args_max = 1,
};

static atomic_bool stopped;

static void on_signal(int sig)
{
	(void)sig;
	atomic_store(&stopped, true);
}

static void progress(const char *label)
{
	fprintf(stderr, "\r\033[K%s ...", label);
}

static int check(const struct bench_options *o, struct errmsg *e)
{
	if (o->threads < 1 || o->threads > 1024)
		return errmsg_set(e, -EINVAL, "--threads must be 1 to 1024");
	if (o->block_size < 1 || o->block_size > 1 << 30 || o->small_size < 1 || o->small_size > 1 << 30)
		return errmsg_set(e, -EINVAL, "--block-size and --small-file-size must be 1 byte to 1 GiB");
	if (o->big_size > (uint64_t)1 << 50 || o->small_count > 100000000 || o->syncs > 100000000)
		return errmsg_set(e, -EINVAL, "--big-file-size, --small-file-count or --sync-count is too large");
	if (!o->big_size && !o->small_count && !o->syncs)
		return errmsg_set(e, -EINVAL, "nothing is left to measure");
	return 0;
}

static double rate_of(const struct bench_result *r)
{
	double amount = (double)r->amount / (r->unit == BENCH_BYTES ? 1 << 20 : 1);

	return r->seconds > 0 ? amount / r->seconds : 0;
}

static const char *rate_unit(const struct bench_result *r)
{
	return r->unit == BENCH_BYTES ? "MiB/s" : strcmp(r->name, "append_sync") == 0 ? "syncs/s" : "files/s";
}

static void print_table(const struct bench_config *cfg, const struct bench_result *r, int n)
{
	bool colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	const char *bold = colours ? "\033[1m" : "", *value = colours ? "\033[32m" : "", *cost = colours ? "\033[36m" : "",
		   *end = colours ? "\033[0m" : "";

	printf("%s: %llu thread%s, big files of %llu MiB, %llu small files of %llu KiB each\n\n", cfg->dir, (unsigned long long)cfg->threads,
		cfg->threads > 1 ? "s" : "", (unsigned long long)(cfg->big_size >> 20), (unsigned long long)cfg->small_count,
		(unsigned long long)((cfg->small_size + 1023) >> 10));
	printf("%s%-20s  %18s  %18s%s\n", bold, "ITEM", "VALUE", "COST", end);
	for (int i = 0; i < n; i++) {
		bool big = r[i].unit == BENCH_BYTES;
		char a[64], b[64];

		snprintf(a, sizeof(a), "%.1f %s", rate_of(&r[i]), rate_unit(&r[i]));
		snprintf(b, sizeof(b), big ? "%.2f s/file" : strcmp(r[i].name, "append_sync") == 0 ? "%.3f ms/sync" : "%.3f ms/file",
			big ? r[i].each : r[i].each * 1000);
		printf("%-20s  %s%18s%s  %s%18s%s\n", r[i].label, value, a, end, cost, b, end);
	}
}

static int print_json(const struct bench_config *cfg, const struct bench_result *r, int n, struct errmsg *e)
{
	json_t *list = json_array(), *out;

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s,s:f,s:s,s:I,s:f,s:f}", "Item", r[i].name, "Value", rate_of(&r[i]), "Unit",
			rate_unit(&r[i]), "Amount", (json_int_t)r[i].amount, "Seconds", r[i].seconds, "SecondsEach", r[i].each));
	out = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "Directory", cfg->dir, "Threads", (json_int_t)cfg->threads, "BlockSize",
		(json_int_t)cfg->block_size, "BigFileSize", (json_int_t)cfg->big_size, "SmallFileSize", (json_int_t)cfg->small_size,
		"SmallFileCount", (json_int_t)cfg->small_count, "SyncCount", (json_int_t)cfg->syncs, "Results", list);
	if (!out || json_dumpf(out, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6))) {
		json_decref(out);
		return errmsg_set(e, -ENOMEM, "cannot print JSON: the directory's name is no UTF-8, or memory is short");
	}
	printf("\n");
	json_decref(out);
	return 0;
}

static int bench(const struct bench_options *o, const char *dir, struct errmsg *e)
{
	struct bench_config cfg = {.dir = dir, .block_size = o->block_size, .big_size = o->big_size, .small_size = o->small_size,
		.small_count = o->small_count, .syncs = o->syncs, .threads = o->threads};
	struct sigaction sa = {.sa_handler = on_signal};
	struct bench_result r[BENCH_PHASES];
	bool shown = isatty(STDERR_FILENO);
	int n, rc;

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	rc = bench_run(&cfg, &stopped, shown ? progress : NULL, r, &n, e);
	if (shown)
		fprintf(stderr, "\r\033[K");
	if (rc)
		return rc;
	if (o->json)
		rc = print_json(&cfg, r, n, e);
	else
		print_table(&cfg, r, n);
	if (!rc && fflush(stdout))
		rc = errmsg_set(e, -errno, "cannot write the table: %s", strerror(errno));
	return rc;
}

int cmd_bench(int argc, char **argv)
{
	struct bench_options o = {.block_size = 1 << 20, .big_size = 1 << 30, .small_size = 128 << 10, .small_count = 100, .syncs = 100,
		.threads = 1};
	struct options_result res;
	struct errmsg e = {""};
	int status = 0;

	if (options_parse(&spec, &o, &res, argc, argv, &e) || (!res.help && check(&o, &e))) {
		status = options_usage_error(&spec, &e);
	} else if (res.help) {
		options_help(&spec);
	} else if (bench(&o, res.args[0], &e)) {
		fprintf(stderr, "jfs bench: %s\n", e.text);
		status = 1;
	}
	options_free(&spec, &o, &res);
	return status;
}
