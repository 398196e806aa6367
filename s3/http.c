/* Invariants. A job is in exactly one place: `incoming` (under the lock), `delayed` or `ready` (the loop's own), or in
 * flight (owned by its http_call, whose easy handle is in the multi). Only the loop's thread touches curl handles,
 * except for curl_multi_wakeup. An http_call is kept for reuse after its job; curl keeps connections in the multi.
 *
 * Failure modes: curl errors are mapped in one table below; a try that cannot be built is answered without being sent;
 * an error of the multi itself (only memory) fails the jobs that are in flight and goes on. */
#include "s3/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/buf.h"
#include "util/clock.h"
#include "util/log.h"

enum { CONNECT_TIMEOUT_MS = 10000, IDLE_POLL_MS = 60000, SEND_BUFFER = 256 << 10, RECEIVE_BUFFER = 256 << 10 };

TAILQ_HEAD(job_list, http_job);

struct http_call {
	CURL *easy;
	struct curl_slist *headers;
	struct http_job *job;
	const uint8_t *body;
	size_t body_len, body_sent;
	bool has_body;
	struct buf answer;
	struct http_reply reply;
	int err; /* first failure while building or receiving */
	char error[CURL_ERROR_SIZE];
	TAILQ_ENTRY(http_call) link; /* in one of the lists: */
};
TAILQ_HEAD(call_list, http_call);

struct http {
	CURLM *multi;
	pthread_t thread;
	unsigned limit[HTTP_LANES];

	pthread_mutex_t lock;
	struct job_list incoming; /* lock */
	bool closing;		  /* lock: nothing is begun any more; */
	bool stopped;		  /* lock: downloads in flight are not awaited; */
	bool ending;		  /* lock: nobody submits any more, the thread may end */
	uint64_t slow_until_ms;	  /* lock */

	/* the loop's own */
	struct job_list delayed; /* by due_ms */
	struct job_list ready[HTTP_LANES][2]; /* [1]: interactive */
	unsigned in_flight[HTTP_LANES];
	struct call_list unused, active;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void curl_start(void)
{
	curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- building a call ---- */

static void call_setopt_failed(struct http_call *c, CURLcode rc)
{
	if (rc != CURLE_OK && !c->err)
		c->err = rc == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
}
#define SET(c, option, value) call_setopt_failed((c), curl_easy_setopt((c)->easy, (option), (value)))

static void call_header_line(struct http_call *c, const char *line)
{
	struct curl_slist *list = curl_slist_append(c->headers, line);

	if (list)
		c->headers = list;
	else
		c->err = -ENOMEM;
}

void http_call_header(struct http_call *c, const char *name, const char *value)
{
	struct buf line;

	if (strpbrk(value, "\r\n")) {
		c->err = -EINVAL;
		return;
	}
	buf_init(&line, 64 << 10);
	/* "Name;" is curl's way to send a header without a value, "Name:" would remove it */
	buf_printf(&line, *value ? "%s: %s" : "%s;", name, value);
	if (line.err)
		c->err = line.err;
	else
		call_header_line(c, buf_cstr(&line));
	buf_fini(&line);
}

void http_call_url(struct http_call *c, const char *method, const char *url)
{
	SET(c, CURLOPT_CUSTOMREQUEST, method);
	SET(c, CURLOPT_URL, url);
}

void http_call_body(struct http_call *c, const void *body, size_t len)
{
	c->body = body;
	c->body_len = len;
	c->has_body = true;
}

static size_t on_send(char *out, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t room = size * n, left = c->body_len - c->body_sent;

	if (left > room)
		left = room;
	if (left)
		memcpy(out, c->body + c->body_sent, left);
	c->body_sent += left;
	return left;
}

/* curl rewinds when a kept-alive connection turns out to be dead. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct http_call *c = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > c->body_len)
		return CURL_SEEKFUNC_FAIL;
	c->body_sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t on_receive(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;

	if (n * size > c->job->max_body - c->answer.len) {
		c->err = -EBADMSG;
		return 0;
	}
	buf_put(&c->answer, p, n * size);
	if (c->answer.err) {
		c->err = -ENOMEM;
		return 0;
	}
	return n * size;
}

static bool header_value(const char *p, size_t n, const char *name, char *out, size_t size)
{
	size_t m = strlen(name);

	if (n <= m || strncasecmp(p, name, m) != 0 || p[m] != ':')
		return false;
	p += m + 1;
	n -= m + 1;
	while (n && (*p == ' ' || *p == '\t'))
		p++, n--;
	while (n && strchr(" \t\r\n", p[n - 1]))
		n--;
	/* one that does not fit is none of ours */
	snprintf(out, size, "%.*s", n < size ? (int)n : 0, p);
	return true;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	struct http_reply *r = &c->reply;
	char text[64];

