#include "tests/unit/unit.h"

#include <errno.h>

#include "redis/setting.h"

#define BASE                                                                                                          \
	"\"Name\":\"vol\",\"UUID\":\"01234567-89ab-4cde-8f01-23456789abcd\",\"Storage\":\"file\",\"Bucket\":\"/b/\","      \
	"\"BlockSize\":4096"

static int parse(const char *text, struct rds_setting *s, struct errmsg *e)
{
	e->text[0] = 0;
	return rds_setting_parse(text, strlen(text), s, e);
}

static void spec_example(void)
{
	static const char want[] =
		"{\n\"Name\": \"myjfs\",\n\"UUID\": \"01234567-89ab-4cde-8f01-23456789abcd\",\n\"Storage\": \"file\",\n"
		"\"Tiers\": {\n\"0\": {\n\"ID\": 0,\n\"StorageClass\": \"\",\n\"Tag\": \"\"\n}\n},\n\"Bucket\": \"/var/jfs/\",\n"
		"\"BlockSize\": 4096,\n\"Compression\": \"none\",\n\"EncryptAlgo\": \"aes256gcm-rsa\",\n\"TrashDays\": 1,\n"
		"\"MetaVersion\": 1,\n\"MinClientVersion\": \"1.1.0-A\",\n\"DirStats\": true,\n\"EnableACL\": false\n}";
	struct rds_setting s;
	struct errmsg e;
	struct buf b;

	buf_init(&b, 0);
	REQUIRE(rds_setting_init(&s) == 0);
	REQUIRE(rds_setting_set(&s.name, "myjfs") == 0 && rds_setting_set(&s.bucket, "/var/jfs/") == 0);
	REQUIRE(rds_setting_set(&s.uuid, "01234567-89ab-4cde-8f01-23456789abcd") == 0);
	rds_setting_write(&s, false, &b);
	CHECK_STR(buf_cstr(&b), want);
	CHECK_EQ(rds_setting_check(&s, &e), 0);
	buf_fini(&b);
	rds_setting_fini(&s);
}

/* What stock wrote is read and written again byte for byte, and judged. */
static void golden(void)
{
	static const struct {
		const char *name;
		int err;
		const char *says;
	} rows[] = {
		{"empty", 0, ""},
		{"empty-limits", 0, ""},
		{"layout-4m", 0, ""},
		{"layout-hash", 0, ""},
		{"layout-shards", 0, ""},
		{"ugquota", 0, ""},
		{"acl", 0, ""},
		{"refuse-changelog", -ENOTSUP, "ChangeLog"},
		{"refuse-compression", -ENOTSUP, "brotli"},
		{"refuse-encrypted", -ENOTSUP, "EncryptKey"},
		{"refuse-metaversion", -ENOTSUP, "metadata format 2"},
		{"refuse-minversion", -ENOTSUP, "9.0.0"},
		{"refuse-storage", -ENOTSUP, "nosuch"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char path[128], text[8192];
		struct rds_setting s, t;
		struct errmsg e = {""};
		struct buf b;

		snprintf(path, sizeof(path), "tests/golden/setting/%s.json", rows[i].name);
		FILE *f = fopen(path, "r");
		REQUIRE(f);
		size_t n = fread(text, 1, sizeof(text) - 1, f);
		text[n] = 0;
		fclose(f);
		REQUIRE(rds_setting_parse(text, n, &s, &e) == 0);
		REQUIRE(rds_setting_copy(&t, &s) == 0);
		buf_init(&b, 0);
		rds_setting_write(&t, false, &b);
		CHECK_STR(buf_cstr(&b), text);
		CHECK_EQ(rds_setting_check(&s, &e), rows[i].err);
		CHECK(strstr(e.text, rows[i].says) && !strchr(e.text, '\n'));
		rds_setting_fini(&s);
		rds_setting_fini(&t);
		buf_fini(&b);
	}
}

static void like_go(void)
{
	struct rds_setting s;
	struct errmsg e;
	struct buf b;

	buf_init(&b, 0);
	/* names without regard to case, null, unknown fields, escapes */
	REQUIRE(parse("{" BASE ",\"trashdays\":3,\"KERBCONF\":null,\"Tiers\":null,\"Later\":{\"a\":[1,2.5,{}],\"b\":null},"
		      "\"StorageClass\":\"a\\u003cb\\u0026\\\"\\u0001\\u2028\\u00e9\"}", &s, &e) == 0);
	CHECK_EQ(s.trash_days, 3);
	CHECK_STR(s.storage_class, "a<b&\"\001\xe2\x80\xa8\xc3\xa9");
	CHECK_STR(s.kerb_conf, "");
	rds_setting_write(&s, false, &b);
	CHECK(strstr(buf_cstr(&b), "\"StorageClass\": \"a\\u003cb\\u0026\\\"\\u0001\\u2028\xc3\xa9\""));
	CHECK(strstr(buf_cstr(&b), "\"EnableACL\": false,\n\"Later\": {\n\"a\": [\n1,\n2.5,\n{}\n],\n\"b\": null\n}\n}"));
	CHECK(!strstr(buf_cstr(&b), "trashdays") && strstr(buf_cstr(&b), "\"TrashDays\": 3"));
	rds_setting_fini(&s);
	buf_fini(&b);
}

static void malformed(void)
{
	static const char *const rows[][2] = {
		{"", "not JSON"},
		{"{", "not JSON"},
		{"[]", "not a JSON object"},
		{"{" BASE "} x", "not JSON"},
		{"{" BASE ",\"TrashDays\":\"1\"}", "TrashDays"},
		{"{" BASE ",\"TrashDays\":1.5}", "TrashDays"},
		{"{" BASE ",\"DirStats\":1}", "DirStats"},
		{"{" BASE ",\"Capacity\":-1}", "Capacity"},
		{"{" BASE ",\"AccessKey\":7}", "AccessKey"},
		{"{" BASE ",\"Tiers\":[]}", "Tiers"},
		{"{\"UUID\":\"u\",\"Storage\":\"file\",\"Bucket\":\"/b/\",\"BlockSize\":64}", "Name is missing"},
		{"{\"Name\":\"n\",\"Storage\":\"file\",\"Bucket\":\"/b/\",\"BlockSize\":64}", "UUID is missing"},
		{"{\"Name\":\"n\",\"UUID\":\"u\",\"Bucket\":\"/b/\",\"BlockSize\":64}", "Storage is missing"},
		{"{\"Name\":\"n\",\"UUID\":\"u\",\"Storage\":\"file\",\"BlockSize\":64}", "Bucket is missing"},
		{"{\"Name\":\"n\",\"UUID\":\"u\",\"Storage\":\"file\",\"Bucket\":\"/b/\"}", "BlockSize is missing"},
	};
	struct rds_setting s;
	struct errmsg e;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_EQ(parse(rows[i][0], &s, &e), -EUCLEAN);
		CHECK(strstr(e.text, rows[i][1]) && !strchr(e.text, '\n'));
		rds_setting_fini(&s);
	}
}

