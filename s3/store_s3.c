/* The S3 back end: turns requests into signed HTTP calls and answers into results.
 *
 * Invariants. A call is owned by the HTTP client from http_submit until `done`, where it is either submitted again
 * (retry) or completed and freed: each request is completed exactly once. Every try is signed anew when it is sent.
 * Failure modes: what may pass (network, 5xx, damaged bytes) is tried again with doubling, jittered delays; a final
 * answer (404, wrong key, wrong bucket) is given at once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "s3/answer.h"
#include "s3/http.h"
#include "s3/shard.h"
#include "s3/sigv4.h"
#include "s3/store.h"
#include "s3/url.h"
#include "util/clock.h"
#include "util/crc32c.h"
#include "util/log.h"

enum {
	BACKOFF_MS = 100,
	BACKOFF_MAX_MS = 10000,
	SLOW_BACKOFF_MS = 1000,
	SLOW_BACKOFF_MAX_MS = 30000,
	RETRY_AFTER_MAX_S = 60,
	MAX_BODY = 1 << 30,
	LIST_PAGE = 1000,
	MAX_QUERY = 6,
};

struct store_s3 {
	struct backend be;
	struct http *http;
	struct s3_url *urls; /* one per shard */
	unsigned shards, retries, timeout_ms, get_timeout_ms;
	char *access_key, *secret_key, *session_token, *storage_class; /* access_key NULL: unsigned requests */
	uint64_t random; /* the loop's thread only */
	long long warned; /* log_ratelimit */
};

struct s3_call {
	struct http_job job;
	struct store_s3 *st;
	const char *method;
	char *key; /* NULL: the bucket itself */
	unsigned shard, tries, retries;
	enum obj_op op;
	struct sigv4_pair query[MAX_QUERY]; /* values live as long as the call */
	size_t nquery;
	const void *data;
	size_t len;
	char crc32c[12]; /* PUT of an object, "": none */
	uint64_t range_off;
	size_t range_len;
	obj_done_fn *done;
	void *arg;
};

static const struct s3_url *call_url(const struct s3_call *c)
{
	return &c->st->urls[c->shard];
}

/* ---- building ---- */

struct headers {
	struct sigv4_pair list[SIGV4_MAX_PAIRS];
	size_t n;
};

static void header_add(struct headers *h, const char *name, const char *value)
{
	h->list[h->n++] = (struct sigv4_pair){name, value};
}

/* The raw path, as it is signed. */
static void path_put(struct buf *path, const struct s3_call *c)
{
	const struct s3_url *u = call_url(c);

	buf_puts(path, "/");
	if (u->path_style) {
		buf_puts(path, u->bucket);
		buf_puts(path, c->key ? "/" : "");
	}
	if (c->key)
		buf_puts(path, c->key);
}

static int call_sign(struct http_call *hc, const struct s3_call *c, const char *path)
{
	const struct store_s3 *st = c->st;
	const struct s3_url *u = call_url(c);
	struct headers h = {.n = 0};
	struct buf auth;
	char date[17];
	int err = 0;

	sigv4_date(clock_wall_sec(), date);
	header_add(&h, "Host", u->host);
	if (st->access_key) {
		header_add(&h, "x-amz-content-sha256", SIGV4_UNSIGNED);
		header_add(&h, "x-amz-date", date);
		if (st->session_token)
			header_add(&h, "x-amz-security-token", st->session_token);
	}
	if (c->crc32c[0])
		header_add(&h, "x-amz-meta-crc32c", c->crc32c);
	if (c->op == OBJ_PUT && c->key && st->storage_class)
		header_add(&h, "x-amz-storage-class", st->storage_class);
	for (size_t i = 0; i < h.n; i++)
		http_call_header(hc, h.list[i].name, h.list[i].value);
	if (!st->access_key)
		return 0;
	const struct sigv4_identity id = {st->access_key, st->secret_key, u->region, "s3"};
	const struct sigv4_request req = {c->method, path, c->query, c->nquery, h.list, h.n, SIGV4_UNSIGNED};
	buf_init(&auth, 64 << 10);
	err = sigv4_authorization(&auth, &req, &id);
	if (!err)
		http_call_header(hc, "Authorization", buf_cstr(&auth));
	buf_fini(&auth);
	return err;
}

