#include "redis/url.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "redis/keys.h"
#include "util/parse.h"

#define SENTINEL_PORT 26379
#define REDIS_PORT    6379

/* A piece of the URL's text. */
struct part {
	const char *p;
	size_t n;
};

static struct part part_of(const char *p, const char *end)
{
	return (struct part){p, (size_t)(end - p)};
}

/* The part of `s` in front of the first byte of `set`, which stays in *s. */
static struct part part_until(struct part *s, const char *set)
{
	size_t n = 0;

	while (n < s->n && !strchr(set, s->p[n]))
		n++;
	struct part head = {s->p, n};
	s->p += n;
	s->n -= n;
	return head;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* Copies with %XX decoded. -EINVAL: malformed escape, an encoded NUL, or too long for `size`. */
static int part_decode(struct part s, char *out, size_t size)
{
	size_t o = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '%') {
			if (i + 2 >= s.n || hex_digit(s.p[i + 1]) < 0 || hex_digit(s.p[i + 2]) < 0)
				return -EINVAL;
			c = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
			i += 2;
		}
		if (c == 0 || o + 1 >= size)
			return -EINVAL;
		out[o++] = c;
	}
	out[o] = 0;
	return 0;
}

static int parse_userinfo(struct part s, struct rds_url *u, struct errmsg *e)
{
	struct part user = part_until(&s, ":");

	if (part_decode(user, u->user, sizeof(u->user)))
		return errmsg_set(e, -EINVAL, "malformed user name in META-URL");
	if (s.n > 0) {
		s.p++;
		s.n--;
	}
	if (part_decode(s, u->password, sizeof(u->password)))
		return errmsg_set(e, -EINVAL, "malformed password in META-URL: a %% must be written as %%25");
	return 0;
}

/* host, host:port, [v6]:port. Port 0 is left for the caller's default. */
static int parse_host(struct part s, struct rds_host *h, struct errmsg *e)
{
	struct part name;
	uint64_t port = 0;
	struct part all = s;

	if (s.n && s.p[0] == '[') {
		const char *close = memchr(s.p, ']', s.n);
		if (!close)
			return errmsg_set(e, -EINVAL, "META-URL: no ] in address %.*s", (int)all.n, all.p);
		name = part_of(s.p + 1, close);
		s = part_of(close + 1, s.p + s.n);
	} else {
		name = part_until(&s, ":");
	}
	if (s.n > 0 && (s.p[0] != ':' || rds_parse_u64(s.p + 1, s.n - 1, &port) || port == 0 || port > 65535))
		return errmsg_set(e, -EINVAL, "META-URL: malformed port in %.*s", (int)all.n, all.p);
	if (name.n == 0 || name.n >= sizeof(h->name))
		return errmsg_set(e, -EINVAL, "META-URL: no host name in \"%.*s\"", (int)all.n, all.p);
	for (size_t i = 0; i < name.n; i++)
		if (isspace((unsigned char)name.p[i]) || iscntrl((unsigned char)name.p[i]))
			return errmsg_set(e, -EINVAL, "META-URL: malformed host name \"%.*s\"", (int)all.n, all.p);
	memcpy(h->name, name.p, name.n);
	h->name[name.n] = 0;
	h->port = (uint16_t)port;
	return 0;
}

static int parse_sentinels(struct part s, struct rds_url *u, struct errmsg *e)
{
	struct part master = part_until(&s, ",");

	if (master.n == 0 || master.n >= sizeof(u->master))
		return errmsg_set(e, -EINVAL, "META-URL: malformed name of Sentinel's master");
	memcpy(u->master, master.p, master.n);
	while (s.n > 0) {
		s.p++;
		s.n--;
		struct part one = part_until(&s, ",");
		if (u->sentinel_count == RDS_SENTINELS_MAX)
			return errmsg_set(e, -EINVAL, "META-URL: more than %d Sentinel addresses", RDS_SENTINELS_MAX);
		int rc = parse_host(one, &u->sentinels[u->sentinel_count++], e);
		if (rc)
			return rc;
	}
	/* the last one's port holds for all that have none */
	uint16_t port = u->sentinels[u->sentinel_count - 1].port;
	for (unsigned i = 0; i < u->sentinel_count; i++)
		if (u->sentinels[i].port == 0)
			u->sentinels[i].port = port ? port : SENTINEL_PORT;
	return 0;
}

static int parse_hosts(struct part s, struct rds_url *u, struct errmsg *e)
{
	const char *comma = memchr(s.p, ',', s.n), *colon = memchr(s.p, ':', s.n);

	if (comma && colon && colon < comma)
		return errmsg_set(e, -ENOTSUP,
			"Redis Cluster is not supported (META-URL lists several addresses): use a standalone Redis or Sentinel");
	if (comma)
		return parse_sentinels(s, u, e);
	int rc = parse_host(s, &u->host, e);
	if (rc == 0 && u->host.port == 0)
		u->host.port = REDIS_PORT;
	return rc;
}

