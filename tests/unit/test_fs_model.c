/* Random operations against a naive model in memory, with forgets, restarts and kills in between: every answer and the
 * whole tree must agree. */
#include <sys/stat.h>

#include "tests/unit/fs_kit.h"

enum { NODES = 4096, NAMES = 10, DIRS = 12 };

struct node {
	uint64_t ino;
	uint8_t type;
	uint32_t mode, nlink;
	uint64_t len, refs;
	int parent; /* of a directory */
	int entry[NAMES]; /* 0: none */
	bool alive; /* has a name, or the kernel has it */
	uint8_t xattr; /* user.a's value, 0: none */
};

struct world {
	struct fk f;
	struct node n[NODES]; /* 1 is the root */
	int used, dirs[DIRS], ndirs;
	uint64_t s;
	bool trash;
	int64_t trashed_space, trashed;
};

static const char *const name_of[NAMES] = { "a", "b", "c", "dd", "ee", "f.o", "\xff\x01", "long-name-number-eight", "i", "j" };

static uint64_t rnd(struct world *w, uint64_t n)
{
	return unit_rand(&w->s) % n;
}

static int64_t node_space(const struct node *n)
{
	return n->type == JFS_FILE ? (int64_t)jfs_align4k(n->len) : 4096;
}

static bool is_dir(const struct world *w, int i)
{
	return w->n[i].type == JFS_DIR;
}

static bool dir_empty(const struct node *n)
{
	for (int i = 0; i < NAMES; i++)
		if (n->entry[i])
			return false;
	return true;
}

static void dirs_forget(struct world *w, int d)
{
	for (int i = 0; i < w->ndirs; i++)
		if (w->dirs[i] == d)
			w->dirs[i--] = w->dirs[--w->ndirs];
}

/* The name (d, k) goes. */
static void model_drop(struct world *w, int d, int k)
{
	int i = w->n[d].entry[k];
	struct node *n = &w->n[i];

	w->n[d].entry[k] = 0;
	if (is_dir(w, i)) {
		n->nlink = 0;
		w->n[d].nlink--;
		dirs_forget(w, i);
	} else {
		n->nlink--;
	}
	if (n->nlink == 0 && w->trash) {
		w->trashed++;
		w->trashed_space += node_space(n);
	}
	if (n->nlink == 0 && n->refs == 0)
		n->alive = false;
}

static int model_new(struct world *w, int d, int k, uint8_t type, uint32_t mode, uint64_t ino, uint64_t len)
{
	int i = ++w->used;

	REQUIRE(i < NODES);
	w->n[i] = (struct node){ .ino = ino, .type = type, .mode = mode, .nlink = type == JFS_DIR ? 2 : 1, .len = len,
		.refs = 1, .parent = d, .alive = true };
	w->n[d].entry[k] = i;
	if (type == JFS_DIR) {
		w->n[d].nlink++;
		w->dirs[w->ndirs++] = i;
	}
	return i;
}

static bool below(const struct world *w, int dir, int i)
{
	for (; i != 1; i = w->n[i].parent)
		if (i == dir)
			return true;
	return dir == 1;
}

/* What a rename must answer, 0 if it goes through, 1 if it does nothing. */
static int model_rename_check(const struct world *w, int d, int k, int d2, int k2, unsigned flags)
{
	int i = w->n[d].entry[k], j = w->n[d2].entry[k2];

	if (!i || ((flags & FS_RENAME_EXCHANGE) && !j))
		return -ENOENT;
	if (j && (flags & FS_RENAME_NOREPLACE))
		return -EEXIST;
	if (is_dir(w, i) && d != d2 && below(w, i, d2))
		return -EINVAL;
	if ((flags & FS_RENAME_EXCHANGE) && is_dir(w, j) && d != d2 && below(w, j, d))
		return -EINVAL;
	if (j && !(flags & FS_RENAME_EXCHANGE)) {
		if (is_dir(w, j) && !is_dir(w, i))
			return -EISDIR;
		if (!is_dir(w, j) && is_dir(w, i))
			return -ENOTDIR;
		if (is_dir(w, j) && i != j && !dir_empty(&w->n[j]))
			return -ENOTEMPTY;
	}
	return i == j;
}

static void model_move(struct world *w, int d, int d2, int i)
{
	if (!is_dir(w, i))
		return;
	w->n[d].nlink--;
	w->n[d2].nlink++;
	w->n[i].parent = d2;
}

