#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "journal/overlay.h"
#include "journal/record.h"

#define GOLDEN "tests/golden/records/v1/"
#define GOLDEN2 "tests/golden/records/v2/"
#define GOLDEN3 "tests/golden/records/v3/"

static struct inode_val file_inode(uint64_t seq)
{
	struct inode_val v = {.lflags = IL_DATA_LOCAL, .seq = seq};

	v.attr = (struct jfs_attr){.type = JFS_FILE, .mode = 0644, .uid = 1000, .gid = 100, .atime = 1700000000,
		.mtime = 1700000001, .ctime = 1700000002, .atime_nsec = 1, .mtime_nsec = 2, .ctime_nsec = 3, .nlink = 1,
		.length = 0, .parent = 1};
	return v;
}

static void make_create(struct rec *r)
{
	struct inode_val v = file_inode(42), dir = file_inode(42);
	uint8_t d[JFS_DENTRY_LEN];
	struct jkey k;

	dir.attr.type = JFS_DIR;
	dir.attr.nlink = 2;
	dir.lflags = IL_DIR_COMPLETE;
	rec_begin(r, OP_CREATE, 1700000002000000003u);
	key_dentry(&k, 1, "hello.c", 7);
	jfs_dentry_encode(JFS_FILE, 2, d);
	rec_put(r, &k, d, sizeof(d), 0);
	rec_expect(r, &k, NULL, 0);
	rec_put_inode(r, 2, &v, IF_NEW);
	rec_put_inode(r, 1, &dir, 0);
	rec_space(r, 4096, 1);
	rec_dirstat(r, 1, 0, 4096, 1);
}

static void make_write(struct rec *r)
{
	struct inode_val v = file_inode(43);
	struct extent_val e = {.kind = EXT_STAGED, .pos = 0, .len = 1000, .born = 43, .segment = 1, .off = 8192,
		.run_off = 8192, .run_len = 1000, .sum = 0x0123456789abcdefu};
	struct extent_val hole = {.kind = EXT_HOLE, .pos = 5000, .len = 10, .born = 43};
	struct extent_val obj = {.kind = EXT_OBJECT, .pos = 6000, .len = 10, .born = 43, .slice_id = 7, .slice_size = 100,
		.slice_off = 90};

	v.attr.length = 1000;
	rec_begin(r, OP_WRITE, 1700000003000000000u);
	rec_put_extent(r, 2, 0, &e, IF_NEW);
	rec_put_extent(r, 2, 0, &hole, 0);
	rec_put_extent(r, 2, 0, &obj, IF_NEW | IF_COPY);
	rec_put_inode(r, 2, &v, 0);
	rec_space(r, -4096, 0);
}

static void make_unlink(struct rec *r)
{
	struct jkey k;

	rec_begin(r, OP_UNLINK, 1700000004000000000u);
	key_dentry(&k, 1, "hello.c", 7);
	rec_del(r, &k, 0);
	rec_trash(r, &k, JFS_FILE, 2);
	key_inode(&k, 2);
	rec_del(r, &k, 0);
	key_reap(&k, 2, 0);
	rec_put(r, &k, NULL, 0, 0);
	rec_nlink(r, 2, -1);
	rec_parent(r, 2, 1, -1);
	rec_gone(r, 2, 1000);
	rec_sustain(r, 2);
	rec_cut(r, 2, 10, 5);
	rec_punch(r, 2, 100, 50);
	rec_space(r, -4096, -1);
}

static void make_internal(struct rec *r)
{
	struct jkey k;
	uint8_t v[8] = {0, 0, 0, 0, 0, 0, 0, 40};

	rec_begin(r, OP_TRIM, 1700000005000000000u);
	key_meta(&k, "trim");
	rec_put(r, &k, v, sizeof(v), 0);
	key_xattr(&k, 2, "user.a", 6);
	rec_del(r, &k, IF_FORGET);
}

static void make_compact(struct rec *r)
{
	struct inode_val v = file_inode(44);

	rec_begin(r, OP_COMPACT, 1700000006000000000u);
	rec_compact(r, 2, 0);
	rec_compact(r, 2, 1);
	rec_put_inode(r, 2, &v, 0);
}

static void make_quota(struct rec *r)
{
	rec_begin(r, OP_QUOTA, 1700000007000000000u);
	rec_quota(r, 2, 1 << 20, 17, true);
	rec_quota(r, 3, -8192, -1, false);
}

static void make_repack(struct rec *r)
{
	rec_begin(r, OP_COMPACT, 1700000008000000000u);
	rec_repack(r, 2, 0, 77);
	rec_repack(r, 3, 5, 78);
}

static const struct sample {
	const char *file;
	void (*make)(struct rec *r);
} samples[] = {{GOLDEN "create.bin", make_create}, {GOLDEN "write.bin", make_write}, {GOLDEN "unlink.bin", make_unlink},
	{GOLDEN "internal.bin", make_internal}, {GOLDEN "compact.bin", make_compact},
	{GOLDEN2 "quota.bin", make_quota}, {GOLDEN3 "repack.bin", make_repack}};
enum { N_SAMPLES = sizeof(samples) / sizeof(samples[0]) };

/* With JFS_GOLDEN=write the files are made anew (only right when a new version of the format begins). */
static void golden_files(void)
{
	static uint8_t file[65536];
	bool make = getenv("JFS_GOLDEN") && strcmp(getenv("JFS_GOLDEN"), "write") == 0;

	for (int i = 0; i < N_SAMPLES; i++) {
		struct rec r;

		rec_init(&r);
		samples[i].make(&r);
		REQUIRE(rec_finish(&r) == 0);
		FILE *f = fopen(samples[i].file, make ? "w" : "r");
		REQUIRE(f);
		if (make) {
			CHECK(fwrite(r.buf.data, 1, r.buf.len, f) == r.buf.len);
		} else {
			CHECK_EQ(fread(file, 1, sizeof(file), f), r.buf.len);
			CHECK(memcmp(file, r.buf.data, r.buf.len) == 0);
		}
		fclose(f);
		rec_fini(&r);
	}
}

