#include "tests/unit/unit.h"

#include <errno.h>

#include "daemon/options.h"
#include "daemon/storage.h"
#include "util/buf.h"

struct values {
	bool flag, other;
	char *text, *key;
	uint64_t number, size, time;
	double ratio;
	char extra[256];
};

#define AT(m) offsetof(struct values, m)
static const struct opt table[] = {
	{"flag", 'f', OPT_FLAG, AT(flag), 0, false, NULL, "a flag"},
	{"other-flag", 'g', OPT_FLAG, AT(other), 0, false, NULL, "another"},
	{"text", 't', OPT_STRING, AT(text), 0, false, "TEXT", "a text"},
	{"secret-key", 0, OPT_STRING, AT(key), 0, true, "KEY", "a secret"},
	{"number", 'n', OPT_U64, AT(number), 0, false, "N", "a number"},
	{"size", 0, OPT_SIZE, AT(size), 1 << 20, false, "SIZE", "a size"},
	{"delay", 0, OPT_TIME, AT(time), 0, false, "TIME", "a time"},
	{"ratio", 0, OPT_DOUBLE, AT(ratio), 0, false, "R", "a ratio"},
	{"", 'o', OPT_O, 0, 0, false, "OPTIONS", "as mount(8) gives them"},
	{"old", 0, OPT_IGNORED, 0, 0, false, NULL, NULL},
	{0},
};

static int o_other(void *base, const char *key, const char *value, struct errmsg *e)
{
	struct values *v = base;
	size_t n = strlen(v->extra);

	if (strcmp(key, "bad") == 0)
		return errmsg_set(e, -EINVAL, "unknown option -o bad");
	snprintf(v->extra + n, sizeof(v->extra) - n, "%s%s%s;", key, value ? "=" : "", value ? value : "");
	return 0;
}

static const struct options_spec spec = {
	.usage = "jfs test [OPTIONS] A [B]", .summary = "-", .opts = table, .args_min = 1, .args_max = 2, .o_other = o_other};

