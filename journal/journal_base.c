/* Base: the durable environment. Four tables (FORMAT.md): view (key with its table byte), log (be64 seq), due (be64 seq,
 * view key: what trim may delete once it has passed seq), meta. Every change of it is one fully synced transaction. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "journal/journal_int.h"
#include "journal/kv.h"
#include "util/fault.h"
#include "util/fileio.h"

#define STATE_VERSION 3 /* 2: there may be keys of T_PARENT; 3: `life`, and there may be a sync log */
#define TRIM_KEY      "trim"

enum { STATE_LEN_2 = 1 + 7 * 8, STATE_LEN = 1 + 8 * 8 };

/* Address space, not memory; ThreadSanitizer leaves room for less. */
#if defined(__SANITIZE_THREAD__)
#define BASE_MAP ((size_t)16 << 30)
#else
#define BASE_MAP ((size_t)1 << 40)
#endif

static const char *const base_tables[] = {"view", "log", "due", "meta", NULL};

static void state_encode(const struct base_state *s, uint8_t out[STATE_LEN])
{
	out[0] = STATE_VERSION;
	put_be64(out + 1, s->flushed_g);
	put_be64(out + 9, s->durable);
	put_be64(out + 17, s->clean);
	put_be64(out + 25, (uint64_t)s->space);
	put_be64(out + 33, (uint64_t)s->inodes);
	put_be64(out + 41, s->next_segment);
	put_be64(out + 49, s->trimmed);
	put_be64(out + 57, s->life);
}

static int state_decode(const uint8_t *p, size_t n, struct base_state *s)
{
	if (n > 0 && p[0] > STATE_VERSION)
		return -ENOTSUP;
	if (n == 0 || p[0] == 0 || n != (p[0] < 3 ? STATE_LEN_2 : STATE_LEN))
		return -EUCLEAN;
	s->flushed_g = get_be64(p + 1);
	s->durable = get_be64(p + 9);
	s->clean = get_be64(p + 17);
	s->space = (int64_t)get_be64(p + 25);
	s->inodes = (int64_t)get_be64(p + 33);
	s->next_segment = get_be64(p + 41);
	s->trimmed = get_be64(p + 49);
	s->life = p[0] < 3 ? 0 : get_be64(p + 57);
	return 0;
}

int base_open(struct journal *j, struct errmsg *e)
{
	char path[4096];
	int err;

	snprintf(path, sizeof(path), "%s/base", j->dir.path);
	if (j->read_only)
		return kv_open(path, KV_READONLY, BASE_MAP, base_tables, &j->base, e);
	if (mkdir(path, 0700) && errno != EEXIST)
		return errmsg_set(e, -errno, "%s: %s", path, strerror(errno));
	err = kv_open(path, KV_DURABLE, BASE_MAP, base_tables, &j->base, e);
	if (err)
		return err;
	err = dir_sync_at(AT_FDCWD, path);
	if (!err)
		err = dir_sync_at(j->dir.fd, ".");
	return err ? errmsg_set(e, err, "%s: %s", path, strerror(-err)) : 0;
}

/* Known of a file system that writes in place and whose fdatasync always ends with a flush of the device, whatever it was of.
 * XFS is none: what overwrites blocks that a copy of the file shares (cp makes such copies) goes elsewhere, and only a sync of
 * the file itself commits where. */
static bool flushes_all(const char *path, dev_t *dev)
{
	struct statfs fs;
	struct stat sb;

	if (statfs(path, &fs) || stat(path, &sb))
		return false;
	*dev = sb.st_dev;
	return (unsigned long)fs.f_type == EXT4_SUPER_MAGIC;
}

bool base_flushes_staging(const struct journal *j)
{
	char base[4096], staging[4096];
	dev_t a, b;

	snprintf(base, sizeof(base), "%s/base/data.mdb", j->dir.path);
	snprintf(staging, sizeof(staging), "%s/staging", j->dir.path);
	return flushes_all(base, &a) && flushes_all(staging, &b) && a == b;
}

int base_meta_get(struct journal *j, const char *name, void *buf, size_t *len)
{
	struct MDB_txn *txn;
	const void *v;
	size_t n;
	int err = kv_begin(j->base, false, &txn);

	if (err)
		return err;
	err = kv_get(j->base, txn, BASE_META, name, strlen(name), &v, &n);
	if (!err && n > *len)
		err = -EUCLEAN;
	if (!err) {
		memcpy(buf, v, n);
		*len = n;
	}
	kv_abort(txn);
	return err;
}

