/* A seam over the C library's file calls, for LD_PRELOAD: kills the process at the Nth call of a kind, or lets that call
 * fail as a bad disk would. What the program did before and does afterwards is real.
 *
 *   LD_PRELOAD=libseam.so JFS_SEAM="CALL:N:ACTION[,...]"
 *
 * CALL is `write` (write, pwrite, writev, pwritev), `sync` (fsync, fdatasync, msync, sync_file_range), `read` (read, pread),
 * `make` (open with O_CREAT, mkdir), `name` (rename, link, unlink, rmdir), `space` (fallocate, ftruncate) or `any`: all of
 * these. N counts from 1; `N+` is this one and all later ones. ACTION is `kill` (SIGKILL to ourselves in front of the call),
 * `killafter` (behind it), an errno (EIO, ENOSPC), `short` (a write of half the bytes, which is what it answers), or `torn`
 * (half the bytes are written, the answer is EIO). A sync that fails was not carried out.
 *
 * JFS_SEAM_DIR, if set: only calls on files below this directory count. Without it every call counts, those on sockets and on
 * FUSE's device too. JFS_SEAM_MET, if set, names a file that is made when an order is carried out, with a
 * line about the first such call: kind, number, file (with JFS_SEAM_DIR), offset (-1: none is given), length of a write. */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here: no redirection */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { K_WRITE, K_SYNC, K_READ, K_MAKE, K_NAME, K_SPACE, K_ANY, KINDS };
enum action { A_KILL = 1, A_KILL_AFTER, A_SHORT, A_TORN };

static const char *const kind_name[KINDS] = {"write", "sync", "read", "make", "name", "space", "any"};

struct order {
	enum kind kind;
	long at;
	bool forever;
	int action; /* enum action or a negative errno */
};

#define ORDERS 16
static struct order orders[ORDERS];
static int n_orders;
static char below[PATH_MAX], met[PATH_MAX];
static size_t below_len;
static _Atomic long calls[KINDS];
static _Thread_local char about[PATH_MAX]; /* the file that this thread's call is about */

#define REAL(type, name, ...)                                                                                         \
	static type (*real_##name)(__VA_ARGS__);                                                                      \
	if (!real_##name)                                                                                             \
		*(void **)&real_##name = dlsym(RTLD_NEXT, #name)

static int action_of(const char *s)
{
	static const struct {
		const char *name;
		int value;
	} actions[] = {{"kill", A_KILL}, {"killafter", A_KILL_AFTER}, {"short", A_SHORT}, {"torn", A_TORN}, {"EIO", -EIO},
		{"ENOSPC", -ENOSPC}, {"EDQUOT", -EDQUOT}, {"EMFILE", -EMFILE}};

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(s, actions[i].name) == 0)
			return actions[i].value;
	return 0;
}

static void bad_order(const char *t)
{
	fprintf(stderr, "JFS_SEAM: cannot parse \"%s\" (CALL:N:ACTION)\n", t);
	_exit(2);
}

__attribute__((constructor)) static void seam_init(void)
{
	const char *env = getenv("JFS_SEAM"), *dir = getenv("JFS_SEAM_DIR"), *told = getenv("JFS_SEAM_MET");
	char copy[1024], *save = NULL;

	if (!env || !*env || strlen(env) >= sizeof(copy))
		return;
	if (dir && strlen(dir) < sizeof(below))
		below_len = strlen(strcpy(below, dir));
	if (told && strlen(told) < sizeof(met))
		strcpy(met, told);
	strcpy(copy, env);
	for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		struct order *o = &orders[n_orders];
		char kind[16], action[16], number[24], *end;

		if (n_orders == ORDERS || sscanf(t, "%15[^:]:%23[^:]:%15s", kind, number, action) != 3)
			bad_order(t);
		o->at = strtol(number, &end, 10);
		o->forever = *end == '+';
		o->action = action_of(action);
		for (o->kind = 0; o->kind < KINDS && strcmp(kind, kind_name[o->kind]) != 0; o->kind++)
			;
		if (o->kind == KINDS || !o->action || o->at < 1 || end[o->forever])
			bad_order(t);
		n_orders++;
	}
}

