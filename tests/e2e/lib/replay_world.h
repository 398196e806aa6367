/* The world of the replayer's tests: a journal, a redis-server behind a relay that cuts connections, an uploader that keeps slices in
 * memory, and the model that writes the records. */
#ifndef JFS_TESTS_REPLAY_WORLD_H
#define JFS_TESTS_REPLAY_WORLD_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "journal/extent.h"
#include "redis/replayer.h"
#include "redis/windows.h"
#include "tests/e2e/lib/replay_check.h"
#include "util/clock.h"

/* --- a relay that cuts connections --- */

struct relay {
	char sock[128], to[96];
	int listen_fd;
	pthread_t thread;
	atomic_long cut_in; /* bytes of answers until the next cut; negative: never */
	atomic_long cut_out; /* bytes of commands until the next cut */
	atomic_bool stop, refuse;
	atomic_int cuts;
	/* While it captures, commands do not arrive; the test may send them later. */
	atomic_bool capture;
	atomic_size_t taken_n;
	char taken[1 << 20];
};

static int unix_fd(const char *path, bool serve)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (serve) {
		unlink(path);
		REQUIRE(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 8) == 0);
	} else if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Moves what is there; false: this connection is over. */
static bool relay_move(struct relay *r, int from, int to, atomic_long *left)
{
	char buf[65536];
	long budget = atomic_load(left);
	ssize_t n = read(from, buf, sizeof(buf)), at = 0;

	if (n <= 0)
		return false;
	if (left == &r->cut_out && atomic_load(&r->capture)) {
		size_t had = atomic_load(&r->taken_n);

		REQUIRE(had + (size_t)n <= sizeof(r->taken));
		memcpy(r->taken + had, buf, (size_t)n);
		atomic_store(&r->taken_n, had + (size_t)n);
		return true;
	}
	if (budget >= 0 && n >= budget) {
		n = budget;
		atomic_store(left, -1);
		atomic_fetch_add(&r->cuts, 1);
	} else if (budget >= 0) {
		atomic_fetch_sub(left, n);
		budget = -1;
	}
	while (at < n) {
		ssize_t w = write(to, buf + at, (size_t)(n - at));

		if (w <= 0)
			return false;
		at += w;
	}
	return budget < 0;
}

static void *relay_run(void *arg)
{
	struct relay *r = arg;
	int c = -1, s = -1;

	while (!atomic_load(&r->stop)) {
		struct pollfd p[3] = { { r->listen_fd, POLLIN, 0 }, { c, POLLIN, 0 }, { s, POLLIN, 0 } };
		bool ok = true;

		poll(p, 3, 20);
		if (c >= 0 && (p[1].revents || p[2].revents)) {
			if (p[1].revents)
				ok = relay_move(r, c, s, &r->cut_out);
			if (ok && p[2].revents)
				ok = relay_move(r, s, c, &r->cut_in);
		}
		if (c >= 0 && (!ok || atomic_load(&r->refuse))) {
			close(c);
			close(s);
			c = s = -1;
		}
		if (c < 0 && (p[0].revents & POLLIN)) {
			c = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);
			s = atomic_load(&r->refuse) ? -1 : unix_fd(r->to, false);
			if (s < 0) {
				close(c);
				c = -1;
			}
		}
	}
	if (c >= 0)
		close(c), close(s);
	return NULL;
}

/* --- one world --- */

struct world {
	struct redis_here redis;
	struct rds_conn *conn; /* of the test */
	struct relay relay;
	struct model *m;
	struct store *st;
	uint64_t *js; /* journal sequence of each model record */
	char dir[64], cache[96], hot[96];
	struct journal *j;
	struct replayer *r;
	struct rds_url url;
	uint64_t sid, next_slice, delay_ms, retention_ms, republish_ms, upload_takes_ms;
	uint64_t ahead_ns; /* the clock was so far ahead when records were made */
	bool eager;
	uint32_t pack_size; /* small slices share others of up to so many bytes; 0: none do */
	pthread_mutex_t lock, r_lock; /* r_lock: r, for the journal's notification */
	atomic_int deleted, hold_uploads, refused;
	bool refuse; /* deletions */
	atomic_bool gate, at_gate; /* an upload waits at a closed gate: in the replayer's thread, or in one of its own */
	bool own_threads;
	atomic_int on_their_way;
	struct upload *held[8]; /* under the lock, as the next */
	int n_held;
	uint32_t bad_from, bad_to; /* staged bytes that cannot be read */
	bool given_back[sizeof(((struct model *)0)->stage)]; /* and those of runs that begin here are in the objects that they went to */
	atomic_int moved;	   /* pieces that were read from there */
};

