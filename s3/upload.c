/* See upload.h.
 *
 * One thread owns the order of work: it verifies slices, assembles blocks and submits them; the store's threads only
 * report results under the lock. A block goes ASSEMBLE -> PUT -> HEAD -> confirmed; any store error sends it to the
 * retry list and from there through PUT again (a PUT of the same bytes under the same name is harmless). While one waits there,
 * no other of its kind is begun: uploads and deletions do not hold each other back. */
#include "s3/upload.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"

#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS 30000

struct batch {
	unsigned slices_left;
	int err;
	void (*done)(void *arg, int err);
	void *arg;
};

struct slice_job {
	struct slice_job *next;
	struct batch *batch;
	struct slice_plan plan; /* pieces are ours; n == 0 in a deletion */
	bool remove;
	uint32_t blocks, next_block, left; /* left: blocks that were begun and are not through */
	uint32_t confirmed;
	uint64_t confirmed_bytes;
	int err;
};

struct block_job {
	struct block_job *next;
	struct uploader *up;
	struct slice_job *slice;
	uint32_t k, plain_len;
	uint8_t *data; /* as stored; NULL in a deletion */
	size_t len;
	uint64_t due_ms;
	uint32_t backoff_ms;
};

enum kind { UPLOAD, REMOVAL, KINDS };

struct queue {
	struct slice_job *first, **tail;
	unsigned retrying; /* blocks of this kind in the retry list */
};

struct uploader {
	struct uploader_config cfg;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	pthread_t thread;
	bool running;
	/* under lock: */
	struct queue queue[KINDS];
	enum kind turn; /* which is looked at first */
	struct slice_job *finished;  /* to be reported by the thread */
	struct block_job *retry;
	unsigned in_flight;
	uint64_t buffered;
	bool stopping;
	uint64_t failing_since_ms;
	long long last_log;
	struct uploader_stats st;
};

static void slice_free(struct slice_job *s)
{
	free(s->plan.pieces);
	free(s);
}

static void block_free(struct uploader *up, struct block_job *b)
{
	up->buffered -= b->len;
	free(b->data);
	free(b);
}

static struct queue *queue_of(struct uploader *up, const struct slice_job *s)
{
	return &up->queue[s->remove ? REMOVAL : UPLOAD];
}

/* What of the slice is not confirmed is pending from now on, or no more. */
static void stats_pending(struct uploader *up, const struct slice_job *s, int sign)
{
	if (s->remove)
		return;
	up->st.blocks_pending += (uint64_t)sign * (s->blocks - s->confirmed);
	up->st.bytes_pending += (uint64_t)sign * (s->plan.size - s->confirmed_bytes);
}

/* A block is through, one way or the other [locked]. */
static void block_finish(struct uploader *up, struct block_job *b, int err)
{
	struct slice_job *s = b->slice;

	if (err && !s->err)
		s->err = err;
	if (!err && !s->remove) {
		up->st.blocks_done++;
		up->st.bytes_done += b->plain_len;
		up->st.blocks_pending--;
		up->st.bytes_pending -= b->plain_len;
		s->confirmed++;
		s->confirmed_bytes += b->plain_len;
	}
	s->left--;
	block_free(up, b);
	if (s->left == 0 && s->next_block == s->blocks) {
		s->next = up->finished;
		up->finished = s;
	}
	pthread_cond_broadcast(&up->changed);
}

