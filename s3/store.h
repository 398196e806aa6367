/* Inside the object store: what a back end is, and how a thread waits for a completion. Included by s3/ only. */
#ifndef JFS_S3_STORE_H
#define JFS_S3_STORE_H

#include <pthread.h>

#include "s3/object.h"

struct backend;

struct backend_ops {
	/* As obj_submit, with the number of tries after the first. */
	int (*submit)(struct backend *be, const struct obj_request *req, unsigned retries);
	int (*list)(struct backend *be, const char *prefix,
		int (*fn)(void *arg, const char *key, uint64_t size, int64_t mtime), void *arg, struct errmsg *e);
	/* Makes the bucket(s) unless they are there. Blocks. */
	int (*create)(struct backend *be, struct errmsg *e);
	/* As obj_store_stop. NULL: its requests do not take long. */
	void (*stop)(struct backend *be);
	/* Cancels what is queued, waits for what is in flight, frees. */
	void (*close)(struct backend *be);
};

/* First member of every back end. */
struct backend {
	const struct backend_ops *ops;
};

int store_s3_open(const struct obj_config *cfg, struct backend **out, struct errmsg *e);
int store_file_open(const struct obj_config *cfg, struct backend **out, struct errmsg *e);

/* A thread that waits for one completion. On an error obj_wait_for leaves the detail in the message. */
struct obj_wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool finished; /* lock */
	int err;
	uint8_t *data; /* GET: malloc'ed copy; the waiter frees it */
	size_t len;
	uint64_t size;
	struct errmsg detail;
};

void obj_wait_init(struct obj_wait *w);
void obj_wait_fini(struct obj_wait *w);
obj_done_fn obj_wait_done; /* for obj_request.done with the obj_wait as arg */
int obj_wait_for(struct obj_wait *w, struct errmsg *e);

#endif
