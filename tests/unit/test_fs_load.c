/* Loading from Redis: what is held is never overwritten, what is deleted does not come back, an older answer is refused;
 * and the histories that broke earlier drafts of it. */
#include <linux/falloc.h>

#include "tests/unit/fs_kit.h"

#include "journal/evict.h"

/* Forgets keys of an inode as an eviction or the dropping of clean entries does: no tombstone stays. */
static void evict(struct fk *f, enum jtable t, uint64_t ino)
{
	struct jkey k = { .len = 9 };
	const uint8_t *key, *val;
	size_t klen, vlen;
	uint64_t seq;

	k.b[0] = (uint8_t)t;
	put_be64(k.b + 1, ino);
	journal_lock(f->k.j);
	struct rec *r = journal_begin(f->k.j, OP_EVICT);
	struct view_iter *it = view_seek(f->k.j, &k, 9);
	while (view_step(it, &key, &klen, &val, &vlen) == 1)
		rec_item(r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
	view_end(it);
	CHECK_EQ(journal_commit(f->k.j, &seq), 0);
	journal_unlock(f->k.j);
}

static void evict_file(struct fk *f, uint64_t ino)
{
	static const enum jtable tables[] = { T_INODE, T_EXTENT, T_CHUNK, T_CUT, T_REAP, T_XATTR, T_SYMLINK };

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		evict(f, tables[i], ino);
}

/* A directory is no longer complete: its record as Redis has it, its clean entries dropped. */
static void evict_dir(struct fk *f, uint64_t ino, uint64_t position)
{
	uint8_t rec[JFS_ATTR_MAX];

	evict(f, T_INODE, ino);
	evict(f, T_DENTRY, ino);
	CHECK_EQ(fs_insert_inode(f->fs, position, ino, rec, fk_record(rec, JFS_DIR, 2, 4096, 1)), 0);
}

static void applied(struct fk *f)
{
	uint64_t seq = fk_mark(f);

	CHECK_EQ(journal_wait(f->k.j, WM_DURABLE, seq), 0);
	journal_raise(f->k.j, WM_APPLIED, seq);
}

struct answer {
	uint8_t rec[JFS_ATTR_MAX];
	struct fs_loaded_entry e;
};

static struct fs_loaded_entry *entry(struct answer *a, const char *name, uint64_t ino, uint64_t len, uint64_t parent)
{
	a->e = (struct fs_loaded_entry){ .name = (const uint8_t *)name, .name_len = strlen(name), .type = JFS_FILE, .ino = ino,
		.record = a->rec, .record_len = fk_record(a->rec, JFS_FILE, 1, len, parent) };
	return &a->e;
}

static void load_dir(struct fk *f, uint64_t dir, struct fs_loaded_entry *e, size_t n)
{
	uint8_t rec[JFS_ATTR_MAX];

	CHECK_EQ(fs_insert_inode(f->fs, journal_mark(f->k.j, WM_APPLIED), dir, rec, fk_record(rec, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(fs_insert_dir(f->fs, journal_mark(f->k.j, WM_APPLIED), dir, e, n), 0);
}

static size_t slice(uint8_t *out, uint64_t id, uint32_t pos, uint32_t len)
{
	struct jfs_slice s = { .id = id, .pos = pos, .size = len, .len = len };

	jfs_slice_encode(&s, out);
	return 1;
}

static void needs(void)
{
	struct fs_attr a;
	uint8_t buf[8];
	char text[8];
	size_t n = sizeof(text);
	struct answer x;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fs_lookup(f.fs, 500, "x", 1, &a, &f.need), FS_NEED);
	CHECK(f.need.kind == NEED_DIR && f.need.ino == 500);
	CHECK_EQ(fs_getattr(f.fs, 500, &a, &f.need), FS_NEED);
	CHECK(f.need.kind == NEED_INODE && f.need.ino == 500);
	load_dir(&f, 500, entry(&x, "x", 501, 10, 500), 1);
	CHECK_EQ(fk_ino(&f, 500, "x"), 501);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 8), -EAGAIN);
	CHECK(f.need.kind == NEED_CHUNK && f.need.ino == 501 && f.need.chunk == 0);
	CHECK_EQ(fs_getxattr(f.fs, 501, "user.a", 6, text, &n, &f.need), FS_NEED);
	CHECK_EQ(f.need.kind, NEED_XATTR);
	x.e.type = JFS_SYMLINK;
	x.e.ino = 503;
	x.e.name = (const uint8_t *)"l";
	x.e.record_len = fk_record(x.rec, JFS_SYMLINK, 1, 2, 502);
	load_dir(&f, 502, &x.e, 1);
	CHECK_EQ(fs_readlink(f.fs, 503, text, &n, &f.need), FS_NEED);
	CHECK_EQ(f.need.kind, NEED_SYMLINK);
	CHECK_EQ(fs_insert_symlink(f.fs, 0, 503, NULL, 0), -EIO);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 599, NULL, 0), -ENOENT);
	CHECK_EQ(fs_insert_symlink(f.fs, 0, 503, "to", 2), 0);
	CHECK_EQ(fs_readlink(f.fs, 503, text, &n, &f.need), 0);
	CHECK(n == 2 && memcmp(text, "to", 2) == 0);
	struct fs_loaded_xattr xa = { .name = (const uint8_t *)"user.a", .name_len = 6, .val = (const uint8_t *)"v", .val_len = 1 };
	CHECK_EQ(fs_insert_xattrs(f.fs, 0, 501, &xa, 1), 0);
	n = sizeof(text);
	CHECK_EQ(fs_getxattr(f.fs, 501, "user.a", 6, text, &n, &f.need), 0);
	CHECK_EQ(n, 1);
	/* a name without a record is shown as broken: only its type is known */
	x.e.record = NULL;
	x.e.ino = 505;
	load_dir(&f, 504, &x.e, 1);
	CHECK_EQ(fk_attr(&f, 505).type, JFS_SYMLINK);
	CHECK_EQ(fk_attr(&f, 505).mode, 0);
	fk_fini(&f);
}

