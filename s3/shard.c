/* Bucket comes from Redis, so it never goes to printf as a format: its verb is read here, digit by digit. */
#include "s3/shard.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

uint32_t shard_hash(const char *key)
{
	uint32_t h = 0x811c9dc5u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 0x01000193u;
	return h;
}

unsigned shard_pick(const char *key, unsigned shards)
{
	return shards > 1 ? shard_hash(key) % shards : 0;
}

/* Reads a verb behind its '%' ("d", "02d", "-3d"); returns what follows it, or NULL. */
static const char *verb_parse(const char *p, bool *zero, bool *left, int *width)
{
	*zero = *left = false;
	*width = 0;
	for (; *p == '0' || *p == '-'; p++)
		*(*p == '0' ? zero : left) = true;
	for (; isdigit((unsigned char)*p); p++)
		if ((*width = *width * 10 + (*p - '0')) > 64)
			return NULL;
	return *p == 'd' ? p + 1 : NULL;
}

static int verb_print(char *out, size_t size, bool zero, bool left, int width, unsigned i)
{
	if (left)
		return snprintf(out, size, "%-*u", width, i);
	return zero ? snprintf(out, size, "%0*u", width, i) : snprintf(out, size, "%*u", width, i);
}

int shard_bucket(const char *bucket, unsigned shards, unsigned i, char *out, size_t size, struct errmsg *e)
{
	size_t n = 0;
	int verbs = 0;

	for (const char *p = bucket; *p;) {
		char piece[80] = {*p, 0};

		if (shards > 1 && *p == '%' && p[1] == '%') {
			p += 2;
		} else if (shards > 1 && *p == '%') {
			bool zero, left;
			int width;

			p = verb_parse(p + 1, &zero, &left, &width);
			if (!p || verbs++)
				return errmsg_set(e, -EINVAL, "bucket \"%s\" of a volume with %u shards must hold one %%d",
					bucket, shards);
			verb_print(piece, sizeof(piece), zero, left, width, i);
		} else {
			p++;
		}
		if (n + strlen(piece) + 1 > size)
			return errmsg_set(e, -ENAMETOOLONG, "bucket \"%.80s...\" is too long", bucket);
		memcpy(out + n, piece, strlen(piece));
		n += strlen(piece);
	}
	out[n] = 0;
	if (shards > 1 && !verbs)
		return errmsg_set(e, -EINVAL, "bucket \"%s\" of a volume with %u shards must hold one %%d", bucket, shards);
	return 0;
}