/* Tries again later [locked]. */
static void block_retry(struct uploader *up, struct block_job *b, int err, const char *what, const char *detail)
{
	uint64_t now = clock_mono_ms();

	up->st.errors++;
	if (!up->failing_since_ms)
		up->failing_since_ms = now;
	snprintf(up->st.last_error, sizeof(up->st.last_error), "%s: %s", what, detail);
	if (err != -ECANCELED && log_ratelimit(&up->last_log, 10000))
		log_warn("what=\"object store request failed, will try again\" op=%s slice=%llu block=%u err=%d detail=\"%s\"", what,
			(unsigned long long)b->slice->plan.id, b->k, err, detail);
	b->backoff_ms = b->backoff_ms ? b->backoff_ms * 2 : RETRY_FIRST_MS;
	if (b->backoff_ms > RETRY_MAX_MS)
		b->backoff_ms = RETRY_MAX_MS;
	b->due_ms = now + b->backoff_ms;
	b->next = up->retry;
	up->retry = b;
	queue_of(up, b->slice)->retrying++;
	pthread_cond_broadcast(&up->changed);
}

static void store_answers(struct uploader *up)
{
	up->failing_since_ms = 0;
	up->st.last_error[0] = 0;
}

static void head_done(void *arg, const struct obj_result *res)
{
	struct block_job *b = arg;
	struct uploader *up = b->up;
	char detail[128];

	FAULT_POINT("upload.verified");
	pthread_mutex_lock(&up->lock);
	up->in_flight--;
	if (!res->err && res->size == b->len) {
		store_answers(up);
		block_finish(up, b, 0);
	} else if (!res->err) {
		snprintf(detail, sizeof(detail), "stored %llu of %zu bytes", (unsigned long long)res->size, b->len);
		block_retry(up, b, -EBADMSG, "verify", detail);
	} else {
		block_retry(up, b, res->err, "verify", res->detail);
	}
	pthread_mutex_unlock(&up->lock);
}

static void put_done(void *arg, const struct obj_result *res)
{
	struct block_job *b = arg;
	struct uploader *up = b->up;
	char key[BLOCK_KEY_MAX];
	int rc = res->err;

	if (!rc) {
		struct obj_request req = {.op = OBJ_HEAD, .key = key, .done = head_done, .arg = b};

		FAULT_POINT("upload.stored");
		block_key(&up->cfg.format, b->slice->plan.id, b->slice->plan.size, b->k, key);
		rc = obj_submit(up->cfg.store, &req);
		if (!rc)
			return;
	}
	pthread_mutex_lock(&up->lock);
	up->in_flight--;
	block_retry(up, b, rc, "PUT", res->detail);
	pthread_mutex_unlock(&up->lock);
}

/* Not an outage: it is not tried again before who wants it deleted asks once more. */
static bool is_refused(int err)
{
	return err && err != -ETIMEDOUT && err != -ECONNREFUSED && err != -EIO && err != -ENODEV && err != -ENOMEM && err != -ECANCELED;
}

static void delete_done(void *arg, const struct obj_result *res)
{
	struct block_job *b = arg;
	struct uploader *up = b->up;

	pthread_mutex_lock(&up->lock);
	up->in_flight--;
	if (is_refused(res->err) && log_ratelimit(&up->last_log, 10000))
		log_warn("what=\"an object cannot be deleted\" slice=%llu block=%u err=%d detail=\"%s\"",
			(unsigned long long)b->slice->plan.id, b->k, res->err, res->detail);
	if (res->err && !is_refused(res->err)) {
		block_retry(up, b, res->err, "DELETE", res->detail);
	} else {
		store_answers(up);
		block_finish(up, b, res->err);
	}
	pthread_mutex_unlock(&up->lock);
}

/* Submits one block [not locked; in_flight has been raised for it]. */
static void block_send(struct uploader *up, struct block_job *b)
{
	char key[BLOCK_KEY_MAX];
	struct obj_request req = {.key = key, .arg = b};

	block_key(&up->cfg.format, b->slice->plan.id, b->slice->plan.size, b->k, key);
	if (b->slice->remove) {
		req.op = OBJ_DELETE;
		req.done = delete_done;
	} else {
		req.op = OBJ_PUT;
		req.data = b->data;
		req.len = b->len;
		req.done = put_done;
	}
	FAULT_POINT("upload.before_put");
	int rc = obj_submit(up->cfg.store, &req);
	if (rc) {
		pthread_mutex_lock(&up->lock);
		up->in_flight--;
		block_retry(up, b, rc, "submit", "out of memory");
		pthread_mutex_unlock(&up->lock);
	}
}

