/* The uploader: real staging, real file store. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "s3/upload.h"
#include "util/clock.h"
#include "util/fault.h"

#define BS (64u << 10)

struct env {
	char dir[64], bucket[96];
	struct obj_store *store;
	struct staging *staging;
	struct slice_reader *reader;
	struct uploader *up;
	struct block_format f;
};

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int done, err;
};

static void batch_done(void *arg, int err)
{
	struct waiter *w = arg;

	pthread_mutex_lock(&w->lock);
	w->done++;
	w->err = err;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static int wait_done(struct waiter *w, int n)
{
	pthread_mutex_lock(&w->lock);
	while (w->done < n)
		pthread_cond_wait(&w->cond, &w->lock);
	int err = w->err;
	pthread_mutex_unlock(&w->lock);
	return err;
}

#define WAITER {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER}

static void setup_moved(struct env *v, enum compression c, uploader_moved moved, void *ctx)
{
	struct obj_config oc = {.storage = "file", .max_parallel = 4, .timeout_ms = 5000};
	char path[96];
	struct errmsg e;

	memset(v, 0, sizeof(*v));
	strcpy(v->dir, "/tmp/jfs-upload-XXXXXX");
	REQUIRE(mkdtemp(v->dir));
	snprintf(v->bucket, sizeof(v->bucket), "%s/bucket/", v->dir);
	snprintf(path, sizeof(path), "%s/staging", v->dir);
	oc.bucket = v->bucket;
	v->f = (struct block_format){.volume = "vol", .block_size = BS, .compression = c};
	REQUIRE(obj_store_open(&oc, &v->store, &e) == 0);
	REQUIRE(staging_open(path, 1, &v->staging, &e) == 0);
	struct reader_config rc = {.store = v->store, .format = v->f, .buffer_bytes = 4 * BS};
	REQUIRE(reader_new(&rc, &v->reader) == 0);
	struct uploader_config uc = {.store = v->store, .staging = v->staging, .reader = v->reader, .format = v->f,
		.buffer_bytes = 3 * BS, .max_parallel = 4, .moved = moved, .ctx = ctx};
	REQUIRE(uploader_new(&uc, &v->up) == 0);
}

static void setup(struct env *v, enum compression c)
{
	setup_moved(v, c, NULL, NULL);
}

static struct slice_piece staged_piece(const struct staged *run, uint32_t skip, uint32_t len)
{
	return (struct slice_piece){.kind = PIECE_STAGED, .len = len, .segment = run->segment, .off = run->off + skip, .run_off = run->off,
		.run_len = run->len, .sum = run->sum};
}

static void teardown(struct env *v)
{
	char cmd[96];

	uploader_free(v->up);
	reader_free(v->reader);
	obj_store_close(v->store);
	staging_close(v->staging);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", v->dir);
	REQUIRE(system(cmd) == 0);
}

/* Slices out of staged runs, parts of runs, zeros and bytes of other slices read back as what they were made of. */
static void compose(void)
{
	uint64_t seed = unit_seed();

	for (int c = COMPRESS_NONE; c <= COMPRESS_ZSTD; c++) {
		struct env v;
		struct waiter w = WAITER;
		uint8_t *expect = malloc(400000), *got = malloc(400000), *prev = NULL;
		uint32_t prev_size = 0;

		setup(&v, (enum compression)c);
		REQUIRE(expect && got);
		for (uint64_t id = 1; id <= 12; id++) {
			struct slice_piece pieces[20];
			struct slice_plan p = {.id = id, .pieces = pieces};

			while (p.n < 20 && p.size < 300000) {
				struct slice_piece *s = &pieces[p.n++];
				uint32_t len = (uint32_t)(unit_rand(&seed) % 40000) + 1;

				*s = (struct slice_piece){.kind = (enum piece_kind)(unit_rand(&seed) % (id > 1 ? 3 : 2)), .len = len};
				if (s->kind == PIECE_OBJECT) {
					s->slice_id = id - 1;
					s->slice_size = prev_size;
					s->slice_off = (uint32_t)(unit_rand(&seed) % prev_size);
					if (s->len > prev_size - s->slice_off)
						s->len = prev_size - s->slice_off;
					memcpy(expect + p.size, prev + s->slice_off, s->len);
				} else if (s->kind == PIECE_STAGED) {
					struct staged st;
					uint8_t *run = malloc(len);

					REQUIRE(run);
					for (uint32_t i = 0; i < len; i++)
						run[i] = (uint8_t)(unit_rand(&seed) >> 24);
					REQUIRE(staging_append(v.staging, run, len, &st) == 0);
					uint32_t skip = (uint32_t)(unit_rand(&seed) % len);
					s->segment = st.segment;
					s->run_off = st.off;
					s->run_len = len;
					s->sum = st.sum;
					s->off = st.off + skip;
					s->len = len - skip;
					memcpy(expect + p.size, run + skip, s->len);
					free(run);
				} else {
					memset(expect + p.size, 0, len);
				}
				p.size += s->len;
			}
			REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
			CHECK_EQ(wait_done(&w, (int)id), 0);
			CHECK_EQ(reader_read(v.reader, id, p.size, 0, got, p.size), 0);
			CHECK(memcmp(got, expect, p.size) == 0);
			free(prev);
			prev = malloc(p.size);
			REQUIRE(prev);
			memcpy(prev, expect, p.size);
			prev_size = p.size;
		}
		struct uploader_stats st;
		uploader_stats(v.up, &st);
		CHECK_EQ(st.blocks_pending, 0);
		CHECK_EQ(st.bytes_pending, 0);
		CHECK_EQ(st.errors, 0);
		/* deletion takes every block; a second time is fine too */
		struct waiter d = WAITER;
		REQUIRE(uploader_delete(v.up, 12, prev_size, batch_done, &d) == 0);
		CHECK_EQ(wait_done(&d, 1), 0);
		REQUIRE(uploader_delete(v.up, 12, prev_size, batch_done, &d) == 0);
		CHECK_EQ(wait_done(&d, 2), 0);
		struct errmsg e;
		uint64_t size;
		char key[BLOCK_KEY_MAX];
		for (uint32_t k = 0; k < block_count(&v.f, prev_size); k++) {
			block_key(&v.f, 12, prev_size, k, key);
			CHECK_EQ(obj_head(v.store, key, &size, &e), -ENOENT);
		}
		free(prev);
		free(expect);
		free(got);
		teardown(&v);
	}
}

