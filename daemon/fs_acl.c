/* POSIX ACLs of the view (spec 2.14, 3.4, 3.9; util/aclrule.h has the rules themselves).
 *
 * An inode's record names its rules by number; that is all that a log record carries and that replay writes. The rules lie
 * in a table: in memory, and as meta keys "acl:NUMBER", so that an offline mount and replay have them. A rule is immutable
 * and harmless while nothing names it, so it goes to Redis before anything is recorded that names it: an operation that
 * needs a number for a rule without one leaves with FS_NEED, a worker has Redis find or make it under the fencing token
 * (redis/acl.h), and the operation runs again. Only that first use of a rule waits for Redis. A crash in between leaves a rule
 * that nobody names. When Redis falls back (P8) the replayer puts the rules of the table there again before its first window.
 *
 * Who may what is the kernel's to check (FUSE_POSIX_ACL); what a new inode inherits, and what chmod does, is ours. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "daemon/fs_internal.h"

struct acl_slot {
	uint32_t id; /* 0: wanted, Redis has not given it a number yet */
	uint32_t len;
	uint8_t *rule; /* as in Redis; NULL: Redis has none under this number */
};

void fs_acl_free(struct fs *fs)
{
	for (size_t i = 0; i < fs->acls_n; i++)
		free(fs->acls[i].rule);
	free(fs->acls);
}

/* A new slot; -ENOMEM. */
static int slot_add(struct fs *fs, uint32_t id, const void *rule, size_t len, size_t *at)
{
	if (fs->acls_n == fs->acls_size) {
		size_t size = fs->acls_size ? fs->acls_size * 2 : 16;
		struct acl_slot *p = realloc(fs->acls, size * sizeof(*p));

		if (!p)
			return -ENOMEM;
		fs->acls = p;
		fs->acls_size = size;
	}
	struct acl_slot s = {.id = id, .len = (uint32_t)len};

	if (rule) {
		s.rule = malloc(len);
		if (!s.rule)
			return -ENOMEM;
		memcpy(s.rule, rule, len);
	}
	*at = fs->acls_n;
	fs->acls[fs->acls_n++] = s;
	return 0;
}

static bool slot_is(const struct acl_slot *s, const void *rule, size_t len)
{
	return s->rule && s->len == len && memcmp(s->rule, rule, len) == 0;
}

int fs_acl_load(struct fs *fs)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen, at, prefix = strlen(ACL_META);
	struct jkey k;
	int rc;

	key_meta(&k, ACL_META);
	it = view_seek(fs->j, &k, k.len);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		char text[16] = "";
		size_t n = klen - 1 - prefix;

		if (n == 0 || n >= sizeof(text)) {
			rc = -EUCLEAN;
			break;
		}
		memcpy(text, key + 1 + prefix, n);
		rc = slot_add(fs, (uint32_t)strtoul(text, NULL, 10), val, vlen, &at);
		if (rc)
			break;
	}
	view_end(it);
	return rc;
}

/* The rule of a number: 0; FS_NEED; -EIO: there is none, or it is damaged. */
static int rule_of(struct fs *fs, uint32_t id, struct acl_rule *r, struct fs_need *need)
{
	for (size_t i = 0; i < fs->acls_n; i++)
		if (fs->acls[i].id == id)
			return fs->acls[i].rule && acl_rule_decode(fs->acls[i].rule, fs->acls[i].len, r) == 0 ? 0 : -EIO;
	return fs_need(need, NEED_ACL, id, 0);
}

/* The number of a rule: 0; FS_NEED; -ENOMEM. */
static int number_of(struct fs *fs, const struct acl_rule *r, uint32_t *id, struct fs_need *need)
{
	uint8_t rule[ACL_RULE_MAX];
	size_t len = acl_rule_encode(r, rule), at, wanted = SIZE_MAX;

	for (size_t i = 0; i < fs->acls_n; i++) {
		if (!slot_is(&fs->acls[i], rule, len))
			continue;
		if (fs->acls[i].id) {
			*id = fs->acls[i].id;
			return 0;
		}
		wanted = i;
	}
	if (wanted == SIZE_MAX) {
		int rc = slot_add(fs, 0, rule, len, &at);

		if (rc)
			return rc;
		wanted = at;
	}
	return fs_need(need, NEED_ACL_NUMBER, wanted, 0);
}

size_t fs_acl_wanted(struct fs *fs, uint64_t slot, uint8_t rule[ACL_RULE_MAX], uint32_t *least)
{
	size_t len = 0;

	*least = 0;
	journal_lock(fs->j);
	if (slot < fs->acls_n && fs->acls[slot].rule) {
		len = fs->acls[slot].len;
		memcpy(rule, fs->acls[slot].rule, len);
	}
	for (size_t i = 0; i < fs->acls_n; i++)
		if (fs->acls[i].id > *least)
			*least = fs->acls[i].id;
	journal_unlock(fs->j);
	return len;
}

static int known_locked(struct fs *fs, uint32_t id, const void *rule, size_t len)
{
	char name[32];
	struct jkey k;
	size_t at;
	int rc;

	for (size_t i = 0; i < fs->acls_n; i++)
		if (fs->acls[i].id == id)
			return 0;
	if (rule) {
		snprintf(name, sizeof(name), ACL_META "%u", id);
		key_meta(&k, name);
		rec_put(journal_begin(fs->j, OP_META), &k, rule, len, 0);
		rc = journal_commit(fs->j, NULL);
		if (rc)
			return rc == -EAGAIN ? FS_ROOM : rc;
	}
	for (size_t i = 0; rule && i < fs->acls_n; i++)
		if (fs->acls[i].id == 0 && slot_is(&fs->acls[i], rule, len)) {
			fs->acls[i].id = id;
			return 0;
		}
	return slot_add(fs, id, rule, len, &at);
}