/* Bytes [off, off+len) of the slice, from its pieces. */
static int assemble(struct uploader *up, const struct slice_plan *p, uint32_t off, uint8_t *buf, uint32_t len)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < p->n && len > 0; at += p->pieces[i++].len) {
		const struct slice_piece *s = &p->pieces[i];
		int rc = 0;

		if (off >= at + s->len)
			continue;
		uint32_t in = off - at, n = s->len - in < len ? s->len - in : len;
		switch (s->kind) {
		case PIECE_ZERO:
			memset(buf, 0, n);
			break;
		case PIECE_STAGED:
			rc = staging_read(up->cfg.staging, s->segment, s->off + in, buf, n);
			break;
		case PIECE_OBJECT:
			rc = up->cfg.reader ? reader_read(up->cfg.reader, s->slice_id, s->slice_size, s->slice_off + in, buf, n)
					    : -EINVAL;
			if (rc && rc != -EBADMSG && rc != -ENOENT)
				rc = -EAGAIN; /* the store is away, the bytes are not lost */
			break;
		}
		if (rc)
			return rc;
		buf += n;
		off += n;
		len -= n;
	}
	return len ? -EINVAL : 0;
}

/* The run that a staged piece lies in must still match its checksum. */
static int verify_run(struct uploader *up, const struct slice_piece *s)
{
	uint8_t *buf = malloc(s->run_len);
	int rc = buf ? staging_read(up->cfg.staging, s->segment, s->run_off, buf, s->run_len) : -ENOMEM;

	if (!rc && XXH3_64bits(buf, s->run_len) != s->sum)
		rc = -EBADMSG;
	free(buf);
	return rc;
}

struct piece_list {
	struct slice_piece *v;
	uint32_t n;
};

static int pieces_add(struct piece_list *l, const struct slice_piece *p, uint32_t n)
{
	struct slice_piece *v = realloc(l->v, (l->n + n + 1) * sizeof(*v)); /* + 1: never 0 */

	if (!v)
		return -ENOMEM;
	if (n)
		memcpy(v + l->n, p, n * sizeof(*v));
	l->v = v;
	l->n += n;
	return 0;
}

/* The same bytes, in the objects that they went to. */
static int pieces_moved(struct uploader *up, const struct slice_piece *staged, struct piece_list *out)
{
	struct slice_piece s = *staged, object;
	int rc = up->cfg.moved ? 0 : -ENOENT;

	while (s.len && !rc) {
		rc = up->cfg.moved(up->cfg.ctx, &s, &object);
		if (!rc)
			rc = pieces_add(out, &object, 1);
		if (!rc) {
			s.off += object.len;
			s.len -= object.len;
		}
	}
	return rc;
}

static bool same_run(const struct slice_piece *a, const struct slice_piece *b)
{
	return a->kind == PIECE_STAGED && b->kind == PIECE_STAGED && a->segment == b->segment && a->run_off == b->run_off;
}

/* Every staged run the slice takes bytes from must still match its checksum: damage is found before it is published. A run that
 * is gone, or damaged, may have been uploaded before: Redis forgot, and its window is built anew (P8). Then its pieces become
 * pieces of that object. */