/* A run that no longer matches its checksum is not uploaded; the batch ends with -EBADMSG; others go on. */
static void damaged_run(void)
{
	struct env v;
	struct waiter w = WAITER;
	struct staged st;
	uint8_t data[1000];
	char path[200];

	setup(&v, COMPRESS_NONE);
	memset(data, 5, sizeof(data));
	REQUIRE(staging_append(v.staging, data, sizeof(data), &st) == 0);
	struct slice_piece piece = {.kind = PIECE_STAGED, .len = 1000, .segment = st.segment, .off = st.off, .run_off = st.off,
		.run_len = 1000, .sum = st.sum ^ 1};
	struct slice_plan p = {.id = 9, .size = 1000, .n = 1, .pieces = &piece};
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
	CHECK_EQ(wait_done(&w, 1), -EBADMSG);
	snprintf(path, sizeof(path), "%svol/chunks/0/0/9_0_1000", v.bucket);
	CHECK(access(path, F_OK) != 0);
	/* a segment that is gone */
	piece.sum = st.sum;
	piece.segment = 77;
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
	CHECK_EQ(wait_done(&w, 2), -ENOENT);
	piece.segment = st.segment;
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
	CHECK_EQ(wait_done(&w, 3), 0);
	struct uploader_stats us;
	uploader_stats(v.up, &us);
	CHECK_EQ(us.blocks_pending, 0);
	CHECK_EQ(us.bytes_pending, 0);
	teardown(&v);
}

/* Staged bytes that went into slices 20 (the run's first 600) and 21: what the journal would know. */
static int moved_to(void *ctx, const struct slice_piece *staged, struct slice_piece *object)
{
	const struct staged *run = ctx;
	uint32_t skip = staged->off - run->off, left = skip < 600 ? 600 - skip : 1000 - skip;

	if (staged->segment != run->segment)
		return -ENOENT;
	*object = (struct slice_piece){.kind = PIECE_OBJECT, .len = left < staged->len ? left : staged->len,
		.slice_id = skip < 600 ? 20 : 21, .slice_size = skip < 600 ? 600 : 400, .slice_off = skip < 600 ? skip : skip - 600};
	return 0;
}

