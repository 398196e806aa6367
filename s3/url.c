/* The rules follow what the stock client makes of each form, except where that is nonsense (an IP address without a
 * bucket) or needs the network (a bare bucket name: stock asks AWS for its region); both are refused with a hint. */
#include "s3/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FORMS "use https://BUCKET.s3.REGION.amazonaws.com or http(s)://HOST[:PORT]/BUCKET"

struct parts {
	bool https;
	char host[256], port[8], bucket[128], query[256]; /* host: lower case; bucket: first component of the path */
};

void url_env_read(struct url_env *env)
{
	env->region = getenv("AWS_REGION");
	if (!env->region || !*env->region)
		env->region = getenv("AWS_DEFAULT_REGION");
	env->minio_region = getenv("MINIO_REGION");
	env->vhost_style = getenv("JFS_S3_VHOST_STYLE") != NULL;
}

bool url_bucket_is_label(const char *b)
{
	size_t n = strlen(b);

	if (n < 3 || n > 63 || b[0] == '-' || b[n - 1] == '-')
		return false;
	for (; *b; b++)
		if (!(*b >= 'a' && *b <= 'z') && !isdigit((unsigned char)*b) && *b != '-')
			return false;
	return true;
}

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), m = strlen(tail);

	return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Copies [p, end) if it fits and holds only visible ASCII. */
static bool take(char *out, size_t size, const char *p, const char *end, bool lower)
{
	size_t n = (size_t)(end - p);

	if (n >= size)
		return false;
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)p[i] <= ' ' || (unsigned char)p[i] >= 127)
			return false;
		out[i] = lower ? (char)tolower((unsigned char)p[i]) : p[i];
	}
	out[n] = 0;
	return true;
}

static bool port_valid(const char *port)
{
	char *end;
	long v = strtol(port, &end, 10);

	return isdigit((unsigned char)*port) && !*end && v > 0 && v < 65536;
}

/* Splits host[:port] at p, where '[v6]' keeps its brackets. */
static bool authority_split(const char *p, const char *end, struct parts *o)
{
	const char *close = *p == '[' ? memchr(p, ']', (size_t)(end - p)) : NULL;
	const char *colon = memchr(close ? close : p, ':', (size_t)(end - (close ? close : p)));

	if (!take(o->host, sizeof(o->host), p, colon ? colon : end, true) || !o->host[0])
		return false;
	if (*p != '[' && strspn(o->host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != strlen(o->host))
		return false;
	return !colon || (take(o->port, sizeof(o->port), colon + 1, end, false) && port_valid(o->port));
}

static int parts_split(const char *text, struct parts *o, struct errmsg *e)
{
	const char *p = strstr(text, "://"), *end, *slash;

	memset(o, 0, sizeof(*o));
	if (!p) {
		const char *stop = text + strcspn(text, "/?");

		o->https = !memchr(text, '.', (size_t)(stop - text)) || strstr(text, ".amazonaws.com");
		p = text;
	} else if (strncasecmp(text, "https://", 8) == 0 || strncasecmp(text, "http://", 7) == 0) {
		o->https = p - text == 5;
		p += 3;
	} else {
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\": the scheme must be http or https", text);
	}
	end = p + strcspn(p, "/?#");
	if (memchr(p, '@', (size_t)(end - p)))
		return errmsg_set(e, -EINVAL, "bucket URL: give the keys as --access-key and --secret-key, not inside the URL");
	if (!authority_split(p, end, o))
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\": malformed host or port; " FORMS, text);
	slash = end;
	while (*slash == '/')
		slash++;
	end = slash + strcspn(slash, "/?#");
	if (!take(o->bucket, sizeof(o->bucket), slash, end, false) || strchr(o->bucket, '%'))
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\": malformed bucket name", text);
	p = strchr(end, '?');
	if (p && !take(o->query, sizeof(o->query), p + 1, p + strcspn(p, "#"), false))
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\": malformed options behind '?'", text);
	return 0;
}

static bool query_get(const char *query, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);

	for (const char *p = query; *p; p += strcspn(p, "&"), p += *p == '&')
		if (strncmp(p, name, n) == 0 && p[n] == '=')
			return take(out, size, p + n + 1, p + strcspn(p, "&"), false);
	return false;
}

static bool is_address(const char *host)
{
	return *host == '[' || strspn(host, "0123456789.") == strlen(host);
}

/* Moves the first label of the host into the bucket. */
static bool bucket_from_host(struct parts *o)
{
	char *dot = strchr(o->host, '.');

	if (!dot || dot == o->host || is_address(o->host) || !take(o->bucket, sizeof(o->bucket), o->host, dot, false))
		return false;
	memmove(o->host, dot + 1, strlen(dot + 1) + 1);
	return true;
}