	n *= size;
	if (header_value(p, n, "x-amz-meta-crc32c", r->crc32c, sizeof(r->crc32c)) ||
		header_value(p, n, "x-amz-bucket-region", r->region, sizeof(r->region)))
		return n;
	if (header_value(p, n, "date", text, sizeof(text))) {
		r->date = curl_getdate(text, NULL);
		if (r->date < 0)
			r->date = 0;
	} else if (header_value(p, n, "retry-after", text, sizeof(text))) {
		r->retry_after = atoi(text);
	}
	return n;
}

static void call_options(struct http_call *c)
{
	const struct http_job *job = c->job;
	long timeout = (long)job->timeout_ms;

	curl_easy_reset(c->easy);
	c->error[0] = 0;
	SET(c, CURLOPT_NOSIGNAL, 1L);
	SET(c, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(c, CURLOPT_PATH_AS_IS, 1L);
	SET(c, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(c, CURLOPT_TIMEOUT_MS, timeout);
	SET(c, CURLOPT_CONNECTTIMEOUT_MS, timeout && timeout < CONNECT_TIMEOUT_MS ? timeout : (long)CONNECT_TIMEOUT_MS);
	SET(c, CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER);
	SET(c, CURLOPT_FILETIME, 1L);
	SET(c, CURLOPT_ERRORBUFFER, c->error);
	SET(c, CURLOPT_PRIVATE, c);
	SET(c, CURLOPT_WRITEFUNCTION, on_receive);
	SET(c, CURLOPT_WRITEDATA, c);
	SET(c, CURLOPT_HEADERFUNCTION, on_header);
	SET(c, CURLOPT_HEADERDATA, c);
}

static void call_body_options(struct http_call *c)
{
	if (c->job->head)
		SET(c, CURLOPT_NOBODY, 1L);
	if (c->has_body) {
		SET(c, CURLOPT_UPLOAD, 1L);
		SET(c, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER);
		SET(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_len);
		SET(c, CURLOPT_READFUNCTION, on_send);
		SET(c, CURLOPT_READDATA, c);
		SET(c, CURLOPT_SEEKFUNCTION, on_seek);
		SET(c, CURLOPT_SEEKDATA, c);
		/* no "Expect: 100-continue": it costs a round trip */
		call_header_line(c, "Expect:");
	}
	SET(c, CURLOPT_HTTPHEADER, c->headers);
}

static struct http_call *call_get(struct http *h)
{
	struct http_call *c = TAILQ_FIRST(&h->unused);

	if (c) {
		TAILQ_REMOVE(&h->unused, c, link);
		return c;
	}
	c = calloc(1, sizeof(*c));
	if (c && !(c->easy = curl_easy_init())) {
		free(c);
		c = NULL;
	}
	return c;
}

static void call_put(struct http *h, struct http_call *c)
{
	curl_slist_free_all(c->headers);
	buf_fini(&c->answer);
	c->headers = NULL;
	c->job = NULL;
	c->body = NULL;
	c->body_len = c->body_sent = 0;
	c->has_body = false;
	c->err = 0;
	memset(&c->reply, 0, sizeof(c->reply));
	TAILQ_INSERT_HEAD(&h->unused, c, link);
}

/* ---- answering ---- */

static void job_fail(struct http_job *job, int err, const char *detail)
{
	struct http_reply r = {.err = err, .content_length = -1, .detail = detail};

	job->done(job, &r);
}

static void curl_error_map(CURLcode rc, struct http_reply *r)
{
	r->retry = true;
	switch (rc) {
	case CURLE_COULDNT_CONNECT:
		r->err = -ECONNREFUSED;
		break;
	case CURLE_OPERATION_TIMEDOUT:
		r->err = -ETIMEDOUT;
		break;
	case CURLE_OUT_OF_MEMORY:
		r->err = -ENOMEM;
		break;
	case CURLE_ABORTED_BY_CALLBACK: /* downloads_abort */
		r->retry = false;
		r->err = -ECANCELED;
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
		r->retry = false;
		r->err = -EIO;
		break;
	default:
		r->err = -EIO;
	}
}

static void call_finish(struct http *h, struct http_call *c, CURLcode rc)
{
	struct http_reply *r = &c->reply;
	struct http_job *job = c->job;
	curl_off_t length = -1, mtime = -1;
	long status = 0;

	curl_multi_remove_handle(h->multi, c->easy);
	TAILQ_REMOVE(&h->active, c, link);
	h->in_flight[job->lane]--;
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(c->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(c->easy, CURLINFO_FILETIME_T, &mtime);
	r->status = (int)status;
	r->content_length = length;
	r->mtime = mtime > 0 ? mtime : 0;
	r->body = c->answer.data ? c->answer.data : (const uint8_t *)"";
	r->len = c->answer.len;
	if (c->err) {
		r->err = c->err;
		r->detail = c->err == -EBADMSG ? "the answer is longer than it can be" : "out of memory";
	} else if (rc != CURLE_OK) {
		curl_error_map(rc, r);
		r->detail = c->error[0] ? c->error : curl_easy_strerror(rc);
	} else {
		r->detail = "";
	}
	job->done(job, r);
	call_put(h, c);
}

/* ---- the loop ---- */

static void job_start(struct http *h, struct http_job *job)
{
	struct http_call *c = call_get(h);
	int err;

	if (!c) {
		job_fail(job, -ENOMEM, "out of memory");
		return;
	}
	c->job = job;
	c->err = 0;
	buf_init(&c->answer, 0);
	call_options(c);
	err = job->prepare(job, c);
	call_body_options(c);
	if (!err)
		err = c->err;
	if (!err && curl_multi_add_handle(h->multi, c->easy) != CURLM_OK)
		err = -ENOMEM;
	if (err) {
		call_put(h, c);
		job_fail(job, err, err == -ENOMEM ? "out of memory" : "the request cannot be built");
		return;
	}
	TAILQ_INSERT_TAIL(&h->active, c, link);
	h->in_flight[job->lane]++;
}

static void delayed_insert(struct http *h, struct http_job *job)
{
	struct http_job *at;

	TAILQ_FOREACH_REVERSE (at, &h->delayed, job_list, link)
		if (at->due_ms <= job->due_ms)
			break;
	if (at)
		TAILQ_INSERT_AFTER(&h->delayed, at, job, link);
	else
		TAILQ_INSERT_HEAD(&h->delayed, job, link);
}

/* What other threads want of the loop. */
struct asked {
	bool closing, stopped, ending;
	uint64_t slow_until;
};

/* Takes over what was submitted and moves what is due to the ready lists. */
static void jobs_sort_in(struct http *h, struct asked *asked)
{
	struct job_list in = TAILQ_HEAD_INITIALIZER(in);
	uint64_t now = clock_mono_ms();
	struct http_job *job;

	pthread_mutex_lock(&h->lock);
	TAILQ_CONCAT(&in, &h->incoming, link);
	*asked = (struct asked){h->closing, h->stopped, h->ending, h->slow_until_ms};
	pthread_mutex_unlock(&h->lock);
	while ((job = TAILQ_FIRST(&in))) {
		TAILQ_REMOVE(&in, job, link);
		if (job->due_ms)
			delayed_insert(h, job);
		else
			TAILQ_INSERT_TAIL(&h->ready[job->lane][job->interactive], job, link);
	}
	while ((job = TAILQ_FIRST(&h->delayed)) && (asked->closing || job->due_ms <= now)) {
		TAILQ_REMOVE(&h->delayed, job, link);
		TAILQ_INSERT_TAIL(&h->ready[job->lane][job->interactive], job, link);
	}
}

static void jobs_cancel(struct http *h)
{
	struct http_job *job;

	for (int i = 0; i < HTTP_LANES * 2; i++) {
		struct job_list *list = &h->ready[i / 2][i % 2];

		while ((job = TAILQ_FIRST(list))) {
			TAILQ_REMOVE(list, job, link);
			job_fail(job, -ECANCELED, "canceled: the store is being closed");
		}
	}
}

static void downloads_abort(struct http *h)
{
	struct http_call *c, *next;

	for (c = TAILQ_FIRST(&h->active); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->job->lane == HTTP_DOWN)
			call_finish(h, c, CURLE_ABORTED_BY_CALLBACK);
	}
}

static void jobs_start(struct http *h, bool slow)
{
	for (int lane = 0; lane < HTTP_LANES; lane++)
		for (int interactive = 1; interactive >= (slow ? 1 : 0); interactive--) {
			struct job_list *list = &h->ready[lane][interactive];
			struct http_job *job;

			while (h->in_flight[lane] < h->limit[lane] && (job = TAILQ_FIRST(list))) {
				TAILQ_REMOVE(list, job, link);
				job_start(h, job);
			}
		}
}

static void calls_finish(struct http *h)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(h->multi, &left))) {
		struct http_call *c = NULL;
		CURLcode rc = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		call_finish(h, c, rc);
	}
}

