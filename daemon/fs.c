/* The core's state, inode numbers, and the small steps every operation is made of (fs_internal.h).
 *
 * Invariants. Nothing is changed but by a committed record. An after-image of an inode carries the record's sequence
 * number. A number is handed out once: how far they are used is noted durably FS_ID_STEP ahead, in the record of the
 * creation that crosses the last note; a crash skips what is left of a step. */
#include "daemon/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fs_internal.h"
#include "util/clock.h"

#define META_INODE_USED "inode_used" /* be64: numbers below this may have been used */

int fs_new(struct journal *j, const struct fs_config *cfg, struct fs **out)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	const void *val;
	struct jkey k;
	size_t len;
	int rc = -ENOMEM;

	if (!fs)
		return -ENOMEM;
	fs->j = j;
	fs->cfg = *cfg;
	fs->trash_left = journal_mark(j, WM_COMMITTED);
	fs->spans = calloc(FS_RECORD_KEYS, sizeof(*fs->spans));
	if (!fs->spans || fs_refs_init(&fs->refs))
		goto fail;
	key_meta(&k, META_INODE_USED);
	journal_lock(j);
	rc = view_get(j, &k, &val, &len);
	if (rc == 0 && len == 8)
		fs->ids_noted = fs->ids_floor = get_be64(val);
	else if (rc == 0)
		rc = -EUCLEAN;
	if (rc == 0 || rc == -ENOENT)
		rc = fs_acl_load(fs);
	if (!rc)
		rc = fs_quota_load(fs);
	journal_unlock(j);
	if (rc)
		goto fail;
	*out = fs;
	return 0;
fail:
	fs_free(fs);
	return rc;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	fs_refs_fini(&fs->refs);
	free(fs->spans);
	free(fs->cuts);
	free(fs->waiting);
	ghosts_fini(&fs->ghosts);
	fs_acl_free(fs);
	fs_quota_free(fs);
	free(fs);
}

void fs_set_config(struct fs *fs, const struct fs_config *cfg)
{
	journal_lock(fs->j);
	fs->cfg = *cfg;
	journal_unlock(fs->j);
}

void fs_get_config(struct fs *fs, struct fs_config *out)
{
	journal_lock(fs->j);
	*out = fs->cfg;
	journal_unlock(fs->j);
}

struct journal *fs_journal(struct fs *fs)
{
	return fs->j;
}

uint64_t fs_dir_moved(struct fs *fs)
{
	uint64_t seq;

	journal_lock(fs->j);
	seq = fs->dir_moved;
	journal_unlock(fs->j);
	return seq;
}

uint64_t fs_trash_left(struct fs *fs)
{
	uint64_t seq;

	journal_lock(fs->j);
	seq = fs->trash_left;
	journal_unlock(fs->j);
	return seq;
}

bool fs_has_trash(struct fs *fs)
{
	bool has;

	journal_lock(fs->j);
	has = fs->cfg.trash;
	journal_unlock(fs->j);
	return has;
}

/* --- inode numbers --- */

void fs_add_ids(struct fs *fs, uint64_t first, uint64_t end)
{
	journal_lock(fs->j);
	if (first < fs->ids_floor)
		first = fs->ids_floor;
	if (fs->id_ranges && fs->ids[fs->id_ranges - 1].end == first && first < end)
		fs->ids[fs->id_ranges - 1].end = end;
	else if (first < end && fs->id_ranges < FS_ID_RANGES) {
		fs->ids[fs->id_ranges].next = first;
		fs->ids[fs->id_ranges++].end = end;
	}
	journal_unlock(fs->j);
}

uint64_t fs_ids_left(struct fs *fs)
{
	uint64_t n = 0;

	journal_lock(fs->j);
	for (unsigned i = 0; i < fs->id_ranges; i++)
		n += fs->ids[i].end - fs->ids[i].next;
	journal_unlock(fs->j);
	return n;
}

