/* The HTTP client: one event-loop thread over curl's multi interface (HTTP/1.1, keep-alive), two lanes with a limit
 * of parallel requests each, two priorities within a lane, and delayed jobs for retries. The only file that includes
 * <curl/curl.h>.
 *
 * A job is one try of one request. It is built by its `prepare` on the loop's thread at the moment it is sent, so
 * that a signature is never older than its request, and answered by exactly one call of `done` on the loop's
 * thread, which may free the job or submit it again. Nothing is logged here: headers hold secrets. */
#ifndef JFS_S3_HTTP_H
#define JFS_S3_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "util/errmsg.h"

enum http_lane { HTTP_UP, HTTP_DOWN, HTTP_LANES };

struct http_call; /* the request that is being built */

/* The URL, already encoded. Copied. */
void http_call_url(struct http_call *c, const char *method, const char *url);
/* Copied. A value with a line break is refused (the call fails with -EINVAL). */
void http_call_header(struct http_call *c, const char *name, const char *value);
/* Not copied: must stay valid until done. */
void http_call_body(struct http_call *c, const void *body, size_t len);

struct http_reply {
	int err;	       /* 0: an HTTP answer came, whatever its status; else -errno as in s3/object.h */
	bool retry;	       /* err only: may pass if tried again */
	int status;
	const uint8_t *body;   /* valid during the call */
	size_t len;
	int64_t content_length; /* -1 unknown */
	int64_t mtime;	       /* Last-Modified, unix seconds; 0 unknown */
	int64_t date;	       /* Date, unix seconds; 0 unknown */
	int retry_after;       /* seconds; 0 not given */
	char crc32c[16];       /* x-amz-meta-crc32c; "" not given */
	char region[64];       /* x-amz-bucket-region */
	const char *detail;    /* err only: one line, no secrets */
};

struct http_job {
	enum http_lane lane;
	bool interactive;
	bool head;		/* no body will follow, whatever Content-Length says */
	unsigned timeout_ms;	/* of this try, connecting included */
	size_t max_body;	/* a longer answer is -EBADMSG */
	/* 0 or -errno; a failure is handed to done (not to be retried). */
	int (*prepare)(struct http_job *job, struct http_call *call);
	void (*done)(struct http_job *job, const struct http_reply *reply);

	/* private */
	TAILQ_ENTRY(http_job) link;
	uint64_t due_ms;
};

struct http;

/* max_up, max_down: of the lanes, at least 1. Starts the thread. */
int http_new(unsigned max_up, unsigned max_down, struct http **out, struct errmsg *e);
/* What is queued or delayed is answered -ECANCELED, what is in flight is awaited. Callers have stopped submitting;
 * only `done` may still submit, and gets -ECANCELED. NULL-safe. */
void http_free(struct http *h);
/* Nothing is begun or tried again any more: what is queued or delayed, or comes, is answered -ECANCELED, and so are downloads in
 * flight; uploads in flight end within their time-outs. From any thread; does not wait. */
void http_stop(struct http *h);
/* From any thread; never fails, never blocks. */
void http_submit(struct http *h, struct http_job *job, unsigned delay_ms);
/* The server asked for less: no background job starts for so long. From any thread. */
void http_slow_down(struct http *h, unsigned ms);
bool http_closing(struct http *h);

#endif
