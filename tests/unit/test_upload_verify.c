/* The uploader against a store that lies: only what no real one can be made to do. The functions of s3/object.h that upload
 * and reader use are this file's own. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>

#include "s3/upload.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int puts, heads, done, err;
	uint64_t sizes[8]; /* what HEAD answers, one after the other */
} store = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

struct answer {
	struct obj_request req;
	struct obj_result res;
};

static void *answer_main(void *arg)
{
	struct answer *a = arg;

	a->req.done(a->req.arg, &a->res);
	free(a);
	return NULL;
}

int obj_submit(struct obj_store *st, const struct obj_request *req)
{
	struct answer *a = calloc(1, sizeof(*a));
	pthread_t t;

	(void)st;
	REQUIRE(a);
	a->req = *req;
	a->res.detail = "";
	pthread_mutex_lock(&store.lock);
	if (req->op == OBJ_PUT)
		store.puts++;
	else
		a->res.size = store.sizes[store.heads++];
	pthread_mutex_unlock(&store.lock);
	REQUIRE(pthread_create(&t, NULL, answer_main, a) == 0);
	pthread_detach(t);
	return 0;
}

int obj_get_range(struct obj_store *st, const char *key, uint64_t off, size_t len, uint8_t **data, size_t *got, struct errmsg *e)
{
	(void)st, (void)key, (void)off, (void)len, (void)data, (void)got, (void)e;
	return -EIO;
}

static int done_count(void)
{
	pthread_mutex_lock(&store.lock);
	int n = store.done;
	pthread_mutex_unlock(&store.lock);
	return n;
}

static void batch_done(void *arg, int err)
{
	(void)arg;
	pthread_mutex_lock(&store.lock);
	store.done++;
	store.err = err;
	pthread_cond_broadcast(&store.cond);
	pthread_mutex_unlock(&store.lock);
}

/* The store said yes to the PUT and kept less, then more, than it was given: nothing is confirmed before it has it all. */
static void a_size_that_is_wrong_is_stored_again(void)
{
	struct slice_piece piece = {.kind = PIECE_ZERO, .len = 5000};
	struct slice_plan p = {.id = 3, .size = 5000, .n = 1, .pieces = &piece};
	struct uploader_config cfg = {.format = {.volume = "v", .block_size = 65536}, .buffer_bytes = 1 << 20, .max_parallel = 2};
	struct uploader_stats st;
	struct uploader *up;

	store.sizes[0] = 4999;
	store.sizes[1] = 5001;
	store.sizes[2] = 5000;
	REQUIRE(uploader_new(&cfg, &up) == 0);
	REQUIRE(uploader_submit(up, &p, 1, batch_done, NULL) == 0);
	for (int round = 1; round <= 2; round++) {
		do
			uploader_stats(up, &st);
		while (st.errors < (uint64_t)round && !done_count());
		REQUIRE(done_count() == 0);
		CHECK(strstr(st.last_error, "bytes") != NULL);
		CHECK_EQ(st.blocks_pending, 1);
		uploader_kick(up);
	}
	pthread_mutex_lock(&store.lock);
	while (!store.done)
		pthread_cond_wait(&store.cond, &store.lock);
	CHECK_EQ(store.err, 0);
	CHECK_EQ(store.puts, 3);
	CHECK_EQ(store.heads, 3);
	pthread_mutex_unlock(&store.lock);
	uploader_free(up);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"a_size_that_is_wrong_is_stored_again", a_size_that_is_wrong_is_stored_again}, {0}};

	return unit_main(argc, argv, tests);
}