int base_meta_put(struct journal *j, const char *name, const void *val, size_t len)
{
	struct MDB_txn *txn;
	int err = kv_begin(j->base, true, &txn);

	if (err)
		return err;
	err = kv_put(j->base, txn, BASE_META, name, strlen(name), val, len);
	if (!err)
		return kv_commit(txn);
	kv_abort(txn);
	return err;
}

int journal_is_newer(struct errmsg *e, const char *cache, const char *what, unsigned version, unsigned known)
{
	return errmsg_set(e, -ENOTSUP, "%s: its %s has format version %u, this program reads up to %u: use the newer jfs that wrote it, or "
		"drain it with that first (jfs umount --flush)", cache, what, version, known);
}

int base_state_read(struct journal *j, struct base_state *s, bool *found, struct errmsg *e)
{
	uint8_t b[256]; /* a newer version's may be longer */
	size_t n = sizeof(b);
	int err = base_meta_get(j, "state", b, &n);

	*s = (struct base_state){.clean = UINT64_MAX};
	*found = err == 0;
	if (err == -ENOENT)
		return 0;
	if (!err)
		err = state_decode(b, n, s);
	if (err == -ENOTSUP)
		return journal_is_newer(e, j->dir.path, "journal", b[0], STATE_VERSION);
	return err ? errmsg_set(e, err, "%s/base: its state is damaged: run jfs-recover check", j->dir.path) : 0;
}

/* --- what a flush writes --- */

struct writer {
	struct journal *j;
	struct MDB_txn *txn;
	uint64_t seq; /* the last of the generation: tombstones carry it */
	struct MDB_cursor *view, *due, *log; /* of generation_put */
};

static int due_put(struct writer *w, uint64_t seq, const uint8_t *key, size_t klen)
{
	uint8_t k[8 + JKEY_MAX];

	put_be64(k, seq);
	memcpy(k + 8, key, klen);
	return kv_cursor_put(w->due, k, 8 + klen, NULL, 0);
}

static int live_put(struct writer *w, const struct overlay_entry *e)
{
	struct smap_val smap;
	void *room;
	int err = kv_cursor_reserve(w->view, e->key, e->klen, 1 + e->vlen, &room);

	if (err)
		return err;
	*(uint8_t *)room = VIEW_LIVE;
	memcpy((uint8_t *)room + 1, e->val, e->vlen);
	/* Until now records may have copied the staged bytes by reference: while one of them is in the log, it may be replayed. */
	if (e->key[0] == T_SMAP && smap_val_decode(e->val, e->vlen, &smap) == 0)
		return due_put(w, w->seq > smap.window_end ? w->seq : smap.window_end, e->key, e->klen);
	/* The one that ends where trim stands is kept: Redis may forget what came behind it, and is found there (P8). */
	if (e->key[0] == T_WINDOW && e->klen >= 9)
		return due_put(w, get_be64(e->key + 1) + 1, e->key, e->klen);
	return 0;
}

static int tombstone_put(struct writer *w, const struct overlay_entry *e)
{
	uint8_t v[9] = {VIEW_TOMBSTONE};
	int err;

	if (e->forget) {
		err = kv_cursor_remove(w->view, e->key, e->klen);
		return err == -ENOENT ? 0 : err;
	}
	put_be64(v + 1, w->seq);
	err = kv_cursor_put(w->view, e->key, e->klen, v, sizeof(v));
	return err ? err : due_put(w, w->seq, e->key, e->klen);
}

static int log_put(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct writer *w = arg;
	uint8_t key[8];

	if (len < 2 || ((const uint8_t *)rec)[1] >= OP_INTERNAL)
		return 0;
	put_be64(key, seq);
	return kv_cursor_append(w->log, key, 8, rec, len);
}

static int generation_put(struct writer *w, struct generation *gen)
{
	const struct overlay_entry *e = overlay_seek(gen->ov, "", 0);
	int err = kv_cursor_open(w->j->base, w->txn, BASE_VIEW, &w->view);

	if (!err)
		err = kv_cursor_open(w->j->base, w->txn, BASE_DUE, &w->due);
	if (!err)
		err = kv_cursor_open(w->j->base, w->txn, BASE_LOG, &w->log);
	for (; e && !err; e = overlay_next(e))
		err = e->val ? live_put(w, e) : tombstone_put(w, e);
	if (!err)
		err = hot_scan(&gen->hot, gen->first, gen->last, log_put, w);
	kv_cursor_close(w->log);
	kv_cursor_close(w->due);
	kv_cursor_close(w->view);
	return err;
}

/* --- trim --- */

