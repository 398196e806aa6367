#include "recovery/backlog.h"

#include <errno.h>

#include "journal/record.h"

/* In the order in which they count within one record: what was before, then what became of it. */
enum { WAS_ABSENT, WAS_THERE, REMOVED, MADE };

void backlog_init(struct backlog *b)
{
	memset(b, 0, sizeof(*b));
	buf_init(&b->names, (size_t)3 << 30);
}

void backlog_fini(struct backlog *b)
{
	vec_free(&b->inodes);
	vec_free(&b->removed);
	buf_fini(&b->names);
}

static int add_inode(struct backlog *b, uint64_t ino, bool born)
{
	struct backlog_inode *i;

	/* Neighbours in the log are often the same file. */
	if (b->inodes.n && b->inodes.v[b->inodes.n - 1].ino == ino) {
		b->inodes.v[b->inodes.n - 1].born |= born;
		return 0;
	}
	i = vec_add(&b->inodes);
	if (!i)
		return -ENOMEM;
	*i = (struct backlog_inode){.ino = ino, .born = born};
	return 0;
}

static int add_name(struct backlog *b, uint64_t seq, const struct rec_item *it, uint8_t what)
{
	struct backlog_name *n;
	const uint8_t *name;
	uint64_t parent, hash;
	size_t len;

	if (key_parse_dentry(it->key, it->klen, &parent, &hash, &name, &len))
		return -EUCLEAN;
	n = vec_add(&b->removed);
	if (!n)
		return -ENOMEM;
	*n = (struct backlog_name){.parent = parent, .seq = seq, .at = b->names.len, .len = (uint16_t)len, .what = what};
	buf_put(&b->names, name, len);
	return b->names.err ? -ENOMEM : 0;
}

/* A directory's own record is written whenever a name in it changes: that is no change of the directory to speak of. */
static bool only_parent(const struct rec_header *h, const struct rec_item *it)
{
	struct inode_val v;

	return h->op != OP_SETATTR && h->op != OP_SETXATTR && h->op != OP_REMOVEXATTR && !(it->flags & IF_NEW) &&
	       inode_val_decode(it->val, it->vlen, &v) == 0 && v.attr.type == JFS_DIR;
}

static int feed_put(struct backlog *b, uint64_t seq, const struct rec_header *h, const struct rec_item *it)
{
	uint64_t ino;
	uint8_t type;
	int rc;

	switch (it->key[0]) {
	case T_INODE:
		if (only_parent(h, it))
			return 0;
		rc = key_parse_ino(it->key, it->klen, &ino);
		return rc ? rc : add_inode(b, ino, it->flags & IF_NEW);
	case T_DENTRY:
		rc = jfs_dentry_decode(it->val, it->vlen, &type, &ino);
		if (!rc)
			rc = add_inode(b, ino, false);
		return rc ? rc : add_name(b, seq, it, MADE);
	case T_EXTENT:
	case T_XATTR:
	case T_SYMLINK:
		rc = key_parse_ino(it->key, it->klen, &ino);
		return rc ? rc : add_inode(b, ino, false);
	}
	return 0;
}

static int feed_item(struct backlog *b, uint64_t seq, const struct rec_header *h, const struct rec_item *it)
{
	uint64_t ino;

	if (it->klen == 0)
		return 0;
	if (it->kind == IT_PUT)
		return feed_put(b, seq, h, it);
	if (it->kind == IT_EXPECT && it->key[0] == T_DENTRY)
		return add_name(b, seq, it, it->vlen ? WAS_THERE : WAS_ABSENT);
	if (it->kind == IT_DEL && it->key[0] == T_DENTRY)
		return add_name(b, seq, it, REMOVED);
	if (it->kind == IT_DEL && it->key[0] == T_XATTR && key_parse_ino(it->key, it->klen, &ino) == 0)
		return add_inode(b, ino, false);
	return 0;
}

int backlog_feed(struct backlog *b, uint64_t seq, const void *rec, size_t len)
{
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;
	int rc = rec_open(rec, len, &h, &r);

	if (rc)
		return rc;
	if (h.op >= OP_INTERNAL)
		return 0;
	if (b->operations++ == 0)
		b->first = seq;
	b->last = seq;
	while (!rc && (rc = rec_next(&r, &it)) == 1)
		rc = feed_item(b, seq, &h, &it);
	return rc;
}

static int cmp_inode(const void *a, const void *b)
{
	const struct backlog_inode *x = a, *y = b;

	return (x->ino > y->ino) - (x->ino < y->ino);
}

static int cmp_name(const void *a, const void *b, void *names)
{
	const struct backlog_name *x = a, *y = b;
	const uint8_t *text = names;
	int c;

	if (x->parent != y->parent)
		return x->parent > y->parent ? 1 : -1;
	c = memcmp(text + x->at, text + y->at, x->len < y->len ? x->len : y->len);
	if (c || x->len != y->len)
		return c ? c : x->len > y->len ? 1 : -1;
	if (x->seq != y->seq)
		return x->seq > y->seq ? 1 : -1;
	return (int)x->what - y->what;
}

static bool same_name(const struct backlog *b, const struct backlog_name *x, const struct backlog_name *y)
{
	return x->parent == y->parent && x->len == y->len && memcmp(b->names.data + x->at, b->names.data + y->at, x->len) == 0;
}

void backlog_done(struct backlog *b)
{
	size_t n = 0;

	vec_sort(&b->inodes, cmp_inode);
	for (size_t i = 0; i < b->inodes.n; i++) {
		if (n && b->inodes.v[n - 1].ino == b->inodes.v[i].ino)
			b->inodes.v[n - 1].born |= b->inodes.v[i].born;
		else
			b->inodes.v[n++] = b->inodes.v[i];
	}
	b->inodes.n = n;
	if (b->removed.n > 1)
		qsort_r(b->removed.v, b->removed.n, sizeof(*b->removed.v), cmp_name, b->names.data);
	n = 0;
	for (size_t i = 0, end; i < b->removed.n; i = end) {
		for (end = i + 1; end < b->removed.n && same_name(b, &b->removed.v[i], &b->removed.v[end]);)
			end++;
		if (b->removed.v[i].what != WAS_ABSENT && b->removed.v[end - 1].what == REMOVED)
			b->removed.v[n++] = b->removed.v[end - 1];
	}
	b->removed.n = n;
}