struct id_search {
	uint8_t id[8];
};

static int holds_id(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	const struct id_search *s = arg;

	(void)key;
	(void)klen;
	return memmem(val, vlen, s->id, sizeof(s->id)) != NULL;
}

/* P4, HISTORIES 35: what is uploaded stands in a window that a power cut would leave. */
static bool is_recorded_durably(struct world *w, uint64_t id)
{
	static const uint8_t windows = T_WINDOW;
	struct id_search s;

	put_be64(s.id, id);
	return journal_base_scan(w->j, &windows, 1, holds_id, &s) == 1;
}

/* The piece's bytes, if they are there: the object that it copies from may have been taken by a gc. */
static int piece_read(struct world *w, const struct slice_piece *p, uint8_t *out)
{
	struct slice_piece s = *p, o;
	const struct ck_slice *obj;

	switch (p->kind) {
	case PIECE_ZERO:
		memset(out, 0, p->len);
		return 0;
	case PIECE_OBJECT:
		obj = store_get(w->st, p->slice_id);
		if (obj)
			memcpy(out, obj->bytes + p->slice_off, p->len);
		return obj ? 0 : -ENOENT;
	case PIECE_STAGED:
		break;
	}
	if (p->off < w->bad_to && p->off + p->len > w->bad_from)
		return -EBADMSG;
	if (!w->given_back[p->run_off]) {
		memcpy(out, w->m->stage + p->off, p->len);
		return 0;
	}
	for (atomic_fetch_add(&w->moved, 1); s.len; out += o.len, s.off += o.len, s.len -= o.len)
		if (windows_moved(w->j, &s, UINT64_MAX, &o) != 0 || piece_read(w, &o, out) != 0)
			return -ENOENT;
	return 0;
}

/* 0, -ENOENT, -EBADMSG: then nothing behind it was uploaded either. */
static int upload_do(struct world *w, const struct slice_plan *plans, size_t n)
{
	int err = 0;

	while (atomic_load(&w->gate)) {
		atomic_store(&w->at_gate, true);
		usleep(1000);
	}
	for (uint64_t from = clock_boot_ms(); clock_boot_ms() - from < w->upload_takes_ms;)
		usleep(1000);
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < n && !err; i++) {
		uint8_t *bytes = malloc(plans[i].size);
		const struct ck_slice *old = store_get(w->st, plans[i].id);
		uint32_t at = 0;

		REQUIRE(bytes);
		for (uint32_t k = 0; k < plans[i].n && !err; at += plans[i].pieces[k++].len)
			err = piece_read(w, &plans[i].pieces[k], bytes + at);
		if (err) {
			free(bytes);
			break;
		}
		if (old) { /* HISTORIES 35: never other bytes under an id */
			CHECK(old->size == plans[i].size && memcmp(old->bytes, bytes, old->size) == 0);
			free(bytes);
			continue;
		}
		w->st->s[w->st->n++] = (struct ck_slice){ plans[i].id, plans[i].size, bytes };
	}
	pthread_mutex_unlock(&w->lock);
	return err;
}

struct upload {
	struct world *w;
	struct slice_plan *plans; /* a copy */
	size_t n;
	void (*done)(void *arg, int err);
	void *arg;
};

static struct slice_plan *plans_copy(const struct slice_plan *plans, size_t n)
{
	struct slice_plan *out = calloc(n, sizeof(*out));

	REQUIRE(out);
	for (size_t i = 0; i < n; i++) {
		out[i] = plans[i];
		out[i].pieces = malloc(plans[i].n * sizeof(*plans[i].pieces));
		REQUIRE(out[i].pieces);
		memcpy(out[i].pieces, plans[i].pieces, plans[i].n * sizeof(*plans[i].pieces));
	}
	return out;
}

