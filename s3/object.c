/* Chooses the back end, counts, and builds the blocking forms and the check on the asynchronous one.
 *
 * Invariant: a request that was accepted is counted in in_flight until its completion has been called. */
#include "s3/object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "s3/shard.h"
#include "s3/store.h"
#include "util/clock.h"

enum { CHECK_RETRIES = 2, CHECK_BYTES = 100 };

struct obj_store {
	struct backend *be;
	unsigned retries;
	pthread_mutex_t lock;
	struct obj_stats stats; /* lock */
};

/* One accepted request on its way through the back end. */
struct tracked {
	struct obj_store *st;
	enum obj_op op;
	size_t len;
	uint64_t start_ns;
	obj_done_fn *done;
	void *arg;
};

int obj_store_open(const struct obj_config *cfg, struct obj_store **out, struct errmsg *e)
{
	const char *storage = cfg->storage ? cfg->storage : "";
	struct obj_store *st;
	int err;

	if (cfg->shards > SHARD_MAX)
		return errmsg_set(e, -EINVAL, "a volume with %u shards; at most %d are possible", cfg->shards, SHARD_MAX);
	st = calloc(1, sizeof(*st));
	if (!st)
		return errmsg_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&st->lock, NULL);
	st->retries = cfg->retries;
	if (strcmp(storage, "file") == 0)
		err = store_file_open(cfg, &st->be, e);
	else if (strcmp(storage, "s3") == 0 || strcmp(storage, "minio") == 0)
		err = store_s3_open(cfg, &st->be, e);
	else
		err = errmsg_set(e, -ENOTSUP, "storage \"%s\" is not supported; file, s3 and minio are", storage);
	if (err) {
		obj_store_close(st);
		return err;
	}
	*out = st;
	return 0;
}

void obj_store_stop(struct obj_store *st)
{
	if (st && st->be->ops->stop)
		st->be->ops->stop(st->be);
}

void obj_store_close(struct obj_store *st)
{
	if (!st)
		return;
	if (st->be)
		st->be->ops->close(st->be);
	pthread_mutex_destroy(&st->lock);
	free(st);
}

static void tracked_count(struct tracked *t, const struct obj_result *res)
{
	double seconds = (double)(clock_mono_ns() - t->start_ns) / 1e9;
	struct obj_stats *s = &t->st->stats;

	pthread_mutex_lock(&t->st->lock);
	s->in_flight--;
	s->errors += res->err && res->err != -ENOENT && res->err != -ECANCELED;
	switch (t->op) {
	case OBJ_PUT:
		s->puts++;
		s->put_bytes += res->err ? 0 : t->len;
		s->put_seconds += seconds;
		break;
	case OBJ_GET:
		s->gets++;
		s->get_bytes += res->err ? 0 : res->len;
		s->get_seconds += seconds;
		break;
	case OBJ_HEAD:
		s->heads++;
		break;
	case OBJ_DELETE:
		s->deletes++;
		s->delete_seconds += seconds;
		break;
	}
	pthread_mutex_unlock(&t->st->lock);
}

static void tracked_done(void *arg, const struct obj_result *res)
{
	struct tracked t = *(struct tracked *)arg;

	free(arg);
	tracked_count(&t, res);
	t.done(t.arg, res);
}

static int submit(struct obj_store *st, const struct obj_request *req, unsigned retries)
{
	struct tracked *t = malloc(sizeof(*t));
	struct obj_request inner = *req;
	int err;

	if (!t)
		return -ENOMEM;
	*t = (struct tracked){st, req->op, req->len, clock_mono_ns(), req->done, req->arg};
	inner.done = tracked_done;
	inner.arg = t;
	pthread_mutex_lock(&st->lock);
	st->stats.in_flight++;
	pthread_mutex_unlock(&st->lock);
	err = st->be->ops->submit(st->be, &inner, retries);
	if (err) {
		pthread_mutex_lock(&st->lock);
		st->stats.in_flight--;
		pthread_mutex_unlock(&st->lock);
		free(t);
	}
	return err;
}

int obj_submit(struct obj_store *st, const struct obj_request *req)
{
	return submit(st, req, st->retries);
}

void obj_store_stats(struct obj_store *st, struct obj_stats *out)
{
	pthread_mutex_lock(&st->lock);
	*out = st->stats;
	pthread_mutex_unlock(&st->lock);
}

/* ---- waiting ---- */

void obj_wait_init(struct obj_wait *w)
{
	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
}

void obj_wait_fini(struct obj_wait *w)
{
	free(w->data);
	w->data = NULL;
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
}

