#include "daemon/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/url.h"
#include "util/parse.h"

static void *opt_ptr(void *base, const struct opt *o)
{
	return (char *)base + o->at;
}

/* Same name, '_' counting as '-'; `len` bytes of `name`. */
static bool name_equal(const char *opt, const char *name, size_t len)
{
	if (strlen(opt) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (opt[i] != name[i] && !(opt[i] == '-' && name[i] == '_'))
			return false;
	return true;
}

static int find_name(const struct options_spec *spec, const char *name, size_t len)
{
	for (int i = 0; spec->opts[i].name; i++)
		if (name_equal(spec->opts[i].name, name, len))
			return i;
	return -1;
}

static int find_letter(const struct options_spec *spec, char letter)
{
	for (int i = 0; spec->opts[i].name; i++)
		if (spec->opts[i].letter == letter)
			return i;
	return -1;
}

static bool takes_value(const struct opt *o)
{
	return o->type != OPT_FLAG && o->type != OPT_IGNORED_FLAG;
}

static void wipe(char *s)
{
	if (s)
		memset(s, 'x', strlen(s));
}

/* For heap memory, where a compiler may drop a plain memset. */
static void wipe_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static int set_string(char **field, const char *value, struct errmsg *e)
{
	char *copy = strdup(value);

	if (!copy)
		return errmsg_set(e, -ENOMEM, "no memory");
	wipe_free(*field);
	*field = copy;
	return 0;
}

static int parse_double(const char *s, double *out)
{
	char *end;

	if (!*s || strspn(s, "0123456789.") != strlen(s))
		return -EINVAL;
	*out = strtod(s, &end);
	return *end ? -EINVAL : 0;
}

static int parse_list(const struct options_spec *spec, void *base, struct options_result *res, char *list,
	struct errmsg *e);

/* `value` is NULL for a flag without one. */
static int set_value(const struct options_spec *spec, void *base, struct options_result *res, int i, char *value,
	struct errmsg *e)
{
	const struct opt *o = &spec->opts[i];
	void *p = opt_ptr(base, o);
	int rc = 0;

	res->given[i] = true;
	switch (o->type) {
	case OPT_FLAG:
		*(bool *)p = true;
		if (value)
			rc = parse_bool(value, p);
		break;
	case OPT_STRING:
		return set_string(p, value, e);
	case OPT_U64:
		rc = parse_u64(value, p);
		break;
	case OPT_SIZE:
		rc = parse_size(value, o->unit ? o->unit : 1, p);
		break;
	case OPT_TIME:
		rc = parse_duration(value, p);
		break;
	case OPT_DOUBLE:
		rc = parse_double(value, p);
		break;
	case OPT_O:
		return parse_list(spec, base, res, value, e);
	case OPT_IGNORED:
	case OPT_IGNORED_FLAG:
		break;
	}
	if (rc == -ERANGE)
		return errmsg_set(e, -EINVAL, "value of --%s is too large: %s", o->name, value);
	if (rc)
		return errmsg_set(e, -EINVAL, "bad value of --%s: \"%s\"", o->name, o->secret ? "..." : value);
	return 0;
}

/* One item of -o: "key" or "key=value". */
static int parse_item(const struct options_spec *spec, void *base, struct options_result *res, char *item,
	struct errmsg *e)
{
	char *eq = strchr(item, '=');
	size_t n = eq ? (size_t)(eq - item) : strlen(item);
	int i = find_name(spec, item, n);

	if (eq)
		*eq = 0;
	if (i < 0 || spec->opts[i].type == OPT_O) {
		if (spec->o_other)
			return spec->o_other(base, item, eq ? eq + 1 : NULL, e);
		return errmsg_set(e, -EINVAL, "unknown option -o %s", item);
	}
	if (takes_value(&spec->opts[i]) && !eq)
		return errmsg_set(e, -EINVAL, "option -o %s needs a value", item);
	return set_value(spec, base, res, i, eq ? eq + 1 : NULL, e);
}

static int parse_list(const struct options_spec *spec, void *base, struct options_result *res, char *list, struct errmsg *e)
{
	char *copy = strdup(list), *rest = copy;
	int rc = 0;

	if (!copy)
		return errmsg_set(e, -ENOMEM, "no memory");
	while (rest) {
		char *item = strsep(&rest, ",");
		int i = find_name(spec, item, strcspn(item, "="));
		size_t at = (size_t)(item - copy), len = strlen(item);
		if (i >= 0 && spec->opts[i].secret)
			memset(list + at, 'x', len);
		if (rc == 0 && *item)
			rc = parse_item(spec, base, res, item, e);
	}
	wipe_free(copy);
	return rc;
}

static int parse_long(const struct options_spec *spec, void *base, struct options_result *res, int argc, char **argv,
	int *at, struct errmsg *e)
{
	char *arg = argv[*at], *name = arg + 2, *eq = strchr(name, '=');
	size_t n = eq ? (size_t)(eq - name) : strlen(name);

	if (n == 4 && memcmp(name, "help", 4) == 0) {
		res->help = true;
		return 0;
	}
	int i = find_name(spec, name, n);
	if (i < 0)
		return errmsg_set(e, -EINVAL, "unknown option --%.*s", (int)n, name);
	char *value = eq ? eq + 1 : NULL;
	if (takes_value(&spec->opts[i]) && !value) {
		if (*at + 1 >= argc)
			return errmsg_set(e, -EINVAL, "option --%s needs a value", spec->opts[i].name);
		value = argv[++*at];
	}
	int rc = set_value(spec, base, res, i, value, e);
	if (spec->opts[i].secret)
		wipe(value);
	return rc;
}

/* A bundle of letters; the first that takes a value takes the rest, or the next argument. */
static int parse_short(const struct options_spec *spec, void *base, struct options_result *res, int argc, char **argv,
	int *at, struct errmsg *e)
{
	for (char *p = argv[*at] + 1; *p; p++) {
		int i = find_letter(spec, *p);
		char *value = NULL;

		if (i < 0 && *p == 'h') {
			res->help = true;
			return 0;
		}
		if (i < 0)
			return errmsg_set(e, -EINVAL, "unknown option -%c", *p);
		if (takes_value(&spec->opts[i])) {
			value = p[1] ? p + 1 : *at + 1 < argc ? argv[++*at] : NULL;
			if (!value)
				return errmsg_set(e, -EINVAL, "option -%c needs a value", *p);
		}
		int rc = set_value(spec, base, res, i, value, e);
		if (spec->opts[i].secret)
			wipe(value);
		if (rc || value)
			return rc;
	}
	return 0;
}

static int take_argument(const struct options_spec *spec, struct options_result *res, char *arg, struct errmsg *e)
{
	if (res->arg_count >= spec->args_max || res->arg_count >= OPTIONS_ARGS_MAX) {
		char shown[256];
		rds_url_redact(arg, shown, sizeof(shown));
		return errmsg_set(e, -EINVAL, "unexpected argument \"%s\"", shown);
	}
	int rc = set_string(&res->args[res->arg_count], arg, e);
	if (rc)
		return rc;
	res->arg_count++;
	if (arg[0] != '/') /* a path may hold an '@' */
		rds_url_scrub(arg);
	return 0;
}

int options_parse(const struct options_spec *spec, void *base, struct options_result *res, int argc, char **argv,
	struct errmsg *e)
{
	bool only_args = false;
	int rc = 0;

	memset(res, 0, sizeof(*res));
	/* goes on after an error, so that the secrets behind it are wiped too */
	for (int i = 1; i < argc; i++) {
		struct errmsg later;
		struct errmsg *m = rc ? &later : e;
		int r;

		if (!only_args && strcmp(argv[i], "--") == 0) {
			only_args = true;
			continue;
		}
		if (!only_args && argv[i][0] == '-' && argv[i][1] == '-')
			r = parse_long(spec, base, res, argc, argv, &i, m);
		else if (!only_args && argv[i][0] == '-' && argv[i][1])
			r = parse_short(spec, base, res, argc, argv, &i, m);
		else
			r = take_argument(spec, res, argv[i], m);
		if (rc == 0)
			rc = r;
	}
	if (rc == 0 && !res->help && res->arg_count < spec->args_min)
		rc = errmsg_set(e, -EINVAL, "too few arguments; usage: %s", spec->usage);
	return rc;
}

bool options_given(const struct options_spec *spec, const struct options_result *res, const char *name)
{
	int i = find_name(spec, name, strlen(name));

	return i >= 0 && res->given[i];
}

static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool value_equal(const struct opt *o, const void *a, const void *b)
{
	const char *x = (const char *)a + o->at, *y = (const char *)b + o->at;

	switch (o->type) {
	case OPT_FLAG:
		return *(const bool *)x == *(const bool *)y;
	case OPT_STRING:
		return text_equal(*(char *const *)x, *(char *const *)y);
	case OPT_U64:
	case OPT_SIZE:
	case OPT_TIME:
		return *(const uint64_t *)x == *(const uint64_t *)y;
	case OPT_DOUBLE:
		return memcmp(x, y, sizeof(double)) == 0;
	case OPT_O:
	case OPT_IGNORED:
	case OPT_IGNORED_FLAG:
		break;
	}
	return true;
}

const char *options_changed(const struct options_spec *spec, const void *asked, const struct options_result *res, const void *other)
{
	for (int i = 0; spec->opts[i].name; i++)
		if (res->given[i] && !value_equal(&spec->opts[i], asked, other))
			return spec->opts[i].name;
	return NULL;
}

void options_help(const struct options_spec *spec)
{
	printf("usage: %s\n\n%s\n\noptions:\n", spec->usage, spec->summary);
	for (const struct opt *o = spec->opts; o->name; o++) {
		char head[64], letter[8] = "    ";

		if (!o->help)
			continue;
		if (o->letter)
			snprintf(letter, sizeof(letter), "-%c, ", o->letter);
		snprintf(head, sizeof(head), "%s--%s%s%s", letter, o->name, o->value ? "=" : "", o->value ? o->value : "");
		if (o->type == OPT_O)
			snprintf(head, sizeof(head), "-o %s", o->value ? o->value : "OPTIONS");
		printf(strlen(head) > 30 ? "  %s\n                                  %s\n" : "  %-30s  %s\n", head, o->help);
	}
	printf("  -h, --help                      show this text\n");
}

void options_free(const struct options_spec *spec, void *base, struct options_result *res)
{
	for (unsigned i = 0; i < res->arg_count; i++)
		wipe_free(res->args[i]);
	res->arg_count = 0;
	for (const struct opt *o = spec->opts; o->name; o++) {
		if (o->type != OPT_STRING)
			continue;
		char **p = opt_ptr(base, o);
		wipe_free(*p);
		*p = NULL;
	}
}

int options_usage_error(const struct options_spec *spec, const struct errmsg *e)
{
	const char *words = spec->usage;
	const char *end = strchr(words, ' ');

	end = end ? strchrnul(end + 1, ' ') : words + strlen(words);
	fprintf(stderr, "%.*s: %s\n", (int)(end - words), words, e->text);
	return 2;
}
