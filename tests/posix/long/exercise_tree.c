/* exercise_tree --ops N --seed S [--procs P | --only K] [--trace DIR] [--progress FILE] [--page-writes] DIR: P processes make,
 * change, move and remove files, directories, links and special files in DIR, N operations in all.
 *
 * Process K works in DIR/pK and on names of its own (K-x) in DIR/common, so that what it does, and what each call answers,
 * follows from the seed and K alone, however the processes are scheduled. Two runs, on whatever file system, must leave the
 * same tree and give the same answers. --trace writes those of process K to DIR/K, one line for each operation: number, what
 * was done, the error or 0, and a digest of what was read. --only K runs one of the processes. --progress FILE, of 8 bytes
 * for each process, counts the operations that process has finished, visible to others as soon as the call has returned.
 *
 * Each operation changes the file system with one system call at most: whoever is killed has done its first n operations or
 * its first n + 1; with --page-writes, since others may be cut short at the end of a page. A process holds up to HELD files open, removed or not, and goes on to use them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/posix/long/exercise_util.h"
#include "util/parse.h"

enum { PROCS_MAX = 64, HELD = 3, NAMES = 10, DIRS = 4, PATH = 64, IO_MAX = 64 << 10, FILE_MAX = 256 << 10, PAGE = 4096, NAMES_MAX = 4096 };

struct worker {
	struct rng rng;
	unsigned id;
	int held[HELD]; /* descriptors or -1 */
	uint64_t digest; /* of what the current operation read */
	char text[256];	 /* what it does */
	uint8_t buf[IO_MAX];
};

static struct {
	uint64_t ops, seed, procs, only;
	bool have_only, page_writes;
	const char *dir, *trace, *progress;
	volatile uint64_t *done; /* PROCS_MAX; shared */
} run = { .procs = 4 };

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "exercise_tree: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* --- choosing --- */
static uint64_t pick(struct worker *w, uint64_t n)
{
	return rng_below(&w->rng, n);
}

static void say(struct worker *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text, sizeof(w->text), fmt, ap);
	va_end(ap);
}

/* Names of directories are mostly of the first, of others mostly of the rest: but now and then one is where the other was
 * expected. A few hundred paths, most of which are there sooner or later. */
enum kind { DIRECTORY, OTHER };

static char pick_name(struct worker *w, enum kind kind)
{
	if (pick(w, 12) == 0)
		kind = pick(w, 2) ? DIRECTORY : OTHER;
	return (char)(kind == DIRECTORY ? 'a' + pick(w, DIRS) : 'a' + DIRS + pick(w, NAMES - DIRS));
}

static const char *pick_path(struct worker *w, enum kind kind, char out[PATH])
{
	if (pick(w, 12) == 0) {
		snprintf(out, PATH, "common/%u-%c", w->id, pick_name(w, kind));
		return out;
	}
	int n = snprintf(out, PATH, "p%u", w->id);

	for (uint64_t depth = pick(w, 3); depth; depth--)
		n += snprintf(out + n, (size_t)(PATH - n), "/%c", pick_name(w, DIRECTORY));
	snprintf(out + n, (size_t)(PATH - n), "/%c", pick_name(w, kind));
	return out;
}

static enum kind pick_kind(struct worker *w)
{
	return pick(w, 3) ? OTHER : DIRECTORY;
}

/* A path that exists, if a few tries find one. */
static const char *pick_there(struct worker *w, enum kind kind, char out[PATH])
{
	struct stat st;

	for (int i = 0; i < 6; i++)
		if (lstat(pick_path(w, kind, out), &st) == 0)
			break;
	return out;
}

static const char *pick_attr(struct worker *w)
{
	static const char *const names[] = { "user.one", "user.two", "trusted.three" };

	return names[pick(w, 3)];
}

/* --- operations: 0 or the error of the call that counts --- */
static int err(long rc)
{
	return rc < 0 ? errno : 0;
}

static int op_create(struct worker *w)
{
	char a[PATH];
	mode_t mode = 0600 | (mode_t)pick(w, 0200);
	int fd;

	say(w, "create %s %04o", pick_path(w, OTHER, a), mode);
	fd = open(a, O_CREAT | O_EXCL | O_WRONLY, mode);
	if (fd < 0)
		return errno;
	return err(close(fd));
}