static void step_rename(struct world *w, int d, int k)
{
	static const unsigned all[] = { 0, 0, 0, FS_RENAME_NOREPLACE, FS_RENAME_EXCHANGE };
	int d2 = w->dirs[rnd(w, (uint64_t)w->ndirs)], k2 = (int)rnd(w, NAMES);
	unsigned flags = all[rnd(w, 5)];
	int want = model_rename_check(w, d, k, d2, k2, flags), i = w->n[d].entry[k], j = w->n[d2].entry[k2];

	/* a non-empty directory that is replaced by itself is nothing to do */
	CHECK_EQ(fk_rename(&w->f, w->n[d].ino, name_of[k], w->n[d2].ino, name_of[k2], flags), want > 0 ? 0 : want);
	if (want)
		return;
	if (j && !(flags & FS_RENAME_EXCHANGE))
		model_drop(w, d2, k2);
	w->n[d].entry[k] = flags & FS_RENAME_EXCHANGE ? j : 0;
	w->n[d2].entry[k2] = i;
	model_move(w, d, d2, i);
	if (flags & FS_RENAME_EXCHANGE)
		model_move(w, d2, d, j);
}

static void step_make(struct world *w, int d, int k)
{
	bool exists = w->n[d].entry[k];
	uint64_t dino = w->n[d].ino, ino;
	int rc, kind = (int)rnd(w, 5);

	if (kind == 0 && w->ndirs == DIRS)
		kind = 1;
	if (kind == 0) {
		rc = fk_mkdir(&w->f, dino, name_of[k], &ino);
	} else if (kind == 1) {
		rc = fk_symlink(&w->f, dino, name_of[k], "target", &ino);
	} else if (kind == 2) {
		rc = fk_mknod(&w->f, dino, name_of[k], S_IFIFO | 0600, &ino);
	} else {
		rc = fk_create(&w->f, dino, name_of[k], &ino);
	}
	CHECK_EQ(rc, exists ? -EEXIST : 0);
	if (rc || exists)
		return;
	if (kind == 0)
		model_new(w, d, k, JFS_DIR, 0755, ino, 4096);
	else if (kind == 1)
		model_new(w, d, k, JFS_SYMLINK, 0777, ino, 6);
	else if (kind == 2)
		model_new(w, d, k, JFS_FIFO, 0600, ino, 0);
	else
		model_new(w, d, k, JFS_FILE, 0644, ino, 0);
}

static void step_remove(struct world *w, int d, int k, bool rmdir)
{
	int i = w->n[d].entry[k], want = 0, rc;

	if (!i)
		want = -ENOENT;
	else if (rmdir && !is_dir(w, i))
		want = -ENOTDIR;
	else if (!rmdir && is_dir(w, i))
		want = -EISDIR;
	else if (rmdir && !dir_empty(&w->n[i]))
		want = -ENOTEMPTY;
	rc = rmdir ? fk_rmdir(&w->f, w->n[d].ino, name_of[k]) : fk_unlink(&w->f, w->n[d].ino, name_of[k]);
	CHECK_EQ(rc, want);
	if (!want)
		model_drop(w, d, k);
}

static void step_link(struct world *w, int d, int k)
{
	int i = 2 + (int)rnd(w, (uint64_t)w->used), want = 0;
	struct node *n = &w->n[i];

	if (i > w->used || !n->alive)
		return;
	if (is_dir(w, i))
		want = -EPERM;
	else if (w->n[d].entry[k])
		want = -EEXIST;
	else if (n->nlink == 0)
		want = -ENOENT;
	CHECK_EQ(fk_link(&w->f, n->ino, w->n[d].ino, name_of[k]), want);
	if (want)
		return;
	n->nlink++;
	n->refs++;
	w->n[d].entry[k] = i;
}