void obj_wait_done(void *arg, const struct obj_result *res)
{
	struct obj_wait *w = arg;

	w->err = res->err;
	w->size = res->size;
	if (res->err) {
		errmsg_set(&w->detail, res->err, "%s", res->detail);
	} else if (res->data) {
		w->data = malloc(res->len ? res->len : 1);
		w->len = res->len;
		if (w->data)
			memcpy(w->data, res->data, res->len);
		else
			w->err = errmsg_set(&w->detail, -ENOMEM, "out of memory");
	}
	pthread_mutex_lock(&w->lock);
	w->finished = true;
	/* under the lock: the waiter may free w as soon as it can have the lock */
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

int obj_wait_for(struct obj_wait *w, struct errmsg *e)
{
	pthread_mutex_lock(&w->lock);
	while (!w->finished)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return w->err ? errmsg_set(e, w->err, "%s", w->detail.text) : 0;
}

/* ---- blocking forms ---- */

/* Sends req with completion into w; the caller finishes w in any case. */
static int request_wait(
	struct obj_store *st, struct obj_request *req, unsigned retries, struct obj_wait *w, struct errmsg *e)
{
	int err;

	obj_wait_init(w);
	req->interactive = true;
	req->done = obj_wait_done;
	req->arg = w;
	err = submit(st, req, retries);
	return err ? errmsg_set(e, err, "%s: %s", req->key, strerror(-err)) : obj_wait_for(w, e);
}

static int get_wait(struct obj_store *st, struct obj_request *req, unsigned retries, uint8_t **data, size_t *len,
	struct errmsg *e)
{
	struct obj_wait w;
	int err = request_wait(st, req, retries, &w, e);

	if (!err) {
		*data = w.data;
		*len = w.len;
		w.data = NULL;
	}
	obj_wait_fini(&w);
	return err;
}

static int simple_wait(
	struct obj_store *st, struct obj_request *req, unsigned retries, uint64_t *size, struct errmsg *e)
{
	struct obj_wait w;
	int err = request_wait(st, req, retries, &w, e);

	if (!err && size)
		*size = w.size;
	obj_wait_fini(&w);
	return err;
}

int obj_put(struct obj_store *st, const char *key, const void *data, size_t len, struct errmsg *e)
{
	struct obj_request req = {.op = OBJ_PUT, .key = key, .data = data, .len = len};

	return simple_wait(st, &req, st->retries, NULL, e);
}

int obj_get(struct obj_store *st, const char *key, uint8_t **data, size_t *len, struct errmsg *e)
{
	struct obj_request req = {.op = OBJ_GET, .key = key};

	return get_wait(st, &req, st->retries, data, len, e);
}

int obj_get_range(struct obj_store *st, const char *key, uint64_t off, size_t len, uint8_t **data, size_t *got,
	struct errmsg *e)
{
	struct obj_request req = {.op = OBJ_GET, .key = key, .range_off = off, .range_len = len};

	if (len == 0 || off + len < off)
		return errmsg_set(e, -EINVAL, "%s: an empty or impossible range", key);
	return get_wait(st, &req, st->retries, data, got, e);
}

int obj_head(struct obj_store *st, const char *key, uint64_t *size, struct errmsg *e)
{
	struct obj_request req = {.op = OBJ_HEAD, .key = key};

	return simple_wait(st, &req, st->retries, size, e);
}

int obj_delete(struct obj_store *st, const char *key, struct errmsg *e)
{
	struct obj_request req = {.op = OBJ_DELETE, .key = key};

	return simple_wait(st, &req, st->retries, NULL, e);
}

int obj_list(struct obj_store *st, const char *prefix,
	int (*fn)(void *arg, const char *key, uint64_t size, int64_t mtime), void *arg, struct errmsg *e)
{
	return st->be->ops->list(st->be, prefix, fn, arg, e);
}

/* ---- the check of format and mount ---- */

static int probe_key(char *out, size_t size, const char *volume)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t r[10];
	int n = snprintf(out, size, "%s/testing/", volume);

	if (n < 0 || (size_t)n + sizeof(r) + 1 > size)
		return -ENAMETOOLONG;
	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		return -EIO;
	for (size_t i = 0; i < sizeof(r); i++)
		out[n++] = letters[r[i] % (sizeof(letters) - 1)];
	out[n] = 0;
	return 0;
}

/* Few tries: somebody waits at a terminal for the message. */
int obj_check(struct obj_store *st, const char *volume, struct errmsg *e)
{
	unsigned retries = st->retries < CHECK_RETRIES ? st->retries : CHECK_RETRIES;
	struct obj_request put, get, del;
	uint8_t want[CHECK_BYTES], *got = NULL;
	size_t n = 0;
	char key[512];
	int err, del_err;

	err = probe_key(key, sizeof(key), volume);
	if (err)
		return errmsg_set(e, err, "object storage check: %s", strerror(-err));
	for (size_t i = 0; i < sizeof(want); i++)
		want[i] = (uint8_t)(i * 7 + (uint8_t)key[strlen(key) - 1]);
	put = (struct obj_request){.op = OBJ_PUT, .key = key, .data = want, .len = sizeof(want)};
	get = (struct obj_request){.op = OBJ_GET, .key = key};
	del = (struct obj_request){.op = OBJ_DELETE, .key = key};
	err = st->be->ops->create(st->be, e);
	if (!err)
		err = simple_wait(st, &put, retries, NULL, e);
	if (!err) {
		err = get_wait(st, &get, retries, &got, &n, e);
		if (!err && (n != sizeof(want) || memcmp(got, want, n) != 0))
			err = errmsg_set(e, -EBADMSG, "%s: other bytes came back than were written", key);
		del_err = simple_wait(st, &del, retries, NULL, err ? NULL : e);
		err = err ? err : del_err;
	}
	free(got);
	if (err)
		errmsg_prefix(e, "object storage check");
	return err;
}
