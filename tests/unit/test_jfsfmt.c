#include "tests/unit/unit.h"

#include <ctype.h>
#include <errno.h>
#include <sys/stat.h>

#include "util/jfsfmt.h"

#define T 1700000000

/* Hex with blanks to bytes. */
static size_t hex(const char *s, uint8_t *out)
{
	size_t n = 0;

	while (*s) {
		if (isspace((unsigned char)*s)) {
			s++;
			continue;
		}
		char two[3] = {s[0], s[1], 0};
		out[n++] = (uint8_t)strtoul(two, NULL, 16);
		s += 2;
	}
	return n;
}

/* Both directions against the bytes of the spec. */
static void golden(const struct jfs_attr *a, const char *text)
{
	uint8_t want[128], got[JFS_ATTR_MAX];
	struct jfs_attr back;
	size_t n = hex(text, want);

	CHECK_EQ(jfs_attr_encode(a, got), n);
	CHECK(memcmp(want, got, n) == 0);
	CHECK_EQ(jfs_attr_decode(want, n, &back), 0);
	CHECK(jfs_attr_equal(a, &back));
}

static const struct jfs_attr root = {.type = JFS_DIR, .mode = 0777, .atime = T, .mtime = T, .ctime = T, .nlink = 2,
	.length = 4096, .parent = 1};

static void attr_golden(void)
{
	struct jfs_attr a = root;

	golden(&a, "00 21ff 00000000 00000000 000000006553f100 00000000 000000006553f100 00000000"
		   "000000006553f100 00000000 00000002 0000000000001000 00000000 0000000000000001 00");
	a.mode = 0555;
	golden(&a, "00 216d 00000000 00000000 000000006553f100 00000000 000000006553f100 00000000"
		   "000000006553f100 00000000 00000002 0000000000001000 00000000 0000000000000001 00");
	a = (struct jfs_attr){.type = JFS_FILE, .mode = 0644, .uid = 1000, .gid = 1000, .atime = T,
		.atime_nsec = 123456789, .mtime = T + 1, .mtime_nsec = 5, .ctime = T + 1, .ctime_nsec = 7, .nlink = 1,
		.length = 5000, .parent = 1};
	golden(&a, "00 11a4 000003e8 000003e8 000000006553f100 075bcd15 000000006553f101 00000005"
		   "000000006553f101 00000007 00000001 0000000000001388 00000000 0000000000000001 00");
	a = (struct jfs_attr){.type = JFS_FILE, .mode = 04755, .uid = 1000, .gid = 1000, .atime = T, .mtime = T,
		.ctime = T, .nlink = 2, .length = 5000, .access_acl = 3};
	golden(&a, "00 19ed 000003e8 000003e8 000000006553f100 00000000 000000006553f100 00000000"
		   "000000006553f100 00000000 00000002 0000000000001388 00000000 0000000000000000 00000003 00000000 00");
	a.tier = 2;
	golden(&a, "00 19ed 000003e8 000003e8 000000006553f100 00000000 000000006553f100 00000000"
		   "000000006553f100 00000000 00000002 0000000000001388 00000000 0000000000000000 00000003 00000000 02 00");
	a = (struct jfs_attr){.type = JFS_FILE, .flags = 0x40, .mode = 0600, .atime = -2, .nlink = 1, .parent = 2,
		.tier = 2};
	golden(&a, "40 1180 00000000 00000000 fffffffffffffffe 00000000 0000000000000000 00000000"
		   "0000000000000000 00000000 00000001 0000000000000000 00000000 0000000000000002 02 00");
	a = (struct jfs_attr){.type = JFS_CHARDEV, .mode = 0600, .nlink = 1, .rdev = 0x103, .parent = 1};
	golden(&a, "00 6180 00000000 00000000 0000000000000000 00000000 0000000000000000 00000000"
		   "0000000000000000 00000000 00000001 0000000000000000 00000103 0000000000000001 00");
}

