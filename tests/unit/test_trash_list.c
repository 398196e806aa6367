/* The order of a directory of the trash, and going on from a cookie. */
#include "daemon/trash_list.h"
#include "journal/tables.h"
#include "tests/unit/unit.h"

#include <stdbool.h>

#define N 300

static char names[N][16];
static struct rds_entry entries[2 * N];

static void fill(struct rds_loaded *dir, bool twice)
{
	*dir = (struct rds_loaded){ .entries = entries };
	for (size_t i = 0; i < N; i++) {
		int len = snprintf(names[i], sizeof(names[i]), "1-%zu-f", i);
		struct rds_entry e = { .name = { (const uint8_t *)names[i], (size_t)len }, .type = 1, .ino = i + 2 };

		entries[dir->n++] = e;
		if (twice)
			entries[dir->n++] = e;
	}
}

static void every_entry_once(void)
{
	struct rds_loaded dir;
	struct trash_list l;

	for (int twice = 0; twice < 2; twice++) {
		bool seen[N] = { false };
		uint64_t at = 2;
		size_t n = 0;

		fill(&dir, twice);
		REQUIRE(trash_list_init(&l, &dir) == 0);
		CHECK(l.n == N);
		/* As a reader with room for one entry: each call goes on from the cookie of the last. */
		for (size_t i; (i = trash_list_after(&l, at)) < l.n; n++) {
			CHECK(l.v[i].cookie > at && !seen[l.v[i].e->ino - 2]);
			seen[l.v[i].e->ino - 2] = true;
			at = l.v[i].cookie;
		}
		CHECK(n == N);
		trash_list_fini(&l);
	}
}

/* A cookie stays good when the entry that it came from is gone. */
static void cookie_of_a_removed_entry(void)
{
	struct rds_loaded dir;
	struct trash_list l;
	uint64_t at, next;
	size_t gone;

	fill(&dir, false);
	REQUIRE(trash_list_init(&l, &dir) == 0);
	at = l.v[N / 2].cookie;
	next = l.v[N / 2 + 1].cookie;
	gone = (size_t)(l.v[N / 2].e - entries);
	trash_list_fini(&l);
	entries[gone] = entries[--dir.n];
	REQUIRE(trash_list_init(&l, &dir) == 0);
	CHECK(l.n == N - 1);
	CHECK(l.v[trash_list_after(&l, at)].cookie == next);
	trash_list_fini(&l);
}

static void empty(void)
{
	struct rds_loaded dir = { 0 };
	struct trash_list l;

	REQUIRE(trash_list_init(&l, &dir) == 0);
	CHECK(l.n == 0 && trash_list_after(&l, 0) == 0);
	trash_list_fini(&l);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "every_entry_once", every_entry_once },
		{ "cookie_of_a_removed_entry", cookie_of_a_removed_entry }, { "empty", empty }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
