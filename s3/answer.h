/* Reads what S3 servers answer: error bodies and pages of ListObjectsV2. Pure; the bytes are not trusted. */
#ifndef JFS_S3_ANSWER_H
#define JFS_S3_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct answer_error {
	int err;      /* -errno as in s3/object.h; 0 for a 2xx status */
	bool retry;   /* may pass if tried again */
	bool slow;    /* the server asks for less */
	bool bucket;  /* it is the bucket that is missing or exists already, not the key */
	char code[64]; /* S3's error code, "" if the body has none */
	char text[320]; /* one line for people */
};

/* What HTTP status and body mean. server_date, now: unix seconds (server_date 0: unknown), to recognise a wrong clock;
 * region: the server's x-amz-bucket-region or "". */
void answer_error(int status, const void *body, size_t len, int64_t server_date, int64_t now, const char *region,
	struct answer_error *out);

typedef int answer_list_fn(void *arg, const char *key, uint64_t size, int64_t mtime);
/* Calls fn for every object of the page; stops when fn returns non-zero and returns that. `token` receives what the
 * next page is asked for with, "" when this is the last. -EBADMSG for what is no list, -ENOMEM. */
int answer_list(const void *body, size_t len, answer_list_fn *fn, void *arg, char *token, size_t token_size);

#endif