static int poll_time(const struct http *h, uint64_t slow_until)
{
	const struct http_job *job = TAILQ_FIRST(&h->delayed);
	uint64_t now = clock_mono_ms(), until = now + IDLE_POLL_MS;

	if (job && job->due_ms < until)
		until = job->due_ms;
	if (slow_until > now && slow_until < until)
		until = slow_until;
	return until > now ? (int)(until - now) : 0;
}

static void *loop_run(void *arg)
{
	struct http *h = arg;

	pthread_setname_np(pthread_self(), "jfs-http");
	for (;;) {
		struct asked asked;
		int running = 0;
		bool more;

		jobs_sort_in(h, &asked);
		if (asked.stopped)
			downloads_abort(h);
		if (asked.closing)
			jobs_cancel(h);
		else
			jobs_start(h, asked.slow_until > clock_mono_ms());
		CURLMcode mc = curl_multi_perform(h->multi, &running);
		calls_finish(h);
		pthread_mutex_lock(&h->lock);
		more = !TAILQ_EMPTY(&h->incoming);
		pthread_mutex_unlock(&h->lock);
		if (asked.ending && !more && !h->in_flight[HTTP_UP] && !h->in_flight[HTTP_DOWN])
			return NULL;
		/* a job that was held up by the limit may start now, before anything else happens */
		for (int i = 0; i < HTTP_LANES * 2 && !more; i++)
			more = !TAILQ_EMPTY(&h->ready[i / 2][i % 2]) && h->in_flight[i / 2] < h->limit[i / 2] &&
				(i % 2 || asked.slow_until <= clock_mono_ms());
		if (!more && mc == CURLM_OK)
			mc = curl_multi_poll(h->multi, NULL, 0, poll_time(h, asked.slow_until), NULL);
		if (mc != CURLM_OK)
			log_error("event=http_loop error=\"%s\"", curl_multi_strerror(mc));
	}
}

