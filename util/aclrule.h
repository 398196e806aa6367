/* POSIX ACLs as JuiceFS stores them (spec/juicefs-format.md 2.14): one rule, its two encodings, and what the modes of an
 * inode have to do with it. Pure.
 *
 * A rule is immutable and shared: inodes name it by a number, and a change makes an inode name another rule. In an inode
 * with an access rule the mode's group bits are the mask. */
#ifndef JFS_UTIL_ACLRULE_H
#define JFS_UTIL_ACLRULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACL_NAMED_MAX 1000 /* named users and groups together */
#define ACL_RULE_MAX (16 + 6 * ACL_NAMED_MAX)
#define ACL_XATTR_MAX (4 + 8 * (4 + ACL_NAMED_MAX))
#define ACL_UNSET 0xFFFF /* no such entry */
#define ACL_XATTR_ACCESS "system.posix_acl_access"
#define ACL_XATTR_DEFAULT "system.posix_acl_default"

struct acl_rule {
	uint16_t owner, group, mask, other; /* rwx bits, or ACL_UNSET */
	uint32_t users, groups;
	struct {
		uint32_t id;
		uint16_t perm;
	} named[ACL_NAMED_MAX]; /* the users, then the groups, each in the order they were given in */
};

/* As in Redis's hash `acl`. The length. */
size_t acl_rule_encode(const struct acl_rule *r, uint8_t out[ACL_RULE_MAX]);
int acl_rule_decode(const void *p, size_t n, struct acl_rule *r); /* 0; -EUCLEAN; -E2BIG: more entries than we keep */
/* As in the xattr (version 2, native endian). */
size_t acl_rule_to_xattr(const struct acl_rule *r, uint8_t out[ACL_XATTR_MAX]);
int acl_rule_from_xattr(const void *p, size_t n, struct acl_rule *r); /* 0, -EINVAL, -E2BIG */

bool acl_rule_empty(const struct acl_rule *r);	 /* no entry at all: removes the ACL */
bool acl_rule_minimal(const struct acl_rule *r); /* says no more than a mode does */
/* Entries of owner, group and others that were not given: from the mode. */
void acl_rule_fill(struct acl_rule *r, uint16_t mode);
/* What chmod makes of it. */
void acl_rule_chmod(struct acl_rule *r, uint16_t mode);
/* The nine bits of an inode that has it as access rule. */
uint16_t acl_rule_mode(const struct acl_rule *r);
/* A new inode below a directory with this default rule: its mode out of the one asked for (no umask). True: it gets an
 * access rule, *access. */
bool acl_rule_inherit(const struct acl_rule *deflt, uint16_t *mode, struct acl_rule *access);

#endif