static struct upload *upload_new(struct world *w, const struct slice_plan *plans, size_t n, void (*done)(void *arg, int err), void *arg)
{
	struct upload *u = malloc(sizeof(*u));

	REQUIRE(u);
	*u = (struct upload){ w, plans_copy(plans, n), n, done, arg };
	return u;
}

/* Answers, and frees it. */
static void upload_end(struct upload *u, bool cancel)
{
	u->done(u->arg, cancel ? -ECANCELED : upload_do(u->w, u->plans, u->n));
	for (size_t i = 0; i < u->n; i++)
		free(u->plans[i].pieces);
	free(u->plans);
	free(u);
}

static void *upload_run(void *arg)
{
	struct world *w = ((struct upload *)arg)->w;

	upload_end(arg, false);
	atomic_fetch_sub(&w->on_their_way, 1);
	return NULL;
}

static int held_count(struct world *w)
{
	pthread_mutex_lock(&w->lock);
	int n = w->n_held;
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* Number i of those that are held; then the others move up. */
static void held_end(struct world *w, int i, bool cancel)
{
	struct upload *u;

	pthread_mutex_lock(&w->lock);
	u = w->held[i];
	memmove(w->held + i, w->held + i + 1, (size_t)(--w->n_held - i) * sizeof(*w->held));
	pthread_mutex_unlock(&w->lock);
	upload_end(u, cancel);
}

static int up_upload(void *ctx, const struct slice_plan *plans, size_t n, void (*done)(void *arg, int err), void *arg)
{
	struct world *w = ctx;

	for (size_t i = 0; i < n; i++)
		CHECK(is_recorded_durably(w, plans[i].id));
	if (atomic_load(&w->hold_uploads)) { /* until held_end, or the uploader ends */
		pthread_mutex_lock(&w->lock);
		REQUIRE(w->n_held < 8);
		w->held[w->n_held++] = upload_new(w, plans, n, done, arg);
		pthread_mutex_unlock(&w->lock);
		return 0;
	}
	if (w->own_threads) {
		struct upload *u = upload_new(w, plans, n, done, arg);
		pthread_t thread;

		atomic_fetch_add(&w->on_their_way, 1);
		REQUIRE(pthread_create(&thread, NULL, upload_run, u) == 0 && pthread_detach(thread) == 0);
		return 0;
	}
	done(arg, upload_do(w, plans, n));
	return 0;
}


static int up_delete(void *ctx, uint64_t id, uint32_t size, void (*done)(void *arg, int err), void *arg)
{
	struct world *w = ctx;

	(void)size;
	if (w->refuse) {
		atomic_fetch_add(&w->refused, 1);
		done(arg, -EACCES);
		return 0;
	}
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->st->n; i++) {
		if (w->st->s[i].id == id) {
			free(w->st->s[i].bytes);
			w->st->s[i] = w->st->s[--w->st->n];
			atomic_fetch_add(&w->deleted, 1);
		}
	}
	pthread_mutex_unlock(&w->lock);
	done(arg, 0);
	return 0;
}

static int up_slice(void *ctx, uint64_t *id)
{
	*id = ++((struct world *)ctx)->next_slice;
	return 0;
}

static void up_notify(void *arg)
{
	struct world *w = arg;

	pthread_mutex_lock(&w->r_lock);
	if (w->r)
		replayer_kick(w->r);
	pthread_mutex_unlock(&w->r_lock);
}

static void replayer_set(struct world *w, struct replayer *r)
{
	pthread_mutex_lock(&w->r_lock);
	w->r = r;
	pthread_mutex_unlock(&w->r_lock);
}