static int verify_pieces(struct uploader *up, struct slice_plan *p)
{
	struct piece_list out = {0}; /* empty: the plan's own will do so far */
	int rc = 0, run = 0;

	for (uint32_t i = 0; i < p->n && !rc; i++) {
		const struct slice_piece *s = &p->pieces[i];

		if (s->kind == PIECE_STAGED && (i == 0 || !same_run(s - 1, s)))
			run = verify_run(up, s);
		if (s->kind != PIECE_STAGED || !run) {
			rc = out.v ? pieces_add(&out, s, 1) : 0;
			continue;
		}
		rc = run;
		if (rc == -ENOENT || rc == -EBADMSG) {
			rc = out.v ? 0 : pieces_add(&out, p->pieces, i);
			rc = rc ? rc : pieces_moved(up, s, &out);
			rc = rc && rc != -ENOMEM ? run : rc; /* what is wrong with the run is the error, unless a later try may help */
		}
		if (rc)
			log_error("what=\"staged bytes cannot be uploaded\" slice=%llu segment=%llu off=%u len=%u err=%d",
				(unsigned long long)p->id, (unsigned long long)s->segment, s->run_off, s->run_len, rc);
	}
	if (rc || !out.v) {
		free(out.v);
		return rc;
	}
	log_info("what=\"staged bytes are read from the object that they went to\" slice=%llu", (unsigned long long)p->id);
	free(p->pieces);
	p->pieces = out.v;
	p->n = out.n;
	return 0;
}

/* Makes the stored form of block k. */
static int block_make(struct uploader *up, struct slice_job *s, struct block_job *b)
{
	const struct block_format *f = &up->cfg.format;
	size_t cap = compress_bound(f->compression, b->plain_len);
	uint8_t *plain = malloc(b->plain_len);
	int rc;

	if (!plain)
		return -ENOMEM;
	rc = assemble(up, &s->plan, b->k * f->block_size, plain, b->plain_len);
	if (!rc && up->cfg.reader)
		reader_put(up->cfg.reader, s->plan.id, s->plan.size, b->k, plain, b->plain_len);
	if (rc || f->compression == COMPRESS_NONE) {
		b->data = plain;
		b->len = b->plain_len;
		return rc;
	}
	b->data = malloc(cap);
	rc = b->data ? compress_block(f->compression, plain, b->plain_len, b->data, cap, &b->len) : -ENOMEM;
	free(plain);
	return rc;
}

static int block_prepare(struct uploader *up, struct slice_job *s, struct block_job *b)
{
	int rc = b->k == 0 ? verify_pieces(up, &s->plan) : 0;

	if (rc)
		return rc;
	rc = block_make(up, s, b);
	if (rc != -ENOENT)
		return rc;
	free(b->data);
	b->data = NULL;
	b->len = 0;
	rc = verify_pieces(up, &s->plan); /* a run was given back since then? */
	return rc ? rc : block_make(up, s, b);
}

/* Errors that no waiting cures: the bytes are not there. */
static bool is_final(int err)
{
	return err == -EBADMSG || err == -ENOENT || err == -EIO || err == -EINVAL;
}

/* Takes one block off the head of the queue and sends it [locked on entry and exit]. */
static void advance_head(struct uploader *up, struct queue *q)
{
	struct slice_job *s = q->first;
	struct block_job *b = calloc(1, sizeof(*b));
	int rc = b ? 0 : -ENOMEM;

	if (!rc) {
		*b = (struct block_job){.up = up, .slice = s, .k = s->next_block};
		b->plain_len = block_len(&up->cfg.format, s->plan.size, b->k);
		s->left++;
		pthread_mutex_unlock(&up->lock);
		if (!s->remove)
			rc = block_prepare(up, s, b);
		pthread_mutex_lock(&up->lock);
		up->buffered += b->len;
	}
	if (rc && !is_final(rc)) { /* memory is short, or another slice cannot be fetched now: the same block again later */
		if (b) {
			s->left--;
			block_free(up, b);
		}
		struct timespec t = clock_mono_after_ms(RETRY_FIRST_MS);
		up->st.errors++;
		pthread_cond_timedwait(&up->changed, &up->lock, &t);
		return;
	}
	s->next_block = rc ? s->blocks : s->next_block + 1; /* rc: what is in flight ends by itself, nothing more is sent */
	if (s->next_block == s->blocks) {
		q->first = s->next;
		if (!q->first)
			q->tail = &q->first;
	}
	if (rc) {
		block_finish(up, b, rc);
		return;
	}
	up->in_flight++;
	pthread_mutex_unlock(&up->lock);
	block_send(up, b);
	pthread_mutex_lock(&up->lock);
}