/* The number is used up even if the operation fails afterwards: gaps are normal. */
bool fs_has_ids(struct fs *fs)
{
	journal_lock(fs->j);
	bool any = fs->id_ranges > 0;
	journal_unlock(fs->j);
	return any;
}

int fs_id_take(struct fs *fs, uint64_t *ino, struct fs_need *need)
{
	if (fs->id_ranges == 0)
		return fs_need(need, NEED_INODE_IDS, 0, 0);
	*ino = fs->ids[0].next++;
	if (fs->ids[0].next == fs->ids[0].end)
		memmove(&fs->ids[0], &fs->ids[1], --fs->id_ranges * sizeof(fs->ids[0]));
	return 0;
}

void fs_id_note(struct fs_op *op, uint64_t ino)
{
	struct jkey k;
	uint8_t v[8];

	if (ino < op->fs->ids_noted)
		return;
	key_meta(&k, META_INODE_USED);
	put_be64(v, ino + FS_ID_STEP);
	rec_put(op->r, &k, v, sizeof(v), 0);
}

void fs_id_noted(struct fs *fs, uint64_t ino)
{
	if (ino >= fs->ids_noted)
		fs->ids_noted = ino + FS_ID_STEP;
}

/* --- records --- */

void fs_op_begin(struct fs_op *op, struct fs *fs, enum rec_op kind)
{
	op->fs = fs;
	op->r = journal_begin(fs->j, kind);
	op->seq = journal_next_seq(fs->j);
	op->now_ns = clock_wall_ns();
	op->now = (int64_t)(op->now_ns / 1000000000u);
	op->now_nsec = (uint32_t)(op->now_ns % 1000000000u);
	op->keep = op->keep_ghost = false;
	op->ghost = 0;
	op->release_ino = 0;
	op->internal = kind >= OP_INTERNAL;
	fs_quota_begin(fs);
}

int fs_op_commit(struct fs_op *op, uint64_t *seq)
{
	uint64_t got = 0;
	int rc;

	fs_quota_emit(op);
	rc = journal_commit(op->fs->j, &got);
	if (rc == -EAGAIN)
		return FS_ROOM;
	if (rc == 0)
		fs_quota_settle(op, got);
	if (rc == 0 && op->ghost)
		ghost_drop(&op->fs->ghosts, op->ghost);
	if (rc == 0 && seq)
		*seq = got;
	return rc;
}

void fs_op_put(struct fs_op *op, uint64_t ino, struct inode_val *v, unsigned flags)
{
	v->seq = op->seq;
	rec_put_inode(op->r, ino, v, flags);
}

void fs_op_put_dentry(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint8_t type, uint64_t ino)
{
	uint8_t val[JFS_DENTRY_LEN];
	struct jkey k;

	key_dentry(&k, parent, name, n);
	jfs_dentry_encode(type, ino, val);
	rec_put(op->r, &k, val, sizeof(val), 0);
}

void fs_op_expect(struct fs_op *op, uint64_t parent, const char *name, size_t n, uint8_t type, uint64_t ino)
{
	uint8_t val[JFS_DENTRY_LEN];
	struct jkey k;

	key_dentry(&k, parent, name, n);
	if (ino)
		jfs_dentry_encode(type, ino, val);
	rec_expect(op->r, &k, val, ino ? sizeof(val) : 0);
}

void fs_op_touch(const struct fs_op *op, struct inode_val *v, unsigned which)
{
	if (which & FS_CTIME) {
		v->attr.ctime = op->now;
		v->attr.ctime_nsec = op->now_nsec;
	}
	if (which & FS_MTIME) {
		v->attr.mtime = op->now;
		v->attr.mtime_nsec = op->now_nsec;
	}
	if (which & FS_ATIME) {
		v->attr.atime = op->now;
		v->attr.atime_nsec = op->now_nsec;
	}
}

void fs_op_dirstat(struct fs_op *op, uint64_t dir, int64_t len, int64_t space, int64_t inodes)
{
	rec_dirstat(op->r, dir, len, space, inodes);
	fs_quota_add_dir(op, dir, space, inodes);
}