static void unsupported(void)
{
	static const struct {
		const char *extra;
		int err;
		const char *says;
	} rows[] = {
		{"", 0, ""},
		{",\"MaxClientVersion\":\"1.4.1\"", 0, ""},
		{",\"MaxClientVersion\":\"1.4.0\"", -ENOTSUP, "or older"},
		{",\"MinClientVersion\":\"1.4.1-beta\"", 0, ""},
		{",\"MinClientVersion\":\"1.4.2-A\"", -ENOTSUP, "or newer"},
		{",\"MinClientVersion\":\"soon\"", -ENOTSUP, "soon"},
		{",\"BlockSize\":63", -EUCLEAN, "block size"},
		{",\"BlockSize\":96", -EUCLEAN, "block size"},
		{",\"BlockSize\":32768", -EUCLEAN, "block size"},
		{",\"BlockSize\":-64", -EUCLEAN, "block size"},
		{",\"Storage\":\"MINIO\"", 0, ""},
		{",\"Storage\":\"gs\"", -ENOTSUP, "gs"},
		{",\"Compression\":\"LZ4\"", 0, ""},
		{",\"Shards\":257", -EUCLEAN, "shards"},
		{",\"TrashDays\":-1", -EUCLEAN, "TrashDays"},
		{",\"Name\":\"../x\"", -EUCLEAN, "Name"},
		{",\"UUID\":\"../x\"", -EUCLEAN, "UUID"},
		{",\"ChangeLog\":true", -ENOTSUP, "ChangeLog"},
	};
	struct rds_setting s;
	struct errmsg e;
	char text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), "{" BASE "%s}", rows[i].extra);
		REQUIRE(parse(text, &s, &e) == 0);
		CHECK_EQ(rds_setting_check(&s, &e), rows[i].err);
		CHECK(strstr(e.text, rows[i].says));
		rds_setting_fini(&s);
	}
}