int fs_acl_known(struct fs *fs, uint32_t id, const void *rule, size_t len)
{
	int rc;

	for (;;) {
		journal_lock(fs->j);
		rc = known_locked(fs, id, rule, len);
		journal_unlock(fs->j);
		if (rc != FS_ROOM)
			return rc;
		rc = journal_wait_room(fs->j);
		if (rc)
			return rc;
	}
}

int fs_acl_chmod(struct fs *fs, uint32_t *id, uint16_t mode, struct fs_need *need)
{
	struct acl_rule r;
	int rc;

	if (!fs->cfg.acl || *id == 0)
		return 0;
	rc = rule_of(fs, *id, &r, need);
	if (rc)
		return rc;
	acl_rule_chmod(&r, mode);
	return number_of(fs, &r, id, need);
}

int fs_acl_inherit(struct fs *fs, const struct inode_val *dir, uint16_t *mode, uint32_t *access, struct fs_need *need)
{
	struct acl_rule deflt, own;
	int rc = rule_of(fs, dir->attr.default_acl, &deflt, need);

	*access = 0;
	if (!rc && acl_rule_inherit(&deflt, mode, &own))
		rc = number_of(fs, &own, access, need);
	return rc;
}

/* --- as extended attributes --- */
enum fs_acl_kind fs_acl_kind(const char *name, size_t n)
{
	if (n == strlen(ACL_XATTR_ACCESS) && memcmp(name, ACL_XATTR_ACCESS, n) == 0)
		return FS_ACL_ACCESS;
	return n == strlen(ACL_XATTR_DEFAULT) && memcmp(name, ACL_XATTR_DEFAULT, n) == 0 ? FS_ACL_DEFAULT : FS_ACL_NONE;
}

int fs_acl_get(struct fs *fs, uint64_t ino, enum fs_acl_kind kind, uint8_t out[ACL_XATTR_MAX], size_t *len, struct fs_need *need)
{
	struct inode_val v;
	struct acl_rule r;
	int rc = fs_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	if (!fs->cfg.acl)
		return -EOPNOTSUPP;
	uint32_t id = kind == FS_ACL_ACCESS ? v.attr.access_acl : v.attr.default_acl;

	if (id == 0)
		return -ENODATA;
	rc = rule_of(fs, id, &r, need);
	if (!rc)
		*len = acl_rule_to_xattr(&r, out);
	return rc;
}

/* What the inode becomes: 0, FS_NEED, FS_MEMBER, -errno. */
static int acl_change(struct fs *fs, const struct fs_cred *c, struct inode_val *v, enum fs_acl_kind kind, struct acl_rule *r, int flags,
	struct fs_need *need)
{
	uint32_t *id = kind == FS_ACL_ACCESS ? &v->attr.access_acl : &v->attr.default_acl;
	bool keeps = true;
	int rc = 0;

	if (*id && (flags & XATTR_CREATE))
		return -EEXIST;
	if (!*id && (flags & XATTR_REPLACE))
		return -ENODATA;
	if (acl_rule_empty(r)) {
		*id = 0;
		return 0;
	}
	if (kind == FS_ACL_ACCESS && v->attr.mode & 02000)
		rc = fs_member(c, v, &keeps, need);
	if (rc)
		return rc;
	acl_rule_fill(r, v->attr.mode);
	if (kind == FS_ACL_ACCESS)
		v->attr.mode = (uint16_t)((v->attr.mode & 07000) | acl_rule_mode(r));
	if (!keeps)
		v->attr.mode &= (uint16_t)~02000;
	if (kind == FS_ACL_ACCESS && acl_rule_minimal(r)) {
		*id = 0;
		return 0;
	}
	return number_of(fs, r, id, need);
}

static int acl_set_locked(struct fs *fs, const struct fs_cred *c, uint64_t ino, enum fs_acl_kind kind, struct acl_rule *r, int flags,
	uint64_t *seq, struct fs_need *need)
{
	struct inode_val v, old;
	struct fs_op op;
	int rc = fs_inode(fs, ino, &v, need);

	if (rc)
		return rc;
	if (v.attr.type == JFS_SYMLINK)
		return -EOPNOTSUPP;
	if (fs->cfg.read_only)
		return -EROFS;
	if (v.attr.flags & (JFS_FLAG_IMMUTABLE | JFS_FLAG_APPEND) || (c->uid != 0 && c->uid != v.attr.uid))
		return -EPERM;
	if (kind == FS_ACL_DEFAULT && v.attr.type != JFS_DIR)
		return acl_rule_empty(r) ? 0 : -EACCES;
	old = v;
	rc = acl_change(fs, c, &v, kind, r, flags, need);
	if (rc)
		return rc;
	if (memcmp(&old.attr, &v.attr, sizeof(v.attr)) == 0) {
		*seq = v.seq;
		return 0;
	}
	fs_op_begin_on(&op, fs, ino, &v, OP_SETATTR);
	fs_op_touch(&op, &v, FS_CTIME);
	fs_op_put(&op, ino, &v, 0);
	return fs_op_commit(&op, seq);
}

int fs_acl_set(struct fs *fs, const struct fs_cred *c, uint64_t ino, enum fs_acl_kind kind, const void *val, size_t len, int flags,
	uint64_t *seq, struct fs_need *need)
{
	struct acl_rule r;
	int rc = acl_rule_from_xattr(val, len, &r);

	journal_lock(fs->j);
	if (!fs->cfg.acl)
		rc = -EOPNOTSUPP;
	if (!rc)
		rc = acl_set_locked(fs, c, ino, kind, &r, flags, seq, need);
	journal_unlock(fs->j);
	return rc;
}
