/* fsbench OP[,OP...] DIR N SIZE THREADS [--own-dirs]: what one operation on a mounted file system costs.
 *
 * Each OP runs over the same N names f0 .. in DIR, shared by all threads, or with --own-dirs in DIR/t0 .. one directory
 * for each. A thread takes a contiguous share. The clock runs from the moment all threads start to the end of the last.
 * Nothing is dropped from caches and nothing is synced unless OP says so. One line for each: "OP N us_per_op p50 p99",
 * us_per_op = elapsed time / N (so with threads it is the inverse of throughput), p50 and p99 = latency of one call.
 *
 *   create   open(O_CREAT), write SIZE bytes, close      createsync   the same with fsync before close
 *   touch    open(O_CREAT), close                        stat         lstat
 *   read     open, read to the end, close; checks the length against SIZE and the bytes against what create wrote
 *   rename   f1 -> r1 (and the next `rename` back)       unlink       mkdir   rmdir   (names d0 ..)
 *   append   open(O_APPEND), write SIZE bytes, close     chmod        utimes      symlink, link (names s0 .., l0 ..)
 *   seqwrite, randwrite, seqread, randread    N calls of SIZE bytes on one file, `big`, of N * SIZE bytes, through one descriptor;
 *            seqwrite makes it and ends with an fsync; the order of rand is the same in every run
 *   appendsync    N appends of SIZE bytes to one file, `log`, each with its fsync
 *   list     opendir, readdir to the end, closedir; one pass a thread, divided by the entries seen
 *
 * The first error ends the program with status 1 and the name of the file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/parse.h"

struct bench {
	const char *dir;
	uint64_t n, size, threads;
	bool own_dirs, renamed;
	uint8_t *data, *check;
	uint64_t *latency; /* ns, one for each operation */
	int fd;		   /* of the one file that some operations share */
	pthread_barrier_t start;
};

struct op {
	const char *name;
	void (*run)(struct bench *b, const char *dir, uint64_t i);
	const char *file; /* the one that all calls share, and how it is opened; sync: an fsync belongs to the time */
	int flags;
	bool sync;
};

struct worker {
	struct bench *b;
	const struct op *op;
	pthread_t thread;
	uint64_t id, from, to, end;
};

static void die(const char *what, const char *path)
{
	fprintf(stderr, "fsbench: %s %s: %s\n", what, path, errno ? strerror(errno) : "wrong contents");
	_exit(1);
}

static void path_make(char out[4096], const char *dir, char kind, uint64_t i)
{
	if (snprintf(out, 4096, "%s/%c%llu", dir, kind, (unsigned long long)i) >= 4096) {
		errno = ENAMETOOLONG;
		die("path", dir);
	}
}

static void file_write(struct bench *b, const char *dir, uint64_t i, int flags, bool sync, uint64_t size)
{
	char path[4096];
	int fd;

	path_make(path, dir, 'f', i);
	fd = open(path, O_WRONLY | flags, 0644);
	if (fd < 0)
		die("open", path);
	if (size && write(fd, b->data, size) != (ssize_t)size)
		die("write", path);
	if (sync && fsync(fd) < 0)
		die("fsync", path);
	if (close(fd) < 0)
		die("close", path);
}

static void op_create(struct bench *b, const char *dir, uint64_t i)
{
	file_write(b, dir, i, O_CREAT | O_EXCL, false, b->size);
}

static void op_createsync(struct bench *b, const char *dir, uint64_t i)
{
	file_write(b, dir, i, O_CREAT | O_EXCL, true, b->size);
}

static void op_touch(struct bench *b, const char *dir, uint64_t i)
{
	file_write(b, dir, i, O_CREAT, false, 0);
}

static void op_append(struct bench *b, const char *dir, uint64_t i)
{
	file_write(b, dir, i, O_APPEND, false, b->size);
}

static void op_read(struct bench *b, const char *dir, uint64_t i)
{
	uint8_t stack[65536], *buf = b->size < sizeof(stack) ? stack : malloc(b->size + 1);
	char path[4096];
	uint64_t got = 0;
	ssize_t n;
	int fd;

	path_make(path, dir, 'f', i);
	fd = open(path, O_RDONLY);
	if (fd < 0 || !buf)
		die("open", path);
	while ((n = read(fd, buf + got, b->size + 1 - got)) > 0)
		got += (uint64_t)n;
	if (n < 0)
		die("read", path);
	errno = 0;
	if (got != b->size || memcmp(buf, b->data, got) != 0 || close(fd) < 0)
		die("read", path);
	if (buf != stack)
		free(buf);
}

static void op_stat(struct bench *b, const char *dir, uint64_t i)
{
	struct stat st;
	char path[4096];

	(void)b;
	path_make(path, dir, 'f', i);
	if (lstat(path, &st) < 0)
		die("stat", path);
}

