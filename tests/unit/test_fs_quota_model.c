/* Quotas under random operations: usage equals what a count of the tree finds after every one of them, after a restart and a
 * kill; EDQUOT comes exactly when a limit would be passed; and what replay is told adds up to the same. */
#include "tests/unit/quota_kit.h"

enum { DIRS = 10, OWNERS = 3, NAMES = 12 };

struct play {
	struct fk f;
	uint64_t rng;
	struct fs_quota q[DIRS]; /* of directories: limits */
	size_t nq;
	uint64_t dir[4]; /* which have them, or will: they move, but are neither removed nor replaced */
	struct fs_quota o[2];	   /* of owners */
	int64_t trashed[2][OWNERS][2]; /* by kind and owner: space and inodes that lie in the trash */
	int refused, done;
};

static unsigned rnd(struct play *p, unsigned n)
{
	return (unsigned)(unit_rand(&p->rng) % n);
}

static bool over(const struct fs_quota *limit, int64_t used_space, int64_t used_inodes, int64_t space, int64_t inodes)
{
	return (space > 0 && limit->max_space > 0 && used_space + space > limit->max_space) ||
	       (inodes > 0 && limit->max_inodes > 0 && used_inodes + inodes > limit->max_inodes);
}

static uint64_t parent_of(struct fk *f, uint64_t dir)
{
	return dir == 1 ? 0 : fk_attr(f, dir).parent;
}

static const struct fs_quota *quota_of(const struct play *p, uint64_t dir)
{
	for (size_t i = 0; i < p->nq; i++)
		if (p->q[i].id == dir)
			return &p->q[i];
	return NULL;
}

static bool stays(const struct play *p, uint64_t ino)
{
	return ino == p->dir[0] || ino == p->dir[1] || ino == p->dir[2] || ino == p->dir[3];
}

static uint64_t nearest(struct play *p, uint64_t dir)
{
	while (dir && !quota_of(p, dir))
		dir = parent_of(&p->f, dir);
	return dir;
}

/* Would a quota of `dir` or above be passed? */
static bool dir_full(struct play *p, uint64_t dir, int64_t space, int64_t inodes)
{
	for (; dir; dir = parent_of(&p->f, dir)) {
		const struct fs_quota *q = quota_of(p, dir);
		int64_t s = 0, n = 0;

		if (q)
			count_below(&p->f, dir, &s, &n);
		if (q && over(q, s, n, space, inodes))
			return true;
	}
	return false;
}

static bool owner_full(struct play *p, uint32_t uid, uint32_t gid, int64_t space, int64_t inodes)
{
	uint32_t who[2] = { uid, gid };

	for (int k = 0; k < 2; k++) {
		int64_t s = p->trashed[k][who[k]][0], n = p->trashed[k][who[k]][1];

		if (who[k] != p->o[k].id)
			continue;
		count_owner(&p->f, p->o[k].kind, who[k], &s, &n);
		if (over(&p->o[k], s, n, space, inodes))
			return true;
	}
	return false;
}

struct name {
	uint64_t dir, ino;
	char name[16];
	struct jfs_attr a;
};

static void all_names(struct play *p, uint64_t dir, struct name *out, size_t *n, size_t max)
{
	struct listing *l = malloc(sizeof(*l));

	REQUIRE(l);
	list_dir(&p->f, dir, l);
	for (size_t i = 0; i < l->n && *n < max; i++) {
		struct name *x = &out[(*n)++];

		*x = (struct name){ .dir = dir, .ino = l->d[i].ino, .a = l->d[i].attr.a };
		memcpy(x->name, l->names[i], sizeof(x->name));
		if (l->d[i].type == JFS_DIR)
			all_names(p, l->d[i].ino, out, n, max);
	}
	free(l);
}

static bool below(struct play *p, uint64_t dir, uint64_t top)
{
	for (; dir; dir = parent_of(&p->f, dir))
		if (dir == top)
			return true;
	return false;
}