/* "s3.eu-west-1.amazonaws.com", "s3-us-west-2...", "s3.dualstack.REGION...", "s3.amazonaws.com" -> region */
static void aws_region(const char *endpoint, char *out, size_t size)
{
	const char *p = endpoint;

	if (strncmp(p, "s3.", 3) == 0 || strncmp(p, "s3-", 3) == 0)
		p += 3;
	if (strncmp(p, "dualstack.", 10) == 0)
		p += 10;
	if (strcmp(p, "amazonaws.com") == 0 || strncmp(p, "external-1.", 11) == 0)
		snprintf(out, size, "us-east-1");
	else
		snprintf(out, size, "%.*s", (int)strcspn(p, "."), p);
}

static int aws_resolve(const char *text, struct parts *o, struct s3_url *u, struct errmsg *e)
{
	/* the bucket itself may contain ".s3", so the endpoint begins at the last ".s3." or ".s3-" */
	if (!o->bucket[0]) {
		char *at = NULL;

		for (char *p = o->host; (p = strstr(p, ".s3")); p++)
			if (p[3] == '.' || p[3] == '-')
				at = p;
		if (!at || at == o->host || !take(o->bucket, sizeof(o->bucket), o->host, at, false))
			return errmsg_set(e, -EINVAL, "bucket URL \"%s\" names no bucket; " FORMS, text);
		memmove(o->host, at + 1, strlen(at + 1) + 1);
	}
	aws_region(o->host, u->region, sizeof(u->region));
	u->path_style = !url_bucket_is_label(o->bucket);
	snprintf(o->host, sizeof(o->host), "s3.%s.amazonaws.com%s", u->region,
		strncmp(u->region, "cn-", 3) == 0 ? ".cn" : "");
	return 0;
}

static void vpce_region(const char *host, char *out, size_t size)
{
	const char *tail = strstr(host, ".vpce.amazonaws.com"), *p = tail;

	while (p && p > host && p[-1] != '.')
		p--;
	if (tail)
		snprintf(out, size, "%.*s", (int)(tail - p), p);
}

static int compatible_resolve(const char *storage, const char *text, const struct url_env *env, struct parts *o,
	struct s3_url *u, struct errmsg *e)
{
	const char *region = strcmp(storage, "minio") == 0 ? env->minio_region : env->region;

	if (!o->bucket[0] && (strcmp(storage, "minio") == 0 || !bucket_from_host(o)))
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\" names no bucket; " FORMS, text);
	vpce_region(o->host, u->region, sizeof(u->region));
	if (!u->region[0] && !(strcmp(storage, "minio") == 0 && query_get(o->query, "region", u->region, sizeof(u->region))))
		snprintf(u->region, sizeof(u->region), "%s", region && *region ? region : "us-east-1");
	u->path_style = !env->vhost_style || is_address(o->host) || !url_bucket_is_label(o->bucket);
	return 0;
}

int url_parse(const char *storage, const char *bucket, const struct url_env *env, struct s3_url *out, struct errmsg *e)
{
	struct parts o;
	char flag[8] = "";
	int n, err;

	memset(out, 0, sizeof(*out));
	if (!bucket || !*bucket)
		return errmsg_set(e, -EINVAL, "storage %s needs a bucket URL; " FORMS, storage);
	err = parts_split(bucket, &o, e);
	if (err)
		return err;
	bool aws = strcmp(storage, "minio") != 0 && (ends_with(o.host, ".amazonaws.com") ||
		ends_with(o.host, ".amazonaws.com.cn")) && !strstr(o.host, ".vpce.");
	err = aws ? aws_resolve(bucket, &o, out, e) : compatible_resolve(storage, bucket, env, &o, out, e);
	if (err)
		return err;
	if (strlen(o.bucket) < 3)
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\": bucket name \"%s\" is too short", bucket, o.bucket);
	out->https = o.https;
	out->no_checksum = strcmp(storage, "s3") == 0 &&
		query_get(o.query, "disable-checksum", flag, sizeof(flag)) && strcasecmp(flag, "true") == 0;
	snprintf(out->bucket, sizeof(out->bucket), "%s", o.bucket);
	bool default_port = !o.port[0] || atoi(o.port) == (o.https ? 443 : 80);
	n = snprintf(out->host, sizeof(out->host), "%s%s%s%s%s", out->path_style ? "" : o.bucket,
		out->path_style ? "" : ".", o.host, default_port ? "" : ":", default_port ? "" : o.port);
	if (n < 0 || (size_t)n >= sizeof(out->host))
		return errmsg_set(e, -EINVAL, "bucket URL \"%s\": the host name is too long", bucket);
	return 0;
}
