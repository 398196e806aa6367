/* Names: every operation that makes, moves or removes one, its effect, its errors, and the items its record carries. */
#include <sys/stat.h>

#include "daemon/fs_internal.h"
#include "tests/unit/fs_kit.h"

static void create_and_lookup(void)
{
	struct jfs_attr a, root;
	int64_t space, inodes;
	struct fs_attr out;
	uint64_t ino;
	bool created;
	struct fk f;

	fk_init(&f);
	f.c = (struct fs_cred){ .uid = 7, .gid = 8, .umask = 022 };
	CHECK_EQ(fs_lookup(f.fs, 1, "x", 1, &out, &f.need), -ENOENT);
	CHECK_EQ(fs_create(f.fs, &f.c, 1, "x", 1, 0666, false, false, &out, &created, &f.need), 0);
	CHECK(created);
	ino = out.ino;
	a = fk_attr(&f, ino);
	root = fk_attr(&f, 1);
	CHECK_EQ(a.mode, 0644);
	CHECK_EQ(a.uid, 7);
	CHECK_EQ(a.gid, 8);
	CHECK_EQ(a.nlink, 1);
	CHECK_EQ(a.parent, 1);
	CHECK_EQ(a.length, 0);
	CHECK_EQ(a.type, JFS_FILE);
	CHECK(a.mtime > 1000 && a.mtime == root.mtime && a.mtime_nsec == root.mtime_nsec && a.ctime == root.ctime);
	CHECK_EQ(fk_ino(&f, 1, "x"), ino);
	CHECK_EQ(fs_create(f.fs, &f.c, 1, "x", 1, 0666, true, false, &out, &created, &f.need), -EEXIST);
	CHECK_EQ(fs_create(f.fs, &f.c, 1, "x", 1, 0666, false, false, &out, &created, &f.need), 0);
	CHECK(!created && out.ino == ino);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(space, 4096);
	CHECK_EQ(inodes, 1);
	CHECK_EQ(fk_items(&f, 0, IT_EXPECT), 1);
	CHECK_EQ(fk_items(&f, 0, IT_DIRSTAT), 1);
	/* O_TRUNC of an existing one */
	CHECK_EQ(fk_write(&f, ino, 0, "hello", 5), 0);
	CHECK_EQ(fs_create(f.fs, &f.c, 1, "x", 1, 0666, false, true, &out, &created, &f.need), 0);
	CHECK_EQ(out.a.length, 0);
	fk_fini(&f);
}

static void create_errors(void)
{
	char longname[300];
	struct fs_attr out;
	uint64_t ino, dir;
	bool created;
	struct fk f;

	fk_init(&f);
	memset(longname, 'n', sizeof(longname));
	CHECK_EQ(fs_create(f.fs, &f.c, 1, longname, 256, 0644, true, false, &out, &created, &f.need), -ENAMETOOLONG);
	CHECK_EQ(fs_create(f.fs, &f.c, 1, longname, 255, 0644, true, false, &out, &created, &f.need), 0);
	CHECK_EQ(fk_create(&f, 1, "", &ino), -EINVAL);
	CHECK_EQ(fk_create(&f, 1, "a/b", &ino), -EINVAL);
	CHECK_EQ(fk_create(&f, 1, "..", &ino), -EEXIST);
	CHECK_EQ(fk_create(&f, 1, ".stats", &ino), -EEXIST);
	CHECK_EQ(fk_create(&f, 1, ".trash", &ino), -EEXIST);
	CHECK_EQ(fk_create(&f, out.ino, "below", &ino), -ENOTDIR);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &dir), 0);
	CHECK_EQ(fs_create(f.fs, &f.c, 1, "d", 1, 0644, false, false, &out, &created, &f.need), -EISDIR);
	CHECK_EQ(fk_create(&f, dir, ".stats", &ino), 0); /* only the root has them */
	CHECK_EQ(fk_create(&f, 4711, "x", &ino), FS_NEED);
	CHECK_EQ(f.need.kind, NEED_DIR);
	CHECK_EQ(f.need.ino, 4711);
	CHECK_EQ(fk_create(&f, JFS_TRASH_INODE + 1, "x", &ino), FS_NEED);
	CHECK_EQ(f.need.kind, NEED_TRASH);
	fk_fini(&f);
}