static void malformed_answers(void)
{
	uint8_t rec[JFS_SLICE_LEN];
	struct answer x;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 10, 500), 1);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 600, "short", 5), -EUCLEAN);
	memset(rec, 0xff, sizeof(rec));
	CHECK_EQ(fs_insert_chunk(f.fs, 0, 501, 0, rec, 1), -EUCLEAN);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 502, x.rec, fk_record(x.rec, JFS_DIR, 2, 4096, 1)), 0);
	entry(&x, "a/b", 503, 0, 502);
	CHECK_EQ(fs_insert_dir(f.fs, 0, 502, &x.e, 1), -EUCLEAN);
	/* a damaged record costs that file only */
	entry(&x, "ok", 503, 0, 502)->record_len = 7;
	CHECK_EQ(fs_insert_dir(f.fs, 0, 502, &x.e, 1), 0);
	CHECK_EQ(fs_lookup(f.fs, 502, "ok", 2, &(struct fs_attr){ 0 }, &f.need), FS_NEED);
	CHECK_EQ(f.need.kind, NEED_INODE);
	fk_fini(&f);
}

/* More entries than a record takes: the directory is complete only with the last piece. */
static void big_directory(void)
{
	enum { N = 5000 };
	struct fs_loaded_entry *e = calloc(N, sizeof(*e));
	char (*names)[16] = calloc(N, sizeof(*names));
	uint8_t rec[JFS_ATTR_MAX];
	size_t len = fk_record(rec, JFS_FILE, 1, 0, 500);
	struct fk f;

	fk_init(&f);
	for (int i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]), "n%d", i);
		e[i] = (struct fs_loaded_entry){ .name = (const uint8_t *)names[i], .name_len = strlen(names[i]),
			.type = JFS_FILE, .ino = (uint64_t)1000 + i, .record = rec, .record_len = len };
	}
	uint8_t drec[JFS_ATTR_MAX];
	CHECK_EQ(fs_insert_inode(f.fs, 0, 500, drec, fk_record(drec, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(FK(&f, fs_insert_dir(f.fs, 0, 500, e, N)), 0);
	CHECK_EQ(fk_keys(&f, T_DENTRY, 500), N);
	CHECK_EQ(fk_ino(&f, 500, "n4999"), 5999);
	free(e);
	free(names);
	fk_fini(&f);
}

static void reload_keeps_what_is_ours(void)
{
	uint8_t list[2 * JFS_SLICE_LEN], buf[100];
	struct answer x;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 100, 500), 1);
	CHECK_EQ(fs_insert_chunk(f.fs, 0, 501, 0, list, slice(list, 10, 0, 100)), 0);
	CHECK_EQ(fk_write(&f, 501, 50, "mine", 4), 0);
	CHECK_EQ(fs_reload_chunk(f.fs, 0, 501, 0, list, slice(list, 11, 0, 100)), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 100), 100);
	CHECK(memcmp(buf + 50, "mine", 4) == 0);
	CHECK_EQ(buf[49], fk_object_byte(11, 49));
	CHECK_EQ(buf[54], fk_object_byte(11, 54));
	fk_fini(&f);
}

