#include "tests/unit/unit.h"

#include <errno.h>

#include "s3/url.h"

static void check(const char *storage, const char *text, const struct url_env *env, bool https, const char *host,
	const char *bucket, const char *region, bool path_style)
{
	static const struct url_env none;
	struct s3_url u;
	struct errmsg e = {""};

	CHECK_EQ(url_parse(storage, text, env ? env : &none, &u, &e), 0);
	if (e.text[0])
		fprintf(stderr, "%s\n", e.text);
	CHECK_EQ(u.https, https);
	CHECK_STR(u.host, host);
	CHECK_STR(u.bucket, bucket);
	CHECK_STR(u.region, region);
	CHECK_EQ(u.path_style, path_style);
}

static void amazon(void)
{
	check("s3", "https://mybucket.s3.eu-west-1.amazonaws.com", NULL, true, "mybucket.s3.eu-west-1.amazonaws.com",
		"mybucket", "eu-west-1", false);
	check("s3", "https://s3.eu-west-1.amazonaws.com/mybucket/ignored", NULL, true,
		"mybucket.s3.eu-west-1.amazonaws.com", "mybucket", "eu-west-1", false);
	check("s3", "mybucket.s3.amazonaws.com", NULL, true, "mybucket.s3.us-east-1.amazonaws.com", "mybucket",
		"us-east-1", false);
	check("s3", "https://mybucket.s3-us-west-2.amazonaws.com/", NULL, true, "mybucket.s3.us-west-2.amazonaws.com",
		"mybucket", "us-west-2", false);
	check("s3", "https://my.dotted.bucket.s3.eu-west-1.amazonaws.com", NULL, true, "s3.eu-west-1.amazonaws.com",
		"my.dotted.bucket", "eu-west-1", true);
	check("s3", "https://mybucket.s3.cn-north-1.amazonaws.com.cn", NULL, true,
		"mybucket.s3.cn-north-1.amazonaws.com.cn", "mybucket", "cn-north-1", false);
	check("s3", "https://s3.dualstack.eu-west-1.amazonaws.com/mybucket", NULL, true,
		"mybucket.s3.eu-west-1.amazonaws.com", "mybucket", "eu-west-1", false);
}

static void compatible(void)
{
	const struct url_env env = {.region = "moon-1", .minio_region = "mars-1"};
	const struct url_env vhost = {.vhost_style = true};

	check("s3", "http://127.0.0.1:9000/mybucket", NULL, false, "127.0.0.1:9000", "mybucket", "us-east-1", true);
	check("s3", "http://127.0.0.1:9000/mybucket/more/", &env, false, "127.0.0.1:9000", "mybucket", "moon-1", true);
	check("s3", "https://store.example.com:443/mybucket", NULL, true, "store.example.com", "mybucket", "us-east-1",
		true);
	check("s3", "http://[::1]:9000/mybucket", NULL, false, "[::1]:9000", "mybucket", "us-east-1", true);
	check("s3", "https://mybucket.store.example.com", NULL, true, "store.example.com", "mybucket", "us-east-1", true);
	check("s3", "https://mybucket.store.example.com", &vhost, true, "mybucket.store.example.com", "mybucket",
		"us-east-1", false);
	check("s3", "http://127.0.0.1/mybucket", &vhost, false, "127.0.0.1", "mybucket", "us-east-1", true);
	check("s3", "store.example.com/mybucket", NULL, false, "store.example.com", "mybucket", "us-east-1", true);
	check("s3", "https://mybucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com", NULL, true,
		"vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com", "mybucket", "eu-west-1", true);
	check("minio", "http://host:9000/mybucket", &env, false, "host:9000", "mybucket", "mars-1", true);
	check("minio", "http://host:9000/mybucket?region=here", &env, false, "host:9000", "mybucket", "here", true);
}

static void checksum_option(void)
{
	const struct url_env env = {0};
	struct s3_url u;

	CHECK(url_parse("s3", "http://h.x/bucket?a=b&disable-checksum=true", &env, &u, NULL) == 0 && u.no_checksum);
	CHECK(url_parse("s3", "http://h.x/bucket?disable-checksum=false", &env, &u, NULL) == 0 && !u.no_checksum);
	CHECK(url_parse("minio", "http://h.x/bucket?disable-checksum=true", &env, &u, NULL) == 0 && !u.no_checksum);
}

static void refused(void)
{
	static const char *const bad[] = {"", "ftp://host/bucket", "http://", "http:///bucket", "http://host:99999/bucket",
		"http://host:/bucket", "http://127.0.0.1:9000", "http://127.0.0.1:9000/", "bucketonly", "http://ho st/bucket",
		"http://host/buck\net", "http://host/%41bc", "https://s3.eu-west-1.amazonaws.com",
		"http://host/b", "http://[::1/bucket", NULL};
	const struct url_env env = {0};
	struct errmsg e;
	struct s3_url u;

	for (int i = 0; bad[i]; i++) {
		e.text[0] = 0;
		CHECK_EQ(url_parse("s3", bad[i], &env, &u, &e), -EINVAL);
		CHECK(e.text[0] != 0);
	}
	CHECK_EQ(url_parse("minio", "http://bucket.host", &env, &u, &e), -EINVAL);
	CHECK_EQ(url_parse("s3", "http://me:hush@host/bucket", &env, &u, &e), -EINVAL);
	CHECK(!strstr(e.text, "hush"));
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"amazon", amazon}, {"compatible", compatible},
		{"checksum_option", checksum_option}, {"refused", refused}, {0}};

	return unit_main(argc, argv, tests);
}
