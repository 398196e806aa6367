/* The merged view: current overlay, frozen overlay, base's newest snapshot; the upper layer wins, key by key.
 * The snapshot is renewed by the flusher under the lock, before the frozen overlay goes: a reader that saw neither the
 * overlay's key nor base's cannot exist (HISTORIES 4). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal/journal_int.h"
#include "journal/kv.h"
#include "util/log.h"

int snapshot_renew(struct journal *j)
{
	size_t n;
	int err;

	j->finder_ready = false;
	for (size_t i = 0; i < sizeof(j->gaps) / sizeof(j->gaps[0]); i++)
		j->gaps[i].from.len = 0;
	if (j->snap) {
		kv_reset(j->snap);
		err = kv_renew(j->snap);
	} else {
		err = kv_begin(j->base, false, &j->snap);
	}
	if (!err)
		err = kv_count(j->base, j->snap, BASE_VIEW, &n);
	if (!err)
		j->base_empty = n == 0;
	return err;
}

void view_fini(struct journal *j)
{
	while (j->free_iters) {
		struct view_iter *it = j->free_iters;

		j->free_iters = it->next_free;
		kv_cursor_close(it->cursor);
		free(it);
	}
	kv_cursor_close(j->finder);
	j->finder = NULL;
	kv_abort(j->snap);
	j->snap = NULL;
}

static int overlay_answer(const struct overlay_entry *e, const void **val, size_t *len)
{
	if (!e->val)
		return e->forget ? -ENOENT : -EKEYREVOKED;
	*val = e->val;
	*len = e->vlen;
	return 0;
}

static int key_order(const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
	int c = memcmp(a, b, an < bn ? an : bn);

	return c ? c : (an > bn) - (an < bn);
}

static bool gap_has(const struct base_gap *g, const struct jkey *k)
{
	return g->from.len && key_order(k->b, k->len, g->from.b, g->from.len) >= 0 &&
	       (!g->to || key_order(k->b, k->len, g->to, g->to_len) < 0);
}

static void gap_note(struct journal *j, const struct jkey *k, const uint8_t *to, size_t to_len)
{
	struct base_gap *g = &j->gaps[j->next_gap];

	j->next_gap = (j->next_gap + 1) % (sizeof(j->gaps) / sizeof(j->gaps[0]));
	memcpy(g->from.b, k->b, k->len);
	g->from.len = k->len;
	g->to = to;
	g->to_len = to_len;
}

/* A key that is to be made is looked for twice (LOOKUP, then the operation), and the next one is often right behind it: a search
 * in vain tells of all keys up to the one that it found instead. */
static int base_find(struct journal *j, const struct jkey *k, const uint8_t **val, size_t *len)
{
	struct kv_pair p = {0};
	int err = 0;

	for (size_t i = 0; i < sizeof(j->gaps) / sizeof(j->gaps[0]); i++)
		if (gap_has(&j->gaps[i], k))
			return -ENOENT;
	if (!j->finder_ready) {
		err = j->finder ? kv_cursor_renew(j->snap, j->finder) : kv_cursor_open(j->base, j->snap, BASE_VIEW, &j->finder);
		j->finder_ready = !err;
	}
	if (!err)
		err = kv_cursor_seek(j->finder, k->b, k->len, &p);
	if (err && err != -ENOENT)
		return err;
	if (!err && p.klen == k->len && memcmp(p.key, k->b, k->len) == 0) {
		*val = p.val;
		*len = p.vlen;
		return 0;
	}
	gap_note(j, k, err ? NULL : p.key, err ? 0 : p.klen);
	return -ENOENT;
}

int view_probe(struct journal *j, const struct jkey *k, const void **val, size_t *len)
{
	const struct overlay_entry *e = j->cur ? overlay_get(j->cur->ov, k->b, k->len) : NULL;
	const uint8_t *v;
	size_t n;
	int err;

	if (!e && j->frozen)
		e = overlay_get(j->frozen->ov, k->b, k->len);
	if (e)
		return overlay_answer(e, val, len);
	if (j->base_empty)
		return -ENOENT;
	err = base_find(j, k, &v, &n);
	if (err)
		return err == -ENOENT ? -ENOENT : -EIO;
	if (n < 1)
		return -EIO;
	if (v[0] == VIEW_TOMBSTONE)
		return -EKEYREVOKED;
	*val = v + 1;
	*len = n - 1;
	return 0;
}