/* Changes something of any inode that is alive, with a name or without. */
static void step_change(struct world *w)
{
	int i = 1 + (int)rnd(w, (uint64_t)w->used);
	struct node *n = &w->n[i];
	struct fs_setattr set = { .valid = FSA_MODE, .mode = (uint32_t)rnd(w, 01000) };
	struct fs_attr a;
	uint8_t v = (uint8_t)(1 + rnd(w, 200));

	if (!n->alive)
		return;
	switch (rnd(w, 4)) {
	case 0:
		CHECK_EQ(FK(&w->f, fs_setattr(w->f.fs, &w->f.c, n->ino, &set, &a, &w->f.need)), 0);
		n->mode = set.mode;
		break;
	case 1:
		CHECK_EQ(FK(&w->f, fs_setxattr(w->f.fs, &w->f.c, n->ino, "user.a", 6, &v, 1, 0, &w->f.seq, &w->f.need)), 0);
		n->xattr = v;
		break;
	case 2:
		CHECK_EQ(FK(&w->f, fs_removexattr(w->f.fs, &w->f.c, n->ino, "user.a", 6, &w->f.seq, &w->f.need)),
			n->xattr ? 0 : -ENODATA);
		n->xattr = 0;
		break;
	default:
		if (n->type != JFS_FILE)
			return;
		if (w->trash && n->nlink == 0)
			w->trashed_space -= node_space(n);
		n->len = rnd(w, 3) ? n->len + 3000 : 0;
		if (n->len)
			CHECK_EQ(fk_write(&w->f, n->ino, n->len - 10, "0123456789", 10), 0);
		else
			CHECK_EQ(fk_truncate(&w->f, n->ino, 0), 0);
		if (w->trash && n->nlink == 0)
			w->trashed_space += node_space(n);
	}
}

static void model_forget(struct world *w, int i, uint64_t n)
{
	w->n[i].refs -= n;
	if (w->n[i].refs == 0 && w->n[i].nlink == 0)
		w->n[i].alive = false;
}

static void step_forget(struct world *w)
{
	int i = 2 + (int)rnd(w, (uint64_t)w->used);

	if (i > w->used || w->n[i].refs == 0)
		return;
	uint64_t n = 1 + rnd(w, w->n[i].refs);

	fs_forget(w->f.fs, w->n[i].ino, n);
	model_forget(w, i, n);
}

struct seen {
	struct world *w;
	int d, n;
};

static int seen_fn(void *arg, const struct fs_dirent *d)
{
	struct seen *s = arg;

	if (d->cookie <= 2)
		return 0;
	for (int k = 0; k < NAMES; k++) {
		if (strlen(name_of[k]) != d->name_len || memcmp(name_of[k], d->name, d->name_len) != 0)
			continue;
		CHECK(s->w->n[s->d].entry[k] && s->w->n[s->w->n[s->d].entry[k]].ino == d->ino);
		CHECK_EQ(d->type, s->w->n[s->w->n[s->d].entry[k]].type);
		s->n++;
	}
	return 0;
}

static void compare(struct world *w)
{
	int64_t space = w->trashed_space, inodes = w->trashed, got_space, got_inodes;
	struct fs_attr a;
	char v[8];

	for (int i = 1; i <= w->used; i++) {
		struct node *n = &w->n[i];
		struct seen s = { .w = w, .d = i };
		size_t len = sizeof(v);
		int entries = 0, rc = fs_getattr(w->f.fs, n->ino, &a, &w->f.need);

		if (!n->alive) {
			CHECK(rc == -ENOENT || (w->trash && rc == FS_NEED));
			continue;
		}
		CHECK_EQ(rc, 0);
		CHECK_EQ(a.a.nlink, n->nlink);
		CHECK_EQ(a.a.mode, n->mode);
		CHECK_EQ(a.a.length, n->len);
		CHECK_EQ(a.a.type, n->type);
		rc = fs_getxattr(w->f.fs, n->ino, "user.a", 6, v, &len, &w->f.need);
		CHECK_EQ(rc, n->xattr ? 0 : -ENODATA);
		CHECK(rc || (uint8_t)v[0] == n->xattr);
		/* files without a name count until the last forget, everything else does not */
		if (i > 1 && (n->nlink || (n->type == JFS_FILE && !w->trash))) {
			space += node_space(n);
			inodes++;
		}
		if (n->type != JFS_DIR)
			continue;
		CHECK_EQ(fs_readdir(w->f.fs, n->ino, 0, true, seen_fn, &s, &w->f.need), 0);
		for (int k = 0; k < NAMES; k++)
			entries += n->entry[k] != 0;
		CHECK_EQ(s.n, entries);
		if (n->nlink && i > 1)
			CHECK_EQ(a.a.parent, w->n[n->parent].ino);
	}
	fk_stats(&w->f, &got_space, &got_inodes);
	CHECK_EQ(got_space, space);
	CHECK_EQ(got_inodes, inodes);
}

