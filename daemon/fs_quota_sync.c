/* Quotas: what lies below a directory, and taking over what other clients did to the quotas in Redis (see fs_quota.c). */
#include <errno.h>
#include <stdlib.h>

#include "daemon/fs_quota_int.h"

enum { SYNC_KEYS = 500 }; /* in one record */

/* --- what lies below a directory --- */

struct walk {
	struct fs *fs;
	struct fs_need *need;
	uint64_t *dirs;
	size_t n, size;
	int64_t space, inodes;
};

static int walk_push(struct walk *w, uint64_t dir)
{
	if (w->n == w->size) {
		size_t size = w->size ? w->size * 2 : 64;
		uint64_t *p = realloc(w->dirs, size * sizeof(*p));

		if (!p)
			return -ENOMEM;
		w->dirs = p;
		w->size = size;
	}
	w->dirs[w->n++] = dir;
	return 0;
}

static int walk_entry(struct walk *w, const uint8_t *val, size_t len)
{
	struct inode_val v;
	uint8_t type;
	uint64_t ino;
	int rc = jfs_dentry_decode(val, len, &type, &ino);

	if (rc)
		return rc;
	w->inodes++;
	if (type != JFS_FILE) {
		w->space += 4096;
		return type == JFS_DIR ? walk_push(w, ino) : 0;
	}
	rc = fs_inode(w->fs, ino, &v, w->need);
	if (!rc)
		w->space += (int64_t)jfs_attr_space(&v.attr);
	return rc == -ENOENT ? 0 : rc;
}

static int walk_dir(struct walk *w, uint64_t dir)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct inode_val v;
	struct jkey k;
	int rc = fs_dir(w->fs, dir, &v, w->need), step = 0;

	if (rc)
		return rc;
	key_dentry_from(&k, dir, 0);
	it = view_seek(w->fs->j, &k, 9);
	if (!it)
		return -EIO;
	while (!rc && (step = view_step(it, &key, &klen, &val, &vlen)) == 1)
		rc = walk_entry(w, val, vlen);
	view_end(it);
	return rc ? rc : step;
}

static int walk_tree(struct fs *fs, uint64_t dir, int64_t *space, int64_t *inodes, struct fs_need *need)
{
	struct walk w = {.fs = fs, .need = need};
	int rc = walk_push(&w, dir);

	while (!rc && w.n)
		rc = walk_dir(&w, w.dirs[--w.n]);
	free(w.dirs);
	*space = w.space;
	*inodes = w.inodes;
	return rc == FS_NEED && need->kind == NEED_DIR ? fs_need(need, NEED_TREE, dir, 0) : rc;
}

int fs_quota_usage(struct fs *fs, uint64_t dir, int64_t *space, int64_t *inodes, struct fs_need *need)
{
	const struct quota *q = quota_find(fs, QUOTA_DIR, dir);

	if (!q)
		return walk_tree(fs, dir, space, inodes, need);
	*space = q->q.used_space;
	*inodes = q->q.used_inodes;
	return 0;
}

int fs_quota_adopt(struct fs *fs, const struct fs_quota *q, struct fs_need *need)
{
	struct quota as = {.q = *q, .recount = true}, *n;
	struct fs_op op;
	int rc = 0;

	journal_lock(fs->j);
	n = quota_find(fs, QUOTA_DIR, q->id);
	if (n && !n->anew)
		goto out;
	rc = walk_tree(fs, q->id, &as.q.used_space, &as.q.used_inodes, need);
	if (rc)
		goto out;
	fs_op_begin(&op, fs, OP_QUOTA);
	rec_quota(op.r, q->id, as.q.used_space, as.q.used_inodes, true);
	quota_put_meta(op.r, &as, &as.q, op.seq);
	rc = fs_op_commit(&op, &as.seq);
	if (rc)
		goto out;
	if (!n)
		n = quota_insert(fs, &as.q);
	rc = n ? 0 : -ENOMEM; /* the meta key has it: the next mount keeps it */
	if (n) {
		as.round = fs->quota_round; /* a sync that waits for room has seen it in Redis */
		*n = as;
	}
out:
	journal_unlock(fs->j);
	return rc;
}

/* --- what others did --- */

struct syncing {
	struct fs *fs;
	uint64_t position, round;
	bool settled; /* nothing of ours is on its way */
	uint64_t *count;
	size_t n_count, room, at; /* at: where the piece begins in the list */
};

