#include "tests/unit/unit.h"

#include <errno.h>

#include "redis/keys.h"

static void names(void)
{
	char k[RDS_KEY_MAX];

	CHECK_EQ(rds_key(k, NULL, RDS_SETTING), 7);
	CHECK_STR(k, "setting");
	rds_key(k, "{0}", RDS_SETTING);
	CHECK_STR(k, "{0}setting");
	CHECK_EQ(rds_key_inode(k, "{3}", 1), 5);
	CHECK_STR(k, "{3}i1");
	rds_key_inode(k, "", 9223372032828243968ull);
	CHECK_STR(k, "i9223372032828243968");
	rds_key_dir(k, "", 7);
	CHECK_STR(k, "d7");
	rds_key_parents(k, "", 7);
	CHECK_STR(k, "p7");
	rds_key_chunk(k, "", 7, 31);
	CHECK_STR(k, "c7_31");
	rds_key_symlink(k, "", 7);
	CHECK_STR(k, "s7");
	rds_key_xattr(k, "", 7);
	CHECK_STR(k, "x7");
	rds_key_sustained(k, "", 3);
	CHECK_STR(k, "session3");
	rds_key_locked(k, "", 3);
	CHECK_STR(k, "locked3");
	rds_key_flock(k, "", 7);
	CHECK_STR(k, "lockf7");
	rds_key_plock(k, "{12}", 7);
	CHECK_STR(k, "{12}lockp7");
	rds_field_slice_ref(k, 4097, 10000);
	CHECK_STR(k, "k4097_10000");
	rds_field_del_slices(k, 9, 1700000000);
	CHECK_STR(k, "9_1700000000");
	rds_member_del_file(k, 5, 0);
	CHECK_STR(k, "5:0");
	CHECK(rds_key_chunk(k, "123456789012345678901234567890", UINT64_MAX, UINT32_MAX) < RDS_KEY_MAX);
}

static void numbers(void)
{
	uint64_t u;
	int64_t i;

	CHECK(rds_parse_u64("18446744073709551615", 20, &u) == 0 && u == UINT64_MAX);
	CHECK_EQ(rds_parse_u64("18446744073709551616", 20, &u), -ERANGE);
	CHECK_EQ(rds_parse_u64("", 0, &u), -EINVAL);
	CHECK_EQ(rds_parse_u64("-1", 2, &u), -EINVAL);
	CHECK_EQ(rds_parse_u64("1 ", 2, &u), -EINVAL);
	CHECK(rds_parse_i64("-9223372036854775808", 20, &i) == 0 && i == INT64_MIN);
	CHECK(rds_parse_i64("9223372036854775807", 19, &i) == 0 && i == INT64_MAX);
	CHECK_EQ(rds_parse_i64("9223372036854775808", 19, &i), -ERANGE);
	CHECK_EQ(rds_parse_i64("-", 1, &i), -EINVAL);
	CHECK_EQ(rds_parse_i64("", 0, &i), -EINVAL);
}

static void parsers(void)
{
	uint64_t a, b;
	uint32_t c;

	CHECK(rds_parse_inode_key("i12", 3, 'i', &a) == 0 && a == 12);
	CHECK_EQ(rds_parse_inode_key("d12", 3, 'i', &a), -EINVAL);
	CHECK_EQ(rds_parse_inode_key("i", 1, 'i', &a), -EINVAL);
	CHECK(rds_parse_chunk_key("c12_3", 5, &a, &c) == 0 && a == 12 && c == 3);
	CHECK_EQ(rds_parse_chunk_key("c12", 3, &a, &c), -EINVAL);
	CHECK_EQ(rds_parse_chunk_key("c12_", 4, &a, &c), -EINVAL);
	CHECK_EQ(rds_parse_chunk_key("c1_4294967296", 13, &a, &c), -EINVAL);
	CHECK(rds_parse_slice_ref("k4097_10000", 11, &a, &c) == 0 && a == 4097 && c == 10000);
	CHECK_EQ(rds_parse_slice_ref("4097_10000", 10, &a, &c), -EINVAL);
	CHECK(rds_parse_del_file("5:77", 4, &a, &b) == 0 && a == 5 && b == 77);
	CHECK_EQ(rds_parse_del_file("5:7:7", 5, &a, &b), -EINVAL);
	CHECK_EQ(rds_parse_del_file("5", 1, &a, &b), -EINVAL);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"names", names}, {"numbers", numbers}, {"parsers", parsers}, {0}};

	return unit_main(argc, argv, tests);
}
