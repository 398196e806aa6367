/* exercise_file --ops N --seed S [--files K] DIR: reads, writes and reshapes K files of DIR and compares them with an
 * image in memory.
 *
 * Everything that is done, and in which order, follows from the seed, which is printed. Each file is looked at through a
 * window of WINDOW bytes: of the first it begins at 0, of the others so that a border between two chunks (64 MiB) lies in
 * its middle; below the window the file is a hole. What lies behind the file's end is zero in the image, so that a file that
 * grows is compared with zeros. Reads come from the page cache, from O_DIRECT, from mappings, and, after the cache was
 * dropped, from the file system itself.
 *
 * At the end all files are read once more. A difference ends the program with status 1, the operations that were done
 * last, and the first bytes that differ. Also a call that fails: there is none that may. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/posix/long/exercise_util.h"
#include "util/parse.h"

#define CHUNK (64ull << 20)
#define WINDOW (768ull << 10)
#define IO_MAX (96ull << 10)
#define PAGE 4096ull
enum { FILES_MAX = 16, HISTORY = 48, LINE = 160 };

struct subject {
	char path[4096];
	int fd, direct, append; /* direct: O_DIRECT */
	uint64_t base, size;	/* size: of the file, at least base */
	uint8_t *image;		/* WINDOW bytes from base on; zero from size on */
};

struct exercise {
	struct rng rng;
	uint64_t seed, ops, op;
	unsigned files;
	struct subject file[FILES_MAX];
	uint8_t *buf; /* IO_MAX, page aligned */
	char history[HISTORY][LINE];
	uint64_t drops; /* times that pages were given up */
};

static struct exercise ex;