/* A quota that Redis has and we have. True: something changed. */
static bool renew(const struct syncing *s, struct quota *q, const struct fs_quota *now)
{
	struct fs_quota was = q->q;

	q->q.max_space = now->max_space;
	q->q.max_inodes = now->max_inodes;
	if (q->recount || q->anew)
		return was.max_space != now->max_space || was.max_inodes != now->max_inodes;
	if (s->settled || q->seq <= s->position) {
		q->q = *now;
	} else if (q->baseless) {
		q->q.used_space += now->used_space;
		q->q.used_inodes += now->used_inodes;
	}
	q->baseless = false;
	return was.max_space != q->q.max_space || was.max_inodes != q->q.max_inodes || was.used_space != q->q.used_space ||
	       was.used_inodes != q->q.used_inodes;
}

/* One piece of what Redis has; `all`: put also what has not changed. 0, FS_ROOM, -errno. [locked] */
static int sync_piece(struct syncing *s, const struct fs_quota *list, size_t n, bool all)
{
	struct fs *fs = s->fs;
	struct fs_op op;

	fs_op_begin(&op, fs, OP_META);
	for (size_t i = 0; i < n; i++) {
		struct quota *q = quota_find(fs, list[i].kind, list[i].id);
		bool fresh = !q, uncounted = list[i].kind == QUOTA_DIR && (fresh ? !s->settled : q->anew);

		if (uncounted && !all && s->n_count < s->room)
			s->count[s->n_count++] = s->at + i;
		if (uncounted && fresh)
			continue;
		if (fresh)
			q = quota_insert(fs, &list[i]);
		if (!q)
			return -ENOMEM;
		q->round = s->round;
		if ((!fresh && renew(s, q, &list[i])) || fresh || all)
			quota_put_meta(op.r, q, &q->q, q->seq);
	}
	return op.r->items ? fs_op_commit(&op, NULL) : 0;
}

/* Stock has ended counting what it counted when we did. [locked] */
static int recount(struct syncing *s)
{
	struct fs *fs = s->fs;
	struct fs_op op;
	uint64_t seq;
	int rc = 0;

	for (size_t i = 0; i < fs->quotas_n && !rc; i++) {
		struct quota *q = fs->quotas[i];

		if (!q->recount || q->round != s->round)
			continue;
		fs_op_begin(&op, fs, OP_QUOTA);
		rec_quota(op.r, q->q.id, q->q.used_space, q->q.used_inodes, true);
		q->recount = false;
		quota_put_meta(op.r, q, &q->q, op.seq);
		rc = fs_op_commit(&op, &seq);
		q->recount = rc != 0;
		if (!rc)
			q->seq = seq;
	}
	return rc;
}

/* Redis does not have it; of an owner that may be because it is on its way. */
static bool is_gone(const struct syncing *s, const struct quota *q)
{
	return q->round != s->round && (q->q.kind == QUOTA_DIR || s->settled || q->seq <= s->position);
}

/* [locked] */
static int drop_gone(struct syncing *s)
{
	struct fs *fs = s->fs;
	struct fs_op op;
	struct jkey k;
	int rc = 0;

	fs_op_begin(&op, fs, OP_META);
	for (size_t i = 0; i < fs->quotas_n; i++) {
		if (!is_gone(s, fs->quotas[i]))
			continue;
		quota_meta_key(&k, fs->quotas[i]->q.kind, fs->quotas[i]->q.id);
		rec_del(op.r, &k, IF_FORGET);
	}
	if (op.r->items)
		rc = fs_op_commit(&op, NULL);
	for (size_t i = fs->quotas_n; !rc && i-- > 0;)
		if (is_gone(s, fs->quotas[i]))
			quota_take_out(fs, i);
	return rc;
}

/* Whom Redis did not name had nothing before us. [locked] */
static void owners_known(struct fs *fs)
{
	fs->owners_seen = fs->cfg.owner_quotas;
	for (size_t i = 0; i < fs->quotas_n && fs->owners_seen; i++)
		fs->quotas[i]->baseless = false;
}

int fs_quota_sync(struct fs *fs, uint64_t position, bool settled, const struct fs_quota *list, size_t n, uint64_t *count,
	size_t *n_count)
{
	struct syncing s = {.fs = fs, .position = position, .settled = settled, .count = count, .room = *n_count};
	bool all = false;
	size_t at = 0;
	int rc = 0;

	journal_lock(fs->j);
	s.round = ++fs->quota_round;
	while (!rc) {
		size_t step = n - at < SYNC_KEYS ? n - at : SYNC_KEYS;

		s.at = at;
		rc = at < n ? sync_piece(&s, list + at, step, all) : drop_gone(&s);
		if (!rc && at >= n)
			rc = recount(&s);
		if (rc == FS_ROOM) {
			journal_unlock(fs->j);
			rc = journal_wait_room(fs->j);
			journal_lock(fs->j);
			all = true;
			continue;
		}
		all = false;
		if (at >= n)
			break;
		at += step;
	}
	if (!rc)
		owners_known(fs);
	journal_unlock(fs->j);
	*n_count = s.n_count;
	return rc;
}