static void op_rename(struct bench *b, const char *dir, uint64_t i)
{
	char from[4096], to[4096];

	path_make(from, dir, b->renamed ? 'r' : 'f', i);
	path_make(to, dir, b->renamed ? 'f' : 'r', i);
	if (rename(from, to) < 0)
		die("rename", from);
}

static void op_unlink(struct bench *b, const char *dir, uint64_t i)
{
	char path[4096];

	(void)b;
	path_make(path, dir, 'f', i);
	if (unlink(path) < 0)
		die("unlink", path);
}

static void op_mkdir(struct bench *b, const char *dir, uint64_t i)
{
	char path[4096];

	(void)b;
	path_make(path, dir, 'd', i);
	if (mkdir(path, 0755) < 0)
		die("mkdir", path);
}

static void op_rmdir(struct bench *b, const char *dir, uint64_t i)
{
	char path[4096];

	(void)b;
	path_make(path, dir, 'd', i);
	if (rmdir(path) < 0)
		die("rmdir", path);
}

static void op_chmod(struct bench *b, const char *dir, uint64_t i)
{
	char path[4096];

	(void)b;
	path_make(path, dir, 'f', i);
	if (chmod(path, 0600) < 0)
		die("chmod", path);
}

static void op_utimes(struct bench *b, const char *dir, uint64_t i)
{
	char path[4096];

	(void)b;
	path_make(path, dir, 'f', i);
	if (utimensat(AT_FDCWD, path, NULL, 0) < 0)
		die("utimes", path);
}

static void op_symlink(struct bench *b, const char *dir, uint64_t i)
{
	char path[4096];

	(void)b;
	path_make(path, dir, 's', i);
	if (symlink("target", path) < 0)
		die("symlink", path);
}

static void op_link(struct bench *b, const char *dir, uint64_t i)
{
	char from[4096], to[4096];

	(void)b;
	path_make(from, dir, 'f', i);
	path_make(to, dir, 'l', i);
	if (link(from, to) < 0)
		die("link", from);
}

static void op_list(struct bench *b, const char *dir, uint64_t i)
{
	uint64_t seen = 0;
	DIR *d = opendir(dir);

	(void)i;
	if (!d)
		die("opendir", dir);
	errno = 0;
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		seen++;
	if (errno || closedir(d) < 0 || seen < (b->own_dirs ? b->n / b->threads : b->n))
		die("readdir", dir);
}

static void op_big_write(struct bench *b, const char *dir, uint64_t i)
{
	if (pwrite(b->fd, b->data, b->size, (off_t)(i * b->size)) != (ssize_t)b->size)
		die("write", dir);
}

static void op_big_read(struct bench *b, const char *dir, uint64_t i)
{
	uint8_t stack[65536], *buf = b->size <= sizeof(stack) ? stack : malloc(b->size);

	if (!buf || pread(b->fd, buf, b->size, (off_t)(i * b->size)) != (ssize_t)b->size)
		die("read", dir);
	if (buf != stack)
		free(buf);
}

/* Each block once, for any N, in an order without a pattern: steps that are one to one below a power of two, repeated until
 * the result lies in the range. */
static uint64_t shuffled(const struct bench *b, uint64_t i)
{
	unsigned bits = 1;
	uint64_t x = i;

	while ((uint64_t)1 << bits < b->n)
		bits++;
	do {
		x = (x * 2654435761u + 12345) & (((uint64_t)1 << bits) - 1);
		x ^= x >> (bits / 2 + 1);
	} while (x >= b->n);
	return x;
}

static void op_rand_write(struct bench *b, const char *dir, uint64_t i)
{
	op_big_write(b, dir, shuffled(b, i));
}

static void op_rand_read(struct bench *b, const char *dir, uint64_t i)
{
	op_big_read(b, dir, shuffled(b, i));
}

static void op_append_sync(struct bench *b, const char *dir, uint64_t i)
{
	(void)i;
	if (write(b->fd, b->data, b->size) != (ssize_t)b->size || fsync(b->fd) < 0)
		die("append", dir);
}

static const struct op all_ops[] = {{"create", op_create}, {"createsync", op_createsync}, {"touch", op_touch},
	{"append", op_append}, {"read", op_read}, {"stat", op_stat}, {"rename", op_rename}, {"unlink", op_unlink},
	{"mkdir", op_mkdir}, {"rmdir", op_rmdir}, {"chmod", op_chmod}, {"utimes", op_utimes}, {"symlink", op_symlink},
	{"link", op_link}, {"list", op_list}, {"seqwrite", op_big_write, "big", O_CREAT | O_TRUNC | O_WRONLY, true},
	{"randwrite", op_rand_write, "big", O_WRONLY}, {"seqread", op_big_read, "big", O_RDONLY},
	{"randread", op_rand_read, "big", O_RDONLY}, {"appendsync", op_append_sync, "log", O_CREAT | O_WRONLY | O_APPEND}};

