/* Quotas of directories, users and groups (spec 2.13): the check is local, the usage exact at every record.
 *
 * A table in memory holds every quota of the volume; the same lies in meta keys "quota:KIND:ID", so that it survives a crash
 * and an offline mount has it. An operation adds what it changes to the quotas that count it: a directory's, what lies below
 * it at any depth, once for each name; a user's and a group's, the inodes they own, also in the trash and while they are open
 * without a name. Its record carries the new value of the meta key, and of a directory's quota the change (IT_QUOTA), which
 * replay adds to Redis's counter in the script of the same window. So neither a crash nor a repeated window counts twice.
 * What owners use is counted for Redis by that script itself, from the records it replaces: what was born and removed within
 * a window, or has no name there yet, does not count in Redis.
 *
 * What other clients do (`juicefs quota set`, `check --repair`, gc) comes with fs_quota_sync, at mount and with every
 * heartbeat: limits at once; usage when the last record that changed it has been applied, so that Redis's value is the whole
 * truth. A directory's quota that is new there while we are mounted was counted by stock while our changes were on their way,
 * or is still being counted: it is counted anew from the view (fs_quota_adopt), and replay sets that value, once more after
 * the next sync, when stock has ended. If there was none before we ended, it is counted again at the next mount: others may
 * have written since.
 *
 * As in stock: a quota is checked upwards from the changed directory, also where a rename stays within an outer quota;
 * nothing is refused that does not add; a replaced target is not deducted. Unlike stock, what an exchange moves is counted
 * wholly in both directions, and chown moves every kind of inode. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fs_quota_int.h"
#include "util/buf.h"

#define QUOTA_META "quota:"
enum { QUOTA_VALUE = 40, META_BASELESS = 1, META_RECOUNT = 2 };

/* --- the table --- */

static int compare(const struct quota *q, unsigned kind, uint64_t id)
{
	if (q->q.kind != kind)
		return q->q.kind < kind ? -1 : 1;
	return q->q.id < id ? -1 : q->q.id > id;
}

