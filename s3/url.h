/* The Bucket of an `s3` or `minio` volume as a URL (spec/juicefs-format.md 4.7) -> endpoint, bucket, region, style.
 *
 *   https://BUCKET.s3.REGION.amazonaws.com     https://s3.REGION.amazonaws.com/BUCKET
 *   http(s)://HOST[:port]/BUCKET               https://BUCKET.HOST
 *
 * Without a scheme a text with a dot is http (https for amazonaws.com). Only url_env_read looks at the environment. */
#ifndef JFS_S3_URL_H
#define JFS_S3_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "util/errmsg.h"

struct url_env {
	const char *region;	  /* AWS_REGION, else AWS_DEFAULT_REGION; NULL: us-east-1 */
	const char *minio_region; /* MINIO_REGION; NULL: us-east-1 */
	bool vhost_style;	  /* JFS_S3_VHOST_STYLE is set */
};

struct s3_url {
	bool https;
	char host[260];	  /* what goes into the Host header: with the port unless it is the scheme's own */
	char bucket[128];
	char region[64];
	bool path_style;  /* true: http://host/bucket/key; false: host already begins with the bucket, http://host/key */
	bool no_checksum; /* disable-checksum=true (type s3 only) */
};

void url_env_read(struct url_env *env);
/* -EINVAL and a message that says what is missing. A URL with user:password@ is refused without being repeated. */
int url_parse(const char *storage, const char *bucket, const struct url_env *env, struct s3_url *out, struct errmsg *e);
/* True for a name that can be part of a host name under a TLS wildcard: letters, digits and '-' in lower case. */
bool url_bucket_is_label(const char *bucket);

#endif
