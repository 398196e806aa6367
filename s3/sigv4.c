/* The canonical forms are built in struct buf, whose sticky error is checked once at the end of each function. */
#include "s3/sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SIGV4_CAP = 64 << 10 };

static void hex(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = 0;
}

void sigv4_sha256_hex(const void *p, size_t n, char out[65])
{
	uint8_t sum[32];

	SHA256(p, n, sum);
	hex(sum, sizeof(sum), out);
}

void sigv4_date(time_t t, char out[17])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	if (strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
		memcpy(out, "19700101T000000Z", 17);
}

void sigv4_uri_encode(struct buf *out, const char *s, bool keep_slash)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			strchr("-_.~", c) || (c == '/' && keep_slash))
			buf_put(out, s, 1);
		else
			buf_printf(out, "%%%02X", c);
	}
}

static int text_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Each parameter becomes "name\1value" before sorting: \1 sorts below every encoded character, so a name goes before
 * any longer name that begins with it, as the rules want ('=' would not). */
int sigv4_canonical_query(struct buf *out, const struct sigv4_pair *query, size_t n)
{
	char *terms[SIGV4_MAX_PAIRS] = {0};
	int err = n > SIGV4_MAX_PAIRS ? -E2BIG : 0;

	for (size_t i = 0; i < n && !err; i++) {
		struct buf b;

		buf_init(&b, SIGV4_CAP);
		sigv4_uri_encode(&b, query[i].name, false);
		buf_puts(&b, "\1");
		sigv4_uri_encode(&b, query[i].value, false);
		err = b.err;
		if (!err && !(terms[i] = strdup(buf_cstr(&b))))
			err = -ENOMEM;
		buf_fini(&b);
	}
	if (!err) {
		qsort(terms, n, sizeof(*terms), text_compare);
		for (size_t i = 0; i < n; i++) {
			*strchr(terms[i], '\1') = '=';
			buf_puts(out, i ? "&" : "");
			buf_puts(out, terms[i]);
		}
		err = out->err;
	}
	for (size_t i = 0; i < n && i < SIGV4_MAX_PAIRS; i++)
		free(terms[i]);
	return err;
}

static int pair_compare(const void *a, const void *b)
{
	return strcasecmp(((const struct sigv4_pair *)a)->name, ((const struct sigv4_pair *)b)->name);
}

static int headers_sort(const struct sigv4_request *req, struct sigv4_pair sorted[SIGV4_MAX_PAIRS])
{
	if (req->nheaders > SIGV4_MAX_PAIRS)
		return -E2BIG;
	if (req->nheaders)
		memcpy(sorted, req->headers, req->nheaders * sizeof(*sorted));
	qsort(sorted, req->nheaders, sizeof(*sorted), pair_compare);
	return 0;
}

static void put_lower(struct buf *out, const char *s)
{
	for (; *s; s++) {
		char c = (char)tolower((unsigned char)*s);

		buf_put(out, &c, 1);
	}
}

/* Blanks at both ends go, runs of blanks inside become one. */
static void put_trimmed(struct buf *out, const char *s)
{
	bool any = false, blank = false;

	for (; *s; s++) {
		if (*s == ' ' || *s == '\t') {
			blank = true;
			continue;
		}
		if (blank && any)
			buf_puts(out, " ");
		buf_put(out, s, 1);
		any = true;
		blank = false;
	}
}

static void put_signed_headers(struct buf *out, const struct sigv4_pair *sorted, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_puts(out, i ? ";" : "");
		put_lower(out, sorted[i].name);
	}
}

