/* AWS Signature Version 4 as S3 wants it (AWS "Signature Calculations for the Authorization Header"): pure functions
 * from a request to its Authorization header. S3's own rules: the path is URI-encoded once and never normalised, and
 * x-amz-content-sha256 is a signed header ("UNSIGNED-PAYLOAD" or the hex SHA-256 of the body).
 *
 * Nothing here reads a clock, the environment or the network. All functions return 0, -ENOMEM or -E2BIG (buffers),
 * or -EINVAL (a request without host or x-amz-date). */
#ifndef JFS_S3_SIGV4_H
#define JFS_S3_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "util/buf.h"

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* Query parameters: raw (not encoded) name and value. Headers: any case, any blanks; names must be unique. */
struct sigv4_pair {
	const char *name, *value;
};

struct sigv4_request {
	const char *method;
	const char *path;		/* raw, begins with '/' */
	const struct sigv4_pair *query; /* any order */
	size_t nquery;
	const struct sigv4_pair *headers; /* all of them are signed */
	size_t nheaders;
	const char *payload_hash;
};

struct sigv4_identity {
	const char *access_key, *secret_key;
	const char *region, *service;
};

enum { SIGV4_MAX_PAIRS = 24 };

/* "20130524T000000Z"; out holds 17 bytes. */
void sigv4_date(time_t t, char out[17]);
/* RFC 3986: all but unreserved characters as %XX in upper case; '/' stays when keep_slash (paths). */
void sigv4_uri_encode(struct buf *out, const char *s, bool keep_slash);
/* "a=1&b=" sorted by encoded name, then value: what is signed and also what is sent. */
int sigv4_canonical_query(struct buf *out, const struct sigv4_pair *query, size_t n);
int sigv4_canonical_request(struct buf *out, const struct sigv4_request *req);
/* `date` is the x-amz-date form. */
int sigv4_string_to_sign(
	struct buf *out, const void *canonical, size_t len, const struct sigv4_identity *id, const char *date);
int sigv4_signing_key(const struct sigv4_identity *id, const char *date, uint8_t key[32]);
/* Appends the value of the Authorization header. The date is taken from the request's x-amz-date. */
int sigv4_authorization(struct buf *out, const struct sigv4_request *req, const struct sigv4_identity *id);
void sigv4_sha256_hex(const void *p, size_t n, char out[65]);

#endif