static int op_mkdir(struct worker *w)
{
	char a[PATH];
	mode_t mode = 0700 | (mode_t)pick(w, 0100);

	say(w, "mkdir %s %04o", pick_path(w, DIRECTORY, a), mode);
	return err(mkdir(a, mode));
}

static int op_mknod(struct worker *w)
{
	char a[PATH];
	bool fifo = pick(w, 2);

	say(w, "mknod %s %d", pick_path(w, OTHER, a), fifo);
	return err(mknod(a, (fifo ? S_IFIFO : S_IFCHR) | 0640, makedev(1, 3)));
}

/* Targets lie below the link: nobody leaves the names that are its own. */
static int op_symlink(struct worker *w)
{
	char a[PATH], target[8] = { pick_name(w, DIRECTORY) };

	if (pick(w, 2))
		snprintf(target + 1, sizeof(target) - 1, "/%c", pick_name(w, OTHER));
	pick_path(w, OTHER, a);
	if (strncmp(a, "common/", 7) == 0)
		snprintf(target, sizeof(target), "none");
	say(w, "symlink %s %s", target, a);
	return err(symlink(target, a));
}

static int op_link(struct worker *w)
{
	char a[PATH], b[PATH];

	pick_there(w, OTHER, a);
	say(w, "link %s %s", a, pick_path(w, OTHER, b));
	return err(link(a, b));
}

static int op_unlink(struct worker *w)
{
	char a[PATH];

	say(w, "unlink %s", pick_there(w, OTHER, a));
	return err(unlink(a));
}

static int op_rmdir(struct worker *w)
{
	char a[PATH];

	say(w, "rmdir %s", pick_there(w, DIRECTORY, a));
	return err(rmdir(a));
}

static int op_rename(struct worker *w)
{
	char a[PATH], b[PATH];
	unsigned flags = pick(w, 3) ? 0 : pick(w, 2) ? RENAME_NOREPLACE : RENAME_EXCHANGE;

	enum kind kind = pick_kind(w);

	pick_there(w, kind, a);
	say(w, "rename %s %s %u", a, flags == RENAME_EXCHANGE ? pick_there(w, kind, b) : pick_path(w, kind, b), flags);
	return err(renameat2(AT_FDCWD, a, AT_FDCWD, b, flags));
}

/* An open file: a new descriptor of a name, or one that is held. O_NONBLOCK: nobody waits at a FIFO. */
static int file_get(struct worker *w, int flags, const char *what, bool *owned)
{
	unsigned slot = (unsigned)pick(w, HELD);
	char a[PATH];

	*owned = pick(w, 5) > 0;
	if (*owned) {
		pick_there(w, OTHER, a);
		say(w, "%s %s", what, a);
		return open(a, flags | O_NONBLOCK);
	}
	say(w, "%s held %u", what, slot);
	errno = EBADF;
	return w->held[slot];
}

static int file_put(int fd, bool owned, int result)
{
	if (owned && close(fd) < 0 && !result)
		return errno;
	return result;
}

/* How much of n bytes at `off` is written at once. */
static uint64_t write_length(uint64_t off, uint64_t n)
{
	uint64_t rest = PAGE - off % PAGE;

	return run.page_writes && n > rest ? rest : n;
}

static int op_write(struct worker *w)
{
	bool owned;
	int fd = file_get(w, O_RDWR, "write", &owned);
	uint64_t off = pick(w, FILE_MAX), n = write_length(off, rng_length(&w->rng, IO_MAX));

	snprintf(w->text + strlen(w->text), sizeof(w->text) - strlen(w->text), " %llu at %llu", (unsigned long long)n,
		(unsigned long long)off);
	rng_fill(&w->rng, w->buf, n);
	if (fd < 0)
		return errno;
	ssize_t got = pwrite(fd, w->buf, n, (off_t)off);

	w->digest = digest_add(w->digest, &got, sizeof(got));
	return file_put(fd, owned, err(got));
}

static int op_append(struct worker *w)
{
	uint64_t n = rng_length(&w->rng, IO_MAX / 8);
	char a[PATH];
	struct stat st;

	rng_fill(&w->rng, w->buf, n);
	say(w, "append %s %llu", pick_there(w, OTHER, a), (unsigned long long)n);
	int fd = open(a, O_WRONLY | O_APPEND | O_NONBLOCK);

	if (fd < 0)
		return errno;
	if (fstat(fd, &st) < 0)
		return file_put(fd, true, errno);
	if (st.st_size > FILE_MAX)
		return file_put(fd, true, EFBIG);
	return file_put(fd, true, err(write(fd, w->buf, write_length((uint64_t)st.st_size, n))));
}

