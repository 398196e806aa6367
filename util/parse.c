#include "util/parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int parse_u64(const char *s, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(s, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*out = v;
	return 0;
}

/* A decimal number with an optional fraction; nothing of strtod's hex, inf and nan. */
static int read_number(const char **s, double *v)
{
	const char *p = *s;
	char text[48];
	size_t n = 0;

	while (isdigit((unsigned char)p[n]) || p[n] == '.')
		n++;
	if (n == 0 || n >= sizeof(text) || p[0] == '.')
		return -EINVAL;
	memcpy(text, p, n);
	text[n] = 0;
	char *end;
	*v = strtod(text, &end);
	if (*end)
		return -EINVAL;
	*s = p + n;
	return 0;
}

int parse_size(const char *s, uint64_t unit, uint64_t *bytes)
{
	static const char letters[] = "KMGTPE";
	double v;

	int rc = read_number(&s, &v);
	if (rc)
		return rc;
	double mult = (double)unit;
	if (*s) {
		const char *l = strchr(letters, toupper((unsigned char)*s));
		if (l && *l) {
			mult = ldexp(1, 10 * (int)(l - letters + 1));
			s++;
			if (strcasecmp(s, "ib") == 0)
				s += 2;
			else if (strcasecmp(s, "b") == 0)
				s++;
		} else if (toupper((unsigned char)*s) == 'B') {
			mult = 1;
			s++;
		}
	}
	if (*s)
		return -EINVAL;
	v *= mult;
	if (v >= 18446744073709551615.0)
		return -ERANGE;
	*bytes = (uint64_t)v;
	return 0;
}

int parse_duration(const char *s, uint64_t *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
	double total = 0;
	bool any = false;

	while (*s) {
		double v, mult = 1e9;
		size_t n = 0;

		if (read_number(&s, &v))
			return -EINVAL;
		while (isalpha((unsigned char)s[n]))
			n++;
		if (n == 0 && (any || *s))
			return -EINVAL;
		if (n > 0) {
			mult = 0;
			for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
				if (strlen(units[i].name) == n && memcmp(units[i].name, s, n) == 0)
					mult = units[i].ns;
			if (mult == 0)
				return -EINVAL;
			s += n;
		}
		total += v * mult;
		any = true;
	}
	if (!any)
		return -EINVAL;
	if (total >= 9.2e18)
		return -ERANGE;
	*ns = (uint64_t)(total + 0.5);
	return 0;
}

int parse_bool(const char *s, bool *out)
{
	static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {"0", "false", "no", "off"};

	for (size_t i = 0; i < 4; i++) {
		if (strcasecmp(s, yes[i]) == 0) {
			*out = true;
			return 0;
		}
		if (strcasecmp(s, no[i]) == 0) {
			*out = false;
			return 0;
		}
	}
	return -EINVAL;
}
