/* S3's XML is flat and regular (no attributes that matter, no CDATA, no comments inside elements), so elements are
 * found by name; whatever does not fit is -EBADMSG or an empty text, never a crash. */
#include "s3/answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "util/parse.h"

enum { KEY_SIZE = 4096 };

struct span {
	const char *p, *end;
};

/* The content of the next <name>...</name> in `in`, which is moved behind it. */
static bool element_next(struct span *in, const char *name, struct span *content)
{
	char open[40], close[40];
	int n = snprintf(open, sizeof(open), "<%s>", name), m = snprintf(close, sizeof(close), "</%s>", name);
	const char *at = memmem(in->p, (size_t)(in->end - in->p), open, (size_t)n), *stop;

	if (!at)
		return false;
	at += n;
	stop = memmem(at, (size_t)(in->end - at), close, (size_t)m);
	if (!stop)
		return false;
	*content = (struct span){at, stop};
	in->p = stop + m;
	return true;
}

static size_t utf8_put(char *out, unsigned long c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | (c >> 18 & 7));
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

/* Decodes the entity at p ('&'); returns how many bytes it took, 0 if it is none. */
static size_t entity_decode(const char *p, const char *end, char *out, size_t *n)
{
	static const struct {
		const char *name;
		char c;
	} known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
	char digits[16], *stop;
	const char *semi = memchr(p, ';', (size_t)(end - p) < 12 ? (size_t)(end - p) : 12);

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if ((size_t)(end - p) >= strlen(known[i].name) && memcmp(p, known[i].name, strlen(known[i].name)) == 0) {
			out[0] = known[i].c;
			*n = 1;
			return strlen(known[i].name);
		}
	if (!semi || semi - p < 3 || p[1] != '#')
		return 0;
	bool hexadecimal = p[2] == 'x' || p[2] == 'X';
	snprintf(digits, sizeof(digits), "%.*s", (int)(semi - p - 2 - hexadecimal), p + 2 + hexadecimal);
	unsigned long c = strtoul(digits, &stop, hexadecimal ? 16 : 10);
	if (*stop || c == 0 || c > 0x10ffff)
		return 0;
	*n = utf8_put(out, c);
	return (size_t)(semi + 1 - p);
}

/* False when it does not fit. */
static bool text_decode(struct span s, char *out, size_t size)
{
	size_t n = 0;

	while (s.p < s.end) {
		char piece[4] = {*s.p};
		size_t m = 1, took = *s.p == '&' ? entity_decode(s.p, s.end, piece, &m) : 0;

		if (n + m + 1 > size)
			return false;
		memcpy(out + n, piece, m);
		n += m;
		s.p += took ? took : 1;
	}
	out[n] = 0;
	return strlen(out) == n;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place: what encoding-type=url did. Some servers write a blank as '+', none leaves a '+' as it is. */
static void url_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (*s == '%' && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0) {
			*out++ = (char)(hex_digit(s[1]) << 4 | hex_digit(s[2]));
			s += 2;
		} else {
			*out++ = *s == '+' ? ' ' : *s;
		}
	}
	*out = 0;
}

static bool child_text(struct span parent, const char *name, char *out, size_t size)
{
	struct span c;

	out[0] = 0;
	return element_next(&parent, name, &c) && text_decode(c, out, size);
}