/* The durable target: value of the view's meta key "trim", 8 bytes. */
static uint64_t trim_target(struct journal *j, struct MDB_txn *txn)
{
	struct jkey k;
	const uint8_t *v;
	const void *p;
	size_t n;

	key_meta(&k, TRIM_KEY);
	if (kv_get(j->base, txn, BASE_VIEW, k.b, k.len, &p, &n))
		return 0;
	v = p;
	return n == 9 && v[0] == VIEW_LIVE ? get_be64(v + 1) : 0;
}

uint64_t base_trim_target(struct journal *j)
{
	struct MDB_txn *txn;

	if (kv_begin(j->base, false, &txn))
		return 0;
	uint64_t t = trim_target(j, txn);
	kv_abort(txn);
	return t;
}

static int trim_log(struct writer *w, uint64_t target, unsigned batch, bool *more)
{
	struct MDB_cursor *c;
	struct kv_pair p;
	int err = kv_cursor_open(w->j->base, w->txn, BASE_LOG, &c);

	if (err)
		return err;
	err = kv_cursor_first(c, &p);
	while (!err && p.klen == 8 && get_be64(p.key) <= target) {
		if (batch-- == 0) {
			*more = true;
			break;
		}
		err = kv_cursor_del(c);
		if (!err)
			err = kv_cursor_first(c, &p);
	}
	kv_cursor_close(c);
	return err == -ENOENT ? 0 : err;
}

/* The key came due: it goes unless it was written again since. */
static int trim_key(struct writer *w, uint64_t target, const uint8_t *key, size_t klen)
{
	struct smap_val smap;
	const uint8_t *v;
	const void *p;
	size_t n;
	int err = kv_get(w->j->base, w->txn, BASE_VIEW, key, klen, &p, &n);

	if (err)
		return err == -ENOENT ? 0 : err;
	v = p;
	if (n == 9 && v[0] == VIEW_TOMBSTONE) {
		if (get_be64(v + 1) > target)
			return 0;
	} else if (key[0] == T_SMAP) {
		if (smap_val_decode(v + 1, n - 1, &smap) || smap.window_end > target)
			return 0;
	} else if (key[0] != T_WINDOW) {
		return 0;
	}
	return kv_del(w->j->base, w->txn, BASE_VIEW, key, klen);
}

static int trim_due(struct writer *w, uint64_t target, unsigned batch, bool *more)
{
	uint8_t key[8 + JKEY_MAX];
	struct MDB_cursor *c;
	struct kv_pair p;
	size_t klen;
	int err = kv_cursor_open(w->j->base, w->txn, BASE_DUE, &c);

	if (err)
		return err;
	err = kv_cursor_first(c, &p);
	while (!err && p.klen > 8 && p.klen <= sizeof(key) && get_be64(p.key) <= target) {
		if (batch-- == 0) {
			*more = true;
			break;
		}
		klen = p.klen;
		memcpy(key, p.key, klen); /* the next write may move the page it lies in */
		err = kv_cursor_del(c);
		if (!err)
			err = trim_key(w, target, key + 8, klen - 8);
		if (!err)
			err = kv_cursor_first(c, &p);
	}
	kv_cursor_close(c);
	return err == -ENOENT ? 0 : err;
}

static int trim_step(struct writer *w, unsigned batch, struct base_state *s, bool *more)
{
	uint64_t target = trim_target(w->j, w->txn);
	int err;

	*more = false;
	if (target > s->durable)
		target = s->durable;
	if (target <= s->trimmed)
		return 0;
	err = trim_log(w, target, batch, more);
	if (!err)
		err = trim_due(w, target, batch, more);
	if (!err && !*more)
		s->trimmed = target;
	return err;
}

/* --- the transaction --- */

int base_write(struct journal *j, struct generation *gen, struct base_state *s, bool *more)
{
	struct base_state next = *s;
	uint8_t b[STATE_LEN];
	struct writer w = {.j = j, .seq = gen ? gen->last : s->durable};
	unsigned batch = TRIM_BATCH;
	int err = kv_begin(j->base, true, &w.txn);

	if (err)
		return err;
	if (gen) {
		err = generation_put(&w, gen);
		next.flushed_g = gen->g;
		next.durable = gen->last;
		next.clean = UINT64_MAX;
		if (gen->ops * 2 > batch)
			batch = (unsigned)gen->ops * 2;
	}
	if (!err)
		err = trim_step(&w, batch, &next, more);
	state_encode(&next, b);
	if (!err)
		err = kv_put(j->base, w.txn, BASE_META, "state", 5, b, sizeof(b));
	if (!err)
		err = FAULT_ERR("journal.flush.before_commit");
	if (err) {
		kv_abort(w.txn);
		return err;
	}
	err = kv_commit(w.txn);
	if (!err)
		*s = next;
	return err;
}
