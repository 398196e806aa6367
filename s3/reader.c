/* See reader.h.
 *
 * A block in memory is a `struct mblock`: WAIT (its fetch is in flight; readers wait on `changed`), READY (data is
 * there; it may be evicted when nobody holds it), FAILED (err; the last holder frees it). All under one lock; data of a
 * READY block is immutable and read without it by who holds a reference. */
#include "s3/reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

#define HASH_SIZE 1024
#define STREAMS 1024

enum mstate { MB_WAIT, MB_READY, MB_FAILED };

struct mblock {
	struct mblock *hash_next, *lru_prev, *lru_next, *disk_next;
	struct slice_reader *r;
	uint64_t id;
	uint32_t k, size;
	enum mstate state;
	int err;
	unsigned refs;
	bool linked; /* in the hash table */
	uint8_t *data;
	char key[BLOCK_KEY_MAX]; /* of the object */
};

/* Where a sequential reader of a slice is; and the block of which a part was fetched last. */
struct stream {
	uint64_t id;
	uint32_t next_off;
	uint32_t part; /* block + 1, 0: none */
};

struct slice_reader {
	struct reader_config cfg;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock: */
	struct mblock *hash[HASH_SIZE];
	struct mblock lru; /* ring; lru.lru_next is the oldest */
	uint64_t memory;
	unsigned in_flight;
	struct stream streams[STREAMS];
	struct {
		uint64_t id;
		uint32_t k;
		bool again; /* and it was read once more since */
	} whole; /* the block of which all was fetched last, though a part was asked for; id 0: none, or it was in vain */
	struct reader_stats st;
	struct mblock *disk_head, **disk_tail; /* to be written to the disk cache, one reference each */
	bool stopping;
	pthread_t disk_thread;
	bool disk_running;
};

static struct mblock **hash_slot(struct slice_reader *r, uint64_t id, uint32_t k)
{
	return &r->hash[(id * 31 + k) * 2654435761u % HASH_SIZE];
}

static void lru_del(struct mblock *b)
{
	b->lru_prev->lru_next = b->lru_next;
	b->lru_next->lru_prev = b->lru_prev;
}

static void lru_add(struct slice_reader *r, struct mblock *b)
{
	b->lru_prev = r->lru.lru_prev;
	b->lru_next = &r->lru;
	b->lru_prev->lru_next = b;
	b->lru_next->lru_prev = b;
}

static struct mblock *find(struct slice_reader *r, uint64_t id, uint32_t k, uint32_t size)
{
	for (struct mblock *b = *hash_slot(r, id, k); b; b = b->hash_next)
		if (b->id == id && b->k == k && b->size == size)
			return b;
	return NULL;
}

static void block_unlink(struct slice_reader *r, struct mblock *b)
{
	struct mblock **p = hash_slot(r, b->id, b->k);

	if (!b->linked)
		return;
	while (*p != b)
		p = &(*p)->hash_next;
	*p = b->hash_next;
	lru_del(b);
	b->linked = false;
	r->memory -= b->size;
}

static void block_put(struct slice_reader *r, struct mblock *b)
{
	if (--b->refs > 0)
		return;
	if (b->linked && b->state == MB_READY)
		return; /* stays cached */
	block_unlink(r, b);
	free(b->data);
	free(b);
}

static void evict(struct slice_reader *r)
{
	struct mblock *b = r->lru.lru_next;

	while (r->memory > r->cfg.buffer_bytes && b != &r->lru) {
		struct mblock *next = b->lru_next;

		if (b->refs == 0) {
			block_unlink(r, b);
			free(b->data);
			free(b);
		}
		b = next;
	}
}

static struct mblock *block_add(struct slice_reader *r, uint64_t id, uint32_t k, uint32_t size)
{
	struct mblock *b = calloc(1, sizeof(*b)), **slot = hash_slot(r, id, k);

	if (!b)
		return NULL;
	*b = (struct mblock){.r = r, .id = id, .k = k, .size = size, .refs = 1, .linked = true, .hash_next = *slot};
	*slot = b;
	lru_add(r, b);
	r->memory += size;
	evict(r);
	return b;
}

/* Queues a READY block for the disk cache [locked]. */
static void disk_queue(struct slice_reader *r, struct mblock *b)
{
	if (!r->disk_running || r->stopping)
		return;
	b->refs++;
	b->disk_next = NULL;
	*r->disk_tail = b;
	r->disk_tail = &b->disk_next;
	pthread_cond_broadcast(&r->changed);
}

