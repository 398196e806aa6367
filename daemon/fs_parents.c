/* The directories of a file that has had several names (its record says parent 0; spec 2.6). Only quotas of directories ask
 * for them: a change of the file's length counts in each of them.
 *
 * Keys of T_PARENT hold how many names it has where, IL_PARENTS says that they are all here. It is set when a second name is
 * made while the volume has such quotas, or by a load, and taken back by a change of names while it has none. A load is good
 * only if Redis has all our changes of the file: what it says of names that are still on their way would be wrong for ever.
 * Names in the trash are not counted. */
#include <errno.h>

#include "daemon/fs_internal.h"
#include "util/buf.h"

int fs_parents_each(struct fs *fs, uint64_t ino, int (*fn)(void *arg, uint64_t parent, uint32_t names), void *arg)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc, called = 0;

	key_parent(&k, ino, 0);
	it = view_seek(fs->j, &k, 9);
	if (!it)
		return -EIO;
	while (!called && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		if (klen != 17 || vlen != 4)
			rc = -EUCLEAN;
		else
			called = fn(arg, get_be64(key + 9), get_be32(val));
		if (rc < 0)
			break;
	}
	view_end(it);
	return called ? called : rc < 0 ? -EIO : 0;
}

int fs_parents_known(struct fs *fs, uint64_t ino, const struct inode_val *v, struct fs_need *need)
{
	if (v->attr.parent || v->attr.type == JFS_DIR || v->attr.nlink == 0 || v->lflags & IL_PARENTS || !fs_quota_of_dirs(fs))
		return 0;
	return fs_need(need, NEED_PARENTS, ino, 0);
}

static void put_names(struct fs_op *op, uint64_t ino, uint64_t parent, uint32_t names)
{
	uint8_t val[4];
	struct jkey k;

	key_parent(&k, ino, parent);
	put_be32(val, names);
	if (names)
		rec_put(op->r, &k, val, sizeof(val), 0);
	else
		rec_del(op->r, &k, IF_FORGET);
}

static uint32_t names_in(struct fs *fs, uint64_t ino, uint64_t parent)
{
	const void *val;
	struct jkey k;
	size_t len;

	key_parent(&k, ino, parent);
	return view_get(fs->j, &k, &val, &len) == 0 && len == 4 ? get_be32(val) : 0;
}

void fs_op_parent(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t first, uint64_t parent, int32_t delta)
{
	uint32_t names;

	rec_parent(op->r, ino, parent, delta);
	if (!fs_quota_of_dirs(op->fs) || !(first || v->lflags & IL_PARENTS)) {
		v->lflags &= (uint8_t)~IL_PARENTS;
		return;
	}
	/* Of a file that had one name nothing is kept, whatever an earlier time may have left. */
	names = first ? first == parent : names_in(op->fs, ino, parent);
	if (first && first != parent)
		put_names(op, ino, first, 1);
	put_names(op, ino, parent, delta < 0 && names < (uint32_t)-delta ? 0 : names + (uint32_t)delta);
	v->lflags |= IL_PARENTS;
}

static int forget_one(void *arg, uint64_t parent, uint32_t names)
{
	struct fs_op *op = ((void **)arg)[0];
	const uint64_t *ino = ((void **)arg)[1];

	(void)names;
	put_names(op, *ino, parent, 0);
	return 0;
}

static int insert_locked(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_parent *p, size_t n)
{
	struct inode_val v;
	struct fs_op op;
	void *arg[2] = {&op, &ino};
	int rc = view_get_inode(fs->j, ino, &v);

	if (rc)
		return rc == -EKEYREVOKED ? -ENOENT : rc;
	if (v.attr.parent || v.attr.nlink == 0 || v.lflags & IL_PARENTS)
		return 0;
	if (position < v.seq || position < journal_mark(fs->j, WM_APPLIED))
		return -ESTALE;
	fs_op_begin(&op, fs, OP_LOAD);
	rc = fs_parents_each(fs, ino, forget_one, arg);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (!jfs_inode_is_trash(p[i].parent) && p[i].names)
			put_names(&op, ino, p[i].parent, p[i].names);
	v.lflags |= IL_PARENTS;
	rec_put_inode(op.r, ino, &v, 0);
	return fs_op_commit(&op, NULL);
}

int fs_insert_parents(struct fs *fs, uint64_t position, uint64_t ino, const struct fs_loaded_parent *p, size_t n)
{
	int rc;

	journal_lock(fs->j);
	rc = insert_locked(fs, position, ino, p, n);
	journal_unlock(fs->j);
	return rc;
}