static bool path_counts(const char *path)
{
	if (path != about && below_len)
		snprintf(about, sizeof(about), "%s", path);
	return below_len == 0 || (strncmp(path, below, below_len) == 0 && (path[below_len] == '/' || !path[below_len]));
}

static bool fd_counts(int fd)
{
	char link[40];
	ssize_t n;

	if (below_len == 0)
		return true;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, about, sizeof(about) - 1);
	if (n < 0)
		return false;
	about[n] = '\0';
	return path_counts(about);
}

static bool at_counts(int dirfd, const char *path)
{
	return path[0] == '/' || dirfd == AT_FDCWD ? path_counts(path) : fd_counts(dirfd);
}

/* Not through the C library: these calls must not be counted. */
static void tell(enum kind kind, long n, long long off, size_t len)
{
	static _Atomic bool told;
	long fd = met[0] && !told ? syscall(SYS_openat, AT_FDCWD, met, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
	char line[PATH_MAX + 100];

	if (fd < 0)
		return;
	told = true;
	n = snprintf(line, sizeof(line), "%s %ld %s %lld %zu\n", kind_name[kind], n, about[0] ? about : "-", off, len);
	(void)!syscall(SYS_write, fd, line, (size_t)n);
	syscall(SYS_close, fd);
}

static void die_here(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* What this call is ordered to do: 0, an action or a negative errno. Kills itself when that is the order. */
static int order_for(enum kind kind, bool counts, long long off, size_t len)
{
	int action = 0;
	long n[2];

	if (n_orders == 0 || !counts)
		return 0;
	n[0] = ++calls[kind];
	n[1] = ++calls[K_ANY];
	for (int i = 0; i < n_orders; i++) {
		const struct order *o = &orders[i];
		long k = o->kind == K_ANY ? n[1] : n[0];

		if ((o->kind != kind && o->kind != K_ANY) || !(k == o->at || (o->forever && k > o->at)))
			continue;
		tell(kind, n[0], off, len);
		if (o->action == A_KILL)
			die_here();
		action = o->action;
	}
	return action;
}

static int enter(enum kind kind, bool counts)
{
	return order_for(kind, counts, -1, 0);
}

static int enter_write(bool counts, long long off, size_t len)
{
	return order_for(K_WRITE, counts, off, len);
}

static long leave(int action, long rc)
{
	if (action == A_KILL_AFTER)
		die_here();
	return rc;
}

static long refused(int action)
{
	errno = -action;
	return -1;
}

/* --- writing --- */

static size_t length(const struct iovec *v, int count)
{
	size_t n = 0;

	for (int i = 0; i < count; i++)
		n += v[i].iov_len;
	return n;
}

ssize_t write(int fd, const void *p, size_t n)
{
	REAL(ssize_t, write, int, const void *, size_t);
	int a = enter_write(n_orders && fd_counts(fd), -1, n);

	if (a < 0)
		return refused(a);
	if (a == A_SHORT && n > 1)
		n = n / 2;
	if (a == A_TORN)
		return real_write(fd, p, n / 2) < 0 ? -1 : refused(-EIO);
	return leave(a, real_write(fd, p, n));
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
	REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
	int a = enter_write(n_orders && fd_counts(fd), off, n);

	if (a < 0)
		return refused(a);
	if (a == A_SHORT && n > 1)
		n = n / 2;
	if (a == A_TORN)
		return real_pwrite(fd, p, n / 2, off) < 0 ? -1 : refused(-EIO);
	return leave(a, real_pwrite(fd, p, n, off));
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t off) __attribute__((alias("pwrite")));

/* Half of the pieces, at least one. */
static int half(int count)
{
	return count > 1 ? count / 2 : count;
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
	REAL(ssize_t, writev, int, const struct iovec *, int);
	int a = enter_write(n_orders && fd_counts(fd), -1, length(v, count));

	if (a < 0)
		return refused(a);
	if (a == A_SHORT)
		count = half(count);
	if (a == A_TORN)
		return real_writev(fd, v, half(count)) < 0 ? -1 : refused(-EIO);
	return leave(a, real_writev(fd, v, count));
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t off)
{
	REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
	int a = enter_write(n_orders && fd_counts(fd), off, length(v, count));

	if (a < 0)
		return refused(a);
	if (a == A_SHORT)
		count = half(count);
	if (a == A_TORN)
		return real_pwritev(fd, v, half(count), off) < 0 ? -1 : refused(-EIO);
	return leave(a, real_pwritev(fd, v, count, off));
}

ssize_t pwritev64(int fd, const struct iovec *v, int count, off_t off) __attribute__((alias("pwritev")));

/* --- calls that are carried out or refused --- */

#define PASS(type, name, kind, counts, params, args, ...)                                                             \
	type name params                                                                                              \
	{                                                                                                             \
		REAL(type, name, __VA_ARGS__);                                                                        \
		int a_ = enter(kind, n_orders && (counts));                                                           \
		return a_ < 0 ? (type)refused(a_) : (type)leave(a_, real_##name args);                                \
	}

PASS(int, fsync, K_SYNC, fd_counts(fd), (int fd), (fd), int)
PASS(int, fdatasync, K_SYNC, fd_counts(fd), (int fd), (fd), int)
PASS(int, msync, K_SYNC, below_len == 0, (void *p, size_t n, int flags), (p, n, flags), void *, size_t, int)
PASS(int, sync_file_range, K_SYNC, fd_counts(fd), (int fd, off_t o, off_t n, unsigned flags), (fd, o, n, flags), int, off_t,
	off_t, unsigned)
PASS(ssize_t, pread, K_READ, fd_counts(fd), (int fd, void *p, size_t n, off_t o), (fd, p, n, o), int, void *, size_t, off_t)
ssize_t pread64(int fd, void *p, size_t n, off_t o) __attribute__((alias("pread")));
PASS(ssize_t, read, K_READ, fd_counts(fd), (int fd, void *p, size_t n), (fd, p, n), int, void *, size_t)
PASS(int, ftruncate, K_SPACE, fd_counts(fd), (int fd, off_t n), (fd, n), int, off_t)
int ftruncate64(int fd, off_t n) __attribute__((alias("ftruncate")));
PASS(int, fallocate, K_SPACE, fd_counts(fd), (int fd, int mode, off_t o, off_t n), (fd, mode, o, n), int, int, off_t, off_t)
int fallocate64(int fd, int mode, off_t o, off_t n) __attribute__((alias("fallocate")));
PASS(int, rename, K_NAME, path_counts(to), (const char *from, const char *to), (from, to), const char *, const char *)
PASS(int, renameat, K_NAME, at_counts(td, to), (int fd, const char *from, int td, const char *to), (fd, from, td, to), int,
	const char *, int, const char *)
PASS(int, unlink, K_NAME, path_counts(path), (const char *path), (path), const char *)
PASS(int, unlinkat, K_NAME, at_counts(fd, path), (int fd, const char *path, int flags), (fd, path, flags), int, const char *, int)
PASS(int, rmdir, K_NAME, path_counts(path), (const char *path), (path), const char *)
PASS(int, mkdir, K_MAKE, path_counts(path), (const char *path, mode_t mode), (path, mode), const char *, mode_t)
PASS(int, mkdirat, K_MAKE, at_counts(fd, path), (int fd, const char *path, mode_t mode), (fd, path, mode), int, const char *,
	mode_t)

static mode_t open_mode(int flags, va_list args)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	REAL(int, open, const char *, int, ...);
	va_list args;
	int a = enter(K_MAKE, n_orders && flags & O_CREAT && path_counts(path));

	va_start(args, flags);
	mode_t mode = open_mode(flags, args);
	va_end(args);
	return a < 0 ? (int)refused(a) : (int)leave(a, real_open(path, flags, mode));
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int openat(int fd, const char *path, int flags, ...)
{
	REAL(int, openat, int, const char *, int, ...);
	va_list args;
	int a = enter(K_MAKE, n_orders && flags & O_CREAT && at_counts(fd, path));

	va_start(args, flags);
	mode_t mode = open_mode(flags, args);
	va_end(args);
	return a < 0 ? (int)refused(a) : (int)leave(a, real_openat(fd, path, flags, mode));
}

int openat64(int fd, const char *path, int flags, ...) __attribute__((alias("openat")));
