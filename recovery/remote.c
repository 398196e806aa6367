#include "recovery/remote.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "daemon/storage.h"
#include "recovery/progress.h"
#include "redis/windows.h"
#include "redis/conn.h"
#include "redis/format.h"
#include "redis/keys.h"
#include "s3/block.h"

enum { IN_FLIGHT = 64 };

struct remote {
	struct rds_url url;
	struct rds_conn *conn;
	struct rds_setting setting;
	struct lease_state lease;
	bool has_lease, released;
};

int remote_open(const char *meta_url, const char *uuid, struct remote **out, struct errmsg *e)
{
	struct remote *rm = calloc(1, sizeof(*rm));
	int rc;

	if (!rm)
		return errmsg_set(e, -ENOMEM, "out of memory");
	rc = rds_url_parse(meta_url, &rm->url, e);
	if (!rc)
		rc = rds_url_env(&rm->url, e);
	if (!rc)
		rc = rds_conn_new(&rm->url, &rm->conn, e);
	if (!rc)
		rc = rds_volume_load(rm->conn, &rm->setting, NULL, NULL, e);
	if (!rc && uuid[0] && strcmp(uuid, rm->setting.uuid) != 0)
		rc = errmsg_set(e, -ESTALE, "%s holds volume %s, the journal is of %s", rds_conn_name(rm->conn), rm->setting.uuid, uuid);
	if (!rc) {
		rc = lease_read(rm->conn, &rm->lease, &rm->released, e);
		rm->has_lease = rc == 0;
		if (rc == -ENOENT)
			rc = 0;
	}
	if (rc) {
		remote_close(rm);
		return rc;
	}
	*out = rm;
	return 0;
}

void remote_close(struct remote *rm)
{
	if (!rm)
		return;
	rds_conn_free(rm->conn);
	rds_setting_fini(&rm->setting);
	explicit_bzero(&rm->url, sizeof(rm->url));
	free(rm);
}

bool remote_lease(const struct remote *rm, const char **journal)
{
	*journal = rm->lease.journal;
	return rm->has_lease;
}

/* Every client that writes takes the next number of a session; zjfs notes the one of its holder (redis/session.c). */
int remote_alone(struct remote *rm, bool *alone, struct errmsg *e)
{
	struct redisReply *r = NULL;
	char next[32] = "";
	int rc = rds_cmd(rm->conn, &r, e, "GET %s", RDS_NEXT_SESSION);

	if (!rc && r->type == REDIS_REPLY_STRING)
		snprintf(next, sizeof(next), "%s", r->str);
	rds_reply_free(r);
	r = NULL;
	if (!rc)
		rc = rds_cmd(rm->conn, &r, e, "HMGET %s session session.of", RDS_PRIVATE_KEY);
	if (!rc && (r->type != REDIS_REPLY_ARRAY || r->elements != 2))
		rc = errmsg_set(e, -EUCLEAN, "unexpected answer to HMGET");
	*alone = !rc && rm->has_lease && next[0] && r->element[0]->type == REDIS_REPLY_STRING && r->element[1]->type == REDIS_REPLY_STRING &&
		 strcmp(r->element[0]->str, next) == 0 && strcmp(r->element[1]->str, rm->lease.journal) == 0;
	rds_reply_free(r);
	return rc;
}

int remote_next_slice(struct remote *rm, uint64_t *out, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_cmd(rm->conn, &r, e, "GET %s", RDS_NEXT_CHUNK);

	*out = 0;
	if (!rc && r->type == REDIS_REPLY_STRING && rds_parse_u64(r->str, r->len, out))
		rc = errmsg_set(e, -EUCLEAN, "the counter %s in Redis is not a number", RDS_NEXT_CHUNK);
	rds_reply_free(r);
	return rc;
}

int remote_raise(struct remote *rm, uint64_t inode, uint64_t slice, struct errmsg *e)
{
	return lease_raise_counters(rm->conn, inode, slice, e);
}

/* --- the position --- */

