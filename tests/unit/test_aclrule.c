/* ACL rules: both encodings, and what modes make of them. The bytes of Redis are spec 2.14's own example. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "util/aclrule.h"

static const uint8_t stored[] = {0, 6, 0, 4, 0, 6, 0, 0, 0, 0, 0, 1, 0, 0, 3, 0xe9, 0, 6, 0, 0, 0, 0};
static const uint8_t xattr[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 0xe9, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255,
	255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};

static struct acl_rule rule, access_rule, other;
static uint8_t out[ACL_XATTR_MAX];

static void both_encodings(void)
{
	uint8_t bytes[ACL_RULE_MAX];

	CHECK_EQ(acl_rule_from_xattr(xattr, sizeof(xattr), &rule), 0);
	CHECK_EQ(acl_rule_encode(&rule, bytes), sizeof(stored));
	CHECK(memcmp(bytes, stored, sizeof(stored)) == 0);
	CHECK_EQ(acl_rule_decode(stored, sizeof(stored), &other), 0);
	CHECK_EQ(acl_rule_to_xattr(&other, out), sizeof(xattr));
	CHECK(memcmp(out, xattr, sizeof(xattr)) == 0);
	CHECK_EQ(acl_rule_mode(&rule), 0660);
}

static void malformed(void)
{
	uint8_t bytes[sizeof(xattr)];

	for (size_t n = 0; n < sizeof(stored); n++)
		CHECK_EQ(acl_rule_decode(stored, n, &rule), -EUCLEAN);
	memcpy(bytes, stored, sizeof(stored));
	bytes[8] = 0x80; /* counts more than is there */
	CHECK_EQ(acl_rule_decode(bytes, sizeof(stored), &rule), -EUCLEAN);
	for (size_t n = 1; n < sizeof(xattr); n++)
		CHECK_EQ(acl_rule_from_xattr(xattr, n, &rule), n >= 4 && n % 8 == 4 ? 0 : -EINVAL);
	memcpy(bytes, xattr, sizeof(xattr));
	bytes[0] = 3;
	CHECK_EQ(acl_rule_from_xattr(bytes, sizeof(xattr), &rule), -EINVAL);
	memcpy(bytes, xattr, sizeof(xattr));
	bytes[6] = 8; /* no such permission */
	CHECK_EQ(acl_rule_from_xattr(bytes, sizeof(xattr), &rule), -EINVAL);
	memcpy(bytes, xattr, sizeof(xattr));
	bytes[20] = 1; /* the owner twice */
	CHECK_EQ(acl_rule_from_xattr(bytes, sizeof(xattr), &rule), -EINVAL);
	CHECK_EQ(acl_rule_from_xattr(xattr, 0, &rule), 0);
	CHECK(acl_rule_empty(&rule));
}

static void as_many_as_fit(void)
{
	static uint8_t many[4 + 8 * (ACL_NAMED_MAX + 1)] = {2};
	static uint8_t bytes[ACL_RULE_MAX];
	const uint8_t entry[8] = {2, 0, 4};

	for (size_t i = 0; i <= ACL_NAMED_MAX; i++)
		memcpy(many + 4 + 8 * i, entry, 8);
	CHECK_EQ(acl_rule_from_xattr(many, sizeof(many), &rule), -E2BIG);
	CHECK_EQ(acl_rule_from_xattr(many, sizeof(many) - 8, &rule), 0);
	CHECK_EQ(acl_rule_encode(&rule, bytes), ACL_RULE_MAX);
	CHECK_EQ(acl_rule_decode(bytes, ACL_RULE_MAX, &other), 0);
	CHECK_EQ(other.users, ACL_NAMED_MAX);
}

static void modes(void)
{
	uint16_t mode = 02640;

	REQUIRE(acl_rule_decode(stored, sizeof(stored), &rule) == 0);
	acl_rule_chmod(&rule, 0604);
	CHECK_EQ(rule.owner, 6);
	CHECK_EQ(rule.mask, 0);
	CHECK_EQ(rule.group, 4);
	CHECK_EQ(rule.other, 4);
	REQUIRE(acl_rule_decode(stored, sizeof(stored), &rule) == 0);
	CHECK(acl_rule_inherit(&rule, &mode, &access_rule));
	CHECK_EQ(mode, 02640);
	CHECK_EQ(access_rule.mask, 4);
	CHECK_EQ(access_rule.group, 4);
	CHECK_EQ(access_rule.named[0].perm, 6);
	CHECK(!acl_rule_minimal(&access_rule));
	REQUIRE(acl_rule_from_xattr(xattr, 12, &rule) == 0); /* the owner alone */
	acl_rule_fill(&rule, 0751);
	CHECK_EQ(acl_rule_mode(&rule), 0651);
	CHECK(acl_rule_minimal(&rule));
	mode = 01777;
	CHECK(!acl_rule_inherit(&rule, &mode, &access_rule));
	CHECK_EQ(mode, 01651);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"both_encodings", both_encodings}, {"malformed", malformed},
		{"as_many_as_fit", as_many_as_fit}, {"modes", modes}, {0}};

	return unit_main(argc, argv, tests);
}