/* The directories in which a file has names, each once. */
static size_t parents_of(const struct name *all, size_t n, uint64_t ino, uint64_t out[64])
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		bool have = all[i].ino != ino;

		for (size_t m = 0; m < k; m++)
			have = have || out[m] == all[i].dir;
		if (!have && k < 64)
			out[k++] = all[i].dir;
	}
	return k;
}

static void expect(struct play *p, const char *what, int rc, bool refused)
{
	p->refused += refused;
	p->done += rc == 0;
	if ((rc == -EDQUOT) != refused) {
		fprintf(stderr, "%s: %d, %s\n", what, rc, refused ? "EDQUOT was due" : "there was room");
		unit_failures++;
	}
}

/* A last name is about to go: to the trash? */
static void to_trash(struct play *p, const struct name *x, bool last)
{
	uint32_t who[2] = { x->a.uid, x->a.gid };

	for (int k = 0; k < 2 && last && p->f.cfg.trash; k++) {
		p->trashed[k][who[k]][0] += space_of(&x->a);
		p->trashed[k][who[k]][1] += 1;
	}
}

static void new_name(struct play *p, uint64_t dir, char name[16])
{
	do
		snprintf(name, 16, "n%u", rnd(p, 100000));
	while (fk_ino(&p->f, dir, name));
}

static void step_make(struct play *p, uint64_t dir)
{
	struct fk *f = &p->f;
	char name[16];
	uint64_t ino = 0;
	bool full;
	int rc;

	new_name(p, dir, name);
	f->c.uid = rnd(p, OWNERS);
	f->c.gid = rnd(p, OWNERS);
	full = owner_full(p, f->c.uid, f->c.gid, PAGE, 1) || dir_full(p, dir, PAGE, 1);
	switch (rnd(p, 5)) {
	case 0:
		rc = fk_mkdir(f, dir, name, &ino);
		break;
	case 1:
		rc = fk_symlink(f, dir, name, "somewhere", &ino);
		break;
	default:
		rc = fk_create(f, dir, name, &ino);
	}
	f->c.uid = f->c.gid = 0;
	expect(p, "make", rc, full);
	if (!rc && rnd(p, 2))
		fs_forget(f->fs, ino, 1);
}

static void step_size(struct play *p, const struct name *all, size_t n, const struct name *x)
{
	struct fk *f = &p->f;
	uint64_t parents[64], size = rnd(p, 6) * PAGE + rnd(p, 3) - (rnd(p, 2) ? 1 : 0), seq;
	int64_t more;
	bool full;
	int rc;

	if (size > 1ull << 40)
		size = 0;
	struct jfs_attr as = x->a;
	as.length = size;
	more = space_of(&as) - space_of(&x->a);
	full = owner_full(p, x->a.uid, x->a.gid, more, 0);
	for (size_t k = parents_of(all, n, x->ino, parents); k-- > 0;)
		full = full || dir_full(p, parents[k], more, 0);
	switch (size > x->a.length ? rnd(p, 3) : 0) {
	case 0:
		rc = fk_truncate(f, x->ino, size);
		break;
	case 1:
		rc = fk_write(f, x->ino, size - 1, "x", 1);
		break;
	default:
		rc = FK(f, fs_fallocate(f->fs, &f->c, x->ino, 0, size - 1, 1, &seq, &f->need));
	}
	expect(p, "size", rc, full && more > 0);
}

static void step_copy(struct play *p, const struct name *all, size_t n, const struct name *from, const struct name *to)
{
	struct fk *f = &p->f;
	uint64_t parents[64], copied, seq, off = (uint64_t)rnd(p, 4) * PAGE;
	struct jfs_attr as = to->a;
	int64_t more;
	bool full;

	if (from->ino == to->ino)
		return;
	if (off + from->a.length > as.length && from->a.length)
		as.length = off + from->a.length;
	more = space_of(&as) - space_of(&to->a);
	full = owner_full(p, to->a.uid, to->a.gid, more, 0);
	for (size_t k = parents_of(all, n, to->ino, parents); k-- > 0;)
		full = full || dir_full(p, parents[k], more, 0);
	int rc = FK(f, fs_copy_range(f->fs, &f->c, from->ino, 0, to->ino, off, 1 << 20, &copied, &seq, &f->need));

	expect(p, "copy", rc, full && more > 0);
}