static int parse_db(struct part s, struct rds_url *u, struct errmsg *e)
{
	uint64_t v;

	if (rds_parse_u64(s.p, s.n, &v) || v > 1000000)
		return errmsg_set(e, -EINVAL, "META-URL: database \"%.*s\" is not a number", (int)s.n, s.p);
	u->db = (unsigned)v;
	return 0;
}

enum param_type { P_BOOL, P_COUNT, P_SIZE, P_TIME, P_DB, P_IGNORED };

/* One query parameter; `at` is the offset of its field. Names are compared with '_' and '-' alike, since stock writes
 * its own with '-' and also takes '_'. */
static const struct param {
	const char *name;
	enum param_type type;
	size_t at;
	uint64_t min;
} params[] = {
	{"safe_batch", P_BOOL, 0, 0},
	{"unsafe_batch", P_BOOL, 0, 0},
	{"batch_size", P_COUNT, offsetof(struct rds_url, batch_size), 1},
	{"batch_bytes", P_SIZE, offsetof(struct rds_url, batch_bytes), 4096},
	{"batch_interval", P_TIME, offsetof(struct rds_url, batch_interval_ns), 0},
	{"inode_batch", P_COUNT, offsetof(struct rds_url, inode_batch), 1},
	{"metaprime", P_BOOL, offsetof(struct rds_url, metaprime), 0},
	{"prime", P_BOOL, offsetof(struct rds_url, prime), 0},
	{"db", P_DB, 0, 0},
	{"dial_timeout", P_TIME, offsetof(struct rds_url, connect_timeout_ns), 1000000},
	{"read_timeout", P_TIME, offsetof(struct rds_url, read_timeout_ns), 1000000},
	{"write_timeout", P_TIME, offsetof(struct rds_url, write_timeout_ns), 1000000},
	{"max_retries", P_COUNT, offsetof(struct rds_url, max_retries), 0},
	{"min_retry_backoff", P_TIME, offsetof(struct rds_url, min_backoff_ns), 0},
	{"max_retry_backoff", P_TIME, offsetof(struct rds_url, max_backoff_ns), 0},
	/* stock's, without a meaning here: there is no pool, no replica and no second cache */
	{"route_read", P_IGNORED, 0, 0},
	{"client_cache", P_IGNORED, 0, 0},
	{"client_cache_size", P_IGNORED, 0, 0},
	{"client_cache_expire", P_IGNORED, 0, 0},
	{"client_cache_preload", P_IGNORED, 0, 0},
	{"pool_size", P_IGNORED, 0, 0},
	{"pool_timeout", P_IGNORED, 0, 0},
	{"pool_fifo", P_IGNORED, 0, 0},
	{"min_idle_conns", P_IGNORED, 0, 0},
	{"max_idle_conns", P_IGNORED, 0, 0},
	{"max_active_conns", P_IGNORED, 0, 0},
	{"conn_max_idle_time", P_IGNORED, 0, 0},
	{"conn_max_lifetime", P_IGNORED, 0, 0},
};
#define PARAM_COUNT (sizeof(params) / sizeof(params[0]))
enum { P_SAFE, P_UNSAFE }; /* their places in the table */

static int param_find(const char *name)
{
	for (size_t i = 0; i < PARAM_COUNT; i++) {
		const char *a = params[i].name, *b = name;

		while (*a && (*a == *b || (*a == '_' && *b == '-'))) {
			a++;
			b++;
		}
		if (*a == 0 && *b == 0)
			return (int)i;
	}
	return -1;
}

static int param_set(int index, const char *value, struct rds_url *u, bool *flag, struct errmsg *e)
{
	const struct param *p = &params[index];
	uint64_t v = 0;
	int rc = 0;

	switch (p->type) {
	case P_BOOL:
		rc = parse_bool(value, flag);
		if (rc == 0 && p->at)
			*(bool *)((char *)u + p->at) = *flag;
		break;
	case P_COUNT:
		rc = parse_u64(value, &v);
		break;
	case P_SIZE:
		rc = parse_size(value, 1, &v);
		break;
	case P_TIME:
		rc = parse_duration(value, &v);
		break;
	case P_DB:
		return parse_db((struct part){value, strlen(value)}, u, e);
	case P_IGNORED:
		break;
	}
	if (rc || v < p->min)
		return errmsg_set(e, -EINVAL, "META-URL: bad value \"%s\" of parameter %s", value, p->name);
	if (p->type == P_COUNT || p->type == P_SIZE || p->type == P_TIME)
		*(uint64_t *)((char *)u + p->at) = v;
	return 0;
}

