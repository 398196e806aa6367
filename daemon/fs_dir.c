/* readdir: entries in the order of their names' hashes, which no create or unlink changes: a cookie is a hash, and going
 * on means "everything above it". Where several names share a hash all but the last carry hash - 1, so that a reader who
 * stops between them gets the first ones again rather than never the last. */
#include <errno.h>
#include <string.h>

#include "daemon/fs_internal.h"

enum { COOKIE_DOT = 1, COOKIE_DOTDOT = 2 };

struct reading {
	struct fs *fs;
	bool want_attr;
	int (*fn)(void *arg, const struct fs_dirent *d);
	void *arg;
	struct fs_need *need;
	unsigned given;
};

/* 0, 1 (full, or the rest needs loading), FS_NEED is returned as 2 only when nothing was given. */
enum { READ_GO = 0, READ_STOP = 1, READ_NEED = 2 };

static int dirent_give(struct reading *r, struct fs_dirent *d)
{
	struct inode_val v;
	int rc;

	if (r->want_attr) {
		rc = fs_inode(r->fs, d->ino, &v, r->need);
		if (rc == -ENOENT)
			return READ_GO; /* its record is gone: an entry that replay is about to lose */
		if (rc < 0)
			return rc;
		/* Not here: given without attributes, so that one damaged record does not hide a whole directory. */
		if (rc == 0)
			fs_fill(&d->attr, d->ino, &v);
	}
	if (r->fn(r->arg, d))
		return READ_STOP;
	r->given++;
	return READ_GO;
}

static int give_dots(struct reading *r, uint64_t ino, const struct inode_val *dir, uint64_t off)
{
	struct fs_dirent d = { .name = (const uint8_t *)"..", .name_len = 1, .ino = ino, .cookie = COOKIE_DOT, .type = JFS_DIR };
	int rc = READ_GO;

	if (off < COOKIE_DOT)
		rc = dirent_give(r, &d);
	d.name_len = 2;
	d.cookie = COOKIE_DOTDOT;
	if (ino != JFS_ROOT_INODE && dir->attr.parent)
		d.ino = dir->attr.parent;
	if (!rc && off < COOKIE_DOTDOT)
		rc = dirent_give(r, &d);
	return rc;
}

/* The entry that was read ahead, to tell whether its hash ends with it. */
struct held {
	uint8_t name[JFS_NAME_MAX];
	struct fs_dirent d;
	uint64_t hash;
	bool have;
};

static int held_flush(struct reading *r, struct held *h, uint64_t next_hash)
{
	if (!h->have)
		return READ_GO;
	h->have = false;
	h->d.cookie = h->hash == next_hash ? h->hash - 1 : h->hash;
	return dirent_give(r, &h->d);
}

static int give_entries(struct reading *r, uint64_t ino, uint64_t off)
{
	struct held h = { .have = false };
	const uint8_t *key, *val, *name;
	struct view_iter *it;
	size_t klen, vlen, n;
	uint64_t parent, hash;
	struct jkey k;
	int rc, more;

	key_dentry_from(&k, ino, off <= COOKIE_DOTDOT ? 0 : off + 1);
	it = view_seek(r->fs->j, &k, 9);
	if (!it)
		return -EIO;
	for (;;) {
		more = view_step(it, &key, &klen, &val, &vlen);
		if (more != 1) {
			rc = more < 0 ? more : held_flush(r, &h, 0);
			break;
		}
		rc = key_parse_dentry(key, klen, &parent, &hash, &name, &n);
		if (!rc)
			rc = held_flush(r, &h, hash);
		if (rc)
			break;
		memset(&h.d, 0, sizeof(h.d));
		rc = jfs_dentry_decode(val, vlen, &h.d.type, &h.d.ino);
		if (rc || n > sizeof(h.name)) {
			rc = -EUCLEAN;
			break;
		}
		memcpy(h.name, name, n);
		h.d.name = h.name;
		h.d.name_len = n;
		h.hash = hash;
		h.have = true;
	}
	view_end(it);
	return rc;
}

int fs_readdir(struct fs *fs, uint64_t ino, uint64_t off, bool want_attr, int (*fn)(void *arg, const struct fs_dirent *d),
	void *arg, struct fs_need *need)
{
	struct reading r = { .fs = fs, .want_attr = want_attr, .fn = fn, .arg = arg, .need = need };
	struct inode_val dir;
	int rc;

	journal_lock(fs->j);
	rc = fs_dir(fs, ino, &dir, need);
	if (rc)
		goto out;
	rc = dir.attr.nlink ? give_dots(&r, ino, &dir, off) : READ_GO;
	if (rc == READ_GO)
		rc = give_entries(&r, ino, off);
	if (rc >= 0)
		rc = rc == READ_NEED ? FS_NEED : 0;
out:
	journal_unlock(fs->j);
	return rc;
}