static size_t lower_bound(const struct fs *fs, unsigned kind, uint64_t id)
{
	size_t lo = 0, hi = fs->quotas_n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (compare(fs->quotas[mid], kind, id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct quota *quota_find(const struct fs *fs, unsigned kind, uint64_t id)
{
	size_t at = lower_bound(fs, kind, id);

	return at < fs->quotas_n && compare(fs->quotas[at], kind, id) == 0 ? fs->quotas[at] : NULL;
}

struct quota *quota_insert(struct fs *fs, const struct fs_quota *q)
{
	size_t at = lower_bound(fs, q->kind, q->id);
	struct quota *n = calloc(1, sizeof(*n));

	if (n && fs->quotas_n == fs->quotas_size) {
		size_t size = fs->quotas_size ? fs->quotas_size * 2 : 16;
		struct quota **p = realloc(fs->quotas, size * sizeof(struct quota *));

		if (!p) {
			free(n);
			return NULL;
		}
		fs->quotas = p;
		fs->quotas_size = size;
	}
	if (!n)
		return NULL;
	n->q = *q;
	memmove(fs->quotas + at + 1, fs->quotas + at, (fs->quotas_n - at) * sizeof(struct quota *));
	fs->quotas[at] = n;
	fs->quotas_n++;
	fs->quota_dirs += q->kind == QUOTA_DIR;
	return n;
}

void quota_take_out(struct fs *fs, size_t at)
{
	fs->quota_dirs -= fs->quotas[at]->q.kind == QUOTA_DIR;
	free(fs->quotas[at]);
	memmove(fs->quotas + at, fs->quotas + at + 1, (--fs->quotas_n - at) * sizeof(struct quota *));
}

void fs_quota_free(struct fs *fs)
{
	for (size_t i = 0; i < fs->quotas_n; i++)
		free(fs->quotas[i]);
	free(fs->quotas);
}

/* --- the meta keys --- */

void quota_meta_key(struct jkey *k, unsigned kind, uint64_t id)
{
	char name[64];

	snprintf(name, sizeof(name), QUOTA_META "%u:%" PRIu64, kind, id);
	key_meta(k, name);
}

void quota_put_meta(struct rec *r, const struct quota *q, const struct fs_quota *now, uint64_t seq)
{
	uint8_t v[QUOTA_VALUE + 1];
	struct jkey k;

	quota_meta_key(&k, now->kind, now->id);
	put_be64(v, (uint64_t)now->max_space);
	put_be64(v + 8, (uint64_t)now->max_inodes);
	put_be64(v + 16, (uint64_t)now->used_space);
	put_be64(v + 24, (uint64_t)now->used_inodes);
	put_be64(v + 32, seq);
	v[QUOTA_VALUE] = (uint8_t)((q->baseless ? META_BASELESS : 0) | (q->recount || q->anew ? META_RECOUNT : 0));
	rec_put(r, &k, v, v[QUOTA_VALUE] ? sizeof(v) : QUOTA_VALUE, 0);
}

static int load_one(struct fs *fs, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	char text[64];
	unsigned kind;
	struct fs_quota q;
	struct quota *n;

	if (klen - 1 >= sizeof(text) || (vlen != QUOTA_VALUE && vlen != QUOTA_VALUE + 1))
		return -EUCLEAN;
	memcpy(text, key + 1, klen - 1);
	text[klen - 1] = '\0';
	if (sscanf(text, QUOTA_META "%u:%" SCNu64, &kind, &q.id) != 2 || kind > QUOTA_GROUP)
		return -EUCLEAN;
	q.kind = (uint8_t)kind;
	q.max_space = (int64_t)get_be64(val);
	q.max_inodes = (int64_t)get_be64(val + 8);
	q.used_space = (int64_t)get_be64(val + 16);
	q.used_inodes = (int64_t)get_be64(val + 24);
	n = quota_insert(fs, &q);
	if (!n)
		return -ENOMEM;
	n->seq = get_be64(val + 32);
	n->baseless = vlen > QUOTA_VALUE && val[QUOTA_VALUE] & META_BASELESS;
	n->anew = vlen > QUOTA_VALUE && val[QUOTA_VALUE] & META_RECOUNT;
	return 0;
}

int fs_quota_load(struct fs *fs)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	key_meta(&k, QUOTA_META);
	it = view_seek(fs->j, &k, k.len);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rc = load_one(fs, key, klen, val, vlen);
		if (rc)
			break;
	}
	view_end(it);
	return rc;
}

/* --- checking --- */

bool fs_quota_of_dirs(const struct fs *fs)
{
	return fs->quota_dirs > 0 && fs->cfg.dir_quotas;
}

static bool exceeds(const struct quota *q, int64_t space, int64_t inodes)
{
	return (space > 0 && q->q.max_space > 0 && q->q.used_space + space > q->q.max_space) ||
	       (inodes > 0 && q->q.max_inodes > 0 && q->q.used_inodes + inodes > q->q.max_inodes);
}

int fs_quota_check_owner(struct fs *fs, uint32_t uid, uint32_t gid, int64_t space, int64_t inodes)
{
	if (!fs->cfg.owner_quotas || fs->cfg.admit_all || (space <= 0 && inodes <= 0))
		return 0;
	const struct quota *u = quota_find(fs, QUOTA_USER, uid), *g = quota_find(fs, QUOTA_GROUP, gid);

	return (u && exceeds(u, space, inodes)) || (g && exceeds(g, space, inodes)) ? -EDQUOT : 0;
}

/* The directory above; 0 at the root, in the trash, and where it is not known. */
static uint64_t above(struct fs *fs, uint64_t dir, int *rc, struct fs_need *need)
{
	struct inode_val v;

	*rc = 0;
	if (dir <= JFS_ROOT_INODE || jfs_inode_is_trash(dir))
		return 0;
	*rc = fs_inode(fs, dir, &v, need);
	return *rc ? 0 : v.attr.parent;
}

int fs_quota_reach(struct fs *fs, uint64_t dir, struct fs_need *need)
{
	int rc = 0;

	if (!fs_quota_of_dirs(fs))
		return 0;
	for (unsigned depth = 0; dir && !rc; depth++) {
		if (depth > 1u << 20)
			return -ELOOP;
		dir = above(fs, dir, &rc, need);
	}
	return rc == -ENOENT ? 0 : rc; /* a directory that is gone: nothing above it counts */
}

struct reaching {
	struct fs *fs;
	struct fs_need *need;
};

static int reach_one(void *arg, uint64_t parent, uint32_t names)
{
	struct reaching *r = arg;

	(void)names;
	return fs_quota_reach(r->fs, parent, r->need);
}

int fs_quota_reach_file(struct fs *fs, uint64_t ino, const struct inode_val *v, struct fs_need *need)
{
	struct reaching r = {fs, need};

	if (!fs_quota_of_dirs(fs) || v->attr.nlink == 0)
		return 0;
	if (v->attr.parent)
		return fs_quota_reach(fs, v->attr.parent, need);
	int rc = fs_parents_known(fs, ino, v, need);

	return rc ? rc : fs_parents_each(fs, ino, reach_one, &r);
}

uint64_t fs_quota_nearest(struct fs *fs, uint64_t dir)
{
	int rc;

	while (fs_quota_of_dirs(fs) && dir) {
		if (quota_find(fs, QUOTA_DIR, dir))
			return dir;
		dir = above(fs, dir, &rc, NULL);
	}
	return 0;
}

int fs_quota_check_dir(struct fs *fs, uint64_t dir, int64_t space, int64_t inodes)
{
	int rc;

	for (; fs_quota_of_dirs(fs) && dir; dir = above(fs, dir, &rc, NULL)) {
		const struct quota *q = quota_find(fs, QUOTA_DIR, dir);

		if (q && exceeds(q, space, inodes) && !fs->cfg.admit_all)
			return -EDQUOT;
	}
	return 0;
}

int fs_room_new(struct fs *fs, uint32_t uid, uint32_t gid, uint64_t dir, struct fs_need *need)
{
	int rc = fs_quota_reach(fs, dir, need);

	if (!rc)
		rc = fs_quota_check_owner(fs, uid, gid, 4096, 1);
	if (!rc)
		rc = fs_room(fs, 4096, 1);
	return rc ? rc : fs_quota_check_dir(fs, dir, 4096, 1);
}

struct growing {
	struct fs *fs;
	int64_t space;
};

static int check_one(void *arg, uint64_t parent, uint32_t names)
{
	struct growing *g = arg;

	(void)names;
	return fs_quota_check_dir(g->fs, parent, g->space, 0);
}

int fs_room_file(struct fs *fs, uint64_t ino, const struct inode_val *v, int64_t space, struct fs_need *need)
{
	struct growing g = {fs, space};
	int rc = fs_quota_reach_file(fs, ino, v, need);

	if (rc || space <= 0)
		return rc;
	rc = fs_quota_check_owner(fs, v->attr.uid, v->attr.gid, space, 0);
	if (!rc)
		rc = fs_room(fs, space, 0);
	if (rc || !fs_quota_of_dirs(fs) || v->attr.nlink == 0)
		return rc;
	return v->attr.parent ? fs_quota_check_dir(fs, v->attr.parent, space, 0) : fs_parents_each(fs, ino, check_one, &g);
}

/* --- counting --- */

void fs_quota_begin(struct fs *fs)
{
	struct quota *q;

	while ((q = fs->quotas_touched) != NULL) {
		fs->quotas_touched = q->next_touched;
		q->touched = false;
		q->d_space = q->d_inodes = 0;
	}
}

static void add(struct fs *fs, struct quota *q, int64_t space, int64_t inodes)
{
	if (!q->touched) {
		q->touched = true;
		q->next_touched = fs->quotas_touched;
		fs->quotas_touched = q;
	}
	q->d_space += space;
	q->d_inodes += inodes;
}

void fs_quota_add_dir(struct fs_op *op, uint64_t dir, int64_t space, int64_t inodes)
{
	struct fs *fs = op->fs;
	int rc = 0;

	if (op->internal || !fs_quota_of_dirs(fs))
		return;
	while (dir && !rc) {
		struct quota *q = quota_find(fs, QUOTA_DIR, dir);

		if (q)
			add(fs, q, space, inodes);
		dir = above(fs, dir, &rc, NULL);
	}
	if (rc && rc != -ENOENT && !op->r->buf.err)
		op->r->buf.err = rc == FS_NEED ? -EIO : rc; /* fs_quota_reach was not asked */
}

static void add_owner(struct fs_op *op, enum quota_kind kind, uint32_t id, int64_t space, int64_t inodes)
{
	struct quota *q = quota_find(op->fs, kind, id);

	if (!q) {
		q = quota_insert(op->fs, &(struct fs_quota){.kind = (uint8_t)kind, .id = id, .max_space = -1, .max_inodes = -1});
		if (q)
			q->baseless = !op->fs->owners_seen;
	}
	if (q)
		add(op->fs, q, space, inodes);
	else if (!op->r->buf.err)
		op->r->buf.err = -ENOMEM;
}

void fs_quota_add_owner(struct fs_op *op, uint32_t uid, uint32_t gid, int64_t space, int64_t inodes)
{
	if (op->internal || !op->fs->cfg.owner_quotas)
		return;
	add_owner(op, QUOTA_USER, uid, space, inodes);
	add_owner(op, QUOTA_GROUP, gid, space, inodes);
}

void fs_quota_emit(struct fs_op *op)
{
	for (struct quota *q = op->fs->quotas_touched; q; q = q->next_touched) {
		struct fs_quota next = q->q;

		if (!q->d_space && !q->d_inodes)
			continue;
		next.used_space += q->d_space;
		next.used_inodes += q->d_inodes;
		if (next.kind == QUOTA_DIR)
			rec_quota(op->r, next.id, q->d_space, q->d_inodes, false);
		quota_put_meta(op->r, q, &next, op->seq);
	}
}

void fs_quota_settle(struct fs_op *op, uint64_t seq)
{
	struct fs *fs = op->fs;

	for (struct quota *q = fs->quotas_touched; q; q = q->next_touched) {
		if (!q->d_space && !q->d_inodes)
			continue;
		q->q.used_space += q->d_space;
		q->q.used_inodes += q->d_inodes;
		q->seq = seq;
	}
	fs_quota_begin(fs);
}

/* --- statfs, as in stock: the nearest quota is the file system, every one above it may leave less --- */

void fs_quota_statfs(struct fs *fs, uint64_t ino, struct fs_statfs *out)
{
	const struct quota *nearest = NULL;
	uint64_t used;
	int rc;

	for (; fs_quota_of_dirs(fs) && ino; ino = above(fs, ino, &rc, NULL)) {
		const struct quota *q = quota_find(fs, QUOTA_DIR, ino);

		if (!q)
			continue;
		if (!nearest)
			nearest = q;
		used = q->q.used_space > 0 ? (uint64_t)q->q.used_space : 0;
		if (q->q.max_space > 0 && out->avail > ((uint64_t)q->q.max_space > used ? (uint64_t)q->q.max_space - used : 0))
			out->avail = (uint64_t)q->q.max_space > used ? (uint64_t)q->q.max_space - used : 0;
		used = q->q.used_inodes > 0 ? (uint64_t)q->q.used_inodes : 0;
		if (q->q.max_inodes > 0 && out->inodes_avail > ((uint64_t)q->q.max_inodes > used ? (uint64_t)q->q.max_inodes - used : 0))
			out->inodes_avail = (uint64_t)q->q.max_inodes > used ? (uint64_t)q->q.max_inodes - used : 0;
	}
	if (!nearest)
		return;
	out->total = out->avail + (nearest->q.used_space > 0 ? (uint64_t)nearest->q.used_space : 0);
	out->inodes_total = out->inodes_avail + (nearest->q.used_inodes > 0 ? (uint64_t)nearest->q.used_inodes : 0);
}