void fs_op_space(struct fs_op *op, const struct jfs_attr *owner, int64_t space, int64_t inodes)
{
	rec_space(op->r, space, inodes);
	fs_quota_add_owner(op, owner->uid, owner->gid, space, inodes);
}

struct linked {
	struct fs_op *op;
	int64_t space;
};

static int add_linked(void *arg, uint64_t parent, uint32_t names)
{
	struct linked *l = arg;

	fs_quota_add_dir(l->op, parent, l->space * names, 0);
	return 0;
}

void fs_op_filestat(struct fs_op *op, uint64_t ino, const struct inode_val *v, int64_t len, int64_t space)
{
	if (len == 0 && space == 0)
		return;
	if (v->attr.parent == 0) {
		struct linked l = {op, space};

		rec_linkstat(op->r, ino, len, space); /* names in the trash count there, too */
		if (v->attr.nlink > 0 && fs_quota_of_dirs(op->fs) && fs_parents_each(op->fs, ino, add_linked, &l) && !op->r->buf.err)
			op->r->buf.err = -EIO;
	} else if (v->attr.nlink > 0) {
		fs_op_dirstat(op, v->attr.parent, len, space, 0);
	}
}

void fs_op_set_length(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t len)
{
	int64_t space = (int64_t)jfs_align4k(len) - (int64_t)jfs_align4k(v->attr.length);

	fs_op_filestat(op, ino, v, (int64_t)len - (int64_t)v->attr.length, space);
	if (space)
		fs_op_space(op, &v->attr, space, 0);
	v->attr.length = len;
}

int64_t fs_stat_len(const struct inode_val *v)
{
	return v->attr.type == JFS_FILE ? (int64_t)v->attr.length : 0;
}

void fs_cred_tell(struct fs_cred *c, const struct fs_need *need, bool member)
{
	c->told = true;
	c->group = (uint32_t)need->ino;
	c->member = member;
}

int fs_member(const struct fs_cred *c, const struct inode_val *v, bool *member, struct fs_need *need)
{
	*member = c->uid == 0 || c->gid == v->attr.gid;
	if (*member)
		return 0;
	if (!c->told || c->group != v->attr.gid) {
		need->ino = v->attr.gid;
		return FS_MEMBER;
	}
	*member = c->member;
	return 0;
}

int fs_kill_suid(const struct fs_cred *c, struct inode_val *v, struct fs_need *need)
{
	bool member = false;
	int rc = (v->attr.mode & 02010) == 02000 ? fs_member(c, v, &member, need) : 0;

	if (!rc)
		v->attr.mode &= (uint16_t)(member ? ~04000 : ~06000);
	return rc;
}

void fs_unlink_dir(struct inode_val *dir)
{
	if (dir->attr.nlink > 2)
		dir->attr.nlink--;
}

void fs_fill(struct fs_attr *out, uint64_t ino, const struct inode_val *v)
{
	if (!out)
		return;
	out->ino = ino;
	out->a = v->attr;
	out->seq = v->seq;
}

/* --- reading the view --- */

int fs_need(struct fs_need *need, enum fs_need_kind kind, uint64_t ino, uint32_t chunk)
{
	if (need) {
		need->kind = kind;
		need->ino = ino;
		need->chunk = chunk;
	}
	return FS_NEED;
}

int fs_inode(struct fs *fs, uint64_t ino, struct inode_val *v, struct fs_need *need)
{
	const struct ghost *g;
	const void *val;
	struct jkey k;
	size_t len;
	int rc;

	if (jfs_inode_is_trash(ino))
		return fs_need(need, NEED_TRASH, ino, 0);
	key_inode(&k, ino);
	rc = view_probe(fs->j, &k, &val, &len);
	if (rc == 0)
		return inode_val_decode(val, len, v);
	g = ghost_find(&fs->ghosts, ino);
	if (g) {
		*v = g->v;
		return 0;
	}
	if (rc == -ENOENT)
		return fs_need(need, NEED_INODE, ino, 0);
	return rc == -EKEYREVOKED ? -ENOENT : rc;
}