static void attr_foreign(void)
{
	uint8_t b[128] = {0};
	struct jfs_attr a;
	size_t n = jfs_attr_encode(&root, b);

	CHECK_EQ(n, 72);
	for (size_t len = 0; len < sizeof(b); len++) {
		bool known = len == 63 || len == 64 || len == 72 || len == 73 || len == 80 || len == 81;
		CHECK_EQ(jfs_attr_decode(b, len, &a), known ? 0 : -EUCLEAN);
		if (len == 64)
			CHECK(a.parent == 0 && a.tier == 0 && a.length == 4096 && a.nlink == 2);
	}
	for (int type = 0; type < 16; type++) {
		b[1] = (uint8_t)(type << 4);
		CHECK_EQ(jfs_attr_decode(b, n, &a), type >= 1 && type <= 7 ? 0 : -EUCLEAN);
	}
}

static void attr_random(void)
{
	uint64_t s = unit_seed();

	for (int i = 0; i < 20000; i++) {
		uint8_t b[JFS_ATTR_MAX], again[JFS_ATTR_MAX];
		struct jfs_attr a, c;
		static const size_t lens[] = {63, 64, 72, 73, 80, 81};
		size_t len = lens[unit_rand(&s) % 6];

		for (size_t j = 0; j < len; j++)
			b[j] = (uint8_t)unit_rand(&s);
		if (jfs_attr_decode(b, len, &a))
			continue;
		size_t n = jfs_attr_encode(&a, again);
		CHECK_EQ(jfs_attr_decode(again, n, &c), 0);
		CHECK(jfs_attr_equal(&a, &c));
		CHECK(memcmp(b, again, 63) == 0);
	}
}

static void dentries(void)
{
	static const struct {
		uint8_t type;
		uint64_t inode;
		const char *bytes;
	} rows[] = {
		{JFS_FILE, 2, "01 0000000000000002"},
		{JFS_DIR, 3, "02 0000000000000003"},
		{JFS_SYMLINK, 4, "03 0000000000000004"},
		{JFS_DIR, JFS_TRASH_INODE + 1, "02 7fffffff10000001"},
	};
	uint8_t want[16], got[JFS_DENTRY_LEN], type;
	uint64_t ino;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_EQ(hex(rows[i].bytes, want), JFS_DENTRY_LEN);
		jfs_dentry_encode(rows[i].type, rows[i].inode, got);
		CHECK(memcmp(want, got, JFS_DENTRY_LEN) == 0);
		CHECK(jfs_dentry_decode(want, 9, &type, &ino) == 0 && type == rows[i].type && ino == rows[i].inode);
	}
	CHECK_EQ(jfs_dentry_decode(got, 8, &type, &ino), -EUCLEAN);
	CHECK_EQ(jfs_dentry_decode(got, 10, &type, &ino), -EUCLEAN);
	got[0] = 9;
	CHECK_EQ(jfs_dentry_decode(got, 9, &type, &ino), -EUCLEAN);
	memset(got, 0, 9);
	got[0] = 1;
	CHECK_EQ(jfs_dentry_decode(got, 9, &type, &ino), -EUCLEAN);
	CHECK(jfs_name_valid("a", 1) && jfs_name_valid("...", 3) && jfs_name_valid("\xff\xfe", 2));
	CHECK(!jfs_name_valid(".", 1) && !jfs_name_valid("..", 2) && !jfs_name_valid("", 0));
	CHECK(!jfs_name_valid("a/b", 3) && !jfs_name_valid("a\0b", 3));
}

static void slices(void)
{
	static const struct {
		struct jfs_slice s;
		const char *bytes;
	} rows[] = {
		{{1, 0, 5000, 0, 5000}, "00000000 0000000000000001 00001388 00000000 00001388"},
		{{0, 5000, 0, 0, 3192}, "00001388 0000000000000000 00000000 00000000 00000c78"},
		{{0, 0, 0, 0, 1u << 26}, "00000000 0000000000000000 00000000 00000000 04000000"},
		{{4097, 0, 10000, 7000, 3000}, "00000000 0000000000001001 00002710 00001b58 00000bb8"},
	};
	uint8_t want[32], got[JFS_SLICE_LEN];
	struct jfs_slice s;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_EQ(hex(rows[i].bytes, want), JFS_SLICE_LEN);
		jfs_slice_encode(&rows[i].s, got);
		CHECK(memcmp(want, got, JFS_SLICE_LEN) == 0);
		CHECK_EQ(jfs_slice_decode(want, JFS_SLICE_LEN, &s), 0);
		CHECK(s.id == rows[i].s.id && s.pos == rows[i].s.pos && s.size == rows[i].s.size &&
			s.off == rows[i].s.off && s.len == rows[i].s.len);
	}
	CHECK_EQ(jfs_slice_decode(want, 23, &s), -EUCLEAN);
	CHECK_EQ(jfs_slice_decode(want, 25, &s), -EUCLEAN);
	static const struct jfs_slice bad[] = {
		{1, 0, 10, 0, 0}, {1, 0, 10, 5, 6}, {1, (1u << 26) - 4, 10, 0, 5}, {1, 0, 0, 0, 1}, {0, 1u << 26, 0, 0, 1},
		{1, 0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		jfs_slice_encode(&bad[i], got);
		CHECK_EQ(jfs_slice_decode(got, JFS_SLICE_LEN, &s), -EUCLEAN);
	}
	/* stock's copy_file_range leaves holes with any size and offset */
	s = (struct jfs_slice){0, 10, 1, 77, 20};
	CHECK(jfs_slice_valid(&s));
}

