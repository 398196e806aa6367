/* What the tests of quotas share: a core that counts, what it says, and what a count of the tree or of the log finds. */
#ifndef JFS_TESTS_QUOTA_KIT_H
#define JFS_TESTS_QUOTA_KIT_H

#include "daemon/fs_quota_int.h"
#include "tests/unit/fs_kit.h"

enum { PAGE = 4096 };

static inline struct fs_quota limit(enum quota_kind kind, uint64_t id, int64_t space, int64_t inodes)
{
	return (struct fs_quota){ .kind = kind, .id = id, .max_space = space, .max_inodes = inodes };
}

static inline void qk_init(struct fk *f, bool trash)
{
	fk_init(f);
	f->cfg = (struct fs_config){ .dir_quotas = true, .owner_quotas = true, .trash = trash };
	fs_set_config(f->fs, &f->cfg);
}

/* A sync as at the mount of a drained journal, or as of a heartbeat at `position`. How many are to be counted. */
static inline size_t sync_at(struct fk *f, uint64_t position, bool settled, const struct fs_quota *list, size_t n, uint64_t which[4])
{
	size_t count = 4;

	CHECK_EQ(fs_quota_sync(f->fs, position, settled, list, n, which, &count), 0);
	return count;
}

static inline void settled(struct fk *f, const struct fs_quota *list, size_t n)
{
	uint64_t which[4];

	CHECK_EQ(sync_at(f, fk_mark(f), true, list, n, which), 0);
}

static inline void adopt(struct fk *f, const struct fs_quota *q)
{
	CHECK_EQ(FK(f, fs_quota_adopt(f->fs, q, &f->need)), 0);
}

static inline struct fs_quota used(struct fk *f, enum quota_kind kind, uint64_t id)
{
	struct fs_quota q = { .used_space = -1, .used_inodes = -1 };

	journal_lock(f->k.j);
	const struct quota *have = quota_find(f->fs, kind, id);
	if (have)
		q = have->q;
	journal_unlock(f->k.j);
	return q;
}

#define CHECK_USED(f, kind, id, pages, inodes)                                                                        \
	do {                                                                                                          \
		struct fs_quota used_ = used(f, kind, id);                                                            \
		CHECK_EQ(used_.used_space, (int64_t)(pages) * PAGE);                                                  \
		CHECK_EQ(used_.used_inodes, inodes);                                                                  \
	} while (0)

/* --- counting --- */

struct listing {
	struct fs_dirent d[256];
	char names[256][16];
	size_t n;
};

static inline int list_one(void *arg, const struct fs_dirent *d)
{
	struct listing *l = arg;

	if (d->name[0] == '.')
		return 0;
	REQUIRE(l->n < 256 && d->name_len < 16);
	l->d[l->n] = *d;
	memcpy(l->names[l->n], d->name, d->name_len);
	l->names[l->n++][d->name_len] = '\0';
	return 0;
}

static inline void list_dir(struct fk *f, uint64_t dir, struct listing *l)
{
	l->n = 0;
	CHECK_EQ(fs_readdir(f->fs, dir, 0, true, list_one, l, &f->need), 0);
}

static inline int64_t space_of(const struct jfs_attr *a)
{
	return a->type == JFS_FILE && a->length > PAGE ? (int64_t)((a->length + PAGE - 1) / PAGE * PAGE) : PAGE;
}

static inline void count_below(struct fk *f, uint64_t dir, int64_t *space, int64_t *inodes)
{
	struct listing *l = malloc(sizeof(*l));

	REQUIRE(l);
	list_dir(f, dir, l);
	for (size_t i = 0; i < l->n; i++) {
		*space += space_of(&l->d[i].attr.a);
		*inodes += 1;
		if (l->d[i].type == JFS_DIR)
			count_below(f, l->d[i].ino, space, inodes);
	}
	free(l);
}

/* What owners use: every inode there is, but the root and what went to the trash or is kept only for the kernel. */
static inline void count_owner(struct fk *f, enum quota_kind kind, uint32_t id, int64_t *space, int64_t *inodes)
{
	const uint8_t *key, *val;
	size_t klen, vlen;
	struct jkey k = { .len = 1 };
	uint64_t list[2048];
	size_t n = 0;

	k.b[0] = T_INODE;
	journal_lock(f->k.j);
	struct view_iter *it = view_seek(f->k.j, &k, 1);
	REQUIRE(it);
	while (view_step(it, &key, &klen, &val, &vlen) == 1) {
		struct inode_val v;

		REQUIRE(inode_val_decode(val, vlen, &v) == 0 && n < 2048);
		if (get_be64(key + 1) != 1 && (kind == QUOTA_USER ? v.attr.uid : v.attr.gid) == id) {
			list[n++] = get_be64(key + 1);
			*space += space_of(&v.attr);
			*inodes += 1;
		}
	}
	view_end(it);
	for (size_t i = 0; i < n; i++) {
		const void *state;
		struct inode_val v;
		size_t len;

		key_orphan(&k, list[i]);
		if (view_get(f->k.j, &k, &state, &len) == 0 && *(const uint8_t *)state != ORPHAN_LOCAL) {
			REQUIRE(view_get_inode(f->k.j, list[i], &v) == 0);
			*space -= space_of(&v.attr);
			*inodes -= 1;
		}
	}
	journal_unlock(f->k.j);
}

struct told {
	uint64_t dir;
	int64_t space, inodes;
};

static inline int add_told(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct told *t = arg;
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;

	(void)seq;
	REQUIRE(rec_open(rec, len, &h, &r) == 0);
	while (h.op < OP_INTERNAL && rec_next(&r, &it) == 1) {
		if (it.kind != IT_QUOTA || get_be64(it.key + 1) != t->dir)
			continue;
		if (it.flags & IF_NEW)
			t->space = t->inodes = 0;
		t->space += (int64_t)get_be64(it.val);
		t->inodes += (int64_t)get_be64(it.val + 8);
	}
	return 0;
}

/* What replay adds up for a directory's quota. */
static inline struct told told(struct fk *f, uint64_t dir)
{
	struct told t = { .dir = dir };
	uint64_t upto = fk_mark(f);

	REQUIRE(journal_wait(f->k.j, WM_DURABLE, upto) == 0);
	CHECK_EQ(journal_log_scan(f->k.j, 0, upto, add_told, &t), 0);
	return t;
}

#endif