static void fill_lease(const struct remote *rm, struct report *r)
{
	time_t seen = (time_t)rm->lease.seen;
	struct tm tm;

	r->redis_asked = true;
	r->released = rm->released;
	r->redis_epoch = rm->lease.pos.epoch;
	r->redis_seq = rm->lease.pos.seq;
	snprintf(r->holder, sizeof(r->holder), "%.200s (%.300s)", rm->lease.host, rm->lease.dir);
	if (!gmtime_r(&seen, &tm) || strftime(r->holder_seen, sizeof(r->holder_seen), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		strcpy(r->holder_seen, "?");
}

/* Another journal's history, or none. A journal that holds nothing is only out of date, which a mount sets right. */
static int other_history(const struct remote *rm, const struct scan *s, struct report *r)
{
	bool work = r->committed > s->position.seq;

	r->position = rm->has_lease ? "foreign" : "gone";
	if (!s->has_position && !work)
		return 0;
	r->no_replay = r->rebase = !rm->has_lease || work;
	if (!rm->has_lease)
		return report_broken(r, NULL, "Redis has lost the position: the volume was flushed, reloaded or restored");
	if (work)
		return report_broken(r, NULL, "the volume went on without this journal: Redis's position belongs to %s, last mounted "
					      "on %s", rm->lease.journal, r->holder);
	return 0;
}

/* What an operator reads where replay cannot go on from. */
static int tell_place(struct report *r, enum windows_place place, uint64_t seq, uint64_t trim)
{
	r->no_replay = true;
	if (place == PLACE_AHEAD)
		return report_broken(r, NULL, "Redis is at %" PRIu64 ", beyond this journal's end %" PRIu64 ": this is an old copy of it", seq,
			r->committed);
	if (place == PLACE_TRIMMED)
		return report_broken(r, NULL, "Redis fell back to %" PRIu64 "; the log begins only behind %" PRIu64, seq, trim);
	return report_broken(r, NULL, "Redis is at %" PRIu64 ", where no window of this journal ended: another history", seq);
}

int remote_position(struct remote *rm, const struct scan *s, struct report *r, uint64_t *applied)
{
	static const char *const names[] = {[PLACE_SAME] = "same", [PLACE_LATER] = "later", [PLACE_EARLIER] = "earlier",
		[PLACE_TRIMMED] = "earlier", [PLACE_AHEAD] = "later", [PLACE_UNKNOWN] = "foreign"};
	uint64_t trim = journal_mark(s->j, WM_TRIM); /* under way, perhaps */
	enum windows_place place = PLACE_SAME;
	int rc;

	fill_lease(rm, r);
	*applied = s->position.seq;
	if (!rm->has_lease || strcmp(rm->lease.journal, r->id) != 0 || !s->has_position)
		return other_history(rm, s, r);
	if (trim < r->trimmed)
		trim = r->trimmed;
	rc = windows_place(s->j, &rm->lease.pos, &s->position, trim, &place);
	if (rc)
		return rc;
	r->position = names[place];
	if (place == PLACE_AHEAD || place == PLACE_TRIMMED || place == PLACE_UNKNOWN) {
		r->rebase = place != PLACE_AHEAD;
		return tell_place(r, place, rm->lease.pos.seq, trim);
	}
	*applied = rm->lease.pos.seq;
	return 0;
}

/* --- objects --- */

struct asking {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned in_flight; /* lock */
	int err;	    /* lock: the first that is no answer */
	struct errmsg why;  /* lock */
};

struct block_ask {
	struct asking *a;
	uint64_t slice, got;
	uint32_t index, len; /* plain length */
	int err;
};

static void block_done(void *arg, const struct obj_result *res)
{
	struct block_ask *b = arg;
	struct asking *a = b->a;

	pthread_mutex_lock(&a->lock);
	b->err = res->err;
	b->got = res->size;
	if (res->err && res->err != -ENOENT && !a->err) {
		a->err = res->err;
		snprintf(a->why.text, sizeof(a->why.text), "the object store cannot be asked: %s", res->detail);
	}
	a->in_flight--;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
}

static int ask(struct obj_store *st, const struct block_format *f, const struct staged_slice *m, struct block_ask *b)
{
	struct asking *a = b->a;
	char key[BLOCK_KEY_MAX];
	int rc;

	block_key(f, m->slice_id, m->slice_size, b->index, key);
	struct obj_request req = {.op = OBJ_HEAD, .key = key, .done = block_done, .arg = b};

	pthread_mutex_lock(&a->lock);
	while (a->in_flight >= IN_FLIGHT)
		pthread_cond_wait(&a->cond, &a->lock);
	a->in_flight++;
	rc = a->err;
	pthread_mutex_unlock(&a->lock);
	if (!rc)
		rc = obj_submit(st, &req);
	if (rc) {
		pthread_mutex_lock(&a->lock);
		a->in_flight--;
		pthread_mutex_unlock(&a->lock);
	}
	return rc;
}

/* The first of those that use the slice. */
static size_t users_of(const struct scan *s, uint64_t slice)
{
	size_t lo = 0, hi = s->uses.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->uses.v[mid].slice < slice)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int tell_block(const struct scan *s, uint64_t ino, const struct block_ask *b, struct report *r)
{
	char *path = scan_path(s, ino);
	int rc;

	if (!path)
		return -ENOMEM;
	if (b->err == -ENOENT)
		rc = report_broken(r, path, "block %u of slice %" PRIu64 " is missing in the object store", b->index, b->slice);
	else
		rc = report_broken(r, path, "block %u of slice %" PRIu64 " has %" PRIu64 " bytes instead of %u", b->index, b->slice, b->got,
			b->len);
	free(path);
	return rc;
}

/* Every file that uses the slice is named. One that nothing local names any more may be deleted already: it is not missed. */
static int judge(const struct scan *s, const struct block_ask *b, bool plain, struct report *r)
{
	bool missing = b->err == -ENOENT, wrong = !missing && (b->got == 0 || (plain && b->got != b->len));
	size_t first = users_of(s, b->slice);
	int rc = 0;

	r->objects++;
	if ((!missing && !wrong) || first == s->uses.n || s->uses.v[first].slice != b->slice)
		return 0;
	r->objects_missing += missing;
	r->objects_short += wrong;
	for (size_t i = first; i < s->uses.n && s->uses.v[i].slice == b->slice && !rc; i++)
		if (i == first || s->uses.v[i].ino != s->uses.v[i - 1].ino)
			rc = tell_block(s, s->uses.v[i].ino, b, r);
	return rc;
}

static int cmp_slice_id(const void *a, const void *b)
{
	const struct staged_slice *x = a, *y = b;

	return (x->slice_id > y->slice_id) - (x->slice_id < y->slice_id);
}

/* The slices of applied windows, each once; and how many blocks they have. */
static int choose(const struct scan *s, uint64_t applied, const struct block_format *f, struct staged_slice **out, size_t *n,
	size_t *blocks)
{
	struct staged_slice *v = malloc((s->staged.slices.n + 1) * sizeof(*v));
	size_t k = 0, kept = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < s->staged.slices.n; i++)
		if (s->staged.slices.v[i].window_end <= applied)
			v[k++] = s->staged.slices.v[i];
	qsort(v, k, sizeof(*v), cmp_slice_id);
	*blocks = 0;
	for (size_t i = 0; i < k; i++)
		if (kept == 0 || v[kept - 1].slice_id != v[i].slice_id) {
			v[kept++] = v[i];
			*blocks += block_count(f, v[i].slice_size);
		}
	*out = v;
	*n = kept;
	return 0;
}

static int ask_all(struct obj_store *st, const struct block_format *f, const struct staged_slice *v, size_t n,
	struct block_ask *b, size_t blocks, struct errmsg *e)
{
	struct asking a = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct progress bar;
	size_t at = 0;
	int rc = 0;

	progress_begin(&bar, "objects", "objects", blocks);
	for (size_t i = 0; i < n && !rc; i++)
		for (uint32_t k = 0; k < block_count(f, v[i].slice_size) && !rc; k++) {
			b[at] = (struct block_ask){.a = &a, .slice = v[i].slice_id, .index = k,
				.len = block_len(f, v[i].slice_size, k)};
			rc = ask(st, f, &v[i], &b[at++]);
			progress_set(&bar, at);
		}
	pthread_mutex_lock(&a.lock);
	while (a.in_flight)
		pthread_cond_wait(&a.cond, &a.lock);
	pthread_mutex_unlock(&a.lock);
	progress_end(&bar);
	if (a.err)
		return errmsg_set(e, a.err, "%s", a.why.text);
	return rc ? errmsg_set(e, rc, "the object store cannot be asked: %s", strerror(-rc)) : 0;
}

/* The store that the setting names, and how its objects are cut. */
static int open_store(struct remote *rm, struct obj_store **store, struct block_format *f, struct errmsg *e)
{
	const struct storage_limits limits = {.max_parallel = IN_FLIGHT, .retries = 2, .timeout_ms = 30000};
	int rc = rds_setting_check(&rm->setting, e);

	if (rc)
		return rc;
	*f = (struct block_format){.block_size = (uint32_t)rm->setting.block_kib * 1024, .hash_prefix = rm->setting.hash_prefix};
	snprintf(f->volume, sizeof(f->volume), "%s", rm->setting.name);
	if (compress_parse(rm->setting.compression, &f->compression))
		return errmsg_set(e, -ENOTSUP, "unknown compression \"%s\"", rm->setting.compression);
	return storage_open(&rm->setting, &limits, store, e);
}

int remote_reader(struct remote *rm, struct obj_store **store, struct slice_reader **out, struct errmsg *e)
{
	struct reader_config c = {.buffer_bytes = 64ull << 20, .readahead = 4};
	int rc = open_store(rm, store, &c.format, e);

	if (rc)
		return rc;
	c.store = *store;
	rc = reader_new(&c, out);
	if (!rc)
		return 0;
	obj_store_close(*store);
	*store = NULL;
	return errmsg_set(e, rc, "out of memory");
}

int remote_objects(struct remote *rm, const struct scan *s, uint64_t applied, struct report *r, struct errmsg *e)
{
	struct block_format f;
	struct staged_slice *v = NULL;
	struct obj_store *st = NULL;
	struct block_ask *b = NULL;
	size_t n, blocks, at = 0;
	int rc = open_store(rm, &st, &f, e);

	if (rc)
		return rc;
	rc = choose(s, applied, &f, &v, &n, &blocks);
	if (!rc && !(b = calloc(blocks + 1, sizeof(*b))))
		rc = -ENOMEM;
	if (rc)
		errmsg_set(e, rc, "out of memory");
	if (!rc)
		rc = ask_all(st, &f, v, n, b, blocks, e);
	r->objects_asked = !rc;
	for (size_t i = 0; i < n && !rc; i++)
		for (uint32_t k = 0; k < block_count(&f, v[i].slice_size) && !rc; k++)
			rc = judge(s, &b[at++], f.compression == COMPRESS_NONE, r);
	free(b);
	free(v);
	obj_store_close(st);
	return rc;
}
