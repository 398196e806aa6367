#include "util/aclrule.h"

#include <errno.h>
#include <string.h>

#include "util/buf.h"

/* <linux/posix_acl_xattr.h> */
enum { TAG_USER_OBJ = 1, TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_GROUP = 8, TAG_MASK = 16, TAG_OTHER = 32, XATTR_VERSION = 2 };

static size_t entries_encode(const struct acl_rule *r, uint32_t from, uint32_t n, uint8_t *out)
{
	put_be32(out, n);
	out += 4;
	for (uint32_t i = from; i < from + n; i++, out += 6) {
		put_be32(out, r->named[i].id);
		put_be16(out + 4, r->named[i].perm);
	}
	return 4 + (size_t)n * 6;
}

size_t acl_rule_encode(const struct acl_rule *r, uint8_t out[ACL_RULE_MAX])
{
	size_t n = 8;

	put_be16(out, r->owner);
	put_be16(out + 2, r->group);
	put_be16(out + 4, r->mask);
	put_be16(out + 6, r->other);
	n += entries_encode(r, 0, r->users, out + n);
	return n + entries_encode(r, r->users, r->groups, out + n);
}

static int entries_decode(const uint8_t **p, const uint8_t *end, struct acl_rule *r, uint32_t *count)
{
	if (end - *p < 4)
		return -EUCLEAN;
	uint32_t n = get_be32(*p), at = r->users;

	*p += 4;
	if (n > (size_t)(end - *p) / 6)
		return -EUCLEAN;
	if (n > ACL_NAMED_MAX - at)
		return -E2BIG;
	for (uint32_t i = 0; i < n; i++, *p += 6) {
		r->named[at + i].id = get_be32(*p);
		r->named[at + i].perm = get_be16(*p + 4);
	}
	*count = n;
	return 0;
}

int acl_rule_decode(const void *data, size_t n, struct acl_rule *r)
{
	const uint8_t *p = data, *end = p + n;
	int rc;

	memset(r, 0, sizeof(*r));
	if (n < 16)
		return -EUCLEAN;
	r->owner = get_be16(p);
	r->group = get_be16(p + 2);
	r->mask = get_be16(p + 4);
	r->other = get_be16(p + 6);
	p += 8;
	rc = entries_decode(&p, end, r, &r->users);
	if (!rc)
		rc = entries_decode(&p, end, r, &r->groups);
	return rc ? rc : p == end ? 0 : -EUCLEAN;
}

static uint8_t *tag_put(uint8_t *out, uint16_t tag, uint16_t perm, uint32_t id)
{
	memcpy(out, &tag, 2);
	memcpy(out + 2, &perm, 2);
	memcpy(out + 4, &id, 4);
	return out + 8;
}

size_t acl_rule_to_xattr(const struct acl_rule *r, uint8_t out[ACL_XATTR_MAX])
{
	uint32_t version = XATTR_VERSION, i;
	uint8_t *p = out + 4;

	memcpy(out, &version, 4);
	if (r->owner != ACL_UNSET)
		p = tag_put(p, TAG_USER_OBJ, r->owner, UINT32_MAX);
	for (i = 0; i < r->users; i++)
		p = tag_put(p, TAG_USER, r->named[i].perm, r->named[i].id);
	if (r->group != ACL_UNSET)
		p = tag_put(p, TAG_GROUP_OBJ, r->group, UINT32_MAX);
	for (; i < r->users + r->groups; i++)
		p = tag_put(p, TAG_GROUP, r->named[i].perm, r->named[i].id);
	if (r->mask != ACL_UNSET)
		p = tag_put(p, TAG_MASK, r->mask, UINT32_MAX);
	if (r->other != ACL_UNSET)
		p = tag_put(p, TAG_OTHER, r->other, UINT32_MAX);
	return (size_t)(p - out);
}

/* The kernel has checked the order (users before groups) before it gets here; another one is refused. */
static int tag_take(struct acl_rule *r, uint16_t tag, uint16_t perm, uint32_t id)
{
	uint16_t *one = tag == TAG_USER_OBJ ? &r->owner : tag == TAG_GROUP_OBJ ? &r->group : tag == TAG_MASK ? &r->mask
		: tag == TAG_OTHER ? &r->other : NULL;

	if (perm > 7)
		return -EINVAL;
	if (one) {
		if (*one != ACL_UNSET)
			return -EINVAL;
		*one = perm;
		return 0;
	}
	if ((tag != TAG_USER && tag != TAG_GROUP) || (tag == TAG_USER && r->groups))
		return -EINVAL;
	if (r->users + r->groups == ACL_NAMED_MAX)
		return -E2BIG;
	r->named[r->users + r->groups].id = id;
	r->named[r->users + r->groups].perm = perm;
	if (tag == TAG_USER)
		r->users++;
	else
		r->groups++;
	return 0;
}

int acl_rule_from_xattr(const void *data, size_t n, struct acl_rule *r)
{
	const uint8_t *p = data;
	uint32_t version;
	int rc = 0;

	memset(r, 0, sizeof(*r));
	r->owner = r->group = r->mask = r->other = ACL_UNSET;
	if (n == 0)
		return 0;
	if (n < 4 || (n - 4) % 8)
		return -EINVAL;
	memcpy(&version, p, 4);
	if (version != XATTR_VERSION)
		return -EINVAL;
	for (size_t at = 4; at < n && !rc; at += 8) {
		uint16_t tag, perm;
		uint32_t id;

		memcpy(&tag, p + at, 2);
		memcpy(&perm, p + at + 2, 2);
		memcpy(&id, p + at + 4, 4);
		rc = tag_take(r, tag, perm, id);
	}
	return rc;
}

bool acl_rule_empty(const struct acl_rule *r)
{
	return r->owner == ACL_UNSET && r->group == ACL_UNSET && r->mask == ACL_UNSET && r->other == ACL_UNSET &&
		r->users + r->groups == 0;
}

bool acl_rule_minimal(const struct acl_rule *r)
{
	return r->mask == ACL_UNSET && r->users + r->groups == 0;
}

void acl_rule_fill(struct acl_rule *r, uint16_t mode)
{
	if (r->owner == ACL_UNSET)
		r->owner = mode >> 6 & 7;
	if (r->group == ACL_UNSET)
		r->group = mode >> 3 & 7;
	if (r->other == ACL_UNSET)
		r->other = mode & 7;
}

void acl_rule_chmod(struct acl_rule *r, uint16_t mode)
{
	r->owner = mode >> 6 & 7;
	*(r->mask != ACL_UNSET ? &r->mask : &r->group) = mode >> 3 & 7;
	r->other = mode & 7;
}

uint16_t acl_rule_mode(const struct acl_rule *r)
{
	uint16_t group = r->mask != ACL_UNSET ? r->mask : r->group;

	return (uint16_t)((r->owner & 7) << 6 | (group & 7) << 3 | (r->other & 7));
}

bool acl_rule_inherit(const struct acl_rule *deflt, uint16_t *mode, struct acl_rule *access)
{
	uint16_t want = *mode;

	if (acl_rule_minimal(deflt)) {
		*mode = (uint16_t)(want & (07000 | acl_rule_mode(deflt)));
		return false;
	}
	*access = *deflt;
	access->owner &= want >> 6 & 7;
	*(access->mask != ACL_UNSET ? &access->mask : &access->group) &= want >> 3 & 7;
	access->other &= want & 7;
	*mode = (uint16_t)((want & 07000) | acl_rule_mode(access));
	return true;
}
