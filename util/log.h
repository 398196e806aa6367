/* Log lines of the form `key=value key="value with blanks"`, to stderr and, after log_open_file or log_open_syslog,
 * there instead. Thread-safe; one line is one write(2). Never pass a secret: nothing is redacted afterwards. */
#ifndef JFS_UTIL_LOG_H
#define JFS_UTIL_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

void log_set_level(enum log_level level);
/* For the last words of a dying process, from a signal handler too: writes the bytes as they are to the log (to stderr while
 * that is syslog) and to the witness, if there is one. */
void log_raw(const char *s, size_t n);
/* A descriptor that log_raw writes to as well; -1: none. The caller keeps it open as long as it is set. */
void log_set_witness(int fd);
bool log_enabled(enum log_level level);
/* Sends everything after it to FILE (appended, mode 0600). 0 or -errno. */
int log_open_file(const char *path);
/* Sends everything after it to syslog under this name as well as to the file or stderr. */
void log_open_syslog(const char *ident);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LVL_DEBUG, __VA_ARGS__)

/* True at most once in `interval_ms` for one `*last` (monotonic milliseconds, starts at 0): rate limit for retries. */
bool log_ratelimit(long long *last, int interval_ms);

#endif