/* --- telling --- */
static void note(const struct subject *f, const char *fmt, ...)
{
	char *line = ex.history[ex.op % HISTORY];
	va_list ap;
	int n = snprintf(line, LINE, "%llu file %d (size %llu): ", (unsigned long long)ex.op, (int)(f - ex.file),
		(unsigned long long)f->size);

	va_start(ap, fmt);
	vsnprintf(line + n, (size_t)(LINE - n), fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *fmt, ...)
{
	va_list ap;

	for (uint64_t i = ex.op >= HISTORY ? ex.op - HISTORY + 1 : 0; i <= ex.op; i++)
		printf("%s\n", ex.history[i % HISTORY]);
	printf("seed %llu operation %llu: ", (unsigned long long)ex.seed, (unsigned long long)ex.op);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		fail("%s: %s", what, strerror(errno));
}

/* n bytes from `off` on were read as `got`. */
static void compare(const struct subject *f, uint64_t off, const uint8_t *got, uint64_t n, const char *how)
{
	const uint8_t *want = f->image + (off - f->base);
	uint64_t i = 0, last = n;

	if (memcmp(want, got, n) == 0)
		return;
	while (want[i] == got[i])
		i++;
	while (want[last - 1] == got[last - 1])
		last--;
	fail("%s of %llu bytes at %llu: bytes %llu to %llu differ, the first is %02x instead of %02x", how,
		(unsigned long long)n, (unsigned long long)off, (unsigned long long)(off + i),
		(unsigned long long)(off + last - 1), got[i], want[i]);
}

static void check_size(const struct subject *f)
{
	struct stat st;

	must(fstat(f->fd, &st) == 0, "fstat");
	if ((uint64_t)st.st_size != f->size)
		fail("size %lld instead of %llu", (long long)st.st_size, (unsigned long long)f->size);
}

/* --- files --- */
static void subject_open(struct subject *f)
{
	f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	must(f->fd >= 0, "open");
	f->direct = open(f->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	must(f->direct >= 0, "open with O_DIRECT");
	f->append = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	must(f->append >= 0, "open with O_APPEND");
}

static void subject_close(struct subject *f)
{
	must(close(f->append) == 0, "close");
	must(close(f->direct) == 0, "close");
	must(close(f->fd) == 0, "close");
}

static void subject_init(struct subject *f, const char *dir, unsigned i)
{
	if (snprintf(f->path, sizeof(f->path), "%s/exercised%u", dir, i) >= (int)sizeof(f->path)) {
		errno = ENAMETOOLONG;
		must(false, dir);
	}
	f->base = i == 0 ? 0 : i * CHUNK - WINDOW / 2;
	f->image = calloc(1, WINDOW);
	must(f->image, "memory");
	if (unlink(f->path) < 0 && errno != ENOENT)
		must(false, "unlink");
	subject_open(f);
	f->size = f->base;
	must(ftruncate(f->fd, (off_t)f->size) == 0, "ftruncate");
}

static void image_resize(struct subject *f, uint64_t size)
{
	if (size < f->size)
		memset(f->image + (size - f->base), 0, f->size - size);
	f->size = size;
}

/* Bytes have been written at off. */
static void image_write(struct subject *f, uint64_t off, const uint8_t *data, uint64_t n)
{
	memcpy(f->image + (off - f->base), data, n);
	if (off + n > f->size)
		f->size = off + n;
}

/* A random range of the window; mostly near what is there. */
static void pick_range(struct subject *f, uint64_t *off, uint64_t *n)
{
	uint64_t used = f->size - f->base, limit = rng_below(&ex.rng, 8) ? used + IO_MAX : WINDOW;

	*off = rng_below(&ex.rng, limit < WINDOW ? limit : WINDOW);
	if (rng_below(&ex.rng, 4) == 0)
		*off &= ~(PAGE - 1);
	*n = rng_length(&ex.rng, IO_MAX);
	if (*off + *n > WINDOW)
		*n = WINDOW - *off;
	*off += f->base;
}

/* What of the range lies before the end. */
static uint64_t inside(const struct subject *f, uint64_t off, uint64_t n)
{
	return off >= f->size ? 0 : off + n > f->size ? f->size - off : n;
}

/* --- operations; each notes first what it will do --- */
static void read_through(struct subject *f, int fd, uint64_t off, uint64_t n, const char *how)
{
	uint64_t want = inside(f, off, n);
	ssize_t got = pread(fd, ex.buf, n, (off_t)off);

	must(got >= 0, how);
	if ((uint64_t)got != want)
		fail("%s of %llu bytes at %llu gave %zd instead of %llu", how, (unsigned long long)n, (unsigned long long)off,
			got, (unsigned long long)want);
	if (want)
		compare(f, off, ex.buf, want, how);
}

static void op_read(struct subject *f)
{
	uint64_t off, n;

	pick_range(f, &off, &n);
	note(f, "read %llu at %llu", (unsigned long long)n, (unsigned long long)off);
	read_through(f, f->fd, off, n, "read");
}

static void op_read_direct(struct subject *f)
{
	uint64_t off, n;

	pick_range(f, &off, &n);
	off &= ~(PAGE - 1);
	n = (n + PAGE - 1) & ~(PAGE - 1);
	if (off + n > f->base + WINDOW)
		n = f->base + WINDOW - off;
	note(f, "read directly %llu at %llu", (unsigned long long)n, (unsigned long long)off);
	read_through(f, f->direct, off, n, "direct read");
}

static void write_through(struct subject *f, int fd, uint64_t off, uint64_t n, const char *how)
{
	ssize_t got;

	rng_fill(&ex.rng, ex.buf, n);
	got = pwrite(fd, ex.buf, n, (off_t)off);
	must(got >= 0, how);
	if ((uint64_t)got != n)
		fail("%s gave %zd instead of %llu", how, got, (unsigned long long)n);
	image_write(f, off, ex.buf, n);
}

static void op_write(struct subject *f)
{
	uint64_t off, n;

	pick_range(f, &off, &n);
	note(f, "write %llu at %llu", (unsigned long long)n, (unsigned long long)off);
	write_through(f, f->fd, off, n, "write");
}

static void op_write_direct(struct subject *f)
{
	uint64_t off, n;

	pick_range(f, &off, &n);
	off &= ~(PAGE - 1);
	n = (n + PAGE - 1) & ~(PAGE - 1);
	if (off + n > f->base + WINDOW)
		n = f->base + WINDOW - off;
	note(f, "write directly %llu at %llu", (unsigned long long)n, (unsigned long long)off);
	write_through(f, f->direct, off, n, "direct write");
}

static void op_append(struct subject *f)
{
	uint64_t n = rng_length(&ex.rng, IO_MAX / 4);

	if (f->size + n > f->base + WINDOW)
		return;
	note(f, "append %llu", (unsigned long long)n);
	write_through(f, f->append, f->size, n, "append"); /* pwrite ignores the offset of such a descriptor */
}

/* The pages of [off, off + n) mapped; *map is where off is. */
static uint8_t *map_range(const struct subject *f, uint64_t off, uint64_t n, int prot, uint8_t **at)
{
	uint64_t start = off & ~(PAGE - 1);
	uint8_t *map = mmap(NULL, off + n - start, prot, MAP_SHARED, f->fd, (off_t)start);

	must(map != MAP_FAILED, "mmap");
	*at = map + (off - start);
	return map;
}

static void op_mapped(struct subject *f, bool write)
{
	uint64_t off, n, start;
	uint8_t *map, *at;

	pick_range(f, &off, &n);
	n = inside(f, off, n);
	if (n == 0)
		return;
	start = off & ~(PAGE - 1);
	bool sync = write && rng_below(&ex.rng, 3) == 0;

	note(f, "%s %llu at %llu through a mapping%s", write ? "write" : "read", (unsigned long long)n,
		(unsigned long long)off, sync ? ", msync" : "");
	map = map_range(f, off, n, PROT_READ | (write ? PROT_WRITE : 0), &at);
	if (write) {
		rng_fill(&ex.rng, ex.buf, n);
		memcpy(at, ex.buf, n);
		image_write(f, off, ex.buf, n);
	} else {
		compare(f, off, at, n, "mapped read");
	}
	if (sync)
		must(msync(map, off + n - start, MS_SYNC) == 0, "msync");
	must(munmap(map, off + n - start) == 0, "munmap");
}

static void op_mapped_read(struct subject *f)
{
	op_mapped(f, false);
}

static void op_mapped_write(struct subject *f)
{
	op_mapped(f, true);
}

static void op_truncate(struct subject *f)
{
	uint64_t off, n;

	pick_range(f, &off, &n);
	note(f, "truncate to %llu", (unsigned long long)off);
	must(ftruncate(f->fd, (off_t)off) == 0, "ftruncate");
	image_resize(f, off);
}

static void op_allocate(struct subject *f, int mode, const char *what)
{
	uint64_t off, n, in;

	pick_range(f, &off, &n);
	note(f, "%s %llu at %llu", what, (unsigned long long)n, (unsigned long long)off);
	must(fallocate(f->fd, mode, (off_t)off, (off_t)n) == 0, what);
	in = inside(f, off, n);
	if (in && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(f->image + (off - f->base), 0, in);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + n > f->size)
		f->size = off + n;
}

static void op_fallocate(struct subject *f)
{
	bool keep = rng_below(&ex.rng, 2);

	op_allocate(f, keep ? FALLOC_FL_KEEP_SIZE : 0, keep ? "allocate, keeping the size," : "allocate");
}

static void op_punch(struct subject *f)
{
	op_allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch");
}

static void op_zero(struct subject *f)
{
	bool keep = rng_below(&ex.rng, 2);

	op_allocate(f, FALLOC_FL_ZERO_RANGE | (keep ? FALLOC_FL_KEEP_SIZE : 0), keep ? "zero, keeping the size," : "zero");
}

/* From this or another file; within one file the ranges do not overlap. */
static void op_copy(struct subject *f)
{
	struct subject *from = &ex.file[rng_below(&ex.rng, ex.files)];
	uint64_t off, n, off2, n2;

	pick_range(from, &off, &n);
	pick_range(f, &off2, &n2);
	n = inside(from, off, n < n2 ? n : n2);
	if (n == 0 || (from == f && off < off2 + n && off2 < off + n))
		return;
	note(f, "copy %llu from %llu of file %d to %llu", (unsigned long long)n, (unsigned long long)off,
		(int)(from - ex.file), (unsigned long long)off2);
	for (uint64_t done = 0; done < n;) {
		off64_t a = (off64_t)(off + done), b = (off64_t)(off2 + done);
		ssize_t got = copy_file_range(from->fd, &a, f->fd, &b, n - done, 0);

		must(got >= 0, "copy_file_range");
		if (got == 0 || (uint64_t)got > n - done)
			fail("copy_file_range gave %zd of %llu", got, (unsigned long long)(n - done));
		done += (uint64_t)got;
	}
	memcpy(ex.buf, from->image + (off - from->base), n);
	image_write(f, off2, ex.buf, n);
}

static void op_reopen(struct subject *f)
{
	note(f, "close and open");
	subject_close(f);
	subject_open(f);
}

static void op_sync(struct subject *f)
{
	bool data = rng_below(&ex.rng, 2);

	note(f, data ? "fdatasync" : "fsync");
	must((data ? fdatasync(f->fd) : fsync(f->fd)) == 0, "fsync");
}

/* What is read next comes from the file system. */
static void op_drop(struct subject *f)
{
	note(f, "drop the page cache");
	/* Dirty pages of mappings would stay. */
	must(sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
		SYNC_FILE_RANGE_WAIT_AFTER) == 0, "sync_file_range");
	errno = posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
	must(errno == 0, "posix_fadvise");
	ex.drops++;
}

/* A hole must be zero; SEEK_HOLE and SEEK_DATA must not go backwards or behind the end. */
static void op_seek(struct subject *f)
{
	uint64_t off, n, end;
	off_t found;

	pick_range(f, &off, &n);
	if (off >= f->size)
		return;
	note(f, "seek for data at %llu", (unsigned long long)off);
	found = lseek(f->fd, (off_t)off, SEEK_DATA);
	must(found >= 0 || errno == ENXIO, "SEEK_DATA");
	end = found < 0 ? f->size : (uint64_t)found;
	if (end < off || end > f->size)
		fail("data at %llu", (unsigned long long)end);
	for (uint64_t i = off; i < end; i++)
		if (f->image[i - f->base])
			fail("SEEK_DATA went to %llu, past data at %llu", (unsigned long long)end, (unsigned long long)i);
	found = lseek(f->fd, (off_t)off, SEEK_HOLE);
	must(found >= 0, "SEEK_HOLE");
	if ((uint64_t)found < off || (uint64_t)found > f->size)
		fail("a hole at %llu", (unsigned long long)found);
}

/* A new file takes the place of this one by its name; what was open goes on to be readable until it is closed. */
static void op_replace(struct subject *f)
{
	char path[sizeof(f->path) + 8];
	int old = f->fd;

	note(f, "replace by a new file");
	snprintf(path, sizeof(path), "%s.new", f->path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	must(fd >= 0, "create");
	must(ftruncate(fd, (off_t)f->size) == 0, "ftruncate");
	for (uint64_t at = f->base; at < f->size; at += IO_MAX) {
		uint64_t n = inside(f, at, IO_MAX);

		must(pwrite(fd, f->image + (at - f->base), n, (off_t)at) == (ssize_t)n, "write");
	}
	must(rename(path, f->path) == 0, "rename");
	read_through(f, old, f->base, IO_MAX, "read of the replaced file");
	subject_close(f);
	subject_open(f);
	must(close(fd) == 0, "close");
}

static const struct {
	void (*run)(struct subject *f);
	unsigned weight;
} operations[] = {
	{ op_read, 14 }, { op_read_direct, 4 }, { op_mapped_read, 6 }, { op_write, 18 }, { op_write_direct, 4 },
	{ op_append, 6 }, { op_mapped_write, 10 }, { op_truncate, 8 }, { op_fallocate, 3 }, { op_punch, 6 }, { op_zero, 4 },
	{ op_copy, 7 }, { op_reopen, 2 }, { op_sync, 1 }, { op_drop, 4 }, { op_seek, 2 }, { op_replace, 1 },
};

static void step(void)
{
	struct subject *f = &ex.file[rng_below(&ex.rng, ex.files)];
	unsigned sum = 0, n = sizeof(operations) / sizeof(operations[0]), i;

	for (i = 0; i < n; i++)
		sum += operations[i].weight;
	uint64_t at = rng_below(&ex.rng, sum);

	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	note(f, "nothing");
	operations[i].run(f);
	check_size(f);
}

/* The whole window, and a piece of the hole below it. */
static void check_all(struct subject *f)
{
	op_drop(f);
	for (uint64_t off = f->base; off < f->base + WINDOW; off += IO_MAX)
		read_through(f, f->fd, off, IO_MAX, "last read");
	if (f->base) {
		must(pread(f->fd, ex.buf, IO_MAX, (off_t)(f->base - IO_MAX)) == (ssize_t)IO_MAX, "read of the hole");
		for (uint64_t i = 0; i < IO_MAX; i++)
			if (ex.buf[i])
				fail("the hole below the window is not zero");
	}
}

int main(int argc, char **argv)
{
	uint64_t files = 3;
	const char *dir = NULL;
	bool bad = false, have_ops = false, have_seed = false;

	for (int i = 1; i < argc && !bad; i++) {
		bool more = i + 1 < argc;

		if (strcmp(argv[i], "--ops") == 0 && more)
			have_ops = !(bad = parse_u64(argv[++i], &ex.ops));
		else if (strcmp(argv[i], "--seed") == 0 && more)
			have_seed = !(bad = parse_u64(argv[++i], &ex.seed));
		else if (strcmp(argv[i], "--files") == 0 && more)
			bad = parse_u64(argv[++i], &files) || files == 0 || files > FILES_MAX;
		else if (argv[i][0] != '-' && !dir)
			dir = argv[i];
		else
			bad = true;
	}
	if (bad || !have_ops || !have_seed || !dir) {
		fprintf(stderr, "usage: exercise_file --ops N --seed S [--files K] DIR\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %llu\n", (unsigned long long)ex.seed);
	ex.rng.state = ex.seed;
	ex.files = (unsigned)files;
	ex.buf = mmap(NULL, IO_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(ex.buf != MAP_FAILED, "memory");
	for (unsigned i = 0; i < ex.files; i++)
		subject_init(&ex.file[i], dir, i);
	for (ex.op = 0; ex.op < ex.ops; ex.op++) {
		step();
		if (ex.ops >= 100000 && (ex.op + 1) % (ex.ops / 10) == 0)
			printf("%llu operations\n", (unsigned long long)(ex.op + 1));
	}
	for (unsigned i = 0; i < ex.files; i++) {
		check_all(&ex.file[i]);
		subject_close(&ex.file[i]);
		free(ex.file[i].image);
	}
	printf("done %llu operations, the page cache was dropped %llu times\n", (unsigned long long)ex.ops,
		(unsigned long long)ex.drops);
	return 0;
}