static void versions(void)
{
	static const struct {
		const char *a, *b;
		int want;
	} rows[] = {
		{"1.4.1", "1.4.1", 0}, {"1.4.1+2026-07-30.0b90c7d", "1.4.1", 0}, {"1.4.1", "1.1.0-A", 1}, {"1.4", "1.4.0", 0},
		{"1.4.0-A", "1.4.0", -1}, {"1.4.0-A", "1.4.0-B", -1}, {"1.4.0-AB", "1.4.0-A", 1}, {"1.10", "1.9.9", 1},
		{"2", "1.9", 1}, {"1.2.3.4", "1", -EINVAL}, {"", "1", -EINVAL}, {"1.x", "1", -EINVAL}, {"1.", "1", -EINVAL},
		{"1", "v1", -EINVAL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_EQ(rds_version_compare(rows[i].a, rows[i].b), rows[i].want);
}

static void secrets(void)
{
	static const char uuid[] = "01234567-89ab-4cde-8f01-23456789abcd";
	static const char stored[] = "AAECAwQFBgcICQoLyWaSmh6DBQMi5ZY3M0I0urfCd7K/b6qT";
	uint8_t nonce[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
	struct rds_setting s;
	struct errmsg e;
	struct buf b;
	char *t = NULL;

	CHECK_EQ(rds_secret_seal(uuid, "mysecret", nonce, &t), 0);
	CHECK_STR(t ? t : "", stored);
	free(t);
	t = NULL;
	CHECK_EQ(rds_secret_open(uuid, stored, &t), 0);
	CHECK_STR(t ? t : "", "mysecret");
	free(t);
	CHECK_EQ(rds_secret_open("11234567-89ab-4cde-8f01-23456789abcd", stored, &t), -EBADMSG);
	CHECK_EQ(rds_secret_open(uuid, "AAECAwQFBgcICQoLyWaSmh6DBQMi5ZY3M0I0urfCd7K/b6qX", &t), -EBADMSG);
	CHECK_EQ(rds_secret_open(uuid, "AAEC", &t), -EBADMSG);
	CHECK_EQ(rds_secret_open(uuid, "?", &t), -EBADMSG);
	CHECK_EQ(rds_secret_open(uuid, "", &t), -EBADMSG);

	REQUIRE(parse("{" BASE ",\"AccessKey\":\"ak\",\"SecretKey\":\"s3cr3t\",\"SessionToken\":\"t0k3n\"}", &s, &e) == 0);
	CHECK(rds_setting_encrypt(&s, &e) == 0 && s.key_encrypted);
	CHECK(strcmp(s.secret_key, "s3cr3t") != 0 && strlen(s.session_token) == 44);
	buf_init(&b, 0);
	rds_setting_write(&s, true, &b);
	CHECK(strstr(buf_cstr(&b), "\"SecretKey\": \"removed\"") && strstr(buf_cstr(&b), "\"AccessKey\": \"ak\""));
	CHECK(!strstr(buf_cstr(&b), s.secret_key));
	buf_fini(&b);
	CHECK(rds_setting_decrypt(&s, &e) == 0 && !s.key_encrypted);
	CHECK_STR(s.secret_key, "s3cr3t");
	CHECK_STR(s.session_token, "t0k3n");
	s.key_encrypted = true; /* but the text is plain */
	CHECK_EQ(rds_setting_decrypt(&s, &e), -EBADMSG);
	REQUIRE(rds_setting_set(&s.secret_key, "removed") == 0);
	CHECK_EQ(rds_setting_decrypt(&s, &e), -ENOKEY);
	rds_setting_fini(&s);
}

static void names(void)
{
	char u[37], v[37];

	CHECK(rds_volume_name_valid("abc") && rds_volume_name_valid("a-1") && rds_volume_name_valid("0-0"));
	CHECK(!rds_volume_name_valid("ab") && !rds_volume_name_valid("-bc") && !rds_volume_name_valid("ab-"));
	CHECK(!rds_volume_name_valid("aBc") && !rds_volume_name_valid("a/c") && !rds_volume_name_valid("a_c"));
	CHECK(!rds_volume_name_valid("a234567890123456789012345678901234567890123456789012345678901234"));
	CHECK(rds_uuid_make(u) == 0 && rds_uuid_make(v) == 0 && strcmp(u, v) != 0);
	CHECK(strlen(u) == 36 && u[14] == '4' && strchr("89ab", u[19]) && u[8] == '-' && u[23] == '-');
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"spec_example", spec_example}, {"golden", golden}, {"like_go", like_go},
		{"malformed", malformed}, {"unsupported", unsupported}, {"versions", versions}, {"secrets", secrets},
		{"names", names}, {0}};

	return unit_main(argc, argv, tests);
}