/* The list is as old as Redis's position: what was cut off or punched here since must not come back with it. */
static void reload_does_not_undo_a_truncate(void)
{
	uint8_t list[2 * JFS_SLICE_LEN], buf[200], data[20];
	struct answer x;
	struct fk f;

	fk_init(&f);
	memset(data, 'd', sizeof(data));
	load_dir(&f, 500, entry(&x, "x", 501, 200, 500), 1);
	CHECK_EQ(fs_insert_chunk(f.fs, 0, 501, 0, list, slice(list, 10, 0, 200)), 0);
	CHECK_EQ(FK(&f, fs_fallocate(f.fs, &f.c, 501, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 20, 10, &f.seq, &f.need)), 0);
	CHECK_EQ(fk_truncate(&f, 501, 100), 0);
	CHECK_EQ(fk_truncate(&f, 501, 200), 0);
	CHECK_EQ(fk_write(&f, 501, 150, data, 20), 0);
	CHECK_EQ(fs_reload_chunk(f.fs, 0, 501, 0, list, slice(list, 11, 0, 200)), 0);
	for (int reaped = 0; reaped < 2; reaped++) {
		CHECK_EQ(fk_read(&f, 501, 0, buf, 200), 200);
		for (uint32_t i = 0; i < 200; i++) {
			bool zero = (i >= 20 && i < 30) || i >= 100;

			CHECK_EQ(buf[i], i >= 150 && i < 170 ? 'd' : zero ? 0 : fk_object_byte(11, i));
		}
		fk_reap(&f);
	}
	/* emptied here, and what lies there now came from another file's object: nothing of the old list shows */
	uint64_t copied, seq, src = 502;
	struct answer y;
	load_dir(&f, 510, entry(&y, "y", src, 200, 510), 1);
	CHECK_EQ(fs_insert_chunk(f.fs, 0, src, 0, list, slice(list, 12, 0, 200)), 0);
	CHECK_EQ(fk_truncate(&f, 501, 0), 0);
	CHECK_EQ(FK(&f, fs_copy_range(f.fs, &f.c, src, 0, 501, 150, 50, &copied, &seq, &f.need)), 0);
	CHECK_EQ(fs_reload_chunk(f.fs, 0, 501, 0, list, slice(list, 13, 0, 200)), -ESTALE);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 200), 200);
	CHECK_EQ(buf[0], 0);
	CHECK_EQ(buf[150], fk_object_byte(12, 0));
	fk_fini(&f);
}