static int call_prepare(struct http_job *job, struct http_call *hc)
{
	struct s3_call *c = (struct s3_call *)job;
	const struct s3_url *u = call_url(c);
	struct buf path, url;
	char range[64];
	int err;

	buf_init(&path, 64 << 10);
	buf_init(&url, 64 << 10);
	path_put(&path, c);
	buf_printf(&url, "%s://%s", u->https ? "https" : "http", u->host);
	sigv4_uri_encode(&url, buf_cstr(&path), true);
	if (c->nquery) {
		buf_puts(&url, "?");
		sigv4_canonical_query(&url, c->query, c->nquery);
	}
	err = path.err ? path.err : url.err;
	if (!err)
		err = call_sign(hc, c, buf_cstr(&path));
	http_call_url(hc, c->method, buf_cstr(&url));
	if (c->range_len) {
		snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)c->range_off,
			(unsigned long long)(c->range_off + c->range_len - 1));
		http_call_header(hc, "Range", range);
	}
	if (c->op == OBJ_PUT) {
		http_call_header(hc, "Content-Type", c->key ? "application/octet-stream" : "application/xml");
		http_call_body(hc, c->data, c->len);
	}
	buf_fini(&path);
	buf_fini(&url);
	return err;
}

/* ---- answering ---- */

static void call_free(struct s3_call *c)
{
	free(c->key);
	free(c);
}

static void call_complete(struct s3_call *c, struct obj_result *res, const char *why)
{
	const struct s3_url *u = call_url(c);
	char detail[1000];

	if (res->err) {
		snprintf(detail, sizeof(detail), "%s %.250s: %.320s (%s://%.200s, bucket %.128s%s)", c->method,
			c->key ? c->key : "bucket", why, u->https ? "https" : "http", u->host, u->bucket,
			res->err == -EACCES && !c->st->access_key ? "; no access key was given" : "");
		res->detail = detail;
	} else {
		res->detail = "";
	}
	c->done(c->arg, res);
	call_free(c);
}

static uint64_t random_next(struct store_s3 *st)
{
	st->random ^= st->random << 13;
	st->random ^= st->random >> 7;
	st->random ^= st->random << 17;
	return st->random;
}

/* Doubling delay, of which the upper half is random so that many failed requests do not come back together. */
static unsigned retry_delay(struct store_s3 *st, unsigned tries, bool slow, int retry_after)
{
	uint64_t ms = slow ? SLOW_BACKOFF_MS : BACKOFF_MS, max = slow ? SLOW_BACKOFF_MAX_MS : BACKOFF_MAX_MS;

	ms <<= tries < 16 ? tries : 16;
	if (ms > max)
		ms = max;
	ms = ms / 2 + random_next(st) % (ms / 2);
	if (retry_after > 0) {
		uint64_t asked = (uint64_t)(retry_after < RETRY_AFTER_MAX_S ? retry_after : RETRY_AFTER_MAX_S) * 1000;

		if (asked > ms)
			ms = asked;
	}
	return (unsigned)ms;
}

/* Submits the call again if it may; false: it is to be completed. */
static bool call_retry(struct s3_call *c, const char *why, bool slow, int retry_after)
{
	struct store_s3 *st = c->st;
	unsigned delay;

	if (c->tries >= c->retries || http_closing(st->http))
		return false;
	delay = retry_delay(st, c->tries, slow, retry_after);
	c->tries++;
	if (slow)
		http_slow_down(st->http, delay);
	if (log_ratelimit(&st->warned, 5000))
		log_warn("event=s3_retry op=%s key=\"%s\" try=%u delay_ms=%u why=\"%s\"", c->method, c->key ? c->key : "",
			c->tries, delay, why);
	http_submit(st->http, &c->job, delay);
	return true;
}