/* P8: Redis forgot a window whose staged bytes were given back, and it is made anew: they are read from where they went. */
static void what_was_given_back_is_read_from_its_objects(void)
{
	static uint8_t big[4 << 20];
	struct staged st, other;
	struct env v;
	struct waiter w = WAITER;
	uint8_t data[1000], expect[1400], got[1400];
	uint64_t seed = unit_seed();

	memset(big, 'b', sizeof(big));
	for (int round = 0; round < 2; round++) { /* the segment is gone; the run is damaged */
		setup_moved(&v, COMPRESS_NONE, moved_to, &st);
		staging_set_segment_size(v.staging, sizeof(big));
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)unit_rand(&seed);
		REQUIRE(staging_append(v.staging, data, sizeof(data), &st) == 0);
		struct slice_piece parts[2] = {staged_piece(&st, 0, 600), staged_piece(&st, 600, 400)};
		struct slice_plan first[2] = {{.id = 20, .size = 600, .n = 1, .pieces = &parts[0]}, {.id = 21, .size = 400, .n = 1, .pieces = &parts[1]}};
		REQUIRE(uploader_submit(v.up, first, 2, batch_done, &w) == 0);
		REQUIRE(wait_done(&w, 2 * round + 1) == 0);
		staging_release(v.staging, st.segment);
		REQUIRE(staging_append(v.staging, big, sizeof(big), &other) == 0); /* does not fit into the first one */
		if (round == 0)
			REQUIRE(staging_remove(v.staging, st.segment) == 0);
		else
			st.sum ^= 1;
		struct slice_piece pieces[5] = {{.kind = PIECE_ZERO, .len = 100}, staged_piece(&other, 7, 4), staged_piece(&st, 10, 700),
			staged_piece(&st, 0, 590), {.kind = PIECE_ZERO, .len = 6}};
		struct slice_plan p = {.id = 22, .size = sizeof(expect), .n = 5, .pieces = pieces};
		REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
		CHECK_EQ(wait_done(&w, 2 * round + 2), 0);
		memset(expect, 0, sizeof(expect));
		memset(expect + 100, 'b', 4);
		memcpy(expect + 104, data + 10, 700);
		memcpy(expect + 804, data, 590);
		CHECK_EQ(reader_read(v.reader, 22, sizeof(expect), 0, got, sizeof(got)), 0);
		CHECK(memcmp(got, expect, sizeof(expect)) == 0);
		teardown(&v);
	}
}

/* A store that refuses is waited out; what was submitted then ends well. */
static void outage(void)
{
	struct env v;
	struct waiter w = WAITER;
	struct slice_piece piece = {.kind = PIECE_ZERO, .len = 5 * BS};
	struct slice_plan p = {.id = 3, .size = 5 * BS, .n = 1, .pieces = &piece};
	struct uploader_stats us;
	char cmd[400];

	setup(&v, COMPRESS_NONE);
	/* a file where the volume's directory has to be: every PUT fails */
	snprintf(cmd, sizeof(cmd), "mkdir -p %s && touch %svol", v.bucket, v.bucket);
	REQUIRE(system(cmd) == 0);
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
	do
		uploader_stats(v.up, &us);
	while (us.errors == 0);
	CHECK(us.blocks_pending == 5 && us.last_error[0]);
	snprintf(cmd, sizeof(cmd), "rm %svol", v.bucket);
	REQUIRE(system(cmd) == 0);
	uploader_kick(v.up);
	CHECK_EQ(wait_done(&w, 1), 0);
	uploader_stats(v.up, &us);
	CHECK(us.blocks_pending == 0 && us.blocks_done == 5 && us.last_error[0] == 0 && us.failing_ms == 0);
	/* closed in the middle of an outage: cancelled, nobody waits for ever */
	snprintf(cmd, sizeof(cmd), "rm -r %svol && touch %svol", v.bucket, v.bucket);
	REQUIRE(system(cmd) == 0);
	p.id = 4;
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
	uploader_free(v.up);
	v.up = NULL;
	CHECK_EQ(wait_done(&w, 2), -ECANCELED);
	teardown(&v);
}

/* Closed while a block waits to be sent again, and more of its slice, and other slices, have not been sent at all. */
static void closed_between_retries(void)
{
	struct env v;
	struct waiter w = WAITER;
	struct slice_piece piece = {.kind = PIECE_ZERO, .len = 50 * BS};
	struct slice_plan p[2] = {{.id = 3, .size = 50 * BS, .n = 1, .pieces = &piece}, {.id = 4, .size = 50 * BS, .n = 1, .pieces = &piece}};
	struct uploader_stats us;
	char cmd[400];

	setup(&v, COMPRESS_NONE);
	snprintf(cmd, sizeof(cmd), "mkdir -p %s && touch %svol", v.bucket, v.bucket);
	REQUIRE(system(cmd) == 0);
	REQUIRE(uploader_submit(v.up, p, 2, batch_done, &w) == 0);
	REQUIRE(uploader_submit(v.up, p, 1, batch_done, &w) == 0);
	do
		uploader_stats(v.up, &us);
	while (us.errors == 0);
	uploader_free(v.up);
	v.up = NULL;
	CHECK_EQ(wait_done(&w, 2), -ECANCELED);
	CHECK_EQ(w.done, 2);
	teardown(&v);
}