static void limits_and_read_only(void)
{
	uint64_t ino;
	struct fk f;

	fk_init(&f);
	fk_file(&f, 1, "one");
	f.cfg.inodes = 1;
	fs_set_config(f.fs, &f.cfg);
	CHECK_EQ(fk_create(&f, 1, "two", &ino), -ENOSPC);
	f.cfg = (struct fs_config){ .capacity = 8192 };
	fs_set_config(f.fs, &f.cfg);
	CHECK_EQ(fk_create(&f, 1, "two", &ino), 0);
	CHECK_EQ(fk_create(&f, 1, "three", &ino), -ENOSPC);
	f.cfg = (struct fs_config){ .read_only = true };
	fs_set_config(f.fs, &f.cfg);
	CHECK_EQ(fk_create(&f, 1, "three", &ino), -EROFS);
	CHECK_EQ(fk_unlink(&f, 1, "one"), -EROFS);
	CHECK_EQ(fk_rename(&f, 1, "one", 1, "x", 0), -EROFS);
	f.cfg.read_only = false;
	fs_set_config(f.fs, &f.cfg);
	journal_freeze(f.k.j, "fenced");
	CHECK_EQ(fk_create(&f, 1, "three", &ino), -EROFS);
	CHECK_EQ(fk_unlink(&f, 1, "one"), -EROFS);
	CHECK(fk_ino(&f, 1, "one") != 0);
	fs_free(f.fs);
	journal_close(f.k.j);
	kit_fini(&f.k);
}

static void mkdir_rmdir(void)
{
	uint64_t d, e, file;
	int64_t space, inodes;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(fk_attr(&f, 1).nlink, 3);
	CHECK_EQ(fk_attr(&f, d).nlink, 2);
	CHECK_EQ(fk_attr(&f, d).length, 4096);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &e), -EEXIST);
	CHECK_EQ(fk_mkdir(&f, d, "e", &e), 0);
	CHECK_EQ(fk_rmdir(&f, 1, "d"), -ENOTEMPTY);
	CHECK_EQ(fk_rmdir(&f, 1, "nothing"), -ENOENT);
	CHECK_EQ(fk_rmdir(&f, 1, ".config"), -EPERM);
	file = fk_file(&f, 1, "f");
	CHECK_EQ(fk_rmdir(&f, 1, "f"), -ENOTDIR);
	CHECK_EQ(fk_rmdir(&f, file, "f"), -ENOTDIR);
	CHECK_EQ(fk_unlink(&f, 1, "d"), -EISDIR);
	CHECK_EQ(fk_rmdir(&f, d, "e"), 0);
	CHECK_EQ(fk_rmdir(&f, 1, "d"), 0);
	CHECK_EQ(fk_attr(&f, 1).nlink, 2);
	CHECK_EQ(fk_ino(&f, 1, "d"), 0);
	/* still held: it is there, without links, and nothing can be made in it */
	CHECK_EQ(fk_attr(&f, d).nlink, 0);
	CHECK_EQ(fk_create(&f, d, "x", &e), -ENOENT);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(space, 4096);
	CHECK_EQ(inodes, 1);
	CHECK_EQ(fk_items(&f, 0, IT_GONE), 2);
	CHECK_EQ(fk_items(&f, 0, IT_SUSTAIN), 0);
	fs_forget(f.fs, d, 1);
	CHECK_EQ(fs_getattr(f.fs, d, &(struct fs_attr){ 0 }, &f.need), -ENOENT);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 0);
	fk_fini(&f);
}

/* A removed directory or symlink that is still held costs one record, and its forget none; whoever changes it makes it an orphan. */
static void ghosts(void)
{
	struct fs_setattr set = { .valid = FSA_ATIME_NOW };
	uint64_t d, l, m, mark;
	struct fs_attr a;
	char buf[8];
	struct fk f;
	size_t n;

	fk_init(&f);
	REQUIRE(fk_mkdir(&f, 1, "d", &d) == 0 && fk_symlink(&f, 1, "l", "there", &l) == 0 && fk_symlink(&f, 1, "m", "else", &m) == 0);
	mark = fk_mark(&f);
	CHECK_EQ(fk_rmdir(&f, 1, "d"), 0);
	CHECK_EQ(fk_unlink(&f, 1, "l"), 0);
	CHECK_EQ(fk_unlink(&f, 1, "m"), 0);
	CHECK_EQ(fk_mark(&f), mark + 3);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0) + fk_keys(&f, T_SYMLINK, 0) + fk_keys(&f, T_INODE, d), 0);
	CHECK_EQ(fs_getattr(f.fs, d, &a, &f.need), 0);
	CHECK(a.a.nlink == 0 && a.a.type == JFS_DIR && a.seq == mark + 1);
	CHECK_EQ(fs_lookup(f.fs, d, ".", 1, &a, &f.need), 0);
	CHECK_EQ(fk_mkdir(&f, d, "x", &(uint64_t){ 0 }), -ENOENT);
	n = sizeof(buf);
	CHECK(fs_readlink(f.fs, l, buf, &n, &f.need) == 0 && n == 5 && memcmp(buf, "there", 5) == 0);

	CHECK_EQ(fs_setattr(f.fs, &f.c, m, &set, &a, &f.need), 0);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, m), 1);
	CHECK_EQ(fk_items(&f, mark + 3, IT_PUT), 0); /* nothing for Redis */
	n = sizeof(buf);
	CHECK(fs_readlink(f.fs, m, buf, &n, &f.need) == 0 && n == 4 && memcmp(buf, "else", 4) == 0);
	CHECK_EQ(fk_attr(&f, m).nlink, 0);
	fs_forget(f.fs, m, 1);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0) + fk_keys(&f, T_SYMLINK, 0) + fk_keys(&f, T_INODE, m), 0);

	mark = fk_mark(&f);
	fs_forget(f.fs, l, 1);
	fs_forget(f.fs, d, 1);
	CHECK_EQ(fk_attr(&f, d).nlink, 0); /* the lookup by "." counts */
	fs_forget(f.fs, d, 1);
	CHECK_EQ(fk_mark(&f), mark);
	CHECK_EQ(fs_getattr(f.fs, d, &a, &f.need), -ENOENT);
	CHECK_EQ(fs_getattr(f.fs, l, &a, &f.need), -ENOENT);
	fk_fini(&f);
}

