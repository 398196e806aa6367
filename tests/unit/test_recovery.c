/* The pure parts of jfs-recover: paths, staged bytes, what a list of records changes. */
#include <errno.h>

#include "journal/record.h"
#include "recovery/backlog.h"
#include "recovery/paths.h"
#include "recovery/staged.h"
#include "tests/unit/unit.h"

/* --- paths --- */

static const char *path_text(const struct paths *p, uint64_t ino, bool *whole)
{
	static char text[8192];
	struct buf b;

	buf_init(&b, 0);
	*whole = paths_of(p, ino, &b);
	snprintf(text, sizeof(text), "%s", buf_cstr(&b));
	buf_fini(&b);
	return text;
}

static void paths_up_to_the_root(void)
{
	struct paths *p = paths_new();
	bool whole;

	REQUIRE(p);
	CHECK_EQ(paths_want(p, 20), 0);
	CHECK_EQ(paths_feed(p, 11, "f", 1, false, 20), 0); /* before its parents */
	CHECK_EQ(paths_feed(p, 1, "other name", 10, false, 20), 0);
	CHECK_EQ(paths_feed(p, 10, "b", 1, true, 11), 0);
	CHECK_EQ(paths_feed(p, 1, "a", 1, true, 10), 0);
	CHECK_EQ(paths_feed(p, 1, "not asked for", 13, false, 21), 0);
	paths_done(p);
	CHECK_STR(path_text(p, 20, &whole), "/a/b/f");
	CHECK(whole);
	CHECK_STR(path_text(p, 11, &whole), "/a/b");
	CHECK_STR(path_text(p, 1, &whole), "/");
	CHECK(whole);
	CHECK_STR(path_text(p, 21, &whole), "<inode 21>");
	CHECK(!whole);
	paths_free(p);
}

static void paths_that_end_early(void)
{
	struct paths *p = paths_new();
	char text[32];
	struct buf b;
	bool whole;

	REQUIRE(p);
	CHECK_EQ(paths_feed(p, 99, "d", 1, true, 10), 0);
	CHECK_EQ(paths_feed(p, JFS_TRASH_INODE + 3, "t", 1, true, 11), 0);
	CHECK_EQ(paths_feed(p, JFS_TRASH_INODE, "2026-01-01-00", 13, true, JFS_TRASH_INODE + 3), 0);
	CHECK_EQ(paths_feed(p, 31, "x", 1, true, 30), 0); /* a loop */
	CHECK_EQ(paths_feed(p, 30, "y", 1, true, 31), 0);
	paths_done(p);
	CHECK_STR(path_text(p, 10, &whole), "<inode 99>/d");
	CHECK(!whole);
	CHECK_STR(path_text(p, 11, &whole), "/.trash/2026-01-01-00/t");
	CHECK(whole);
	snprintf(text, sizeof(text), "%.10s", path_text(p, 30, &whole));
	CHECK_STR(text, "<inode 30>");
	CHECK(!whole);
	buf_init(&b, 0);
	CHECK(paths_of_entry(p, 1, "gone", 4, &b));
	CHECK(!paths_of_entry(p, 10, "too", 3, &b));
	CHECK_STR(buf_cstr(&b), "/gone<inode 99>/d/too");
	buf_fini(&b);
	paths_free(p);
}

static void names_are_escaped(void)
{
	static const struct {
		const char *in, *out;
	} t[] = {{"plain", "plain"}, {"a\nb\x7f\x1b", "a\\012b\\177\\033"}, {"\\", "\\134"}, {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"\xff\xc3", "\\377\\303"}, {"\xc0\xaf", "\\300\\257"}, {"\xed\xa0\x80", "\\355\\240\\200"},
		{"\xc2\x85", "\\302\\205"}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}, {"\xf4\x90\x80\x80", "\\364\\220\\200\\200"}};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct buf b;

		buf_init(&b, 0);
		text_escape(t[i].in, strlen(t[i].in), &b);
		CHECK_STR(buf_cstr(&b), t[i].out);
		buf_fini(&b);
	}
}