static void every_damage_is_detected(void)
{
	for (int i = 0; i < N_SAMPLES; i++) {
		struct rec_reader it;
		struct rec_header h;
		struct rec r;

		rec_init(&r);
		samples[i].make(&r);
		REQUIRE(rec_finish(&r) == 0);
		REQUIRE(rec_open(r.buf.data, r.buf.len, &h, &it) == 0);
		for (size_t n = 0; n < r.buf.len; n++) {
			uint8_t *cut = malloc(n ? n : 1); /* exact size: the sanitizer sees every overrun */

			memcpy(cut, r.buf.data, n);
			CHECK(rec_open(cut, n, &h, &it) < 0);
			free(cut);
		}
		for (size_t bit = 0; bit < r.buf.len * 8; bit++) {
			r.buf.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			CHECK_EQ(rec_open(r.buf.data, r.buf.len, &h, &it), -EUCLEAN);
			r.buf.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		CHECK(rec_open(r.buf.data, r.buf.len, &h, &it) == 0);
		rec_fini(&r);
	}
}

/* Damage below the checksum, as a bug of ours would make it: bounds hold all the same. */
static void bad_structure_is_bounded(void)
{
	uint64_t seed = unit_seed();

	for (int i = 0; i < 20000; i++) {
		uint8_t copy[2048];
		struct rec_deltas sum = {0, 0};
		struct overlay *ov;
		struct rec r;

		rec_init(&r);
		samples[i % N_SAMPLES].make(&r);
		REQUIRE(rec_finish(&r) == 0 && r.buf.len <= sizeof(copy));
		memcpy(copy, r.buf.data, r.buf.len);
		copy[12 + unit_rand(&seed) % (r.buf.len - 12)] ^= (uint8_t)(1 + unit_rand(&seed) % 255);
		ov = overlay_new();
		rec_apply_trusted(copy, r.buf.len, ov, &sum);
		overlay_free(ov);
		rec_fini(&r);
	}
}

static void newer_version_is_told_apart(void)
{
	struct rec_reader it;
	struct rec_header h;
	struct rec r;

	rec_init(&r);
	make_create(&r);
	r.buf.data[0] = REC_VERSION + 1;
	REQUIRE(rec_finish(&r) == 0);
	CHECK_EQ(rec_open(r.buf.data, r.buf.len, &h, &it), -ENOTSUP);
	rec_fini(&r);
}

static void read_back(void)
{
	struct rec_reader it;
	struct rec_header h;
	struct rec_item i;
	struct rec r;
	int n = 0;

	rec_init(&r);
	make_unlink(&r);
	REQUIRE(rec_finish(&r) == 0);
	REQUIRE(rec_open(r.buf.data, r.buf.len, &h, &it) == 0);
	CHECK(h.op == OP_UNLINK && h.time_ns == 1700000004000000000u && h.items == 11);
	while (rec_next(&it, &i) == 1) {
		n++;
		if (i.kind == IT_GONE)
			CHECK(i.val[7] == 0xe8 && i.val[6] == 3);
	}
	CHECK_EQ(n, 11);
	rec_fini(&r);
}

static void apply_is_absolute(void)
{
	struct overlay *ov = overlay_new();
	struct rec_deltas sum = {0, 0};
	struct jkey k;
	struct rec r;

	rec_init(&r);
	make_create(&r);
	REQUIRE(rec_finish(&r) == 0 && rec_apply(r.buf.data, r.buf.len, ov, &sum) == 0);
	CHECK(sum.space == 4096 && sum.inodes == 1);
	CHECK_EQ(overlay_count(ov), 3);
	REQUIRE(rec_apply(r.buf.data, r.buf.len, ov, &sum) == 0); /* keys are idempotent, deltas are not */
	CHECK_EQ(overlay_count(ov), 3);
	make_unlink(&r);
	REQUIRE(rec_finish(&r) == 0 && rec_apply(r.buf.data, r.buf.len, ov, &sum) == 0);
	key_inode(&k, 2);
	CHECK(overlay_get(ov, k.b, k.len) && !overlay_get(ov, k.b, k.len)->val);
	CHECK(sum.space == 4096 && sum.inodes == 1);
	make_internal(&r);
	REQUIRE(rec_finish(&r) == 0 && rec_apply(r.buf.data, r.buf.len, ov, &sum) == 0);
	key_xattr(&k, 2, "user.a", 6);
	CHECK(overlay_get(ov, k.b, k.len)->forget);
	overlay_free(ov);
	rec_fini(&r);
}

static void too_big(void)
{
	static uint8_t big[1 << 20];
	struct jkey k;
	struct rec r;

	rec_init(&r);
	rec_begin(&r, OP_LOAD, 0);
	key_symlink(&k, 5);
	for (int i = 0; i < 9; i++)
		rec_put(&r, &k, big, sizeof(big), 0);
	CHECK_EQ(rec_finish(&r), -E2BIG);
	rec_begin(&r, OP_LOAD, 0);
	CHECK_EQ(rec_finish(&r), 0);
	rec_fini(&r);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"golden_files", golden_files},
		{"every_damage_is_detected", every_damage_is_detected},
		{"bad_structure_is_bounded", bad_structure_is_bounded},
		{"newer_version_is_told_apart", newer_version_is_told_apart}, {"read_back", read_back},
		{"apply_is_absolute", apply_is_absolute}, {"too_big", too_big}, {NULL, NULL}};

	return unit_main(argc, argv, tests);
}
