/* What the file system core's tests share: a core over a real journal in a scratch cache, short forms of the operations
 * that wait for room like a worker, and objects whose bytes can be computed. */
#ifndef JFS_TESTS_FS_KIT_H
#define JFS_TESTS_FS_KIT_H

#include "daemon/fs.h"
#include "tests/unit/journal_kit.h"
#include "util/buf.h"

struct fk {
	struct kit k;
	struct fs *fs;
	struct fs_config cfg;
	struct fs_cred c; /* who acts */
	struct fs_need need;
	uint64_t seq;
};

/* Runs an operation until it is not for room that it stops. */
#define FK(f, call)                                                                                                   \
	({                                                                                                            \
		int fk_rc_;                                                                                           \
		while ((fk_rc_ = (call)) == FS_ROOM)                                                                  \
			REQUIRE(journal_wait_room((f)->k.j) == 0);                                                    \
		fk_rc_;                                                                                               \
	})

static inline void fk_start(struct fk *f)
{
	REQUIRE(fs_new(f->k.j, &f->cfg, &f->fs) == 0);
	fs_add_ids(f->fs, 2, 1ull << 40);
	CHECK_EQ(fs_reap_orphans(f->fs), 0);
}

static inline size_t fk_record(uint8_t out[JFS_ATTR_MAX], uint8_t type, uint32_t nlink, uint64_t length, uint64_t parent)
{
	struct jfs_attr a = { .type = type, .mode = type == JFS_DIR ? 0777 : 0644, .nlink = nlink, .length = length,
		.parent = parent, .atime = 1000, .mtime = 1000, .ctime = 1000 };

	return jfs_attr_encode(&a, out);
}