/* What is replayed of a removed directory ends with its IT_GONE: nothing may bring it back. */
static void gone_is_the_last_word(void)
{
	struct fs_setattr set = { .valid = FSA_MODE, .mode = 0700 };
	struct fs_attr a;
	uint64_t d, before;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(fk_rmdir(&f, 1, "d"), 0);
	before = f.seq;
	CHECK_EQ(fs_setattr(f.fs, &f.c, d, &set, &a, &f.need), 0);
	CHECK_EQ(fk_attr(&f, d).mode, 0700);
	CHECK_EQ(FK(&f, fs_setxattr(f.fs, &f.c, d, "user.a", 6, "1", 1, 0, &f.seq, &f.need)), 0);
	fs_forget(f.fs, d, 1);
	CHECK_EQ(fk_items(&f, before, IT_PUT), 0);
	CHECK_EQ(fk_items(&f, before, IT_DEL), 0);
	CHECK_EQ(fk_keys(&f, T_XATTR, 0), 0);
	fk_fini(&f);
}

static void setgid_and_flags(void)
{
	struct fs_setattr set = { .valid = FSA_MODE, .mode = 02775 };
	struct fs_attr a;
	uint64_t d, e, file;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(fs_setattr(f.fs, &f.c, d, &set, &a, &f.need), 0);
	set = (struct fs_setattr){ .valid = FSA_GID, .gid = 50 };
	CHECK_EQ(fs_setattr(f.fs, &f.c, d, &set, &a, &f.need), 0);
	CHECK_EQ(a.a.mode, 02775);
	f.c.gid = 9;
	CHECK_EQ(fk_mkdir(&f, d, "e", &e), 0);
	CHECK_EQ(fk_attr(&f, e).gid, 50);
	CHECK_EQ(fk_attr(&f, e).mode, 02755);
	file = fk_file(&f, d, "file");
	CHECK_EQ(fk_attr(&f, file).gid, 50);
	CHECK_EQ(fk_attr(&f, file).mode, 0644);
	fk_fini(&f);
}

static void sticky_directory(void)
{
	struct fs_setattr set = { .valid = FSA_MODE, .mode = 01777 };
	struct fs_attr a;
	uint64_t d;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "tmp", &d), 0);
	CHECK_EQ(fs_setattr(f.fs, &f.c, d, &set, &a, &f.need), 0);
	f.c.uid = 100;
	fk_file(&f, d, "mine");
	fk_file(&f, d, "target");
	f.c.uid = 200;
	CHECK_EQ(fk_unlink(&f, d, "mine"), -EPERM);
	CHECK_EQ(fk_rename(&f, d, "mine", 1, "x", 0), -EPERM);
	fk_file(&f, d, "his");
	CHECK_EQ(fk_rename(&f, d, "his", d, "target", 0), -EPERM);
	f.c.uid = 100;
	CHECK_EQ(fk_unlink(&f, d, "mine"), 0);
	f.c.uid = 0;
	CHECK_EQ(fk_unlink(&f, d, "target"), 0);
	fk_fini(&f);
}

static void mknod_kinds(void)
{
	uint64_t ino;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mknod(&f, 1, "fifo", S_IFIFO | 0600, &ino), 0);
	CHECK_EQ(fk_attr(&f, ino).type, JFS_FIFO);
	CHECK_EQ(fk_attr(&f, ino).rdev, 0);
	CHECK_EQ(fk_mknod(&f, 1, "chr", S_IFCHR | 0600, &ino), 0);
	CHECK_EQ(fk_attr(&f, ino).rdev, 0x103);
	CHECK_EQ(fk_mknod(&f, 1, "reg", 0600, &ino), 0);
	CHECK_EQ(fk_attr(&f, ino).type, JFS_FILE);
	CHECK_EQ(fk_mknod(&f, 1, "dir", S_IFDIR | 0600, &ino), -EPERM);
	CHECK_EQ(fk_mknod(&f, 1, "lnk", S_IFLNK | 0600, &ino), -EINVAL);
	CHECK_EQ(fk_truncate(&f, fk_ino(&f, 1, "fifo"), 0), -EINVAL);
	fk_fini(&f);
}