int fs_dir(struct fs *fs, uint64_t ino, struct inode_val *v, struct fs_need *need)
{
	int rc = fs_inode(fs, ino, v, need);

	if (rc == FS_NEED && need && need->kind == NEED_INODE)
		need->kind = NEED_DIR;
	if (rc)
		return rc;
	if (v->attr.type != JFS_DIR)
		return -ENOTDIR;
	if (!(v->lflags & IL_DIR_COMPLETE))
		return fs_need(need, NEED_DIR, ino, 0);
	return 0;
}

int fs_dentry(struct fs *fs, uint64_t parent, const char *name, size_t n, uint8_t *type, uint64_t *ino)
{
	return view_get_dentry(fs->j, parent, name, n, type, ino);
}

bool fs_dir_empty(struct fs *fs, uint64_t ino, int *err)
{
	struct view_iter *it;
	const uint8_t *key, *val;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	key_dentry_from(&k, ino, 0);
	it = view_seek(fs->j, &k, 9);
	if (!it) {
		*err = -EIO;
		return false;
	}
	rc = view_step(it, &key, &klen, &val, &vlen);
	view_end(it);
	*err = rc < 0 ? rc : 0;
	return rc == 0;
}

/* --- checks --- */

int fs_name_check(const char *name, size_t n)
{
	if (n > JFS_NAME_MAX)
		return -ENAMETOOLONG;
	if (n == 0 || memchr(name, '/', n) || memchr(name, 0, n))
		return -EINVAL;
	return 0;
}

/* The virtual files of the root (spec 6.1): they are there, and nothing can be made of or from them. */
bool fs_name_reserved(uint64_t parent, const char *name, size_t n)
{
	static const char *const names[] = { ".trash", ".stats", ".config", ".accesslog", ".control", ".jfs.control" };

	if (parent != JFS_ROOT_INODE || name[0] != '.')
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
			return true;
	return false;
}

static bool name_is_dot(const char *name, size_t n)
{
	return (n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.');
}

int fs_check_new(struct fs *fs, uint64_t parent, const char *name, size_t n, struct inode_val *dir, struct fs_need *need)
{
	uint8_t type;
	uint64_t ino;
	int rc = fs_name_check(name, n);

	if (!rc)
		rc = fs_dir(fs, parent, dir, need);
	if (rc)
		return rc;
	if (name_is_dot(name, n) || fs_name_reserved(parent, name, n))
		return -EEXIST;
	rc = fs_dentry(fs, parent, name, n, &type, &ino);
	if (rc != -ENOENT)
		return rc ? rc : -EEXIST;
	if (dir->attr.nlink == 0 || jfs_inode_is_trash(dir->attr.parent))
		return -ENOENT;
	if (fs->cfg.read_only)
		return -EROFS;
	return dir->attr.flags & JFS_FLAG_IMMUTABLE ? -EPERM : 0;
}

int fs_may_remove(const struct fs_cred *c, const struct inode_val *dir, const struct inode_val *v)
{
	if ((dir->attr.flags | v->attr.flags) & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND))
		return -EPERM;
	if ((dir->attr.mode & 01000) && c->uid != 0 && c->uid != dir->attr.uid && c->uid != v->attr.uid)
		return -EPERM;
	return 0;
}

int fs_room(struct fs *fs, int64_t space, int64_t inodes)
{
	int64_t used, n;

	journal_stats(fs->j, &used, &n);
	if (space > 0 && used > FS_SPACE_MAX - space)
		return -ENOSPC;
	if (fs->cfg.admit_all)
		return 0;
	if (fs->cfg.capacity && space > 0 && used + space > (int64_t)fs->cfg.capacity)
		return -ENOSPC;
	if (fs->cfg.inodes && inodes > 0 && n + inodes > (int64_t)fs->cfg.inodes)
		return -ENOSPC;
	return 0;
}