static void chunks_missing_are_those_of_files_that_are_held(void)
{
	uint8_t list[2 * JFS_SLICE_LEN];
	struct answer a[4];
	uint64_t out[16], born;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&a[0], "x", 501, 100, 500), 1);
	load_dir(&f, 510, entry(&a[1], "y", 511, 100, 510), 1);
	load_dir(&f, 504, entry(&a[2], "empty", 505, 0, 504), 1);
	load_dir(&f, 506, entry(&a[3], "z", 507, 100, 506), 1);
	born = fk_file(&f, 1, "born");
	CHECK_EQ(fk_write(&f, born, 0, "data", 4), 0);
	CHECK_EQ(fs_chunks_missing(f.fs, born, 1, out), 0); /* ours alone */
	CHECK_EQ(fs_chunks_missing(f.fs, 500, 16, out), 3);
	CHECK(out[0] == 501 && out[1] == 507 && out[2] == 511);
	CHECK_EQ(fs_insert_chunk(f.fs, 0, 507, 0, list, slice(list, 10, 0, 100)), 0);
	evict_file(&f, 501);
	CHECK_EQ(fs_chunks_missing(f.fs, 500, 16, out), 1);
	CHECK_EQ(out[0], 511);
	CHECK_EQ(fs_chunks_missing(f.fs, 500, 11, out), 0);
	fk_fini(&f);
}

static void history_07_truncate_then_extend(void)
{
	uint8_t list[JFS_SLICE_LEN], buf[100], data[100];
	struct answer x;
	struct fk f;

	fk_init(&f);
	memset(data, 'd', sizeof(data));
	for (int late = 0; late < 2; late++) {
		uint64_t ino = late ? 501 : fk_file(&f, 1, "born");

		if (late)
			load_dir(&f, 500, entry(&x, "x", 501, 100, 500), 1);
		else
			CHECK_EQ(fk_write(&f, ino, 0, data, 100), 0);
		CHECK_EQ(fk_truncate(&f, ino, 10), 0);
		CHECK_EQ(fk_write(&f, ino, 90, data, 10), 0);
		if (late)
			CHECK_EQ(fs_insert_chunk(f.fs, 0, ino, 0, list, slice(list, 10, 0, 100)), 0);
		for (int reaped = 0; reaped < 2; reaped++) {
			CHECK_EQ(fk_read(&f, ino, 0, buf, 100), 100);
			CHECK_EQ(buf[9], late ? fk_object_byte(10, 9) : 'd');
			for (int i = 10; i < 90; i++)
				CHECK_EQ(buf[i], 0);
			CHECK(memcmp(buf + 90, data, 10) == 0);
			fk_reap(&f);
		}
	}
	fk_fini(&f);
}

static void history_08_emptied_filled_evicted_reloaded(void)
{
	uint8_t list[JFS_SLICE_LEN], rec[JFS_ATTR_MAX], buf[5];
	struct answer x;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "f", 501, 100, 500), 1);
	CHECK_EQ(fk_truncate(&f, 501, 0), 0);
	CHECK_EQ(fk_write(&f, 501, 0, "data\n", 5), 0);
	applied(&f);
	evict_file(&f, 501);
	CHECK_EQ(fs_insert_inode(f.fs, fk_mark(&f), 501, rec, fk_record(rec, JFS_FILE, 1, 5, 500)), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 5), -EAGAIN);
	CHECK_EQ(fs_insert_chunk(f.fs, fk_mark(&f), 501, 0, list, slice(list, 77, 0, 5)), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 5), 5);
	CHECK_EQ(buf[0], fk_object_byte(77, 0));
	CHECK_EQ(buf[4], fk_object_byte(77, 4));
	/* the same with a cut that is still there */
	CHECK_EQ(fk_truncate(&f, 501, 100), 0);
	applied(&f);
	CHECK_EQ(fk_truncate(&f, 501, 2), 0);
	CHECK_EQ(fk_truncate(&f, 501, 5), 0);
	applied(&f);
	evict(&f, T_EXTENT, 501);
	evict(&f, T_CHUNK, 501);
	CHECK_EQ(fs_insert_chunk(f.fs, fk_mark(&f), 501, 0, list, slice(list, 78, 0, 5)), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 5), 5);
	CHECK_EQ(buf[4], fk_object_byte(78, 4));
	fk_fini(&f);
}