static void journal_up(struct world *w, bool fresh)
{
	struct journal_config cfg = { .cache_dir = w->cache, .hot_dir = w->hot, .uuid = "u", .sync_interval_ms = 5,
		.dirty_limit = 64 << 20, .hot_size = 16 << 20, .allow_any_fs = true };
	struct journal_report rep;
	struct errmsg e = { "" };

	if (journal_open(&cfg, &w->j, &rep, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	journal_set_notify(w->j, up_notify, w);
	if (fresh) {
		uint8_t pos[16 + RDS_CHAIN_LEN] = { 0 };
		struct jkey k;
		uint64_t seq;

		put_be64(pos, 3);
		memcpy(pos + 16, "start", 5);
		key_meta(&k, "applied");
		journal_lock(w->j);
		rec_put(journal_begin(w->j, OP_META), &k, pos, sizeof(pos), 0);
		REQUIRE(journal_commit(w->j, &seq) == 0);
		journal_unlock(w->j);
	}
}

static void replayer_up(struct world *w)
{
	struct replayer_config cfg = { .journal = w->j, .url = &w->url, .epoch = 3, .sid = w->sid, .upload_delay_ms = w->delay_ms,
		.retention_ms = w->retention_ms, .republish_ms = w->republish_ms, .eager = w->eager, .pack_below = w->pack_size / 2,
		.pack_size = w->pack_size,
		.ops = { .upload = up_upload, .delete_slice = up_delete, .next_slice = up_slice }, .ctx = w };
	struct errmsg e = { "" };
	struct replayer *r;

	if (replayer_new(&cfg, &r, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	replayer_set(w, r);
	REQUIRE(replayer_start(w->r) == 0);
}

static void replayer_down(struct world *w)
{
	struct replayer *r = w->r;

	replayer_set(w, NULL);
	replayer_stop(r);
	while (held_count(w))
		held_end(w, 0, true);
	replayer_free(r);
}

static void redis_fresh(struct world *w)
{
	struct jfs_attr root = { .type = JFS_DIR, .mode = 0777, .nlink = 2, .length = 4096, .parent = 1 };
	uint8_t blob[JFS_ATTR_MAX];
	size_t n = jfs_attr_encode(&root, blob);

	rds_reply_free(CK(w->conn, "SET i1 %b", blob, n));
	rds_reply_free(CK(w->conn, "HSET dirUsedSpace 1 0"));
	rds_reply_free(CK(w->conn, "HSET dirUsedInodes 1 0"));
	rds_reply_free(CK(w->conn, "HSET dirDataLength 1 0"));
	rds_reply_free(CK(w->conn, "HSET zjfs epoch 3 seq 0 chain start"));
}

static uint32_t packing; /* the pack_size of worlds to come */

static struct world *world_new(bool trash, uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	struct errmsg e;
	char url[160];

	REQUIRE(w && (w->m = malloc(sizeof(*w->m))) && (w->st = calloc(1, sizeof(*w->st))) && (w->js = calloc(M_HIST, 8)));
	m_init(w->m, trash, seed);
	w->pack_size = packing;
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->r_lock, NULL);
	strcpy(w->dir, "/tmp/jfs-replayer-XXXXXX");
	REQUIRE(mkdtemp(w->dir));
	snprintf(w->cache, sizeof(w->cache), "%s/cache", w->dir);
	snprintf(w->hot, sizeof(w->hot), "/dev/shm/%s", w->dir + 5);
	redis_here_start(&w->redis);
	w->conn = redis_here_connect(&w->redis);
	redis_fresh(w);
	strcpy(w->relay.to, w->redis.sock);
	snprintf(w->relay.sock, sizeof(w->relay.sock), "%s/relay.sock", w->dir);
	w->relay.listen_fd = unix_fd(w->relay.sock, true);
	atomic_store(&w->relay.cut_in, -1);
	atomic_store(&w->relay.cut_out, -1);
	REQUIRE(pthread_create(&w->relay.thread, NULL, relay_run, &w->relay) == 0);
	snprintf(url, sizeof(url), "unix://%s?db=0", w->relay.sock);
	REQUIRE(rds_url_parse(url, &w->url, &e) == 0);
	w->url.batch_interval_ns = 2000000;
	w->url.batch_size = 40;
	w->next_slice = 1000;
	w->sid = 7;
	journal_up(w, true);
	replayer_up(w);
	return w;
}

static void world_free(struct world *w)
{
	char cmd[320];

	if (w->r)
		replayer_down(w);
	journal_close(w->j);
	atomic_store(&w->relay.stop, true);
	pthread_join(w->relay.thread, NULL);
	close(w->relay.listen_fd);
	rds_conn_free(w->conn);
	snprintf(cmd, sizeof(cmd), "rm -rf %s %s %s/dump.rdb", w->dir, w->hot, w->redis.dir);
	redis_here_stop(&w->redis);
	REQUIRE(system(cmd) == 0);
	redis_here_end(&w->redis);
	for (size_t i = 0; i < w->st->n; i++)
		free(w->st->s[i].bytes);
	m_fini(w->m);
	free(w->m);
	free(w->st);
	free(w->js);
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->r_lock);
	free(w);
}

/* The extent of the view that shows a byte of a chunk. False: none. [locked] */
static bool view_extent(struct world *w, uint64_t ino, uint32_t chunk, uint32_t pos, struct extent_val *out)
{
	const uint8_t *k, *v;
	struct view_iter *it;
	bool found = false;
	struct jkey from;
	size_t kn, vn;

	key_extent(&from, ino, chunk, pos);
	it = view_seek(w->j, &from, 13);
	REQUIRE(it);
	if (view_step(it, &k, &kn, &v, &vn) > 0) {
		REQUIRE(extent_val_decode(v, vn, out) == 0);
		found = out->pos <= pos;
	}
	view_end(it);
	return found;
}

/* The range of a chunk that a record writes is taken away from the view's extents. [locked] */
static void range_clear(struct world *w, struct rec *rec, uint64_t ino, uint32_t chunk, uint32_t from, uint32_t to)
{
	struct extent_val e, rest[2];
	const uint8_t *k, *v;
	struct view_iter *it;
	struct jkey key;
	size_t kn, vn;

	key_extent(&key, ino, chunk, from);
	it = view_seek(w->j, &key, 13);
	REQUIRE(it);
	while (view_step(it, &k, &kn, &v, &vn) > 0 && extent_val_decode(v, vn, &e) == 0 && e.pos < to) {
		memcpy(key.b, k, kn);
		key.len = (uint16_t)kn;
		rec_del(rec, &key, 0);
		for (int i = 0, n = extent_subtract(&e, from, to, rest); i < n; i++)
			rec_put_extent(rec, ino, chunk, &rest[i], 0);
	}
	view_end(it);
}

/* Puts a record's extents as the daemon does: they are born with it, and a copy's are those that the view shows. [locked] */
static void extents_put(struct world *w, struct rec *rec, const struct m_copied *copied, struct rec_reader it)
{
	uint32_t chunk = 0, last, from = UINT32_MAX, to = 0, n;
	struct rec_reader again = it;
	struct extent_val v, e;
	struct rec_item item;
	uint64_t ino = 0;

	for (int round = 0; round < 2; round++, it = again) {
		if (round && to)
			range_clear(w, rec, ino, chunk, from, to);
		while (rec_next(&it, &item) > 0) {
			if (item.kind != IT_PUT || item.key[0] != T_EXTENT)
				continue;
			REQUIRE(key_parse_extent(item.key, item.klen, &ino, &chunk, &last) == 0 &&
				extent_val_decode(item.val, item.vlen, &v) == 0);
			if (!round) {
				from = v.pos < from ? v.pos : from;
				to = last + 1 > to ? last + 1 : to;
				continue;
			}
			v.born = journal_next_seq(w->j);
			if (!(item.flags & IF_COPY) || v.kind != EXT_STAGED) {
				rec_put_extent(rec, ino, chunk, &v, item.flags);
				continue;
			}
			for (uint32_t at = v.pos; at <= last; at += n) {
				uint32_t src = at - copied->to + copied->pos;

				REQUIRE(view_extent(w, copied->ino, (uint32_t)copied->chunk, src, &e));
				n = extent_end(&e) - src < last + 1 - at ? extent_end(&e) - src : last + 1 - at;
				e = extent_slice(&e, src, src + n);
				e.pos = at;
				e.born = v.born;
				rec_put_extent(rec, ino, chunk, &e, item.flags);
			}
		}
	}
}

/* What a record cuts off or punches has no extents any more. [locked] */
static void extents_zero(struct world *w, struct rec *rec, struct rec_reader it)
{
	struct rec_item item;
	uint64_t ino;

	while (rec_next(&it, &item) > 0) {
		uint64_t from, to;

		if (item.kind != IT_CUT && item.kind != IT_PUNCH)
			continue;
		REQUIRE(key_parse_ino(item.key, item.klen, &ino) == 0);
		from = get_be64(item.val);
		to = item.kind == IT_CUT ? 2 * JFS_CHUNK_SIZE : from + get_be64(item.val + 8);
		for (uint64_t c = 0, base = 0; c < 2; c++, base += JFS_CHUNK_SIZE)
			if (from < base + JFS_CHUNK_SIZE && to > base)
				range_clear(w, rec, ino, (uint32_t)c, from > base ? (uint32_t)(from - base) : 0,
					to - base < JFS_CHUNK_SIZE ? (uint32_t)(to - base) : (uint32_t)JFS_CHUNK_SIZE);
	}
}

/* Commits the model's records from `from` + 1 on as the daemon would. */
static void journal_records(struct world *w, uint64_t from)
{
	for (uint64_t s = from + 1; s <= w->m->seq; s++) {
		struct rec_header h;
		struct rec_reader it;
		struct rec_item item;
		int err;

		REQUIRE(rec_open(w->m->log[s].data, w->m->log[s].len, &h, &it) == 0);
		do {
			struct rec_reader again = it;
			struct rec *rec;

			journal_lock(w->j);
			rec = journal_begin(w->j, h.op);
			if (w->ahead_ns)
				rec_begin(rec, h.op, clock_wall_ns() + w->ahead_ns);
			extents_put(w, rec, &w->m->copied[s], it);
			extents_zero(w, rec, it);
			while (rec_next(&again, &item) > 0) {
				if (item.kind != IT_PUT || item.key[0] != T_EXTENT)
					rec_item(rec, item.kind, item.flags, item.key, item.klen, item.val, item.vlen);
			}
			err = journal_commit(w->j, &w->js[s]);
			journal_unlock(w->j);
		} while (err == -EAGAIN && journal_wait_room(w->j) == 0);
		REQUIRE(err == 0);
	}
}

static void work(struct world *w, int records)
{
	uint64_t from = w->m->seq, stop = from + (uint64_t)records;

	while (w->m->seq < stop)
		m_step(w->m);
	journal_records(w, from);
}

static void drain_or_say(struct world *w)
{
	int err = journal_wait(w->j, WM_APPLIED, journal_mark(w->j, WM_COMMITTED));

	CHECK_EQ(err, 0);
}

/* Redis's position is a window's end: what it holds is the model's state there. */
static void compare(struct world *w)
{
	redisReply *r = CK(w->conn, "HGET zjfs seq");
	uint64_t seq = strtoull(r->str, NULL, 10), s = w->m->seq;

	rds_reply_free(r);
	while (s && w->js[s] > seq)
		s--;
	pthread_mutex_lock(&w->lock);
	check_redis(w->conn, &w->m->hist[s], w->st);
	pthread_mutex_unlock(&w->lock);
}

static struct replayer_status status(struct world *w)
{
	struct replayer_status s;

	replayer_status(w->r, &s);
	return s;
}

static void again(struct world *w, bool crash)
{
	replayer_down(w);
	if (crash) {
		REQUIRE(journal_wait(w->j, WM_DURABLE, journal_mark(w->j, WM_COMMITTED)) == 0);
		journal_abandon(w->j);
		journal_up(w, false);
	}
	replayer_up(w);
}

static void new_file(struct world *w, int name)
{
	struct m_inode *f = m_make(w->m, &w->m->now.i[1], name, JFS_FILE);

	REQUIRE(f);
	m_write(w->m, f, 0, 0, 100);
}

static void applied(struct world *w, uint64_t since)
{
	journal_records(w, since);
	drain_or_say(w);
}

/* All that was done since becomes a window of its own, whose upload is held. */
static void window_held(struct world *w, uint64_t since)
{
	int had = held_count(w);

	journal_records(w, since);
	for (int i = 0; i < 5000 && held_count(w) == had; i++)
		usleep(1000);
	REQUIRE(held_count(w) == had + 1);
}

static void wait_windows(struct world *w, unsigned want)
{
	for (int i = 0; i < 5000 && status(w).windows != want; i++) {
		replayer_kick(w->r); /* the count is renewed when it looks around */
		usleep(1000);
	}
	CHECK_EQ(status(w).windows, want);
}

/* The same test with slices that share others. */
#define PACKED(test)                                           \
	static void test##_packed(void)                        \
	{                                                      \
		packing = 4096u << unit_seed() % 4;            \
		test();                                        \
		packing = 0;                                   \
	}

#endif
