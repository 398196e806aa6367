#include "tests/unit/unit.h"

#include <errno.h>

#include "journal/tables.h"

static int key_cmp(const struct jkey *a, const struct jkey *b)
{
	int c = memcmp(a->b, b->b, a->len < b->len ? a->len : b->len);

	return c ? c : (int)a->len - (int)b->len;
}

static void keys_sort_by_field(void)
{
	struct jkey a, b;

	key_inode(&a, 255);
	key_inode(&b, 256);
	CHECK(key_cmp(&a, &b) < 0);
	key_extent(&a, 7, 1, 0x00ffffff);
	key_extent(&b, 7, 2, 0);
	CHECK(key_cmp(&a, &b) < 0);
	key_window(&a, 9, 65535);
	key_window(&b, 10, 0);
	CHECK(key_cmp(&a, &b) < 0);
	key_dentry(&b, 5, "name", 4);
	key_dentry_from(&a, 5, dentry_hash("name", 4));
	CHECK(key_cmp(&a, &b) < 0);
	key_dentry_from(&a, 5, dentry_hash("name", 4) + 1);
	CHECK(key_cmp(&a, &b) > 0);
}

static void keys_parse_back(void)
{
	uint64_t seed = unit_seed();
	char name[256];
	struct jkey k;

	for (int i = 0; i < 1000; i++) {
		uint64_t a = unit_rand(&seed), h, x;
		uint32_t c = (uint32_t)unit_rand(&seed), last = (uint32_t)(unit_rand(&seed) % JFS_CHUNK_SIZE), y, z;
		size_t n = 1 + unit_rand(&seed) % 255, m;
		const uint8_t *p;

		memset(name, 'a' + i % 26, n);
		key_dentry(&k, a, name, n);
		CHECK(key_parse_dentry(k.b, k.len, &x, &h, &p, &m) == 0 && x == a && m == n && !memcmp(p, name, n));
		CHECK_EQ(h, dentry_hash(name, n));
		CHECK(h >= 16 && h >> 63 == 0);
		CHECK_EQ(key_parse_dentry(k.b, 17, &x, &h, &p, &m), -EUCLEAN);
		key_extent(&k, a, c, last);
		CHECK(key_parse_extent(k.b, k.len, &x, &y, &z) == 0 && x == a && y == c && z == last);
		CHECK_EQ(key_parse_extent(k.b, k.len - 1u, &x, &y, &z), -EUCLEAN);
		CHECK(key_parse_ino(k.b, k.len, &x) == 0 && x == a);
		key_smap(&k, a, c);
		CHECK(key_parse_smap(k.b, k.len, &x, &y) == 0 && x == a && y == c);
		CHECK_EQ(key_parse_ino(k.b, k.len, &x), -EUCLEAN);
		CHECK_EQ(key_parse_extent(k.b, k.len, &x, &y, &z), -EUCLEAN);
	}
	key_meta(&k, "trim");
	CHECK(k.len == 5 && k.b[0] == 'k');
	memset(name, 'n', 255);
	key_dentry(&k, 1, name, 255);
	CHECK(k.len == 1 + 8 + 8 + 255 && k.len <= JKEY_MAX);
}

static void inode_values(void)
{
	struct inode_val v = {.lflags = IL_DATA_LOCAL, .seq = 0x1122334455667788u}, w;
	uint8_t b[INODE_VAL_MAX];

	v.attr = (struct jfs_attr){.type = JFS_FILE, .mode = 0644, .uid = 1, .gid = 2, .mtime = -5, .mtime_nsec = 999999999,
		.nlink = 1, .length = 1ull << 40, .parent = 1, .access_acl = 3, .default_acl = 4, .tier = 1};
	size_t n = inode_val_encode(&v, b);
	CHECK(n <= INODE_VAL_MAX);
	REQUIRE(inode_val_decode(b, n, &w) == 0);
	CHECK(w.lflags == v.lflags && w.seq == v.seq && jfs_attr_equal(&w.attr, &v.attr));
	CHECK_EQ(inode_val_decode(b, 9, &w), -EUCLEAN);
	CHECK_EQ(inode_val_decode(b, n + 1, &w), -EUCLEAN);
	b[0] = 2;
	CHECK_EQ(inode_val_decode(b, n, &w), -EUCLEAN);
}

static void extent_values(void)
{
	struct extent_val s = {.kind = EXT_STAGED, .pos = 100, .len = 50, .born = 9, .segment = 3, .off = 1010, .run_off = 1000,
		.run_len = 60, .sum = 0xdeadbeefcafef00du};
	struct extent_val o = {.kind = EXT_OBJECT, .pos = 0, .len = 64u << 20, .born = 1, .slice_id = 77,
		.slice_size = 64u << 20};
	struct extent_val h = {.kind = EXT_HOLE, .pos = (64u << 20) - 1, .len = 1}, w;
	uint8_t b[EXTENT_VAL_MAX];
	size_t n;

	n = extent_val_encode(&s, b);
	REQUIRE(n <= EXTENT_VAL_MAX && extent_val_decode(b, n, &w) == 0);
	CHECK(w.pos == 100 && w.len == 50 && w.born == 9 && w.segment == 3 && w.off == 1010 && w.run_off == 1000 &&
		w.run_len == 60 && w.sum == s.sum && w.kind == EXT_STAGED);
	CHECK_EQ(extent_val_decode(b, n - 1, &w), -EUCLEAN);
	s.off = 1011; /* now 1 byte longer than its run */
	CHECK_EQ(extent_val_decode(b, extent_val_encode(&s, b), &w), -EUCLEAN);
	n = extent_val_encode(&o, b);
	REQUIRE(extent_val_decode(b, n, &w) == 0);
	CHECK(w.slice_id == 77 && w.slice_size == 64u << 20 && w.len == 64u << 20);
	o.slice_off = 0xffffffffu;
	CHECK_EQ(extent_val_decode(b, extent_val_encode(&o, b), &w), -EUCLEAN);
	REQUIRE(extent_val_decode(b, extent_val_encode(&h, b), &w) == 0);
	CHECK(w.kind == EXT_HOLE && w.len == 1);
	h.len = 2; /* leaves the chunk */
	CHECK_EQ(extent_val_decode(b, extent_val_encode(&h, b), &w), -EUCLEAN);
	b[0] = 9;
	CHECK_EQ(extent_val_decode(b, 17, &w), -EUCLEAN);
	CHECK_EQ(extent_val_decode(b, 0, &w), -EUCLEAN);
}

static void smap_values(void)
{
	struct smap_val v = {.len = 10, .slice_id = 5, .slice_size = 30, .slice_off = 20, .window_end = 99}, w;
	uint8_t b[SMAP_VAL_LEN];

	smap_val_encode(&v, b);
	REQUIRE(smap_val_decode(b, sizeof(b), &w) == 0);
	CHECK(w.len == 10 && w.slice_id == 5 && w.slice_size == 30 && w.slice_off == 20 && w.window_end == 99);
	v.slice_off = 21;
	smap_val_encode(&v, b);
	CHECK_EQ(smap_val_decode(b, sizeof(b), &w), -EUCLEAN);
	CHECK_EQ(smap_val_decode(b, sizeof(b) - 1, &w), -EUCLEAN);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"keys_sort_by_field", keys_sort_by_field},
		{"keys_parse_back", keys_parse_back}, {"inode_values", inode_values}, {"extent_values", extent_values},
		{"smap_values", smap_values}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