static void step_link(struct play *p, const struct name *x, uint64_t dir)
{
	bool full = owner_full(p, x->a.uid, x->a.gid, 0, 1) || dir_full(p, dir, space_of(&x->a), 1);
	char name[16];

	new_name(p, dir, name);
	int rc = fk_link(&p->f, x->ino, dir, name);

	expect(p, "link", rc, full);
	if (!rc && rnd(p, 2))
		fs_forget(p->f.fs, x->ino, 1);
}

static void step_remove(struct play *p, const struct name *x)
{
	int rc = x->a.type == JFS_DIR ? fk_rmdir(&p->f, x->dir, x->name) : fk_unlink(&p->f, x->dir, x->name);

	expect(p, "remove", rc, false);
	if (!rc)
		to_trash(p, x, x->a.type == JFS_DIR || x->a.nlink == 1);
	if (!rc && rnd(p, 2)) /* as if nobody had it open */
		fs_forget(p->f.fs, x->ino, fs_refs_count(&p->f.fs->refs, x->ino));
}

static void step_rename(struct play *p, const struct name *x, const struct name *y, uint64_t dir)
{
	unsigned flags = y && rnd(p, 2) ? FS_RENAME_EXCHANGE : 0;
	uint64_t to = y ? y->dir : dir;
	int64_t space = 0, inodes = 0;
	char name[16];
	bool full = false;

	if (y && x->ino == y->ino)
		return;
	if ((x->a.type == JFS_DIR && below(p, to, x->ino)) || (y && y->a.type == JFS_DIR && (below(p, x->dir, y->ino) || (!flags && stays(p, y->ino)))))
		return;
	if (y)
		memcpy(name, y->name, sizeof(name));
	else
		new_name(p, to, name);
	if (x->a.type == JFS_DIR)
		count_below(&p->f, x->ino, &space, &inodes);
	if (x->dir != to && nearest(p, x->dir) != nearest(p, to) && nearest(p, to))
		full = dir_full(p, to, space + space_of(&x->a), inodes + 1);
	int rc = fk_rename(&p->f, x->dir, x->name, to, name, flags);

	/* types and emptiness are looked at first */
	if (rc == -ENOTDIR || rc == -EISDIR || rc == -ENOTEMPTY)
		return;
	expect(p, "rename", rc, full);
	if (!rc && y && !flags)
		to_trash(p, y, y->a.type == JFS_DIR || y->a.nlink == 1);
}

static void step_chown(struct play *p, const struct name *x)
{
	struct fs_setattr set = { .valid = FSA_UID | FSA_GID, .uid = rnd(p, OWNERS), .gid = rnd(p, OWNERS) };
	struct fs_attr a;

	expect(p, "chown", FK(&p->f, fs_setattr(p->f.fs, &p->f.c, x->ino, &set, &a, &p->f.need)), false);
}

static uint64_t some_dir(struct play *p, const struct name *all, size_t n)
{
	for (int tries = 0; n && tries < 8; tries++) {
		const struct name *x = &all[rnd(p, (unsigned)n)];

		if (x->a.type == JFS_DIR)
			return x->ino;
	}
	return 1;
}

