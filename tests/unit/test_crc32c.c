#include "tests/unit/unit.h"

#include "util/crc32c.h"

static void known_values(void)
{
	uint8_t zeros[32] = {0};

	CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283u);
	CHECK_EQ(crc32c_sw(0, "123456789", 9), 0xe3069283u);
	CHECK_EQ(crc32c(0, zeros, 32), 0x8a9136aau); /* RFC 3720 B.4 */
	CHECK_EQ(crc32c(0, "", 0), 0);
}

static void fast_equals_table_and_continues(void)
{
	uint64_t seed = unit_seed();
	uint8_t data[4099];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)unit_rand(&seed);
	for (int round = 0; round < 500; round++) {
		size_t off = unit_rand(&seed) % 64, n = unit_rand(&seed) % (sizeof(data) - off);
		size_t cut = n ? unit_rand(&seed) % n : 0;
		uint32_t whole = crc32c_sw(0, data + off, n);

		CHECK_EQ(crc32c(0, data + off, n), whole);
		CHECK_EQ(crc32c(crc32c(0, data + off, cut), data + off + cut, n - cut), whole);
	}
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"known_values", known_values}, {"fast_equals_table_and_continues", fast_equals_table_and_continues}, {0}};

	return unit_main(argc, argv, tests);
}
