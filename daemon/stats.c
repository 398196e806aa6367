/* See stats.h. */
#include "daemon/stats.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/clock.h"

const char *const stats_op_names[SO_N] = {
	[SO_LOOKUP] = "lookup", [SO_GETATTR] = "getattr", [SO_SETATTR] = "setattr", [SO_MKNOD] = "mknod",
	[SO_CREATE] = "create", [SO_MKDIR] = "mkdir", [SO_SYMLINK] = "symlink", [SO_READLINK] = "readlink",
	[SO_LINK] = "link", [SO_UNLINK] = "unlink", [SO_RMDIR] = "rmdir", [SO_RENAME] = "rename",
	[SO_READDIR] = "readdir", [SO_READ] = "read", [SO_WRITE] = "write", [SO_FLUSH] = "flush", [SO_FSYNC] = "fsync",
	[SO_FALLOCATE] = "fallocate", [SO_COPY] = "copy_file_range", [SO_LSEEK] = "lseek", [SO_STATFS] = "statfs",
	[SO_GETXATTR] = "getxattr", [SO_SETXATTR] = "setxattr", [SO_LISTXATTR] = "listxattr",
	[SO_REMOVEXATTR] = "removexattr", [SO_IOCTL] = "ioctl", [SO_FORGET] = "forget",
	[SO_RELEASE] = "release",
};

struct line {
	char *family, *text;
	unsigned order;
};

struct stats_text {
	struct line *lines;
	unsigned n, size;
	bool failed;
};

struct stats_text *stats_text_new(void)
{
	return calloc(1, sizeof(struct stats_text));
}

void stats_text_free(struct stats_text *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->n; i++) {
		free(t->lines[i].family);
		free(t->lines[i].text);
	}
	free(t->lines);
	free(t);
}

static void line_add(struct stats_text *t, const char *family, const char *label, const char *suffix, const char *value)
{
	struct line *l;

	if (t->n == t->size) {
		unsigned size = t->size ? 2 * t->size : 128;

		l = reallocarray(t->lines, size, sizeof(*l));
		if (!l) {
			t->failed = true;
			return;
		}
		t->lines = l;
		t->size = size;
	}
	l = &t->lines[t->n];
	l->order = t->n;
	l->family = strdup(family);
	if (asprintf(&l->text, "juicefs_%s%s%s%s %s\n", family, label ? "_" : "", label ? label : "", suffix, value) < 0)
		l->text = NULL;
	if (!l->family || !l->text) {
		free(l->family);
		free(l->text);
		t->failed = true;
		return;
	}
	t->n++;
}

void stats_format_float(char *out, size_t size, double v)
{
	for (int prec = 0; prec <= 20; prec++) {
		snprintf(out, size, "%.*f", prec, v);
		if (strtod(out, NULL) == v)
			return;
	}
}

void stats_int(struct stats_text *t, const char *family, const char *label, int64_t v)
{
	char s[24];

	snprintf(s, sizeof(s), "%lld", (long long)v);
	line_add(t, family, label, "", s);
}

void stats_float(struct stats_text *t, const char *family, const char *label, double v)
{
	char s[400];

	stats_format_float(s, sizeof(s), v);
	line_add(t, family, label, "", s);
}

void stats_hist(struct stats_text *t, const char *family, const char *label, uint64_t count, double sum)
{
	char s[400];

	snprintf(s, sizeof(s), "%llu", (unsigned long long)count);
	line_add(t, family, label, "_total", s);
	stats_format_float(s, sizeof(s), sum);
	line_add(t, family, label, "_sum", s);
}

static int line_compare(const void *a, const void *b)
{
	const struct line *x = a, *y = b;
	int c = strcmp(x->family, y->family);

	return c ? c : x->order < y->order ? -1 : 1;
}

int stats_text_finish(struct stats_text *t, struct buf *out)
{
	if (t->failed)
		return -ENOMEM;
	if (t->n)
		qsort(t->lines, t->n, sizeof(t->lines[0]), line_compare);
	for (unsigned i = 0; i < t->n; i++)
		buf_puts(out, t->lines[i].text);
	return out->err;
}

