#include "tests/unit/unit.h"

#include <errno.h>

#include "s3/answer.h"

struct seen {
	int n, stop;
	char keys[4][40];
	uint64_t sizes[4];
	int64_t mtimes[4];
};

static int seen_add(void *arg, const char *key, uint64_t size, int64_t mtime)
{
	struct seen *s = arg;

	snprintf(s->keys[s->n], sizeof(s->keys[0]), "%s", key);
	s->sizes[s->n] = size;
	s->mtimes[s->n++] = mtime;
	return s->stop;
}

#define PAGE                                                                                                          \
	"<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\"><Name>b</Name><EncodingType>url</EncodingType>"         \
	"<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b=</NextContinuationToken>"                          \
	"<Contents><Key>v/a%20b%2Bc+%26amp;</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified><Size>7</Size>"     \
	"</Contents><Contents>\n <Size>0</Size><ETag>&quot;x&quot;</ETag><Key>v/&#xe9;&#100;&lt;</Key></Contents>"        \
	"</ListBucketResult>"

static void list_page(void)
{
	struct seen s = {0};
	char token[20];

	CHECK_EQ(answer_list(PAGE, strlen(PAGE), seen_add, &s, token, sizeof(token)), 0);
	CHECK_EQ(s.n, 2);
	CHECK_STR(token, "a&b=");
	CHECK_STR(s.keys[0], "v/a b+c &amp;");
	CHECK(s.sizes[0] == 7 && s.mtimes[0] == 1369353600);
	CHECK_STR(s.keys[1], "v/\xc3\xa9" "d<");
	CHECK(s.sizes[1] == 0 && s.mtimes[1] == 0);
	s = (struct seen){.stop = 5};
	CHECK_EQ(answer_list(PAGE, strlen(PAGE), seen_add, &s, token, sizeof(token)), 5);
	CHECK_EQ(s.n, 1);
	CHECK_EQ(answer_list(PAGE, strlen(PAGE), seen_add, &s, token, 3), -EBADMSG);
}

/* Any prefix and any damaged byte: no crash, and a prefix is never taken for a whole list. */
static void list_damaged(void)
{
	uint64_t seed = unit_seed();
	size_t n = strlen(PAGE);
	char token[64], *copy;

	for (size_t cut = 0; cut < n; cut++) {
		struct seen s = {0};

		copy = malloc(cut ? cut : 1);
		REQUIRE(copy);
		memcpy(copy, PAGE, cut);
		CHECK_EQ(answer_list(copy, cut, seen_add, &s, token, sizeof(token)), -EBADMSG);
		free(copy);
	}
	for (int round = 0; round < 2000; round++) {
		struct seen s = {.stop = 1};

		copy = malloc(n);
		REQUIRE(copy);
		memcpy(copy, PAGE, n);
		for (int i = 0; i < 3; i++)
			copy[unit_rand(&seed) % n] = (char)unit_rand(&seed);
		answer_list(copy, n, seen_add, &s, token, sizeof(token));
		free(copy);
	}
}

static void check(int status, const char *body, int err, bool retry, bool slow)
{
	struct answer_error a;

	answer_error(status, body, strlen(body), 0, 1000, "", &a);
	CHECK_EQ(a.err, err);
	CHECK_EQ(a.retry, retry);
	CHECK_EQ(a.slow, slow);
	CHECK(!err || a.text[0]);
	CHECK(!strpbrk(a.text, "\r\n"));
}

static void errors(void)
{
	struct answer_error a;

	check(200, "", 0, false, false);
	check(204, "<Code>NoSuchKey</Code>", 0, false, false);
	check(404, "", -ENOENT, false, false);
	check(404, "<Error><Code>NoSuchBucket</Code></Error>", -ENODEV, false, false);
	check(403, "<Error><Code>AccessDenied</Code><Message>no\nway</Message></Error>", -EACCES, false, false);
	check(401, "", -EACCES, false, false);
	check(400, "<Error><Code>ExpiredToken</Code></Error>", -EACCES, false, false);
	check(400, "<Error><Code>RequestTimeout</Code></Error>", -EIO, true, false);
	check(500, "html", -EIO, true, false);
	check(501, "", -EIO, false, false);
	check(503, "", -EIO, true, true);
	check(503, "<Error><Code>SlowDown</Code></Error>", -EIO, true, true);
	check(429, "", -EIO, true, true);
	check(507, "", -ENOSPC, true, false);
	check(409, "<Error><Code>BucketAlreadyOwnedByYou</Code></Error>", -EEXIST, false, false);
	answer_error(400, "<Code>AuthorizationHeaderMalformed</Code><Region>eu-x</Region>", 62, 0, 0, "", &a);
	CHECK_EQ(a.err, -EINVAL);
	CHECK_STR(a.text, "the bucket is in another region: eu-x (AuthorizationHeaderMalformed)");
	answer_error(403, "<Code>RequestTimeTooSkewed</Code>", 33, 5000, 1000, "", &a);
	CHECK_STR(a.text, "the clock of this machine is wrong (RequestTimeTooSkewed), it differs from the server's by 4000 s");
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"list_page", list_page}, {"list_damaged", list_damaged}, {"errors", errors}, {0}};

	return unit_main(argc, argv, tests);
}