static void symlink_readlink(void)
{
	char buf[4096], target[4097];
	size_t n = sizeof(buf);
	uint64_t ino, file;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_symlink(&f, 1, "l", "to/there", &ino), 0);
	CHECK_EQ(fk_attr(&f, ino).length, 8);
	CHECK_EQ(fk_attr(&f, ino).mode, 0777);
	CHECK_EQ(fs_readlink(f.fs, ino, buf, &n, &f.need), 0);
	CHECK(n == 8 && memcmp(buf, "to/there", 8) == 0);
	file = fk_file(&f, 1, "f");
	CHECK_EQ(fs_readlink(f.fs, file, buf, &n, &f.need), -EINVAL);
	CHECK_EQ(fk_symlink(&f, 1, "e", "", &ino), -ENOENT);
	memset(target, 't', sizeof(target));
	target[4096] = 0;
	CHECK_EQ(fk_symlink(&f, 1, "long", target, &ino), -ENAMETOOLONG);
	target[4095] = 0;
	CHECK_EQ(fk_symlink(&f, 1, "long", target, &ino), 0);
	/* unlinked while held: readlink goes on, and the last forget leaves nothing */
	ino = fk_ino(&f, 1, "l");
	CHECK_EQ(fk_unlink(&f, 1, "l"), 0);
	n = sizeof(buf);
	CHECK_EQ(fs_readlink(f.fs, ino, buf, &n, &f.need), 0);
	fs_forget(f.fs, ino, 1);
	CHECK_EQ(fk_keys(&f, T_SYMLINK, ino), 0);
	CHECK_EQ(fk_keys(&f, T_INODE, ino), 0);
	fk_fini(&f);
}

static void links(void)
{
	uint64_t ino, d, mark;
	int64_t space, inodes;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	ino = fk_file(&f, 1, "a");
	CHECK_EQ(fk_link(&f, d, 1, "dd"), -EPERM);
	CHECK_EQ(fk_link(&f, ino, 1, "a"), -EEXIST);
	CHECK_EQ(fk_link(&f, ino, ino, "a"), -ENOTDIR);
	mark = fk_mark(&f);
	CHECK_EQ(fk_link(&f, ino, d, "b"), 0);
	CHECK_EQ(fk_items(&f, mark, IT_PARENT), 2);
	CHECK_EQ(fk_items(&f, mark, IT_NLINK), 1);
	CHECK_EQ(fk_attr(&f, ino).nlink, 2);
	CHECK_EQ(fk_attr(&f, ino).parent, 0);
	CHECK_EQ(fk_ino(&f, d, "b"), ino);
	mark = fk_mark(&f);
	CHECK_EQ(fk_unlink(&f, 1, "a"), 0);
	CHECK_EQ(fk_items(&f, mark, IT_PARENT), 1);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 0);
	CHECK_EQ(fk_attr(&f, ino).nlink, 1);
	CHECK_EQ(fk_attr(&f, ino).parent, 0);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 2);
	/* nobody links an inode without a name */
	CHECK_EQ(fk_unlink(&f, d, "b"), 0);
	CHECK_EQ(fk_link(&f, ino, 1, "again"), -ENOENT);
	fk_fini(&f);
}

static void unlink_held(void)
{
	uint64_t ino, mark;
	int64_t space, inodes;
	uint8_t buf[8];
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
	CHECK_EQ(fk_write(&f, ino, 0, "hello", 5), 0);
	mark = fk_mark(&f);
	CHECK_EQ(fk_unlink(&f, 1, "f"), 0);
	CHECK_EQ(fk_unlink(&f, 1, "f"), -ENOENT);
	CHECK_EQ(fk_items(&f, mark, IT_SUSTAIN), 1);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 0);
	CHECK_EQ(fk_read(&f, ino, 0, buf, 5), 5);
	CHECK_EQ(fk_write(&f, ino, 5, "!", 1), 0);
	CHECK_EQ(fk_attr(&f, ino).length, 6);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 1);
	fs_forget(f.fs, ino, 1);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 1);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 0);
	CHECK_EQ(space, 0);
	CHECK_EQ(fs_getattr(f.fs, ino, &(struct fs_attr){ 0 }, &f.need), -ENOENT);
	CHECK_EQ(fk_keys(&f, T_EXTENT, ino), 0);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 0);
	fk_fini(&f);
}

