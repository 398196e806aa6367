/* daemon/fs_refs.h against an array of counts. */
#include "daemon/fs_refs.h"

#include "tests/unit/unit.h"

enum { INODES = 3000, STEPS = 200000 };

static uint64_t state;

static uint64_t rnd(uint64_t below)
{
	return unit_rand(&state) % below;
}

/* Some dense, some far apart, some next to the largest number. */
static uint64_t inode_of(uint64_t i)
{
	return i < INODES / 2 ? i + 1 : i < INODES - 8 ? i * 1000003 : UINT64_MAX - (i - (INODES - 8));
}

struct counted {
	uint64_t count;
	bool orphan;
};

static void step(struct fs_refs *r, struct counted *m, uint64_t ino)
{
	uint64_t n = 1 + rnd(3);
	bool last = m->count && m->count <= n;

	switch (rnd(4)) {
	case 0:
		fs_refs_add(r, ino, n);
		m->count += n;
		break;
	case 1:
		CHECK_EQ(fs_refs_mark_orphan(r, ino), m->count > 0);
		m->orphan = m->orphan || m->count > 0;
		break;
	default:
		CHECK_EQ(fs_refs_sub(r, ino, n), last && m->orphan);
		m->count = m->count > n ? m->count - n : 0;
		m->orphan = m->orphan && m->count > 0;
	}
	CHECK_EQ(fs_refs_count(r, ino), m->count);
}

static void model(void)
{
	static struct counted m[INODES];
	struct fs_refs r;
	size_t groups = 0;

	state = unit_seed();
	REQUIRE(fs_refs_init(&r) == 0);
	for (unsigned n = 0; n < STEPS; n++) {
		uint64_t i = rnd(INODES);

		step(&r, &m[i], inode_of(i));
	}
	for (unsigned i = 0; i < INODES; i++) {
		CHECK_EQ(fs_refs_count(&r, inode_of(i)), m[i].count);
		CHECK_EQ(fs_refs_sub(&r, inode_of(i), UINT64_MAX), m[i].count && m[i].orphan);
	}
	for (size_t i = 0; i < r.size; i++)
		groups += r.slots[i].group != 0;
	CHECK_EQ(groups, 0);
	CHECK_EQ(r.used, 0);
	fs_refs_fini(&r);
}

/* Files made one after the other, all of them known to the kernel: ten million shall leave room below 200 MiB. */
static void neighbours_are_cheap(void)
{
	enum { MANY = 1000000 };
	struct fs_refs r;

	REQUIRE(fs_refs_init(&r) == 0);
	for (uint64_t i = 2; i < MANY + 2; i++)
		fs_refs_add(&r, i, 1);
	CHECK(r.size * sizeof(*r.slots) < 16 * MANY);
	for (uint64_t i = 2; i < MANY + 2; i++)
		if (fs_refs_count(&r, i) != 1 || fs_refs_sub(&r, i, 1)) {
			CHECK_EQ(i, 0);
			break;
		}
	CHECK_EQ(r.used, 0);
	fs_refs_fini(&r);
}

static void too_many(void)
{
	struct fs_refs r;

	REQUIRE(fs_refs_init(&r) == 0);
	fs_refs_add(&r, 7, UINT32_MAX);
	CHECK(!r.lost);
	CHECK(!fs_refs_mark_orphan(&r, 8));
	fs_refs_add(&r, 7, 1);
	CHECK(r.lost);
	CHECK(fs_refs_mark_orphan(&r, 7));
	CHECK(fs_refs_mark_orphan(&r, 8));
	CHECK(!fs_refs_sub(&r, 7, UINT64_MAX)); /* nothing is let go any more */
	fs_refs_fini(&r);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "model", model }, { "neighbours_are_cheap", neighbours_are_cheap },
		{ "too_many", too_many }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