static int parse_query(struct part s, struct rds_url *u, struct errmsg *e)
{
	bool seen[PARAM_COUNT] = {0}, flag[PARAM_COUNT] = {0};

	while (s.n > 0) {
		char name[64], value[512];
		struct part one = part_until(&s, "&");
		if (s.n > 0) {
			s.p++;
			s.n--;
		}
		if (one.n == 0)
			continue;
		struct part left = one;
		struct part key = part_until(&left, "=");
		if (left.n > 0) {
			left.p++;
			left.n--;
		}
		if (part_decode(key, name, sizeof(name)) || part_decode(left, value, sizeof(value)))
			return errmsg_set(e, -EINVAL, "META-URL: malformed parameter %.*s", (int)key.n, key.p);
		int i = param_find(name);
		if (i < 0)
			return errmsg_set(e, strncmp(name, "tls", 3) == 0 ? -ENOTSUP : -EINVAL,
				"META-URL: unknown parameter %s", name);
		if (seen[i])
			return errmsg_set(e, -EINVAL, "META-URL: parameter %s is given twice", name);
		seen[i] = true;
		int rc = param_set(i, value, u, &flag[i], e);
		if (rc)
			return rc;
	}
	if (flag[P_UNSAFE] && seen[P_SAFE])
		return errmsg_set(e, -EINVAL, "META-URL: give safe_batch or unsafe_batch, not both");
	u->mode = flag[P_UNSAFE] ? RDS_UNSAFE_BATCH : seen[P_SAFE] && !flag[P_SAFE] ? RDS_SYNC : RDS_SAFE_BATCH;
	return 0;
}

static int parse_scheme(const char **text, bool *is_unix, struct errmsg *e)
{
	const char *sep = strstr(*text, "://");
	/* a "://" behind the first '/', '?' or '@' belongs to a password or parameter */
	if (!sep || strcspn(*text, "/?@") < (size_t)(sep - *text))
		return 0;
	struct part s = part_of(*text, sep);

	*text = sep + 3;
	if ((s.n == 5 && memcmp(s.p, "redis", 5) == 0) || (s.n == 7 && memcmp(s.p, "rueidis", 7) == 0))
		return 0;
	if (s.n == 4 && memcmp(s.p, "unix", 4) == 0) {
		*is_unix = true;
		return 0;
	}
	if ((s.n == 6 && memcmp(s.p, "rediss", 6) == 0) || (s.n == 8 && memcmp(s.p, "rueidiss", 8) == 0))
		return errmsg_set(e, -ENOTSUP, "%.*s:// (TLS) is not supported: use redis:// through a TLS tunnel", (int)s.n, s.p);
	return errmsg_set(e, -ENOTSUP, "META-URL: %.*s:// is not supported: use redis:// or unix://", (int)s.n, s.p);
}

static void set_defaults(struct rds_url *u)
{
	*u = (struct rds_url){
		.mode = RDS_SAFE_BATCH,
		.batch_size = 2000,
		.batch_bytes = 1u << 20,
		.batch_interval_ns = 50000000,
		.inode_batch = 1000000,
		.metaprime = true,
		.connect_timeout_ns = 5000000000u,
		.read_timeout_ns = 30000000000u,
		.write_timeout_ns = 5000000000u,
		.max_retries = 10,
		.min_backoff_ns = 20000000,
		.max_backoff_ns = 10000000000u,
	};
}

/* The last '@' before the path: an '@' in a password need not be escaped. */
static const char *userinfo_end(struct part authority)
{
	return memrchr(authority.p, '@', authority.n);
}

static int parse_unix(struct part s, struct rds_url *u, struct errmsg *e)
{
	const char *slash = memchr(s.p, '/', s.n);
	const char *at = slash ? userinfo_end(part_of(s.p, slash)) : NULL;

	if (at) {
		int rc = parse_userinfo(part_of(s.p, at), u, e);
		if (rc)
			return rc;
		s = part_of(at + 1, s.p + s.n);
	}
	if (s.n == 0 || s.p[0] != '/')
		return errmsg_set(e, -EINVAL, "META-URL: unix:// needs the absolute path of a socket: unix:///run/redis.sock?db=1");
	if (part_decode(s, u->unix_path, sizeof(u->unix_path)))
		return errmsg_set(e, -EINVAL, "META-URL: the path of the socket is malformed or longer than %zu bytes",
			sizeof(u->unix_path) - 1);
	return 0;
}