static int op_truncate(struct worker *w)
{
	char a[PATH];
	uint64_t size = pick(w, 3) ? rng_length(&w->rng, FILE_MAX) - 1 : 0;

	say(w, "truncate %s %llu", pick_there(w, OTHER, a), (unsigned long long)size);
	return err(truncate(a, (off_t)size));
}

static int op_open_truncating(struct worker *w)
{
	char a[PATH];

	say(w, "open truncating %s", pick_there(w, OTHER, a));
	int fd = open(a, O_WRONLY | O_TRUNC | O_NONBLOCK);

	return fd < 0 ? errno : file_put(fd, true, 0);
}

static int op_fallocate(struct worker *w)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	bool owned;
	int fd = file_get(w, O_RDWR, "fallocate", &owned), mode = modes[pick(w, 5)];
	uint64_t off = pick(w, FILE_MAX), n = rng_length(&w->rng, IO_MAX);

	snprintf(w->text + strlen(w->text), sizeof(w->text) - strlen(w->text), " %d at %llu %llu", mode,
		(unsigned long long)off, (unsigned long long)n);

	if (fd < 0)
		return errno;
	return file_put(fd, owned, err(fallocate(fd, mode, (off_t)off, (off_t)n)));
}

static int op_copy(struct worker *w)
{
	bool owned, owned2;
	off64_t off = (off64_t)pick(w, FILE_MAX / 2), off2 = (off64_t)pick(w, FILE_MAX);
	size_t n = rng_length(&w->rng, IO_MAX);
	int to = file_get(w, O_RDWR, "copy to", &owned2);

	if (to < 0)
		return errno;
	int from = file_get(w, O_RDONLY, "copy from", &owned);

	if (from < 0)
		return file_put(to, owned2, errno);
	ssize_t got = copy_file_range(from, &off, to, &off2, n, 0);
	int result = err(got);

	w->digest = digest_add(w->digest, &got, sizeof(got));
	return file_put(from, owned, file_put(to, owned2, result));
}

static int op_chmod(struct worker *w)
{
	char a[PATH];
	mode_t mode = (mode_t)pick(w, 010000);

	say(w, "chmod %s %04o", pick_there(w, pick_kind(w), a), mode);
	return err(chmod(a, mode));
}

static int op_chown(struct worker *w)
{
	char a[PATH];
	uid_t uid = (uid_t)pick(w, 4) - 1;
	gid_t gid = (gid_t)pick(w, 4) - 1;

	say(w, "chown %s %d %d", pick_there(w, pick_kind(w), a), (int)uid, (int)gid);
	return err(lchown(a, uid, gid));
}

static int op_utimes(struct worker *w)
{
	char a[PATH];
	struct timespec ts[2] = { { (time_t)pick(w, 1u << 30), (long)pick(w, 1000000000) },
		{ (time_t)pick(w, 1u << 30), (long)pick(w, 1000000000) } };
	struct stat st;

	say(w, "utimes %s", pick_there(w, pick_kind(w), a));
	if (utimensat(AT_FDCWD, a, ts, AT_SYMLINK_NOFOLLOW) < 0)
		return errno;
	if (lstat(a, &st) < 0)
		return errno;
	return st.st_mtim.tv_sec == ts[1].tv_sec && st.st_mtim.tv_nsec == ts[1].tv_nsec ? 0 : EPROTO;
}

static int op_setxattr(struct worker *w)
{
	char a[PATH];
	const char *name = pick_attr(w);
	uint64_t n = pick(w, 100);
	int flags = (int)pick(w, 3);

	rng_fill(&w->rng, w->buf, n);
	say(w, "setxattr %s %s %d", pick_there(w, pick_kind(w), a), name, flags);
	return err(lsetxattr(a, name, w->buf, n, flags));
}

static int op_removexattr(struct worker *w)
{
	char a[PATH];
	const char *name = pick_attr(w);

	say(w, "removexattr %s %s", pick_there(w, pick_kind(w), a), name);
	return err(lremovexattr(a, name));
}