static void history_09_removed_stays_removed(void)
{
	struct answer x;
	uint8_t rec[JFS_ATTR_MAX];
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 10, 500), 1);
	CHECK_EQ(fk_unlink(&f, 500, "x"), 0);
	CHECK_EQ(journal_wait(f.k.j, WM_DURABLE, fk_mark(&f)), 0);
	fk_restart(&f, true);
	evict_dir(&f, 500, 0);
	CHECK_EQ(fs_insert_dir(f.fs, 0, 500, &x.e, 1), 0);
	CHECK_EQ(fk_ino(&f, 500, "x"), 0);
	CHECK_EQ(fk_keys(&f, T_INODE, 501), 0);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 501, rec, fk_record(rec, JFS_FILE, 1, 10, 500)), 0);
	CHECK_EQ(fs_getattr(f.fs, 501, &(struct fs_attr){ 0 }, &f.need), -ENOENT);
	fk_fini(&f);
}

static void history_20_two_loads_in_flight(void)
{
	struct answer x;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 10, 500), 1);
	CHECK_EQ(fk_unlink(&f, 500, "x"), 0);
	CHECK_EQ(fs_insert_dir(f.fs, 0, 500, &x.e, 1), 0);
	CHECK_EQ(fk_ino(&f, 500, "x"), 0);
	CHECK_EQ(fk_keys(&f, T_INODE, 501), 0);
	fk_fini(&f);
}

static void history_21_older_answer_names_an_evicted_inode(void)
{
	struct fs_setattr set = { .valid = FSA_MODE, .mode = 0600 };
	uint8_t rec[JFS_ATTR_MAX];
	struct answer x;
	struct fs_attr a;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 10, 500), 1);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 510, rec, fk_record(rec, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(fs_setattr(f.fs, &f.c, 501, &set, &a, &f.need), 0);
	applied(&f);
	evict_file(&f, 501);
	CHECK_EQ(fs_insert_dir(f.fs, 0, 510, entry(&x, "y", 501, 10, 0), 1), -ESTALE);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 501, x.rec, x.e.record_len), -ESTALE);
	CHECK_EQ(fk_keys(&f, T_INODE, 501), 0);
	fk_fini(&f);
}

static void history_22_redis_falls_back(void)
{
	uint8_t rec[JFS_ATTR_MAX], list[JFS_SLICE_LEN];
	struct answer x;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 10, 500), 1);
	CHECK_EQ(fk_write(&f, 501, 0, "replayed", 8), 0);
	applied(&f);
	uint64_t old = journal_mark(f.k.j, WM_APPLIED) - 1;
	struct fs_loaded_xattr xa = { .name = (const uint8_t *)"user.a", .name_len = 6 };
	CHECK_EQ(fs_insert_inode(f.fs, old, 600, rec, fk_record(rec, JFS_DIR, 2, 4096, 1)), -ESTALE);
	CHECK_EQ(fs_insert_dir(f.fs, old, 500, &x.e, 1), -ESTALE);
	CHECK_EQ(fs_insert_chunk(f.fs, old, 501, 0, list, slice(list, 1, 0, 10)), -ESTALE);
	CHECK_EQ(fs_reload_chunk(f.fs, old, 501, 0, list, 1), -ESTALE);
	CHECK_EQ(fs_insert_xattrs(f.fs, old, 501, &xa, 1), -ESTALE);
	CHECK_EQ(fs_insert_symlink(f.fs, old, 501, "t", 1), -ESTALE);
	CHECK_EQ(fs_insert_inode(f.fs, old, 600, NULL, 0), -ESTALE); /* what is not there yet was there once */
	CHECK_EQ(fs_insert_symlink(f.fs, old, 501, NULL, 0), -ESTALE);
	CHECK_EQ(fs_insert_chunk(f.fs, old + 1, 501, 0, list, 1), 0);
	fk_fini(&f);
}

