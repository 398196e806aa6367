#include "redis/keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Prefix (24) + the longest word (20) + two numbers (20 + 1 + 20) stay below RDS_KEY_MAX. */
static size_t __attribute__((format(printf, 3, 4))) build(char *out, const char *prefix, const char *fmt, ...)
{
	size_t n = prefix ? strnlen(prefix, RDS_PREFIX_MAX) : 0;
	va_list ap;

	if (n)
		memcpy(out, prefix, n);
	va_start(ap, fmt);
	int m = vsnprintf(out + n, RDS_KEY_MAX - n, fmt, ap);
	va_end(ap);
	return (size_t)m < RDS_KEY_MAX - n ? n + (size_t)m : RDS_KEY_MAX - 1;
}

#define ull unsigned long long

size_t rds_key(char out[RDS_KEY_MAX], const char *prefix, const char *name)
{
	return build(out, prefix, "%s", name);
}

size_t rds_key_inode(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "i%llu", (ull)ino);
}

size_t rds_key_dir(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "d%llu", (ull)ino);
}

size_t rds_key_parents(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "p%llu", (ull)ino);
}

size_t rds_key_chunk(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino, uint32_t indx)
{
	return build(out, prefix, "c%llu_%u", (ull)ino, indx);
}

size_t rds_key_symlink(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "s%llu", (ull)ino);
}

size_t rds_key_xattr(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "x%llu", (ull)ino);
}

size_t rds_key_sustained(char out[RDS_KEY_MAX], const char *prefix, uint64_t sid)
{
	return build(out, prefix, "session%llu", (ull)sid);
}

size_t rds_key_locked(char out[RDS_KEY_MAX], const char *prefix, uint64_t sid)
{
	return build(out, prefix, "locked%llu", (ull)sid);
}

size_t rds_key_flock(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "lockf%llu", (ull)ino);
}

size_t rds_key_plock(char out[RDS_KEY_MAX], const char *prefix, uint64_t ino)
{
	return build(out, prefix, "lockp%llu", (ull)ino);
}

size_t rds_field_slice_ref(char out[RDS_KEY_MAX], uint64_t id, uint32_t size)
{
	return build(out, NULL, "k%llu_%u", (ull)id, size);
}

size_t rds_field_del_slices(char out[RDS_KEY_MAX], uint64_t id, int64_t unixtime)
{
	return build(out, NULL, "%llu_%lld", (ull)id, (long long)unixtime);
}

size_t rds_member_del_file(char out[RDS_KEY_MAX], uint64_t ino, uint64_t length)
{
	return build(out, NULL, "%llu:%llu", (ull)ino, (ull)length);
}

size_t rds_decimal(char out[RDS_KEY_MAX], uint64_t v)
{
	return build(out, NULL, "%llu", (ull)v);
}

int rds_parse_u64(const char *s, size_t len, uint64_t *out)
{
	uint64_t v = 0;

	if (len == 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return -ERANGE;
	}
	*out = v;
	return 0;
}

int rds_parse_i64(const char *s, size_t len, int64_t *out)
{
	int neg = len > 0 && s[0] == '-';
	uint64_t v;
	int rc = rds_parse_u64(s + neg, len - (size_t)neg, &v);

	if (rc)
		return rc;
	if (v > (uint64_t)INT64_MAX + (uint64_t)neg)
		return -ERANGE;
	*out = neg ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

/* Two numbers with a separator between them. */
static int parse_pair(const char *s, size_t len, char sep, uint64_t *a, uint64_t *b)
{
	const char *p = memchr(s, sep, len);

	if (!p || rds_parse_u64(s, (size_t)(p - s), a))
		return -EINVAL;
	return rds_parse_u64(p + 1, len - (size_t)(p - s) - 1, b) ? -EINVAL : 0;
}

int rds_parse_inode_key(const char *s, size_t len, char letter, uint64_t *ino)
{
	if (len < 2 || s[0] != letter)
		return -EINVAL;
	return rds_parse_u64(s + 1, len - 1, ino) ? -EINVAL : 0;
}

int rds_parse_chunk_key(const char *s, size_t len, uint64_t *ino, uint32_t *indx)
{
	uint64_t v;

	if (len < 2 || s[0] != 'c' || parse_pair(s + 1, len - 1, '_', ino, &v) || v > UINT32_MAX)
		return -EINVAL;
	*indx = (uint32_t)v;
	return 0;
}

int rds_parse_slice_ref(const char *s, size_t len, uint64_t *id, uint32_t *size)
{
	uint64_t v;

	if (len < 2 || s[0] != 'k' || parse_pair(s + 1, len - 1, '_', id, &v) || v > UINT32_MAX)
		return -EINVAL;
	*size = (uint32_t)v;
	return 0;
}

int rds_parse_del_file(const char *s, size_t len, uint64_t *ino, uint64_t *length)
{
	return parse_pair(s, len, ':', ino, length);
}
