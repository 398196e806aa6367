/* The phases of jfs bench (bench.h).
 *
 * Files are big.T, small.T.N and log.T of thread T, in a folder from mkdtemp. The first error of any thread ends all of them: it is
 * kept under `lock`, and the others look at `failed` before each file or block. */
#include "daemon/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"

struct bench {
	const struct bench_config *cfg;
	const atomic_bool *stop;
	char folder[4096];
	uint8_t *data; /* the larger of a block and a small file; of no pattern that compression would find */
	pthread_barrier_t start;
	pthread_mutex_t lock;
	int err; /* the first; under lock */
	struct errmsg *e;
	atomic_bool failed;
};

struct phase {
	const char *name, *label;
	enum bench_unit unit;
	int (*run)(struct bench *b, uint64_t thread, uint8_t *buf);
};

struct thread {
	struct bench *b;
	const struct phase *phase;
	pthread_t tid;
	uint64_t id, begin, end;
	bool started;
};

static int fail(struct bench *b, const char *what, const char *path, int err)
{
	pthread_mutex_lock(&b->lock);
	if (!b->err)
		b->err = errmsg_set(b->e, err, "cannot %s %s: %s", what, path, err == -EBADMSG ? "other bytes than were written" : strerror(-err));
	pthread_mutex_unlock(&b->lock);
	atomic_store(&b->failed, true);
	return err;
}

static bool over(const struct bench *b)
{
	return atomic_load(b->stop) || atomic_load(&b->failed);
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

/* Reads n bytes and compares them with those of `want`. */
static int read_all(int fd, uint8_t *buf, const uint8_t *want, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t done = read(fd, buf + got, n - got);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done == 0)
			return -EBADMSG;
		got += (size_t)done;
	}
	return memcmp(buf, want, n) == 0 ? 0 : -EBADMSG;
}

static void path_of(const struct bench *b, char path[4200], const char *kind, uint64_t thread, int64_t n)
{
	if (n < 0)
		snprintf(path, 4200, "%s/%s.%llu", b->folder, kind, (unsigned long long)thread);
	else
		snprintf(path, 4200, "%s/%s.%llu.%lld", b->folder, kind, (unsigned long long)thread, (long long)n);
}

/* Writes or reads `size` bytes in pieces of at most `piece`. */
static int file_write(struct bench *b, const char *path, uint64_t size, uint64_t piece)
{
	int err = 0, fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return fail(b, "create", path, -errno);
	for (uint64_t done = 0; !err && done < size && !over(b); done += piece)
		err = write_all(fd, b->data, size - done < piece ? size - done : piece);
	if (close(fd) && !err)
		err = -errno;
	return err ? fail(b, "write", path, err) : 0;
}

static int file_read(struct bench *b, const char *path, uint64_t size, uint64_t piece, uint8_t *buf)
{
	int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(b, "open", path, -errno);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* a wish; where it is not granted memory is measured */
	for (uint64_t done = 0; !err && done < size && !over(b); done += piece)
		err = read_all(fd, buf, b->data, size - done < piece ? size - done : piece);
	close(fd);
	return err ? fail(b, "read", path, err) : 0;
}

static int write_big(struct bench *b, uint64_t thread, uint8_t *buf)
{
	char path[4200];

	(void)buf;
	path_of(b, path, "big", thread, -1);
	return file_write(b, path, b->cfg->big_size, b->cfg->block_size);
}

static int read_big(struct bench *b, uint64_t thread, uint8_t *buf)
{
	char path[4200];

	path_of(b, path, "big", thread, -1);
	return file_read(b, path, b->cfg->big_size, b->cfg->block_size, buf);
}

/* Calls fn for each small file of the thread. */
static int each_small(struct bench *b, uint64_t thread, uint8_t *buf, int (*fn)(struct bench *b, const char *path, uint8_t *buf))
{
	char path[4200];
	int err = 0;

	for (uint64_t i = 0; !err && i < b->cfg->small_count && !over(b); i++) {
		path_of(b, path, "small", thread, (int64_t)i);
		err = fn(b, path, buf);
	}
	return err;
}