/* Sends one block whose time has come; else says when the next is due [locked on entry and exit]. */
static bool resend_due(struct uploader *up, uint64_t *next_due)
{
	uint64_t now = clock_mono_ms();

	*next_due = UINT64_MAX;
	for (struct block_job **p = &up->retry; *p; p = &(*p)->next) {
		struct block_job *b = *p;

		if (b->due_ms <= now) {
			*p = b->next;
			queue_of(up, b->slice)->retrying--;
			up->in_flight++;
			pthread_mutex_unlock(&up->lock);
			block_send(up, b);
			pthread_mutex_lock(&up->lock);
			return true;
		}
		if (b->due_ms < *next_due)
			*next_due = b->due_ms;
	}
	return false;
}

/* The queue that something may be sent of, in turns; NULL: none. */
static struct queue *may_send(struct uploader *up)
{
	if (up->in_flight >= up->cfg.max_parallel || (up->buffered >= up->cfg.buffer_bytes && up->in_flight))
		return NULL;
	for (int i = 0; i < KINDS; i++) {
		struct queue *q = &up->queue[(up->turn + i) % KINDS];

		if (q->first && !q->retrying) {
			up->turn = q == &up->queue[UPLOAD] ? REMOVAL : UPLOAD;
			return q;
		}
	}
	return NULL;
}

static void report_finished(struct uploader *up)
{
	while (up->finished) {
		struct slice_job *s = up->finished;
		struct batch *b = s->batch;

		up->finished = s->next;
		if (s->err && !b->err)
			b->err = s->err;
		if (s->err)
			stats_pending(up, s, -1);
		slice_free(s);
		if (--b->slices_left > 0)
			continue;
		pthread_mutex_unlock(&up->lock);
		b->done(b->arg, b->err);
		free(b);
		pthread_mutex_lock(&up->lock);
	}
}

/* Everything that has not ended yet ends as cancelled [locked]. The queue first: a slice in it is linked by `next`, and
 * the last block to end is what puts it on the finished list by the same link. */
static void cancel_all(struct uploader *up)
{
	for (int i = 0; i < KINDS; i++) {
		struct queue *q = &up->queue[i];

		while (q->first) {
			struct slice_job *s = q->first;

			q->first = s->next;
			s->next_block = s->blocks;
			s->err = -ECANCELED;
			if (s->left == 0) {
				s->next = up->finished;
				up->finished = s;
			}
		}
		q->tail = &q->first;
	}
	while (up->retry) {
		struct block_job *b = up->retry;

		up->retry = b->next;
		queue_of(up, b->slice)->retrying--;
		block_finish(up, b, -ECANCELED);
	}
}

static void *upload_main(void *arg)
{
	struct uploader *up = arg;
	struct queue *q;
	uint64_t next_due;

	pthread_setname_np(pthread_self(), "jfs-upload");
	pthread_mutex_lock(&up->lock);
	for (;;) {
		if (up->stopping)
			cancel_all(up);
		report_finished(up);
		if (up->stopping && up->in_flight == 0 && !up->finished && !up->retry)
			break; /* cancel_all has emptied the queues */
		if (up->stopping) {
			pthread_cond_wait(&up->changed, &up->lock);
			continue;
		}
		if (resend_due(up, &next_due))
			continue;
		q = may_send(up);
		if (q) {
			advance_head(up, q);
			continue;
		}
		if (up->finished)
			continue;
		if (next_due == UINT64_MAX) {
			pthread_cond_wait(&up->changed, &up->lock);
		} else {
			uint64_t now = clock_mono_ms();
			struct timespec t = clock_mono_after_ms(next_due > now ? next_due - now : 0);

			pthread_cond_timedwait(&up->changed, &up->lock, &t);
		}
	}
	pthread_mutex_unlock(&up->lock);
	return NULL;
}

