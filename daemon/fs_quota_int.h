/* What fs_quota.c and fs_quota_sync.c share. Not for others. */
#ifndef JFS_DAEMON_FS_QUOTA_INT_H
#define JFS_DAEMON_FS_QUOTA_INT_H

#include "daemon/fs_internal.h"

struct quota {
	struct fs_quota q;
	uint64_t seq;	/* the last record that changed the usage; 0: none of ours */
	bool baseless;	/* of an owner: counts only what we changed, Redis has not been asked yet what there was before */
	bool recount;	/* of a directory: put the whole usage into a record once more, when stock has ended counting */
	bool anew;	/* of a directory: that was still to be done when we were last mounted; others may have written since */
	uint64_t round; /* of fs_quota_sync: when Redis had it last */
	/* by the operation that is being built */
	bool touched;
	int64_t d_space, d_inodes;
	struct quota *next_touched;
};

struct quota *quota_find(const struct fs *fs, unsigned kind, uint64_t id);
struct quota *quota_insert(struct fs *fs, const struct fs_quota *q); /* NULL: no memory */
void quota_take_out(struct fs *fs, size_t at);
void quota_meta_key(struct jkey *k, unsigned kind, uint64_t id);
/* As it is to be after this record: `now`, `seq`, and q's flags. */
void quota_put_meta(struct rec *r, const struct quota *q, const struct fs_quota *now, uint64_t seq);

#endif