static int parse_tcp(struct part s, struct rds_url *u, struct errmsg *e)
{
	struct part authority = part_until(&s, "/");
	const char *at = userinfo_end(authority);
	int rc;

	if (at) {
		rc = parse_userinfo(part_of(authority.p, at), u, e);
		if (rc)
			return rc;
		authority = part_of(at + 1, authority.p + authority.n);
	} else if (s.n && memchr(s.p, '@', s.n)) {
		return errmsg_set(e, -EINVAL, "META-URL: malformed: a / in a password must be written as %%2F");
	}
	if (authority.n == 0)
		return errmsg_set(e, -EINVAL, "META-URL: no host name: use redis://host:6379/1");
	rc = parse_hosts(authority, u, e);
	if (rc == 0 && s.n > 1)
		rc = parse_db(part_of(s.p + 1, s.p + s.n), u, e);
	return rc;
}

int rds_url_parse(const char *text, struct rds_url *u, struct errmsg *e)
{
	bool is_unix = false;

	set_defaults(u);
	if (!*text)
		return errmsg_set(e, -EINVAL, "META-URL is empty: use redis://host:6379/1");
	int rc = parse_scheme(&text, &is_unix, e);
	if (rc)
		return rc;
	struct part s = {text, strlen(text)};
	struct part head = part_until(&s, "?");
	rc = is_unix ? parse_unix(head, u, e) : parse_tcp(head, u, e);
	if (rc)
		return rc;
	if (s.n > 0)
		s = (struct part){s.p + 1, s.n - 1};
	return parse_query(s, u, e);
}

/* The first line of a file. */
static int read_password_file(const char *path, char *out, size_t size, struct errmsg *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errmsg_set(e, -errno, "cannot open META_PASSWORD_FILE %s: %s", path, strerror(errno));
	ssize_t n = read(fd, out, size - 1);
	int err = errno;
	close(fd);
	if (n < 0)
		return errmsg_set(e, -err, "cannot read META_PASSWORD_FILE %s: %s", path, strerror(err));
	out[n] = 0;
	out[strcspn(out, "\r\n")] = 0;
	return 0;
}

int rds_url_env(struct rds_url *u, struct errmsg *e)
{
	static const char *const names[] = {"REDIS_PASSWORD", "META_PASSWORD"};
	const char *v = getenv("SENTINEL_PASSWORD");

	if (v && u->sentinel_count && (size_t)snprintf(u->sentinel_password, sizeof(u->sentinel_password), "%s", v) >=
					      sizeof(u->sentinel_password))
		return errmsg_set(e, -EINVAL, "SENTINEL_PASSWORD is too long");
	for (size_t i = 0; i < 2 && !u->password[0]; i++) {
		v = getenv(names[i]);
		if (v && (size_t)snprintf(u->password, sizeof(u->password), "%s", v) >= sizeof(u->password))
			return errmsg_set(e, -EINVAL, "%s is too long", names[i]);
	}
	v = getenv("META_PASSWORD_FILE");
	if (u->password[0] || !v || !*v)
		return 0;
	return read_password_file(v, u->password, sizeof(u->password), e);
}

void rds_url_show(const struct rds_url *u, char *out, size_t size)
{
	size_t n;

	if (u->unix_path[0]) {
		snprintf(out, size, "unix://%s?db=%u", u->unix_path, u->db);
		return;
	}
	if (!u->master[0]) {
		bool v6 = strchr(u->host.name, ':');
		snprintf(out, size, "redis://%s%s%s:%u/%u", v6 ? "[" : "", u->host.name, v6 ? "]" : "", u->host.port, u->db);
		return;
	}
	n = (size_t)snprintf(out, size, "redis://%s", u->master);
	for (unsigned i = 0; i < u->sentinel_count && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, ",%s:%u", u->sentinels[i].name, u->sentinels[i].port);
	if (n < size)
		snprintf(out + n, size - n, "/%u", u->db);
}

/* Where a password may be: from the first ':' behind the scheme to the last '@'. Without a ':' the user name counts:
 * people write redis://secret@host. */
static bool password_range(const char *text, size_t *from, size_t *to)
{
	const char *sep = strstr(text, "://");
	const char *start = sep ? sep + 3 : text;
	const char *at = strrchr(start, '@');

	if (!at)
		return false;
	const char *colon = memchr(start, ':', (size_t)(at - start));
	*from = (size_t)((colon ? colon + 1 : start) - text);
	*to = (size_t)(at - text);
	return *to > *from;
}

void rds_url_redact(const char *text, char *out, size_t size)
{
	size_t from, to;

	if (password_range(text, &from, &to))
		snprintf(out, size, "%.*s****%s", (int)from, text, text + to);
	else
		snprintf(out, size, "%s", text);
}

void rds_url_scrub(char *text)
{
	size_t from, to;

	if (password_range(text, &from, &to))
		memset(text + from, 'x', to - from);
}
