#include "tests/unit/unit.h"

#include <errno.h>
#include <unistd.h>

#include "redis/url.h"

static void addresses(void)
{
	static const struct {
		const char *text, *show, *user, *password;
	} rows[] = {
		{"redis://h:6380/3", "redis://h:6380/3", "", ""},
		{"redis://h", "redis://h:6379/0", "", ""},
		{"redis://h/", "redis://h:6379/0", "", ""},
		{"h/2", "redis://h:6379/2", "", ""},
		{"h:1/2", "redis://h:1/2", "", ""},
		{"rueidis://h/2", "redis://h:6379/2", "", ""},
		{"redis://:pa@ss@h/1", "redis://h:6379/1", "", "pa@ss"},
		{":pw@h/1", "redis://h:6379/1", "", "pw"},
		{"redis://u:p%40%2Fx:y@h:7/1", "redis://h:7/1", "u", "p@/x:y"},
		{"redis://u@h", "redis://h:6379/0", "u", ""},
		{"redis://[::1]:7000/4", "redis://[::1]:7000/4", "", ""},
		{"redis://[::1]", "redis://[::1]:6379/0", "", ""},
		{"unix:///run/r.sock", "unix:///run/r.sock?db=0", "", ""},
		{"unix:///run/r.sock?db=5", "unix:///run/r.sock?db=5", "", ""},
		{"unix://u:pw@/run/r@x.sock?db=5", "unix:///run/r@x.sock?db=5", "u", "pw"},
		{"redis://:p@m,a,b:1,c/2", "redis://m,a:26379,b:1,c:26379/2", "", "p"},
		{"redis://m,a,b:77/2", "redis://m,a:77,b:77/2", "", ""},
		{"redis://m,a", "redis://m,a:26379/0", "", ""},
	};
	struct errmsg e;
	struct rds_url u;
	char s[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int rc = rds_url_parse(rows[i].text, &u, &e);
		if (rc)
			fprintf(stderr, "%s: %s\n", rows[i].text, e.text);
		CHECK_EQ(rc, 0);
		rds_url_show(&u, s, sizeof(s));
		CHECK_STR(s, rows[i].show);
		CHECK_STR(u.user, rows[i].user);
		CHECK_STR(u.password, rows[i].password);
	}
}

static void malformed(void)
{
	static const struct {
		const char *text;
		int err;
		const char *says;
	} rows[] = {
		{"", -EINVAL, "empty"},
		{"redis://", -EINVAL, "no host"},
		{"redis:///1", -EINVAL, "no host"},
		{"redis://:x@/1", -EINVAL, "no host"},
		{"redis://h:0/1", -EINVAL, "port"},
		{"redis://h:65536/1", -EINVAL, "port"},
		{"redis://h:x/1", -EINVAL, "port"},
		{"redis://h:/1", -EINVAL, "port"},
		{"redis://h/x", -EINVAL, "database \"x\""},
		{"redis://h/1/2", -EINVAL, "database"},
		{"redis://[::1/1", -EINVAL, "]"},
		{"redis://a b/1", -EINVAL, "host name"},
		{"redis://:a%zz@h", -EINVAL, "password"},
		{"redis://:a%@h", -EINVAL, "password"},
		{"redis://:a/b@h/1", -EINVAL, "%2F"},
		{"rediss://h/1", -ENOTSUP, "TLS"},
		{"rueidiss://h/1", -ENOTSUP, "TLS"},
		{"redis://a:1,b:2/0", -ENOTSUP, "Cluster"},
		{"mysql://u:secret@h/1", -ENOTSUP, "mysql"},
		{"unix://run/r.sock", -EINVAL, "absolute"},
		{"unix://", -EINVAL, "absolute"},
		{"redis://m,/1", -EINVAL, "host"},
		{"redis://,a/1", -EINVAL, "master"},
		{"redis://m,1,2,3,4,5,6,7,8,9/1", -EINVAL, "more than"},
		{"redis://h?x=1", -EINVAL, "unknown parameter x"},
		{"redis://h?safe_batch=1&unsafe_batch=1", -EINVAL, "not both"},
		{"redis://h?safe_batch=0&unsafe_batch=1", -EINVAL, "not both"},
		{"redis://h?safe_batch=2", -EINVAL, "safe_batch"},
		{"redis://h?batch_size=0", -EINVAL, "batch_size"},
		{"redis://h?batch_size=-1", -EINVAL, "batch_size"},
		{"redis://h?batch_bytes=1X", -EINVAL, "batch_bytes"},
		{"redis://h?batch_interval=soon", -EINVAL, "batch_interval"},
		{"redis://h?prime=1&prime=1", -EINVAL, "twice"},
		{"redis://h?db=x", -EINVAL, "database"},
		{"redis://h?tls-cert-file=x", -ENOTSUP, "tls-cert-file"},
	};
	struct errmsg e;
	struct rds_url u;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		e.text[0] = 0;
		int rc = rds_url_parse(rows[i].text, &u, &e);
		CHECK_EQ(rc, rows[i].err);
		if (!strstr(e.text, rows[i].says))
			fprintf(stderr, "%s -> %s\n", rows[i].text, e.text);
		CHECK(strstr(e.text, rows[i].says));
		CHECK(!strstr(e.text, "secret") && !strchr(e.text, '\n'));
	}
}