static int write_one(struct bench *b, const char *path, uint8_t *buf)
{
	(void)buf;
	return file_write(b, path, b->cfg->small_size, b->cfg->small_size);
}

static int read_one(struct bench *b, const char *path, uint8_t *buf)
{
	return file_read(b, path, b->cfg->small_size, b->cfg->small_size, buf);
}

static int stat_one(struct bench *b, const char *path, uint8_t *buf)
{
	struct stat st;

	(void)buf;
	if (stat(path, &st))
		return fail(b, "stat", path, -errno);
	return (uint64_t)st.st_size == b->cfg->small_size ? 0 : fail(b, "stat", path, -EBADMSG);
}

static int delete_one(struct bench *b, const char *path, uint8_t *buf)
{
	(void)buf;
	return unlink(path) ? fail(b, "delete", path, -errno) : 0;
}

static int write_small(struct bench *b, uint64_t thread, uint8_t *buf)
{
	return each_small(b, thread, buf, write_one);
}

static int read_small(struct bench *b, uint64_t thread, uint8_t *buf)
{
	return each_small(b, thread, buf, read_one);
}

static int stat_small(struct bench *b, uint64_t thread, uint8_t *buf)
{
	return each_small(b, thread, buf, stat_one);
}

static int delete_small(struct bench *b, uint64_t thread, uint8_t *buf)
{
	return each_small(b, thread, buf, delete_one);
}

static int append_sync(struct bench *b, uint64_t thread, uint8_t *buf)
{
	static const uint8_t bytes[4096] = "jfs bench";
	char path[4200];
	int err = 0, fd;

	(void)buf;
	path_of(b, path, "log", thread, -1);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return fail(b, "create", path, -errno);
	for (uint64_t i = 0; !err && i < b->cfg->syncs && !over(b); i++) {
		err = write_all(fd, bytes, sizeof(bytes));
		if (!err && fsync(fd))
			err = -errno;
	}
	close(fd);
	return err ? fail(b, "write and fsync", path, err) : 0;
}

static const struct phase phases[BENCH_PHASES] = {
	{"write_big", "Write big file", BENCH_BYTES, write_big},
	{"read_big", "Read big file", BENCH_BYTES, read_big},
	{"write_small", "Write small file", BENCH_FILES, write_small},
	{"read_small", "Read small file", BENCH_FILES, read_small},
	{"stat_small", "Stat file", BENCH_FILES, stat_small},
	{"delete_small", "Delete small file", BENCH_FILES, delete_small},
	{"append_sync", "Append 4 KiB, fsync", BENCH_FILES, append_sync},
};

/* Files, or fsyncs, of one thread. */
static uint64_t count_of(const struct bench_config *cfg, const struct phase *p)
{
	if (p->unit == BENCH_BYTES)
		return cfg->big_size ? 1 : 0;
	return p->run == append_sync ? cfg->syncs : cfg->small_count;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct bench *b = t->b;
	uint64_t size = b->cfg->block_size > b->cfg->small_size ? b->cfg->block_size : b->cfg->small_size;
	uint8_t *buf = malloc(size);

	pthread_barrier_wait(&b->start);
	t->begin = clock_mono_ns();
	if (!buf)
		fail(b, "measure in", b->folder, -ENOMEM);
	else
		t->phase->run(b, t->id, buf);
	t->end = clock_mono_ns();
	free(buf);
	return NULL;
}