/* Parses a command line of words separated by blanks; what argv looks like afterwards goes to `seen`. */
static int parse(const char *line, struct values *v, struct options_result *res, struct errmsg *e, char *seen, size_t size)
{
	char copy[512], *argv[32], *save = NULL;
	int argc = 0;

	snprintf(copy, sizeof(copy), "test %s", line);
	for (char *w = strtok_r(copy, " ", &save); w && argc < 32; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	memset(v, 0, sizeof(*v));
	e->text[0] = 0;
	int rc = options_parse(&spec, v, res, argc, argv, e);
	seen[0] = 0;
	for (int i = 0; i < argc; i++) {
		size_t n = strlen(seen);
		snprintf(seen + n, size - n, "%s%s", i ? " " : "", argv[i]);
	}
	return rc;
}

static void good(void)
{
	struct values v;
	struct options_result r;
	struct errmsg e;
	char seen[512];

	CHECK_EQ(parse("a -f --text=x --number 7 --size 4 b --delay=1h30m --ratio 0.25", &v, &r, &e, seen, sizeof(seen)), 0);
	CHECK(v.flag && !v.other && v.number == 7 && v.size == 4 << 20 && v.time == 5400ull * 1000000000u && v.ratio == 0.25);
	CHECK_STR(v.text, "x");
	CHECK(r.arg_count == 2 && strcmp(r.args[0], "a") == 0 && strcmp(r.args[1], "b") == 0);
	CHECK(options_given(&spec, &r, "text") && !options_given(&spec, &r, "other-flag"));
	options_free(&spec, &v, &r);
	CHECK_EQ(parse("-fgtx -n5 --flag=no --other_flag=1 a -- --b", &v, &r, &e, seen, sizeof(seen)), 0);
	CHECK(!v.flag && v.other && v.number == 5);
	CHECK_STR(v.text, "x");
	CHECK_STR(r.args[1], "--b");
	options_free(&spec, &v, &r);
	CHECK_EQ(parse("a -o rw,text=y,number=3,_netdev,uid=4 -o flag --old 5", &v, &r, &e, seen, sizeof(seen)), 0);
	CHECK_STR(v.extra, "rw;_netdev;uid=4;");
	CHECK(v.flag && v.number == 3);
	CHECK_STR(v.text, "y");
	options_free(&spec, &v, &r);
	CHECK(parse("--help", &v, &r, &e, seen, sizeof(seen)) == 0 && r.help);
	options_free(&spec, &v, &r);
	CHECK(parse("a -h", &v, &r, &e, seen, sizeof(seen)) == 0 && r.help);
	options_free(&spec, &v, &r);
}

static void bad(void)
{
	static const char *const rows[][2] = {
		{"", "too few"},
		{"a b c", "unexpected argument \"c\""},
		{"a b redis://:pw@h/1", "redis://:****@h/1"},
		{"a --nosuch", "--nosuch"},
		{"a --nosuch=1", "unknown option --nosuch"},
		{"a -z", "-z"},
		{"a --text", "--text needs a value"},
		{"a -t", "-t needs a value"},
		{"a --number x", "--number"},
		{"a --number=-1", "--number"},
		{"a --number=99999999999999999999", "too large"},
		{"a --size 1X", "--size"},
		{"a --delay soon", "--delay"},
		{"a --ratio -1", "--ratio"},
		{"a --flag=maybe", "--flag"},
		{"a -o bad", "bad"},
		{"a -o text", "text needs a value"},
	};
	struct values v;
	struct options_result r;
	struct errmsg e;
	char seen[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_EQ(parse(rows[i][0], &v, &r, &e, seen, sizeof(seen)), -EINVAL);
		if (!strstr(e.text, rows[i][1]))
			fprintf(stderr, "%s -> %s\n", rows[i][0], e.text);
		CHECK(strstr(e.text, rows[i][1]) && !strchr(e.text, '\n'));
		options_free(&spec, &v, &r);
	}
}

/* Nothing secret stays in argv, also behind an error. */
static void scrubbing(void)
{
	static const char *const rows[] = {
		"--secret-key=s3cr3t a",
		"--secret-key s3cr3t a",
		"--nosuch --secret-key s3cr3t a",
		"--number x --secret-key=s3cr3t a",
		"redis://:s3cr3t@h/1",
		"redis://u:s3cr3t@h/1 b",
		"unix://:s3cr3t@/run/x b c d",
		":s3cr3t@h/1",
		"a -o text=1,secret-key=s3cr3t,flag",
		"a -o secret_key=s3cr3t",
	};
	struct values v;
	struct options_result r;
	struct errmsg e;
	char seen[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		parse(rows[i], &v, &r, &e, seen, sizeof(seen));
		CHECK(!strstr(seen, "s3cr3t") && !strstr(e.text, "s3cr3t"));
		if (strstr(seen, "s3cr3t"))
			fprintf(stderr, "%s -> %s\n", rows[i], seen);
		options_free(&spec, &v, &r);
	}
	CHECK_EQ(parse("--secret-key=s3cr3t redis://:pw@h/1", &v, &r, &e, seen, sizeof(seen)), 0);
	CHECK_STR(v.key, "s3cr3t");
	CHECK_STR(r.args[0], "redis://:pw@h/1");
	options_free(&spec, &v, &r);
}

static void file_buckets(void)
{
	static const char *const rows[][2] = {
		{"/srv/jfs", "/srv/jfs/"}, {"/srv//jfs/", "/srv/jfs/"}, {"/srv/./a/../b", "/srv/b/"}, {"/", "/"}, {"/..", "/"},
		{"/s%d", "/s%d/"}, {"/...", "/.../"},
	};
	char *s;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s = storage_file_bucket(rows[i][0]);
		CHECK_STR(s ? s : "", rows[i][1]);
		free(s);
	}
	s = storage_file_bucket("x/y");
	CHECK(s && s[0] == '/' && strlen(s) > 5 && strcmp(s + strlen(s) - 5, "/x/y/") == 0);
	free(s);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{"good", good}, {"bad", bad}, {"scrubbing", scrubbing}, {"file_buckets", file_buckets}, {0}};

	return unit_main(argc, argv, tests);
}