/* --- registry --- */
enum { SOURCES_MAX = 16, ERRNO_MAX = 134 };

struct stats {
	struct {
		stats_source fn;
		void *ctx;
	} sources[SOURCES_MAX];
	_Atomic unsigned n; /* written by the registering thread after its entry */
	uint64_t born_ns;
	struct {
		_Atomic uint64_t count, ns;
	} op[SO_N];
	_Atomic uint64_t reads, read_bytes, writes, written_bytes;
	_Atomic uint64_t errors[ERRNO_MAX];
};

struct stats *stats_new(void)
{
	struct stats *s = calloc(1, sizeof(*s));

	if (s)
		s->born_ns = clock_mono_ns();
	return s;
}

void stats_free(struct stats *s)
{
	free(s);
}

void stats_register(struct stats *s, stats_source fn, void *ctx)
{
	unsigned n = atomic_load(&s->n);

	if (n == SOURCES_MAX)
		abort();
	s->sources[n].fn = fn;
	s->sources[n].ctx = ctx;
	atomic_store(&s->n, n + 1);
}

#define ADD(counter, v) atomic_fetch_add_explicit(&(counter), (v), memory_order_relaxed)
#define GET(counter) atomic_load_explicit(&(counter), memory_order_relaxed)

void stats_op(struct stats *s, unsigned op, uint64_t ns, int err)
{
	ADD(s->op[op].count, 1);
	ADD(s->op[op].ns, ns);
	if (err && -err > 0 && -err < ERRNO_MAX)
		ADD(s->errors[-err], 1);
}

void stats_read(struct stats *s, uint64_t bytes)
{
	ADD(s->reads, 1);
	ADD(s->read_bytes, bytes);
}

void stats_written(struct stats *s, uint64_t bytes)
{
	ADD(s->writes, 1);
	ADD(s->written_bytes, bytes);
}

static uint64_t resident_bytes(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f) {
		if (fscanf(f, "%lu %lu", &size, &resident) != 2)
			resident = 0;
		fclose(f);
	}
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_process(struct stats *s, struct stats_text *t)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	stats_float(t, "cpu_usage", NULL, (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
		(double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
	stats_int(t, "memory", NULL, (int64_t)resident_bytes());
	stats_float(t, "uptime", NULL, (double)(clock_mono_ns() - s->born_ns) / 1e9);
}

static void put_ops(struct stats *s, struct stats_text *t)
{
	uint64_t count = 0, ns = 0;

	for (unsigned i = 0; i < SO_N; i++) {
		uint64_t c = GET(s->op[i].count), d = GET(s->op[i].ns);

		if (c == 0)
			continue;
		count += c;
		ns += d;
		stats_int(t, "fuse_ops_total", stats_op_names[i], (int64_t)c);
		stats_float(t, "fuse_ops_durations_seconds", stats_op_names[i], (double)d / 1e9);
	}
	stats_hist(t, "fuse_ops_durations_histogram_seconds", NULL, count, (double)ns / 1e9);
	for (int i = 1; i < ERRNO_MAX; i++)
		if (GET(s->errors[i]) && strerrorname_np(i))
			stats_int(t, "fuse_ops_io_errors", strerrorname_np(i), (int64_t)GET(s->errors[i]));
	stats_hist(t, "fuse_read_size_bytes", NULL, GET(s->reads), (double)GET(s->read_bytes));
	stats_hist(t, "fuse_written_size_bytes", NULL, GET(s->writes), (double)GET(s->written_bytes));
}

int stats_write(struct stats *s, struct buf *out)
{
	struct stats_text *t = stats_text_new();
	unsigned n = atomic_load(&s->n);
	int r;

	if (!t)
		return -ENOMEM;
	put_process(s, t);
	put_ops(s, t);
	for (unsigned i = 0; i < n; i++)
		s->sources[i].fn(s->sources[i].ctx, t);
	r = stats_text_finish(t, out);
	stats_text_free(t);
	return r;
}