int view_get(struct journal *j, const struct jkey *k, const void **val, size_t *len)
{
	int err = view_probe(j, k, val, len);

	return err == -EKEYREVOKED ? -ENOENT : err;
}

int view_get_inode(struct journal *j, uint64_t ino, struct inode_val *out)
{
	const void *v;
	struct jkey k;
	size_t n;
	int err;

	key_inode(&k, ino);
	err = view_get(j, &k, &v, &n);
	if (err)
		return err;
	if (inode_val_decode(v, n, out)) {
		log_error("view: inode value is damaged ino=%llu", (unsigned long long)ino);
		return -EIO;
	}
	return 0;
}

int view_get_dentry(struct journal *j, uint64_t parent, const void *name, size_t n, uint8_t *type, uint64_t *ino)
{
	const void *v;
	struct jkey k;
	size_t len;
	int err;

	key_dentry(&k, parent, name, n);
	err = view_get(j, &k, &v, &len);
	if (err)
		return err;
	if (jfs_dentry_decode(v, len, type, ino)) {
		log_error("view: entry value is damaged parent=%llu", (unsigned long long)parent);
		return -EIO;
	}
	return 0;
}

/* --- iteration --- */

static int base_take(struct view_iter *it, int err, const struct kv_pair *p)
{
	it->base_valid = err == 0;
	if (err)
		return err == -ENOENT ? 0 : -EIO;
	it->bkey = p->key;
	it->bklen = p->klen;
	it->bval = p->val;
	it->bvlen = p->vlen;
	return p->vlen ? 0 : -EIO;
}

static int base_seek(struct view_iter *it, const void *key, size_t klen)
{
	struct journal *j = it->j;
	struct kv_pair p = {0};
	int err;

	it->base_valid = false;
	if (j->base_empty)
		return 0;
	if (it->cursor)
		err = kv_cursor_renew(j->snap, it->cursor);
	else
		err = kv_cursor_open(j->base, j->snap, BASE_VIEW, &it->cursor);
	if (err)
		return -EIO;
	return base_take(it, kv_cursor_seek(it->cursor, key, klen, &p), &p);
}

struct view_iter *view_seek(struct journal *j, const struct jkey *from, size_t prefix)
{
	struct view_iter *it = j->free_iters;

	if (it) {
		j->free_iters = it->next_free;
	} else {
		it = calloc(1, sizeof(*it));
		if (!it)
			return NULL;
		it->j = j;
	}
	it->prefix_len = prefix < from->len ? prefix : from->len;
	memcpy(it->prefix, from->b, it->prefix_len);
	it->ov[0] = j->cur ? overlay_seek(j->cur->ov, from->b, from->len) : NULL;
	it->ov[1] = j->frozen ? overlay_seek(j->frozen->ov, from->b, from->len) : NULL;
	j->open_iters++;
	if (base_seek(it, from->b, from->len)) {
		view_end(it);
		return NULL;
	}
	return it;
}

/* Steps every layer that stands on this key. */
static int pass_key(struct view_iter *it, const uint8_t *key, size_t klen)
{
	for (int i = 0; i < 2; i++)
		if (it->ov[i] && key_order(it->ov[i]->key, it->ov[i]->klen, key, klen) == 0)
			it->ov[i] = overlay_next(it->ov[i]);
	if (it->base_valid && key_order(it->bkey, it->bklen, key, klen) == 0) {
		struct kv_pair p = {0};

		return base_take(it, kv_cursor_next(it->cursor, &p), &p);
	}
	return 0;
}