static int phase_run(struct bench *b, const struct phase *p, struct bench_result *out)
{
	uint64_t n = b->cfg->threads, begin = UINT64_MAX, end = 0, sum = 0, count = count_of(b->cfg, p);
	struct thread *t = calloc(n, sizeof(*t));
	int err = t ? 0 : -ENOMEM;

	if (err || (err = -pthread_barrier_init(&b->start, NULL, (unsigned)n)) != 0) {
		free(t);
		return errmsg_set(b->e, err, "cannot start threads: %s", strerror(-err));
	}
	for (uint64_t i = 0; i < n; i++) {
		t[i] = (struct thread){.b = b, .phase = p, .id = i};
		err = -pthread_create(&t[i].tid, NULL, thread_main, &t[i]);
		if (err) { /* the others would wait at the barrier for ever */
			fprintf(stderr, "jfs bench: cannot start a thread: %s\n", strerror(-err));
			_exit(1);
		}
	}
	for (uint64_t i = 0; i < n; i++) {
		pthread_join(t[i].tid, NULL);
		begin = t[i].begin < begin ? t[i].begin : begin;
		end = t[i].end > end ? t[i].end : end;
		sum += t[i].end - t[i].begin;
	}
	free(t);
	pthread_barrier_destroy(&b->start);
	if (b->err)
		return b->err;
	*out = (struct bench_result){.name = p->name, .label = p->label, .unit = p->unit,
		.amount = p->unit == BENCH_BYTES ? b->cfg->big_size * n : count * n, .seconds = (double)(end - begin) / 1e9,
		.each = (double)sum / 1e9 / (double)(count * n)};
	return atomic_load(b->stop) ? -EINTR : 0;
}

/* Everything that any phase may have left, also when it ended early. */
static void folder_remove(struct bench *b)
{
	char path[4200];
	bool left = false;

	for (uint64_t thread = 0; thread < b->cfg->threads; thread++) {
		path_of(b, path, "big", thread, -1);
		left |= unlink(path) && errno != ENOENT;
		path_of(b, path, "log", thread, -1);
		left |= unlink(path) && errno != ENOENT;
		for (uint64_t i = 0; i < b->cfg->small_count; i++) {
			path_of(b, path, "small", thread, (int64_t)i);
			left |= unlink(path) && errno != ENOENT;
		}
	}
	if (rmdir(b->folder) || left)
		fprintf(stderr, "jfs bench: %s is left: %s\n", b->folder, strerror(errno));
}

static int data_make(struct bench *b)
{
	uint64_t n = b->cfg->block_size > b->cfg->small_size ? b->cfg->block_size : b->cfg->small_size, x = 88172645463325252u;

	b->data = malloc(n);
	if (!b->data)
		return errmsg_set(b->e, -ENOMEM, "out of memory");
	for (uint64_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		b->data[i] = (uint8_t)(x >> 32);
	}
	return 0;
}

int bench_run(const struct bench_config *cfg, const atomic_bool *stop, void (*begin)(const char *label),
	struct bench_result out[BENCH_PHASES], int *n, struct errmsg *e)
{
	struct bench b = {.cfg = cfg, .stop = stop, .e = e};
	int err = data_make(&b);

	*n = 0;
	if (err)
		return err;
	pthread_mutex_init(&b.lock, NULL);
	if (snprintf(b.folder, sizeof(b.folder), "%s/jfs-bench-XXXXXX", cfg->dir) >= (int)sizeof(b.folder))
		err = errmsg_set(e, -ENAMETOOLONG, "%s: the name is too long", cfg->dir);
	else if (!mkdtemp(b.folder))
		err = errmsg_set(e, -errno, "cannot make a folder in %s: %s", cfg->dir, strerror(errno));
	else {
		for (int i = 0; !err && i < BENCH_PHASES; i++) {
			if (count_of(cfg, &phases[i]) == 0)
				continue;
			if (begin)
				begin(phases[i].label);
			err = phase_run(&b, &phases[i], &out[*n]);
			*n += !err;
		}
		folder_remove(&b);
	}
	if (err == -EINTR)
		errmsg_set(e, err, "interrupted");
	pthread_mutex_destroy(&b.lock);
	free(b.data);
	return err;
}