static bool checksum_wrong(const struct s3_call *c, const struct http_reply *r)
{
	char *end;
	unsigned long long want;

	if (c->range_len || !c->key || call_url(c)->no_checksum || r->crc32c[0] < '0' || r->crc32c[0] > '9')
		return false;
	want = strtoull(r->crc32c, &end, 10);
	return !*end && want != crc32c(0, r->body, r->len);
}

/* The bytes of a GET with a 2xx status. A server may ignore the range and send all. */
static void result_from_body(const struct s3_call *c, const struct http_reply *r, struct obj_result *res)
{
	res->data = r->body;
	res->len = r->len;
	if (!c->range_len || r->status == 206)
		return;
	size_t off = c->range_off < r->len ? (size_t)c->range_off : r->len;
	res->data += off;
	res->len -= off;
	if (res->len > c->range_len)
		res->len = c->range_len;
}

static void call_done(struct http_job *job, const struct http_reply *r)
{
	struct s3_call *c = (struct s3_call *)job;
	struct obj_result res = {.err = r->err};
	struct answer_error a;

	if (r->err) {
		if (!r->retry || !call_retry(c, r->detail, false, 0))
			call_complete(c, &res, r->detail);
		return;
	}
	if (c->range_len && r->status == 416) { /* the range begins at or behind the end */
		res.data = r->body;
		call_complete(c, &res, "");
		return;
	}
	answer_error(r->status, r->body, r->len, r->date, clock_wall_sec(), r->region, &a);
	if (a.err == -ENOENT && c->op == OBJ_DELETE)
		a.err = 0;
	if (a.err) {
		res.err = a.err;
		if (!a.retry || !call_retry(c, a.text, a.slow, r->retry_after))
			call_complete(c, &res, a.text);
		return;
	}
	if (c->op == OBJ_GET) {
		const char *why = "the checksum of the bytes is wrong";

		result_from_body(c, r, &res);
		if (c->range_len && res.len > c->range_len)
			why = "more bytes than asked for";
		if (checksum_wrong(c, r) || (c->range_len && res.len > c->range_len)) {
			res.err = -EBADMSG;
			if (!call_retry(c, why, false, 0))
				call_complete(c, &res, why);
			return;
		}
	} else if (c->op == OBJ_HEAD) {
		res.err = r->content_length < 0 ? -EBADMSG : 0;
		res.size = r->content_length < 0 ? 0 : (uint64_t)r->content_length;
		res.mtime = r->mtime;
	}
	call_complete(c, &res, "the server did not say the size");
}

/* ---- submitting ---- */

static struct s3_call *call_new(struct store_s3 *st, enum obj_op op, unsigned shard, const char *key)
{
	static const char *const methods[] = {[OBJ_PUT] = "PUT", [OBJ_GET] = "GET", [OBJ_HEAD] = "HEAD",
		[OBJ_DELETE] = "DELETE"};
	struct s3_call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->st = st;
	c->op = op;
	c->shard = shard;
	c->method = methods[op];
	c->retries = st->retries;
	c->job.lane = op == OBJ_PUT || op == OBJ_DELETE ? HTTP_UP : HTTP_DOWN;
	c->job.timeout_ms = c->job.lane == HTTP_DOWN ? st->get_timeout_ms : st->timeout_ms;
	c->job.head = op == OBJ_HEAD;
	c->job.max_body = MAX_BODY;
	c->job.prepare = call_prepare;
	c->job.done = call_done;
	if (key && !(c->key = strdup(key))) {
		free(c);
		return NULL;
	}
	return c;
}