static int64_t iso_time(const char *s)
{
	struct tm tm = {0};

	return strptime(s, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : 0;
}

int answer_list(const void *body, size_t len, answer_list_fn *fn, void *arg, char *token, size_t token_size)
{
	struct span all = {body, (const char *)body + len}, in, item;
	char text[64], *key;
	bool encoded, truncated;
	int err = 0;

	token[0] = 0;
	if (!len || !memmem(body, len, "<ListBucketResult", 17) || !memmem(body, len, "</ListBucketResult>", 19))
		return -EBADMSG;
	encoded = child_text(all, "EncodingType", text, sizeof(text)) && strcmp(text, "url") == 0;
	truncated = child_text(all, "IsTruncated", text, sizeof(text)) && strcmp(text, "true") == 0;
	if (truncated && (!child_text(all, "NextContinuationToken", token, token_size) || !token[0]))
		return -EBADMSG;
	key = malloc(KEY_SIZE);
	if (!key)
		return -ENOMEM;
	for (in = all; !err && element_next(&in, "Contents", &item);) {
		uint64_t size;

		if (!child_text(item, "Key", key, KEY_SIZE) || !child_text(item, "Size", text, sizeof(text)) ||
			parse_u64(text, &size) != 0) {
			err = -EBADMSG;
			break;
		}
		if (encoded)
			url_decode(key);
		child_text(item, "LastModified", text, sizeof(text));
		err = fn(arg, key, size, iso_time(text));
	}
	free(key);
	return err;
}

static void error_say(struct answer_error *o, int err, const char *text)
{
	o->err = err;
	snprintf(o->text, sizeof(o->text), "%s", text);
}

/* Codes that mean something of their own, whatever their status. */
static bool error_by_code(struct answer_error *o, int64_t skew, const char *region, struct span body)
{
	char want[64];

	if (strcmp(o->code, "RequestTimeTooSkewed") == 0) {
		error_say(o, -EACCES, "");
		snprintf(o->text, sizeof(o->text), "the clock of this machine is wrong (RequestTimeTooSkewed)%s%lld s",
			skew ? ", it differs from the server's by " : ", by more than ", (long long)(skew ? skew : 900));
	} else if (strcmp(o->code, "InvalidAccessKeyId") == 0) {
		error_say(o, -EACCES, "the server does not know the access key (InvalidAccessKeyId)");
	} else if (strcmp(o->code, "SignatureDoesNotMatch") == 0) {
		error_say(o, -EACCES, "access key and secret key do not match (SignatureDoesNotMatch)");
	} else if (strcmp(o->code, "ExpiredToken") == 0 || strcmp(o->code, "InvalidToken") == 0) {
		error_say(o, -EACCES, "the session token is invalid or has expired");
	} else if (strcmp(o->code, "NoSuchBucket") == 0) {
		o->bucket = true;
		error_say(o, -ENODEV, "the bucket does not exist (NoSuchBucket)");
	} else if (strncmp(o->code, "BucketAlready", 13) == 0) {
		o->bucket = true;
		error_say(o, -EEXIST, strcmp(o->code, "BucketAlreadyExists") == 0
			? "the bucket belongs to somebody else (BucketAlreadyExists)" : "the bucket exists already");
	} else if (strcmp(o->code, "InvalidBucketName") == 0) {
		error_say(o, -EINVAL, "the server refuses the bucket's name (InvalidBucketName)");
	} else if (strcmp(o->code, "AuthorizationHeaderMalformed") == 0 || strcmp(o->code, "PermanentRedirect") == 0) {
		if (!*region && child_text(body, "Region", want, sizeof(want)))
			region = want;
		error_say(o, -EINVAL, "");
		snprintf(o->text, sizeof(o->text), "the bucket is in another region%s%.64s (%s)", *region ? ": " : "", region,
			o->code);
	} else if (strcmp(o->code, "SlowDown") == 0 || strcmp(o->code, "RequestTimeout") == 0 ||
		strcmp(o->code, "OperationAborted") == 0) {
		o->retry = true;
		o->slow = strcmp(o->code, "SlowDown") == 0;
		error_say(o, -EIO, o->slow ? "the server is overloaded (SlowDown)" : o->code);
	} else {
		return false;
	}
	return true;
}

void answer_error(int status, const void *body, size_t len, int64_t server_date, int64_t now, const char *region,
	struct answer_error *o)
{
	struct span all = {body, (const char *)body + len};
	int64_t skew = server_date ? llabs(server_date - now) : 0;
	char message[160];

	memset(o, 0, sizeof(*o));
	if (status >= 200 && status < 300)
		return;
	if (!child_text(all, "Code", o->code, sizeof(o->code)) || strpbrk(o->code, "\r\n"))
		o->code[0] = 0;
	if (!child_text(all, "Message", message, sizeof(message)) || strpbrk(message, "\r\n"))
		message[0] = 0;
	if (error_by_code(o, skew, region, all))
		return;
	o->err = status == 404 ? -ENOENT : status == 401 || status == 403 ? -EACCES : status == 507 ? -ENOSPC : -EIO;
	o->slow = status == 429 || status == 503;
	o->retry = o->slow || status == 408 || status == 507 || (status >= 500 && status != 501 && status != 505);
	if (o->err == -EACCES && skew > 900)
		snprintf(o->text, sizeof(o->text), "HTTP %d: the clock of this machine differs from the server's by %lld s",
			status, (long long)skew);
	else if (!o->code[0] && !message[0])
		snprintf(o->text, sizeof(o->text), "HTTP %d%s", status, status == 404 ? ": no such object"
			: o->err == -EACCES ? ": access denied" : "");
	else
		snprintf(o->text, sizeof(o->text), "HTTP %d %s: %s", status, o->code, message);
}