/* Objects that the store does not let us delete, here because a directory has their name: the slice's others go, that is told,
 * and nothing else waits for it. */
static void what_cannot_be_deleted_is_told(void)
{
	struct env v;
	struct waiter gone = WAITER, stored = WAITER;
	struct slice_piece piece = {.kind = PIECE_ZERO, .len = 3 * BS};
	struct slice_plan p = {.id = 9, .size = 3 * BS, .n = 1, .pieces = &piece};
	char cmd[400];

	setup(&v, COMPRESS_NONE);
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &stored) == 0);
	CHECK_EQ(wait_done(&stored, 1), 0);
	snprintf(cmd, sizeof(cmd), "cd %svol/chunks/0/0 && rm 9_0_%u && mkdir -p 9_0_%u/x", v.bucket, BS, BS);
	REQUIRE(system(cmd) == 0);
	REQUIRE(uploader_delete(v.up, 9, p.size, batch_done, &gone) == 0);
	CHECK(wait_done(&gone, 1) < 0);
	snprintf(cmd, sizeof(cmd), "cd %svol/chunks/0/0 && test -d 9_0_%u -a ! -e 9_1_%u -a ! -e 9_2_%u && rm -r 9_0_%u", v.bucket, BS, BS, BS, BS);
	CHECK_EQ(system(cmd), 0);
	REQUIRE(uploader_delete(v.up, 9, p.size, batch_done, &gone) == 0);
	CHECK_EQ(wait_done(&gone, 2), 0);
	teardown(&v);
}

/* The store does not answer deletions, which wait to be tried again: uploads go on. */
static void deletions_hold_no_upload_back(void)
{
	struct env v;
	struct waiter gone = WAITER, stored = WAITER;
	struct slice_piece piece = {.kind = PIECE_ZERO, .len = 200 * BS};
	struct slice_plan p = {.id = 3, .size = 200 * BS, .n = 1, .pieces = &piece};
	struct uploader_stats us;
	uint64_t began;

	setup(&v, COMPRESS_NONE);
	REQUIRE(setenv("JFS_FAULT", "s3.file.delete:1+:EIO", 1) == 0);
	fault_init();
	REQUIRE(uploader_delete(v.up, 9, 100, batch_done, &gone) == 0);
	do
		uploader_stats(v.up, &us);
	while (us.errors == 0);
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &stored) == 0);
	began = clock_mono_ms();
	do { /* a few blocks would get through whenever the deletion is tried */
		usleep(1000);
		uploader_stats(v.up, &us);
	} while (us.blocks_done < 200 && clock_mono_ms() - began < 15000);
	CHECK_EQ(us.blocks_done, 200);
	fault_active = false;
	uploader_kick(v.up);
	CHECK_EQ(wait_done(&gone, 1), 0);
	CHECK_EQ(wait_done(&stored, 1), 0);
	teardown(&v);
}

/* The slice that is copied from is lost; a block before was stored already. */
static void a_lost_source_leaves_nothing_pending(void)
{
	struct env v;
	struct waiter w = WAITER;
	struct slice_piece pieces[2] = {{.kind = PIECE_ZERO, .len = BS}, {.kind = PIECE_OBJECT, .len = BS, .slice_id = 5, .slice_size = BS}};
	struct slice_plan p = {.id = 6, .size = 2 * BS, .n = 2, .pieces = pieces};
	struct uploader_stats us;

	setup(&v, COMPRESS_NONE);
	REQUIRE(uploader_submit(v.up, &p, 1, batch_done, &w) == 0);
	CHECK_EQ(wait_done(&w, 1), -ENOENT);
	uploader_stats(v.up, &us);
	CHECK(us.blocks_done == 1 && us.blocks_pending == 0 && us.bytes_pending == 0);
	teardown(&v);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"compose", compose}, {"damaged_run", damaged_run},
		{"what_was_given_back_is_read_from_its_objects", what_was_given_back_is_read_from_its_objects}, {"outage", outage},
		{"closed_between_retries", closed_between_retries},
		{"what_cannot_be_deleted_is_told", what_cannot_be_deleted_is_told},
		{"deletions_hold_no_upload_back", deletions_hold_no_upload_back},
		{"a_lost_source_leaves_nothing_pending", a_lost_source_leaves_nothing_pending}, {0}};

	return unit_main(argc, argv, tests);
}