/* Any name comes back as it was; what names no file is refused. */
static void names_come_back(void)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "\\057", "\\000"};
	uint64_t seed = unit_seed();
	char name[256], back[256], longest[300];

	for (int i = 0; i < 2000; i++) {
		size_t n = 1 + unit_rand(&seed) % 255;
		struct buf b;

		for (size_t k = 0; k < n; k++)
			do
				name[k] = unit_rand(&seed) % 3 ? (char)(unit_rand(&seed) % 256) : "\\0123\n"[unit_rand(&seed) % 6];
			while (name[k] == '/' || name[k] == '\0');
		name[n < 255 ? n : 255] = '\0';
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		buf_init(&b, 0);
		text_escape(name, strlen(name), &b);
		CHECK_EQ(text_unescape(buf_cstr(&b), b.len, back), 0);
		CHECK_STR(back, name);
		buf_fini(&b);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(text_unescape(bad[i], strlen(bad[i]), back) != 0);
	memset(longest, 'x', sizeof(longest));
	CHECK_EQ(text_unescape(longest, 255, back), 0);
	CHECK(text_unescape(longest, 256, back) != 0);
}

/* --- staged bytes --- */

static void unsafe_bytes(void)
{
	struct staged_set s = {0};
	const struct staged_slice slices[] = {{.segment = 2, .off = 0, .len = 100, .window_end = 5},
		{.segment = 1, .off = 100, .len = 50, .window_end = 5}, {.segment = 1, .off = 150, .len = 50, .window_end = 9}};
	struct staged_ref r = {.segment = 1, .off = 90, .len = 100};

	for (size_t i = 0; i < 3; i++)
		*vec_add(&s.slices) = slices[i];
	staged_sort(&s);
	CHECK_EQ(staged_unsafe(&s, &r, 0), 100);
	CHECK_EQ(staged_unsafe(&s, &r, 5), 50);
	CHECK_EQ(staged_unsafe(&s, &r, 9), 10);
	r = (struct staged_ref){.segment = 1, .off = 120, .len = 20};
	CHECK_EQ(staged_unsafe(&s, &r, 5), 0);
	CHECK_EQ(staged_unsafe(&s, &r, 4), 20);
	r = (struct staged_ref){.segment = 3, .off = 0, .len = 7};
	CHECK_EQ(staged_unsafe(&s, &r, 9), 7);
	staged_free(&s);
	CHECK_EQ(staged_unsafe(&s, &r, 9), 7);
}

/* Against bytes marked one by one. */
static void unsafe_bytes_at_random(void)
{
	uint64_t seed = unit_seed();

	for (int round = 0; round < 300; round++) {
		struct staged_set s = {0};
		uint8_t safe[2][256] = {{0}};
		struct staged_ref r = {.segment = unit_rand(&seed) % 2, .off = (uint32_t)(unit_rand(&seed) % 200), .len = 1};
		uint32_t want = 0;

		r.len += (uint32_t)(unit_rand(&seed) % 55);
		for (unsigned seg = 0; seg < 2; seg++)
			for (uint32_t at = 0; at < 240;) {
				uint32_t len = 1 + (uint32_t)(unit_rand(&seed) % 16), end = unit_rand(&seed) % 3 ? 4 : 8, step = len;

				if (round % 2) /* they overlap: the same bytes are in several */
					step = 1 + (uint32_t)(unit_rand(&seed) % len);

				if (unit_rand(&seed) % 2) {
					*vec_add(&s.slices) = (struct staged_slice){.segment = seg, .off = at, .len = len, .window_end = end};
					for (uint32_t i = at; i < at + len; i++)
						safe[seg][i] |= end <= 4;
				}
				at += step;
			}
		for (uint32_t i = 0; i < r.len; i++)
			want += !safe[r.segment][r.off + i];
		staged_sort(&s);
		CHECK_EQ(staged_unsafe(&s, &r, 4), want);
		staged_free(&s);
	}
}

/* --- the backlog --- */