int uploader_new(const struct uploader_config *cfg, struct uploader **out)
{
	struct uploader *up = calloc(1, sizeof(*up));
	pthread_condattr_t attr;
	int rc;

	if (!up)
		return -ENOMEM;
	up->cfg = *cfg;
	if (up->cfg.max_parallel == 0)
		up->cfg.max_parallel = 1;
	for (int i = 0; i < KINDS; i++)
		up->queue[i].tail = &up->queue[i].first;
	pthread_mutex_init(&up->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&up->changed, &attr);
	pthread_condattr_destroy(&attr);
	rc = pthread_create(&up->thread, NULL, upload_main, up);
	if (rc) {
		uploader_free(up);
		return -rc;
	}
	up->running = true;
	*out = up;
	return 0;
}

void uploader_free(struct uploader *up)
{
	if (!up)
		return;
	if (up->running) {
		pthread_mutex_lock(&up->lock);
		up->stopping = true;
		pthread_cond_broadcast(&up->changed);
		pthread_mutex_unlock(&up->lock);
		pthread_join(up->thread, NULL);
	}
	pthread_cond_destroy(&up->changed);
	pthread_mutex_destroy(&up->lock);
	free(up);
}

static struct slice_job *slice_new(struct uploader *up, const struct slice_plan *p, bool remove)
{
	struct slice_job *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->plan = *p;
	s->remove = remove;
	s->plan.pieces = NULL;
	s->blocks = block_count(&up->cfg.format, p->size);
	if (p->n > 0) {
		s->plan.pieces = malloc(p->n * sizeof(*p->pieces));
		if (!s->plan.pieces) {
			free(s);
			return NULL;
		}
		memcpy(s->plan.pieces, p->pieces, p->n * sizeof(*p->pieces));
	}
	return s;
}

static int submit(struct uploader *up, const struct slice_plan *plans, size_t n, bool remove, void (*done)(void *, int), void *arg)
{
	struct batch *b = calloc(1, sizeof(*b));
	struct slice_job *head = NULL, **tail = &head;

	if (!b)
		return -ENOMEM;
	*b = (struct batch){.slices_left = (unsigned)n, .done = done, .arg = arg};
	for (size_t i = 0; i < n; i++) {
		struct slice_job *s = slice_new(up, &plans[i], remove);

		if (!s) {
			while ((s = head)) {
				head = s->next;
				slice_free(s);
			}
			free(b);
			return -ENOMEM;
		}
		s->batch = b;
		*tail = s;
		tail = &s->next;
	}
	pthread_mutex_lock(&up->lock);
	for (struct slice_job *s = head; s; s = s->next)
		stats_pending(up, s, 1);
	*up->queue[remove ? REMOVAL : UPLOAD].tail = head;
	up->queue[remove ? REMOVAL : UPLOAD].tail = tail;
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
	return 0;
}

int uploader_submit(struct uploader *up, const struct slice_plan *plans, size_t n, void (*done)(void *, int), void *arg)
{
	if (n == 0)
		return -EINVAL;
	return submit(up, plans, n, false, done, arg);
}

int uploader_delete(struct uploader *up, uint64_t id, uint32_t size, void (*done)(void *, int), void *arg)
{
	const struct slice_plan p = {.id = id, .size = size};

	return submit(up, &p, 1, true, done, arg);
}

void uploader_kick(struct uploader *up)
{
	pthread_mutex_lock(&up->lock);
	for (struct block_job *b = up->retry; b; b = b->next)
		b->due_ms = 0;
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
}

void uploader_stats(struct uploader *up, struct uploader_stats *out)
{
	pthread_mutex_lock(&up->lock);
	*out = up->st;
	out->failing_ms = up->failing_since_ms ? clock_mono_ms() - up->failing_since_ms : 0;
	pthread_mutex_unlock(&up->lock);
}