static void history_23_emptied_before_its_chunk_loads(void)
{
	uint8_t list[JFS_SLICE_LEN], buf[200], zero[200] = { 0 };
	struct answer x;
	struct fk f;

	fk_init(&f);
	load_dir(&f, 500, entry(&x, "x", 501, 200, 500), 1);
	CHECK_EQ(fk_truncate(&f, 501, 0), 0);
	CHECK_EQ(fk_truncate(&f, 501, 200), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 200), 200); /* nothing to wait for */
	CHECK(memcmp(buf, zero, 200) == 0);
	CHECK_EQ(fs_insert_chunk(f.fs, 0, 501, 0, list, slice(list, 10, 0, 200)), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 200), 200);
	CHECK(memcmp(buf, zero, 200) == 0);
	fk_fini(&f);
}

/* Clean entries are dropped, what is not in Redis yet stays, and so do tombstones. */
static void drop_clean(void)
{
	uint8_t rec[JFS_ATTR_MAX], list[JFS_SLICE_LEN], buf[4];
	struct answer x[2];
	struct fs_loaded_entry e[2];
	uint64_t upto, mine, dropped;
	struct fs_attr a;
	struct fk f;

	fk_init(&f);
	e[0] = *entry(&x[0], "x", 501, 4, 500);
	e[1] = *entry(&x[1], "y", 502, 4, 500);
	load_dir(&f, 500, e, 2);
	CHECK_EQ(fs_insert_chunk(f.fs, 0, 501, 0, list, slice(list, 10, 0, 4)), 0);
	CHECK_EQ(fk_unlink(&f, 500, "y"), 0);
	applied(&f);
	upto = fk_mark(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "new", &mine), 0);
	CHECK_EQ(journal_drop_clean(fs_journal(f.fs), upto, &dropped), 0);
	CHECK(dropped > 0);
	CHECK_EQ(fk_keys(&f, T_INODE, 0), 2); /* the root and what is new */
	CHECK_EQ(fk_keys(&f, T_EXTENT, 0), 0);
	CHECK_EQ(fk_keys(&f, T_CHUNK, 0), 0);
	CHECK_EQ(fk_keys(&f, T_DENTRY, 0), 1);
	CHECK_EQ(fs_lookup(f.fs, 1, "new", 3, &a, &f.need), FS_NEED); /* others may have made names beside it */
	CHECK_EQ(fs_insert_dir(f.fs, upto, 1, NULL, 0), 0);
	CHECK_EQ(fk_ino(&f, 1, "new"), mine);
	CHECK_EQ(fs_lookup(f.fs, 500, "x", 1, &a, &f.need), FS_NEED);
	CHECK_EQ(fs_insert_inode(f.fs, upto, 500, rec, fk_record(rec, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(fs_insert_dir(f.fs, upto, 500, e, 2), 0);
	CHECK_EQ(fk_ino(&f, 500, "x"), 501);
	CHECK_EQ(fk_ino(&f, 500, "y"), 0);
	CHECK_EQ(fk_read(&f, 501, 0, buf, 4), -EAGAIN);
	fk_fini(&f);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "needs", needs },
		{ "malformed_answers", malformed_answers },
		{ "big_directory", big_directory },
		{ "reload_keeps_what_is_ours", reload_keeps_what_is_ours },
		{ "reload_does_not_undo_a_truncate", reload_does_not_undo_a_truncate },
		{ "chunks_missing_are_those_of_files_that_are_held", chunks_missing_are_those_of_files_that_are_held },
		{ "history_07_truncate_then_extend", history_07_truncate_then_extend },
		{ "history_08_emptied_filled_evicted_reloaded", history_08_emptied_filled_evicted_reloaded },
		{ "history_09_removed_stays_removed", history_09_removed_stays_removed },
		{ "history_20_two_loads_in_flight", history_20_two_loads_in_flight },
		{ "history_21_older_answer_names_an_evicted_inode", history_21_older_answer_names_an_evicted_inode },
		{ "history_22_redis_falls_back", history_22_redis_falls_back },
		{ "history_23_emptied_before_its_chunk_loads", history_23_emptied_before_its_chunk_loads },
		{ "drop_clean", drop_clean },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
