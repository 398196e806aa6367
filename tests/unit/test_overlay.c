#include "tests/unit/unit.h"

#include <stdbool.h>

#include "journal/overlay.h"

/* The naive form: an unsorted array, searched from end to end. */
struct naive {
	uint8_t key[24];
	size_t klen;
	int state; /* 1 value, 2 tombstone, 3 forgotten */
	uint32_t val;
};

static int kcmp(const void *a, size_t an, const void *b, size_t bn)
{
	int c = memcmp(a, b, an < bn ? an : bn);

	return c ? c : (an > bn) - (an < bn);
}

static struct naive *naive_find(struct naive *a, size_t n, const void *key, size_t klen)
{
	for (size_t i = 0; i < n; i++)
		if (kcmp(a[i].key, a[i].klen, key, klen) == 0)
			return &a[i];
	return NULL;
}

static struct naive *naive_seek(struct naive *a, size_t n, const void *key, size_t klen, bool after)
{
	struct naive *best = NULL;

	for (size_t i = 0; i < n; i++) {
		int c = kcmp(a[i].key, a[i].klen, key, klen);

		if ((c > 0 || (c == 0 && !after)) && (!best || kcmp(a[i].key, a[i].klen, best->key, best->klen) < 0))
			best = &a[i];
	}
	return best;
}

static void same(const struct overlay_entry *e, const struct naive *m)
{
	CHECK(!e == !m);
	if (!e || !m)
		return;
	CHECK(kcmp(e->key, e->klen, m->key, m->klen) == 0);
	CHECK((e->val != NULL) == (m->state == 1));
	if (e->val)
		CHECK(e->vlen == 4 && memcmp(e->val, &m->val, 4) == 0);
	else
		CHECK(e->forget == (m->state == 3));
}

static size_t random_key(uint64_t *seed, uint8_t key[24])
{
	size_t n = 1 + unit_rand(seed) % 4;

	for (size_t i = 0; i < n; i++)
		key[i] = (uint8_t)(unit_rand(seed) % 5 * 60);
	return n;
}

/* The list from its beginning: every key once, in order. */
static void all_in_order(const struct overlay *ov)
{
	const struct overlay_entry *e = overlay_seek(ov, "", 0), *before = NULL;
	size_t n = 0;

	for (; e; before = e, e = overlay_next(e), n++) {
		CHECK(!before || kcmp(before->key, before->klen, e->key, e->klen) < 0);
		CHECK(overlay_get(ov, e->key, e->klen) == e);
	}
	CHECK_EQ(n, overlay_count(ov));
}

static void random_against_naive(void)
{
	uint64_t seed = unit_seed();
	struct overlay *ov = overlay_new();
	static struct naive m[1024];

	REQUIRE(ov);
	for (int round = 0; round < 5; round++) {
		size_t n = 0;

		for (int i = 0; i < 2000; i++) {
			uint8_t key[24];
			size_t klen = random_key(&seed, key);
			uint32_t val = (uint32_t)unit_rand(&seed);
			int what = (int)(unit_rand(&seed) % 4);
			struct naive *f = naive_find(m, n, key, klen);
			const struct overlay_entry *e;

			if (!f && n < 1000) {
				f = &m[n++];
				memcpy(f->key, key, klen);
				f->klen = klen;
			}
			if (what < 2) {
				CHECK(overlay_put(ov, key, klen, &val, 4) == 0);
				*f = (struct naive){.klen = klen, .state = 1, .val = val};
			} else {
				CHECK(overlay_del(ov, key, klen, what == 3) == 0);
				*f = (struct naive){.klen = klen, .state = what};
			}
			memcpy(f->key, key, klen);
			CHECK_EQ(overlay_count(ov), n);
			klen = random_key(&seed, key);
			same(overlay_get(ov, key, klen), naive_find(m, n, key, klen));
			e = overlay_seek(ov, key, klen);
			f = naive_seek(m, n, key, klen, false);
			same(e, f);
			if (e && f)
				same(overlay_next(e), naive_seek(m, n, f->key, f->klen, true));
		}
		all_in_order(ov);
		overlay_clear(ov);
		CHECK(overlay_count(ov) == 0 && overlay_bytes(ov) == 0 && !overlay_seek(ov, "", 0));
	}
	overlay_free(ov);
}

/* Keys that rise within each table, as inode numbers do, now and then one below or far above. */
static void rising_tables(void)
{
	uint64_t seed = unit_seed();
	struct overlay *ov = overlay_new();

	REQUIRE(ov);
	for (int round = 0; round < 20; round++) {
		uint64_t at[4] = {0};

		for (int i = 0; i < 3000; i++) {
			uint64_t t = unit_rand(&seed) % 4, r = unit_rand(&seed) % 64, x;
			uint8_t key[9];

			at[t] += 1 + unit_rand(&seed) % 3;
			x = r == 0 ? unit_rand(&seed) % (at[t] + 1) : r == 1 ? at[t] + 5000 + unit_rand(&seed) % 5000 : at[t];
			key[0] = (uint8_t)(t * 16); /* two of them share a finger */
			for (int b = 0; b < 8; b++)
				key[1 + b] = (uint8_t)(x >> (56 - 8 * b));
			REQUIRE(overlay_put(ov, key, sizeof(key), &x, sizeof(x)) == 0);
		}
		all_in_order(ov);
		overlay_clear(ov);
	}
	overlay_free(ov);
}

static void pointers_stay_valid(void)
{
	struct overlay *ov = overlay_new();
	const uint8_t *old;
	char k[16];

	REQUIRE(overlay_put(ov, "key", 3, "first", 5) == 0);
	old = overlay_get(ov, "key", 3)->val;
	for (int i = 0; i < 20000; i++) {
		int n = snprintf(k, sizeof(k), "%d", i);

		REQUIRE(overlay_put(ov, k, (size_t)n, "0123456789abcdef", 16) == 0);
	}
	REQUIRE(overlay_put(ov, "key", 3, "second", 6) == 0);
	CHECK(memcmp(old, "first", 5) == 0);
	CHECK(overlay_get(ov, "key", 3)->vlen == 6);
	CHECK(overlay_put(ov, "empty", 5, NULL, 0) == 0 && overlay_get(ov, "empty", 5)->val);
	overlay_free(ov);
	overlay_free(NULL);
}

static void large_values(void)
{
	struct overlay *ov = overlay_new();
	static uint8_t big[3 << 20];

	for (int i = 0; i < 4; i++) {
		memset(big, i, sizeof(big));
		REQUIRE(overlay_put(ov, &i, sizeof(i), big, sizeof(big)) == 0);
	}
	for (int i = 0; i < 4; i++) {
		const struct overlay_entry *e = overlay_get(ov, &i, sizeof(i));

		CHECK(e && e->vlen == sizeof(big) && e->val[sizeof(big) - 1] == i);
	}
	CHECK(overlay_bytes(ov) >= 4 * sizeof(big));
	overlay_free(ov);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"random_against_naive", random_against_naive}, {"rising_tables", rising_tables},
		{"pointers_stay_valid", pointers_stay_valid}, {"large_values", large_values}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
