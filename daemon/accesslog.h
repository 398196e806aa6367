/* Lines of MOUNTPOINT/.accesslog (spec 6.1): one per finished operation, made only while somebody reads. */
#ifndef JFS_DAEMON_ACCESSLOG_H
#define JFS_DAEMON_ACCESSLOG_H

#include <stddef.h>
#include <stdint.h>

struct accesslog;
struct req;

struct accesslog_sink {
	struct accesslog_sink *next;
	/* Takes one whole line; called under the log's lock by any thread; must not block or log. */
	void (*line)(struct accesslog_sink *sink, const char *line, size_t n);
};

struct accesslog *accesslog_new(void);
void accesslog_free(struct accesslog *al);
void accesslog_watch(struct accesslog *al, struct accesslog_sink *sink);
/* When it returns no call into the sink is running and none will come. */
void accesslog_unwatch(struct accesslog *al, struct accesslog_sink *sink);
/* The operation of `r` ended with err (0 or -errno). A branch when nobody watches. */
void accesslog_add(struct accesslog *al, const struct req *r, int err);
/* "2026.08.21 17:02:07.123456" (local time) into out. */
void accesslog_time(char *out, size_t size, uint64_t wall_ns);

#endif