int view_step(struct view_iter *it, const uint8_t **key, size_t *klen, const uint8_t **val, size_t *vlen)
{
	for (;;) {
		const uint8_t *k = NULL, *v = NULL;
		size_t kn = 0, vn = 0;
		int err;

		if (it->base_valid) {
			k = it->bkey;
			kn = it->bklen;
			if (it->bval[0] == VIEW_LIVE) {
				v = it->bval + 1;
				vn = it->bvlen - 1;
			}
		}
		for (int i = 1; i >= 0; i--) { /* the upper layer last: it wins a tie */
			const struct overlay_entry *e = it->ov[i];

			if (e && (!k || key_order(e->key, e->klen, k, kn) <= 0)) {
				k = e->key;
				kn = e->klen;
				v = e->val;
				vn = e->vlen;
			}
		}
		if (!k || kn < it->prefix_len || memcmp(k, it->prefix, it->prefix_len) != 0)
			return 0;
		err = pass_key(it, k, kn); /* pages of a snapshot do not move: k and v stay */
		if (err)
			return err;
		if (!v)
			continue;
		*key = k;
		*klen = kn;
		*val = v;
		*vlen = vn;
		return 1;
	}
}

void view_end(struct view_iter *it)
{
	if (!it)
		return;
	it->j->open_iters--;
	it->next_free = it->j->free_iters;
	it->j->free_iters = it;
}

/* --- base alone, on an own snapshot --- */

int journal_log_scan(struct journal *j, uint64_t from, uint64_t upto,
	int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg)
{
	struct MDB_cursor *c = NULL;
	struct MDB_txn *txn;
	struct kv_pair p;
	uint8_t key[8];
	int err = kv_begin(j->base, false, &txn);

	if (err)
		return -EIO;
	put_be64(key, from + 1);
	err = from == UINT64_MAX ? -ENOENT : kv_cursor_open(j->base, txn, BASE_LOG, &c);
	if (!err)
		err = kv_cursor_seek(c, key, 8, &p);
	for (; !err; err = kv_cursor_next(c, &p)) {
		if (p.klen != 8) {
			err = -EUCLEAN;
			break;
		}
		if (get_be64(p.key) > upto)
			break;
		int rc = fn(arg, get_be64(p.key), p.val, p.vlen);
		if (rc) {
			kv_cursor_close(c);
			kv_abort(txn);
			return rc;
		}
	}
	kv_cursor_close(c);
	kv_abort(txn);
	return err == -ENOENT || err == 0 ? 0 : err == -EUCLEAN ? err : -EIO;
}

int journal_base_scan(struct journal *j, const void *prefix, size_t n,
	int (*fn)(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen), void *arg)
{
	struct MDB_cursor *c = NULL;
	struct MDB_txn *txn;
	struct kv_pair p;
	int rc = 0, err = kv_begin(j->base, false, &txn);

	if (err)
		return -EIO;
	err = kv_cursor_open(j->base, txn, BASE_VIEW, &c);
	if (!err)
		err = kv_cursor_seek(c, prefix, n, &p);
	for (; !err && !rc; err = kv_cursor_next(c, &p)) {
		if (p.klen < n || memcmp(p.key, prefix, n) != 0)
			break;
		if (p.vlen < 1)
			rc = -EUCLEAN;
		else if (p.val[0] == VIEW_LIVE)
			rc = fn(arg, p.key, p.klen, p.val + 1, p.vlen - 1);
		if (rc)
			break;
	}
	kv_cursor_close(c);
	kv_abort(txn);
	return rc ? rc : err == -ENOENT || err == 0 ? 0 : -EIO;
}

int journal_base_get(struct journal *j, const struct jkey *k, struct buf *out)
{
	struct MDB_txn *txn;
	const void *v;
	size_t n;
	int err = kv_begin(j->base, false, &txn);

	if (err)
		return -EIO;
	err = kv_get(j->base, txn, BASE_VIEW, k->b, k->len, &v, &n);
	if (!err && (n < 1 || *(const uint8_t *)v != VIEW_LIVE))
		err = n < 1 ? -EIO : -ENOENT;
	if (!err) {
		buf_put(out, (const uint8_t *)v + 1, n - 1);
		err = out->err;
	}
	kv_abort(txn);
	return err == 0 || err == -ENOENT || err == -ENOMEM ? err : -EIO;
}