static int s3_submit(struct backend *be, const struct obj_request *req, unsigned retries)
{
	struct store_s3 *st = (struct store_s3 *)be;
	struct s3_call *c = call_new(st, req->op, shard_pick(req->key, st->shards), req->key);

	if (!c)
		return -ENOMEM;
	c->retries = retries;
	c->job.interactive = req->interactive;
	if (req->op == OBJ_PUT) {
		c->data = req->data;
		c->len = req->len;
		if (!call_url(c)->no_checksum)
			snprintf(c->crc32c, sizeof(c->crc32c), "%u", crc32c(0, req->data, req->len));
	} else if (req->op == OBJ_GET && req->range_len) {
		c->range_off = req->range_off;
		c->range_len = req->range_len;
	}
	c->done = req->done;
	c->arg = req->arg;
	http_submit(st->http, &c->job, 0);
	return 0;
}

/* A request to the bucket itself that is waited for; w holds the answer's body. */
static int bucket_call(struct store_s3 *st, struct s3_call *c, struct obj_wait *w, struct errmsg *e)
{
	obj_wait_init(w);
	if (!c)
		return errmsg_set(e, -ENOMEM, "out of memory");
	c->job.interactive = true;
	c->done = obj_wait_done;
	c->arg = w;
	http_submit(st->http, &c->job, 0);
	return obj_wait_for(w, e);
}

static int list_page(struct store_s3 *st, unsigned shard, const char *prefix, const char *token, unsigned max,
	struct obj_wait *w, struct errmsg *e)
{
	struct s3_call *c = call_new(st, OBJ_GET, shard, NULL);
	char number[16];

	snprintf(number, sizeof(number), "%u", max);
	if (c) {
		c->query[c->nquery++] = (struct sigv4_pair){"list-type", "2"};
		c->query[c->nquery++] = (struct sigv4_pair){"encoding-type", "url"};
		c->query[c->nquery++] = (struct sigv4_pair){"max-keys", number};
		c->query[c->nquery++] = (struct sigv4_pair){"prefix", prefix};
		if (*token)
			c->query[c->nquery++] = (struct sigv4_pair){"continuation-token", token};
	}
	return bucket_call(st, c, w, e);
}

static int s3_list(struct backend *be, const char *prefix,
	int (*fn)(void *arg, const char *key, uint64_t size, int64_t mtime), void *arg, struct errmsg *e)
{
	struct store_s3 *st = (struct store_s3 *)be;
	char token[2048] = "";
	int err = 0;

	for (unsigned shard = 0; shard < st->shards && !err; shard++)
		do {
			char next[sizeof(token)] = "";
			struct obj_wait w;

			err = list_page(st, shard, prefix, token, LIST_PAGE, &w, e);
			if (!err) {
				err = answer_list(w.data, w.len, fn, arg, next, sizeof(next));
				if (err == -EBADMSG)
					errmsg_set(e, err, "LIST %s: the server's answer is no list", prefix);
				if (!err && next[0] && strcmp(next, token) == 0)
					err = errmsg_set(e, -EBADMSG, "LIST %s: the server repeats itself", prefix);
			}
			obj_wait_fini(&w);
			memcpy(token, next, sizeof(token));
		} while (!err && token[0]);
	return err;
}

static int bucket_create(struct store_s3 *st, unsigned shard, struct errmsg *e)
{
	struct s3_call *c = call_new(st, OBJ_PUT, shard, NULL);
	const struct s3_url *u = &st->urls[shard];
	char xml[256] = "";
	struct obj_wait w;
	int err;

	/* AWS wants the region of a new bucket spelled out, except for its first one */
	if (strstr(u->host, "amazonaws.com") && strcmp(u->region, "us-east-1") != 0)
		snprintf(xml, sizeof(xml), "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
			"<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>", u->region);
	if (c) {
		c->data = xml;
		c->len = strlen(xml);
		c->retries = 2;
	}
	err = bucket_call(st, c, &w, e);
	obj_wait_fini(&w);
	return err;
}

static int s3_create(struct backend *be, struct errmsg *e)
{
	struct store_s3 *st = (struct store_s3 *)be;
	int err = 0;

	for (unsigned shard = 0; shard < st->shards && !err; shard++) {
		struct obj_wait w;

		err = list_page(st, shard, "", "", 1, &w, e);
		obj_wait_fini(&w);
		if (err == -ENODEV || err == -ENOENT)
			err = bucket_create(st, shard, e);
		/* who may not list or create may still be allowed to put: the object that follows decides */
		if (err == -EACCES || err == -EEXIST)
			err = 0;
	}
	return err;
}