/* Orphans that are forgotten together go in common records, one for each kind. */
static void forgotten_together(void)
{
	struct fs_forgotten all[FS_FORGET_TOGETHER];
	int64_t space, inodes;
	uint64_t mark, ino;
	char name[16];
	struct fk f;

	fk_init(&f);
	for (unsigned i = 0; i < FS_FORGET_TOGETHER; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		bool dir = i == 20 || i == 21;

		if (dir)
			CHECK_EQ(fk_mkdir(&f, 1, name, &ino), 0);
		else
			ino = fk_file(&f, 1, name);
		if (!dir)
			CHECK_EQ(fk_write(&f, ino, 0, "data", 4), 0);
		else if (i == 20) /* what Redis need not hear of: it was gone with its name */
			CHECK_EQ(FK(&f, fs_setxattr(f.fs, &f.c, ino, "user.a", 6, "1", 1, 0, &f.seq, &f.need)), 0);
		all[i] = (struct fs_forgotten){ ino, 1 };
		if (i == 31) /* still has its name */
			continue;
		CHECK_EQ(dir ? fk_rmdir(&f, 1, name) : fk_unlink(&f, 1, name), 0);
	}
	fs_ref(f.fs, all[7].ino); /* and this one is still open */
	mark = fk_mark(&f);
	fs_forget_all(f.fs, all, FS_FORGET_TOGETHER);
	CHECK_EQ(fk_mark(&f), mark + 2);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 28);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 1);
	CHECK_EQ(fk_attr(&f, all[7].ino).length, 4);
	CHECK_EQ(fk_attr(&f, all[31].ino).nlink, 1);
	fs_forget(f.fs, all[7].ino, 1);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 0);
	CHECK_EQ(fk_keys(&f, T_EXTENT, 0), 1);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 1);
	CHECK_EQ(space, 4096);
	fk_fini(&f);
}

static void unlink_trash(void)
{
	uint64_t ino, other, d, mark;
	int64_t space, inodes;
	struct fk f;

	fk_init(&f);
	f.cfg.trash = true;
	fs_set_config(f.fs, &f.cfg);
	ino = fk_file(&f, 1, "f");
	other = fk_file(&f, 1, "notheld");
	fs_forget(f.fs, other, 1);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	mark = fk_mark(&f);
	CHECK_EQ(fk_unlink(&f, 1, "f"), 0);
	CHECK_EQ(fk_unlink(&f, 1, "notheld"), 0);
	CHECK_EQ(fk_rmdir(&f, 1, "d"), 0);
	CHECK_EQ(fk_attr(&f, d).nlink, 0);
	CHECK_EQ(fk_items(&f, mark, IT_TRASH), 3);
	CHECK_EQ(fk_items(&f, mark, IT_NLINK), 0);
	CHECK_EQ(fk_items(&f, mark, IT_SUSTAIN), 0);
	CHECK_EQ(fk_keys(&f, T_INODE, other), 0);
	fs_forget(f.fs, ino, 1);
	fs_forget(f.fs, d, 1);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 0);
	CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 0);
	CHECK_EQ(fk_keys(&f, T_INODE, ino), 0);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 3); /* the trash counts */
	fk_fini(&f);
}

static void orphans_end_at_restart(void)
{
	int64_t space, inodes;
	uint64_t ino;
	struct fk f;

	for (int kill = 0; kill < 2; kill++) {
		fk_init(&f);
		ino = fk_file(&f, 1, "f");
		CHECK_EQ(fk_write(&f, ino, 0, "hello", 5), 0);
		CHECK_EQ(fk_unlink(&f, 1, "f"), 0);
		fk_restart(&f, kill);
		CHECK_EQ(fk_keys(&f, T_ORPHAN, 0), 0);
		CHECK_EQ(fk_keys(&f, T_INODE, ino), 0);
		fk_stats(&f, &space, &inodes);
		CHECK_EQ(inodes, 0);
		CHECK_EQ(space, 0);
		fk_fini(&f);
	}
}

static void ids_never_again(void)
{
	uint64_t a, b;
	struct fk f;

	fk_init(&f);
	a = fk_file(&f, 1, "a");
	CHECK_EQ(fk_unlink(&f, 1, "a"), 0);
	fs_forget(f.fs, a, 1);
	for (int kill = 0; kill < 2; kill++) {
		fk_restart(&f, kill);
		b = fk_file(&f, 1, kill ? "b" : "c");
		CHECK(b > a);
		a = b;
	}
	/* a range that is used up */
	fs_free(f.fs);
	REQUIRE(fs_new(f.k.j, &f.cfg, &f.fs) == 0);
	CHECK_EQ(fs_ids_left(f.fs), 0);
	CHECK_EQ(fk_create(&f, 1, "none", &b), FS_NEED);
	CHECK_EQ(f.need.kind, NEED_INODE_IDS);
	fs_add_ids(f.fs, 1ull << 41, (1ull << 41) + 2);
	CHECK_EQ(fs_ids_left(f.fs), 2);
	CHECK_EQ(fk_file(&f, 1, "n1"), 1ull << 41);
	CHECK_EQ(fk_file(&f, 1, "n2"), (1ull << 41) + 1);
	CHECK_EQ(fk_create(&f, 1, "n3", &b), FS_NEED);
	fs_add_ids(f.fs, (1ull << 41) + 2, (1ull << 41) + 3);
	CHECK_EQ(fk_file(&f, 1, "n3"), (1ull << 41) + 2);
	fk_fini(&f);
}

