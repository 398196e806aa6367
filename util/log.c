#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"

static _Atomic int max_level = LOG_LVL_INFO;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int witness_fd = -1;
static _Atomic bool to_syslog;
static pthread_mutex_t ratelimit_lock = PTHREAD_MUTEX_INITIALIZER;

void log_set_level(enum log_level level)
{
	max_level = (int)level;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= max_level;
}

int log_open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	log_fd = fd;
	return 0;
}

void log_open_syslog(const char *ident)
{
	openlog(ident, LOG_PID, LOG_DAEMON);
	to_syslog = true;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	char line[2048];
	struct timespec now;
	struct tm tm;
	va_list ap;

	if (!log_enabled(level))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ldZ level=%s ", now.tv_nsec / 1000000, names[level]);
	size_t head = n;

	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n += (size_t)m < sizeof(line) - n - 1 ? (size_t)m : sizeof(line) - n - 2;
	line[n] = 0;
	if (to_syslog)
		syslog(priorities[level], "%s", line + head);
	line[n++] = '\n';
	/* A log that cannot be written has nowhere to report that; the daemon's own work does not depend on it. */
	if (write(log_fd, line, n) < 0)
		return;
}

bool log_ratelimit(long long *last, int interval_ms)
{
	long long now = (long long)clock_mono_ms() + 1;
	bool due;

	pthread_mutex_lock(&ratelimit_lock);
	due = *last == 0 || now - *last >= interval_ms;
	if (due)
		*last = now;
	pthread_mutex_unlock(&ratelimit_lock);
	return due;
}

void log_raw(const char *s, size_t n)
{
	int fd = log_fd, other = witness_fd;
	bool lost = write(fd < 0 ? STDERR_FILENO : fd, s, n) < 0;

	if (other >= 0)
		lost |= write(other, s, n) < 0;
	(void)lost; /* nobody is left to be told */
}

void log_set_witness(int fd)
{
	witness_fd = fd;
}