static void feed(struct backlog *b, uint64_t seq, struct rec *r)
{
	CHECK_EQ(rec_finish(r), 0);
	CHECK_EQ(backlog_feed(b, seq, r->buf.data, r->buf.len), 0);
}

static void put_entry(struct rec *r, uint64_t parent, const char *name, uint64_t ino)
{
	uint8_t val[JFS_DENTRY_LEN];
	struct jkey k;

	jfs_dentry_encode(JFS_FILE, ino, val);
	key_dentry(&k, parent, name, strlen(name));
	rec_expect(r, &k, NULL, 0);
	rec_put(r, &k, val, sizeof(val), 0);
}

static void del_entry(struct rec *r, uint64_t parent, const char *name, uint64_t ino)
{
	uint8_t val[JFS_DENTRY_LEN];
	struct jkey k;

	jfs_dentry_encode(JFS_FILE, ino, val);
	key_dentry(&k, parent, name, strlen(name));
	rec_expect(r, &k, val, sizeof(val));
	rec_del(r, &k, 0);
}

static void what_changes(void)
{
	struct inode_val file = {.attr = {.type = JFS_FILE, .nlink = 1}}, dir = {.attr = {.type = JFS_DIR, .nlink = 2}};
	struct backlog b;
	struct rec r;

	backlog_init(&b);
	rec_init(&r);
	rec_begin(&r, OP_CREATE, 1); /* born, then gone */
	rec_put_inode(&r, 10, &file, IF_NEW);
	rec_put_inode(&r, 1, &dir, 0);
	put_entry(&r, 1, "tmp", 10);
	feed(&b, 5, &r);
	rec_begin(&r, OP_UNLINK, 1);
	rec_put_inode(&r, 1, &dir, 0);
	del_entry(&r, 1, "tmp", 10);
	feed(&b, 6, &r);
	rec_begin(&r, OP_UNLINK, 1); /* known to Redis, gone */
	del_entry(&r, 1, "old", 11);
	feed(&b, 7, &r);
	rec_begin(&r, OP_UNLINK, 1); /* gone, and there again */
	del_entry(&r, 1, "both", 12);
	feed(&b, 8, &r);
	rec_begin(&r, OP_CREATE, 1);
	rec_put_inode(&r, 13, &file, IF_NEW);
	put_entry(&r, 1, "both", 13);
	feed(&b, 9, &r);
	rec_begin(&r, OP_SETATTR, 1);
	rec_put_inode(&r, 2, &dir, 0); /* its own mode */
	feed(&b, 10, &r);
	rec_begin(&r, OP_APPLIED, 1);
	rec_put_inode(&r, 77, &file, 0);
	feed(&b, 11, &r);
	backlog_done(&b);
	CHECK_EQ(b.operations, 6);
	CHECK_EQ(b.first, 5);
	CHECK_EQ(b.last, 10);
	REQUIRE(b.inodes.n == 3);
	CHECK(b.inodes.v[0].ino == 2 && !b.inodes.v[0].born);
	CHECK(b.inodes.v[1].ino == 10 && b.inodes.v[1].born);
	CHECK(b.inodes.v[2].ino == 13 && b.inodes.v[2].born);
	REQUIRE(b.removed.n == 1);
	CHECK(b.removed.v[0].len == 3 && memcmp(b.names.data + b.removed.v[0].at, "old", 3) == 0);
	r.buf.data[r.buf.len - 1] ^= 1;
	CHECK_EQ(backlog_feed(&b, 12, r.buf.data, r.buf.len), -EUCLEAN);
	rec_fini(&r);
	backlog_fini(&b);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"paths_up_to_the_root", paths_up_to_the_root},
		{"paths_that_end_early", paths_that_end_early}, {"names_are_escaped", names_are_escaped}, {"names_come_back", names_come_back},
		{"unsafe_bytes", unsafe_bytes}, {"unsafe_bytes_at_random", unsafe_bytes_at_random}, {"what_changes", what_changes},
		{NULL, NULL}};

	return unit_main(argc, argv, tests);
}