static void rename_plain(void)
{
	uint64_t d, ino, sub, mark;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	ino = fk_file(&f, 1, "a");
	mark = fk_mark(&f);
	CHECK_EQ(fk_rename(&f, 1, "a", 1, "b", 0), 0);
	CHECK_EQ(fk_ino(&f, 1, "a"), 0);
	CHECK_EQ(fk_ino(&f, 1, "b"), ino);
	CHECK_EQ(fk_items(&f, mark, IT_EXPECT), 2);
	CHECK_EQ(fk_items(&f, mark, IT_DIRSTAT), 0);
	mark = fk_mark(&f);
	CHECK_EQ(fk_rename(&f, 1, "b", d, "c", 0), 0);
	CHECK_EQ(fk_items(&f, mark, IT_DIRSTAT), 2);
	CHECK_EQ(fk_attr(&f, ino).parent, d);
	CHECK_EQ(fk_rename(&f, 1, "b", d, "c", 0), -ENOENT);
	CHECK_EQ(fk_mkdir(&f, 1, "s", &sub), 0);
	CHECK_EQ(fk_attr(&f, 1).nlink, 4);
	CHECK_EQ(fs_dir_moved(f.fs), 0); /* files only, so far */
	CHECK_EQ(fk_rename(&f, 1, "s", d, "s", 0), 0);
	CHECK_EQ(fs_dir_moved(f.fs), fk_mark(&f));
	CHECK_EQ(fk_attr(&f, 1).nlink, 3);
	CHECK_EQ(fk_attr(&f, d).nlink, 3);
	CHECK_EQ(fk_attr(&f, sub).parent, d);
	CHECK_EQ(fk_rename(&f, 1, "d", sub, "x", 0), -EINVAL);
	CHECK_EQ(fk_rename(&f, 1, "d", d, "x", 0), -EINVAL);
	CHECK_EQ(fk_rename(&f, d, "s", 1, "d", 0), -ENOTEMPTY);
	CHECK_EQ(fk_rename(&f, d, "c", 1, "d", 0), -EISDIR);
	CHECK_EQ(fk_rename(&f, 1, "d", d, "c", 0), -EINVAL);
	CHECK_EQ(fk_rename(&f, d, "s", d, "c", 0), -ENOTDIR);
	CHECK_EQ(fk_rename(&f, d, "c", 1, ".stats", 0), -EPERM);
	CHECK_EQ(fk_rename(&f, d, "c", d, "s", FS_RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(fk_rename(&f, d, "c", d, "n", FS_RENAME_NOREPLACE), 0);
	CHECK_EQ(fk_rename(&f, d, "n", d, "s", 8), -EINVAL);
	CHECK_EQ(fk_rename(&f, d, "n", d, "s", 3), -EINVAL);
	CHECK_EQ(fk_rename(&f, d, "n", d, "s", FS_RENAME_EXCHANGE | FS_RENAME_WHITEOUT), -EINVAL);
	fk_fini(&f);
}

static void rename_with_a_whiteout(void)
{
	uint64_t d, ino, white, mark;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	ino = fk_file(&f, 1, "a");
	mark = fk_mark(&f);
	CHECK_EQ(fk_rename(&f, 1, "a", d, "b", FS_RENAME_WHITEOUT), 0);
	CHECK_EQ(fk_mark(&f), mark + 1); /* one record */
	CHECK_EQ(fk_items(&f, mark, IT_EXPECT), 2);
	CHECK_EQ(fk_ino(&f, d, "b"), ino);
	white = fk_ino(&f, 1, "a");
	CHECK(white != 0 && white != ino);
	CHECK_EQ(fk_attr(&f, white).type, JFS_CHARDEV);
	CHECK_EQ(fk_attr(&f, white).rdev, 0);
	CHECK_EQ(fk_attr(&f, white).parent, 1);
	CHECK_EQ(fk_rename(&f, d, "b", 1, "a", FS_RENAME_WHITEOUT | FS_RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(fk_rename(&f, d, "b", 1, "a", FS_RENAME_WHITEOUT), 0);
	CHECK_EQ(fk_ino(&f, 1, "a"), ino);
	CHECK(fk_ino(&f, d, "b") != white);
	fk_fini(&f);
}

static void rename_replace(void)
{
	uint64_t a, b, d, e, mark;
	int64_t space, inodes;
	struct fk f;

	fk_init(&f);
	a = fk_file(&f, 1, "a");
	b = fk_file(&f, 1, "b");
	fs_forget(f.fs, b, 1);
	mark = fk_mark(&f);
	CHECK_EQ(fk_rename(&f, 1, "a", 1, "b", 0), 0);
	CHECK_EQ(fk_ino(&f, 1, "b"), a);
	CHECK_EQ(fk_keys(&f, T_INODE, b), 0);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 1);
	b = fk_file(&f, 1, "c"); /* held */
	mark = fk_mark(&f);
	CHECK_EQ(fk_rename(&f, 1, "b", 1, "c", 0), 0);
	CHECK_EQ(fk_items(&f, mark, IT_SUSTAIN), 1);
	CHECK_EQ(fk_attr(&f, b).nlink, 0);
	fs_forget(f.fs, b, 1);
	CHECK_EQ(fk_items(&f, mark, IT_GONE), 1);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(fk_mkdir(&f, 1, "e", &e), 0);
	CHECK_EQ(fk_attr(&f, 1).nlink, 4);
	CHECK_EQ(fk_rename(&f, 1, "d", 1, "e", 0), 0);
	CHECK_EQ(fk_attr(&f, 1).nlink, 3);
	CHECK_EQ(fk_attr(&f, e).nlink, 0);
	fs_forget(f.fs, e, 1);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(inodes, 2);
	/* two names of one inode */
	CHECK_EQ(fk_link(&f, a, 1, "other"), 0);
	CHECK_EQ(fk_rename(&f, 1, "c", 1, "other", 0), 0);
	CHECK_EQ(fk_ino(&f, 1, "c"), a);
	CHECK_EQ(fk_ino(&f, 1, "other"), a);
	fk_fini(&f);
}

static void rename_exchange(void)
{
	uint64_t d, a, b, sub;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	a = fk_file(&f, 1, "a");
	CHECK_EQ(fk_mkdir(&f, d, "b", &b), 0);
	CHECK_EQ(fk_rename(&f, 1, "a", d, "b", FS_RENAME_EXCHANGE), 0);
	CHECK_EQ(fk_ino(&f, 1, "a"), b);
	CHECK_EQ(fk_ino(&f, d, "b"), a);
	CHECK_EQ(fk_attr(&f, a).parent, d);
	CHECK_EQ(fk_attr(&f, b).parent, 1);
	CHECK_EQ(fk_attr(&f, d).nlink, 2);
	CHECK_EQ(fk_attr(&f, 1).nlink, 4);
	CHECK_EQ(fk_rename(&f, 1, "a", d, "none", FS_RENAME_EXCHANGE), -ENOENT);
	CHECK_EQ(fk_mkdir(&f, d, "sub", &sub), 0);
	CHECK_EQ(fk_rename(&f, 1, "d", d, "sub", FS_RENAME_EXCHANGE), -EINVAL);
	CHECK_EQ(fk_rename(&f, d, "sub", 1, "d", FS_RENAME_EXCHANGE), -EINVAL);
	CHECK_EQ(fk_rename(&f, 1, "d", 1, "a", FS_RENAME_EXCHANGE), 0);
	CHECK_EQ(fk_ino(&f, 1, "a"), d);
	fk_fini(&f);
}

static void immutable_and_append(void)
{
	uint8_t rec[JFS_ATTR_MAX];
	struct jfs_attr a = { .type = JFS_FILE, .nlink = 1, .parent = 1, .flags = JFS_FLAG_IMMUTABLE };
	struct jfs_attr b = { .type = JFS_FILE, .nlink = 1, .parent = 1, .flags = JFS_FLAG_APPEND };
	struct fs_loaded_entry e[2] = { { .name = (const uint8_t *)"i", .name_len = 1, .type = JFS_FILE, .ino = 70 },
		{ .name = (const uint8_t *)"a", .name_len = 1, .type = JFS_FILE, .ino = 71 } };
	uint8_t ra[JFS_ATTR_MAX], rb[JFS_ATTR_MAX];
	uint64_t d = 60;
	struct fk f;

	fk_init(&f);
	e[0].record = ra;
	e[0].record_len = jfs_attr_encode(&a, ra);
	e[1].record = rb;
	e[1].record_len = jfs_attr_encode(&b, rb);
	CHECK_EQ(fs_insert_inode(f.fs, 0, d, rec, fk_record(rec, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(fs_insert_dir(f.fs, 0, d, e, 2), 0);
	CHECK_EQ(fk_unlink(&f, d, "i"), -EPERM);
	CHECK_EQ(fk_unlink(&f, d, "a"), -EPERM);
	CHECK_EQ(fk_rename(&f, d, "i", 1, "x", 0), -EPERM);
	CHECK_EQ(fk_link(&f, 71, 1, "x"), -EPERM);
	CHECK_EQ(fk_truncate(&f, 71, 0), -EPERM);
	CHECK_EQ(fk_write(&f, 70, 0, "x", 1), -EPERM);
	fk_fini(&f);
}

struct listing {
	int n, max;
	uint64_t cookie;
	char names[4000][24];
};

static int list_fn(void *arg, const struct fs_dirent *d)
{
	struct listing *l = arg;

	if (l->n == l->max)
		return 1;
	REQUIRE(d->name_len < sizeof(l->names[0]));
	memcpy(l->names[l->n], d->name, d->name_len);
	l->names[l->n++][d->name_len] = 0;
	CHECK(d->cookie > l->cookie);
	l->cookie = d->cookie;
	return 0;
}

static void readdir_stable(void)
{
	static struct listing l;
	uint64_t d, ino;
	char name[24];
	struct fk f;
	int seen = 0;

	fk_init(&f);
	memset(&l, 0, sizeof(l));
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		CHECK_EQ(fk_create(&f, d, name, &ino), 0);
	}
	/* in pieces of 7, while entries come and go: each of the first 500 exactly once */
	for (int i = 0; l.n == l.max; i++) {
		l.max += 7;
		CHECK_EQ(fs_readdir(f.fs, d, l.cookie, i & 1, list_fn, &l, &f.need), 0);
		if (i < 100) {
			snprintf(name, sizeof(name), "n%d", 500 + i);
			CHECK_EQ(fk_unlink(&f, d, name), 0);
			snprintf(name, sizeof(name), "new%d", i);
			fk_file(&f, d, name);
		}
	}
	CHECK_STR(l.names[0], ".");
	CHECK_STR(l.names[1], "..");
	for (int i = 2; i < l.n; i++)
		if (l.names[i][0] == 'n' && l.names[i][1] != 'e' && atoi(l.names[i] + 1) < 500)
			seen++;
	CHECK_EQ(seen, 500);
	CHECK_EQ(fs_readdir(f.fs, ino, 0, false, list_fn, &l, &f.need), -ENOTDIR);
	CHECK_EQ(fs_readdir(f.fs, 999999, 0, false, list_fn, &l, &f.need), FS_NEED);
	fk_fini(&f);
}

/* Counts as Redis may have them: one more name, and one more subdirectory, up to the limit and not beyond. */
static void counts_to_the_limit(void)
{
	uint8_t file[JFS_ATTR_MAX], dir[JFS_ATTR_MAX];
	const struct fs_loaded_entry entries[] = {
		{ .name = (const uint8_t *)"f", .name_len = 1, .type = JFS_FILE, .ino = 500, .record = file,
			.record_len = fk_record(file, JFS_FILE, FS_LINK_MAX - 1, 0, 1) },
		{ .name = (const uint8_t *)"d", .name_len = 1, .type = JFS_DIR, .ino = 501, .record = dir,
			.record_len = fk_record(dir, JFS_DIR, FS_LINK_MAX - 1, 4096, 1) },
	};
	uint8_t root[JFS_ATTR_MAX];
	uint64_t ino;
	struct fk f;

	memset(&f, 0, sizeof(f));
	kit_init(&f.k);
	kit_open(&f.k);
	fk_start(&f);
	CHECK_EQ(fs_insert_inode(f.fs, 0, 1, root, fk_record(root, JFS_DIR, 3, 4096, 1)), 0);
	CHECK_EQ(fs_insert_dir(f.fs, 0, 1, entries, 2), 0);
	CHECK_EQ(fs_insert_dir(f.fs, 0, 501, NULL, 0), 0);
	CHECK_EQ(fk_link(&f, 500, 1, "last"), 0);
	CHECK_EQ(fk_attr(&f, 500).nlink, FS_LINK_MAX);
	CHECK_EQ(fk_link(&f, 500, 1, "one more"), -EMLINK);
	CHECK_EQ(fk_unlink(&f, 1, "last"), 0);
	CHECK_EQ(fk_link(&f, 500, 1, "last"), 0);
	CHECK_EQ(fk_mkdir(&f, 501, "last", &ino), 0);
	CHECK_EQ(fk_mkdir(&f, 501, "one more", &ino), -EMLINK);
	CHECK_EQ(fk_mkdir(&f, 1, "mine", &ino), 0);
	CHECK_EQ(fk_rename(&f, 1, "mine", 501, "mine", 0), -EMLINK);
	CHECK_EQ(fk_create(&f, 501, "a file", &ino), 0); /* which is no link of the directory */
	CHECK_EQ(fk_rename(&f, 1, "mine", 501, "last", 0), 0); /* takes a place and gives one back */
	CHECK_EQ(fk_attr(&f, 501).nlink, FS_LINK_MAX);
	fk_fini(&f);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "create_and_lookup", create_and_lookup },
		{ "create_errors", create_errors },
		{ "limits_and_read_only", limits_and_read_only },
		{ "mkdir_rmdir", mkdir_rmdir },
		{ "ghosts", ghosts },
		{ "gone_is_the_last_word", gone_is_the_last_word },
		{ "setgid_and_flags", setgid_and_flags },
		{ "sticky_directory", sticky_directory },
		{ "mknod_kinds", mknod_kinds },
		{ "symlink_readlink", symlink_readlink },
		{ "links", links },
		{ "counts_to_the_limit", counts_to_the_limit },
		{ "unlink_held", unlink_held },
		{ "forgotten_together", forgotten_together }, { "unlink_trash", unlink_trash },
		{ "orphans_end_at_restart", orphans_end_at_restart },
		{ "ids_never_again", ids_never_again },
		{ "rename_plain", rename_plain },
	{ "rename_with_a_whiteout", rename_with_a_whiteout },
		{ "rename_replace", rename_replace },
		{ "rename_exchange", rename_exchange },
		{ "immutable_and_append", immutable_and_append },
		{ "readdir_stable", readdir_stable },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
