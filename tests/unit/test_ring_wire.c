/* Requests and replies in entries of an io_uring queue, and what INIT says about rings. */
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "daemon/ring_wire.h"
#include "daemon/transport.h"
#include "tests/unit/unit.h"

enum { PAYLOAD = 8192 };

static struct {
	_Alignas(8) uint8_t below[RING_ROOM];
	uint8_t payload[PAYLOAD];
	uint8_t behind[8];
} memory;

static struct ring_head request(uint32_t opcode, const void *fixed, size_t fixed_size, size_t payload_size)
{
	struct ring_head h = { .commit_id = 7, .payload_size = (uint32_t)payload_size };
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + fixed_size + payload_size), .opcode = opcode,
		.unique = 0x1234, .nodeid = 9, .uid = 1, .gid = 2, .pid = 3 };

	memcpy(h.in_out, &in, sizeof(in));
	if (fixed_size)
		memcpy(h.op_in, fixed, fixed_size);
	memset(&memory, 0xaa, sizeof(memory));
	return h;
}

/* The parts lie one behind the other, and the payload where it was. */
static void join_write(void)
{
	struct fuse_write_in w = { .offset = 5, .size = 4 };
	struct ring_head h = request(FUSE_WRITE, &w, sizeof(w), 4);
	struct fuse_in_header *in;
	size_t len = 0;
	void *p;

	memcpy(memory.payload, "data", 4);
	p = ring_request_join(&h, memory.payload, PAYLOAD, &len);
	REQUIRE(p);
	CHECK_EQ(len, sizeof(*in) + sizeof(w) + 4);
	in = p;
	CHECK_EQ(in->opcode, FUSE_WRITE);
	CHECK_EQ(in->unique, 0x1234);
	CHECK_EQ(in->pid, 3);
	CHECK(memcmp(in + 1, &w, sizeof(w)) == 0);
	CHECK((uint8_t *)(in + 1) + sizeof(w) == memory.payload);
	CHECK(memcmp(memory.payload, "data", 4) == 0);
}

/* Names only (UNLINK), and nothing at all (STATFS). */
static void join_without_fixed_part(void)
{
	struct ring_head h = request(FUSE_UNLINK, NULL, 0, 5);
	size_t len;
	uint8_t *p;

	memcpy(memory.payload, "name", 5);
	p = ring_request_join(&h, memory.payload, PAYLOAD, &len);
	CHECK(p == memory.payload - sizeof(struct fuse_in_header));
	CHECK_EQ(len, sizeof(struct fuse_in_header) + 5);
	h = request(FUSE_STATFS, NULL, 0, 0);
	p = ring_request_join(&h, memory.payload, PAYLOAD, &len);
	CHECK(p == memory.payload - sizeof(struct fuse_in_header));
	CHECK_EQ(len, sizeof(struct fuse_in_header));
}

static void join_largest(void)
{
	uint8_t fixed[RING_PART];
	struct ring_head h;
	size_t len;

	memset(fixed, 3, sizeof(fixed));
	h = request(FUSE_WRITE, fixed, sizeof(fixed), PAYLOAD);
	CHECK(ring_request_join(&h, memory.payload, PAYLOAD, &len));
	CHECK_EQ(len, sizeof(struct fuse_in_header) + RING_PART + PAYLOAD);
	/* what the kernel filled is untouched, and so is what lies around */
	CHECK_EQ(memory.payload[0], 0xaa);
	CHECK_EQ(memory.payload[PAYLOAD - 1], 0xaa);
	CHECK_EQ(memory.behind[0], 0xaa);
	CHECK_EQ(memory.below[RING_ROOM - RING_PART - sizeof(struct fuse_in_header) - 1], 0xaa);
}

/* Sizes that do not fit together are told, and nothing is written. */
static void join_nonsense(void)
{
	static const struct {
		uint32_t len, payload;
	} bad[] = { { 0, 0 }, { 39, 0 }, { 40, 1 }, { 40 + RING_PART + 8, 0 }, { 44, 0 }, { 40 + PAYLOAD + 1, PAYLOAD + 1 },
		{ UINT32_MAX, 0 }, { UINT32_MAX, UINT32_MAX }, { 40, UINT32_MAX } };
	size_t len;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ring_head h = request(FUSE_WRITE, NULL, 0, 0);

		memcpy(h.in_out, &bad[i].len, sizeof(bad[i].len));
		h.payload_size = bad[i].payload;
		CHECK(!ring_request_join(&h, memory.payload, PAYLOAD, &len));
		CHECK_EQ(memory.below[RING_ROOM - 1], 0xaa);
	}
}

static void split_reply(void)
{
	struct ring_head h = request(FUSE_READ, NULL, 0, 0);
	struct fuse_out_header out = { .error = 0, .unique = 0x1234 }, got;
	char a[3] = "abc", b[5] = "defgh";
	struct iovec iov[3] = { { &out, sizeof(out) }, { a, 3 }, { b, 5 } };

	h.flags = 99;
	ring_reply_split(&h, memory.payload, PAYLOAD, iov, 3);
	memcpy(&got, h.in_out, sizeof(got));
	CHECK_EQ(got.len, sizeof(out) + 8);
	CHECK_EQ(got.error, 0);
	CHECK_EQ(got.unique, 0x1234);
	CHECK_EQ(h.payload_size, 8);
	CHECK_EQ(h.flags, 0);
	CHECK(memcmp(memory.payload, "abcdefgh\xaa", 9) == 0);
}