static void object_names(void)
{
	char n[JFS_OBJECT_NAME_MAX];

	CHECK_EQ(jfs_object_name(n, 1, 0, 5000, false), strlen("chunks/0/0/1_0_5000"));
	CHECK_STR(n, "chunks/0/0/1_0_5000");
	jfs_object_name(n, 4097, 0, 10000, false);
	CHECK_STR(n, "chunks/0/4/4097_0_10000");
	jfs_object_name(n, 4097, 0, 10000, true);
	CHECK_STR(n, "chunks/01/0/4097_0_10000");
	jfs_object_name(n, 1234567, 2, 1048576, false);
	CHECK_STR(n, "chunks/1/1234/1234567_2_1048576");
	jfs_object_name(n, 1234567, 0, 4194304, true);
	CHECK_STR(n, "chunks/87/1/1234567_0_4194304");
	CHECK(jfs_object_name(n, UINT64_MAX, UINT32_MAX, UINT32_MAX, false) < JFS_OBJECT_NAME_MAX);

	uint32_t bs = 4u << 20, size = 9u << 20;
	CHECK_EQ(jfs_slice_blocks(size, bs), 3);
	CHECK_EQ(jfs_slice_blocks(bs, bs), 1);
	CHECK_EQ(jfs_slice_blocks(bs + 1, bs), 2);
	CHECK_EQ(jfs_slice_blocks(0, bs), 0);
	CHECK_EQ(jfs_block_len(size, bs, 0), bs);
	CHECK_EQ(jfs_block_len(size, bs, 2), 1u << 20);
	CHECK_EQ(jfs_block_len(size, bs, 3), 0);
}

static void sizes_and_types(void)
{
	static const uint64_t rows[][2] = {{0, 4096}, {1, 4096}, {4096, 4096}, {4097, 8192}, {5000, 8192}};
	struct jfs_attr a = root;

	for (size_t i = 0; i < 5; i++)
		CHECK_EQ(jfs_align4k(rows[i][0]), rows[i][1]);
	a.length = 100000;
	CHECK_EQ(jfs_attr_space(&a), 4096);
	a.type = JFS_FILE;
	CHECK_EQ(jfs_attr_space(&a), 102400);
	for (uint8_t t = JFS_FILE; t <= JFS_SOCKET; t++)
		CHECK_EQ(jfs_type_from_mode(jfs_type_to_mode(t) | 0644), t);
	CHECK_EQ(jfs_type_from_mode(0644), 0);
	CHECK_EQ(jfs_type_to_mode(0), 0);
	CHECK_EQ(jfs_type_to_mode(8), 0);
	CHECK_EQ(jfs_attr_st_mode(&root), S_IFDIR | 0777);
	CHECK_EQ(JFS_TRASH_INODE, 9223372032828243968ull);
	CHECK(jfs_inode_is_trash(JFS_TRASH_INODE + 5) && !jfs_inode_is_trash(JFS_VIRT_INODE + 4));
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"attr_golden", attr_golden}, {"attr_foreign", attr_foreign},
		{"attr_random", attr_random}, {"dentries", dentries}, {"slices", slices}, {"object_names", object_names},
		{"sizes_and_types", sizes_and_types}, {0}};

	return unit_main(argc, argv, tests);
}