static void *disk_main(void *arg)
{
	struct slice_reader *r = arg;

	pthread_setname_np(pthread_self(), "jfs-cache");
	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct mblock *b = r->disk_head;

		if (!b) {
			if (r->stopping)
				break;
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		r->disk_head = b->disk_next;
		if (!r->disk_head)
			r->disk_tail = &r->disk_head;
		pthread_mutex_unlock(&r->lock);
		cache_write(r->cfg.cache, b->id, b->k, b->data, b->size);
		pthread_mutex_lock(&r->lock);
		block_put(r, b);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int reader_new(const struct reader_config *cfg, struct slice_reader **out)
{
	struct slice_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->cfg = *cfg;
	if (r->cfg.buffer_bytes < 2ull * cfg->format.block_size)
		r->cfg.buffer_bytes = 2ull * cfg->format.block_size;
	r->lru.lru_next = r->lru.lru_prev = &r->lru;
	r->disk_tail = &r->disk_head;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	if (cfg->cache) {
		int rc = pthread_create(&r->disk_thread, NULL, disk_main, r);

		if (rc) {
			reader_free(r);
			return -rc;
		}
		r->disk_running = true;
	}
	*out = r;
	return 0;
}

void reader_free(struct slice_reader *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	while (r->in_flight > 0)
		pthread_cond_wait(&r->changed, &r->lock);
	r->stopping = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (r->disk_running)
		pthread_join(r->disk_thread, NULL);
	while (r->lru.lru_next != &r->lru) {
		struct mblock *b = r->lru.lru_next;

		block_unlink(r, b);
		free(b->data);
		free(b);
	}
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Store thread: the object of a block arrived (or not). */
static void fetch_done(void *arg, const struct obj_result *res)
{
	struct mblock *b = arg;
	struct slice_reader *r = b->r;
	uint8_t *data = NULL;
	int err = res->err;

	if (!err && !(data = malloc(b->size ? b->size : 1)))
		err = -ENOMEM;
	if (!err)
		err = decompress_block(r->cfg.format.compression, res->data, res->len, data, b->size);
	if (res->err && res->err != -ECANCELED)
		log_error("what=\"cannot read object\" key=%s err=%d detail=\"%s\"", b->key, res->err, res->detail);
	else if (err && !res->err)
		log_error("what=\"object does not hold its block\" key=%s plain=%u stored=%zu", b->key, b->size, res->len);
	pthread_mutex_lock(&r->lock);
	b->err = err;
	b->state = err ? MB_FAILED : MB_READY;
	if (err) {
		free(data);
		block_unlink(r, b);
	} else {
		b->data = data;
		r->st.misses++;
		r->st.miss_bytes += b->size;
		disk_queue(r, b);
	}
	block_put(r, b); /* the fetch's own reference */
	r->in_flight--;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* Starts a fetch; the block is in the table in state WAIT [locked on entry and exit]. */
static void fetch_start(struct slice_reader *r, struct mblock *b, uint32_t slice_size, bool interactive)
{
	struct obj_request req = {.op = OBJ_GET, .key = b->key, .interactive = interactive, .done = fetch_done, .arg = b};

	b->refs++;
	r->in_flight++;
	block_key(&r->cfg.format, b->id, slice_size, b->k, b->key);
	pthread_mutex_unlock(&r->lock);
	int rc = obj_submit(r->cfg.store, &req);
	if (rc)
		fetch_done(b, &(struct obj_result){.err = rc, .detail = "not queued"});
	pthread_mutex_lock(&r->lock);
}

/* True when [off, off+len) continues what was read of this slice last [locked]. */
static bool is_sequential(struct slice_reader *r, uint64_t id, uint32_t off, uint32_t len)
{
	struct stream *s = &r->streams[id % STREAMS];
	bool sequential = off == 0 || (s->id == id && off == s->next_off);

	*s = (struct stream){.id = id, .next_off = off + len, .part = s->id == id ? s->part : 0};
	return sequential;
}

/* Is a part of the block enough? Who comes again for another part gets all of it: small files that share a block are read
 * one after the other (spec 5). And as long as that proves right, so does who comes to the next block for the first time. */
static bool part_will_do(struct slice_reader *r, uint64_t id, uint32_t k)
{
	struct stream *s = &r->streams[id % STREAMS];
	bool again, all;

	pthread_mutex_lock(&r->lock);
	again = s->id == id && s->part == k + 1;
	all = again || (r->whole.id && r->whole.again);
	r->whole.id = all ? id : 0;
	r->whole.k = k;
	r->whole.again = again;
	if (s->id == id)
		s->part = k + 1;
	pthread_mutex_unlock(&r->lock);
	return !all;
}

/* A read that needs no fetch [locked]. */
static void note_hit(struct slice_reader *r, uint64_t id, uint32_t k, uint32_t len)
{
	r->whole.again |= r->whole.id == id && r->whole.k == k;
	r->st.hits++;
	r->st.hit_bytes += len;
}

static void read_ahead(struct slice_reader *r, uint64_t id, uint32_t slice_size, uint32_t k)
{
	uint32_t blocks = block_count(&r->cfg.format, slice_size);

	for (uint32_t i = k + 1; i < blocks && i <= k + r->cfg.readahead; i++) {
		uint32_t size = block_len(&r->cfg.format, slice_size, i);

		if (find(r, id, i, size) || (r->cfg.cache && cache_has(r->cfg.cache, id, i, size)))
			continue;
		if (r->memory + size > r->cfg.buffer_bytes && r->in_flight > 0)
			break;
		struct mblock *b = block_add(r, id, i, size);
		if (!b)
			break;
		fetch_start(r, b, slice_size, false);
		block_put(r, b);
	}
}

static int read_range(struct slice_reader *r, uint64_t id, uint32_t slice_size, uint32_t k, uint32_t off, void *buf, uint32_t len)
{
	char key[BLOCK_KEY_MAX];
	struct errmsg e;
	uint8_t *data = NULL;
	size_t got = 0;

	block_key(&r->cfg.format, id, slice_size, k, key);
	int rc = obj_get_range(r->cfg.store, key, off, len, &data, &got, &e);
	if (rc) {
		log_error("what=\"cannot read object\" key=%s err=%d detail=\"%s\"", key, rc, e.text);
		return rc;
	}
	if (got >= len)
		memcpy(buf, data, len);
	free(data);
	if (got < len) {
		log_error("what=\"object shorter than its block\" key=%s want=%u got=%zu", key, off + len, off + got);
		return -EBADMSG;
	}
	return 0;
}

/* One block's part of a read. */
static int read_block(struct slice_reader *r, uint64_t id, uint32_t slice_size, uint32_t k, uint32_t off, void *buf,
	uint32_t len, bool sequential)
{
	uint32_t size = block_len(&r->cfg.format, slice_size, k);
	int rc;

	pthread_mutex_lock(&r->lock);
	struct mblock *b = find(r, id, k, size);
	if (b) {
		b->refs++;
		lru_del(b);
		lru_add(r, b);
		note_hit(r, id, k, len);
	} else {
		pthread_mutex_unlock(&r->lock);
		if (r->cfg.cache && cache_read(r->cfg.cache, id, k, size, off, buf, len) == 0) {
			pthread_mutex_lock(&r->lock);
			note_hit(r, id, k, len);
			pthread_mutex_unlock(&r->lock);
			return 0;
		}
		if (r->cfg.format.compression == COMPRESS_NONE && !sequential && off > 0 && len <= size / 4 && part_will_do(r, id, k))
			return read_range(r, id, slice_size, k, off, buf, len);
		pthread_mutex_lock(&r->lock);
		b = find(r, id, k, size);
		if (b) {
			b->refs++;
		} else {
			b = block_add(r, id, k, size);
			if (!b) {
				pthread_mutex_unlock(&r->lock);
				return -ENOMEM;
			}
			fetch_start(r, b, slice_size, true);
		}
	}
	while (b->state == MB_WAIT)
		pthread_cond_wait(&r->changed, &r->lock);
	rc = b->err;
	pthread_mutex_unlock(&r->lock);
	if (!rc)
		memcpy(buf, b->data + off, len);
	pthread_mutex_lock(&r->lock);
	block_put(r, b);
	evict(r);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

int reader_read(struct slice_reader *r, uint64_t id, uint32_t slice_size, uint32_t off, void *buf, uint32_t len)
{
	uint32_t bs = r->cfg.format.block_size;

	if (len > slice_size || off > slice_size - len)
		return -EBADMSG;
	pthread_mutex_lock(&r->lock);
	bool sequential = is_sequential(r, id, off, len);
	if (sequential && off > 0 && r->cfg.readahead > 0)
		read_ahead(r, id, slice_size, (off + len - 1) / bs);
	pthread_mutex_unlock(&r->lock);
	while (len > 0) {
		uint32_t k = off / bs, in = off % bs, n = bs - in < len ? bs - in : len;
		int rc = read_block(r, id, slice_size, k, in, buf, n, sequential);

		if (rc)
			return rc;
		buf = (char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

void reader_put(struct slice_reader *r, uint64_t id, uint32_t slice_size, uint32_t k, const void *data, uint32_t len)
{
	if (!r->cfg.cache || block_len(&r->cfg.format, slice_size, k) != len)
		return;
	cache_write(r->cfg.cache, id, k, data, len);
}

void reader_stats(struct slice_reader *r, struct reader_stats *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->st;
	out->memory_bytes = r->memory;
	pthread_mutex_unlock(&r->lock);
}