static const struct op *op_find(const char *name)
{
	for (size_t i = 0; i < sizeof(all_ops) / sizeof(all_ops[0]); i++)
		if (strcmp(all_ops[i].name, name) == 0)
			return &all_ops[i];
	fprintf(stderr, "fsbench: no operation \"%s\"\n", name);
	exit(2);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	char dir[4000];

	if (w->b->own_dirs)
		snprintf(dir, sizeof(dir), "%s/t%llu", w->b->dir, (unsigned long long)w->id);
	else
		snprintf(dir, sizeof(dir), "%s", w->b->dir);
	pthread_barrier_wait(&w->b->start);
	for (uint64_t i = w->from; i < w->to; i++) {
		uint64_t t = clock_mono_ns();

		w->op->run(w->b, dir, i);
		w->b->latency[i] = clock_mono_ns() - t;
	}
	w->end = clock_mono_ns();
	return NULL;
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void shared_open(struct bench *b, const struct op *op)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", b->dir, op->file);
	b->fd = open(path, op->flags, 0644);
	if (b->fd < 0)
		die("open", path);
}

static void bench_op(struct bench *b, const struct op *op)
{
	struct worker *w = calloc(b->threads, sizeof(*w));
	bool list = op->run == op_list;
	uint64_t count = list ? b->threads : b->n, start, end = 0, entries = b->own_dirs ? b->n : b->n * b->threads;

	if (op->file)
		shared_open(b, op);
	if (!w || pthread_barrier_init(&b->start, NULL, (unsigned)b->threads + 1) != 0)
		die("threads", op->name);
	for (uint64_t i = 0; i < b->threads; i++) {
		w[i] = (struct worker){.b = b, .op = op, .id = i, .from = count * i / b->threads,
			.to = count * (i + 1) / b->threads};
		errno = pthread_create(&w[i].thread, NULL, worker_run, &w[i]);
		if (errno)
			die("thread", op->name);
	}
	start = clock_mono_ns();
	pthread_barrier_wait(&b->start);
	for (uint64_t i = 0; i < b->threads; i++) {
		pthread_join(w[i].thread, NULL);
		end = w[i].end > end ? w[i].end : end;
	}
	if (op->sync) {
		if (fsync(b->fd) < 0)
			die("fsync", op->file);
		end = clock_mono_ns();
	}
	if (op->file && close(b->fd) < 0)
		die("close", op->file);
	pthread_barrier_destroy(&b->start);
	free(w);
	qsort(b->latency, count, sizeof(*b->latency), cmp_u64);
	if (op->run == op_rename)
		b->renamed = !b->renamed;
	printf("%s %llu %.2f %.2f %.2f\n", op->name, (unsigned long long)count,
		(double)(end - start) / 1e3 / (double)(list ? entries : count), (double)b->latency[count / 2] / 1e3,
		(double)b->latency[count * 99 / 100] / 1e3);
	fflush(stdout);
}

static void bench_dirs(struct bench *b)
{
	for (uint64_t i = 0; b->own_dirs && i < b->threads; i++) {
		char path[4096];

		path_make(path, b->dir, 't', i);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			die("mkdir", path);
	}
}

int main(int argc, char **argv)
{
	struct bench b = {0};

	if (argc < 6 || argc > 7 || parse_u64(argv[3], &b.n) || parse_size(argv[4], 1, &b.size) ||
		parse_u64(argv[5], &b.threads) || b.n == 0 || b.n > 100000000 || b.size > 1u << 30 || b.threads == 0 ||
		b.threads > 256 || b.n < b.threads || (argc == 7 && strcmp(argv[6], "--own-dirs") != 0)) {
		fprintf(stderr, "usage: fsbench OP[,OP...] DIR N SIZE THREADS [--own-dirs]\n");
		return 2;
	}
	b.dir = argv[2];
	b.own_dirs = argc == 7;
	b.data = malloc(b.size + 1);
	b.latency = calloc(b.n > b.threads ? b.n : b.threads, sizeof(*b.latency));
	if (!b.data || !b.latency)
		die("memory", "");
	for (uint64_t i = 0; i < b.size; i++)
		b.data[i] = (uint8_t)(i * 7 + i / 251 + 1); /* no zeros that a lost write could pass for, no long runs */
	bench_dirs(&b);
	for (char *save, *name = strtok_r(argv[1], ",", &save); name; name = strtok_r(NULL, ",", &save))
		bench_op(&b, op_find(name));
	free(b.data);
	free(b.latency);
	return 0;
}