/* What replay will sum up per inode: entries of a directory, links, names in all parents, ends. */
enum { INOS = 1 << 17 };
struct sums {
	int entries, links, names, gone;
};

static int sums_fn(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct sums *all = arg;
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;

	(void)seq;
	CHECK_EQ(rec_open(rec, len, &h, &r), 0);
	while (rec_next(&r, &it) == 1) {
		uint64_t ino = it.klen >= 9 ? get_be64(it.key + 1) : 0;

		if (it.kind == IT_SPACE || ino >= INOS)
			continue;
		if (it.kind == IT_DIRSTAT)
			all[ino].entries += (int)get_be64(it.val + 16);
		else if (it.kind == IT_NLINK)
			all[ino].links += (int)get_be32(it.val);
		else if (it.kind == IT_PARENT)
			all[ino].names += (int)get_be32(it.val + 8);
		else if (it.kind == IT_GONE)
			all[ino].gone++;
		else if (it.kind == IT_PUT && it.key[0] == T_INODE)
			CHECK_EQ(all[ino].gone, 0);
	}
	return 0;
}

static void compare_deltas(struct world *w)
{
	struct sums *all = calloc(INOS, sizeof(*all));
	uint64_t upto = fk_mark(&w->f);

	REQUIRE(all && journal_wait(w->f.k.j, WM_DURABLE, upto) == 0);
	CHECK_EQ(journal_log_scan(w->f.k.j, 0, upto, sums_fn, all), 0);
	for (int i = 1; i <= w->used; i++) {
		struct node *n = &w->n[i];
		struct sums *s = &all[n->ino];
		int entries = 0;

		REQUIRE(n->ino < INOS);
		CHECK_EQ(s->gone, !w->trash && (!n->alive || (n->nlink == 0 && n->type != JFS_FILE)));
		if (n->type == JFS_DIR) {
			for (int k = 0; k < NAMES; k++)
				entries += n->entry[k] != 0;
			CHECK_EQ(s->entries, entries);
		} else {
			if (!w->trash)
				CHECK_EQ(1 + s->links, n->nlink);
			if (n->alive && n->nlink && fk_attr(&w->f, n->ino).parent == 0)
				CHECK_EQ(s->names, n->nlink);
		}
	}
	free(all);
}

static void restart(struct world *w)
{
	for (int i = 2; i <= w->used; i++)
		if (w->n[i].alive)
			model_forget(w, i, w->n[i].refs);
	w->f.cfg.trash = w->trash;
	fk_restart(&w->f, rnd(w, 2));
}

static void step(struct world *w)
{
	int d = w->dirs[rnd(w, (uint64_t)w->ndirs)], k = (int)rnd(w, NAMES);

	switch (rnd(w, 12)) {
	case 0:
	case 1:
	case 2:
		step_make(w, d, k);
		break;
	case 3:
	case 4:
		step_remove(w, d, k, rnd(w, 3) == 0);
		break;
	case 5:
	case 6:
		step_rename(w, d, k);
		break;
	case 7:
		step_link(w, d, k);
		break;
	case 8:
	case 9:
		step_change(w);
		break;
	default:
		step_forget(w);
	}
}

static void run(bool trash)
{
	static struct world w;
	int before = unit_failures;

	memset(&w, 0, sizeof(w));
	w.s = unit_seed();
	w.trash = trash;
	fk_init(&w.f);
	w.f.cfg.trash = trash;
	fs_set_config(w.f.fs, &w.f.cfg);
	w.used = 1;
	w.n[1] = (struct node){ .ino = 1, .type = JFS_DIR, .mode = 0777, .nlink = 2, .len = 4096, .refs = 1, .parent = 1,
		.alive = true };
	w.dirs[w.ndirs++] = 1;
	CHECK_EQ(fs_insert_xattrs(w.f.fs, 0, 1, NULL, 0), 0);
	for (int round = 0; round < 60 && unit_failures == before; round++) {
		for (int i = 0; i < 100 && unit_failures == before; i++)
			step(&w);
		compare(&w);
		if (rnd(&w, 3) == 0)
			restart(&w);
		if (rnd(&w, 3) == 0)
			compare(&w);
	}
	fk_reap(&w.f);
	compare(&w);
	compare_deltas(&w);
	fk_fini(&w.f);
}

static void random_operations(void)
{
	run(false);
}

static void random_operations_with_trash(void)
{
	run(true);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "random_operations", random_operations },
		{ "random_operations_with_trash", random_operations_with_trash },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