int sigv4_canonical_request(struct buf *out, const struct sigv4_request *req)
{
	struct sigv4_pair sorted[SIGV4_MAX_PAIRS];
	int err = headers_sort(req, sorted);

	if (err)
		return err;
	buf_printf(out, "%s\n", req->method);
	sigv4_uri_encode(out, req->path, true);
	buf_puts(out, "\n");
	err = sigv4_canonical_query(out, req->query, req->nquery);
	if (err)
		return err;
	buf_puts(out, "\n");
	for (size_t i = 0; i < req->nheaders; i++) {
		put_lower(out, sorted[i].name);
		buf_puts(out, ":");
		put_trimmed(out, sorted[i].value);
		buf_puts(out, "\n");
	}
	buf_puts(out, "\n");
	put_signed_headers(out, sorted, req->nheaders);
	buf_printf(out, "\n%s", req->payload_hash);
	return out->err;
}

static void put_scope(struct buf *out, const struct sigv4_identity *id, const char *date)
{
	buf_printf(out, "%.8s/%s/%s/aws4_request", date, id->region, id->service);
}

int sigv4_string_to_sign(
	struct buf *out, const void *canonical, size_t len, const struct sigv4_identity *id, const char *date)
{
	char sum[65];

	sigv4_sha256_hex(canonical, len, sum);
	buf_printf(out, "AWS4-HMAC-SHA256\n%s\n", date);
	put_scope(out, id, date);
	buf_printf(out, "\n%s", sum);
	return out->err;
}

static int hmac(const void *key, size_t klen, const void *msg, size_t len, uint8_t out[32])
{
	unsigned n = 32;

	return HMAC(EVP_sha256(), key, (int)klen, msg, len, out, &n) ? 0 : -ENOMEM;
}

int sigv4_signing_key(const struct sigv4_identity *id, const char *date, uint8_t key[32])
{
	static const char last[] = "aws4_request";
	struct buf secret;
	uint8_t k[32];
	int err;

	buf_init(&secret, SIGV4_CAP);
	buf_printf(&secret, "AWS4%s", id->secret_key);
	err = secret.err;
	if (!err)
		err = hmac(secret.data, secret.len, date, 8, k);
	if (!err)
		err = hmac(k, 32, id->region, strlen(id->region), key);
	if (!err)
		err = hmac(key, 32, id->service, strlen(id->service), k);
	if (!err)
		err = hmac(k, 32, last, sizeof(last) - 1, key);
	OPENSSL_cleanse(k, sizeof(k));
	if (secret.data)
		OPENSSL_cleanse(secret.data, secret.len);
	buf_fini(&secret);
	return err;
}

static const char *header_find(const struct sigv4_request *req, const char *name)
{
	for (size_t i = 0; i < req->nheaders; i++)
		if (strcasecmp(req->headers[i].name, name) == 0)
			return req->headers[i].value;
	return NULL;
}

int sigv4_authorization(struct buf *out, const struct sigv4_request *req, const struct sigv4_identity *id)
{
	const char *date = header_find(req, "x-amz-date");
	struct sigv4_pair sorted[SIGV4_MAX_PAIRS];
	struct buf canonical, text;
	uint8_t key[32], mac[32];
	char signature[65];
	int err;

	if (!date || strlen(date) != 16 || !header_find(req, "host"))
		return -EINVAL;
	buf_init(&canonical, SIGV4_CAP);
	buf_init(&text, SIGV4_CAP);
	err = sigv4_canonical_request(&canonical, req);
	if (!err)
		err = sigv4_string_to_sign(&text, canonical.data, canonical.len, id, date);
	if (!err)
		err = sigv4_signing_key(id, date, key);
	if (!err)
		err = hmac(key, 32, text.data, text.len, mac);
	if (!err)
		err = headers_sort(req, sorted);
	if (!err) {
		hex(mac, sizeof(mac), signature);
		buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/", id->access_key);
		put_scope(out, id, date);
		buf_puts(out, ",SignedHeaders=");
		put_signed_headers(out, sorted, req->nheaders);
		buf_printf(out, ",Signature=%s", signature);
		err = out->err;
	}
	OPENSSL_cleanse(key, sizeof(key));
	buf_fini(&canonical);
	buf_fini(&text);
	return err;
}