static void parameters(void)
{
	struct errmsg e;
	struct rds_url u;

	CHECK_EQ(rds_url_parse("redis://h/1", &u, &e), 0);
	CHECK(u.mode == RDS_SAFE_BATCH && u.batch_size == 2000 && u.batch_bytes == 1 << 20);
	CHECK(u.batch_interval_ns == 50000000 && u.inode_batch == 1000000 && u.metaprime && !u.prime);
	CHECK_EQ(rds_url_parse("redis://h/1?safe_batch=0&batch_size=500&batch_bytes=2M&batch_interval=10ms&metaprime=0"
			       "&inode_batch=5000&prime=1&route-read=replica&read-timeout=3s&write_timeout=2"
			       "&max-retries=4&min-retry-backoff=1ms&max_retry_backoff=1s&client-cache=true", &u, &e), 0);
	CHECK(u.mode == RDS_SYNC && u.batch_size == 500 && u.batch_bytes == 2 << 20 && u.batch_interval_ns == 10000000);
	CHECK(!u.metaprime && u.inode_batch == 5000 && u.prime && u.read_timeout_ns == 3000000000u);
	CHECK(u.write_timeout_ns == 2000000000u && u.max_retries == 4 && u.min_backoff_ns == 1000000);
	CHECK(u.max_backoff_ns == 1000000000u);
	CHECK(rds_url_parse("redis://h?unsafe_batch=1", &u, &e) == 0 && u.mode == RDS_UNSAFE_BATCH);
	CHECK(rds_url_parse("redis://h?safe_batch=1", &u, &e) == 0 && u.mode == RDS_SAFE_BATCH);
	CHECK(rds_url_parse("redis://h?unsafe_batch=0", &u, &e) == 0 && u.mode == RDS_SAFE_BATCH);
}

static void environment(void)
{
	struct errmsg e;
	struct rds_url u;
	char path[] = "/tmp/jfs-pw-XXXXXX";
	int fd = mkstemp(path);

	REQUIRE(fd >= 0 && write(fd, "from-file\n", 10) == 10);
	close(fd);
	unsetenv("REDIS_PASSWORD");
	unsetenv("META_PASSWORD");
	setenv("META_PASSWORD_FILE", path, 1);
	setenv("SENTINEL_PASSWORD", "sp", 1);
	CHECK(rds_url_parse("m,a/1", &u, &e) == 0 && rds_url_env(&u, &e) == 0);
	CHECK_STR(u.password, "from-file");
	CHECK_STR(u.sentinel_password, "sp");
	setenv("META_PASSWORD", "meta", 1);
	CHECK(rds_url_parse("h/1", &u, &e) == 0 && rds_url_env(&u, &e) == 0);
	CHECK_STR(u.password, "meta");
	setenv("REDIS_PASSWORD", "redis", 1);
	CHECK(rds_url_parse("h/1", &u, &e) == 0 && rds_url_env(&u, &e) == 0);
	CHECK_STR(u.password, "redis");
	CHECK(rds_url_parse(":url@h/1", &u, &e) == 0 && rds_url_env(&u, &e) == 0);
	CHECK_STR(u.password, "url");
	unlink(path);
	unsetenv("REDIS_PASSWORD");
	unsetenv("META_PASSWORD");
	CHECK(rds_url_parse("h/1", &u, &e) == 0 && rds_url_env(&u, &e) == -ENOENT);
	unsetenv("META_PASSWORD_FILE");
	unsetenv("SENTINEL_PASSWORD");
}

static void redaction(void)
{
	static const char *const rows[][2] = {
		{"redis://:secret@h/1", "redis://:****@h/1"},
		{"redis://u:se:cr@et@h/1?a=b", "redis://u:****@h/1?a=b"},
		{"redis://secret@h", "redis://****@h"},
		{"u:secret/with?odd#things@h", "u:****@h"},
		{"redis://h/1", "redis://h/1"},
		{"", ""},
	};
	char s[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rds_url_redact(rows[i][0], s, sizeof(s));
		CHECK_STR(s, rows[i][1]);
		strcpy(s, rows[i][0]);
		rds_url_scrub(s);
		CHECK(strlen(s) == strlen(rows[i][0]) && !strstr(s, "secret"));
	}
}

static void random_text(void)
{
	static const char alphabet[] = "redis://unix:@[]?&=%,/0159 abs_batch";
	uint64_t s = unit_seed();
	struct errmsg e;
	struct rds_url u;
	char text[64], out[128];

	for (int i = 0; i < 20000; i++) {
		size_t n = unit_rand(&s) % sizeof(text);
		for (size_t j = 0; j < n; j++)
			text[j] = alphabet[unit_rand(&s) % (sizeof(alphabet) - 1)];
		text[n < sizeof(text) ? n : n - 1] = 0;
		if (rds_url_parse(text, &u, &e) == 0)
			rds_url_show(&u, out, sizeof(out));
		rds_url_redact(text, out, sizeof(out));
		rds_url_scrub(text);
	}
	CHECK(1);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"addresses", addresses}, {"malformed", malformed},
		{"parameters", parameters}, {"environment", environment}, {"redaction", redaction},
		{"random_text", random_text}, {0}};

	return unit_main(argc, argv, tests);
}
