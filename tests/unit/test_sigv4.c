/* The vectors are the worked examples of AWS's documentation: "Signature Calculations for the Authorization Header:
 * Transferring Payload in a Single Chunk" (S3) and "Create a signed AWS API request" (IAM). */
#include "tests/unit/unit.h"

#include <errno.h>

#include "s3/sigv4.h"

static const struct sigv4_identity doc = {
	"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"};
#define DOC_HOST "examplebucket.s3.amazonaws.com"
#define DOC_DATE "20130524T000000Z"
#define DOC_CREDENTIAL "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"

static void check_authorization(const struct sigv4_request *req, const struct sigv4_identity *id, const char *want)
{
	struct buf b;

	buf_init(&b, 0);
	CHECK_EQ(sigv4_authorization(&b, req, id), 0);
	CHECK_STR(buf_cstr(&b), want);
	buf_fini(&b);
}

static void get_with_range(void)
{
	const struct sigv4_pair headers[] = {{"Host", DOC_HOST}, {"Range", "bytes=0-9"},
		{"x-amz-content-sha256", SIGV4_EMPTY_SHA256}, {"x-amz-date", DOC_DATE}};
	const struct sigv4_request req = {"GET", "/test.txt", NULL, 0, headers, 4, SIGV4_EMPTY_SHA256};
	struct buf c, s;

	buf_init(&c, 0);
	buf_init(&s, 0);
	CHECK_EQ(sigv4_canonical_request(&c, &req), 0);
	CHECK_STR(buf_cstr(&c), "GET\n/test.txt\n\nhost:" DOC_HOST "\nrange:bytes=0-9\nx-amz-content-sha256:"
		SIGV4_EMPTY_SHA256 "\nx-amz-date:" DOC_DATE "\n\nhost;range;x-amz-content-sha256;x-amz-date\n"
		SIGV4_EMPTY_SHA256);
	CHECK_EQ(sigv4_string_to_sign(&s, c.data, c.len, &doc, DOC_DATE), 0);
	CHECK_STR(buf_cstr(&s), "AWS4-HMAC-SHA256\n" DOC_DATE "\n20130524/us-east-1/s3/aws4_request\n"
		"7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
	buf_fini(&c);
	buf_fini(&s);
	check_authorization(&req, &doc, DOC_CREDENTIAL "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
		"Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void put_object(void)
{
	const char *hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
	const struct sigv4_pair headers[] = {{"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {"Host", DOC_HOST},
		{"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"X-Amz-Date", DOC_DATE}, {"x-amz-content-sha256", hash}};
	const struct sigv4_request req = {"PUT", "/test$file.text", NULL, 0, headers, 5, hash};
	char sum[65];

	sigv4_sha256_hex("Welcome to Amazon S3.", 21, sum);
	CHECK_STR(sum, hash);
	check_authorization(&req, &doc, DOC_CREDENTIAL
		"SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
		"Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static const struct sigv4_pair plain_headers[] = {
	{"Host", DOC_HOST}, {"x-amz-content-sha256", SIGV4_EMPTY_SHA256}, {"x-amz-date", DOC_DATE}};

static void get_lifecycle(void)
{
	const struct sigv4_pair query[] = {{"lifecycle", ""}};
	const struct sigv4_request req = {"GET", "/", query, 1, plain_headers, 3, SIGV4_EMPTY_SHA256};

	check_authorization(&req, &doc, DOC_CREDENTIAL "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
		"Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void list_objects_sorts_query(void)
{
	const struct sigv4_pair query[] = {{"prefix", "J"}, {"max-keys", "2"}};
	const struct sigv4_request req = {"GET", "/", query, 2, plain_headers, 3, SIGV4_EMPTY_SHA256};

	check_authorization(&req, &doc, DOC_CREDENTIAL "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
		"Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void iam_key_and_signature(void)
{
	const struct sigv4_identity id = {
		"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "iam"};
	const struct sigv4_pair headers[] = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"},
		{"Host", "iam.amazonaws.com"}, {"X-Amz-Date", "20150830T123600Z"}};
	const struct sigv4_pair query[] = {{"Version", "2010-05-08"}, {"Action", "ListUsers"}};
	const struct sigv4_request req = {"GET", "/", query, 2, headers, 3, SIGV4_EMPTY_SHA256};
	static const uint8_t want[32] = {0xc4, 0xaf, 0xb1, 0xcc, 0x57, 0x71, 0xd8, 0x71, 0x76, 0x3a, 0x39, 0x3e, 0x44,
		0xb7, 0x03, 0x57, 0x1b, 0x55, 0xcc, 0x28, 0x42, 0x4d, 0x1a, 0x5e, 0x86, 0xda, 0x6e, 0xd3, 0xc1, 0x54,
		0xa4, 0xb9};
	uint8_t key[32];

	CHECK_EQ(sigv4_signing_key(&id, "20150830T123600Z", key), 0);
	CHECK(memcmp(key, want, 32) == 0);
	check_authorization(&req, &id, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request,"
		"SignedHeaders=content-type;host;x-amz-date,"
		"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

static void encoding_trimming_sorting(void)
{
	const struct sigv4_pair query[] = {{"a-b", "1"}, {"a", "2"}, {"a", "1"}, {"A", "x y/~"}, {"\xc3\xa9", "+"}};
	const struct sigv4_pair headers[] = {{"Host", "h"}, {"My-Header", "  a   b\t c  "}, {"X-Amz-Date", DOC_DATE}};
	const struct sigv4_request req = {"GET", "/a b/../%41//\xc3\xa9+=&", NULL, 0, headers, 3, SIGV4_UNSIGNED};
	struct buf b;

	buf_init(&b, 0);
	CHECK_EQ(sigv4_canonical_query(&b, query, 5), 0);
	CHECK_STR(buf_cstr(&b), "%C3%A9=%2B&A=x%20y%2F~&a=1&a=2&a-b=1");
	buf_reset(&b);
	CHECK_EQ(sigv4_canonical_request(&b, &req), 0);
	CHECK_STR(buf_cstr(&b), "GET\n/a%20b/../%2541//%C3%A9%2B%3D%26\n\nhost:h\nmy-header:a b c\nx-amz-date:" DOC_DATE
		"\n\nhost;my-header;x-amz-date\nUNSIGNED-PAYLOAD");
	buf_fini(&b);
}

static void refuses_incomplete(void)
{
	const struct sigv4_pair headers[] = {{"x-amz-date", DOC_DATE}};
	const struct sigv4_request req = {"GET", "/", NULL, 0, headers, 1, SIGV4_UNSIGNED};
	struct buf b;
	char date[17];

	buf_init(&b, 0);
	CHECK_EQ(sigv4_authorization(&b, &req, &doc), -EINVAL);
	CHECK_EQ(b.len, 0);
	buf_fini(&b);
	sigv4_date(1369353600, date);
	CHECK_STR(date, DOC_DATE);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"get_with_range", get_with_range}, {"put_object", put_object},
		{"get_lifecycle", get_lifecycle}, {"list_objects_sorts_query", list_objects_sorts_query},
		{"iam_key_and_signature", iam_key_and_signature},
		{"encoding_trimming_sorting", encoding_trimming_sorting}, {"refuses_incomplete", refuses_incomplete}, {0}};

	return unit_main(argc, argv, tests);
}