static void split_error(void)
{
	struct ring_head h = request(FUSE_LOOKUP, NULL, 0, 4);
	struct fuse_out_header out = { .error = -ENOENT, .unique = 0x1234 }, got;
	struct iovec iov = { &out, sizeof(out) };

	ring_reply_split(&h, memory.payload, PAYLOAD, &iov, 1);
	memcpy(&got, h.in_out, sizeof(got));
	CHECK_EQ(got.error, -ENOENT);
	CHECK_EQ(got.len, sizeof(out));
	CHECK_EQ(h.payload_size, 0);
}

/* Bytes that an operation put there itself; bytes that overlap their place. */
static void split_in_place(void)
{
	struct ring_head h = request(FUSE_READ, NULL, 0, 0);
	struct fuse_out_header out = { .unique = 0x1234 };
	struct iovec iov[2] = { { &out, sizeof(out) }, { memory.payload, PAYLOAD } };

	memset(memory.payload, 5, PAYLOAD);
	ring_reply_split(&h, memory.payload, PAYLOAD, iov, 2);
	CHECK_EQ(h.payload_size, PAYLOAD);
	CHECK_EQ(memory.payload[PAYLOAD - 1], 5);
	memcpy(memory.payload, "0123456789", 10);
	iov[1] = (struct iovec){ memory.payload + 2, 6 };
	ring_reply_split(&h, memory.payload, PAYLOAD, iov, 2);
	CHECK(memcmp(memory.payload, "23456789", 6) == 0);
}

static void split_too_long(void)
{
	struct ring_head h = request(FUSE_READ, NULL, 0, 0);
	struct fuse_out_header out = { .unique = 0x1234 }, got;
	static char big[PAYLOAD];
	struct iovec iov[3] = { { &out, sizeof(out) }, { big, PAYLOAD }, { big, 1 } };

	ring_reply_split(&h, memory.payload, PAYLOAD, iov, 3);
	memcpy(&got, h.in_out, sizeof(got));
	CHECK_EQ(got.error, -EIO);
	CHECK_EQ(got.len, sizeof(out));
	CHECK_EQ(h.payload_size, 0);
	CHECK_EQ(memory.behind[0], 0xaa);
}

static void offers(void)
{
	struct fuse_init_in in = { .flags = FUSE_INIT_EXT | FUSE_ASYNC_READ, .flags2 = 1u << 9 };

	CHECK(init_offer(&in, sizeof(in)) == (FUSE_INIT_EXT | FUSE_ASYNC_READ | INIT_OVER_IO_URING));
	in.flags = FUSE_ASYNC_READ; /* flags2 means nothing then */
	CHECK(init_offer(&in, sizeof(in)) == FUSE_ASYNC_READ);
	in.flags = FUSE_INIT_EXT;
	CHECK(init_offer(&in, 16) == FUSE_INIT_EXT); /* the body of an old kernel */
	CHECK(init_offer(&in, 15) == 0);
}

static void payload_wanted(void)
{
	struct fuse_init_out o = { .max_write = 4096 };

	CHECK_EQ(init_reply_payload(&o, sizeof(o)), 32 * 4096);
	o.flags = FUSE_MAX_PAGES;
	o.max_pages = 1;
	CHECK_EQ(init_reply_payload(&o, sizeof(o)), FUSE_MIN_READ_BUFFER);
	o.max_pages = 256;
	CHECK_EQ(init_reply_payload(&o, sizeof(o)), 1 << 20);
	o.max_write = 2 << 20;
	CHECK_EQ(init_reply_payload(&o, sizeof(o)), 2 << 20);
	CHECK(init_reply_payload(&o, sizeof(o) - 1) == SIZE_MAX);
}

/* Only when it was offered, when the reply can say so, and when the entries are large enough. */
static void taking_the_ring(void)
{
	const uint64_t offer = FUSE_INIT_EXT | INIT_OVER_IO_URING;
	struct fuse_init_out o = { .flags = FUSE_INIT_EXT | FUSE_MAX_PAGES, .max_pages = 256, .max_write = 1 << 20, .flags2 = 1 };
	struct fuse_init_out before = o;

	CHECK(!init_reply_take_ring(&o, sizeof(o), FUSE_INIT_EXT, 1 << 20));
	CHECK(!init_reply_take_ring(&o, sizeof(o), offer, (1 << 20) - 1));
	CHECK(!init_reply_take_ring(&o, sizeof(o) - 1, offer, 1 << 20));
	o.flags = before.flags = FUSE_MAX_PAGES;
	CHECK(!init_reply_take_ring(&o, sizeof(o), offer, 1 << 20));
	CHECK(memcmp(&o, &before, sizeof(o)) == 0);
	o.flags |= FUSE_INIT_EXT;
	CHECK(init_reply_take_ring(&o, sizeof(o), offer, 1 << 20));
	CHECK_EQ(o.flags2, 1 | 1 << 9);
	CHECK_EQ(o.max_write, 1 << 20);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = { { "join_write", join_write },
		{ "join_without_fixed_part", join_without_fixed_part }, { "join_largest", join_largest },
		{ "join_nonsense", join_nonsense }, { "split_reply", split_reply }, { "split_error", split_error },
		{ "split_in_place", split_in_place }, { "split_too_long", split_too_long }, { "offers", offers },
		{ "payload_wanted", payload_wanted }, { "taking_the_ring", taking_the_ring }, { NULL, NULL } };

	return unit_main(argc, argv, tests);
}