static void step(struct play *p)
{
	static struct name all[512];
	size_t n = 0;

	all_names(p, 1, all, &n, 512);
	const struct name *x = n ? &all[rnd(p, (unsigned)n)] : NULL, *y = n ? &all[rnd(p, (unsigned)n)] : NULL;
	unsigned what = x ? rnd(p, 20) : 0;

	if (what < 5)
		step_make(p, some_dir(p, all, n));
	else if (what < 9 && x->a.type == JFS_FILE)
		step_size(p, all, n, x);
	else if (what < 11 && x->a.type == JFS_FILE && y->a.type == JFS_FILE)
		step_copy(p, all, n, x, y);
	else if (what < 13 && x->a.type != JFS_DIR)
		step_link(p, x, some_dir(p, all, n));
	else if (what < 16 && !stays(p, x->ino))
		step_remove(p, x);
	else if (what < 19)
		step_rename(p, x, rnd(p, 2) ? y : NULL, some_dir(p, all, n));
	else
		step_chown(p, x);
}

static void verify(struct play *p)
{
	for (size_t i = 0; i < p->nq; i++) {
		int64_t space = 0, inodes = 0;
		struct fs_quota have = used(&p->f, QUOTA_DIR, p->q[i].id);

		count_below(&p->f, p->q[i].id, &space, &inodes);
		CHECK_EQ(have.used_space, space);
		CHECK_EQ(have.used_inodes, inodes);
	}
	for (int k = 0; k < 2; k++) {
		for (uint32_t who = 0; who < OWNERS; who++) {
			int64_t space = p->trashed[k][who][0], inodes = p->trashed[k][who][1];
			struct fs_quota have = used(&p->f, p->o[k].kind, who);

			count_owner(&p->f, p->o[k].kind, who, &space, &inodes);
			CHECK_EQ(have.used_space < 0 ? 0 : have.used_space, space);
			CHECK_EQ(have.used_inodes < 0 ? 0 : have.used_inodes, inodes);
		}
	}
}

static void random_play(bool trash)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct play *p = calloc(1, sizeof(*p));
	struct fs_quota list[8];
	uint64_t which[4];

	REQUIRE(p);
	p->rng = unit_seed();
	qk_init(&p->f, trash);
	settled(&p->f, NULL, 0);
	for (int i = 0; i < 4; i++) /* b lies in a */
		CHECK_EQ(fk_mkdir(&p->f, i == 1 ? p->dir[0] : 1, names[i], &p->dir[i]), 0);
	p->o[0] = list[0] = limit(QUOTA_USER, 1, 40 * PAGE, 60);
	p->o[1] = list[1] = limit(QUOTA_GROUP, 2, 60 * PAGE, 40);
	CHECK_EQ(sync_at(&p->f, 0, false, list, 2, which), 0);
	for (int round = 0; round < 6 && !unit_failures; round++) {
		if (round < 4) { /* one more quota, on what is there by now */
			p->q[p->nq++] = limit(QUOTA_DIR, p->dir[round], 30 * PAGE, round % 2 ? 25 : -1);
			memcpy(list + 2, p->q, p->nq * sizeof(*list));
			size_t n = sync_at(&p->f, 0, false, list, 2 + p->nq, which);

			CHECK_EQ(n, p->nq); /* and those that were not counted once more before the restart */
			for (size_t i = 0; i < n; i++) {
				CHECK_EQ(which[i], 2 + i);
				adopt(&p->f, &list[which[i]]);
			}
		}
		for (int i = 0; i < 250 && !unit_failures; i++) {
			step(p);
			verify(p);
		}
		fk_restart(&p->f, round % 2);
		verify(p);
		for (size_t i = 0; i < p->nq; i++) {
			struct told t = told(&p->f, p->q[i].id);

			CHECK_EQ(t.space, used(&p->f, QUOTA_DIR, p->q[i].id).used_space);
			CHECK_EQ(t.inodes, used(&p->f, QUOTA_DIR, p->q[i].id).used_inodes);
		}
	}
	CHECK(p->refused > 50 && p->done > 300);
	fk_fini(&p->f);
	free(p);
}

static void usage_is_exact(void)
{
	random_play(false);
}

static void usage_is_exact_with_trash(void)
{
	random_play(true);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "usage_is_exact", usage_is_exact },
		{ "usage_is_exact_with_trash", usage_is_exact_with_trash },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