/* ---- public ---- */

static void http_destroy(struct http *h)
{
	struct http_call *c;

	while ((c = TAILQ_FIRST(&h->unused))) {
		TAILQ_REMOVE(&h->unused, c, link);
		curl_easy_cleanup(c->easy);
		free(c);
	}
	if (h->multi)
		curl_multi_cleanup(h->multi);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

int http_new(unsigned max_up, unsigned max_down, struct http **out, struct errmsg *e)
{
	struct http *h;
	int err;

	pthread_once(&curl_once, curl_start);
	if (curl_ready != CURLE_OK)
		return errmsg_set(e, -EIO, "cannot start libcurl: %s", curl_easy_strerror(curl_ready));
	h = calloc(1, sizeof(*h));
	if (!h)
		return errmsg_set(e, -ENOMEM, "out of memory");
	h->limit[HTTP_UP] = max_up ? max_up : 1;
	h->limit[HTTP_DOWN] = max_down ? max_down : 1;
	pthread_mutex_init(&h->lock, NULL);
	TAILQ_INIT(&h->incoming);
	TAILQ_INIT(&h->delayed);
	TAILQ_INIT(&h->unused);
	TAILQ_INIT(&h->active);
	for (int i = 0; i < HTTP_LANES * 2; i++)
		TAILQ_INIT(&h->ready[i / 2][i % 2]);
	h->multi = curl_multi_init();
	err = h->multi ? 0 : -ENOMEM;
	/* enough idle connections for both lanes, or curl would close and open them all the time */
	if (!err && curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->limit[HTTP_UP] + h->limit[HTTP_DOWN] + 4) != CURLM_OK)
		err = -ENOMEM;
	if (!err)
		err = -pthread_create(&h->thread, NULL, loop_run, h);
	if (err) {
		http_destroy(h);
		return errmsg_set(e, err, "cannot start the HTTP client: %s", strerror(-err));
	}
	*out = h;
	return 0;
}

static void http_ask(struct http *h, bool stopped, bool ending)
{
	pthread_mutex_lock(&h->lock);
	h->closing = true;
	h->stopped |= stopped;
	h->ending |= ending;
	pthread_mutex_unlock(&h->lock);
	curl_multi_wakeup(h->multi);
}

void http_stop(struct http *h)
{
	http_ask(h, true, false);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	http_ask(h, false, true);
	pthread_join(h->thread, NULL);
	http_destroy(h);
}

void http_submit(struct http *h, struct http_job *job, unsigned delay_ms)
{
	job->due_ms = delay_ms ? clock_mono_ms() + delay_ms : 0;
	pthread_mutex_lock(&h->lock);
	TAILQ_INSERT_TAIL(&h->incoming, job, link);
	pthread_mutex_unlock(&h->lock);
	curl_multi_wakeup(h->multi);
}

void http_slow_down(struct http *h, unsigned ms)
{
	uint64_t until = clock_mono_ms() + ms;

	pthread_mutex_lock(&h->lock);
	if (until > h->slow_until_ms)
		h->slow_until_ms = until;
	pthread_mutex_unlock(&h->lock);
}

bool http_closing(struct http *h)
{
	pthread_mutex_lock(&h->lock);
	bool closing = h->closing;
	pthread_mutex_unlock(&h->lock);
	return closing;
}
