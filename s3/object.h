/* The object store: one small asynchronous interface, two back ends (`file`, S3 with SigV4), and layers over it.
 *
 * A store owns its threads: `s3` one event loop over curl's multi interface, `file` a few workers. Requests may be
 * submitted from any thread; completions are called from a thread of the store, with no lock held, and must not block
 * (hand long work on). Retries with backoff and jitter, per-request time-outs and the limit of parallel requests are
 * inside the store: a completion is the final answer. Keys are relative to the bucket and include the volume prefix
 * "{Name}/" (spec/juicefs-format.md 4.6, 4.7).
 *
 * Errors (negative errno): -ENOENT no such object; -ENODEV no such bucket (a HEAD cannot tell: -ENOENT); -EACCES wrong
 * key, signature or clock; -EINVAL wrong region, or a key that no path can be made of (file); -ETIMEDOUT, -ECONNREFUSED,
 * -EIO network or server errors after the retries; -EBADMSG checksum or length mismatch; -ENOSPC; -ENOMEM; -ECANCELED the
 * store is being closed. */
#ifndef JFS_S3_OBJECT_H
#define JFS_S3_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

struct obj_config {
	const char *storage;	/* "file", "s3", "minio" (anything else: -ENOTSUP and a message) */
	const char *bucket;	/* Bucket of the setting; with shards > 1 it holds a %d */
	const char *access_key, *secret_key, *session_token; /* plain text, may be NULL */
	const char *storage_class; /* NULL or "": none */
	unsigned shards;	/* 0 or 1: not sharded */
	unsigned max_parallel;	/* uploads + deletes in flight */
	unsigned max_downloads; /* in flight beside them; 0: as many */
	unsigned retries;	/* tries after the first, for what may pass (not ENOENT, EACCES) */
	unsigned timeout_ms;	/* of one try of a request */
	unsigned get_timeout_ms; /* of what only reads; 0: the same */
};

enum obj_op { OBJ_PUT, OBJ_GET, OBJ_HEAD, OBJ_DELETE };

struct obj_result {
	int err;		/* 0 or -errno; DELETE of what is not there is 0 */
	const uint8_t *data;	/* GET: the bytes, valid during the call only */
	size_t len;		/* GET: bytes in data */
	uint64_t size;		/* HEAD: the object's size */
	int64_t mtime;		/* HEAD: unix seconds, 0 if the server did not say */
	const char *detail;	/* on error: one line for the log, never NULL */
};

typedef void obj_done_fn(void *arg, const struct obj_result *res);

struct obj_request {
	enum obj_op op;
	const char *key;	/* copied */
	const void *data;	/* PUT: must stay valid and unchanged until done is called */
	size_t len;
	uint64_t range_off;	/* GET: with range_len > 0 only these bytes (fewer at the end of the object) */
	size_t range_len;
	bool interactive;	/* somebody waits: goes before background requests */
	obj_done_fn *done;
	void *arg;
};

struct obj_store;

/* Opens the store without touching the network and starts its threads (so a daemon forks first); a malformed bucket URL
 * or unknown storage gives -EINVAL/-ENOTSUP and a message that names it. Copies the config. */
int obj_store_open(const struct obj_config *cfg, struct obj_store **out, struct errmsg *e);
/* For who ends, and must not wait for a server that says nothing: from now on requests are answered -ECANCELED, also those that
 * read and are under way; what is being written ends within its time-out, and nothing is tried again. Any thread; NULL-safe. */
void obj_store_stop(struct obj_store *st);
/* Cancels what is queued, waits for what is in flight, frees. NULL-safe. */
void obj_store_close(struct obj_store *st);

/* Queues a request. If it returns 0, req->done is called exactly once, on one of the store's own threads (perhaps before
 * this returns). -ENOMEM otherwise. Does not block. */
int obj_submit(struct obj_store *st, const struct obj_request *req);

/* Blocking forms for tools and worker threads. obj_get allocates *data (free()). */
int obj_put(struct obj_store *st, const char *key, const void *data, size_t len, struct errmsg *e);
int obj_get(struct obj_store *st, const char *key, uint8_t **data, size_t *len, struct errmsg *e);
int obj_get_range(struct obj_store *st, const char *key, uint64_t off, size_t len, uint8_t **data, size_t *got,
	struct errmsg *e);
int obj_head(struct obj_store *st, const char *key, uint64_t *size, struct errmsg *e);
int obj_delete(struct obj_store *st, const char *key, struct errmsg *e);
/* Calls fn for every object whose key starts with prefix, in any order; stops when fn returns non-zero (returned). */
int obj_list(struct obj_store *st, const char *prefix, int (*fn)(void *arg, const char *key, uint64_t size, int64_t mtime),
	void *arg, struct errmsg *e);
/* What `format` and `mount` check first: creates the bucket where the back end can, puts, gets and deletes
 * testing/{10 letters or digits} (spec 6.4). The message tells a wrong key, a wrong bucket and a dead server apart. */
int obj_check(struct obj_store *st, const char *volume, struct errmsg *e);

/* Counters since the store was opened, for .stats. */
struct obj_stats {
	uint64_t puts, gets, deletes, heads, errors, put_bytes, get_bytes, in_flight;
	double put_seconds, get_seconds, delete_seconds;
};
void obj_store_stats(struct obj_store *st, struct obj_stats *out);

#endif