/* A fresh volume: an empty root. */
static inline void fk_init(struct fk *f)
{
	uint8_t root[JFS_ATTR_MAX];

	memset(f, 0, sizeof(*f));
	kit_init(&f->k);
	kit_open(&f->k);
	fk_start(f);
	CHECK_EQ(fs_insert_inode(f->fs, 0, 1, root, fk_record(root, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(fs_insert_dir(f->fs, 0, 1, NULL, 0), 0);
}

static inline void fk_fini(struct fk *f)
{
	fs_free(f->fs);
	kit_close(&f->k);
	kit_fini(&f->k);
}

/* Unmounts (or kills) and mounts again: the kernel's references are gone. */
static inline void fk_restart(struct fk *f, bool kill)
{
	fs_free(f->fs);
	if (kill)
		kit_kill(&f->k);
	else
		kit_close(&f->k);
	kit_open(&f->k);
	fk_start(f);
}

static inline int fk_lookup(struct fk *f, uint64_t dir, const char *name, struct fs_attr *a)
{
	int rc = fs_lookup(f->fs, dir, name, strlen(name), a, &f->need);

	if (!rc)
		fs_forget(f->fs, a->ino, 1);
	return rc;
}

static inline uint64_t fk_ino(struct fk *f, uint64_t dir, const char *name)
{
	struct fs_attr a;

	return fk_lookup(f, dir, name, &a) ? 0 : a.ino;
}

static inline struct jfs_attr fk_attr(struct fk *f, uint64_t ino)
{
	struct fs_attr a = { 0 };

	CHECK_EQ(fs_getattr(f->fs, ino, &a, &f->need), 0);
	return a.a;
}

static inline int fk_create(struct fk *f, uint64_t dir, const char *name, uint64_t *ino)
{
	struct fs_attr a = { 0 };
	bool created;
	int rc = FK(f, fs_create(f->fs, &f->c, dir, name, strlen(name), 0644, true, false, &a, &created, &f->need));

	*ino = a.ino;
	return rc;
}

static inline uint64_t fk_file(struct fk *f, uint64_t dir, const char *name)
{
	uint64_t ino;

	CHECK_EQ(fk_create(f, dir, name, &ino), 0);
	return ino;
}

static inline int fk_mkdir(struct fk *f, uint64_t dir, const char *name, uint64_t *ino)
{
	struct fs_attr a = { 0 };
	int rc = FK(f, fs_mkdir(f->fs, &f->c, dir, name, strlen(name), 0755, &a, &f->need));

	*ino = a.ino;
	return rc;
}

static inline int fk_symlink(struct fk *f, uint64_t dir, const char *name, const char *to, uint64_t *ino)
{
	struct fs_attr a = { 0 };
	int rc = FK(f, fs_symlink(f->fs, &f->c, dir, name, strlen(name), to, strlen(to), &a, &f->need));

	*ino = a.ino;
	return rc;
}

static inline int fk_mknod(struct fk *f, uint64_t dir, const char *name, uint32_t mode, uint64_t *ino)
{
	struct fs_attr a = { 0 };
	int rc = FK(f, fs_mknod(f->fs, &f->c, dir, name, strlen(name), mode, 0x103, &a, &f->need));

	*ino = a.ino;
	return rc;
}

static inline int fk_link(struct fk *f, uint64_t ino, uint64_t dir, const char *name)
{
	struct fs_attr a;

	return FK(f, fs_link(f->fs, &f->c, ino, dir, name, strlen(name), &a, &f->need));
}

static inline int fk_unlink(struct fk *f, uint64_t dir, const char *name)
{
	return FK(f, fs_unlink(f->fs, &f->c, dir, name, strlen(name), &f->seq, &f->need));
}

static inline int fk_rmdir(struct fk *f, uint64_t dir, const char *name)
{
	return FK(f, fs_rmdir(f->fs, &f->c, dir, name, strlen(name), &f->seq, &f->need));
}

static inline int fk_rename(struct fk *f, uint64_t dir, const char *name, uint64_t todir, const char *to, unsigned flags)
{
	return FK(f, fs_rename(f->fs, &f->c, dir, name, strlen(name), todir, to, strlen(to), flags, &f->seq, &f->need));
}

static inline int fk_truncate(struct fk *f, uint64_t ino, uint64_t len)
{
	struct fs_setattr set = { .valid = FSA_SIZE, .size = len };
	struct fs_attr a;

	return FK(f, fs_setattr(f->fs, &f->c, ino, &set, &a, &f->need));
}

static inline int fk_write(struct fk *f, uint64_t ino, uint64_t off, const void *data, size_t len)
{
	struct staged s;

	REQUIRE(staging_append(journal_staging(f->k.j), data, len, &s) == 0);
	return FK(f, fs_write(f->fs, &f->c, ino, &off, false, &s, NULL, &f->seq, &f->need));
}

/* Byte `at` of an object: what a loaded slice reads as. Never 0. */
static inline uint8_t fk_object_byte(uint64_t slice, uint32_t at)
{
	return (uint8_t)(1 + (slice * 31 + at * 7 + (at >> 8)) % 255);
}

/* Reads what fs_map says; bytes read (short at the end of the file), -EAGAIN with f->need, -errno. */
static inline ssize_t fk_read(struct fk *f, uint64_t ino, uint64_t off, uint8_t *buf, size_t len)
{
	struct fs_piece p[8];
	uint64_t file_len = 0;
	size_t got = 0;

	while (got < len) {
		int n = fs_map(f->fs, ino, off + got, len - got, p, 8, &file_len, &f->need);

		if (n <= 0)
			return n ? n : (ssize_t)got;
		for (int i = 0; i < n; got += p[i++].len) {
			REQUIRE(p[i].len > 0 && p[i].len <= len - got);
			memset(buf + got, 0, p[i].len);
			if (p[i].kind == EXT_STAGED)
				CHECK_EQ(staging_read_run(journal_staging(f->k.j), &p[i].run, p[i].off, buf + got, p[i].len), 0);
			for (uint32_t b = 0; p[i].kind == EXT_OBJECT && b < p[i].len; b++)
				buf[got + b] = fk_object_byte(p[i].slice_id, p[i].slice_off + b);
		}
	}
	return (ssize_t)got;
}

static inline void fk_stats(struct fk *f, int64_t *space, int64_t *inodes)
{
	journal_lock(f->k.j);
	journal_stats(f->k.j, space, inodes);
	journal_unlock(f->k.j);
}

/* How many live keys a table holds for an inode (ino 0: at all). */
static inline int fk_keys(struct fk *f, enum jtable t, uint64_t ino)
{
	struct jkey k = { .len = 9 };
	const uint8_t *key, *val;
	size_t klen, vlen;
	int n = 0;

	k.b[0] = (uint8_t)t;
	put_be64(k.b + 1, ino);
	journal_lock(f->k.j);
	struct view_iter *it = view_seek(f->k.j, &k, ino ? 9 : 1);
	REQUIRE(it);
	while (view_step(it, &key, &klen, &val, &vlen) == 1)
		n++;
	view_end(it);
	journal_unlock(f->k.j);
	return n;
}

/* Counts the items of a kind in the durable log; the last one's value as a sum of its be64 at `at` when sum is given. */
struct fk_count {
	enum rec_item_kind kind;
	int n;
	uint64_t last_ino;
};
static inline int fk_count_fn(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct fk_count *c = arg;
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;

	(void)seq;
	CHECK_EQ(rec_open(rec, len, &h, &r), 0);
	while (rec_next(&r, &it) == 1) {
		if (it.kind != c->kind)
			continue;
		c->n++;
		if (it.klen >= 9)
			c->last_ino = get_be64(it.key + 1);
	}
	return 0;
}
static inline int fk_items(struct fk *f, uint64_t from, enum rec_item_kind kind)
{
	struct fk_count c = { .kind = kind };
	uint64_t upto = journal_mark(f->k.j, WM_COMMITTED);

	REQUIRE(journal_wait(f->k.j, WM_DURABLE, upto) == 0);
	CHECK_EQ(journal_log_scan(f->k.j, from, upto, fk_count_fn, &c), 0);
	return c.n;
}
static inline uint64_t fk_mark(struct fk *f)
{
	return journal_mark(f->k.j, WM_COMMITTED);
}

static inline void fk_reap(struct fk *f)
{
	int rc;

	while ((rc = fs_reap_step(f->fs)) == 1 || rc == FS_ROOM)
		if (rc == FS_ROOM)
			REQUIRE(journal_wait_room(f->k.j) == 0);
	CHECK_EQ(rc, 0);
}

#endif