static int op_getxattr(struct worker *w)
{
	char a[PATH];
	const char *name = pick_attr(w);

	say(w, "getxattr %s %s", pick_there(w, pick_kind(w), a), name);
	ssize_t n = lgetxattr(a, name, w->buf, sizeof(w->buf));

	if (n > 0)
		w->digest = digest_add(w->digest, w->buf, (size_t)n);
	return err(n);
}

static int op_read(struct worker *w)
{
	bool owned;
	int fd = file_get(w, O_RDONLY, "read", &owned);
	struct stat st;
	ssize_t n = 0;

	if (fd < 0)
		return errno;
	if (pick(w, 2))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* of a FIFO it fails */
	if (fstat(fd, &st) < 0)
		return file_put(fd, owned, errno);
	for (off_t off = 0; S_ISREG(st.st_mode); off += n) {
		n = pread(fd, w->buf, sizeof(w->buf), off);
		if (n <= 0)
			break;
		w->digest = digest_add(w->digest, w->buf, (size_t)n);
	}
	return file_put(fd, owned, err(n));
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int op_readdir(struct worker *w)
{
	char a[PATH], *names[NAMES_MAX];
	size_t n = 0;
	struct dirent *e;

	say(w, "readdir %s", pick_there(w, DIRECTORY, a));
	DIR *d = opendir(a);

	if (!d)
		return errno;
	while ((e = readdir(d)) && n < NAMES_MAX)
		if (asprintf(&names[n++], "%s %d", e->d_name, e->d_type) < 0)
			die("memory");
	qsort(names, n, sizeof(names[0]), compare_names);
	for (size_t i = 0; i < n; i++) {
		w->digest = digest_add(w->digest, names[i], strlen(names[i]) + 1);
		free(names[i]);
	}
	return err(closedir(d));
}

static int op_stat(struct worker *w)
{
	char a[PATH];
	struct stat st;

	say(w, "stat %s", pick_there(w, pick_kind(w), a));
	if (lstat(a, &st) < 0)
		return errno;
	uint64_t seen[] = { st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev,
		S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size };

	w->digest = digest_add(w->digest, seen, sizeof(seen));
	snprintf(w->text + strlen(w->text), sizeof(w->text) - strlen(w->text), ": mode %06o links %u owner %u:%u size %llu",
		st.st_mode, (unsigned)st.st_nlink, st.st_uid, st.st_gid, (unsigned long long)seen[5]);
	ssize_t n = S_ISLNK(st.st_mode) ? readlink(a, (char *)w->buf, sizeof(w->buf)) : 0;

	if (n > 0)
		w->digest = digest_add(w->digest, w->buf, (size_t)n);
	return err(n);
}

/* The slot is given up first; then perhaps another file takes it. */
static int op_hold(struct worker *w)
{
	unsigned slot = (unsigned)pick(w, HELD);
	bool take = pick(w, 4);
	char a[PATH];

	say(w, "hold %s in %u %d", pick_there(w, OTHER, a), slot, take);
	if (w->held[slot] >= 0 && close(w->held[slot]) < 0)
		die("close");
	w->held[slot] = -1;
	if (take)
		w->held[slot] = open(a, O_RDWR | O_NONBLOCK);
	return take && w->held[slot] < 0 ? errno : 0;
}

static int op_fsync(struct worker *w)
{
	bool owned;
	int fd = file_get(w, O_RDONLY, "fsync", &owned);

	return fd < 0 ? errno : file_put(fd, owned, err(fsync(fd)));
}

static const struct {
	int (*run)(struct worker *w);
	unsigned weight;
} operations[] = {
	{ op_create, 16 }, { op_mkdir, 8 }, { op_mknod, 2 }, { op_symlink, 4 }, { op_link, 5 }, { op_unlink, 8 },
	{ op_rmdir, 4 }, { op_rename, 10 }, { op_write, 16 }, { op_append, 5 }, { op_truncate, 6 }, { op_open_truncating, 2 },
	{ op_fallocate, 6 }, { op_copy, 6 }, { op_chmod, 3 }, { op_chown, 3 }, { op_utimes, 3 }, { op_setxattr, 5 },
	{ op_removexattr, 2 }, { op_getxattr, 2 }, { op_read, 10 }, { op_readdir, 4 }, { op_stat, 8 }, { op_hold, 4 },
	{ op_fsync, 1 },
};

/* --- processes --- */
static uint64_t share(unsigned id)
{
	return run.ops / run.procs + (id < run.ops % run.procs);
}

static void step(struct worker *w)
{
	unsigned sum = 0, n = sizeof(operations) / sizeof(operations[0]), i;

	for (i = 0; i < n; i++)
		sum += operations[i].weight;
	uint64_t at = pick(w, sum);

	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	w->digest = DIGEST_START;
	int result = operations[i].run(w);

	w->digest = digest_add(w->digest, &result, sizeof(result));
	if (result)
		snprintf(w->text + strlen(w->text), sizeof(w->text) - strlen(w->text), " = %s", strerrorname_np(result));
}

static FILE *trace_open(unsigned id)
{
	char path[4096];

	if (!run.trace)
		return NULL;
	snprintf(path, sizeof(path), "%s/%u", run.trace, id);
	FILE *f = fopen(path, "we");

	if (!f)
		die(path);
	return f;
}

static void work(unsigned id)
{
	struct worker *w = calloc(1, sizeof(*w));
	FILE *trace = trace_open(id);
	uint64_t all = DIGEST_START;
	char own[PATH];

	if (!w)
		die("memory");
	w->id = id;
	w->rng.state = run.seed * 1000003 + id;
	for (int i = 0; i < HELD; i++)
		w->held[i] = -1;
	if (chdir(run.dir) < 0)
		die(run.dir);
	umask(022);
	snprintf(own, sizeof(own), "p%u", id);
	if ((mkdir("common", 0755) < 0 && errno != EEXIST) || mkdir(own, 0755) < 0)
		die(own);
	for (uint64_t i = 0; i < (run.have_only ? run.ops : share(id)); i++) {
		step(w);
		run.done[id] = i + 1;
		all = digest_add(all, &w->digest, sizeof(w->digest));
		if (trace && fprintf(trace, "%llu %s %016llx\n", (unsigned long long)i, w->text,
				     (unsigned long long)w->digest) < 0)
			die("trace");
	}
	if (trace && fclose(trace))
		die("trace");
	printf("process %u: %llu operations, digest %016llx\n", id, (unsigned long long)run.done[id],
		(unsigned long long)all);
	free(w);
}

static void counters_open(void)
{
	int fd = run.progress ? open(run.progress, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
	size_t size = PROCS_MAX * sizeof(*run.done);

	if (run.progress && (fd < 0 || ftruncate(fd, (off_t)size) < 0))
		die(run.progress);
	run.done = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	if (run.done == MAP_FAILED)
		die("mmap");
}

static bool parse(int argc, char **argv)
{
	bool have_ops = false, have_seed = false, bad = false;

	for (int i = 1; i < argc && !bad; i++) {
		const char *a = argv[i];

		if (strcmp(a, "--page-writes") == 0) {
			run.page_writes = true;
			continue;
		}
		if (a[0] != '-' && !run.dir) {
			run.dir = a;
			continue;
		}
		if (++i == argc)
			return false;
		if (strcmp(a, "--ops") == 0)
			have_ops = !(bad = parse_u64(argv[i], &run.ops));
		else if (strcmp(a, "--seed") == 0)
			have_seed = !(bad = parse_u64(argv[i], &run.seed));
		else if (strcmp(a, "--procs") == 0)
			bad = parse_u64(argv[i], &run.procs) || run.procs == 0 || run.procs > PROCS_MAX;
		else if (strcmp(a, "--only") == 0)
			run.have_only = !(bad = parse_u64(argv[i], &run.only) || run.only >= PROCS_MAX);
		else if (strcmp(a, "--trace") == 0)
			run.trace = argv[i];
		else if (strcmp(a, "--progress") == 0)
			run.progress = argv[i];
		else
			bad = true;
	}
	return !bad && have_ops && have_seed && run.dir;
}

int main(int argc, char **argv)
{
	int status, result = 0;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: exercise_tree --ops N --seed S [--procs P | --only K] [--trace DIR] [--progress FILE] "
			"[--page-writes] DIR\n");
		return 2;
	}
	counters_open();
	printf("seed %llu\n", (unsigned long long)run.seed);
	fflush(stdout);
	if (run.have_only) {
		work((unsigned)run.only);
		return 0;
	}
	for (unsigned id = 0; id < run.procs; id++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			work(id);
			exit(0);
		}
	}
	while (wait(&status) > 0)
		if (status)
			result = 1;
	return result;
}
