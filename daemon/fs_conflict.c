/* Somebody else made a name that we made too, and Redis has theirs (DESIGN 3.5 Names, HISTORIES 57). Both are kept: the name
 * is theirs from now on, ours gets another one beside it.
 *
 * One OP_REPAIR record: what Redis has under the name replaces every expectation of that entry, whenever the window begins
 * that is merged through it. A crash before it leaves the conflict to be found again; after it the name is theirs already,
 * and finding the conflict once more only says up to where the window must reach. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/fs_internal.h"

/* NAME.conflict-SEQ, cut where names end, with a number when that is taken. 0, -EEXIST, -errno. */
static int other_name(struct fs *fs, uint64_t parent, const char *name, size_t n, uint64_t seq, char *out, size_t *len)
{
	for (unsigned i = 0; i < 1000; i++) {
		char end[64];
		uint8_t type;
		uint64_t ino;
		int tail = i ? snprintf(end, sizeof(end), ".conflict-%" PRIu64 "-%u", seq, i) :
			       snprintf(end, sizeof(end), ".conflict-%" PRIu64, seq);
		int rc;

		if (n > JFS_NAME_MAX - (size_t)tail)
			n = JFS_NAME_MAX - (size_t)tail;
		memcpy(out, name, n);
		memcpy(out + n, end, (size_t)tail + 1);
		*len = n + (size_t)tail;
		rc = fs_dentry(fs, parent, out, *len, &type, &ino);
		if (rc)
			return rc == -ENOENT ? 0 : rc;
	}
	return -EEXIST;
}

static int repair(struct fs *fs, struct fs_conflict *c, uint64_t *seq)
{
	struct inode_val dir, ours;
	struct fs_need need;
	struct fs_op op;
	uint8_t type;
	uint64_t ino;
	int rc = fs_inode(fs, c->parent, &dir, &need), have;

	if (rc)
		return rc == FS_NEED ? -EIO : rc;
	have = fs_dentry(fs, c->parent, c->name, c->name_len, &type, &ino);
	if (have && have != -ENOENT)
		return have;
	if (!have && ino == c->ino) {
		*seq = journal_mark(fs->j, WM_COMMITTED);
		return 0;
	}
	if (!have)
		rc = fs_inode(fs, ino, &ours, &need);
	if (!rc && !have)
		rc = other_name(fs, c->parent, c->name, c->name_len, c->seq, c->kept, &c->kept_len);
	if (rc)
		return rc == FS_NEED ? -EIO : rc;
	fs_op_begin(&op, fs, OP_REPAIR);
	fs_op_expect(&op, c->parent, c->name, c->name_len, c->type, c->ino);
	fs_op_put_dentry(&op, c->parent, c->name, c->name_len, c->type, c->ino);
	if (!have) {
		fs_op_expect(&op, c->parent, c->kept, c->kept_len, 0, 0);
		fs_op_put_dentry(&op, c->parent, c->kept, c->kept_len, type, ino);
		fs_op_touch(&op, &ours, FS_CTIME);
		fs_op_put(&op, ino, &ours, 0);
	}
	if (c->type == JFS_DIR)
		dir.attr.nlink++;
	fs_op_touch(&op, &dir, FS_MTIME | FS_CTIME);
	fs_op_put(&op, c->parent, &dir, 0);
	rc = fs_op_commit(&op, seq);
	if (!rc && !have && type == JFS_DIR)
		fs->dir_moved = *seq;
	return rc;
}

int fs_conflict(struct fs *fs, struct fs_conflict *c, uint64_t *seq)
{
	int rc;

	c->kept_len = 0;
	do {
		journal_lock(fs->j);
		rc = repair(fs, c, seq);
		journal_unlock(fs->j);
		if (rc != FS_ROOM)
			return rc;
		rc = journal_wait_room(fs->j);
	} while (!rc);
	return rc;
}