/* ---- opening, closing ---- */

static void s3_close(struct backend *be)
{
	struct store_s3 *st = (struct store_s3 *)be;

	http_free(st->http);
	free(st->urls);
	free(st->access_key);
	if (st->secret_key)
		explicit_bzero(st->secret_key, strlen(st->secret_key));
	free(st->secret_key);
	if (st->session_token)
		explicit_bzero(st->session_token, strlen(st->session_token));
	free(st->session_token);
	free(st->storage_class);
	free(st);
}

static void s3_stop(struct backend *be)
{
	http_stop(((struct store_s3 *)be)->http);
}

static const struct backend_ops s3_ops = {s3_submit, s3_list, s3_create, s3_stop, s3_close};

static int copy_text(char **out, const char *s)
{
	if (!s || !*s)
		return 0;
	*out = strdup(s);
	return *out ? 0 : -ENOMEM;
}

/* Keys as given; without any, those that AWS's own tools take from the environment; "anonymous": none. */
static int keys_copy(struct store_s3 *st, const struct obj_config *cfg)
{
	const char *access = cfg->access_key, *secret = cfg->secret_key, *token = cfg->session_token;
	int err;

	if ((!access || !*access) && strcmp(cfg->storage, "minio") == 0) {
		access = getenv("MINIO_ACCESS_KEY");
		secret = getenv("MINIO_SECRET_KEY");
	}
	if (!access || !*access) {
		access = getenv("AWS_ACCESS_KEY_ID");
		secret = getenv("AWS_SECRET_ACCESS_KEY");
		token = getenv("AWS_SESSION_TOKEN");
	}
	if (!access || !*access || strcmp(access, "anonymous") == 0)
		return 0;
	err = copy_text(&st->access_key, access);
	if (!err)
		err = (st->secret_key = strdup(secret ? secret : "")) ? 0 : -ENOMEM;
	return err ? err : copy_text(&st->session_token, token);
}

static int urls_parse(struct store_s3 *st, const struct obj_config *cfg, struct errmsg *e)
{
	struct url_env env;
	int err = 0;

	url_env_read(&env);
	for (unsigned i = 0; i < st->shards && !err; i++) {
		char bucket[1024];

		err = shard_bucket(cfg->bucket ? cfg->bucket : "", st->shards, i, bucket, sizeof(bucket), e);
		if (!err)
			err = url_parse(cfg->storage, bucket, &env, &st->urls[i], e);
	}
	return err;
}

int store_s3_open(const struct obj_config *cfg, struct backend **out, struct errmsg *e)
{
	struct store_s3 *st = calloc(1, sizeof(*st));
	int err;

	if (!st)
		return errmsg_set(e, -ENOMEM, "out of memory");
	st->be.ops = &s3_ops;
	st->shards = cfg->shards > 1 ? cfg->shards : 1;
	st->retries = cfg->retries;
	st->timeout_ms = cfg->timeout_ms;
	st->get_timeout_ms = cfg->get_timeout_ms ? cfg->get_timeout_ms : cfg->timeout_ms;
	st->random = (clock_wall_ns() ^ (uint64_t)getpid() << 32) | 1;
	st->urls = calloc(st->shards, sizeof(*st->urls));
	err = st->urls ? keys_copy(st, cfg) : -ENOMEM;
	if (!err)
		err = copy_text(&st->storage_class, cfg->storage_class);
	if (err)
		errmsg_set(e, err, "out of memory");
	if (!err)
		err = urls_parse(st, cfg, e);
	if (!err)
		err = http_new(cfg->max_parallel, cfg->max_downloads ? cfg->max_downloads : cfg->max_parallel, &st->http, e);
	if (err) {
		s3_close(&st->be);
		return err;
	}
	*out = &st->be;
	return 0;
}
